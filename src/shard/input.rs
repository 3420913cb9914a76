//! Bytes in: from receive buffers to packets, with pauses.
//!
//! Owns: the cutting of input into packets, the stash of what is not handled yet, and why a connection waits.
//! Always: packets of a connection are handled in order, whether they came in one piece or byte by byte; a packet that
//! lies whole in the receive buffer is handled where it lies. What a paused connection still receives is stashed, and the
//! stash is bounded by what can land before the pause takes effect.
//! Never: handles input of a connection that waits, or lets one connection's input fill a turn.

use std::net::SocketAddr;

use bytes::{Buf, Bytes};

use crate::{
    mqtt::{
        DecodeError, ReasonCode,
        frame::{FrameHeader, Peek, peek},
    },
    plant::{Bug, planted},
    runtime::{CloseCause, ConnectionId},
    shard::{
        ConnectionEffect, Shard,
        burst::Burst,
        connections::{Flags, Pending, Place},
        ending::Gone,
        timers::Timer,
    },
    time::Moment,
    transport::OutBuffer,
};

impl Shard {
    /// A connection was accepted. Nothing is received until we ask.
    pub fn handle_accepted(&mut self, id: ConnectionId, listener: u16, peer: SocketAddr, now: Moment) {
        let runtime = &self.config.runtime;
        let connections_max = if runtime.connections_max == 0 { u64::MAX } else { u64::from(runtime.connections_max) };
        let listener_max = match self.config.listeners.get(usize::from(listener)) {
            Some(configured) if configured.connections_max != u32::MAX => u64::from(configured.connections_max),
            _ => u64::MAX,
        };
        if !self.shared.connection_comes(listener, connections_max, listener_max) {
            self.clients.counters.connections_over_limit += 1;
            return self.effects.connections.push(ConnectionEffect::Close(id, None, super::Ending::Reset));
        }
        if !self.shared.pending_connects.add_within(1, u64::from(runtime.pending_connects_max)) {
            self.shared.connection_goes(listener);
            self.clients.counters.connections_over_limit += 1;
            return self.effects.connections.push(ConnectionEffect::Close(id, None, super::Ending::Reset));
        }
        let pending = Pending { generation: id.generation, listener, peer, bytes: Vec::new() };
        self.clients.connections.put(id.slot, Place::Pending(Box::new(pending)));
        let timer = Timer::ConnectDeadline { slot: id.slot, generation: id.generation };
        self.timers.set(now.after(runtime.connect_timeout), timer);
        let receive = if planted(Bug::MultishotBeforeConnect) {
            ConnectionEffect::Receive(id)
        } else {
            ConnectionEffect::ReceiveOnce(id)
        };
        self.effects.connections.push(receive);
    }

    /// Bytes came from a client.
    pub fn handle_received(&mut self, id: ConnectionId, bytes: &[u8], now: Moment) {
        match self.clients.connections.place_mut(id) {
            None | Some(Place::Vacant) => {}
            Some(Place::Pending(_)) => self.handle_pending_received(id, bytes, now),
            Some(Place::Open(connection)) => {
                connection.last_seen = now;
                if connection.flags.any(Flags::WAITS) || connection.flags.any(Flags::IN_BACKLOG) {
                    let inbound = connection.inbound_mut();
                    inbound.stash.extend_from_slice(bytes);
                    if inbound.stash.len() > STASH_PAUSE_BYTES {
                        self.stop_receiving(id);
                    }
                    return self.note_speaking(id.slot, now);
                }
                self.take_in(id, bytes, now);
                // A lone PINGREQ leaves nothing behind.
                if bytes != PINGREQ {
                    self.note_speaking(id.slot, now);
                }
            }
        }
    }

    /// A buffer has left for the client, or was given up.
    pub fn handle_sent(&mut self, id: ConnectionId, buffer: Box<OutBuffer>, bytes: usize, now: Moment) {
        self.clients.connections.recycle(buffer);
        let Some(connection) = self.clients.connections.open_mut(id) else { return };
        connection.unsent_bytes = connection.unsent_bytes.saturating_sub(bytes as u32);
        let (session, asks) = (connection.session, connection.flags.any(Flags::ASKS_RETAINED));
        self.clients.connections.end_send(id.slot);
        self.clients.pump(session, now);
        self.note_share_state(session);
        if asks {
            self.continue_retained(session);
        }
    }

    /// A client sends no more. Returns whether its connection is over with that: input that was put off is handled
    /// first, the DISCONNECT behind it above all, else its Will would be published although it took its leave.
    pub fn handle_input_ended(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.clients.connections.open_mut(id) else { return true };
        let is_put_off = connection.flags.any(Flags::WAITS) || connection.flags.any(Flags::IN_BACKLOG);
        let has_input = connection.inbound.as_ref().is_some_and(|inbound| !inbound.stash.is_empty());
        if !is_put_off || !has_input {
            return true;
        }
        connection.flags.set(Flags::RECEIVE_STOPPED, true);
        false
    }

    /// A connection has ended from outside: the client closed it, or the network did.
    pub fn handle_closed(&mut self, id: ConnectionId, cause: CloseCause, now: Moment) {
        match self.clients.connections.place_mut(id) {
            None | Some(Place::Vacant) => {}
            Some(Place::Pending(pending)) => {
                let listener = pending.listener;
                self.pending_bytes -= pending.bytes.len();
                self.clients.connections.put(id.slot, Place::Vacant);
                self.shared.pending_connects.take(1);
                self.shared.connection_goes(listener);
                self.clients.counters.connects_refused += 1;
            }
            Some(Place::Open(_)) => self.end_connection(id, Gone::closed_by_peer(cause), now),
        }
    }

    /// Handles `bytes` behind what is stashed, and stashes what is left.
    fn take_in(&mut self, id: ConnectionId, bytes: &[u8], now: Moment) {
        let mut rest = bytes;
        let Some(connection) = self.clients.connections.open_mut(id) else { return };
        if let Some(inbound) = &mut connection.inbound
            && !inbound.stash.is_empty()
        {
            // Completes the one packet that is begun; what lies behind it is handled where it lies.
            let mut stash = std::mem::take(&mut inbound.stash);
            loop {
                match peek(&stash, self.config.mqtt.packet_bytes_max) {
                    Err(error) => return self.violation(id, error, now),
                    Ok(Peek::Complete(_)) => break,
                    Ok(Peek::Incomplete { need }) => {
                        let missing = need.saturating_sub(stash.len()).max(1).min(rest.len());
                        let (part, behind) = rest.split_at(missing);
                        if part.is_empty() {
                            return self.stash(id, stash);
                        }
                        reserve(&mut stash, part.len(), need);
                        stash.extend_from_slice(part);
                        rest = behind;
                    }
                }
            }
            self.consume_one(id, &mut stash, now);
            if !stash.is_empty() {
                stash.extend_from_slice(rest);
                return self.stash(id, stash);
            }
            if let Some(connection) = self.clients.connections.open_mut(id) {
                connection.inbound_mut().stash = kept(stash);
            }
        }
        let used = self.consume(id, rest, self.work_per_turn(), now);
        if let Some(rest) = rest.get(used..)
            && !rest.is_empty()
            && let Some(connection) = self.clients.connections.open_mut(id)
        {
            connection.inbound_mut().stash.extend_from_slice(rest);
        }
    }

    /// Handles the packet that `packet` is, and leaves there what is not handled. The memory of a large one goes to the
    /// message that came in it, if something keeps that.
    fn consume_one(&mut self, id: ConnectionId, packet: &mut Vec<u8>, now: Moment) {
        if packet.len() <= STASH_RESERVE_BYTES {
            let used = self.consume(id, packet, self.work_per_turn(), now);
            packet.drain(..used);
            return;
        }
        let mut shared = Bytes::from(std::mem::take(packet));
        self.packet = Some(shared.clone());
        let used = self.consume(id, &shared, self.work_per_turn(), now);
        self.packet = None;
        if used < shared.len() {
            shared.advance(used);
            *packet = Vec::from(shared);
        }
    }

    fn stash(&mut self, id: ConnectionId, stash: Vec<u8>) {
        if let Some(connection) = self.clients.connections.open_mut(id) {
            connection.inbound_mut().stash = stash;
        }
    }

    /// Handles the whole packets at the start of `bytes` until the connection waits or is gone. Returns how many bytes
    /// were handled.
    ///
    /// No more than `allowed` is done in this turn, counted from its beginning.
    fn consume(&mut self, id: ConnectionId, bytes: &[u8], allowed: usize, now: Moment) -> usize {
        let mut used = 0;
        // What came together was sent together: whoever had subscribed before it was sent is found with its first publication.
        if !planted(Bug::ReachKept) {
            self.last_topic.forget_reach();
        }
        loop {
            let turn_is_full = self.has_done(allowed);
            let Some(connection) = self.clients.connections.open_mut(id) else { return bytes.len() };
            if connection.flags.any(Flags::WAITS) {
                return used;
            }
            let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) else { return used };
            if connection.outbound_bytes() > self.config.mqtt.outbound_bytes_max() {
                // Answers are not dropped as QoS 0 is: a client that asks on and never reads has to go.
                self.clients.counters.unread_over_limit += 1;
                self.disconnect(id, ReasonCode::QuotaExceeded, now);
                return bytes.len();
            }
            // Whoever only asks whether we live is answered in a full turn as well.
            if turn_is_full && !rest.starts_with(&PINGREQ) {
                connection.flags.set(Flags::WAITS_FOR_TURN, true);
                self.clients.counters.paused_for_turn += 1;
                self.join_backlog(id);
                return used;
            }
            // Framing and body are borrowed from the receive buffer: nothing is copied here.
            match peek(rest, self.config.mqtt.packet_bytes_max) {
                Err(error) => {
                    self.violation(id, error, now);
                    return bytes.len();
                }
                Ok(Peek::Incomplete { .. }) => return used,
                Ok(Peek::Complete(FrameHeader { first, header_len, remaining_len })) => {
                    // By its parts: put together it would be read back from memory before it has been written.
                    let start = usize::from(header_len);
                    let end = start + remaining_len as usize;
                    let Some(body) = rest.get(start..end) else { return used };
                    let version = connection.version;
                    if let Some(burst) = Burst::find(rest, start, end, version) {
                        let taken = self.on_burst(id, burst, version, allowed, now);
                        if taken > 0 {
                            used += taken;
                            continue;
                        }
                    }
                    used += end;
                    self.clients.counters.packets_received += 1;
                    self.work_this_turn += WORK_PER_PACKET;
                    self.handle_packet(id, first, header_len, body, now);
                }
            }
        }
    }

    /// Whether so much was done in this turn that what can wait has to.
    pub(super) fn turn_is_full(&self) -> bool {
        self.has_done(self.work_per_turn())
    }

    /// Whether as many large fan-outs are under way as there may be.
    pub(super) fn fan_outs_are_many(&self) -> bool {
        self.jobs.len() >= self.config.runtime.fan_out_jobs_max as usize
    }

    /// Work after which a turn handles no more input: by default a few milliseconds before the sends.
    fn work_per_turn(&self) -> usize {
        (self.config.runtime.turn_deliveries_max as usize).saturating_mul(WORK_PER_DELIVERY)
    }

    pub(super) fn has_done(&self, allowed: usize) -> bool {
        self.work_this_turn >= allowed || self.fan_outs_are_many()
    }

    /// A packet broke the protocol: the client is told why, when its version can be told, and disconnected.
    pub(super) fn violation(&mut self, id: ConnectionId, error: DecodeError, now: Moment) {
        // [v3 MQTT-4.8.0-1] [v5 MQTT-4.13.1-1] [v3 MQTT-2.2.2-2] [v5 MQTT-2.1.3-1]
        self.clients.counters.protocol_errors += 1;
        if let Some(connection) = self.clients.connections.open_mut(id) {
            let peer = connection.peer.address();
            let session = connection.session;
            let client_id = self.clients.sessions.at(session).map_or("", |session| &session.client_id);
            tracing::info!(client_id, %peer, %error, "protocol error");
        }
        self.disconnect(id, error.reason_code(), now);
    }

    /// Whether nothing keeps the connection from going on is looked at after `reason` is gone.
    pub(super) fn stop_waiting(&mut self, id: ConnectionId, reason: Flags) {
        let Some(connection) = self.clients.connections.open_mut(id) else { return };
        connection.flags.set(reason, false);
        if connection.flags.any(Flags::WAITS) {
            return;
        }
        let stashed = connection.inbound.as_ref().is_some_and(|inbound| !inbound.stash.is_empty());
        if stashed {
            self.join_backlog(id);
        } else {
            self.resume_receiving(id);
        }
    }

    /// The connection waits for `reason`. `stop`: its socket is not received from meanwhile.
    pub(super) fn start_waiting(&mut self, id: ConnectionId, reason: Flags, stop: bool) {
        if let Some(connection) = self.clients.connections.open_mut(id) {
            connection.flags.set(reason, true);
            if stop {
                self.stop_receiving(id);
            }
        }
    }

    fn stop_receiving(&mut self, id: ConnectionId) {
        if let Some(connection) = self.clients.connections.open_mut(id)
            && !connection.flags.any(Flags::RECEIVE_STOPPED)
        {
            connection.flags.set(Flags::RECEIVE_STOPPED, true);
            self.effects.connections.push(ConnectionEffect::Pause(id));
        }
    }

    fn resume_receiving(&mut self, id: ConnectionId) {
        if let Some(connection) = self.clients.connections.open_mut(id)
            && connection.flags.any(Flags::RECEIVE_STOPPED)
        {
            connection.flags.set(Flags::RECEIVE_STOPPED, false);
            self.effects.connections.push(ConnectionEffect::Resume(id));
        }
    }

    pub(super) fn join_backlog(&mut self, id: ConnectionId) {
        if let Some(connection) = self.clients.connections.open_mut(id)
            && !connection.flags.any(Flags::IN_BACKLOG)
        {
            connection.flags.set(Flags::IN_BACKLOG, true);
            self.backlog.push_back(id);
        }
    }

    /// Goes on with input that was put off, until there is none or the turn is full.
    pub(super) fn run_backlog(&mut self, now: Moment) {
        // Round and round: each gets a share, and whoever is alone gets the turn.
        while !self.turn_is_full() {
            let Some(id) = self.backlog.pop_front() else { return };
            let Some(connection) = self.clients.connections.open_mut(id) else { continue };
            connection.flags.set(Flags::IN_BACKLOG, false);
            connection.flags.set(Flags::WAITS_FOR_TURN, false);
            if connection.flags.any(Flags::WAITS) {
                continue;
            }
            let mut stash = std::mem::take(&mut connection.inbound_mut().stash);
            // A share of the turn only: the others in the list have waited as well.
            let allowed = self.work_per_turn().min(self.work_this_turn + WORK_PER_BACKLOG_ENTRY);
            let used = self.consume(id, &stash, allowed, now);
            stash.drain(..used);
            let Some(connection) = self.clients.connections.open_mut(id) else { continue };
            let waits = connection.flags.any(Flags::WAITS) || connection.flags.any(Flags::IN_BACKLOG);
            let inbound = connection.inbound_mut();
            // Nothing was received meanwhile: input comes between turns only.
            inbound.stash = if stash.is_empty() { kept(stash) } else { stash };
            if !waits {
                self.resume_receiving(id);
            }
        }
    }

    /// A client may not have said a packet for one and a half KeepAlives. The timer may be that of an earlier connection
    /// in this slot: only what stands here now counts.
    pub(super) fn on_keep_alive(&mut self, slot: u32, now: Moment) {
        let Some(connection) = self.clients.connections.at_mut(slot) else { return };
        if connection.keep_alive_s == 0 {
            return;
        }
        let id = ConnectionId { slot, generation: connection.generation };
        // [v3 MQTT-3.1.2-24] [v5 MQTT-3.1.2-22]
        let patience = keep_alive_patience(connection.keep_alive_s);
        let waits = connection.flags.any(Flags::WAITS) || connection.flags.any(Flags::RECEIVE_STOPPED);
        let deadline = connection.last_seen.after(patience);
        if waits && !planted(Bug::KeepAliveWhilePaused) {
            // We are the ones who do not listen: its time starts again.
            connection.last_seen = now;
        } else if deadline <= now {
            self.clients.counters.keep_alive_timeouts += 1;
            return self.disconnect(id, ReasonCode::KeepAliveTimeout, now);
        }
        let due = connection.last_seen.after(patience);
        self.timers.set(due, Timer::KeepAlive { slot });
    }
}

/// Makes room for `more` bytes of a packet of `need` bytes, in as few steps as a client deserves that may only announce it.
fn reserve(stash: &mut Vec<u8>, more: usize, need: usize) {
    let wanted = stash.len() + more;
    if wanted <= stash.capacity() {
        return;
    }
    let trusted = if stash.len() < STASH_RESERVE_BYTES { STASH_RESERVE_BYTES } else { stash.len() * STASH_GROWTH };
    stash.reserve_exact(need.min(trusted).max(wanted) - stash.len());
}

/// What an empty stash is kept as.
fn kept(stash: Vec<u8>) -> Vec<u8> {
    debug_assert!(stash.is_empty());
    if stash.capacity() <= STASH_KEPT_BYTES { stash } else { Vec::new() }
}

/// One and a half KeepAlives.
pub(super) fn keep_alive_patience(keep_alive_s: u16) -> std::time::Duration {
    std::time::Duration::from_millis(u64::from(keep_alive_s) * 1_500)
}

/// Work for one connection whose input was put off, when it is its turn.
const WORK_PER_BACKLOG_ENTRY: usize = 512 * WORK_PER_DELIVERY;
/// What a delivery is counted as.
pub(super) const WORK_PER_DELIVERY: usize = 4;
/// What a packet is counted as, whatever it asks for.
pub(super) const WORK_PER_PACKET: usize = 1;
const PINGREQ: [u8; 2] = [0xC0, 0x00];
/// A connection that waits is not received from any more once this much is stashed.
const STASH_PAUSE_BYTES: usize = 64 * 1024;
/// An empty stash with more memory lets go of it: a long SUBSCRIBE comes once, and a larger packet in pieces costs more
/// than an allocation.
const STASH_KEPT_BYTES: usize = 2048;
/// Memory set aside at once for a packet that arrives in pieces. A client that only announces a large one gets no more.
const STASH_RESERVE_BYTES: usize = 16 * 1024;
/// With these there, room is made for so many times as much: a large packet is moved once or twice while it grows, and
/// what is not written to yet takes addresses only.
const STASH_GROWTH: usize = 32;
