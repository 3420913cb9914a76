//! One packet of a connected client.
//!
//! Owns: the dispatch by packet kind, and the kinds that concern neither topics nor filters: acknowledgements, PINGREQ,
//! DISCONNECT, AUTH.
//! Always: what a client may not say ends its connection with the reason, and its Will is published.

use crate::{
    mqtt::{
        Ack, AckKind, Disconnect, EncodeWithin, FrameHeader, Packet, PacketIdentifier, PacketType, ProtocolVersion,
        Publish, ReasonCode, Sender, ack::encode_success,
    },
    plant::{Bug, planted},
    runtime::ConnectionId,
    session::{Acknowledged, Answer, Settled},
    shard::{
        Connection, Shard,
        connections::Flags,
        durable::{UNKEPT, Waiter},
        ending::Gone,
        ledger::AnswerReference,
    },
    store::Operation,
    time::Moment,
};

impl Shard {
    /// Handles a whole packet.
    pub(super) fn handle_packet(&mut self, id: ConnectionId, first: u8, header_len: u8, body: &[u8], now: Moment) {
        let Some(connection) = self.clients.connections.open_mut(id) else { return };
        let version = connection.version;
        self.clients.durable.begin();
        if first >> 4 == PacketType::Publish as u8 {
            return match Publish::decode(first, body, version, Sender::Client) {
                Ok(publish) => self.on_publish(id, &publish, now),
                Err(error) => self.violation(id, error, now),
            };
        }
        if let Some(kind) = AckKind::of_first_byte(first) {
            return match Ack::decode(kind, body, version) {
                Ok(ack) => self.on_ack(id, &ack, now),
                Err(error) => self.violation(id, error, now),
            };
        }
        let header = FrameHeader { first, header_len, remaining_len: body.len() as u32 };
        match Packet::decode(header, body, version, Sender::Client) {
            Ok(packet) => self.dispatch(id, packet, now),
            Err(error) => self.violation(id, error, now),
        }
    }

    fn dispatch(&mut self, id: ConnectionId, packet: Packet<'_>, now: Moment) {
        match packet {
            Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
                self.on_ack(id, &ack, now);
            }
            Packet::Subscribe(subscribe) => self.on_subscribe(id, &subscribe),
            Packet::Unsubscribe(unsubscribe) => self.on_unsubscribe(id, &unsubscribe),
            Packet::PingReq => self.on_pingreq(id),
            Packet::Disconnect(disconnect) => self.on_disconnect(id, &disconnect, now),
            Packet::Publish(publish) => self.on_publish(id, &publish, now),
            // [v3 MQTT-3.1.0-2] [v5 MQTT-3.1.0-2] A second CONNECT.
            Packet::Connect(_) => self.unexpected(id, now),
            // [v5 MQTT-4.12.0-7] [v5 MQTT-4.12.0-6] No connection has an Authentication Method: CONNECT with one is refused.
            Packet::Auth(_) => self.unexpected(id, now),
            // What only a server sends does not decode with a client as its sender.
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => self.unexpected(id, now),
        }
    }

    fn on_ack(&mut self, id: ConnectionId, ack: &Ack<'_>, now: Moment) {
        match ack.kind {
            AckKind::PubAck => self.on_puback(id, ack, now),
            AckKind::PubRec => self.on_pubrec(id, ack, now),
            AckKind::PubRel => self.on_pubrel(id, ack),
            AckKind::PubComp => self.on_pubcomp(id, ack, now),
        }
    }

    fn unexpected(&mut self, id: ConnectionId, now: Moment) {
        self.clients.counters.protocol_errors += 1;
        self.disconnect(id, ReasonCode::ProtocolError, now);
    }

    /// [v3 MQTT-3.12.4-1] [v5 MQTT-3.12.4-1]
    fn on_pingreq(&mut self, id: ConnectionId) {
        if let Some(out) = self.clients.connections.out(id.slot) {
            out.bytes_mut().extend_from_slice(&PINGRESP);
        }
    }

    fn on_puback(&mut self, id: ConnectionId, ack: &Ack<'_>, now: Moment) {
        let Some((session, outbox)) = self.outbox_of(id) else { return };
        // An identifier that is not in flight is no error for PUBACK: it may answer what we gave up.
        if outbox.handle_puback(ack.packet_identifier) == Acknowledged::Mismatch {
            return self.refuse(id, ReasonCode::ProtocolError, now);
        }
        self.end_queued(session);
        self.clients.pump(session, now);
        self.note_share_state(session);
    }

    fn on_pubrec(&mut self, id: ConnectionId, ack: &Ack<'_>, now: Moment) {
        let acknowledged = match self.outbox_of(id) {
            Some((_, outbox)) => outbox.handle_pubrec(ack.packet_identifier, ack.reason_code.is_error()),
            None => Acknowledged::Unknown,
        };
        match acknowledged {
            Acknowledged::Completed => {
                let Some(session) = self.session_of(id) else { return };
                self.end_queued(session);
                self.clients.pump(session, now);
                self.note_share_state(session);
            }
            Acknowledged::Release => self.release(id, ack.packet_identifier),
            // [v3 MQTT-4.8.0-1] [v5 MQTT-4.13.1-1]
            Acknowledged::Mismatch => self.refuse(id, ReasonCode::ProtocolError, now),
            // Nothing follows a refusal; otherwise the client is waiting for PUBREL, and v5 has a reason for it.
            Acknowledged::Unknown if ack.reason_code.is_error() => {}
            Acknowledged::Unknown => {
                self.write_pubrel(id, ack.packet_identifier, ReasonCode::PacketIdentifierNotFound);
            }
        }
    }

    fn on_pubcomp(&mut self, id: ConnectionId, ack: &Ack<'_>, now: Moment) {
        let Some(session) = self.session_of(id) else { return };
        let outbox = self.clients.sessions.at_mut(session).and_then(|session| session.outbox.as_deref_mut());
        let identifier = ack.packet_identifier;
        match outbox.map_or(Acknowledged::Unknown, |outbox| outbox.handle_pubcomp(identifier)) {
            Acknowledged::Mismatch => return self.refuse(id, ReasonCode::ProtocolError, now),
            Acknowledged::Unknown => return self.clients.complete_held(session, identifier),
            Acknowledged::Completed | Acknowledged::Release => {}
        }
        self.end_queued(session);
        self.clients.pump(session, now);
        self.note_share_state(session);
    }

    /// [v3 MQTT-4.3.3-2] [v5 MQTT-4.3.3-11] [v5 MQTT-4.3.3-12]
    fn on_pubrel(&mut self, id: ConnectionId, ack: &Ack<'_>) {
        let Some(connection) = self.clients.connections.open_mut(id) else { return };
        let reader = Reader::of(connection);
        // [v5 MQTT-4.3.3-13] Whether the message has expired meanwhile is not asked.
        let known = self.release_received(id, ack.packet_identifier);
        // A PUBREC that is still owed leaves first: the client did not wait for it.
        let reason = if known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
        if self.clients.durable.has_asked() && !planted(Bug::PubcompBeforeDurable) {
            // After a crash the identifier must not be open again when its client believes it free.
            self.owe(id, Answer::PubComp(ack.packet_identifier, reason), 0);
            return;
        }
        if let Some(out) = self.clients.connections.out(id.slot) {
            // [v3 MQTT-2.3.1-6] [v5 MQTT-2.2.1-5]
            write_ack(out.bytes_mut(), reader, AckKind::PubComp, ack.packet_identifier, reason);
        }
    }

    /// A QoS 2 identifier that was received is free again. Returns whether it was in use.
    pub(super) fn release_received(&mut self, id: ConnectionId, identifier: PacketIdentifier) -> bool {
        let Some(connection) = self.clients.connections.open_mut(id) else { return false };
        let Some(session) = self.clients.sessions.at_mut(connection.session) else { return false };
        let known = session.received.as_mut().is_some_and(|received| received.remove(identifier));
        if let (true, Some(number)) = (known, session.number()) {
            self.clients.durable.journal.ask(Operation::ReceivedEnd(number, identifier.value()));
        }
        connection.received_here = connection.received_here.saturating_sub(u16::from(known));
        known
    }

    /// A QoS 2 message has arrived: PUBREL follows, once the store knows. Otherwise the message would be sent again after a
    /// crash, when its client may take it for a new one.
    fn release(&mut self, id: ConnectionId, identifier: PacketIdentifier) {
        let Some(session) = self.session_of(id).and_then(|session| self.clients.sessions.at_mut(session)) else {
            return;
        };
        let number = session.number();
        let settled = session.outbox.as_mut().and_then(|outbox| outbox.take_settled());
        if let (Some(session), Some(Settled { sequence, number, .. })) = (number, settled) {
            self.clients.durable.journal.ask(Operation::QueueReleased { session, sequence, number });
        }
        if self.clients.durable.has_asked() && !planted(Bug::PubrelBeforeDurable) {
            self.owe(id, Answer::PubRel(identifier), 0);
        } else {
            self.write_pubrel(id, identifier, ReasonCode::Success);
        }
    }

    /// A session's client has acknowledged a message: the store may forget it.
    fn end_queued(&mut self, session: u32) {
        if !self.clients.durable.journal.is_on() {
            return;
        }
        let Some(session) = self.clients.sessions.at_mut(session) else { return };
        let (number, outbox) = (session.number(), session.outbox.as_mut());
        if let Some(outbox) = outbox {
            self.clients.durable.end_queued(number, outbox.take_settled());
        }
    }

    fn write_pubrel(&mut self, id: ConnectionId, identifier: PacketIdentifier, reason: ReasonCode) {
        let Some(connection) = self.clients.connections.open_mut(id) else { return };
        let reader = Reader::of(connection);
        if let Some(out) = self.clients.connections.out(id.slot) {
            // [v3 MQTT-4.6.0-4] At once, so in the order of the PUBRECs.
            write_ack(out.bytes_mut(), reader, AckKind::PubRel, identifier, reason);
        }
    }

    /// [v3 MQTT-3.14.4-3] [v5 MQTT-3.14.4-3] [v3 MQTT-3.1.2-10] [v5 MQTT-3.1.2-10]
    fn on_disconnect(&mut self, id: ConnectionId, disconnect: &Disconnect<'_>, now: Moment) {
        let Some(session) = self.session_of(id).and_then(|session| self.clients.sessions.at_mut(session)) else {
            return;
        };
        if let Some(expiry_interval_s) = disconnect.session_expiry_interval {
            if session.expiry_interval_s == 0 && expiry_interval_s != 0 {
                return self.unexpected(id, now);
            }
            session.expiry_interval_s = self.config.session_expiry_s(expiry_interval_s);
        }
        let gone = Gone::by_client(disconnect.reason_code);
        self.end_connection(id, gone, now);
    }

    /// The session of a connection.
    pub(super) fn session_of(&mut self, id: ConnectionId) -> Option<u32> {
        self.clients.connections.open_mut(id).map(|connection| connection.session)
    }

    fn outbox_of(&mut self, id: ConnectionId) -> Option<(u32, &mut crate::session::Outbox)> {
        let session = self.session_of(id)?;
        let outbox = self.clients.sessions.at_mut(session)?.outbox.as_deref_mut()?;
        Some((session, outbox))
    }

    /// Owes `answer`, which `waiting` others have yet to make true; it leaves at once when nothing keeps it.
    pub(super) fn owe(
        &mut self,
        id: ConnectionId,
        answer: Answer,
        waiting: u32,
    ) -> Option<crate::session::AnswerNumber> {
        let connection = self.clients.connections.open_mut(id)?;
        let durability = connection.durability;
        let is_kept = self.clients.durable.is_asked_for(durability);
        if is_kept && self.clients.durable.journal.has_failed() {
            // It is not true for now, so it is never said on this connection, and nothing behind it is.
            connection.inbound_mut().acknowledgements.push(answer, 1);
            self.clients.condemned.push((id, UNKEPT));
            return None;
        }
        let waiting = waiting + u32::from(is_kept);
        let free = connection.inbound.as_ref().is_none_or(|inbound| inbound.acknowledgements.is_empty());
        if waiting == 0 && free {
            self.write_answer(id, &answer);
            return None;
        }
        let number = connection.inbound_mut().acknowledgements.push(answer, waiting);
        if is_kept {
            self.clients.durable.wait(durability, Waiter::Answer(AnswerReference { connection: id, number }));
        }
        Some(number)
    }

    /// Acknowledgements for which everyone has taken their part leave.
    pub(super) fn run_settled(&mut self) {
        for answer in std::mem::take(&mut self.settled) {
            let Some(connection) = self.clients.connections.open_mut(answer.connection) else { continue };
            connection.inbound_mut().acknowledgements.settle(answer.number);
            self.write_ready(answer.connection);
            self.may_go_on_receiving(answer.connection);
        }
    }

    fn write_ready(&mut self, id: ConnectionId) {
        while let Some(connection) = self.clients.connections.open_mut(id) {
            let Some(inbound) = connection.inbound.as_mut() else { return };
            let Some(answer) = inbound.acknowledgements.poll_ready() else { return };
            self.write_answer(id, &answer);
        }
    }

    fn write_answer(&mut self, id: ConnectionId, answer: &Answer) {
        let Some(connection) = self.clients.connections.open_mut(id) else { return };
        let (reader, session) = (Reader::of(connection), connection.session);
        let Some(out) = self.clients.connections.out(id.slot) else { return };
        let out = out.bytes_mut();
        let is_said = match answer {
            // [v3 MQTT-3.3.4-1] [v5 MQTT-3.3.4-1] [v3 MQTT-4.3.2-2] [v5 MQTT-4.3.2-4]
            Answer::PubAck(identifier, reason) => write_ack(out, reader, AckKind::PubAck, *identifier, *reason),
            // [v5 MQTT-4.3.3-8]
            Answer::PubRec(identifier, reason) => write_ack(out, reader, AckKind::PubRec, *identifier, *reason),
            Answer::SubAck(identifier, reasons, _) => super::subscribe::write_suback(reader, *identifier, reasons, out),
            Answer::PubComp(identifier, reason) => write_ack(out, reader, AckKind::PubComp, *identifier, *reason),
            // [v3 MQTT-4.6.0-4]
            Answer::PubRel(identifier) => write_ack(out, reader, AckKind::PubRel, *identifier, ReasonCode::Success),
            Answer::UnsubAck(identifier, reasons) => {
                super::subscribe::write_unsuback(reader, *identifier, reasons, out)
            }
        };
        if !is_said {
            // A client that cannot be told must not believe that all is well.
            self.clients.condemned.push((id, ReasonCode::ImplementationSpecificError));
        }
        match answer {
            Answer::SubAck(_, _, requests) => {
                for request in requests {
                    self.ask_retained(session, request);
                }
            }
            // [v5 MQTT-4.3.3-9] The exchange is over, and the next PUBLISH with this identifier is a new one.
            Answer::PubRec(identifier, reason) if reason.is_error() => {
                self.release_received(id, *identifier);
            }
            _ => {}
        }
    }

    /// A 3.x client that had too many QoS 1 and 2 PUBLISHes under way may have room again.
    pub(super) fn may_go_on_receiving(&mut self, id: ConnectionId) {
        let Some(connection) = self.clients.connections.open_mut(id) else { return };
        if connection.flags.any(Flags::WAITS_FOR_ACKNOWLEDGEMENTS) && !self.receive_window_is_full(id) {
            self.stop_waiting(id, Flags::WAITS_FOR_ACKNOWLEDGEMENTS);
        }
    }

    /// Whether we owe a client as many acknowledgements as it may have PUBLISHes under way. They leave without its help.
    pub(super) fn receive_window_is_full(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.clients.connections.open_mut(id) else { return false };
        let owed = connection.inbound.as_ref().map_or(0, |inbound| inbound.acknowledgements.publishes());
        owed >= u32::from(self.config.mqtt.receive_maximum)
    }

    /// Whether a client has as many QoS 1 and 2 PUBLISHes under way as we announced, those of QoS 2 that it has yet to
    /// release counted in.
    pub(super) fn receive_maximum_is_reached(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.clients.connections.open_mut(id) else { return false };
        let owed = connection.inbound.as_ref().map_or(0, |inbound| inbound.acknowledgements.puback_owed());
        // A QoS 2 identifier is received from PUBLISH to PUBREL, the time that its PUBREC is owed counted in. The quota
        // begins anew with each connection: what an earlier one left open must not shut a client out for good.
        owed + u32::from(connection.received_here) >= u32::from(self.config.mqtt.receive_maximum)
    }

    /// Whatever the decoder does not know of but the connection's version forbids.
    pub(super) fn refuse(&mut self, id: ConnectionId, reason: ReasonCode, now: Moment) {
        self.clients.counters.protocol_errors += 1;
        self.disconnect(id, reason, now);
    }
}

/// What a client can be told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader {
    /// The version that it speaks.
    pub version: ProtocolVersion,
    /// The largest packet that it takes.
    pub packet_bytes_max: u32,
    /// Whether Reason Strings are welcome on every packet.
    pub wants_problem_information: bool,
}

impl Reader {
    /// The client of a connection.
    pub fn of(connection: &Connection) -> Self {
        Self {
            version: connection.version,
            packet_bytes_max: connection.packet_bytes_max,
            wants_problem_information: connection.flags.any(Flags::PROBLEM_INFORMATION),
        }
    }
}

/// Writes an acknowledgement. 3.x has no reasons, so what they say is left unsaid there. Returns whether it was written.
fn write_ack(
    out: &mut Vec<u8>,
    reader: Reader,
    kind: AckKind,
    identifier: PacketIdentifier,
    reason: ReasonCode,
) -> bool {
    if reason == ReasonCode::Success || !reader.version.has_properties() {
        encode_success(out, kind, identifier);
        return true;
    }
    let mut ack = Ack::new(kind, identifier, reason);
    // PUBREL and PUBCOMP have one reason only, which says it all. [v5 MQTT-3.1.2-29]
    let explains = reason.is_error() && matches!(kind, AckKind::PubAck | AckKind::PubRec);
    ack.reason_string = (explains && reader.wants_problem_information).then(|| reason.name());
    ack.encode_within(reader.version, reader.packet_bytes_max, out)
}

const PINGRESP: [u8; 2] = [0xD0, 0x00];
