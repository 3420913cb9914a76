//! What decoding and encoding costs, a packet at a time, bytes hot in the cache.
//!
//! The decode of a PUBLISH includes finding its frame. Budget: 20 to 35 ns with all checks.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringmq::mqtt::{
    AckKind, Connect, Packet, PacketIdentifier, Peek, ProtocolVersion, Publish, PublishFlags, PublishHead, QoS, Sender,
    TopicFilter, TopicName, ack, frame, publish,
};

const TOPIC: &str = "site/berlin/line/7/temperature";

fn encoded_publish(version: ProtocolVersion, qos: QoS, topic: &str, forwarded: &[u8], payload: &[u8]) -> Vec<u8> {
    let packet_identifier = if qos == QoS::AtMostOnce { None } else { PacketIdentifier::new(4711) };
    let flags = PublishFlags { qos, ..PublishFlags::default() };
    let head = PublishHead { flags, topic, packet_identifier, forwarded, ..PublishHead::default() };
    let mut out = Vec::new();
    publish::encode(&mut out, version, &head, payload).expect("it fits");
    out
}

fn decode_publish(bytes: &[u8], version: ProtocolVersion) -> Publish<'_> {
    let Ok(Peek::Complete(header)) = frame::peek(bytes, 1 << 20) else { panic!("a whole packet") };
    let body = &bytes[usize::from(header.header_len)..header.total_len()];
    Publish::decode(header.first, body, version, Sender::Client).expect("a valid packet")
}

fn decode(bytes: &[u8], version: ProtocolVersion) -> Packet<'_> {
    let Ok(Peek::Complete(header)) = frame::peek(bytes, 1 << 20) else { panic!("a whole packet") };
    let body = &bytes[usize::from(header.header_len)..header.total_len()];
    Packet::decode(header, body, version, Sender::Client).expect("a valid packet")
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
        let head = PublishHead { flags, topic, packet_identifier, forwarded, ..PublishHead::default() };
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

fn others(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("packet");
    group.throughput(Throughput::Elements(1));
    let version = ProtocolVersion::V5;
    let mut puback = Vec::new();
    ack::encode_success(&mut puback, AckKind::PubAck, PacketIdentifier::MIN);
    let mut connect = Vec::new();
    Connect::new(version, "sensor-0000000000042").encode(&mut connect).expect("it fits");
    let subscribe = b"\x82\x11\x00\x01\x00\x00\x0bsite/+/line\x01";
    let publish = encoded_publish(version, QoS::AtLeastOnce, TOPIC, b"", &[b'x'; 32]);
    let pingreq = b"\xC0\x00";
    let packets: [(&str, &[u8]); 5] = [
        ("puback", &puback),
        ("connect", &connect),
        ("subscribe", subscribe),
        ("publish", &publish),
        ("pingreq", pingreq),
    ];
    for (name, bytes) in packets {
        group.bench_function(format!("decode {name}"), |bencher| {
            bencher.iter(|| {
                black_box(&decode(black_box(bytes), version));
            });
        });
    }
    let mut out = Vec::with_capacity(64);
    group.bench_function("encode puback", |bencher| {
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
