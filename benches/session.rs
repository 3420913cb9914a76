//! What a session does for each QoS 1 or 2 message: the in-flight window of the outbox, the identifiers received, the
//! answers owed.

#![allow(missing_docs)]

use std::{hint::black_box, rc::Rc, time::Duration};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringmq::{
    message::{ApplicationMessage, Envelope, Origin, Stamp, SubscriptionIdentifiers},
    mqtt::{PacketIdentifier, QoS, ReasonCode},
    session::{Acknowledged, Acknowledgements, Answer, Delivery, Outbox, Reached, ReceivedIdentifiers, Resend},
    time::Moment,
};

/// The broker's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn delivery(qos: QoS) -> Delivery {
    let (stamp, origin) = (Stamp::default(), Origin::default());
    let envelope = Envelope { qos, retain: false, expires_at: Moment::NEVER, topic_hash: 0, stamp, origin };
    let message = Rc::new(ApplicationMessage::new("building/7/floor/3/temperature", &[], &[b'x'; 64], envelope));
    Delivery::new(message, qos, false, SubscriptionIdentifiers::None, None, None)
}

/// Fills the window with `identifiers.len()` messages and notes their identifiers.
fn fill(outbox: &mut Outbox, delivery: &Delivery, window: u32, identifiers: &mut Vec<PacketIdentifier>) {
    identifiers.clear();
    (0..window).for_each(|_| outbox.push(delivery.clone(), None));
    while let Some((identifier, delivery)) = outbox.take_next(window, Reached::ALL, true) {
        black_box(delivery);
        identifiers.extend(identifier);
    }
    assert_eq!(identifiers.len(), window as usize, "the window is full");
}

/// A window of messages is queued, sent and acknowledged; time for each message.
fn window(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("session/in-flight window");
    for window in [1, 64, 256, 4096] {
        group.throughput(Throughput::Elements(u64::from(window)));
        let (mut outbox, mut identifiers) = (Outbox::default(), Vec::new());
        let once = delivery(QoS::AtLeastOnce);
        group.bench_function(BenchmarkId::new("QoS 1, acknowledged in order", window), |bencher| {
            bencher.iter(|| {
                fill(&mut outbox, &once, window, &mut identifiers);
                for &identifier in &identifiers {
                    assert_eq!(outbox.handle_puback(identifier), Acknowledged::Completed);
                }
            });
        });
        group.bench_function(BenchmarkId::new("QoS 1, acknowledged the last first", window), |bencher| {
            bencher.iter(|| {
                fill(&mut outbox, &once, window, &mut identifiers);
                for &identifier in identifiers.iter().rev() {
                    assert_eq!(outbox.handle_puback(identifier), Acknowledged::Completed);
                }
            });
        });
        let exactly = delivery(QoS::ExactlyOnce);
        group.bench_function(BenchmarkId::new("QoS 2", window), |bencher| {
            bencher.iter(|| {
                fill(&mut outbox, &exactly, window, &mut identifiers);
                for &identifier in &identifiers {
                    assert_eq!(outbox.handle_pubrec(identifier, false), Acknowledged::Release);
                }
                for &identifier in &identifiers {
                    assert_eq!(outbox.handle_pubcomp(identifier), Acknowledged::Completed);
                }
            });
        });
    }
    group.finish();
}

/// A client comes back and is sent what it did not acknowledge.
fn resume(criterion: &mut Criterion) {
    const WINDOW: u32 = 256;
    let mut outbox = Outbox::default();
    fill(&mut outbox, &delivery(QoS::AtLeastOnce), WINDOW, &mut Vec::new());
    let mut group = criterion.benchmark_group("session/resume");
    group.throughput(Throughput::Elements(u64::from(WINDOW)));
    group.bench_function("a window of 256", |bencher| {
        bencher.iter(|| {
            outbox.begin_resume();
            let mut resent = 0;
            while let Some(Resend::Publish(..)) = outbox.next_resend(WINDOW) {
                resent += 1;
            }
            assert_eq!(resent, WINDOW);
        });
    });
    group.finish();
}

/// The receiver's side: QoS 2 identifiers, and answers that become ready in order whatever they wait for.
fn received(criterion: &mut Criterion) {
    let identifiers: Vec<_> = (1..=64).filter_map(PacketIdentifier::new).collect();
    let mut group = criterion.benchmark_group("session/received");
    group.throughput(Throughput::Elements(identifiers.len() as u64));
    let mut open = ReceivedIdentifiers::default();
    group.bench_function("64 QoS 2 identifiers opened and closed", |bencher| {
        bencher.iter(|| {
            assert!(identifiers.iter().all(|&identifier| open.insert(identifier)));
            assert!(identifiers.iter().all(|&identifier| open.remove(identifier)));
        });
    });
    group.bench_function("64 answers, settled the last first", |bencher| {
        let routine = |answers: &mut Acknowledgements| {
            let numbers: smallvec::SmallVec<[_; 64]> = identifiers
                .iter()
                .map(|&identifier| answers.push(Answer::PubAck(identifier, ReasonCode::Success), 1))
                .collect();
            numbers.into_iter().rev().for_each(|number| answers.settle(number));
            let mut ready = 0;
            while answers.poll_ready().is_some() {
                ready += 1;
            }
            assert_eq!(ready, identifiers.len());
        };
        bencher.iter_batched_ref(Acknowledgements::default, routine, BatchSize::SmallInput);
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(1)).without_plots();
    targets = window, resume, received
}
criterion_main!(benches);
