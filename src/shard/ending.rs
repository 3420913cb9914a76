//! How connections, sessions and Wills end.
//!
//! Owns: the end of a Network Connection and what it means for the session, the end of a session, the Will in between.
//! Always: every end but a DISCONNECT 0x00 publishes the Will [v3 MQTT-3.1.2-8] [v5 MQTT-3.1.2-8]: at once, or when its
//! delay or the session is over, whichever is first. A session is gone from every table once its end returns.
//! Never: closes a socket. The driver is asked to.

use std::time::Duration;

use crate::{
    mqtt::{Disconnect, EncodeWithin, ReasonCode},
    plant::{Bug, planted},
    runtime::{CloseCause, ConnectionId},
    session::{HeldSubscription, NO_CONNECTION, Will},
    shard::{
        ConnectionEffect, Ending, Shard,
        connections::{Connection, Flags, Place},
        exchange::Taken,
        timers::Timer,
    },
    store::Operation,
    time::Moment,
};

/// How a connection ended, from the session's point of view.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gone {
    /// Whether the Will is forgotten.
    forgets_will: bool,
    /// Whether the session goes with it, whatever its expiry: a clean start takes over.
    ends_session: bool,
    /// Whether there is somebody to deliver last words to.
    ending: Ending,
    /// Whether the driver has closed the connection already.
    closed: bool,
    /// What is said about it in logs and events.
    pub reason: &'static str,
    /// Whether the session is resumed at once by a newer connection.
    resumed: bool,
}

impl Gone {
    /// The client or the network closed it.
    pub fn closed_by_peer(cause: CloseCause) -> Self {
        let reason = match cause {
            CloseCause::EndOfStream => "tcp_closed",
            CloseCause::Failed(_) => "tcp_error",
        };
        Self { forgets_will: false, ends_session: false, ending: Ending::Reset, closed: true, reason, resumed: false }
    }

    /// The client sent DISCONNECT.
    pub fn by_client(reason: ReasonCode) -> Self {
        Self {
            // [v3 MQTT-3.14.4-3] [v5 MQTT-3.14.4-3] Any other reason, 0x04 above all, has it published.
            forgets_will: reason == ReasonCode::Success,
            ends_session: false,
            ending: Ending::Linger,
            closed: false,
            reason: if reason == ReasonCode::Success { "normal" } else { "client_disconnect_with_reason" },
            resumed: false,
        }
    }

    /// We have reason to close it.
    pub fn by_server(reason: ReasonCode) -> Self {
        let said = match reason {
            ReasonCode::KeepAliveTimeout => "keepalive_timeout",
            ReasonCode::ServerShuttingDown => "server_shutting_down",
            ReasonCode::QuotaExceeded => "quota_exceeded",
            ReasonCode::SessionTakenOver => "takenover",
            _ => "protocol_error",
        };
        Self {
            forgets_will: false,
            ends_session: false,
            ending: Ending::Linger,
            closed: false,
            reason: said,
            resumed: false,
        }
    }

    /// A newer connection of its client takes its place.
    pub fn taken_over(clean_start: bool) -> Self {
        Self {
            ends_session: clean_start,
            reason: if clean_start { "discarded" } else { "takenover" },
            resumed: !clean_start,
            ..Self::by_server(ReasonCode::SessionTakenOver)
        }
    }
}

impl Shard {
    /// Says DISCONNECT to a client that can hear it, and ends its connection.
    pub(super) fn disconnect(&mut self, id: ConnectionId, reason: ReasonCode, now: Moment) {
        self.write_disconnect(id, reason);
        self.end_connection(id, Gone::by_server(reason), now);
    }

    /// Writes DISCONNECT for a v5 client; 3.x has none from the server [v5 MQTT-4.13.1-1] [v5 MQTT-3.14.2-1].
    pub(super) fn write_disconnect(&mut self, id: ConnectionId, reason: ReasonCode) {
        let Some(connection) = self.clients.connections.open_mut(id) else { return };
        let (version, packet_bytes_max) = (connection.version, connection.packet_bytes_max);
        if !version.has_properties() {
            return;
        }
        let mut disconnect = Disconnect::new(reason);
        disconnect.reason_string = Some(reason.name());
        if let Some(out) = self.clients.connections.out(id.slot) {
            // A client that takes not even the bare packet gets none.
            disconnect.encode_within(version, packet_bytes_max, out.bytes_mut());
        }
    }

    /// A connection is over: its slot is free for the driver, and its session goes on without it or ends.
    pub(super) fn end_connection(&mut self, id: ConnectionId, gone: Gone, now: Moment) {
        if self.clients.connections.open_mut(id).is_none() {
            return;
        }
        let Place::Open(mut connection) = self.clients.connections.put(id.slot, Place::Vacant) else { return };
        self.shared.connection_goes(connection.listener);
        if connection.flags.any(Flags::TAKES_ALIASES) {
            self.clients.sent_aliases.remove(&id.slot);
        }
        let last = connection.out.take();
        if gone.closed {
            if let Some(last) = last {
                self.clients.connections.recycle(last);
            }
        } else {
            // [v5 MQTT-3.14.4-1] [v5 MQTT-3.14.4-2] These are the last bytes.
            let close = ConnectionEffect::Close(id, last, gone.ending);
            if connection.flags.any(Flags::HELD) {
                self.clients.durable.hold(connection.durability, close);
            } else {
                self.effects.connections.push(close);
            }
        }
        let session = connection.session;
        self.publish_disconnected(&connection, gone.reason, now);
        self.log_disconnect(&connection, gone.reason);
        if let Some(session) = self.clients.sessions.at_mut(session) {
            session.connection = NO_CONNECTION;
            if gone.forgets_will && session.will.take().is_some() {
                self.keep_no_will(connection.session);
            }
        }
        self.leave_session(session, gone, now);
    }

    /// What becomes of a session whose connection is over.
    fn leave_session(&mut self, index: u32, gone: Gone, now: Moment) {
        let Some(session) = self.clients.sessions.at_mut(index) else { return };
        let expiry_interval_s = session.expiry_interval_s;
        session.drop_empty_outbox();
        if expiry_interval_s == 0 || gone.ends_session {
            // [v5 MQTT-4.1.0-2]
            return self.end_session(index, now);
        }
        if self.draining && session.kept.is_some() && session.will.take().is_some() {
            // The broker goes, not the client, which comes back to its session.
            self.keep_no_will(index);
        }
        let Some(session) = self.clients.sessions.at_mut(index) else { return };
        let delay_s = session.will.as_ref().map_or(0, |will| will.delay_s);
        if delay_s == 0 {
            self.publish_will(index, now);
        } else if !gone.resumed && delay_s < expiry_interval_s {
            let due = now.after(Duration::from_secs(delay_s.into()));
            self.timers.set(due, Timer::WillDelay { session: index });
        }
        if expiry_interval_s != u32::MAX && !gone.resumed {
            let due = now.after(Duration::from_secs(expiry_interval_s.into()));
            self.timers.set(due, Timer::SessionExpiry { session: index });
        }
        if let Some(session) = self.clients.sessions.at_mut(index) {
            session.offline_since = now;
        }
        if !gone.resumed {
            self.keep_absence(index, now);
        }
        // What was asked for the connection waits for its room no longer: the session queues what it keeps.
        self.continue_retained(index);
        self.note_share_state(index);
    }

    /// A session's time may be over. The timer may be that of an earlier absence or an earlier session in this place:
    /// only what stands here now counts.
    pub(super) fn on_session_expiry(&mut self, session: u32, now: Moment) {
        let Some(found) = self.clients.sessions.at(session) else { return };
        if found.is_online() || found.expiry_interval_s == u32::MAX {
            return;
        }
        let due = found.offline_since.after(Duration::from_secs(found.expiry_interval_s.into()));
        if due > now {
            return self.timers.set(due, Timer::SessionExpiry { session });
        }
        self.clients.counters.sessions_expired += 1;
        self.end_session(session, now);
    }

    /// A Will's delay may be over. As above.
    pub(super) fn on_will_delay(&mut self, session: u32, now: Moment) {
        let Some(found) = self.clients.sessions.at(session) else { return };
        let came_back = found.is_online() && !planted(Bug::WillAfterResume);
        let Some(will) = found.will.as_ref().filter(|_| !came_back) else { return };
        let due = found.offline_since.after(Duration::from_secs(will.delay_s.into()));
        if due > now {
            return self.timers.set(due, Timer::WillDelay { session });
        }
        self.publish_will(session, now);
    }

    /// A client comes back to its session: after a crash it may do so before a Will is published that was due already.
    pub(super) fn publish_due_will(&mut self, session: u32, now: Moment) {
        let Some(found) = self.clients.sessions.at(session) else { return };
        let delay = found.will.as_ref().map(|will| Duration::from_secs(will.delay_s.into()));
        if delay.is_some_and(|delay| found.offline_since.after(delay) <= now) {
            self.publish_will(session, now);
        }
    }

    /// Publishes a session's Will, once.
    fn publish_will(&mut self, session: u32, now: Moment) {
        // [v3 MQTT-3.1.2-10] [v5 MQTT-3.1.2-10]
        let Some(will) = self.clients.sessions.at_mut(session).and_then(|session| session.will.take()) else { return };
        if self.turn_is_full() || !self.wills.is_empty() {
            // Many clients have gone at once. It is moved, not copied: the queue holds what the sessions held.
            self.keep_no_will(session);
            return self.wills.push_back(will);
        }
        // The store forgets it together with what its publication changes on all shards, so a crash does not lose it.
        let is_durable = self.begin_group(Some(session));
        self.keep_no_will(session);
        let job = self.send_will(*will, if is_durable { Taken::Report } else { Taken::Ignore }, now);
        if is_durable {
            self.end_group(job);
        }
    }

    /// Publishes Wills that had to wait, a few a turn at least.
    pub(super) fn run_wills(&mut self, now: Moment) {
        for sent in 0.. {
            if self.fan_outs_are_many() || (sent >= WILLS_PER_TURN_MIN && self.turn_is_full()) {
                return;
            }
            let Some(will) = self.wills.pop_front() else { return };
            self.send_will(*will, Taken::Ignore, now);
        }
    }

    /// Returns whether its fan-out here goes on as a job.
    fn send_will(&mut self, will: Will, report: Taken, now: Moment) -> bool {
        let Will { message, message_expiry_interval_s, .. } = will;
        let (qos, retain) = (message.envelope.qos, message.envelope.retain);
        let envelope = self.envelope(qos, retain, message_expiry_interval_s, now);
        self.clients.counters.wills_published += 1;
        self.publish_internal(&message, envelope, report, now)
    }

    /// Ends a session that has no connection: its Will, its subscriptions, everything.
    pub(super) fn end_session(&mut self, index: u32, now: Moment) {
        debug_assert!(self.clients.sessions.at(index).is_none_or(|session| !session.is_online()));
        // Its own subscriptions still stand, but nobody is there to deliver to; the Will goes to everyone else.
        self.publish_will(index, now);
        // What left its queue in this turn leaves the store before the rest of it does.
        self.return_displaced();
        let Some(session) = self.clients.remove(index) else { return };
        self.shared.sessions.take(1);
        let number = session.number();
        self.shared.kept_sessions.take(u64::from(number.is_some()));
        for held in session.subscriptions {
            match held {
                HeldSubscription::Plain(filter) => self.drop_subscription(filter, index),
                HeldSubscription::Shared(membership) => self.leave_group(membership),
            }
        }
        self.retained_talk.forget_session(index);
        let rest = session.outbox.into_iter().flat_map(|outbox| outbox.into_shared_rest());
        self.return_shared(rest, number.map(Operation::SessionEnd).into_iter().collect());
    }

    fn log_disconnect(&self, connection: &Connection, reason: &'static str) {
        if !self.config.log.connections {
            return;
        }
        let client_id = self.clients.sessions.at(connection.session).map_or("", |session| &*session.client_id);
        let peer = connection.peer.address();
        tracing::info!(client_id, %peer, reason, "disconnected");
    }

    /// Stops serving: no new clients, and those that are here are told to go, `max` of them a call. Returns whether
    /// any are left.
    pub fn drain(&mut self, max: usize, now: Moment) -> bool {
        if !self.draining {
            self.draining = true;
            self.pending_until = now.after(DRAIN_CONNECT_TIMEOUT);
        }
        // A CONNECT that is on its way is answered before its client is told to go. Who says nothing is not waited for.
        let max_pending = if now < self.pending_until { 0 } else { max };
        let pending: Vec<ConnectionId> = self.clients.connections.pending_ids().take(max_pending).collect();
        for id in pending {
            self.refuse_pending(id, None, ReasonCode::ServerShuttingDown);
        }
        let leaving: Vec<ConnectionId> = self.clients.connections.open_ids().take(max).collect();
        for id in leaving {
            self.disconnect(id, ReasonCode::ServerShuttingDown, now);
        }
        self.clients.connections.open() > 0
    }
}

/// From the beginning of a drain, the time for a CONNECT that is on its way.
const DRAIN_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Wills that had to wait and are published in a turn, however much else there is to do.
const WILLS_PER_TURN_MIN: usize = 16;
