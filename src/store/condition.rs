//! Whether the store takes anything in, and from when on the disk has too little room for that.
//!
//! Owns: the three conditions that shards hear of, and the rule by which room runs short and returns.
//! Always: what is removed is taken in while room is short, since that is how it returns. What was short stays short until
//! there is a quarter more than the limit, so that a disk at the limit does not change its mind with each message.

/// What the store can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Everything.
    #[default]
    Good,
    /// The disk is nearly full: nothing new is taken in, and what is removed is removed.
    Full,
    /// Nothing: what is asked for waits until the store is open again.
    Failed,
}

impl Condition {
    /// As a number, for what holds one: 0, 1, 2.
    #[must_use]
    pub fn as_u8(self) -> u8 {
        self as u8
    }

    /// From its number.
    #[must_use]
    pub fn from_u8(number: u8) -> Self {
        match number {
            0 => Condition::Good,
            1 => Condition::Full,
            _ => Condition::Failed,
        }
    }
}

/// The room of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes that can still be written.
    pub free_bytes: u64,
    /// Bytes that it can hold.
    pub total_bytes: u64,
}

impl Room {
    /// What must stay free here when `free_bytes_min` is asked for: that, and no more than a twentieth of it all.
    #[must_use]
    pub fn reserve_bytes(self, free_bytes_min: u64) -> u64 {
        free_bytes_min.min(self.total_bytes / RESERVE_PARTS)
    }

    /// Whether there is too little. `was_short`: there was when somebody looked last.
    #[must_use]
    pub fn is_short(self, free_bytes_min: u64, was_short: bool) -> bool {
        let reserve_bytes = self.reserve_bytes(free_bytes_min);
        let enough_bytes = if was_short { reserve_bytes + reserve_bytes / RETURN_PARTS } else { reserve_bytes };
        self.free_bytes < enough_bytes
    }
}

/// One part in so many of a file system is reserved at most.
const RESERVE_PARTS: u64 = 20;
/// One part in so many of the reserve must be free on top of it before room counts as returned.
const RETURN_PARTS: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_condition_is_the_same_after_its_number() {
        for condition in [Condition::Good, Condition::Full, Condition::Failed] {
            assert_eq!(Condition::from_u8(condition.as_u8()), condition);
        }
    }

    #[test]
    fn room_runs_short_below_the_limit_and_returns_above_it() {
        let room = |free_bytes| Room { free_bytes, total_bytes: 100_000 * MIB };
        assert!(!room(256 * MIB).is_short(256 * MIB, false));
        assert!(room(256 * MIB - 1).is_short(256 * MIB, false));
        assert!(room(320 * MIB - 1).is_short(256 * MIB, true), "it is at the limit still");
        assert!(!room(320 * MIB).is_short(256 * MIB, true));
    }

    #[test]
    fn a_small_disk_reserves_a_twentieth_and_a_limit_of_nothing_is_none() {
        let room = |free_bytes| Room { free_bytes, total_bytes: 100 * MIB };
        assert!(!room(5 * MIB).is_short(256 * MIB, false));
        assert!(room(5 * MIB - 1).is_short(256 * MIB, false));
        assert!(!room(0).is_short(0, true));
    }
}
