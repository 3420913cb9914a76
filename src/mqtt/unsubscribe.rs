//! UNSUBSCRIBE.
//!
//! What always holds: a decoded UNSUBSCRIBE has at least one entry. A string that is no topic filter is refused alone,
//! in the UNSUBACK.

use super::error::{DecodeError, EncodeError, InvalidTopicFilter};
use super::properties::{Property, PropertyReader, PropertySection, UserProperties};
use super::read::Reader;
use super::topic::TopicFilter;
use super::types::{PacketIdentifier, PacketType, ProtocolVersion};
use super::write::{Encode, Sink};

/// An UNSUBSCRIBE packet.
#[derive(Clone, Copy, Debug)]
pub struct Unsubscribe<'a> {
    /// The identifier that UNSUBACK repeats.
    pub packet_identifier: PacketIdentifier,
    /// Pairs of the application.
    pub user_properties: UserProperties<'a>,
    entries: Entries<'a>,
    entries_len: usize,
}

#[derive(Clone, Copy, Debug)]
enum Entries<'a> {
    Wire(&'a [u8]),
    List(&'a [TopicFilter<'a>]),
}

impl<'a> Unsubscribe<'a> {
    /// An UNSUBSCRIBE without properties.
    #[must_use]
    pub const fn new(packet_identifier: PacketIdentifier, filters: &'a [TopicFilter<'a>]) -> Unsubscribe<'a> {
        Unsubscribe {
            packet_identifier,
            user_properties: UserProperties::EMPTY,
            entries: Entries::List(filters),
            entries_len: filters.len(),
        }
    }

    /// Decodes all that follows the fixed header.
    ///
    /// # Errors
    /// The first violation found.
    pub fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Unsubscribe<'a>, DecodeError> {
        let mut reader = Reader::new(body);
        let mut unsubscribe = Unsubscribe::new(reader.packet_identifier()?, &[]); // [v3 MQTT-2.3.1-1]
        if version.has_properties() {
            unsubscribe.decode_properties(reader.properties()?)?;
        }
        unsubscribe.entries = Entries::Wire(reader.remainder());
        while !reader.is_empty() {
            reader.string()?; // [v3 MQTT-3.10.3-1] [v5 MQTT-3.10.3-1]
            unsubscribe.entries_len += 1;
        }
        if unsubscribe.entries_len == 0 {
            return Err(DecodeError::TopicFiltersMissing); // [v3 MQTT-3.10.3-2] [v5 MQTT-3.10.3-2]
        }
        Ok(unsubscribe)
    }

    fn decode_properties(&mut self, section: &'a [u8]) -> Result<(), DecodeError> {
        let mut reader = PropertyReader::new(section);
        while let Some(property) = reader.next_property()? {
            let Property::UserProperty(..) = property else {
                return Err(property.not_allowed());
            };
        }
        self.user_properties = reader.user_properties();
        Ok(())
    }

    /// How many entries there are.
    #[must_use]
    pub const fn filters_len(&self) -> usize {
        self.entries_len
    }

    /// The entries in order: a filter, or why it is none.
    pub fn filters(&self) -> impl Iterator<Item = Result<TopicFilter<'a>, InvalidTopicFilter>> + use<'a> {
        let (wire, list): (&[u8], &[TopicFilter<'_>]) = match self.entries {
            Entries::Wire(wire) => (wire, &[]),
            Entries::List(list) => (&[], list),
        };
        let mut reader = Reader::new(wire);
        let of_wire = std::iter::from_fn(move || reader.string().ok().map(TopicFilter::parse));
        of_wire.chain(list.iter().map(|&filter| Ok(filter)))
    }
}

impl PartialEq for Unsubscribe<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.packet_identifier == other.packet_identifier
            && self.user_properties == other.user_properties
            && self.filters().eq(other.filters())
    }
}

impl Eq for Unsubscribe<'_> {}

impl PropertySection for Unsubscribe<'_> {
    fn write_properties<S: Sink>(&self, sink: &mut S) -> Result<(), EncodeError> {
        self.user_properties.write(sink)
    }
}

impl Encode for Unsubscribe<'_> {
    fn first_byte(&self) -> u8 {
        PacketType::Unsubscribe.first_byte()
    }

    fn write_body<S: Sink>(&self, version: ProtocolVersion, sink: &mut S) -> Result<(), EncodeError> {
        if self.entries_len == 0 {
            return Err(EncodeError::ContentMissing);
        }
        sink.u16(self.packet_identifier.value());
        if version.has_properties() {
            self.write_section(sink)?;
        }
        for filter in self.filters() {
            sink.string(filter.map_err(|_| EncodeError::ContentMissing)?.as_str())?;
        }
        Ok(())
    }
}
