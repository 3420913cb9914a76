//! The retained messages of the topics that have their home here, ordered by stamp, found by filter.
//!
//! Owns one message per topic, and for a while the stamps of clearings. Always holds: of all that was put and cleared, in
//! whatever order it arrived, a topic shows what had the largest stamp. Must never do: show a message again that a
//! clearing was newer than, or walk all topics at a stretch.
//!
//! # Order
//! Topics stand in the order of their bytes, so that all of `a/…` lies together; `a` itself lies before it, and what
//! begins with `a` and a byte below `/`, as `a!`, lies between. A scan looks at a topic, and when the filter does not match it,
//! seeks the first topic behind it that could match: `a/+/b` takes two seeks for each level below `a`, however many topics
//! lie there.
//!
//! # Tombstones
//! A clearing may overtake an older message on its way here from another shard. So its stamp stays for
//! [`TOMBSTONE_MICROS`] (as told by the stamps themselves; longer than any message spends in the mesh) and refuses what is
//! older. At most [`TOMBSTONES_MAX`] stay, about 80 bytes each; when more come, the earliest gives
//! way, [`RetainedStore::tombstones_lost`] counts it, and an older message that still arrives would be stored.

use std::{
    borrow::Borrow,
    cmp::Ordering,
    collections::{BTreeSet, VecDeque, btree_set},
    ops::Bound,
};

pub use crate::message::Stamp;

use super::{
    hash::HashKey,
    levels::{is_hidden, level_at},
    split_table::SplitTable,
};
use crate::plant::{Bug, planted};

/// A message that knows its topic, so that the store need not keep the text again. None of the answers may change.
pub trait HasTopic {
    /// The TopicName.
    fn topic(&self) -> &str;

    /// The TopicName's bytes, by which messages are ordered; for who keeps bytes and would check them each time.
    #[inline]
    fn topic_bytes(&self) -> &[u8] {
        self.topic().as_bytes()
    }

    /// What orders the messages of a topic: the largest stays.
    fn stamp(&self) -> Stamp;

    /// What the message counts for in [`RetainedStore::bytes`]: its topic, payload and properties.
    fn bytes(&self) -> usize;
}

/// What [`RetainedStore::put`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put<M> {
    /// The topic had no message.
    Stored,
    /// The topic had this one, which was older.
    Replaced(M),
    /// The topic has, or had until it was cleared, a newer one: this one was dropped.
    Older,
}

/// What [`RetainedStore::clear`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clear<M> {
    /// The topic had no message; an older one that comes late will be refused.
    Nothing,
    /// The topic had this one.
    Cleared(M),
    /// The topic has, or had, something newer: nothing was done.
    Older,
}

/// Where a job in slices goes on. It survives all changes of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(Box<str>);

/// Retained messages by topic.
#[derive(Debug)]
pub struct RetainedStore<M> {
    key: HashKey,
    entries: BTreeSet<Entry<M>>,
    bytes: usize,
    tombstones: SplitTable<Tombstone>,
    /// All that is in `tombstones`, in order of arrival, and some that have been replaced there since.
    tombstone_order: VecDeque<Tombstone>,
    newest_micros: u64,
    tombstones_lost: u64,
}

/// Orders and looks like its topic. The nodes of the tree are hardly more than half full, so a message should be small in
/// place.
#[derive(Debug)]
struct Entry<M>(M);

/// The clearing of a topic, which the hash of all 64 bits stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tombstone {
    topic_hash: u64,
    stamp: Stamp,
}

impl<M: HasTopic> RetainedStore<M> {
    /// An empty store.
    #[must_use]
    pub fn new(key: HashKey) -> Self {
        Self {
            key,
            entries: BTreeSet::new(),
            bytes: 0,
            tombstones: SplitTable::new(),
            tombstone_order: VecDeque::new(),
            newest_micros: 0,
            tombstones_lost: 0,
        }
    }

    /// Stores a message unless the topic has, or had until it was cleared, one with a larger stamp.
    ///
    /// Of two with equal stamps, which no two publishes have, the later arrival wins. Limits are for the caller to see to,
    /// with [`len`](Self::len), [`bytes`](Self::bytes) and [`exact`](Self::exact), before it puts.
    pub fn put(&mut self, message: M) -> Put<M> {
        let stamp = message.stamp();
        self.newest_micros = self.newest_micros.max(stamp.micros);
        if let Some(present) = self.entries.get(message.topic_bytes()) {
            if is_newer(present.0.stamp(), stamp) {
                return Put::Older;
            }
            self.bytes = self.bytes - present.0.bytes() + message.bytes();
            let replaced = self.entries.replace(Entry(message));
            return replaced.map_or(Put::Stored, |entry| Put::Replaced(entry.0));
        }
        if !self.tombstones.is_empty() {
            let topic_hash = self.key.topic(message.topic()).whole;
            let is_same = |tombstone: &Tombstone| tombstone.topic_hash == topic_hash;
            if self.tombstones.find(topic_hash, is_same).is_some_and(|tombstone| is_newer(tombstone.stamp, stamp)) {
                return Put::Older;
            }
        }
        self.bytes += message.bytes();
        self.entries.insert(Entry(message));
        Put::Stored // [v3 MQTT-3.3.1-5] [v3 MQTT-3.3.1-7] [v5 MQTT-3.3.1-5]
    }

    /// Clears a topic unless what it has is newer, and refuses older messages that come later.
    pub fn clear(&mut self, topic: &str, stamp: Stamp) -> Clear<M> {
        self.newest_micros = self.newest_micros.max(stamp.micros);
        if self.entries.get(topic.as_bytes()).is_some_and(|present| is_newer(present.0.stamp(), stamp)) {
            return Clear::Older;
        }
        if !self.bury(topic, stamp) {
            return Clear::Older;
        }
        let Some(cleared) = self.entries.take(topic.as_bytes()) else { return Clear::Nothing };
        self.bytes -= cleared.0.bytes();
        Clear::Cleared(cleared.0) // [v3 MQTT-3.3.1-10] [v5 MQTT-3.3.1-6]
    }

    /// The message of a topic.
    #[must_use]
    pub fn exact(&self, topic: &str) -> Option<&M> {
        self.entries.get(topic.as_bytes()).map(|entry| &entry.0)
    }

    /// Visits messages whose topics match `filter`, from `cursor` on (`None`: from the first), in order of topic.
    ///
    /// Looks at no more than `max_steps` topics and finds no more than `max_found` (at least one of each). Returns where
    /// to go on, `None` at the end. What comes and goes between slices may or may not be visited; all else is, once.
    pub fn scan(
        &self,
        filter: &str,
        cursor: Option<Cursor>,
        max_steps: usize,
        max_found: usize,
        visit: &mut dyn FnMut(&M),
    ) -> Option<Cursor> {
        let first = literal_prefix(filter);
        let start = cursor.map_or_else(|| first.into(), |cursor| String::from(cursor.0));
        let mut entries = self.from(&start);
        let mut found = 0;
        for _ in 0..max_steps.max(1) {
            let entry = entries.next()?;
            let topic = entry.0.topic();
            // The literal prefix `a/b` has all that can match behind it, and with it in front.
            if !topic.starts_with(first) {
                return None;
            }
            match next_candidate(filter, topic) {
                Next::Matches => {
                    visit(&entry.0);
                    found += 1;
                    if found >= max_found.max(1) {
                        return Some(Cursor(behind(topic).into()));
                    }
                }
                Next::Step => {}
                Next::Seek(candidate) => {
                    entries = self.from(&candidate);
                }
                Next::End => return None,
            }
        }
        entries.next().map(|entry| Cursor(entry.0.topic().into()))
    }

    /// Takes out messages for which `is_over` holds, looking at no more than `max_steps`, and hands them to `removed`.
    /// Returns where to go on, `None` at the end.
    ///
    /// For messages that expire. It leaves no tombstones: what is older has expired as well.
    pub fn remove_if(
        &mut self,
        cursor: Option<Cursor>,
        max_steps: usize,
        is_over: &mut dyn FnMut(&M) -> bool,
        removed: &mut dyn FnMut(M),
    ) -> Option<Cursor> {
        let start = cursor.map_or_else(String::new, |cursor| String::from(cursor.0));
        let mut entries = self.from(&start);
        let slice = entries.by_ref().take(max_steps.max(1)).filter(|entry| is_over(&entry.0));
        let over: Vec<Box<[u8]>> = slice.map(|entry| entry.0.topic_bytes().into()).collect();
        let next = entries.next().map(|entry| Cursor(entry.0.topic().into()));
        for topic in over {
            if let Some(entry) = self.entries.take(&*topic) {
                self.bytes -= entry.0.bytes();
                removed(entry.0);
            }
        }
        next
    }

    /// How many messages are stored.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The sum of the messages' [`HasTopic::bytes`].
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many tombstones gave way before their time, because too many topics were cleared at once.
    #[must_use]
    pub const fn tombstones_lost(&self) -> u64 {
        self.tombstones_lost
    }

    fn from(&self, topic: &str) -> btree_set::Range<'_, Entry<M>> {
        self.entries.range::<[u8], _>((Bound::Included(topic.as_bytes()), Bound::Unbounded))
    }

    /// Notes a clearing; false when a newer one is there already.
    fn bury(&mut self, topic: &str, stamp: Stamp) -> bool {
        let topic_hash = self.key.topic(topic).whole;
        let tombstone = Tombstone { topic_hash, stamp };
        if let Some(present) = self.tombstones.find_mut(topic_hash, |found| found.topic_hash == topic_hash) {
            if is_newer(present.stamp, stamp) {
                return false;
            }
            *present = tombstone;
        } else {
            self.tombstones.insert_unique(topic_hash, tombstone);
        }
        self.tombstone_order.push_back(tombstone);
        self.forget_tombstones();
        true
    }

    /// Drops the tombstones that are old or too many, a few at a time.
    fn forget_tombstones(&mut self) {
        for _ in 0..FORGET_STEPS {
            let Some(first) = self.tombstone_order.front().copied() else { return };
            let is_old = first.stamp.micros.saturating_add(TOMBSTONE_MICROS) < self.newest_micros;
            if !is_old && self.tombstone_order.len() <= TOMBSTONES_MAX {
                return;
            }
            self.tombstone_order.pop_front();
            let removed = self.tombstones.remove(first.topic_hash, |found| *found == first);
            self.tombstones_lost += u64::from(removed.is_some() && !is_old);
        }
    }
}

fn is_newer(present: Stamp, arriving: Stamp) -> bool {
    present > arriving && !planted(Bug::RetainedStampIgnored)
}

/// What a topic that was looked at says about where to look next.
enum Next {
    /// It matches; look at the one behind it.
    Matches,
    /// It does not; look at the one behind it.
    Step,
    /// It does not, and none does before this text, which is larger than the topic.
    Seek(String),
    /// It does not, and none behind it does.
    End,
}

/// Compares a topic that begins with the filter's literal prefix to the filter.
fn next_candidate(filter: &str, topic: &str) -> Next {
    let (filter_bytes, topic_bytes) = (filter.as_bytes(), topic.as_bytes());
    if is_hidden(topic) && filter.starts_with(['+', '#']) {
        return Next::Seek("%".into()); // `%` follows `$`. [v3 MQTT-4.7.2-1] [v5 MQTT-4.7.2-1]
    }
    let (mut filter_at, mut at) = (0, 0);
    loop {
        let (level, filter_next) = level_at(filter_bytes, filter_at);
        if level == b"#" {
            return Next::Matches;
        }
        if at > topic_bytes.len() {
            return Next::Step;
        }
        let (topic_level, next) = level_at(topic_bytes, at);
        if level != b"+" && level != topic_level {
            return seek_level(filter.get(filter_at..filter_next - 1).unwrap_or_default(), topic, at);
        }
        (filter_at, at) = (filter_next, next);
        if filter_at > filter_bytes.len() {
            // A topic with more levels than the filter: so have all others with these first ones.
            return if at > topic_bytes.len() { Next::Matches } else { behind_level(topic, at) };
        }
    }
}

/// `topic` has something else than `level` at `at`: where do topics continue that have the same levels before, and `level`?
fn seek_level(level: &str, topic: &str, at: usize) -> Next {
    let before = topic.get(..at).unwrap_or_default();
    for end in ["", "/"] {
        let candidate = [before, level, end].concat();
        if topic < candidate.as_str() {
            return Next::Seek(candidate);
        }
    }
    behind_level(topic, at)
}

/// Behind all topics that have the levels of `topic` before `at`, and more.
fn behind_level(topic: &str, at: usize) -> Next {
    match at.checked_sub(1).and_then(|slash| topic.get(..slash)) {
        Some(before) => Next::Seek([before, AFTER_SLASH].concat()),
        None => Next::End,
    }
}

/// What each topic that `filter` matches begins with: the levels before its first wildcard, without the last separator,
/// for `a/#` matches `a`.
fn literal_prefix(filter: &str) -> &str {
    let wildcard = memchr::memchr2(b'+', b'#', filter.as_bytes()).unwrap_or(filter.len() + 1);
    filter.get(..wildcard.saturating_sub(1)).unwrap_or_default()
}

/// The smallest text behind `topic`: no topic has U+0000.
fn behind(topic: &str) -> String {
    [topic, "\0"].concat()
}

impl<M: HasTopic> Borrow<[u8]> for Entry<M> {
    fn borrow(&self) -> &[u8] {
        self.0.topic_bytes()
    }
}

impl<M: HasTopic> PartialEq for Entry<M> {
    fn eq(&self, other: &Self) -> bool {
        self.0.topic_bytes() == other.0.topic_bytes()
    }
}

impl<M: HasTopic> Eq for Entry<M> {}

impl<M: HasTopic> PartialOrd for Entry<M> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<M: HasTopic> Ord for Entry<M> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.topic_bytes().cmp(other.0.topic_bytes())
    }
}

/// How long a clearing refuses older messages: 30 seconds.
pub const TOMBSTONE_MICROS: u64 = 30_000_000;

/// How many clearings are remembered at once.
pub const TOMBSTONES_MAX: usize = 65_536;

/// More than one for each that comes, so that a burst's tombstones go again.
const FORGET_STEPS: usize = 4;

/// The byte after `/`.
const AFTER_SLASH: &str = "0";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::routing::levels::filter_matches;

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Message(String, u32, u64);

    impl HasTopic for Message {
        fn topic(&self) -> &str {
            &self.0
        }

        fn stamp(&self) -> Stamp {
            stamp(self.2)
        }

        fn bytes(&self) -> usize {
            self.0.len() + 1
        }
    }

    fn store() -> RetainedStore<Message> {
        RetainedStore::new(HashKey::from_seed(42))
    }

    fn stamp(micros: u64) -> Stamp {
        Stamp { micros, counter: 0, shard: 0 }
    }

    fn message(topic: &str, value: u32, micros: u64) -> Message {
        Message(topic.into(), value, micros)
    }

    fn scan_all(store: &RetainedStore<Message>, filter: &str, steps: usize, found: usize) -> Vec<String> {
        let mut topics = Vec::new();
        let mut cursor = None;
        loop {
            let before = topics.len();
            cursor = store.scan(filter, cursor, steps, found, &mut |message| topics.push(message.0.clone()));
            assert!(topics.len() - before <= found, "a slice finds {found} at most");
            if cursor.is_none() {
                return topics;
            }
        }
    }

    fn topic() -> impl Strategy<Value = String> {
        let level = prop::sample::select(vec!["", "a", "b", "a!", "b0", "$", "$a", "ab"]);
        prop::collection::vec(level, 1..5)
            .prop_map(|levels| levels.join("/"))
            .prop_filter("empty", |text| !text.is_empty())
    }

    fn filter() -> impl Strategy<Value = String> {
        let level = prop::sample::select(vec!["", "a", "b", "a!", "b0", "$", "+", "+"]);
        (prop::collection::vec(level, 0..5), any::<bool>()).prop_map(|(levels, multi)| {
            let ends = levels.into_iter().chain(multi.then_some("#")).collect::<Vec<_>>().join("/");
            if ends.is_empty() { "+".into() } else { ends }
        })
    }

    proptest! {
        #[test]
        fn a_scan_in_slices_finds_what_the_plain_rule_finds(
            topics in prop::collection::btree_set(topic(), 0..60),
            filters in prop::collection::vec(filter(), 1..10),
            steps in 1_usize..6,
            found in 1_usize..4,
        ) {
            let mut store = store();
            for topic in &topics {
                store.put(message(topic, 0, 1));
            }
            for filter in &filters {
                let expected: Vec<String> = topics.iter().filter(|topic| filter_matches(filter, topic)).cloned().collect();
                prop_assert_eq!(scan_all(&store, filter, steps, found), expected, "{}", filter);
            }
        }

        #[test]
        fn the_largest_stamp_wins_in_whatever_order_they_arrive(
            events in Just((1_u64..25).collect::<Vec<_>>()).prop_shuffle(),
            kinds in prop::collection::vec((0_usize..3, any::<bool>()), 25),
        ) {
            let mut store = store();
            let topics = ["a", "a/b", "c"];
            let mut expected: BTreeMap<&str, (u64, bool)> = BTreeMap::new();
            for micros in events {
                let (topic, clears) = kinds[micros as usize];
                let topic = topics[topic];
                if clears {
                    store.clear(topic, stamp(micros));
                } else {
                    store.put(message(topic, micros as u32, micros));
                }
                let best = expected.entry(topic).or_insert((micros, clears));
                *best = (*best).max((micros, clears));
                for (topic, (micros, clears)) in &expected {
                    let found = store.exact(topic).map(|message| message.2);
                    prop_assert_eq!(found, (!clears).then_some(*micros));
                }
            }
            let all = scan_all(&store, "#", 100, 100);
            prop_assert_eq!(store.len(), all.len());
            prop_assert_eq!(store.bytes(), all.iter().map(|topic| topic.len() + 1).sum::<usize>());
        }
    }

    #[test]
    fn results_say_what_was_replaced_and_cleared() {
        let mut store = store();
        assert_eq!(store.put(message("a", 5, 5)), Put::Stored);
        assert_eq!(store.put(message("a", 4, 4)), Put::Older);
        assert_eq!(store.put(message("a", 6, 6)), Put::Replaced(message("a", 5, 5)));
        assert_eq!(store.clear("a", stamp(5)), Clear::Older);
        assert_eq!(store.clear("a", stamp(7)), Clear::Cleared(message("a", 6, 6)));
        assert_eq!(store.clear("a", stamp(6)), Clear::Older);
        assert_eq!(store.clear("a", stamp(8)), Clear::Nothing);
        assert_eq!(store.put(message("a", 7, 7)), Put::Older);
        assert_eq!(store.put(message("a", 9, 9)), Put::Stored);
        assert_eq!((store.len(), store.bytes()), (1, 2));
    }

    #[test]
    fn stamps_of_one_microsecond_differ_by_counter_and_shard() {
        let one = Stamp { micros: 1, counter: 1, shard: 9 };
        let two = Stamp { micros: 1, counter: 2, shard: 1 };
        assert!(one < two && two < Stamp { shard: 2, ..two } && two < stamp(2));
        assert_eq!(size_of::<Stamp>(), 16);
    }

    #[test]
    fn tombstones_go_when_they_are_old_or_too_many() {
        let mut store = store();
        for number in 0..TOMBSTONES_MAX as u64 + 10 {
            store.clear(&format!("t/{number}"), stamp(number + 1));
        }
        assert_eq!(store.tombstones.len(), TOMBSTONES_MAX);
        assert_eq!(store.tombstones_lost(), 10);
        assert_eq!(store.put(message("t/11", 0, 0)), Put::Older);
        assert_eq!(store.put(message("t/9", 0, 0)), Put::Stored);
        for number in 0..TOMBSTONES_MAX as u64 {
            store.clear("x", stamp(TOMBSTONE_MICROS * 2 + number));
        }
        assert_eq!(store.tombstones.len(), 1);
        assert!(store.tombstone_order.len() <= TOMBSTONES_MAX);
        assert_eq!(store.tombstones_lost(), 10);
    }

    #[test]
    fn a_wildcard_in_the_middle_seeks_instead_of_walking() {
        let mut store = store();
        for number in 0..10_000 {
            store.put(message(&format!("a/{}/{}", number % 10, number), 0, 1));
        }
        store.put(message("a/7/wanted", 0, 1));
        store.put(message("b", 0, 1));
        let mut found = 0;
        // Two looks for each of the ten levels, and two at the ends.
        assert_eq!(store.scan("a/+/wanted", None, 24, 10, &mut |_| found += 1), None);
        assert_eq!(found, 1);
        assert_eq!(store.scan("b/#", None, 2, 10, &mut |_| found += 1), None);
        assert_eq!(found, 2);
    }

    #[test]
    fn a_cursor_survives_what_comes_and_goes() {
        let mut store = store();
        for number in 0..10 {
            store.put(message(&format!("a/{number}"), 0, 1));
        }
        let mut topics = Vec::new();
        let cursor = store.scan("a/#", None, 100, 4, &mut |message| topics.push(message.0.clone()));
        store.clear("a/3", stamp(2));
        store.clear("a/4", stamp(2));
        store.put(message("a/00", 0, 2));
        store.put(message("a/55", 0, 2));
        assert_eq!(store.scan("a/#", cursor, 100, 100, &mut |message| topics.push(message.0.clone())), None);
        assert_eq!(topics, ["a/0", "a/1", "a/2", "a/3", "a/5", "a/55", "a/6", "a/7", "a/8", "a/9"]);
    }

    #[test]
    fn messages_that_are_over_go_in_slices() {
        let mut store = store();
        for number in 0..100 {
            store.put(message(&format!("a/{number}"), number, 1));
        }
        let (mut removed, mut slices) = (0, 0);
        let mut cursor = None;
        loop {
            let mut slice = 0;
            cursor = store.remove_if(cursor, 7, &mut |message| message.1 % 2 == 0, &mut |_| slice += 1);
            assert!(slice <= 7);
            removed += slice;
            slices += 1;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!((removed, slices, store.len()), (50, 15, 50));
        assert_eq!(store.bytes(), scan_all(&store, "#", 100, 100).iter().map(|topic| topic.len() + 1).sum::<usize>());
        // What expired left no tombstone behind.
        assert_eq!(store.put(message("a/0", 0, 1)), Put::Stored);
    }
}
