//! PUBACK, PUBREC, PUBREL and PUBCOMP: four packets of one shape.

use super::error::{DecodeError, EncodeError};
use super::properties::{Property, PropertyReader, PropertySection, UserProperties, write_optional};
use super::read::Reader;
use super::reason::{ReasonCode, ReasonCodeSet};
use super::types::{PacketIdentifier, PacketType, ProtocolVersion};
use super::write::{Encode, EncodeWithin, Sink};

/// Which of the four.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the variants are the specification's packet names")]
pub enum AckKind {
    PubAck,
    PubRec,
    PubRel,
    PubComp,
}

impl AckKind {
    /// The packet type.
    #[must_use]
    pub const fn packet_type(self) -> PacketType {
        match self {
            AckKind::PubAck => PacketType::PubAck,
            AckKind::PubRec => PacketType::PubRec,
            AckKind::PubRel => PacketType::PubRel,
            AckKind::PubComp => PacketType::PubComp,
        }
    }

    /// The kind of a packet that begins with this byte, flags included.
    #[inline]
    #[must_use]
    pub const fn of_first_byte(first: u8) -> Option<AckKind> {
        const PUBACK: u8 = PacketType::PubAck.first_byte();
        const PUBREC: u8 = PacketType::PubRec.first_byte();
        const PUBREL: u8 = PacketType::PubRel.first_byte();
        const PUBCOMP: u8 = PacketType::PubComp.first_byte();
        Some(match first {
            PUBACK => AckKind::PubAck,
            PUBREC => AckKind::PubRec,
            PUBREL => AckKind::PubRel,
            PUBCOMP => AckKind::PubComp,
            _ => return None,
        })
    }

    /// The reason codes that the packet may carry.
    #[must_use]
    pub const fn reason_codes(self) -> ReasonCodeSet {
        match self {
            AckKind::PubAck | AckKind::PubRec => ReasonCodeSet::PUBACK_PUBREC,
            AckKind::PubRel | AckKind::PubComp => ReasonCodeSet::PUBREL_PUBCOMP,
        }
    }
}

/// A PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// Which of the four.
    pub kind: AckKind,
    /// The identifier of the PUBLISH that this is about. // [v3 MQTT-2.3.1-6] [v5 MQTT-2.2.1-5]
    pub packet_identifier: PacketIdentifier,
    /// Always `Success` in 3.x, which has no reason codes.
    pub reason_code: ReasonCode,
    /// A text for people.
    pub reason_string: Option<&'a str>,
    /// Pairs of the application.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Ack<'a> {
    /// An acknowledgement without properties.
    #[must_use]
    pub const fn new(kind: AckKind, packet_identifier: PacketIdentifier, reason_code: ReasonCode) -> Ack<'a> {
        Ack { kind, packet_identifier, reason_code, reason_string: None, user_properties: UserProperties::EMPTY }
    }

    /// Decodes all that follows the fixed header.
    ///
    /// # Errors
    /// The first violation found.
    #[inline]
    pub fn decode(kind: AckKind, body: &'a [u8], version: ProtocolVersion) -> Result<Ack<'a>, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_identifier = reader.packet_identifier()?;
        if !version.has_properties() || reader.is_empty() {
            reader.finish()?;
            // As almost all are: written where it is wanted, and not read back to be moved there.
            return Ok(Ack::new(kind, packet_identifier, ReasonCode::Success));
        }
        let mut ack = Ack::new(kind, packet_identifier, ReasonCode::Success);
        // [v5 MQTT-3.4.2-1] [v5 MQTT-3.5.2-1] [v5 MQTT-3.6.2-1] [v5 MQTT-3.7.2-1]
        ack.reason_code = ReasonCode::decode(reader.u8()?, kind.reason_codes())?;
        if reader.is_empty() {
            return Ok(ack);
        }
        let mut properties = PropertyReader::new(reader.properties()?);
        reader.finish()?;
        while let Some(property) = properties.next_property()? {
            match property {
                Property::ReasonString(text) => ack.reason_string = Some(text),
                Property::UserProperty(..) => {}
                _ => return Err(property.not_allowed()),
            }
        }
        ack.user_properties = properties.user_properties();
        Ok(ack)
    }
}

/// Appends the four bytes of an acknowledgement that says success, in any version.
#[inline]
pub fn encode_success(out: &mut Vec<u8>, kind: AckKind, packet_identifier: PacketIdentifier) {
    let [high, low] = packet_identifier.value().to_be_bytes();
    out.extend_from_slice(&[kind.packet_type().first_byte(), 2, high, low]);
}

impl PropertySection for Ack<'_> {
    fn write_properties<S: Sink>(&self, sink: &mut S) -> Result<(), EncodeError> {
        write_optional(sink, self.reason_string, Property::ReasonString)?;
        self.user_properties.write(sink)
    }
}

impl Encode for Ack<'_> {
    fn first_byte(&self) -> u8 {
        self.kind.packet_type().first_byte()
    }

    fn write_body<S: Sink>(&self, version: ProtocolVersion, sink: &mut S) -> Result<(), EncodeError> {
        sink.u16(self.packet_identifier.value());
        if !version.has_properties() {
            return Ok(());
        }
        if !self.kind.reason_codes().contains(self.reason_code) {
            return Err(EncodeError::ReasonCodeNotAllowed);
        }
        if PropertySection::is_empty(self)? {
            if self.reason_code != ReasonCode::Success {
                sink.u8(self.reason_code.value());
            }
            return Ok(());
        }
        sink.u8(self.reason_code.value());
        self.write_section(sink)
    }
}

impl EncodeWithin for Ack<'_> {
    fn without_reason_string(self) -> Self {
        Ack { reason_string: None, ..self }
    }

    fn without_user_properties(self) -> Self {
        Ack { user_properties: UserProperties::EMPTY, ..self }
    }
}
