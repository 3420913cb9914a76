//! What can be read of a damaged store, put into a new one.
//!
//! Owns: the choice of what is taken: records that can be read, of sessions that are there, with their bodies.
//! Always: the new store is whole in itself; what did not get there is told, as far as it can be known.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    DiskStore, Kind, Space, Store, StoreCopy, StoreError, Tally, WriteSet,
    census::{Meaning, meaning, name_of},
    record,
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
    let (mut sessions, mut bodies, mut used) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let is_damaged = from.gather(Space::State, &mut |key, value| {
        if let Some(Meaning::Session(number, _)) = meaning(Space::State, key, value) {
            sessions.insert(number);
        }
    });
    salvaged.unknown.extend(is_damaged.then_some(Space::State));
    let is_damaged = from.gather(Space::Bodies, &mut |key, value| {
        if let Some(Meaning::Body(number)) = meaning(Space::Bodies, key, value) {
            bodies.insert(number);
        }
    });
    salvaged.unknown.extend(is_damaged.then_some(Space::Bodies));
    let mut writer = Writer { store: to, writes: WriteSet::default(), result: Ok(()) };
    for space in [Space::State, Space::Queue, Space::Bodies] {
        let is_damaged = from.gather(space, &mut |key, value| {
            progress(1);
            let guess = match (space, key.first()) {
                (Space::Queue, _) => Kind::Queued,
                (Space::Bodies, _) => Kind::Body,
                (Space::State, Some(&record::tag::SESSION)) => Kind::Session,
                (Space::State, Some(&record::tag::SUBSCRIPTION)) => Kind::Subscription,
                (Space::State, Some(&record::tag::RECEIVED)) => Kind::Received,
                (Space::State, Some(&record::tag::WILL)) => Kind::Will,
                (Space::State, _) => Kind::Retained,
            };
            let Some(meaning) = meaning(space, key, value) else {
                return salvaged.lose(guess, space, key, "cannot be read");
            };
            let why_not = match meaning {
                Meaning::Commit => return,
                Meaning::Part(_, session) | Meaning::Queued { session, .. } if !sessions.contains(&session) => {
                    Some("has no session")
                }
                Meaning::Queued { shared: Some(number), .. } if !bodies.contains(&number) => Some("has no body"),
                Meaning::Queued { shared: Some(number), .. } => {
                    used.insert(number);
                    None
                }
                // What is in no queue any more is of no use.
                Meaning::Body(number) if !used.contains(&number) => return,
                _ => None,
            };
            match why_not {
                Some(why) => salvaged.lose(guess, space, key, why),
                None => {
                    salvaged.taken.entry(guess).or_default().add(key, value);
                    writer.put(space, key, value);
                }
            }
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
