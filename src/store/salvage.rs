//! What can be read of a damaged store, put into a new one.
//!
//! Owns: the choice of what is taken: records that can be read, of sessions that are there.
//! Always: the new store is whole in itself; what did not get there is told, as far as it can be known.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    DiskStore, Kind, Space, Store, StoreCopy, StoreError, Tally, WriteSet,
    census::{Meaning, meaning, name_of},
    chunk::{REFERENCE_BYTES, Reference, for_each_message},
    record::{self, Head},
};

/// What became of a damaged store.
#[derive(Debug, Default)]
pub struct Salvaged {
    /// What was taken.
    pub taken: BTreeMap<Kind, Tally>,
    /// What was not, by kind, where that is known.
    pub lost: BTreeMap<Kind, u64>,
    /// Each record that is known not to have been taken, up to a number.
    pub names: Vec<String>,
    /// Spaces of which more is missing than can be told.
    pub unknown: Vec<Space>,
}

impl Salvaged {
    fn take_chunk(&mut self, chunk: &[u8], sessions: &BTreeSet<u64>, heads: &BTreeMap<u64, Head>) {
        for_each_message(chunk, |message| {
            let mut is_queued = false;
            for Reference { session, sequence, .. } in message.references()? {
                if heads.get(&session).is_some_and(|head| head.is_done(sequence)) {
                    continue;
                }
                if sessions.contains(&session) {
                    self.taken.entry(Kind::Queued).or_default().add(REFERENCE_BYTES);
                    is_queued = true;
                }
            }
            if is_queued {
                self.taken.entry(Kind::Body).or_default().add(message.content_bytes() as usize);
            }
            Some(())
        });
    }

    fn lose(&mut self, kind: Kind, space: Space, key: &[u8], why: &str) {
        *self.lost.entry(kind).or_default() += 1;
        if self.names.len() < NAMES_MAX {
            self.names.push(format!("{} {why}", name_of(space, key)));
        }
    }
}

/// Copies what can be read of `from` into the empty store `to`. `progress` is told of records read.
///
/// # Errors
/// When the new store cannot be written.
pub fn salvage(from: &StoreCopy, to: &mut DiskStore, progress: &mut dyn FnMut(u64)) -> Result<Salvaged, StoreError> {
    let mut salvaged = Salvaged::default();
    let (mut sessions, mut heads) = (BTreeSet::new(), BTreeMap::new());
    let is_damaged = from.gather(Space::State, &mut |key, value| match meaning(Space::State, key, value) {
        Some(Meaning::Session(number, _)) => {
            sessions.insert(number);
        }
        Some(Meaning::Head(session, head)) => {
            heads.insert(session, head);
        }
        _ => {}
    });
    salvaged.unknown.extend(is_damaged.then_some(Space::State));
    let mut writer = Writer { store: to, writes: WriteSet::default(), result: Ok(()) };
    for space in Space::ALL {
        let is_damaged = from.gather(space, &mut |key, value| {
            progress(1);
            let guess = match (space, key.first()) {
                (Space::Queue, _) => Kind::Queued,
                (Space::State, Some(&record::tag::SESSION)) => Kind::Session,
                (Space::State, Some(&record::tag::SUBSCRIPTION)) => Kind::Subscription,
                (Space::State, Some(&record::tag::RECEIVED)) => Kind::Received,
                (Space::State, Some(&record::tag::WILL)) => Kind::Will,
                (Space::State, Some(&record::tag::HEAD | &record::tag::RESERVE)) => Kind::Queued,
                (Space::State, _) => Kind::Retained,
            };
            let Some(meaning) = meaning(space, key, value) else {
                return salvaged.lose(guess, space, key, "cannot be read");
            };
            let size = key.len() + value.len();
            match meaning {
                Meaning::Commit => return,
                Meaning::Part(_, session) if !sessions.contains(&session) => {
                    return salvaged.lose(guess, space, key, "has no session");
                }
                Meaning::Head(session, head) => {
                    if !sessions.contains(&session) {
                        return;
                    }
                    if let count @ 1.. = head.released.len() as u64 {
                        salvaged.taken.entry(Kind::Queued).or_default().count += count;
                    }
                }
                Meaning::Reserve(session) if !sessions.contains(&session) => return,
                Meaning::Reserve(_) => {}
                Meaning::Chunk => salvaged.take_chunk(value, &sessions, &heads),
                _ => salvaged.taken.entry(guess).or_default().add(size),
            }
            writer.put(space, key, value);
        });
        if is_damaged && !salvaged.unknown.contains(&space) {
            salvaged.unknown.push(space);
        }
    }
    writer.commit();
    writer.result?;
    Ok(salvaged)
}

struct Writer<'a> {
    store: &'a mut DiskStore,
    writes: WriteSet,
    result: Result<(), StoreError>,
}

impl Writer<'_> {
    fn put(&mut self, space: Space, key: &[u8], value: &[u8]) {
        self.writes.put(space, key, value.to_vec());
        if self.writes.len() >= COMMIT_RECORDS_MAX || self.writes.bytes() >= COMMIT_BYTES_MAX {
            self.commit();
        }
    }

    fn commit(&mut self) {
        if self.result.is_ok() && !self.writes.is_empty() {
            let number = self.store.last_commit() + 1;
            self.writes.put(Space::State, record::COMMIT_KEY, number.to_le_bytes().to_vec());
            self.result = self.store.commit(&self.writes, false);
        }
        self.writes.clear();
    }
}

/// Records that are named.
const NAMES_MAX: usize = 1000;
const COMMIT_RECORDS_MAX: usize = 4096;
const COMMIT_BYTES_MAX: usize = 4 << 20;
