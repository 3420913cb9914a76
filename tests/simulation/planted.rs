//! Each planted bug is found.

use ringmq::plant::{Bug, plant};

use crate::{
    SEEDS,
    failure::{Failure, catch},
    in_thread, is_wanted,
    scenario::{self, Scenario},
};

#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for &bug in Bug::ALL {
        match in_thread(move || find(bug)) {
            Some((seed, failure)) => {
                println!("{bug:?}: seed {seed} ({:?}), {}: {}", Scenario::of(seed), failure.oracle, failure.detail);
            }
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not found within {SEEDS} seeds: {missed:?}");
}

/// How many seeds find each bug: what is found by few is found by luck.
#[test]
#[ignore = "takes minutes; for whoever changes scenarios; `BUG=name` looks for one"]
fn how_often_each_planted_bug_is_found() {
    let is_wanted_bug = |bug: &Bug| std::env::var("BUG").map_or(true, |only| format!("{bug:?}").contains(&only));
    for &bug in Bug::ALL.iter().filter(|bug| is_wanted_bug(bug)) {
        let count = in_thread(move || {
            plant(Some(bug));
            (0..SEEDS).filter(|&seed| is_wanted(seed) && catch(|| scenario::run(seed, false)).is_err()).count()
        });
        println!("{bug:?}: {count} of {SEEDS} seeds");
    }
}

/// The first seed that fails with `bug`.
fn find(bug: Bug) -> Option<(u64, Failure)> {
    plant(Some(bug));
    (0..SEEDS).find_map(|seed| catch(|| scenario::run(seed, false)).err().map(|failure| (seed, failure)))
}
