//! The messages of one publisher as one subscriber sees them: each should come, once, in order.

/// What a message was, by its sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The next one; this many before it are missing.
    InOrder {
        /// Sequence numbers that were passed over.
        missing: u32,
    },
    /// One that was missing.
    Late,
    /// One that had come before, or that went missing so long ago that it is not known any more.
    Repeated,
}

/// Where a subscriber stands in a publisher's sequence.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// The next sequence number.
    expected: u32,
    missing: Option<Box<Missing>>,
}

/// Sequence numbers that were passed over.
#[derive(Debug, Default)]
struct Missing {
    /// Runs of them, as first and one beyond the last, in ascending order.
    runs: Vec<(u32, u32)>,
    count: u64,
}

/// Runs that are remembered; of those beyond, a latecomer counts as repeated.
const RUNS_MAX: usize = 1024;

impl Flow {
    /// Takes note of a message.
    #[inline]
    pub fn arrive(&mut self, sequence: u32) -> Arrival {
        if sequence == self.expected {
            self.expected += 1;
            return Arrival::InOrder { missing: 0 };
        }
        self.arrive_out_of_order(sequence)
    }

    #[cold]
    fn arrive_out_of_order(&mut self, sequence: u32) -> Arrival {
        if sequence > self.expected {
            let missing = self.missing.get_or_insert_default();
            if missing.runs.len() == RUNS_MAX {
                missing.runs.remove(0);
            }
            missing.runs.push((self.expected, sequence));
            let skipped = sequence - self.expected;
            missing.count += u64::from(skipped);
            self.expected = sequence.saturating_add(1);
            return Arrival::InOrder { missing: skipped };
        }
        let was_missing = self.missing.as_mut().is_some_and(|missing| missing.take(sequence));
        if was_missing { Arrival::Late } else { Arrival::Repeated }
    }

    /// Messages that did not come, when `published` were sent.
    pub fn lost(&self, published: u32) -> u64 {
        let passed_over = self.missing.as_ref().map_or(0, |missing| missing.count);
        passed_over + u64::from(published.saturating_sub(self.expected))
    }
}

impl Missing {
    /// Whether `sequence` was missing; it is not any more.
    fn take(&mut self, sequence: u32) -> bool {
        let Some(place) = self.runs.iter().position(|&(first, end)| (first..end).contains(&sequence)) else {
            return false;
        };
        let (first, end) = self.runs.remove(place);
        if sequence + 1 < end {
            self.runs.insert(place, (sequence + 1, end));
        }
        if first < sequence {
            self.runs.insert(place, (first, sequence));
        }
        self.count -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_late_and_repeated_messages_are_told_apart() {
        let mut flow = Flow::default();
        assert_eq!(flow.arrive(0), Arrival::InOrder { missing: 0 });
        assert_eq!(flow.arrive(5), Arrival::InOrder { missing: 4 });
        assert_eq!(flow.arrive(3), Arrival::Late);
        assert_eq!(flow.arrive(3), Arrival::Repeated);
        assert_eq!(flow.arrive(5), Arrival::Repeated);
        assert_eq!(flow.lost(6), 3);
        assert_eq!(flow.arrive(1), Arrival::Late);
        assert_eq!(flow.arrive(2), Arrival::Late);
        assert_eq!(flow.arrive(4), Arrival::Late);
        assert_eq!(flow.lost(6), 0);
        assert_eq!(flow.lost(10), 4, "the tail that never came");
    }

    #[test]
    fn holes_beyond_the_limit_stay_lost() {
        let mut flow = Flow::default();
        for hole in 0..2 * RUNS_MAX as u32 {
            assert_eq!(flow.arrive(2 * hole + 1), Arrival::InOrder { missing: 1 });
        }
        assert_eq!(flow.lost(4 * RUNS_MAX as u32), 2 * RUNS_MAX as u64);
        assert_eq!(flow.arrive(0), Arrival::Repeated, "forgotten");
        assert_eq!(flow.arrive(4 * RUNS_MAX as u32 - 2), Arrival::Late);
    }
}
