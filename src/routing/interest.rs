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
use crate::{
    plant::{Bug, planted},
    sync::atomic::{AtomicU64, Ordering},
};

/// The process-wide table: a mask of shards for each slot, and a mask of the depths that wildcard filters use.
///
/// Takes 8 bytes a slot. With 16 slots or more per expected filter about one in 16 of the slots probed for an unwanted
/// topic has a bit that it should not.
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
            bits_are_shared: shards > Self::BITS,
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

    /// Above so many shards two or more have the same bit.
    pub const BITS: usize = 64;

    /// The number of slots.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The bit of `shard` in what [`probe`](Self::probe) returns.
    #[inline]
    #[must_use]
    pub const fn bit(shard: usize) -> u64 {
        1 << (shard % Self::BITS)
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
        debug_assert!(*count > 0 || planted(Bug::InterestBitLate), "a filter is removed as often as it was added");
        if *count == 0 || *count == u8::MAX {
            return;
        }
        *count -= 1;
        let is_last = *count == 0 || planted(Bug::InterestBitUncounted);
        if is_last && !table.bits_are_shared {
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

#[cfg(not(feature = "loom"))]
const SLOTS_MIN: usize = 64;
/// loom keeps a history for each slot.
#[cfg(feature = "loom")]
const SLOTS_MIN: usize = 2;

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;
    use crate::routing::{hash::HashKey, hash::Prefixes, levels::filter_matches};

    fn key() -> HashKey {
        HashKey::from_seed(42)
    }

    fn probe(table: &InterestTable, topic: &str) -> u64 {
        let mut prefixes = Prefixes::new();
        let hash = key().topic_with_prefixes(topic, table.depth_mask(), &mut prefixes);
        table.probe(hash, &prefixes)
    }

    proptest! {
        #[test]
        fn no_filter_that_matches_is_ever_missed(
            filters in prop::collection::vec((0_usize..3, "[ab+]?(/[ab+]?){0,3}(/#)?"), 1..60),
            removals in prop::collection::vec(any::<prop::sample::Index>(), 0..50),
            topics in prop::collection::vec("[ab]?(/[ab]?){0,4}", 1..20),
        ) {
            let table = InterestTable::new(64, 3);
            let mut counts: Vec<InterestCounts> = (0..3).map(|shard| InterestCounts::new(&table, shard)).collect();
            let mut present = filters;
            present.retain(|(_, filter)| !filter.is_empty());
            for (shard, filter) in &present {
                counts[*shard].add(&table, key().filter(filter));
            }
            for removal in removals {
                if !present.is_empty() {
                    let (shard, filter) = present.swap_remove(removal.index(present.len()));
                    counts[shard].remove(&table, key().filter(&filter));
                }
            }
            for topic in topics.iter().filter(|topic| !topic.is_empty()) {
                let found = probe(&table, topic);
                for (shard, filter) in &present {
                    let wanted = filter_matches(filter, topic);
                    prop_assert!(!wanted || found & InterestTable::bit(*shard) != 0, "{filter} matches {topic}");
                }
            }
        }
    }

    #[test]
    fn a_bit_goes_with_the_last_filter_of_its_slot() {
        let table = InterestTable::new(1024, 4);
        let mut counts = InterestCounts::new(&table, 3);
        let filter = key().filter("a/+");
        counts.add(&table, filter);
        counts.add(&table, filter);
        counts.remove(&table, filter);
        assert_eq!(probe(&table, "a/b"), 1 << 3);
        counts.remove(&table, filter);
        assert_eq!(probe(&table, "a/b"), 0);
    }

    #[test]
    fn a_count_that_reached_255_keeps_its_bit() {
        let table = InterestTable::new(1024, 4);
        let mut counts = InterestCounts::new(&table, 1);
        let filter = key().filter("a/b");
        (0..300).for_each(|_| counts.add(&table, filter));
        (0..300).for_each(|_| counts.remove(&table, filter));
        assert_eq!(probe(&table, "a/b"), 1 << 1);
    }

    #[test]
    fn shards_that_share_a_bit_do_not_clear_it() {
        let table = InterestTable::new(1024, 65);
        let (mut one, mut other) = (InterestCounts::new(&table, 0), InterestCounts::new(&table, 64));
        let filter = key().filter("a/b");
        one.add(&table, filter);
        other.add(&table, filter);
        one.remove(&table, filter);
        assert_eq!(probe(&table, "a/b"), 1);
    }

    #[test]
    fn unwanted_topics_seldom_find_a_bit() {
        let table = InterestTable::new(16 * 4096, 8);
        let mut counts = InterestCounts::new(&table, 5);
        for number in 0..4096 {
            counts.add(&table, key().filter(&format!("dev/{number}/state")));
        }
        counts.add(&table, key().filter("dev/x/+"));
        let false_positives = (0..20_000).filter(|number| probe(&table, &format!("dev/{number}/other")) != 0).count();
        // Two slots are probed for each, the topic's and that of its first two levels.
        assert!((20_000 / 10..20_000 / 7).contains(&false_positives), "{false_positives}");
        // An exact filter is no wildcard at its depth: topics below it are not its business.
        counts.add(&table, key().filter("dev/y"));
        assert_eq!(probe(&table, "dev/y/z/q") & probe(&table, "dev/y"), 0);
    }

    /// Shards come and go with filters in the same few slots; whoever knows that a filter is there finds it.
    #[test]
    fn no_filter_is_missed_while_shards_add_and_remove() {
        const SHARDS: usize = 3;
        const ROUNDS: u64 = 20_000;
        let filters = ["a/b", "a/+", "#", "a/b/#", "x/y/+/z", "a/c"];
        let topics = ["a/b", "a/b/c", "a/c", "x/y/q/z"];
        let table = InterestTable::new(64, SHARDS);
        // Odd while the filter is there; it changes with each coming and going.
        let versions: Vec<Vec<std::sync::atomic::AtomicU64>> =
            (0..SHARDS).map(|_| filters.iter().map(|_| Default::default()).collect()).collect();
        thread::scope(|scope| {
            for (shard, versions) in versions.iter().enumerate() {
                let table = &table;
                scope.spawn(move || {
                    let mut counts = InterestCounts::new(table, shard);
                    for round in 0..ROUNDS {
                        let at = (round as usize * 5 + shard + round as usize / 7) % filters.len();
                        let filter = key().filter(filters[at]);
                        if versions[at].load(Ordering::Relaxed) % 2 == 0 {
                            counts.add(table, filter);
                            versions[at].fetch_add(1, Ordering::SeqCst);
                        } else {
                            versions[at].fetch_add(1, Ordering::SeqCst);
                            counts.remove(table, filter);
                        }
                    }
                });
            }
            scope.spawn(|| {
                for round in 0..ROUNDS as usize {
                    let topic = topics[round % topics.len()];
                    let load = || -> Vec<u64> { versions.iter().flatten().map(|v| v.load(Ordering::SeqCst)).collect() };
                    let before = load();
                    let found = probe(&table, topic);
                    let after = load();
                    for (at, version) in before.iter().enumerate() {
                        let (shard, filter) = (at / filters.len(), filters[at % filters.len()]);
                        let stayed = version % 2 == 1 && after[at] == *version;
                        let wanted = stayed && filter_matches(filter, topic);
                        assert!(!wanted || found & InterestTable::bit(shard) != 0, "{filter} of {shard}, {topic}");
                    }
                }
            });
        });
    }
}

#[cfg(all(test, feature = "loom"))]
mod loom_tests {
    use loom::thread;

    use super::*;
    use crate::{
        routing::hash::{HashKey, Prefixes},
        sync::{Arc, atomic::AtomicBool},
    };

    /// Two shards use one slot; one gives its filter up while the other takes it.
    #[test]
    fn one_shards_removal_never_takes_anothers_bit() {
        loom::model(|| {
            let key = HashKey::from_seed(42);
            let table = Arc::new(InterestTable::new(2, 2));
            let filter = key.filter("a/+");
            let mut leaving = InterestCounts::new(&table, 0);
            leaving.add(&table, filter);
            let known = Arc::new(AtomicBool::new(false));
            let removes = thread::spawn({
                let table = table.clone();
                move || leaving.remove(&table, filter)
            });
            let adds = thread::spawn({
                let (table, known) = (table.clone(), known.clone());
                move || {
                    InterestCounts::new(&table, 1).add(&table, filter);
                    known.store(true, Ordering::Release);
                }
            });
            let probe = || {
                let mut prefixes = Prefixes::new();
                let topic = key.topic_with_prefixes("a/b", table.depth_mask(), &mut prefixes);
                table.probe(topic, &prefixes)
            };
            if known.load(Ordering::Acquire) {
                assert_ne!(probe() & 2, 0);
            }
            removes.join().unwrap();
            adds.join().unwrap();
            assert_eq!(probe(), 2);
        });
    }

    /// The depth is set by one shard, and found set by another, whose filter is then announced.
    #[test]
    fn a_depth_that_another_shard_set_is_seen_with_the_filter() {
        loom::model(|| {
            let key = HashKey::from_seed(42);
            let table = Arc::new(InterestTable::new(2, 2));
            let filter = key.filter("a/+");
            let known = Arc::new(AtomicBool::new(false));
            let first = thread::spawn({
                let table = table.clone();
                move || InterestCounts::new(&table, 0).add(&table, filter)
            });
            let second = thread::spawn({
                let (table, known) = (table.clone(), known.clone());
                move || {
                    InterestCounts::new(&table, 1).add(&table, filter);
                    known.store(true, Ordering::Release);
                }
            });
            if known.load(Ordering::Acquire) {
                let mut prefixes = Prefixes::new();
                let topic = key.topic_with_prefixes("a/b", table.depth_mask(), &mut prefixes);
                assert_ne!(table.probe(topic, &prefixes) & 2, 0);
            }
            first.join().unwrap();
            second.join().unwrap();
        });
    }
}
