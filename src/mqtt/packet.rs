//! Any packet.

use super::ack::{Ack, AckKind};
use super::auth::Auth;
use super::connack::ConnAck;
use super::connect::Connect;
use super::disconnect::Disconnect;
use super::error::{DecodeError, EncodeError};
use super::frame::{FrameHeader, allows_dup_in_v31};
use super::ping;
use super::publish::Publish;
use super::suback::SubAck;
use super::subscribe::Subscribe;
use super::types::{PacketType, ProtocolVersion, Sender};
use super::unsuback::UnsubAck;
use super::unsubscribe::Unsubscribe;
use super::write::Encode;

/// A packet of any type, borrowed from the bytes that it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the specification's packet names")]
#[allow(clippy::large_enum_variant, reason = "a packet is handled at once and never stored")]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    ConnAck(ConnAck<'a>),
    Publish(Publish<'a>),
    PubAck(Ack<'a>),
    PubRec(Ack<'a>),
    PubRel(Ack<'a>),
    PubComp(Ack<'a>),
    Subscribe(Subscribe<'a>),
    SubAck(SubAck<'a>),
    Unsubscribe(Unsubscribe<'a>),
    UnsubAck(UnsubAck<'a>),
    PingReq,
    PingResp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

impl<'a> Packet<'a> {
    /// Decodes the packet of `header`, whose remaining bytes are `body`. CONNECT names its own version.
    ///
    /// # Errors
    /// The first violation found.
    pub fn decode(
        header: FrameHeader,
        body: &'a [u8],
        version: ProtocolVersion,
        sender: Sender,
    ) -> Result<Packet<'a>, DecodeError> {
        debug_assert_eq!(header.remaining_len as usize, body.len(), "the caller cut the frame");
        let packet_type = PacketType::from_first_byte(header.first)?;
        if packet_type == PacketType::Publish {
            return Publish::decode(header.first, body, version, sender).map(Packet::Publish);
        }
        check_flags(header.first, packet_type, version)?;
        check_sender(packet_type, sender)?;
        Ok(match packet_type {
            PacketType::Connect => Packet::Connect(Connect::decode(header, body)?),
            PacketType::ConnAck => Packet::ConnAck(ConnAck::decode(body, version)?),
            PacketType::Publish => Packet::Publish(Publish::decode(header.first, body, version, sender)?),
            PacketType::PubAck => Packet::PubAck(Ack::decode(AckKind::PubAck, body, version)?),
            PacketType::PubRec => Packet::PubRec(Ack::decode(AckKind::PubRec, body, version)?),
            PacketType::PubRel => Packet::PubRel(Ack::decode(AckKind::PubRel, body, version)?),
            PacketType::PubComp => Packet::PubComp(Ack::decode(AckKind::PubComp, body, version)?),
            PacketType::Subscribe => Packet::Subscribe(Subscribe::decode(body, version)?),
            PacketType::SubAck => Packet::SubAck(SubAck::decode(body, version)?),
            PacketType::Unsubscribe => Packet::Unsubscribe(Unsubscribe::decode(body, version)?),
            PacketType::UnsubAck => Packet::UnsubAck(UnsubAck::decode(body, version)?),
            PacketType::PingReq => without_body(body, Packet::PingReq)?,
            PacketType::PingResp => without_body(body, Packet::PingResp)?,
            PacketType::Disconnect => Packet::Disconnect(Disconnect::decode(body, version, sender)?),
            PacketType::Auth => Packet::Auth(Auth::decode(body, version, sender)?),
        })
    }

    /// Appends the packet to `out`.
    ///
    /// # Errors
    /// As [`Encode::encode`]; `out` is unchanged then.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Packet::Connect(connect) => connect.encode(out),
            Packet::ConnAck(connack) => connack.encode(version, out),
            Packet::Publish(publish) => publish.encode(version, out),
            Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
                ack.encode(version, out)
            }
            Packet::Subscribe(subscribe) => subscribe.encode(version, out),
            Packet::SubAck(suback) => suback.encode(version, out),
            Packet::Unsubscribe(unsubscribe) => unsubscribe.encode(version, out),
            Packet::UnsubAck(unsuback) => unsuback.encode(version, out),
            Packet::PingReq => {
                ping::encode_request(out);
                Ok(())
            }
            Packet::PingResp => {
                ping::encode_response(out);
                Ok(())
            }
            Packet::Disconnect(disconnect) => disconnect.encode(version, out),
            Packet::Auth(auth) => auth.encode(version, out),
        }
    }

    /// The type of the packet.
    #[must_use]
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Packet::Connect(_) => PacketType::Connect,
            Packet::ConnAck(_) => PacketType::ConnAck,
            Packet::Publish(_) => PacketType::Publish,
            Packet::PubAck(_) => PacketType::PubAck,
            Packet::PubRec(_) => PacketType::PubRec,
            Packet::PubRel(_) => PacketType::PubRel,
            Packet::PubComp(_) => PacketType::PubComp,
            Packet::Subscribe(_) => PacketType::Subscribe,
            Packet::SubAck(_) => PacketType::SubAck,
            Packet::Unsubscribe(_) => PacketType::Unsubscribe,
            Packet::UnsubAck(_) => PacketType::UnsubAck,
            Packet::PingReq => PacketType::PingReq,
            Packet::PingResp => PacketType::PingResp,
            Packet::Disconnect(_) => PacketType::Disconnect,
            Packet::Auth(_) => PacketType::Auth,
        }
    }
}

/// The flags that the type fixes. MQTT 3.1 marks a repeated PUBREL, SUBSCRIBE or UNSUBSCRIBE with DUP.
fn check_flags(first: u8, packet_type: PacketType, version: ProtocolVersion) -> Result<(), DecodeError> {
    let is_v31_dup = version == ProtocolVersion::V31
        && allows_dup_in_v31(packet_type)
        && first == packet_type.first_byte() | super::frame::DUP;
    // [v3 MQTT-2.2.2-2] [v3 MQTT-3.6.1-1] [v3 MQTT-3.8.1-1] [v3 MQTT-3.10.1-1] [v3 MQTT-3.14.1-1] [v5 MQTT-2.1.3-1]
    // [v5 MQTT-3.6.1-1] [v5 MQTT-3.8.1-1] [v5 MQTT-3.10.1-1] [v5 MQTT-3.14.1-1] [v5 MQTT-3.15.1-1]
    if first == packet_type.first_byte() || is_v31_dup { Ok(()) } else { Err(DecodeError::FixedHeaderFlagsInvalid) }
}

fn check_sender(packet_type: PacketType, sender: Sender) -> Result<(), DecodeError> {
    let only_from = match packet_type {
        PacketType::Connect | PacketType::Subscribe | PacketType::Unsubscribe | PacketType::PingReq => Sender::Client,
        PacketType::ConnAck | PacketType::SubAck | PacketType::UnsubAck | PacketType::PingResp => Sender::Server,
        PacketType::Publish
        | PacketType::PubAck
        | PacketType::PubRec
        | PacketType::PubRel
        | PacketType::PubComp
        | PacketType::Disconnect
        | PacketType::Auth => return Ok(()),
    };
    if only_from == sender { Ok(()) } else { Err(DecodeError::PacketTypeNotFromSender) }
}

fn without_body<'a>(body: &[u8], packet: Packet<'a>) -> Result<Packet<'a>, DecodeError> {
    if body.is_empty() { Ok(packet) } else { Err(DecodeError::TrailingBytes) }
}
