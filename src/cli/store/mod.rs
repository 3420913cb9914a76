//! `ringmq store`: looks at what a broker keeps, and gets it out of a directory and into another.
//!
//! Owns: the commands on a data directory that no broker uses.
//! Always: the directory that is looked at stays as it is; its lock is respected.

mod export;
mod import;
mod lines;
mod progress;
mod salvage;
mod stats;

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};

use self::progress::Progress;
use super::Exit;
use crate::store::{self, OpenError, StoreCopy, StoreError};

/// Check, rescue, measure, export or import what the broker keeps.
///
/// The broker must not be running in that directory.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct StoreArgs {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    Check(CheckArgs),
    Salvage(salvage::SalvageArgs),
    Stats(stats::StatsArgs),
    Export(export::ExportArgs),
    Import(import::ImportArgs),
}

/// Which data directory.
#[derive(Debug, Args)]
struct DirectoryArgs {
    /// The data directory [store.data_dir].
    #[arg(long, value_name = "DIR", default_value = "ringmq-data")]
    data_dir: PathBuf,
}

/// Say what is wrong with a data directory; changes nothing in it.
///
/// Reads every file, compares checksums and the number of the last commit, then reads every record. One line for each
/// problem, with its file. Journals are copied into the temporary directory (TMPDIR) meanwhile. Exit code 0: nothing is
/// wrong; 1: something is.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ringmq store check --data-dir /var/lib/ringmq")]
struct CheckArgs {
    #[command(flatten)]
    directory: DirectoryArgs,
}

/// Why a command came to nothing.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{}: line {line}: {what}", path.display())]
    Line { path: PathBuf, line: usize, what: String },
    #[error("{}: is not empty; name a directory that is, or that does not exist", .0.display())]
    NotEmpty(PathBuf),
    #[error("{}: {what}. {}", directory.display(), store::remedy(directory))]
    Damaged { directory: PathBuf, what: String },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> CommandError {
    let path = path.to_owned();
    move |error| CommandError::Io { path, error }
}

pub(super) fn run(arguments: &StoreArgs) -> Exit {
    let result = match &arguments.command {
        StoreCommand::Check(arguments) => check(arguments),
        StoreCommand::Salvage(arguments) => salvage::salvage(arguments),
        StoreCommand::Stats(arguments) => stats::stats(arguments),
        StoreCommand::Export(arguments) => export::export(arguments),
        StoreCommand::Import(arguments) => import::import(arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        Exit::CannotRun
    })
}

fn check(arguments: &CheckArgs) -> Result<Exit, CommandError> {
    let directory = &arguments.directory.data_dir;
    let lock = store::lock_to_read(directory)?;
    let mut progress = Progress::new("bytes read");
    let inspection = store::inspect(directory, &mut |bytes| progress.add(bytes));
    progress.clear();
    // What stops the reading is a finding as well.
    let inspection = inspection?;
    let mut problems: Vec<String> = inspection.problems.iter().map(ToString::to_string).collect();
    let mut summary = String::new();
    if problems.is_empty() {
        let (copy, missing) = StoreCopy::make(directory)?;
        problems.extend(missing.iter().filter(|_| !inspection.is_torn()).map(ToString::to_string));
        if copy.last_commit < inspection.expected {
            let (found, expected) = (copy.last_commit, inspection.expected);
            problems.push(format!("{}: ends with commit {found} of {expected}", directory.display()));
        }
        let mut progress = Progress::new("records read");
        let census = store::census(&copy, &mut |records| progress.add(records));
        progress.clear();
        match census {
            Ok(census) => {
                problems.extend(census.problems.iter().map(|what| format!("{}: {what}", directory.display())));
                let records: u64 = census.kinds.values().map(|tally| tally.count).sum();
                summary = format!("commit {}, {records} records", copy.last_commit);
            }
            Err(error) => problems.push(format!("{}: {error}", directory.display())),
        }
    }
    drop(lock);
    let mut output = io::stdout().lock();
    for problem in &problems {
        let _ = writeln!(output, "{problem}");
    }
    if problems.is_empty() {
        let torn = if inspection.is_torn() {
            "; a commit that nobody was told of is not whole, and will be cut off"
        } else {
            ""
        };
        let _ = writeln!(output, "{}: ok: {summary}{torn}", directory.display());
        return Ok(Exit::Done);
    }
    let count = problems.len();
    eprintln!("{count} {}. {}", if count == 1 { "problem" } else { "problems" }, store::remedy(directory));
    Ok(Exit::CannotRun)
}

/// A copy to read of a store that is whole.
fn open_whole(directory: &Path) -> Result<StoreCopy, CommandError> {
    let mut progress = Progress::new("bytes read");
    let inspection = store::inspect(directory, &mut |bytes| progress.add(bytes));
    progress.clear();
    let inspection = inspection?;
    if let Some(problem) = inspection.problems.first() {
        return Err(CommandError::Damaged { directory: directory.to_owned(), what: problem.to_string() });
    }
    let (copy, missing) = StoreCopy::make(directory)?;
    let lacking = missing.into_iter().find(|_| !inspection.is_torn());
    let lacking = lacking.map(|problem| problem.to_string());
    let ends_early = copy.last_commit < inspection.expected;
    match lacking.or_else(|| ends_early.then(|| format!("ends with commit {}", copy.last_commit))) {
        Some(what) => Err(CommandError::Damaged { directory: directory.to_owned(), what }),
        None => Ok(copy),
    }
}

/// Refuses a directory that has anything in it.
fn check_empty(directory: &Path) -> Result<(), CommandError> {
    let is_empty = match std::fs::read_dir(directory) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(at(directory)(error)),
    };
    if is_empty { Ok(()) } else { Err(CommandError::NotEmpty(directory.to_owned())) }
}

const EXAMPLES: &str = "\
Examples:
  ringmq store check --data-dir /var/lib/ringmq
  ringmq store stats --data-dir /var/lib/ringmq
  ringmq store export --data-dir /var/lib/ringmq --output sessions.jsonl
  ringmq store import --data-dir /var/lib/ringmq-new sessions.jsonl
  ringmq store salvage --data-dir /var/lib/ringmq --to /var/lib/ringmq-new";
