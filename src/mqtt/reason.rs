//! Reason codes of MQTT 5.0, return codes of MQTT 3.x, and which packet may carry which.
//!
//! What always holds: the sets below are the tables of the specification; nothing else in the codec decides which code
//! a packet may carry.

use std::fmt;

use super::error::DecodeError;
use super::types::{QoS, Sender};

/// Declares the enum, the name of each code and the way back from the wire in one table.
macro_rules! reason_codes {
    ($($variant:ident = $value:literal, $name:literal;)+) => {
        /// A reason code of MQTT 5.0. 0x00 also stands for Normal disconnection and Granted QoS 0.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum ReasonCode {
            $(#[doc = concat!(stringify!($value), ": ", $name, ".")] $variant = $value,)+
        }

        impl ReasonCode {
            /// Every reason code, in the order of its value.
            pub const ALL: &'static [ReasonCode] = &[$(ReasonCode::$variant),+];

            /// The reason code `value`; `None` when MQTT 5.0 has none of that value.
            #[must_use]
            pub const fn from_value(value: u8) -> Option<ReasonCode> {
                match value {
                    $($value => Some(ReasonCode::$variant),)+
                    _ => None,
                }
            }

            /// The name as the specification writes it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(ReasonCode::$variant => $name,)+
                }
            }
        }
    };
}

reason_codes! {
    Success = 0x00, "Success";
    GrantedQoS1 = 0x01, "Granted QoS 1";
    GrantedQoS2 = 0x02, "Granted QoS 2";
    DisconnectWithWillMessage = 0x04, "Disconnect with Will Message";
    NoMatchingSubscribers = 0x10, "No matching subscribers";
    NoSubscriptionExisted = 0x11, "No subscription existed";
    ContinueAuthentication = 0x18, "Continue authentication";
    ReAuthenticate = 0x19, "Re-authenticate";
    UnspecifiedError = 0x80, "Unspecified error";
    MalformedPacket = 0x81, "Malformed Packet";
    ProtocolError = 0x82, "Protocol Error";
    ImplementationSpecificError = 0x83, "Implementation specific error";
    UnsupportedProtocolVersion = 0x84, "Unsupported Protocol Version";
    ClientIdentifierNotValid = 0x85, "Client Identifier not valid";
    BadUserNameOrPassword = 0x86, "Bad User Name or Password";
    NotAuthorized = 0x87, "Not authorized";
    ServerUnavailable = 0x88, "Server unavailable";
    ServerBusy = 0x89, "Server busy";
    Banned = 0x8A, "Banned";
    ServerShuttingDown = 0x8B, "Server shutting down";
    BadAuthenticationMethod = 0x8C, "Bad authentication method";
    KeepAliveTimeout = 0x8D, "Keep Alive timeout";
    SessionTakenOver = 0x8E, "Session taken over";
    TopicFilterInvalid = 0x8F, "Topic Filter invalid";
    TopicNameInvalid = 0x90, "Topic Name invalid";
    PacketIdentifierInUse = 0x91, "Packet Identifier in use";
    PacketIdentifierNotFound = 0x92, "Packet Identifier not found";
    ReceiveMaximumExceeded = 0x93, "Receive Maximum exceeded";
    TopicAliasInvalid = 0x94, "Topic Alias invalid";
    PacketTooLarge = 0x95, "Packet too large";
    MessageRateTooHigh = 0x96, "Message rate too high";
    QuotaExceeded = 0x97, "Quota exceeded";
    AdministrativeAction = 0x98, "Administrative action";
    PayloadFormatInvalid = 0x99, "Payload format invalid";
    RetainNotSupported = 0x9A, "Retain not supported";
    QoSNotSupported = 0x9B, "QoS not supported";
    UseAnotherServer = 0x9C, "Use another server";
    ServerMoved = 0x9D, "Server moved";
    SharedSubscriptionsNotSupported = 0x9E, "Shared Subscriptions not supported";
    ConnectionRateExceeded = 0x9F, "Connection rate exceeded";
    MaximumConnectTime = 0xA0, "Maximum connect time";
    SubscriptionIdentifiersNotSupported = 0xA1, "Subscription Identifiers not supported";
    WildcardSubscriptionsNotSupported = 0xA2, "Wildcard Subscriptions not supported";
}

impl ReasonCode {
    /// The value on the wire.
    #[inline]
    #[must_use]
    pub const fn value(self) -> u8 {
        self as u8
    }

    /// Whether the code says that something failed: 0x80 and above.
    #[inline]
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.value() >= 0x80
    }

    /// The SUBACK code that grants `qos`.
    #[must_use]
    pub const fn granted(qos: QoS) -> ReasonCode {
        match qos {
            QoS::AtMostOnce => ReasonCode::Success,
            QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
            QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
        }
    }

    /// What a CONNACK of MQTT 3.x says instead; `None` when no return code fits, and the connection is to be closed
    /// without a CONNACK. // [v3 MQTT-3.2.2-6]
    #[must_use]
    pub const fn to_connect_return_code(self) -> Option<ConnectReturnCode> {
        Some(match self {
            ReasonCode::Success => ConnectReturnCode::Accepted,
            ReasonCode::UnsupportedProtocolVersion => ConnectReturnCode::UnacceptableProtocolVersion,
            ReasonCode::ClientIdentifierNotValid => ConnectReturnCode::IdentifierRejected,
            ReasonCode::ServerUnavailable
            | ReasonCode::ServerBusy
            | ReasonCode::ServerShuttingDown
            | ReasonCode::QuotaExceeded
            | ReasonCode::UseAnotherServer
            | ReasonCode::ServerMoved
            | ReasonCode::ConnectionRateExceeded => ConnectReturnCode::ServerUnavailable,
            ReasonCode::BadUserNameOrPassword | ReasonCode::BadAuthenticationMethod => {
                ConnectReturnCode::BadUserNameOrPassword
            }
            ReasonCode::NotAuthorized | ReasonCode::Banned => ConnectReturnCode::NotAuthorized,
            _ => return None,
        })
    }

    /// The code `value` when it is one of `allowed`.
    pub(crate) fn decode(value: u8, allowed: ReasonCodeSet) -> Result<ReasonCode, DecodeError> {
        match ReasonCode::from_value(value) {
            Some(code) if allowed.contains(code) => Ok(code),
            Some(_) | None => Err(DecodeError::ReasonCodeNotAllowed),
        }
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "0x{:02X} {}", self.value(), self.name())
    }
}

/// The return code of a CONNACK of MQTT 3.1 and 3.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ConnectReturnCode {
    /// 0: connection accepted.
    Accepted = 0,
    /// 1: the server does not support the level of the protocol.
    UnacceptableProtocolVersion = 1,
    /// 2: the client identifier is not allowed.
    IdentifierRejected = 2,
    /// 3: the service is unavailable.
    ServerUnavailable = 3,
    /// 4: the user name or the password is wrong or malformed.
    BadUserNameOrPassword = 4,
    /// 5: the client is not authorized to connect.
    NotAuthorized = 5,
}

impl ConnectReturnCode {
    /// The return code `value`; `None` for those reserved.
    #[must_use]
    pub const fn from_value(value: u8) -> Option<ConnectReturnCode> {
        Some(match value {
            0 => ConnectReturnCode::Accepted,
            1 => ConnectReturnCode::UnacceptableProtocolVersion,
            2 => ConnectReturnCode::IdentifierRejected,
            3 => ConnectReturnCode::ServerUnavailable,
            4 => ConnectReturnCode::BadUserNameOrPassword,
            5 => ConnectReturnCode::NotAuthorized,
            _ => return None,
        })
    }

    /// The value on the wire.
    #[must_use]
    pub const fn value(self) -> u8 {
        self as u8
    }

    /// The reason code of MQTT 5.0 that says the same.
    #[must_use]
    pub const fn to_reason_code(self) -> ReasonCode {
        match self {
            ConnectReturnCode::Accepted => ReasonCode::Success,
            ConnectReturnCode::UnacceptableProtocolVersion => ReasonCode::UnsupportedProtocolVersion,
            ConnectReturnCode::IdentifierRejected => ReasonCode::ClientIdentifierNotValid,
            ConnectReturnCode::ServerUnavailable => ReasonCode::ServerUnavailable,
            ConnectReturnCode::BadUserNameOrPassword => ReasonCode::BadUserNameOrPassword,
            ConnectReturnCode::NotAuthorized => ReasonCode::NotAuthorized,
        }
    }
}

/// A set of reason codes, a bit each: which codes one packet may carry. No code is larger than 0xBF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReasonCodeSet {
    /// Codes 0x00 to 0x3F.
    successes: u64,
    /// Codes 0x80 to 0xBF.
    errors: u64,
}

impl ReasonCodeSet {
    const fn of(codes: &[ReasonCode]) -> ReasonCodeSet {
        let mut set = ReasonCodeSet { successes: 0, errors: 0 };
        let mut rest = codes;
        while let [code, tail @ ..] = rest {
            let bit = 1 << (code.value() & 0x3F);
            if code.is_error() {
                set.errors |= bit;
            } else {
                set.successes |= bit;
            }
            rest = tail;
        }
        set
    }

    /// Whether `code` is in the set.
    #[inline]
    #[must_use]
    pub const fn contains(self, code: ReasonCode) -> bool {
        let word = if code.is_error() { self.errors } else { self.successes };
        word >> (code.value() & 0x3F) & 1 == 1
    }

    const fn and(self, other: ReasonCodeSet) -> ReasonCodeSet {
        ReasonCodeSet { successes: self.successes | other.successes, errors: self.errors | other.errors }
    }

    /// What a CONNACK may carry. // [v5 MQTT-3.2.2-8]
    pub const CONNACK: ReasonCodeSet = ReasonCodeSet::of(&[
        ReasonCode::Success,
        ReasonCode::UnspecifiedError,
        ReasonCode::MalformedPacket,
        ReasonCode::ProtocolError,
        ReasonCode::ImplementationSpecificError,
        ReasonCode::UnsupportedProtocolVersion,
        ReasonCode::ClientIdentifierNotValid,
        ReasonCode::BadUserNameOrPassword,
        ReasonCode::NotAuthorized,
        ReasonCode::ServerUnavailable,
        ReasonCode::ServerBusy,
        ReasonCode::Banned,
        ReasonCode::BadAuthenticationMethod,
        ReasonCode::TopicNameInvalid,
        ReasonCode::PacketTooLarge,
        ReasonCode::QuotaExceeded,
        ReasonCode::PayloadFormatInvalid,
        ReasonCode::RetainNotSupported,
        ReasonCode::QoSNotSupported,
        ReasonCode::UseAnotherServer,
        ReasonCode::ServerMoved,
        ReasonCode::ConnectionRateExceeded,
    ]);

    /// What a PUBACK and a PUBREC may carry. // [v5 MQTT-3.4.2-1] [v5 MQTT-3.5.2-1]
    pub const PUBACK_PUBREC: ReasonCodeSet = ReasonCodeSet::of(&[
        ReasonCode::Success,
        ReasonCode::NoMatchingSubscribers,
        ReasonCode::UnspecifiedError,
        ReasonCode::ImplementationSpecificError,
        ReasonCode::NotAuthorized,
        ReasonCode::TopicNameInvalid,
        ReasonCode::PacketIdentifierInUse,
        ReasonCode::QuotaExceeded,
        ReasonCode::PayloadFormatInvalid,
    ]);

    /// What a PUBREL and a PUBCOMP may carry. // [v5 MQTT-3.6.2-1] [v5 MQTT-3.7.2-1]
    pub const PUBREL_PUBCOMP: ReasonCodeSet =
        ReasonCodeSet::of(&[ReasonCode::Success, ReasonCode::PacketIdentifierNotFound]);

    /// What a SUBACK of MQTT 5.0 may carry. // [v5 MQTT-3.9.3-2]
    pub const SUBACK: ReasonCodeSet = ReasonCodeSet::of(&[
        ReasonCode::Success,
        ReasonCode::GrantedQoS1,
        ReasonCode::GrantedQoS2,
        ReasonCode::UnspecifiedError,
        ReasonCode::ImplementationSpecificError,
        ReasonCode::NotAuthorized,
        ReasonCode::TopicFilterInvalid,
        ReasonCode::PacketIdentifierInUse,
        ReasonCode::QuotaExceeded,
        ReasonCode::SharedSubscriptionsNotSupported,
        ReasonCode::SubscriptionIdentifiersNotSupported,
        ReasonCode::WildcardSubscriptionsNotSupported,
    ]);

    /// What a SUBACK of MQTT 3.1.1 may carry: 0, 1, 2 and 0x80. // [v3 MQTT-3.9.3-2]
    pub const SUBACK_V311: ReasonCodeSet = ReasonCodeSet::of(&[
        ReasonCode::Success,
        ReasonCode::GrantedQoS1,
        ReasonCode::GrantedQoS2,
        ReasonCode::UnspecifiedError,
    ]);

    /// What a SUBACK of MQTT 3.1 may carry: a granted QoS, for it cannot refuse.
    pub const SUBACK_V31: ReasonCodeSet =
        ReasonCodeSet::of(&[ReasonCode::Success, ReasonCode::GrantedQoS1, ReasonCode::GrantedQoS2]);

    /// What an UNSUBACK may carry. // [v5 MQTT-3.11.3-2]
    pub const UNSUBACK: ReasonCodeSet = ReasonCodeSet::of(&[
        ReasonCode::Success,
        ReasonCode::NoSubscriptionExisted,
        ReasonCode::UnspecifiedError,
        ReasonCode::ImplementationSpecificError,
        ReasonCode::NotAuthorized,
        ReasonCode::TopicFilterInvalid,
        ReasonCode::PacketIdentifierInUse,
    ]);

    /// What a DISCONNECT may carry whoever sends it.
    const DISCONNECT_BOTH: ReasonCodeSet = ReasonCodeSet::of(&[
        ReasonCode::UnspecifiedError,
        ReasonCode::MalformedPacket,
        ReasonCode::ProtocolError,
        ReasonCode::ImplementationSpecificError,
        ReasonCode::TopicNameInvalid,
        ReasonCode::ReceiveMaximumExceeded,
        ReasonCode::TopicAliasInvalid,
        ReasonCode::PacketTooLarge,
        ReasonCode::MessageRateTooHigh,
        ReasonCode::QuotaExceeded,
        ReasonCode::AdministrativeAction,
        ReasonCode::PayloadFormatInvalid,
    ]);

    /// What the DISCONNECT of a client may carry. // [v5 MQTT-3.14.2-1]
    pub const DISCONNECT_CLIENT: ReasonCodeSet = ReasonCodeSet::DISCONNECT_BOTH
        .and(ReasonCodeSet::of(&[ReasonCode::Success, ReasonCode::DisconnectWithWillMessage]));

    /// What the DISCONNECT of a server may carry. // [v5 MQTT-3.14.2-1]
    pub const DISCONNECT_SERVER: ReasonCodeSet = ReasonCodeSet::DISCONNECT_BOTH.and(ReasonCodeSet::of(&[
        ReasonCode::NotAuthorized,
        ReasonCode::ServerBusy,
        ReasonCode::ServerShuttingDown,
        ReasonCode::KeepAliveTimeout,
        ReasonCode::SessionTakenOver,
        ReasonCode::TopicFilterInvalid,
        ReasonCode::RetainNotSupported,
        ReasonCode::QoSNotSupported,
        ReasonCode::UseAnotherServer,
        ReasonCode::ServerMoved,
        ReasonCode::SharedSubscriptionsNotSupported,
        ReasonCode::ConnectionRateExceeded,
        ReasonCode::MaximumConnectTime,
        ReasonCode::SubscriptionIdentifiersNotSupported,
        ReasonCode::WildcardSubscriptionsNotSupported,
    ]));

    /// What an AUTH of a client may carry. // [v5 MQTT-3.15.2-1]
    pub const AUTH_CLIENT: ReasonCodeSet =
        ReasonCodeSet::of(&[ReasonCode::ContinueAuthentication, ReasonCode::ReAuthenticate]);

    /// What an AUTH of a server may carry. // [v5 MQTT-3.15.2-1]
    pub const AUTH_SERVER: ReasonCodeSet =
        ReasonCodeSet::of(&[ReasonCode::Success, ReasonCode::ContinueAuthentication]);

    /// What a DISCONNECT of `sender` may carry.
    #[must_use]
    pub const fn disconnect(sender: Sender) -> ReasonCodeSet {
        match sender {
            Sender::Client => ReasonCodeSet::DISCONNECT_CLIENT,
            Sender::Server => ReasonCodeSet::DISCONNECT_SERVER,
        }
    }

    /// What an AUTH of `sender` may carry.
    #[must_use]
    pub const fn auth(sender: Sender) -> ReasonCodeSet {
        match sender {
            Sender::Client => ReasonCodeSet::AUTH_CLIENT,
            Sender::Server => ReasonCodeSet::AUTH_SERVER,
        }
    }
}

/// The codes of a SUBACK or UNSUBACK, one for each filter and in its order: bytes that were checked, or a list.
#[derive(Clone, Copy)]
pub struct ReasonCodes<'a>(Codes<'a>);

#[derive(Clone, Copy)]
enum Codes<'a> {
    Wire(&'a [u8]),
    List(&'a [ReasonCode]),
}

impl<'a> ReasonCodes<'a> {
    /// The codes in `list`.
    #[must_use]
    pub const fn new(list: &'a [ReasonCode]) -> Self {
        ReasonCodes(Codes::List(list))
    }

    /// Checks each byte of `wire` against `allowed`.
    pub(crate) fn decode(wire: &'a [u8], allowed: ReasonCodeSet) -> Result<Self, DecodeError> {
        if wire.is_empty() {
            return Err(DecodeError::ReasonCodesMissing); // [v3 MQTT-3.8.4-5] [v5 MQTT-3.8.4-6] [v5 MQTT-3.11.3-1]
        }
        for &value in wire {
            ReasonCode::decode(value, allowed)?;
        }
        Ok(ReasonCodes(Codes::Wire(wire)))
    }

    /// How many codes there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self.0 {
            Codes::Wire(wire) => wire.len(),
            Codes::List(list) => list.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The codes in order.
    pub fn iter(&self) -> impl Iterator<Item = ReasonCode> + 'a {
        let (wire, list): (&[u8], &[ReasonCode]) = match self.0 {
            Codes::Wire(wire) => (wire, &[]),
            Codes::List(list) => (&[], list),
        };
        wire.iter().filter_map(|&value| ReasonCode::from_value(value)).chain(list.iter().copied())
    }
}

impl fmt::Debug for ReasonCodes<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for ReasonCodes<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for ReasonCodes<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mqtt_3_2_2_6_a_connack_of_3_says_what_fits_or_nothing() {
        let said = |code: ReasonCode| code.to_connect_return_code().map(ConnectReturnCode::value);
        let fitting = [
            (0x00, 0),
            (0x84, 1),
            (0x85, 2),
            (0x88, 3),
            (0x89, 3),
            (0x8B, 3),
            (0x97, 3),
            (0x9C, 3),
            (0x9D, 3),
            (0x9F, 3),
            (0x86, 4),
            (0x8C, 4),
            (0x87, 5),
            (0x8A, 5),
        ];
        for &code in ReasonCode::ALL {
            let expected = fitting.iter().find(|(value, _)| *value == code.value()).map(|&(_, said)| said);
            assert_eq!(said(code), expected, "{code}");
        }
        for value in 0..=5 {
            let code = ConnectReturnCode::from_value(value).expect("0 to 5 are return codes");
            assert_eq!(said(code.to_reason_code()), Some(value));
        }
        assert_eq!(ConnectReturnCode::from_value(6), None);
    }

    #[test]
    fn codes_come_back_from_their_values() {
        for value in 0..=255 {
            if let Some(code) = ReasonCode::from_value(value) {
                assert_eq!((code.value(), code.is_error()), (value, value >= 0x80));
            }
        }
        assert_eq!(ReasonCode::ALL.len(), 43);
        assert_eq!(ReasonCode::PacketTooLarge.to_string(), "0x95 Packet too large");
        assert_eq!(ReasonCode::granted(QoS::ExactlyOnce), ReasonCode::GrantedQoS2);
    }
}
