//! Where the topic of the last publication leads: the next one often has the same, because clients publish in bursts.
//!
//! Owns: that topic, its hashes, which filters match it, and which shards want it. Always holds: what is known of a table's
//! filters counts only as long as no filter has come or gone there; which shards want it, only for what came in one piece,
//! because another shard may have a new filter by the next. Must never do: take a hash for a topic; topics are compared
//! byte for byte.

use smallvec::SmallVec;

use super::{
    filter_table::FilterIndex,
    hash::{HashKey, Prefixes, TopicHash},
};

/// The topic of the last publication.
#[derive(Debug, Default)]
pub struct LastTopic {
    topic: String,
    depth_mask: u64,
    hash: Option<TopicHash>,
    prefixes: Prefixes,
    /// The publication before it had it too. Before that nothing is kept of its filters: where topics take turns that would
    /// be for nothing.
    repeats: bool,
    filters: KnownFilters,
    share_filters: KnownFilters,
    reach: Option<Reach>,
}

/// Which shards a topic concerns: bits as [`InterestTable::bit`](super::InterestTable::bit) gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Those that may have a subscriber.
    pub interested: u64,
    /// Those that may be the home of a share group that wants it.
    pub shared: u64,
}

/// Which filters of a table match a topic.
#[derive(Debug, Default)]
pub struct KnownFilters {
    /// The table's version when they were found, which is never 0.
    pub(super) version: u64,
    pub(super) filters: SmallVec<[FilterIndex; 4]>,
}

impl LastTopic {
    /// From now on `topic` is the last one. Returns its hash; [`prefixes`](Self::prefixes) has those of its prefixes, as
    /// [`HashKey::topic_with_prefixes`] gives them.
    #[inline]
    pub fn note(&mut self, key: &HashKey, topic: &str, depth_mask: u64) -> TopicHash {
        match self.hash {
            Some(hash) if self.depth_mask == depth_mask && self.topic == topic => {
                self.repeats = true;
                hash
            }
            _ => self.learn(key, topic, depth_mask),
        }
    }

    /// As [`note`](Self::note), of a topic whose whole hash is known, where nobody asks for its prefixes.
    #[inline]
    pub fn note_hashed(&mut self, topic: &str, whole: u64) {
        if self.hash.is_some() && self.topic == topic {
            self.repeats = true;
        } else {
            self.replace(topic);
            self.hash = Some(TopicHash { whole, levels: 0 });
        }
    }

    /// As [`note`](Self::note), when the topic is the last one and it is known whom it concerns.
    #[inline]
    pub fn note_again(&mut self, topic: &str) -> Option<(TopicHash, Reach)> {
        let known = self.hash.zip(self.reach).filter(|_| self.topic == topic);
        self.repeats |= known.is_some();
        known
    }

    /// The topic concerns these shards, as far as was just found.
    #[inline]
    pub fn set_reach(&mut self, reach: Reach) {
        self.reach = Some(reach);
    }

    /// Something else came in: the next publication asks again whom it concerns.
    #[inline]
    pub fn forget_reach(&mut self) {
        self.reach = None;
    }

    /// Which of the shard's filters match it, once it is worth knowing.
    #[inline]
    pub fn filters(&mut self) -> Option<&mut KnownFilters> {
        self.repeats.then_some(&mut self.filters)
    }

    /// Which filters of share groups match it, once it is worth knowing.
    #[inline]
    pub fn share_filters(&mut self) -> Option<&mut KnownFilters> {
        self.repeats.then_some(&mut self.share_filters)
    }

    /// Whether it is this one.
    #[must_use]
    pub fn is(&self, topic: &str) -> bool {
        self.topic == topic
    }

    /// The hashes of its prefixes.
    #[must_use]
    pub fn prefixes(&self) -> &Prefixes {
        &self.prefixes
    }

    #[inline(never)]
    fn learn(&mut self, key: &HashKey, topic: &str, depth_mask: u64) -> TopicHash {
        self.replace(topic);
        self.depth_mask = depth_mask;
        *self.hash.insert(key.topic_with_prefixes(topic, depth_mask, &mut self.prefixes))
    }

    fn replace(&mut self, topic: &str) {
        self.topic.clear();
        self.topic.push_str(topic);
        self.reach = None;
        if std::mem::take(&mut self.repeats) {
            self.filters.forget();
            self.share_filters.forget();
        }
    }
}

impl KnownFilters {
    fn forget(&mut self) {
        self.version = 0;
        if self.filters.spilled() {
            self.filters = SmallVec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_has_the_hashes_that_it_has_alone_and_is_known_from_its_repetition_on() {
        let key = HashKey::from_seed(42);
        let mut last = LastTopic::default();
        for (topic, depth_mask, repeats) in [
            ("a/b", 7, false),
            ("a/b", 7, true),
            ("a/b", 5, false),
            ("a/c", 5, false),
            ("a/b", 5, false),
            ("a/b", 5, true),
        ] {
            let mut prefixes = Prefixes::new();
            let hash = key.topic_with_prefixes(topic, depth_mask, &mut prefixes);
            assert_eq!(last.note(&key, topic, depth_mask), hash);
            assert_eq!(*last.prefixes(), prefixes);
            assert!(last.is(topic) && !last.is("a"));
            assert_eq!((last.filters().is_some(), last.share_filters().is_some()), (repeats, repeats));
            if let Some(known) = last.filters() {
                assert_eq!(known.version, 0, "nothing is left of another topic");
                known.version = 1;
            }
        }
    }

    #[test]
    fn whom_a_topic_concerns_is_known_until_something_else_comes_in() {
        let key = HashKey::from_seed(42);
        let reach = Reach { interested: 5, shared: 2 };
        let mut last = LastTopic::default();
        assert_eq!(last.note_again("a/b"), None);
        let hash = last.note(&key, "a/b", 7);
        assert_eq!(last.note_again("a/b"), None);
        last.set_reach(reach);
        assert_eq!(last.note_again("a/c"), None);
        assert!(last.filters().is_none(), "another topic is no repetition");
        assert_eq!(last.note_again("a/b"), Some((hash, reach)));
        assert!(last.filters().is_some());
        last.forget_reach();
        assert_eq!(last.note_again("a/b"), None);
        last.set_reach(reach);
        last.note(&key, "a/c", 7);
        assert_eq!(last.note_again("a/c"), None);
    }

    #[test]
    fn a_topic_whose_hash_is_known_repeats_as_well() {
        let mut last = LastTopic::default();
        for (topic, repeats) in [("a/b", false), ("a/b", true), ("a/c", false), ("a/c", true), ("a/b", false)] {
            last.note_hashed(topic, 1);
            assert!(last.is(topic));
            assert_eq!(last.filters().is_some(), repeats);
        }
    }
}
