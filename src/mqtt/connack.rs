//! CONNACK: the server's answer to CONNECT.

use std::num::{NonZeroU16, NonZeroU32};

use super::error::{DecodeError, EncodeError};
use super::properties::{Property, PropertyReader, PropertySection, UserProperties, write_optional};
use super::read::Reader;
use super::reason::{ConnectReturnCode, ReasonCode, ReasonCodeSet};
use super::types::{PacketType, ProtocolVersion, QoS};
use super::write::{Encode, EncodeWithin, Sink};

/// A CONNACK packet. In 3.x the reason code stands for the return code that says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnAck<'a> {
    /// Whether the server goes on with a session that it had. 3.1 has no room for it.
    pub session_present: bool,
    /// Success or why not.
    pub reason_code: ReasonCode,
    /// Empty in 3.x.
    pub properties: ConnAckProperties<'a>,
}

/// The properties of CONNACK. What is absent has the default that each line names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnAckProperties<'a> {
    /// Seconds; absent: what the client asked for.
    pub session_expiry_interval: Option<u32>,
    /// Unacknowledged PUBLISHes above QoS 0 that the server takes; absent: 65,535.
    pub receive_maximum: Option<NonZeroU16>,
    /// The highest QoS of a PUBLISH that the server takes, 0 or 1; absent: 2.
    pub maximum_qos: Option<QoS>,
    /// Absent: true.
    pub retain_available: Option<bool>,
    /// The largest packet that the server takes, in bytes; absent: any.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// The client identifier that the server chose for an empty one.
    pub assigned_client_identifier: Option<&'a str>,
    /// The largest topic alias that the server takes.
    pub topic_alias_maximum: u16,
    /// A text for people.
    pub reason_string: Option<&'a str>,
    /// Pairs of the application.
    pub user_properties: UserProperties<'a>,
    /// Absent: true.
    pub wildcard_subscription_available: Option<bool>,
    /// Absent: true.
    pub subscription_identifiers_available: Option<bool>,
    /// Absent: true.
    pub shared_subscription_available: Option<bool>,
    /// Seconds; absent: what the client asked for.
    pub server_keep_alive: Option<u16>,
    /// A base for response topics.
    pub response_information: Option<&'a str>,
    /// Another server to use.
    pub server_reference: Option<&'a str>,
    /// The method of extended authentication.
    pub authentication_method: Option<&'a str>,
    /// Data of that method.
    pub authentication_data: Option<&'a [u8]>,
}

impl<'a> ConnAck<'a> {
    /// A CONNACK without properties.
    #[must_use]
    pub fn new(session_present: bool, reason_code: ReasonCode) -> ConnAck<'a> {
        ConnAck { session_present, reason_code, properties: ConnAckProperties::default() }
    }

    /// Decodes all that follows the fixed header.
    ///
    /// # Errors
    /// The first violation found.
    pub fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<ConnAck<'a>, DecodeError> {
        let mut reader = Reader::new(body);
        let flags = reader.u8()?;
        let flags_allowed = if version == ProtocolVersion::V31 { 0 } else { SESSION_PRESENT };
        if flags & !flags_allowed != 0 {
            return Err(DecodeError::ConnAckFlagsReserved); // [v5 MQTT-3.2.2-1]
        }
        let session_present = flags & SESSION_PRESENT != 0;
        let code = reader.u8()?;
        let reason_code = if version.has_properties() {
            ReasonCode::decode(code, ReasonCodeSet::CONNACK)? // [v5 MQTT-3.2.2-8]
        } else {
            ConnectReturnCode::from_value(code).ok_or(DecodeError::ConnectReturnCodeUnknown)?.to_reason_code()
        };
        if session_present && reason_code != ReasonCode::Success {
            return Err(DecodeError::SessionPresentOnRefusal); // [v3 MQTT-3.2.2-4] [v5 MQTT-3.2.2-6]
        }
        let mut properties = ConnAckProperties::default();
        if version.has_properties() {
            properties.decode(reader.properties()?)?;
        }
        reader.finish()?;
        Ok(ConnAck { session_present, reason_code, properties })
    }
}

const SESSION_PRESENT: u8 = 1;

impl<'a> ConnAckProperties<'a> {
    fn decode(&mut self, section: &'a [u8]) -> Result<(), DecodeError> {
        let mut reader = PropertyReader::new(section);
        while let Some(property) = reader.next_property()? {
            match property {
                Property::SessionExpiryInterval(value) => self.session_expiry_interval = Some(value),
                Property::ReceiveMaximum(value) => self.receive_maximum = Some(value),
                Property::MaximumQoS(value) => self.maximum_qos = Some(value),
                Property::RetainAvailable(value) => self.retain_available = Some(value),
                Property::MaximumPacketSize(value) => self.maximum_packet_size = Some(value),
                Property::AssignedClientIdentifier(value) => self.assigned_client_identifier = Some(value),
                Property::TopicAliasMaximum(value) => self.topic_alias_maximum = value,
                Property::ReasonString(value) => self.reason_string = Some(value),
                Property::WildcardSubscriptionAvailable(value) => self.wildcard_subscription_available = Some(value),
                Property::SubscriptionIdentifiersAvailable(value) => {
                    self.subscription_identifiers_available = Some(value);
                }
                Property::SharedSubscriptionAvailable(value) => self.shared_subscription_available = Some(value),
                Property::ServerKeepAlive(value) => self.server_keep_alive = Some(value),
                Property::ResponseInformation(value) => self.response_information = Some(value),
                Property::ServerReference(value) => self.server_reference = Some(value),
                Property::AuthenticationMethod(value) => self.authentication_method = Some(value),
                Property::AuthenticationData(value) => self.authentication_data = Some(value),
                Property::UserProperty(..) => {}
                _ => return Err(property.not_allowed()),
            }
        }
        if self.authentication_data.is_some() && self.authentication_method.is_none() {
            return Err(DecodeError::AuthenticationDataWithoutMethod);
        }
        self.user_properties = reader.user_properties();
        Ok(())
    }
}

impl PropertySection for ConnAckProperties<'_> {
    fn write_properties<S: Sink>(&self, sink: &mut S) -> Result<(), EncodeError> {
        if self.authentication_data.is_some() && self.authentication_method.is_none() {
            return Err(EncodeError::AuthenticationDataWithoutMethod);
        }
        // A Maximum QoS of 2 is said by saying nothing. // [v5 MQTT-3.2.2-9]
        let maximum_qos = self.maximum_qos.filter(|&qos| qos != QoS::ExactlyOnce);
        let alias_maximum = Some(self.topic_alias_maximum).filter(|&maximum| maximum != 0);
        write_optional(sink, self.session_expiry_interval, Property::SessionExpiryInterval)?;
        write_optional(sink, self.receive_maximum, Property::ReceiveMaximum)?;
        write_optional(sink, maximum_qos, Property::MaximumQoS)?;
        write_optional(sink, self.retain_available, Property::RetainAvailable)?;
        write_optional(sink, self.maximum_packet_size, Property::MaximumPacketSize)?;
        write_optional(sink, self.assigned_client_identifier, Property::AssignedClientIdentifier)?;
        write_optional(sink, alias_maximum, Property::TopicAliasMaximum)?;
        write_optional(sink, self.reason_string, Property::ReasonString)?;
        self.user_properties.write(sink)?;
        write_optional(sink, self.wildcard_subscription_available, Property::WildcardSubscriptionAvailable)?;
        write_optional(sink, self.subscription_identifiers_available, Property::SubscriptionIdentifiersAvailable)?;
        write_optional(sink, self.shared_subscription_available, Property::SharedSubscriptionAvailable)?;
        write_optional(sink, self.server_keep_alive, Property::ServerKeepAlive)?;
        write_optional(sink, self.response_information, Property::ResponseInformation)?;
        write_optional(sink, self.server_reference, Property::ServerReference)?;
        write_optional(sink, self.authentication_method, Property::AuthenticationMethod)?;
        write_optional(sink, self.authentication_data, Property::AuthenticationData)
    }
}

impl Encode for ConnAck<'_> {
    fn first_byte(&self) -> u8 {
        PacketType::ConnAck.first_byte()
    }

    fn write_body<S: Sink>(&self, version: ProtocolVersion, sink: &mut S) -> Result<(), EncodeError> {
        let says_present =
            self.session_present && self.reason_code == ReasonCode::Success && version != ProtocolVersion::V31;
        sink.u8(u8::from(says_present)); // [v3 MQTT-3.2.2-4] [v5 MQTT-3.2.2-1] [v5 MQTT-3.2.2-6]
        if !version.has_properties() {
            let return_code = self.reason_code.to_connect_return_code().ok_or(EncodeError::ReasonCodeNotAllowed)?;
            sink.u8(return_code.value());
            return Ok(());
        }
        if !ReasonCodeSet::CONNACK.contains(self.reason_code) {
            return Err(EncodeError::ReasonCodeNotAllowed); // [v5 MQTT-3.2.2-8]
        }
        sink.u8(self.reason_code.value());
        self.properties.write_section(sink)
    }
}

impl EncodeWithin for ConnAck<'_> {
    fn without_reason_string(self) -> Self {
        ConnAck { properties: ConnAckProperties { reason_string: None, ..self.properties }, ..self }
    }

    fn without_user_properties(self) -> Self {
        let user_properties = UserProperties::EMPTY;
        ConnAck { properties: ConnAckProperties { user_properties, ..self.properties }, ..self }
    }
}
