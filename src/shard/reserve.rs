//! Places in queues of durable sessions that are reserved before messages of QoS 2 are sent at them, where the store may lose
//! what was sent (`session::Reserve`), and what clients may hold of such losses.
//!
//! Always: more is asked for before it is needed, and nobody waits for the store longer than its next sync.

use super::{Clients, clients::pump_bytes_max, durable::Waiter};
use crate::{
    config::Durability,
    mqtt::{AckKind, PacketIdentifier, ack::encode_success},
    plant::{Bug, planted},
    session::{Kept, Reached, Reserve, Session},
    store::Operation,
    time::Moment,
};

impl super::durable::Durable {
    /// How far the store is for a client whose listener promises `durability`.
    pub fn reached_for(&self, durability: Durability, kept: &mut Kept) -> Reached {
        let (promised, synced) = (self.reached(durability), self.reached(Durability::Sync));
        let reserve = kept.reserve.as_deref_mut().filter(|_| durability != Durability::Sync);
        Reached { promised, synced, reserved_below: reserve.map_or(0, |reserve| reserve.below(synced)) }
    }
}

impl Clients {
    /// A message of QoS 2 has got the place `sequence` in the queue of a durable session, whose client's listener promises less
    /// than `sync`.
    pub(super) fn reserve(&mut self, session: u32, sequence: u64) {
        let Some(kept) = self.sessions.at_mut(session).and_then(|session| session.kept.as_deref_mut()) else { return };
        let reserve = kept.reserve.get_or_insert_default();
        // What the store has said is heard first.
        reserve.below(self.durable.reached(Durability::Sync));
        if reserve.is_to_grow(sequence, self.durable.journal.batch()) && !planted(Bug::PlaceNotReserved) {
            self.durable.journal.ask_lazily(Operation::Reserve(kept.number, reserve.record()));
        }
    }

    /// A session has subscribed at QoS 2: its first message does not have to wait for a place.
    pub(super) fn reserve_ahead(&mut self, session: u32) {
        let Some(found) = self.sessions.at(session) else { return };
        let through = self.connections.at(found.connection);
        if through.is_some_and(|through| through.durability != Durability::Sync) {
            let outbox = found.outbox.as_deref().map(|outbox| outbox.next_sequence());
            let next = outbox.or(found.kept.as_deref().map(|kept| kept.next_sequence));
            self.reserve(session, next.unwrap_or(0));
        }
    }

    /// The message at the front of a session's queue waits, if only for what its listener does not promise: it is sent when
    /// the store has synced it, or a place for it.
    #[cold]
    pub(super) fn await_reserve(&mut self, session: u32, sequence: u64, batch: u64) {
        self.reserve(session, sequence);
        let Some(found) = self.sessions.at_mut(session) else { return };
        let waiter = Waiter::Session(session, found.generation);
        let Some(reserve) = found.kept.as_deref_mut().and_then(|kept| kept.reserve.as_deref_mut()) else { return };
        if let Some(batch) = reserve.await_for(sequence, batch, self.durable.reached(Durability::Sync)) {
            self.durable.wait_for(batch, Durability::Sync, waiter);
        }
    }

    /// The client of a session has come back: what it may hold is to be released.
    pub(super) fn resume_held(&mut self, session: u32) {
        let Some(found) = self.sessions.at_mut(session) else { return };
        let outbox = found.outbox.as_deref().map(|outbox| outbox.next_sequence());
        let Some(kept) = found.kept.as_deref_mut() else { return };
        let Some(reserve) = kept.reserve.as_deref_mut().filter(|reserve| !reserve.holds_nothing()) else { return };
        if reserve.begin_resume(outbox.unwrap_or(kept.next_sequence)) {
            self.durable.journal.ask_lazily(Operation::Reserve(kept.number, reserve.record()));
        }
    }

    /// Releases what the client may hold, as far as its out-buffer has room for that.
    #[cold]
    pub(super) fn release_held(&mut self, session: u32, now: Moment) {
        let room = pump_bytes_max(&self.config);
        let Some(found) = self.sessions.at_mut(session) else { return };
        let slot = found.connection;
        let Some(connection) = self.connections.at(slot) else { return };
        let unsent_bytes = connection.unsent_bytes as usize;
        let Some(reserve) = found.kept.as_deref_mut().and_then(|kept| kept.reserve.as_deref_mut()) else { return };
        while let Some(out) = self.connections.out_for_delivery(slot, now)
            && unsent_bytes + out.len() < room
            && let Some(identifier) = reserve.next_release()
        {
            self.counters.held_released += 1;
            encode_success(out.bytes_mut(), AckKind::PubRel, identifier);
        }
    }

    /// PUBCOMP came for something that is not in flight.
    pub(super) fn complete_held(&mut self, session: u32, identifier: PacketIdentifier) {
        let Some(kept) = self.sessions.at_mut(session).and_then(|session| session.kept.as_deref_mut()) else { return };
        let Some(reserve) = &mut kept.reserve else { return };
        if reserve.complete(identifier) {
            self.durable.journal.ask_lazily(Operation::Reserve(kept.number, reserve.record()));
        }
    }
}

/// Whether the client of a session may hold something.
pub(super) fn may_hold(session: &Session) -> bool {
    let reserve: Option<&Reserve> = session.kept.as_deref().and_then(|kept| kept.reserve.as_deref());
    reserve.is_some_and(|reserve| !reserve.holds_nothing())
}
