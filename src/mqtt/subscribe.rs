//! SUBSCRIBE.
//!
//! What always holds: a decoded SUBSCRIBE has at least one entry and its options are valid. A filter that is a
//! well-formed string but no topic filter does not spoil the packet: it is refused alone, in the SUBACK.

use std::num::NonZeroU32;

use super::error::{DecodeError, EncodeError, InvalidTopicFilter};
use super::properties::{Property, PropertyReader, PropertySection, UserProperties, write_optional};
use super::read::Reader;
use super::topic::TopicFilter;
use super::types::{PacketIdentifier, PacketType, ProtocolVersion, QoS};
use super::write::{Encode, Sink, VARIABLE_INTEGER_MAX};

/// A SUBSCRIBE packet.
#[derive(Clone, Copy, Debug)]
pub struct Subscribe<'a> {
    /// The identifier that SUBACK repeats.
    pub packet_identifier: PacketIdentifier,
    /// A number that comes back with each message for these subscriptions; 5.0 only.
    pub subscription_identifier: Option<NonZeroU32>,
    /// Pairs of the application.
    pub user_properties: UserProperties<'a>,
    entries: Entries<'a>,
    entries_len: usize,
}

/// What a subscription asks for beside its filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SubscriptionOptions {
    /// The highest QoS to deliver with.
    pub qos: QoS,
    /// Not to the connection that published; 5.0 only.
    pub no_local: bool,
    /// RETAIN goes on as it came; 5.0 only.
    pub retain_as_published: bool,
    /// When to send retained messages; 5.0 only, and the default is what 3.x does.
    pub retain_handling: RetainHandling,
}

/// When the server sends retained messages for a subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// 0: at each SUBSCRIBE.
    #[default]
    SendAtSubscribe = 0,
    /// 1: at a SUBSCRIBE that makes a new subscription.
    SendIfNew = 1,
    /// 2: never.
    DoNotSend = 2,
}

/// An entry of a decoded SUBSCRIBE: a filter, or why it is none, and the options.
pub type SubscribeEntry<'a> = (Result<TopicFilter<'a>, InvalidTopicFilter>, SubscriptionOptions);

#[derive(Clone, Copy, Debug)]
enum Entries<'a> {
    Wire(&'a [u8]),
    List(&'a [(TopicFilter<'a>, SubscriptionOptions)]),
}

impl<'a> Subscribe<'a> {
    /// A SUBSCRIBE without properties.
    #[must_use]
    pub const fn new(
        packet_identifier: PacketIdentifier,
        filters: &'a [(TopicFilter<'a>, SubscriptionOptions)],
    ) -> Subscribe<'a> {
        Subscribe {
            packet_identifier,
            subscription_identifier: None,
            user_properties: UserProperties::EMPTY,
            entries: Entries::List(filters),
            entries_len: filters.len(),
        }
    }

    /// Decodes all that follows the fixed header.
    ///
    /// # Errors
    /// The first violation found.
    pub fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Subscribe<'a>, DecodeError> {
        let mut reader = Reader::new(body);
        let mut subscribe = Subscribe::new(reader.packet_identifier()?, &[]); // [v3 MQTT-2.3.1-1]
        if version.has_properties() {
            subscribe.decode_properties(reader.properties()?)?;
        }
        subscribe.entries = Entries::Wire(reader.remainder());
        while !reader.is_empty() {
            let filter = reader.string()?; // [v3 MQTT-3.8.3-1] [v5 MQTT-3.8.3-1]
            let options = SubscriptionOptions::decode(reader.u8()?, version)?;
            if options.no_local && TopicFilter::parse(filter).is_ok_and(|filter| filter.shared().is_some()) {
                return Err(DecodeError::NoLocalOnSharedSubscription); // [v5 MQTT-3.8.3-4]
            }
            subscribe.entries_len += 1;
        }
        if subscribe.entries_len == 0 {
            return Err(DecodeError::TopicFiltersMissing); // [v3 MQTT-3.8.3-3] [v5 MQTT-3.8.3-2]
        }
        Ok(subscribe)
    }

    fn decode_properties(&mut self, section: &'a [u8]) -> Result<(), DecodeError> {
        let mut reader = PropertyReader::new(section);
        while let Some(property) = reader.next_property()? {
            match property {
                Property::SubscriptionIdentifier(value) => self.subscription_identifier = Some(value),
                Property::UserProperty(..) => {}
                _ => return Err(property.not_allowed()),
            }
        }
        self.user_properties = reader.user_properties();
        Ok(())
    }

    /// How many entries there are.
    #[must_use]
    pub const fn filters_len(&self) -> usize {
        self.entries_len
    }

    /// The entries in order.
    pub fn filters(&self) -> impl Iterator<Item = SubscribeEntry<'a>> + use<'a> {
        let (wire, list): (&[u8], &[(TopicFilter<'_>, SubscriptionOptions)]) = match self.entries {
            Entries::Wire(wire) => (wire, &[]),
            Entries::List(list) => (&[], list),
        };
        let mut reader = Reader::new(wire);
        let of_wire = std::iter::from_fn(move || {
            let filter = reader.string().ok()?;
            // Options of 3.x are a subset of those of 5.0.
            let options = SubscriptionOptions::decode(reader.u8().ok()?, ProtocolVersion::V5).ok()?;
            Some((TopicFilter::parse(filter), options))
        });
        of_wire.chain(list.iter().map(|&(filter, options)| (Ok(filter), options)))
    }
}

impl PartialEq for Subscribe<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.packet_identifier == other.packet_identifier
            && self.subscription_identifier == other.subscription_identifier
            && self.user_properties == other.user_properties
            && self.filters().eq(other.filters())
    }
}

impl Eq for Subscribe<'_> {}

impl SubscriptionOptions {
    /// Options that say nothing but a QoS.
    #[must_use]
    pub const fn with_qos(qos: QoS) -> SubscriptionOptions {
        SubscriptionOptions {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::SendAtSubscribe,
        }
    }

    fn decode(byte: u8, version: ProtocolVersion) -> Result<SubscriptionOptions, DecodeError> {
        let reserved = if version.has_properties() { 0b1100_0000 } else { 0b1111_1100 };
        if byte & reserved != 0 {
            return Err(DecodeError::SubscriptionOptionsReserved); // [v3 MQTT-3-8.3-4] [v5 MQTT-3.8.3-5]
        }
        let qos = QoS::from_bits(byte & 0b11).ok_or(DecodeError::SubscriptionQoSInvalid)?; // [v3 MQTT-3-8.3-4]
        let retain_handling = match byte >> 4 {
            0 => RetainHandling::SendAtSubscribe,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(DecodeError::RetainHandlingInvalid),
        };
        let (no_local, retain_as_published) = (byte & NO_LOCAL != 0, byte & RETAIN_AS_PUBLISHED != 0);
        Ok(SubscriptionOptions { qos, no_local, retain_as_published, retain_handling })
    }

    const fn value(self, version: ProtocolVersion) -> u8 {
        if !version.has_properties() {
            return self.qos.value();
        }
        let no_local = if self.no_local { NO_LOCAL } else { 0 };
        let retain_as_published = if self.retain_as_published { RETAIN_AS_PUBLISHED } else { 0 };
        self.qos.value() | no_local | retain_as_published | (self.retain_handling as u8) << 4
    }
}

const NO_LOCAL: u8 = 0b0100;
const RETAIN_AS_PUBLISHED: u8 = 0b1000;

impl PropertySection for Subscribe<'_> {
    fn write_properties<S: Sink>(&self, sink: &mut S) -> Result<(), EncodeError> {
        write_optional(sink, self.subscription_identifier, Property::SubscriptionIdentifier)?;
        self.user_properties.write(sink)
    }
}

impl Encode for Subscribe<'_> {
    fn first_byte(&self) -> u8 {
        PacketType::Subscribe.first_byte()
    }

    fn write_body<S: Sink>(&self, version: ProtocolVersion, sink: &mut S) -> Result<(), EncodeError> {
        if self.entries_len == 0 {
            return Err(EncodeError::ContentMissing);
        }
        sink.u16(self.packet_identifier.value());
        if version.has_properties() {
            self.write_section(sink)?;
        }
        for (filter, options) in self.filters() {
            sink.string(filter.map_err(|_| EncodeError::ContentMissing)?.as_str())?;
            sink.u8(options.value(version));
        }
        Ok(())
    }
}

/// The largest Subscription Identifier.
pub const SUBSCRIPTION_IDENTIFIER_MAX: u32 = VARIABLE_INTEGER_MAX;
