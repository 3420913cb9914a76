//! AUTH: extended authentication, in 5.0 only.

use super::error::{DecodeError, EncodeError};
use super::properties::{Property, PropertyReader, PropertySection, UserProperties, write_optional};
use super::read::Reader;
use super::reason::{ReasonCode, ReasonCodeSet};
use super::types::{PacketType, ProtocolVersion, Sender};
use super::write::{Encode, EncodeWithin, Sink};

/// An AUTH packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth<'a> {
    /// `Success`, `ContinueAuthentication` or `ReAuthenticate`.
    pub reason_code: ReasonCode,
    /// The method; absent only in the AUTH that says success and nothing else.
    pub authentication_method: Option<&'a str>,
    /// Data of that method.
    pub authentication_data: Option<&'a [u8]>,
    /// A text for people.
    pub reason_string: Option<&'a str>,
    /// Pairs of the application.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Auth<'a> {
    /// An AUTH with a method and no data.
    #[must_use]
    pub const fn new(reason_code: ReasonCode, authentication_method: &'a str) -> Auth<'a> {
        Auth { authentication_method: Some(authentication_method), ..Auth::bare(reason_code) }
    }

    const fn bare(reason_code: ReasonCode) -> Auth<'a> {
        Auth {
            reason_code,
            authentication_method: None,
            authentication_data: None,
            reason_string: None,
            user_properties: UserProperties::EMPTY,
        }
    }

    /// Decodes all that follows the fixed header.
    ///
    /// # Errors
    /// The first violation found.
    pub fn decode(body: &'a [u8], version: ProtocolVersion, sender: Sender) -> Result<Auth<'a>, DecodeError> {
        if !version.has_properties() {
            return Err(DecodeError::PacketTypeNotInVersion);
        }
        let mut reader = Reader::new(body);
        let value = if reader.is_empty() { ReasonCode::Success.value() } else { reader.u8()? };
        let reason_code = ReasonCode::decode(value, ReasonCodeSet::auth(sender))?; // [v5 MQTT-3.15.2-1]
        let mut auth = Auth::bare(reason_code);
        if body.is_empty() {
            return Ok(auth);
        }
        let mut properties = PropertyReader::new(reader.properties()?);
        reader.finish()?;
        while let Some(property) = properties.next_property()? {
            match property {
                Property::AuthenticationMethod(value) => auth.authentication_method = Some(value),
                Property::AuthenticationData(value) => auth.authentication_data = Some(value),
                Property::ReasonString(text) => auth.reason_string = Some(text),
                Property::UserProperty(..) => {}
                _ => return Err(property.not_allowed()),
            }
        }
        if auth.authentication_method.is_none() {
            return Err(DecodeError::AuthenticationMethodMissing);
        }
        auth.user_properties = properties.user_properties();
        Ok(auth)
    }
}

impl PropertySection for Auth<'_> {
    fn write_properties<S: Sink>(&self, sink: &mut S) -> Result<(), EncodeError> {
        write_optional(sink, self.authentication_method, Property::AuthenticationMethod)?;
        write_optional(sink, self.authentication_data, Property::AuthenticationData)?;
        write_optional(sink, self.reason_string, Property::ReasonString)?;
        self.user_properties.write(sink)
    }
}

impl Encode for Auth<'_> {
    fn first_byte(&self) -> u8 {
        PacketType::Auth.first_byte()
    }

    fn write_body<S: Sink>(&self, version: ProtocolVersion, sink: &mut S) -> Result<(), EncodeError> {
        if !version.has_properties() {
            return Err(EncodeError::PacketTypeNotInVersion);
        }
        let is_allowed = [Sender::Client, Sender::Server]
            .iter()
            .any(|&sender| ReasonCodeSet::auth(sender).contains(self.reason_code));
        if !is_allowed {
            return Err(EncodeError::ReasonCodeNotAllowed); // [v5 MQTT-3.15.2-1]
        }
        if self.reason_code == ReasonCode::Success && PropertySection::is_empty(self)? {
            return Ok(());
        }
        if self.authentication_method.is_none() {
            return Err(EncodeError::ContentMissing);
        }
        sink.u8(self.reason_code.value());
        self.write_section(sink)
    }
}

impl EncodeWithin for Auth<'_> {
    fn without_reason_string(self) -> Self {
        Auth { reason_string: None, ..self }
    }

    fn without_user_properties(self) -> Self {
        Auth { user_properties: UserProperties::EMPTY, ..self }
    }
}
