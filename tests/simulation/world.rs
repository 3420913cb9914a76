//! The simulated world: shards on kernels in memory, the clients, and the order in which anything happens.
//!
//! Owns: the time, the seed's choices, and which shard runs next. What always holds: a shard that has said that it sleeps
//! runs again only when its kernel has something for it, its eventfd was written to, or its deadline has come; time
//! moves on with each step, so that no two turns are at one moment.

use std::{cell::Cell, rc::Rc, sync::Arc};

use ringmq::{
    config::{Config, Durability},
    mqtt::ProtocolVersion,
    routing::{HashKey, home},
    runtime::{
        Mesh, Socket, Wake, Wires, WiresParameters,
        fake::{FakeFaults, FakeKernel, FakeNetwork},
        kernel::EnterWait,
    },
    server::{Driver, Rest, Time},
    shard::{ListenerFacts, MeshMessage, Shard, Shared},
    store::{Condition, Fault, SharedMemory},
    time::Moment,
};

use crate::{
    book::{Book, Number, Survival},
    client::{Client, Profile},
    failure::fail,
    random::Random,
    store::SimulatedStore,
};

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    pub shards: usize,
    /// Capacities of the mesh by rank.
    pub mesh: [usize; 3],
    pub interest_slots: usize,
    pub faults: FakeFaults,
    /// Receive buffers of a shard, and their bytes.
    pub buffers: (u16, usize),
    pub completions_per_turn_max: usize,
    pub crowd_per_turn_max: usize,
    /// Descriptors that there may be, listeners included.
    pub descriptors_max: Option<usize>,
    /// Now and then the clock jumps ahead by up to this many microseconds.
    pub jump_max: u64,
    /// How long the world waits, when nothing happens, for something to come by itself.
    pub patience: u64,
    /// The store does something about once in so many steps; without, there is none.
    pub store_pace: Option<usize>,
    /// What each listener of a shard promises.
    pub promises: Vec<Durability>,
    pub config: Config,
}

impl Setup {
    /// A world of a random size, with random faults.
    pub fn random(random: &mut Random) -> Setup {
        let mut config = Config::default();
        config.sys.enabled = false;
        config.log.connections = false;
        config.mqtt.queue_messages_max = 1_000_000;
        config.mqtt.queue_bytes_max = 1 << 40;
        config.mqtt.out_buffer_bytes_max = 1 << 30;
        config.mqtt.receive_maximum = *random.pick(&[1, 4, 64]);
        config.mqtt.inflight_max = *random.pick(&[1, 3, 64]);
        config.mqtt.queue_memory_messages = *random.pick(&[1, 2, 4, 1024]);
        Setup {
            shards: random.between(1, 8),
            mesh: [*random.pick(&[1, 2, 64]), *random.pick(&[1, 2, 64]), *random.pick(&[1, 2, 64])],
            interest_slots: *random.pick(&[64, 1024]),
            faults: *random.pick(&[FakeFaults::NONE, FakeFaults::SOME, FakeFaults { delay: 60, ..FakeFaults::SOME }]),
            buffers: (*random.pick(&[1, 3, 16]), *random.pick(&[16, 256, 4096])),
            completions_per_turn_max: *random.pick(&[1, 4, 256]),
            crowd_per_turn_max: *random.pick(&[1, 3, 64]),
            descriptors_max: None,
            jump_max: *random.pick(&[100, 5_000]),
            patience: 5_000,
            store_pace: None,
            promises: vec![Durability::Sync],
            config,
        }
    }

    /// At least two shards.
    pub fn of_many_shards(random: &mut Random) -> Setup {
        let setup = Setup::random(random);
        Setup { shards: setup.shards.max(2), ..setup }
    }
}

#[derive(Clone, Debug)]
struct VirtualTime(Rc<Cell<u64>>);

impl Time for VirtualTime {
    fn now(&self) -> Moment {
        Moment::from_micros(self.0.get())
    }
}

/// A shard with its kernel.
struct Node {
    driver: Driver<FakeKernel, VirtualTime>,
    wake: Wake,
    /// The turn that it sleeps in, and when it wakes by itself.
    asleep: Option<(Rest, u64)>,
    held: u8,
}

/// A running broker.
struct Broker {
    shared: Arc<Shared>,
    /// By shard, one for each promise.
    listeners: Vec<Vec<Socket>>,
    nodes: Vec<Node>,
    store: Option<SimulatedStore>,
}

impl Broker {
    fn start(
        setup: &Setup,
        network: &FakeNetwork,
        clock: &Rc<Cell<u64>>,
        key: HashKey,
        memory: &SharedMemory,
        was_cut: bool,
    ) -> Broker {
        let shared = Arc::new(Shared::new(setup.shards as u16, 1, key, setup.interest_slots));
        let ports = Mesh::build::<MeshMessage>(setup.shards, setup.mesh).expect("descriptors for the wake-ups");
        let config = Rc::new(setup.config.clone());
        let listen = |_| setup.promises.iter().map(|_| network.listen()).collect();
        let listeners: Vec<Vec<Socket>> = (0..setup.shards).map(listen).collect();
        let window = setup.config.mqtt.inflight_max.into();
        let open = |_| SimulatedStore::open(memory, key, setup.shards, window, &setup.promises, was_cut);
        let kept = setup.store_pace.map(open);
        let (store, shares) = kept.map_or((None, Vec::new()), |(store, shares)| (Some(store), shares));
        let mut shares = shares.into_iter();
        let nodes = ports.into_iter().zip(&listeners).enumerate().map(|(index, (port, sockets))| {
            let kernel = FakeKernel::new(network.clone(), setup.faults, setup.buffers.0, setup.buffers.1);
            let parameters = WiresParameters {
                completions_per_turn_max: setup.completions_per_turn_max,
                crowd_per_turn_max: setup.crowd_per_turn_max,
                ..WiresParameters::default()
            };
            let mut wires = Wires::new(kernel, parameters);
            for &socket in sockets {
                wires.add_listener(socket);
            }
            let time = VirtualTime(clock.clone());
            let facts = setup.promises.iter();
            let facts =
                facts.map(|&durability| ListenerFacts { admits_anonymous: true, port: 1883, durability }).collect();
            let mut shard = Shard::new(index as u16, config.clone(), shared.clone(), facts, time.now());
            if let Some(share) = shares.next() {
                share.restore(&mut shard, time.now(), time.now());
            }
            let wake = port.wake().clone();
            let capacity = setup.mesh.into_iter().max().unwrap_or(1);
            let mut driver = Driver::new(wires, shard, port, shared.clone(), time, capacity);
            if let Some(store) = &store {
                driver.set_store(Box::new(store.port(index)));
            }
            Node { driver, wake, asleep: None, held: 0 }
        });
        let nodes = nodes.collect();
        network.limit_descriptors(setup.descriptors_max.unwrap_or(usize::MAX));
        Broker { shared, listeners, nodes, store }
    }
}

/// The simulated world.
pub struct World {
    pub random: Random,
    pub book: Book,
    pub clients: Vec<Client>,
    pub shared: Arc<Shared>,
    network: FakeNetwork,
    listeners: Vec<Vec<Socket>>,
    nodes: Vec<Node>,
    store: Option<SimulatedStore>,
    /// When everything that was written was synced last.
    synced_at: u64,
    /// What outlives the broker.
    memory: SharedMemory,
    clock: Rc<Cell<u64>>,
    setup: Setup,
    /// Steps in which a client did anything.
    moved: u64,
    /// Whether ranks are held at random.
    pub holds: bool,
    /// Whether the broker was told to stop.
    pub is_draining: bool,
    /// Whether there is room for some of its clients only.
    pub is_limited: bool,
    /// Whether its queues are so short that messages are dropped by rights.
    pub drops: bool,
}

impl World {
    pub fn new(seed: u64, setup: Setup, traces: bool) -> World {
        let mut random = Random::part(seed, 1);
        let network = FakeNetwork::new(random.number());
        let clock = Rc::new(Cell::new(START_MICROS));
        let key = HashKey::from_seed(u128::from(random.number()));
        let book = Book::new(traces);
        book.tell(|| format!("{setup:?}"));
        let memory = SharedMemory::default();
        let broker = Broker::start(&setup, &network, &clock, key, &memory, false);
        World {
            random,
            book,
            clients: Vec::new(),
            shared: broker.shared,
            network,
            listeners: broker.listeners,
            nodes: broker.nodes,
            store: broker.store,
            synced_at: 0,
            memory,
            clock,
            setup,
            moved: 0,
            holds: false,
            is_draining: false,
            is_limited: false,
            drops: false,
        }
    }

    /// The broker dies between two steps: shards, sockets and connections are gone, and what was committed stays. Then it
    /// starts again, with another number of shards and other homes.
    pub fn crash(&mut self, shards: usize) {
        self.end(shards, false);
    }

    /// The machine dies with the broker: only what was synced stays.
    pub fn cut_power(&mut self, shards: usize) {
        self.end(shards, true);
    }

    fn end(&mut self, shards: usize, cuts_power: bool) {
        self.book.tell(|| format!("the broker dies, and the machine: {cuts_power}"));
        let is_synced = self.store.as_ref().is_none_or(SimulatedStore::is_synced);
        let survival =
            Survival { batched_until: if cuts_power && !is_synced { self.synced_at } else { self.book.now } };
        if cuts_power {
            self.memory.cut_power();
        }
        // A broker that cannot sync what it finds does not start.
        self.memory.set_fault(None);
        for client in &mut self.clients {
            let reads = self.random.once_in(2);
            client.lose_broker(&mut self.book, reads, survival);
        }
        self.book.note_crash(survival);
        self.book.now += 1;
        self.nodes.clear();
        self.store = None;
        self.advance(1_000);
        self.setup.shards = shards;
        self.network = FakeNetwork::new(self.random.number());
        let key = HashKey::from_seed(u128::from(self.random.number()));
        self.book.tell(|| format!("the broker starts with {shards} shards"));
        let broker = Broker::start(&self.setup, &self.network, &self.clock, key, &self.memory, cuts_power);
        Broker { shared: self.shared, listeners: self.listeners, nodes: self.nodes, store: self.store } = broker;
    }

    /// The disk fails, or works again.
    pub fn set_store_fault(&mut self, fault: Option<Fault>) {
        self.book.tell(|| format!("the disk fails: {fault:?}"));
        self.memory.set_fault(fault);
    }

    /// The disk is nearly full, or has room again.
    pub fn set_store_full(&mut self, is_full: bool) {
        self.book.tell(|| format!("the disk is nearly full: {is_full}"));
        if self.store.as_ref().is_some_and(|store| store.set_full(is_full)) {
            self.nodes.iter().for_each(|node| node.wake.wake());
        }
    }

    /// Whether the store takes in what it is given.
    pub fn is_store_good(&self) -> bool {
        self.store.as_ref().is_some_and(|store| store.condition() == Condition::Good)
    }

    /// Random steps until something is committed, at most `steps`.
    pub fn bustle_until_commit(&mut self, steps: usize) {
        let commits = |world: &World| world.store.as_ref().map_or(0, SimulatedStore::commits);
        let before = commits(self);
        for _ in 0..steps {
            self.step();
            if commits(self) != before {
                return;
            }
        }
    }

    /// Changes how often the store does something.
    pub fn set_store_pace(&mut self, pace: usize) {
        self.setup.store_pace = Some(pace);
    }

    /// Lets the store do something, if it has anything to do. Returns whether it had.
    fn work_store(&mut self) -> bool {
        let Some(store) = &self.store else { return false };
        if !store.is_busy() {
            return false;
        }
        let woken = store.step(&mut self.random);
        if store.is_synced() {
            self.synced_at = self.book.now;
        }
        self.book.tell(|| format!("the store works, {} commits, wakes {woken:?}", store.commits()));
        for shard in woken {
            self.nodes[shard].wake.wake();
        }
        true
    }

    /// Everything is quiet and everybody is there: the store keeps no message for anybody.
    pub fn check_store_quiet(&self) {
        let are_there = self.clients.iter().all(|client| client.profile.expiry_s == 0 || client.is_up());
        let queued = self.store.as_ref().map(SimulatedStore::queued).unwrap_or_default();
        if are_there && !queued.is_empty() {
            fail("what has arrived is not kept", format!("{queued:?}"));
        }
    }

    pub fn shards(&self) -> usize {
        self.nodes.len()
    }

    /// What a random one of the listeners promises.
    pub fn any_promise(&mut self) -> Durability {
        let promises = &self.setup.promises;
        if promises.len() == 1 { promises[0] } else { *self.random.pick(promises) }
    }

    /// The shard where a client is at home.
    pub fn home_of(&self, client: usize) -> usize {
        home(self.shared.key.client_id(&self.clients[client].profile.name), self.shards())
    }

    /// The shard where a topic is at home.
    pub fn home_of_topic(&self, topic: &str) -> usize {
        home(self.shared.key.topic(topic).whole, self.shards())
    }

    /// The shard where a share group is at home.
    pub fn home_of_group(&self, group: &str, filter: &str) -> usize {
        home(self.shared.key.share_group(group, filter), self.shards())
    }

    /// A name that begins with `prefix` and whose client is at home on `shard`.
    pub fn name_at(&self, prefix: &str, shard: usize) -> String {
        let names = (0..).map(|number| format!("{prefix}{number}"));
        let at = |name: &String| home(self.shared.key.client_id(name), self.shards()) == shard;
        names.filter(at).take(1).collect()
    }

    /// A topic that begins with `prefix` and is at home on `shard`.
    pub fn topic_at(&self, prefix: &str, shard: usize) -> String {
        let topics = (0..).map(|number| format!("{prefix}{number}"));
        topics.filter(|topic| self.home_of_topic(topic) == shard).take(1).collect()
    }

    pub fn shard(&self, index: usize) -> &Shard {
        self.nodes[index].driver.shard()
    }

    /// A new client, not connected.
    pub fn add(&mut self, mut profile: Profile) -> usize {
        let index = self.clients.len();
        if !self.setup.promises.contains(&profile.through) {
            profile.through = self.setup.promises[0];
        }
        self.book.tell(|| format!("client {index}: {profile:?}"));
        self.clients.push(Client::new(index, profile));
        index
    }

    /// A new client of a random version, at home on `shard`, connected there when that is quick.
    pub fn add_at(&mut self, prefix: &str, shard: usize, change: impl FnOnce(Profile) -> Profile) -> usize {
        let name = self.name_at(&format!("{prefix}-{}-", self.clients.len()), shard);
        let version = *self.random.pick(&[ProtocolVersion::V311, ProtocolVersion::V5]);
        self.add(change(Profile::new(name, version)))
    }

    /// Connects a client through a random shard.
    pub fn connect(&mut self, client: usize) {
        let shard = self.random.below(self.shards());
        let clean_start = self.clients[client].profile.clean_start;
        self.connect_at(client, shard, clean_start);
    }

    /// Connects a client through `shard`.
    pub fn connect_at(&mut self, client: usize, shard: usize, clean_start: bool) {
        let window = self.clients[client].profile.window;
        let through = self.clients[client].profile.through;
        let listener =
            self.setup.promises.iter().position(|&promise| promise == through).expect("there is such a listener");
        let socket = self.network.connect(self.listeners[shard][listener], window);
        let name = &self.clients[client].profile.name;
        self.book.tell(|| format!("{name} connects at {shard}, clean start {clean_start}"));
        self.clients[client].connect(socket, shard, clean_start);
    }

    pub fn publish(&mut self, client: usize, topic: &str, qos: u8, retain: bool) -> Number {
        let length = *self.random.pick(&[12, 12, 12, 40, 3000]);
        self.publish_bytes(client, topic, qos, retain, length)
    }

    pub fn publish_bytes(&mut self, client: usize, topic: &str, qos: u8, retain: bool, length: usize) -> Number {
        let number = self.book.write(client, topic, qos, retain, length);
        self.book.tell(|| format!("{} will publish {number:?} to {topic}", self.clients[client].profile.name));
        self.clients[client].publish(number);
        number
    }

    pub fn subscribe(&mut self, client: usize, filter: &str, qos: u8) {
        self.book.tell(|| format!("{} subscribes to {filter}", self.clients[client].profile.name));
        self.clients[client].subscribe(filter, qos);
    }

    pub fn unsubscribe(&mut self, client: usize, filter: &str) {
        self.book.tell(|| format!("{} unsubscribes from {filter}", self.clients[client].profile.name));
        let now = self.book.now;
        self.clients[client].unsubscribe(filter, now);
    }

    /// From now on `shard` leaves the ranks of `mask` in the mesh.
    pub fn hold(&mut self, shard: usize, mask: u8) {
        self.book.tell(|| format!("shard {shard} holds {mask:03b}"));
        self.nodes[shard].held = mask;
        self.nodes[shard].driver.hold_ranks(mask);
    }

    /// All ranks of all shards flow.
    pub fn release_all(&mut self) {
        (0..self.shards()).filter(|&shard| self.nodes[shard].held != 0).collect::<Vec<_>>().into_iter().for_each(
            |shard| {
                self.hold(shard, 0);
            },
        );
    }

    /// Lets time pass.
    pub fn advance(&mut self, micros: u64) {
        self.clock.set(self.clock.get() + micros);
    }

    /// A random turn or step of a client. Returns whether anything happened.
    pub fn step(&mut self) -> bool {
        self.tick();
        if self.holds && self.random.once_in(40) {
            let (shard, mask) = (self.random.below(self.shards()), *self.random.pick(&[0, 0, 1, 2, 4, 3, 6, 7]));
            self.hold(shard, mask);
        }
        if let Some(pace) = self.setup.store_pace
            && self.random.once_in(pace)
        {
            return self.work_store();
        }
        let shard = self.random.below(self.shards());
        if self.nodes[shard].asleep.is_some() && self.random.once_in(3) {
            // The kernel goes on while its shard sleeps.
            self.nodes[shard].driver.wires_mut().kernel_mut().work();
        }
        if self.random.below(100) < 60 || self.clients.is_empty() {
            self.is_runnable(shard) && self.run(shard)
        } else {
            let client = self.random.below(self.clients.len());
            self.step_client(client, false)
        }
    }

    /// So many random steps.
    pub fn bustle(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
        }
    }

    /// Random steps until `until` holds, which it must.
    pub fn run_until(&mut self, what: &str, until: impl Fn(&World) -> bool) {
        for _ in 0..STEPS_MAX {
            if until(self) {
                return;
            }
            self.step();
            if !self.is_anything_runnable() && !self.step_all_clients() && !self.work_store() {
                self.advance(20);
            }
        }
        fail("progress", format!("{what} did not come about"));
    }

    /// Runs the clients and `shard` alone until `until` holds, if it does; what `shard` has sent arrives while it sleeps.
    pub fn run_one(&mut self, shard: usize, until: impl Fn(&World) -> bool) {
        for _ in 0..1000 {
            self.tick();
            if self.nodes[shard].asleep.is_some() {
                self.nodes[shard].driver.wires_mut().kernel_mut().work();
            }
            self.step_all_clients();
            if until(self) {
                return;
            }
            self.run(shard);
        }
    }

    /// Steps of the clients and of every shard but those in `still`, until nothing more happens among them.
    pub fn run_others(&mut self, still: &[usize]) {
        for _ in 0..STEPS_MAX {
            self.tick();
            let awake: Vec<usize> =
                (0..self.shards()).filter(|shard| !still.contains(shard) && self.is_runnable(*shard)).collect();
            if !awake.is_empty() && self.random.below(100) < 70 {
                let shard = *self.random.pick(&awake);
                self.run(shard);
            } else if !self.step_all_clients() && awake.is_empty() {
                return;
            }
        }
    }

    /// Releases all holds and goes on until nothing happens any more; then nothing may be owed to anybody.
    pub fn settle(&mut self) {
        self.settle_without_check();
        self.clients.iter().for_each(Client::check_quiet);
    }

    /// As [`World::settle`], for clients that are meant to be stuck.
    pub fn settle_without_check(&mut self) {
        self.holds = false;
        let mut quiet_since = None;
        for step in 0..STEPS_MAX {
            if step > 64 || self.random.once_in(32) {
                self.release_all();
            }
            if step == STEPS_MAX / 40 {
                // Enough of those who take a few bytes at a time.
                self.clients.iter_mut().for_each(Client::widen_window);
            }
            let moved_before = self.moved();
            let happened = self.step() || self.is_anything_runnable() || self.step_all_clients() || self.work_store();
            if self.moved() != moved_before {
                quiet_since = None;
            }
            if happened {
                continue;
            }
            let since = *quiet_since.get_or_insert(self.clock.get());
            let next = self.nodes.iter().filter_map(|node| node.asleep.map(|(_, until)| until)).min();
            match next.filter(|&next| next <= since + self.setup.patience) {
                Some(next) => self.clock.set(next.max(self.clock.get())),
                None if self.nodes.iter().any(|node| node.held != 0) => self.release_all(),
                None => return,
            }
        }
        fail("quiet in the end", "there is always something to do");
    }

    /// Grows as long as anything moves: bytes of clients, messages of shards.
    fn moved(&self) -> u64 {
        self.moved + self.nodes.iter().map(|node| node.driver.shard().counters().mesh_received).sum::<u64>()
    }

    fn tick(&mut self) {
        self.book.now += 1;
        let jump = if self.random.once_in(200) { self.setup.jump_max } else { 30 };
        let micros = self.random.number() % jump + 1;
        self.advance(micros);
    }

    fn is_anything_runnable(&mut self) -> bool {
        (0..self.shards()).any(|shard| self.is_runnable(shard))
    }

    /// Whether `shard` is awake, or something wakes it.
    fn is_runnable(&mut self, shard: usize) -> bool {
        let now = self.clock.get();
        let node = &mut self.nodes[shard];
        let Some((rest, until)) = node.asleep else { return true };
        if until <= now || node.driver.wires_mut().kernel_mut().can_progress() || node.wake.take() {
            // What woke it is used up: it stays awake.
            node.asleep = Some((rest, 0));
            return true;
        }
        false
    }

    /// Half a turn or a whole one.
    fn run(&mut self, shard: usize) -> bool {
        let may_sleep = self.random.below(100) < 80;
        let now = self.clock.get();
        let node = &mut self.nodes[shard];
        let rest = match node.asleep.take() {
            Some((rest, _)) => rest,
            None => {
                let rest = node.driver.begin_turn(may_sleep);
                if let (true, EnterWait::For(wait)) = (rest.sleeps, rest.wait) {
                    node.driver.wires_mut().kernel_mut().submit_all();
                    let until = wait.map_or(u64::MAX, |wait| now + wait.as_micros() as u64);
                    node.asleep = Some((rest, until));
                    return false;
                }
                rest
            }
        };
        node.driver.finish_turn(rest);
        node.driver.shard().check_invariants();
        // After a crash a queue may hold what was on its way back to a share group as well.
        let queues_max = if self.drops && self.book.crashed_at.is_some() { 2 } else { 1 };
        check_limits(node.driver.shard(), &self.shared, &self.setup.config, queues_max);
        self.book.tell(|| {
            let kernel = node.driver.wires_mut().kernel_mut();
            let (ready, operations) = (kernel.can_progress(), kernel.operations_in_flight());
            let counters = node.driver.wires_mut().counters();
            format!("shard {shard} has had a turn: {operations} operations in flight, ready: {ready}, {counters:?}")
        });
        true
    }

    /// A step of each client, and of no shard.
    pub fn step_clients(&mut self) {
        self.tick();
        self.step_all_clients();
    }

    /// There are as many descriptors as anybody wants.
    pub fn lift_limits(&self) {
        self.network.limit_descriptors(usize::MAX);
    }

    fn step_client(&mut self, client: usize, force: bool) -> bool {
        let World { clients, book, random, .. } = self;
        let did = clients[client].step(book, random, force);
        self.moved += u64::from(did);
        did
    }

    fn step_all_clients(&mut self) -> bool {
        let mut did = false;
        for client in 0..self.clients.len() {
            did |= self.step_client(client, true);
        }
        did
    }

    /// Tells every shard to stop, and every client to expect it.
    pub fn drain(&mut self) {
        self.is_draining = true;
        self.release_all();
        self.holds = false;
        for client in &mut self.clients {
            client.expect_end();
        }
        for _ in 0..STEPS_MAX {
            let mut is_over = true;
            for shard in 0..self.shards() {
                // The driver of a shard that sleeps is not asked before its turn is over.
                if self.nodes[shard].asleep.is_some() {
                    self.run(shard);
                }
                is_over &= !self.nodes[shard].driver.drain(2);
            }
            if is_over && !self.step_all_clients() {
                return;
            }
            self.step();
            self.step_all_clients();
        }
        fail("progress", "the broker does not stop");
    }

    /// The broker has stopped, and nobody is connected.
    pub fn check_drained(&mut self) {
        if let Some(client) = self.clients.iter().find(|client| !client.is_down()) {
            fail("everybody is told to go", client.profile.name.clone());
        }
        let in_use = self.network.descriptors_in_use();
        if self.shared.connections.now() != 0 || self.shared.pending_connects.now() != 0 || in_use != 0 {
            fail("sockets are closed", format!("{in_use} descriptors in use"));
        }
    }

    /// Everybody has left: nothing is kept for anybody.
    pub fn check_empty(&mut self) {
        let shared = &self.shared;
        let levels = [
            ("connections", shared.connections.now()),
            ("pending CONNECTs", shared.pending_connects.now()),
            ("sessions", shared.sessions.now()),
            ("retained messages", shared.retained_messages.now()),
            ("retained bytes", shared.retained_bytes.now()),
        ];
        for (what, level) in levels {
            if level != 0 {
                fail("levels return to 0", format!("{what}: {}", level as i64));
            }
        }
        let buffers = usize::from(self.setup.buffers.0);
        for (shard, node) in self.nodes.iter_mut().enumerate() {
            let wires = node.driver.wires_mut();
            let (sockets, kernel) = (wires.len(), wires.kernel_mut());
            let (operations, free) = (kernel.operations_in_flight(), kernel.free_buffers());
            // Accepts are always armed.
            if sockets != 0 || operations != self.setup.promises.len() || free != buffers {
                let detail = format!("shard {shard}: {sockets} sockets, {operations} operations, {free} free buffers");
                fail("sockets are closed", detail);
            }
        }
        if self.network.descriptors_in_use() != self.listeners.iter().flatten().count() {
            fail("sockets are closed", format!("{} descriptors in use", self.network.descriptors_in_use()));
        }
        let rest = self.store.as_ref().map(SimulatedStore::rest).unwrap_or_default();
        if !rest.is_empty() {
            fail("nothing is kept for nobody", format!("{rest:?}"));
        }
    }
}

/// Nothing is above its limit, at the end of any turn; a queue not above so many times its limit.
fn check_limits(shard: &Shard, shared: &Shared, config: &Config, queues_max: usize) {
    let (runtime, mqtt) = (&config.runtime, &config.mqtt);
    let connections_max = if runtime.connections_max == 0 { u64::MAX >> 1 } else { runtime.connections_max.into() };
    let levels = [
        ("connections", shared.connections.now(), connections_max),
        ("pending CONNECTs", shared.pending_connects.now(), runtime.pending_connects_max.into()),
        ("sessions", shared.sessions.now(), mqtt.sessions_max.into()),
        ("retained messages", shared.retained_messages.now(), mqtt.retained_messages_max),
        ("retained bytes", shared.retained_bytes.now(), mqtt.retained_bytes_max),
    ];
    for (what, level, max) in levels {
        if level > max {
            fail("limits hold", format!("{what}: {} of {max}", level as i64));
        }
    }
    for (_, session) in shard.clients().sessions.iter() {
        let queued = session.outbox.as_ref().map_or(0, |outbox| outbox.queued());
        if queued > mqtt.queue_messages_max as usize * queues_max
            || session.subscriptions.len() > mqtt.filters_per_client_max as usize
        {
            fail("limits hold", format!("{}: {queued} queued", session.client_id));
        }
    }
}

const START_MICROS: u64 = 1_700_000_000_000_000;
/// More steps than any part of a scenario takes.
const STEPS_MAX: usize = 1_200_000;
