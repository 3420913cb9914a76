//! `ringmq store salvage`: copies what can be read into a new directory, and says what is missing.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use clap::Args;

use super::{CommandError, DirectoryArgs, check_empty, progress::Progress};
use crate::{
    cli::Exit,
    store::{self, DiskStore, Kind, Space, Store as _, StoreCopy},
};

/// Copy what can be read of a damaged data directory into a new one, and say what is missing.
///
/// The damaged directory stays as it is. Where tables are missing, messages that were done with may be back in their queues,
/// and sessions may be as they were earlier. Exit code 0: a new directory was made, whether or not something is missing.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ringmq store salvage --data-dir /var/lib/ringmq --to /var/lib/ringmq-new")]
pub(super) struct SalvageArgs {
    #[command(flatten)]
    directory: DirectoryArgs,
    /// The new directory: empty, or not there yet.
    #[arg(long, value_name = "NEWDIR")]
    to: PathBuf,
}

pub(super) fn salvage(arguments: &SalvageArgs) -> Result<Exit, CommandError> {
    let _lock = store::lock_to_read(&arguments.directory.data_dir)?;
    check_empty(&arguments.to)?;
    let (copy, missing) = StoreCopy::make(&arguments.directory.data_dir)?;
    let mut target = DiskStore::open(&arguments.to)?;
    let mut progress = Progress::new("records read");
    let salvaged = store::salvage(&copy, &mut target, &mut |records| progress.add(records));
    progress.clear();
    let salvaged = salvaged?;
    Box::new(target).close()?;
    let mut text = String::new();
    for kind in Kind::ALL {
        let taken = salvaged.taken.get(&kind).map_or(0, |tally| tally.count);
        let lost = salvaged.lost.get(&kind).copied().unwrap_or_default();
        text.push_str(&format!("{}: {taken} copied, {lost} known to be missing\n", kind.name()));
    }
    for problem in &missing {
        text.push_str(&format!("missing: {problem}\n"));
    }
    for space in &salvaged.unknown {
        let what = match space {
            Space::State => "sessions, subscriptions, identifiers, Wills and retained messages",
            Space::Queue => "queued messages",
        };
        text.push_str(&format!("missing: some {what}, which cannot be counted: their table is damaged\n"));
    }
    for name in &salvaged.names {
        text.push_str(&format!("missing: {name}\n"));
    }
    let _ = io::stdout().lock().write_all(text.as_bytes());
    Ok(Exit::Done)
}
