//! The disk fails under a broker that goes on: it is full, read-only, broken or slow.
//!
//! The clients and the checker are those of the crash test: publishers of QoS 1 and 2, durable subscribers that are there,
//! away or flapping, retained writers, Wills. They work before, during and after the fault; while it lasts they may be refused, as
//! long as they are told. Then the broker is killed and started again, and whatever it acknowledged must be there: at QoS 2 once,
//! at QoS 1 at least once, in order. `RINGMQ_CRASH_SEED` has the same load again.
//!
//! The disks need a C compiler, and the small one the right to mount; where these are missing, the tests say so and pass.

#[allow(dead_code, reason = "the crash test uses the rest")]
#[path = "../crash/checker.rs"]
mod checker;
#[allow(dead_code, reason = "the crash test uses the rest")]
#[path = "../crash/client.rs"]
mod client;
mod disk;
#[path = "../house/mod.rs"]
mod house;
#[allow(dead_code, reason = "the crash test uses the rest")]
#[path = "../crash/load.rs"]
mod load;
mod slow;

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use disk::{Faults, FaultyDisk, SmallDisk};
use house::{broker::Broker, random::Random};
use load::Load;

const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const EROFS: i32 = 30;
const EDQUOT: i32 = 122;

/// Nothing is owed any more when nothing has happened for so long.
const PATIENCE: Duration = Duration::from_secs(15);
/// From the end of a fault until the store is open again: the longest pause between two attempts, and room for a slow machine.
const REOPEN_PATIENCE: Duration = Duration::from_secs(30);

/// One message of so many is large.
const LARGE_ONCE_IN: usize = 50;

/// A broker on a disk, and its load.
struct Trial {
    arguments: Vec<String>,
    variables: Vec<(&'static str, String)>,
    shards: usize,
    load: Load,
    broker: Option<Broker>,
}

impl Trial {
    /// Starts a broker, and lets all clients come.
    fn start(shards: usize, data: &Path, variables: Vec<(&'static str, String)>, more: &[&str]) -> Trial {
        let seed = std::env::var("RINGMQ_CRASH_SEED").ok().and_then(|seed| seed.parse().ok());
        let mut arguments: Vec<String> = more.iter().map(|&argument| argument.to_owned()).collect();
        arguments.extend(["--data-dir".to_owned(), data.display().to_string()]);
        // No queue may overflow: what is dropped there is lost by design.
        arguments.extend(["--set".to_owned(), "mqtt.queue_messages_max=1000000".to_owned()]);
        if !more.contains(&"--durability") {
            arguments.extend(["--durability".to_owned(), "sync".to_owned()]);
        }
        let seed = seed.unwrap_or_else(Random::seed_from_environment);
        let mut trial = Trial { arguments, variables, shards, load: Load::new(seed, LARGE_ONCE_IN), broker: None };
        trial.start_broker();
        trial.load.drain(PATIENCE);
        trial
    }

    fn start_broker(&mut self) {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let variables: Vec<(&str, &str)> = self.variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let broker = Broker::start_in(self.shards, &["127.0.0.1"], &arguments, &variables);
        let began = Instant::now();
        while !broker.log().contains(" ready") {
            assert!(began.elapsed() < REOPEN_PATIENCE, "it does not start:\n{}", broker.log());
            thread::sleep(Duration::from_millis(1));
        }
        self.load.restarted(broker.address());
        self.broker = Some(broker);
    }

    fn log(&self) -> String {
        self.broker.as_ref().map(Broker::log).unwrap_or_default()
    }

    /// Lets everyone work for so long.
    fn work(&mut self, millis: u64) {
        // What each may send in one go is not to run out.
        let address = self.broker.as_ref().expect("it runs").address();
        self.load.restarted(address);
        self.load.run(Duration::from_millis(millis));
    }

    /// Lets everyone work until the broker has said `text` so many times.
    fn work_until(&mut self, text: &str, times: usize) {
        let began = Instant::now();
        while self.log().matches(text).count() < times {
            assert!(began.elapsed() < REOPEN_PATIENCE, "it never says {text:?}:\n{}", self.log());
            self.work(100);
        }
    }

    /// Kills the broker, starts it again and lets all that is owed arrive; nothing may be missing.
    fn reckon(mut self) -> Load {
        let broker = self.broker.take().expect("it runs");
        let log = broker.log();
        assert!(!log.contains("panicked"), "{log}");
        drop(broker);
        self.load.killed();
        self.load.set_patient(false);
        self.start_broker();
        self.load.drain(PATIENCE);
        let violations: Vec<String> = self.load.checker.violations().iter().map(ToString::to_string).collect();
        assert!(violations.is_empty(), "{}\nthe broker before:\n{log}", violations.join("\n"));
        self.load
    }
}

/// A fault comes, lasts and goes. The store is open again without a restart, and nothing that was acknowledged is lost.
fn outlast(shards: usize, more: &[&str], faults: Faults) {
    let Some(disk) = FaultyDisk::new() else { return println!("left out: there is no C compiler") };
    let mut trial = Trial::start(shards, &disk.data(), disk.variables(), more);
    trial.work(300);
    trial.load.set_patient(true);
    disk.set(faults);
    trial.work_until("the store has failed", 1);
    let (acknowledged, _) = trial.load.checker.counts();
    trial.work(1500);
    let (still_acknowledged, _) = trial.load.checker.counts();
    // Answers that were on their way count.
    assert!(still_acknowledged - acknowledged < 200, "{} messages", still_acknowledged - acknowledged);
    disk.set(Faults::default());
    trial.work_until("the store is open again", 1);
    trial.work(200);
    trial.load.set_patient(false);
    trial.work(300);
    let (now_acknowledged, _) = trial.load.checker.counts();
    assert!(now_acknowledged > still_acknowledged, "it is durable again");
    assert_eq!(trial.log().matches("the store has failed").count(), 1, "{}", trial.log());
    trial.reckon();
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged() {
    outlast(2, &[], Faults { write: ENOSPC, create: ENOSPC, ..Faults::default() });
}

#[test]
fn a_write_that_ends_half_way_loses_nothing() {
    outlast(1, &[], Faults { write: ENOSPC, create: ENOSPC, is_partial: true, ..Faults::default() });
}

#[test]
fn a_disk_that_cannot_sync_loses_nothing() {
    outlast(2, &[], Faults { sync: EIO, ..Faults::default() });
}

#[test]
fn a_disk_that_became_read_only_loses_nothing() {
    outlast(1, &[], Faults { write: EROFS, create: EROFS, sync: EROFS, ..Faults::default() });
}

#[test]
fn a_quota_that_is_used_up_loses_nothing_of_what_is_written_in_batches() {
    outlast(2, &["--durability", "batched"], Faults { write: EDQUOT, create: EDQUOT, ..Faults::default() });
}

#[test]
fn a_disk_that_cannot_sync_loses_nothing_of_what_is_written_in_batches() {
    outlast(2, &["--durability", "batched"], Faults { sync: EIO, ..Faults::default() });
}

/// The broker dies while its store has failed: nothing is lost of what was acknowledged before.
#[test]
fn a_broker_that_dies_without_its_store_has_promised_nothing_more() {
    let Some(disk) = FaultyDisk::new() else { return println!("left out: there is no C compiler") };
    let mut trial = Trial::start(2, &disk.data(), disk.variables(), &[]);
    trial.work(300);
    trial.load.set_patient(true);
    disk.set(Faults { write: EIO, sync: EIO, ..Faults::default() });
    trial.work_until("the store has failed", 1);
    trial.work(500);
    disk.set(Faults::default());
    trial.reckon();
}

/// A fault that comes back while the store is being opened, or right after.
#[test]
fn faults_that_come_again_and_again_lose_nothing() {
    let Some(disk) = FaultyDisk::new() else { return println!("left out: there is no C compiler") };
    let mut trial = Trial::start(2, &disk.data(), disk.variables(), &[]);
    trial.load.set_patient(true);
    for round in 1..=3 {
        trial.work(50);
        let faults = if round % 2 == 0 {
            Faults { sync: EIO, ..Faults::default() }
        } else {
            Faults { write: EIO, ..Faults::default() }
        };
        disk.set(faults);
        trial.work_until("the store has failed", round);
        // Long enough for one attempt to fail.
        trial.work(1200);
        disk.set(Faults::default());
        trial.work_until("the store is open again", round);
    }
    trial.work(200);
    trial.load.set_patient(false);
    trial.reckon();
}

/// A real file system, full to the last byte, with no reserve.
#[test]
fn a_small_disk_that_is_filled_up_and_freed_loses_nothing() {
    let Some(disk) = SmallDisk::new(48) else { return println!("left out: nothing may be mounted") };
    let mut trial = Trial::start(2, &disk.data(), Vec::new(), &["--set", "store.disk_free_bytes_min=0"]);
    trial.work(300);
    trial.load.set_patient(true);
    disk.fill();
    trial.work_until("the store has failed", 1);
    trial.work(1000);
    disk.free();
    trial.work_until("the store is open again", 1);
    trial.work(200);
    trial.load.set_patient(false);
    trial.work(300);
    trial.reckon();
}

/// The reserve of a real file system is touched: the store never fails, what is new is refused, what is there is delivered, and
/// with room all goes on.
#[test]
fn a_small_disk_is_not_filled_up_and_what_is_kept_leaves_it() {
    let Some(disk) = SmallDisk::new(200) else { return println!("left out: nothing may be mounted") };
    let mut trial = Trial::start(2, &disk.data(), Vec::new(), &[]);
    trial.work(300);
    trial.load.set_patient(true);
    disk.take(195 - used(&disk.data()));
    trial.work_until("the disk is nearly full", 1);
    trial.work(300);
    let before = trial.load.checker.counts();
    trial.work(1500);
    let after = trial.load.checker.counts();
    assert!(after.0 - before.0 < 50, "{} messages were acknowledged", after.0 - before.0);
    disk.free();
    trial.work_until("the disk has room again", 1);
    trial.work(200);
    trial.load.set_patient(false);
    trial.work(300);
    assert!(trial.load.checker.counts().0 > after.0, "it takes messages again");
    assert!(!trial.log().contains("the store has failed"), "{}", trial.log());
    trial.reckon();
}

/// Mebibytes that the files of a directory take, rounded up.
fn used(directory: &Path) -> usize {
    let output = std::process::Command::new("du").arg("-sm").arg(directory).output().expect("du counts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().next().and_then(|number| number.parse().ok()).expect("du says a number")
}
