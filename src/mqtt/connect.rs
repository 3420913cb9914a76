//! CONNECT: the packet that names its version.

use std::num::{NonZeroU16, NonZeroU32};

use super::error::{DecodeError, EncodeError, InvalidTopicName};
use super::frame::FrameHeader;
use super::properties::{
    PayloadFormatIndicator, Property, PropertyReader, PropertySection, UserProperties, write_optional,
};
use super::read::Reader;
use super::topic::TopicName;
use super::types::{PacketType, ProtocolVersion, QoS};
use super::write::{Encode, Sink};

/// A CONNECT packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The version that the connection will speak.
    pub version: ProtocolVersion,
    /// A bridge of mosquitto's kind asks with level 0x83 or 0x84: its messages must not come back to it, and RETAIN is
    /// to be passed on as it came. Never in 5.0.
    pub bridge: bool,
    /// Clean Start; CleanSession in 3.x.
    pub clean_start: bool,
    /// Seconds; 0 turns the mechanism off.
    pub keep_alive_s: u16,
    /// May be empty. // [v3 MQTT-3.1.3-3] [v5 MQTT-3.1.3-3]
    pub client_id: &'a str,
    /// The Will message.
    pub will: Option<WillPacket<'a>>,
    /// The user name.
    pub user_name: Option<&'a str>,
    /// The password.
    pub password: Option<&'a [u8]>,
    /// Default in 3.x.
    pub properties: ConnectProperties<'a>,
}

/// The Will as CONNECT carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WillPacket<'a> {
    /// Where it is published.
    pub topic: TopicName<'a>,
    /// The message.
    pub payload: &'a [u8],
    /// Quality of Service.
    pub qos: QoS,
    /// Whether it is published retained.
    pub retain: bool,
    /// Empty in 3.x.
    pub properties: WillProperties<'a>,
}

/// The properties of CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectProperties<'a> {
    /// Seconds that the session outlives the connection; absent means 0, 0xFFFF_FFFF for ever.
    pub session_expiry_interval: Option<u32>,
    /// How many unacknowledged PUBLISHes above QoS 0 the client takes; absent means 65,535.
    pub receive_maximum: Option<NonZeroU16>,
    /// The largest packet that the client takes, in bytes; absent means any.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// The largest topic alias that the client takes.
    pub topic_alias_maximum: u16,
    /// Whether CONNACK may carry Response Information.
    pub request_response_information: bool,
    /// Whether reasons and user properties are welcome on every packet.
    pub request_problem_information: bool,
    /// Pairs of the application.
    pub user_properties: UserProperties<'a>,
    /// The method of extended authentication.
    pub authentication_method: Option<&'a str>,
    /// Data of that method.
    pub authentication_data: Option<&'a [u8]>,
}

impl Default for ConnectProperties<'_> {
    fn default() -> Self {
        ConnectProperties {
            session_expiry_interval: None,
            receive_maximum: None,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            user_properties: UserProperties::EMPTY,
            authentication_method: None,
            authentication_data: None,
        }
    }
}

/// The properties of a Will.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WillProperties<'a> {
    /// Seconds between the end of the connection and the Will; absent means 0.
    pub will_delay_interval: Option<u32>,
    /// Whether the payload is said to be text.
    pub payload_format_indicator: Option<PayloadFormatIndicator>,
    /// Seconds that the message lives once published.
    pub message_expiry_interval: Option<u32>,
    /// What kind of content the payload is.
    pub content_type: Option<&'a str>,
    /// Where to send a response.
    pub response_topic: Option<TopicName<'a>>,
    /// What a response should carry.
    pub correlation_data: Option<&'a [u8]>,
    /// Pairs of the application, in order. // [v5 MQTT-3.1.3-10]
    pub user_properties: UserProperties<'a>,
}

impl<'a> Connect<'a> {
    /// A CONNECT with nothing but a client identifier.
    #[must_use]
    pub fn new(version: ProtocolVersion, client_id: &'a str) -> Connect<'a> {
        Connect {
            version,
            bridge: false,
            clean_start: true,
            keep_alive_s: 0,
            client_id,
            will: None,
            user_name: None,
            password: None,
            properties: ConnectProperties::default(),
        }
    }

    /// Decodes all that follows the fixed header.
    ///
    /// # Errors
    /// The first violation found; [`DecodeError::ProtocolVersionUnsupported`] before anything behind the level is read.
    pub fn decode(header: FrameHeader, body: &'a [u8]) -> Result<Connect<'a>, DecodeError> {
        if header.first != PacketType::Connect.first_byte() {
            return Err(DecodeError::FixedHeaderFlagsInvalid);
        }
        let mut reader = Reader::new(body);
        let (version, bridge) = decode_version(&mut reader)?;
        let flags = ConnectFlags::decode(reader.u8()?, version)?;
        let keep_alive_s = reader.u16()?;
        let mut properties = ConnectProperties::default();
        if version.has_properties() {
            properties.decode(reader.properties()?)?;
        }
        // The fields come in this order. // [v3 MQTT-3.1.3-1] [v3 MQTT-3.1.3-3] [v3 MQTT-3.1.3-4] [v5 MQTT-3.1.3-4]
        let client_id = reader.string()?;
        // [v3 MQTT-3.1.2-9] [v5 MQTT-3.1.2-9] [v3 MQTT-3.1.2-11] [v5 MQTT-3.1.2-11]
        let will = match flags.will {
            Some((qos, retain)) => Some(WillPacket::decode(&mut reader, version, qos, retain)?),
            None => None,
        };
        // MQTT 3.1 allows a flag whose field is missing: the length of the packet decides.
        let is_left = |reader: &Reader<'_>| version != ProtocolVersion::V31 || !reader.is_empty();
        // [v3 MQTT-3.1.2-18] [v3 MQTT-3.1.2-19] [v3 MQTT-3.1.3-11] [v5 MQTT-3.1.2-16] [v5 MQTT-3.1.2-17]
        // [v5 MQTT-3.1.3-12]
        let user_name = if flags.user_name && is_left(&reader) { Some(reader.string()?) } else { None };
        // [v3 MQTT-3.1.2-20] [v3 MQTT-3.1.2-21] [v5 MQTT-3.1.2-18] [v5 MQTT-3.1.2-19]
        let password = if flags.password && is_left(&reader) { Some(reader.binary()?) } else { None };
        reader.finish()?;
        let clean_start = flags.clean_start;
        Ok(Connect { version, bridge, clean_start, keep_alive_s, client_id, will, user_name, password, properties })
    }

    /// Appends the packet to `out`, in the version that it names.
    ///
    /// # Errors
    /// When a field does not fit its form; `out` is unchanged then.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        Encode::encode(self, self.version, out)
    }
}

/// The flag that a bridge of mosquitto's kind adds to the level.
const BRIDGE_FLAG: u8 = 0x80;

fn decode_version(reader: &mut Reader<'_>) -> Result<(ProtocolVersion, bool), DecodeError> {
    let protocol_name = reader.string()?;
    let level = reader.u8()?;
    // [v3 MQTT-3.1.2-1] [v3 MQTT-3.1.2-2] [v5 MQTT-3.1.2-1] [v5 MQTT-3.1.2-2]
    match (protocol_name, level) {
        ("MQTT", 5) => Ok((ProtocolVersion::V5, false)),
        ("MQTT", 4) => Ok((ProtocolVersion::V311, false)),
        ("MQTT", 0x84) => Ok((ProtocolVersion::V311, true)),
        ("MQIsdp", 3) => Ok((ProtocolVersion::V31, false)),
        ("MQIsdp", 0x83) => Ok((ProtocolVersion::V31, true)),
        ("MQTT" | "MQIsdp", level) => Err(DecodeError::ProtocolVersionUnsupported { level }),
        _ => Err(DecodeError::ProtocolNameUnknown),
    }
}

struct ConnectFlags {
    clean_start: bool,
    will: Option<(QoS, bool)>,
    user_name: bool,
    password: bool,
}

impl ConnectFlags {
    fn decode(flags: u8, version: ProtocolVersion) -> Result<ConnectFlags, DecodeError> {
        if flags & RESERVED != 0 {
            return Err(DecodeError::ConnectFlagReserved); // [v3 MQTT-3.1.2-3] [v5 MQTT-3.1.2-3]
        }
        // [v3 MQTT-3.1.2-14] [v5 MQTT-3.1.2-12]
        let will_qos = QoS::from_bits(flags >> WILL_QOS_SHIFT & 0b11).ok_or(DecodeError::WillQoSInvalid)?;
        let will_retain = flags & WILL_RETAIN != 0;
        let has_will = flags & WILL != 0;
        if !has_will && (will_qos != QoS::AtMostOnce || will_retain) {
            // [v3 MQTT-3.1.2-11] [v3 MQTT-3.1.2-13] [v3 MQTT-3.1.2-15] [v5 MQTT-3.1.2-11] [v5 MQTT-3.1.2-13]
            return Err(DecodeError::WillFlagsWithoutWill);
        }
        let (user_name, password) = (flags & USER_NAME != 0, flags & PASSWORD != 0);
        if password && !user_name && version != ProtocolVersion::V5 {
            return Err(DecodeError::PasswordWithoutUserName); // [v3 MQTT-3.1.2-22]
        }
        let will = has_will.then_some((will_qos, will_retain));
        Ok(ConnectFlags { clean_start: flags & CLEAN_START != 0, will, user_name, password })
    }
}

const RESERVED: u8 = 0b0000_0001;
const CLEAN_START: u8 = 0b0000_0010;
const WILL: u8 = 0b0000_0100;
const WILL_QOS_SHIFT: u8 = 3;
const WILL_RETAIN: u8 = 0b0010_0000;
const PASSWORD: u8 = 0b0100_0000;
const USER_NAME: u8 = 0b1000_0000;

impl<'a> WillPacket<'a> {
    fn decode(
        reader: &mut Reader<'a>,
        version: ProtocolVersion,
        qos: QoS,
        retain: bool,
    ) -> Result<WillPacket<'a>, DecodeError> {
        let mut properties = WillProperties::default();
        if version.has_properties() {
            properties.decode(reader.properties()?)?;
        }
        let topic = reader.string()?; // [v3 MQTT-3.1.3-10] [v5 MQTT-3.1.3-11]
        let topic = TopicName::parse(topic).map_err(|error| match error {
            InvalidTopicName::ContainsNull => DecodeError::StringContainsNull,
            InvalidTopicName::Empty | InvalidTopicName::TooLong | InvalidTopicName::ContainsWildcard => {
                DecodeError::WillTopicInvalid
            }
        })?;
        Ok(WillPacket { topic, payload: reader.binary()?, qos, retain, properties })
    }
}

impl<'a> ConnectProperties<'a> {
    fn decode(&mut self, section: &'a [u8]) -> Result<(), DecodeError> {
        let mut reader = PropertyReader::new(section);
        while let Some(property) = reader.next_property()? {
            match property {
                Property::SessionExpiryInterval(value) => self.session_expiry_interval = Some(value),
                Property::ReceiveMaximum(value) => self.receive_maximum = Some(value),
                Property::MaximumPacketSize(value) => self.maximum_packet_size = Some(value),
                Property::TopicAliasMaximum(value) => self.topic_alias_maximum = value,
                Property::RequestResponseInformation(value) => self.request_response_information = value,
                Property::RequestProblemInformation(value) => self.request_problem_information = value,
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

impl PropertySection for ConnectProperties<'_> {
    fn write_properties<S: Sink>(&self, sink: &mut S) -> Result<(), EncodeError> {
        if self.authentication_data.is_some() && self.authentication_method.is_none() {
            return Err(EncodeError::AuthenticationDataWithoutMethod);
        }
        let alias_maximum = Some(self.topic_alias_maximum).filter(|&maximum| maximum != 0);
        let problem_information = Some(false).filter(|_| !self.request_problem_information);
        let response_information = Some(true).filter(|_| self.request_response_information);
        write_optional(sink, self.session_expiry_interval, Property::SessionExpiryInterval)?;
        write_optional(sink, self.receive_maximum, Property::ReceiveMaximum)?;
        write_optional(sink, self.maximum_packet_size, Property::MaximumPacketSize)?;
        write_optional(sink, alias_maximum, Property::TopicAliasMaximum)?;
        write_optional(sink, response_information, Property::RequestResponseInformation)?;
        write_optional(sink, problem_information, Property::RequestProblemInformation)?;
        self.user_properties.write(sink)?;
        write_optional(sink, self.authentication_method, Property::AuthenticationMethod)?;
        write_optional(sink, self.authentication_data, Property::AuthenticationData)
    }
}

impl<'a> WillProperties<'a> {
    fn decode(&mut self, section: &'a [u8]) -> Result<(), DecodeError> {
        let mut reader = PropertyReader::new(section);
        while let Some(property) = reader.next_property()? {
            match property {
                Property::WillDelayInterval(value) => self.will_delay_interval = Some(value),
                Property::PayloadFormatIndicator(value) => self.payload_format_indicator = Some(value),
                Property::MessageExpiryInterval(value) => self.message_expiry_interval = Some(value),
                Property::ContentType(value) => self.content_type = Some(value),
                Property::ResponseTopic(value) => self.response_topic = Some(value),
                Property::CorrelationData(value) => self.correlation_data = Some(value),
                Property::UserProperty(..) => {}
                _ => return Err(property.not_allowed()),
            }
        }
        self.user_properties = reader.user_properties();
        Ok(())
    }

    /// The properties that the PUBLISH of this Will has: all but the delay.
    #[must_use]
    pub fn to_publish_properties(&self) -> super::publish::PublishProperties<'a> {
        super::publish::PublishProperties {
            payload_format_indicator: self.payload_format_indicator,
            message_expiry_interval: self.message_expiry_interval,
            response_topic: self.response_topic,
            correlation_data: self.correlation_data,
            user_properties: self.user_properties,
            content_type: self.content_type,
            ..Default::default()
        }
    }
}

impl PropertySection for WillProperties<'_> {
    fn write_properties<S: Sink>(&self, sink: &mut S) -> Result<(), EncodeError> {
        write_optional(sink, self.will_delay_interval, Property::WillDelayInterval)?;
        write_optional(sink, self.payload_format_indicator, Property::PayloadFormatIndicator)?;
        write_optional(sink, self.message_expiry_interval, Property::MessageExpiryInterval)?;
        write_optional(sink, self.content_type, Property::ContentType)?;
        write_optional(sink, self.response_topic, Property::ResponseTopic)?;
        write_optional(sink, self.correlation_data, Property::CorrelationData)?;
        self.user_properties.write(sink)
    }
}

impl Encode for Connect<'_> {
    fn first_byte(&self) -> u8 {
        PacketType::Connect.first_byte()
    }

    /// The packet's own version counts, whatever the argument says.
    fn write_body<S: Sink>(&self, _: ProtocolVersion, sink: &mut S) -> Result<(), EncodeError> {
        let version = self.version;
        if self.password.is_some() && self.user_name.is_none() && version != ProtocolVersion::V5 {
            return Err(EncodeError::PasswordWithoutUserName); // [v3 MQTT-3.1.2-22]
        }
        let bridge_flag = if self.bridge && version != ProtocolVersion::V5 { BRIDGE_FLAG } else { 0 };
        sink.string(version.protocol_name())?;
        sink.u8(version.level() | bridge_flag);
        sink.u8(self.flags());
        sink.u16(self.keep_alive_s);
        if version.has_properties() {
            self.properties.write_section(sink)?;
        }
        sink.string(self.client_id)?;
        if let Some(will) = &self.will {
            if version.has_properties() {
                will.properties.write_section(sink)?;
            }
            sink.string(will.topic.as_str())?;
            sink.binary(will.payload)?;
        }
        if let Some(user_name) = self.user_name {
            sink.string(user_name)?;
        }
        self.password.map_or(Ok(()), |password| sink.binary(password))
    }
}

impl Connect<'_> {
    fn flags(&self) -> u8 {
        let flag = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        let will =
            self.will.map_or(0, |will| WILL | will.qos.value() << WILL_QOS_SHIFT | flag(will.retain, WILL_RETAIN));
        flag(self.clean_start, CLEAN_START)
            | will
            | flag(self.password.is_some(), PASSWORD)
            | flag(self.user_name.is_some(), USER_NAME)
    }
}
