//! What can be wrong with a packet: one variant for each violation.
//!
//! What always holds: an error is `Copy`, carries nothing of the packet but single numbers, and names its reason code in
//! [`DecodeError::reason_code`] and nowhere else.

use thiserror::Error;

use super::reason::ReasonCode;

/// A packet breaks the specification in this way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The packet is larger than the receiver's Maximum Packet Size.
    #[error("the packet is larger than the maximum packet size")]
    PacketTooLarge,
    /// A variable byte integer goes on after its fourth byte.
    #[error("a variable byte integer has more than four bytes")]
    VariableIntegerTooLong,
    /// A variable byte integer is longer than its value needs.
    #[error("a variable byte integer does not use the shortest form")]
    VariableIntegerNotShortest,
    /// Packet type 0.
    #[error("the packet type 0 is reserved")]
    PacketTypeReserved,
    /// The flags of the first byte are not those that the packet type fixes.
    #[error("reserved flags of the fixed header are wrong")]
    FixedHeaderFlagsInvalid,
    /// A PUBLISH with both QoS bits set.
    #[error("the QoS of a PUBLISH is 3")]
    PublishQoSInvalid,
    /// A PUBLISH of QoS 0 with DUP set.
    #[error("DUP is set on a PUBLISH of QoS 0")]
    DuplicateAtQoS0,
    /// The version has no packet of this type.
    #[error("this version of MQTT has no such packet")]
    PacketTypeNotInVersion,
    /// Only the other side may send a packet of this type.
    #[error("this side must not send such a packet")]
    PacketTypeNotFromSender,
    /// A field goes beyond the end of the packet or of its property section.
    #[error("a field goes beyond the end of the packet")]
    BodyTooShort,
    /// Bytes are left after the last field.
    #[error("bytes are left after the last field")]
    TrailingBytes,
    /// A string is not well-formed UTF-8.
    #[error("a string is not well-formed UTF-8")]
    StringNotUtf8,
    /// A string contains U+0000.
    #[error("a string contains U+0000")]
    StringContainsNull,
    /// A packet identifier is zero.
    #[error("the packet identifier is zero")]
    PacketIdentifierZero,

    /// CONNECT names a protocol that is not MQTT.
    #[error("the protocol name is not that of MQTT")]
    ProtocolNameUnknown,
    /// CONNECT names MQTT at a level that is not served.
    #[error("the protocol level {level} is not supported")]
    ProtocolVersionUnsupported {
        /// The level that CONNECT asked for.
        level: u8,
    },
    /// The reserved flag of CONNECT is set.
    #[error("the reserved flag of CONNECT is set")]
    ConnectFlagReserved,
    /// The Will QoS is 3.
    #[error("the Will QoS is 3")]
    WillQoSInvalid,
    /// Will QoS or Will Retain is set without the Will flag.
    #[error("Will QoS or Will Retain is set without the Will flag")]
    WillFlagsWithoutWill,
    /// CONNECT of 3.x has a password and no user name.
    #[error("a password comes without a user name")]
    PasswordWithoutUserName,
    /// The Will topic is empty or has a wildcard.
    #[error("the Will topic is no topic name")]
    WillTopicInvalid,
    /// Authentication Data without an Authentication Method.
    #[error("authentication data comes without an authentication method")]
    AuthenticationDataWithoutMethod,
    /// An AUTH packet without an Authentication Method.
    #[error("AUTH has no authentication method")]
    AuthenticationMethodMissing,
    /// Bits 7 to 1 of the CONNACK flags, or all of them in 3.1, are not 0.
    #[error("reserved flags of CONNACK are set")]
    ConnAckFlagsReserved,
    /// A CONNACK that refuses says Session Present.
    #[error("a refusing CONNACK says that a session is present")]
    SessionPresentOnRefusal,
    /// A CONNACK of 3.x has a return code above 5.
    #[error("the return code of CONNACK is reserved")]
    ConnectReturnCodeUnknown,
    /// The reason code is unknown, or not allowed in this packet from this side.
    #[error("the reason code is not allowed in this packet")]
    ReasonCodeNotAllowed,
    /// A SUBACK or UNSUBACK without any code.
    #[error("there is no reason code")]
    ReasonCodesMissing,

    /// The topic name of a PUBLISH has a wildcard, or is empty in 3.x.
    #[error("the topic name is invalid")]
    TopicNameInvalid,
    /// A PUBLISH of 5.0 has neither a topic name nor a topic alias.
    #[error("there is neither a topic name nor a topic alias")]
    TopicNameMissing,
    /// The Response Topic is empty or has a wildcard.
    #[error("the response topic is no topic name")]
    ResponseTopicInvalid,
    /// Topic Alias 0.
    #[error("the topic alias is zero")]
    TopicAliasZero,
    /// A SUBSCRIBE or UNSUBSCRIBE without any filter.
    #[error("there is no topic filter")]
    TopicFiltersMissing,
    /// Reserved bits of the subscription options are set.
    #[error("reserved bits of the subscription options are set")]
    SubscriptionOptionsReserved,
    /// A subscription asks for QoS 3.
    #[error("a subscription asks for QoS 3")]
    SubscriptionQoSInvalid,
    /// Retain Handling 3.
    #[error("retain handling is 3")]
    RetainHandlingInvalid,
    /// No Local on a shared subscription.
    #[error("No Local is set on a shared subscription")]
    NoLocalOnSharedSubscription,

    /// A property identifier that MQTT 5.0 does not have.
    #[error("the property {identifier} is unknown")]
    PropertyUnknown {
        /// The identifier as it came.
        identifier: u32,
    },
    /// A property that this packet cannot carry.
    #[error("the property {identifier} is not allowed in this packet")]
    PropertyNotAllowed {
        /// The identifier of the property.
        identifier: u8,
    },
    /// A property that may come once came twice.
    #[error("the property {identifier} is repeated")]
    PropertyRepeated {
        /// The identifier of the property.
        identifier: u8,
    },
    /// A property of the kind that is 0 or 1 is neither.
    #[error("the property {identifier} is neither 0 nor 1")]
    PropertyNotBoolean {
        /// The identifier of the property.
        identifier: u8,
    },
    /// Payload Format Indicator above 1.
    #[error("the payload format indicator is neither 0 nor 1")]
    PayloadFormatIndicatorInvalid,
    /// Maximum QoS above 1.
    #[error("the maximum QoS is neither 0 nor 1")]
    MaximumQoSInvalid,
    /// Receive Maximum 0.
    #[error("the receive maximum is zero")]
    ReceiveMaximumZero,
    /// Maximum Packet Size 0.
    #[error("the maximum packet size is zero")]
    MaximumPacketSizeZero,
    /// Subscription Identifier 0.
    #[error("the subscription identifier is zero")]
    SubscriptionIdentifierZero,
    /// A client's PUBLISH has a Subscription Identifier.
    #[error("a PUBLISH of a client has a subscription identifier")]
    SubscriptionIdentifierFromClient,
    /// A server's DISCONNECT has a Session Expiry Interval.
    #[error("a DISCONNECT of a server has a session expiry interval")]
    SessionExpiryIntervalFromServer,
    /// A client's DISCONNECT has a Server Reference.
    #[error("a DISCONNECT of a client has a server reference")]
    ServerReferenceFromClient,
}

impl DecodeError {
    /// What a CONNACK or DISCONNECT of MQTT 5.0 says about it. // [v5 MQTT-4.13.1-1]
    #[must_use]
    pub const fn reason_code(self) -> ReasonCode {
        match self {
            DecodeError::PacketTooLarge => ReasonCode::PacketTooLarge,
            DecodeError::ProtocolNameUnknown | DecodeError::ProtocolVersionUnsupported { .. } => {
                ReasonCode::UnsupportedProtocolVersion // [v5 MQTT-3.1.2-1] [v5 MQTT-3.1.2-2]
            }
            DecodeError::TopicNameInvalid | DecodeError::WillTopicInvalid => ReasonCode::TopicNameInvalid,
            DecodeError::TopicAliasZero => ReasonCode::TopicAliasInvalid,
            DecodeError::VariableIntegerTooLong
            | DecodeError::VariableIntegerNotShortest
            | DecodeError::PacketTypeReserved
            | DecodeError::FixedHeaderFlagsInvalid
            | DecodeError::PublishQoSInvalid
            | DecodeError::DuplicateAtQoS0
            | DecodeError::BodyTooShort
            | DecodeError::TrailingBytes
            | DecodeError::StringNotUtf8
            | DecodeError::StringContainsNull
            | DecodeError::ConnectFlagReserved
            | DecodeError::WillQoSInvalid
            | DecodeError::WillFlagsWithoutWill
            | DecodeError::PasswordWithoutUserName
            | DecodeError::ConnAckFlagsReserved
            | DecodeError::SubscriptionOptionsReserved
            | DecodeError::PropertyUnknown { .. }
            | DecodeError::PropertyNotAllowed { .. } => ReasonCode::MalformedPacket,
            DecodeError::PacketTypeNotInVersion
            | DecodeError::PacketTypeNotFromSender
            | DecodeError::PacketIdentifierZero
            | DecodeError::AuthenticationDataWithoutMethod
            | DecodeError::AuthenticationMethodMissing
            | DecodeError::SessionPresentOnRefusal
            | DecodeError::ConnectReturnCodeUnknown
            | DecodeError::ReasonCodeNotAllowed
            | DecodeError::ReasonCodesMissing
            | DecodeError::TopicNameMissing
            | DecodeError::ResponseTopicInvalid
            | DecodeError::TopicFiltersMissing
            | DecodeError::SubscriptionQoSInvalid
            | DecodeError::RetainHandlingInvalid
            | DecodeError::NoLocalOnSharedSubscription
            | DecodeError::PropertyRepeated { .. }
            | DecodeError::PropertyNotBoolean { .. }
            | DecodeError::PayloadFormatIndicatorInvalid
            | DecodeError::MaximumQoSInvalid
            | DecodeError::ReceiveMaximumZero
            | DecodeError::MaximumPacketSizeZero
            | DecodeError::SubscriptionIdentifierZero
            | DecodeError::SubscriptionIdentifierFromClient
            | DecodeError::SessionExpiryIntervalFromServer
            | DecodeError::ServerReferenceFromClient => ReasonCode::ProtocolError,
        }
    }
}

/// A packet cannot be written. Nothing of it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// A string or binary field is longer than 65,535 bytes.
    #[error("a field is longer than 65,535 bytes")]
    FieldTooLong,
    /// A string contains U+0000.
    #[error("a string contains U+0000")]
    StringContainsNull,
    /// A number does not fit a variable byte integer, or the packet is longer than one can say.
    #[error("a number does not fit a variable byte integer")]
    VariableIntegerTooLarge,
    /// The version has no packet of this type.
    #[error("this version of MQTT has no such packet")]
    PacketTypeNotInVersion,
    /// This packet cannot carry this reason code in this version.
    #[error("the reason code is not allowed in this packet")]
    ReasonCodeNotAllowed,
    /// The packet needs a topic filter, a reason code, a topic name or an authentication method.
    #[error("the packet lacks what it must have")]
    ContentMissing,
    /// A PUBLISH has a packet identifier at QoS 0, or none above, or DUP at QoS 0.
    #[error("packet identifier, DUP and QoS disagree")]
    PublishFlagsDisagree,
    /// CONNECT of 3.x has a password and no user name.
    #[error("a password comes without a user name")]
    PasswordWithoutUserName,
    /// Authentication Data without an Authentication Method.
    #[error("authentication data comes without an authentication method")]
    AuthenticationDataWithoutMethod,
}

/// A text is no topic filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidTopicFilter {
    /// It is empty.
    #[error("a topic filter has at least one character")]
    Empty,
    /// It is longer than 65,535 bytes.
    #[error("a topic filter has at most 65,535 bytes")]
    TooLong,
    /// It contains U+0000.
    #[error("a topic filter does not contain U+0000")]
    ContainsNull,
    /// `#` is not the whole of the last level.
    #[error("# stands alone in the last level")]
    MultiLevelWildcardMisplaced,
    /// `+` is not the whole of a level.
    #[error("+ stands alone in its level")]
    SingleLevelWildcardMisplaced,
    /// The group of a shared subscription is empty or has a wildcard.
    #[error("the name of a share group has at least one character and no wildcard")]
    ShareGroupInvalid,
    /// A shared subscription has no filter after its group.
    #[error("a shared subscription has a filter after its group")]
    SharedFilterMissing,
}

/// A text is no topic name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidTopicName {
    /// It is empty.
    #[error("a topic name has at least one character")]
    Empty,
    /// It is longer than 65,535 bytes.
    #[error("a topic name has at most 65,535 bytes")]
    TooLong,
    /// It contains U+0000.
    #[error("a topic name does not contain U+0000")]
    ContainsNull,
    /// It contains a wildcard.
    #[error("a topic name has no wildcards")]
    ContainsWildcard,
}
