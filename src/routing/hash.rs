//! The hash that gives clients, topics, share groups and interest their places.
//!
//! Owns: the keyed hash of ClientIds, TopicNames, TopicFilters and share groups. Always holds: the value depends on the
//! 16 bytes of seed and on the text only, not on the version, CPU or byte order, because the store keeps the seed and a
//! recovered broker must find its clients at the homes where it left them. Must never do: change. The test vectors below
//! are the format.
//!
//! # The function
//! `fold(a, b)` is the low half of the 128-bit product of `a` and `b`, xored with the high half. A text is read level by
//! level, a level in little-endian words of eight bytes. From a start value that depends on the seed and on the kind of
//! text, a full word `w` that does not end the level makes `state = fold(state ^ w, chunk)`; the last `n` bytes of a
//! level, 0 to 7 of them, zero padded into `w`, make `state = fold(state ^ w, end ^ n) + step`. The state after `d` levels is the
//! hash of that prefix, so that one pass over a topic yields the hashes of all its prefixes, and the prefix of a filter
//! before its first wildcard hashes to the same value.

use smallvec::SmallVec;

/// The key of all placement in a broker, expanded from 16 bytes of seed that stay the same for its life.
///
/// Without the seed a client cannot choose the shard or the slot that its texts land in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKey {
    chunk: u64,
    end: u64,
    step: u64,
    topic: u64,
    client: u64,
    group: u64,
}

/// What hashing a TopicName yields besides its prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicHash {
    /// The hash of the whole topic, equal to that of an exact filter of the same text.
    pub whole: u64,
    /// How many levels the topic has, empty ones counted.
    pub levels: u32,
}

/// What places a TopicFilter in the interest table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FilterHash {
    /// A filter without a wildcard: the hash of all of it.
    Exact(u64),
    /// A filter with a wildcard.
    Wildcard {
        /// How many levels stand before the first wildcard, at most [`DEPTH_MAX`].
        depth: u8,
        /// The hash of these levels.
        prefix: u64,
    },
}

/// The hashes of those prefixes of a topic whose depth somebody asked for, the shortest first.
pub type Prefixes = SmallVec<[u64; 8]>;

/// Depths from this one on share a bit of the depth mask, and the prefix of this many levels.
pub const DEPTH_MAX: u8 = 63;

impl HashKey {
    /// The key that `seed` stands for.
    #[must_use]
    pub const fn from_seed(seed: u128) -> Self {
        Self {
            // A multiplier with few bits set would mix badly; setting two bits costs nothing and rules out zero.
            chunk: derive(seed, 1) | 1 << 63 | 1,
            end: derive(seed, 2) | 1 << 63 | 1 << 32,
            step: derive(seed, 3),
            topic: derive(seed, 4),
            client: derive(seed, 5),
            group: derive(seed, 6),
        }
    }

    /// The hash of a ClientId.
    #[must_use]
    pub fn client_id(&self, client_id: &str) -> u64 {
        let bytes = client_id.as_bytes();
        let mut state = self.client;
        let mut at = 0;
        while bytes.len() - at >= 8 {
            state = self.absorb_chunk(state, load(bytes, at));
            at += 8;
        }
        self.absorb_end(state, load(bytes, at), (bytes.len() - at) as u64)
    }

    /// The hash of a TopicName, or of a TopicFilter taken as plain text.
    #[inline]
    #[must_use]
    pub fn topic(&self, topic: &str) -> TopicHash {
        self.walk(self.topic, topic, |_, _| {})
    }

    /// The hash of a TopicName and, in the same pass, those of its prefixes whose depths have a bit in `depth_mask`.
    ///
    /// Bit `d` stands for the prefix of `d` levels; bit [`DEPTH_MAX`] for all deeper ones too. A topic with `n` levels has
    /// prefixes of 0 to `n` levels: `a/#` matches `a`.
    #[inline]
    pub fn topic_with_prefixes(&self, topic: &str, depth_mask: u64, prefixes: &mut Prefixes) -> TopicHash {
        prefixes.clear();
        if depth_mask == 0 {
            return self.topic(topic);
        }
        if depth_mask & 1 != 0 {
            prefixes.push(self.topic);
        }
        self.walk(self.topic, topic, |depth, state| {
            if depth <= u32::from(DEPTH_MAX) && depth_mask >> depth & 1 != 0 {
                prefixes.push(state);
            }
        })
    }

    /// What places a TopicFilter (without its `$share/NAME/`) in the interest table.
    #[must_use]
    pub fn filter(&self, filter: &str) -> FilterHash {
        let Some(wildcard) = memchr::memchr2(b'+', b'#', filter.as_bytes()) else {
            return FilterHash::Exact(self.topic(filter).whole);
        };
        let Some(literal) = wildcard.checked_sub(1).and_then(|end| filter.get(..end)) else {
            return FilterHash::Wildcard { depth: 0, prefix: self.topic };
        };
        let mut found = FilterHash::Wildcard { depth: 0, prefix: self.topic };
        self.walk(self.topic, literal, |depth, prefix| {
            if depth <= u32::from(DEPTH_MAX) {
                found = FilterHash::Wildcard { depth: depth as u8, prefix };
            }
        });
        found
    }

    /// The hash of a share group: its name and its filter.
    #[must_use]
    pub fn share_group(&self, name: &str, filter: &str) -> u64 {
        let name = self.walk(self.group, name, |_, _| {});
        self.walk(name.whole, filter, |_, _| {}).whole
    }

    /// The hash of a number and a text of one level, for the children of a trie node.
    #[inline]
    #[must_use]
    pub(super) fn child(&self, parent: u32, level: &[u8]) -> u64 {
        let mut state = fold(self.group ^ u64::from(parent), self.chunk);
        let mut at = 0;
        while level.len() - at >= 8 {
            state = self.absorb_chunk(state, load(level, at));
            at += 8;
        }
        self.absorb_end(state, load(level, at), (level.len() - at) as u64)
    }

    /// Two words for the hashers of maps that are not placed by this key itself.
    pub(super) const fn map_seeds(&self) -> (u64, u64) {
        (self.step, self.client)
    }

    /// Reads `text` level by level and calls `on_level(depth, state)` at the end of each.
    #[inline(always)]
    fn walk(&self, start: u64, text: &str, mut on_level: impl FnMut(u32, u64)) -> TopicHash {
        let bytes = text.as_bytes();
        let mut state = start;
        let mut levels = 0;
        let mut at = 0;
        loop {
            let word = load(bytes, at);
            let left = bytes.len() - at;
            let slash = first_slash(word);
            if slash < 8 {
                state = self.absorb_end(state, word & ((1 << (slash * 8)) - 1), u64::from(slash));
                at += slash as usize + 1;
            } else if left >= 8 {
                state = self.absorb_chunk(state, word);
                at += 8;
                continue;
            } else {
                state = self.absorb_end(state, word, left as u64);
            }
            levels += 1;
            on_level(levels, state);
            if slash == 8 {
                return TopicHash { whole: state, levels };
            }
        }
    }

    #[inline(always)]
    const fn absorb_chunk(&self, state: u64, word: u64) -> u64 {
        fold(state ^ word, self.chunk)
    }

    #[inline(always)]
    const fn absorb_end(&self, state: u64, word: u64, bytes: u64) -> u64 {
        // The sum keeps a state of zero from standing still through empty levels.
        fold(state ^ word, self.end ^ bytes).wrapping_add(self.step)
    }
}

/// The shard, of `shards`, that a hash has its home at.
///
/// Takes the hash's upper bits, so that tables within a shard, which take the lower ones, stay evenly filled.
#[inline]
#[must_use]
pub const fn home(hash: u64, shards: usize) -> usize {
    ((hash as u128 * shards as u128) >> 64) as usize
}

#[inline(always)]
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

/// The `index`th word that a seed expands to: a counter in steps of the golden ratio, mixed twice.
const fn derive(seed: u128, index: u64) -> u64 {
    let low = (seed as u64).wrapping_add(GOLDEN_RATIO.wrapping_mul(index));
    let high = (seed >> 64) as u64 ^ GOLDEN_RATIO.rotate_left(index as u32 * 9);
    let once = fold(low ^ 0xa409_3822_299f_31d1, high | 1) ^ low.rotate_left(32) ^ high;
    fold(once ^ 0x082e_fa98_ec4e_6c89, GOLDEN_RATIO) ^ once.rotate_left(17)
}

/// The eight bytes at `at`, zero padded where the text ends.
#[inline(always)]
fn load(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or_default();
    if let Some(word) = rest.first_chunk::<8>() {
        return u64::from_le_bytes(*word);
    }
    // A text of eight bytes or more is read from its end, and what was read before is shifted out.
    if let (Some(word), false) = (bytes.last_chunk::<8>(), rest.is_empty()) {
        return u64::from_le_bytes(*word) >> (64 - 8 * rest.len());
    }
    rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// The index of the first `/` among the word's bytes, 8 when there is none.
#[inline(always)]
const fn first_slash(word: u64) -> u32 {
    let zeros = word ^ (LOW_BITS * b'/' as u64);
    // Finds zero bytes; a borrow can only raise false alarms above the first true one.
    (zeros.wrapping_sub(LOW_BITS) & !zeros & (LOW_BITS << 7)).trailing_zeros() / 8
}

const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;
