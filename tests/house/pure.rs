//! One shard without sockets, or two, and clients that are slots: bytes in, bytes out, a turn at a time.
//!
//! Owns: the place of the driver. It keeps its memory from turn to turn as the driver does, so that what is allocated or
//! executed in a steady state is the shard's own.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use ringmq::{
    config::{Config, Durability},
    mqtt::{
        Connect, Encode, PacketIdentifier, ProtocolVersion, Publish, PublishProperties, QoS, Subscribe,
        SubscriptionOptions, TopicFilter,
    },
    routing::{HashKey, home},
    runtime::ConnectionId,
    shard::{ConnectionEffect, ListenerFacts, RANKS, Shard, Shared},
    time::Moment,
    transport::OutBuffer,
};

/// A shard, and what leaves it.
pub struct PureShard {
    index: u16,
    shard: Shard,
    shared: Arc<Shared>,
    now: Moment,
    sent: Vec<(ConnectionId, Box<OutBuffer>)>,
    next_slot: u32,
}

impl PureShard {
    pub fn new() -> Self {
        Self::of(0, &shared_by(1))
    }

    /// The shard of this number, of those that `shared` is for.
    fn of(index: u16, shared: &Arc<Shared>) -> Self {
        let mut config = Config::default();
        config.log.connections = false;
        // Its messages would come in between.
        config.sys.enabled = false;
        let now = Moment::from_micros(1_000_000_000_000);
        let facts = vec![ListenerFacts { admits_anonymous: true, port: 1883, durability: Durability::Sync }];
        let shard = Shard::new(index, Rc::new(config), Arc::clone(shared), facts, now);
        shared.clocks.unpark(usize::from(index));
        Self { index, shard, shared: Arc::clone(shared), now, sent: Vec::new(), next_slot: 0 }
    }

    /// A client that has connected.
    pub fn connect(&mut self, version: ProtocolVersion, client_id: &str) -> ConnectionId {
        let mut bytes = Vec::new();
        Connect::new(version, client_id).encode(&mut bytes).expect("a CONNECT");
        self.connect_with(&bytes)
    }

    /// A client that has connected with this CONNECT.
    pub fn connect_with(&mut self, connect: &[u8]) -> ConnectionId {
        let id = ConnectionId { slot: self.next_slot, generation: 1 };
        self.next_slot += 1;
        self.shard.handle_accepted(id, 0, SocketAddr::from(([127, 0, 0, 1], 40_000)), self.now);
        self.turn(|_, _| {});
        self.receive(id, connect);
        let mut answered = 0;
        self.turn(|_, out| answered += out.len());
        assert!(answered >= 4, "CONNACK");
        id
    }

    /// Subscribes `id`, and throws SUBACK away.
    pub fn subscribe(&mut self, id: ConnectionId, version: ProtocolVersion, filter: &str, qos: QoS) {
        self.receive(id, &subscribe(version, filter, qos));
        let mut answered = 0;
        self.turn(|_, out| answered += out.len());
        assert!(answered >= 5, "SUBACK");
    }

    /// Bytes came from a client.
    pub fn receive(&mut self, id: ConnectionId, bytes: &[u8]) {
        self.shard.handle_received(id, bytes, self.now);
    }

    /// Time goes by, in which nobody says a thing.
    pub fn pass(&mut self, time: Duration) {
        let until = self.now.after(time);
        while let Some(due) = self.shard.next_due().filter(|&due| due <= until) {
            self.now = self.now.max(due);
            assert_eq!(self.turn(|_, _| {}), 0, "nobody is told anything");
        }
        self.now = self.now.max(until);
    }

    /// The rest of a turn: `told` sees what each client is sent, which all of it leaves at once. Returns how many buffers
    /// that were.
    pub fn turn(&mut self, mut told: impl FnMut(ConnectionId, &OutBuffer)) -> usize {
        self.now = Moment::from_micros(self.now.micros() + 10);
        let Self { shard, sent, now, .. } = self;
        shard.check_grace();
        shard.handle_mesh_drained();
        shard.handle_time(*now);
        shard.run_jobs(*now);
        shard.end_turn(*now);
        let closed = |effect| matches!(effect, ConnectionEffect::Close(..) | ConnectionEffect::HandOff(..));
        assert!(!shard.effects_mut().connections.drain(..).any(closed), "nobody is sent away");
        self.shared.clocks.publish_turn(usize::from(self.index));
        shard.handle_mesh_room();
        shard.drain_dirty(*now, |id, buffer| sent.push((id, buffer)));
        let buffers = sent.len();
        for (id, buffer) in sent.drain(..) {
            told(id, &buffer);
            let bytes = buffer.len();
            shard.handle_sent(id, buffer, bytes, *now);
        }
        buffers
    }
}

/// Two shards of one broker. Nothing of theirs is in the mesh between two turns of the pair.
pub struct PurePair {
    pub shards: [PureShard; 2],
}

impl PurePair {
    pub fn new() -> Self {
        let shared = shared_by(2);
        Self { shards: [0, 1].map(|index| PureShard::of(index, &shared)) }
    }

    /// A ClientId that begins with `name` and is at home at `shard`.
    pub fn client_id_at(&self, shard: u16, name: &str) -> String {
        let key = self.shards[0].shared.key;
        let is_there = |client_id: &String| home(key.client_id(client_id), self.shards.len()) == usize::from(shard);
        (0..).map(|number| format!("{name}-{number}")).find(is_there).expect("any number")
    }

    /// A turn of each in which they hear what the others have to say to them, and another.
    pub fn turn(&mut self, mut told: impl FnMut(ConnectionId, &OutBuffer)) {
        self.shards.iter_mut().for_each(|shard| _ = shard.turn(&mut told));
        for from in [0, 1] {
            let [first, second] = &mut self.shards;
            let (from, to) = if from == 0 { (first, second) } else { (second, first) };
            for rank in 0..RANKS {
                from.shard.effects_mut().take_out(to.index, rank, |messages| {
                    messages.drain(..).for_each(|message| to.shard.handle_mesh(from.index, message, to.now));
                });
            }
        }
        self.shards.iter_mut().for_each(|shard| _ = shard.turn(&mut told));
    }
}

fn shared_by(shards: u16) -> Arc<Shared> {
    Arc::new(Shared::new(shards, 1, HashKey::from_seed(7), 1 << 20))
}

/// An encoded PUBLISH of `payload`; at QoS 0 without the identifier.
pub fn publish(version: ProtocolVersion, qos: QoS, identifier: u16, topic: &str, payload: &[u8]) -> Vec<u8> {
    let packet_identifier = (qos != QoS::AtMostOnce).then(|| PacketIdentifier::new(identifier).expect("not zero"));
    let properties = PublishProperties::default();
    let packet = Publish { dup: false, qos, retain: false, topic, packet_identifier, properties, payload };
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes).expect("a PUBLISH");
    bytes
}

/// An encoded SUBSCRIBE to one filter.
pub fn subscribe(version: ProtocolVersion, filter: &str, qos: QoS) -> Vec<u8> {
    let filters = [(TopicFilter::parse(filter).expect("a filter"), SubscriptionOptions::with_qos(qos))];
    let mut bytes = Vec::new();
    Subscribe::new(PacketIdentifier::MIN, &filters).encode(version, &mut bytes).expect("a SUBSCRIBE");
    bytes
}
