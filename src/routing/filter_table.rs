//! A shard's subscriptions: which subscribers does a topic have.
//!
//! Owns the filters of one shard and the subscribers of each. Always holds: a filter stands in here exactly as long as it
//! has a subscriber; filters are equal when their bytes are // [v3 MQTT-4.7.3-4] [v5 MQTT-4.7.3-4]
//! Must never do: recurse, or take time in proportion to all filters for one topic.

use smallvec::SmallVec;

use super::{hash::HashKey, subscribers::Subscriber};

/// A shard's filters and their subscribers.
#[derive(Debug)]
pub struct FilterTable<S: Subscriber> {
    key: HashKey,
    _stub: Vec<S>,
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
    /// An empty table.
    #[must_use]
    pub fn new(key: HashKey) -> Self {
        Self { key, _stub: Vec::new() }
    }

    /// Adds a subscription to `filter`, a valid TopicFilter without its `$share/NAME/`, or replaces the one with its key.
    pub fn insert(&mut self, _filter: &str, _subscriber: S) -> Inserted<S> {
        todo!()
    }

    /// Takes the subscription with `subscriber` as its key away from `filter`.
    pub fn remove(&mut self, _filter: &str, _subscriber: &S::Key) -> Option<Removed<S>> {
        todo!()
    }

    /// As [`remove`](Self::remove), for who has kept the filter's number.
    pub fn remove_at(&mut self, _filter: FilterIndex, _subscriber: &S::Key) -> Option<Removed<S>> {
        todo!()
    }

    /// The subscription of `subscriber` to `filter`.
    #[must_use]
    pub fn find(&self, _filter: &str, _subscriber: &S::Key) -> Option<&S> {
        todo!()
    }

    /// The number of a filter that has subscribers.
    #[must_use]
    pub fn index_of(&self, _filter: &str) -> Option<FilterIndex> {
        todo!()
    }

    /// Appends the text of a filter to `text`; false when there is no such filter.
    pub fn write_filter(&self, _filter: FilterIndex, _text: &mut String) -> bool {
        todo!()
    }

    /// Appends to `found` the subscribers of each filter that matches `topic`, whose whole hash is `topic_hash`.
    pub fn matches<'a>(&'a self, _topic: &str, _topic_hash: u64, _found: &mut Matches<'a, S>) {
        todo!()
    }

    /// Whether there is no filter.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.filters() == 0
    }

    /// How many filters there are.
    #[must_use]
    pub fn filters(&self) -> usize {
        todo!()
    }

    /// How many subscriptions there are.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        todo!()
    }

    /// About how many bytes the table has allocated.
    #[must_use]
    pub fn bytes(&self) -> usize {
        todo!()
    }
}
