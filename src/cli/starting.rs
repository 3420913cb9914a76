//! What a start says while it reads what was kept, when that takes its time.
//!
//! Owns: how often that is: on a terminal the line moves, anywhere else a line a second is logged.
//! Always: nothing is said of a start that is quick.

use std::{
    io::{IsTerminal as _, stderr},
    time::{Duration, Instant},
};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::server::ReadSoFar;

/// The progress of one start.
#[derive(Debug)]
pub(super) struct Starting {
    begun: Instant,
    pace: Pace,
    /// The line that moves, on a terminal.
    bar: Option<ProgressBar>,
}

impl Starting {
    /// A start that begins now.
    pub fn begin() -> Self {
        let line = || ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        // It is drawn with its first text.
        let bar = stderr().is_terminal().then(|| line().with_style(ProgressStyle::default_spinner()));
        let pace = Pace::every(if bar.is_some() { MOVES_EVERY } else { LOGGED_EVERY });
        Self { begun: Instant::now(), pace, bar }
    }

    /// So much was read.
    pub fn note(&mut self, read: ReadSoFar) {
        let Some(text) = describe(read) else { return self.clear() };
        if !self.pace.is_due(self.begun.elapsed()) {
            return;
        }
        match &self.bar {
            Some(bar) => {
                bar.set_message(text);
                bar.tick();
            }
            None => tracing::info!("{text}"),
        }
    }

    /// Takes the line that moves away.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Tells when there is something to be said again.
#[derive(Debug)]
struct Pace {
    interval: Duration,
    next: Duration,
}

impl Pace {
    fn every(interval: Duration) -> Self {
        Self { interval, next: QUICK }
    }

    /// Whether it is, so long after the start.
    fn is_due(&mut self, elapsed: Duration) -> bool {
        let is_due = elapsed >= self.next;
        if is_due {
            self.next = elapsed + self.interval;
        }
        is_due
    }
}

fn describe(read: ReadSoFar) -> Option<String> {
    Some(match read {
        ReadSoFar::Bytes(bytes) => format!("starting: {} of the store verified", HumanBytes(bytes)),
        ReadSoFar::Records(read) => {
            let [records, sessions, messages] = [read.records, read.sessions, read.messages].map(HumanCount);
            format!("starting: {records} records read: {sessions} sessions, {messages} messages")
        }
        ReadSoFar::All => return None,
    })
}

/// A start that takes no longer says nothing.
const QUICK: Duration = Duration::from_secs(1);
/// Between two lines of log.
const LOGGED_EVERY: Duration = Duration::from_secs(1);
/// Between two movements of the line.
const MOVES_EVERY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RecordsRead;

    #[test]
    fn a_quick_start_says_nothing_and_a_long_one_a_line_a_second() {
        let mut pace = Pace::every(LOGGED_EVERY);
        let times = [0, 999, 1000, 1001, 1999, 2500, 3499, 3500];
        let said: Vec<u64> = times.into_iter().filter(|&ms| pace.is_due(Duration::from_millis(ms))).collect();
        assert_eq!(said, [1000, 2500, 3500]);
    }

    #[test]
    fn the_line_says_what_was_read() {
        let read = RecordsRead { records: 1_200_345, sessions: 100_000, messages: 1_000_000 };
        let line = describe(ReadSoFar::Records(read));
        assert_eq!(line.as_deref(), Some("starting: 1,200,345 records read: 100,000 sessions, 1,000,000 messages"));
        let line = describe(ReadSoFar::Bytes(3 << 20));
        assert_eq!(line.as_deref(), Some("starting: 3.00 MiB of the store verified"));
    }
}
