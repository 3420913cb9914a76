//! Packets that are valid.

use std::num::{NonZeroU16, NonZeroU32};

use ringmq::mqtt::{
    Ack, AckKind, Auth, ConnAck, ConnAckProperties, Connect, ConnectProperties, Disconnect, Packet, PacketIdentifier,
    PayloadFormatIndicator, ProtocolVersion, Publish, PublishProperties, QoS, ReasonCode, ReasonCodes, RetainHandling,
    Sender, SubAck, Subscribe, SubscriptionIdentifiers, SubscriptionOptions, TopicFilter, TopicName, UnsubAck,
    Unsubscribe, UserProperties, WillPacket, WillProperties,
};

use super::{Case, Expected, bytes, leak};
use ProtocolVersion::{V5, V31, V311};
use Sender::{Client, Server};

/// Every valid case.
pub fn cases() -> Vec<Case> {
    [connects(), connacks(), publishes(), acks(), subscribes(), unsubscribes(), endings()].concat()
}

fn canonical(
    name: &'static str,
    version: ProtocolVersion,
    sender: Sender,
    text: &str,
    packet: Packet<'static>,
) -> Case {
    Case { name, version, sender, bytes: bytes(text), expected: Expected::Canonical(packet) }
}

fn decoded(name: &'static str, version: ProtocolVersion, sender: Sender, text: &str, packet: Packet<'static>) -> Case {
    Case { name, version, sender, bytes: bytes(text), expected: Expected::Decoded(packet) }
}

fn identifier(value: u16) -> PacketIdentifier {
    PacketIdentifier::new(value).expect("identifiers in the table are not zero")
}

fn topic(text: &'static str) -> TopicName<'static> {
    TopicName::parse(text).expect("topics in the table are valid")
}

fn filter(text: &'static str) -> TopicFilter<'static> {
    TopicFilter::parse(text).expect("filters in the table are valid")
}

const PAIRS: UserProperties<'static> = UserProperties::new(&[("b", "1"), ("a", ""), ("b", "2")]);
const PAIRS_TEXT: &str = "26 ['b'] ['1'] 26 ['a'] [] 26 ['b'] ['2']";

fn connects() -> Vec<Case> {
    let v311 = Connect { keep_alive_s: 10, ..Connect::new(V311, "id") };
    let will = WillPacket {
        topic: topic("w"),
        payload: b"gone",
        qos: QoS::ExactlyOnce,
        retain: true,
        properties: WillProperties::default(),
    };
    let all = Connect { will: Some(will), user_name: Some("u"), password: Some(b"p\0"), clean_start: false, ..v311 };
    let will_v5 = WillPacket {
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: WillProperties {
            will_delay_interval: Some(5),
            payload_format_indicator: Some(PayloadFormatIndicator::Utf8),
            message_expiry_interval: Some(60),
            content_type: Some("text"),
            response_topic: Some(topic("r/1")),
            correlation_data: Some(b"\x00c"),
            user_properties: PAIRS,
        },
        ..will
    };
    let properties = ConnectProperties {
        session_expiry_interval: Some(0xFFFF_FFFF),
        receive_maximum: NonZeroU16::new(20),
        maximum_packet_size: NonZeroU32::new(1024),
        topic_alias_maximum: 7,
        request_response_information: true,
        request_problem_information: false,
        user_properties: PAIRS,
        authentication_method: Some("m"),
        authentication_data: Some(b"d"),
    };
    let all_v5 = Connect { version: V5, will: Some(will_v5), properties, ..all };
    let c = |name, version, text: &str, connect| canonical(name, version, Client, text, Packet::Connect(connect));
    vec![
        c("CONNECT 3.1.1, literal", V311, "10 0E 00 04 'MQTT' 04 02 00 0A 00 02 'id'", v311),
        c("CONNECT 3.1", V31, "10 * ['MQIsdp'] 03 02 00 0A ['id']", Connect { version: V31, ..v311 }),
        c("CONNECT 5.0", V5, "10 * ['MQTT'] 05 02 00 0A {} ['id']", Connect { version: V5, ..v311 }),
        c("CONNECT 3.1.1 with an empty id", V311, "10 * ['MQTT'] 04 02 00 00 []", Connect::new(V311, "")),
        c("CONNECT 3.1.1 with all", V311, "10 * ['MQTT'] 04 F4 00 0A ['id'] ['w'] ['gone'] ['u'] ['p' 00]", all),
        c("bridge 3.1.1", V311, "10 * ['MQTT'] 84 02 00 0A ['id']", Connect { bridge: true, ..v311 }),
        c("bridge 3.1", V31, "10 * ['MQIsdp'] 83 02 00 0A ['id']", Connect { version: V31, bridge: true, ..v311 }),
        c(
            "CONNECT 5.0 with a password and no user name",
            V5,
            "10 * ['MQTT'] 05 42 00 0A {} ['id'] ['p']",
            Connect { version: V5, password: Some(b"p"), ..v311 },
        ),
        c(
            "CONNECT 5.0 with all",
            V5,
            &format!(
                "10 * ['MQTT'] 05 CC 00 0A {{ 11 FFFFFFFF 21 0014 27 00000400 22 0007 19 01 17 00 {PAIRS_TEXT} \
                 15 ['m'] 16 ['d'] }} ['id'] {{ 18 00000005 01 01 02 0000003C 03 ['text'] 08 ['r/1'] 09 [00 'c'] \
                 {PAIRS_TEXT} }} ['w'] ['gone'] ['u'] ['p' 00]"
            ),
            all_v5,
        ),
        decoded(
            "CONNECT 3.1 lacks the user name that its flag announces",
            V31,
            Client,
            "10 * ['MQIsdp'] 03 C2 00 0A ['id']",
            Packet::Connect(Connect { version: V31, ..v311 }),
        ),
        decoded(
            "defaults may be said",
            V5,
            Client,
            "10 * ['MQTT'] 05 02 00 0A { 22 0000 19 00 17 01 } ['id']",
            Packet::Connect(Connect { version: V5, ..v311 }),
        ),
    ]
}

fn connacks() -> Vec<Case> {
    let properties = ConnAckProperties {
        session_expiry_interval: Some(1),
        receive_maximum: NonZeroU16::new(2),
        maximum_qos: Some(QoS::AtLeastOnce),
        retain_available: Some(false),
        maximum_packet_size: NonZeroU32::new(3),
        assigned_client_identifier: Some("auto"),
        topic_alias_maximum: 4,
        reason_string: Some("why"),
        user_properties: PAIRS,
        wildcard_subscription_available: Some(true),
        subscription_identifiers_available: Some(false),
        shared_subscription_available: Some(true),
        server_keep_alive: Some(5),
        response_information: Some("resp"),
        server_reference: Some("other"),
        authentication_method: Some("m"),
        authentication_data: Some(b"d"),
    };
    let all = ConnAck { properties, ..ConnAck::new(true, ReasonCode::Success) };
    let c = |name, version, text: &str, connack| canonical(name, version, Server, text, Packet::ConnAck(connack));
    let mut cases = vec![
        c("CONNACK 3.1.1, literal", V311, "20 02 01 00", ConnAck::new(true, ReasonCode::Success)),
        c("CONNACK 3.1", V31, "20 02 00 00", ConnAck::new(false, ReasonCode::Success)),
        c("CONNACK 5.0", V5, "20 03 00 00 00", ConnAck::new(false, ReasonCode::Success)),
        c(
            "CONNACK 5.0 with all",
            V5,
            &format!(
                "20 * 01 00 {{ 11 00000001 21 0002 24 01 25 00 27 00000003 12 ['auto'] 22 0004 1F ['why'] {PAIRS_TEXT} \
                 28 01 29 00 2A 01 13 0005 1A ['resp'] 1C ['other'] 15 ['m'] 16 ['d'] }}"
            ),
            all,
        ),
    ];
    let refusals = [
        ("20 02 00 01", ReasonCode::UnsupportedProtocolVersion),
        ("20 02 00 02", ReasonCode::ClientIdentifierNotValid),
        ("20 02 00 03", ReasonCode::ServerUnavailable),
        ("20 02 00 04", ReasonCode::BadUserNameOrPassword),
        ("20 02 00 05", ReasonCode::NotAuthorized),
    ];
    for (text, code) in refusals {
        cases.push(c("CONNACK 3.1.1 refuses", V311, text, ConnAck::new(false, code)));
        cases.push(c("CONNACK 3.1 refuses", V31, text, ConnAck::new(false, code)));
    }
    cases.push(c("CONNACK 5.0 refuses", V5, "20 03 00 8A 00", ConnAck::new(false, ReasonCode::Banned)));
    cases
}

fn publishes() -> Vec<Case> {
    let at_most_once = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "a/b",
        packet_identifier: None,
        properties: PublishProperties::default(),
        payload: b"hi",
    };
    let at_least_once = Publish { qos: QoS::AtLeastOnce, packet_identifier: Some(identifier(10)), ..at_most_once };
    let exactly_once = Publish { qos: QoS::ExactlyOnce, dup: true, retain: true, ..at_least_once };
    let properties = PublishProperties {
        payload_format_indicator: Some(PayloadFormatIndicator::Unspecified),
        message_expiry_interval: Some(9),
        topic_alias: Some(3),
        response_topic: Some(topic("r")),
        correlation_data: Some(b""),
        user_properties: PAIRS,
        subscription_identifiers: SubscriptionIdentifiers::default(),
        content_type: Some("c"),
    };
    let identifiers =
        [1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455, 1].into_iter().filter_map(NonZeroU32::new);
    let identified = PublishProperties {
        subscription_identifiers: SubscriptionIdentifiers::new(leak(identifiers.collect())),
        ..PublishProperties::default()
    };
    let alias_only = Publish {
        topic: "",
        properties: PublishProperties { topic_alias: Some(1), ..Default::default() },
        ..at_most_once
    };
    let mut cases = Vec::new();
    for (version, section) in [(V31, ""), (V311, ""), (V5, "{}")] {
        for sender in [Client, Server] {
            let mut c = |name, text: &str, publish| {
                let text = text.replace('@', section);
                cases.push(canonical(name, version, sender, &text, Packet::Publish(publish)));
            };
            c("PUBLISH QoS 0", "30 * ['a/b'] @ 'hi'", at_most_once);
            c("PUBLISH QoS 1", "32 * ['a/b'] 000A @ 'hi'", at_least_once);
            c("PUBLISH QoS 2, DUP, RETAIN", "3D * ['a/b'] 000A @ 'hi'", exactly_once);
            c("PUBLISH without payload", "31 * ['a/b'] @", Publish { retain: true, payload: b"", ..at_most_once });
            c(
                "U+FEFF stays",
                "30 * [EFBBBF 'x' EFBBBF] @ 'hi'",
                Publish { topic: "\u{FEFF}x\u{FEFF}", ..at_most_once },
            );
            c("controls and noncharacters", "30 * [01 7F C280 EFBFBF] @", {
                Publish { topic: "\u{1}\u{7F}\u{80}\u{FFFF}", payload: b"", ..at_most_once }
            });
        }
    }
    let c = |name, sender, text: &str, publish| canonical(name, V5, sender, text, Packet::Publish(publish));
    cases.extend([
        c("PUBLISH, literal", Client, "30 08 00 03 'a/b' 00 'hi'", at_most_once),
        c(
            "PUBLISH with all properties",
            Client,
            &format!("32 * ['a/b'] 000A {{ 01 00 03 ['c'] 08 ['r'] 09 [] {PAIRS_TEXT} 02 00000009 23 0003 }} 'hi'"),
            Publish { properties, ..at_least_once },
        ),
        c("an alias stands for the topic", Client, "30 * [] { 23 0001 } 'hi'", alias_only),
        c(
            "subscription identifiers",
            Server,
            "30 * ['a/b'] { 0B 01 0B 7F 0B 8001 0B FF7F 0B 808001 0B FFFF7F 0B 80808001 0B FFFFFF7F 0B 01 } 'hi'",
            Publish { properties: identified, ..at_most_once },
        ),
        decoded(
            "properties between user properties",
            V5,
            Client,
            "30 * ['a/b'] { 26 ['b'] ['1'] 02 00000009 26 ['a'] [] 03 ['c'] 26 ['b'] ['2'] 23 0003 } 'hi'",
            Packet::Publish(Publish {
                properties: PublishProperties {
                    payload_format_indicator: None,
                    response_topic: None,
                    correlation_data: None,
                    ..properties
                },
                ..at_most_once
            }),
        ),
    ]);
    cases
}

fn acks() -> Vec<Case> {
    let kinds = [
        (AckKind::PubAck, "40", ReasonCode::NoMatchingSubscribers, "10"),
        (AckKind::PubRec, "50", ReasonCode::QuotaExceeded, "97"),
        (AckKind::PubRel, "62", ReasonCode::PacketIdentifierNotFound, "92"),
        (AckKind::PubComp, "70", ReasonCode::PacketIdentifierNotFound, "92"),
    ];
    let mut cases = Vec::new();
    for (kind, first, code, code_text) in kinds {
        let packet = |ack| match kind {
            AckKind::PubAck => Packet::PubAck(ack),
            AckKind::PubRec => Packet::PubRec(ack),
            AckKind::PubRel => Packet::PubRel(ack),
            AckKind::PubComp => Packet::PubComp(ack),
        };
        let success = Ack::new(kind, identifier(0x1234), ReasonCode::Success);
        let other = Ack { reason_code: code, ..success };
        let all = Ack { reason_string: Some("why"), user_properties: PAIRS, ..other };
        for sender in [Client, Server] {
            for version in [V31, V311, V5] {
                let text = format!("{first} 02 12 34");
                cases.push(canonical("acknowledgement of success", version, sender, &text, packet(success)));
            }
            let text = format!("{first} 03 12 34 {code_text}");
            cases.push(canonical("acknowledgement with a code", V5, sender, &text, packet(other)));
            let text = format!("{first} * 12 34 {code_text} {{ 1F ['why'] {PAIRS_TEXT} }}");
            cases.push(canonical("acknowledgement with all", V5, sender, &text, packet(all)));
            for tail in ["00", "00 {}"] {
                let text = format!("{first} * 12 34 {tail}");
                cases.push(decoded("success may be said", V5, sender, &text, packet(success)));
            }
        }
    }
    let repeated = Packet::PubRel(Ack::new(AckKind::PubRel, identifier(1), ReasonCode::Success));
    cases.push(decoded("3.1 repeats a PUBREL with DUP", V31, Client, "6A 02 00 01", repeated));
    cases
}

fn subscribes() -> Vec<Case> {
    let plain = SubscriptionOptions::with_qos;
    let two = leak(vec![(filter("a/+"), plain(QoS::AtMostOnce)), (filter("#"), plain(QoS::ExactlyOnce))]);
    let options = |retain_handling, no_local| SubscriptionOptions {
        qos: QoS::AtLeastOnce,
        no_local,
        retain_as_published: true,
        retain_handling,
    };
    let three = leak(vec![
        (filter("a"), options(RetainHandling::SendAtSubscribe, true)),
        (filter("$share/g/b/#"), options(RetainHandling::SendIfNew, false)),
        (filter("/"), options(RetainHandling::DoNotSend, true)),
    ]);
    let mut all = Subscribe::new(identifier(1), three);
    (all.subscription_identifier, all.user_properties) = (NonZeroU32::new(128), PAIRS);
    let codes = leak(vec![ReasonCode::Success, ReasonCode::GrantedQoS1, ReasonCode::GrantedQoS2]);
    let granted = SubAck::new(identifier(1), ReasonCodes::new(codes));
    let refused = leak(vec![ReasonCode::GrantedQoS2, ReasonCode::UnspecifiedError]);
    let refused = SubAck::new(identifier(1), ReasonCodes::new(refused));
    let mut cases = Vec::new();
    for (version, section) in [(V31, ""), (V311, ""), (V5, "{}")] {
        let text = format!("82 * 0001 {section} ['a/+'] 00 ['#'] 02");
        let subscribe = Packet::Subscribe(Subscribe::new(identifier(1), two));
        cases.push(canonical("SUBSCRIBE", version, Client, &text, subscribe));
        let text = format!("90 * 0001 {section} 00 01 02");
        cases.push(canonical("SUBACK", version, Server, &text, Packet::SubAck(granted)));
    }
    cases.extend([
        canonical(
            "SUBSCRIBE with all",
            V5,
            Client,
            &format!("82 * 0001 {{ 0B 8001 {PAIRS_TEXT} }} ['a'] 0D ['$share/g/b/#'] 19 ['/'] 2D"),
            Packet::Subscribe(all),
        ),
        canonical("SUBACK 3.1.1 refuses", V311, Server, "90 04 0001 02 80", Packet::SubAck(refused)),
        canonical(
            "SUBACK with all",
            V5,
            Server,
            &format!("90 * 0001 {{ 1F ['why'] {PAIRS_TEXT} }} 02 80"),
            Packet::SubAck(SubAck { reason_string: Some("why"), user_properties: PAIRS, ..refused }),
        ),
        decoded(
            "3.1 repeats a SUBSCRIBE with DUP",
            V31,
            Client,
            "8A * 0001 ['a/+'] 00 ['#'] 02",
            Packet::Subscribe(Subscribe::new(identifier(1), two)),
        ),
    ]);
    cases
}

fn unsubscribes() -> Vec<Case> {
    let unsubscribe = Unsubscribe::new(identifier(2), leak(vec![filter("a/+"), filter("$share/g/x")]));
    let mut unsubscribe_all = unsubscribe;
    unsubscribe_all.user_properties = PAIRS;
    let none = UnsubAck::new(identifier(2), ReasonCodes::new(&[]));
    let codes = leak(vec![ReasonCode::Success, ReasonCode::NoSubscriptionExisted]);
    let unsuback = UnsubAck::new(identifier(2), ReasonCodes::new(codes));
    let mut cases = Vec::new();
    for (version, section) in [(V31, ""), (V311, ""), (V5, "{}")] {
        let text = format!("A2 * 0002 {section} ['a/+'] ['$share/g/x']");
        cases.push(canonical("UNSUBSCRIBE", version, Client, &text, Packet::Unsubscribe(unsubscribe)));
    }
    cases.extend([
        canonical("UNSUBACK 3.1", V31, Server, "B0 02 0002", Packet::UnsubAck(none)),
        canonical("UNSUBACK 3.1.1", V311, Server, "B0 02 0002", Packet::UnsubAck(none)),
        canonical("UNSUBACK 5.0", V5, Server, "B0 05 0002 00 00 11", Packet::UnsubAck(unsuback)),
        canonical(
            "UNSUBSCRIBE with all",
            V5,
            Client,
            &format!("A2 * 0002 {{ {PAIRS_TEXT} }} ['a/+'] ['$share/g/x']"),
            Packet::Unsubscribe(unsubscribe_all),
        ),
        canonical(
            "UNSUBACK with all",
            V5,
            Server,
            &format!("B0 * 0002 {{ 1F ['why'] {PAIRS_TEXT} }} 00 11"),
            Packet::UnsubAck(UnsubAck { reason_string: Some("why"), user_properties: PAIRS, ..unsuback }),
        ),
        decoded(
            "3.1 repeats an UNSUBSCRIBE with DUP",
            V31,
            Client,
            "AA * 0002 ['a/+'] ['$share/g/x']",
            Packet::Unsubscribe(unsubscribe),
        ),
    ]);
    cases
}

fn endings() -> Vec<Case> {
    let normal = Packet::Disconnect(Disconnect::new(ReasonCode::Success));
    let mut cases = Vec::new();
    for version in [V31, V311, V5] {
        cases.push(canonical("PINGREQ", version, Client, "C0 00", Packet::PingReq));
        cases.push(canonical("PINGRESP", version, Server, "D0 00", Packet::PingResp));
        cases.push(canonical("DISCONNECT", version, Client, "E0 00", normal));
    }
    let with_will = Disconnect::new(ReasonCode::DisconnectWithWillMessage);
    let taken_over = Disconnect::new(ReasonCode::SessionTakenOver);
    let d = |name, sender, text: &str, disconnect| canonical(name, V5, sender, text, Packet::Disconnect(disconnect));
    let auth = Auth::new(ReasonCode::ContinueAuthentication, "SCRAM");
    let a = |name, sender, text: &str, auth| canonical(name, V5, sender, text, Packet::Auth(auth));
    cases.extend([
        d("DISCONNECT with a reason", Client, "E0 01 04", with_will),
        d("DISCONNECT of a server", Server, "E0 01 8E", taken_over),
        d(
            "DISCONNECT of a client with all",
            Client,
            &format!("E0 * 04 {{ 11 0000000A 1F ['why'] {PAIRS_TEXT} }}"),
            Disconnect {
                session_expiry_interval: Some(10),
                reason_string: Some("why"),
                user_properties: PAIRS,
                ..with_will
            },
        ),
        d(
            "DISCONNECT of a server with all",
            Server,
            &format!("E0 * 8E {{ 1F ['why'] {PAIRS_TEXT} 1C ['other'] }}"),
            Disconnect {
                reason_string: Some("why"),
                user_properties: PAIRS,
                server_reference: Some("other"),
                ..taken_over
            },
        ),
        decoded("normal may be said", V5, Client, "E0 01 00", normal),
        decoded("no properties may be said", V5, Client, "E0 02 00 00", normal),
        a("AUTH", Client, "F0 * 18 { 15 ['SCRAM'] }", auth),
        a("AUTH again", Client, "F0 * 19 { 15 ['SCRAM'] }", Auth { reason_code: ReasonCode::ReAuthenticate, ..auth }),
        a(
            "AUTH with all",
            Server,
            &format!("F0 * 18 {{ 15 ['SCRAM'] 16 [00] 1F ['why'] {PAIRS_TEXT} }}"),
            Auth { authentication_data: Some(b"\0"), reason_string: Some("why"), user_properties: PAIRS, ..auth },
        ),
        a("AUTH of success", Server, "F0 00", {
            Auth { reason_code: ReasonCode::Success, authentication_method: None, ..auth }
        }),
    ]);
    cases
}
