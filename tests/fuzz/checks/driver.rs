//! One shard, and what drives it: the place of sockets, clock and ring.
//!
//! Owns: clients as sockets have them, and their side of the connection. Always, after each turn: the shard's invariants
//! hold, it counts as many connections as there are, and every client was told whole packets of one version.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use ringmq::{
    config::{Config, Durability},
    mqtt::{
        Packet, Sender,
        frame::{Peek, peek},
    },
    routing::{HashKey, InterestTable, Prefixes},
    runtime::{CloseCause, ConnectionId},
    shard::{ConnectionEffect, ListenerFacts, RANKS, Shard, Shared},
    time::Moment,
    transport::OutBuffer,
};

use super::VERSIONS;

/// A client's side of its connection.
pub struct Remote {
    id: ConnectionId,
    receiving: Receiving,
    /// Sent by the client, not received yet.
    input: Vec<u8>,
    input_ended: bool,
    /// What the client was told.
    pub told: Vec<u8>,
    /// How much of it was looked at.
    looked_at: usize,
    /// For each of [`VERSIONS`], whether all that the client was told was of that version.
    may_speak: [bool; VERSIONS.len()],
    /// Whether it reads what it is sent; if not, one send is under way for as long.
    pub reads: bool,
    under_way: Option<Box<OutBuffer>>,
    pub is_closed: bool,
    is_told_to_close: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiving {
    No,
    Once,
    On,
}

/// The shard and its clients.
pub struct Driver {
    pub shard: Shard,
    shared: Arc<Shared>,
    now: Moment,
    pub remotes: Vec<Remote>,
    vacant: Vec<ConnectionId>,
    next_slot: u32,
}

impl Driver {
    pub fn new() -> Self {
        let mut config = Config::default();
        config.log.connections = false;
        config.mqtt.session_expiry_max = SESSION_EXPIRY_MAX;
        config.mqtt.session_expiry_v3 = SESSION_EXPIRY_MAX;
        let shared = Arc::new(Shared::new(1, 1, HashKey::from_seed(7), 1024));
        let now = Moment::from_micros(1_000_000_000_000);
        let listeners = vec![ListenerFacts { admits_anonymous: true, port: 1883, durability: Durability::Sync }];
        let shard = Shard::new(0, Rc::new(config), Arc::clone(&shared), listeners, now);
        shared.clocks.unpark(0);
        Self { shard, shared, now, remotes: Vec::new(), vacant: Vec::new(), next_slot: 0 }
    }

    /// A new client: its number.
    pub fn accept(&mut self) -> usize {
        let id = self.vacant.pop().unwrap_or_else(|| {
            self.next_slot += 1;
            ConnectionId { slot: self.next_slot, generation: 0 }
        });
        self.remotes.push(Remote {
            id,
            receiving: Receiving::No,
            input: Vec::new(),
            input_ended: false,
            told: Vec::new(),
            looked_at: 0,
            may_speak: [true; VERSIONS.len()],
            reads: true,
            under_way: None,
            is_closed: false,
            is_told_to_close: false,
        });
        let number = self.remotes.len() - 1;
        let peer = SocketAddr::from(([127, 0, 0, 9], 40_000 + number as u16));
        self.shard.handle_accepted(id, 0, peer, self.now);
        number
    }

    /// The client sends `bytes`, which arrive when the shard receives.
    pub fn send(&mut self, client: usize, bytes: &[u8]) {
        self.remotes[client].input.extend_from_slice(bytes);
    }

    /// The client's `bytes` arrive now, whether the shard has asked for them or not.
    pub fn deliver(&mut self, client: usize, bytes: &[u8]) {
        self.shard.handle_received(self.remotes[client].id, bytes, self.now);
    }

    /// The client sends no more.
    pub fn end_input(&mut self, client: usize) {
        self.remotes[client].input_ended = true;
    }

    /// The client's connection fails.
    pub fn reset(&mut self, client: usize) {
        if !self.remotes[client].is_closed {
            let id = self.remotes[client].id;
            self.free(client);
            self.shard.handle_closed(id, CloseCause::EndOfStream, self.now);
        }
    }

    pub fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }

    pub fn drain(&mut self, max: usize) {
        self.shard.drain(max, self.now);
    }

    /// Turns until nothing is left to do.
    pub fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            if !self.turn() {
                return;
            }
        }
        panic!("the shard never comes to rest");
    }

    /// One turn. Returns whether anything went on.
    pub fn turn(&mut self) -> bool {
        let mut went_on = self.give_input();
        for remote in &mut self.remotes {
            if remote.reads
                && let Some(buffer) = remote.under_way.take()
            {
                let bytes = buffer.len();
                self.shard.handle_sent(remote.id, buffer, bytes, self.now);
                went_on = true;
            }
        }
        self.shard.check_grace();
        self.shard.handle_mesh_drained();
        self.shard.handle_time(self.now);
        self.shard.run_jobs(self.now);
        self.shard.end_turn(self.now);
        went_on |= self.act();
        assert!((0..RANKS).all(|rank| self.shard.effects_mut().waiting(rank) == 0), "there is no other shard");
        self.shared.clocks.publish_turn(0);
        self.shard.handle_mesh_room();
        went_on |= self.send_buffers();
        self.check();
        went_on || self.shard.has_work() || self.shard.waits_for_others()
    }

    /// Everybody leaves, every session ends, and nothing of them is left.
    pub fn end(mut self) {
        for client in 0..self.remotes.len() {
            self.remotes[client].reads = true;
        }
        self.settle();
        for client in 0..self.remotes.len() {
            self.reset(client);
        }
        // Will Delays and sessions end; a retained message may bring others forth for nobody.
        self.pass(SESSION_EXPIRY_MAX * 2);
        self.settle();
        let shared = &self.shared;
        assert_eq!((shared.connections.now(), shared.pending_connects.now()), (0, 0), "connections");
        assert_eq!(shared.sessions.now(), 0, "sessions");
        for topic in ["a", "a/b", "b", "$x/y"] {
            let mut prefixes = Prefixes::new();
            let hash = shared.key.topic_with_prefixes(topic, shared.interest.depth_mask(), &mut prefixes);
            assert_eq!(shared.interest.probe(hash, &prefixes) & InterestTable::bit(0), 0, "somebody wants {topic}");
        }
    }

    fn give_input(&mut self) -> bool {
        let mut went_on = false;
        for client in 0..self.remotes.len() {
            let remote = &mut self.remotes[client];
            if remote.receiving == Receiving::No || remote.is_closed {
                continue;
            }
            if !remote.input.is_empty() {
                if remote.receiving == Receiving::Once {
                    remote.receiving = Receiving::No;
                }
                let input = std::mem::take(&mut remote.input);
                self.shard.handle_received(remote.id, &input, self.now);
                went_on = true;
            } else if remote.input_ended {
                remote.receiving = Receiving::No;
                went_on = true;
                if self.shard.handle_input_ended(remote.id) {
                    self.reset(client);
                }
            }
        }
        went_on
    }

    fn act(&mut self) -> bool {
        let effects = std::mem::take(&mut self.shard.effects_mut().connections);
        let went_on = !effects.is_empty();
        for effect in effects {
            match effect {
                ConnectionEffect::ReceiveOnce(id) => self.receive(id, Receiving::Once),
                ConnectionEffect::Receive(id) | ConnectionEffect::Resume(id) => self.receive(id, Receiving::On),
                ConnectionEffect::Pause(id) => self.receive(id, Receiving::No),
                ConnectionEffect::Close(id, last, _) => {
                    // It may have closed in the same turn, but it is told once.
                    let client = self.remotes.iter().position(|remote| remote.id == id).expect("it was accepted");
                    assert!(!std::mem::replace(&mut self.remotes[client].is_told_to_close, true), "it closes once");
                    if self.remotes[client].is_closed {
                        continue;
                    }
                    self.free(client);
                    let told = &mut self.remotes[client].told;
                    told.extend(last.iter().flat_map(|last| last.slices(0)).flatten());
                }
                ConnectionEffect::HandOff(..) => panic!("every client is at home here"),
            }
        }
        went_on
    }

    fn receive(&mut self, id: ConnectionId, receiving: Receiving) {
        // It may have closed in the same turn.
        if let Some(client) = self.client(id) {
            self.remotes[client].receiving = receiving;
        }
    }

    fn send_buffers(&mut self) -> bool {
        let mut sends = Vec::new();
        self.shard.drain_dirty(self.now, |id, buffer| sends.push((id, buffer)));
        let went_on = !sends.is_empty();
        for (id, buffer) in sends {
            assert!(!buffer.is_empty(), "it sends something");
            let client = self.client(id).expect("it sends to who is there");
            let remote = &mut self.remotes[client];
            remote.told.extend(buffer.slices(0).flatten());
            match &mut remote.under_way {
                // As the ring does: what is sent while a send is under way gathers behind it.
                Some(_) => panic!("one send at a time"),
                none => *none = Some(buffer),
            }
        }
        went_on
    }

    fn client(&self, id: ConnectionId) -> Option<usize> {
        self.remotes.iter().position(|remote| remote.id == id && !remote.is_closed)
    }

    fn free(&mut self, client: usize) {
        let remote = &mut self.remotes[client];
        remote.is_closed = true;
        remote.receiving = Receiving::No;
        if let Some(buffer) = remote.under_way.take() {
            self.shard.recycle(buffer);
        }
        self.vacant.push(ConnectionId { slot: remote.id.slot, generation: remote.id.generation + 1 });
    }

    fn check(&mut self) {
        // Compiled where debug assertions are, as the shard's own.
        #[cfg(debug_assertions)]
        self.shard.check_invariants();
        let open = self.remotes.iter().filter(|remote| !remote.is_closed).count();
        assert_eq!(self.shared.connections.now(), open as u64, "connections that are counted");
        self.remotes.iter_mut().for_each(Remote::look);
    }
}

impl Remote {
    /// Looks at the packets that it was told.
    fn look(&mut self) {
        while let bytes = &self.told[self.looked_at..]
            && !bytes.is_empty()
        {
            let Ok(Peek::Complete(header)) = peek(bytes, u32::MAX) else { panic!("not whole packets: {bytes:02X?}") };
            let (packet, body) = (&bytes[..header.total_len()], usize::from(header.header_len));
            for (version, may_speak) in VERSIONS.into_iter().zip(&mut self.may_speak) {
                *may_speak &= Packet::decode(header, &packet[body..], version, Sender::Server).is_ok();
            }
            assert!(self.may_speak.contains(&true), "not of the version of those before: {packet:02X?}");
            self.looked_at += packet.len();
        }
    }
}

/// All sessions are over after this.
const SESSION_EXPIRY_MAX: Duration = Duration::from_secs(3600);

/// Far more than any script can ask for.
const TURNS_MAX: usize = 100_000;
