//! Which store: what a queued message costs in the library by a record of its own, in chunks, and in a bare log.
//!
//! The log is what a store of our own could at best be: it appends each commit with a checksum, syncs, and keeps the
//! watermark. It reads nothing back and never frees anything, so what it saves is the most that there is to save.
//!
//! `cargo bench --bench store -- --directory DIR` measures on the disk under DIR, in alternation; CPU time is that of all
//! threads, from the scheduler's own counts.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use ringmq::{
    message::{ApplicationMessage, Envelope, SubscriptionIdentifiers},
    mqtt::QoS,
    store::{Batch, DiskStore, Entry, Joiner, Operation, Record, SessionRecord, Space, Store, StoreError, WriteSet},
};
use xxhash_rust::xxh3::xxh3_64;

/// The broker's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "\
store: what a queued message costs in a store, by a record each, in chunks, and in a bare log
Usage: cargo bench --bench store -- --directory DIR";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    // Every bench is started with the arguments that are meant for one of them.
    let [flag, directory] = &arguments[..] else {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    };
    if flag != "--directory" {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match compare(Path::new(directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("store: {error}");
            ExitCode::from(2)
        }
    }
}

/// How the messages come to the disk.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// The library, a record for each message.
    Records,
    /// The library, in chunks: as the broker does.
    Chunks,
    /// In chunks, into a log without end.
    Log,
    /// In chunks, to nowhere: what all of them pay.
    Nowhere,
}

const WAYS: [Way; 4] = [Way::Records, Way::Chunks, Way::Log, Way::Nowhere];

#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    cpu_us: f64,
    commit: Duration,
    bytes: f64,
}

fn compare(directory: &Path) -> Result<(), Box<dyn std::error::Error>> {
    for is_passing in [false, true] {
        let what = if is_passing { "each done with 4 commits later" } else { "kept" };
        println!("\n{MESSAGES_PER_COMMIT} messages of {PAYLOAD_BYTES} bytes a commit, {COMMITS} commits, {what}");
        println!("{:<10}{:>18}{:>20}{:>18}", "", "CPU us/message", "commit p50, us", "bytes/message");
        let mut costs = [const { Vec::new() }; WAYS.len()];
        for _ in 0..ROUNDS {
            for (way, costs) in WAYS.into_iter().zip(&mut costs) {
                let place = directory.join(format!("store-bench-{}", std::process::id()));
                fs::create_dir_all(&place)?;
                let cost = measure(way, &place, is_passing);
                fs::remove_dir_all(&place)?;
                costs.push(cost?);
            }
        }
        for (way, costs) in WAYS.into_iter().zip(&costs) {
            let median = |of: &dyn Fn(&Cost) -> f64| {
                let mut all: Vec<f64> = costs.iter().map(of).collect();
                all.sort_by(f64::total_cmp);
                (all[all.len() / 2], all[0], all[all.len() - 1])
            };
            let (cpu, least, most) = median(&|cost| cost.cpu_us);
            let (commit, ..) = median(&|cost| cost.commit.as_secs_f64() * 1e6);
            let (bytes, ..) = median(&|cost| cost.bytes);
            let way = format!("{way:?}").to_lowercase();
            println!("{way:<10}{:>18}{commit:>20.0}{bytes:>18.0}", format!("{cpu:.2} ({least:.2}-{most:.2})"));
        }
    }
    Ok(())
}

fn measure(way: Way, place: &Path, is_passing: bool) -> Result<Cost, Box<dyn std::error::Error>> {
    let mut store: Box<dyn Store> = match way {
        Way::Records | Way::Chunks => Box::new(DiskStore::open(&place.join("data"))?),
        Way::Log => Box::new(Log::make(place)?),
        Way::Nowhere => Box::new(Nowhere),
    };
    let mut joiner = Joiner::new(1, 0, Default::default(), Vec::new());
    joiner.take(Batch { shard: 0, number: 1, operations: sessions(), parts: Vec::new() });
    joiner.commit(&mut *store, true, |_, _| {})?;
    let mut commits = Vec::new();
    let began = cpu_time()?;
    for number in 0..COMMITS {
        let messages = (0..MESSAGES_PER_COMMIT).map(|message| number * MESSAGES_PER_COMMIT + message);
        let ended = number.checked_sub(4).filter(|_| is_passing).map(|number| number * MESSAGES_PER_COMMIT);
        let ended = ended.into_iter().flat_map(|first| first..first + MESSAGES_PER_COMMIT);
        let start;
        if matches!(way, Way::Records) {
            let mut writes = WriteSet::default();
            for number in messages {
                let mut value = number.to_le_bytes().to_vec();
                value.extend_from_slice(b"bench/topic");
                value.extend_from_slice(&[7; PAYLOAD_BYTES]);
                writes.put(Space::Queue, &key(number), value);
            }
            ended.for_each(|number| writes.remove(Space::Queue, &key(number)));
            writes.put(Space::State, b"m/commit", (number + 2).to_le_bytes().to_vec());
            start = Instant::now();
            store.commit(&writes, true)?;
        } else {
            let mut operations: Vec<Operation> = messages.map(queued).collect();
            operations.extend(ended.map(|number| {
                let (session, sequence) = place_of(number);
                Operation::QueueEnd { session, sequence, number: Some(number) }
            }));
            joiner.take(Batch { shard: 0, number: number + 2, operations, parts: Vec::new() });
            start = Instant::now();
            joiner.commit(&mut *store, true, |_, _| {})?;
        }
        commits.push(start.elapsed());
    }
    let messages = (COMMITS * MESSAGES_PER_COMMIT) as f64;
    let cpu_us = (cpu_time()? - began) as f64 / 1e3 / messages;
    commits.sort();
    drop(store);
    let bytes = disk_bytes(place)? as f64 / messages;
    Ok(Cost { cpu_us, commit: commits[commits.len() / 2], bytes })
}

fn sessions() -> Vec<Operation> {
    let session = |number: u64| {
        let client_id = format!("client-{number}").into();
        let record = SessionRecord { client_id, expiry_interval_s: 60, offline_since_us: Some(1), sent_below: 0 };
        Operation::Session(number, record)
    };
    (1..=SESSIONS).map(session).collect()
}

fn place_of(number: u64) -> (u64, u64) {
    (number % SESSIONS + 1, number / SESSIONS)
}

fn key(number: u64) -> Vec<u8> {
    let (session, sequence) = place_of(number);
    [session.to_be_bytes(), sequence.to_be_bytes()].concat()
}

fn queued(number: u64) -> Operation {
    let envelope = Envelope::of(QoS::AtLeastOnce);
    let message = ApplicationMessage::new("bench/topic", &[], &[7; PAYLOAD_BYTES], envelope);
    let (session, sequence) = place_of(number);
    let identifiers = SubscriptionIdentifiers::None;
    let entry = Entry { session, sequence, qos: QoS::AtLeastOnce, retain: false, identifiers };
    Operation::Queue { number, message, entries: [entry].into_iter().collect() }
}

/// A log of commits and a watermark.
struct Log {
    file: File,
    watermark: File,
    commits: u64,
}

impl Log {
    fn make(place: &Path) -> std::io::Result<Self> {
        let [file, watermark] = ["log", "watermark"].map(|name| File::create(place.join(name)));
        Ok(Self { file: file?, watermark: watermark?, commits: 0 })
    }
}

impl Store for Log {
    fn commit(&mut self, writes: &WriteSet, sync: bool) -> Result<(), StoreError> {
        let failed = |error: std::io::Error| StoreError::Failed(error.to_string());
        let mut bytes = vec![0; 24];
        for (space, key, value) in writes.iter() {
            bytes.push(space as u8 * 2 + u8::from(value.is_some()));
            bytes.extend_from_slice(&(key.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&(value.map_or(0, <[u8]>::len) as u32).to_le_bytes());
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(value.unwrap_or_default());
        }
        self.commits += 1;
        let len = bytes.len() as u64;
        bytes[..8].copy_from_slice(&self.commits.to_le_bytes());
        bytes[8..16].copy_from_slice(&len.to_le_bytes());
        let checksum = xxh3_64(&bytes[24..]);
        bytes[16..24].copy_from_slice(&checksum.to_le_bytes());
        self.file.write_all(&bytes).map_err(failed)?;
        if sync {
            self.sync()?;
        }
        self.watermark.write_all_at(&[self.commits as u8; 60], 0).map_err(failed)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(|error| StoreError::Failed(error.to_string()))
    }

    fn scan(&self, _: Space, _: &[u8], _: usize) -> Result<Vec<Record>, StoreError> {
        Err(StoreError::Failed("nothing is read back".into()))
    }

    fn close(self: Box<Self>) -> Result<(), StoreError> {
        Ok(())
    }
}

struct Nowhere;

impl Store for Nowhere {
    fn commit(&mut self, _: &WriteSet, _: bool) -> Result<(), StoreError> {
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn scan(&self, _: Space, _: &[u8], _: usize) -> Result<Vec<Record>, StoreError> {
        Err(StoreError::Failed("nothing is read back".into()))
    }

    fn close(self: Box<Self>) -> Result<(), StoreError> {
        Ok(())
    }
}

/// What all threads have had so far, in nanoseconds.
fn cpu_time() -> std::io::Result<u64> {
    let mut total = 0;
    for task in fs::read_dir("/proc/self/task")? {
        let path: PathBuf = task?.path().join("schedstat");
        let text = fs::read_to_string(path)?;
        total += text.split_whitespace().next().and_then(|first| first.parse::<u64>().ok()).unwrap_or_default();
    }
    Ok(total)
}

fn disk_bytes(directory: &Path) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut total = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        total += if metadata.is_dir() { disk_bytes(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(total)
}

const SESSIONS: u64 = 10;
const MESSAGES_PER_COMMIT: u64 = 640;
const COMMITS: u64 = 500;
const PAYLOAD_BYTES: usize = 100;
const ROUNDS: usize = 5;
