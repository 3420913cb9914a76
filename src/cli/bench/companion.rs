//! A thread that works beside a run, so that neither waits for the other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use super::BenchError;

/// How far the run has come, for those beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing special goes on.
    Calm,
    /// What the run is about goes on.
    Storm,
    /// It is over.
    Over,
}

/// The run's end of it. Dropped, it tells the thread that the run is over, and waits for it.
#[derive(Debug)]
pub(super) struct Companion<T> {
    phase: Arc<AtomicU8>,
    thread: Option<JoinHandle<Result<T, BenchError>>>,
}

/// The thread's end of it.
#[derive(Debug)]
pub(super) struct Beside {
    phase: Arc<AtomicU8>,
    ready: mpsc::Sender<()>,
}

impl<T: Send + 'static> Companion<T> {
    /// Starts `work`, and waits until it says that it is ready.
    ///
    /// # Errors
    ///
    /// Why it ended before that.
    pub fn start(work: impl FnOnce(&Beside) -> Result<T, BenchError> + Send + 'static) -> Result<Self, BenchError> {
        let phase = Arc::new(AtomicU8::new(Phase::Calm as u8));
        let (ready, is_ready) = mpsc::channel();
        let beside = Beside { phase: Arc::clone(&phase), ready };
        let thread = thread::Builder::new().name("beside".to_owned()).spawn(move || work(&beside));
        let companion = Companion { phase, thread: Some(thread.map_err(BenchError::Thread)?) };
        match is_ready.recv() {
            Ok(()) => Ok(companion),
            // The thread and its sender are gone: it says why.
            Err(mpsc::RecvError) => Err(companion.finish().err().unwrap_or(BenchError::NothingOpen)),
        }
    }

    /// Tells how far the run has come.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Ends it, and takes what it found.
    pub fn finish(mut self) -> Result<T, BenchError> {
        self.enter(Phase::Over);
        let thread = self.thread.take().expect("only this and the destructor take it");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl<T> Drop for Companion<T> {
    fn drop(&mut self) {
        self.phase.store(Phase::Over as u8, Ordering::Release);
        // Whoever drops it has an error of its own to tell.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Beside {
    /// Lets the run go on.
    pub fn ready(&self) {
        // Nobody waits any more when the run has ended already, and the phase says so too.
        let _ = self.ready.send(());
    }

    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Calm,
            1 => Phase::Storm,
            _ => Phase::Over,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_hears_how_far_the_run_is_and_says_what_it_found() {
        let companion = Companion::start(|beside| {
            beside.ready();
            let mut stormy = false;
            while beside.phase() != Phase::Over {
                stormy |= beside.phase() == Phase::Storm;
                thread::yield_now();
            }
            Ok(stormy)
        });
        assert!(!companion.unwrap().finish().unwrap());
        let failed: Result<Companion<()>, _> = Companion::start(|_| Err(BenchError::NothingOpen));
        assert!(matches!(failed, Err(BenchError::NothingOpen)));
    }
}
