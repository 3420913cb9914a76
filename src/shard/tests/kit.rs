//! A broker of hand-wired shards, and clients that note what they are told.
//!
//! Owns: the place of the driver and the mesh. A turn here is a turn of the driver: input, messages, time, jobs, effects.
//! Always: a client is told nothing but whole packets of its version, and the shards' invariants hold after each turn.

use std::{
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    time::Duration,
};

use crate::{
    config::{Config, Durability},
    mqtt::{
        Ack, AckKind, Connect, Encode, Packet, PacketIdentifier, ProtocolVersion, Publish, PublishProperties, QoS,
        ReasonCode, Sender, Subscribe, SubscriptionOptions, TopicFilter, Unsubscribe,
        frame::{Peek, peek},
    },
    routing::{HashKey, home},
    runtime::{CloseCause, ConnectionId},
    shard::{
        Arrival, ConnectionEffect, Counters, Ending, ListenerFacts, MeshMessage, RANK_DELIVERY, RANK_HOME, RANK_REPLY,
        RANKS, Shard, Shared,
    },
    store::{Batch, Joiner, Journal, MemoryStore, Space, Store as _, recover},
    sync::Arc,
    time::Moment,
    transport::OutBuffer,
};

use super::alike::packets_of;
pub(super) use crate::mqtt::ProtocolVersion::{V5, V31, V311};

/// A client of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Client(usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiving {
    No,
    Once,
    On,
}

/// A client's side of its connection.
#[derive(Debug)]
struct Remote {
    shard: u16,
    id: ConnectionId,
    version: ProtocolVersion,
    /// Sent by the client, not received from the socket yet.
    input: Vec<u8>,
    receiving: Receiving,
    /// What the client was told and has not looked at.
    told: Vec<u8>,
    ended: Option<Ending>,
    /// Whether it reads what it is sent; if not, one send is under way for as long.
    reads: bool,
    unread: Option<Box<OutBuffer>>,
}

/// A store, and what has not reached it.
struct Kept {
    joiner: Joiner,
    store: MemoryStore,
    batches: Vec<Batch>,
    written: Vec<u64>,
    durable: Vec<u64>,
}

impl Kept {
    fn new(shards: u16) -> Self {
        let joiner = Joiner::new(shards, 0, Default::default(), Vec::new());
        let store = MemoryStore::default();
        let none = vec![0; usize::from(shards)];
        Self { joiner, store, batches: Vec::new(), written: none.clone(), durable: none }
    }

    /// Commits what is not held, and syncs it unless `sync_is_held`. Returns whether any shard has something to hear.
    fn commit(&mut self, held: &[u16], sync_is_held: bool) -> bool {
        let (stay, go): (Vec<Batch>, Vec<Batch>) =
            std::mem::take(&mut self.batches).into_iter().partition(|batch| held.contains(&batch.shard));
        self.batches = stay;
        go.into_iter().for_each(|batch| self.joiner.take(batch));
        let before = (self.written.clone(), self.durable.clone());
        let written = &mut self.written;
        let committed = self.joiner.commit(&mut self.store, true, |shard, number| written[usize::from(shard)] = number);
        committed.expect("memory does not fail");
        if !sync_is_held {
            self.durable.clone_from(&self.written);
        }
        (&self.written, &self.durable) != (&before.0, &before.1)
    }
}

/// The shards, what lies between them, and their clients.
pub(super) struct Broker {
    pub shards: Vec<Shard>,
    pub shared: Arc<Shared>,
    pub now: Moment,
    /// Messages that fit one ring of the mesh.
    pub mesh_capacity: usize,
    /// Whether nobody takes messages out of the mesh.
    pub mesh_is_held: bool,
    /// Whether each packet of a client is received alone.
    pub packets_come_apart: bool,
    /// What is kept, if anything is.
    store: Option<Kept>,
    /// Shards whose batches do not reach the store.
    pub store_held: Vec<u16>,
    /// Whether what is written is not synced.
    pub sync_is_held: bool,
    remotes: Vec<Remote>,
    by_id: BTreeMap<(u16, u32, u32), usize>,
    vacant: Vec<Vec<ConnectionId>>,
    next_slot: u32,
    /// By (to, from, rank).
    pub mesh: BTreeMap<(u16, u16, usize), VecDeque<MeshMessage>>,
    /// Clients between two shards, by (to, from).
    moving: BTreeMap<(u16, u16), VecDeque<usize>>,
    sent: Vec<(u16, ConnectionId, Box<OutBuffer>)>,
}

impl Broker {
    pub fn new(shards: u16) -> Self {
        Self::with(shards, |_| {})
    }

    pub fn with(shards: u16, change: impl FnOnce(&mut Config)) -> Self {
        Self::build(
            shards,
            change,
            [(true, 1883), (false, 8883)].map(|(admits, port)| (admits, port, Durability::Sync)),
        )
    }

    /// A broker with listeners that admit everybody, say where, and promise that much.
    fn build(shards: u16, change: impl FnOnce(&mut Config), listeners: [(bool, u16, Durability); 2]) -> Self {
        let mut config = Config::default();
        config.log.connections = false;
        change(&mut config);
        let config = Rc::new(config);
        let shared = Arc::new(Shared::new(shards, 1, HashKey::from_seed(7), 1 << 14));
        let now = Moment::from_micros(1_000_000_000_000);
        let facts = |(admits_anonymous, port, durability)| ListenerFacts { admits_anonymous, port, durability };
        let listeners = listeners.map(facts);
        let shard = |index| Shard::new(index, Rc::clone(&config), Arc::clone(&shared), listeners.to_vec(), now);
        let shards: Vec<Shard> = (0..shards).map(shard).collect();
        (0..shards.len()).for_each(|index| shared.clocks.unpark(index));
        Self {
            vacant: shards.iter().map(|_| Vec::new()).collect(),
            shards,
            shared,
            now,
            mesh_capacity: 1024,
            mesh_is_held: false,
            packets_come_apart: false,
            store: None,
            store_held: Vec::new(),
            sync_is_held: false,
            remotes: Vec::new(),
            by_id: BTreeMap::new(),
            next_slot: 0,
            mesh: BTreeMap::new(),
            moving: BTreeMap::new(),
            sent: Vec::new(),
        }
    }

    /// A broker that keeps what is durable.
    pub fn kept(shards: u16, change: impl FnOnce(&mut Config)) -> Self {
        Self::with(shards, change).keep()
    }

    /// The same; its second listener promises `durability`.
    pub fn kept_through(shards: u16, durability: Durability) -> Self {
        Self::build(shards, |_| {}, [(true, 1883, Durability::Sync), (true, 8883, durability)]).keep()
    }

    fn keep(self) -> Self {
        let mut broker = self;
        let shards = broker.shards.len() as u16;
        for (shard, index) in broker.shards.iter_mut().zip(0..) {
            shard.set_journal(Journal::on(index, 0));
        }
        broker.store = Some(Kept::new(shards));
        broker
    }

    // --- Connections

    /// A client whose socket was accepted at `shard`; it speaks `version` once it speaks.
    pub fn accept(&mut self, shard: u16, version: ProtocolVersion) -> Client {
        self.accept_through(shard, version, 0)
    }

    pub fn accept_through(&mut self, shard: u16, version: ProtocolVersion, listener: u16) -> Client {
        let client = self.accept_now(shard, version, listener);
        self.settle();
        client
    }

    /// As `accept_through`, and nobody takes a turn.
    fn accept_now(&mut self, shard: u16, version: ProtocolVersion, listener: u16) -> Client {
        let id = self.new_id(shard);
        let remote = Remote {
            shard,
            id,
            version,
            input: Vec::new(),
            receiving: Receiving::No,
            told: Vec::new(),
            ended: None,
            reads: true,
            unread: None,
        };
        self.remotes.push(remote);
        let index = self.remotes.len() - 1;
        self.by_id.insert((shard, id.slot, id.generation), index);
        let peer = std::net::SocketAddr::from(([127, 0, 0, 9], 40_000 + index as u16));
        self.shards[usize::from(shard)].handle_accepted(id, listener, peer, self.now);
        Client(index)
    }

    /// A client that connects at its home and is received from before anybody takes a turn.
    pub fn open_now(&mut self, client_id: &str, version: ProtocolVersion) -> Client {
        let shard = self.home_of_client(client_id);
        let client = self.accept_now(shard, version, 0);
        let bytes = encoded(Connect::new(version, client_id), version);
        let id = self.remotes[client.0].id;
        self.shards[usize::from(shard)].handle_received(id, &bytes, self.now);
        client
    }

    /// Slots are used again, with the next generation.
    fn new_id(&mut self, shard: u16) -> ConnectionId {
        self.vacant[usize::from(shard)].pop().unwrap_or_else(|| {
            self.next_slot += 1;
            ConnectionId { slot: self.next_slot, generation: 0 }
        })
    }

    fn free(&mut self, shard: u16, id: ConnectionId) -> usize {
        self.vacant[usize::from(shard)].push(ConnectionId { slot: id.slot, generation: id.generation + 1 });
        self.by_id.remove(&(shard, id.slot, id.generation)).expect("a connection that is known")
    }

    /// A client that has connected as `client_id`, with a clean start and nothing else, and was told so.
    pub fn connect(&mut self, client_id: &str, version: ProtocolVersion) -> Client {
        self.connect_as(Connect::new(version, client_id))
    }

    /// As `connect`, with what `connect` says.
    pub fn connect_as(&mut self, connect: Connect<'_>) -> Client {
        let client = self.ask(connect);
        let told = self.take(client);
        let is_accepted = told.first().is_some_and(|first| first.starts_with("CONNACK") && first.contains("Success"));
        assert!(is_accepted, "{told:?}");
        let rest = told[1..].join("\n");
        assert!(rest.is_empty(), "{rest}");
        client
    }

    /// A client that has sent `connect` at its home and has not looked at the answer.
    pub fn ask(&mut self, connect: Connect<'_>) -> Client {
        let shard = self.home_of_client(connect.client_id);
        let client = self.accept(shard, connect.version);
        self.send(client, connect);
        client
    }

    /// The client closes its socket without a word.
    pub fn hang_up(&mut self, client: Client) {
        self.end_now(client);
        self.settle();
    }

    /// As `hang_up`, and nobody takes a turn.
    pub fn end_now(&mut self, client: Client) {
        let (shard, id) = (self.remotes[client.0].shard, self.remotes[client.0].id);
        self.free(shard, id);
        self.remotes[client.0].receiving = Receiving::No;
        self.shards[usize::from(shard)].handle_closed(id, CloseCause::EndOfStream, self.now);
    }

    // --- What clients send

    pub fn send_bytes(&mut self, client: Client, bytes: &[u8]) {
        self.remotes[client.0].input.extend_from_slice(bytes);
        self.settle();
    }

    pub fn send(&mut self, client: Client, packet: impl Encode) {
        let bytes = encoded(packet, self.remotes[client.0].version);
        self.send_bytes(client, &bytes);
    }

    /// As `send`, and nobody takes a turn.
    pub fn write(&mut self, client: Client, packet: impl Encode) {
        let remote = &mut self.remotes[client.0];
        remote.input.extend(encoded(packet, remote.version));
    }

    pub fn ping(&mut self, client: Client) {
        self.send_bytes(client, &[0xC0, 0]);
    }

    /// Publishes at QoS 0.
    pub fn publish(&mut self, client: Client, topic: &str, payload: &str) {
        self.send(client, publish(0, 0, topic, payload));
    }

    pub fn publish_retained(&mut self, client: Client, topic: &str, payload: &str) {
        self.send(client, Publish { retain: true, ..publish(0, 0, topic, payload) });
    }

    /// Subscribes, and looks whether that is granted as asked.
    pub fn subscribe(&mut self, client: Client, filter: &str, qos: u8) {
        self.subscribe_with(client, filter, options(qos), 0);
    }

    pub fn subscribe_with(&mut self, client: Client, filter: &str, options: SubscriptionOptions, identifier: u32) {
        let filters = [(TopicFilter::parse(filter).expect("a filter"), options)];
        let mut packet = Subscribe::new(identifier_of(60_000), &filters);
        packet.subscription_identifier = std::num::NonZeroU32::new(identifier);
        let before = self.take(client);
        assert!(before.is_empty(), "{before:?}");
        self.send(client, packet);
        let told = self.take_first(client);
        assert_eq!(told, format!("SUBACK 60000 [{:?}]", ReasonCode::granted(options.qos)));
    }

    pub fn unsubscribe(&mut self, client: Client, filter: &str) {
        let filters = [TopicFilter::parse(filter).expect("a filter")];
        self.send(client, Unsubscribe::new(identifier_of(60_001), &filters));
    }

    pub fn ack(&mut self, client: Client, kind: AckKind, identifier: u16) {
        self.send(client, Ack::new(kind, identifier_of(identifier), ReasonCode::Success));
    }

    // --- What clients are told

    /// What a client was told since it last looked, and how its connection ended.
    pub fn take(&mut self, client: Client) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(packet) = self.take_packet(client) {
            told.push(packet);
        }
        let remote = &mut self.remotes[client.0];
        assert!(remote.told.is_empty(), "half a packet: {:?}", remote.told);
        told.extend(remote.ended.take().map(|ending| match ending {
            Ending::Linger => "closed".to_owned(),
            Ending::Reset => "reset".to_owned(),
        }));
        told
    }

    /// The next thing that a client was told.
    pub fn take_first(&mut self, client: Client) -> String {
        self.take_packet(client).unwrap_or_else(|| "nothing".to_owned())
    }

    fn take_packet(&mut self, client: Client) -> Option<String> {
        let remote = &mut self.remotes[client.0];
        let Ok(Peek::Complete(header)) = peek(&remote.told, u32::MAX) else { return None };
        let rest = remote.told.split_off(header.total_len());
        let bytes = std::mem::replace(&mut remote.told, rest);
        let body = &bytes[usize::from(header.header_len)..];
        let packet = Packet::decode(header, body, remote.version, Sender::Server);
        Some(describe(&packet.unwrap_or_else(|error| panic!("{error}: {bytes:?}"))))
    }

    /// From now on a client reads what it is sent, or does not.
    pub fn reads(&mut self, client: Client, reads: bool) {
        let remote = &mut self.remotes[client.0];
        remote.reads = reads;
        let (shard, id) = (remote.shard, remote.id);
        if let (true, Some(buffer)) = (reads, remote.unread.take()) {
            self.sent.push((shard, id, buffer));
        }
        self.settle();
    }

    /// Whether a client's socket is not received from.
    pub fn is_paused(&self, client: Client) -> bool {
        self.remotes[client.0].receiving != Receiving::On
    }

    // --- Time and turns

    /// Lets time pass, with a turn whenever a shard has asked for one.
    pub fn after(&mut self, time: Duration) {
        let end = self.now.after(time);
        while let Some(due) = self.shards.iter().filter_map(Shard::next_due).min().filter(|&due| due <= end) {
            self.now = self.now.max(due);
            self.turn_all();
        }
        self.now = end;
        self.settle();
    }

    /// As `after`, in one step.
    pub fn jump(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.settle();
    }

    pub fn after_s(&mut self, seconds: u64) {
        self.after(Duration::from_secs(seconds));
    }

    /// Turns until nobody has anything to do. What does not fit the mesh may stay behind.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            if !self.turn_all() {
                return;
            }
        }
        panic!("the shards never come to rest");
    }

    fn turn_all(&mut self) -> bool {
        (0..self.shards.len() as u16).fold(false, |any, shard| self.turn(shard) | any)
    }

    /// One turn of a shard. Returns whether anything went on.
    pub fn turn(&mut self, index: u16) -> bool {
        let now = self.now;
        let mut went_on = self.give_input(index);
        let (mine, others) = std::mem::take(&mut self.sent).into_iter().partition(|sent| sent.0 == index);
        self.sent = others;
        for (_, id, buffer) in Vec::from_iter::<Vec<_>>(mine) {
            let bytes = buffer.len();
            self.shards[usize::from(index)].handle_sent(id, buffer, bytes, now);
            went_on = true;
        }
        if let Some(kept) = &self.store {
            let (written, durable) = (kept.written[usize::from(index)], kept.durable[usize::from(index)]);
            self.shards[usize::from(index)].handle_written(written, now);
            self.shards[usize::from(index)].handle_store(durable, crate::store::Condition::Good, now);
        }
        self.shards[usize::from(index)].check_grace();
        went_on |= self.take_messages(index);
        let shard = &mut self.shards[usize::from(index)];
        shard.handle_time(now);
        shard.run_jobs(now);
        shard.end_turn(now);
        went_on |= self.act(index);
        if let Some(kept) = &mut self.store {
            kept.batches.extend(self.shards[usize::from(index)].take_batch());
            went_on |= kept.commit(&self.store_held, self.sync_is_held);
        }
        went_on |= self.send_messages(index);
        went_on |= self.send_buffers(index);
        let shard = &self.shards[usize::from(index)];
        // It looks at every session.
        if shard.clients().connections.open() < 100 {
            shard.check_invariants();
        }
        went_on || shard.has_work() || (shard.waits_for_others() && !self.mesh_is_held)
    }

    fn give_input(&mut self, index: u16) -> bool {
        let mut any = false;
        for remote in self.remotes.iter_mut().filter(|remote| remote.shard == index && !remote.input.is_empty()) {
            if remote.receiving == Receiving::No {
                continue;
            }
            if remote.receiving == Receiving::Once {
                remote.receiving = Receiving::No;
            }
            let input = std::mem::take(&mut remote.input);
            for piece in if self.packets_come_apart { packets_of(&input) } else { vec![&*input] } {
                self.shards[usize::from(index)].handle_received(remote.id, piece, self.now);
            }
            any = true;
        }
        any
    }

    /// As the driver does: replies are taken out first and handled after the deliveries.
    fn take_messages(&mut self, index: u16) -> bool {
        if self.mesh_is_held {
            return false;
        }
        let mut any = false;
        let mut home_is_drained = true;
        let senders: Vec<u16> = (0..self.shards.len() as u16).filter(|&from| from != index).collect();
        let mut replies = Vec::new();
        for &from in &senders {
            let ring = self.mesh.entry((index, from, RANK_REPLY)).or_default();
            replies.extend(ring.drain(..).map(|reply| (from, reply)));
        }
        for rank in [RANK_DELIVERY, RANK_REPLY, RANK_HOME] {
            if rank == RANK_REPLY {
                for (from, reply) in replies.drain(..) {
                    self.shards[usize::from(index)].handle_mesh(from, reply, self.now);
                    any = true;
                }
                continue;
            }
            for &from in &senders {
                loop {
                    if self.shards[usize::from(index)].leaves_in_mesh(from, rank) {
                        home_is_drained &= rank != RANK_HOME;
                        break;
                    }
                    let Some(message) = self.mesh.entry((index, from, rank)).or_default().pop_front() else { break };
                    any = true;
                    if let MeshMessage::Arrival(arrival) = &message {
                        self.adopt(index, from, arrival);
                    }
                    self.shards[usize::from(index)].handle_mesh(from, message, self.now);
                }
            }
        }
        if home_is_drained {
            self.shards[usize::from(index)].handle_mesh_drained();
        }
        any
    }

    fn adopt(&mut self, index: u16, from: u16, arrival: &Arrival) {
        let client = self.moving.entry((index, from)).or_default().pop_front().expect("a client on its way");
        let id = self.new_id(index);
        let remote = &mut self.remotes[client];
        (remote.shard, remote.id) = (index, id);
        self.by_id.insert((index, id.slot, id.generation), client);
        let peer = std::net::SocketAddr::from(([127, 0, 0, 9], 40_000 + client as u16));
        self.shards[usize::from(index)].handle_arrival(id, 0, peer, arrival, self.now);
    }

    fn act(&mut self, index: u16) -> bool {
        let effects = std::mem::take(&mut self.shards[usize::from(index)].effects_mut().connections);
        let any = !effects.is_empty();
        let key = |id: ConnectionId| (index, id.slot, id.generation);
        for effect in effects {
            let mut receive = |id, receiving| {
                let client = self.by_id[&key(id)];
                self.remotes[client].receiving = receiving;
            };
            match effect {
                ConnectionEffect::ReceiveOnce(id) => receive(id, Receiving::Once),
                ConnectionEffect::Receive(id) | ConnectionEffect::Resume(id) => receive(id, Receiving::On),
                ConnectionEffect::Pause(id) => receive(id, Receiving::No),
                ConnectionEffect::Close(id, last, ending) => {
                    let client = self.free(index, id);
                    let remote = &mut self.remotes[client];
                    remote.told.extend(last.iter().flat_map(|last| last.slices(0)).flatten());
                    remote.ended = Some(ending);
                    remote.receiving = Receiving::No;
                }
                ConnectionEffect::HandOff(id, to, arrival) => {
                    let client = self.free(index, id);
                    self.remotes[client].receiving = Receiving::No;
                    self.moving.entry((to, index)).or_default().push_back(client);
                    self.shards[usize::from(index)].send_arrival(to, arrival);
                }
            }
        }
        any
    }

    fn send_messages(&mut self, index: u16) -> bool {
        let mut any = false;
        let mut all_sent = true;
        for to in (0..self.shards.len() as u16).filter(|&to| to != index) {
            for rank in 0..RANKS {
                let ring = self.mesh.entry((to, index, rank)).or_default();
                let sent = self.shards[usize::from(index)].effects_mut().take_out(to, rank, |waiting| {
                    while ring.len() < self.mesh_capacity
                        && let Some(message) = waiting.pop_front()
                    {
                        ring.push_back(message);
                        any = true;
                    }
                    waiting.is_empty()
                });
                all_sent &= sent.unwrap_or(true);
            }
        }
        if all_sent {
            self.shared.clocks.publish_turn(usize::from(index));
        }
        self.shards[usize::from(index)].handle_mesh_room();
        any
    }

    fn send_buffers(&mut self, index: u16) -> bool {
        let mut sends = Vec::new();
        let now = self.now;
        self.shards[usize::from(index)].drain_dirty(now, |id, buffer| sends.push((id, buffer)));
        let mut any = false;
        for (id, buffer) in sends {
            if buffer.is_empty() {
                self.shards[usize::from(index)].recycle(buffer);
                continue;
            }
            any = true;
            let client = self.by_id[&(index, id.slot, id.generation)];
            let remote = &mut self.remotes[client];
            remote.told.extend(buffer.slices(0).flatten());
            if remote.reads {
                self.sent.push((index, id, buffer));
            } else {
                assert!(remote.unread.replace(buffer).is_none(), "one send at a time");
            }
        }
        any
    }

    // --- Places and counts

    pub fn home_of_client(&self, client_id: &str) -> u16 {
        home(self.shared.key.client_id(client_id), self.shards.len()) as u16
    }

    /// A ClientId that begins with `name` and is at home at `shard`.
    pub fn client_id_at(&self, shard: u16, name: &str) -> String {
        named(name, |candidate| self.home_of_client(candidate) == shard)
    }

    /// A topic that begins with `name` and whose retained message is at home at `shard`.
    pub fn topic_at(&self, shard: u16, name: &str) -> String {
        named(name, |topic| home(self.shared.key.topic(topic).whole, self.shards.len()) as u16 == shard)
    }

    /// A group name that begins with `name` whose home for `filter` is `shard`.
    pub fn group_at(&self, shard: u16, name: &str, filter: &str) -> String {
        let hash = |group: &str| self.shared.key.share_group(group, filter);
        named(name, |group| home(hash(group), self.shards.len()) as u16 == shard)
    }

    /// What lies in the mesh from shard `from` to shard `to`.
    pub fn in_mesh(&self, to: u16, from: u16, rank: usize) -> Vec<&MeshMessage> {
        self.mesh.get(&(to, from, rank)).into_iter().flatten().collect()
    }

    /// What is in the store: records of the state but for how far queues are, and what is in the queues of sessions.
    pub fn records(&self) -> u64 {
        let Some(kept) = &self.store else { return 0 };
        let state = kept.store.scan(Space::State, &[], usize::MAX).expect("memory can be read");
        let heads = state.iter().filter(|(key, _)| key.starts_with(b"h")).count();
        let sessions = recover(&kept.store, 0).expect("memory can be read").sessions;
        let queued: u64 =
            sessions.iter().filter_map(|session| session.queue).map(|queue| queue.sent + queue.count).sum();
        (state.len() - heads) as u64 + queued
    }

    pub fn counters(&self, shard: u16) -> &Counters {
        self.shards[usize::from(shard)].counters()
    }

    /// Sessions, connections, connections before CONNECT: what all shards count together.
    pub fn levels(&self) -> (u64, u64, u64) {
        let shared = &self.shared;
        (shared.sessions.now(), shared.connections.now(), shared.pending_connects.now())
    }
}

/// The first of `name` with a number behind it that is as wanted.
fn named(name: &str, is_wanted: impl Fn(&str) -> bool) -> String {
    (0..1000).map(|number| format!("{name}{number}")).find(|name| is_wanted(name)).expect("one of so many")
}

// --- Packets

pub(super) fn encoded(packet: impl Encode, version: ProtocolVersion) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes).expect("a packet that can be written");
    bytes
}

pub(super) fn identifier_of(value: u16) -> PacketIdentifier {
    PacketIdentifier::new(value).expect("not zero")
}

pub(super) fn options(qos: u8) -> SubscriptionOptions {
    SubscriptionOptions::with_qos(QoS::from_bits(qos).expect("a QoS"))
}

/// A PUBLISH; at QoS 0 the identifier is left out.
pub(super) fn publish<'a>(qos: u8, identifier: u16, topic: &'a str, payload: &'a str) -> Publish<'a> {
    Publish {
        dup: false,
        qos: QoS::from_bits(qos).expect("a QoS"),
        retain: false,
        topic,
        packet_identifier: (qos > 0).then(|| identifier_of(identifier)),
        properties: PublishProperties::default(),
        payload: payload.as_bytes(),
    }
}

/// A CONNECT that resumes, of a session that lives `expiry_s` seconds (v5) or as configured (3.x).
pub(super) fn durable(version: ProtocolVersion, client_id: &str, expiry_s: u32) -> Connect<'_> {
    let mut connect = Connect { clean_start: false, ..Connect::new(version, client_id) };
    connect.properties.session_expiry_interval = (version == V5).then_some(expiry_s);
    connect
}

/// A packet in a line. `+why`: with the name of its reason as its Reason String.
fn describe(packet: &Packet<'_>) -> String {
    let why = |reason: ReasonCode, text: Option<&str>| match text {
        Some(text) if text == reason.name() => " +why".to_owned(),
        Some(text) => format!(" {text:?}"),
        None => String::new(),
    };
    let ack = |ack: &Ack<'_>| {
        let reason = ack.reason_code;
        let said = if reason == ReasonCode::Success { String::new() } else { format!(" {reason:?}") };
        format!("{}{said}{}", ack.packet_identifier.value(), why(reason, ack.reason_string))
    };
    match packet {
        Packet::ConnAck(connack) => describe_connack(connack),
        Packet::Publish(publish) => describe_publish(publish),
        Packet::PubAck(packet) => format!("PUBACK {}", ack(packet)),
        Packet::PubRec(packet) => format!("PUBREC {}", ack(packet)),
        Packet::PubRel(packet) => format!("PUBREL {}", ack(packet)),
        Packet::PubComp(packet) => format!("PUBCOMP {}", ack(packet)),
        Packet::SubAck(suback) => {
            let reasons: Vec<ReasonCode> = suback.reason_codes.iter().collect();
            let refused = reasons.iter().find(|reason| reason.is_error()).copied().unwrap_or(ReasonCode::Success);
            let why = why(refused, suback.reason_string);
            format!("SUBACK {} {reasons:?}{why}", suback.packet_identifier.value())
        }
        Packet::UnsubAck(unsuback) => {
            let reasons: Vec<ReasonCode> = unsuback.reason_codes.iter().collect();
            format!("UNSUBACK {} {reasons:?}", unsuback.packet_identifier.value())
        }
        Packet::PingResp => "PINGRESP".to_owned(),
        Packet::Disconnect(packet) => {
            format!("DISCONNECT {:?}{}", packet.reason_code, why(packet.reason_code, packet.reason_string))
        }
        other => panic!("no server says {other:?}"),
    }
}

fn describe_connack(connack: &crate::mqtt::ConnAck<'_>) -> String {
    let mut line = format!("CONNACK {:?}", connack.reason_code);
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            line += &format!(" {name}={value}");
        }
    };
    let properties = &connack.properties;
    add("present", connack.session_present.then(|| "1".to_owned()));
    add("expiry", properties.session_expiry_interval.map(|value| value.to_string()));
    add("receive_maximum", properties.receive_maximum.map(|value| value.to_string()));
    add("maximum_qos", properties.maximum_qos.map(|value| value.value().to_string()));
    add("retain", properties.retain_available.map(|value| value.to_string()));
    add("packet_max", properties.maximum_packet_size.map(|value| value.to_string()));
    add("client_id", properties.assigned_client_identifier.map(str::to_owned));
    add("aliases", (properties.topic_alias_maximum > 0).then(|| properties.topic_alias_maximum.to_string()));
    add("wildcards", properties.wildcard_subscription_available.map(|value| value.to_string()));
    add("shared", properties.shared_subscription_available.map(|value| value.to_string()));
    add("keep_alive", properties.server_keep_alive.map(|value| value.to_string()));
    add("response", properties.response_information.map(str::to_owned));
    add("why", properties.reason_string.map(str::to_owned));
    line
}

fn describe_publish(publish: &Publish<'_>) -> String {
    let mut line = format!("PUBLISH q{}", publish.qos.value());
    if let Some(identifier) = publish.packet_identifier {
        line += &format!(" id={}", identifier.value());
    }
    line += if publish.dup { " dup" } else { "" };
    line += if publish.retain { " retain" } else { "" };
    let payload = match publish.payload {
        long if long.len() > 1000 => format!("<{} bytes>", long.len()),
        short => String::from_utf8_lossy(short).into_owned(),
    };
    line += &format!(" {}={payload}", publish.topic);
    let properties = &publish.properties;
    if let Some(seconds) = properties.message_expiry_interval {
        line += &format!(" expiry={seconds}");
    }
    if let Some(content_type) = properties.content_type {
        line += &format!(" type={content_type}");
    }
    for (name, value) in properties.user_properties.iter() {
        line += &format!(" {name}:{value}");
    }
    let identifiers: Vec<u32> = properties.subscription_identifiers.iter().map(|value| value.get()).collect();
    if !identifiers.is_empty() {
        line += &format!(" ids={identifiers:?}");
    }
    if let Some(alias) = properties.topic_alias {
        line += &format!(" alias={alias}");
    }
    line
}
