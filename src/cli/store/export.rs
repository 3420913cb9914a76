//! `ringmq store export`: writes what is kept as JSON lines.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Write},
    path::PathBuf,
};

use clap::Args;

use super::{
    CommandError, DirectoryArgs, at,
    lines::{Line, MessageLine, QueuedLine, ReceivedLine, SessionLine, SubscriptionLine, VERSION, WillLine},
    open_whole,
    progress::Progress,
};
use crate::{
    cli::Exit,
    store::{self, Recovered, RecoveredSession, Store, StoreError},
};

/// Write what is kept as JSON lines: sessions with their subscriptions, Wills and queues, and retained messages.
///
/// Changes nothing in the data directory.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    directory: DirectoryArgs,
    /// Write to this file instead of the standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn export(arguments: &ExportArgs) -> Result<Exit, CommandError> {
    let directory = &arguments.directory.data_dir;
    let _lock = store::lock_to_read(directory)?;
    let copy = open_whole(directory)?;
    let recovered = store::recover(&copy, 0)?;
    let (path, output): (PathBuf, Box<dyn Write>) = match &arguments.output {
        Some(path) => (path.clone(), Box::new(File::create(path).map_err(at(path))?)),
        None => ("standard output".into(), Box::new(io::stdout().lock())),
    };
    let mut progress = Progress::new("lines written");
    let written = write(BufWriter::new(output), &copy, &recovered, &mut progress);
    progress.clear();
    match written {
        Ok(()) => Ok(Exit::Done),
        Err(WriteError::Store(error)) => Err(error.into()),
        Err(WriteError::Io(error)) => Err(at(&path)(error)),
    }
}

#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn write(
    mut output: impl Write,
    store: &dyn Store,
    recovered: &Recovered,
    progress: &mut Progress,
) -> Result<(), WriteError> {
    let mut put = |line: &Line| {
        progress.add(1);
        serde_json::to_writer(&mut output, line)?;
        output.write_all(b"\n")
    };
    put(&Line::Export { version: VERSION })?;
    // Bodies are numbered anew, in order, so that the same content gives the same lines. One that only one queue is left
    // with is no shared one.
    let queues = &recovered.queues;
    let mut numbers: BTreeMap<u64, u64> = BTreeMap::new();
    store::for_each_shared(store, queues, |number, message| {
        if numbers.contains_key(&number) {
            return Ok(());
        }
        let body = numbers.len() as u64 + 1;
        numbers.insert(number, body);
        put(&Line::Body { body, message: MessageLine::of(&message) }).map_err(WriteError::from)
    })?;
    for session in &recovered.sessions {
        put(&Line::Session(session_line(session)))?;
        queues.for_each(store, session.number, |entry| {
            let body = entry.message.as_ref().and_then(|_| numbers.get(&entry.number).copied());
            let message = entry.message.as_ref().filter(|_| body.is_none());
            put(&Line::Queued(QueuedLine {
                sequence: entry.sequence,
                qos: entry.qos.value(),
                retain: entry.retain,
                subscription_identifiers: entry.identifiers.with(<[u32]>::to_vec),
                message: message.map(MessageLine::of),
                body,
            }))
            .map_err(WriteError::from)
        })?;
    }
    for message in &recovered.retained {
        put(&Line::Retained { message: MessageLine::of(message) })?;
    }
    Ok(output.flush()?)
}

fn session_line(session: &RecoveredSession) -> SessionLine {
    let subscriptions = session.subscriptions.iter().map(|(filter, record)| SubscriptionLine {
        filter: filter.as_ref().into(),
        options: record.options,
        identifier: record.identifier,
    });
    let reserve = session.reserve.clone().unwrap_or_default();
    SessionLine {
        client_id: session.record.client_id.as_ref().into(),
        expiry_interval_s: session.record.expiry_interval_s,
        offline_since_us: session.record.offline_since_us,
        sent_below: session.record.sent_below,
        used_below: session.used_below,
        reserved_below: reserve.below,
        held: reserve.held,
        subscriptions: subscriptions.collect(),
        received: session.received.iter().copied().map(ReceivedLine::of).collect(),
        will: session.will.as_ref().map(WillLine::of),
    }
}

const EXAMPLES: &str = "\
Examples:
  ringmq store export --data-dir /var/lib/ringmq --output sessions.jsonl
  ringmq store export --data-dir /var/lib/ringmq | jq 'select(.kind == \"session\") | .client_id'";
