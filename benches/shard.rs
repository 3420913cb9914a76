//! What messages cost on their way through a shard without sockets: from the bytes of PUBLISH to the bytes that leave, and
//! the acknowledgements. Time for each delivery; the clients' side is a small part of it.
//!
//! `scripts/instructions` counts the same in instructions, which do not move with the machine.

#![allow(missing_docs)]

#[allow(dead_code, reason = "each target uses its own part")]
#[path = "../tests/house/pure.rs"]
mod pure;
#[allow(dead_code, reason = "each target uses its own part")]
#[path = "../tests/house/traffic.rs"]
mod traffic;

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringmq::mqtt::{ProtocolVersion, QoS};
use traffic::{Shape, Traffic};

/// The broker's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::V311, ProtocolVersion::V5];

/// The version and QoS of a subscriber, by its number.
type Subscriber = fn(usize) -> (ProtocolVersion, QoS);

const V5_SUBSCRIBERS: [Subscriber; 3] = [
    |_| (ProtocolVersion::V5, QoS::AtMostOnce),
    |_| (ProtocolVersion::V5, QoS::AtLeastOnce),
    |_| (ProtocolVersion::V5, QoS::ExactlyOnce),
];

/// Every QoS and both versions among the subscribers: no frame fits all.
const MIXED: Subscriber = |number| (VERSIONS[number / 3 % 2], QOS[number % 3]);

fn bench(criterion: &mut Criterion, group: &str, cases: &[(String, Shape)]) {
    let mut group = criterion.benchmark_group(group);
    for (name, shape) in cases {
        let mut traffic = Traffic::new(*shape);
        group.throughput(Throughput::Elements(shape.deliveries() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| traffic.round()));
    }
    group.finish();
}

fn one_to_one(criterion: &mut Criterion) {
    let mut cases = Vec::new();
    for batch in [1, 64] {
        for (qos, v5) in QOS.into_iter().zip(V5_SUBSCRIBERS) {
            let shape = Shape::pair(qos, batch);
            cases.push((format!("3.1.1 QoS {}, {batch} a turn", qos.value()), shape));
            let shape = Shape { version: ProtocolVersion::V5, subscriber: v5, ..shape };
            cases.push((format!("5.0 QoS {}, {batch} a turn", qos.value()), shape));
        }
    }
    bench(criterion, "shard/1 to 1", &cases);
}

fn one_to_1000(criterion: &mut Criterion) {
    let mut cases = Vec::new();
    for (qos, v5) in QOS.into_iter().zip(V5_SUBSCRIBERS) {
        let shape = Shape::fan_out(qos, Shape::pair(qos, 1).subscriber);
        cases.push((format!("QoS {}, 3.1.1 subscribers", qos.value()), shape));
        cases.push((format!("QoS {}, 5.0 subscribers", qos.value()), Shape::fan_out(qos, v5)));
    }
    cases.push(("QoS 2, subscribers of every QoS and version".to_owned(), Shape::fan_out(QoS::ExactlyOnce, MIXED)));
    bench(criterion, "shard/1 to 1000", &cases);
}

fn many_to_few(criterion: &mut Criterion) {
    let cases = QOS.map(|qos| (format!("QoS {}", qos.value()), Shape::fan_in(qos)));
    bench(criterion, "shard/1000 to 1", &cases);
    bench(criterion, "shard/100 to 5 shared", &[("QoS 0".to_owned(), Shape::shared())]);
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(2)).without_plots();
    targets = one_to_one, one_to_1000, many_to_few
}
criterion_main!(benches);
