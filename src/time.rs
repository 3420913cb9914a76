//! Time as the pure rooms see it: a number that comes in as an argument.

use std::time::Duration;

/// A point in time: microseconds since the Unix epoch, read from the wall clock once at start and advanced by the
/// monotonic clock since. It never goes back within a process, and two shards' moments are comparable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// Later than every moment that occurs.
    pub const NEVER: Moment = Moment(u64::MAX);

    /// The moment `micros` microseconds after the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Moment(micros)
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// Milliseconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0 / 1_000
    }

    /// Whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        self.0 / 1_000_000
    }

    /// This moment and `duration` more; [`Moment::NEVER`] when that cannot be expressed.
    #[must_use]
    pub const fn after(self, duration: Duration) -> Self {
        let micros = duration.as_micros();
        if micros > u64::MAX as u128 { Moment::NEVER } else { Moment(self.0.saturating_add(micros as u64)) }
    }

    /// The time from `earlier` to here, zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Moment) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}
