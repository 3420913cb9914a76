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
//! level, 0 to 7 of them, zero padded into `w`, make `state = fold(state ^ w, end ^ n) + step`. The hash of the prefix of `d`
//! levels is `fold(state, finish)` after them (one fold alone leaves patterns of digits visible), so that one pass over a
//! topic yields the hashes of all its prefixes, and the prefix of a filter before its first wildcard hashes to the same
//! value. A ClientId is one level whatever it contains, a share group is its name and then its filter, all finished once.

use smallvec::SmallVec;

/// The key of all placement in a broker, expanded from 16 bytes of seed that stay the same for its life.
///
/// Without the seed a client cannot choose the shard or the slot that its texts land in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKey {
    chunk: u64,
    end: u64,
    step: u64,
    finish: u64,
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
            finish: derive(seed, 4) | 1 << 63 | 1 << 16,
            topic: derive(seed, 5),
            client: derive(seed, 6),
            group: derive(seed, 7),
        }
    }

    /// The hash of a ClientId.
    #[must_use]
    pub fn client_id(&self, client_id: &str) -> u64 {
        self.one_level(self.client, client_id.as_bytes())
    }

    /// The hash of a TopicName, or of a TopicFilter taken as plain text.
    #[inline]
    #[must_use]
    pub fn topic(&self, topic: &str) -> TopicHash {
        let (state, levels) = self.walk(self.topic, topic, |_, _| {});
        TopicHash { whole: self.finished(state), levels }
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
        // [v3 MQTT-4.7.2-1] [v5 MQTT-4.7.2-1] A filter that begins with a wildcard matches no topic that begins with `$`.
        if depth_mask & 1 != 0 && !topic.starts_with('$') {
            prefixes.push(self.finished(self.topic));
        }
        let (state, levels) = self.walk(self.topic, topic, |depth, state| {
            if depth <= u32::from(DEPTH_MAX) && depth_mask >> depth & 1 != 0 {
                prefixes.push(self.finished(state));
            }
        });
        TopicHash { whole: self.finished(state), levels }
    }

    /// What places a TopicFilter (without its `$share/NAME/`) in the interest table.
    #[must_use]
    pub fn filter(&self, filter: &str) -> FilterHash {
        let Some(wildcard) = memchr::memchr2(b'+', b'#', filter.as_bytes()) else {
            return FilterHash::Exact(self.topic(filter).whole);
        };
        let (mut depth, mut prefix) = (0, self.topic);
        if let Some(literal) = wildcard.checked_sub(1).and_then(|end| filter.get(..end)) {
            self.walk(self.topic, literal, |levels, state| {
                if levels <= u32::from(DEPTH_MAX) {
                    (depth, prefix) = (levels as u8, state);
                }
            });
        }
        FilterHash::Wildcard { depth, prefix: self.finished(prefix) }
    }

    /// The hash of a share group: its name and its filter.
    #[must_use]
    pub fn share_group(&self, name: &str, filter: &str) -> u64 {
        let (state, _) = self.walk(self.group, name, |_, _| {});
        self.finished(self.walk(state, filter, |_, _| {}).0)
    }

    /// The hash of a number and a text of one level, for the children of a trie node.
    #[inline]
    #[must_use]
    pub(super) fn child(&self, parent: u32, level: &[u8]) -> u64 {
        self.one_level(fold(self.group ^ u64::from(parent), self.chunk), level)
    }

    /// Two words for the hashers of maps that are not placed by this key itself.
    pub(super) const fn map_seeds(&self) -> (u64, u64) {
        (self.step, self.client)
    }

    /// The hash of a text taken as one level.
    #[inline]
    fn one_level(&self, start: u64, bytes: &[u8]) -> u64 {
        let mut state = start;
        let mut at = 0;
        while bytes.len() - at >= 8 {
            state = self.absorb_chunk(state, load(bytes, at));
            at += 8;
        }
        self.finished(self.absorb_end(state, load(bytes, at), (bytes.len() - at) as u64))
    }

    /// Reads `text` level by level, calls `on_level(depth, state)` at the end of each, and returns the last state and the
    /// number of levels.
    #[inline(always)]
    fn walk(&self, start: u64, text: &str, mut on_level: impl FnMut(u32, u64)) -> (u64, u32) {
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
                return (state, levels);
            }
        }
    }

    #[inline(always)]
    const fn finished(&self, state: u64) -> u64 {
        fold(state, self.finish)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SEED: u128 = 0x000f_0e0d_0c0b_0a09_0807_0605_0403_0201;

    /// The format: a change here moves every client of every broker to another home.
    #[test]
    fn the_function_is_the_documented_one_for_ever() {
        let key = HashKey::from_seed(SEED);
        let texts =
            ["", "a", "a/b", "/", "abcdefg", "abcdefgh", "abcdefgh/ijklmnop", "sensors/kitchen/temperature", "ÿ/€"];
        let topics: Vec<u64> = texts.iter().map(|text| key.topic(text).whole).collect();
        let clients: Vec<u64> = texts.iter().map(|text| key.client_id(text)).collect();
        assert_eq!(topics, TOPIC_VECTORS);
        assert_eq!(clients, CLIENT_VECTORS);
        assert_eq!(key.share_group("workers", "jobs/+"), GROUP_VECTOR);
    }

    const TOPIC_VECTORS: [u64; 9] = [
        0x28ed_c697_7126_3ca5,
        0x6bcd_4102_a1d1_1b7d,
        0x4be6_a34f_1b37_7abb,
        0x6aa3_5607_f34b_94c3,
        0xe0d3_647a_c0c7_4060,
        0x8e2a_f9c3_4a17_b369,
        0x9bbf_e1ab_2a61_0d1a,
        0x02c3_4ed4_095d_4179,
        0x2e25_0033_2fe9_47a7,
    ];
    const CLIENT_VECTORS: [u64; 9] = [
        0x62b3_1d95_9379_a0be,
        0x0f5d_375d_01e3_9178,
        0x0783_d542_85e7_27aa,
        0xa0f1_31c5_0d21_6142,
        0x34e0_74d2_302b_f8d9,
        0x00b8_9335_9b10_c419,
        0x6ba7_ea0e_619a_8d34,
        0xe70c_e9d3_d933_b61f,
        0x1c32_6ad3_e1b9_3b48,
    ];
    const GROUP_VECTOR: u64 = 0xa6c0_3b72_5f54_b12a;

    /// The function as the module's documentation has it, without any trick of reading.
    fn plain_hash(key: &HashKey, start: u64, text: &str) -> u64 {
        text.split('/').fold(start, |state, level| {
            let mut words = level.as_bytes().chunks_exact(8);
            let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
            let state = words.by_ref().fold(state, |state, bytes| fold(state ^ word(bytes), key.chunk));
            let rest = words.remainder();
            fold(state ^ word(rest), key.end ^ rest.len() as u64).wrapping_add(key.step)
        })
    }

    proptest! {
        #[test]
        fn reading_by_words_changes_nothing(seed: u128, text in "[a-c/]{0,40}|[a-z/€]{0,20}") {
            let key = HashKey::from_seed(seed);
            let hash = key.topic(&text);
            prop_assert_eq!(hash.whole, fold(plain_hash(&key, key.topic, &text), key.finish));
            prop_assert_eq!(hash.levels as usize, text.split('/').count());
        }

        #[test]
        fn a_filters_prefix_hashes_like_the_topics(seed: u128, topic in "[ab/]{1,30}(/[a-z]{6,18}){0,3}", mask: u64) {
            let key = HashKey::from_seed(seed);
            let mut prefixes = Prefixes::new();
            let hash = key.topic_with_prefixes(&topic, mask, &mut prefixes);
            prop_assert_eq!(hash, key.topic(&topic));
            let levels: Vec<&str> = topic.split('/').collect();
            let depths = (0..=levels.len().min(63)).filter(|depth| mask >> depth & 1 != 0);
            let expected: Vec<u64> = depths.map(|depth| {
                let filter = levels[..depth].iter().chain(&["+"]).copied().collect::<Vec<_>>().join("/");
                match key.filter(&filter) {
                    FilterHash::Wildcard { depth: found, prefix } if usize::from(found) == depth => prefix,
                    other => panic!("{filter}: {other:?}"),
                }
            }).collect();
            prop_assert_eq!(prefixes.to_vec(), expected);
        }
    }

    #[test]
    fn who_subscribes_to_everything_is_not_asked_for_topics_of_the_broker() {
        let key = HashKey::from_seed(SEED);
        let prefixes_of = |topic| {
            let mut prefixes = Prefixes::new();
            key.topic_with_prefixes(topic, 0b11, &mut prefixes);
            prefixes.len()
        };
        assert_eq!((prefixes_of("a/b"), prefixes_of("$SYS/b"), prefixes_of("a/$b")), (2, 1, 2));
    }

    #[test]
    fn depths_from_63_on_use_the_prefix_of_63_levels() {
        let key = HashKey::from_seed(SEED);
        let deep = |levels: usize, end: &str| ["x"; 70][..levels].join("/") + end;
        let expected = FilterHash::Wildcard { depth: 63, prefix: key.topic(&deep(63, "")).whole };
        assert_eq!(key.filter(&deep(63, "/+")), expected);
        assert_eq!(key.filter(&deep(69, "/#")), expected);
        let mut prefixes = Prefixes::new();
        key.topic_with_prefixes(&deep(70, ""), 1 << 63, &mut prefixes);
        assert_eq!(prefixes.to_vec(), [key.topic(&deep(63, "")).whole]);
        key.topic_with_prefixes(&deep(62, ""), 1 << 63, &mut prefixes);
        assert!(prefixes.is_empty());
    }

    #[test]
    fn an_exact_filter_hashes_like_its_topic() {
        let key = HashKey::from_seed(SEED);
        assert_eq!(key.filter("a/b"), FilterHash::Exact(key.topic("a/b").whole));
        assert_ne!(key.topic("a/b").whole, key.topic("a/b/").whole);
        assert_ne!(key.topic("/").whole, key.topic("//").whole);
    }

    #[test]
    fn texts_that_differ_little_spread_evenly() {
        for seed in [0, 1, SEED, u128::MAX] {
            let key = HashKey::from_seed(seed);
            let clients = (0..100_000).map(|number| key.client_id(&format!("client-{number:06}")));
            assert_even(clients.collect(), "sequential clients");
            let topics =
                (0..100_000).map(|number| key.topic(&format!("plant/{}/dev/{}/t", number / 100, number % 100)).whole);
            assert_even(topics.collect(), "topics");
            assert_even((0..100_000).map(|number| key.client_id(&format!("{number}"))).collect(), "short clients");
            assert_even(
                (0..65_535)
                    .map(|levels| key.topic(&"/".repeat(levels % 997 + levels)[levels % 997..]).whole)
                    .take(4_000)
                    .collect(),
                "empty levels",
            );
        }
    }

    /// A use of a hash: its name, the place that a hash falls to, and how many places there are.
    type Use<'a> = (&'a str, &'a dyn Fn(u64) -> usize, usize);

    /// Chi-square over the uses of a hash: homes (upper bits), slots and buckets (lower), wildcard slots (rotated).
    fn assert_even(hashes: Vec<u64>, what: &str) {
        let uses: [Use<'_>; 5] = [
            ("7 homes", &|hash| home(hash, 7), 7),
            ("64 homes", &|hash| home(hash, 64), 64),
            ("1024 slots", &|hash| hash as usize % 1024, 1024),
            ("1024 wildcard slots", &|hash| hash.rotate_right(29) as usize % 1024, 1024),
            ("256 tags", &|hash| (hash >> 24) as usize % 256, 256),
        ];
        for (name, place, places) in uses {
            let mut counts = vec![0_f64; places];
            hashes.iter().for_each(|hash| counts[place(*hash)] += 1.0);
            let expected = hashes.len() as f64 / places as f64;
            let chi_square: f64 = counts.iter().map(|count| (count - expected).powi(2) / expected).sum();
            // Its mean is `places - 1` and its variance twice that; five and a half deviations never occur by chance.
            let freedom = (places - 1) as f64;
            assert!(chi_square < freedom + 5.5 * (2.0 * freedom).sqrt() + 8.0, "{what}, {name}: {chi_square}");
        }
    }

    #[test]
    fn each_bit_of_a_text_changes_half_of_the_hash() {
        let key = HashKey::from_seed(SEED);
        let text = *b"sensor/12345678901/temperature!!";
        let text_of = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let base = key.topic(&text_of(&text)).whole;
        let (mut flipped, mut flips) = (0, 0);
        for bit in (0..text.len() * 8).filter(|bit| bit % 8 < 4) {
            let mut other = text;
            other[bit / 8] ^= 1 << (bit % 8);
            let differing = (key.topic(&text_of(&other)).whole ^ base).count_ones();
            assert!((8..56).contains(&differing), "bit {bit}: {differing}");
            flipped += differing;
            flips += 1;
        }
        let mean = f64::from(flipped) / f64::from(flips);
        assert!((30.0..34.0).contains(&mean), "{mean}");
    }

    #[test]
    fn homes_are_within_range() {
        assert_eq!(home(0, 5), 0);
        assert_eq!(home(u64::MAX, 5), 4);
        assert_eq!(home(u64::MAX, 1), 0);
    }
}
