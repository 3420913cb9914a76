//! The simulation: whole brokers of one to eight shards, their network and their clients in one thread, from one seed.
//!
//! The shards are the real ones, with the real mesh, tables of interest and drivers; kernels, network and time are in
//! memory. `cargo test --features planted-bugs --test simulation` runs 256 seeds, and finds each planted bug among them.
//! `SEED=n` runs one seed and tells what happens; `SEEDS=n` runs so many; `ONLY=Crash` leaves out other scenarios.

mod book;
mod client;
mod failure;
mod link;
mod oracle;
mod planted;
mod profile;
#[allow(dead_code, reason = "other tests use what is not used here")]
#[path = "../house/random.rs"]
mod random;
mod scenario;
mod store;
mod world;

use std::{
    num::NonZeroUsize,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use failure::{Failure, THREAD, catch};
use scenario::Scenario;

/// Seeds that are run where nothing else is said.
const SEEDS: u64 = 256;

#[test]
fn the_broker_is_right_in_every_seed() {
    if let Some(seed) = number("SEED") {
        println!("seed {seed}: {:?}", Scenario::of(seed));
        let ended = in_thread(move || catch(|| scenario::run(seed, true)));
        ended.unwrap_or_else(|failure| panic!("seed {seed}: {}: {}", failure.oracle, failure.detail));
        return;
    }
    let failures = run_all(number("SEEDS").unwrap_or(SEEDS));
    for (seed, failure) in &failures {
        println!("SEED={seed} ({:?}): {}: {}", Scenario::of(*seed), failure.oracle, failure.detail);
    }
    assert!(failures.is_empty(), "{} seeds fail; SEED=n shows one", failures.len());
}

#[test]
fn a_seed_decides_everything() {
    for seed in 0..16 {
        let digests = [(); 2].map(|()| in_thread(move || catch(|| scenario::run(seed, false))).ok());
        assert_eq!(digests[0], digests[1], "seed {seed}");
    }
}

/// Runs seeds on all CPUs, and returns those that fail.
fn run_all(seeds: u64) -> Vec<(u64, Failure)> {
    let next = AtomicU64::new(0);
    let failures = Mutex::new(Vec::new());
    let times = Mutex::new(Vec::new());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            if !is_wanted(seed) {
                continue;
            }
            let started = Instant::now();
            if let Err(failure) = catch(|| scenario::run(seed, false)) {
                failures.lock().expect("no panic under the lock").push((seed, failure));
            }
            times.lock().expect("no panic under the lock").push((started.elapsed(), seed));
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZeroUsize::get) {
            thread::Builder::new().name(THREAD.into()).spawn_scoped(scope, work).expect("a thread");
        }
    });
    let mut times = times.into_inner().expect("no panic under the lock");
    times.sort_unstable();
    println!("{seeds} seeds; the longest: {:?}", &times[times.len().saturating_sub(4)..]);
    let mut failures = failures.into_inner().expect("no panic under the lock");
    failures.sort_unstable_by_key(|(seed, _)| *seed);
    failures
}

/// Whether a seed's scenario is among those that were asked for.
fn is_wanted(seed: u64) -> bool {
    std::env::var("ONLY").map_or(true, |only| format!("{:?}", Scenario::of(seed)) == only)
}

/// Runs `run` in a thread that reports its panics instead of printing them.
fn in_thread<R: Send + 'static>(run: impl FnOnce() -> R + Send + 'static) -> R {
    let thread = thread::Builder::new().name(THREAD.into()).spawn(run).expect("a thread");
    thread.join().expect("failures are caught")
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text:?}")))
}
