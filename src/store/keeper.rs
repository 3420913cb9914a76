//! The store thread: takes the batches of all shards, commits them together, tells the shards.
//!
//! Owns: the thread, the queue to it, what the shards read of it, and the store's way back after it has failed.
//! Always: everything that came while the last commit was under way goes into the next one, so a slow disk makes commits
//! larger, not more. A shard is woken when its last durable batch has moved on, or the store's condition has changed.
//! Never: a decision about what is kept.
//!
//! # When the store fails
//!
//! ```text
//!            room runs short            a commit, a sync or the library's own work fails
//!    Good ◄────────────────► Full ──────┐
//!     │      room returns               ▼
//!     └──────────────────────────────► Failed: closed; tried again after 1, 2, 4, 8, 10, 10 … s
//!     ▲                                 │
//!     └─────────────────────────────────┘ written, read, opened, and everything since the failure committed
//! ```
//!
//! A write or sync that failed is not tried again on the open store: what a failed sync was to bring to the disk the
//! kernel may have dropped, and a second sync would not say so. The store is closed, and opened again as after a crash, which
//! reads and compares all of it. `DiskMedium` sees to it that what is found there is on the disk, not only in memory.
//!
//! What is then on the disk, and what is missing there?
//! - The commits up to n - 1, which succeeded, and n, which failed, whole or not at all: a commit is one batch of the
//!   library, with a checksum. Of those since the last sync some of the last may be lost with a sync that fails: then what is
//!   found ends between the last sync and n.
//! - The joiner still has the write sets since the last sync, the one of n among them, and goes on taking in what shards ask for.
//!   A write set says of each key what its last value is, or that it has none. So all of them with all that came since,
//!   committed to what was found, have the same outcome wherever that ends: each key gets its last value, since no key leaves
//!   the sets before.
//! - Whether a group of several shards is complete is the joiner's to know, before and after alike; no part of one is in the
//!   set that would not have been committed anyway.
//!
//! So the memory of the shards stays the truth, none of it is thrown away, and the first commit after a failure makes the
//! disk agree with it. Shards then hear that every batch up to there is durable, which is so. A process that dies before has
//! acknowledged nothing of what is missing: shards close who waits (`shard::durable`), and refuse what is new. A client that
//! comes back when the store is open meets its session with what it had sent: a QoS 2 message whose identifier was taken in is
//! known and not delivered again; one of QoS 1 may arrive twice. A subscriber's acknowledgement was told lazily before as well.
//!
//! While the store has failed the set grows with what changes in memory: a key each for what is removed, for Wills and for
//! retained messages of QoS 0; publications of QoS 1 and 2, new sessions and subscriptions are refused. It is bounded by what
//! the disk and the shards hold.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{Batch, Condition, Joiner, Medium, QueueSlice, Room, SliceRequest, Store, StoreError};
use crate::runtime::memory::give_back_free_pages;

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
    /// What the store can do.
    fn condition(&self) -> Condition;
}

#[derive(Debug)]
struct Said {
    durable: Vec<AtomicU64>,
    written: Vec<AtomicU64>,
    condition: AtomicU8,
}

impl Said {
    fn set_condition(&self, condition: Condition) {
        self.condition.store(condition.as_u8(), Ordering::Release);
    }
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
            self.said.set_condition(Condition::Failed);
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

    fn condition(&self) -> Condition {
        Condition::from_u8(self.said.condition.load(Ordering::Acquire))
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

/// When the store thread does what.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// `None`: every commit is synced before shards hear of it; else how long what was committed may wait for that. Syncs
    /// begin after half of it, so that one that takes as long as the other half ends in time.
    pub sync_interval: Option<Duration>,
    /// When every commit is synced: shards hear before that that it is written.
    pub says_written: bool,
    /// See [`Room::is_short`].
    pub free_bytes_min: u64,
    /// The time after a failure until the store is opened again, and the longest between two attempts.
    pub reopen: (Duration, Duration),
}

impl Default for Pace {
    fn default() -> Self {
        let reopen = (Duration::from_secs(1), Duration::from_secs(10));
        Self { sync_interval: None, says_written: false, free_bytes_min: 0, reopen }
    }
}

/// The store thread.
pub struct Keeper {
    /// Absent while it has failed.
    store: Option<Box<dyn Store>>,
    medium: Box<dyn Medium>,
    joiner: Joiner,
    /// Every commit is synced.
    sync: bool,
    /// Before it is synced shards hear that it is written.
    says_written: bool,
    /// Otherwise they are synced this often.
    sync_interval: Duration,
    pace: Pace,
    requests: Receiver<Request>,
    /// Parts of queues that wait for the batches before them, and for their turn.
    reads: VecDeque<(u16, SliceRequest)>,
    slices: Vec<Sender<QueueSlice>>,
    said: Arc<Said>,
    wake: Vec<Box<dyn Fn() + Send>>,
    synced_at: Instant,
    noted_at: Instant,
    is_synced: bool,
    room: RoomWatch,
    memory: MemoryWatch,
}

/// What the library gathered in memory and has written to tables since it keeps until it is told that nobody reads it any more;
/// and what it frees stays with this thread, whose memory it was, until it allocates again. What is still gathered is
/// written to tables too when little comes, if it is much.
#[derive(Debug)]
struct MemoryWatch {
    /// Bytes committed since that was last so much that it is given back.
    written: usize,
    /// Times that it is given back yet: tables are written for a while after the last commit.
    times: u32,
    looked_at: Instant,
    /// Bytes committed since.
    written_since: usize,
}

impl MemoryWatch {
    fn note_written(&mut self, bytes: usize) {
        self.written_since += bytes;
        self.written += bytes;
        if self.written >= GIVE_BACK_BYTES {
            (self.written, self.times) = (0, GIVE_BACK_TIMES);
        }
    }

    /// Whether there may be free memory and little came for a while.
    fn is_due(&mut self) -> bool {
        if self.times == 0 || self.looked_at.elapsed() < GIVE_BACK_INTERVAL {
            return false;
        }
        self.looked_at = Instant::now();
        std::mem::take(&mut self.written_since) < QUIET_BYTES_MAX
    }
}

/// What is known of the room on the disk.
#[derive(Debug)]
struct RoomWatch {
    looked_at: Instant,
    reclaimed_at: Instant,
    /// Bytes committed since.
    written: usize,
    /// Bytes after which somebody looks again before it is time.
    written_max: usize,
    is_short: bool,
    /// It could be told.
    is_known: bool,
}

impl Keeper {
    /// Starts the thread. `medium` is what `store` lies on; `wake` wakes each shard.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(
        store: Box<dyn Store>,
        medium: Box<dyn Medium>,
        joiner: Joiner,
        pace: Pace,
        wake: Vec<Box<dyn Fn() + Send>>,
    ) -> std::io::Result<(KeeperHandle, Vec<KeeperPort>)> {
        let said = Arc::new(Said {
            durable: wake.iter().map(|_| AtomicU64::new(0)).collect(),
            written: wake.iter().map(|_| AtomicU64::new(0)).collect(),
            condition: AtomicU8::new(Condition::Good.as_u8()),
        });
        let (sender, requests) = channel();
        let (mut ports, mut slices) = (Vec::new(), Vec::new());
        for (_, shard) in wake.iter().zip(0..) {
            let (to_shard, from_keeper) = channel();
            slices.push(to_shard);
            let said = Arc::clone(&said);
            ports.push(KeeperPort { shard, requests: sender.clone(), slices: from_keeper, said });
        }
        let now = Instant::now();
        let mut keeper = Self {
            store: Some(store),
            medium,
            joiner,
            sync: pace.sync_interval.is_none(),
            says_written: pace.sync_interval.is_none() && pace.says_written,
            // What was committed right after a sync has begun waits for the end of the next one.
            sync_interval: pace.sync_interval.map_or(IDLE_TICK, |interval| interval / 2),
            pace,
            requests,
            reads: VecDeque::new(),
            slices,
            said,
            wake,
            synced_at: now,
            noted_at: now,
            is_synced: true,
            room: RoomWatch {
                looked_at: now,
                reclaimed_at: now,
                written: 0,
                written_max: usize::MAX,
                is_short: false,
                is_known: true,
            },
            memory: MemoryWatch { written: 0, times: 0, looked_at: now, written_since: 0 },
        };
        // Known before the first shard asks for anything.
        keeper.look_at_room();
        let thread = std::thread::Builder::new().name("ringmq-store".into()).spawn(move || keeper.run())?;
        Ok((KeeperHandle { thread }, ports))
    }

    fn run(mut self) -> Result<(), StoreError> {
        // The library panics when a thread of its own has.
        while let Err(error) = caught(|| self.serve()) {
            self.outlast(error)?;
        }
        match self.store.take() {
            Some(store) => caught(|| store.close()),
            None => Ok(()),
        }
    }

    /// Serves until every port is gone.
    fn serve(&mut self) -> Result<(), StoreError> {
        loop {
            let is_busy = self.joiner.has_garbage() || self.has_read_to_serve();
            let tick = if self.memory.times > 0 { GIVE_BACK_INTERVAL } else { IDLE_TICK };
            let patience = if is_busy { Duration::ZERO } else { self.sync_interval.min(tick) };
            match self.requests.recv_timeout(patience) {
                Ok(request) => self.take(request),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.take_waiting();
            self.commit(self.sync)?;
            self.serve_reads()?;
            if let (Some(store), true) = (&self.store, self.joiner.has_garbage()) {
                self.joiner.collect(&**store, GARBAGE_PER_COMMIT)?;
            }
            if !self.is_synced && self.synced_at.elapsed() >= self.sync_interval {
                self.sync()?;
            }
            if self.noted_at.elapsed() >= NOTE_INTERVAL {
                self.noted_at = Instant::now();
                self.store.as_deref_mut().ok_or_else(closed)?.note()?;
            }
            if self.room.looked_at.elapsed() >= ROOM_INTERVAL || self.room.written >= self.room.written_max {
                self.look_at_room();
                self.reclaim()?;
            }
            if self.memory.is_due() {
                self.rest()?;
            }
        }
        self.commit(self.sync)?;
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
        self.reads.iter().any(|(shard, request)| request.batch <= self.joiner.durable(*shard))
    }

    /// Reads parts of queues for shards, of which the store has everything that they asked for before.
    fn serve_reads(&mut self) -> Result<(), StoreError> {
        let Self { store, joiner, reads, slices, wake, .. } = self;
        let store = store.as_deref().ok_or_else(closed)?;
        let mut is_woken = vec![false; wake.len()];
        for _ in 0..reads.len().min(READS_PER_COMMIT) {
            let Some((shard, request)) = reads.pop_front() else { break };
            if request.batch > joiner.durable(shard) {
                reads.push_back((shard, request));
                continue;
            }
            let slice = QueueSlice::read(store, joiner.queues(), request);
            if let (Some(slices), Some(is_woken)) =
                (slices.get(usize::from(shard)), is_woken.get_mut(usize::from(shard)))
            {
                // A shard that has stopped needs none.
                drop(slices.send(slice));
                *is_woken = true;
            }
        }
        wake.iter().zip(is_woken).filter(|(_, is_woken)| *is_woken).for_each(|(wake, _)| wake());
        Ok(())
    }

    fn commit(&mut self, sync: bool) -> Result<(), StoreError> {
        if self.joiner.is_idle() {
            return Ok(());
        }
        let bytes = self.joiner.pending().1;
        let Self { joiner, store, said, wake, .. } = self;
        let store = store.as_deref_mut().ok_or_else(closed)?;
        let syncs_at_once = sync && !self.says_written;
        joiner.commit(store, syncs_at_once, |shard, number| {
            let (written, wake) = (said.written.get(usize::from(shard)), wake.get(usize::from(shard)));
            if let (Some(written), Some(wake)) = (written.filter(|_| !syncs_at_once), wake) {
                written.store(number, Ordering::Release);
                wake();
            }
        })?;
        self.room.written += bytes;
        self.memory.note_written(bytes);
        self.is_synced = false;
        match sync {
            true if syncs_at_once => self.note_synced(),
            true => self.sync()?,
            false => {}
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.store.as_deref_mut().ok_or_else(closed)?.sync()?;
        self.joiner.is_synced();
        self.note_synced();
        self.synced_at = Instant::now();
        Ok(())
    }

    /// Everything that was committed is synced: says so to those who have not heard.
    fn note_synced(&mut self) {
        self.is_synced = true;
        for ((durable, wake), shard) in self.said.durable.iter().zip(&self.wake).zip(0..) {
            let number = self.joiner.durable(shard);
            if durable.swap(number, Ordering::AcqRel) != number {
                wake();
            }
        }
    }

    /// The store has failed: waits until it is open again and has everything.
    ///
    /// # Errors
    /// With `error` when every port is gone before that.
    fn outlast(&mut self, error: StoreError) -> Result<(), StoreError> {
        tracing::error!(
            %error,
            "the store has failed: nothing is durable, and what needs that is refused, until it is open again"
        );
        self.say(Condition::Failed);
        let failed_at = Instant::now();
        // What its buffers still hold is written now or never, before anyone looks at its files again.
        let closing = self.store.take();
        if let Err(error) = caught(|| {
            drop(closing);
            Ok(())
        }) {
            tracing::error!(%error, "the failed store was not closed well");
        }
        let (mut pause, pause_max) = self.pace.reopen;
        let mut next = Instant::now() + pause;
        let mut complaint = String::new();
        loop {
            let left = next.saturating_duration_since(Instant::now());
            match self.requests.recv_timeout(left) {
                Ok(request) if !left.is_zero() => {
                    self.take(request);
                    continue;
                }
                Ok(request) => self.take(request),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(error),
            }
            match caught(|| self.reopen()) {
                Ok(()) => break,
                Err(error) => {
                    self.store = None;
                    let told = error.to_string();
                    if told != complaint {
                        tracing::warn!(%error, "the store cannot be opened again yet");
                        complaint = told;
                    }
                }
            }
            pause = (pause * 2).min(pause_max);
            next = Instant::now() + pause;
        }
        let down_ms = failed_at.elapsed().as_millis() as u64;
        tracing::warn!(down_ms, "the store is open again, and has everything that was asked for meanwhile");
        self.look_at_room();
        self.say(self.condition());
        Ok(())
    }

    /// What the open store can do.
    fn condition(&self) -> Condition {
        if self.room.is_short { Condition::Full } else { Condition::Good }
    }

    /// Opens the store again, and commits what it has missed.
    fn reopen(&mut self) -> Result<(), StoreError> {
        self.look_at_room();
        if self.room.is_short {
            return Err(StoreError::Failed("the disk is nearly full".into()));
        }
        let (store, commit_number) = self.medium.reopen()?;
        self.store = Some(store);
        self.joiner.go_on_after(commit_number);
        while let Ok(request) = self.requests.try_recv() {
            self.take(request);
        }
        self.commit(true)?;
        // What was written and not synced when it failed is known to be there only now.
        self.sync()
    }

    /// Says to shards what the store can do.
    fn say(&self, condition: Condition) {
        self.said.set_condition(condition);
        self.wake.iter().for_each(|wake| wake());
    }

    /// Looks whether there is room, and says so when that has changed.
    fn look_at_room(&mut self) {
        let free_bytes_min = self.pace.free_bytes_min;
        (self.room.looked_at, self.room.written) = (Instant::now(), 0);
        if free_bytes_min == 0 {
            return;
        }
        let room = match self.medium.room() {
            Ok(room) => room,
            Err(error) => {
                if std::mem::replace(&mut self.room.is_known, false) {
                    tracing::warn!(%error, "how much of the disk is free cannot be told");
                }
                return;
            }
        };
        self.room.is_known = true;
        self.room.written_max =
            usize::try_from(room.reserve_bytes(free_bytes_min) / LOOKS_PER_RESERVE).unwrap_or(usize::MAX);
        let was_short = self.room.is_short;
        self.room.is_short = room.is_short(free_bytes_min, was_short);
        if self.room.is_short == was_short {
            return;
        }
        let Room { free_bytes, .. } = room;
        let reserve_bytes = room.reserve_bytes(free_bytes_min);
        if self.room.is_short {
            tracing::error!(
                free_bytes,
                reserve_bytes,
                "the disk is nearly full: nothing new is made durable, and what needs that is refused"
            );
        } else {
            tracing::warn!(free_bytes, reserve_bytes, "the disk has room again");
        }
        if self.store.is_some() {
            self.say(self.condition());
        }
    }

    /// While room is short, what was removed gives back its room now and then.
    fn reclaim(&mut self) -> Result<(), StoreError> {
        if !self.room.is_short || self.room.reclaimed_at.elapsed() < RECLAIM_INTERVAL {
            return Ok(());
        }
        self.room.reclaimed_at = Instant::now();
        self.write_gathered()
    }

    /// Little came for a while, and memory may be free.
    fn rest(&mut self) -> Result<(), StoreError> {
        let store = self.store.as_deref_mut().ok_or_else(closed)?;
        store.forget_written();
        let is_at_work = store.is_at_work();
        let writes = !is_at_work && store.gathered_bytes() >= GATHERED_AT_REST_MAX;
        self.memory.times = if is_at_work || writes { GIVE_BACK_TIMES } else { self.memory.times.saturating_sub(1) };
        if writes {
            self.write_gathered()?;
        }
        give_back_free_pages();
        Ok(())
    }

    /// Writes what is in memory as tables, which takes some room first. While threads of the store are at work it would wait for
    /// them, and might keep the next commit waiting.
    fn write_gathered(&mut self) -> Result<(), StoreError> {
        match (self.medium.room(), &mut self.store) {
            (Ok(room), Some(store)) if room.free_bytes >= RECLAIM_ROOM_BYTES && !store.is_at_work() => store.reclaim(),
            _ => Ok(()),
        }
    }
}

/// What `work` returns, or that it has panicked.
fn caught(work: impl FnOnce() -> Result<(), StoreError>) -> Result<(), StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(StoreError::Failed("it panicked".into())))
}

fn closed() -> StoreError {
    StoreError::Failed("it is closed".into())
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
/// How often the store brings to the disk how far it is.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);
/// How often it looks how much room there is, when little is written.
const ROOM_INTERVAL: Duration = Duration::from_secs(1);
/// It looks as soon as one part in so many of the reserve has been written.
const LOOKS_PER_RESERVE: u64 = 8;
/// While room is short: how often what was removed is made to give its room back.
const RECLAIM_INTERVAL: Duration = Duration::from_secs(10);
/// So much written may have left much free memory.
const GIVE_BACK_BYTES: usize = 1 << 20;
const GIVE_BACK_TIMES: u32 = 3;
/// How often free memory is given back while little comes.
const GIVE_BACK_INTERVAL: Duration = Duration::from_millis(500);
/// Little is less than this in that time: what is given back is not needed again at once.
const QUIET_BYTES_MAX: usize = 64 << 10;
/// So much stays gathered in memory while little comes: half of what makes a table, so that a load that pauses often does
/// not make many small ones.
const GATHERED_AT_REST_MAX: u64 = 4 << 20;
/// Room that this takes at first.
const RECLAIM_ROOM_BYTES: u64 = 64 << 20;
