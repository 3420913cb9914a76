//! What happens in a run. Most seeds aim at one race each; the general ones let everything happen at once.

mod clients;
mod crashes;
mod limits;
mod messages;
mod retained;
mod time;

use crate::{oracle::finale, random::Random, world::World};

/// What a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    General,
    Interest,
    TakeOver,
    Retained,
    Acknowledgements,
    CrossTraffic,
    Share,
    KeepAlive,
    Wills,
    Expiry,
    Churn,
    Scarcity,
    Limits,
    OwnQueue,
    Drain,
    Crowd,
    Identifiers,
    Crash,
}

/// Thirty-two seeds in a row run these.
const ROUND: [Scenario; 32] = [
    Scenario::General,
    Scenario::Interest,
    Scenario::TakeOver,
    Scenario::Retained,
    Scenario::Crash,
    Scenario::Acknowledgements,
    Scenario::Share,
    Scenario::Churn,
    Scenario::General,
    Scenario::KeepAlive,
    Scenario::Wills,
    Scenario::Retained,
    Scenario::Crash,
    Scenario::Scarcity,
    Scenario::OwnQueue,
    Scenario::Churn,
    Scenario::General,
    Scenario::Interest,
    Scenario::TakeOver,
    Scenario::Retained,
    Scenario::Crash,
    Scenario::CrossTraffic,
    Scenario::Share,
    Scenario::Limits,
    Scenario::General,
    Scenario::Expiry,
    Scenario::Drain,
    Scenario::Retained,
    Scenario::Crash,
    Scenario::CrossTraffic,
    Scenario::Churn,
    Scenario::General,
];

impl Scenario {
    /// What `seed` is about.
    pub fn of(seed: u64) -> Scenario {
        match seed % 128 {
            // These take long: once in 128 seeds is enough.
            100 => Scenario::Identifiers,
            120 => Scenario::Crowd,
            _ => ROUND[(seed % 32) as usize],
        }
    }
}

/// Runs a seed. Returns the digest of what happened.
pub fn run(seed: u64, traces: bool) -> u64 {
    let mut random = Random::part(seed, 0);
    let mut world = match Scenario::of(seed) {
        Scenario::General => clients::general(seed, &mut random, traces),
        Scenario::Interest => messages::interest(seed, &mut random, traces),
        Scenario::TakeOver => clients::take_over(seed, &mut random, traces),
        Scenario::Retained => retained::retained(seed, &mut random, traces),
        Scenario::Acknowledgements => messages::acknowledgements(seed, &mut random, traces),
        Scenario::CrossTraffic => messages::cross_traffic(seed, &mut random, traces),
        Scenario::Share => messages::share(seed, &mut random, traces),
        Scenario::KeepAlive => time::keep_alive(seed, &mut random, traces),
        Scenario::Wills => time::wills(seed, &mut random, traces),
        Scenario::Expiry => time::expiry(seed, &mut random, traces),
        Scenario::Churn => clients::churn(seed, &mut random, traces),
        Scenario::Scarcity => limits::scarcity(seed, &mut random, traces),
        Scenario::Limits => limits::limits(seed, &mut random, traces),
        Scenario::OwnQueue => limits::own_queue(seed, &mut random, traces),
        Scenario::Drain => clients::drain(seed, &mut random, traces),
        Scenario::Crowd => messages::crowd(seed, &mut random, traces),
        Scenario::Crash => crashes::crashes(seed, &mut random, traces),
        Scenario::Identifiers => messages::identifiers(seed, &mut random, traces),
    };
    if world.is_draining {
        world.check_drained();
    } else {
        finale(&mut world);
    }
    world.book.digest()
}

const TOPICS: [&str; 6] = ["t/0", "t/1", "t/2", "u/x/y", "u/x", "v"];
const FILTERS: [&str; 8] = ["t/0", "t/1", "t/+", "#", "u/#", "u/x/y", "+/x", "v"];

/// Two shards that differ.
fn two_shards(world: &World, random: &mut Random) -> (usize, usize) {
    let one = random.below(world.shards());
    (one, (one + 1 + random.below(world.shards() - 1)) % world.shards())
}
