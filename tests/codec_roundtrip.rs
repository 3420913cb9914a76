//! Arbitrary packets of each type and version: what is encoded decodes to the same.

mod packets;

use packets::arbitrary;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use ringmq::mqtt::{
    Ack, AckKind, Auth, ConnAck, Disconnect, Encode, EncodeError, EncodeWithin, Packet, PacketIdentifier, Peek,
    ProtocolVersion, Publish, PublishProperties, QoS, ReasonCode, ReasonCodes, Sender, SubAck, Subscribe, UnsubAck,
    UserProperties, frame,
};

fn config(cases: u32) -> ProptestConfig {
    let persistence = FileFailurePersistence::WithSource("proptest-regressions");
    ProptestConfig { failure_persistence: Some(Box::new(persistence)), ..ProptestConfig::with_cases(cases) }
}

fn encoded(packet: &Packet<'_>, version: ProtocolVersion) -> Vec<u8> {
    let mut out = Vec::new();
    packet.encode(version, &mut out).expect("a valid packet can be encoded");
    out
}

fn assert_decodes(bytes: &[u8], version: ProtocolVersion, sender: Sender, packet: &Packet<'_>) {
    let Ok(Peek::Complete(header)) = frame::peek(bytes, u32::MAX) else { panic!("not whole: {bytes:02X?}") };
    assert_eq!(header.total_len(), bytes.len());
    let decoded = Packet::decode(header, &bytes[usize::from(header.header_len)..], version, sender);
    assert_eq!(decoded, Ok(*packet));
    assert_eq!(packet.packet_type() as u8, bytes[0] >> 4);
}

proptest! {
    #![proptest_config(config(8192))]

    #[test]
    fn decoding_undoes_encoding((version, sender, packet) in arbitrary::packet()) {
        let bytes = encoded(&packet, version);
        assert_decodes(&bytes, version, sender, &packet);
    }

    #[test]
    fn a_packet_shrinks_to_fit_and_in_the_right_order((version, _, packet) in arbitrary::packet(), room in 0..200u32) {
        match packet {
            Packet::ConnAck(connack) => assert_shrinks(&connack, version, room),
            Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
                assert_shrinks(&ack, version, room);
            }
            Packet::SubAck(suback) => assert_shrinks(&suback, version, room),
            Packet::UnsubAck(unsuback) => assert_shrinks(&unsuback, version, room),
            Packet::Disconnect(disconnect) => assert_shrinks(&disconnect, version, room),
            Packet::Auth(auth) => assert_shrinks(&auth, version, room),
            _ => {}
        }
    }
}

fn assert_shrinks<P: EncodeWithin>(packet: &P, version: ProtocolVersion, room: u32) {
    let without_reason = packet.without_reason_string();
    let bare = without_reason.without_user_properties();
    let len = |packet: &P| packet.encoded_len(version).expect("it is valid");
    let expected = [*packet, without_reason, bare].into_iter().find(|packet| len(packet) <= room as usize);
    let (mut out, mut wanted) = (b"x".to_vec(), b"x".to_vec());
    let fits = packet.encode_within(version, room, &mut out);
    assert_eq!(fits, expected.is_some());
    if let Some(expected) = expected {
        expected.encode(version, &mut wanted).expect("it is valid");
        assert_eq!(wanted.len() - 1, len(&expected), "the length is known before");
    }
    assert_eq!(out, wanted);
}

#[test]
fn what_does_not_fit_its_form_is_refused_and_nothing_written() {
    let long = "x".repeat(65_536);
    let identifier = PacketIdentifier::MIN;
    let publish = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "a",
        packet_identifier: None,
        properties: PublishProperties::default(),
        payload: b"",
    };
    let ack = Ack::new(AckKind::PubAck, identifier, ReasonCode::Success);
    let v5 = ProtocolVersion::V5;
    let long_pair = [(long.as_str(), "v")];
    let granted = [ReasonCode::ServerMoved];
    let cases = [
        (v5, Packet::Publish(Publish { topic: &long, ..publish }), EncodeError::FieldTooLong),
        (v5, Packet::Publish(Publish { topic: "a\0", ..publish }), EncodeError::StringContainsNull),
        (v5, Packet::Publish(Publish { topic: "", ..publish }), EncodeError::ContentMissing),
        (v5, Packet::Publish(Publish { dup: true, ..publish }), EncodeError::PublishFlagsDisagree),
        (v5, Packet::Publish(Publish { qos: QoS::AtLeastOnce, ..publish }), EncodeError::PublishFlagsDisagree),
        (
            v5,
            Packet::Publish(Publish { packet_identifier: Some(identifier), ..publish }),
            EncodeError::PublishFlagsDisagree,
        ),
        (v5, Packet::PubAck(Ack { reason_string: Some(&long), ..ack }), EncodeError::FieldTooLong),
        (
            v5,
            Packet::PubAck(Ack { user_properties: UserProperties::new(&long_pair), ..ack }),
            EncodeError::FieldTooLong,
        ),
        (
            v5,
            Packet::PubAck(Ack { reason_code: ReasonCode::PacketIdentifierNotFound, ..ack }),
            EncodeError::ReasonCodeNotAllowed,
        ),
        (v5, Packet::Subscribe(Subscribe::new(identifier, &[])), EncodeError::ContentMissing),
        (v5, Packet::SubAck(SubAck::new(identifier, ReasonCodes::new(&[]))), EncodeError::ContentMissing),
        (v5, Packet::SubAck(SubAck::new(identifier, ReasonCodes::new(&granted))), EncodeError::ReasonCodeNotAllowed),
        (
            v5,
            Packet::UnsubAck(UnsubAck::new(identifier, ReasonCodes::new(&granted))),
            EncodeError::ReasonCodeNotAllowed,
        ),
        (v5, Packet::ConnAck(ConnAck::new(false, ReasonCode::KeepAliveTimeout)), EncodeError::ReasonCodeNotAllowed),
        (
            ProtocolVersion::V311,
            Packet::ConnAck(ConnAck::new(false, ReasonCode::UnspecifiedError)),
            EncodeError::ReasonCodeNotAllowed,
        ),
        (v5, Packet::Disconnect(Disconnect::new(ReasonCode::GrantedQoS1)), EncodeError::ReasonCodeNotAllowed),
        (ProtocolVersion::V311, Packet::Auth(Auth::new(ReasonCode::Success, "m")), EncodeError::PacketTypeNotInVersion),
    ];
    for (version, packet, error) in cases {
        let mut out = b"x".to_vec();
        assert_eq!(packet.encode(version, &mut out), Err(error), "{:?}", packet.packet_type());
        assert_eq!(out, b"x");
    }
}

#[test]
fn a_suback_of_311_says_0x80_for_every_refusal_and_one_of_31_cannot_refuse() {
    let codes = [ReasonCode::GrantedQoS1, ReasonCode::NotAuthorized, ReasonCode::TopicFilterInvalid];
    let suback = SubAck::new(PacketIdentifier::MIN, ReasonCodes::new(&codes));
    let mut out = Vec::new();
    suback.encode(ProtocolVersion::V311, &mut out).expect("3.1.1 refuses with 0x80");
    assert_eq!(out, [0x90, 5, 0, 1, 1, 0x80, 0x80]);
    assert_eq!(suback.encode(ProtocolVersion::V31, &mut out), Err(EncodeError::ReasonCodeNotAllowed));
}
