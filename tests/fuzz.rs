//! What the fuzzers check, over the seeds that they begin with: so what `scripts/fuzz` runs is built, and holds, with
//! every run of the tests.
//!
//! `RINGMQ_FUZZ_SEEDS=directory` also writes the seeds there, in a directory for each fuzzer.

#[path = "fuzz/checks/mod.rs"]
mod checks;
mod house;
mod packets;
#[path = "fuzz/seeds.rs"]
mod seeds;

use std::{env, fs, path::Path};

use house::random::Random;

/// Changes of each seed that are tried here. Fuzzers try a million in a minute, and learn from them.
const CHANGES: usize = 8;

#[test]
fn every_check_holds_for_its_seeds_and_a_few_changes_of_them() {
    let mut random = Random::part(1, 0);
    for (name, check, seeds) in seeds::all() {
        assert!(!seeds.is_empty(), "{name}");
        for seed in &seeds {
            check(seed);
            for _ in 0..CHANGES {
                let mut changed = seed.clone();
                if !changed.is_empty() {
                    let at = random.below(changed.len());
                    changed[at] = random.below(256) as u8;
                    changed.truncate(random.below(changed.len()) + 1);
                }
                check(&changed);
            }
        }
    }
}

#[test]
fn the_seeds_are_written_where_they_are_asked_for() {
    let Ok(directory) = env::var("RINGMQ_FUZZ_SEEDS") else { return };
    for (name, _, seeds) in seeds::all() {
        let directory = Path::new(&directory).join(name);
        fs::create_dir_all(&directory).expect("a directory for seeds");
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(directory.join(format!("seed-{number}")), seed).expect("a seed is written");
        }
    }
}
