//! The log's way to standard error.
//!
//! Owns the tracing subscriber and a thread that writes. Always holds: logging never makes a shard wait for whoever
//! reads standard error. Lines queue up to `QUEUED_BYTES_MAX`; more are dropped, and a line says how many.
//! Must never: be called per message.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt::MakeWriter,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use super::is_coloured;
use crate::config::{LogFormat, LogLevel, LogSettings};

/// Why logging can't begin.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The thread that writes doesn't start.
    #[error("cannot start the thread that writes the log: {0}")]
    Thread(io::Error),
    /// The process has a subscriber already.
    #[error("logging has begun already")]
    Twice,
}

/// Writes out what is queued when dropped, within a second.
#[derive(Debug)]
pub struct LogGuard(Arc<Queue>);

/// Sends all events of the process to standard error from now on, as `settings` say.
///
/// # Errors
/// When the thread that writes doesn't start, or when logging has begun already.
pub fn init(settings: &LogSettings) -> Result<LogGuard, LogError> {
    let queue = Arc::new(Queue::default());
    let writer = Arc::clone(&queue);
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || writer.write_forever(&mut io::stderr()))
        .map_err(LogError::Thread)?;
    let level = level_filter(settings.level);
    // What the store's libraries say of their ordinary doings is for those who debug.
    let theirs = if level >= LevelFilter::DEBUG { level } else { level.min(LevelFilter::WARN) };
    let targets = Targets::new().with_default(level).with_target("fjall", theirs).with_target("lsm_tree", theirs);
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        // Whoever reads for trouble wants to know the module; whoever operates the broker doesn't.
        .with_target(level >= LevelFilter::DEBUG)
        .with_ansi(is_coloured(&io::stderr()))
        .with_writer(Lines(Arc::clone(&queue)));
    match settings.format {
        LogFormat::Text => builder.finish().with(targets).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_ansi(false).finish().with(targets).try_init(),
    }
    .map_err(|_| LogError::Twice)?;
    Ok(LogGuard(queue))
}

fn level_filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.0.flush(FLUSH_TIMEOUT);
    }
}

/// Lines on their way to the thread that writes.
#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    /// There is something to write.
    filled: Condvar,
    /// All is written.
    drained: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    dropped: u64,
    is_writing: bool,
}

impl State {
    fn is_drained(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0 && !self.is_writing
    }
}

impl Queue {
    fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.bytes + line.len() > QUEUED_BYTES_MAX {
            state.dropped += 1;
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line.to_owned());
        self.filled.notify_one();
    }

    /// Waits until all is written, or for `timeout`.
    fn flush(&self, timeout: Duration) {
        drop(self.drained.wait_timeout_while(self.lock(), timeout, |state| !state.is_drained()));
    }

    fn write_forever(&self, output: &mut impl Write) {
        loop {
            self.write_once(output);
        }
    }

    /// Waits for lines and writes them. When writing fails there is nobody left to tell.
    fn write_once(&self, output: &mut impl Write) {
        let state = self.lock();
        let waited = self.filled.wait_while(state, |state| state.lines.is_empty() && state.dropped == 0);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        let lines = std::mem::take(&mut state.lines);
        let dropped = std::mem::take(&mut state.dropped);
        state.bytes = 0;
        state.is_writing = true;
        drop(state);
        for line in lines {
            let _ = output.write_all(&line);
        }
        if dropped > 0 {
            let _ = writeln!(output, "{dropped} lines of log were dropped: whoever reads them is too slow");
        }
        let _ = output.flush();
        let mut state = self.lock();
        state.is_writing = false;
        if state.is_drained() {
            self.drained.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a writer for each event.
struct Lines(Arc<Queue>);

/// Queues what is written; the subscriber writes an event at once.
struct Line<'a>(&'a Queue);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.0)
    }
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines that wait to be written; when there are more, new ones are dropped and counted.
const QUEUED_BYTES_MAX: usize = 1 << 20;

/// How long a process that ends waits for its last lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_written_in_order_and_the_excess_is_counted() {
        let queue = Queue::default();
        queue.push(b"first\n");
        queue.push(&vec![b'x'; QUEUED_BYTES_MAX]);
        queue.push(b"second\n");
        let mut output = Vec::new();
        queue.write_once(&mut output);
        let expected = "first\nsecond\n1 lines of log were dropped: whoever reads them is too slow\n";
        assert_eq!(String::from_utf8_lossy(&output), expected);
        assert!(queue.lock().is_drained());
        queue.flush(Duration::ZERO);
    }

    #[test]
    fn flushing_waits_for_the_thread_that_writes() {
        let queue = Arc::new(Queue::default());
        queue.push(b"line\n");
        let writer = Arc::clone(&queue);
        let thread = thread::spawn(move || {
            let mut output = Vec::new();
            writer.write_once(&mut output);
            output
        });
        queue.flush(Duration::from_secs(60));
        assert!(queue.lock().is_drained());
        assert_eq!(thread.join().expect("the writer ends"), b"line\n");
    }
}
