//! The line that moves while a run goes on.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget};

use crate::time::Moment;

/// A line on the standard error, when that is a terminal.
#[derive(Debug)]
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    next: Moment,
}

impl Progress {
    /// A line that shows nothing yet; nothing ever when `is_quiet` or when there is no terminal.
    pub fn new(is_quiet: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let is_shown = !is_quiet && !bar.is_hidden();
        Progress { bar: is_shown.then_some(bar), next: Moment::default() }
    }

    /// Shows what `text` says, a few times a second.
    pub fn show(&mut self, now: Moment, text: impl FnOnce() -> String) {
        let Some(bar) = self.bar.as_ref().filter(|_| now >= self.next) else { return };
        self.next = now.after(INTERVAL);
        bar.set_message(text());
        bar.tick();
    }

    /// Takes the line away.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

const INTERVAL: Duration = Duration::from_millis(250);
