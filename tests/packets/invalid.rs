//! Packets that are not valid, and why.

use ringmq::mqtt::{DecodeError, ProtocolVersion, Sender};

use super::{Case, Expected, bytes};
use ProtocolVersion::{V5, V31, V311};
use Sender::{Client, Server};

/// Every invalid case.
pub fn cases() -> Vec<Case> {
    [
        frames(),
        directions(),
        fields(),
        connects(),
        connacks(),
        publishes(),
        acks(),
        subscriptions(),
        endings(),
        properties(),
    ]
    .concat()
}

type Row = (&'static str, ProtocolVersion, Sender, &'static str, DecodeError);

fn table(rows: &[Row]) -> Vec<Case> {
    let case = |&(name, version, sender, text, error): &Row| Case {
        name,
        version,
        sender,
        bytes: bytes(text),
        expected: Expected::Error(error),
    };
    rows.iter().map(case).collect()
}

fn frames() -> Vec<Case> {
    use DecodeError::{
        DuplicateAtQoS0, FixedHeaderFlagsInvalid, PacketTypeReserved, PublishQoSInvalid, VariableIntegerNotShortest,
        VariableIntegerTooLong,
    };
    let mut cases = table(&[
        ("packet type 0", V311, Client, "00 00", PacketTypeReserved),
        ("a length of five bytes", V311, Client, "30 80 80 80 80 01", VariableIntegerTooLong),
        ("a length that is not the shortest", V311, Client, "C0 80 00", VariableIntegerNotShortest),
        ("QoS 3", V311, Client, "36 * ['a'] 0001", PublishQoSInvalid),
        ("QoS 3 with DUP", V5, Server, "3E * ['a'] 0001 {}", PublishQoSInvalid),
        ("DUP at QoS 0", V5, Client, "38 * ['a'] {}", DuplicateAtQoS0),
        ("DUP at QoS 0 with RETAIN", V311, Server, "39 * ['a']", DuplicateAtQoS0),
    ]);
    // Each wrong set of flags of each packet type that has fixed flags.
    let fixed = [
        (1, 0, Client),
        (2, 0, Server),
        (4, 0, Client),
        (5, 0, Client),
        (6, 2, Client),
        (7, 0, Client),
        (8, 2, Client),
        (9, 0, Server),
        (10, 2, Client),
        (11, 0, Server),
        (12, 0, Client),
        (13, 0, Server),
        (14, 0, Client),
        (15, 0, Client),
    ];
    for (packet_type, right, sender) in fixed {
        for flags in (0..16).filter(|&flags| flags != right) {
            cases.push(Case {
                name: "flags that the packet type does not have",
                version: V5,
                sender,
                bytes: vec![packet_type << 4 | flags, 0],
                expected: Expected::Error(FixedHeaderFlagsInvalid),
            });
        }
    }
    cases
}

fn directions() -> Vec<Case> {
    use DecodeError::{PacketTypeNotFromSender, PacketTypeNotInVersion};
    table(&[
        ("CONNECT of a server", V311, Server, "10 * ['MQTT'] 04 02 0000 []", PacketTypeNotFromSender),
        ("CONNACK of a client", V311, Client, "20 02 00 00", PacketTypeNotFromSender),
        ("SUBSCRIBE of a server", V5, Server, "82 * 0001 {} ['a'] 00", PacketTypeNotFromSender),
        ("SUBACK of a client", V311, Client, "90 03 0001 00", PacketTypeNotFromSender),
        ("UNSUBSCRIBE of a server", V311, Server, "A2 * 0001 ['a']", PacketTypeNotFromSender),
        ("UNSUBACK of a client", V311, Client, "B0 02 0001", PacketTypeNotFromSender),
        ("PINGREQ of a server", V5, Server, "C0 00", PacketTypeNotFromSender),
        ("PINGRESP of a client", V5, Client, "D0 00", PacketTypeNotFromSender),
        ("DISCONNECT of a server in 3.1.1", V311, Server, "E0 00", PacketTypeNotFromSender),
        ("DISCONNECT of a server in 3.1", V31, Server, "E0 00", PacketTypeNotFromSender),
        ("AUTH in 3.1.1", V311, Client, "F0 00", PacketTypeNotInVersion),
        ("AUTH in 3.1", V31, Server, "F0 00", PacketTypeNotInVersion),
    ])
}

fn fields() -> Vec<Case> {
    use DecodeError::{
        BodyTooShort, PacketIdentifierZero, StringContainsNull, StringNotUtf8, TrailingBytes,
        VariableIntegerNotShortest, VariableIntegerTooLong,
    };
    table(&[
        ("a surrogate", V311, Client, "30 * [ED A0 80]", StringNotUtf8),
        ("an overlong form", V5, Client, "30 * [C0 80] {}", StringNotUtf8),
        ("beyond U+10FFFF", V5, Client, "30 * [F4 90 80 80] {}", StringNotUtf8),
        ("half a character", V5, Client, "30 * ['a' C3] {}", StringNotUtf8),
        ("U+0000 in a topic", V311, Client, "30 * ['a' 00 'b']", StringContainsNull),
        ("U+0000 in a long topic", V5, Client, "30 * ['abcdefghijk' 00 'abcdefgh'] {}", StringContainsNull),
        ("U+0000 in a filter", V311, Client, "82 * 0001 [00] 00", StringContainsNull),
        ("U+0000 in a filter to leave", V5, Client, "A2 * 0001 {} ['a' 00]", StringContainsNull),
        ("bad UTF-8 in a filter", V311, Client, "82 * 0001 [FF] 00", StringNotUtf8),
        ("bad UTF-8 in a filter to leave", V5, Client, "A2 * 0001 {} [FF]", StringNotUtf8),
        ("a topic longer than the packet", V311, Client, "30 03 00 02 'a'", BodyTooShort),
        ("half a length", V311, Client, "30 01 00", BodyTooShort),
        ("an empty PUBLISH", V311, Client, "30 00", BodyTooShort),
        ("properties longer than the packet", V5, Client, "30 * ['a'] 02 01", BodyTooShort),
        ("no property length", V5, Client, "30 * ['a']", BodyTooShort),
        ("a property length that is not the shortest", V5, Client, "30 * ['a'] 80 00", VariableIntegerNotShortest),
        ("a property length of five bytes", V5, Client, "30 * ['a'] 80 80 80 80 01", VariableIntegerTooLong),
        ("a property length that goes on", V5, Client, "30 * ['a'] 80", BodyTooShort),
        ("PUBLISH identifier 0", V311, Client, "32 * ['a'] 0000", PacketIdentifierZero),
        ("PUBLISH without identifier", V5, Client, "32 * ['a'] 00", BodyTooShort),
        ("PUBACK identifier 0", V311, Client, "40 02 0000", PacketIdentifierZero),
        ("SUBSCRIBE identifier 0", V311, Client, "82 * 0000 ['a'] 00", PacketIdentifierZero),
        ("SUBACK identifier 0", V311, Server, "90 03 0000 00", PacketIdentifierZero),
        ("UNSUBSCRIBE identifier 0", V5, Client, "A2 * 0000 {} ['a']", PacketIdentifierZero),
        ("UNSUBACK identifier 0", V5, Server, "B0 * 0000 {} 00", PacketIdentifierZero),
        ("bytes after PINGREQ", V311, Client, "C0 01 00", TrailingBytes),
        ("bytes after PINGRESP", V5, Server, "D0 01 00", TrailingBytes),
        ("bytes after PUBACK in 3.1.1", V311, Client, "40 03 0001 00", TrailingBytes),
        ("bytes after UNSUBACK in 3.1.1", V311, Server, "B0 03 0001 00", TrailingBytes),
        ("bytes after DISCONNECT in 3.1.1", V311, Client, "E0 01 00", TrailingBytes),
        ("bytes after PUBACK", V5, Client, "40 * 0001 00 {} 00", TrailingBytes),
        ("bytes after DISCONNECT", V5, Client, "E0 * 00 {} 00", TrailingBytes),
        ("bytes after AUTH", V5, Client, "F0 * 18 { 15 ['m'] } 00", TrailingBytes),
        ("bytes after CONNECT", V311, Client, "10 * ['MQTT'] 04 02 0000 [] 00", TrailingBytes),
        ("bytes after CONNACK", V311, Server, "20 03 00 00 00", TrailingBytes),
        ("bytes after CONNACK in 5.0", V5, Server, "20 * 00 00 {} 00", TrailingBytes),
    ])
}

fn connects() -> Vec<Case> {
    use DecodeError::{
        AuthenticationDataWithoutMethod, BodyTooShort, ConnectFlagReserved, PasswordWithoutUserName,
        ProtocolNameUnknown, ProtocolVersionUnsupported, StringContainsNull, StringNotUtf8, TrailingBytes,
        WillFlagsWithoutWill, WillQoSInvalid, WillTopicInvalid,
    };
    table(&[
        ("another protocol", V311, Client, "10 * ['MQTS'] 04 02 0000 []", ProtocolNameUnknown),
        ("the name in lower case", V5, Client, "10 * ['mqtt'] 05 02 0000 {} []", ProtocolNameUnknown),
        ("an empty name", V311, Client, "10 * [] 04 02 0000 []", ProtocolNameUnknown),
        ("level 6", V5, Client, "10 * ['MQTT'] 06 02 0000 []", ProtocolVersionUnsupported { level: 6 }),
        ("level 3 of MQTT", V311, Client, "10 * ['MQTT'] 03 02 0000 []", ProtocolVersionUnsupported { level: 3 }),
        ("level 4 of MQIsdp", V31, Client, "10 * ['MQIsdp'] 04 02 0000 []", ProtocolVersionUnsupported { level: 4 }),
        ("a bridge of 5.0", V5, Client, "10 * ['MQTT'] 85 02 0000 []", ProtocolVersionUnsupported { level: 0x85 }),
        ("the reserved flag", V311, Client, "10 * ['MQTT'] 04 03 0000 []", ConnectFlagReserved),
        ("the reserved flag in 5.0", V5, Client, "10 * ['MQTT'] 05 01 0000 {} []", ConnectFlagReserved),
        ("the reserved flag in 3.1", V31, Client, "10 * ['MQIsdp'] 03 01 0000 []", ConnectFlagReserved),
        ("Will QoS 3", V311, Client, "10 * ['MQTT'] 04 1E 0000 [] ['w'] []", WillQoSInvalid),
        ("Will QoS without Will", V311, Client, "10 * ['MQTT'] 04 0A 0000 []", WillFlagsWithoutWill),
        ("Will QoS without Will in 5.0", V5, Client, "10 * ['MQTT'] 05 12 0000 {} []", WillFlagsWithoutWill),
        ("Will Retain without Will", V311, Client, "10 * ['MQTT'] 04 22 0000 []", WillFlagsWithoutWill),
        ("Will Retain without Will in 5.0", V5, Client, "10 * ['MQTT'] 05 22 0000 {} []", WillFlagsWithoutWill),
        ("Will without topic", V311, Client, "10 * ['MQTT'] 04 06 0000 []", BodyTooShort),
        ("Will without message", V311, Client, "10 * ['MQTT'] 04 06 0000 [] ['w']", BodyTooShort),
        ("Will without properties", V5, Client, "10 * ['MQTT'] 05 06 0000 {} []", BodyTooShort),
        ("Will fields without the flag", V311, Client, "10 * ['MQTT'] 04 02 0000 [] ['w'] []", TrailingBytes),
        ("an empty Will topic", V311, Client, "10 * ['MQTT'] 04 06 0000 [] [] []", WillTopicInvalid),
        ("a wildcard in the Will topic", V5, Client, "10 * ['MQTT'] 05 06 0000 {} [] {} ['w/#'] []", WillTopicInvalid),
        ("U+0000 in the Will topic", V311, Client, "10 * ['MQTT'] 04 06 0000 [] [00] []", StringContainsNull),
        ("bad UTF-8 in the Will topic", V311, Client, "10 * ['MQTT'] 04 06 0000 [] [FF] []", StringNotUtf8),
        ("bad UTF-8 in the client id", V311, Client, "10 * ['MQTT'] 04 02 0000 [FF]", StringNotUtf8),
        ("U+0000 in the client id", V5, Client, "10 * ['MQTT'] 05 02 0000 {} ['a' 00]", StringContainsNull),
        ("no client id", V311, Client, "10 * ['MQTT'] 04 02 0000", BodyTooShort),
        ("bad UTF-8 in the user name", V311, Client, "10 * ['MQTT'] 04 82 0000 [] [FF]", StringNotUtf8),
        ("U+0000 in the user name", V5, Client, "10 * ['MQTT'] 05 82 0000 {} [] [00]", StringContainsNull),
        ("no user name", V311, Client, "10 * ['MQTT'] 04 82 0000 []", BodyTooShort),
        ("no user name in 5.0", V5, Client, "10 * ['MQTT'] 05 82 0000 {} []", BodyTooShort),
        ("no password", V311, Client, "10 * ['MQTT'] 04 C2 0000 [] ['u']", BodyTooShort),
        ("a user name without the flag", V311, Client, "10 * ['MQTT'] 04 02 0000 [] ['u']", TrailingBytes),
        ("a password without the flag", V311, Client, "10 * ['MQTT'] 04 82 0000 [] ['u'] ['p']", TrailingBytes),
        ("a lone password", V311, Client, "10 * ['MQTT'] 04 42 0000 [] ['p']", PasswordWithoutUserName),
        ("a lone password in 3.1", V31, Client, "10 * ['MQIsdp'] 03 42 0000 [] ['p']", PasswordWithoutUserName),
        (
            "authentication data alone",
            V5,
            Client,
            "10 * ['MQTT'] 05 02 0000 { 16 ['d'] } []",
            AuthenticationDataWithoutMethod,
        ),
    ])
}

fn connacks() -> Vec<Case> {
    use DecodeError::{
        AuthenticationDataWithoutMethod, BodyTooShort, ConnAckFlagsReserved, ConnectReturnCodeUnknown,
        ReasonCodeNotAllowed, SessionPresentOnRefusal,
    };
    table(&[
        ("reserved flags", V311, Server, "20 02 02 00", ConnAckFlagsReserved),
        ("reserved flags in 5.0", V5, Server, "20 03 81 00 00", ConnAckFlagsReserved),
        ("session present in 3.1", V31, Server, "20 02 01 00", ConnAckFlagsReserved),
        ("session present on refusal", V311, Server, "20 02 01 05", SessionPresentOnRefusal),
        ("session present on refusal in 5.0", V5, Server, "20 03 01 87 00", SessionPresentOnRefusal),
        ("return code 6", V311, Server, "20 02 00 06", ConnectReturnCodeUnknown),
        ("a code of DISCONNECT", V5, Server, "20 03 00 8E 00", ReasonCodeNotAllowed),
        ("an unknown code", V5, Server, "20 03 00 03 00", ReasonCodeNotAllowed),
        ("no properties", V5, Server, "20 02 00 00", BodyTooShort),
        ("no code", V311, Server, "20 01 00", BodyTooShort),
        ("authentication data alone", V5, Server, "20 * 00 00 { 16 ['d'] }", AuthenticationDataWithoutMethod),
    ])
}

fn publishes() -> Vec<Case> {
    use DecodeError::{
        ResponseTopicInvalid, SubscriptionIdentifierFromClient, SubscriptionIdentifierZero, TopicAliasZero,
        TopicNameInvalid, TopicNameMissing,
    };
    table(&[
        ("# in a topic", V311, Client, "30 * ['a/#']", TopicNameInvalid),
        ("+ in a topic", V5, Client, "30 * ['+/a'] {}", TopicNameInvalid),
        ("+ in the middle of a topic", V5, Server, "30 * ['abcdefghi+jklmnopqrst'] {}", TopicNameInvalid),
        ("an empty topic", V311, Client, "30 * []", TopicNameInvalid),
        ("an empty topic in 3.1", V31, Server, "30 * []", TopicNameInvalid),
        ("neither topic nor alias", V5, Client, "30 * [] {}", TopicNameMissing),
        ("alias 0", V5, Client, "30 * ['a'] { 23 0000 }", TopicAliasZero),
        ("subscription identifier", V5, Client, "30 * ['a'] { 0B 01 }", SubscriptionIdentifierFromClient),
        ("subscription identifier 0", V5, Server, "30 * ['a'] { 0B 00 }", SubscriptionIdentifierZero),
        ("a wildcard in the response topic", V5, Client, "30 * ['a'] { 08 ['r/+'] }", ResponseTopicInvalid),
        ("an empty response topic", V5, Client, "30 * ['a'] { 08 [] }", ResponseTopicInvalid),
    ])
}

fn acks() -> Vec<Case> {
    use DecodeError::{BodyTooShort, ReasonCodeNotAllowed};
    table(&[
        ("PUBACK with a code of PUBREL", V5, Client, "40 03 0001 92", ReasonCodeNotAllowed),
        ("PUBREC with an unknown code", V5, Client, "50 03 0001 7F", ReasonCodeNotAllowed),
        ("PUBREC with a code above all", V5, Client, "50 03 0001 FF", ReasonCodeNotAllowed),
        ("PUBREL with a code of PUBACK", V5, Client, "62 03 0001 10", ReasonCodeNotAllowed),
        ("PUBCOMP with a code of PUBACK", V5, Client, "70 03 0001 87", ReasonCodeNotAllowed),
        ("PUBACK of one byte", V311, Client, "40 01 00", BodyTooShort),
        ("PUBACK of nothing", V5, Client, "40 00", BodyTooShort),
    ])
}

fn subscriptions() -> Vec<Case> {
    use DecodeError::{
        BodyTooShort, NoLocalOnSharedSubscription, PropertyRepeated, ReasonCodeNotAllowed, ReasonCodesMissing,
        RetainHandlingInvalid, SubscriptionIdentifierZero, SubscriptionOptionsReserved, SubscriptionQoSInvalid,
        TopicFiltersMissing,
    };
    table(&[
        ("no filter", V311, Client, "82 02 0001", TopicFiltersMissing),
        ("no filter in 5.0", V5, Client, "82 * 0001 {}", TopicFiltersMissing),
        ("no filter to leave", V311, Client, "A2 02 0001", TopicFiltersMissing),
        ("no filter to leave in 5.0", V5, Client, "A2 * 0001 {}", TopicFiltersMissing),
        ("no options", V311, Client, "82 * 0001 ['a']", BodyTooShort),
        ("half a filter", V311, Client, "82 * 0001 00 05 'a'", BodyTooShort),
        ("QoS 3", V311, Client, "82 * 0001 ['a'] 03", SubscriptionQoSInvalid),
        ("QoS 3 in 5.0", V5, Client, "82 * 0001 {} ['a'] 03", SubscriptionQoSInvalid),
        ("options of 5.0 in 3.1.1", V311, Client, "82 * 0001 ['a'] 04", SubscriptionOptionsReserved),
        ("reserved options", V5, Client, "82 * 0001 {} ['a'] 40", SubscriptionOptionsReserved),
        ("the last reserved option", V5, Client, "82 * 0001 {} ['a'] 80", SubscriptionOptionsReserved),
        ("retain handling 3", V5, Client, "82 * 0001 {} ['a'] 30", RetainHandlingInvalid),
        ("No Local when shared", V5, Client, "82 * 0001 {} ['$share/g/a'] 04", NoLocalOnSharedSubscription),
        ("subscription identifier 0", V5, Client, "82 * 0001 { 0B 00 } ['a'] 00", SubscriptionIdentifierZero),
        (
            "two subscription identifiers",
            V5,
            Client,
            "82 * 0001 { 0B 01 0B 02 } ['a'] 00",
            PropertyRepeated { identifier: 0x0B },
        ),
        ("SUBACK without a code", V311, Server, "90 02 0001", ReasonCodesMissing),
        ("SUBACK without a code in 5.0", V5, Server, "90 * 0001 {}", ReasonCodesMissing),
        ("UNSUBACK without a code", V5, Server, "B0 * 0001 {}", ReasonCodesMissing),
        ("SUBACK 3.1 refuses", V31, Server, "90 03 0001 80", ReasonCodeNotAllowed),
        ("SUBACK 3.1.1 says why", V311, Server, "90 03 0001 87", ReasonCodeNotAllowed),
        ("SUBACK grants QoS 3", V311, Server, "90 03 0001 03", ReasonCodeNotAllowed),
        ("SUBACK with a code of UNSUBACK", V5, Server, "90 * 0001 {} 11", ReasonCodeNotAllowed),
        ("UNSUBACK with a code of SUBACK", V5, Server, "B0 * 0001 {} 01", ReasonCodeNotAllowed),
    ])
}

fn endings() -> Vec<Case> {
    use DecodeError::{
        AuthenticationMethodMissing, BodyTooShort, ReasonCodeNotAllowed, ServerReferenceFromClient,
        SessionExpiryIntervalFromServer,
    };
    table(&[
        ("DISCONNECT with a server's code", V5, Client, "E0 01 8E", ReasonCodeNotAllowed),
        ("DISCONNECT with a client's code", V5, Server, "E0 01 04", ReasonCodeNotAllowed),
        ("a server's normal DISCONNECT", V5, Server, "E0 00", ReasonCodeNotAllowed),
        ("DISCONNECT with a code of SUBACK", V5, Client, "E0 01 01", ReasonCodeNotAllowed),
        ("a server's expiry", V5, Server, "E0 * 8E { 11 00000001 }", SessionExpiryIntervalFromServer),
        ("a client's reference", V5, Client, "E0 * 00 { 1C ['s'] }", ServerReferenceFromClient),
        ("AUTH with a client's success", V5, Client, "F0 00", ReasonCodeNotAllowed),
        ("AUTH again from a server", V5, Server, "F0 * 19 { 15 ['m'] }", ReasonCodeNotAllowed),
        ("AUTH without method", V5, Client, "F0 * 18 { 16 ['d'] }", AuthenticationMethodMissing),
        ("AUTH without properties", V5, Client, "F0 * 18 {}", AuthenticationMethodMissing),
        ("AUTH without property length", V5, Client, "F0 01 18", BodyTooShort),
    ])
}

/// The values that a property may not have. Which packet may carry which property is a matrix of its own in the codec
/// tests.
fn properties() -> Vec<Case> {
    use DecodeError::{
        MaximumPacketSizeZero, MaximumQoSInvalid, PayloadFormatIndicatorInvalid, PropertyNotAllowed,
        PropertyNotBoolean, PropertyUnknown, ReceiveMaximumZero, StringContainsNull, StringNotUtf8,
        VariableIntegerNotShortest,
    };
    let receive_maximum = "10 * ['MQTT'] 05 02 0000 { 21 0000 } []";
    let packet_size = "10 * ['MQTT'] 05 02 0000 { 27 00000000 } []";
    let problem = "10 * ['MQTT'] 05 02 0000 { 17 02 } []";
    let response = "10 * ['MQTT'] 05 02 0000 { 19 02 } []";
    let alias = "10 * ['MQTT'] 05 06 0000 {} [] { 23 0001 } ['w'] []";
    table(&[
        ("an unknown property", V5, Client, "30 * ['a'] { 7F 00 }", PropertyUnknown { identifier: 0x7F }),
        ("property 0", V5, Client, "30 * ['a'] { 00 }", PropertyUnknown { identifier: 0 }),
        ("a property of two bytes", V5, Client, "30 * ['a'] { 8101 }", PropertyUnknown { identifier: 0x81 }),
        ("a property in a long form", V5, Client, "30 * ['a'] { 8100 01 }", VariableIntegerNotShortest),
        ("payload format 2", V5, Client, "30 * ['a'] { 01 02 }", PayloadFormatIndicatorInvalid),
        ("Maximum QoS 2", V5, Server, "20 * 00 00 { 24 02 }", MaximumQoSInvalid),
        ("Retain Available 2", V5, Server, "20 * 00 00 { 25 02 }", PropertyNotBoolean { identifier: 0x25 }),
        ("Wildcards Available 2", V5, Server, "20 * 00 00 { 28 02 }", PropertyNotBoolean { identifier: 0x28 }),
        ("Identifiers Available 2", V5, Server, "20 * 00 00 { 29 02 }", PropertyNotBoolean { identifier: 0x29 }),
        ("Shared Available 2", V5, Server, "20 * 00 00 { 2A 02 }", PropertyNotBoolean { identifier: 0x2A }),
        ("Receive Maximum 0", V5, Client, receive_maximum, ReceiveMaximumZero),
        ("Maximum Packet Size 0", V5, Client, packet_size, MaximumPacketSizeZero),
        ("Request Problem Information 2", V5, Client, problem, PropertyNotBoolean { identifier: 0x17 }),
        ("Request Response Information 2", V5, Client, response, PropertyNotBoolean { identifier: 0x19 }),
        ("a Topic Alias for the Will", V5, Client, alias, PropertyNotAllowed { identifier: 0x23 }),
        ("bad UTF-8 in a name", V5, Client, "30 * ['a'] { 26 [FF] ['v'] }", StringNotUtf8),
        ("bad UTF-8 in a value", V5, Client, "30 * ['a'] { 26 ['n'] [FF] }", StringNotUtf8),
        ("U+0000 in a value", V5, Client, "30 * ['a'] { 26 ['n'] [00] }", StringContainsNull),
        ("bad UTF-8 in the content type", V5, Client, "30 * ['a'] { 03 [FF] }", StringNotUtf8),
        ("bad UTF-8 in the response topic", V5, Client, "30 * ['a'] { 08 [FF] }", StringNotUtf8),
        ("bad UTF-8 in the reason", V5, Client, "40 * 0001 00 { 1F [FF] }", StringNotUtf8),
    ])
}
