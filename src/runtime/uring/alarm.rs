//! When a ring that waits is to be woken although nothing has come.
//!
//! Owns: when the one timer of the ring goes off. Always: no later than the wait that is about to begin is to end. One that
//! goes off earlier wakes in vain, once. Never: set anew for each wait. A timer of its own for each wait costs more than
//! the wait: the clock of a virtual machine is set by leaving it, and an enter with a timeout sets it twice.
//!
//! Once the kernel waits, the alarm ends the wait whatever that waits for. One that goes off just before is a completion as
//! any other: it ends a wait for one, and not a wait for several. So these have a timeout as well ([`BACKSTOP`]), which costs
//! little because it is later than the alarm: a clock is set for what comes first.

use std::time::{Duration, Instant};

use io_uring::types::Timespec;

/// The timer of a ring.
#[derive(Debug)]
pub(super) struct Alarm {
    goes_off: Option<Instant>,
    /// What the submission queue points to.
    pub time: Box<Timespec>,
    /// The kernel would not set it.
    is_refused: bool,
}

/// What is to be done before a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    /// It goes off early enough.
    Keep,
    /// It is to be set to `time` from now.
    Set,
    /// It is set, and to be set to `time` from now.
    Move,
    /// The wait needs a timeout of its own.
    Refused,
}

impl Alarm {
    /// One that is not set.
    pub fn new() -> Self {
        Alarm { goes_off: None, time: Box::new(Timespec::new()), is_refused: false }
    }

    /// A wait begins `now` that is to end after `wait`.
    pub fn wait_for(&mut self, wait: Duration, now: Instant) -> Setting {
        // One that has gone off, of which the kernel has not told yet, ends no wait any more.
        let has_gone_off = self.goes_off.is_some_and(|moment| moment <= now);
        if self.is_refused || has_gone_off || wait < WORTH_IT {
            return Setting::Refused;
        }
        let Some(end) = now.checked_add(wait) else { return Setting::Keep };
        if self.goes_off.is_some_and(|moment| moment <= end) {
            return Setting::Keep;
        }
        *self.time = Timespec::from(wait);
        match self.goes_off.replace(end) {
            Some(_) => Setting::Move,
            None => Setting::Set,
        }
    }

    /// It went off, or the kernel took it back.
    pub fn went_off(&mut self, result: i32) {
        self.goes_off = None;
        let is_expected = matches!(-result, libc::ETIME | libc::ECANCELED);
        if !is_expected {
            tracing::warn!(
                errno = -result,
                "the kernel sets no timer on a ring: each wait has a timeout of its own now"
            );
            self.is_refused = true;
        }
    }
}

/// How long a wait for several completions lasts at most when the alarm went off just before it.
pub(super) const BACKSTOP: Duration = Duration::from_millis(20);
/// Shorter waits are rare, and over before the next.
const WORTH_IT: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn it_is_set_for_the_first_wait_and_moved_only_for_one_that_ends_before() {
        let mut alarm = Alarm::new();
        let start = Instant::now();
        assert_eq!(alarm.wait_for(millis(100), start), Setting::Set);
        assert_eq!(alarm.wait_for(millis(100), start + millis(1)), Setting::Keep);
        assert_eq!(alarm.wait_for(millis(20), start + millis(1)), Setting::Move);
        assert_eq!(alarm.wait_for(millis(100), start + millis(2)), Setting::Keep);
        assert_eq!(alarm.wait_for(millis(100), start + millis(21)), Setting::Refused, "it has gone off");
        alarm.went_off(-libc::ETIME);
        assert_eq!(alarm.wait_for(millis(100), start + millis(22)), Setting::Set);
        assert_eq!(alarm.wait_for(Duration::MAX, start + millis(22)), Setting::Keep, "beyond what a clock can tell");
    }

    #[test]
    fn a_short_wait_and_a_kernel_that_refuses_need_timeouts() {
        let mut alarm = Alarm::new();
        let start = Instant::now();
        assert_eq!(alarm.wait_for(Duration::from_micros(10), start), Setting::Refused);
        assert_eq!(alarm.wait_for(millis(10), start), Setting::Set);
        alarm.went_off(-libc::EINVAL);
        assert_eq!(alarm.wait_for(millis(10), start), Setting::Refused);
    }
}
