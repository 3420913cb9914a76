//! The Network Connections of a shard, as the protocol sees them.
//!
//! Owns: what stands in each slot, the out-buffers being filled, and the lists of connections that have something to send:
//! at once, or, where deliveries may wait for more, when the first of them has waited long enough.
//! Always: a slot is named by its driver with a generation, and input for an older generation meets nothing. An idle
//! connection owns no buffer: what it needs while it is busy is boxed, and let go when it falls silent.
//! Never: a socket. Bytes come in as slices and go out as buffers.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use crate::{
    config::Durability,
    mqtt::ProtocolVersion,
    runtime::ConnectionId,
    session::{Acknowledgements, TopicAliases},
    time::Moment,
    transport::OutBuffer,
};

/// What stands in a slot.
#[derive(Debug, Default)]
pub enum Place {
    /// Nothing that the protocol knows of.
    #[default]
    Vacant,
    /// A connection that has not sent a complete CONNECT.
    Pending(Box<Pending>),
    /// A connection with a session.
    Open(Connection),
}

/// A connection that has not sent a complete CONNECT.
#[derive(Debug)]
pub struct Pending {
    /// Tells this connection apart from an earlier one in the slot.
    pub generation: u32,
    /// The listener it came through.
    pub listener: u16,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// What was received so far.
    pub bytes: Vec<u8>,
}

/// Where a client comes from, in 16 bytes.
#[derive(Clone, Debug)]
pub enum Peer {
    /// IPv4.
    V4(Ipv4Addr, u16),
    /// IPv6.
    V6(Box<(Ipv6Addr, u16)>),
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        match address.ip().to_canonical() {
            std::net::IpAddr::V4(ip) => Peer::V4(ip, address.port()),
            std::net::IpAddr::V6(ip) => Peer::V6(Box::new((ip, address.port()))),
        }
    }
}

impl Peer {
    /// The address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        match self {
            Peer::V4(ip, port) => SocketAddr::from((*ip, *port)),
            Peer::V6(pair) => SocketAddr::from((pair.0, pair.1)),
        }
    }
}

/// A connection with a session.
#[derive(Debug)]
pub struct Connection {
    /// See [`Pending::generation`].
    pub generation: u32,
    /// Its session.
    pub session: u32,
    /// The version that it speaks.
    pub version: ProtocolVersion,
    /// What acknowledgements to it wait for.
    pub durability: Durability,
    /// See [`Flags`].
    pub flags: Flags,
    /// The listener it came through.
    pub listener: u16,
    /// KeepAlive in force, in seconds; 0: none.
    pub keep_alive_s: u16,
    /// QoS 1 and 2 PUBLISHes that it takes at once.
    pub receive_maximum: u16,
    /// QoS 2 PUBLISHes received on this connection and not released.
    pub received_here: u16,
    /// The largest packet that it takes.
    pub packet_bytes_max: u32,
    /// Bytes given to the driver that have not left yet.
    pub unsent_bytes: u32,
    /// When the last packet came.
    pub last_seen: Moment,
    /// When it connected, in seconds since the Unix epoch.
    pub connected_at_s: u32,
    /// Where it comes from.
    pub peer: Peer,
    /// The user name it gave.
    pub user_name: Option<Box<str>>,
    /// What is to be sent.
    pub out: Option<Box<OutBuffer>>,
    /// What it needs while it sends.
    pub inbound: Option<Box<Inbound>>,
}

/// What a connection needs while its client sends: absent on a silent one.
#[derive(Debug, Default)]
pub struct Inbound {
    /// Input that is not handled yet: a packet that is not complete, or what came while we paused.
    pub stash: Vec<u8>,
    /// Topic Aliases that the client set.
    pub aliases: TopicAliases,
    /// Acknowledgements that we owe.
    pub acknowledgements: Acknowledgements,
}

impl Inbound {
    /// Whether nothing in it is needed. Aliases live as long as the connection.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.waits() && self.aliases.is_empty()
    }

    /// Whether anything in it waits to be handled or answered.
    #[must_use]
    pub fn waits(&self) -> bool {
        !(self.stash.is_empty() && self.acknowledgements.is_empty())
    }
}

/// What is so or not about a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u16);

impl Flags {
    /// It is in the list of connections with something to send.
    pub const DIRTY: Flags = Flags(1);
    /// Reason Strings and User Properties are welcome on every packet kind.
    pub const PROBLEM_INFORMATION: Flags = Flags(1 << 1);
    /// CONNECT asked for a clean start.
    pub const CLEAN_START: Flags = Flags(1 << 2);
    /// Waits for room in the mesh.
    pub const WAITS_FOR_MESH: Flags = Flags(1 << 3);
    /// Waits for its own fan-out.
    pub const WAITS_FOR_JOB: Flags = Flags(1 << 4);
    /// Waits for its next turn, since this one's budget is spent.
    pub const WAITS_FOR_TURN: Flags = Flags(1 << 5);
    /// Waits for acknowledgements that it is owed: a 3.x client with too many QoS 1 and 2 PUBLISHes at once.
    pub const WAITS_FOR_ACKNOWLEDGEMENTS: Flags = Flags(1 << 6);
    /// Its socket is not received from.
    pub const RECEIVE_STOPPED: Flags = Flags(1 << 7);
    /// Every reason not to handle its input now.
    pub const WAITS: Flags = Flags(0b1111 << 3);
    /// Its input waits in the list of those to go on with.
    pub const IN_BACKLOG: Flags = Flags(1 << 8);
    /// It has open questions for retained messages.
    pub const ASKS_RETAINED: Flags = Flags(1 << 9);

    /// It is a bridge of mosquitto.
    pub const BRIDGE: Flags = Flags(1 << 10);
    /// It takes Topic Aliases, and has a table of those that were sent.
    pub const TAKES_ALIASES: Flags = Flags(1 << 11);
    /// It is in the list of connections whose deliveries wait for more.
    pub const DELAYED: Flags = Flags(1 << 12);
    /// What it is to be sent at once waits for the end of the send under way.
    pub const FOLLOWS: Flags = Flags(1 << 13);
    /// Nothing is sent to it until the store has what its CONNACK says.
    pub const HELD: Flags = Flags(1 << 14);
    /// Nothing is sent to it until the first of what is queued for it has been read.
    pub const AWAITS_QUEUE: Flags = Flags(1 << 15);
    /// Every reason to send nothing to it yet.
    pub const SILENT: Flags = Flags(0b11 << 14);

    /// Whether any of `flags` is set.
    #[must_use]
    pub const fn any(self, flags: Flags) -> bool {
        self.0 & flags.0 != 0
    }

    /// Sets or clears `flags`.
    pub const fn set(&mut self, flags: Flags, on: bool) {
        if on {
            self.0 |= flags.0;
        } else {
            self.0 &= !flags.0;
        }
    }
}

impl Connection {
    /// What it needs while it sends, made when first used.
    pub fn inbound_mut(&mut self) -> &mut Inbound {
        self.inbound.get_or_insert_default()
    }

    /// Bytes on their way to the client.
    #[must_use]
    pub fn outbound_bytes(&self) -> usize {
        self.unsent_bytes as usize + self.out.as_ref().map_or(0, |out| out.len())
    }
}

/// The slots, the pool of buffers, and who has something to send.
#[derive(Debug, Default)]
pub struct Connections {
    chunks: Vec<Box<[Place]>>,
    #[expect(
        clippy::vec_box,
        reason = "buffers travel boxed between connection, ring and pool; unboxing would copy them"
    )]
    pool: Vec<Box<OutBuffer>>,
    dirty: Vec<u32>,
    /// How long deliveries may wait for more.
    delivery_delay: Duration,
    /// Connections whose deliveries wait.
    delayed: Vec<u32>,
    /// When they have waited long enough, all together.
    delayed_until: Moment,
    open: usize,
}

impl Connections {
    /// No connections yet. Deliveries wait for more up to `delivery_delay`; zero: they don't.
    #[must_use]
    pub fn new(delivery_delay: Duration) -> Self {
        Self { delivery_delay, ..Self::default() }
    }

    /// How many connections have a session.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open
    }

    /// Slots that there are places for.
    #[must_use]
    pub fn places(&self) -> u32 {
        (self.chunks.len() * CHUNK) as u32
    }

    /// What stands in `slot`, when its generation is the one named.
    pub fn place_mut(&mut self, id: ConnectionId) -> Option<&mut Place> {
        let place = self.chunks.get_mut(id.slot as usize / CHUNK)?.get_mut(id.slot as usize % CHUNK)?;
        let generation = match place {
            Place::Vacant => return None,
            Place::Pending(pending) => pending.generation,
            Place::Open(connection) => connection.generation,
        };
        (generation == id.generation).then_some(place)
    }

    /// Puts `place` into `slot` and returns what stood there.
    pub fn put(&mut self, slot: u32, place: Place) -> Place {
        let chunk = slot as usize / CHUNK;
        // Chunks of a fixed size: growing never moves a connection, and never stalls the shard.
        while self.chunks.len() <= chunk {
            self.chunks.push((0..CHUNK).map(|_| Place::Vacant).collect());
        }
        let Some(stands) = self.chunks.get_mut(chunk).and_then(|chunk| chunk.get_mut(slot as usize % CHUNK)) else {
            return Place::Vacant;
        };
        self.open += usize::from(matches!(place, Place::Open(_)));
        self.open -= usize::from(matches!(stands, Place::Open(_)));
        std::mem::replace(stands, place)
    }

    /// The connection with a session that is named.
    #[inline]
    pub fn open_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.at_mut(id.slot).filter(|connection| connection.generation == id.generation)
    }

    /// The connection with a session in `slot`.
    #[inline]
    pub fn at_mut(&mut self, slot: u32) -> Option<&mut Connection> {
        match self.chunks.get_mut(slot as usize / CHUNK)?.get_mut(slot as usize % CHUNK)? {
            Place::Open(connection) => Some(connection),
            _ => None,
        }
    }

    /// The connection with a session in `slot`.
    #[must_use]
    pub fn at(&self, slot: u32) -> Option<&Connection> {
        match self.chunks.get(slot as usize / CHUNK)?.get(slot as usize % CHUNK)? {
            Place::Open(connection) => Some(connection),
            _ => None,
        }
    }

    /// Every connection with a session.
    pub fn open_ids(&self) -> impl Iterator<Item = ConnectionId> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).zip(0u32..).filter_map(|(place, slot)| match place {
            Place::Open(connection) => Some(ConnectionId { slot, generation: connection.generation }),
            _ => None,
        })
    }

    /// Every connection that has not sent a complete CONNECT.
    pub fn pending_ids(&self) -> impl Iterator<Item = ConnectionId> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).zip(0u32..).filter_map(|(place, slot)| match place {
            Place::Pending(pending) => Some(ConnectionId { slot, generation: pending.generation }),
            _ => None,
        })
    }

    /// The out-buffer of the connection in `slot`, which joins the dirty list.
    #[inline]
    pub fn out(&mut self, slot: u32) -> Option<&mut OutBuffer> {
        let place = self.chunks.get_mut(slot as usize / CHUNK)?.get_mut(slot as usize % CHUNK)?;
        let Place::Open(connection) = place else { return None };
        if !connection.flags.any(Flags::DIRTY) {
            connection.flags.set(Flags::DIRTY, true);
            self.dirty.push(slot);
        }
        let pool = &mut self.pool;
        Some(connection.out.get_or_insert_with(|| pool.pop().unwrap_or_default()))
    }

    /// The out-buffer of the connection in `slot` for a delivery, which may wait for more.
    #[inline]
    pub fn out_for_delivery(&mut self, slot: u32, now: Moment) -> Option<&mut OutBuffer> {
        let fills_a_send =
            |connection: &Connection| connection.out.as_ref().is_some_and(|out| out.len() >= DELAYED_BYTES_MAX);
        if self.delivery_delay.is_zero() || self.at(slot).is_some_and(fills_a_send) {
            return self.out(slot);
        }
        let place = self.chunks.get_mut(slot as usize / CHUNK)?.get_mut(slot as usize % CHUNK)?;
        let Place::Open(connection) = place else { return None };
        if !connection.flags.any(Flags::DELAYED) {
            connection.flags.set(Flags::DELAYED, true);
            if self.delayed.is_empty() {
                self.delayed_until = now.after(self.delivery_delay);
            }
            self.delayed.push(slot);
        }
        let pool = &mut self.pool;
        Some(connection.out.get_or_insert_with(|| pool.pop().unwrap_or_default()))
    }

    /// The send under way on the connection in `slot` is over: what was to follow it does.
    pub fn end_send(&mut self, slot: u32) {
        if let Some(connection) = self.at_mut(slot)
            && connection.flags.any(Flags::FOLLOWS)
        {
            connection.flags.set(Flags::FOLLOWS, false);
            self.out(slot);
        }
    }

    /// When deliveries that wait have waited long enough.
    #[must_use]
    pub fn next_due(&self) -> Option<Moment> {
        (!self.delayed.is_empty()).then_some(self.delayed_until)
    }

    /// Deliveries of the past that have waited long enough become due.
    fn end_delay(&mut self, now: Moment) {
        if self.delayed.is_empty() || self.delayed_until > now {
            return;
        }
        let mut delayed = std::mem::take(&mut self.delayed);
        for slot in delayed.drain(..) {
            // The connection may have ended, and another may stand in its place: it has nothing to send then.
            let Some(connection) = self.at_mut(slot) else { continue };
            connection.flags.set(Flags::DELAYED, false);
            if connection.out.is_some() {
                self.out(slot);
            }
        }
        self.delayed = delayed;
    }

    /// The connections that have something to send at `now`, each with its buffer, since the last call. `send` is told
    /// the connection's name and gets the buffer.
    pub fn drain_dirty(&mut self, now: Moment, mut send: impl FnMut(ConnectionId, Box<OutBuffer>)) {
        self.end_delay(now);
        let mut dirty = std::mem::take(&mut self.dirty);
        for slot in dirty.drain(..) {
            let Some(connection) = self.at_mut(slot) else { continue };
            connection.flags.set(Flags::DIRTY, false);
            if connection.flags.any(Flags::SILENT) {
                continue;
            }
            let generation = connection.generation;
            // While a send is under way more is gathered, to leave in one send after it.
            if connection.unsent_bytes > 0 {
                connection.flags.set(Flags::FOLLOWS, true);
                continue;
            }
            let Some(out) = connection.out.take() else { continue };
            if out.is_empty() {
                // Asked for in case there was something to say, and there was not.
                self.recycle(out);
                continue;
            }
            connection.unsent_bytes += out.len() as u32;
            send(ConnectionId { slot, generation }, out);
        }
        self.dirty = dirty;
    }

    /// Takes a buffer back.
    pub fn recycle(&mut self, mut buffer: Box<OutBuffer>) {
        if self.pool.len() < POOL_MAX {
            buffer.clear();
            self.pool.push(buffer);
        }
    }
}

/// Connections per chunk: about 100 KiB.
const CHUNK: usize = 1024;
/// Bytes of deliveries to one client that wait for more; with as many they leave with the turn.
const DELAYED_BYTES_MAX: usize = 16 * 1024;
/// Buffers kept for reuse, of at most a few KiB each.
const POOL_MAX: usize = 1024;
