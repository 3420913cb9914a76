//! From records back to sessions and retained messages.
//!
//! Owns: the reading of a whole store at start, before anything listens. Of queues only what they hold is looked at, and
//! nothing of it is kept: messages are read when their clients are back.
//! Always: a record of a session that is not there any more is left to be removed; one that cannot be read is an error that
//! names it. Nothing is guessed and nothing is left out in silence.

use std::collections::BTreeMap;

use ahash::{AHashMap, AHashSet};

use super::{
    Record, SessionRecord, Space, Store, StoreError, SubscriptionRecord,
    record::{self, GistBody, damaged, tag},
};
use crate::{
    message::ApplicationMessage,
    session::{QueueSummary, Will},
};

/// A recovered session.
#[derive(Debug)]
pub struct RecoveredSession {
    /// Its number.
    pub number: u64,
    /// What it is.
    pub record: SessionRecord,
    /// Its subscriptions.
    pub subscriptions: Vec<(Box<str>, SubscriptionRecord)>,
    /// What is in its queue, if anything is.
    pub queue: Option<QueueSummary>,
    /// QoS 2 identifiers received and not released.
    pub received: Vec<u16>,
    /// Its Will.
    pub will: Option<Will>,
    /// The last of what its client was told or sent may be missing.
    pub is_doubtful: bool,
}

/// Everything that a store holds.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The sessions.
    pub sessions: Vec<RecoveredSession>,
    /// The retained messages.
    pub retained: Vec<ApplicationMessage>,
    /// The largest number in use.
    pub last_number: u64,
    /// The number of the last commit.
    pub commit_number: u64,
    /// How many queues share each body.
    pub bodies: AHashMap<u64, u32>,
    /// Sessions that are gone and have left records behind.
    pub ended: Vec<u64>,
}

/// What was read so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordsRead {
    /// Records of any kind.
    pub records: u64,
    /// Of these, sessions.
    pub sessions: u64,
    /// Queued and retained messages.
    pub messages: u64,
}

/// Reads a store. `window`: a client that was connected when the broker stopped may have been sent so many messages of its
/// queue.
///
/// # Errors
/// When a record cannot be read.
pub fn recover(store: &dyn Store, window: u64) -> Result<Recovered, StoreError> {
    recover_watched(store, window, &mut |_| {})
}

/// As [`recover`]. `progress` is told every few hundred records what was read so far.
///
/// # Errors
/// When a record cannot be read.
pub fn recover_watched(
    store: &dyn Store,
    window: u64,
    progress: &mut dyn FnMut(RecordsRead),
) -> Result<Recovered, StoreError> {
    let mut reader = Reader { store, read: RecordsRead::default(), progress };
    let mut recovered = Recovered::default();
    let mut sessions: BTreeMap<u64, RecoveredSession> = BTreeMap::new();
    let mut parts = Vec::new();
    reader.for_each(Space::State, |key, value| {
        let Some((&tag, rest)) = key.split_first() else { return Err(damaged("record", key)) };
        match tag {
            tag::META if key == record::COMMIT_KEY => {
                // A store may add what is its own.
                let number = value.get(..8).and_then(record::read_number);
                recovered.commit_number = number.ok_or_else(|| damaged("commit number", key))?;
            }
            tag::SESSION => {
                let number = number_of(rest).ok_or_else(|| damaged("session", key))?;
                let record = record::read_session(value).ok_or_else(|| damaged("session", key))?;
                let session = RecoveredSession {
                    number,
                    record,
                    subscriptions: Vec::new(),
                    queue: None,
                    received: Vec::new(),
                    will: None,
                    is_doubtful: false,
                };
                sessions.insert(number, session);
            }
            tag::RETAINED => {
                recovered.retained.push(record::read_message(value).ok_or_else(|| damaged("retained message", key))?);
            }
            // Sessions come last in order of tags or not: what belongs to them is looked at when all are known.
            tag::SUBSCRIPTION | tag::RECEIVED | tag::WILL => parts.push((key.to_vec(), value.to_vec())),
            _ => return Err(damaged("record", key)),
        }
        Ok(())
    })?;
    let mut ended = AHashSet::new();
    for (key, value) in parts {
        let what = || damaged("record of a session", &key);
        let number = number_of(&key[1..]).ok_or_else(what)?;
        let Some(session) = sessions.get_mut(&number) else {
            ended.insert(number);
            continue;
        };
        let rest = key.get(9..).unwrap_or_default();
        match key.first() {
            Some(&tag::SUBSCRIPTION) => {
                let filter = std::str::from_utf8(rest).map_err(|_| what())?;
                let record = record::read_subscription(&value).ok_or_else(what)?;
                session.subscriptions.push((filter.into(), record));
            }
            Some(&tag::RECEIVED) => {
                let identifier = rest.try_into().map(u16::from_be_bytes).map_err(|_| what())?;
                session.received.push(identifier);
            }
            _ => session.will = Some(record::read_will(&value).ok_or_else(what)?),
        }
    }
    let mut bodies = AHashMap::new();
    reader.for_each(Space::Bodies, |key, value| {
        let number = number_of(key).ok_or_else(|| damaged("message", key))?;
        let bytes = record::read_message_bytes(value).ok_or_else(|| damaged("message", key))?;
        recovered.last_number = recovered.last_number.max(number);
        bodies.insert(number, bytes);
        Ok(())
    })?;
    // Queues lie one behind the other.
    let mut queue: Option<(u64, Tally)> = None;
    reader.for_each(Space::Queue, |key, value| {
        let what = || damaged("queue entry", key);
        let (number, sequence) = record::queue_place(key).ok_or_else(what)?;
        let entry = record::read_entry_gist(value).ok_or_else(what)?;
        recovered.last_number = recovered.last_number.max(entry.number);
        let bytes = match entry.body {
            GistBody::Released => None,
            GistBody::Inline(bytes) => Some(bytes),
            GistBody::Shared => {
                let bytes = bodies.get(&entry.number);
                let bytes = bytes.ok_or_else(|| damaged("queue entry without its message", key))?;
                *recovered.bodies.entry(entry.number).or_default() += 1;
                Some(*bytes)
            }
        };
        let is_next = queue.as_ref().is_none_or(|(session, _)| *session != number);
        if is_next {
            close_queue(&mut sessions, &mut ended, queue.take());
            let offline = sessions.get(&number).and_then(|session| session.record.offline_since_us);
            let sent_below =
                sessions.get(&number).filter(|_| offline.is_some()).map(|session| session.record.sent_below);
            queue = Some((number, Tally::new(sent_below, window)));
        }
        if let Some((_, tally)) = &mut queue {
            tally.add(sequence, bytes);
        }
        Ok(())
    })?;
    close_queue(&mut sessions, &mut ended, queue);
    recovered.last_number = sessions.keys().chain(&ended).copied().fold(recovered.last_number, u64::max);
    recovered.ended = ended.into_iter().collect();
    recovered.sessions = sessions.into_values().collect();
    Ok(recovered)
}

fn close_queue(sessions: &mut BTreeMap<u64, RecoveredSession>, ended: &mut AHashSet<u64>, queue: Option<(u64, Tally)>) {
    let Some((number, tally)) = queue else { return };
    match sessions.get_mut(&number) {
        Some(session) => session.queue = Some(tally.summary),
        None => {
            ended.insert(number);
        }
    }
}

/// Counts one queue.
struct Tally {
    summary: QueueSummary,
    /// What its session says of what was sent, when its client was away.
    sent_below: Option<u64>,
    window: u64,
}

impl Tally {
    fn new(sent_below: Option<u64>, window: u64) -> Self {
        Self { summary: QueueSummary::default(), sent_below, window }
    }

    /// `bytes`: what its message is charged with, absent when it has arrived.
    fn add(&mut self, sequence: u64, bytes: Option<u64>) {
        let summary = &mut self.summary;
        if summary.sent + summary.count == 0 {
            summary.first = sequence;
            summary.sent_below = self.sent_below.unwrap_or(0);
        }
        summary.last = sequence;
        let is_sent = match self.sent_below {
            Some(sent_below) => sequence < sent_below,
            // While the client was connected it may have been sent whatever its window had room for.
            None => summary.count == 0 && summary.sent < self.window,
        };
        let Some(bytes) = bytes else {
            // What was sent before a message that has arrived was sent, whatever the window says.
            summary.sent += summary.count + 1;
            (summary.count, summary.bytes) = (0, 0);
            summary.sent_below = summary.sent_below.max(sequence + 1);
            return;
        };
        if is_sent {
            summary.sent += 1;
            summary.sent_below = summary.sent_below.max(sequence + 1);
        } else {
            summary.count += 1;
            summary.bytes += bytes;
        }
    }
}

/// Reads spaces, and tells how far it has come.
struct Reader<'a> {
    store: &'a dyn Store,
    read: RecordsRead,
    progress: &'a mut dyn FnMut(RecordsRead),
}

impl Reader<'_> {
    /// Calls `read` with every record of a space, in order.
    fn for_each(
        &mut self,
        space: Space,
        mut read: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut from = Vec::new();
        loop {
            let records = self.store.scan(space, &from, SCAN_RECORDS)?;
            for (key, value) in &records {
                read(key, value)?;
            }
            self.count(space, &records);
            let Some((last, _)) = records.last().filter(|_| records.len() == SCAN_RECORDS) else { return Ok(()) };
            from = last.clone();
            from.push(0);
        }
    }

    fn count(&mut self, space: Space, records: &[Record]) {
        let of_kind = |tag: u8| records.iter().filter(|(key, _)| key.first() == Some(&tag)).count() as u64;
        self.read.records += records.len() as u64;
        match space {
            Space::State => {
                self.read.sessions += of_kind(tag::SESSION);
                self.read.messages += of_kind(tag::RETAINED);
            }
            Space::Queue => self.read.messages += records.len() as u64,
            Space::Bodies => {}
        }
        (self.progress)(self.read);
    }
}

fn number_of(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?))
}

/// Records read at once.
const SCAN_RECORDS: usize = 512;
