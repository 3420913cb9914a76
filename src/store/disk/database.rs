//! The library's database and its two keyspaces, as this store uses them.
//!
//! Owns: with what options they are made, what of them is held in memory, and how the store's own records in them are read.
//! Always: a keyspace ends with what was committed to it last, or there is an error; the store's own records are nobody
//! else's.
//! Never: writes a record.

use std::{
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, config::PartitioningPolicy};
use lsm_tree::AbstractTree as _;

use super::{CommitRecord, Problem};
use crate::store::{Record, Space, StoreError, record};

/// The number that the library gave a space's keyspace, which it made in this order.
pub(super) fn keyspace_number(space: Space) -> u64 {
    space as u64 + 1
}

/// Opens the database in `data`, or makes one.
pub(super) fn open_database(data: &Path, memtable_bytes: u64) -> Result<(Database, [Keyspace; 2]), Problem> {
    let failed = |error: fjall::Error| Problem::new(data, format!("cannot be opened: {error}"));
    let open = || {
        let database = Database::builder(data)
            .cache_size(CACHE_BYTES)
            .worker_threads(1)
            .manual_journal_persist(true)
            .max_journaling_size(JOURNALS_BYTES_MAX)
            .open()
            .map_err(failed)?;
        let keyspace = |name: &str| database.keyspace(name, || keyspace_options(memtable_bytes)).map_err(failed);
        let spaces = [keyspace("state")?, keyspace("queue")?];
        Ok((database, spaces))
    };
    // The library panics at some of what it cannot read. That it was looked at before leaves little of it, and nothing of
    // the database is used afterwards.
    catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|_| Err(Problem::new(data, "cannot be opened")))
}

/// Of a keyspace that is created; one that exists keeps what it was created with. Indices and filters of tables are cut into
/// parts that come and go in the cache, or they would be held whole and memory would grow with the queues.
fn keyspace_options(memtable_bytes: u64) -> KeyspaceCreateOptions {
    let in_parts = PartitioningPolicy::all(true);
    KeyspaceCreateOptions::default()
        .max_memtable_size(memtable_bytes)
        .index_block_partitioning_policy(in_parts.clone())
        .filter_block_partitioning_policy(in_parts)
}

/// The last commit; an error when a space lacks what was committed to it.
pub(super) fn last_commit(data: &Path, spaces: &[Keyspace; 2]) -> Result<CommitRecord, Problem> {
    let unreadable = |error: fjall::Error| Problem::new(data, format!("cannot be read: {error}"));
    let value = spaces[Space::State as usize].get(record::COMMIT_KEY).map_err(unreadable)?;
    let last = match value {
        None => CommitRecord::default(),
        Some(value) => CommitRecord::read(&value)
            .ok_or_else(|| Problem::new(data, "the number of the last commit cannot be read"))?,
    };
    let marker = spaces[Space::Queue as usize].get(MARKER_KEY).map_err(unreadable)?;
    let found = marker.map_or(Some(0), |value| record::read_number(&value));
    if found != Some(last.written[Space::Queue as usize]) {
        return Err(lacks_commits(data, Space::Queue));
    }
    Ok(last)
}

pub(super) fn lacks_commits(data: &Path, space: Space) -> Problem {
    let keyspace = data.join("keyspaces").join(keyspace_number(space).to_string());
    Problem::new(&keyspace, "what was committed here is missing, and in no journal: a journal may be missing")
}

/// Records of a keyspace that are not the store's own.
pub(super) fn scan_keyspace(
    keyspace: &Keyspace,
    space: Space,
    from: &[u8],
    max: usize,
) -> Result<Vec<Record>, StoreError> {
    let failed = |error: fjall::Error| StoreError::Damaged(error.to_string());
    let is_behind_marker = space == Space::State || from > MARKER_KEY;
    let from = if is_behind_marker { Bound::Included(from) } else { Bound::Excluded(MARKER_KEY) };
    let records = keyspace.range::<&[u8], _>((from, Bound::Unbounded)).take(max);
    let records = records.map(|guard| guard.into_inner().map(|(key, value)| (key.to_vec(), value.to_vec())));
    records.collect::<Result<_, _>>().map_err(failed)
}

/// Gives up the memory of what has been written to tables. Nobody may be reading.
///
/// The library keeps a version of a keyspace, and with it what was gathered then, until tables are begun twice more, in case
/// somebody reads as of then.
pub(super) fn forget_versions(database: &Database, spaces: &[Keyspace; 2]) {
    for space in spaces {
        let mut history = space.tree.get_version_history_lock();
        // A version is visible before the lock is given back: the last one is older than this, and stays.
        if let Err(error) = history.maintenance(space.path(), database.visible_seqno()) {
            // The file of an old version stays until the next start, and that version in memory.
            tracing::warn!(%error, path = %space.path().display(), "an old version of the store's tables cannot be removed");
        }
    }
}

/// Says which commit wrote to a space last; before every key of the space's own.
pub(super) const MARKER_KEY: &[u8] = &[0];
/// Blocks that are kept in memory for reading.
const CACHE_BYTES: u64 = 16 << 20;
/// What a space gathers in memory before it is written as a table.
pub(super) const MEMTABLE_BYTES: u64 = 8 << 20;
/// Journals that are complete and hold more than this make the spaces that still need them write tables. A space that
/// gathers slowly would keep what all others have written in tables long ago, on the disk and to be read at each start.
const JOURNALS_BYTES_MAX: u64 = 128 << 20;
