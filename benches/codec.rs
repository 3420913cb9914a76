//! What decoding and encoding costs, a packet at a time, bytes hot in the cache.
//!
//! The decode of a PUBLISH includes finding its frame. Budget: 20 to 35 ns with all checks.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringmq::mqtt::{
    Ack, AckKind, Auth, ConnAck, Connect, Disconnect, Packet, PacketIdentifier, Peek, ProtocolVersion, Publish,
    PublishFlags, PublishHead, QoS, ReasonCode, ReasonCodes, Sender, SubAck, Subscribe, SubscriptionOptions,
    TopicFilter, TopicName, UnsubAck, Unsubscribe, ack, frame, publish,
};

const TOPIC: &str = "site/berlin/line/7/temperature";

fn encoded_publish(version: ProtocolVersion, qos: QoS, topic: &str, forwarded: &[u8], payload: &[u8]) -> Vec<u8> {
    let packet_identifier = if qos == QoS::AtMostOnce { None } else { PacketIdentifier::new(4711) };
    let flags = PublishFlags { qos, ..PublishFlags::default() };
    let head = PublishHead { flags, topic: topic.as_bytes(), packet_identifier, forwarded, ..PublishHead::default() };
    let mut out = Vec::new();
    publish::encode(&mut out, version, &head, payload).expect("it fits");
    out
}

fn decode_publish(bytes: &[u8], version: ProtocolVersion) -> Publish<'_> {
    let Ok(Peek::Complete(header)) = frame::peek(bytes, 1 << 20) else { panic!("a whole packet") };
    let body = &bytes[usize::from(header.header_len)..header.total_len()];
    Publish::decode(header.first, body, version, Sender::Client).expect("a valid packet")
}

fn decode(bytes: &[u8], version: ProtocolVersion, sender: Sender) -> Packet<'_> {
    let Ok(Peek::Complete(header)) = frame::peek(bytes, 1 << 20) else { panic!("a whole packet") };
    let body = &bytes[usize::from(header.header_len)..header.total_len()];
    Packet::decode(header, body, version, sender).expect("a valid packet")
}

fn publishes(criterion: &mut Criterion) {
    let payload = [b'x'; 32];
    let long_topic = format!("{TOPIC}/{}", "abcdefghi/".repeat(9));
    let accented = "stra\u{df}e/m\u{fc}nchen/k\u{fc}hlschrank/7";
    // Content type, and a user property of a trace.
    let forwarded = b"\x03\x00\x10application/json\x26\x00\x05trace\x00\x0800f067aa";
    let cases = [
        ("311 qos0 30-byte topic", ProtocolVersion::V311, QoS::AtMostOnce, TOPIC, &b""[..]),
        ("311 qos1 30-byte topic", ProtocolVersion::V311, QoS::AtLeastOnce, TOPIC, &b""[..]),
        ("5.0 qos0 30-byte topic", ProtocolVersion::V5, QoS::AtMostOnce, TOPIC, &b""[..]),
        ("5.0 qos1 30-byte topic", ProtocolVersion::V5, QoS::AtLeastOnce, TOPIC, &b""[..]),
        ("5.0 qos1 3-byte topic", ProtocolVersion::V5, QoS::AtLeastOnce, "a/b", &b""[..]),
        ("5.0 qos1 120-byte topic", ProtocolVersion::V5, QoS::AtLeastOnce, long_topic.as_str(), &b""[..]),
        ("5.0 qos1 non-ASCII topic", ProtocolVersion::V5, QoS::AtLeastOnce, accented, &b""[..]),
        ("5.0 qos1 two properties", ProtocolVersion::V5, QoS::AtLeastOnce, TOPIC, &forwarded[..]),
    ];
    let mut group = criterion.benchmark_group("publish");
    group.throughput(Throughput::Elements(1));
    for (name, version, qos, topic, forwarded) in cases {
        let bytes = encoded_publish(version, qos, topic, forwarded, &payload);
        group.bench_function(format!("decode {name}"), |bencher| {
            bencher.iter(|| {
                // By reference: moving the packet would be measured too.
                black_box(&decode_publish(black_box(&bytes), version));
            });
        });
        let packet_identifier = if qos == QoS::AtMostOnce { None } else { PacketIdentifier::new(4711) };
        let flags = PublishFlags { qos, ..PublishFlags::default() };
        let head =
            PublishHead { flags, topic: topic.as_bytes(), packet_identifier, forwarded, ..PublishHead::default() };
        let mut out = Vec::with_capacity(4096);
        group.bench_function(format!("encode {name}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                publish::encode(&mut out, version, black_box(&head), black_box(&payload)).expect("it fits")
            });
        });
    }
    group.finish();
}

/// Every kind of packet but PUBLISH, as it usually is, in 3.1.1 and in 5.0.
fn others(criterion: &mut Criterion) {
    let filters =
        ["site/+/line/7/#", "site/berlin/line/+/temperature"].map(|text| TopicFilter::parse(text).expect("a filter"));
    let subscriptions = filters.map(|filter| (filter, SubscriptionOptions::with_qos(QoS::AtLeastOnce)));
    let granted = [ReasonCode::granted(QoS::AtLeastOnce); 2];
    let success = [ReasonCode::Success; 2];
    let identifier = PacketIdentifier::MIN;
    let ack = |kind| Ack::new(kind, identifier, ReasonCode::Success);
    let mut group = criterion.benchmark_group("packet");
    group.throughput(Throughput::Elements(1));
    for (name, version) in [("311", ProtocolVersion::V311), ("5.0", ProtocolVersion::V5)] {
        let mut connect = Connect::new(version, "sensor-0000000000042");
        (connect.user_name, connect.password) = (Some("sensor"), Some(&b"secret"[..]));
        let mut packets = vec![
            ("connect", Sender::Client, Packet::Connect(connect)),
            ("connack", Sender::Server, Packet::ConnAck(ConnAck::new(false, ReasonCode::Success))),
            ("puback", Sender::Client, Packet::PubAck(ack(AckKind::PubAck))),
            ("pubrec", Sender::Client, Packet::PubRec(ack(AckKind::PubRec))),
            ("pubrel", Sender::Client, Packet::PubRel(ack(AckKind::PubRel))),
            ("pubcomp", Sender::Client, Packet::PubComp(ack(AckKind::PubComp))),
            ("subscribe, two filters", Sender::Client, Packet::Subscribe(Subscribe::new(identifier, &subscriptions))),
            ("suback", Sender::Server, Packet::SubAck(SubAck::new(identifier, ReasonCodes::new(&granted)))),
            ("unsubscribe, two filters", Sender::Client, Packet::Unsubscribe(Unsubscribe::new(identifier, &filters))),
            ("unsuback", Sender::Server, Packet::UnsubAck(UnsubAck::new(identifier, ReasonCodes::new(&success)))),
            ("pingreq", Sender::Client, Packet::PingReq),
            ("pingresp", Sender::Server, Packet::PingResp),
            ("disconnect", Sender::Client, Packet::Disconnect(Disconnect::new(ReasonCode::Success))),
        ];
        if version.has_properties() {
            let auth = Auth::new(ReasonCode::ContinueAuthentication, "SCRAM-SHA-256");
            packets.push(("auth", Sender::Client, Packet::Auth(auth)));
        }
        for (kind, sender, packet) in packets {
            let mut bytes = Vec::new();
            packet.encode(version, &mut bytes).expect("it fits");
            group.bench_function(format!("decode {name} {kind}"), |bencher| {
                bencher.iter(|| {
                    // By reference: moving the packet would be measured too.
                    black_box(&decode(black_box(&bytes), version, sender));
                });
            });
            let mut out = Vec::with_capacity(256);
            group.bench_function(format!("encode {name} {kind}"), |bencher| {
                bencher.iter(|| {
                    out.clear();
                    black_box(&packet).encode(version, &mut out).expect("it fits");
                });
            });
        }
    }
    let mut out = Vec::with_capacity(64);
    group.bench_function("encode puback, the short way", |bencher| {
        bencher.iter(|| {
            out.clear();
            ack::encode_success(&mut out, AckKind::PubAck, black_box(PacketIdentifier::MIN));
        });
    });
    group.finish();

    let filter = TopicFilter::parse("site/+/line/+/temperature").expect("a filter");
    let name = TopicName::parse(TOPIC).expect("a name");
    criterion.bench_function("filter parse", |bencher| {
        bencher.iter(|| TopicFilter::parse(black_box(filter.as_str())).is_ok());
    });
    criterion.bench_function("filter matches (reference)", |bencher| {
        bencher.iter(|| black_box(filter).matches(black_box(&name)));
    });
}

criterion_group!(benches, publishes, others);
criterion_main!(benches);
