//! An MQTT client as a pure state machine, for the load generator, bridges and tests.
//!
//! Owns: one connection's protocol state as a client sees it: the handshake, packet identifiers, what was sent above QoS 0
//! and is not acknowledged (`outgoing`), and which QoS 2 messages came in (`incoming`). Bytes that arrived go in, bytes
//! to send come out in a buffer of the caller's, and what happened is told as [`ClientEvent`]s.
//!
//! What always holds: acknowledgements are written in the order of the messages that they answer; a client with nothing
//! in flight and no partial packet owns no heap memory; nothing grows beyond the limits in [`ClientOptions`].
//!
//! It must never touch a socket or a clock, and never panic, whatever a server sends.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

mod event;
mod incoming;
mod outgoing;
mod template;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use event::{ClientError, ClientEvent};
pub use template::PublishTemplate;

use self::{incoming::Incoming, outgoing::Outgoing};
use crate::{
    mqtt::{
        Ack, AckKind, ConnAck, Connect, Disconnect, Encode, FrameHeader, Packet, PacketIdentifier, PacketType, Peek,
        ProtocolVersion, Publish, PublishProperties, QoS, ReasonCode, Sender, Subscribe, SubscriptionOptions,
        TopicFilter, TopicName, Unsubscribe, ack, frame, ping,
    },
    time::Moment,
    transport::OutBuffer,
};

/// What a client is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// The version that it speaks.
    pub version: ProtocolVersion,
    /// The largest packet that it takes, in bytes; a larger one is an error.
    pub packet_bytes_max: u32,
    /// Messages above QoS 0 that it has in flight at most; the server may lower it. One more is refused.
    pub in_flight_max: u16,
}

/// Where a client stands.
///
/// ```text
///   New ──connect──► Connecting ──CONNACK──► Connected ──disconnect, any error──► Ended
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was sent.
    New,
    /// CONNECT was sent.
    Connecting,
    /// The server accepted it.
    Connected,
    /// No more packets.
    Ended,
}

/// One connection of a client.
#[derive(Debug)]
pub struct Client {
    version: ProtocolVersion,
    state: State,
    packet_bytes_max: u32,
    keep_alive_s: u16,
    next_ping: Moment,
    outgoing: Outgoing,
    incoming: Incoming,
    /// The start of a packet whose rest is still to come.
    partial: Vec<u8>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions { version: ProtocolVersion::V311, packet_bytes_max: 268_435_460, in_flight_max: u16::MAX }
    }
}

impl Client {
    /// A client that has not sent anything.
    #[must_use]
    pub const fn new(options: ClientOptions) -> Self {
        Client {
            version: options.version,
            state: State::New,
            packet_bytes_max: options.packet_bytes_max,
            keep_alive_s: 0,
            next_ping: Moment::NEVER,
            outgoing: Outgoing::new(options.in_flight_max),
            incoming: Incoming::new(),
            partial: Vec::new(),
        }
    }

    /// Appends CONNECT, which must be the first packet.
    ///
    /// # Errors
    /// When it isn't the first, or can't be encoded.
    pub fn connect(&mut self, connect: &Connect<'_>, out: &mut Vec<u8>) -> Result<(), ClientError> {
        if self.state != State::New || connect.version != self.version {
            return Err(ClientError::WrongState);
        }
        connect.encode(out)?;
        self.keep_alive_s = connect.keep_alive_s;
        self.state = State::Connecting;
        Ok(())
    }

    /// Appends SUBSCRIBE; the answer comes with the identifier that is returned.
    ///
    /// # Errors
    /// When the client isn't connected, or no identifier is free.
    pub fn subscribe(
        &mut self,
        filters: &[(TopicFilter<'_>, SubscriptionOptions)],
        out: &mut Vec<u8>,
    ) -> Result<PacketIdentifier, ClientError> {
        self.check_connected()?;
        let packet_identifier = self.outgoing.begin_request()?;
        Subscribe::new(packet_identifier, filters).encode(self.version, out)?;
        Ok(packet_identifier)
    }

    /// Appends UNSUBSCRIBE; the answer comes with the identifier that is returned.
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    pub fn unsubscribe(
        &mut self,
        filters: &[TopicFilter<'_>],
        out: &mut Vec<u8>,
    ) -> Result<PacketIdentifier, ClientError> {
        self.check_connected()?;
        let packet_identifier = self.outgoing.begin_request()?;
        Unsubscribe::new(packet_identifier, filters).encode(self.version, out)?;
        Ok(packet_identifier)
    }

    /// Appends a PUBLISH. Above QoS 0, `token` comes back with the acknowledgement.
    ///
    /// # Errors
    /// When the client isn't connected, or as many messages are in flight as may be.
    pub fn publish(
        &mut self,
        topic: TopicName<'_>,
        payload: &[u8],
        qos: QoS,
        retain: bool,
        token: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), ClientError> {
        self.check_connected()?;
        let properties = PublishProperties::default();
        let packet_identifier = self.begin_publish(qos, token)?;
        let publish =
            Publish { dup: false, qos, retain, topic: topic.as_str(), packet_identifier, properties, payload };
        Ok(publish.encode(self.version, out)?)
    }

    /// Appends the PUBLISH of `template` with a payload of `payload_bytes` that begins with `stamp`. Above QoS 0, `token`
    /// comes back with the acknowledgement.
    ///
    /// # Errors
    /// As [`Client::publish`].
    #[inline]
    pub fn publish_prepared(
        &mut self,
        template: &PublishTemplate,
        stamp: &[u8],
        payload_bytes: usize,
        token: u32,
        out: &mut OutBuffer,
    ) -> Result<(), ClientError> {
        self.check_connected()?;
        let packet_identifier = self.begin_publish(template.qos(), token)?;
        template.append(packet_identifier, stamp, payload_bytes, out);
        Ok(())
    }

    /// Whether a PUBLISH of `qos` could be sent now.
    #[inline]
    #[must_use]
    pub fn can_publish(&self, qos: QoS) -> bool {
        self.state == State::Connected && (qos == QoS::AtMostOnce || self.outgoing.has_room())
    }

    /// Messages above QoS 0 that the server hasn't fully acknowledged.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.outgoing.len()
    }

    /// Whether the server accepted the connection and it has not ended.
    #[inline]
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.state == State::Connected
    }

    /// Appends DISCONNECT; the client is at its end then.
    pub fn disconnect(&mut self, out: &mut Vec<u8>) {
        if self.state == State::Connected {
            // A normal disconnection has no field that could fail to be encoded.
            let encoded = Disconnect::new(ReasonCode::Success).encode(self.version, out);
            debug_assert!(encoded.is_ok());
        }
        self.state = State::Ended;
    }

    /// Appends PINGREQ, whatever the keep-alive asks for.
    ///
    /// # Errors
    /// When the client isn't connected.
    pub fn ping(&mut self, out: &mut Vec<u8>) -> Result<(), ClientError> {
        self.check_connected()?;
        ping::encode_request(out);
        Ok(())
    }

    /// Appends PINGREQ when the keep-alive asks for one, and tells when to ask again.
    pub fn handle_time(&mut self, now: Moment, out: &mut Vec<u8>) -> Moment {
        if self.state != State::Connected || self.keep_alive_s == 0 {
            return Moment::NEVER;
        }
        if self.next_ping <= now || self.next_ping == Moment::NEVER {
            if self.next_ping <= now {
                ping::encode_request(out);
            }
            // Half of it, so that a late turn does no harm.
            self.next_ping = now.after(Duration::from_millis(u64::from(self.keep_alive_s) * 500));
        }
        self.next_ping
    }

    /// Takes what the server sent, appends what must be answered, and tells what happened.
    ///
    /// # Errors
    /// When the server refused or ended the connection, or broke the protocol. The connection is over then.
    pub fn handle_input(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        mut on_event: impl FnMut(ClientEvent<'_>),
    ) -> Result<(), ClientError> {
        let taken = self.take_input(input, out, &mut on_event);
        if taken.is_err() {
            self.state = State::Ended;
            self.partial = Vec::new();
        }
        taken
    }

    fn take_input(
        &mut self,
        mut input: &[u8],
        out: &mut Vec<u8>,
        on_event: &mut impl FnMut(ClientEvent<'_>),
    ) -> Result<(), ClientError> {
        while !self.partial.is_empty() && !input.is_empty() {
            let Some(rest) = self.complete_partial(input, out, on_event)? else { return Ok(()) };
            input = rest;
        }
        while let Peek::Complete(header) = frame::peek(input, self.packet_bytes_max)? {
            let (packet, rest) = input.split_at_checked(header.total_len()).unwrap_or((input, &[]));
            self.handle_frame(header, packet, out, on_event)?;
            input = rest;
        }
        self.partial.extend_from_slice(input);
        Ok(())
    }

    /// Moves bytes of `input` behind the partial packet until it is whole, and handles it. Returns what is left; nothing
    /// when the packet is still not whole.
    fn complete_partial<'a>(
        &mut self,
        input: &'a [u8],
        out: &mut Vec<u8>,
        on_event: &mut impl FnMut(ClientEvent<'_>),
    ) -> Result<Option<&'a [u8]>, ClientError> {
        let mut rest = input;
        loop {
            match frame::peek(&self.partial, self.packet_bytes_max)? {
                Peek::Complete(header) => {
                    let packet = std::mem::take(&mut self.partial);
                    self.handle_frame(header, &packet, out, on_event)?;
                    return Ok(Some(rest));
                }
                Peek::Incomplete { .. } if rest.is_empty() => return Ok(None),
                Peek::Incomplete { need } => {
                    let missing = need.saturating_sub(self.partial.len()).min(rest.len());
                    // A large packet comes in many parts: room for it at once, but not on a server's word alone.
                    self.partial.reserve(need.min(RESERVED_BYTES_MAX).saturating_sub(self.partial.len()));
                    let (taken, left) = rest.split_at_checked(missing).unwrap_or((rest, &[]));
                    self.partial.extend_from_slice(taken);
                    rest = left;
                }
            }
        }
    }

    #[inline]
    fn handle_frame(
        &mut self,
        header: FrameHeader,
        bytes: &[u8],
        out: &mut Vec<u8>,
        on_event: &mut impl FnMut(ClientEvent<'_>),
    ) -> Result<(), ClientError> {
        let body = bytes.get(usize::from(header.header_len)..).unwrap_or_default();
        if self.state == State::Connected {
            // What comes with each message is not passed through a type that has room for every packet.
            match header.first {
                first if first & 0xF0 == PacketType::Publish.first_byte() => {
                    let publish = Publish::decode(first, body, self.version, Sender::Server)?;
                    return self.on_publish(publish, out, on_event);
                }
                FIRST_OF_PUBACK => {
                    return self.on_final_ack(&Ack::decode(AckKind::PubAck, body, self.version)?, on_event);
                }
                _ => {}
            }
        }
        self.handle_any_frame(header, body, out, on_event)
    }

    fn handle_any_frame(
        &mut self,
        header: FrameHeader,
        body: &[u8],
        out: &mut Vec<u8>,
        on_event: &mut impl FnMut(ClientEvent<'_>),
    ) -> Result<(), ClientError> {
        let packet = Packet::decode(header, body, self.version, Sender::Server)?;
        match (self.state, packet) {
            (State::Connecting, Packet::ConnAck(connack)) => self.on_connack(&connack, on_event),
            (State::Connected, Packet::PubComp(ack)) => self.on_final_ack(&ack, on_event),
            (State::Connected, Packet::PubRec(ack)) => self.on_pubrec(&ack, out, on_event),
            (State::Connected, Packet::PubRel(ack)) => {
                // An identifier that isn't known is answered too: the answer to an earlier PUBREL may have been lost.
                self.incoming.release(ack.packet_identifier);
                ack::encode_success(out, AckKind::PubComp, ack.packet_identifier);
                Ok(())
            }
            (State::Connected, Packet::SubAck(suback)) => {
                let packet_identifier = self.end_request(PacketType::SubAck, suback.packet_identifier)?;
                on_event(ClientEvent::Subscribed { packet_identifier, reason_codes: suback.reason_codes });
                Ok(())
            }
            (State::Connected, Packet::UnsubAck(unsuback)) => {
                let packet_identifier = self.end_request(PacketType::UnsubAck, unsuback.packet_identifier)?;
                on_event(ClientEvent::Unsubscribed { packet_identifier });
                Ok(())
            }
            (State::Connected, Packet::PingResp) => {
                on_event(ClientEvent::Pong);
                Ok(())
            }
            (State::Connecting | State::Connected, Packet::Disconnect(disconnect)) => {
                Err(ClientError::Disconnected(disconnect.reason_code))
            }
            (State::Ended, _) => Ok(()),
            (_, packet) => Err(ClientError::UnexpectedPacket(packet.packet_type())),
        }
    }

    fn on_connack(
        &mut self,
        connack: &ConnAck<'_>,
        on_event: &mut impl FnMut(ClientEvent<'_>),
    ) -> Result<(), ClientError> {
        if connack.reason_code != ReasonCode::Success {
            return Err(ClientError::Refused(connack.reason_code));
        }
        self.state = State::Connected;
        if let Some(receive_maximum) = connack.properties.receive_maximum {
            self.outgoing.limit(receive_maximum.get());
        }
        if let Some(keep_alive_s) = connack.properties.server_keep_alive {
            self.keep_alive_s = keep_alive_s;
        }
        on_event(ClientEvent::Connected { session_present: connack.session_present });
        Ok(())
    }

    #[inline]
    fn on_publish(
        &mut self,
        publish: Publish<'_>,
        out: &mut Vec<u8>,
        on_event: &mut impl FnMut(ClientEvent<'_>),
    ) -> Result<(), ClientError> {
        if publish.properties.topic_alias.is_some() {
            // No CONNECT of ours allows aliases.
            return Err(ClientError::TopicAliasNotAllowed);
        }
        let is_new = match (publish.qos, publish.packet_identifier) {
            (QoS::AtLeastOnce, Some(identifier)) => {
                ack::encode_success(out, AckKind::PubAck, identifier);
                true
            }
            (QoS::ExactlyOnce, Some(identifier)) => {
                ack::encode_success(out, AckKind::PubRec, identifier);
                self.incoming.insert(identifier)
            }
            _ => true,
        };
        if is_new {
            on_event(ClientEvent::Received(publish));
        }
        Ok(())
    }

    fn on_pubrec(
        &mut self,
        ack: &Ack<'_>,
        out: &mut Vec<u8>,
        on_event: &mut impl FnMut(ClientEvent<'_>),
    ) -> Result<(), ClientError> {
        if ack.reason_code.is_error() {
            return self.on_final_ack(ack, on_event);
        }
        if !self.outgoing.advance(ack.packet_identifier) {
            return Err(ClientError::UnknownPacketIdentifier(PacketType::PubRec, ack.packet_identifier));
        }
        ack::encode_success(out, AckKind::PubRel, ack.packet_identifier);
        Ok(())
    }

    #[inline]
    fn on_final_ack(&mut self, ack: &Ack<'_>, on_event: &mut impl FnMut(ClientEvent<'_>)) -> Result<(), ClientError> {
        let Some(token) = self.outgoing.finish(ack.packet_identifier, ack.kind) else {
            return Err(ClientError::UnknownPacketIdentifier(ack.kind.packet_type(), ack.packet_identifier));
        };
        on_event(ClientEvent::Acknowledged { token, reason_code: ack.reason_code });
        Ok(())
    }

    #[inline]
    fn begin_publish(&mut self, qos: QoS, token: u32) -> Result<Option<PacketIdentifier>, ClientError> {
        match qos {
            QoS::AtMostOnce => Ok(None),
            QoS::AtLeastOnce => self.outgoing.begin(AckKind::PubAck, token).map(Some),
            QoS::ExactlyOnce => self.outgoing.begin(AckKind::PubRec, token).map(Some),
        }
    }

    fn end_request(
        &mut self,
        packet_type: PacketType,
        identifier: PacketIdentifier,
    ) -> Result<PacketIdentifier, ClientError> {
        if self.outgoing.end_request(identifier) {
            Ok(identifier)
        } else {
            Err(ClientError::UnknownPacketIdentifier(packet_type, identifier))
        }
    }

    #[inline]
    fn check_connected(&self) -> Result<(), ClientError> {
        if self.state == State::Connected { Ok(()) } else { Err(ClientError::WrongState) }
    }
}

const FIRST_OF_PUBACK: u8 = PacketType::PubAck.first_byte();
/// Room that is made for a packet before it is there.
const RESERVED_BYTES_MAX: usize = 1 << 20;
