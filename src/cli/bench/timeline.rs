//! How many messages came when.

use std::time::Duration;

use crate::time::Moment;

/// The deliveries of each step of a run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Timeline {
    started: Moment,
    step: Duration,
    /// Deliveries before the step that is under way.
    before: u64,
    /// Deliveries in each step that is over.
    steps: Vec<u64>,
}

impl Timeline {
    /// For a run of that length from `started` on.
    pub fn new(started: Moment, duration: Duration) -> Self {
        let step = (duration / STEPS_MAX).max(STEP_MIN);
        Timeline { started, step, before: 0, steps: Vec::new() }
    }

    /// There were so many deliveries before it.
    pub fn begin(&mut self, delivered: u64) {
        self.before = delivered;
    }

    /// When the step ends that is under way.
    pub fn next_step(&self) -> Option<Moment> {
        let ended = u32::try_from(self.steps.len()).ok().filter(|ended| *ended < STEPS_MAX)?;
        Some(self.started.after(self.step * (ended + 1)))
    }

    /// A step is over, with so many deliveries since the start of all.
    pub fn take_down(&mut self, delivered: u64) {
        self.steps.push(delivered - self.before);
        self.before = delivered;
    }

    /// Adds what another thread saw of the same run.
    pub fn add(&mut self, other: &Timeline) {
        self.steps.truncate(other.steps.len());
        self.steps.iter_mut().zip(&other.steps).for_each(|(mine, others)| *mine += others);
    }

    /// For each step, when it ended (in seconds) and how many messages a second came in it.
    pub fn rates(&self) -> Vec<(f64, f64)> {
        let seconds = self.step.as_secs_f64();
        let rate = |(step, count): (usize, &u64)| ((step + 1) as f64 * seconds, *count as f64 / seconds);
        self.steps.iter().enumerate().map(rate).collect()
    }
}

const STEPS_MAX: u32 = 120;
/// Shorter steps would show the batches of a turn.
const STEP_MIN: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_add_up_over_threads() {
        let started = Moment::from_micros(1_000_000);
        let mut first = Timeline::new(started, Duration::from_millis(200));
        let mut second = first.clone();
        first.begin(100);
        assert_eq!(first.next_step(), Some(started.after(Duration::from_millis(50))));
        for delivered in [150, 160, 160] {
            first.take_down(delivered);
        }
        assert_eq!(first.next_step(), Some(started.after(Duration::from_millis(200))));
        second.begin(0);
        for delivered in [5, 10] {
            second.take_down(delivered);
        }
        first.add(&second);
        assert_eq!(first.rates(), [(0.05, 1100.0), (0.1, 300.0)]);
    }
}
