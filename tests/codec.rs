//! The codec against the packet table, at every byte boundary, and under arbitrary packets and arbitrary bytes.

mod packets;

use packets::{Case, Expected};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use ringmq::mqtt::{
    AckKind, DecodeError, FrameHeader, Packet, PacketIdentifier, Peek, ProtocolVersion, PublishFlags, PublishHead, QoS,
    ReasonCode, Sender, ack, frame, publish,
};

const VERSIONS: [ProtocolVersion; 3] = [ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5];
const SENDERS: [Sender; 2] = [Sender::Client, Sender::Server];

fn decode(bytes: &[u8], version: ProtocolVersion, sender: Sender) -> Result<Packet<'_>, DecodeError> {
    match frame::peek(bytes, u32::MAX)? {
        Peek::Complete(header) => {
            Packet::decode(header, &bytes[usize::from(header.header_len)..header.total_len()], version, sender)
        }
        Peek::Incomplete { need } => panic!("a whole packet of {} bytes needs {need}", bytes.len()),
    }
}

/// Reads all that a packet keeps in wire form; nothing of it may panic.
fn walk(packet: &Packet<'_>) -> usize {
    match packet {
        Packet::Connect(connect) => {
            connect.properties.user_properties.iter().count()
                + connect.will.map_or(0, |will| will.properties.user_properties.iter().count())
        }
        Packet::Publish(publish) => {
            publish.properties.user_properties.iter().count()
                + publish.properties.subscription_identifiers.iter().count()
        }
        Packet::Subscribe(subscribe) => {
            assert_eq!(subscribe.filters().count(), subscribe.filters_len());
            subscribe.filters_len()
        }
        Packet::Unsubscribe(unsubscribe) => {
            assert_eq!(unsubscribe.filters().count(), unsubscribe.filters_len());
            unsubscribe.filters_len()
        }
        Packet::SubAck(suback) => suback.reason_codes.iter().count(),
        Packet::UnsubAck(unsuback) => unsuback.reason_codes.iter().count(),
        _ => 0,
    }
}

#[test]
fn every_case_of_the_table_decodes_as_it_says() {
    for case in packets::cases() {
        let Case { name, version, sender, bytes, expected } = &case;
        let decoded = decode(bytes, *version, *sender);
        match expected {
            Expected::Canonical(packet) | Expected::Decoded(packet) => {
                assert_eq!(decoded, Ok(*packet), "{name} ({version}): {bytes:02X?}");
            }
            Expected::Error(error) => assert_eq!(decoded, Err(*error), "{name} ({version}): {bytes:02X?}"),
        }
    }
}

#[test]
fn every_valid_case_encodes_to_its_bytes() {
    for case in packets::valid::cases() {
        let Case { name, version, sender, bytes, expected } = &case;
        let packet = case.packet().expect("valid cases have a packet");
        let mut out = b"before".to_vec();
        packet.encode(*version, &mut out).unwrap_or_else(|error| panic!("{name}: {error}"));
        let encoded = out.strip_prefix(b"before").expect("what was there stays");
        if let Expected::Canonical(_) = expected {
            assert_eq!(encoded, bytes, "{name} ({version})");
        } else {
            assert_eq!(decode(encoded, *version, *sender), Ok(packet), "{name} ({version})");
        }
    }
}

#[test]
fn every_prefix_of_a_packet_is_incomplete_and_every_shorter_body_is_an_error() {
    for case in packets::valid::cases() {
        let bytes = &case.bytes;
        for len in 0..bytes.len() {
            match frame::peek(&bytes[..len], u32::MAX) {
                Ok(Peek::Incomplete { need }) => {
                    assert!(need > len && need <= bytes.len(), "{}: {need} at {len}", case.name);
                }
                other => panic!("{} cut at {len}: {other:?}", case.name),
            }
        }
        // The same body, shorter, under a length that says so: an error or another packet, never a panic.
        let Ok(Peek::Complete(header)) = frame::peek(bytes, u32::MAX) else { panic!("{} is whole", case.name) };
        let body = &bytes[usize::from(header.header_len)..];
        for len in 0..body.len() {
            let header = FrameHeader { remaining_len: len as u32, ..header };
            if let Ok(packet) = Packet::decode(header, &body[..len], case.version, case.sender) {
                walk(&packet);
            }
        }
    }
}

#[test]
fn coalesced_packets_come_out_whole_whatever_the_pieces() {
    for version in VERSIONS {
        for sender in SENDERS {
            let cases = packets::valid::cases();
            let cases: Vec<_> = cases.iter().filter(|case| case.version == version && case.sender == sender).collect();
            let stream = cases.iter().flat_map(|case| case.bytes.iter().copied()).collect::<Vec<_>>();
            for piece_len in 1..=80 {
                let (mut buffer, mut came) = (Vec::new(), 0);
                for piece in stream.chunks(piece_len) {
                    buffer.extend_from_slice(piece);
                    while let Ok(Peek::Complete(header)) = frame::peek(&buffer, u32::MAX) {
                        let expected = cases[came].packet();
                        let decoded = decode(&buffer[..header.total_len()], version, sender);
                        assert_eq!(decoded.ok(), expected, "{} in pieces of {piece_len}", cases[came].name);
                        buffer.drain(..header.total_len());
                        came += 1;
                    }
                }
                assert_eq!((came, buffer.len()), (cases.len(), 0), "{version} in pieces of {piece_len}");
            }
        }
    }
}

#[test]
fn a_packet_above_the_maximum_is_refused_with_its_length() {
    assert_eq!(frame::peek(&[0x30, 0x7F], 128), Err(DecodeError::PacketTooLarge));
    assert_eq!(frame::peek(&[0x30, 0x7F], 129), Ok(Peek::Incomplete { need: 129 }));
    assert_eq!(frame::peek(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], u32::MAX), Ok(Peek::Incomplete { need: 268_435_460 }));
    assert_eq!(frame::peek(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF], u32::MAX), Err(DecodeError::VariableIntegerTooLong));
    assert_eq!(frame::peek(&[], 16), Ok(Peek::Incomplete { need: 2 }));
    assert_eq!(frame::peek(&[0x30], 16), Ok(Peek::Incomplete { need: 2 }));
    assert_eq!(frame::peek(&[0x30, 0x80], 1024), Ok(Peek::Incomplete { need: 3 }));
    assert_eq!(frame::peek(&[0x00], 16), Err(DecodeError::PacketTypeReserved));
    assert_eq!(frame::peek(&[0x11], 16), Err(DecodeError::FixedHeaderFlagsInvalid));
    for repeated in [0x6A, 0x8A, 0xAA] {
        assert_eq!(frame::peek(&[repeated], 16), Ok(Peek::Incomplete { need: 2 }), "3.1 repeats with DUP");
    }
}

#[test]
fn of_256_first_bytes_those_of_the_table_begin_a_packet() {
    // Section 2.1 of MQTT 5.0, PUBLISH by its bits, and what 3.1 allows besides: DUP on PUBREL, SUBSCRIBE, UNSUBSCRIBE.
    let fixed = [0x10, 0x20, 0x40, 0x50, 0x62, 0x6A, 0x70, 0x82, 0x8A, 0x90, 0xA2, 0xAA, 0xB0, 0xC0, 0xD0, 0xE0, 0xF0];
    let publish = [0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x3A, 0x3B, 0x3C, 0x3D];
    for first in 0..=u8::MAX {
        let is_packet = frame::peek(&[first], 16).is_ok();
        assert_eq!(is_packet, fixed.contains(&first) || publish.contains(&first), "{first:#04x}");
    }
}

#[test]
fn each_property_that_is_forwarded_is_forwarded_alone() {
    use ringmq::mqtt::{PayloadFormatIndicator, PublishProperties, TopicName, UserProperties};
    let none = PublishProperties::default();
    let pairs = [("k", "v")];
    let alone = [
        PublishProperties { payload_format_indicator: Some(PayloadFormatIndicator::Utf8), ..none },
        PublishProperties { content_type: Some("c"), ..none },
        PublishProperties { response_topic: TopicName::parse("r").ok(), ..none },
        PublishProperties { correlation_data: Some(b"d"), ..none },
        PublishProperties { user_properties: UserProperties::new(&pairs), ..none },
    ];
    for properties in alone {
        assert!(!properties.forwards_nothing(), "{properties:?}");
        let mut forwarded = Vec::new();
        properties.write_forwarded(&mut forwarded);
        assert!(!forwarded.is_empty(), "{properties:?}");
    }
    let kept_back = PublishProperties { message_expiry_interval: Some(9), topic_alias: Some(1), ..none };
    assert!(none.forwards_nothing() && kept_back.forwards_nothing());
}

/// Packets that may carry a property, by the table of section 2.2.2.2 of MQTT 5.0.
const CARRIERS: [(&str, Sender, &str, &str); 15] = [
    ("connect", Sender::Client, "10 * ['MQTT'] 05 02 0000 { @ } []", ""),
    ("will", Sender::Client, "10 * ['MQTT'] 05 06 0000 {} [] { @ } ['w'] []", ""),
    ("connack", Sender::Server, "20 * 00 00 { @ }", ""),
    ("publish", Sender::Server, "30 * ['a'] { @ }", ""),
    ("puback", Sender::Client, "40 * 0001 00 { @ }", ""),
    ("pubrec", Sender::Client, "50 * 0001 00 { @ }", ""),
    ("pubrel", Sender::Client, "62 * 0001 00 { @ }", ""),
    ("pubcomp", Sender::Client, "70 * 0001 00 { @ }", ""),
    ("subscribe", Sender::Client, "82 * 0001 { @ } ['a'] 00", ""),
    ("suback", Sender::Server, "90 * 0001 { @ } 00", ""),
    ("unsubscribe", Sender::Client, "A2 * 0001 { @ } ['a']", ""),
    ("unsuback", Sender::Server, "B0 * 0001 { @ } 00", ""),
    ("disconnect", Sender::Client, "E0 * 00 { @ }", "1C"),
    ("disconnect", Sender::Server, "E0 * 8E { @ }", "11"),
    ("auth", Sender::Client, "F0 * 18 { @ }", ""),
];

const EVERYWHERE: &str = "connect will connack publish puback pubrec pubrel pubcomp subscribe suback unsubscribe \
                          unsuback disconnect auth";
const WITH_REASON: &str = "connack puback pubrec pubrel pubcomp suback unsuback disconnect auth";

const PROPERTIES: [(u8, &str, &str); 27] = [
    (0x01, "01 01", "publish will"),
    (0x02, "02 00000001", "publish will"),
    (0x03, "03 ['x']", "publish will"),
    (0x08, "08 ['x']", "publish will"),
    (0x09, "09 ['x']", "publish will"),
    (0x0B, "0B 01", "publish subscribe"),
    (0x11, "11 00000001", "connect connack disconnect"),
    (0x12, "12 ['x']", "connack"),
    (0x13, "13 0001", "connack"),
    (0x15, "15 ['x']", "connect connack auth"),
    (0x16, "16 ['x']", "connect connack auth"),
    (0x17, "17 01", "connect"),
    (0x18, "18 00000001", "will"),
    (0x19, "19 01", "connect"),
    (0x1A, "1A ['x']", "connack"),
    (0x1C, "1C ['x']", "connack disconnect"),
    (0x1F, "1F ['x']", WITH_REASON),
    (0x21, "21 0001", "connect connack"),
    (0x22, "22 0001", "connect connack"),
    (0x23, "23 0001", "publish"),
    (0x24, "24 01", "connack"),
    (0x25, "25 01", "connack"),
    (0x26, "26 ['x'] ['y']", EVERYWHERE),
    (0x27, "27 00000001", "connect connack"),
    (0x28, "28 01", "connack"),
    (0x29, "29 01", "connack"),
    (0x2A, "2A 01", "connack"),
];

#[test]
fn each_property_is_taken_where_it_belongs_once_and_nowhere_else() {
    for (carrier, sender, template, wrong_way) in CARRIERS {
        for (identifier, property, carriers) in PROPERTIES {
            // AUTH must have a method, and data stands beside one.
            let needs_method = identifier != 0x15 && (carrier == "auth" || identifier == 0x16);
            let with = |section: &str| {
                let method = if needs_method && carriers.contains("auth") || carrier == "auth" && identifier != 0x15 {
                    "15 ['m']"
                } else {
                    ""
                };
                packets::bytes(&template.replace('@', &format!("{method} {section}")))
            };
            let is_allowed = carriers.split_whitespace().any(|name| name == carrier);
            let once = with(property);
            let decoded = decode(&once, ProtocolVersion::V5, sender);
            if !is_allowed {
                let error = decoded.expect_err(property);
                let is_foreign = matches!(error, DecodeError::PropertyNotAllowed { .. });
                assert!(is_foreign, "{property} in {carrier}: {error:?}");
                continue;
            }
            if wrong_way == format!("{identifier:02X}") {
                assert_eq!(decoded.map_err(DecodeError::reason_code), Err(ReasonCode::ProtocolError), "{property}");
                continue;
            }
            assert!(decoded.is_ok(), "{property} in {carrier}: {decoded:?}");
            let twice = with(&format!("{property} {property}"));
            let repeats = identifier == 0x26 || identifier == 0x0B && carrier == "publish";
            let expected = if repeats { Ok(()) } else { Err(DecodeError::PropertyRepeated { identifier }) };
            assert_eq!(decode(&twice, ProtocolVersion::V5, sender).map(|_| ()), expected, "{property} in {carrier}");
            assert_cut_property_is_refused(property, template, sender);
        }
    }
}

/// A property that ends before its value does, in a section whose length agrees.
fn assert_cut_property_is_refused(property: &str, template: &str, sender: Sender) {
    let whole = packets::bytes(property);
    for len in 1..whole.len() {
        let cut = whole[..len].iter().map(|byte| format!("{byte:02X}")).collect::<String>();
        let bytes = packets::bytes(&template.replace('@', &cut));
        assert_eq!(decode(&bytes, ProtocolVersion::V5, sender), Err(DecodeError::BodyTooShort), "{property}: {cut}");
    }
}

#[test]
fn each_violation_has_the_reason_code_that_the_specification_gives_it() {
    let named = [
        (DecodeError::PacketTooLarge, 0x95),
        (DecodeError::ProtocolNameUnknown, 0x84),
        (DecodeError::ProtocolVersionUnsupported { level: 6 }, 0x84),
        (DecodeError::TopicNameInvalid, 0x90),
        (DecodeError::WillTopicInvalid, 0x90),
        (DecodeError::TopicAliasZero, 0x94),
        (DecodeError::PublishQoSInvalid, 0x81),
        (DecodeError::SubscriptionOptionsReserved, 0x81),
        (DecodeError::PropertyNotAllowed { identifier: 1 }, 0x81),
        (DecodeError::StringNotUtf8, 0x81),
        (DecodeError::PropertyRepeated { identifier: 1 }, 0x82),
        (DecodeError::SubscriptionIdentifierFromClient, 0x82),
        (DecodeError::TopicNameMissing, 0x82),
        (DecodeError::TopicFiltersMissing, 0x82),
        (DecodeError::NoLocalOnSharedSubscription, 0x82),
        (DecodeError::RetainHandlingInvalid, 0x82),
        (DecodeError::ReceiveMaximumZero, 0x82),
    ];
    for (error, code) in named {
        assert_eq!(error.reason_code().value(), code, "{error}");
    }
    for case in packets::invalid::cases() {
        let Expected::Error(error) = case.expected else { panic!("{} is invalid", case.name) };
        assert!(error.reason_code().is_error(), "{error}");
    }
}

#[test]
fn each_packet_takes_its_reason_codes_and_no_others() {
    let tables: [(&str, Sender, &str); 11] = [
        ("20 * 00 @ {}", Sender::Server, "00 80 81 82 83 84 85 86 87 88 89 8A 8C 90 95 97 99 9A 9B 9C 9D 9F"),
        ("40 * 0001 @", Sender::Client, "00 10 80 83 87 90 91 97 99"),
        ("50 * 0001 @", Sender::Client, "00 10 80 83 87 90 91 97 99"),
        ("62 * 0001 @", Sender::Client, "00 92"),
        ("70 * 0001 @", Sender::Client, "00 92"),
        ("90 * 0001 {} @", Sender::Server, "00 01 02 80 83 87 8F 91 97 9E A1 A2"),
        ("B0 * 0001 {} @", Sender::Server, "00 11 80 83 87 8F 91"),
        ("E0 * @", Sender::Client, "00 04 80 81 82 83 90 93 94 95 96 97 98 99"),
        ("E0 * @", Sender::Server, "80 81 82 83 87 89 8B 8D 8E 8F 90 93 94 95 96 97 98 99 9A 9B 9C 9D 9E 9F A0 A1 A2"),
        ("F0 * @ { 15 ['m'] }", Sender::Client, "18 19"),
        ("F0 * @ { 15 ['m'] }", Sender::Server, "00 18"),
    ];
    for (template, sender, codes) in tables {
        let allowed: Vec<_> = codes.split(' ').map(|code| u8::from_str_radix(code, 16).expect("a code")).collect();
        for code in 0..=255 {
            let bytes = packets::bytes(&template.replace('@', &format!("{code:02X}")));
            let decoded = decode(&bytes, ProtocolVersion::V5, sender);
            if allowed.contains(&code) {
                let packet = decoded.unwrap_or_else(|error| panic!("{template} with {code:02X}: {error}"));
                let mut out = Vec::new();
                packet.encode(ProtocolVersion::V5, &mut out).expect("what is decoded can be encoded");
                assert_eq!(decode(&out, ProtocolVersion::V5, sender), Ok(packet));
            } else {
                assert_eq!(decoded, Err(DecodeError::ReasonCodeNotAllowed), "{template} with {code:02X}");
            }
        }
    }
}

#[test]
fn an_invalid_filter_spoils_its_entry_only() {
    let bad = ["", "a#", "a/#/b", "#/a", "a+", "+a/b", "$share", "$share/", "$share/g", "$share/g/", "$share//a"];
    let worse = ["$share/g+/a", "$share/#/a", "$share/g/a#"];
    for filter in bad.into_iter().chain(worse) {
        for (version, section) in [(ProtocolVersion::V31, ""), (ProtocolVersion::V311, ""), (ProtocolVersion::V5, "{}")]
        {
            let text = format!("82 * 0001 {section} ['a'] 01 ['{filter}'] 02 ['b'] 00");
            let bytes = packets::bytes(&text);
            let Ok(Packet::Subscribe(subscribe)) = decode(&bytes, version, Sender::Client) else { panic!("{text}") };
            let valid: Vec<_> = subscribe.filters().map(|(filter, options)| (filter.is_ok(), options.qos)).collect();
            let expected = [(true, QoS::AtLeastOnce), (false, QoS::ExactlyOnce), (true, QoS::AtMostOnce)];
            assert_eq!(valid, expected, "{filter}");
            let text = format!("A2 * 0001 {section} ['a'] ['{filter}'] ['b']");
            let bytes = packets::bytes(&text);
            let Ok(Packet::Unsubscribe(leave)) = decode(&bytes, version, Sender::Client) else { panic!("{text}") };
            let valid: Vec<_> = leave.filters().map(|filter| filter.is_ok()).collect();
            assert_eq!(valid, [true, false, true], "{filter}");
        }
    }
}

#[test]
fn the_publish_encoder_of_servers_writes_what_the_packet_says() {
    for case in packets::valid::cases() {
        let Some(Packet::Publish(publish)) = case.packet() else { continue };
        let mut forwarded = Vec::new();
        publish.properties.write_forwarded(&mut forwarded);
        assert_eq!(publish.properties.forwards_nothing(), forwarded.is_empty(), "{}", case.name);
        let identifiers: Vec<u32> = publish.properties.subscription_identifiers.iter().map(|id| id.get()).collect();
        let head = PublishHead {
            flags: PublishFlags { dup: publish.dup, qos: publish.qos, retain: publish.retain },
            topic: publish.topic.as_bytes(),
            packet_identifier: publish.packet_identifier,
            forwarded: &forwarded,
            message_expiry_interval: publish.properties.message_expiry_interval,
            topic_alias: publish.properties.topic_alias,
            subscription_identifiers: &identifiers,
        };
        let (mut out, mut expected) = (b"x".to_vec(), b"x".to_vec());
        let offset = publish::encode(&mut out, case.version, &head, publish.payload).expect("it fits");
        Packet::Publish(publish).encode(case.version, &mut expected).expect("it fits");
        assert_eq!(out, expected, "{}", case.name);
        assert_eq!(publish::encoded_len(case.version, &head, publish.payload.len()), out.len() - 1, "{}", case.name);

        let mut parts = b"x".to_vec();
        let head_offset =
            publish::encode_head(&mut parts, case.version, &head, publish.payload.len()).expect("it fits");
        parts.extend_from_slice(publish.payload);
        assert_eq!((&parts, head_offset), (&out, offset), "{}", case.name);

        assert_eq!(offset.is_some(), publish.qos != QoS::AtMostOnce);
        if let Some(offset) = offset {
            publish::patch_packet_identifier(&mut out[1..], offset, PacketIdentifier::MAX);
            let Ok(Packet::Publish(patched)) = decode(&out[1..], case.version, case.sender) else { panic!("patched") };
            assert_eq!(patched.packet_identifier, Some(PacketIdentifier::MAX));
            assert_eq!(ringmq::mqtt::Publish { packet_identifier: publish.packet_identifier, ..patched }, publish);
        }
    }
}

#[test]
fn acknowledgements_of_success_are_four_bytes() {
    for kind in [AckKind::PubAck, AckKind::PubRec, AckKind::PubRel, AckKind::PubComp] {
        let (mut fast, mut slow) = (Vec::new(), Vec::new());
        ack::encode_success(&mut fast, kind, PacketIdentifier::MIN);
        let packet = ringmq::mqtt::Ack::new(kind, PacketIdentifier::MIN, ReasonCode::Success);
        ringmq::mqtt::Encode::encode(&packet, ProtocolVersion::V311, &mut slow).expect("it fits");
        assert_eq!(fast, slow);
    }
}

/// Bytes near a valid packet: some replaced, cut or added, the remaining length put right again or left wrong.
fn mutated() -> impl Strategy<Value = (Vec<u8>, ProtocolVersion, Sender)> {
    let cases = packets::cases();
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (any::<prop::sample::Index>(), edits, any::<prop::sample::Index>(), 0..8u8, any::<bool>()).prop_map(
        move |(case, edits, place, act, repair)| {
            let case = &cases[case.index(cases.len())];
            let mut bytes = case.bytes.clone();
            for (position, value) in edits {
                let position = position.index(bytes.len());
                bytes[position] = value;
            }
            let position = place.index(bytes.len());
            match act {
                0 => bytes.truncate(position + 1),
                1 => bytes.insert(position, 0),
                2 => drop(bytes.remove(position)),
                _ => {}
            }
            if repair && bytes.len() > 2 && bytes.len() < 128 {
                bytes[1] = (bytes.len() - 2) as u8;
            }
            (bytes, case.version, case.sender)
        },
    )
}

fn never_panics_and_what_it_takes_it_can_write(bytes: &[u8]) {
    let Ok(Peek::Complete(header)) = frame::peek(bytes, 1 << 20) else { return };
    let body = &bytes[usize::from(header.header_len)..header.total_len()];
    for version in VERSIONS {
        for sender in SENDERS {
            let Ok(packet) = Packet::decode(header, body, version, sender) else { continue };
            walk(&packet);
            let version = if let Packet::Connect(connect) = packet { connect.version } else { version };
            let has_invalid_filter = match packet {
                Packet::Subscribe(subscribe) => subscribe.filters().any(|(filter, _)| filter.is_err()),
                Packet::Unsubscribe(unsubscribe) => unsubscribe.filters().any(|filter| filter.is_err()),
                _ => false,
            };
            let mut out = Vec::new();
            let encoded = packet.encode(version, &mut out);
            assert_eq!(encoded.is_ok(), !has_invalid_filter, "{packet:?}");
            if encoded.is_ok() {
                assert_eq!(decode(&out, version, sender), Ok(packet));
            } else {
                assert!(out.is_empty(), "a failed encode writes nothing");
            }
        }
    }
}

fn config(cases: u32) -> ProptestConfig {
    let persistence = FileFailurePersistence::WithSource("proptest-regressions");
    ProptestConfig { failure_persistence: Some(Box::new(persistence)), ..ProptestConfig::with_cases(cases) }
}

proptest! {
    #![proptest_config(config(4096))]

    #[test]
    fn mutated_packets_never_panic((bytes, _, _) in mutated()) {
        never_panics_and_what_it_takes_it_can_write(&bytes);
    }

    #[test]
    fn random_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 2..64)) {
        bytes[1] = (bytes.len() - 2) as u8;
        never_panics_and_what_it_takes_it_can_write(&bytes);
    }
}
