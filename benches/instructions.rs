//! What the way of a message costs in instructions, for callgrind to count: `scripts/instructions` runs it.
//!
//! Each case is a number of rounds on a pure shard or a part of one, after as many that warm it up. Counted is what runs
//! inside of [`counted_rounds`]: neither the start of the process nor the making of the scene is in it. All seeds are fixed.
//!
//! `instructions --list` prints each case with the number of things (deliveries, packets, …) that its counted rounds make;
//! `instructions CASE` runs one.

#![allow(missing_docs)]

#[allow(dead_code, reason = "each target uses its own part")]
#[path = "../tests/house/pure.rs"]
mod pure;
#[path = "../tests/house/traffic.rs"]
mod traffic;

use std::{hint::black_box, process::ExitCode};

use pure::{PureShard, publish, subscribe};
use ringmq::{
    mqtt::{
        Connect, Encode, PacketIdentifier, Peek, ProtocolVersion, Publish, PublishFlags, PublishHead,
        PublishProperties, QoS, Sender, frame, publish as codec,
    },
    routing::{FilterTable, HashKey, Matches},
    shard::{Subscription, SubscriptionBits},
};
use traffic::{Crossing, PAYLOAD, Shape, TOPIC, Traffic};

/// The broker's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Something to count.
struct Case {
    name: &'static str,
    rounds: usize,
    /// How many deliveries, packets, … a round makes.
    things: usize,
    make: Make,
}

enum Make {
    Traffic(Shape),
    /// Gives what runs a round, by its number.
    Part(fn() -> Round),
}

type Round = Box<dyn FnMut(usize)>;

fn cases() -> Vec<Case> {
    use ProtocolVersion::{V5, V311};
    use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};
    let traffic =
        |name, rounds, shape: Shape| Case { name, rounds, things: shape.deliveries(), make: Make::Traffic(shape) };
    let part = |name, rounds, things, make| Case { name, rounds, things, make: Make::Part(make) };
    vec![
        traffic("qos0-1-to-1", 4096, Shape::pair(AtMostOnce, 1)),
        traffic("qos0-1-to-1-batches-of-64", 128, Shape::pair(AtMostOnce, 64)),
        traffic("qos1-1-to-1", 4096, Shape::pair(AtLeastOnce, 1)),
        traffic("qos1-1-to-1-batches-of-64", 128, Shape::pair(AtLeastOnce, 64)),
        traffic("qos2-1-to-1", 4096, Shape::pair(ExactlyOnce, 1)),
        traffic("qos2-1-to-1-batches-of-64", 128, Shape::pair(ExactlyOnce, 64)),
        traffic("qos0-v5-1-to-1-batches-of-64", 128, {
            Shape { version: V5, subscriber: |_| (V5, AtMostOnce), ..Shape::pair(AtMostOnce, 64) }
        }),
        part("qos0-crossing", 2048, 2, || crossing(1)),
        part("qos0-crossing-batches-of-64", 64, 128, || crossing(64)),
        traffic("qos0-1-to-1000", 32, Shape::fan_out(AtMostOnce, |_| (V311, AtMostOnce))),
        traffic("qos0-1-to-1000-v5", 32, Shape::fan_out(AtMostOnce, |_| (V5, AtMostOnce))),
        traffic("qos1-1-to-1000", 32, Shape::fan_out(AtLeastOnce, |_| (V311, AtLeastOnce))),
        traffic("qos0-1000-to-1", 32, Shape::fan_in(AtMostOnce)),
        traffic("qos1-1000-to-1", 32, Shape::fan_in(AtLeastOnce)),
        traffic("qos0-100-to-5-shared", 64, Shape::shared()),
        part("qos0-1-to-1-topics-in-turn", 128, 64, topics_in_turn),
        part("connect-and-subscribe", 1024, 1, connect_and_subscribe),
        part("retained-store", 4096, 1, retained_store),
        part("retained-replay-of-1000", 16, 1000, retained_replay),
        part("decode-publish-v3-qos0", 4096, 1, || decode_publish(V311, AtMostOnce, PublishProperties::default())),
        part("decode-publish-v5-qos1", 4096, 1, || decode_publish(V5, AtLeastOnce, properties())),
        part("encode-publish-v3-qos0", 4096, 1, || encode_publish(V311, AtMostOnce)),
        part("encode-publish-v5-qos1", 4096, 1, || encode_publish(V5, AtLeastOnce)),
        part("match-exact-of-10000", 4096, 1, || matching(|n| format!("dev/{n:08}/any/x"))),
        part("match-wildcard-of-10000", 4096, 1, || matching(|n| format!("dev/{n:08}/+/x"))),
    ]
}

fn main() -> ExitCode {
    // Cargo adds a flag of its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let cases = cases();
    match arguments.as_slice() {
        [argument] if argument == "--list" => {
            cases.iter().for_each(|case| println!("{} {}", case.name, case.rounds * case.things));
        }
        [name] if cases.iter().any(|case| case.name == name) => {
            cases.iter().filter(|case| case.name == name).for_each(run);
        }
        // Without callgrind there is nothing to count: a plain `cargo bench` says so and goes on.
        [] => println!("scripts/instructions runs this under callgrind; --list prints the cases"),
        _ => {
            eprintln!("instructions: expected --list or the name of a case");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn run(case: &Case) {
    let mut round: Round = match case.make {
        Make::Traffic(shape) => {
            let mut traffic = Traffic::new(shape);
            Box::new(move |_| traffic.round())
        }
        Make::Part(make) => make(),
    };
    (0..case.rounds).for_each(&mut round);
    counted_rounds(&mut *round, case.rounds..2 * case.rounds);
}

/// What callgrind counts; it finds the function by its name.
#[inline(never)]
fn counted_rounds(round: &mut dyn FnMut(usize), numbers: std::ops::Range<usize>) {
    numbers.for_each(round);
}

/// Publishers and subscribers at home on two shards.
fn crossing(batch: usize) -> Round {
    let mut crossing = Crossing::new(batch);
    Box::new(move |_| crossing.round())
}

/// A publisher that never says the same topic twice in a row, 64 messages a turn.
fn topics_in_turn() -> Round {
    let mut shard = PureShard::new();
    let version = ProtocolVersion::V311;
    let subscriber = shard.connect(version, "subscriber");
    shard.subscribe(subscriber, version, "building/7/floor/3/+", QoS::AtMostOnce);
    let publisher = shard.connect(version, "publisher");
    let topic = |number: usize| format!("building/7/floor/3/sensor{number:05}");
    let frames = (0..64).map(|number| publish(version, QoS::AtMostOnce, 1, &topic(number % 8), &PAYLOAD));
    let batch = frames.collect::<Vec<_>>().concat();
    Box::new(move |_| {
        // As large as a receive buffer at most.
        batch.chunks(4096).for_each(|piece| shard.receive(publisher, piece));
        let mut bytes = 0;
        shard.turn(|_, out| bytes += out.len());
        assert_eq!(bytes, batch.len());
    })
}

/// A client of its own each round, with a subscription that nobody else has.
fn connect_and_subscribe() -> Round {
    let mut shard = PureShard::new();
    let version = ProtocolVersion::V311;
    let clients: Vec<(Vec<u8>, Vec<u8>)> = (0..2048)
        .map(|number| {
            let mut connect = Vec::new();
            Connect::new(version, &format!("client-{number:013}")).encode(&mut connect).expect("a CONNECT");
            (connect, subscribe(version, &format!("building/dev{number:08}/temperatu"), QoS::AtMostOnce))
        })
        .collect();
    Box::new(move |number| {
        let (connect, subscribe) = &clients[number];
        let id = shard.connect_with(connect);
        shard.receive(id, subscribe);
        assert_eq!(shard.turn(|_, _| {}), 1, "SUBACK");
    })
}

/// A publication with RETAIN that replaces another, one of 1000.
fn retained_store() -> Round {
    let (mut shard, publisher, frames) = retained();
    Box::new(move |number| {
        shard.receive(publisher, &frames[number % frames.len()]);
        shard.turn(|_, _| {});
    })
}

/// A subscription to 1000 retained messages, the same client's each time, so that nothing grows.
fn retained_replay() -> Round {
    let (mut shard, publisher, frames) = retained();
    for frame in &frames {
        shard.receive(publisher, frame);
        shard.turn(|_, _| {});
    }
    let subscriber = shard.connect(ProtocolVersion::V311, "subscriber");
    let subscribe = subscribe(ProtocolVersion::V311, "building/+/state", QoS::AtMostOnce);
    let bytes_expected = 5 + frames.iter().map(Vec::len).sum::<usize>();
    Box::new(move |_| {
        shard.receive(subscriber, &subscribe);
        let (mut bytes, mut turns) = (0, 0);
        while bytes < bytes_expected {
            assert!(turns < 100, "all retained messages come");
            shard.turn(|_, out| bytes += out.len());
            turns += 1;
        }
    })
}

fn retained() -> (PureShard, ringmq::runtime::ConnectionId, Vec<Vec<u8>>) {
    let mut shard = PureShard::new();
    let version = ProtocolVersion::V311;
    let publisher = shard.connect(version, "publisher");
    let frames = (0..1000)
        .map(|number| {
            let mut frame = publish(version, QoS::AtMostOnce, 1, &format!("building/{number:08}/state"), &PAYLOAD);
            // RETAIN.
            frame[0] |= 1;
            frame
        })
        .collect();
    (shard, publisher, frames)
}

/// What a PUBLISH of 5.0 often has.
fn properties() -> PublishProperties<'static> {
    PublishProperties {
        message_expiry_interval: Some(60),
        content_type: Some("application/json"),
        ..PublishProperties::default()
    }
}

fn decode_publish(version: ProtocolVersion, qos: QoS, properties: PublishProperties<'static>) -> Round {
    let packet_identifier = (qos != QoS::AtMostOnce).then_some(PacketIdentifier::MIN);
    let packet =
        Publish { dup: false, qos, retain: false, topic: TOPIC, packet_identifier, properties, payload: &PAYLOAD };
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes).expect("a PUBLISH");
    Box::new(move |_| {
        let bytes = black_box(&bytes);
        let Ok(Peek::Complete(header)) = frame::peek(bytes, 1 << 20) else { panic!("a whole packet") };
        let body = &bytes[usize::from(header.header_len)..header.total_len()];
        black_box(&Publish::decode(header.first, body, version, Sender::Client).expect("a valid packet"));
    })
}

fn encode_publish(version: ProtocolVersion, qos: QoS) -> Round {
    let packet_identifier = (qos != QoS::AtMostOnce).then_some(PacketIdentifier::MIN);
    let flags = PublishFlags { qos, ..PublishFlags::default() };
    let head = PublishHead { flags, topic: TOPIC.as_bytes(), packet_identifier, ..PublishHead::default() };
    let mut out = Vec::with_capacity(4096);
    Box::new(move |_| {
        out.clear();
        codec::encode(&mut out, version, black_box(&head), black_box(&PAYLOAD)).expect("it fits");
    })
}

/// A topic that matches one of 10,000 filters, hashed before, as a publish has done for the probe.
fn matching(filter: fn(usize) -> String) -> Round {
    const FILTERS: usize = 10_000;
    let key = HashKey::from_seed(7);
    let mut table = FilterTable::new(key);
    for number in 0..FILTERS {
        let options = SubscriptionBits(0);
        table.insert(&filter(number), Subscription { session: number as u32, identifier: 0, options });
    }
    let topics: Vec<(String, u64)> = (0..1024)
        .map(|number: usize| format!("dev/{:08}/any/x", number * 7919 % FILTERS))
        .map(|topic| {
            let hash = key.topic(&topic).whole;
            (topic, hash)
        })
        .collect();
    Box::new(move |number| {
        let (topic, hash) = &topics[number % topics.len()];
        let mut found = Matches::new();
        table.matches(topic, *hash, &mut found);
        assert_eq!(found.len(), 1);
        black_box(found[0][0].session);
    })
}
