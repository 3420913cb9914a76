//! How many completions one enter is to collect.
//!
//! Owns: the depth that the next enter asks for. With DEFER_TASKRUN an enter that asks for nothing runs about 20 pieces
//! of task work and leaves the rest; one that asks for more runs as many as it asks for.
//! Always: deep only while completions pile up *and* input flows together into fewer sends: then a deeper look saves
//! sends, which are what costs. Where each message is answered by a send of its own it would only let data grow cold.
//! Never: a reason to wait. A depth that is not there ends at once.

/// Chooses the depth of each enter that does not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainPolicy {
    /// Asked for always; 0: chosen from turn to turn.
    fixed: u32,
    depth: u32,
}

/// What came of a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TurnCounts {
    /// Completions that the enter brought.
    pub completions: u32,
    /// Of those handled, receptions.
    pub receptions: u32,
    /// Connections that these came from: those of one that come one behind another are counted once.
    pub sources: u32,
    /// Bytes that these brought.
    pub received_bytes: u32,
    /// Sends that were asked for after it.
    pub sends: u32,
    /// Of those handled, ends of sends that were asked for before it.
    pub sent: u32,
    /// Sends that were asked for before it.
    pub sends_before: u32,
}

impl TurnCounts {
    /// Whether what few connections sent leaves with many sends, each of which could carry more.
    #[must_use]
    pub fn spreads(self) -> bool {
        self.sources > 0 && self.sends >= FLOWS_TOGETHER * self.sources
    }
}

impl DrainPolicy {
    /// Always `fixed` completions, or with 0 what suits the turns before.
    #[must_use]
    pub const fn new(fixed: u32) -> Self {
        Self { fixed, depth: fixed }
    }

    /// What the next enter asks for; 0 asks for nothing.
    #[must_use]
    pub const fn depth(self) -> u32 {
        self.depth
    }

    /// Learns from the last turn.
    pub fn note_turn(&mut self, counts: TurnCounts) {
        if self.fixed > 0 {
            return;
        }
        let is_cut_off = counts.completions >= self.depth.max(KERNEL_DEPTH);
        let flows_together = counts.sources >= FLOWS_TOGETHER * counts.sends.max(1);
        self.depth = match (flows_together, is_cut_off) {
            (false, _) => 0,
            (true, true) => (self.depth.max(KERNEL_DEPTH) * 2).min(DEPTH_MAX),
            // It brought less than it asked for: asking costs a timer then.
            (true, false) => self.depth / 2,
        };
    }
}

/// Pieces of task work that an enter runs by itself.
const KERNEL_DEPTH: u32 = 20;
/// Connections that say something for each send, from which on a deeper look is worth it.
const FLOWS_TOGETHER: u32 = 4;
/// From here on a look saves hardly a send more, and what it brought first grows cold before the sends.
const DEPTH_MAX: u32 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(completions: u32, sources: u32, sends: u32) -> TurnCounts {
        TurnCounts { completions, receptions: sources, sources, sends, ..TurnCounts::default() }
    }

    #[test]
    fn input_that_flows_together_is_collected_deeper_and_deeper() {
        let mut policy = DrainPolicy::new(0);
        assert_eq!(policy.depth(), 0);
        let depths: Vec<_> = (0..6)
            .map(|_| {
                policy.note_turn(turn(policy.depth().max(20), policy.depth().max(20), 1));
                policy.depth()
            })
            .collect();
        assert_eq!(depths, [40, 80, 160, 256, 256, 256]);
    }

    #[test]
    fn answers_of_their_own_end_it() {
        let mut policy = DrainPolicy::new(0);
        policy.note_turn(turn(20, 20, 1));
        policy.note_turn(turn(40, 20, 20));
        assert_eq!(policy.depth(), 0);
    }

    #[test]
    fn much_input_of_one_connection_flows_nowhere_else() {
        let mut policy = DrainPolicy::new(0);
        policy.note_turn(TurnCounts { receptions: 200, ..turn(220, 20, 20) });
        assert_eq!(policy.depth(), 0);
    }

    #[test]
    fn it_falls_when_less_comes_than_was_asked_for() {
        let mut policy = DrainPolicy::new(0);
        policy.note_turn(turn(20, 20, 1));
        policy.note_turn(turn(12, 12, 1));
        assert_eq!(policy.depth(), 20);
        for _ in 0..5 {
            policy.note_turn(turn(4, 4, 1));
        }
        assert_eq!(policy.depth(), 0);
    }

    #[test]
    fn a_fixed_depth_stays() {
        let mut policy = DrainPolicy::new(128);
        policy.note_turn(turn(1, 1, 1));
        assert_eq!(policy.depth(), 128);
    }
}
