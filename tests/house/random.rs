//! A small generator of numbers that a seed decides, so that a run can be replayed.

/// SplitMix64: one addition and a mix for each number; seeds that are close to each other give unrelated sequences.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The sequence of one of several parts of a run, by its number.
    pub fn part(seed: u64, number: u64) -> Random {
        Random(Random(seed ^ number.wrapping_mul(0xD1B5_4A32_D192_ED03)).number())
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.number() % bound as u64).expect("below a usize")
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of `choices`.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// `length` random bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.number().to_le_bytes()[0]).collect()
    }

    /// The seed in the variable `SEED`, else one from the clock; printed either way, so that a failure can be replayed.
    pub fn seed_from_environment() -> u64 {
        let given = std::env::var("SEED").ok();
        let seed = match given {
            Some(seed) => seed.parse().unwrap_or_else(|_| panic!("SEED is no number: {seed:?}")),
            None => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                u64::from(now.expect("after 1970").subsec_nanos())
            }
        };
        println!("SEED={seed}");
        seed
    }
}
