//! The store thread: takes the batches of all shards, commits them together, tells the shards.
//!
//! Owns: the thread, the queue to it, and what the shards read of it.
//! Always: everything that came while the last commit was under way goes into the next one, so a slow disk makes commits
//! larger, not more. A shard is woken when its last durable batch has moved on. After a failure nothing more is committed
//! and nothing is said to be durable.
//! Never: a decision about what is kept.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{Batch, Joiner, QueueSlice, SliceRequest, Store, StoreError};

/// A shard's way to the store.
pub trait StorePort: std::fmt::Debug {
    /// Hands a batch over.
    fn submit(&mut self, batch: Batch);
    /// Asks for a part of a queue.
    fn read(&mut self, request: SliceRequest);
    /// The next part that was read.
    fn take_slice(&mut self) -> Option<QueueSlice>;
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

/// What shards ask for.
#[derive(Debug)]
enum Request {
    Commit(Batch),
    Read(u16, SliceRequest),
}

/// A shard's way to the store thread.
#[derive(Debug)]
pub struct KeeperPort {
    shard: u16,
    requests: Sender<Request>,
    slices: Receiver<QueueSlice>,
    said: Arc<Said>,
}

impl KeeperPort {
    fn ask(&self, request: Request) {
        if self.requests.send(request).is_err() {
            self.said.has_failed.store(true, Ordering::Release);
        }
    }
}

impl StorePort for KeeperPort {
    fn submit(&mut self, batch: Batch) {
        self.ask(Request::Commit(batch));
    }

    fn read(&mut self, request: SliceRequest) {
        self.ask(Request::Read(self.shard, request));
    }

    fn take_slice(&mut self) -> Option<QueueSlice> {
        self.slices.try_recv().ok()
    }

    fn durable(&self) -> u64 {
        self.said.durable.get(usize::from(self.shard)).map_or(0, |durable| durable.load(Ordering::Acquire))
    }

    fn written(&self) -> u64 {
        let written =
            self.said.written.get(usize::from(self.shard)).map_or(0, |written| written.load(Ordering::Acquire));
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
    requests: Receiver<Request>,
    /// Parts of queues that wait for the batches before them, and for their turn.
    reads: VecDeque<(u16, SliceRequest)>,
    slices: Vec<Sender<QueueSlice>>,
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
        let (sender, requests) = channel();
        let (mut ports, mut slices) = (Vec::new(), Vec::new());
        for (_, shard) in wake.iter().zip(0..) {
            let (to_shard, from_keeper) = channel();
            slices.push(to_shard);
            let said = Arc::clone(&said);
            ports.push(KeeperPort { shard, requests: sender.clone(), slices: from_keeper, said });
        }
        let keeper = Self {
            store,
            joiner,
            sync: sync_interval.is_none(),
            says_written: sync_interval.is_none() && says_written,
            sync_interval: sync_interval.unwrap_or(IDLE_TICK),
            requests,
            reads: VecDeque::new(),
            slices,
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
            self.refuse_reads();
            while let Ok(request) = self.requests.recv() {
                if let Request::Read(shard, request) = request {
                    self.reads.push_back((shard, request));
                    self.refuse_reads();
                }
            }
        }
        result?;
        self.store.close()
    }

    fn serve(&mut self) -> Result<(), StoreError> {
        loop {
            let is_busy = self.joiner.has_garbage() || self.has_read_to_serve();
            let patience = if is_busy { Duration::ZERO } else { self.sync_interval };
            match self.requests.recv_timeout(patience) {
                Ok(request) => self.take(request),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.take_waiting();
            self.commit()?;
            self.serve_reads();
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
            match self.requests.try_recv() {
                Ok(request) => self.take(request),
                Err(_) => return,
            }
        }
    }

    fn take(&mut self, request: Request) {
        match request {
            Request::Commit(batch) => self.joiner.take(batch),
            Request::Read(shard, request) => self.reads.push_back((shard, request)),
        }
    }

    fn has_read_to_serve(&self) -> bool {
        self.reads.iter().take(READS_PER_COMMIT).any(|(shard, request)| request.batch <= self.joiner.durable(*shard))
    }

    /// Reads parts of queues for shards, of which the store has everything that they asked for before.
    fn serve_reads(&mut self) {
        let mut is_woken = vec![false; self.wake.len()];
        for _ in 0..self.reads.len().min(READS_PER_COMMIT) {
            let Some((shard, request)) = self.reads.pop_front() else { break };
            if request.batch > self.joiner.durable(shard) {
                self.reads.push_back((shard, request));
                continue;
            }
            let slice = QueueSlice::read(&*self.store, request);
            self.answer(shard, slice);
            if let Some(is_woken) = is_woken.get_mut(usize::from(shard)) {
                *is_woken = true;
            }
        }
        self.wake.iter().zip(is_woken).filter(|(_, is_woken)| *is_woken).for_each(|(wake, _)| wake());
    }

    /// The store has failed: nothing can be read.
    fn refuse_reads(&mut self) {
        while let Some((shard, request)) = self.reads.pop_front() {
            let error = StoreError::Failed("it has failed before".into());
            self.answer(shard, QueueSlice { request, read: Err(error) });
            self.wake.get(usize::from(shard)).into_iter().for_each(|wake| wake());
        }
    }

    fn answer(&self, shard: u16, slice: QueueSlice) {
        if let Some(slices) = self.slices.get(usize::from(shard)) {
            // A shard that has stopped needs none.
            drop(slices.send(slice));
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
/// Parts of queues that are read between two commits.
const READS_PER_COMMIT: usize = 64;
/// Bytes after which a commit takes in no more.
const COMMIT_BYTES_MAX: usize = 4 << 20;
/// Records of ended sessions that one commit removes.
const GARBAGE_PER_COMMIT: usize = 1024;
/// How long the thread waits for a batch before it looks whether there is something else to do.
const IDLE_TICK: Duration = Duration::from_secs(1);
