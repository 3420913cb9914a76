//! The store of a simulated broker: the real joiner over a store in memory, run by the seed instead of by a thread.
//!
//! Owns: what shards have handed over and what is committed. Always: batches of one shard are taken in its order; those of
//! different shards in any. What was committed outlives the broker, and nothing else does. A store that has failed is opened
//! again when the disk works, after any time.

use std::{cell::RefCell, collections::VecDeque, fmt, rc::Rc};

use ringmq::{
    config::Durability,
    plant::{Bug, planted},
    routing::HashKey,
    server::Share,
    store::{
        Batch, Condition, Joiner, Medium, MemoryStore, QueueSlice, SharedMemory, SliceRequest, Space, Store, StorePort,
        doubt, recover,
    },
};

use crate::{failure::fail, random::Random};

struct State {
    store: Box<dyn Store>,
    memory: SharedMemory,
    joiner: Joiner,
    /// By shard, what it handed over and nobody has taken.
    waiting: Vec<VecDeque<Batch>>,
    /// What shards want to have read, in order.
    reads: VecDeque<(usize, SliceRequest)>,
    /// By shard, what was read for it.
    slices: Vec<VecDeque<QueueSlice>>,
    /// By shard, the last batch that it was told is durable, and is written.
    durable: Vec<u64>,
    written: Vec<u64>,
    /// Shards are told what is written before it is synced.
    says_written: bool,
    commits: u64,
    condition: Condition,
}

/// The store of a simulated broker.
#[derive(Clone)]
pub struct SimulatedStore(Rc<RefCell<State>>);

impl fmt::Debug for SimulatedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimulatedStore({:?})", self.0.borrow().condition)
    }
}

/// A shard's way to it.
#[derive(Debug)]
pub struct SimulatedPort {
    shard: usize,
    store: SimulatedStore,
}

impl StorePort for SimulatedPort {
    fn submit(&mut self, batch: Batch) {
        self.store.0.borrow_mut().waiting[self.shard].push_back(batch);
    }

    fn read(&mut self, request: SliceRequest) {
        self.store.0.borrow_mut().reads.push_back((self.shard, request));
    }

    fn take_slice(&mut self) -> Option<QueueSlice> {
        self.store.0.borrow_mut().slices[self.shard].pop_front()
    }

    fn durable(&self) -> u64 {
        self.store.0.borrow().durable[self.shard]
    }

    fn written(&self) -> u64 {
        self.store.0.borrow().written[self.shard]
    }

    fn condition(&self) -> Condition {
        self.store.0.borrow().condition
    }
}

impl SimulatedStore {
    /// Opens what `memory` holds, and says what each of `shards` shards takes over. `window`: how many messages are in flight
    /// to a client. `promises`: what listeners promise; the store gives the most of it. `was_cut`: the machine has died.
    pub fn open(
        memory: &SharedMemory,
        key: HashKey,
        shards: usize,
        window: u64,
        promises: &[Durability],
        was_cut: bool,
    ) -> (SimulatedStore, Vec<Share>) {
        let mut store: Box<dyn Store> = Box::new(MemoryStore::new(memory.clone()));
        // As the store on the disk does when it is opened: what is found may not have been synced.
        store.sync().unwrap_or_else(|error| fail("the store can be synced", format!("{error}")));
        let recovered = recover(&*store, window);
        let mut recovered = recovered.unwrap_or_else(|error| fail("the store can be read", format!("{error}")));
        let is_batched = !promises.contains(&Durability::Sync);
        let given = if is_batched { Durability::Batched } else { Durability::Sync };
        if (is_batched && was_cut) || promises.iter().any(|&promise| given.promises_more_than(promise)) {
            let noted = doubt(&mut recovered, &mut *store);
            noted.unwrap_or_else(|error| fail("the store can be written", format!("{error}")));
        }
        let (queues, ended) = (std::mem::take(&mut recovered.queues), std::mem::take(&mut recovered.ended));
        let mut joiner = Joiner::new(shards as u16, recovered.commit_number, queues, ended);
        joiner.set_sparse_bytes_max(SPARSE_BYTES_MAX);
        let state = State {
            store,
            memory: memory.clone(),
            joiner,
            waiting: (0..shards).map(|_| VecDeque::new()).collect(),
            reads: VecDeque::new(),
            slices: (0..shards).map(|_| VecDeque::new()).collect(),
            durable: vec![0; shards],
            written: vec![0; shards],
            says_written: promises.contains(&Durability::Batched),
            commits: 0,
            condition: Condition::Good,
        };
        (SimulatedStore(Rc::new(RefCell::new(state))), Share::of_each(recovered, key, shards))
    }

    /// A shard's way to it.
    pub fn port(&self, shard: usize) -> SimulatedPort {
        SimulatedPort { shard, store: self.clone() }
    }

    /// Commits so far.
    pub fn commits(&self) -> u64 {
        self.0.borrow().commits
    }

    /// Whether everything that is written is synced.
    pub fn is_synced(&self) -> bool {
        self.0.borrow().is_synced()
    }

    /// Whether it has anything to do.
    pub fn is_busy(&self) -> bool {
        let state = self.0.borrow();
        let is_quiet = state.joiner.is_idle() && !state.joiner.has_garbage() && state.is_synced();
        let is_awaited = !state.reads.is_empty() || state.waiting.iter().any(|waiting| !waiting.is_empty());
        match state.condition {
            Condition::Failed => state.memory.fault().is_none(),
            _ => !is_quiet || is_awaited,
        }
    }

    /// What it can do.
    pub fn condition(&self) -> Condition {
        self.0.borrow().condition
    }

    /// The disk is nearly full, or has room again. Returns whether shards are to be woken.
    pub fn set_full(&self, is_full: bool) -> bool {
        let state = &mut *self.0.borrow_mut();
        let condition = if is_full { Condition::Full } else { Condition::Good };
        state.condition != Condition::Failed && std::mem::replace(&mut state.condition, condition) != condition
    }

    /// Takes a batch of some shard in, or commits what was taken in. Returns the shards to wake.
    pub fn step(&self, random: &mut Random) -> Vec<usize> {
        let state = &mut *self.0.borrow_mut();
        if !state.reads.is_empty() && state.condition != Condition::Failed && random.once_in(3) {
            return state.read(random);
        }
        let shards: Vec<usize> = (0..state.waiting.len()).filter(|&shard| !state.waiting[shard].is_empty()).collect();
        if state.condition == Condition::Failed && (shards.is_empty() || random.once_in(4)) {
            return state.reopen(random);
        }
        if !shards.is_empty() && (state.condition == Condition::Failed || random.below(100) < 60) {
            let batch = state.waiting[*random.pick(&shards)].pop_front();
            batch.into_iter().for_each(|batch| state.joiner.take(batch));
            return Vec::new();
        }
        if state.is_synced() { state.commit(random) } else { state.sync() }
    }

    /// What is left behind when everybody has ended its session and nothing is retained.
    pub fn rest(&self) -> Vec<String> {
        let state = self.0.borrow();
        let mut rest = Vec::new();
        for space in Space::ALL {
            let records = state.store.scan(space, &[], 1000).unwrap_or_default();
            rest.extend(records.iter().map(|(key, _)| format!("{space:?} {}", key.escape_ascii())));
        }
        rest.retain(|record| record != "State m/commit");
        rest
    }

    /// Messages that are queued for somebody, or shared by queues.
    pub fn queued(&self) -> Vec<String> {
        self.rest().into_iter().filter(|record| !record.starts_with("State")).collect()
    }
}

impl State {
    /// Reads one part of a queue whose time has come.
    fn read(&mut self, random: &mut Random) -> Vec<usize> {
        let is_due = |(shard, request): &(usize, SliceRequest)| {
            request.batch <= self.durable[*shard] || planted(Bug::SliceBeforeDurable)
        };
        let due: Vec<usize> = (0..self.reads.len()).filter(|&index| is_due(&self.reads[index])).collect();
        if due.is_empty() {
            return Vec::new();
        }
        let Some((shard, request)) = self.reads.remove(*random.pick(&due)) else { return Vec::new() };
        self.slices[shard].push_back(QueueSlice::read(&*self.store, self.joiner.queues(), request));
        vec![shard]
    }

    /// Opens the store again, if that can be, and commits what it has missed.
    fn reopen(&mut self, random: &mut Random) -> Vec<usize> {
        let Ok((store, commit_number)) = self.memory.reopen() else { return Vec::new() };
        self.store = store;
        self.joiner.go_on_after(commit_number);
        self.condition = Condition::Good;
        self.commit(random);
        // Shards hear of the condition also when nothing of theirs was missed.
        (0..self.durable.len()).collect()
    }

    fn is_synced(&self) -> bool {
        self.written == self.durable
    }

    fn commit(&mut self, random: &mut Random) -> Vec<usize> {
        let Self { store, joiner, durable, written, says_written, .. } = self;
        let mut woken = Vec::new();
        let committed = joiner.commit(&mut **store, !*says_written, |shard, number| {
            written[usize::from(shard)] = number;
            woken.push(usize::from(shard));
        });
        if committed.is_err() {
            self.condition = Condition::Failed;
            return (0..self.durable.len()).collect();
        }
        if !*says_written {
            durable.clone_from(written);
        }
        self.commits += 1;
        if joiner.has_garbage() && random.once_in(2) {
            let collected = joiner.collect(&**store, random.between(1, 8));
            collected.unwrap_or_else(|error| fail("the store can be read", format!("{error}")));
        }
        woken
    }

    fn sync(&mut self) -> Vec<usize> {
        if self.store.sync().is_err() {
            self.condition = Condition::Failed;
            return (0..self.durable.len()).collect();
        }
        self.joiner.is_synced();
        let woken = (0..self.durable.len()).filter(|&shard| self.durable[shard] != self.written[shard]).collect();
        self.durable.clone_from(&self.written);
        woken
    }
}

/// Little, so that chunks are written anew in runs that queue little.
const SPARSE_BYTES_MAX: usize = 100;
