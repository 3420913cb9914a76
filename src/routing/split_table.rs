//! A hash table without long stalls: above 28,672 entries it splits in two by a bit of the hash.
//!
//! A table that doubles at a million entries stops its core for tens of milliseconds. This one is a directory of small
//! tables (extendible hashing): each grows by itself, and a full one splits into two. The longest step moves 28,672
//! entries of a few bytes, for which no hash is computed again because each entry keeps 32 bits of its own.

use hashbrown::HashTable;

/// Values by hash, where the caller knows how to tell equal ones. Takes 5 bytes a value beside the value itself, and
/// stands half empty on average after a split.
#[derive(Debug)]
pub struct SplitTable<T> {
    /// Which part the upper `depth` bits of an entry's 32 lead to.
    directory: Vec<u32>,
    parts: Vec<Part<T>>,
    depth: u32,
    len: usize,
}

#[derive(Debug)]
struct Part<T> {
    table: HashTable<Entry<T>>,
    depth: u32,
}

#[derive(Debug)]
struct Entry<T> {
    hash: u32,
    value: T,
}

impl<T> SplitTable<T> {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self { directory: vec![0], parts: vec![Part { table: HashTable::new(), depth: 0 }], depth: 0, len: 0 }
    }

    /// The value with this hash for which `is_equal` holds.
    // Left to the compiler it was inlined or not as other code changed: 93 instructions a message with `append_to`.
    #[inline(always)]
    pub fn find(&self, hash: u64, mut is_equal: impl FnMut(&T) -> bool) -> Option<&T> {
        let hash = hash as u32;
        let part = &self.parts[self.part_of(hash)];
        part.table.find(spread(hash), |entry| entry.hash == hash && is_equal(&entry.value)).map(|entry| &entry.value)
    }

    /// The value with this hash for which `is_equal` holds, to be changed into one that is equal.
    #[inline]
    pub fn find_mut(&mut self, hash: u64, mut is_equal: impl FnMut(&T) -> bool) -> Option<&mut T> {
        let hash = hash as u32;
        let part = self.part_of(hash);
        let found = self.parts[part].table.find_mut(spread(hash), |entry| entry.hash == hash && is_equal(&entry.value));
        found.map(|entry| &mut entry.value)
    }

    /// Adds a value that no value in the table is equal to.
    pub fn insert_unique(&mut self, hash: u64, value: T) {
        let hash = hash as u32;
        let mut part = self.part_of(hash);
        // Entries that agree in all bits of their hash cannot be parted; such a table grows on.
        while self.parts[part].table.len() >= PART_MAX && self.parts[part].depth < DEPTH_LIMIT {
            self.split(part);
            part = self.part_of(hash);
        }
        self.parts[part].table.insert_unique(spread(hash), Entry { hash, value }, |entry| spread(entry.hash));
        self.len += 1;
    }

    /// Takes out the value with this hash for which `is_equal` holds.
    pub fn remove(&mut self, hash: u64, mut is_equal: impl FnMut(&T) -> bool) -> Option<T> {
        let hash = hash as u32;
        let part = self.part_of(hash);
        let table = &mut self.parts[part].table;
        let found = table.find_entry(spread(hash), |entry| entry.hash == hash && is_equal(&entry.value)).ok()?;
        let (entry, _) = found.remove();
        if table.len() * 8 < table.capacity() {
            table.shrink_to(table.len() * 2, |entry| spread(entry.hash));
        }
        self.len -= 1;
        Some(entry.value)
    }

    /// How many values are in.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether no value is in.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All values, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.parts.iter().flat_map(|part| part.table.iter().map(|entry| &entry.value))
    }

    /// The bytes that the table has allocated, without what its values own.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let tables: usize = self.parts.iter().map(|part| part.table.allocation_size()).sum();
        tables + self.parts.capacity() * size_of::<Part<T>>() + self.directory.capacity() * size_of::<u32>()
    }

    #[inline]
    fn part_of(&self, hash: u32) -> usize {
        self.directory[upper_bits(hash, self.depth)] as usize
    }

    /// Parts the table `part` by the first bit of the hash that it does not use yet.
    fn split(&mut self, part: usize) {
        if self.parts[part].depth == self.depth {
            self.directory = self.directory.iter().flat_map(|part| [*part, *part]).collect();
            self.depth += 1;
        }
        let depth = self.parts[part].depth + 1;
        let full = std::mem::take(&mut self.parts[part].table);
        let mut zeros = HashTable::with_capacity(full.len() / 2);
        let mut ones = HashTable::with_capacity(full.len() / 2);
        for entry in full {
            let half = if upper_bits(entry.hash, depth) & 1 == 0 { &mut zeros } else { &mut ones };
            half.insert_unique(spread(entry.hash), entry, |entry| spread(entry.hash));
        }
        let new_part = self.parts.len() as u32;
        for (upper, place) in self.directory.iter_mut().enumerate() {
            if *place == part as u32 && upper >> (self.depth - depth) & 1 == 1 {
                *place = new_part;
            }
        }
        self.parts[part] = Part { table: zeros, depth };
        self.parts.push(Part { table: ones, depth });
    }
}

impl<T> Default for SplitTable<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[inline]
const fn upper_bits(hash: u32, bits: u32) -> usize {
    (hash as u64 >> (32 - bits)) as usize
}

/// 64 bits for hashbrown out of the 32 that we keep: its tag comes from the upper end, its bucket from the lower.
#[inline]
const fn spread(hash: u32) -> u64 {
    let wide = (hash as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    wide ^ wide >> 32
}

/// Entries in a part before it splits: what a table of 32,768 buckets takes.
const PART_MAX: usize = 28_672;

/// Bits that parts may be told apart by: 16 bits give 65,536 parts and a directory of 256 KiB at most.
const DEPTH_LIMIT: u32 = 16;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const fn hash_of(number: u64) -> u64 {
        let mixed = (number ^ number >> 7).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ mixed >> 32
    }

    proptest! {
        #[test]
        fn a_table_is_a_map(steps in prop::collection::vec((0_u8..3, 0_u64..40), 0..300), bits in 0_u32..8) {
            let mut table = SplitTable::new();
            let mut model = HashMap::new();
            // Few bits of hash: most entries have others' hashes.
            let hash = |key: u64| hash_of(key) & ((1 << bits) - 1);
            for (step, (kind, key)) in steps.into_iter().enumerate() {
                let present = table.find(hash(key), |(other, _)| *other == key).map(|(_, step)| *step);
                prop_assert_eq!(present, model.get(&key).copied());
                if kind == 0 {
                    let removed = table.remove(hash(key), |(other, _)| *other == key).map(|(_, step)| step);
                    prop_assert_eq!(removed, model.remove(&key));
                } else if let Some((_, value)) = table.find_mut(hash(key), |(other, _)| *other == key) {
                    *value = step;
                    model.insert(key, step);
                } else {
                    table.insert_unique(hash(key), (key, step));
                    model.insert(key, step);
                }
                prop_assert_eq!(table.len(), model.len());
            }
            prop_assert_eq!(table.iter().copied().collect::<HashMap<_, _>>(), model);
        }
    }

    #[test]
    fn parts_stay_small_and_shrink_again() {
        let mut table = SplitTable::new();
        for number in 0..300_000_u64 {
            table.insert_unique(hash_of(number), number as u32);
        }
        assert!(table.parts.len() >= 11, "{} parts", table.parts.len());
        assert!(table.parts.iter().all(|part| part.table.len() <= PART_MAX && part.table.capacity() <= PART_MAX));
        assert_eq!(table.directory.len(), 1 << table.depth);
        assert_eq!(table.iter().count(), 300_000);
        let bytes = table.bytes();
        assert!(bytes < 300_000 * 22, "{bytes}");
        for number in 0..300_000_u64 {
            assert_eq!(table.find(hash_of(number), |value| u64::from(*value) == number), Some(&(number as u32)));
        }
        for number in 0..299_990_u64 {
            assert_eq!(table.remove(hash_of(number), |value| u64::from(*value) == number), Some(number as u32));
        }
        assert_eq!(table.len(), 10);
        assert!(table.bytes() < bytes / 50, "{} of {bytes}", table.bytes());
    }
}
