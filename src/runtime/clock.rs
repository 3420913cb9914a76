//! The clock that shards read, and the entropy that seeds are made of.

#![allow(unsafe_code)]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::time::Moment;

/// Gives [`Moment`]s: the wall clock once at the start, the monotonic clock since. Copies agree with each other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    started_micros: u64,
}

impl Clock {
    /// Reads the wall clock. Make one per process and copy it to the shards.
    #[must_use]
    pub fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { started: Instant::now(), started_micros: u64::try_from(wall.as_micros()).unwrap_or(u64::MAX) }
    }

    /// When it was started: the same for all copies.
    #[must_use]
    pub fn started(&self) -> Moment {
        Moment::from_micros(self.started_micros)
    }

    /// The present moment: one read of the monotonic clock, without a system call.
    #[inline]
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment::from_micros(self.started_micros).after(self.started.elapsed())
    }
}

/// Eight random bytes from the kernel, for seeds.
///
/// # Panics
///
/// When the kernel has no randomness: nothing that a broker hashes with could then be trusted.
#[must_use]
pub fn random_seed() -> u64 {
    let mut bytes = [0_u8; 8];
    // SAFETY: the pointer and the length describe `bytes`, which lives through the call.
    let filled = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    assert_eq!(filled, 8, "getrandom gave no randomness");
    u64::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_forward_from_the_wall_clock() {
        let clock = Clock::start();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
        let first = clock.now();
        assert!(first.micros().abs_diff(wall) < 5_000_000);
        assert!(clock.now() >= first);
        assert_ne!(random_seed(), random_seed());
    }
}
