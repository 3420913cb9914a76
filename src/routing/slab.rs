//! A slab that grows by chunks: values keep their place, and growth never copies them.

use std::ops::{Index, IndexMut};

/// Values by index, in chunks of [`CHUNK`].
///
/// Insert, remove and look-up take constant time; none of them moves a value or allocates more than one chunk. The
/// indices of removed values are used again, the last freed first. Chunks are kept until the slab is dropped.
#[derive(Debug)]
pub struct ChunkedSlab<T> {
    chunks: Vec<Vec<Slot<T>>>,
    vacant: u32,
    len: u32,
}

#[derive(Debug)]
enum Slot<T> {
    Vacant(u32),
    Occupied(T),
}

impl<T> ChunkedSlab<T> {
    /// An empty slab, which has allocated nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { chunks: Vec::new(), vacant: NONE, len: 0 }
    }

    /// Stores `value` and returns its index, which is never `u32::MAX`.
    ///
    /// # Panics
    /// When 2³² - 1 values are in: callers have limits that lie far below.
    pub fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        let index = self.vacant;
        if let Some(slot) = self.slot_mut(index) {
            if let Slot::Vacant(next) = *slot {
                *slot = Slot::Occupied(value);
                self.vacant = next;
            } else {
                debug_assert!(false, "the list of vacant slots leads to vacant slots");
            }
            return index;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunks = self.chunks.len() - 1;
        let chunk = &mut self.chunks[chunks];
        chunk.push(Slot::Occupied(value));
        let index = u32::try_from(chunks * CHUNK + chunk.len() - 1).unwrap_or(NONE);
        assert!(index != NONE, "a slab holds less than 2^32 - 1 values");
        index
    }

    /// The index that the next [`insert`](Self::insert) will return.
    #[must_use]
    pub fn next_index(&self) -> u32 {
        if self.vacant != NONE {
            return self.vacant;
        }
        self.chunks.last().map_or(0, |last| ((self.chunks.len() - 1) * CHUNK + last.len()) as u32)
    }

    /// Takes the value at `index` out.
    pub fn remove(&mut self, index: u32) -> Option<T> {
        let vacant = self.vacant;
        let slot = self.slot_mut(index)?;
        if matches!(slot, Slot::Vacant(_)) {
            return None;
        }
        let Slot::Occupied(value) = std::mem::replace(slot, Slot::Vacant(vacant)) else { return None };
        self.vacant = index;
        self.len -= 1;
        Some(value)
    }

    /// The value at `index`.
    #[inline]
    #[must_use]
    pub fn at(&self, index: u32) -> Option<&T> {
        match self.chunks.get(index as usize / CHUNK)?.get(index as usize % CHUNK)? {
            Slot::Occupied(value) => Some(value),
            Slot::Vacant(_) => None,
        }
    }

    /// The value at `index`, to be changed.
    #[inline]
    #[must_use]
    pub fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        match self.slot_mut(index)? {
            Slot::Occupied(value) => Some(value),
            Slot::Vacant(_) => None,
        }
    }

    /// How many values are in.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether no value is in.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All values with their indices, in order of index.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.iter_from(0)
    }

    /// The values from `index` on with their indices, in order: for work in slices, with the index as its cursor.
    pub fn iter_from(&self, index: u32) -> impl Iterator<Item = (u32, &T)> {
        let first = index as usize / CHUNK;
        let skip = index as usize % CHUNK;
        let slots = self.chunks.iter().enumerate().skip(first).flat_map(move |(chunk, slots)| {
            slots
                .iter()
                .enumerate()
                .skip(if chunk == first { skip } else { 0 })
                .map(move |(at, slot)| (chunk, at, slot))
        });
        slots.filter_map(|(chunk, at, slot)| match slot {
            Slot::Occupied(value) => Some(((chunk * CHUNK + at) as u32, value)),
            Slot::Vacant(_) => None,
        })
    }

    /// The bytes that the slab has allocated, without what its values own.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<Slot<T>>() + self.chunks.capacity() * size_of::<Vec<Slot<T>>>()
    }

    #[inline]
    fn slot_mut(&mut self, index: u32) -> Option<&mut Slot<T>> {
        self.chunks.get_mut(index as usize / CHUNK)?.get_mut(index as usize % CHUNK)
    }
}

impl<T> Default for ChunkedSlab<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Index<u32> for ChunkedSlab<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: u32) -> &T {
        self.at(index).expect("the index of a value that is in the slab")
    }
}

impl<T> IndexMut<u32> for ChunkedSlab<T> {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut T {
        self.at_mut(index).expect("the index of a value that is in the slab")
    }
}

/// Values in a chunk.
pub const CHUNK: usize = 1024;

/// No index: the end of the list of vacant slots.
const NONE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_slab_is_a_map_from_the_indices_that_it_gave(steps in prop::collection::vec((0_u8..3, 0_usize..64), 0..300)) {
            let mut slab = ChunkedSlab::new();
            let mut model = BTreeMap::new();
            for (at, (kind, pick)) in steps.into_iter().enumerate() {
                if kind < 2 {
                    let expected = slab.next_index();
                    let index = slab.insert(at);
                    prop_assert_eq!(index, expected);
                    prop_assert_eq!(model.insert(index, at), None);
                } else if let Some(index) = model.keys().nth(pick).copied() {
                    prop_assert_eq!(slab.remove(index), model.remove(&index));
                    prop_assert_eq!(slab.remove(index), None);
                }
                prop_assert_eq!(slab.len(), model.len());
            }
            let all: Vec<(u32, usize)> = slab.iter().map(|(index, value)| (index, *value)).collect();
            prop_assert_eq!(all, model.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn growth_moves_nothing_and_indices_are_used_again() {
        let mut slab = ChunkedSlab::new();
        let first = slab.insert(0_usize);
        let place: *const usize = &raw const slab[first];
        for value in 1..CHUNK * 3 + 5 {
            assert_eq!(slab.insert(value) as usize, value);
        }
        assert!(std::ptr::eq(place, &raw const slab[first]));
        assert_eq!(slab.remove(7), Some(7));
        assert_eq!(slab.remove(2000), Some(2000));
        assert_eq!(slab.insert(1), 2000);
        assert_eq!(slab.insert(1), 7);
        slab[7] += 1;
        assert_eq!(slab.at(7), Some(&2));
        assert_eq!(slab.at(u32::MAX), None);
        assert_eq!(slab.iter_from(2047).take(2).map(|(index, _)| index).collect::<Vec<_>>(), [2047, 2048]);
        assert!(slab.bytes() >= 4 * CHUNK * 16);
    }
}
