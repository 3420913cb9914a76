//! UNSUBACK.

use super::error::{DecodeError, EncodeError};
use super::properties::{Property, PropertyReader, PropertySection, UserProperties, write_optional};
use super::read::Reader;
use super::reason::{ReasonCodeSet, ReasonCodes};
use super::types::{PacketIdentifier, PacketType, ProtocolVersion};
use super::write::{Encode, EncodeWithin, Sink};

/// An UNSUBACK packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsubAck<'a> {
    /// The identifier of the UNSUBSCRIBE. // [v3 MQTT-2.3.1-7] [v5 MQTT-2.2.1-6]
    pub packet_identifier: PacketIdentifier,
    /// One for each filter, in order; none in 3.x. // [v5 MQTT-3.11.3-1]
    pub reason_codes: ReasonCodes<'a>,
    /// A text for people.
    pub reason_string: Option<&'a str>,
    /// Pairs of the application.
    pub user_properties: UserProperties<'a>,
}

impl<'a> UnsubAck<'a> {
    /// An UNSUBACK without properties.
    #[must_use]
    pub const fn new(packet_identifier: PacketIdentifier, reason_codes: ReasonCodes<'a>) -> UnsubAck<'a> {
        UnsubAck { packet_identifier, reason_codes, reason_string: None, user_properties: UserProperties::EMPTY }
    }

    /// Decodes all that follows the fixed header.
    ///
    /// # Errors
    /// The first violation found.
    pub fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<UnsubAck<'a>, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_identifier = reader.packet_identifier()?;
        if !version.has_properties() {
            reader.finish()?;
            return Ok(UnsubAck::new(packet_identifier, ReasonCodes::new(&[])));
        }
        let mut properties = PropertyReader::new(reader.properties()?);
        let mut reason_string = None;
        while let Some(property) = properties.next_property()? {
            match property {
                Property::ReasonString(text) => reason_string = Some(text),
                Property::UserProperty(..) => {}
                _ => return Err(property.not_allowed()),
            }
        }
        let reason_codes = ReasonCodes::decode(reader.remainder(), ReasonCodeSet::UNSUBACK)?; // [v5 MQTT-3.11.3-2]
        Ok(UnsubAck { packet_identifier, reason_codes, reason_string, user_properties: properties.user_properties() })
    }
}

impl PropertySection for UnsubAck<'_> {
    fn write_properties<S: Sink>(&self, sink: &mut S) -> Result<(), EncodeError> {
        write_optional(sink, self.reason_string, Property::ReasonString)?;
        self.user_properties.write(sink)
    }
}

impl Encode for UnsubAck<'_> {
    fn first_byte(&self) -> u8 {
        PacketType::UnsubAck.first_byte()
    }

    fn write_body<S: Sink>(&self, version: ProtocolVersion, sink: &mut S) -> Result<(), EncodeError> {
        sink.u16(self.packet_identifier.value());
        if !version.has_properties() {
            return Ok(());
        }
        if self.reason_codes.is_empty() {
            return Err(EncodeError::ContentMissing);
        }
        self.write_section(sink)?;
        for code in self.reason_codes.iter() {
            if !ReasonCodeSet::UNSUBACK.contains(code) {
                return Err(EncodeError::ReasonCodeNotAllowed); // [v5 MQTT-3.11.3-2]
            }
            sink.u8(code.value());
        }
        Ok(())
    }
}

impl EncodeWithin for UnsubAck<'_> {
    fn without_reason_string(self) -> Self {
        UnsubAck { reason_string: None, ..self }
    }

    fn without_user_properties(self) -> Self {
        UnsubAck { user_properties: UserProperties::EMPTY, ..self }
    }
}
