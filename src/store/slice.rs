//! A part of a session's queue, read back from the store.
//!
//! Owns: what shards ask the store to read. Which chunk has it is `queues`' to know.
//! Always: a slice is read when the store has everything that its shard asked for before it. Entries come in order and
//! none is left out. What cannot be read is an error, never a gap.
//! Never: writes.

use super::{Queues, Space, Store, StoreError, chunk::for_each_message, record::damaged};
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
    /// The number of its message; of no meaning when that has arrived.
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

impl QueueEntry {
    /// One that has arrived.
    pub(super) fn released(sequence: u64) -> Self {
        let (qos, identifiers) = (QoS::ExactlyOnce, SubscriptionIdentifiers::None);
        Self { sequence, number: 0, message: None, qos, retain: false, identifiers }
    }
}

impl QueueSlice {
    /// Reads what is asked for.
    #[must_use]
    pub fn read(store: &dyn Store, queues: &Queues, request: SliceRequest) -> Self {
        Self { request, read: queues.read(store, request.number, request.range) }
    }
}

/// Calls `each` with every message that several places of queues have, and its number; with one that has very many places,
/// several times.
///
/// # Errors
/// When one cannot be read, and those of `each`.
pub fn for_each_shared<E: From<StoreError>>(
    store: &dyn Store,
    queues: &Queues,
    mut each: impl FnMut(u64, ApplicationMessage) -> Result<(), E>,
) -> Result<(), E> {
    let mut from = Vec::new();
    while let Some((key, value)) = store.scan(Space::Queue, &from, 1)?.pop() {
        let mut shared = Vec::new();
        let read = for_each_message(&value, |message| {
            if message.references()?.filter(|reference| queues.is_live(reference)).nth(1).is_some() {
                shared.push((message.number, message.message()?));
            }
            Some(())
        });
        read.ok_or_else(|| damaged("queued messages", &key))?;
        for (number, message) in shared {
            each(number, message)?;
        }
        from = key;
        from.push(0);
    }
    Ok(())
}
