//! Which shards want a topic: one process-wide table of bits.
//!
//! Owns the masks that a publisher probes before it sends to other shards, and each shard's own count of its use of them.
//! Always holds: a filter that has been added and not removed is found by the probe of each topic that it matches, by
//! every thread to which the adding thread's next message could reach. A probe may name a shard that has no such filter:
//! that costs a message in vain. Must never do: miss one.
//!
//! # The order of things
//! A shard inserts the filter into its [`FilterTable`](super::FilterTable) first, then calls [`InterestCounts::add`],
//! then lets the SUBACK go. The bit is set by a read-modify-write (SeqCst), the probe's loads are relaxed, and what makes
//! the pair right against a question that is under way is the fence in
//! [`TurnClocks::publish_turn`](super::TurnClocks::publish_turn), which each shard passes before it probes.

use super::hash::{DEPTH_MAX, FilterHash, TopicHash};
use crate::sync::atomic::{AtomicU64, Ordering};

/// The process-wide table: a mask of shards for each slot, and a mask of the depths that wildcard filters use.
///
/// Takes 8 bytes a slot. With 16 slots or more per expected filter about one probe in 16 of an unwanted topic finds a bit
/// that it should not.
#[derive(Debug)]
pub struct InterestTable {
    depth_mask: DepthMask,
    slots: Box<[AtomicU64]>,
    /// Above 64 shards two of them share a bit; neither may clear it, for neither knows of the other's use.
    bits_are_shared: bool,
}

/// Read by each publish, written once in a while: alone in its cache lines.
#[derive(Debug)]
#[repr(align(128))]
struct DepthMask(AtomicU64);

/// A shard's own use of each slot: how many of its filters hash there.
///
/// Takes 1 byte a slot. A count that reaches 255 stays there until the restart, and the bit with it.
#[derive(Debug)]
pub struct InterestCounts {
    bit: u64,
    counts: Box<[u8]>,
}

impl InterestTable {
    /// A table for `shards` shards with at least `slots` slots: the next power of two, at least 64.
    #[must_use]
    pub fn new(slots: usize, shards: usize) -> Self {
        let slots = slots.next_power_of_two().max(SLOTS_MIN);
        Self {
            depth_mask: DepthMask(AtomicU64::new(0)),
            slots: (0..slots).map(|_| AtomicU64::new(0)).collect(),
            bits_are_shared: shards > 64,
        }
    }

    /// The depths at which wildcard filters begin: the argument of
    /// [`HashKey::topic_with_prefixes`](super::HashKey::topic_with_prefixes).
    ///
    /// A depth that was used once stays until the restart: clearing it would race with another shard's first use.
    #[inline]
    #[must_use]
    pub fn depth_mask(&self) -> u64 {
        self.depth_mask.0.load(Ordering::Relaxed)
    }

    /// The shards (bit = shard mod 64) that may have a filter that matches the topic; its own shard may be among them.
    ///
    /// `topic` and `prefixes` are what hashing the topic with this table's [`depth_mask`](Self::depth_mask) gave.
    #[inline]
    #[must_use]
    pub fn probe(&self, topic: TopicHash, prefixes: &[u64]) -> u64 {
        let mut shards = self.load(exact_slot(topic.whole));
        for prefix in prefixes {
            shards |= self.load(wildcard_slot(*prefix));
        }
        shards
    }

    /// The number of slots.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The bit of `shard` in what [`probe`](Self::probe) returns.
    #[inline]
    #[must_use]
    pub const fn bit(shard: usize) -> u64 {
        1 << (shard % 64)
    }

    #[inline]
    fn load(&self, place: u64) -> u64 {
        self.slots[self.index(place)].load(Ordering::Relaxed)
    }

    #[inline]
    fn index(&self, place: u64) -> usize {
        place as usize & (self.slots.len() - 1)
    }

    /// Takes note of a depth, before the slot's bit, so that who sees the bit could have asked for the depth.
    fn add_depth(&self, depth: u8) {
        let bit = 1 << depth.min(DEPTH_MAX);
        // Acquire: when another shard has set it, whoever learns of our filter must see that too.
        if self.depth_mask.0.load(Ordering::Acquire) & bit == 0 {
            self.depth_mask.0.fetch_or(bit, Ordering::SeqCst);
        }
    }
}

impl InterestCounts {
    /// The counts of `shard` for `table`.
    #[must_use]
    pub fn new(table: &InterestTable, shard: usize) -> Self {
        Self { bit: InterestTable::bit(shard), counts: vec![0; table.slots.len()].into_boxed_slice() }
    }

    /// Counts a filter that is new to the shard and is in its filter table already; once per filter, not per subscriber.
    pub fn add(&mut self, table: &InterestTable, filter: FilterHash) {
        let index = table.index(place(filter));
        if let FilterHash::Wildcard { depth, .. } = filter {
            table.add_depth(depth);
        }
        let count = &mut self.counts[index];
        if *count == 0 {
            table.slots[index].fetch_or(self.bit, Ordering::SeqCst);
        }
        *count = count.saturating_add(1);
    }

    /// Takes back an [`add`](Self::add), after the filter has left the shard's filter table.
    pub fn remove(&mut self, table: &InterestTable, filter: FilterHash) {
        let index = table.index(place(filter));
        let count = &mut self.counts[index];
        debug_assert!(*count > 0, "a filter is removed as often as it was added");
        if *count == 0 || *count == u8::MAX {
            return;
        }
        *count -= 1;
        if *count == 0 && !table.bits_are_shared {
            table.slots[index].fetch_and(!self.bit, Ordering::SeqCst);
        }
    }
}

#[inline]
const fn place(filter: FilterHash) -> u64 {
    match filter {
        FilterHash::Exact(whole) => exact_slot(whole),
        FilterHash::Wildcard { prefix, .. } => wildcard_slot(prefix),
    }
}

#[inline]
const fn exact_slot(whole: u64) -> u64 {
    whole
}

/// Other bits than an exact filter's, lest `a/b` be found by each topic below it once there is an `a/b/#`.
#[inline]
const fn wildcard_slot(prefix: u64) -> u64 {
    prefix.rotate_right(29)
}

#[cfg(not(ringmq_loom))]
const SLOTS_MIN: usize = 64;
/// loom keeps a history for each slot.
#[cfg(ringmq_loom)]
const SLOTS_MIN: usize = 2;
