//! The crash test: brokers that are killed at random moments, clients that go on, and a checker that knows every promise.
//!
//! A run starts the real binary on a data directory, lets publishers, durable subscribers, retained writers and clients
//! with Wills work (`load`), kills the broker with SIGKILL, starts it again, and so on. Every few kills all is let settle, and
//! what the checker (`checker`) says is missing is lost. The load follows from a seed, the timing does not.
//!
//! `cargo test --test crash` kills ten times. More, as `scripts/crash-test` asks for it: `RINGMQ_CRASH_KILLS=200` (for each
//! combination of the others), `RINGMQ_CRASH_SEED=7`, `RINGMQ_CRASH_SHARDS=1,4`, `RINGMQ_CRASH_DURABILITY=sync,batched`.
//!
//! With a program that switches the power (`power`), as `scripts/power-cut` brings one, the file system under the data goes
//! with the broker, and what was not on the disk is lost: `RINGMQ_CRASH_POWER=PROGRAM`, `RINGMQ_CRASH_DIRECTORY=MOUNTED`, and
//! `RINGMQ_CRASH_LARGE=4` makes one message of 4 a large one, so that tables are written often.

mod broker;
mod checker;
#[cfg(test)]
mod checker_tests;
mod client;
#[path = "../house/mod.rs"]
mod house;
mod load;
mod power;

use std::{
    collections::BTreeMap,
    env,
    path::PathBuf,
    time::{Duration, Instant},
};

use broker::Victim;
use checker::{Rule, Violation};
use house::random::Random;
use load::Load;
use power::PowerSwitch;

/// What to run.
#[derive(Clone, Debug)]
struct Plan {
    seed: u64,
    kills: u32,
    shards: usize,
    durability: String,
    /// How long nothing may happen before what is owed is given up.
    patience: Duration,
    /// Where the data directory is made.
    place: PathBuf,
    /// The program that switches the power of that place, if it is to be cut.
    power: Option<String>,
    /// One message of so many is large.
    large_once_in: usize,
}

impl Plan {
    fn new(seed: u64, kills: u32, shards: usize, durability: &str, patience: Duration) -> Plan {
        let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        Plan { seed, kills, shards, durability: durability.to_owned(), patience, place, power: None, large_once_in: 50 }
    }
}

/// With "batched", acknowledgements that are older than the last one by this are on the disk: the broker's default for
/// `store.sync_interval`, and what a machine that has other things to do may add.
const SYNC_WITHIN: Duration = Duration::from_millis(200 + 300);

/// What a broker says at its start when that may be missing.
const SAYS_MISSING: &str = "may be missing";

/// Kills between two moments at which all is let settle.
const KILLS_UNTIL_SETTLED: u32 = 10;

/// Kills of a plain `cargo test`, spread over all combinations.
const KILLS: u32 = 10;

/// Violations of a rule that are printed of a run; the rest is counted.
const SHOWN_MAX: usize = 10;

#[test]
fn what_was_acknowledged_survives_every_kill() {
    if !broker::has_durability() {
        println!("left out: this broker keeps nothing over a restart");
        return;
    }
    let seed = number("RINGMQ_CRASH_SEED").unwrap_or_else(Random::seed_from_environment);
    let combinations: Vec<(String, usize)> = list("RINGMQ_CRASH_DURABILITY", "sync,batched")
        .flat_map(|durability| list("RINGMQ_CRASH_SHARDS", "1,4").map(move |shards| (durability.clone(), shards)))
        .map(|(durability, shards)| (durability, shards.parse().expect("RINGMQ_CRASH_SHARDS is a list of numbers")))
        .collect();
    let mut found = 0;
    for (index, (durability, shards)) in combinations.iter().enumerate() {
        let share = (KILLS + index as u32) / combinations.len() as u32;
        let kills = number("RINGMQ_CRASH_KILLS").map_or(share, |kills| u32::try_from(kills).expect("so many kills"));
        let mut plan = Plan::new(seed, kills, *shards, durability, Duration::from_secs(15));
        plan.place = env::var("RINGMQ_CRASH_DIRECTORY").map_or(plan.place, PathBuf::from);
        plan.power = env::var("RINGMQ_CRASH_POWER").ok();
        plan.large_once_in = number("RINGMQ_CRASH_LARGE")
            .map_or(plan.large_once_in, |share| usize::try_from(share).expect("a share").max(1));
        found += run(&plan).len();
    }
    assert!(found == 0, "{found} violations; RINGMQ_CRASH_SEED={seed} has the same load");
}

/// Without kills the same clients find nothing: what they find with kills is no fault of theirs.
#[test]
fn a_broker_that_lives_breaks_no_promise() {
    for shards in [1, 4] {
        let violations = run(&Plan::new(1, 0, shards, "memory", Duration::from_secs(15)));
        assert!(violations.is_empty(), "{} violations", violations.len());
    }
}

/// The checker must be able to fail: a broker that keeps nothing breaks every promise.
#[test]
fn a_broker_that_forgets_is_found_out() {
    let violations = run(&Plan::new(1, 3, 1, "memory", Duration::from_secs(2)));
    for rule in [Rule::Loss, Rule::Session, Rule::Retained] {
        assert!(violations.iter().any(|violation| violation.rule == rule), "no violation of {rule:?} was found");
    }
}

/// Runs a plan, tells how far it is, and returns what was wrong, which is printed too.
fn run(plan: &Plan) -> Vec<Violation> {
    let mut victim = Victim::new(plan);
    let mut load = Load::new(plan.seed, plan.large_once_in);
    let mut shown = BTreeMap::new();
    if let Err(log) = kill_again_and_again(plan, &mut victim, &mut load, &mut shown) {
        load.checker.violate(Rule::Protocol, 0, format!("the broker ended or panicked by itself:\n{log}"));
        tell(plan, &load, &mut shown);
    }
    let violations = load.checker.violations().to_vec();
    if violations.is_empty() || plan.durability == "memory" {
        victim.clean_up();
    } else {
        println!("the data are in {}", victim.directory().display());
    }
    violations
}

/// Ends early with what the broker said last when it was not well.
fn kill_again_and_again(
    plan: &Plan,
    victim: &mut Victim,
    load: &mut Load,
    shown: &mut BTreeMap<Rule, usize>,
) -> Result<(), String> {
    let mut random = Random::part(plan.seed, u64::MAX);
    let mut power = plan.power.as_deref().map(PowerSwitch::new);
    load.restarted(victim.start()?);
    // Everybody is there before the first kill.
    load.drain(plan.patience);
    for kill in 1..=plan.kills {
        load.run(life(&mut random));
        match &mut power {
            None => {
                victim.kill()?;
                load.killed();
                if random.once_in(8) {
                    victim.kill_while_starting(Duration::from_millis(random.below(40) as u64), || {});
                }
                load.restarted(victim.start()?);
            }
            Some(power) => cut(plan, victim, load, power, &mut random)?,
        }
        if kill % KILLS_UNTIL_SETTLED == 0 && kill < plan.kills {
            load.drain(plan.patience);
            tell(plan, load, shown);
        }
    }
    if plan.kills == 0 {
        load.run(Duration::from_secs(1));
    }
    load.drain(plan.patience);
    victim.kill()?;
    tell(plan, load, shown);
    Ok(())
}

/// Cuts the power, now and then with a SIGKILL before or a start that the power is cut in as well, and starts the broker.
fn cut(
    plan: &Plan,
    victim: &mut Victim,
    load: &mut Load,
    power: &mut PowerSwitch,
    random: &mut Random,
) -> Result<(), String> {
    let is_batched = plan.durability == "batched";
    if random.once_in(3) {
        victim.kill()?;
        load.killed();
        load.restarted(victim.start()?);
        load.run(life(random));
    }
    let at = load.goes_dark();
    power.off();
    load.run(Duration::from_millis(random.below(20) as u64));
    victim.kill_in_the_dark()?;
    load.killed();
    power.on();
    load.checker.is_dark = false;
    if is_batched {
        load.rolls_back(at.saturating_sub(SYNC_WITHIN));
    }
    while random.once_in(3) {
        victim.kill_while_starting(Duration::from_millis(random.below(150) as u64), || power.off());
        power.on();
    }
    load.restarted(victim.start()?);
    // It said so before it said that it was ready, but in another pipe.
    let deadline = Instant::now() + Duration::from_secs(5);
    while is_batched && !victim.log().contains(SAYS_MISSING) && Instant::now() < deadline {
        load.run(Duration::from_millis(1));
    }
    if victim.log().contains(SAYS_MISSING) != is_batched {
        return Err(format!("it should say what {SAYS_MISSING}, and only with \"batched\":\n{}", victim.log()));
    }
    Ok(())
}

/// How long the broker lives from when it listens: 5 ms to 1.5 s, every other time at most 200 ms.
fn life(random: &mut Random) -> Duration {
    let longest_ms = if random.once_in(2) { 200 } else { 1500 };
    Duration::from_millis(random.between(5, longest_ms) as u64)
}

/// Prints how far it is, and the violations that are new.
fn tell(plan: &Plan, load: &Load, shown: &mut BTreeMap<Rule, usize>) {
    let Plan { seed, kills, shards, durability, .. } = plan;
    let violations = load.checker.violations();
    for violation in &violations[shown.values().sum()..] {
        let count = shown.entry(violation.rule).or_default();
        *count += 1;
        if *count <= SHOWN_MAX {
            println!("seed {seed}, {durability}, {shards} shards, {violation}");
        }
    }
    let (acknowledged, delivered) = load.checker.counts();
    println!(
        "{durability}, {shards} shards: {}/{kills} kills, {acknowledged} acknowledged, {delivered} delivered, \
         {} violations {shown:?}",
        load.checker.kills(),
        violations.len(),
    );
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text:?}")))
}

fn list(variable: &str, default: &str) -> impl Iterator<Item = String> + use<> {
    let text = env::var(variable).unwrap_or_else(|_| default.to_owned());
    text.split(',').map(str::to_owned).collect::<Vec<_>>().into_iter()
}
