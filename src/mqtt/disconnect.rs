//! DISCONNECT: without a body and from clients only in 3.x, with a reason and from both sides in 5.0.

use super::error::{DecodeError, EncodeError};
use super::properties::{Property, PropertyReader, PropertySection, UserProperties, write_optional};
use super::read::Reader;
use super::reason::{ReasonCode, ReasonCodeSet};
use super::types::{PacketType, ProtocolVersion, Sender};
use super::write::{Encode, EncodeWithin, Sink};

/// A DISCONNECT packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// Why; `Success` is a normal disconnection.
    pub reason_code: ReasonCode,
    /// Seconds, from a client only. // [v5 MQTT-3.14.2-2]
    pub session_expiry_interval: Option<u32>,
    /// A text for people.
    pub reason_string: Option<&'a str>,
    /// Pairs of the application.
    pub user_properties: UserProperties<'a>,
    /// Another server to use; from a server only.
    pub server_reference: Option<&'a str>,
}

impl<'a> Disconnect<'a> {
    /// A DISCONNECT without properties.
    #[must_use]
    pub const fn new(reason_code: ReasonCode) -> Disconnect<'a> {
        Disconnect {
            reason_code,
            session_expiry_interval: None,
            reason_string: None,
            user_properties: UserProperties::EMPTY,
            server_reference: None,
        }
    }

    /// Decodes all that follows the fixed header.
    ///
    /// # Errors
    /// The first violation found.
    pub fn decode(body: &'a [u8], version: ProtocolVersion, sender: Sender) -> Result<Disconnect<'a>, DecodeError> {
        let mut reader = Reader::new(body);
        let mut disconnect = Disconnect::new(ReasonCode::Success);
        if !version.has_properties() {
            if sender == Sender::Server {
                return Err(DecodeError::PacketTypeNotFromSender);
            }
            reader.finish()?;
            return Ok(disconnect);
        }
        let value = if reader.is_empty() { ReasonCode::Success.value() } else { reader.u8()? };
        // [v5 MQTT-3.14.2-1]
        disconnect.reason_code = ReasonCode::decode(value, ReasonCodeSet::disconnect(sender))?;
        if !reader.is_empty() {
            disconnect.decode_properties(reader.properties()?, sender)?;
        }
        reader.finish()?;
        Ok(disconnect)
    }

    fn decode_properties(&mut self, section: &'a [u8], sender: Sender) -> Result<(), DecodeError> {
        let mut properties = PropertyReader::new(section);
        while let Some(property) = properties.next_property()? {
            match property {
                Property::SessionExpiryInterval(_) if sender == Sender::Server => {
                    return Err(DecodeError::SessionExpiryIntervalFromServer); // [v5 MQTT-3.14.2-2]
                }
                Property::ServerReference(_) if sender == Sender::Client => {
                    return Err(DecodeError::ServerReferenceFromClient);
                }
                Property::SessionExpiryInterval(value) => self.session_expiry_interval = Some(value),
                Property::ServerReference(value) => self.server_reference = Some(value),
                Property::ReasonString(text) => self.reason_string = Some(text),
                Property::UserProperty(..) => {}
                _ => return Err(property.not_allowed()),
            }
        }
        self.user_properties = properties.user_properties();
        Ok(())
    }
}

impl PropertySection for Disconnect<'_> {
    fn write_properties<S: Sink>(&self, sink: &mut S) -> Result<(), EncodeError> {
        write_optional(sink, self.session_expiry_interval, Property::SessionExpiryInterval)?;
        write_optional(sink, self.reason_string, Property::ReasonString)?;
        self.user_properties.write(sink)?;
        write_optional(sink, self.server_reference, Property::ServerReference)
    }
}

impl Encode for Disconnect<'_> {
    fn first_byte(&self) -> u8 {
        PacketType::Disconnect.first_byte()
    }

    fn write_body<S: Sink>(&self, version: ProtocolVersion, sink: &mut S) -> Result<(), EncodeError> {
        if !version.has_properties() {
            return Ok(());
        }
        let is_allowed = [Sender::Client, Sender::Server]
            .iter()
            .any(|&sender| ReasonCodeSet::disconnect(sender).contains(self.reason_code));
        if !is_allowed {
            return Err(EncodeError::ReasonCodeNotAllowed); // [v5 MQTT-3.14.2-1]
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

impl EncodeWithin for Disconnect<'_> {
    fn without_reason_string(self) -> Self {
        Disconnect { reason_string: None, ..self }
    }

    fn without_user_properties(self) -> Self {
        Disconnect { user_properties: UserProperties::EMPTY, ..self }
    }
}
