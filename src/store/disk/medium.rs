//! The disk under the store, and the way back to a store on it that has failed.
//!
//! Owns: the lock on the data directory, for as long as the process may open it again; the probe by which it is found out
//! whether the disk takes anything.
//! Always: what the store that is opened after a failure holds is on the disk. Its tables were synced before they were made
//! part of it. The last journal may have been read from memory that the kernel failed to write, which a later sync of the
//! same file does not do again; it is copied into a new file, which is synced and takes its place. Journals before it were
//! synced when they were ended.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{DiskStore, sync_directory};
use crate::{
    runtime::room_at,
    store::{Medium, Room, Store, StoreError},
};

/// See the module's header.
#[derive(Debug)]
pub struct DiskMedium {
    pub(super) directory: PathBuf,
    pub(super) lock: Arc<File>,
    pub(super) memtable_bytes: u64,
}

impl Medium for DiskMedium {
    fn room(&self) -> io::Result<Room> {
        let (free_bytes, total_bytes) = room_at(&self.directory)?;
        Ok(Room { free_bytes, total_bytes })
    }

    fn reopen(&mut self) -> Result<(Box<dyn Store>, u64), StoreError> {
        let failed = |error: String| StoreError::Failed(error);
        probe(&self.directory).map_err(|error| failed(format!("{}: {error}", self.directory.display())))?;
        let store =
            DiskStore::open_locked(&self.directory, Arc::clone(&self.lock), self.memtable_bytes, true, &mut |_| {});
        let store = store.map_err(|error| failed(error.to_string()))?;
        store.settle()?;
        let last_commit = store.last_commit();
        Ok((Box::new(store), last_commit))
    }
}

/// Writes a file, brings it to the disk, and removes it.
fn probe(directory: &Path) -> io::Result<()> {
    let path = directory.join("probe");
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&vec![0xA5; PROBE_BYTES])?;
        file.sync_all()
    });
    // Also when it was written in part only: it takes room.
    let removed = match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    written.and(removed)?;
    sync_directory(directory).map_err(io::Error::other)
}

/// Copies the first `bytes` of a journal into a new file that takes its place.
pub(super) fn write_anew(journal: &Path, bytes: u64) -> io::Result<()> {
    let fresh = journal.with_extension("anew");
    let written = File::open(journal).and_then(|source| {
        let mut target = File::create(&fresh)?;
        io::copy(&mut io::Read::take(source, bytes), &mut target)?;
        target.sync_all()
    });
    if let Err(error) = written {
        // What it takes of a disk that is full would be in the way of the next attempt.
        return Err(fs::remove_file(&fresh).err().unwrap_or(error));
    }
    fs::rename(&fresh, journal)?;
    let directory = journal.parent().unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// More than a file system has at hand when it is full.
const PROBE_BYTES: usize = 1 << 20;
