//! The broker process: marries the runtime to the pure rooms. No protocol is in it.
//!
//! Owns: the start (limits, listeners, store, mesh, a thread per CPU), what is printed then, and the stop (drain, then exit).
//! Always: addresses are bound first, so that one that is taken is told at once; the kernel refuses who connects until
//! everything that was kept is back where it belongs. Then what listens stands on the standard output, before the first
//! client is served. A start that fails says in one line what is missing.

mod crew;
mod driver;
mod storage;

use std::{
    fmt::Write as _,
    io::Write as _,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc as StdArc, Barrier, OnceLock},
    time::{Duration, Instant},
};

use crew::Crew;
pub use driver::{Driver, Rest, Time};
pub use storage::{ReadSoFar, Share, StorageError};

use crate::{
    config::Config,
    routing::HashKey,
    runtime::{
        Clock, Errno, Kernel, Mesh, MeshPort, SEATS, Socket, Table, Uring, UringParameters, Wires, WiresParameters,
        clock::random_seed,
        descriptors::{grow_descriptor_table, raise_descriptor_limit},
        executor::{Executor, ExecutorError, Members, allowed_cpus},
        listener::{ListenError, Listeners},
        memory::{give_back_free_pages, refuse_huge_pages},
        mesh::RANKS as MESH_RANKS,
        signals::{SignalError, handle_stop_signals, stop_signals},
        uring::UringError,
    },
    shard::{ListenerFacts, MeshMessage, RANKS, Shard, Shared, mesh_capacities},
    store::KeeperPort,
    sync::Arc,
};

const _: () = assert!(RANKS == MESH_RANKS);

/// Why the broker did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// There is no io_uring to run on.
    #[error(
        "io_uring cannot be used here: {0}. RingMQ needs Linux 6.1 or newer with io_uring allowed; `ringmq doctor` says more"
    )]
    Ring(#[from] UringError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: ListenError,
    },
    /// The limit on descriptors cannot be read, or is too low.
    #[error("the limit on file descriptors: {0}")]
    Descriptors(Errno),
    /// The limit on descriptors leaves none for clients.
    #[error("the limit on file descriptors is {limit}, of which {reserved} are reserved: none is left for clients")]
    TooFewDescriptors {
        /// The limit.
        limit: u64,
        /// Kept for other uses.
        reserved: u32,
    },
    /// A CPU was asked for that the process may not use.
    #[error("CPU {0} is not one that this process may use")]
    Cpu(u32),
    /// The mesh between shards could not be made.
    #[error("the mesh between shards could not be made: {0}")]
    Mesh(std::io::Error),
    /// A shard's thread failed.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// What is to be kept cannot be.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What was to be kept could not be.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// Signals cannot be handled.
    #[error(transparent)]
    Signal(#[from] SignalError),
}

/// Runs a broker until it is told to stop.
///
/// `watch` is told how far it has come with reading what was kept.
///
/// # Errors
/// When it cannot start, or when a shard fails.
pub fn run(mut config: Config, watch: &mut dyn FnMut(ReadSoFar)) -> Result<(), ServerError> {
    let cpus = choose_cpus(&config)?;
    let shards = if config.runtime.shards == 0 { cpus.len() } else { config.runtime.shards as usize };
    if let Err(error) = refuse_huge_pages() {
        tracing::debug!(%error, "transparent huge pages stay: memory will grow in steps of 2 MiB");
    }
    // Tried before anything else: without it there is nothing to start.
    drop(Uring::new(UringParameters { buffers: 4, ..UringParameters::default() }, probe_wake()?)?);
    let descriptors = size_connections(&mut config)?;
    let mut listeners = bind(&config, shards)?;
    print_start(&config, shards, &cpus, descriptors);
    let capacity = config.runtime.mesh_capacity as usize;
    let ports = Mesh::build::<MeshMessage>(shards, mesh_capacities(capacity)).map_err(ServerError::Mesh)?;
    handle_stop_signals(ports.iter().map(|port| port.wake().clone()).collect())?;
    let key = HashKey::from_seed(placement_seed(config.runtime.placement_seed));
    let interest_slots = config.runtime.interest_slots as usize;
    let shared = Arc::new(Shared::new(shards as u16, config.listeners.len(), key, interest_slots));
    let clock = Clock::start();
    let wakes = ports.iter().map(|port| port.wake().clone()).collect();
    let storage = storage::open(&config, key, wakes, watch)?;
    // What a start reads takes more for a while than what it keeps.
    give_back_free_pages();
    if let Some(storage) = &storage {
        print_storage(&config, storage);
    }
    let (keeper, shares) = storage.map_or((None, Vec::new()), |storage| (Some(storage.keeper), storage.shares));
    let mut shares = shares.into_iter();
    let crews = crews(shards, &cpus);
    let opening = StdArc::new(Opening::of(crews.len()));
    let config = StdArc::new(config);
    let seeds = ports.into_iter().enumerate().map(|(index, port)| {
        Some(ShardSeed { index, port, facts: listener_facts(&config, &listeners), share: shares.next() })
    });
    let mut seeds: Vec<_> = seeds.collect();
    let mut executors = Vec::new();
    for (cpu, members) in crews {
        let Some((&shard, others)) = members.split_first() else { continue };
        let named = Members { shard, more: others.len() };
        let shards = members.into_iter().filter_map(|index| seeds.get_mut(index).and_then(Option::take)).collect();
        let (config, shared, opening) = (StdArc::clone(&config), Arc::clone(&shared), StdArc::clone(&opening));
        let seed = CrewSeed { config, shared, clock, opening, shards };
        executors.push(Executor::start(named, Some(cpu as usize), move || run_crew(seed))?);
    }
    opening.restored.wait();
    let listened = listen(&config, &listeners);
    if listened.is_ok() {
        print_listeners(&config, &listeners);
        opening.open(&mut listeners, shards);
    }
    opening.decided.wait();
    if listened.is_ok() {
        say("ready\n");
    }
    for executor in executors {
        executor.join()??;
    }
    if let Some(keeper) = keeper {
        keeper.join()?;
    }
    listened?;
    say("stopped\n");
    Ok(())
}

/// What a thread starts from.
struct CrewSeed {
    config: StdArc<Config>,
    shared: Arc<Shared>,
    clock: Clock,
    opening: StdArc<Opening>,
    shards: Vec<ShardSeed>,
}

/// What a shard starts from.
struct ShardSeed {
    index: usize,
    port: MeshPort<MeshMessage>,
    facts: Vec<ListenerFacts>,
    /// What it takes over, when anything is kept.
    share: Option<(Share, KeeperPort)>,
}

/// Where threads meet before the first of them serves anyone.
#[derive(Debug)]
struct Opening {
    /// All of them have taken over what was kept.
    restored: Barrier,
    /// It is decided whether anyone is served.
    decided: Barrier,
    /// What each shard accepts from; set before that, when the listeners listen.
    sockets: OnceLock<Vec<Vec<Socket>>>,
}

impl Opening {
    fn of(threads: usize) -> Self {
        let barrier = || Barrier::new(threads + 1);
        Self { restored: barrier(), decided: barrier(), sockets: OnceLock::new() }
    }

    /// The listeners listen: shards take their sockets over.
    fn open(&self, listeners: &mut [Listeners], shards: usize) {
        let of_shard = |_| listeners.iter_mut().filter_map(Listeners::take).collect();
        self.sockets.get_or_init(|| (0..shards).map(of_shard).collect());
    }

    /// Waits for the others. What each shard accepts from, if anyone is served.
    fn wait(&self) -> Option<&[Vec<Socket>]> {
        self.restored.wait();
        self.decided.wait();
        self.sockets.get().map(Vec::as_slice)
    }
}

/// The shards of one thread, from their first turn to their last.
async fn run_crew(seed: CrewSeed) -> Result<(), ServerError> {
    let CrewSeed { config, shared, clock, opening, shards } = seed;
    let limits = &config.runtime;
    let parameters = UringParameters {
        submissions: limits.ring_entries,
        completions: limits.ring_entries.saturating_mul(16).max(limits.turn_completions_max),
        buffers: u16::try_from(limits.receive_buffers).unwrap_or(1 << 15),
        buffer_bytes: limits.receive_buffer_bytes,
        drain: limits.enter_completions_min,
    };
    let uring = ring_for(parameters, &shards);
    let grace = limits.shutdown_grace;
    let restored: Vec<_> = shards.into_iter().map(|seed| RestoredShard::of(seed, &config, &shared, clock)).collect();
    // Whatever failed here, the others must not wait for this thread.
    let Some(sockets) = opening.wait() else { return Ok(()) };
    let uring = uring?;
    match <[RestoredShard; 1]>::try_from(restored) {
        Ok([shard]) => serve(Crew::alone(shard.driver(uring, &config, &shared, clock, sockets)), grace),
        Err(restored) => {
            let (table, seats) = Table::new(uring, restored.len());
            let seated = restored.into_iter().zip(seats);
            let drivers = seated.map(|(shard, seat)| shard.driver(seat, &config, &shared, clock, sockets));
            serve(Crew::at(table, drivers.collect()), grace);
        }
    }
    Ok(())
}

/// A ring that all these shards' wake-ups wake.
fn ring_for(parameters: UringParameters, shards: &[ShardSeed]) -> Result<Uring, ServerError> {
    let mut wakes = shards.iter().map(|seed| seed.port.wake().clone());
    let first = wakes.next().map_or_else(probe_wake, Ok)?;
    let mut uring = Uring::new(parameters, first)?;
    wakes.for_each(|wake| uring.add_wake(wake));
    Ok(uring)
}

/// A shard that has taken over what was kept, and has no sockets yet.
struct RestoredShard {
    index: usize,
    shard: Shard,
    port: MeshPort<MeshMessage>,
    store: Option<KeeperPort>,
}

impl RestoredShard {
    fn of(seed: ShardSeed, config: &Config, shared: &Arc<Shared>, clock: Clock) -> Self {
        let ShardSeed { index, port, facts, share } = seed;
        let config = Rc::new(Config::clone(config));
        let mut shard = Shard::new(index as u16, config, Arc::clone(shared), facts, clock.now());
        let store = share.map(|(share, store)| {
            share.restore(&mut shard, clock.started(), clock.now());
            give_back_free_pages();
            store
        });
        RestoredShard { index, shard, port, store }
    }

    fn driver<K: Kernel>(
        self,
        kernel: K,
        config: &Config,
        shared: &Arc<Shared>,
        clock: Clock,
        sockets: &[Vec<Socket>],
    ) -> Driver<K, Clock> {
        let mut wires = Wires::new(kernel, wires_parameters(config));
        for socket in sockets.get(self.index).into_iter().flatten() {
            wires.add_listener(*socket);
        }
        let mesh_capacity = config.runtime.mesh_capacity as usize;
        let mut driver = Driver::new(wires, self.shard, self.port, Arc::clone(shared), clock, mesh_capacity);
        if let Some(store) = self.store {
            driver.set_store(Box::new(store));
        }
        driver
    }
}

/// Turns until a signal says stop, then the goodbyes.
fn serve<K: Kernel>(mut crew: Crew<K>, grace: Duration) {
    // The loop never yields to its executor. glommio parks when its preemption timer fired before it looked at its tasks,
    // and a task that has only woken itself then waits for good: on a busy machine that stopped whole shards.
    while stop_signals() == 0 {
        crew.turn(true);
    }
    let started = Instant::now();
    while crew.drain(DRAINED_PER_TURN) && started.elapsed() < grace && stop_signals() < 2 {
        crew.turn(false);
        // A turn that found nothing to do leaves the CPU to the clients that are leaving.
        std::thread::sleep(DRAIN_PACE);
    }
    crew.submit();
}

/// Who shares a thread: shards of one CPU, with it, as many as find a seat at one ring.
fn crews(shards: usize, cpus: &[u32]) -> Vec<(u32, Vec<usize>)> {
    let of_cpu = cpus.iter().enumerate().map(|(place, cpu)| (*cpu, (place..shards).step_by(cpus.len()).collect()));
    let split = of_cpu.flat_map(|(cpu, members): (u32, Vec<usize>)| {
        members.chunks(SEATS).map(|chunk| (cpu, chunk.to_vec())).collect::<Vec<_>>()
    });
    split.collect()
}

fn choose_cpus(config: &Config) -> Result<Vec<u32>, ServerError> {
    let allowed: Vec<u32> = allowed_cpus().into_iter().map(|cpu| cpu as u32).collect();
    if config.runtime.cpus.is_empty() {
        return Ok(allowed);
    }
    match config.runtime.cpus.iter().find(|cpu| !allowed.contains(cpu)) {
        Some(&missing) => Err(ServerError::Cpu(missing)),
        None => Ok(config.runtime.cpus.clone()),
    }
}

/// The seed that places clients and topics: another one with each start unless it is configured, since nothing is kept
/// beyond a start.
fn placement_seed(configured: u64) -> u128 {
    if configured != 0 {
        return u128::from(configured);
    }
    let (low, high) = (random_seed(), random_seed());
    u128::from(low) | u128::from(high) << 64
}

fn probe_wake() -> Result<crate::runtime::Wake, ServerError> {
    crate::runtime::Wake::new().map_err(ServerError::Mesh)
}

/// Raises the limit on descriptors, grows the table once, and settles how many connections are served.
fn size_connections(config: &mut Config) -> Result<u64, ServerError> {
    let limit = raise_descriptor_limit().map_err(ServerError::Descriptors)?.soft;
    let reserved = config.runtime.file_descriptors_reserved;
    let room = limit.saturating_sub(u64::from(reserved));
    if room == 0 {
        return Err(ServerError::TooFewDescriptors { limit, reserved });
    }
    if config.runtime.connections_max == 0 || u64::from(config.runtime.connections_max) > room {
        config.runtime.connections_max = u32::try_from(room).unwrap_or(u32::MAX);
    }
    // A table that grows later stalls every thread that shares it.
    let used = u64::from(config.runtime.connections_max) + u64::from(reserved);
    grow_descriptor_table(used.min(limit).min(DESCRIPTORS_GROWN_MAX)).map_err(ServerError::Descriptors)?;
    Ok(limit)
}

fn bind(config: &Config, shards: usize) -> Result<Vec<Listeners>, ServerError> {
    let bind = |address| Listeners::bind(address, shards).map_err(|error| ServerError::Listen { address, error });
    config.listeners.iter().map(|listener| bind(listener.address)).collect()
}

fn listen(config: &Config, listeners: &[Listeners]) -> Result<(), ServerError> {
    listeners.iter().try_for_each(|bound| {
        let listened = bound.listen(config.runtime.listen_backlog);
        listened.map_err(|error| ServerError::Listen { address: bound.address(), error })
    })
}

fn listener_facts(config: &Config, listeners: &[Listeners]) -> Vec<ListenerFacts> {
    let facts = config.listeners.iter().zip(listeners).map(|(listener, bound)| ListenerFacts {
        admits_anonymous: config.admits_anonymous(listener),
        port: bound.address().port(),
        durability: config.durability_of(listener),
    });
    facts.collect()
}

fn wires_parameters(config: &Config) -> WiresParameters {
    let limits = &config.runtime;
    WiresParameters {
        connections_max: limits.connections_max as usize + limits.lingering_max as usize,
        completions_per_turn_max: limits.turn_completions_max as usize,
        crowd_per_turn_max: limits.turn_crowd_max as usize,
        linger: limits.linger_timeout,
        linger_bytes_max: limits.linger_bytes_max,
        lingering_max: limits.lingering_max as usize,
        ..WiresParameters::default()
    }
}

fn print_start(config: &Config, shards: usize, cpus: &[u32], descriptors: u64) {
    let mut lines = String::new();
    let version = env!("CARGO_PKG_VERSION");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.trim();
    let noun = if shards == 1 { "shard" } else { "shards" };
    let _ = writeln!(lines, "RingMQ {version}, {shards} {noun} on CPUs {cpus:?}, Linux {kernel}, io_uring");
    let connections = config.runtime.connections_max;
    let _ = writeln!(lines, "limits: {connections} connections ({descriptors} file descriptors)");
    say(&lines);
}

fn print_listeners(config: &Config, listeners: &[Listeners]) {
    let mut lines = String::new();
    for (listener, bound) in config.listeners.iter().zip(listeners) {
        let who = if config.admits_anonymous(listener) { "anonymous clients admitted" } else { "no anonymous clients" };
        let less = listener.durability.filter(|&own| config.store.durability.promises_more_than(own));
        let less = less.map_or(String::new(), |own| format!(", {}", crate::config::Words::word(own)));
        let _ = writeln!(lines, "listening on tcp {} ({who}{less})", bound.address());
    }
    say(&lines);
}

/// What was found in the store.
fn print_storage(config: &Config, storage: &storage::Storage) {
    let storage::Storage { directory, sessions, retained, queued, .. } = storage;
    let mode = crate::config::Words::word(config.store.durability);
    say(&format!(
        "store: {} ({mode}), {sessions} sessions, {queued} queued messages, {retained} retained messages\n",
        directory.display()
    ));
}

/// Prints; a standard output that nobody reads any more is no reason to stop serving.
fn say(text: &str) {
    let mut output = std::io::stdout().lock();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}

/// Clients told to go in one turn of a drain.
const DRAINED_PER_TURN: usize = 256;
/// Between two turns of a drain.
const DRAIN_PACE: Duration = Duration::from_millis(1);
/// The table of descriptors is grown for at most this many at start: 8 bytes each.
const DESCRIPTORS_GROWN_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_of_one_cpu_share_a_thread() {
        assert_eq!(crews(2, &[4, 6]), [(4, vec![0]), (6, vec![1])]);
        assert_eq!(crews(5, &[4, 6]), [(4, vec![0, 2, 4]), (6, vec![1, 3])]);
        assert_eq!(crews(1, &[4, 6]), [(4, vec![0])]);
        let many = crews(SEATS + 3, &[0]);
        assert_eq!(many.iter().map(|(cpu, members)| (*cpu, members.len())).collect::<Vec<_>>(), [(0, SEATS), (0, 3)]);
        assert_eq!(many.into_iter().flat_map(|(_, members)| members).collect::<Vec<_>>(), Vec::from_iter(0..SEATS + 3));
    }
}
