//! The subscribers of one filter: one inline, thousands in contiguous chunks.

use std::hash::Hash;

use ahash::RandomState;

use super::{filter_table::Matches, split_table::SplitTable};

/// What stands for a subscription in a filter's list.
pub trait Subscriber: Copy {
    /// What tells the subscriptions to one filter apart.
    type Key: Copy + Eq + Hash;

    /// The key of this subscription.
    fn key(&self) -> Self::Key;
}

/// A list of subscribers with different keys.
///
/// None and one take no allocation. Above [`INDEX_MIN`] an index makes adding and removing take constant time. They lie
/// in chunks of [`CHUNK_MAX`], so that no growth copies more than that.
#[derive(Debug)]
pub enum Subscribers<S> {
    /// Nobody.
    None,
    /// One, stored in place.
    One(S),
    /// Two or more (or fewer, for a while after removals).
    Many(Box<Many<S>>),
}

/// More than one subscriber.
#[derive(Debug)]
pub struct Many<S> {
    /// Full chunks and at most one that is not, which is the last and is not empty.
    chunks: Vec<Vec<S>>,
    len: usize,
    /// Positions by key.
    index: Option<Box<SplitTable<u32>>>,
}

impl<S: Subscriber> Subscribers<S> {
    /// Adds `subscriber`, or replaces the one with its key, which keeps its place, and returns it.
    pub fn insert(&mut self, hasher: &RandomState, subscriber: S) -> Option<S> {
        match self {
            Self::None => *self = Self::One(subscriber),
            // The same key on the same filter replaces. [v3 MQTT-3.8.4-3] [v5 MQTT-3.8.4-3]
            Self::One(one) if one.key() == subscriber.key() => return Some(std::mem::replace(one, subscriber)),
            Self::One(one) => *self = Self::Many(Box::new(Many::pair(*one, subscriber))),
            Self::Many(many) => return many.insert(hasher, subscriber),
        }
        None
    }

    /// Takes out the subscriber with `key`; the last one takes its place.
    pub fn remove(&mut self, hasher: &RandomState, key: &S::Key) -> Option<S> {
        match self {
            Self::One(one) if one.key() == *key => {
                let one = *one;
                *self = Self::None;
                Some(one)
            }
            Self::None | Self::One(_) => None,
            Self::Many(many) => {
                let removed = many.remove(hasher, key)?;
                if many.len == 1 {
                    *self = many.at(0).map_or(Self::None, |last| Self::One(*last));
                }
                Some(removed)
            }
        }
    }

    /// The subscriber with `key`.
    #[must_use]
    pub fn find(&self, hasher: &RandomState, key: &S::Key) -> Option<&S> {
        match self {
            Self::One(one) if one.key() == *key => Some(one),
            Self::None | Self::One(_) => None,
            Self::Many(many) => many.at(many.position(hasher, key)?),
        }
    }

    /// The subscriber at a position below [`len`](Self::len).
    #[must_use]
    pub fn at(&self, position: usize) -> Option<&S> {
        match self {
            Self::None => None,
            Self::One(one) => (position == 0).then_some(one),
            Self::Many(many) => many.at(position),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::Many(many) => many.len,
        }
    }

    /// Whether there is nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Appends all of them to `found`, as slices that are not empty: one, and one more for each further [`CHUNK_MAX`].
    // As `SplitTable::find`: both are on the way of each message.
    #[inline(always)]
    pub fn append_to<'a>(&'a self, found: &mut Matches<'a, S>) {
        match self {
            Self::None => {}
            Self::One(one) => found.push(std::slice::from_ref(one)),
            Self::Many(many) => many.chunks.iter().for_each(|chunk| found.push(chunk)),
        }
    }

    /// The bytes allocated for them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let Self::Many(many) = self else { return 0 };
        let chunks: usize = many.chunks.iter().map(|chunk| chunk.capacity() * size_of::<S>()).sum();
        let index = many.index.as_ref().map_or(0, |index| size_of::<SplitTable<u32>>() + index.bytes());
        size_of::<Many<S>>() + many.chunks.capacity() * size_of::<Vec<S>>() + chunks + index
    }
}

impl<S: Subscriber> Many<S> {
    fn pair(one: S, other: S) -> Self {
        Self { chunks: vec![vec![one, other]], len: 2, index: None }
    }

    fn at(&self, position: usize) -> Option<&S> {
        self.chunks.get(position / CHUNK_MAX)?.get(position % CHUNK_MAX)
    }

    fn position(&self, hasher: &RandomState, key: &S::Key) -> Option<usize> {
        match &self.index {
            Some(index) => {
                let is_equal = |at: &u32| self.at(*at as usize).is_some_and(|found| found.key() == *key);
                index.find(hasher.hash_one(key), is_equal).map(|at| *at as usize)
            }
            None => self.chunks.iter().flatten().position(|found| found.key() == *key),
        }
    }

    fn insert(&mut self, hasher: &RandomState, subscriber: S) -> Option<S> {
        let key = subscriber.key();
        if let Some(position) = self.position(hasher, &key) {
            let place = self.chunks.get_mut(position / CHUNK_MAX)?.get_mut(position % CHUNK_MAX)?;
            return Some(std::mem::replace(place, subscriber));
        }
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK_MAX => last.push(subscriber),
            _ => {
                // The first chunk grows by doubling; who has filled it will fill more.
                let mut chunk = Vec::with_capacity(CHUNK_MAX);
                chunk.push(subscriber);
                self.chunks.push(chunk);
            }
        }
        if let Some(index) = &mut self.index {
            index.insert_unique(hasher.hash_one(key), self.len as u32);
        }
        self.len += 1;
        if self.index.is_none() && self.len > INDEX_MIN {
            self.build_index(hasher);
        }
        None
    }

    fn remove(&mut self, hasher: &RandomState, key: &S::Key) -> Option<S> {
        let position = self.position(hasher, key)?;
        let last_chunk = self.chunks.last_mut()?;
        let last = last_chunk.pop()?;
        let tail = self.len - 1;
        if last_chunk.is_empty() {
            self.chunks.pop();
        } else if last_chunk.len() * 4 < last_chunk.capacity() {
            last_chunk.shrink_to(last_chunk.len() * 2);
        }
        self.len = tail;
        if let Some(index) = &mut self.index {
            index.remove(hasher.hash_one(key), |at| *at as usize == position);
            if position != tail
                && let Some(at) = index.find_mut(hasher.hash_one(last.key()), |at| *at as usize == tail)
            {
                *at = position as u32;
            }
            // A margin below the threshold, so that a list around it does not build and drop its index each time.
            if self.len < INDEX_MIN / 2 {
                self.index = None;
            }
        }
        if position == tail {
            return Some(last);
        }
        let place = self.chunks.get_mut(position / CHUNK_MAX)?.get_mut(position % CHUNK_MAX)?;
        Some(std::mem::replace(place, last))
    }

    fn build_index(&mut self, hasher: &RandomState) {
        let mut index = Box::new(SplitTable::new());
        for (position, subscriber) in self.chunks.iter().flatten().enumerate() {
            index.insert_unique(hasher.hash_one(subscriber.key()), position as u32);
        }
        self.index = Some(index);
    }
}

/// Up to this many subscribers a search through the list is as fast as an index.
pub const INDEX_MIN: usize = 64;

/// Subscribers in a chunk: a publish to thousands walks a few of them.
pub const CHUNK_MAX: usize = 8192;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Pair(u32, u32);

    impl Subscriber for Pair {
        type Key = u32;

        fn key(&self) -> u32 {
            self.0
        }
    }

    fn hasher() -> RandomState {
        RandomState::with_seeds(1, 2, 3, 4)
    }

    fn slices(subscribers: &Subscribers<Pair>) -> Matches<'_, Pair> {
        let mut found = Matches::new();
        subscribers.append_to(&mut found);
        found
    }

    fn all(subscribers: &Subscribers<Pair>) -> HashMap<u32, u32> {
        let slices = slices(subscribers);
        assert!(slices.iter().all(|slice| !slice.is_empty()));
        let pairs: Vec<Pair> = slices.iter().copied().flatten().copied().collect();
        assert_eq!(pairs.len(), subscribers.len());
        assert!(pairs.iter().enumerate().all(|(at, pair)| subscribers.at(at) == Some(pair)));
        assert_eq!(subscribers.at(pairs.len()), None);
        pairs.into_iter().map(|pair| (pair.0, pair.1)).collect()
    }

    proptest! {
        #[test]
        fn a_list_is_a_map_by_key(steps in prop::collection::vec((0_u8..5, 0_u32..150), 0..600)) {
            let hasher = hasher();
            let mut subscribers: Subscribers<Pair> = Subscribers::None;
            let mut model = HashMap::new();
            for (step, (kind, key)) in steps.into_iter().enumerate() {
                prop_assert_eq!(subscribers.find(&hasher, &key).map(|pair| pair.1), model.get(&key).copied());
                if kind < 3 {
                    let replaced = subscribers.insert(&hasher, Pair(key, step as u32));
                    prop_assert_eq!(replaced.map(|pair| pair.1), model.insert(key, step as u32));
                } else {
                    prop_assert_eq!(subscribers.remove(&hasher, &key).map(|pair| pair.1), model.remove(&key));
                }
                prop_assert_eq!(subscribers.is_empty(), model.is_empty());
            }
            prop_assert_eq!(all(&subscribers), model);
        }
    }

    #[test]
    fn tens_of_thousands_come_in_slices_and_go_in_any_order() {
        let hasher = hasher();
        let mut subscribers: Subscribers<Pair> = Subscribers::None;
        let count = CHUNK_MAX as u32 * 3 + 17;
        for key in 0..count {
            assert_eq!(subscribers.insert(&hasher, Pair(key, 0)), None);
        }
        assert_eq!(slices(&subscribers).len(), 4);
        for key in (0..count).map(|key| key.wrapping_mul(7919) % count).chain(0..count) {
            subscribers.remove(&hasher, &key);
            if key % 4096 == 0 {
                assert_eq!(all(&subscribers).len(), subscribers.len());
            }
        }
        assert!(subscribers.is_empty());
        assert_eq!(subscribers.bytes(), 0);
    }

    #[test]
    fn one_subscriber_takes_no_allocation_and_little_room() {
        assert_eq!(Subscribers::One(Pair(1, 2)).bytes(), 0);
        assert!(size_of::<Subscribers<[u32; 3]>>() <= 16);
    }
}
