//! How many of the receive buffers go round between the kernel and us.
//!
//! Owns: that number. The kernel takes buffers in the order in which they were given, so all that go round take turns, and
//! what is written into them fills the caches: 2 MiB of them leave no room there for anything else.
//! Always: as few as suffice for what comes at once, twice as many as soon as they do not, as long as what they hold stays in
//! the caches until it is handled: receives beyond that wait for the next turn, which costs less. Where an enter looks deeper
//! because input flows together into few sends, as many as it looks for, and where input of few connections leaves with many sends,
//! as many as it takes: fewer sends are worth more than warm input. Never more than there are, and never fewer because of a
//! short silence.

use crate::runtime::drain::TurnCounts;

/// Chooses from turn to turn how many go round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Circulation {
    all: u32,
    wanted: u32,
    /// Bytes that a receive brought of late.
    mean_bytes: u32,
    /// The most that were in use at once of late.
    peak: u32,
    /// Turns that `peak` is about.
    turns: u32,
    /// Receives that the next enter looks for.
    depth: u32,
    /// What the last turn received leaves with many more sends.
    spreads: bool,
}

impl Circulation {
    /// Of `all` buffers, a power of two.
    pub fn new(all: u32) -> Self {
        Circulation { all, wanted: all.min(FEWEST), mean_bytes: 0, peak: 0, turns: 0, depth: 0, spreads: false }
    }

    /// How many are to go round.
    pub fn wanted(self) -> u32 {
        self.wanted
    }

    /// A receive found none.
    pub fn note_shortage(&mut self) {
        self.want(self.wanted.saturating_mul(2));
    }

    /// What came of a turn. The next enter looks for `depth` completions, if not 0.
    pub fn note_turn(&mut self, counts: TurnCounts, depth: u32) {
        let TurnCounts { receptions, received_bytes: bytes, .. } = counts;
        self.depth = depth;
        self.spreads = counts.spreads();
        if let Some(mean) = bytes.checked_div(receptions) {
            let before = if self.mean_bytes == 0 { mean } else { self.mean_bytes };
            self.mean_bytes = before.saturating_mul(3).saturating_add(mean) / 4;
        }
        let at_once = receptions.max(depth);
        self.peak = self.peak.max(at_once);
        if at_once > self.wanted / 2 {
            self.want(at_once.saturating_mul(2));
        }
        self.turns += 1;
        let is_unused = self.turns == REMEMBERED_TURNS && self.peak <= self.wanted / 8;
        if is_unused || self.wanted > self.most() {
            self.want(self.wanted / 2);
        }
        if self.turns == REMEMBERED_TURNS {
            (self.peak, self.turns) = (0, 0);
        }
    }

    /// Towards so many, a power of two.
    fn want(&mut self, buffers: u32) {
        let buffers = buffers.checked_next_power_of_two().unwrap_or(self.all);
        self.wanted = buffers.clamp(self.all.min(FEWEST), self.most().max(self.wanted));
    }

    /// How many hold no more than the caches do, or are looked for.
    fn most(self) -> u32 {
        if self.spreads {
            return self.all;
        }
        let hot = HOT_BYTES / self.mean_bytes.max(1);
        let hot = (hot.max(FEWEST) + 1).next_power_of_two().div_ceil(2);
        let looked_for = self.depth.saturating_mul(2).checked_next_power_of_two().unwrap_or(self.all);
        hot.max(looked_for).min(self.all)
    }
}

/// Enough for what an enter brings that does not look deeper: about 20 receives.
const FEWEST: u32 = 64;
/// What a core's own cache holds beside all that handling it needs.
const HOT_BYTES: u32 = 256 * 1024;
/// Turns after which those that were not needed may rest.
const REMEMBERED_TURNS: u32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(receptions: u32, received_bytes: u32) -> TurnCounts {
        TurnCounts { receptions, sources: receptions, sends: receptions, received_bytes, ..TurnCounts::default() }
    }

    #[test]
    fn few_go_round_until_more_are_in_use_at_once() {
        let mut circulation = Circulation::new(512);
        assert_eq!(circulation.wanted(), 64);
        circulation.note_turn(turn(32, 3200), 0);
        assert_eq!(circulation.wanted(), 64);
        circulation.note_turn(turn(33, 3300), 0);
        assert_eq!(circulation.wanted(), 128);
        circulation.note_turn(turn(0, 0), 200);
        assert_eq!(circulation.wanted(), 512);
        circulation.note_turn(turn(0, 0), u32::MAX);
        assert_eq!(circulation.wanted(), 512, "there are no more");
    }

    #[test]
    fn a_shortage_doubles_them() {
        let mut circulation = Circulation::new(256);
        let wanted = [(); 3].map(|()| {
            circulation.note_shortage();
            circulation.wanted()
        });
        assert_eq!(wanted, [128, 256, 256]);
        circulation = Circulation::new(4);
        circulation.note_shortage();
        assert_eq!(circulation.wanted(), 4);
    }

    #[test]
    fn more_than_the_caches_hold_does_not_go_round() {
        let turns = |receptions, bytes_each| {
            let mut circulation = Circulation::new(512);
            for _ in 0..32 {
                circulation.note_turn(turn(receptions, receptions * bytes_each), 0);
                circulation.note_shortage();
            }
            circulation.wanted()
        };
        assert_eq!([4096, 1000, 600, 100].map(|bytes| turns(64, bytes)), [64, 256, 256, 512]);
        let mut circulation = Circulation::new(512);
        circulation.note_turn(turn(256, 2560), 0);
        circulation.note_turn(turn(1, 4096), 0);
        let wanted = [(); 4].map(|()| {
            circulation.note_turn(turn(64, 64 * 4096), 0);
            circulation.wanted()
        });
        assert_eq!(wanted, [128, 64, 64, 64]);
        circulation.note_turn(turn(64, 64 * 4096), 200);
        assert_eq!(circulation.wanted(), 512, "the enter looks for them");
        circulation.note_turn(turn(200, 200 * 4096), 40);
        circulation.note_turn(turn(40, 40 * 4096), 40);
        assert_eq!(circulation.wanted(), 128);
    }

    #[test]
    fn those_that_were_not_needed_for_long_rest() {
        let mut circulation = Circulation::new(512);
        circulation.note_turn(turn(256, 2560), 0);
        for _ in 0..2 * REMEMBERED_TURNS {
            circulation.note_turn(turn(40, 400), 0);
        }
        assert_eq!(circulation.wanted(), 256, "an eighth of them was too few");
        for _ in 0..4 * REMEMBERED_TURNS {
            circulation.note_turn(turn(1, 10), 0);
        }
        assert_eq!(circulation.wanted(), 64);
    }

    #[test]
    fn input_of_few_connections_that_leaves_with_many_sends_is_taken_whole() {
        let mut circulation = Circulation::new(512);
        let spread = TurnCounts { sources: 5, sends: 1000, ..turn(300, 300 * 4096) };
        circulation.note_turn(spread, 0);
        assert_eq!(circulation.wanted(), 512);
        circulation.note_turn(turn(64, 64 * 4096), 0);
        assert_eq!(circulation.wanted(), 256);
    }
}
