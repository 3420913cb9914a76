//! Room in the library's journal that is written before it is needed.
//!
//! A sync of bytes in blocks that were never written has to wait for the file system's own journal as well, which notes
//! that they are; a sync of bytes in blocks that were written before waits for these bytes only. The library gives a journal
//! its length when it makes it, and no blocks. So zeros are written some way ahead of where it writes, as long as commits are
//! small: who waits for one of a few hundred bytes waits for the disk, and who commits much at once for the bytes themselves,
//! which this would double.
//! Owns: how far ahead that was done, and when it is done again.
//! Always: zeros are written over zeros only, between the last byte of the journal and its length, so nobody who reads it sees
//! a difference. Nothing but a commit moves that last byte, and this runs between commits.
//! A journal that something was committed to before the store was opened has lost its length and grows with each commit; it
//! stays as it is, until it is full and the library begins the next one.
//! Never: an error of the store. What cannot be written ahead is written when it is needed.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::PathBuf,
};

use super::journal_files;
use crate::runtime::hole_after;

/// See the module's header.
#[derive(Debug)]
pub(super) struct RoomAhead {
    /// Where the journals are.
    data: PathBuf,
    /// Bytes of commits until the next look.
    left: u64,
    complained: bool,
}

impl RoomAhead {
    pub(super) fn new(data: PathBuf) -> Self {
        Self { data, left: 0, complained: false }
    }

    /// A commit of about `bytes` in `records` is to follow, and somebody waits for its sync.
    pub(super) fn make(&mut self, records: usize, bytes: usize) {
        let bytes = (bytes + records * RECORD_BYTES + COMMIT_BYTES) as u64;
        if let (Some(left), true) = (self.left.checked_sub(bytes), bytes <= SMALL_BYTES) {
            self.left = left;
            return;
        }
        if bytes > SMALL_BYTES {
            self.left = self.left.saturating_sub(bytes);
            return;
        }
        self.left = match self.write() {
            Ok(written) if written > bytes => written - bytes,
            Ok(_) => LOOK_AGAIN_BYTES,
            Err(error) => {
                if !std::mem::replace(&mut self.complained, true) {
                    tracing::warn!(%error, "{}: no room can be made ahead in the journal", self.data.display());
                }
                LOOK_AGAIN_BYTES
            }
        };
    }

    /// Writes zeros behind the last byte of the last journal. Returns how many there are room for now.
    fn write(&self) -> io::Result<u64> {
        let Some(path) = journal_files::list(&self.data)?.pop() else { return Ok(0) };
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let length = file.metadata()?.len();
        if length == 0 {
            return Ok(0);
        }
        let begin = hole_after(&file, 0)?;
        let count = length.saturating_sub(begin).min(AHEAD_BYTES);
        write_zeros_over_zeros(&file, begin, count)?;
        Ok(count)
    }
}

/// # Errors
/// When anything but zeros is there already; then nothing was written.
fn write_zeros_over_zeros(file: &File, begin: u64, count: u64) -> io::Result<()> {
    let mut room = vec![0; count as usize];
    file.read_exact_at(&mut room, begin)?;
    if room.iter().any(|&byte| byte != 0) {
        return Err(io::Error::other("what is said to be a hole holds something"));
    }
    file.write_all_at(&room, begin)
}

/// A commit up to here is small: one or two publications.
const SMALL_BYTES: u64 = 4 << 10;
/// Written ahead at once: some hundred small commits.
const AHEAD_BYTES: u64 = 256 << 10;
/// After a journal in which nothing can be written ahead.
const LOOK_AGAIN_BYTES: u64 = 4 << 20;
/// What a record and a commit take in the journal beside keys and values, or a little more.
const RECORD_BYTES: usize = 32;
const COMMIT_BYTES: usize = 192;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Space, Store as _, WriteSet, disk::DiskStore, record};

    fn journal(directory: &tempfile::TempDir) -> PathBuf {
        journal_files::list(&directory.path().join("db")).unwrap().pop().unwrap()
    }

    fn commit(store: &mut DiskStore, number: u64, bytes: usize) {
        let mut writes = WriteSet::default();
        writes.put(Space::State, &[99, (number % 200) as u8], vec![7; bytes]);
        writes.put(Space::State, record::COMMIT_KEY, number.to_le_bytes().to_vec());
        store.commit(&writes, true).unwrap();
    }

    /// Where the data of the journal ends, blocks of zeros counted in.
    fn written_to(directory: &tempfile::TempDir) -> u64 {
        hole_after(&File::open(journal(directory)).unwrap(), 0).unwrap()
    }

    #[test]
    fn small_commits_go_where_zeros_were_written() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = DiskStore::open(directory.path()).unwrap();
        let before = written_to(&directory);
        commit(&mut store, 1, 100);
        let ahead = written_to(&directory);
        assert!(ahead >= before + AHEAD_BYTES, "{before} {ahead}");
        for number in 2..200 {
            commit(&mut store, number, 100);
        }
        assert_eq!(written_to(&directory), ahead, "they had room");
        for number in 200..400 {
            commit(&mut store, number, 2 << 10);
        }
        assert!(written_to(&directory) > ahead, "and more was made");
        drop(store);
        let store = DiskStore::open(directory.path()).unwrap();
        assert_eq!(store.last_commit(), 399);
        assert_eq!(store.get(Space::State, &[99, 3]).unwrap().unwrap(), vec![7; 2 << 10]);
    }

    #[test]
    fn large_commits_are_not_written_twice() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = DiskStore::open(directory.path()).unwrap();
        for number in 1..20 {
            commit(&mut store, number, 100 << 10);
        }
        let (end, bytes) = (written_to(&directory), 19 * (100 << 10));
        assert!(end < bytes + (100 << 10), "{end}");
    }

    #[test]
    fn a_journal_that_was_there_before_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = DiskStore::open(directory.path()).unwrap();
        commit(&mut store, 1, 100);
        drop(store);
        let mut store = DiskStore::open(directory.path()).unwrap();
        for number in 2..10 {
            commit(&mut store, number, 100);
        }
        let length = std::fs::metadata(journal(&directory)).unwrap().len();
        assert!(length < 64 << 10, "{length}");
        drop(store);
        assert_eq!(DiskStore::open(directory.path()).unwrap().last_commit(), 9);
    }

    #[test]
    fn nothing_but_zeros_is_written_over() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"something", 5000).unwrap();
        assert!(write_zeros_over_zeros(&file, 4096, 913).is_err());
        write_zeros_over_zeros(&file, 4096, 900).unwrap();
        let mut found = [0; 9];
        file.read_exact_at(&mut found, 5000).unwrap();
        assert_eq!(&found, b"something");
    }
}
