//! PUBLISH: the packet that everything is about, and the only one whose encoder is written for speed.
//!
//! What always holds: a decoded topic is a valid topic name, or empty with a topic alias beside it; QoS, DUP and packet
//! identifier agree.

use std::num::NonZeroU16;

use super::error::{DecodeError, EncodeError};
use super::frame::DUP;
use super::properties::{
    PayloadFormatIndicator, Property, PropertyReader, PropertySection, SubscriptionIdentifiers, UserProperties,
    write_optional,
};
use super::read::Reader;
use super::topic::{TOPIC_BYTES_MAX, TopicName};
use super::types::{PacketIdentifier, PacketType, ProtocolVersion, QoS, Sender};
use super::write::{Encode, Sink, VARIABLE_INTEGER_MAX, push_variable_integer, variable_integer_len};

/// A PUBLISH packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// The sender may have sent this before.
    pub dup: bool,
    /// Quality of Service.
    pub qos: QoS,
    /// As the specification's RETAIN flag.
    pub retain: bool,
    /// The topic name; empty when a topic alias stands for it (5.0 only).
    pub topic: &'a str,
    /// There is one above QoS 0 and none at QoS 0.
    pub packet_identifier: Option<PacketIdentifier>,
    /// Empty in 3.x.
    pub properties: PublishProperties<'a>,
    /// The message itself.
    pub payload: &'a [u8],
}

/// The properties of a PUBLISH.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishProperties<'a> {
    /// Whether the payload is said to be text.
    pub payload_format_indicator: Option<PayloadFormatIndicator>,
    /// Seconds that the message lives.
    pub message_expiry_interval: Option<u32>,
    /// A number for the topic; never 0.
    pub topic_alias: Option<u16>,
    /// Where to send a response.
    pub response_topic: Option<TopicName<'a>>,
    /// What a response should carry.
    pub correlation_data: Option<&'a [u8]>,
    /// Pairs of the application.
    pub user_properties: UserProperties<'a>,
    /// Which of the receiver's subscriptions the message is for. Only a server sends them.
    pub subscription_identifiers: SubscriptionIdentifiers<'a>,
    /// What kind of content the payload is.
    pub content_type: Option<&'a str>,
}

impl<'a> Publish<'a> {
    /// Decodes all that follows the fixed header.
    ///
    /// # Errors
    /// The first violation found.
    #[inline]
    pub fn decode(
        first_byte: u8,
        body: &'a [u8],
        version: ProtocolVersion,
        sender: Sender,
    ) -> Result<Publish<'a>, DecodeError> {
        let flags = PublishFlags::decode(first_byte)?;
        let mut reader = Reader::new(body);
        let topic = reader.string_with_null()?; // [v3 MQTT-3.3.2-1] [v5 MQTT-3.3.2-1]
        if !topic.is_empty() {
            check_topic_name(topic)?; // [v3 MQTT-3.3.2-2] [v5 MQTT-3.3.2-2]
        }
        // [v3 MQTT-2.3.1-5] [v5 MQTT-2.2.1-2]
        let packet_identifier = if flags.qos == QoS::AtMostOnce { None } else { Some(reader.packet_identifier()?) };
        let PublishFlags { dup, qos, retain } = flags;
        let section = if version.has_properties() { reader.properties()? } else { &[] };
        let payload = reader.remainder();
        if section.is_empty() {
            if topic.is_empty() {
                return Err(if version.has_properties() {
                    DecodeError::TopicNameMissing
                } else {
                    DecodeError::TopicNameInvalid // [v3 MQTT-4.7.3-1]
                });
            }
            // Written where it is wanted: properties that are made first are read back before they have been written.
            let properties = PublishProperties::default();
            return Ok(Publish { dup, qos, retain, topic, packet_identifier, properties, payload });
        }
        let properties = PublishProperties::decode(section, sender)?;
        if topic.is_empty() && properties.topic_alias.is_none() {
            return Err(DecodeError::TopicNameMissing);
        }
        Ok(Publish { dup, qos, retain, topic, packet_identifier, properties, payload })
    }
}

#[inline]
fn check_topic_name(topic: &str) -> Result<(), DecodeError> {
    match TopicName::parse_bounded(topic) {
        Ok(_) => Ok(()),
        Err(super::error::InvalidTopicName::ContainsNull) => Err(DecodeError::StringContainsNull),
        Err(_) => Err(DecodeError::TopicNameInvalid),
    }
}

impl<'a> PublishProperties<'a> {
    #[inline(never)]
    fn decode(section: &'a [u8], sender: Sender) -> Result<PublishProperties<'a>, DecodeError> {
        let mut properties = PublishProperties::default();
        let mut reader = PropertyReader::of_publish(section);
        while let Some(property) = reader.next_property()? {
            match property {
                Property::PayloadFormatIndicator(value) => properties.payload_format_indicator = Some(value),
                Property::MessageExpiryInterval(value) => properties.message_expiry_interval = Some(value),
                Property::TopicAlias(value) => properties.topic_alias = Some(value.get()),
                Property::ResponseTopic(value) => properties.response_topic = Some(value),
                Property::CorrelationData(value) => properties.correlation_data = Some(value),
                Property::ContentType(value) => properties.content_type = Some(value),
                Property::UserProperty(..) => {}
                Property::SubscriptionIdentifier(_) => {
                    if sender == Sender::Client {
                        return Err(DecodeError::SubscriptionIdentifierFromClient); // [v5 MQTT-3.3.4-6]
                    }
                }
                _ => return Err(property.not_allowed()),
            }
        }
        properties.user_properties = reader.user_properties();
        properties.subscription_identifiers = reader.subscription_identifiers();
        Ok(properties)
    }

    /// Appends, in wire form and without a length before them, the properties that a server passes on unchanged: not
    /// the expiry, the alias and the subscription identifiers.
    ///
    /// Properties that were decoded can always be written; of others, one that is too long is left out.
    #[inline]
    pub fn write_forwarded(&self, out: &mut Vec<u8>) {
        // As in most messages.
        if self.forwards_nothing() {
            return;
        }
        let start = out.len();
        let written = self.write_forwarded_to(out);
        debug_assert!(written.is_ok(), "a property that was decoded can be encoded");
        if written.is_err() {
            out.truncate(start);
        }
    }

    /// Whether [`PublishProperties::write_forwarded`] would write nothing.
    #[inline]
    #[must_use]
    pub fn forwards_nothing(&self) -> bool {
        self.payload_format_indicator.is_none()
            && self.content_type.is_none()
            && self.response_topic.is_none()
            && self.correlation_data.is_none()
            && self.user_properties.is_empty()
    }

    fn write_forwarded_to<S: Sink>(&self, sink: &mut S) -> Result<(), EncodeError> {
        // [v5 MQTT-3.3.2-4] [v5 MQTT-3.3.2-15] [v5 MQTT-3.3.2-16] [v5 MQTT-3.3.2-17] [v5 MQTT-3.3.2-18]
        // [v5 MQTT-3.3.2-20]
        write_optional(sink, self.payload_format_indicator, Property::PayloadFormatIndicator)?;
        write_optional(sink, self.content_type, Property::ContentType)?;
        write_optional(sink, self.response_topic, Property::ResponseTopic)?;
        write_optional(sink, self.correlation_data, Property::CorrelationData)?;
        self.user_properties.write(sink)
    }
}

impl PropertySection for PublishProperties<'_> {
    fn write_properties<S: Sink>(&self, sink: &mut S) -> Result<(), EncodeError> {
        self.write_forwarded_to(sink)?;
        write_optional(sink, self.message_expiry_interval, Property::MessageExpiryInterval)?;
        write_optional(sink, self.topic_alias.and_then(NonZeroU16::new), Property::TopicAlias)?;
        self.subscription_identifiers.write(sink)
    }
}

impl Encode for Publish<'_> {
    fn first_byte(&self) -> u8 {
        PublishFlags { dup: self.dup, qos: self.qos, retain: self.retain }.first_byte()
    }

    fn write_body<S: Sink>(&self, version: ProtocolVersion, sink: &mut S) -> Result<(), EncodeError> {
        let has_alias = version.has_properties() && self.properties.topic_alias.is_some_and(|alias| alias != 0);
        if self.topic.is_empty() && !has_alias {
            return Err(EncodeError::ContentMissing);
        }
        let is_at_most_once = self.qos == QoS::AtMostOnce;
        if is_at_most_once == self.packet_identifier.is_some() || is_at_most_once && self.dup {
            return Err(EncodeError::PublishFlagsDisagree);
        }
        sink.string(self.topic)?;
        if let Some(packet_identifier) = self.packet_identifier {
            sink.u16(packet_identifier.value());
        }
        if version.has_properties() {
            self.properties.write_section(sink)?;
        }
        sink.bytes(self.payload);
        Ok(())
    }
}

/// The flags in the first byte of a PUBLISH.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishFlags {
    /// The sender may have sent this before.
    pub dup: bool,
    /// Quality of Service.
    pub qos: QoS,
    /// As the specification's RETAIN flag.
    pub retain: bool,
}

impl PublishFlags {
    #[inline]
    fn decode(first_byte: u8) -> Result<PublishFlags, DecodeError> {
        let dup = first_byte & DUP != 0;
        // [v3 MQTT-3.3.1-4] [v5 MQTT-3.3.1-4]
        let qos = QoS::from_bits(first_byte >> 1 & 0b11).ok_or(DecodeError::PublishQoSInvalid)?;
        if dup && qos == QoS::AtMostOnce {
            return Err(DecodeError::DuplicateAtQoS0); // [v3 MQTT-3.3.1-2] [v5 MQTT-3.3.1-2]
        }
        Ok(PublishFlags { dup, qos, retain: first_byte & 1 != 0 })
    }

    /// The first byte of a PUBLISH with these flags.
    #[inline]
    #[must_use]
    pub const fn first_byte(self) -> u8 {
        PacketType::Publish.first_byte() | (self.dup as u8) << 3 | self.qos.value() << 1 | self.retain as u8
    }
}

/// All of a PUBLISH that a server sends, but for its payload.
///
/// The parts come from packets that were decoded: the topic is valid, `forwarded` is what
/// [`PublishProperties::write_forwarded`] wrote. In 3.x properties are left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct PublishHead<'a> {
    /// DUP, QoS, RETAIN.
    pub flags: PublishFlags,
    /// The bytes of the topic name; empty when the alias stands for it.
    pub topic: &'a [u8],
    /// Above QoS 0 only.
    pub packet_identifier: Option<PacketIdentifier>,
    /// Properties passed on unchanged, in wire form.
    pub forwarded: &'a [u8],
    /// Seconds that are left.
    pub message_expiry_interval: Option<u32>,
    /// A number for the topic; never 0.
    pub topic_alias: Option<u16>,
    /// Which of the receiver's subscriptions the message is for; none of them 0 or above 268,435,455.
    pub subscription_identifiers: &'a [u32],
}

impl PublishHead<'_> {
    /// Sends a Topic Alias along, or in place of a topic that the receiver knows by it.
    #[inline]
    pub fn set_alias(&mut self, alias: u16, is_known: bool) {
        self.topic_alias = Some(alias);
        if is_known {
            self.topic = &[];
        }
    }

    #[inline]
    fn properties_len(&self) -> usize {
        let expiry_len = if self.message_expiry_interval.is_some() { 5 } else { 0 };
        let alias_len = if self.topic_alias.is_some() { 3 } else { 0 };
        let identifiers = self.subscription_identifiers.iter();
        let identifiers_len: usize = identifiers.map(|&identifier| 1 + variable_integer_len(identifier)).sum();
        self.forwarded.len() + expiry_len + alias_len + identifiers_len
    }

    #[inline]
    fn lengths(&self, version: ProtocolVersion, payload_len: usize) -> Lengths {
        let identifier_len = if self.packet_identifier.is_some() { 2 } else { 0 };
        let properties_len = if version.has_properties() { self.properties_len() } else { 0 };
        let section_len = if version.has_properties() {
            properties_len + variable_integer_len(u32::try_from(properties_len).unwrap_or(u32::MAX))
        } else {
            0
        };
        Lengths { properties_len, remaining_len: 2 + self.topic.len() + identifier_len + section_len + payload_len }
    }
}

struct Lengths {
    properties_len: usize,
    remaining_len: usize,
}

/// The length in bytes of the whole packet that [`encode`] would write.
#[inline]
#[must_use]
pub fn encoded_len(version: ProtocolVersion, head: &PublishHead<'_>, payload_len: usize) -> usize {
    let remaining_len = head.lengths(version, payload_len).remaining_len;
    1 + variable_integer_len(u32::try_from(remaining_len).unwrap_or(u32::MAX)) + remaining_len
}

/// Appends a whole PUBLISH to `out`. Returns where its packet identifier stands, as [`encode_head`] does.
///
/// # Errors
/// When the packet would be longer than MQTT can say, or the topic than 65,535 bytes; `out` is unchanged then.
#[inline]
pub fn encode(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    head: &PublishHead<'_>,
    payload: &[u8],
) -> Result<Option<usize>, EncodeError> {
    let offset = write_head(out, version, head, payload.len(), payload.len())?;
    out.extend_from_slice(payload);
    Ok(offset)
}

/// Appends a PUBLISH up to its payload to `out`; the caller sends `payload_len` bytes after it.
///
/// Returns where the packet identifier stands, counted from the first byte of the packet, so that one encoded packet can
/// be patched for each subscriber with [`patch_packet_identifier`]; `None` at QoS 0.
///
/// # Errors
/// As [`encode`].
#[inline]
pub fn encode_head(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    head: &PublishHead<'_>,
    payload_len: usize,
) -> Result<Option<usize>, EncodeError> {
    write_head(out, version, head, payload_len, 0)
}

/// Writes `packet_identifier` into an encoded PUBLISH, at the offset that [`encode`] or [`encode_head`] returned.
#[inline]
pub fn patch_packet_identifier(packet: &mut [u8], offset: usize, packet_identifier: PacketIdentifier) {
    let place = packet.get_mut(offset..).and_then(|rest| rest.first_chunk_mut());
    debug_assert!(place.is_some(), "the offset comes from encoding this packet");
    if let Some(place) = place {
        *place = packet_identifier.value().to_be_bytes();
    }
}

#[inline]
fn write_head(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    head: &PublishHead<'_>,
    payload_len: usize,
    reserve_len: usize,
) -> Result<Option<usize>, EncodeError> {
    debug_assert_eq!(head.packet_identifier.is_none(), head.flags.qos == QoS::AtMostOnce, "QoS 0 has no identifier");
    debug_assert!(!head.flags.dup || head.flags.qos != QoS::AtMostOnce, "QoS 0 has no DUP");
    debug_assert!(head.topic_alias != Some(0), "0 is no alias");
    let Lengths { properties_len, remaining_len } = head.lengths(version, payload_len);
    if remaining_len > VARIABLE_INTEGER_MAX as usize {
        return Err(EncodeError::VariableIntegerTooLarge);
    }
    if head.topic.len() > TOPIC_BYTES_MAX {
        return Err(EncodeError::FieldTooLong);
    }
    let start = out.len();
    out.reserve(5 + remaining_len - payload_len + reserve_len);
    out.push(head.flags.first_byte());
    push_variable_integer(out, remaining_len as u32);
    out.extend_from_slice(&(head.topic.len() as u16).to_be_bytes());
    out.extend_from_slice(head.topic);
    let mut offset = None;
    if let Some(packet_identifier) = head.packet_identifier {
        offset = Some(out.len() - start);
        out.extend_from_slice(&packet_identifier.value().to_be_bytes());
    }
    if version.has_properties() {
        push_variable_integer(out, properties_len as u32);
        if properties_len > 0 {
            write_properties(out, head);
        }
    }
    Ok(offset)
}

fn write_properties(out: &mut Vec<u8>, head: &PublishHead<'_>) {
    out.extend_from_slice(head.forwarded);
    if let Some(seconds) = head.message_expiry_interval {
        out.push(Property::MessageExpiryInterval(seconds).identifier());
        out.extend_from_slice(&seconds.to_be_bytes());
    }
    if let Some(alias) = head.topic_alias {
        out.push(Property::TopicAlias(NonZeroU16::MIN).identifier());
        out.extend_from_slice(&alias.to_be_bytes());
    }
    for &identifier in head.subscription_identifiers {
        debug_assert!((1..=VARIABLE_INTEGER_MAX).contains(&identifier), "0 and above the maximum are no identifiers");
        out.push(Property::SubscriptionIdentifier(std::num::NonZeroU32::MIN).identifier());
        push_variable_integer(out, identifier);
    }
}
