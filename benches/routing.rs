//! Routing: filters inserted, removed and matched at 1,000 to 1,000,000 of them, the hash, the interest probe, retained
//! messages and share groups.
//!
//! `cargo bench --bench routing` measures time. `MIMALLOC_PURGE_DELAY=-1 cargo bench --bench routing -- memory` prints bytes
//! per subscription and the longest single steps instead; without that setting, mimalloc gives the memory of the tables
//! dropped before back to the kernel in the middle of some step, which takes it 5 ms for 100 MB.

#![allow(missing_docs, unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout},
    hint::black_box,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use criterion::{
    BatchSize, BenchmarkId, Throughput,
    measurement::{Measurement, ValueFormatter, WallTime},
};
use mimalloc::MiMalloc;
use ringmq::routing::{
    FilterTable, GroupIdentifier, HasTopic, HashKey, InterestCounts, InterestTable, Matches, Member, MemberState,
    Prefixes, RetainedStore, ShareGroups, Stamp, Subscriber,
};

/// The broker's allocator, with a count of the bytes that are allocated, rounded up as its size classes are.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

fn rounded(bytes: usize) -> usize {
    bytes.next_multiple_of(if bytes <= 128 { 16 } else { (bytes.next_power_of_two() / 8).max(16) })
}

// SAFETY: every call goes on to mimalloc unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(rounded(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller's contract is mimalloc's.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(rounded(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller's contract is mimalloc's.
        unsafe { MiMalloc.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The size of a real subscription: session, subscription identifier, options.
#[derive(Clone, Copy)]
struct Subscription {
    session: u32,
    _subscription_identifier: u32,
    _options: u8,
}

impl Subscriber for Subscription {
    type Key = u32;

    fn key(&self) -> u32 {
        self.session
    }
}

const fn subscription(session: usize) -> Subscription {
    Subscription { session: session as u32, _subscription_identifier: 0, _options: 1 }
}

struct Message {
    topic: Box<str>,
    micros: u64,
}

impl HasTopic for Message {
    fn topic(&self) -> &str {
        &self.topic
    }

    fn stamp(&self) -> Stamp {
        Stamp { micros: self.micros, ..Stamp::default() }
    }

    fn bytes(&self) -> usize {
        self.topic.len()
    }
}

/// CPU time of the measuring thread: what else runs on the machine counts less than it does by the clock on the wall.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        thread_cpu_time()
    }

    fn end(&self, start: Duration) -> Duration {
        thread_cpu_time() - start
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

type Criterion = criterion::Criterion<CpuTime>;

fn key() -> HashKey {
    HashKey::from_seed(0x5eed)
}

/// A kind of filter, and topics that match one filter of it.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    filter: fn(usize) -> String,
    topic: fn(usize) -> String,
}

const KINDS: [Kind; 4] = [
    Kind {
        name: "exact, 30 bytes",
        filter: |n| format!("building/dev{n:08}/temperature"),
        topic: |n| format!("building/dev{n:08}/temperature"),
    },
    Kind { name: "dev/N/+/x", filter: |n| format!("dev/{n:08}/+/x"), topic: |n| format!("dev/{n:08}/any/x") },
    Kind {
        name: "building/N/#, 30 bytes",
        filter: |n| format!("building/device-of-{n:08}/#"),
        topic: |n| format!("building/device-of-{n:08}/a/b"),
    },
    Kind { name: "+/N/x", filter: |n| format!("+/{n:08}/x"), topic: |n| format!("any/{n:08}/x") },
];

fn filled(kind: Kind, filters: usize) -> FilterTable<Subscription> {
    let mut table = FilterTable::new(key());
    for n in 0..filters {
        table.insert(&(kind.filter)(n), subscription(n));
    }
    table
}

fn main() {
    if std::env::args().any(|argument| argument == "memory") {
        return memory_and_steps();
    }
    let mut criterion = criterion::Criterion::default()
        .with_measurement(CpuTime)
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1000))
        .without_plots()
        .configure_from_args();
    hashes(&mut criterion);
    matching(&mut criterion);
    churn(&mut criterion);
    worst_case(&mut criterion);
    interest(&mut criterion);
    retained(&mut criterion);
    share(&mut criterion);
    criterion.final_summary();
}

/// The longest step, in the text of a line: the longest of what each took in the best of three runs on what `make` gives.
///
/// What is slow by design is slow each time, what another process or the kernel did is not. In CPU time of this thread;
/// the mean is for criterion to find, as reading that clock costs more than a step.
fn longest_step<T>(count: usize, make: impl Fn() -> T, step: impl Fn(&mut T, usize)) -> String {
    let mut best = vec![Duration::MAX; count];
    for _ in 0..3 {
        let mut subject = make();
        for (n, best) in best.iter_mut().enumerate() {
            let start = thread_cpu_time();
            step(&mut subject, n);
            *best = (*best).min(thread_cpu_time() - start);
        }
    }
    let longest = best.into_iter().max().unwrap_or_default();
    format!("longest step {} us", longest.as_micros())
}

fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes to `time`, which outlives it, and keeps no reference.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn memory_and_steps() {
    const COUNT: usize = 1_000_000;
    for kind in KINDS {
        let filters: Vec<String> = (0..COUNT).map(kind.filter).collect();
        table_of(kind.name, COUNT, &|n| &filters[n]);
    }
    table_of("all on one filter", COUNT, &|_| "all/+");

    let topics: Vec<String> = (0..COUNT).map(|n| format!("building/dev{n:08}/temperature")).collect();
    // 24 bytes in place; what the box of the topic points to is not counted.
    let message = |n: usize| Message { topic: topics[n.wrapping_mul(7919) % COUNT].as_str().into(), micros: n as u64 };
    let put = |store: &mut RetainedStore<Message>, n: usize| {
        store.put(message(n));
    };
    let before = ALLOCATED.load(Ordering::Relaxed);
    let mut store = RetainedStore::new(key());
    (0..COUNT).for_each(|n| put(&mut store, n));
    let bytes = (ALLOCATED.load(Ordering::Relaxed) - before) / COUNT - rounded(topics[0].len());
    drop(store);
    let puts = longest_step(COUNT, || RetainedStore::new(key()), put);
    println!("{:<24} {bytes} B a message, 24 of them the message in place; put: {puts}", "retained");
}

/// Prints what `count` subscriptions take, and the longest steps of adding and removing them.
fn table_of<'a>(name: &str, count: usize, filter: &dyn Fn(usize) -> &'a str) {
    let insert = |table: &mut FilterTable<Subscription>, n: usize| {
        table.insert(filter(n), subscription(n));
    };
    let full = || {
        let mut table = FilterTable::new(key());
        (0..count).for_each(|n| insert(&mut table, n));
        table
    };
    let before = ALLOCATED.load(Ordering::Relaxed);
    let table = full();
    let bytes = (ALLOCATED.load(Ordering::Relaxed) - before) / count;
    let estimate = table.bytes() / count;
    drop(table);
    let inserts = longest_step(count, || FilterTable::new(key()), insert);
    let removes = longest_step(count, full, |table, n| {
        table.remove(filter(n), &(n as u32));
    });
    println!("{name:<24} {bytes} B each (own estimate {estimate}); insert: {inserts}; remove: {removes}");
}

fn hashes(criterion: &mut Criterion) {
    let key = key();
    let topic = black_box("building/dev00001234/temperature");
    criterion.bench_function("hash/topic, 32 bytes, 3 levels", |bench| bench.iter(|| key.topic(black_box(topic))));
    let mut prefixes = Prefixes::new();
    criterion.bench_function("hash/the same with all prefixes", |bench| {
        bench.iter(|| key.topic_with_prefixes(black_box(topic), u64::MAX, &mut prefixes));
    });
    let client = black_box("mqttx_0123abcd4567");
    criterion.bench_function("hash/client id, 18 bytes", |bench| bench.iter(|| key.client_id(black_box(client))));
}

fn matching(criterion: &mut Criterion) {
    let key = key();
    for kind in KINDS {
        let mut group = criterion.benchmark_group(format!("match/{}", kind.name));
        for filters in [1_000, 100_000, 1_000_000] {
            let table = filled(kind, filters);
            // Far apart, so that the caches do not know them; hashed before, as a publish has done for the probe.
            let topics: Vec<(String, u64)> = (0..65_536)
                .map(|n: usize| (kind.topic)(n.wrapping_mul(15_485_863) % filters))
                .map(|topic| {
                    let hash = key.topic(&topic).whole;
                    (topic, hash)
                })
                .collect();
            let mut at = 0;
            group.bench_function(BenchmarkId::from_parameter(filters), |bench| {
                bench.iter(|| {
                    at = (at + 1) % topics.len();
                    let mut found = Matches::new();
                    table.matches(&topics[at].0, topics[at].1, &mut found);
                    assert_eq!(found.len(), 1);
                    black_box(found[0][0].session)
                });
            });
        }
    }
}

fn churn(criterion: &mut Criterion) {
    for kind in KINDS {
        let mut group = criterion.benchmark_group(format!("insert and remove/{}", kind.name));
        for filters in [1_000, 100_000, 1_000_000] {
            let mut table = filled(kind, filters);
            let mut n = filters;
            group.bench_function(BenchmarkId::from_parameter(filters), |bench| {
                bench.iter_batched(
                    || {
                        n += 1;
                        (kind.filter)(n)
                    },
                    |filter| {
                        table.insert(&filter, subscription(7));
                        table.remove(&filter, &7)
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    }
}

/// Each level as itself and as `+`: a topic of ten levels visits all 2,047 nodes and matches 1,024 filters.
fn worst_case(criterion: &mut Criterion) {
    let mut table = FilterTable::new(key());
    for bits in 0..1024_usize {
        let levels: Vec<&str> = (0..10).map(|level| if bits >> level & 1 == 1 { "+" } else { "a" }).collect();
        table.insert(&(levels.join("/") + "/#"), subscription(bits));
    }
    let topic = ["a"; 10].join("/");
    let hash = key().topic(&topic).whole;
    let mut group = criterion.benchmark_group("match/worst");
    group.throughput(Throughput::Elements(1024));
    group.bench_function("all 1024 filters of ten levels, a or +", |bench| {
        bench.iter(|| {
            let mut found = Matches::new();
            table.matches(&topic, hash, &mut found);
            assert_eq!(found.len(), 1024);
        });
    });
    group.finish();
    let mut deep = FilterTable::new(key());
    deep.insert(&("+/".repeat(32_767) + "+"), subscription(1));
    let topic = "/".repeat(32_767);
    let hash = key().topic(&topic).whole;
    criterion.bench_function("match/a filter and a topic of 32,768 levels", |bench| {
        bench.iter(|| {
            let mut found = Matches::new();
            deep.matches(&topic, hash, &mut found);
            assert_eq!(found.len(), 1);
        });
    });
}

fn interest(criterion: &mut Criterion) {
    let key = key();
    for filters in [1_000, 1_000_000] {
        let table = InterestTable::new(filters * 16, 8);
        let mut counts: Vec<InterestCounts> = (0..8).map(|shard| InterestCounts::new(&table, shard)).collect();
        for n in 0..filters {
            counts[n % 8].add(&table, key.filter(&(KINDS[n % 3].filter)(n)));
        }
        let topics: Vec<String> =
            (0..65_536).map(|n: usize| n.wrapping_mul(15_485_863) % filters).map(|n| (KINDS[n % 3].topic)(n)).collect();
        let (mut at, mut prefixes) = (0, Prefixes::new());
        criterion.bench_function(&format!("interest/hash and probe, {filters} filters, one prefix depth"), |bench| {
            bench.iter(|| {
                at = (at + 1) % topics.len();
                let hash = key.topic_with_prefixes(&topics[at], table.depth_mask(), &mut prefixes);
                black_box(table.probe(hash, &prefixes))
            });
        });
        criterion.bench_function(&format!("interest/add and remove, {filters} filters"), |bench| {
            let filter = key.filter("some/other/filter/+");
            bench.iter(|| {
                counts[0].add(&table, filter);
                counts[0].remove(&table, filter);
            });
        });
    }
}

fn retained(criterion: &mut Criterion) {
    const COUNT: usize = 100_000;
    let mut store = RetainedStore::new(key());
    for n in 0..COUNT {
        let topic = format!("site/{:03}/dev/{n:06}/state", n % 100).into();
        store.put(Message { topic, micros: n as u64 });
    }
    let topics: Vec<String> = (0..COUNT).map(|n| format!("site/{:03}/dev/{n:06}/state", n % 100)).collect();
    let mut at = 0;
    criterion.bench_function("retained/exact of 100,000", |bench| {
        bench.iter(|| {
            at = (at + 7919) % COUNT;
            assert!(store.exact(&topics[at]).is_some());
        });
    });
    let mut micros = COUNT as u64;
    criterion.bench_function("retained/replace one of 100,000", |bench| {
        bench.iter_batched(
            || {
                at = (at + 7919) % COUNT;
                micros += 1;
                Message { topic: topics[at].as_str().into(), micros }
            },
            |message| store.put(message),
            BatchSize::SmallInput,
        );
    });
    for (filter, matches) in [("#", COUNT), ("site/007/#", COUNT / 100), ("site/+/dev/000123/state", 1)] {
        let mut group = criterion.benchmark_group("retained/scan of 100,000");
        group.throughput(Throughput::Elements(matches as u64));
        group.bench_function(filter, |bench| {
            bench.iter(|| {
                let mut found = 0;
                let mut cursor = None;
                loop {
                    cursor = store.scan(filter, cursor, 256, 256, &mut |_| found += 1);
                    if cursor.is_none() {
                        break;
                    }
                }
                assert_eq!(found, matches);
            });
        });
    }
}

fn share(criterion: &mut Criterion) {
    let key = key();
    let mut groups = ShareGroups::new(key);
    for n in 0..10_000_u64 {
        let member = Member {
            session_number: n,
            session: n as u32,
            subscription_identifier: 0,
            shard: (n % 8) as u16,
            qos: 1,
            options: 0,
            state: MemberState::Ready,
        };
        groups.join("workers", "jobs/+", member);
        groups.join(&format!("group{n}"), &format!("jobs/{n}/+"), member);
    }
    let topic = "jobs/next";
    let hash = key.topic(topic).whole;
    criterion.bench_function("share/match and pick, 10,000 groups, 10,000 members", |bench| {
        bench.iter(|| {
            let mut found: smallvec::SmallVec<[GroupIdentifier; 8]> = smallvec::SmallVec::new();
            groups.matches(topic, hash, None, &mut found);
            black_box(groups.pick(found[0], &[]))
        });
    });
    let mut n = 0;
    criterion.bench_function("share/a member of 10,000 goes to sleep and wakes", |bench| {
        bench.iter(|| {
            n = (n + 7919) % 10_000;
            groups.update("workers", "jobs/+", n, MemberState::Asleep);
            groups.update("workers", "jobs/+", n, MemberState::Ready)
        });
    });
}
