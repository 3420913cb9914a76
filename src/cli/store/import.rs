//! `ringmq store import`: makes a data directory of the lines of an export.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{BufRead, BufReader, Read as _},
    path::{Path, PathBuf},
};

use clap::Args;

use super::{
    CommandError, DirectoryArgs, at, check_empty,
    lines::{Line, QueuedLine, SessionLine, VERSION, qos},
    progress::Progress,
};
use crate::{
    cli::Exit,
    message::{ApplicationMessage, SubscriptionIdentifiers},
    session::ReserveRecord,
    store::{Batch, DiskStore, Entries, Entry, Joiner, Operation, SessionRecord, Store as _, SubscriptionRecord},
};

/// Make a data directory of the lines of an export.
///
/// Into an empty directory only: nothing is merged with what is kept already.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ringmq store import --data-dir /var/lib/ringmq-new sessions.jsonl")]
pub(super) struct ImportArgs {
    #[command(flatten)]
    directory: DirectoryArgs,
    /// The lines.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn import(arguments: &ImportArgs) -> Result<Exit, CommandError> {
    let directory = &arguments.directory.data_dir;
    check_empty(directory)?;
    let file = File::open(&arguments.file).map_err(at(&arguments.file))?;
    let was_there = directory.exists();
    let mut progress = Progress::new("lines read");
    let imported = read(BufReader::new(file), &arguments.file, directory, &mut progress);
    progress.clear();
    if let Err(error) = imported {
        // Half of an export is nothing to start with.
        let gone = if was_there { empty(directory) } else { fs::remove_dir_all(directory) };
        if let Err(error) = gone.or_else(|error| if directory.exists() { Err(error) } else { Ok(()) }) {
            eprintln!("error: {}: cannot be removed: {error}", directory.display());
        }
        return Err(error);
    }
    println!("{}: {} lines imported", directory.display(), imported.unwrap_or_default());
    Ok(Exit::Done)
}

fn empty(directory: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }?;
    }
    Ok(())
}

fn read(
    mut input: impl BufRead,
    path: &Path,
    directory: &Path,
    progress: &mut Progress,
) -> Result<usize, CommandError> {
    let mut store = Box::new(DiskStore::open(directory)?);
    let mut import = Import {
        joiner: Joiner::new(1, 0, Default::default(), Vec::new()),
        operations: Vec::new(),
        bytes: 0,
        batch: 0,
        last_number: 0,
        session: None,
        sequences: BTreeSet::new(),
        clients: BTreeSet::new(),
        bodies: BTreeMap::new(),
    };
    let mut text = String::new();
    let mut number = 0;
    loop {
        text.clear();
        let wrong = |what: String| CommandError::Line { path: path.to_owned(), line: number + 1, what };
        let read =
            input.by_ref().take(LINE_BYTES_MAX).read_line(&mut text).map_err(|error| wrong(error.to_string()))?;
        if read == 0 {
            break;
        }
        let line: Line = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        import.take(line, number == 0).map_err(wrong)?;
        number += 1;
        progress.add(1);
        if import.operations.len() >= OPERATIONS_MAX || import.bytes >= BYTES_MAX {
            import.commit(&mut store)?;
        }
    }
    if number == 0 {
        return Err(CommandError::Line { path: path.to_owned(), line: 1, what: "the file is empty".into() });
    }
    let bodies = std::mem::take(&mut import.bodies);
    for (_, (message, entries)) in bodies {
        // One that no queue has is left out, as an export does.
        if !entries.is_empty() {
            let number = import.take_number();
            import.ask(message.charged_bytes(), Operation::Queue { number, message, entries });
        }
    }
    import.commit(&mut store)?;
    store.close()?;
    Ok(number)
}

struct Import {
    joiner: Joiner,
    operations: Vec<Operation>,
    bytes: usize,
    batch: u64,
    last_number: u64,
    /// The session whose queue is being read.
    session: Option<u64>,
    /// Sequence numbers in its queue.
    sequences: BTreeSet<u64>,
    clients: BTreeSet<String>,
    bodies: BTreeMap<u64, (ApplicationMessage, Entries)>,
}

impl Import {
    fn take(&mut self, line: Line, is_first: bool) -> Result<(), String> {
        if is_first != matches!(line, Line::Export { .. }) {
            return Err("the first line, and no other, is of the kind `export`".into());
        }
        match line {
            Line::Export { version } if version > VERSION => {
                return Err(format!("version {version} was written by a newer RingMQ; this one reads up to {VERSION}"));
            }
            Line::Export { .. } => {}
            Line::Body { body, message } => {
                if self.bodies.insert(body, (message.message()?, Entries::new())).is_some() {
                    return Err(format!("there is a body {body} already"));
                }
            }
            Line::Session(line) => self.take_session(line)?,
            Line::Queued(line) => self.take_queued(&line)?,
            Line::Retained { message } => {
                let message = message.message()?;
                self.ask(message.charged_bytes(), Operation::Retained(message));
            }
        }
        Ok(())
    }

    fn take_session(&mut self, line: SessionLine) -> Result<(), String> {
        if !self.clients.insert(line.client_id.clone()) {
            return Err(format!("there is a session of {:?} already", line.client_id));
        }
        let number = self.take_number();
        self.session = Some(number);
        self.sequences.clear();
        let record = SessionRecord {
            client_id: line.client_id.into(),
            expiry_interval_s: line.expiry_interval_s,
            offline_since_us: line.offline_since_us.filter(|&since| since != u64::MAX),
            sent_below: line.sent_below,
        };
        self.ask(record.client_id.len(), Operation::Session(number, record));
        // What is held is not used again, whatever else the line says.
        let floor = line.held.last().map_or(0, |&(_, below)| below).max(line.used_below);
        if floor > 0 || line.reserved_below > 0 {
            let is_behind = |last: &mut u64, &(from, below): &(u64, u64)| {
                let is_good = from >= *last && below > from;
                *last = below;
                Some(is_good)
            };
            if !line.held.iter().scan(0, is_behind).all(|is_good| is_good) {
                return Err("the ranges that are held are not in order".into());
            }
            let below = line.reserved_below;
            if floor.max(below) > SEQUENCE_MAX {
                return Err(format!("there is no sequence number {}", floor.max(below)));
            }
            self.ask(0, Operation::Reserve(number, ReserveRecord { floor, below, held: line.held }));
        }
        for subscription in line.subscriptions {
            let record = SubscriptionRecord { options: subscription.options, identifier: subscription.identifier };
            self.ask(subscription.filter.len(), Operation::Subscription(number, subscription.filter.into(), record));
        }
        for received in line.received {
            self.ask(0, Operation::Received(number, received.record()));
        }
        if let Some(will) = line.will {
            let will = will.will()?;
            self.ask(will.message.charged_bytes(), Operation::Will(number, Box::new(will)));
        }
        Ok(())
    }

    fn take_queued(&mut self, line: &QueuedLine) -> Result<(), String> {
        let session = self.session.ok_or("a queued message comes after its session")?;
        if !self.sequences.insert(line.sequence) {
            return Err(format!("there is a message {} in the queue already", line.sequence));
        }
        let entry = Entry {
            session,
            sequence: line.sequence,
            qos: qos(line.qos)?,
            retain: line.retain,
            identifiers: SubscriptionIdentifiers::of(&line.subscription_identifiers),
        };
        match (&line.message, line.body) {
            (Some(message), None) => {
                let (number, message) = (self.take_number(), message.message()?);
                self.ask(
                    message.charged_bytes(),
                    Operation::Queue { number, message, entries: Entries::from_iter([entry]) },
                );
            }
            (None, Some(body)) => {
                let (_, entries) = self.bodies.get_mut(&body).ok_or_else(|| format!("there is no body {body}"))?;
                entries.push(entry);
            }
            (None, None) => {
                let (sequence, number) = (line.sequence, self.take_number());
                self.ask(0, Operation::QueueReleased { session, sequence, number });
            }
            (Some(_), Some(_)) => return Err("message and body cannot both be given".into()),
        }
        Ok(())
    }

    fn take_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn ask(&mut self, bytes: usize, operation: Operation) {
        self.bytes += bytes;
        self.operations.push(operation);
    }

    fn commit(&mut self, store: &mut DiskStore) -> Result<(), CommandError> {
        self.batch += 1;
        let operations = std::mem::take(&mut self.operations);
        self.bytes = 0;
        self.joiner.take(Batch { shard: 0, number: self.batch, operations, parts: Vec::new() });
        self.joiner.commit(store, false, |_, _| {})?;
        Ok(())
    }
}

/// More than any queue gets to, and far from where numbers end.
const SEQUENCE_MAX: u64 = 1 << 62;
const OPERATIONS_MAX: usize = 4096;
const BYTES_MAX: usize = 4 << 20;
/// No line of an export is longer: a message of the largest size, in Base64, with all that goes with it.
const LINE_BYTES_MAX: u64 = 1 << 30;
