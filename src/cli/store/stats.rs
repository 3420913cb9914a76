//! `ringmq store stats`: counts what is kept.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use clap::Args;
use indicatif::{HumanBytes, HumanCount};

use super::{CommandError, DirectoryArgs, open_whole, progress::Progress};
use crate::{
    cli::Exit,
    store::{self, Census, Kind},
};

/// Count what is kept in a data directory; changes nothing in it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ringmq store stats --data-dir /var/lib/ringmq --queues 20")]
pub(super) struct StatsArgs {
    #[command(flatten)]
    directory: DirectoryArgs,
    /// How many of the largest queues to list.
    #[arg(long, value_name = "N", default_value_t = 10)]
    queues: usize,
}

pub(super) fn stats(arguments: &StatsArgs) -> Result<Exit, CommandError> {
    let directory = &arguments.directory.data_dir;
    let _lock = store::lock_to_read(directory)?;
    let copy = open_whole(directory)?;
    let mut progress = Progress::new("records read");
    let census = store::census(&copy, &mut |records| progress.add(records));
    progress.clear();
    let mut census = census?;
    census
        .queues
        .sort_by(|(a_client, a), (b_client, b)| (b.count, b.bytes, a_client).cmp(&(a.count, a.bytes, b_client)));
    let disk_bytes = disk_bytes(directory);
    let text = render(&census, copy.last_commit, disk_bytes, arguments.queues);
    let _ = io::stdout().lock().write_all(text.as_bytes());
    Ok(Exit::Done)
}

fn render(census: &Census, last_commit: u64, disk_bytes: u64, queues: usize) -> String {
    let mut text = String::new();
    let mut line = |name: &str, count: u64, bytes: u64| {
        text.push_str(&format!(
            "{name:<22}{:>14}{:>14}\n",
            HumanCount(count).to_string(),
            HumanBytes(bytes).to_string()
        ));
    };
    for kind in Kind::ALL {
        let tally = census.kinds.get(&kind).copied().unwrap_or_default();
        line(kind.name(), tally.count, tally.bytes);
    }
    if census.left_behind.count > 0 {
        line("left to be removed", census.left_behind.count, census.left_behind.bytes);
    }
    text.push_str(&format!("{:<22}{:>14}\n", "last commit", HumanCount(last_commit).to_string()));
    text.push_str(&format!("{:<22}{:>28}\n", "on disk", HumanBytes(disk_bytes).to_string()));
    if !census.queues.is_empty() && queues > 0 {
        text.push_str("\nlargest queues\n");
    }
    for (client, tally) in census.queues.iter().take(queues) {
        let (count, bytes) = (HumanCount(tally.count).to_string(), HumanBytes(tally.bytes).to_string());
        text.push_str(&format!("{:<22}{count:>14}{bytes:>14}\n", client.escape_debug().to_string()));
    }
    text
}

/// What the files take on the disk, holes left out.
fn disk_bytes(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        // What has just gone takes nothing.
        Err(_) => 0,
    });
    bytes.sum()
}
