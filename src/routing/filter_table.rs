//! A shard's subscriptions: which subscribers does a topic have.
//!
//! Owns the filters of one shard and the subscribers of each. Always holds: a filter stands in here exactly as long as it
//! has a subscriber, and has each subscriber once. Must never do: recurse, or take time in proportion to all filters for
//! one topic.

use ahash::RandomState;
use smallvec::SmallVec;

use super::{
    hash::{FilterHash, HashKey},
    last_topic::KnownFilters,
    slab::ChunkedSlab,
    split_table::SplitTable,
    subscribers::{Subscriber, Subscribers},
    trie::{Trie, allocated},
};

/// A shard's filters and their subscribers.
///
/// A filter without a wildcard costs one look-up by the topic's hash, however many there are. The others stand in a trie
/// by levels, whose compressed paths and iterative walk keep even filters of 65,535 levels cheap.
#[derive(Debug)]
pub struct FilterTable<S: Subscriber> {
    key: HashKey,
    /// For the lists of subscribers, whose keys have no place in the outside world.
    hasher: RandomState,
    exact: ChunkedSlab<ExactFilter<S>>,
    exact_by_hash: SplitTable<u32>,
    exact_text_bytes: usize,
    wildcards: Trie<S>,
    subscribers: usize,
    /// Moves on when a filter comes or goes; never 0.
    version: u64,
}

#[derive(Debug)]
struct ExactFilter<S> {
    text: Box<str>,
    subscribers: Subscribers<S>,
}

/// A filter of a table, by number, as long as it has subscribers: four bytes where its text would take sixteen and more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FilterIndex(u32);

/// The subscribers of a topic: one slice or more for each filter that matches, none of them empty.
pub type Matches<'a, S> = SmallVec<[&'a [S]; 8]>;

/// What [`FilterTable::insert`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inserted<S> {
    /// The filter's number.
    pub filter: FilterIndex,
    /// Whether this is the filter's first subscriber: then its interest is to be added.
    pub filter_is_new: bool,
    /// The subscription with the same key that was there before.
    pub replaced: Option<S>,
}

/// What [`FilterTable::remove`] took out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed<S> {
    /// The subscription.
    pub value: S,
    /// Whether it was the filter's last one: then its interest is to be removed, and its number is void.
    pub filter_is_gone: bool,
}

impl<S: Subscriber> FilterTable<S> {
    /// An empty table. `key` is the one that the topic hashes come from.
    #[must_use]
    pub fn new(key: HashKey) -> Self {
        let (one, other) = key.map_seeds();
        Self {
            key,
            hasher: RandomState::with_seeds(one, other, one.rotate_left(32), other.rotate_left(32)),
            exact: ChunkedSlab::new(),
            exact_by_hash: SplitTable::new(),
            exact_text_bytes: 0,
            wildcards: Trie::new(key),
            subscribers: 0,
            version: 1,
        }
    }

    /// Adds a subscription to `filter`, a valid TopicFilter without its `$share/NAME/`, or replaces the one with its key.
    pub fn insert(&mut self, filter: &str, subscriber: S) -> Inserted<S> {
        let inserted = if has_wildcard(filter) {
            let (node, filter_is_new, replaced) = self.wildcards.insert(&self.hasher, filter, subscriber);
            Inserted { filter: FilterIndex(node | WILDCARD), filter_is_new, replaced }
        } else {
            self.insert_exact(filter, subscriber)
        };
        self.subscribers += usize::from(inserted.replaced.is_none());
        self.version += u64::from(inserted.filter_is_new);
        inserted
    }

    /// Takes the subscription with `subscriber` as its key away from `filter`.
    pub fn remove(&mut self, filter: &str, subscriber: &S::Key) -> Option<Removed<S>> {
        self.remove_at(self.index_of(filter)?, subscriber)
    }

    /// As [`remove`](Self::remove), for who has kept the filter's number.
    pub fn remove_at(&mut self, filter: FilterIndex, subscriber: &S::Key) -> Option<Removed<S>> {
        let (value, filter_is_gone) = match filter.place() {
            Place::Wildcard(node) => self.wildcards.remove(&self.hasher, node, subscriber)?,
            Place::Exact(index) => self.remove_exact(index, subscriber)?,
        };
        self.subscribers -= 1;
        self.version += u64::from(filter_is_gone);
        Some(Removed { value, filter_is_gone })
    }

    /// The subscription of `subscriber` to `filter`.
    #[must_use]
    pub fn find(&self, filter: &str, subscriber: &S::Key) -> Option<&S> {
        self.subscribers_of(self.index_of(filter)?)?.find(&self.hasher, subscriber)
    }

    /// The number of a filter that has subscribers.
    #[must_use]
    pub fn index_of(&self, filter: &str) -> Option<FilterIndex> {
        if has_wildcard(filter) {
            return self.wildcards.find(filter).map(|node| FilterIndex(node | WILDCARD));
        }
        self.find_exact(filter, self.key.topic(filter).whole).map(FilterIndex)
    }

    /// The subscribers of a filter.
    #[must_use]
    pub fn subscribers_of(&self, filter: FilterIndex) -> Option<&Subscribers<S>> {
        match filter.place() {
            Place::Wildcard(node) => self.wildcards.subscribers(node),
            Place::Exact(index) => self.exact.at(index).map(|exact| &exact.subscribers),
        }
    }

    /// Appends the text of a filter to `text`; false when there is no such filter.
    pub fn write_filter(&self, filter: FilterIndex, text: &mut String) -> bool {
        if self.subscribers_of(filter).is_none_or(Subscribers::is_empty) {
            return false;
        }
        match filter.place() {
            Place::Wildcard(node) => self.wildcards.write_filter(node, text),
            Place::Exact(index) => text.push_str(&self.exact[index].text),
        }
        true
    }

    /// What places a filter in the interest table: for who removes a subscription by the filter's number, to be asked before.
    #[must_use]
    pub fn filter_hash(&self, filter: FilterIndex) -> Option<FilterHash> {
        let mut text = String::new();
        self.write_filter(filter, &mut text).then(|| self.key.filter(&text))
    }

    /// Appends to `found` the subscribers of each filter that matches `topic`, whose whole hash is `topic_hash`.
    ///
    /// A fan-out that does not finish at once must copy what is left of the slices: a removal moves the last subscriber
    /// of a filter to the place of the one that left.
    #[inline]
    pub fn matches<'a>(&'a self, topic: &str, topic_hash: u64, found: &mut Matches<'a, S>) {
        self.each_match(topic, topic_hash, |filter| self.append_to(filter, found));
    }

    /// As [`matches`](Self::matches). `known` is what is known of that topic, or nothing yet.
    #[inline]
    pub fn matches_again<'a>(
        &'a self,
        topic: &str,
        topic_hash: u64,
        known: &mut KnownFilters,
        found: &mut Matches<'a, S>,
    ) {
        if known.version != self.version {
            known.filters.clear();
            self.each_match(topic, topic_hash, |filter| known.filters.push(filter));
            known.version = self.version;
        }
        known.filters.iter().for_each(|filter| self.append_to(*filter, found));
    }

    /// Whether there is no filter.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.filters() == 0
    }

    /// How many filters there are.
    #[must_use]
    pub fn filters(&self) -> usize {
        self.exact.len() + self.wildcards.filters()
    }

    /// How many subscriptions there are.
    #[must_use]
    pub const fn subscribers(&self) -> usize {
        self.subscribers
    }

    /// About how many bytes the table has allocated; for a filter's second and further subscribers that is a guess.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let further = self.subscribers - self.filters().min(self.subscribers);
        let exact = self.exact.bytes() + self.exact_by_hash.bytes() + self.exact_text_bytes;
        exact + self.wildcards.bytes() + further * (size_of::<S>() + FURTHER_SUBSCRIBER_BYTES)
    }

    fn insert_exact(&mut self, filter: &str, subscriber: S) -> Inserted<S> {
        let hash = self.key.topic(filter).whole;
        if let Some(index) = self.find_exact(filter, hash) {
            let replaced = self.exact[index].subscribers.insert(&self.hasher, subscriber);
            return Inserted { filter: FilterIndex(index), filter_is_new: false, replaced };
        }
        let index = self.exact.insert(ExactFilter { text: filter.into(), subscribers: Subscribers::One(subscriber) });
        self.exact_by_hash.insert_unique(hash, index);
        self.exact_text_bytes += allocated(filter);
        Inserted { filter: FilterIndex(index), filter_is_new: true, replaced: None }
    }

    fn remove_exact(&mut self, index: u32, subscriber: &S::Key) -> Option<(S, bool)> {
        let subscribers = &mut self.exact.at_mut(index)?.subscribers;
        let removed = subscribers.remove(&self.hasher, subscriber)?;
        let is_gone = subscribers.is_empty();
        if is_gone && let Some(gone) = self.exact.remove(index) {
            let hash = self.key.topic(&gone.text).whole;
            self.exact_by_hash.remove(hash, |found| *found == index);
            self.exact_text_bytes -= allocated(&gone.text);
        }
        Some((removed, is_gone))
    }

    #[inline]
    fn each_match(&self, topic: &str, topic_hash: u64, mut found: impl FnMut(FilterIndex)) {
        if let Some(index) = self.find_exact(topic, topic_hash) {
            found(FilterIndex(index));
        }
        if self.wildcards.filters() > 0 {
            self.wildcards.matches(topic, &mut |node| found(FilterIndex(node | WILDCARD)));
        }
    }

    #[inline]
    fn append_to<'a>(&'a self, filter: FilterIndex, found: &mut Matches<'a, S>) {
        if let Some(subscribers) = self.subscribers_of(filter) {
            subscribers.append_to(found);
        }
    }

    #[inline]
    fn find_exact(&self, filter: &str, hash: u64) -> Option<u32> {
        // Byte for byte. [v3 MQTT-3.10.4-1] [v5 MQTT-3.10.4-1] [v3 MQTT-4.7.3-4] [v5 MQTT-4.7.3-4]
        self.exact_by_hash.find(hash, |index| *self.exact[*index].text == *filter).copied()
    }

    #[cfg(test)]
    fn check_invariants(&self) {
        assert_eq!(self.exact.len(), self.exact_by_hash.len());
        assert!(self.exact.iter().all(|(_, exact)| !exact.subscribers.is_empty()));
        self.wildcards.check_invariants();
    }
}

impl FilterIndex {
    const fn place(self) -> Place {
        if self.0 & WILDCARD != 0 { Place::Wildcard(self.0 & !WILDCARD) } else { Place::Exact(self.0) }
    }
}

/// Where a filter stands.
enum Place {
    Exact(u32),
    Wildcard(u32),
}

fn has_wildcard(filter: &str) -> bool {
    memchr::memchr2(b'+', b'#', filter.as_bytes()).is_some()
}

/// Marks the number of a filter that stands in the trie.
const WILDCARD: u32 = 1 << 31;

/// Beside the subscriber itself: its place in the index, and slack of list and index.
const FURTHER_SUBSCRIBER_BYTES: usize = 20;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::routing::levels::filter_matches;

    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct Subscription {
        session: u32,
        serial: u32,
    }

    impl Subscriber for Subscription {
        type Key = u32;

        fn key(&self) -> u32 {
            self.session
        }
    }

    fn table() -> FilterTable<Subscription> {
        FilterTable::new(HashKey::from_seed(42))
    }

    fn sub(session: u32) -> Subscription {
        Subscription { session, serial: 0 }
    }

    /// The subscriptions of a topic, sorted, as far as `known` is not out of date.
    fn matching_again(table: &FilterTable<Subscription>, topic: &str, known: &mut KnownFilters) -> Vec<Subscription> {
        let mut found = Matches::new();
        table.matches_again(topic, table.key.topic(topic).whole, known, &mut found);
        let mut all: Vec<Subscription> = found.iter().flat_map(|slice| slice.iter().copied()).collect();
        all.sort();
        all
    }

    /// The subscriptions of a topic, sorted.
    fn matching(table: &FilterTable<Subscription>, topic: &str) -> Vec<Subscription> {
        let mut found = Matches::new();
        table.matches(topic, table.key.topic(topic).whole, &mut found);
        assert!(found.iter().all(|slice| !slice.is_empty()));
        let mut all: Vec<Subscription> = found.iter().flat_map(|slice| slice.iter().copied()).collect();
        all.sort();
        all
    }

    /// Filters of few different levels, so that they share and split paths; now and then deep ones.
    fn filter() -> impl Strategy<Value = String> {
        let level = || prop::sample::select(vec!["", "a", "b", "ab", "$x", "+", "+"]);
        let levels = prop_oneof![9 => prop::collection::vec(level(), 1..6), 1 => prop::collection::vec(level(), 1..40)];
        (levels, 0..4).prop_map(|(levels, end)| {
            let text = levels.join("/");
            match (end, text.is_empty()) {
                (0, _) => text + "/#",
                (1, true) => "#".into(),
                (_, true) => "a".into(),
                _ => text,
            }
        })
    }

    fn topic() -> impl Strategy<Value = String> {
        let level = prop::sample::select(vec!["", "a", "b", "ab", "$x", "c"]);
        prop::collection::vec(level, 1..7)
            .prop_map(|levels| levels.join("/"))
            .prop_filter("empty", |text| !text.is_empty())
    }

    proptest! {
        #[test]
        fn a_table_finds_what_the_plain_rule_finds(
            steps in prop::collection::vec((0_u8..3, filter(), 0_u32..4, any::<prop::sample::Index>()), 1..80),
            topics in prop::collection::vec(topic(), 1..12),
        ) {
            let mut table = table();
            let mut model: BTreeMap<(String, u32), Subscription> = BTreeMap::new();
            let mut known: Vec<KnownFilters> = topics.iter().map(|_| KnownFilters::default()).collect();
            for (serial, (kind, filter, session, pick)) in steps.into_iter().enumerate() {
                if kind == 0 && !model.is_empty() {
                    let (filter, session) = model.keys().nth(pick.index(model.len())).cloned().unwrap_or_default();
                    let removed = table.remove(&filter, &session);
                    let value = model.remove(&(filter.clone(), session));
                    let filter_is_gone = !model.keys().any(|(other, _)| *other == filter);
                    prop_assert_eq!(removed, value.map(|value| Removed { value, filter_is_gone }));
                    prop_assert_eq!(table.remove(&filter, &session), None);
                    prop_assert_eq!(table.index_of(&filter).is_none(), filter_is_gone);
                } else {
                    let value = Subscription { session, serial: serial as u32 };
                    let filter_is_new = !model.keys().any(|(other, _)| *other == filter);
                    let inserted = table.insert(&filter, value);
                    let replaced = model.insert((filter.clone(), session), value);
                    prop_assert_eq!((inserted.filter_is_new, inserted.replaced), (filter_is_new, replaced));
                    prop_assert_eq!(table.index_of(&filter), Some(inserted.filter));
                    prop_assert_eq!(table.find(&filter, &session), Some(&value));
                }
                table.check_invariants();
                prop_assert_eq!(table.subscribers(), model.len());
                for (topic, known) in topics.iter().zip(&mut known) {
                    prop_assert_eq!(matching_again(&table, topic, known), matching(&table, topic), "{}", topic);
                }
            }
            for (filter, _) in model.keys() {
                let mut text = String::new();
                let index = table.index_of(filter);
                prop_assert!(index.is_some_and(|index| table.write_filter(index, &mut text)));
                prop_assert_eq!(&text, filter);
                prop_assert_eq!(index.and_then(|index| table.filter_hash(index)), Some(table.key.filter(filter)));
            }
            for topic in &topics {
                let matches = model.iter().filter(|((filter, _), _)| filter_matches(filter, topic));
                let mut expected: Vec<Subscription> = matches.map(|(_, value)| *value).collect();
                expected.sort();
                prop_assert_eq!(matching(&table, topic), expected, "{}", topic);
            }
        }
    }

    #[test]
    fn filters_keep_their_numbers_while_others_come_and_go() {
        let mut table = table();
        let deep = table.insert("a/b/c/+", sub(1)).filter;
        table.insert("a/b/+", sub(2));
        table.insert("a/+", sub(3));
        assert_eq!(table.index_of("a/b/c/+"), Some(deep));
        assert!(table.remove("a/b/+", &2).is_some_and(|removed| removed.filter_is_gone));
        assert!(table.remove("a/+", &3).is_some_and(|removed| removed.filter_is_gone));
        assert_eq!(table.index_of("a/b/c/+"), Some(deep));
        assert!(table.remove_at(deep, &9).is_none());
        assert!(table.remove_at(deep, &1).is_some_and(|removed| removed.filter_is_gone));
        assert!(table.remove_at(deep, &1).is_none());
        assert!(!table.write_filter(deep, &mut String::new()));
        assert!(table.is_empty());
    }

    #[test]
    fn filters_of_all_the_levels_that_fit_are_matched_without_recursion() {
        let mut table = table();
        let separators = "/".repeat(65_533);
        let filters =
            [format!("{separators}+"), format!("{separators}#"), format!("+{separators}"), separators.clone()];
        for (session, filter) in filters.iter().enumerate() {
            table.insert(filter, sub(session as u32));
        }
        // Each level as itself and as `+`, a hundred levels of them.
        for levels in 1..100 {
            table.insert(&format!("{}#", "/".repeat(levels)), sub(1000 + levels as u32));
            table.insert(&format!("{}+", "+/".repeat(levels)), sub(2000 + levels as u32));
        }
        table.check_invariants();
        assert_eq!(matching(&table, &separators).len(), 4 + 99);
        for filter in &filters {
            assert!(table.find(filter, &0).is_some() || table.index_of(filter).is_some());
        }
        for (session, filter) in filters.iter().enumerate() {
            assert!(table.remove(filter, &(session as u32)).is_some());
        }
        table.check_invariants();
    }

    #[test]
    fn thousands_of_subscribers_and_of_children_come_and_go() {
        let mut table = table();
        for session in 0..20_000 {
            table.insert("all/+", sub(session));
            table.insert(&format!("dev/{session}/+"), sub(session));
            table.insert(&format!("dev/{session}/state"), sub(session));
        }
        assert_eq!((table.filters(), table.subscribers()), (40_001, 60_000));
        assert_eq!(matching(&table, "all/x").len(), 20_000);
        assert_eq!(matching(&table, "dev/777/state"), [sub(777), sub(777)]);
        for session in (0..20_000).rev() {
            assert!(table.remove("all/+", &session).is_some());
            assert!(table.remove(&format!("dev/{session}/+"), &session).is_some());
            assert!(table.remove(&format!("dev/{session}/state"), &session).is_some());
        }
        assert_eq!((table.filters(), table.subscribers()), (0, 0));
        table.check_invariants();
    }
}
