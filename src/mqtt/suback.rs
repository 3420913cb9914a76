//! SUBACK.

use super::error::{DecodeError, EncodeError};
use super::properties::{Property, PropertyReader, PropertySection, UserProperties, write_optional};
use super::read::Reader;
use super::reason::{ReasonCodeSet, ReasonCodes};
use super::types::{PacketIdentifier, PacketType, ProtocolVersion};
use super::write::{Encode, EncodeWithin, Sink};

/// A SUBACK packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubAck<'a> {
    /// The identifier of the SUBSCRIBE. // [v3 MQTT-2.3.1-7] [v5 MQTT-2.2.1-6]
    pub packet_identifier: PacketIdentifier,
    /// One for each filter, in order. // [v3 MQTT-3.9.3-1] [v5 MQTT-3.9.3-1]
    pub reason_codes: ReasonCodes<'a>,
    /// A text for people.
    pub reason_string: Option<&'a str>,
    /// Pairs of the application.
    pub user_properties: UserProperties<'a>,
}

impl<'a> SubAck<'a> {
    /// A SUBACK without properties.
    #[must_use]
    pub const fn new(packet_identifier: PacketIdentifier, reason_codes: ReasonCodes<'a>) -> SubAck<'a> {
        SubAck { packet_identifier, reason_codes, reason_string: None, user_properties: UserProperties::EMPTY }
    }

    /// The codes that a SUBACK of `version` may carry: 3.1 cannot refuse, 3.1.1 refuses with 0x80 only.
    #[must_use]
    pub const fn reason_codes_allowed(version: ProtocolVersion) -> ReasonCodeSet {
        match version {
            ProtocolVersion::V31 => ReasonCodeSet::SUBACK_V31,
            ProtocolVersion::V311 => ReasonCodeSet::SUBACK_V311,
            ProtocolVersion::V5 => ReasonCodeSet::SUBACK,
        }
    }

    /// Decodes all that follows the fixed header.
    ///
    /// # Errors
    /// The first violation found.
    pub fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<SubAck<'a>, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_identifier = reader.packet_identifier()?;
        let mut properties = PropertyReader::new(if version.has_properties() { reader.properties()? } else { &[] });
        let mut reason_string = None;
        while let Some(property) = properties.next_property()? {
            match property {
                Property::ReasonString(text) => reason_string = Some(text),
                Property::UserProperty(..) => {}
                _ => return Err(property.not_allowed()),
            }
        }
        // [v3 MQTT-3.9.3-2] [v5 MQTT-3.9.3-2]
        let reason_codes = ReasonCodes::decode(reader.remainder(), SubAck::reason_codes_allowed(version))?;
        Ok(SubAck { packet_identifier, reason_codes, reason_string, user_properties: properties.user_properties() })
    }
}

impl PropertySection for SubAck<'_> {
    fn write_properties<S: Sink>(&self, sink: &mut S) -> Result<(), EncodeError> {
        write_optional(sink, self.reason_string, Property::ReasonString)?;
        self.user_properties.write(sink)
    }
}

impl Encode for SubAck<'_> {
    fn first_byte(&self) -> u8 {
        PacketType::SubAck.first_byte()
    }

    /// In 3.1.1 each error becomes 0x80. // [v3 MQTT-3.9.3-2]
    fn write_body<S: Sink>(&self, version: ProtocolVersion, sink: &mut S) -> Result<(), EncodeError> {
        if self.reason_codes.is_empty() {
            return Err(EncodeError::ContentMissing);
        }
        sink.u16(self.packet_identifier.value());
        if version.has_properties() {
            self.write_section(sink)?;
        }
        let allowed = SubAck::reason_codes_allowed(version);
        for code in self.reason_codes.iter() {
            if code.is_error() && version == ProtocolVersion::V311 {
                sink.u8(SUBACK_FAILURE);
            } else if allowed.contains(code) {
                sink.u8(code.value());
            } else {
                return Err(EncodeError::ReasonCodeNotAllowed); // [v5 MQTT-3.9.3-2]
            }
        }
        Ok(())
    }
}

/// The only refusal of 3.1.1.
const SUBACK_FAILURE: u8 = 0x80;

impl EncodeWithin for SubAck<'_> {
    fn without_reason_string(self) -> Self {
        SubAck { reason_string: None, ..self }
    }

    fn without_user_properties(self) -> Self {
        SubAck { user_properties: UserProperties::EMPTY, ..self }
    }
}
