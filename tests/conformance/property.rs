//! MQTT 5.0 properties as the tests know them: an encoder and a strict parser of their own, independent of the broker's.

use crate::wire::{Reader, put_binary, put_string, put_variable};

/// One property of MQTT 5.0, named as the specification names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Property {
    PayloadFormatIndicator(u8),
    MessageExpiryInterval(u32),
    ContentType(String),
    ResponseTopic(String),
    CorrelationData(Vec<u8>),
    SubscriptionIdentifier(u32),
    SessionExpiryInterval(u32),
    AssignedClientIdentifier(String),
    ServerKeepAlive(u16),
    AuthenticationMethod(String),
    AuthenticationData(Vec<u8>),
    RequestProblemInformation(u8),
    WillDelayInterval(u32),
    RequestResponseInformation(u8),
    ResponseInformation(String),
    ServerReference(String),
    ReasonString(String),
    ReceiveMaximum(u16),
    TopicAliasMaximum(u16),
    TopicAlias(u16),
    MaximumQos(u8),
    RetainAvailable(u8),
    UserProperty(String, String),
    MaximumPacketSize(u32),
    WildcardSubscriptionAvailable(u8),
    SubscriptionIdentifierAvailable(u8),
    SharedSubscriptionAvailable(u8),
}

impl Property {
    /// The identifier of the property, from table 2-4 of the specification.
    pub fn identifier(&self) -> u8 {
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
            Property::MaximumQos(_) => 0x24,
            Property::RetainAvailable(_) => 0x25,
            Property::UserProperty(..) => 0x26,
            Property::MaximumPacketSize(_) => 0x27,
            Property::WildcardSubscriptionAvailable(_) => 0x28,
            Property::SubscriptionIdentifierAvailable(_) => 0x29,
            Property::SharedSubscriptionAvailable(_) => 0x2A,
        }
    }

    /// Appends identifier and value.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.identifier());
        match self {
            Property::PayloadFormatIndicator(value)
            | Property::RequestProblemInformation(value)
            | Property::RequestResponseInformation(value)
            | Property::MaximumQos(value)
            | Property::RetainAvailable(value)
            | Property::WildcardSubscriptionAvailable(value)
            | Property::SubscriptionIdentifierAvailable(value)
            | Property::SharedSubscriptionAvailable(value) => out.push(*value),
            Property::ServerKeepAlive(value)
            | Property::ReceiveMaximum(value)
            | Property::TopicAliasMaximum(value)
            | Property::TopicAlias(value) => out.extend(value.to_be_bytes()),
            Property::MessageExpiryInterval(value)
            | Property::SessionExpiryInterval(value)
            | Property::WillDelayInterval(value)
            | Property::MaximumPacketSize(value) => out.extend(value.to_be_bytes()),
            Property::SubscriptionIdentifier(value) => put_variable(out, *value),
            Property::ContentType(value)
            | Property::ResponseTopic(value)
            | Property::AssignedClientIdentifier(value)
            | Property::AuthenticationMethod(value)
            | Property::ResponseInformation(value)
            | Property::ServerReference(value)
            | Property::ReasonString(value) => put_string(out, value),
            Property::CorrelationData(value) | Property::AuthenticationData(value) => put_binary(out, value),
            Property::UserProperty(name, value) => {
                put_string(out, name);
                put_string(out, value);
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Property, String> {
        let identifier = reader.variable()?;
        Ok(match identifier {
            0x01 => Property::PayloadFormatIndicator(reader.byte()?),
            0x02 => Property::MessageExpiryInterval(reader.four()?),
            0x03 => Property::ContentType(reader.string()?),
            0x08 => Property::ResponseTopic(reader.string()?),
            0x09 => Property::CorrelationData(reader.binary()?),
            0x0B => Property::SubscriptionIdentifier(reader.variable()?),
            0x11 => Property::SessionExpiryInterval(reader.four()?),
            0x12 => Property::AssignedClientIdentifier(reader.string()?),
            0x13 => Property::ServerKeepAlive(reader.two()?),
            0x15 => Property::AuthenticationMethod(reader.string()?),
            0x16 => Property::AuthenticationData(reader.binary()?),
            0x17 => Property::RequestProblemInformation(reader.byte()?),
            0x18 => Property::WillDelayInterval(reader.four()?),
            0x19 => Property::RequestResponseInformation(reader.byte()?),
            0x1A => Property::ResponseInformation(reader.string()?),
            0x1C => Property::ServerReference(reader.string()?),
            0x1F => Property::ReasonString(reader.string()?),
            0x21 => Property::ReceiveMaximum(reader.two()?),
            0x22 => Property::TopicAliasMaximum(reader.two()?),
            0x23 => Property::TopicAlias(reader.two()?),
            0x24 => Property::MaximumQos(reader.byte()?),
            0x25 => Property::RetainAvailable(reader.byte()?),
            0x26 => Property::UserProperty(reader.string()?, reader.string()?),
            0x27 => Property::MaximumPacketSize(reader.four()?),
            0x28 => Property::WildcardSubscriptionAvailable(reader.byte()?),
            0x29 => Property::SubscriptionIdentifierAvailable(reader.byte()?),
            0x2A => Property::SharedSubscriptionAvailable(reader.byte()?),
            other => return Err(format!("unknown property identifier {other:#04x}")),
        })
    }

    /// The kinds of packets in which a *server* may send this property, as first-byte high nibbles.
    fn server_packets(&self) -> &'static [u8] {
        match self.identifier() {
            0x01..=0x09 | 0x0B | 0x23 => &[3],
            0x11 | 0x12 | 0x13 | 0x1A | 0x21 | 0x22 | 0x24 | 0x25 | 0x27 | 0x28 | 0x29 | 0x2A => &[2],
            0x15 | 0x16 => &[2, 15],
            0x1C => &[2, 14],
            0x1F => &[2, 4, 5, 6, 7, 9, 11, 14, 15],
            0x26 => &[2, 3, 4, 5, 6, 7, 9, 11, 14, 15],
            _ => &[],
        }
    }
}

/// Appends a property list with its length.
pub fn put_properties(out: &mut Vec<u8>, properties: &[Property]) {
    let mut list = Vec::new();
    for property in properties {
        property.encode(&mut list);
    }
    put_variable(out, list.len() as u32);
    out.extend(list);
}

/// Reads a property list that a server sent in a packet of `kind`, and refuses what the specification forbids there.
pub fn read_properties(reader: &mut Reader<'_>, kind: u8) -> Result<Vec<Property>, String> {
    let length = reader.variable()? as usize;
    let mut list = reader.part(length)?;
    let mut properties: Vec<Property> = Vec::new();
    while !list.is_empty() {
        let property = Property::decode(&mut list)?;
        if !property.server_packets().contains(&kind) {
            return Err(format!("{property:?} does not belong into a packet of kind {kind}"));
        }
        let repeatable = matches!(property, Property::UserProperty(..) | Property::SubscriptionIdentifier(_));
        if !repeatable && properties.iter().any(|other| other.identifier() == property.identifier()) {
            return Err(format!("{property:?} occurs twice"));
        }
        properties.push(property);
    }
    Ok(properties)
}
