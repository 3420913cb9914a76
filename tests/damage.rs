//! Damages the files of a data directory: the broker starts with all that was committed, or refuses and says which file it is
//! and what to do. Nothing is lost in silence, and what was refused is left as it was.
//!
//! `SEED` replays a run, `TRIALS` sets how many files are damaged.

mod house;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use house::random::Random;
use ringmq::{
    message::{ApplicationMessage, Envelope, Stamp, SubscriptionIdentifiers},
    mqtt::QoS,
    session::Will,
    store::{
        Batch, DiskStore, Entry, Joiner, Operation, ReceivedRecord, SessionRecord, Space, Store, StoreCopy,
        SubscriptionRecord, inspect, recover,
    },
};

type Records = BTreeMap<(Space, Vec<u8>), Vec<u8>>;

fn message(topic: &str, payload: Vec<u8>, retain: bool) -> ApplicationMessage {
    let envelope =
        Envelope { retain, stamp: Stamp { micros: 5, counter: 1, shard: 0 }, ..Envelope::of(QoS::AtLeastOnce) };
    ApplicationMessage::new(topic, &[], &payload, envelope)
}

/// Everything that a store holds.
fn records(store: &dyn Store) -> Records {
    let mut records = Records::new();
    for space in Space::ALL {
        let found = store.scan(space, &[], usize::MAX).expect("readable");
        records.extend(found.into_iter().map(|(key, value)| ((space, key), value)));
    }
    records
}

/// One turn of a shard: what it asks for in the commit `number`.
fn turn(random: &mut Random, number: u64, payload_bytes: usize) -> Vec<Operation> {
    let session = number % SESSIONS + 1;
    let entry = |session: u64, sequence: u64| Entry {
        session,
        sequence,
        qos: QoS::AtLeastOnce,
        retain: false,
        identifiers: SubscriptionIdentifiers::None,
    };
    let mut operations = Vec::new();
    for message_number in 0..MESSAGES_PER_COMMIT {
        let sequence = number * MESSAGES_PER_COMMIT + message_number;
        let payload = random.bytes(payload_bytes);
        let sharing = if message_number % 4 == 0 { 3 } else { 1 };
        let entries = (0..sharing).map(|other| entry((session + other) % SESSIONS + 1, sequence)).collect();
        let number = sequence + 1000;
        operations.push(Operation::Queue { number, message: message("a/b", payload, false), entries });
    }
    // A session that is often written, so that what is removed comes long after what it removes.
    if number > 40 {
        let sequence = (number - 40) * MESSAGES_PER_COMMIT + 1;
        let session = ((number - 40) % SESSIONS + 1) % SESSIONS + 1;
        operations.push(Operation::QueueEnd { session, sequence, number: Some(sequence + 1000) });
    }
    let retained = message(&format!("retained/{}", number % 30), number.to_le_bytes().to_vec(), true);
    operations.push(Operation::Retained(retained));
    if number.is_multiple_of(3) {
        let received =
            ReceivedRecord { identifier: number as u16, fingerprint: number, is_doubted: number.is_multiple_of(2) };
        operations.push(Operation::Received(session, received));
        operations.push(Operation::ReceivedEnd(session, (number as u16).wrapping_sub(3 * SESSIONS as u16)));
    }
    operations
}

fn first_turn() -> Vec<Operation> {
    let mut operations = Vec::new();
    for session in 1..=SESSIONS {
        let record = SessionRecord {
            client_id: format!("client-{session}").into(),
            expiry_interval_s: 3600,
            offline_since_us: Some(session),
            sent_below: 0,
        };
        operations.push(Operation::Session(session, record));
        let subscription = SubscriptionRecord { options: 1, identifier: 0 };
        operations.push(Operation::Subscription(session, "a/b".into(), subscription));
        let will = Will { message: message("w", b"gone".to_vec(), false), message_expiry_interval_s: None, delay_s: 9 };
        operations.push(Operation::Will(session, Box::new(will)));
    }
    operations
}

/// Makes a store with tables and journals, closed or left as a killed process leaves it.
fn make(directory: &Path, seed: u64, payload_bytes: usize, is_clean: bool) -> Records {
    make_with(directory, seed, payload_bytes, is_clean, COMMIT_BYTES, MEMTABLE_BYTES)
}

fn make_with(
    directory: &Path,
    seed: u64,
    payload_bytes: usize,
    is_clean: bool,
    commit_bytes: u64,
    memtable_bytes: u64,
) -> Records {
    let mut random = Random::new(seed);
    let mut store = Box::new(DiskStore::open_with(directory, memtable_bytes).expect("an empty directory"));
    let mut joiner = Joiner::new(1, 0, Default::default(), Vec::new());
    let commits = commit_bytes / (payload_bytes as u64 * MESSAGES_PER_COMMIT);
    for number in 1..=commits.max(60) {
        let operations = if number == 1 { first_turn() } else { turn(&mut random, number, payload_bytes) };
        joiner.take(Batch { shard: 0, number, operations, parts: Vec::new() });
        joiner.commit(&mut *store, number % 8 == 0, |_, _| {}).expect("room on the disk");
    }
    let records = records(&*store);
    if is_clean {
        store.close().expect("room on the disk");
    }
    records
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("readable").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// The content of every file, without the room at the end of journals.
fn content(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut content = BTreeMap::new();
    for path in files(directory).into_iter().filter(|path| !path.ends_with("lock")) {
        let mut bytes = fs::read(&path).expect("readable");
        if path.extension().is_some_and(|extension| extension == "jnl") {
            bytes.truncate(bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1));
        }
        content.insert(path, bytes);
    }
    content
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    for path in files(from) {
        let target = to.join(path.strip_prefix(from).expect("inside"));
        fs::create_dir_all(target.parent().expect("a directory")).expect("room on the disk");
        let mut bytes = fs::read(&path).expect("readable");
        // Holes are not copied as holes; keep the room, but not more than matters.
        if path.extension().is_some_and(|extension| extension == "jnl") {
            let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            bytes.truncate(end + 4096);
        }
        fs::write(&target, bytes).expect("room on the disk");
    }
}

/// What kind of file it is, so that each kind is damaged as often.
fn kind(path: &Path) -> &'static str {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let parent = path.parent().and_then(|parent| parent.file_name()?.to_str()).unwrap_or_default();
    match name {
        "watermark" => "watermark",
        "format" => "format",
        "clean" => "clean",
        "version" => "version",
        "current" => "current",
        _ if name.ends_with(".jnl") => "journal",
        _ if parent == "tables" => "table",
        _ if name.starts_with('v') => "manifest",
        _ => "other",
    }
}

/// Damages one file and says how.
fn damage(random: &mut Random, path: &Path) -> String {
    let mut bytes = fs::read(path).expect("readable");
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1).max(1);
    let at = random.below(end.min(bytes.len()).max(1));
    let len = random.between(1, 5000).min(bytes.len().saturating_sub(at));
    let how = random.below(if bytes.is_empty() { 2 } else { 10 });
    match how {
        0 => {
            fs::remove_file(path).expect("there");
            return "removed".into();
        }
        1 => {
            let len = random.between(1, 300);
            bytes.extend(random.bytes(len));
        }
        2 => bytes.truncate(at),
        3 => bytes[at..at + len].fill(0),
        4 | 5 => {
            let garbage = random.bytes(len);
            bytes[at..at + len].copy_from_slice(&garbage);
        }
        _ => bytes[at] ^= 1 << random.below(8),
    }
    fs::write(path, bytes).expect("room on the disk");
    let how = ["removed", "appended to", "cut", "hole", "garbage", "garbage"].get(how).unwrap_or(&"bit flipped");
    format!("{how} at {at}, {len} bytes")
}

/// Opens a damaged store. Returns whether it was complete; panics when something is wrong with that.
fn check_damaged(directory: &Path, expected: &Records, what: &str) -> bool {
    let before = content(directory);
    let opened = DiskStore::open_with(directory, MEMTABLE_BYTES);
    match opened {
        Ok(store) => {
            let recovered = recover(&store, 0).unwrap_or_else(|error| panic!("{what}: opened, and then {error}"));
            assert_eq!(recovered.sessions.len() as u64, SESSIONS, "{what}: sessions");
            let found = records(&store);
            // The numbers of commits stand in the records that are compared, too.
            assert!(found == *expected, "{what}: opened with {} of {} records", found.len(), expected.len());
            true
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains(&*directory.to_string_lossy()), "{what}: names no file: {text}");
            assert!(text.contains("ringmq store") || text.contains("Start that version"), "{what}: no command: {text}");
            let after = content(directory);
            let changed = before.keys().chain(after.keys()).filter(|path| before.get(*path) != after.get(*path));
            let changed: Vec<_> = changed.collect();
            assert!(changed.is_empty(), "{what}: refused ({text}) and changed {changed:?}");
            false
        }
    }
}

fn assert_complete(directory: &Path, expected: &Records) {
    if !check_damaged(directory, expected, "nothing is damaged") {
        let error = DiskStore::open_with(directory, MEMTABLE_BYTES).err();
        panic!("nothing is damaged: {}", error.map_or_else(|| "refused once".into(), |error| error.to_string()));
    }
}

/// The four stores that are damaged.
fn variants(name: &str, seed: u64) -> Vec<(PathBuf, Records)> {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("damage-{name}"));
    let _ = fs::remove_dir_all(&root);
    let mut made = Vec::new();
    for (payload_bytes, is_clean) in [(100, false), (100, true), (8192, false), (8192, true)] {
        let directory = root.join(format!("{payload_bytes}-{}", if is_clean { "closed" } else { "killed" }));
        let records = make(&directory, seed, payload_bytes, is_clean);
        made.push((directory, records));
    }
    made
}

#[test]
fn damaged_files_are_refused_or_harmless() {
    let seed = Random::seed_from_environment();
    let trials = std::env::var("TRIALS").map_or(TRIALS, |trials| trials.parse().expect("TRIALS is a number"));
    let mut random = Random::new(seed);
    let variants = variants("files", seed);
    let mut counts: BTreeMap<&str, [u32; 2]> = BTreeMap::new();
    for trial in 0..trials {
        let (original, expected) = &variants[trial % variants.len()];
        let directory = original.with_file_name("damaged");
        copy(original, &directory);
        if trial < variants.len() {
            let inspection = inspect(&directory, &mut |_| {}).expect("a store");
            assert!(inspection.problems.is_empty(), "nothing is damaged: {:?}", inspection.problems);
            assert_complete(&directory, expected);
            copy(original, &directory);
        }
        let mut by_kind: BTreeMap<&str, Vec<PathBuf>> = BTreeMap::new();
        for path in files(&directory) {
            by_kind.entry(kind(&path)).or_default().push(path);
        }
        by_kind.remove("other");
        assert!(by_kind.contains_key("table") && by_kind.contains_key("journal"), "{by_kind:?}");
        let kinds: Vec<&str> = by_kind.keys().copied().collect();
        // Most bytes are in journals and tables.
        let kind = match random.below(3) {
            0 => "journal",
            1 => "table",
            _ => random.pick(&kinds),
        };
        let path = random.pick(&by_kind[kind]).clone();
        let how = damage(&mut random, &path);
        let what = format!("SEED={seed} trial {trial}: {} {how}", path.display());
        let was_complete = check_damaged(&directory, expected, &what);
        counts.entry(kind).or_default()[usize::from(was_complete)] += 1;
        // What is salvaged is part of what there was.
        if let Ok((store, missing)) = StoreCopy::make(&directory) {
            let mut found = 0;
            let mut unreadable = false;
            for space in Space::ALL {
                unreadable |= store.gather(space, &mut |_, _| found += 1);
            }
            let is_all = found >= expected.len();
            assert!(is_all || unreadable || !missing.is_empty(), "{what}: a copy lacks something and does not say so");
        }
    }
    for (kind, [refused, complete]) in counts {
        println!("{kind}: {refused} refused, {complete} complete");
    }
}

#[test]
fn the_broker_says_which_file_is_damaged_and_goes_on_otherwise() {
    let seed = Random::seed_from_environment();
    let mut random = Random::new(seed);
    for (original, _) in variants("broker", seed) {
        let directory = original.with_file_name("damaged");
        copy(&original, &directory);
        assert_eq!(serve(&directory), None, "nothing is damaged: SEED={seed}");
        // Some may be left over from before they were merged, and are not looked at.
        let tables: Vec<PathBuf> = files(&directory).into_iter().filter(|path| kind(path) == "table").collect();
        for table in &tables {
            let mut bytes = fs::read(table).expect("readable");
            let at = random.below(bytes.len());
            bytes[at] ^= 1;
            fs::write(table, bytes).expect("room on the disk");
        }
        let text = serve(&directory).unwrap_or_else(|| panic!("tables are damaged: SEED={seed}"));
        let names = tables.iter().any(|table| text.contains(&*table.to_string_lossy()));
        assert!(names && text.contains("ringmq store salvage"), "{text}");
    }
}

#[test]
fn a_missing_journal_is_noticed() {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("damage-journals");
    let _ = fs::remove_dir_all(&root);
    let original = root.join("original");
    let expected = make_with(&original, 1, 8192, false, JOURNALS_BYTES, JOURNALS_MEMTABLE_BYTES);
    let journals: Vec<PathBuf> = files(&original).into_iter().filter(|path| kind(path) == "journal").collect();
    assert!(journals.len() > 1, "{journals:?}");
    let directory = root.join("damaged");
    for journal in &journals {
        copy(&original, &directory);
        let path = directory.join(journal.strip_prefix(&original).expect("inside"));
        fs::remove_file(&path).expect("there");
        let what = format!("without {}", path.display());
        assert!(!check_damaged(&directory, &expected, &what), "{what}: opened");
    }
    copy(&original, &directory);
    assert_complete(&directory, &expected);
}

/// Runs the broker until it listens, and kills it; or what it says when it does not.
fn serve(directory: &Path) -> Option<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
    command
        .args(["serve", "--allow-anonymous", "--shards", "1", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(directory);
    command.current_dir(env!("CARGO_TARGET_TMPDIR")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the broker");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let is_served = output.lines().map_while(Result::ok).any(|line| {
        let address = line.split_once("listening on tcp ").and_then(|(_, rest)| rest.split_whitespace().next());
        let Some(address) = address.and_then(|address| address.parse::<SocketAddr>().ok()) else { return false };
        // Whoever is let in is served from what was kept.
        let answer = TcpStream::connect(address).and_then(|mut client| {
            client.write_all(CONNECT)?;
            let mut connack = [0; 4];
            client.read_exact(&mut connack).map(|()| connack)
        });
        answer.is_ok_and(|answer| answer == [0x20, 2, 0, 0])
    });
    if is_served {
        child.kill().expect("it runs");
    }
    let mut errors = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut errors).expect("text");
    let code = child.wait().expect("a child").code();
    assert!(is_served || code == Some(1), "{code:?}: {errors}");
    (!is_served).then_some(errors)
}

/// A CONNECT of MQTT 3.1.1 with a clean session.
const CONNECT: &[u8] = &[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, 1, b'x'];
const TRIALS: usize = 40;
const SESSIONS: u64 = 12;
const MESSAGES_PER_COMMIT: u64 = 20;
/// Enough for a second journal, which is begun when a table is written and the first one is larger than 64 MB.
const JOURNALS_BYTES: u64 = 100 << 20;
const JOURNALS_MEMTABLE_BYTES: u64 = 16 << 20;
const COMMIT_BYTES: u64 = 3 << 20;
/// Small, so that a small store has tables.
const MEMTABLE_BYTES: u64 = 256 << 10;
