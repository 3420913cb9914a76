//! Which messages of a numbered set have come, where their order says nothing: each should, once.

/// A set of numbers below a limit.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    words: Box<[u64]>,
    limit: u32,
}

impl Seen {
    /// None yet of the numbers below `limit`.
    pub fn new(limit: u32) -> Self {
        Seen { words: vec![0; limit.div_ceil(64) as usize].into(), limit }
    }

    /// Takes note of a number below the limit. Returns whether it is the first time.
    #[inline]
    pub fn insert(&mut self, number: u32) -> bool {
        debug_assert!(number < self.limit);
        let (word, bit) = (&mut self.words[number as usize / 64], 1 << (number % 64));
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// How many never came.
    pub fn missing(&self) -> u32 {
        self.limit - self.words.iter().map(|word| word.count_ones()).sum::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_new_once_and_those_that_never_came_are_missing() {
        let mut seen = Seen::new(130);
        assert!(seen.insert(0) && seen.insert(129) && seen.insert(64));
        assert!(!seen.insert(129));
        assert_eq!(seen.missing(), 127);
    }
}
