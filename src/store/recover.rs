//! From records back to sessions and retained messages.
//!
//! Owns: the reading of a whole store at start, before anything listens. Of messages only who has them is looked at; they are
//! read when their clients are back.
//! Always: a record of a session that is not there any more is left to be removed; one that cannot be read is an error that
//! names it. Nothing is guessed and nothing is left out in silence.

use std::collections::BTreeMap;

use ahash::{AHashMap, AHashSet};

use super::{
    Queues, ReceivedRecord, SessionRecord, Space, Store, StoreError, SubscriptionRecord,
    chunk::{ChunkMessage, Reference, for_each_message},
    queues::FoundQueue,
    record::{self, Head, damaged, tag},
};
use crate::{
    message::ApplicationMessage,
    session::{QueueSummary, ReserveRecord, Will},
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
    /// Places of its queue before this one were in use.
    pub used_below: u64,
    /// The places of it that are reserved, if any ever were.
    pub reserve: Option<ReserveRecord>,
    /// QoS 2 identifiers received and not released.
    pub received: Vec<ReceivedRecord>,
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
    /// Where the messages are that are queued.
    pub queues: Queues,
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
                    used_below: 0,
                    reserve: None,
                    received: Vec::new(),
                    will: None,
                };
                sessions.insert(number, session);
            }
            tag::RETAINED => {
                recovered.retained.push(record::read_message(value).ok_or_else(|| damaged("retained message", key))?);
            }
            // Sessions come last in order of tags or not: what belongs to them is looked at when all are known.
            tag::SUBSCRIPTION | tag::RECEIVED | tag::WILL | tag::HEAD | tag::RESERVE => {
                parts.push((key.to_vec(), value.to_vec()));
            }
            _ => return Err(damaged("record", key)),
        }
        Ok(u64::from(tag == tag::RETAINED))
    })?;
    let mut ended = AHashSet::new();
    let mut heads: AHashMap<u64, Head> = AHashMap::new();
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
                session.received.push(record::read_received(rest, &value).ok_or_else(what)?);
            }
            Some(&tag::HEAD) => {
                let head = record::read_head(&value).ok_or_else(what)?;
                let used = [head.floor, head.gone.last().map_or(0, |gone| gone.1)];
                let released = head.released.last().map_or(0, |last| last + 1);
                session.used_below = session.used_below.max(released).max(used[0]).max(used[1]);
                heads.insert(number, head);
            }
            Some(&tag::RESERVE) => {
                let reserve = record::read_reserve(&value).ok_or_else(what)?;
                session.used_below = session.used_below.max(reserve.floor);
                session.reserve = Some(reserve);
            }
            _ => session.will = Some(record::read_will(&value).ok_or_else(what)?),
        }
    }
    let mut found = Found { queues: AHashMap::with_capacity(sessions.len()), disordered: Vec::new() };
    for (&number, session) in &sessions {
        let sent_below = session.record.offline_since_us.map(|_| session.record.sent_below);
        let queue = heads.remove(&number).map(FoundQueue::with_head).unwrap_or_default();
        found.queues.insert(number, OpenQueue::new(queue, Tally::new(sent_below, window)));
    }
    reader.for_each(Space::Queue, |key, value| {
        let what = || damaged("queued messages", key);
        let chunk = number_of(key).filter(|_| key.len() == 8).ok_or_else(what)?;
        let (mut messages, mut live, mut total) = (0, 0, 0);
        for_each_message(value, |message| {
            messages += 1;
            recovered.last_number = recovered.last_number.max(message.number);
            for reference in message.references()? {
                total += 1;
                // A number is not given twice while something bears it.
                recovered.last_number = recovered.last_number.max(reference.session);
                live += u32::from(found.add(chunk, &message, &reference));
            }
            Some(())
        })
        .ok_or_else(what)?;
        recovered.queues.restore_chunk(chunk, value.len(), total, live);
        Ok(messages)
    })?;
    found.count_in_order(store)?;
    for (number, open) in found.queues {
        let summary = open.close(number, &mut recovered.queues);
        if let (Some(session), Some(summary)) = (sessions.get_mut(&number), summary) {
            session.queue = Some(summary);
        }
    }
    recovered.last_number = sessions.keys().chain(&ended).copied().fold(recovered.last_number, u64::max);
    recovered.ended = ended.into_iter().collect();
    recovered.sessions = sessions.into_values().collect();
    Ok(recovered)
}

/// What was found of queues.
struct Found {
    /// Of every session.
    queues: AHashMap<u64, OpenQueue>,
    /// Sessions whose places were not found in order.
    disordered: Vec<u64>,
}

/// A queue that is being looked at.
#[derive(Default)]
struct OpenQueue {
    queue: FoundQueue,
    tally: Tally,
    /// The place behind the last one that was found.
    below: u64,
    /// Of those that have arrived so many are counted.
    released: usize,
}

impl Found {
    /// A message was found in a queue. Returns whether it is not done with.
    fn add(&mut self, chunk: u64, message: &ChunkMessage<'_>, reference: &Reference) -> bool {
        let &Reference { session, sequence, .. } = reference;
        let Some(open) = self.queues.get_mut(&session).filter(|open| !open.queue.is_done(sequence)) else {
            return false;
        };
        open.queue.push(sequence, chunk);
        if sequence < open.below && self.disordered.last() != Some(&session) {
            self.disordered.push(session);
        }
        open.count(sequence, message.charged_bytes);
        true
    }

    /// Counts the queues again that were not found in order, as after an import.
    fn count_in_order(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        let mut places: AHashMap<u64, BTreeMap<u64, u64>> =
            self.disordered.drain(..).map(|session| (session, BTreeMap::new())).collect();
        if places.is_empty() {
            return Ok(());
        }
        let mut reader = Reader { store, read: RecordsRead::default(), progress: &mut |_| {} };
        reader.for_each(Space::Queue, |key, value| {
            let read = for_each_message(value, |message| {
                for Reference { session, sequence, .. } in message.references()? {
                    let is_done = self.queues.get(&session).is_none_or(|open| open.queue.is_done(sequence));
                    if let (Some(places), false) = (places.get_mut(&session), is_done) {
                        places.insert(sequence, message.charged_bytes);
                    }
                }
                Some(())
            });
            read.map(|()| 0).ok_or_else(|| damaged("queued messages", key))
        })?;
        for (session, places) in places {
            let Some(open) = self.queues.get_mut(&session) else { continue };
            let OpenQueue { queue, tally, .. } = std::mem::take(open);
            *open = OpenQueue::new(queue, Tally::new(tally.sent_below, tally.window));
            places.into_iter().for_each(|(place, bytes)| open.count(place, bytes));
        }
        Ok(())
    }
}

impl OpenQueue {
    fn new(queue: FoundQueue, tally: Tally) -> Self {
        Self { queue, tally, below: 0, released: 0 }
    }

    /// A message is there, behind all that were before.
    fn count(&mut self, place: u64, bytes: u64) {
        self.below = place + 1;
        while let Some(&arrived) = self.queue.released().get(self.released).filter(|&&arrived| arrived < place) {
            self.released += 1;
            self.tally.add(arrived, None);
        }
        self.tally.add(place, Some(bytes));
    }

    /// Everything was found. Returns what there is of the queue, if there is anything.
    fn close(mut self, session: u64, queues: &mut Queues) -> Option<QueueSummary> {
        self.queue.released().iter().skip(self.released).for_each(|&arrived| self.tally.add(arrived, None));
        queues.restore_queue(session, self.queue);
        Some(self.tally.summary).filter(|summary| summary.sent + summary.count > 0)
    }
}

/// Counts one queue.
#[derive(Default)]
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
    /// Calls `read` with every record of a space, in order. It returns how many messages the record has.
    fn for_each(
        &mut self,
        space: Space,
        mut read: impl FnMut(&[u8], &[u8]) -> Result<u64, StoreError>,
    ) -> Result<(), StoreError> {
        let mut from = Vec::new();
        let step = if space == Space::Queue { SCAN_CHUNKS } else { SCAN_RECORDS };
        loop {
            let records = self.store.scan(space, &from, step)?;
            for (key, value) in &records {
                self.read.messages += read(key, value)?;
                self.read.sessions += u64::from(space == Space::State && key.first() == Some(&tag::SESSION));
            }
            self.read.records += records.len() as u64;
            (self.progress)(self.read);
            let Some((last, _)) = records.last().filter(|_| records.len() == step) else { return Ok(()) };
            from = last.clone();
            from.push(0);
        }
    }
}

fn number_of(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?))
}

/// Records read at once.
const SCAN_RECORDS: usize = 512;
/// The same of chunks.
const SCAN_CHUNKS: usize = 32;
