//! The codec against `mqtt-proto`, another decoder: what we accept it accepts, with equal fields; what only it accepts is
//! listed, with the clause that makes us refuse.
//!
//! Fields are compared by name for CONNECT, PUBLISH and SUBSCRIBE; for every packet its decoder's packet is written by
//! its encoder and read by ours again, which must give what ours read at first.

mod packets;

use std::collections::BTreeMap;

use mqtt_proto::{v3, v5};
use packets::arbitrary;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use ringmq::mqtt::{
    Connect, DecodeError, InvalidTopicFilter, Packet, PacketType, Peek, ProtocolVersion, Publish, Sender, Subscribe,
    UserProperties, frame,
};

/// Violations that `mqtt-proto` lets pass, and the clause for which we don't.
const ACCEPTED_BY_THE_OTHER_ONLY: &[(&str, &str)] = &[
    ("AuthenticationDataWithoutMethod", "5.0, 3.1.2.11.10: data without a method is a protocol error"),
    ("AuthenticationMethodMissing", "5.0, 3.15.2.2.2: it is a protocol error to omit the method"),
    ("ConnAckFlagsReserved", "3.1, 3.2: the first byte is reserved; it reads Session Present"),
    ("DuplicateAtQoS0", "MQTT-3.3.1-2"),
    ("MaximumPacketSizeZero", "5.0, 3.1.2.11.4: zero is a protocol error"),
    ("NoLocalOnSharedSubscription", "v5 MQTT-3.8.3-4"),
    ("PacketTypeNotFromSender", "it does not know who sent a packet"),
    ("PasswordWithoutUserName", "v3 MQTT-3.1.2-22"),
    ("ReasonCodeNotAllowed", "v5 MQTT-3.14.2-1, v5 MQTT-3.15.2-1: it does not know who sent a packet"),
    ("ReasonCodesMissing", "v3 MQTT-3.8.4-5, v5 MQTT-3.8.4-6, v5 MQTT-3.11.3-1"),
    ("ReceiveMaximumZero", "5.0, 3.1.2.11.3: zero is a protocol error"),
    ("ResponseTopicInvalid", "v5 MQTT-4.7.3-1: an empty response topic"),
    ("ServerReferenceFromClient", "5.0, 3.14.2.2.5: the server sends it"),
    ("SessionExpiryIntervalFromServer", "v5 MQTT-3.14.2-2"),
    ("SessionPresentOnRefusal", "v3 MQTT-3.2.2-4, v5 MQTT-3.2.2-6"),
    ("StringContainsNull", "v3 MQTT-1.5.3-2, v5 MQTT-1.5.4-2"),
    ("SubscriptionIdentifierFromClient", "v5 MQTT-3.3.4-6"),
    ("SubscriptionIdentifierZero", "5.0, 3.3.2.3.8 and 3.8.2.1.2: zero is a protocol error"),
    ("TopicAliasZero", "v5 MQTT-3.3.2-8"),
    ("TopicNameInvalid", "v3 MQTT-4.7.3-1: an empty topic"),
    ("TopicNameMissing", "5.0, 3.3.2.1: neither topic nor alias is a protocol error"),
    ("TrailingBytes", "v5 MQTT-4.13.1-1: lengths that disagree are malformed"),
    ("VariableIntegerNotShortest", "v5 MQTT-1.5.5-1"),
    ("WillFlagsWithoutWill", "v3 MQTT-3.1.2-15, v5 MQTT-3.1.2-13: it forgets Will Retain"),
    ("WillTopicInvalid", "MQTT-4.7.3-1: an empty Will topic"),
];

/// What we take and `mqtt-proto` refuses.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum RefusedByTheOther {
    /// A bridge's level, which is mosquitto's extension.
    BridgeLevel,
    /// A filter that is no filter: we refuse the entry, with 0x8F or 0x80.
    InvalidFilter,
    /// Said to be text and is none: 0x99 is decided above the codec, as the specification allows.
    PayloadFormat,
    /// Several Subscription Identifiers: 3.3.2.3.8 of 5.0 allows them.
    SeveralSubscriptionIdentifiers,
    /// 3.1 allows the flag of a user name or password whose field is missing, and DUP on repeated packets.
    Leniency31,
}

fn ours(bytes: &[u8], version: ProtocolVersion, sender: Sender) -> Result<Option<Packet<'_>>, DecodeError> {
    Ok(match frame::peek(bytes, u32::MAX)? {
        Peek::Incomplete { .. } => None,
        Peek::Complete(header) => {
            let body = &bytes[usize::from(header.header_len)..header.total_len()];
            Some(Packet::decode(header, body, version, sender)?)
        }
    })
}

/// The other decoder's packet, written again by its encoder.
fn theirs(bytes: &[u8], version: ProtocolVersion) -> Option<(Theirs, Vec<u8>)> {
    if version == ProtocolVersion::V5 {
        let packet = v5::Packet::decode(bytes).ok()??;
        let written = packet.encode().ok()?.as_ref().to_vec();
        Some((Theirs::V5(packet), written))
    } else {
        let packet = v3::Packet::decode(bytes).ok()??;
        let written = packet.encode().ok()?.as_ref().to_vec();
        Some((Theirs::V3(packet), written))
    }
}

#[allow(clippy::large_enum_variant, reason = "one lives at a time")]
enum Theirs {
    V3(v3::Packet),
    V5(v5::Packet),
}

fn excuse(packet: &Packet<'_>, bytes: &[u8], version: ProtocolVersion) -> Option<RefusedByTheOther> {
    let is_text = |said: Option<ringmq::mqtt::PayloadFormatIndicator>, payload: &[u8]| {
        said != Some(ringmq::mqtt::PayloadFormatIndicator::Utf8) || std::str::from_utf8(payload).is_ok()
    };
    match packet {
        Packet::Connect(connect) if connect.bridge => Some(RefusedByTheOther::BridgeLevel),
        Packet::Connect(Connect { will: Some(will), .. })
            if !is_text(will.properties.payload_format_indicator, will.payload) =>
        {
            Some(RefusedByTheOther::PayloadFormat)
        }
        Packet::Connect(_) if version == ProtocolVersion::V31 => Some(RefusedByTheOther::Leniency31),
        Packet::Subscribe(subscribe) if subscribe.filters().any(|(filter, _)| filter.is_err()) => {
            Some(RefusedByTheOther::InvalidFilter)
        }
        Packet::Unsubscribe(unsubscribe) if unsubscribe.filters().any(|filter| filter.is_err()) => {
            Some(RefusedByTheOther::InvalidFilter)
        }
        Packet::Publish(publish) if publish.properties.subscription_identifiers.iter().count() > 1 => {
            Some(RefusedByTheOther::SeveralSubscriptionIdentifiers)
        }
        Packet::Publish(publish) if !is_text(publish.properties.payload_format_indicator, publish.payload) => {
            Some(RefusedByTheOther::PayloadFormat)
        }
        _ if version == ProtocolVersion::V31 && bytes[0] & 0b1000 != 0 => Some(RefusedByTheOther::Leniency31),
        _ => None,
    }
}

fn assert_agreement(stream: &[u8], version: ProtocolVersion, sender: Sender) {
    // It reads beyond the length of a packet when more bytes are there, so it is shown one packet only.
    let bytes = match frame::peek(stream, u32::MAX) {
        Ok(Peek::Complete(header)) => &stream[..header.total_len()],
        Ok(Peek::Incomplete { .. }) | Err(_) => stream,
    };
    match (ours(bytes, version, sender), theirs(bytes, version)) {
        (Ok(Some(packet)), Some((their_packet, written))) => {
            if !is_written_wrongly(&their_packet) {
                assert_eq!(ours(&written, version, sender), Ok(Some(packet)), "{version}: {bytes:02X?}");
            }
            assert_equal_fields(&packet, &their_packet);
        }
        (Ok(Some(packet)), None) => {
            let version = if let Packet::Connect(connect) = packet { connect.version } else { version };
            // A decoder of one version is no judge of the CONNECT of another.
            assert!(excuse(&packet, bytes, version).is_some(), "only we take {packet:?}: {bytes:02X?}");
        }
        (Err(error), Some(_)) => {
            let name = format!("{error:?}");
            let name = name.split(' ').next().expect("a name");
            let is_listed = ACCEPTED_BY_THE_OTHER_ONLY.iter().any(|(listed, _)| *listed == name);
            assert!(is_listed, "only mqtt-proto takes what has {error:?}: {version} {sender:?} {bytes:02X?}");
        }
        (Err(_) | Ok(None), _) => {}
    }
}

/// `mqtt-proto` 0.4 reads the refusal of a SUBACK of 3.1.1 as it should, and writes 3 for it instead of 0x80.
fn is_written_wrongly(theirs: &Theirs) -> bool {
    matches!(theirs, Theirs::V3(v3::Packet::Suback(suback)) if suback.topics.contains(&v3::SubscribeReturnCode::Failure))
}

fn assert_equal_fields(ours: &Packet<'_>, theirs: &Theirs) {
    match (ours, theirs) {
        (Packet::Publish(ours), Theirs::V3(v3::Packet::Publish(theirs))) => {
            assert_equal_publish(ours, theirs.dup, theirs.retain, theirs.qos_pid, &theirs.topic_name, &theirs.payload);
        }
        (Packet::Publish(ours), Theirs::V5(v5::Packet::Publish(theirs))) => {
            assert_equal_publish(ours, theirs.dup, theirs.retain, theirs.qos_pid, &theirs.topic_name, &theirs.payload);
            assert_equal_publish_properties(ours, &theirs.properties);
        }
        (Packet::Connect(ours), Theirs::V3(v3::Packet::Connect(theirs))) => {
            assert_eq!(ours.version.level(), theirs.protocol as u8);
            assert_eq!(ours.clean_start, theirs.clean_session);
            assert_equal_connect(ours, theirs.keep_alive, &theirs.client_id, theirs.username.as_deref());
            assert_eq!(ours.password, theirs.password.as_deref());
            let will = theirs.last_will.as_ref();
            let will = will.map(|will| (&*will.topic_name, &*will.message, will.qos as u8, will.retain));
            assert_eq!(will_fields(ours), will);
        }
        (Packet::Connect(ours), Theirs::V5(v5::Packet::Connect(theirs))) => {
            assert_eq!(ours.clean_start, theirs.clean_start);
            assert_equal_connect(ours, theirs.keep_alive, &theirs.client_id, theirs.username.as_deref());
            assert_eq!(ours.password, theirs.password.as_deref());
            let will = theirs.last_will.as_ref();
            let will = will.map(|will| (&*will.topic_name, &*will.payload, will.qos as u8, will.retain));
            assert_eq!(will_fields(ours), will);
            assert_equal_connect_properties(ours, &theirs.properties);
        }
        // It lets `+a` stand at the end of a filter; we refuse that entry. // v3 MQTT-4.7.1-3, v5 MQTT-4.7.1-2
        (Packet::Subscribe(ours), _) if ours.filters().any(|(filter, _)| filter == Err(MISPLACED)) => {}
        (Packet::Subscribe(ours), Theirs::V3(v3::Packet::Subscribe(theirs))) => {
            let entries = theirs.topics.iter().map(|(filter, qos)| (filter.to_string(), *qos as u8));
            assert_eq!(entries_of(ours), entries.collect::<Vec<_>>());
        }
        (Packet::Subscribe(ours), Theirs::V5(v5::Packet::Subscribe(theirs))) => {
            let entries = theirs.topics.iter().map(|(filter, options)| (filter.to_string(), options.to_u8()));
            assert_eq!(entries_of(ours), entries.collect::<Vec<_>>());
            let identifier = theirs.properties.subscription_id.map(|identifier| identifier.value());
            assert_eq!(ours.subscription_identifier.map(|identifier| identifier.get()), identifier);
            assert_equal_pairs(ours.user_properties, &theirs.properties.user_properties);
        }
        (Packet::SubAck(ours), Theirs::V3(v3::Packet::Suback(theirs))) => {
            let is_error = theirs.topics.iter().map(|code| *code == v3::SubscribeReturnCode::Failure);
            let ours = ours.reason_codes.iter().map(ringmq::mqtt::ReasonCode::is_error);
            assert_eq!(ours.collect::<Vec<_>>(), is_error.collect::<Vec<_>>());
        }
        _ => {}
    }
}

const MISPLACED: InvalidTopicFilter = InvalidTopicFilter::SingleLevelWildcardMisplaced;

fn assert_equal_publish(
    ours: &Publish<'_>,
    dup: bool,
    retain: bool,
    qos_and_identifier: mqtt_proto::QosPid,
    topic: &str,
    payload: &[u8],
) {
    assert_eq!((ours.dup, ours.retain, ours.topic, ours.payload), (dup, retain, topic, payload));
    assert_eq!(ours.qos.value(), qos_and_identifier.qos() as u8);
    let identifier = qos_and_identifier.pid().map(|identifier| identifier.value());
    assert_eq!(ours.packet_identifier.map(|identifier| identifier.value()), identifier);
}

fn assert_equal_publish_properties(ours: &Publish<'_>, theirs: &v5::PublishProperties) {
    let ours = ours.properties;
    assert_eq!(ours.payload_format_indicator.map(|format| format as u8 == 1), theirs.payload_is_utf8);
    assert_eq!(ours.message_expiry_interval, theirs.message_expiry_interval);
    assert_eq!(ours.topic_alias, theirs.topic_alias);
    assert_eq!(ours.response_topic.map(|topic| topic.as_str()), theirs.response_topic.as_deref());
    assert_eq!(ours.correlation_data, theirs.correlation_data.as_deref());
    assert_eq!(ours.content_type, theirs.content_type.as_deref());
    let identifier = theirs.subscription_id.map(|identifier| identifier.value());
    assert_eq!(ours.subscription_identifiers.iter().next().map(|identifier| identifier.get()), identifier);
    assert_equal_pairs(ours.user_properties, &theirs.user_properties);
}

fn assert_equal_connect(ours: &Connect<'_>, keep_alive_s: u16, client_id: &str, user_name: Option<&str>) {
    assert_eq!((ours.keep_alive_s, ours.client_id, ours.user_name), (keep_alive_s, client_id, user_name));
}

fn assert_equal_connect_properties(ours: &Connect<'_>, theirs: &v5::ConnectProperties) {
    let ours = ours.properties;
    assert_eq!(ours.session_expiry_interval, theirs.session_expiry_interval);
    assert_eq!(ours.receive_maximum.map(|maximum| maximum.get()), theirs.receive_max);
    assert_eq!(ours.maximum_packet_size.map(|size| size.get()), theirs.max_packet_size);
    assert_eq!(ours.topic_alias_maximum, theirs.topic_alias_max.unwrap_or(0));
    assert_eq!(ours.request_response_information, theirs.request_response_info.unwrap_or(false));
    assert_eq!(ours.request_problem_information, theirs.request_problem_info.unwrap_or(true));
    assert_eq!(ours.authentication_method, theirs.auth_method.as_deref());
    assert_eq!(ours.authentication_data, theirs.auth_data.as_deref());
    assert_equal_pairs(ours.user_properties, &theirs.user_properties);
}

fn assert_equal_pairs(ours: UserProperties<'_>, theirs: &[v5::UserProperty]) {
    let theirs = theirs.iter().map(|property| (&*property.name, &*property.value));
    assert_eq!(ours.iter().collect::<Vec<_>>(), theirs.collect::<Vec<_>>());
}

fn will_fields<'a>(connect: &Connect<'a>) -> Option<(&'a str, &'a [u8], u8, bool)> {
    connect.will.map(|will| (will.topic.as_str(), will.payload, will.qos.value(), will.retain))
}

fn entries_of(subscribe: &Subscribe<'_>) -> Vec<(String, u8)> {
    let entry = |(filter, options): ringmq::mqtt::subscribe::SubscribeEntry<'_>| {
        let flags = u8::from(options.no_local) << 2 | u8::from(options.retain_as_published) << 3;
        let filter = filter.expect("the other one took it");
        (filter.to_string(), options.qos.value() | flags | (options.retain_handling as u8) << 4)
    };
    subscribe.filters().map(entry).collect()
}

#[test]
fn both_agree_on_the_packet_table() {
    for case in packets::cases() {
        assert_agreement(&case.bytes, case.version, case.sender);
    }
}

#[test]
fn each_listed_difference_exists() {
    let mut found = BTreeMap::<String, Vec<u8>>::new();
    for case in packets::cases() {
        if let (Err(error), Some(_)) = (ours(&case.bytes, case.version, case.sender), theirs(&case.bytes, case.version))
        {
            let name = format!("{error:?}");
            found.entry(name.split(' ').next().expect("a name").to_owned()).or_insert(case.bytes);
        }
    }
    let listed: Vec<_> = ACCEPTED_BY_THE_OTHER_ONLY.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(found.into_keys().collect::<Vec<_>>(), listed, "the list is what the table shows, in order");
}

fn config(cases: u32) -> ProptestConfig {
    let persistence = FileFailurePersistence::WithSource("proptest-regressions");
    ProptestConfig { failure_persistence: Some(Box::new(persistence)), ..ProptestConfig::with_cases(cases) }
}

proptest! {
    #![proptest_config(config(8192))]

    #[test]
    fn both_agree_on_what_we_write((version, sender, packet) in arbitrary::packet()) {
        let mut bytes = Vec::new();
        packet.encode(version, &mut bytes).expect("a valid packet can be encoded");
        assert_agreement(&bytes, version, sender);
    }

    #[test]
    fn both_agree_near_what_we_write(
        (version, sender, packet) in arbitrary::packet(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..3),
    ) {
        let mut bytes = Vec::new();
        packet.encode(version, &mut bytes).expect("a valid packet can be encoded");
        for (position, value) in edits {
            let position = position.index(bytes.len());
            bytes[position] = value;
        }
        // The CONNECT of another version is for another decoder.
        if bytes[0] >> 4 == PacketType::Connect as u8 && packet.packet_type() != PacketType::Connect {
            return Ok(());
        }
        assert_agreement(&bytes, version, sender);
    }
}
