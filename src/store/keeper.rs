//! The store thread: takes the batches of all shards, commits them together, tells the shards.
//!
//! Owns: the thread, the queue to it, and what the shards read of it.
//! Always: everything that came while the last commit was under way goes into the next one, so a slow disk makes commits
//! larger, not more. A shard is woken when its last durable batch has moved on. After a failure nothing more is committed
//! and nothing is said to be durable.
//! Never: a decision about what is kept.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{Batch, Joiner, Store, StoreError};

/// A shard's way to the store.
pub trait StorePort: std::fmt::Debug {
    /// Hands a batch over.
    fn submit(&mut self, batch: Batch);
    /// The last batch of this shard that is durable.
    fn durable(&self) -> u64;
    /// The last batch of this shard that is written.
    fn written(&self) -> u64 {
        self.durable()
    }
    /// Whether the store has failed.
    fn has_failed(&self) -> bool;
}

#[derive(Debug)]
struct Said {
    durable: Vec<AtomicU64>,
    written: Vec<AtomicU64>,
    has_failed: AtomicBool,
}

/// A shard's way to the store thread.
#[derive(Debug)]
pub struct KeeperPort {
    shard: usize,
    batches: Sender<Batch>,
    said: Arc<Said>,
}

impl StorePort for KeeperPort {
    fn submit(&mut self, batch: Batch) {
        if self.batches.send(batch).is_err() {
            self.said.has_failed.store(true, Ordering::Release);
        }
    }

    fn durable(&self) -> u64 {
        self.said.durable.get(self.shard).map_or(0, |durable| durable.load(Ordering::Acquire))
    }

    fn written(&self) -> u64 {
        let written = self.said.written.get(self.shard).map_or(0, |written| written.load(Ordering::Acquire));
        written.max(self.durable())
    }

    fn has_failed(&self) -> bool {
        self.said.has_failed.load(Ordering::Acquire)
    }
}

/// The running store thread.
#[derive(Debug)]
pub struct KeeperHandle {
    thread: JoinHandle<Result<(), StoreError>>,
}

impl KeeperHandle {
    /// Waits until every port is gone and everything is on disk.
    ///
    /// # Errors
    /// When something could not be committed.
    pub fn join(self) -> Result<(), StoreError> {
        self.thread.join().unwrap_or_else(|_| Err(StoreError::Failed("its thread panicked".into())))
    }
}

/// The store thread.
pub struct Keeper {
    store: Box<dyn Store>,
    joiner: Joiner,
    /// Every commit is synced.
    sync: bool,
    /// Before it is synced shards hear that it is written.
    says_written: bool,
    /// Otherwise they are synced this often.
    sync_interval: Duration,
    batches: Receiver<Batch>,
    said: Arc<Said>,
    wake: Vec<Box<dyn Fn() + Send>>,
    synced_at: Instant,
    is_synced: bool,
}

impl Keeper {
    /// Starts the thread. `sync_interval`: `None` when every commit is synced before shards hear that it is durable, else how
    /// often what was committed is. `says_written`: they hear before that that it is written. `wake` wakes each shard.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(
        store: Box<dyn Store>,
        joiner: Joiner,
        sync_interval: Option<Duration>,
        says_written: bool,
        wake: Vec<Box<dyn Fn() + Send>>,
    ) -> std::io::Result<(KeeperHandle, Vec<KeeperPort>)> {
        let said = Arc::new(Said {
            durable: wake.iter().map(|_| AtomicU64::new(0)).collect(),
            written: wake.iter().map(|_| AtomicU64::new(0)).collect(),
            has_failed: AtomicBool::new(false),
        });
        let (sender, batches) = channel();
        let ports = (0..wake.len()).map(|shard| KeeperPort { shard, batches: sender.clone(), said: Arc::clone(&said) });
        let ports = ports.collect();
        let keeper = Self {
            store,
            joiner,
            sync: sync_interval.is_none(),
            says_written: sync_interval.is_none() && says_written,
            sync_interval: sync_interval.unwrap_or(IDLE_TICK),
            batches,
            said,
            wake,
            synced_at: Instant::now(),
            is_synced: true,
        };
        let thread = std::thread::Builder::new().name("ringmq-store".into()).spawn(move || keeper.run())?;
        Ok((KeeperHandle { thread }, ports))
    }

    fn run(mut self) -> Result<(), StoreError> {
        let result = self.serve();
        if let Err(error) = &result {
            tracing::error!(%error, "the store has failed: nothing is durable from now on");
            self.said.has_failed.store(true, Ordering::Release);
            self.wake.iter().for_each(|wake| wake());
            // What shards still hand over must not pile up.
            while self.batches.recv().is_ok() {}
        }
        result?;
        self.store.close()
    }

    fn serve(&mut self) -> Result<(), StoreError> {
        loop {
            let patience = if self.joiner.has_garbage() { Duration::ZERO } else { self.sync_interval };
            match self.batches.recv_timeout(patience) {
                Ok(batch) => self.joiner.take(batch),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.take_waiting();
            self.commit()?;
            if self.joiner.has_garbage() {
                self.joiner.collect(&*self.store, GARBAGE_PER_COMMIT)?;
            }
            if !self.is_synced && self.synced_at.elapsed() >= self.sync_interval {
                self.sync()?;
            }
        }
        self.commit()?;
        self.sync()
    }

    fn take_waiting(&mut self) {
        while self.joiner.pending().0 < COMMIT_RECORDS_MAX && self.joiner.pending().1 < COMMIT_BYTES_MAX {
            match self.batches.try_recv() {
                Ok(batch) => self.joiner.take(batch),
                Err(_) => return,
            }
        }
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        if self.joiner.is_idle() {
            return Ok(());
        }
        let Self { joiner, store, said, wake, .. } = self;
        let say = |said: &[AtomicU64], shard: u16, number: u64| {
            if let (Some(said), Some(wake)) = (said.get(usize::from(shard)), wake.get(usize::from(shard))) {
                said.store(number, Ordering::Release);
                wake();
            }
        };
        if !self.says_written {
            joiner.commit(&mut **store, self.sync, |shard, number| say(&said.durable, shard, number))?;
            self.is_synced = self.sync;
            return Ok(());
        }
        let mut written = Vec::new();
        joiner.commit(&mut **store, false, |shard, number| {
            say(&said.written, shard, number);
            written.push((shard, number));
        })?;
        store.sync()?;
        written.into_iter().for_each(|(shard, number)| say(&said.durable, shard, number));
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.store.sync()?;
        self.is_synced = true;
        self.synced_at = Instant::now();
        Ok(())
    }
}

/// Records after which a commit takes in no more.
const COMMIT_RECORDS_MAX: usize = 4096;
/// Bytes after which a commit takes in no more.
const COMMIT_BYTES_MAX: usize = 4 << 20;
/// Records of ended sessions that one commit removes.
const GARBAGE_PER_COMMIT: usize = 1024;
/// How long the thread waits for a batch before it looks whether there is something else to do.
const IDLE_TICK: Duration = Duration::from_secs(1);
