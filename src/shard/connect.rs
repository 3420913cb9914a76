//! CONNECT: from the first bytes to CONNACK.
//!
//! Owns: connections before CONNECT, the way to the home shard, what a CONNECT may ask for, take-over and resumption.
//! Always: nothing of a session is touched before its client is authenticated, and a CONNECT with an older stamp never
//! evicts the connection of a newer one. A take-over goes: old Will and DISCONNECT 0x8E, old connection detached, new
//! CONNACK. What was received behind CONNECT is handled after CONNACK, wherever the client's home is.
//! Never: receives more than once before CONNECT is complete, or reads on before CONNACK.

use std::{num::NonZeroU32, time::Duration};

use crate::{
    auth,
    config::Durability,
    message::{ApplicationMessage, Origin, Stamp},
    mqtt::{
        ConnAck, Connect, DecodeError, Encode, FrameHeader, ProtocolVersion, QoS, ReasonCode, WillPacket,
        frame::{Peek, peek},
    },
    plant::{Bug, planted},
    runtime::ConnectionId,
    session::{SentAliases, Will},
    shard::{
        Arrival, ConnectionEffect, Ending, Shard,
        connections::{Connection, Flags, Pending, Place},
        durable::Waiter,
        ending::Gone,
        input::keep_alive_patience,
        timers::Timer,
    },
    time::Moment,
};

/// What a CONNECT is granted.
struct Granted {
    session_present: bool,
    keep_alive_s: u16,
    session_expiry_interval_s: u32,
}

impl Shard {
    /// Bytes of a connection whose CONNECT is not complete.
    pub(super) fn handle_pending_received(&mut self, id: ConnectionId, bytes: &[u8], now: Moment) {
        let Some(Place::Pending(pending)) = self.clients.connections.place_mut(id) else { return };
        pending.bytes.extend_from_slice(bytes);
        self.pending_bytes += bytes.len();
        if self.pending_bytes as u64 > self.config.runtime.connect_bytes_max
            && pending.bytes.len() > PENDING_BYTES_SMALL
        {
            self.clients.counters.connects_over_bytes += 1;
            // Nobody knows these clients yet, so what they may make us hold is little: the large ones go first.
            return self.refuse_pending(id, None, ReasonCode::ServerBusy);
        }
        match peek(&pending.bytes, self.config.mqtt.packet_bytes_max) {
            Ok(Peek::Incomplete { .. }) if first_is_connect(&pending.bytes) => {
                self.effects.connections.push(ConnectionEffect::ReceiveOnce(id));
            }
            Ok(Peek::Complete(header)) if first_is_connect(&pending.bytes) => self.on_first_packet(id, header, now),
            // [v3 MQTT-3.1.0-1] [v5 MQTT-3.1.0-1]
            Ok(_) => self.refuse_pending(id, None, ReasonCode::ProtocolError),
            Err(_) => self.refuse_pending(id, None, ReasonCode::MalformedPacket),
        }
    }

    /// CONNECT is complete: the client goes to its home.
    fn on_first_packet(&mut self, id: ConnectionId, header: FrameHeader, now: Moment) {
        let Place::Pending(mut pending) = self.clients.connections.put(id.slot, Place::Vacant) else { return };
        let bytes = std::mem::take(&mut pending.bytes);
        self.pending_bytes -= bytes.len();
        let body = bytes.get(usize::from(header.header_len)..header.total_len()).unwrap_or_default();
        let connect = match Connect::decode(header, body) {
            Ok(connect) => connect,
            Err(error) => {
                let version = version_of_refusal(error, body);
                let peer = pending.peer;
                tracing::info!(%peer, %error, "CONNECT refused");
                self.clients.connections.put(id.slot, Place::Pending(pending));
                return self.refuse_pending(id, version, error.reason_code());
            }
        };
        let version = connect.version;
        let assigned_client_id = match self.client_id_for(&connect, now) {
            Ok(assigned) => assigned,
            Err(reason) => {
                self.clients.connections.put(id.slot, Place::Pending(pending));
                return self.refuse_pending(id, Some(version), reason);
            }
        };
        let client_id = assigned_client_id.as_deref().unwrap_or(connect.client_id);
        let at_home = self.clients.home(client_id, self.shards);
        let stamp = self.next_stamp(now);
        self.shared.pending_connects.take(1);
        if at_home != self.index {
            self.clients.counters.handed_off += 1;
            let bytes = if planted(Bug::PipelinedBytesLost) { bytes[..header.total_len()].to_vec() } else { bytes };
            let listener = pending.listener;
            let arrival = Arrival { socket: None, listener, bytes, stamp, assigned_client_id };
            self.effects.connections.push(ConnectionEffect::HandOff(id, at_home, Box::new(arrival)));
            return;
        }
        self.admit(id, &pending, &connect, client_id, assigned_client_id.is_some(), stamp, now);
        self.handle_behind_connect(id, bytes.get(header.total_len()..).unwrap_or_default(), now);
    }

    /// A client whose home this is was accepted on another shard. The driver has adopted its socket as `id`.
    pub fn handle_arrival(
        &mut self,
        id: ConnectionId,
        listener: u16,
        peer: std::net::SocketAddr,
        arrival: &Arrival,
        now: Moment,
    ) {
        // It was decoded where it was accepted, so this does not fail.
        let Ok(Peek::Complete(header)) = peek(&arrival.bytes, u32::MAX) else { return self.drop_arrival(id, listener) };
        let (start, end) = (usize::from(header.header_len), header.total_len());
        let (Some(body), Some(behind)) = (arrival.bytes.get(start..end), arrival.bytes.get(end..)) else {
            return self.drop_arrival(id, listener);
        };
        let Ok(connect) = Connect::decode(header, body) else { return self.drop_arrival(id, listener) };
        let client_id = arrival.assigned_client_id.as_deref().unwrap_or(connect.client_id);
        let pending = Pending { generation: id.generation, listener, peer, bytes: Vec::new() };
        self.admit(id, &pending, &connect, client_id, arrival.assigned_client_id.is_some(), arrival.stamp, now);
        self.handle_behind_connect(id, behind, now);
    }

    fn drop_arrival(&mut self, id: ConnectionId, listener: u16) {
        self.shared.connection_goes(listener);
        self.effects.connections.push(ConnectionEffect::Close(id, None, Ending::Reset));
    }

    fn handle_behind_connect(&mut self, id: ConnectionId, behind: &[u8], now: Moment) {
        // [v3 MQTT-3.1.4-5] [v5 MQTT-3.1.4-6] After a refusal there is no connection that these could be for.
        if !behind.is_empty() {
            self.handle_received(id, behind, now);
        }
    }

    /// The ClientId to assign, when CONNECT has none; the reason when it cannot be served.
    fn client_id_for(&mut self, connect: &Connect<'_>, now: Moment) -> Result<Option<Box<str>>, ReasonCode> {
        let limits = &self.config.mqtt;
        if !connect.client_id.is_empty() {
            // [v3 MQTT-3.1.3-5] [v5 MQTT-3.1.3-5] Anything that is UTF-8 and short enough. [v3 MQTT-3.1.3-9]
            let is_too_long = connect.client_id.len() > limits.client_id_bytes_max as usize;
            return if is_too_long { Err(ReasonCode::ClientIdentifierNotValid) } else { Ok(None) };
        }
        // [v3 MQTT-3.1.3-7] [v3 MQTT-3.1.3-8] [v5 MQTT-3.1.3-8] 3.1 has no empty ClientId at all.
        let is_allowed = match connect.version {
            ProtocolVersion::V31 => false,
            ProtocolVersion::V311 => connect.clean_start,
            ProtocolVersion::V5 => true,
        };
        if !is_allowed || !limits.client_id_empty_allowed {
            return Err(ReasonCode::ClientIdentifierNotValid);
        }
        Ok(Some(self.assign_client_id(now)))
    }

    /// A ClientId that no session has and whose home is here [v3 MQTT-3.1.3-6] [v5 MQTT-3.1.3-6] [v5 MQTT-3.2.2-16].
    fn assign_client_id(&mut self, now: Moment) -> Box<str> {
        loop {
            let stamp = self.next_stamp(now);
            let hash = self.shared.key.client_id(&format!("{}/{}/{}", stamp.micros, stamp.counter, stamp.shard));
            let client_id = format!("auto-{:012x}{:08x}{hash:016x}", stamp.micros, stamp.counter);
            if self.clients.home(&client_id, self.shards) == self.index && self.clients.find(&client_id).is_none() {
                return client_id.into();
            }
        }
    }

    /// A CONNECT at its home: authenticated, then given its session.
    #[expect(
        clippy::too_many_arguments,
        reason = "what a CONNECT is, is one thing; a struct for one call says no more"
    )]
    fn admit(
        &mut self,
        id: ConnectionId,
        pending: &Pending,
        connect: &Connect<'_>,
        client_id: &str,
        is_assigned: bool,
        stamp: Stamp,
        now: Moment,
    ) {
        if let Err(reason) = self.check_connect(pending, connect) {
            return self.refuse_connect(id, pending.listener, connect.version, reason);
        }
        let found = self.clients.find(client_id);
        if let Some(session) = found.and_then(|session| self.clients.sessions.at(session))
            && session.is_online()
            && session.connect_stamp > stamp
            && !planted(Bug::ConnectStampIgnored)
        {
            // A newer CONNECT of this client was here first: this one has been taken over on its way.
            return self.refuse_overtaken(id, pending.listener, connect.version);
        }
        let session_expiry_interval_s = self.session_expiry_for(connect);
        let is_kept = self.durability_through(pending.listener) != Durability::Memory;
        let kept_for_s = if is_kept { session_expiry_interval_s } else { 0 };
        if let Some(reason) = self.store_refuses_connect(found, connect.clean_start, kept_for_s) {
            return self.refuse_connect(id, pending.listener, connect.version, reason);
        }
        let keep_alive_s = self.keep_alive_for(connect);
        let mut granted = Granted { session_present: false, keep_alive_s, session_expiry_interval_s };
        let assigned = is_assigned.then_some(client_id);
        let is_limited = connect.properties.maximum_packet_size.is_some();
        if is_limited && self.connack(connect, &granted, assigned).is_none() {
            return self.refuse_small(id, pending, connect);
        }
        let sessions_max =
            if self.config.mqtt.sessions_max == u32::MAX { u64::MAX } else { self.config.mqtt.sessions_max.into() };
        if found.is_none() && !self.shared.sessions.add_within(1, sessions_max) {
            return self.refuse_connect(id, pending.listener, connect.version, ReasonCode::QuotaExceeded);
        }
        self.clients.durable.begin();
        let (session, session_present) = self.session_for(client_id, found, connect, now);
        granted.session_present = session_present;
        let mut connack = std::mem::take(&mut self.scratch);
        connack.clear();
        let encoded =
            self.connack(connect, &granted, assigned).map(|packet| packet.encode(connect.version, &mut connack));
        debug_assert!(matches!(encoded, Some(Ok(()))), "it fitted before");
        self.open(id, pending, connect, session, &granted, stamp, now);
        self.keep_session(session, !session_present);
        self.hold_for_store(id, session);
        if let Some(out) = self.clients.connections.out(id.slot) {
            out.bytes_mut().extend_from_slice(&connack);
        }
        self.scratch = connack;
        // The new connection stands: what a resumed session holds goes on its way.
        self.clients.resume(session, now);
        self.hold_for_queue(id, session);
        self.note_share_state(session);
        self.effects.connections.push(ConnectionEffect::Receive(id));
        self.publish_connected(id, connect, client_id, &granted_facts(&granted), now);
        if self.draining {
            self.disconnect(id, ReasonCode::ServerShuttingDown, now);
        }
    }

    /// Whether a CONNECT may be served at all.
    fn check_connect(&self, pending: &Pending, connect: &Connect<'_>) -> Result<(), ReasonCode> {
        let limits = &self.config.mqtt;
        if connect.properties.authentication_method.is_some() {
            // [v5 MQTT-4.12.0-1] None is served yet.
            return Err(ReasonCode::BadAuthenticationMethod);
        }
        let admits_anonymous =
            self.listeners.get(usize::from(pending.listener)).is_some_and(|listener| listener.admits_anonymous);
        auth::authenticate(admits_anonymous, connect.user_name, connect.password)?;
        if let Some(will) = &connect.will {
            // [v5 MQTT-3.2.2-12]
            if will.qos.value() > limits.maximum_qos {
                return Err(ReasonCode::QoSNotSupported);
            }
            // [v5 MQTT-3.2.2-13]
            if will.retain && !limits.retained_available {
                return Err(ReasonCode::RetainNotSupported);
            }
            let topic = will.topic.as_str();
            if topic.starts_with("$SYS/")
                || topic.len() > limits.topic_bytes_max as usize
                || will.topic.levels().count() > limits.topic_levels_max as usize
            {
                return Err(ReasonCode::TopicNameInvalid);
            }
        }
        Ok(())
    }

    /// The session that a CONNECT gets, and whether it was there before. An old connection is gone afterwards.
    fn session_for(&mut self, client_id: &str, found: Option<u32>, connect: &Connect<'_>, now: Moment) -> (u32, bool) {
        let Some(session) = found else {
            // [v5 MQTT-3.1.2-6] [v3 MQTT-3.1.2-4] [v3 MQTT-3.1.3-2] [v5 MQTT-3.1.3-2]
            return (self.clients.create(client_id), false);
        };
        if let Some(old) = self.connection_of(session) {
            self.clients.counters.taken_over += 1;
            // [v3 MQTT-3.1.4-2] [v5 MQTT-3.1.4-3]
            self.take_over(old, connect.clean_start, now);
        }
        // The old connection's end may have ended the session with it.
        let Some(session) = self.clients.find(client_id) else {
            self.shared.sessions.add(1);
            return (self.clients.create(client_id), false);
        };
        if connect.clean_start {
            // [v3 MQTT-3.1.2-6] [v5 MQTT-3.1.2-4] [v5 MQTT-3.1.4-4] [v3 MQTT-3.1.4-3]
            self.end_session(session, now);
            self.shared.sessions.add(1);
            return (self.clients.create(client_id), false);
        }
        self.publish_due_will(session, now);
        // [v5 MQTT-3.1.2-5] [v5 MQTT-3.1.3-9] It is resumed, and its Will is not published.
        if !planted(Bug::WillAfterResume)
            && let Some(resumed) = self.clients.sessions.at_mut(session)
        {
            resumed.will = None;
        }
        (session, true)
    }

    /// Puts the connection in its place.
    #[expect(clippy::too_many_arguments, reason = "the parts of a connection come from as many places")]
    fn open(
        &mut self,
        id: ConnectionId,
        pending: &Pending,
        connect: &Connect<'_>,
        session: u32,
        granted: &Granted,
        stamp: Stamp,
        now: Moment,
    ) {
        let mut flags = Flags::default();
        flags.set(Flags::PROBLEM_INFORMATION, connect.properties.request_problem_information);
        flags.set(Flags::CLEAN_START, connect.clean_start);
        // [v3 MQTT-7.0.0-2] Offered to who asks for it, needed by nobody.
        flags.set(Flags::BRIDGE, connect.bridge);
        // [v5 MQTT-3.1.2-26] [v5 MQTT-3.1.2-27]
        let aliases = connect.properties.topic_alias_maximum.min(self.config.mqtt.topic_alias_out_max);
        if aliases > 0 {
            flags.set(Flags::TAKES_ALIASES, true);
            self.clients.sent_aliases.insert(id.slot, SentAliases::new(aliases));
        }
        let asked = connect.properties.receive_maximum.map_or(u16::MAX, |maximum| maximum.get());
        let connection = Connection {
            generation: id.generation,
            session,
            version: connect.version,
            durability: self.durability_through(pending.listener),
            flags,
            listener: pending.listener,
            keep_alive_s: granted.keep_alive_s,
            // [v5 MQTT-4.9.0-1]
            receive_maximum: asked.min(self.config.mqtt.inflight_max),
            received_here: 0,
            packet_bytes_max: connect.properties.maximum_packet_size.map_or(u32::MAX, NonZeroU32::get),
            unsent_bytes: 0,
            last_seen: now,
            connected_at_s: u32::try_from(now.seconds()).unwrap_or(u32::MAX),
            peer: pending.peer.into(),
            user_name: connect.user_name.map(Into::into),
            out: None,
            inbound: None,
        };
        self.clients.connections.put(id.slot, Place::Open(connection));
        let will = connect.will.as_ref().map(|will| Box::new(self.will(will)));
        if let Some(session) = self.clients.sessions.at_mut(session) {
            session.connection = id.slot;
            session.connect_stamp = stamp;
            session.expiry_interval_s = granted.session_expiry_interval_s;
            // [v3 MQTT-3.1.2-8] [v5 MQTT-3.1.2-7] [v3 MQTT-3.1.2-12]
            session.will = will;
        }
        if granted.keep_alive_s > 0 {
            let due = now.after(keep_alive_patience(granted.keep_alive_s));
            self.timers.set(due, Timer::KeepAlive { slot: id.slot });
        }
        self.clients.counters.connects_accepted += 1;
    }

    /// CONNACK waits for the store, where it says something that has to outlive a crash, and where an earlier connection of
    /// the session has left something that is not durable yet: a PUBREL or PUBCOMP on this one must not come before it.
    fn hold_for_store(&mut self, id: ConnectionId, session: u32) {
        let is_kept = self.clients.sessions.at(session).is_some_and(|session| session.kept.is_some());
        let super::Clients { connections, durable, .. } = &mut self.clients;
        if durable.journal.has_failed() {
            // It says nothing that the store would have to know: with a session that is kept it would have been refused.
            return;
        }
        let Some(connection) = connections.open_mut(id) else { return };
        let is_owed = is_kept && !durable.is_settled(connection.durability) && !planted(Bug::ResumeBeforeDurable);
        if (durable.is_asked_for(connection.durability) || is_owed) && !planted(Bug::ConnackBeforeDurable) {
            connection.flags.set(Flags::HELD, true);
            durable.wait(connection.durability, Waiter::Connection(id));
        }
    }

    /// What is queued for a client follows its CONNACK, and no answer to what it sends meanwhile comes before it, also when
    /// it has to be read first.
    fn hold_for_queue(&mut self, id: ConnectionId, session: u32) {
        let outbox = self.clients.sessions.at(session).and_then(|session| session.outbox.as_deref());
        if outbox.is_some_and(|outbox| outbox.is_reading())
            && let Some(connection) = self.clients.connections.open_mut(id)
        {
            connection.flags.set(Flags::AWAITS_QUEUE, true);
        }
    }

    /// What acknowledgements to those who come through a listener wait for.
    fn durability_through(&self, listener: u16) -> Durability {
        self.listeners.get(usize::from(listener)).map_or(Durability::Sync, |listener| listener.durability)
    }

    /// A Will as it is kept.
    fn will(&self, will: &WillPacket<'_>) -> Will {
        let mut properties = Vec::new();
        // [v5 MQTT-3.1.3-10]
        will.properties.to_publish_properties().write_forwarded(&mut properties);
        let envelope = crate::message::Envelope {
            qos: will.qos,
            // [v3 MQTT-3.1.2-16] [v3 MQTT-3.1.2-17] [v5 MQTT-3.1.2-14] [v5 MQTT-3.1.2-15]
            retain: will.retain,
            expires_at: Moment::NEVER,
            topic_hash: 0,
            stamp: Stamp::default(),
            origin: Origin { shard: self.index, hops: 0 },
        };
        let delay_max = self.config.mqtt.will_delay_max;
        let asked = Duration::from_secs(will.properties.will_delay_interval.unwrap_or(0).into());
        Will {
            message: ApplicationMessage::new(will.topic.as_str(), &properties, will.payload, envelope),
            message_expiry_interval_s: will.properties.message_expiry_interval,
            delay_s: asked.min(delay_max).as_secs() as u32,
        }
    }

    fn keep_alive_for(&self, connect: &Connect<'_>) -> u16 {
        let max = self.config.mqtt.keep_alive_max.as_secs() as u16;
        let asked = connect.keep_alive_s;
        // A 3.x client cannot be told, so it keeps what it asked for [v5 MQTT-3.2.2-22].
        if max == 0 || !connect.version.has_properties() || (asked > 0 && asked <= max) { asked } else { max }
    }

    fn session_expiry_for(&self, connect: &Connect<'_>) -> u32 {
        if connect.version.has_properties() {
            // [v5 MQTT-3.1.2-23]
            return self.config.session_expiry_s(connect.properties.session_expiry_interval.unwrap_or(0));
        }
        // [v3 MQTT-3.1.2-5]
        if connect.clean_start { 0 } else { seconds_or_for_ever(self.config.mqtt.session_expiry_v3) }
    }

    /// The CONNACK for a client that is served; none when the client takes no packet that could tell it what it must know.
    /// [v3 MQTT-3.1.4-4] [v5 MQTT-3.1.4-5] [v3 MQTT-3.2.0-1] [v5 MQTT-3.2.0-1] [v5 MQTT-3.2.0-2]
    fn connack<'a>(
        &'a self,
        connect: &Connect<'_>,
        granted: &Granted,
        assigned: Option<&'a str>,
    ) -> Option<ConnAck<'a>> {
        let limits = &self.config.mqtt;
        // [v3 MQTT-3.2.2-1] [v3 MQTT-3.2.2-2] [v3 MQTT-3.2.2-3] [v5 MQTT-3.2.2-2] [v5 MQTT-3.2.2-3]
        let mut connack = ConnAck::new(granted.session_present, ReasonCode::Success);
        let properties = &mut connack.properties;
        let asked_expiry = connect.properties.session_expiry_interval.unwrap_or(0);
        properties.session_expiry_interval =
            (granted.session_expiry_interval_s != asked_expiry).then_some(granted.session_expiry_interval_s);
        properties.receive_maximum = std::num::NonZeroU16::new(limits.receive_maximum);
        // [v5 MQTT-3.2.2-9]
        properties.maximum_qos = QoS::from_bits(limits.maximum_qos).filter(|&qos| qos != QoS::ExactlyOnce);
        properties.retain_available = (!limits.retained_available).then_some(false);
        properties.maximum_packet_size = NonZeroU32::new(limits.packet_bytes_max);
        // [v5 MQTT-3.1.3-7]
        properties.assigned_client_identifier = assigned;
        properties.topic_alias_maximum = limits.topic_alias_max;
        properties.wildcard_subscription_available = (!limits.wildcard_available).then_some(false);
        properties.shared_subscription_available = (!limits.shared_available).then_some(false);
        // [v5 MQTT-3.1.2-21]
        properties.server_keep_alive = (granted.keep_alive_s != connect.keep_alive_s).then_some(granted.keep_alive_s);
        // [v5 MQTT-3.1.2-28]
        let response_information = (connect.properties.request_response_information
            && !limits.response_information.is_empty())
        .then_some(limits.response_information.as_str());
        properties.response_information = response_information;
        let packet_bytes_max = connect.properties.maximum_packet_size.map_or(u32::MAX, NonZeroU32::get) as usize;
        let fits =
            |connack: &ConnAck<'_>| connack.encoded_len(connect.version).is_ok_and(|len| len <= packet_bytes_max);
        if !fits(&connack) {
            // Without these a client only does without; the rest it has to know.
            connack.properties.topic_alias_maximum = 0;
            connack.properties.response_information = None;
        }
        // [v5 MQTT-3.1.2-24]
        fits(&connack).then_some(connack)
    }

    /// Refuses a connection whose CONNECT was not taken in. `version`: how to say it, when that can be told.
    pub(super) fn refuse_pending(&mut self, id: ConnectionId, version: Option<ProtocolVersion>, reason: ReasonCode) {
        let Place::Pending(pending) = self.clients.connections.put(id.slot, Place::Vacant) else { return };
        self.pending_bytes -= pending.bytes.len();
        self.shared.pending_connects.take(1);
        match version {
            Some(version) => self.refuse_connect(id, pending.listener, version, reason),
            None => {
                self.clients.counters.connects_refused += 1;
                self.shared.connection_goes(pending.listener);
                self.effects.connections.push(ConnectionEffect::Close(id, None, Ending::Linger));
            }
        }
    }

    /// [v3 MQTT-3.2.2-5] [v5 MQTT-3.2.2-7] [v3 MQTT-3.2.2-4] [v5 MQTT-3.2.2-6] [v5 MQTT-3.1.4-2] [v5 MQTT-4.13.2-1]
    fn refuse_connect(&mut self, id: ConnectionId, listener: u16, version: ProtocolVersion, reason: ReasonCode) {
        self.clients.counters.connects_refused += 1;
        self.shared.connection_goes(listener);
        let mut out = crate::transport::OutBuffer::new();
        // [v3 MQTT-3.2.2-6] A reason without a return code in 3.x closes without a word. [v5 MQTT-3.2.2-8]
        let said = ConnAck::new(false, reason).encode(version, out.bytes_mut()).is_ok();
        let last = said.then(|| Box::new(out));
        self.effects.connections.push(ConnectionEffect::Close(id, last, Ending::Linger));
    }

    /// A CONNECT of a client that takes no CONNACK with what it has to know: refused in a packet that it takes, if any.
    fn refuse_small(&mut self, id: ConnectionId, pending: &Pending, connect: &Connect<'_>) {
        let packet_bytes_max = connect.properties.maximum_packet_size.map_or(u32::MAX, NonZeroU32::get);
        tracing::info!(peer = %pending.peer, packet_bytes_max, "CONNECT refused: no room for CONNACK");
        let refusal = ConnAck::new(false, ReasonCode::PacketTooLarge);
        if refusal.encoded_len(connect.version).is_ok_and(|len| len <= packet_bytes_max as usize) {
            return self.refuse_connect(id, pending.listener, connect.version, ReasonCode::PacketTooLarge);
        }
        self.clients.counters.connects_refused += 1;
        self.shared.connection_goes(pending.listener);
        self.effects.connections.push(ConnectionEffect::Close(id, None, Ending::Linger));
    }

    /// A CONNECT that a newer one of its client has overtaken: accepted and taken over at once.
    fn refuse_overtaken(&mut self, id: ConnectionId, listener: u16, version: ProtocolVersion) {
        self.clients.counters.taken_over += 1;
        self.shared.connection_goes(listener);
        let mut out = crate::transport::OutBuffer::new();
        if version.has_properties() {
            // [v5 MQTT-3.14.0-1] DISCONNECT needs a CONNACK before it.
            let connack = ConnAck::new(false, ReasonCode::Success).encode(version, out.bytes_mut());
            let disconnect =
                crate::mqtt::Disconnect::new(ReasonCode::SessionTakenOver).encode(version, out.bytes_mut());
            debug_assert!(connack.is_ok() && disconnect.is_ok());
        }
        self.effects.connections.push(ConnectionEffect::Close(id, Some(Box::new(out)), Ending::Linger));
    }

    /// CONNECT did not come in time.
    pub(super) fn on_connect_deadline(&mut self, id: ConnectionId) {
        if let Some(Place::Pending(pending)) = self.clients.connections.place_mut(id) {
            let peer = pending.peer;
            tracing::debug!(%peer, "no CONNECT in time");
            self.refuse_pending(id, None, ReasonCode::UnspecifiedError);
        }
    }

    /// The connection of a session.
    pub(super) fn connection_of(&self, session: u32) -> Option<ConnectionId> {
        let slot = self.clients.sessions.at(session)?.connection;
        let connection = self.clients.connections.at(slot)?;
        Some(ConnectionId { slot, generation: connection.generation })
    }

    /// A newer connection takes the session of this one.
    fn take_over(&mut self, old: ConnectionId, clean_start: bool, now: Moment) {
        let gone = Gone::taken_over(clean_start);
        self.write_disconnect(old, ReasonCode::SessionTakenOver);
        self.end_connection(old, gone, now);
    }
}

fn granted_facts(granted: &Granted) -> super::sys::ConnectFacts {
    super::sys::ConnectFacts {
        keep_alive_s: granted.keep_alive_s,
        session_expiry_interval_s: granted.session_expiry_interval_s,
    }
}

fn first_is_connect(bytes: &[u8]) -> bool {
    bytes.first().is_none_or(|first| first >> 4 == 1)
}

/// How a CONNECT that did not decode is answered: only when it is clear what the client speaks.
fn version_of_refusal(error: DecodeError, body: &[u8]) -> Option<ProtocolVersion> {
    match error {
        // [v3 MQTT-3.1.2-2] [v5 MQTT-3.1.2-2]
        // In the form of 3.1.1, which every client can read: it has one byte less to agree on.
        DecodeError::ProtocolVersionUnsupported { .. } => Some(ProtocolVersion::V311),
        // [v3 MQTT-3.1.2-1] [v5 MQTT-3.1.2-1]
        DecodeError::ProtocolNameUnknown => None,
        // [v3 MQTT-3.1.4-1] A 3.x CONNECT that does not conform is closed without CONNACK; v5 has words. [v5 MQTT-3.1.4-1]
        _ => body.starts_with(b"\x00\x04MQTT\x05").then_some(ProtocolVersion::V5),
    }
}

/// Seconds, `u32::MAX` for what never ends.
pub(super) fn seconds_or_for_ever(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

impl crate::config::MqttLimits {
    /// Bytes on their way to a client beyond which it has to go: more than deliveries can come to, which are bounded
    /// by themselves (the out-buffer's limit, or one packet above it). What is above is answers that it does not read.
    #[must_use]
    pub(crate) fn outbound_bytes_max(&self) -> usize {
        let deliveries = (self.out_buffer_bytes_max as usize).saturating_add(2 * self.packet_bytes_max as usize);
        deliveries.saturating_add(self.unread_bytes_max as usize)
    }
}

impl crate::config::Config {
    /// The session expiry of a v5 client that asks for `asked_s` seconds: within what is configured.
    #[must_use]
    pub(crate) fn session_expiry_s(&self, asked_s: u32) -> u32 {
        asked_s.min(seconds_or_for_ever(self.mqtt.session_expiry_max))
    }
}

/// What a CONNECT that is not complete may always hold: pending_connects_max bounds their number.
const PENDING_BYTES_SMALL: usize = 4096;
