//! All sockets of one shard.
//!
//! Owns: the slots, the listeners, and the lists of connections that linger or wait for a buffer. What always holds:
//! - a slot is freed and its descriptor closed only when the last completion of each of its operations is in;
//! - at most one recv and one send per connection are in flight, and each completion is matched by slot *and* generation;
//! - the handler hears nothing of a connection after `close`, `release` or its own `on_closed`;
//! - every closing ends: by the peer, by a limit, or by a deadline.
//!
//! It must never call the kernel of the machine itself: it is pure over [`Kernel`], so the simulation runs this code.
//!
//! The driver calls [`Wires::turn`] in a loop. The handler only takes notes; effects (send, close, pause...) are given to
//! `Wires` after the turn, which is why no method of [`WireHandler`] has access to it.

mod accepting;
mod closing;
mod crowd;
mod receiving;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use self::{accepting::Listener, closing::Lingerer, crowd::Crowd};
use super::{
    kernel::{Completion, EnterWait, Errno, Kernel, OperationKind, Socket, Tag},
    slots::{
        ARMED, CANCELLING, ConnectionId, INPUT_ENDED, NEWCOMER, Phase, SENDING, STARVED, Slots, WANT_MULTISHOT,
        WANT_ONCE,
    },
    system,
};
use crate::{
    plant::{Bug, planted},
    time::Moment,
    transport::OutBuffer,
};

/// The limits of [`Wires`]. What happens at each is said with it.
#[derive(Clone, Copy, Debug)]
pub struct WiresParameters {
    /// Sockets at once. One more is accepted and reset, and counted in [`WiresCounters::refused`].
    pub connections_max: usize,
    /// Completions handled in one turn; the rest waits for the next.
    pub completions_per_turn_max: usize,
    /// Beginnings and ends of connections (accept, input of newcomers, shutting down, end) handled in one turn; the rest
    /// waits for the next, and what else comes is handled before it.
    pub crowd_per_turn_max: usize,
    /// How long a closing connection may take to send its last bytes and to end its side. Then it is reset.
    pub linger: Duration,
    /// Input that a closing connection may still send. With more it is reset.
    pub linger_bytes_max: u32,
    /// Connections that linger at once. With one more the oldest is reset.
    pub lingering_max: usize,
    /// How long accepting pauses when descriptors or memory ran out.
    pub accept_pause: Duration,
}

impl Default for WiresParameters {
    fn default() -> Self {
        WiresParameters {
            connections_max: 1 << 20,
            completions_per_turn_max: 256,
            crowd_per_turn_max: 64,
            linger: Duration::from_secs(2),
            linger_bytes_max: 64 * 1024,
            lingering_max: 1024,
            accept_pause: Duration::from_millis(100),
        }
    }
}

/// What happened since the start, except where a gauge is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WiresCounters {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections reset at once because [`WiresParameters::connections_max`] was reached.
    pub refused: u64,
    /// Connections that came from another shard.
    pub adopted: u64,
    /// Connections that left for another shard.
    pub released: u64,
    /// Descriptors closed.
    pub closed: u64,
    /// Connections that were reset, by a limit, a deadline or by request.
    pub resets: u64,
    /// Gauge: connections that linger now.
    pub lingering: u64,
    /// Completions handled.
    pub completions: u64,
    /// Bytes received, discarded ones included.
    pub received_bytes: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Sends handed to the kernel, continuations of partial ones included.
    pub sends: u64,
    /// Sends that went out in part and were continued.
    pub partial_sends: u64,
    /// Receives that found no buffer in the pool and were armed again.
    pub starved: u64,
    /// Times that accepting paused for want of descriptors or memory.
    pub accept_pauses: u64,
    /// Completions that belonged to no living connection.
    pub stale: u64,
}

/// Whether a turn may wait for a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It takes what is there.
    No,
    /// It waits for a completion, the wake-up descriptor, or this moment; `None` is for ever.
    Until(Option<Moment>),
}

/// How to close a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// What was handed to `send` goes out, then FIN, then input is discarded until the peer ends too.
    Linger,
    /// The connection is reset; unsent bytes are lost.
    Reset,
}

/// Why a connection ended without being asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCause {
    /// The peer sends no more.
    EndOfStream,
    /// An operation failed.
    Failed(Errno),
}

/// A socket between two shards: it belongs to no ring. Give it to [`Wires::adopt`] or [`Wires::discard`], else its
/// descriptor leaks.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct ReleasedSocket {
    /// Its descriptor.
    pub socket: Socket,
    /// The other side's address; unspecified when the peer was gone before it could be asked for.
    pub peer: SocketAddr,
    /// The number of the listener that accepted it.
    pub listener: u16,
}

impl ReleasedSocket {
    /// A connection that was made outside the ring, for a client of the load generator or a test.
    ///
    /// # Errors
    ///
    /// When the stream's options can't be set.
    pub fn from_stream(stream: TcpStream, listener: u16) -> std::io::Result<Self> {
        let peer = stream.peer_addr().unwrap_or(UNKNOWN_PEER);
        Ok(ReleasedSocket { socket: system::take_stream(stream)?, peer, listener })
    }
}

/// Hears what happens on the sockets of a shard. It is called while completions are worked through: it takes notes, and
/// what it wants done it tells [`Wires`] after the turn.
pub trait WireHandler {
    /// The kernel was entered, and waited for if that was asked. What it brought is told next.
    fn on_entered(&mut self) {}

    /// A connection was accepted. No recv is armed on it.
    fn on_accepted(&mut self, id: ConnectionId, listener: u16, peer: SocketAddr);

    /// Bytes came in. They may be changed in place; they are gone after the call.
    fn on_received(&mut self, id: ConnectionId, bytes: &mut [u8]);

    /// The peer sends no more. Returns whether the connection is over with that: not while input that came before is
    /// still to be handled. Who says no receives again ([`Wires::resume`]) once it is handled, and is asked again then.
    fn is_over_without_input(&mut self, _id: ConnectionId) -> bool {
        true
    }

    /// All of `buffer` went to the kernel, `bytes` of them. The buffer is given back for its next use.
    fn on_sent(&mut self, id: ConnectionId, buffer: Box<OutBuffer>, bytes: usize);

    /// The connection is over, and this is the last that is heard of it. A buffer whose send failed is given back.
    fn on_closed(&mut self, id: ConnectionId, cause: CloseCause, buffer: Option<Box<OutBuffer>>);
}

/// All sockets of one shard, over a kernel.
#[derive(Debug)]
pub struct Wires<K: Kernel> {
    kernel: K,
    slots: Slots,
    listeners: Vec<Listener>,
    starved: VecDeque<ConnectionId>,
    lingering: VecDeque<Lingerer>,
    /// Of those, how many still linger.
    lingering_live: usize,
    parameters: WiresParameters,
    counters: WiresCounters,
    crowd: Crowd,
    /// Completions may be left over: the last turn ended with its budget.
    more_to_handle: bool,
}

impl<K: Kernel> Wires<K> {
    /// No sockets yet.
    #[must_use]
    pub fn new(kernel: K, parameters: WiresParameters) -> Self {
        Wires {
            kernel,
            slots: Slots::new(parameters.connections_max),
            listeners: Vec::new(),
            starved: VecDeque::new(),
            lingering: VecDeque::new(),
            lingering_live: 0,
            parameters,
            counters: WiresCounters::default(),
            crowd: Crowd::default(),
            more_to_handle: false,
        }
    }

    /// Submits what was asked for, waits as `wait` says, and tells `handler` what happened. Returns the number of
    /// completions handled, at most [`WiresParameters::completions_per_turn_max`] and those of a crowd.
    pub fn turn(&mut self, handler: &mut impl WireHandler, wait: Wait, now: Moment) -> usize {
        let wait = self.begin_turn(handler, wait, now);
        self.finish_turn(handler, wait)
    }

    /// The first half of a turn: what is due, and how long the kernel may wait. The simulation leaves a shard that
    /// sleeps between the halves.
    pub fn begin_turn(&mut self, handler: &mut impl WireHandler, wait: Wait, now: Moment) -> EnterWait {
        let has_expired = self.expire_lingerers(now);
        let has_changed = self.accept_rest(handler, now);
        self.rearm_starved();
        // Whoever still starves may have bytes waiting, and only the next turn arms it.
        let starves = !self.starved.is_empty() && !planted(Bug::StarvedLeftBehind);
        let is_crowded = !self.crowd.is_empty() && !planted(Bug::CrowdLeftBehind);
        let is_full = self.more_to_handle || is_crowded || self.crowd.is_coming();
        let must_not_wait = has_expired || has_changed || starves || is_full;
        if must_not_wait { EnterWait::No } else { self.enter_wait(wait, now) }
    }

    /// The second half of a turn: enters the kernel and works through what it brings.
    pub fn finish_turn(&mut self, handler: &mut impl WireHandler, wait: EnterWait) -> usize {
        self.kernel.enter(wait);
        handler.on_entered();
        self.open_crowd();
        let (mut handled, mut postponed) = (0, 0);
        while handled < self.parameters.completions_per_turn_max && postponed < POSTPONED_PER_TURN_MAX {
            let Some(completion) = self.kernel.next_completion() else { break };
            match self.postpone(handler, completion) {
                Some(completion) => {
                    handled += 1;
                    self.handle(handler, completion);
                }
                None => postponed += 1,
            }
        }
        self.more_to_handle =
            handled == self.parameters.completions_per_turn_max || postponed == POSTPONED_PER_TURN_MAX;
        self.look_deeper(handled + postponed);
        handled += self.handle_crowd(handler);
        self.counters.completions += handled as u64;
        handled
    }

    fn handle(&mut self, handler: &mut impl WireHandler, completion: Completion) {
        match completion {
            Completion::Received { tag, reception, more } => self.on_reception(handler, tag, reception, more),
            Completion::Sent { tag, result, buffer } => self.on_send_completed(handler, tag, result, buffer),
            Completion::Accepted { listener, result, more } => {
                self.on_accept_completed(handler, listener, result, more);
            }
            Completion::Woken => {}
        }
    }

    /// Arms a recv that ends with the first bytes. Used until CONNECT is parsed: what comes later stays in the socket,
    /// for the ring that the connection may move to.
    pub fn receive_once(&mut self, id: ConnectionId) {
        self.want(id, WANT_ONCE);
    }

    /// Arms the recv that takes everything until [`Wires::pause`].
    pub fn receive(&mut self, id: ConnectionId) {
        self.want(id, WANT_MULTISHOT);
    }

    /// Ends receiving for now. What landed already is still given to the handler.
    pub fn pause(&mut self, id: ConnectionId) {
        self.cancel_receive(id);
    }

    /// Receives again after [`Wires::pause`].
    pub fn resume(&mut self, id: ConnectionId) {
        self.want(id, WANT_MULTISHOT);
    }

    /// Sends all of `buffer`. One send is in flight and one more waits behind it.
    ///
    /// # Errors
    ///
    /// Gives the buffer back when it is empty, when the connection is closed or closing, or when one waits already.
    pub fn send(&mut self, id: ConnectionId, buffer: Box<OutBuffer>) -> Result<(), Box<OutBuffer>> {
        let Some(slot) = self.slots.find(id) else { return Err(buffer) };
        if slot.phase != Phase::Open || buffer.is_empty() {
            return Err(buffer);
        }
        if slot.has(SENDING) {
            if slot.queued.is_some() {
                return Err(buffer);
            }
            slot.queued = Some(buffer);
            return Ok(());
        }
        self.start_send(id, buffer, 0);
        Ok(())
    }

    /// Whether a send is in flight on this connection.
    #[must_use]
    pub fn is_sending(&mut self, id: ConnectionId) -> bool {
        self.slots.find(id).is_some_and(|slot| slot.has(SENDING))
    }

    /// Takes the socket out of this shard without closing it: nothing while an operation is in flight (`pause` first,
    /// or use [`Wires::receive_once`]), or when the connection is gone.
    #[must_use]
    pub fn release(&mut self, id: ConnectionId) -> Option<ReleasedSocket> {
        let slot = self.slots.find(id)?;
        if slot.phase != Phase::Open || slot.has_operations() {
            return None;
        }
        let (socket, listener) = (slot.socket, slot.listener);
        self.slots.remove(id.slot);
        self.counters.released += 1;
        let peer = self.kernel.peer(socket).unwrap_or(UNKNOWN_PEER);
        Some(ReleasedSocket { socket, peer, listener })
    }

    /// Takes in a socket that another shard released. No recv is armed on it.
    ///
    /// # Errors
    ///
    /// Gives the socket back when [`WiresParameters::connections_max`] is reached.
    pub fn adopt(&mut self, socket: ReleasedSocket) -> Result<ConnectionId, ReleasedSocket> {
        match self.slots.insert(socket.socket, socket.listener) {
            Some(id) => {
                self.counters.adopted += 1;
                Ok(id)
            }
            None => Err(socket),
        }
    }

    /// Resets a socket that nobody adopts.
    pub fn discard(&mut self, socket: ReleasedSocket) {
        self.kernel.reset_on_close(socket.socket);
        self.kernel.close(socket.socket);
        self.counters.resets += 1;
        self.counters.closed += 1;
    }

    /// Sockets of this shard, closing ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether the shard has no socket left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.len() == 0 && self.crowd.is_empty()
    }

    /// The connections that are neither closed nor closing.
    pub fn open_ids(&self) -> impl Iterator<Item = ConnectionId> {
        self.slots.open_ids()
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> WiresCounters {
        WiresCounters { lingering: self.lingering_live as u64, ..self.counters }
    }

    /// System calls that entered the ring.
    #[must_use]
    pub fn enters(&self) -> u64 {
        self.kernel.enters()
    }

    /// The kernel below, for tests and the simulation.
    pub fn kernel_mut(&mut self) -> &mut K {
        &mut self.kernel
    }

    fn start_send(&mut self, id: ConnectionId, buffer: Box<OutBuffer>, skip_bytes: u32) {
        let Some(slot) = self.slots.find(id) else { return };
        slot.flags |= SENDING;
        slot.sent_bytes = skip_bytes;
        self.counters.sends += 1;
        self.kernel.send(id.tag(OperationKind::Send), slot.socket, buffer, skip_bytes as usize);
    }

    fn on_send_completed(
        &mut self,
        handler: &mut impl WireHandler,
        tag: Tag,
        result: Result<usize, Errno>,
        buffer: Box<OutBuffer>,
    ) {
        let id = ConnectionId::from(tag);
        let Some(slot) = self.slots.find(id) else {
            self.counters.stale += 1;
            return;
        };
        slot.flags &= !SENDING;
        let sent_before = slot.sent_bytes;
        let sent_now = match result {
            Ok(bytes) => u32::try_from(bytes).unwrap_or(u32::MAX),
            Err(Errno(libc::EINTR | libc::EAGAIN)) => 0,
            Err(errno) => return self.on_send_failed(handler, id, errno, buffer),
        };
        self.counters.sent_bytes += u64::from(sent_now);
        let sent_bytes = sent_before.saturating_add(sent_now);
        let partial = (sent_bytes as usize) < buffer.len() && !planted(Bug::PartialSendForgotten);
        if partial && slot.phase == Phase::Finishing {
            return self.finish_if_quiet(id);
        }
        if partial {
            self.counters.partial_sends += u64::from(result.is_ok());
            return self.start_send(id, buffer, sent_bytes);
        }
        if let Some(next) = slot.queued.take() {
            self.start_send(id, next, 0);
        }
        match self.slots.find(id).map(|slot| slot.phase) {
            Some(Phase::Open) => {
                let bytes = buffer.len();
                handler.on_sent(id, buffer, bytes);
            }
            Some(Phase::Flushing) => self.flushed_in_turn(id),
            _ => self.finish_if_quiet(id),
        }
    }

    fn on_send_failed(
        &mut self,
        handler: &mut impl WireHandler,
        id: ConnectionId,
        errno: Errno,
        buffer: Box<OutBuffer>,
    ) {
        match self.slots.find(id).map(|slot| slot.phase) {
            // What came before is handled first: the recv that is armed for what follows finds the end as well.
            Some(Phase::Open) if !handler.is_over_without_input(id) => {
                if let Some(slot) = self.slots.find(id) {
                    slot.queued = None;
                }
            }
            Some(Phase::Open) => {
                handler.on_closed(id, CloseCause::Failed(errno), Some(buffer));
                self.finish(id, Close::Linger);
            }
            Some(Phase::Flushing) => self.finish(id, Close::Reset),
            _ => self.finish_if_quiet(id),
        }
    }

    fn enter_wait(&self, wait: Wait, now: Moment) -> EnterWait {
        let Wait::Until(until) = wait else { return EnterWait::No };
        let own = [self.lingerer_deadline(), self.accept_deadline()];
        let first = own.into_iter().flatten().chain(until).min();
        EnterWait::For(first.filter(|moment| *moment != Moment::NEVER).map(|moment| moment.since(now)))
    }
}

impl<K: Kernel> Drop for Wires<K> {
    /// Closes every descriptor. Peers see the end of their connections when the kernel, dropped next, lets go of them.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for socket in self.slots.sockets().chain(self.crowd.sockets()) {
            self.kernel.close(socket);
        }
        for socket in self.listeners.iter().filter_map(Listener::open_socket) {
            self.kernel.close(socket);
        }
    }
}

/// Beginnings and ends of connections that a turn lets wait; what more there is stays with the kernel.
const POSTPONED_PER_TURN_MAX: usize = 8192;
/// Stands for a peer whose address cannot be found out any more.
const UNKNOWN_PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
