//! One executor per CPU: a thread, pinned to it, that runs one future, for one shard or for several.
//!
//! What always holds: a panic of a shard ends its thread only, and whoever joins it is told. The executor's own memory and
//! rings are kept small: the shards bring their own ring.
//!
//! The future never yields to the executor: it waits in its own ring. So nothing else may be spawned on such an
//! executor. (Yielding before each wait hung twice in some ten million yields on a busy machine: it looks as if glommio 0.9
//! parks with a runnable task when its preemption timer fires between its poll for I/O and its look at the task queues.)

#![allow(unsafe_code)]

use std::{fmt, future::Future, thread, time::Duration};

use glommio::{LocalExecutorBuilder, Placement};

use super::kernel::Errno;

/// Why an executor didn't start or didn't end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecutorError {
    /// The thread could not be made.
    #[error("{0}: the thread could not be made: {1}")]
    Spawn(Members, Errno),
    /// The executor could not be made on its thread: the CPU isn't ours, or io_uring or locked memory is missing.
    #[error("{0}: the executor could not be made")]
    Make(Members),
    /// The future panicked. The message went to the standard error.
    #[error("{0} panicked")]
    Panicked(Members),
}

/// The shards of one executor, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Members {
    /// The first of them.
    pub shard: usize,
    /// How many more there are.
    pub more: usize,
}

impl Members {
    /// One shard.
    #[must_use]
    pub const fn of(shard: usize) -> Self {
        Members { shard, more: 0 }
    }
}

impl fmt::Display for Members {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Members { shard, more: 0 } => write!(formatter, "shard {shard}"),
            Members { shard, more } => write!(formatter, "shard {shard} or one of {more} more on its thread"),
        }
    }
}

/// A running executor.
#[derive(Debug)]
pub struct Executor<T> {
    members: Members,
    thread: thread::JoinHandle<Option<T>>,
}

impl<T: Send + 'static> Executor<T> {
    /// Starts a thread for `members`, pinned to `cpu` if one is given, makes the future there and runs it to its end.
    /// Returns when the future begins.
    ///
    /// # Errors
    ///
    /// When the thread or the executor could not be made.
    pub fn start<F>(
        members: Members,
        cpu: Option<usize>,
        task: impl FnOnce() -> F + Send + 'static,
    ) -> Result<Self, ExecutorError>
    where
        F: Future<Output = T> + 'static,
    {
        let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
        let run = move || {
            let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
            let made = LocalExecutorBuilder::new(placement)
                .io_memory(0)
                .ring_depth(RING_DEPTH)
                .preempt_timer(PREEMPT_TIMER)
                .make();
            let Ok(executor) = made else { return None };
            Some(executor.run(async move {
                // Nobody waits any more only if the starting thread gave up or died.
                let _ = ready.send(());
                task().await
            }))
        };
        // The kernel shows 15 characters.
        let name = match members {
            Members { shard, more: 0 } => format!("shard-{shard}"),
            Members { shard, more } => format!("shard-{shard}+{more}"),
        };
        let spawned = thread::Builder::new().name(name).spawn(run);
        let thread = spawned
            .map_err(|error| ExecutorError::Spawn(members, Errno(error.raw_os_error().unwrap_or(libc::EAGAIN))))?;
        if is_ready.recv_timeout(START_MAX).is_err() {
            return Err(ExecutorError::Make(members));
        }
        Ok(Executor { members, thread })
    }

    /// Waits for the future's end.
    ///
    /// # Errors
    ///
    /// When it panicked.
    pub fn join(self) -> Result<T, ExecutorError> {
        match self.thread.join() {
            Ok(Some(output)) => Ok(output),
            Ok(None) => Err(ExecutorError::Make(self.members)),
            Err(_) => Err(ExecutorError::Panicked(self.members)),
        }
    }

    /// Whether the future has ended, so that [`Executor::join`] doesn't wait.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// The CPUs that this process may run on, in ascending order.
#[must_use]
pub fn allowed_cpus() -> Vec<usize> {
    // SAFETY: all zeros is a valid `cpu_set_t`, an array of bits.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer and the size describe `set`, which lives through the call.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    if result != 0 {
        return vec![0];
    }
    // SAFETY: the numbers are below the size of the set.
    (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect()
}

/// Lets the calling thread run ahead of the others of this machine, as far as niceness goes.
///
/// # Errors
///
/// When this process may not do that: it takes CAP_SYS_NICE.
pub fn raise_thread_priority() -> Result<(), Errno> {
    // SAFETY: setpriority(2) takes three integers; 0 is the calling thread.
    super::system::checked(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS_MIN) }).map(drop)
}

/// The first to run.
const NICENESS_MIN: libc::c_int = -20;
/// How long an executor may take to begin.
const START_MAX: Duration = Duration::from_secs(10);
/// The executor's own ring carries nothing of ours.
const RING_DEPTH: usize = 8;
/// As good as never: a future that doesn't yield needs no preemption. When the timer fires before the executor has looked
/// at its tasks for the first time, it parks, and the shard never begins (seen with 1 ms, on a busy machine).
const PREEMPT_TIMER: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_executors_than_cpus_run_and_a_panic_is_reported() {
        let cpus = allowed_cpus();
        let start = |shard: usize| {
            Executor::start(Members::of(shard), Some(cpus[shard % cpus.len()]), move || async move {
                assert_ne!(shard, 3, "a shard that panics, on purpose");
                shard * 10
            })
        };
        let executors: Vec<_> = (0..5).map(|shard| start(shard).unwrap()).collect();
        let joined: Vec<_> = executors.into_iter().map(Executor::join).collect();
        assert_eq!(joined, [Ok(0), Ok(10), Ok(20), Err(ExecutorError::Panicked(Members::of(3))), Ok(40)]);
    }

    #[test]
    fn a_cpu_that_is_not_ours_is_an_error() {
        let started = Executor::start(Members::of(0), Some(1023), || async {});
        assert_eq!(started.err(), Some(ExecutorError::Make(Members::of(0))));
    }
}
