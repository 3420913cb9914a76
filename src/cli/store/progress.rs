//! The line that moves while a data directory is read.

use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget};

/// A line on the standard error, when that is a terminal.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    what: &'static str,
    count: u64,
    shown: u64,
}

impl Progress {
    /// A line that counts `what`.
    pub fn new(what: &'static str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if !bar.is_hidden() {
            bar.enable_steady_tick(INTERVAL);
        }
        Self { bar, what, count: 0, shown: 0 }
    }

    /// So many more.
    pub fn add(&mut self, count: u64) {
        self.count += count;
        if !self.bar.is_hidden() && self.count - self.shown >= SHOWN_STEP {
            self.shown = self.count;
            self.bar.set_message(format!("{} {}", HumanCount(self.count), self.what));
        }
    }

    /// Takes the line away.
    pub fn clear(self) {
        self.bar.finish_and_clear();
    }
}

const INTERVAL: Duration = Duration::from_millis(250);
const SHOWN_STEP: u64 = 1000;
