//! What the timing wheel of a shard costs: to set a timer, to have many due, and to be asked when none is.

#![allow(missing_docs)]

use std::{hint::black_box, time::Duration};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringmq::{
    shard::{Timer, TimerWheel},
    time::Moment,
};

/// The broker's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const START: Moment = Moment::from_micros(1_000_000_000_000);

/// A wheel with a KeepAlive timer for each of `connections`, due in 60 to 90 seconds.
fn filled(connections: u32) -> TimerWheel {
    let mut wheel = TimerWheel::new(START);
    for slot in 0..connections {
        set(&mut wheel, START, slot);
    }
    wheel
}

fn set(wheel: &mut TimerWheel, now: Moment, slot: u32) {
    wheel.set(now.after(Duration::from_millis(60_000 + u64::from(slot) * 7919 % 30_000)), Timer::KeepAlive { slot });
}

/// Time for each timer that is set, and then due and set again, as a KeepAlive timer is for a client that has spoken.
fn keep_alive(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("timers/KeepAlive");
    for connections in [1_000_u32, 100_000] {
        group.throughput(Throughput::Elements(u64::from(connections)));
        group.bench_function(BenchmarkId::new("set", connections), |bencher| {
            let fill = |wheel: &mut TimerWheel| (0..connections).for_each(|slot| set(wheel, START, slot));
            bencher.iter_batched_ref(|| TimerWheel::new(START), fill, BatchSize::LargeInput);
        });
        let mut wheel = filled(connections);
        let (mut now, mut due) = (START, Vec::new());
        group.bench_function(BenchmarkId::new("due and set again", connections), |bencher| {
            bencher.iter(|| {
                let mut fired = 0;
                while fired < connections {
                    // A tick a turn.
                    now = now.after(Duration::from_millis(100));
                    while wheel.poll_due(now, 1024, &mut due) {}
                    for timer in due.drain(..) {
                        let Timer::KeepAlive { slot } = timer else { panic!("no other was set") };
                        fired += 1;
                        set(&mut wheel, now, slot);
                    }
                }
            });
        });
    }
    group.finish();
}

/// What every turn pays: nothing is due. And what it asks before it sleeps.
fn idle(criterion: &mut Criterion) {
    let mut wheel = filled(100_000);
    let mut due = Vec::new();
    criterion.bench_function("timers/none due of 100,000", |bencher| {
        bencher.iter(|| {
            assert!(!wheel.poll_due(black_box(START), 1024, &mut due));
        });
    });
    criterion.bench_function("timers/next due of 100,000", |bencher| bencher.iter(|| black_box(&wheel).next_due()));
    assert!(due.is_empty());
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(1)).without_plots();
    targets = keep_alive, idle
}
criterion_main!(benches);
