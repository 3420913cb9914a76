//! The properties of MQTT 5.0: one table of identifiers and types for all packets.
//!
//! What always holds: [`Property`] has a value that the specification allows; which packet may carry it, and how often,
//! is decided by `PropertyReader` and the packet's own list. Lists of properties stay in wire form, checked, and are
//! read again when somebody asks.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use super::error::{DecodeError, EncodeError};
use super::read::Reader;
use super::topic::TopicName;
use super::types::QoS;
use super::write::{Counter, Sink};

/// One property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the specification's property names")]
pub enum Property<'a> {
    PayloadFormatIndicator(PayloadFormatIndicator),
    MessageExpiryInterval(u32),
    ContentType(&'a str),
    ResponseTopic(TopicName<'a>),
    CorrelationData(&'a [u8]),
    SubscriptionIdentifier(NonZeroU32),
    SessionExpiryInterval(u32),
    AssignedClientIdentifier(&'a str),
    ServerKeepAlive(u16),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    RequestProblemInformation(bool),
    WillDelayInterval(u32),
    RequestResponseInformation(bool),
    ResponseInformation(&'a str),
    ServerReference(&'a str),
    ReasonString(&'a str),
    ReceiveMaximum(NonZeroU16),
    TopicAliasMaximum(u16),
    TopicAlias(NonZeroU16),
    MaximumQoS(QoS),
    RetainAvailable(bool),
    UserProperty(&'a str, &'a str),
    MaximumPacketSize(NonZeroU32),
    WildcardSubscriptionAvailable(bool),
    SubscriptionIdentifiersAvailable(bool),
    SharedSubscriptionAvailable(bool),
}

/// What the payload of a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PayloadFormatIndicator {
    /// 0: bytes of no said form.
    Unspecified = 0,
    /// 1: UTF-8 encoded text.
    Utf8 = 1,
}

impl<'a> Property<'a> {
    /// The identifier on the wire.
    #[must_use]
    pub const fn identifier(&self) -> u8 {
        match self {
            Property::PayloadFormatIndicator(_) => 0x01,
            Property::MessageExpiryInterval(_) => 0x02,
            Property::ContentType(_) => 0x03,
            Property::ResponseTopic(_) => 0x08,
            Property::CorrelationData(_) => 0x09,
            Property::SubscriptionIdentifier(_) => 0x0B,
            Property::SessionExpiryInterval(_) => 0x11,
            Property::AssignedClientIdentifier(_) => 0x12,
            Property::ServerKeepAlive(_) => 0x13,
            Property::AuthenticationMethod(_) => 0x15,
            Property::AuthenticationData(_) => 0x16,
            Property::RequestProblemInformation(_) => 0x17,
            Property::WillDelayInterval(_) => 0x18,
            Property::RequestResponseInformation(_) => 0x19,
            Property::ResponseInformation(_) => 0x1A,
            Property::ServerReference(_) => 0x1C,
            Property::ReasonString(_) => 0x1F,
            Property::ReceiveMaximum(_) => 0x21,
            Property::TopicAliasMaximum(_) => 0x22,
            Property::TopicAlias(_) => 0x23,
            Property::MaximumQoS(_) => 0x24,
            Property::RetainAvailable(_) => 0x25,
            Property::UserProperty(..) => 0x26,
            Property::MaximumPacketSize(_) => 0x27,
            Property::WildcardSubscriptionAvailable(_) => 0x28,
            Property::SubscriptionIdentifiersAvailable(_) => 0x29,
            Property::SharedSubscriptionAvailable(_) => 0x2A,
        }
    }

    /// The error for a property that this packet cannot carry.
    pub(crate) const fn not_allowed(&self) -> DecodeError {
        DecodeError::PropertyNotAllowed { identifier: self.identifier() }
    }

    fn decode(reader: &mut Reader<'a>) -> Result<Property<'a>, DecodeError> {
        Ok(match reader.variable_integer()? {
            0x01 => Property::PayloadFormatIndicator(match reader.u8()? {
                0 => PayloadFormatIndicator::Unspecified,
                1 => PayloadFormatIndicator::Utf8,
                _ => return Err(DecodeError::PayloadFormatIndicatorInvalid),
            }),
            0x02 => Property::MessageExpiryInterval(reader.u32()?),
            0x03 => Property::ContentType(reader.string()?), // [v5 MQTT-3.3.2-19]
            0x08 => Property::ResponseTopic(response_topic(reader)?),
            0x09 => Property::CorrelationData(reader.binary()?),
            0x0B => Property::SubscriptionIdentifier(
                NonZeroU32::new(reader.variable_integer()?).ok_or(DecodeError::SubscriptionIdentifierZero)?,
            ),
            0x11 => Property::SessionExpiryInterval(reader.u32()?),
            0x12 => Property::AssignedClientIdentifier(reader.string()?),
            0x13 => Property::ServerKeepAlive(reader.u16()?),
            0x15 => Property::AuthenticationMethod(reader.string()?),
            0x16 => Property::AuthenticationData(reader.binary()?),
            0x17 => Property::RequestProblemInformation(boolean(reader, 0x17)?),
            0x18 => Property::WillDelayInterval(reader.u32()?),
            0x19 => Property::RequestResponseInformation(boolean(reader, 0x19)?),
            0x1A => Property::ResponseInformation(reader.string()?),
            0x1C => Property::ServerReference(reader.string()?),
            0x1F => Property::ReasonString(reader.string()?),
            0x21 => Property::ReceiveMaximum(NonZeroU16::new(reader.u16()?).ok_or(DecodeError::ReceiveMaximumZero)?),
            0x22 => Property::TopicAliasMaximum(reader.u16()?),
            0x23 => {
                // [v5 MQTT-3.3.2-8]
                Property::TopicAlias(NonZeroU16::new(reader.u16()?).ok_or(DecodeError::TopicAliasZero)?)
            }
            0x24 => Property::MaximumQoS(match reader.u8()? {
                0 => QoS::AtMostOnce,
                1 => QoS::AtLeastOnce,
                _ => return Err(DecodeError::MaximumQoSInvalid),
            }),
            0x25 => Property::RetainAvailable(boolean(reader, 0x25)?),
            0x26 => Property::UserProperty(reader.string()?, reader.string()?), // [v5 MQTT-1.5.7-1]
            0x27 => {
                Property::MaximumPacketSize(NonZeroU32::new(reader.u32()?).ok_or(DecodeError::MaximumPacketSizeZero)?)
            }
            0x28 => Property::WildcardSubscriptionAvailable(boolean(reader, 0x28)?),
            0x29 => Property::SubscriptionIdentifiersAvailable(boolean(reader, 0x29)?),
            0x2A => Property::SharedSubscriptionAvailable(boolean(reader, 0x2A)?),
            identifier => return Err(DecodeError::PropertyUnknown { identifier }),
        })
    }

    /// Writes identifier and value.
    pub(crate) fn write<S: Sink>(&self, sink: &mut S) -> Result<(), EncodeError> {
        sink.u8(self.identifier());
        match *self {
            Property::PayloadFormatIndicator(value) => sink.u8(value as u8),
            Property::MaximumQoS(value) => sink.u8(value.value().min(1)),
            Property::RequestProblemInformation(value)
            | Property::RequestResponseInformation(value)
            | Property::RetainAvailable(value)
            | Property::WildcardSubscriptionAvailable(value)
            | Property::SubscriptionIdentifiersAvailable(value)
            | Property::SharedSubscriptionAvailable(value) => sink.u8(u8::from(value)),
            Property::ServerKeepAlive(value) | Property::TopicAliasMaximum(value) => sink.u16(value),
            Property::ReceiveMaximum(value) | Property::TopicAlias(value) => sink.u16(value.get()),
            Property::MessageExpiryInterval(value)
            | Property::SessionExpiryInterval(value)
            | Property::WillDelayInterval(value) => sink.u32(value),
            Property::MaximumPacketSize(value) => sink.u32(value.get()),
            Property::SubscriptionIdentifier(value) => sink.variable_integer(value.get())?,
            Property::ContentType(text)
            | Property::AssignedClientIdentifier(text)
            | Property::AuthenticationMethod(text)
            | Property::ResponseInformation(text)
            | Property::ServerReference(text)
            | Property::ReasonString(text) => sink.string(text)?,
            Property::ResponseTopic(topic) => sink.string(topic.as_str())?,
            Property::CorrelationData(data) | Property::AuthenticationData(data) => sink.binary(data)?,
            Property::UserProperty(name, value) => {
                sink.string(name)?;
                sink.string(value)?;
            }
        }
        Ok(())
    }
}

fn boolean(reader: &mut Reader<'_>, identifier: u8) -> Result<bool, DecodeError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::PropertyNotBoolean { identifier }),
    }
}

fn response_topic<'a>(reader: &mut Reader<'a>) -> Result<TopicName<'a>, DecodeError> {
    // [v5 MQTT-3.3.2-13] [v5 MQTT-3.3.2-14]
    TopicName::parse(reader.string()?).map_err(|_| DecodeError::ResponseTopicInvalid)
}

/// Reads a property section from left to right, refuses repetitions, and remembers where the properties that may be
/// repeated stand.
#[derive(Debug)]
pub(crate) struct PropertyReader<'a> {
    section: &'a [u8],
    rest: Reader<'a>,
    /// A bit for each identifier that came.
    seen: u64,
    user_properties: Span,
    subscription_identifiers: Span,
    /// PUBLISH may carry several Subscription Identifiers, SUBSCRIBE one.
    repeats_subscription_identifier: bool,
}

impl<'a> PropertyReader<'a> {
    pub(crate) fn new(section: &'a [u8]) -> Self {
        PropertyReader {
            section,
            rest: Reader::new(section),
            seen: 0,
            user_properties: Span::EMPTY,
            subscription_identifiers: Span::EMPTY,
            repeats_subscription_identifier: false,
        }
    }

    /// A reader for the section of a PUBLISH.
    pub(crate) fn of_publish(section: &'a [u8]) -> Self {
        PropertyReader { repeats_subscription_identifier: true, ..PropertyReader::new(section) }
    }

    /// The next property; `None` at the end of the section.
    pub(crate) fn next_property(&mut self) -> Result<Option<Property<'a>>, DecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let start = self.section.len() - self.rest.len();
        let property = Property::decode(&mut self.rest)?;
        let end = self.section.len() - self.rest.len();
        match property {
            Property::UserProperty(..) => self.user_properties.extend(start, end),
            Property::SubscriptionIdentifier(_) if self.repeats_subscription_identifier => {
                self.subscription_identifiers.extend(start, end);
            }
            _ => {
                let bit = 1 << property.identifier();
                if self.seen & bit != 0 {
                    return Err(DecodeError::PropertyRepeated { identifier: property.identifier() });
                }
                self.seen |= bit;
            }
        }
        Ok(Some(property))
    }

    pub(crate) fn user_properties(&self) -> UserProperties<'a> {
        UserProperties(Pairs::Wire(self.user_properties.of(self.section)))
    }

    pub(crate) fn subscription_identifiers(&self) -> SubscriptionIdentifiers<'a> {
        SubscriptionIdentifiers(Identifiers::Wire(self.subscription_identifiers.of(self.section)))
    }
}

/// From the first property of a kind to the end of the last one; others may stand between them.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    end: usize,
}

impl Span {
    const EMPTY: Span = Span { start: 0, end: 0 };

    fn extend(&mut self, start: usize, end: usize) {
        if self.end == 0 {
            self.start = start;
        }
        self.end = end;
    }

    fn of(self, section: &[u8]) -> &[u8] {
        section.get(self.start..self.end).unwrap_or_default()
    }
}

/// The properties in bytes that were checked before.
fn checked_properties<'a>(wire: &'a [u8]) -> impl Iterator<Item = Property<'a>> + use<'a> {
    let mut rest = Reader::new(wire);
    std::iter::from_fn(move || if rest.is_empty() { None } else { Property::decode(&mut rest).ok() })
}

/// User Properties in their order: checked bytes of a packet, or a list of pairs.
/// // [v5 MQTT-3.3.2-18] [v5 MQTT-3.1.3-10]
#[derive(Clone, Copy, Default)]
pub struct UserProperties<'a>(Pairs<'a>);

#[derive(Clone, Copy)]
enum Pairs<'a> {
    Wire(&'a [u8]),
    List(&'a [(&'a str, &'a str)]),
}

impl Default for Pairs<'_> {
    #[inline]
    fn default() -> Self {
        Pairs::Wire(&[])
    }
}

impl<'a> UserProperties<'a> {
    /// None at all.
    pub const EMPTY: UserProperties<'static> = UserProperties(Pairs::Wire(&[]));

    /// The user properties in `pairs`, each a name and a value.
    #[must_use]
    pub const fn new(pairs: &'a [(&'a str, &'a str)]) -> Self {
        UserProperties(Pairs::List(pairs))
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        match self.0 {
            Pairs::Wire(wire) => wire.is_empty(),
            Pairs::List(list) => list.is_empty(),
        }
    }

    /// Name and value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let (wire, list): (&[u8], &[(&str, &str)]) = match self.0 {
            Pairs::Wire(wire) => (wire, &[]),
            Pairs::List(list) => (&[], list),
        };
        let of_wire = checked_properties(wire).filter_map(|property| match property {
            Property::UserProperty(name, value) => Some((name, value)),
            _ => None,
        });
        of_wire.chain(list.iter().copied())
    }

    pub(crate) fn write<S: Sink>(&self, sink: &mut S) -> Result<(), EncodeError> {
        self.iter().try_for_each(|(name, value)| Property::UserProperty(name, value).write(sink))
    }
}

impl fmt::Debug for UserProperties<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for UserProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for UserProperties<'_> {}

/// The Subscription Identifiers of a PUBLISH: checked bytes of a packet, or a list.
#[derive(Clone, Copy, Default)]
pub struct SubscriptionIdentifiers<'a>(Identifiers<'a>);

#[derive(Clone, Copy)]
enum Identifiers<'a> {
    Wire(&'a [u8]),
    List(&'a [NonZeroU32]),
}

impl Default for Identifiers<'_> {
    #[inline]
    fn default() -> Self {
        Identifiers::Wire(&[])
    }
}

impl<'a> SubscriptionIdentifiers<'a> {
    /// The identifiers in `list`.
    #[must_use]
    pub const fn new(list: &'a [NonZeroU32]) -> Self {
        SubscriptionIdentifiers(Identifiers::List(list))
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        match self.0 {
            Identifiers::Wire(wire) => wire.is_empty(),
            Identifiers::List(list) => list.is_empty(),
        }
    }

    /// Each identifier.
    pub fn iter(&self) -> impl Iterator<Item = NonZeroU32> + use<'a> {
        let (wire, list): (&[u8], &[NonZeroU32]) = match self.0 {
            Identifiers::Wire(wire) => (wire, &[]),
            Identifiers::List(list) => (&[], list),
        };
        let of_wire = checked_properties(wire).filter_map(|property| match property {
            Property::SubscriptionIdentifier(identifier) => Some(identifier),
            _ => None,
        });
        of_wire.chain(list.iter().copied())
    }

    pub(crate) fn write<S: Sink>(&self, sink: &mut S) -> Result<(), EncodeError> {
        self.iter().try_for_each(|identifier| Property::SubscriptionIdentifier(identifier).write(sink))
    }
}

impl fmt::Debug for SubscriptionIdentifiers<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for SubscriptionIdentifiers<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for SubscriptionIdentifiers<'_> {}

/// Properties that a packet describes, to be counted and then written.
pub(crate) trait PropertySection {
    fn write_properties<S: Sink>(&self, sink: &mut S) -> Result<(), EncodeError>;

    /// Writes the length of the section and the section. // [v5 MQTT-2.2.2-1]
    fn write_section<S: Sink>(&self, sink: &mut S) -> Result<(), EncodeError> {
        let mut counter = Counter::default();
        self.write_properties(&mut counter)?;
        sink.variable_integer(counter.variable_integer_value()?)?;
        self.write_properties(sink)
    }

    /// Whether there is no property to write.
    fn is_empty(&self) -> Result<bool, EncodeError> {
        let mut counter = Counter::default();
        self.write_properties(&mut counter)?;
        Ok(counter.is_zero())
    }
}

/// Writes the property of `value` if there is one.
pub(crate) fn write_optional<'a, T, S: Sink>(
    sink: &mut S,
    value: Option<T>,
    property: impl FnOnce(T) -> Property<'a>,
) -> Result<(), EncodeError> {
    value.map_or(Ok(()), |value| property(value).write(sink))
}
