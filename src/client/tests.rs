//! The client against a server that a test writes byte by byte.

use bytes::Bytes;

use super::*;
use crate::mqtt::{ReasonCodes, SubAck};

/// What the client told, in a form that a test can compare.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Connected(bool),
    Subscribed(u16, Vec<ReasonCode>),
    Unsubscribed(u16),
    Received(String, Vec<u8>),
    Acknowledged(u32, ReasonCode),
    Pong,
}

impl From<ClientEvent<'_>> for Told {
    fn from(event: ClientEvent<'_>) -> Self {
        match event {
            ClientEvent::Connected { session_present } => Told::Connected(session_present),
            ClientEvent::Subscribed { packet_identifier, reason_codes } => {
                Told::Subscribed(packet_identifier.value(), reason_codes.iter().collect())
            }
            ClientEvent::Unsubscribed { packet_identifier } => Told::Unsubscribed(packet_identifier.value()),
            ClientEvent::Received(publish) => Told::Received(publish.topic.to_owned(), publish.payload.to_vec()),
            ClientEvent::Acknowledged { token, reason_code } => Told::Acknowledged(token, reason_code),
            ClientEvent::Pong => Told::Pong,
        }
    }
}

/// A client and what it has sent.
struct Script {
    client: Client,
    out: Vec<u8>,
}

impl Script {
    fn connected(version: ProtocolVersion) -> Script {
        let mut script = Script::new(version);
        let told = script.receive(&script.encoded(&ConnAck::new(false, ReasonCode::Success)));
        assert_eq!(told, Ok(vec![Told::Connected(false)]));
        script
    }

    fn new(version: ProtocolVersion) -> Script {
        let mut client = Client::new(ClientOptions { version, in_flight_max: 3, ..ClientOptions::default() });
        let mut out = Vec::new();
        client.connect(&Connect::new(version, "c"), &mut out).unwrap();
        assert_eq!(out[0], PacketType::Connect.first_byte());
        out.clear();
        Script { client, out }
    }

    fn encoded(&self, packet: &impl Encode) -> Vec<u8> {
        let mut bytes = Vec::new();
        packet.encode(self.client.version, &mut bytes).unwrap();
        bytes
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<Vec<Told>, ClientError> {
        let mut told = Vec::new();
        self.client.handle_input(bytes, &mut self.out, |event| told.push(event.into()))?;
        Ok(told)
    }

    /// What the client has sent since this was last asked.
    fn sent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    fn publish(&mut self, qos: QoS, token: u32) -> Result<(), ClientError> {
        let topic = TopicName::parse("t").unwrap();
        self.client.publish(topic, b"x", qos, false, token, &mut self.out)
    }
}

fn message(qos: QoS, identifier: u16, payload: &[u8]) -> Publish<'_> {
    let packet_identifier = PacketIdentifier::new(identifier);
    let properties = PublishProperties::default();
    Publish { dup: false, qos, retain: false, topic: "t", packet_identifier, properties, payload }
}

fn received(payload: &[u8]) -> Told {
    Told::Received("t".to_owned(), payload.to_vec())
}

const VERSIONS: [ProtocolVersion; 3] = [ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5];

#[test]
fn a_subscription_is_answered_and_ended() {
    for version in VERSIONS {
        let mut script = Script::connected(version);
        let filter = TopicFilter::parse("a/+").unwrap();
        let options = SubscriptionOptions::default();
        let identifier = script.client.subscribe(&[(filter, options)], &mut script.out).unwrap();
        assert_eq!(script.sent()[0], PacketType::Subscribe.first_byte());
        let codes = [ReasonCode::granted(QoS::AtMostOnce)];
        let suback = script.encoded(&SubAck::new(identifier, ReasonCodes::new(&codes)));
        assert_eq!(script.receive(&suback), Ok(vec![Told::Subscribed(1, codes.to_vec())]));
        let again = script.receive(&suback);
        assert_eq!(again, Err(ClientError::UnknownPacketIdentifier(PacketType::SubAck, identifier)));
    }
}

#[test]
fn packets_are_understood_wherever_they_are_cut() {
    let script = Script::connected(ProtocolVersion::V311);
    let mut bytes = Vec::new();
    for (number, qos) in [(0, QoS::AtMostOnce), (1, QoS::AtLeastOnce), (2, QoS::ExactlyOnce)] {
        let payload = vec![number as u8; 200];
        bytes.extend(script.encoded(&message(qos, number, &payload)));
    }
    bytes.extend([PacketType::PingResp.first_byte(), 0]);
    for cut in 0..=bytes.len() {
        for second in [cut, (cut + 1).min(bytes.len()), (cut + 130).min(bytes.len())] {
            let mut script = Script::connected(ProtocolVersion::V311);
            let mut told = script.receive(&bytes[..cut]).unwrap();
            told.extend(script.receive(&bytes[cut..second]).unwrap());
            told.extend(script.receive(&bytes[second..]).unwrap());
            assert_eq!(told.len(), 4, "cut at {cut} and {second}");
            assert_eq!(told[1], received(&[1; 200]));
            assert_eq!(script.sent(), [0x40, 2, 0, 1, 0x50, 2, 0, 2]);
            assert_eq!(script.client.partial.capacity(), 0, "no memory stays behind");
        }
    }
}

#[test]
fn qos_1_is_acknowledged_to_its_token() {
    for version in VERSIONS {
        let mut script = Script::connected(version);
        for token in 10..13 {
            script.publish(QoS::AtLeastOnce, token).unwrap();
        }
        assert!(!script.client.can_publish(QoS::AtLeastOnce));
        assert!(script.client.can_publish(QoS::AtMostOnce));
        assert_eq!(script.publish(QoS::AtLeastOnce, 13), Err(ClientError::InFlightFull));
        // Out of order, as no server should and a client must bear.
        assert_eq!(script.receive(&[0x40, 2, 0, 2]), Ok(vec![Told::Acknowledged(11, ReasonCode::Success)]));
        assert_eq!(script.receive(&[0x40, 2, 0, 3]), Ok(vec![Told::Acknowledged(12, ReasonCode::Success)]));
        assert_eq!(script.receive(&[0x40, 2, 0, 1]), Ok(vec![Told::Acknowledged(10, ReasonCode::Success)]));
        assert_eq!(script.client.in_flight(), 0);
        assert!(script.receive(&[0x40, 2, 0, 1]).is_err());
        assert!(!script.client.is_connected(), "an error is the end");
    }
}

#[test]
fn qos_2_goes_through_both_halves() {
    let mut script = Script::connected(ProtocolVersion::V5);
    script.publish(QoS::ExactlyOnce, 7).unwrap();
    script.publish(QoS::ExactlyOnce, 8).unwrap();
    script.sent();
    assert_eq!(script.receive(&[0x50, 2, 0, 1]), Ok(vec![]));
    assert_eq!(script.sent(), [0x62, 2, 0, 1]);
    assert_eq!(script.receive(&[0x50, 2, 0, 1]), Ok(vec![]), "a second PUBREC is answered like the first");
    assert_eq!(script.sent(), [0x62, 2, 0, 1]);
    assert_eq!(script.receive(&[0x70, 2, 0, 1]), Ok(vec![Told::Acknowledged(7, ReasonCode::Success)]));
    let refusal =
        script.encoded(&Ack::new(AckKind::PubRec, PacketIdentifier::new(2).unwrap(), ReasonCode::QuotaExceeded));
    assert_eq!(script.receive(&refusal), Ok(vec![Told::Acknowledged(8, ReasonCode::QuotaExceeded)]));
    assert!(script.sent().is_empty());
}

#[test]
fn an_incoming_qos_2_message_is_told_once() {
    let mut script = Script::connected(ProtocolVersion::V311);
    let publish = script.encoded(&message(QoS::ExactlyOnce, 65_535, b"a"));
    assert_eq!(script.receive(&publish), Ok(vec![received(b"a")]));
    assert_eq!(script.receive(&publish), Ok(vec![]), "again before PUBREL");
    assert_eq!(script.receive(&[0x62, 2, 0xFF, 0xFF]), Ok(vec![]));
    assert_eq!(script.receive(&publish), Ok(vec![received(b"a")]), "the identifier is free for a new message");
    assert_eq!(script.sent(), [0x50, 2, 255, 255, 0x50, 2, 255, 255, 0x70, 2, 255, 255, 0x50, 2, 255, 255]);
}

#[test]
fn the_servers_receive_maximum_and_keep_alive_hold() {
    let mut script = Script::new(ProtocolVersion::V5);
    let mut connack = ConnAck::new(true, ReasonCode::Success);
    connack.properties.receive_maximum = std::num::NonZeroU16::new(1);
    connack.properties.server_keep_alive = Some(10);
    let connack = script.encoded(&connack);
    assert_eq!(script.receive(&connack), Ok(vec![Told::Connected(true)]));
    script.publish(QoS::AtLeastOnce, 0).unwrap();
    assert_eq!(script.publish(QoS::AtLeastOnce, 1), Err(ClientError::InFlightFull));
    script.sent();
    let now = Moment::from_micros(1_000_000);
    let next = script.client.handle_time(now, &mut script.out);
    assert_eq!(next, now.after(Duration::from_secs(5)));
    assert!(script.sent().is_empty());
    script.client.handle_time(next, &mut script.out);
    assert_eq!(script.sent(), [0xC0, 0]);
    assert_eq!(script.receive(&[0xD0, 0]), Ok(vec![Told::Pong]));
    script.client.ping(&mut script.out).unwrap();
    assert_eq!(script.sent(), [0xC0, 0], "whatever the keep-alive asks for");
}

#[test]
fn refusals_and_violations_end_the_client() {
    let mut script = Script::new(ProtocolVersion::V311);
    let told = script.receive(&[0x20, 2, 0, 5]);
    assert_eq!(told, Err(ClientError::Refused(ReasonCode::NotAuthorized)));
    let mut script = Script::new(ProtocolVersion::V311);
    let early = script.encoded(&message(QoS::AtMostOnce, 0, b""));
    assert_eq!(script.receive(&early), Err(ClientError::UnexpectedPacket(PacketType::Publish)));
    let mut script = Script::connected(ProtocolVersion::V5);
    let bye = script.encoded(&Disconnect::new(ReasonCode::ServerShuttingDown));
    assert_eq!(script.receive(&bye), Err(ClientError::Disconnected(ReasonCode::ServerShuttingDown)));
    assert_eq!(script.receive(&bye), Ok(vec![]), "what comes later is nobody's business");
    let mut script = Script::connected(ProtocolVersion::V5);
    assert!(matches!(script.receive(&[0xFF; 5]), Err(ClientError::Malformed(_))));
    assert_eq!(script.publish(QoS::AtMostOnce, 0), Err(ClientError::WrongState));
}

#[test]
fn a_template_is_the_same_packet_as_an_encoded_publish() {
    for version in VERSIONS {
        for (qos, tail_bytes) in [
            (QoS::AtMostOnce, 0),
            (QoS::AtLeastOnce, 100),
            (QoS::AtLeastOnce, 200),
            (QoS::ExactlyOnce, 5_000),
            (QoS::ExactlyOnce, 20_000),
        ] {
            let tail = Bytes::from(vec![b'.'; tail_bytes]);
            let topic = TopicName::parse("t").unwrap();
            let template = PublishTemplate::new(version, topic, qos, false, 16, tail.clone()).unwrap();
            let mut script = Script::connected(version);
            let mut out = OutBuffer::new();
            let mut expected = Vec::new();
            // The longest payload, then shorter ones, whose length takes fewer bytes to say.
            for (number, cut) in [(1_u8, 0), (2, tail_bytes / 2), (3, tail_bytes)] {
                let tail = &tail[cut..];
                let payload_bytes = 16 + tail.len();
                let stamp = [number; 16];
                script.client.publish_prepared(&template, &stamp, payload_bytes, 0, &mut out).unwrap();
                let identifier = if qos == QoS::AtMostOnce { 0 } else { u16::from(number) };
                let payload = [&stamp[..], tail].concat();
                expected.extend(script.encoded(&message(qos, identifier, &payload)));
            }
            let sent: Vec<u8> = out.slices(0).flatten().copied().collect();
            assert!(sent == expected, "{version} {qos:?} {tail_bytes}");
            let longest =
                script.encoded(&message(qos, u16::from(qos != QoS::AtMostOnce), &[&[1; 16], &tail[..]].concat()));
            assert_eq!(template.packet_bytes(), longest.len());
        }
    }
}

#[test]
fn identifiers_go_round_and_pass_over_those_in_use() {
    let mut script = Script::connected(ProtocolVersion::V311);
    let filter = TopicFilter::parse("a").unwrap();
    let open = script.client.unsubscribe(&[filter], &mut script.out).unwrap();
    assert_eq!(open, PacketIdentifier::MIN);
    for round in 0..70_000_u32 {
        script.publish(QoS::AtLeastOnce, round).unwrap();
        let sent = script.sent();
        let identifier = [sent[sent.len() - 3], sent[sent.len() - 2]];
        assert_ne!(u16::from_be_bytes(identifier), open.value());
        let told = script.receive(&[0x40, 2, identifier[0], identifier[1]]);
        assert_eq!(told, Ok(vec![Told::Acknowledged(round, ReasonCode::Success)]));
    }
    assert_eq!(script.receive(&[0xB0, 2, 0, 1]), Ok(vec![Told::Unsubscribed(1)]));
}
