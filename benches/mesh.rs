//! What a message between two shards costs: alone and in batches, on one core and across two.

use std::{collections::VecDeque, hint::black_box, time::Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringmq::runtime::Mesh;

/// About what a delivery between shards carries.
type Message = [u64; 6];

fn one_core(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mesh/one core");
    for batch in [1_u64, 8, 64] {
        let mut ports = Mesh::build::<Message>(2, [1024; 3]).expect("descriptors");
        let (mut to, mut from) = (ports.pop().expect("two"), ports.pop().expect("two"));
        group.throughput(Throughput::Elements(batch));
        group.bench_function(BenchmarkId::from_parameter(batch), |bencher| {
            let fill = || (0..batch).map(|number| [number; 6]).collect::<VecDeque<_>>();
            let cross = |queue: &mut VecDeque<Message>| {
                from.push(1, 1, queue);
                from.kick(1);
                to.drain(0, 1, 64, |message| {
                    black_box(message);
                })
            };
            bencher.iter_batched_ref(fill, cross, BatchSize::SmallInput);
        });
    }
    group.finish();
}

fn two_cores(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mesh/two cores");
    for batch in [1_usize, 64] {
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::from_parameter(batch), |bencher| {
            bencher.iter_custom(|messages| {
                let mut ports = Mesh::build::<Message>(2, [1024; 3]).expect("descriptors");
                let (mut to, mut from) = (ports.pop().expect("two"), ports.pop().expect("two"));
                let started = Instant::now();
                let receiving = std::thread::spawn(move || {
                    let mut left = messages;
                    while left > 0 {
                        let drained = to.drain(0, 1, 64, |message| {
                            black_box(message);
                        });
                        left -= drained as u64;
                        if drained == 0 {
                            std::hint::spin_loop();
                        }
                    }
                });
                let mut queue = VecDeque::with_capacity(batch);
                let mut left = messages;
                while left > 0 || !queue.is_empty() {
                    while left > 0 && queue.len() < batch {
                        queue.push_back([left; 6]);
                        left -= 1;
                    }
                    if from.push(1, 1, &mut queue) == 0 {
                        std::thread::yield_now();
                    }
                    from.kick(1);
                }
                receiving.join().expect("the receiver counts to the end");
                started.elapsed()
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = one_core, two_cores
}
criterion_main!(benches);
