//! The slots of one shard's connections.
//!
//! Owns: the slab, its free list and the generations. What always holds: a [`ConnectionId`] names one life of one slot;
//! the slot's generation moves on when it is freed, so an old id finds nothing. The slab grows by chunks: no growth
//! copies what is there. A slot is 32 bytes, and an idle connection owns nothing else here.

use super::kernel::{OperationKind, SLOTS_MAX, Socket, Tag};
use crate::{
    plant::{Bug, planted},
    transport::OutBuffer,
};

/// Names a connection of one shard, for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// Where its slot is.
    pub slot: u32,
    /// Which life of the slot.
    pub generation: u32,
}

/// Where a connection's slot stands.
///
/// ```text
///            accepted, adopted
///   Vacant ────────────────────► Open ──── close(Reset), error ──────────┐
///     ▲                           │  └─── end of stream ──┐              │
///     │                close(Linger)                       ▼             ▼
///     │                           ▼   all sent, shutdown  (send in     Finishing: waits for the
///     │                        Flushing ──► Discarding     flight:      last completions
///     │                           │             │          Flushing)      │
///     │                           └── deadline, limit, EOF, error ───────►│
///     └──────────────────────────── last completion is in, fd closed ─────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// No connection.
    Vacant,
    /// The handler hears of it.
    Open,
    /// Closed for the handler; what was handed to `send` still goes out.
    Flushing,
    /// Our side is shut down; input is discarded until the peer ends too.
    Discarding,
    /// Waits for the last completion of each operation.
    Finishing,
}

/// The recv is armed: one completion without `more` is still to come.
pub(super) const ARMED: u8 = 1;
/// A cancel for the armed recv was asked for.
pub(super) const CANCELLING: u8 = 1 << 1;
/// A single-shot recv is wanted.
pub(super) const WANT_ONCE: u8 = 1 << 2;
/// A multishot recv is wanted.
pub(super) const WANT_MULTISHOT: u8 = 1 << 3;
/// A send is in flight.
pub(super) const SENDING: u8 = 1 << 4;
/// Waits in the queue of those that met ENOBUFS.
pub(super) const STARVED: u8 = 1 << 5;
/// The peer sends no more.
pub(super) const INPUT_ENDED: u8 = 1 << 6;

/// It has not said anything beyond its first words yet: what it says waits for its turn while there is a crowd.
pub(super) const NEWCOMER: u8 = 1 << 7;

/// One connection's place.
#[derive(Debug)]
pub(super) struct Slot {
    /// Its socket; meaningless while vacant.
    pub socket: Socket,
    /// Which life this is.
    pub generation: u32,
    /// Bytes of the buffer in flight that went out; while vacant, the next vacant slot.
    pub sent_bytes: u32,
    /// Bytes of input thrown away while lingering.
    pub discarded_bytes: u32,
    /// The number of the listener that accepted it.
    pub listener: u16,
    /// Where it stands.
    pub phase: Phase,
    /// The bits above.
    pub flags: u8,
    /// What goes out after the send in flight.
    pub queued: Option<Box<OutBuffer>>,
}

const _: () = assert!(size_of::<Slot>() <= 32, "an idle connection costs at most 32 bytes here");

impl Slot {
    /// Whether all of `flags` are set.
    #[inline]
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// Whether an operation is in flight.
    #[inline]
    pub fn has_operations(&self) -> bool {
        self.flags & (ARMED | SENDING) != 0
    }
}

/// Slots per chunk: 32 KiB.
const CHUNK: usize = 1024;
const NO_SLOT: u32 = u32::MAX;

/// The slab of slots.
#[derive(Debug)]
pub(super) struct Slots {
    chunks: Vec<Box<[Slot]>>,
    vacant: u32,
    used: usize,
    used_max: usize,
}

impl Slots {
    /// A slab for at most `used_max` connections; it allocates with the first.
    pub fn new(used_max: usize) -> Self {
        Slots { chunks: Vec::new(), vacant: NO_SLOT, used: 0, used_max: used_max.min(SLOTS_MAX as usize) }
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Gives `socket` a slot, open; nothing when all are in use.
    pub fn insert(&mut self, socket: Socket, listener: u16) -> Option<ConnectionId> {
        if self.used == self.used_max {
            return None;
        }
        if self.vacant == NO_SLOT {
            self.grow();
        }
        let index = self.vacant;
        let slot = self.at(index);
        debug_assert_eq!(slot.phase, Phase::Vacant);
        let next = std::mem::take(&mut slot.sent_bytes);
        *slot = Slot {
            socket,
            generation: slot.generation,
            sent_bytes: 0,
            discarded_bytes: 0,
            listener,
            phase: Phase::Open,
            flags: NEWCOMER,
            queued: None,
        };
        let id = ConnectionId { slot: index, generation: slot.generation };
        self.vacant = next;
        self.used += 1;
        Some(id)
    }

    /// The slot of this connection, when it still is this connection's.
    #[inline]
    pub fn find(&mut self, id: ConnectionId) -> Option<&mut Slot> {
        let index = id.slot as usize;
        let slot = self.chunks.get_mut(index / CHUNK)?.get_mut(index % CHUNK)?;
        let same_life = slot.generation == id.generation || planted(Bug::GenerationIgnored);
        if slot.phase == Phase::Vacant || !same_life { None } else { Some(slot) }
    }

    /// Frees the slot; every id of its past finds nothing from now on.
    pub fn remove(&mut self, index: u32) {
        let next = self.vacant;
        let slot = self.at(index);
        debug_assert_ne!(slot.phase, Phase::Vacant);
        slot.phase = Phase::Vacant;
        slot.generation = slot.generation.wrapping_add(1);
        slot.flags = 0;
        slot.queued = None;
        slot.sent_bytes = next;
        self.vacant = index;
        self.used -= 1;
    }

    /// The ids of all connections whose handler still hears of them.
    pub fn open_ids(&self) -> impl Iterator<Item = ConnectionId> {
        (0_u32..)
            .zip(self.chunks.iter().flatten())
            .filter(|(_, slot)| slot.phase == Phase::Open)
            .map(|(index, slot)| ConnectionId { slot: index, generation: slot.generation })
    }

    /// The sockets of all connections, closing ones included.
    pub fn sockets(&self) -> impl Iterator<Item = Socket> {
        self.chunks.iter().flatten().filter(|slot| slot.phase != Phase::Vacant).map(|slot| slot.socket)
    }

    fn at(&mut self, index: u32) -> &mut Slot {
        &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }

    fn grow(&mut self) {
        let start = (self.chunks.len() * CHUNK) as u32;
        let chunk = (start + 1..=start + CHUNK as u32).map(|next| Slot {
            socket: Socket(-1),
            generation: 0,
            sent_bytes: if next == start + CHUNK as u32 { NO_SLOT } else { next },
            discarded_bytes: 0,
            listener: 0,
            phase: Phase::Vacant,
            flags: 0,
            queued: None,
        });
        self.chunks.push(chunk.collect());
        self.vacant = start;
    }
}

impl ConnectionId {
    /// The tag of this connection's operation of that kind.
    #[inline]
    pub(super) fn tag(self, kind: OperationKind) -> Tag {
        Tag { kind, slot: self.slot, generation: self.generation }
    }
}

impl From<Tag> for ConnectionId {
    #[inline]
    fn from(tag: Tag) -> Self {
        ConnectionId { slot: tag.slot, generation: tag.generation }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_id_finds_nothing_in_a_reused_slot() {
        let mut slots = Slots::new(4096);
        let ids: Vec<_> = (0..2500).map(|number| slots.insert(Socket(number), 0).unwrap()).collect();
        assert_eq!(slots.len(), 2500);
        slots.remove(ids[7].slot);
        assert!(slots.find(ids[7]).is_none());
        let again = slots.insert(Socket(9000), 3).unwrap();
        assert_eq!(again.slot, ids[7].slot);
        assert!(slots.find(ids[7]).is_none());
        assert_eq!(slots.find(again).unwrap().socket, Socket(9000));
        assert_eq!(slots.find(ids[2499]).unwrap().socket, Socket(2499));
        assert_eq!(slots.open_ids().count(), 2500);
    }

    #[test]
    fn a_full_slab_refuses() {
        let mut slots = Slots::new(2);
        assert!(slots.insert(Socket(1), 0).is_some());
        let second = slots.insert(Socket(2), 0).unwrap();
        assert!(slots.insert(Socket(3), 0).is_none());
        slots.remove(second.slot);
        assert!(slots.insert(Socket(3), 0).is_some());
    }
}
