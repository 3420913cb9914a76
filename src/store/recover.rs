//! From records back to sessions and retained messages.
//!
//! Owns: the reading of a whole store at start, before anything listens.
//! Always: a record of a session that is not there any more is left to be removed; one that cannot be read is an error that
//! names it. Nothing is guessed and nothing is left out in silence.

use std::collections::BTreeMap;

use ahash::{AHashMap, AHashSet};

use super::{
    Record, SessionRecord, Space, Store, StoreError, SubscriptionRecord,
    record::{self, Body, damaged, tag},
};
use crate::{
    message::{ApplicationMessage, SubscriptionIdentifiers},
    mqtt::QoS,
    session::Will,
};

/// A message in a recovered queue.
#[derive(Debug)]
pub struct RecoveredEntry {
    /// Its place in the queue.
    pub sequence: u64,
    /// The number of its message.
    pub number: u64,
    /// The message; absent when it has arrived and only PUBREL is open.
    pub message: Option<ApplicationMessage>,
    /// Delivered with this QoS.
    pub qos: QoS,
    /// Delivered with this RETAIN flag.
    pub retain: bool,
    /// Delivered with these Subscription Identifiers.
    pub identifiers: SubscriptionIdentifiers,
}

/// A recovered session.
#[derive(Debug)]
pub struct RecoveredSession {
    /// Its number.
    pub number: u64,
    /// What it is.
    pub record: SessionRecord,
    /// Its subscriptions.
    pub subscriptions: Vec<(Box<str>, SubscriptionRecord)>,
    /// Its queue, in order.
    pub entries: Vec<RecoveredEntry>,
    /// QoS 2 identifiers received and not released.
    pub received: Vec<u16>,
    /// Its Will.
    pub will: Option<Will>,
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

/// Reads a store.
///
/// # Errors
/// When a record cannot be read.
pub fn recover(store: &dyn Store) -> Result<Recovered, StoreError> {
    recover_watched(store, &mut |_| {})
}

/// Reads a store. `progress` is told every few thousand records what was read so far.
///
/// # Errors
/// When a record cannot be read.
pub fn recover_watched(store: &dyn Store, progress: &mut dyn FnMut(RecordsRead)) -> Result<Recovered, StoreError> {
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
                    entries: Vec::new(),
                    received: Vec::new(),
                    will: None,
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
        let message = record::read_message(value).ok_or_else(|| damaged("message", key))?;
        recovered.last_number = recovered.last_number.max(number);
        bodies.insert(number, message);
        Ok(())
    })?;
    reader.for_each(Space::Queue, |key, value| {
        let what = || damaged("queue entry", key);
        let (session, sequence) = key.split_at_checked(8).ok_or_else(what)?;
        let (session, sequence) = number_of(session).zip(number_of(sequence)).ok_or_else(what)?;
        let entry = record::read_entry(value).ok_or_else(what)?;
        recovered.last_number = recovered.last_number.max(entry.number);
        let message = match entry.body {
            Body::Released => None,
            Body::Inline(message) => Some(message),
            Body::Shared => {
                let body = bodies.get(&entry.number).ok_or_else(|| damaged("queue entry without its message", key))?;
                *recovered.bodies.entry(entry.number).or_default() += 1;
                Some(body.clone())
            }
        };
        let Some(owner) = sessions.get_mut(&session) else {
            ended.insert(session);
            return Ok(());
        };
        owner.entries.push(RecoveredEntry {
            sequence,
            number: entry.number,
            message,
            qos: entry.qos,
            retain: entry.retain,
            identifiers: entry.identifiers,
        });
        Ok(())
    })?;
    recovered.last_number = sessions.keys().chain(&ended).copied().fold(recovered.last_number, u64::max);
    recovered.ended = ended.into_iter().collect();
    recovered.sessions = sessions.into_values().collect();
    Ok(recovered)
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
const SCAN_RECORDS: usize = 4096;
