//! A part of a session's queue, read back from the store.
//!
//! Owns: what shards ask the store to read, and the reading.
//! Always: a slice is read when the store has everything that its shard asked for before it. Entries come in order and
//! none is left out. What cannot be read is an error, never a gap.
//! Never: writes.

use super::{
    Space, Store, StoreError,
    record::{self, Body, damaged},
};
use crate::{
    message::{ApplicationMessage, SubscriptionIdentifiers},
    mqtt::QoS,
    session::SliceRange,
};

/// A message in a queue, as it is read.
#[derive(Debug)]
pub struct QueueEntry {
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

/// Which part of which queue a shard wants to have.
#[derive(Clone, Copy, Debug)]
pub struct SliceRequest {
    /// The session, by its number in the store.
    pub number: u64,
    /// The same for the shard: its place and generation there.
    pub session: (u32, u32),
    /// Which part.
    pub range: SliceRange,
    /// It is read when this batch of the shard is durable.
    pub batch: u64,
}

/// What was read.
#[derive(Debug)]
pub struct QueueSlice {
    /// Who asked for what.
    pub request: SliceRequest,
    /// The entries, and whether those are all of them up to the end of the range.
    pub read: Result<(Vec<QueueEntry>, bool), StoreError>,
}

impl QueueSlice {
    /// Reads what is asked for.
    pub fn read(store: &dyn Store, request: SliceRequest) -> Self {
        Self { request, read: read_queue(store, request.number, request.range) }
    }
}

/// The entries of a session's queue in `range`, as many as make about 256 KiB, and whether those are all.
///
/// # Errors
/// When they cannot be read.
pub fn read_queue(store: &dyn Store, session: u64, range: SliceRange) -> Result<(Vec<QueueEntry>, bool), StoreError> {
    let mut entries = Vec::new();
    let (mut from, mut bytes) = (range.from, 0);
    while entries.len() < range.max && bytes < SLICE_BYTES {
        let step = SCAN_RECORDS.min(range.max - entries.len());
        let found = store.scan(Space::Queue, &record::queue_key(session, from), step)?;
        let is_end = found.len() < step;
        for (key, value) in found {
            let place = record::queue_place(&key).ok_or_else(|| damaged("queue entry", &key))?;
            if place.0 != session || place.1 > range.upto {
                return Ok((entries, true));
            }
            let entry = read_entry(store, place.1, &key, &value)?;
            bytes += entry.message.as_ref().map_or(0, ApplicationMessage::charged_bytes);
            entries.push(entry);
            from = place.1 + 1;
            if bytes >= SLICE_BYTES {
                break;
            }
        }
        if is_end && bytes < SLICE_BYTES {
            return Ok((entries, true));
        }
    }
    Ok((entries, from > range.upto))
}

/// Calls `each` with every entry of a session's queue, in order.
///
/// # Errors
/// When one cannot be read, and those of `each`.
pub fn for_each_queued<E: From<StoreError>>(
    store: &dyn Store,
    session: u64,
    mut each: impl FnMut(QueueEntry) -> Result<(), E>,
) -> Result<(), E> {
    let mut range = SliceRange { from: 0, upto: u64::MAX, max: SCAN_RECORDS };
    loop {
        let (entries, is_complete) = read_queue(store, session, range)?;
        range.from = entries.last().map_or(range.from, |last| last.sequence + 1);
        for entry in entries {
            each(entry)?;
        }
        if is_complete {
            return Ok(());
        }
    }
}

/// A message that queues share.
///
/// # Errors
/// When it is not there or cannot be read.
pub fn read_body(store: &dyn Store, number: u64) -> Result<ApplicationMessage, StoreError> {
    let key = record::body_key(number);
    let body = store.get(Space::Bodies, &key)?.ok_or_else(|| damaged("no message", &key))?;
    record::read_message(&body).ok_or_else(|| damaged("message", &key))
}

fn read_entry(store: &dyn Store, sequence: u64, key: &[u8], value: &[u8]) -> Result<QueueEntry, StoreError> {
    let entry = record::read_entry(value).ok_or_else(|| damaged("queue entry", key))?;
    let message = match entry.body {
        Body::Released => None,
        Body::Inline(message) => Some(message),
        Body::Shared => Some(read_body(store, entry.number)?),
    };
    Ok(QueueEntry {
        sequence,
        number: entry.number,
        message,
        qos: entry.qos,
        retain: entry.retain,
        identifiers: entry.identifiers,
    })
}

/// Bytes after which a slice takes in no more.
const SLICE_BYTES: usize = 256 << 10;
/// Records read at once.
const SCAN_RECORDS: usize = 64;
