//! What a start accepts and what it refuses. Damage at random is `tests/damage.rs`'s.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{Seek as _, SeekFrom, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::{
    COPY_BYTES, DiskStore, Lacking, OpenError, StoreCopy, Watermark, copy_without_room, inspect, journal_files,
    lock_to_read,
};
use crate::store::{Batch, Joiner, Operation, SessionRecord, Space, Store as _, StoreError, WriteSet, recover};

/// Commits sessions `numbers`, one at a time, in a store that goes on with its numbers.
fn commit(store: &mut DiskStore, numbers: std::ops::RangeInclusive<u64>) {
    let mut joiner = Joiner::new(1, store.last_commit(), Default::default(), Vec::new());
    for (number, batch) in numbers.zip(1..) {
        let client_id = number.to_string().into();
        let record = SessionRecord { client_id, expiry_interval_s: 1, offline_since_us: None, sent_below: 0 };
        let operations = vec![Operation::Session(number, record)];
        joiner.take(Batch { shard: 0, number: batch, operations, parts: Vec::new() });
        joiner.commit(store, true, |_, _| {}).unwrap();
    }
}

fn sessions(store: &DiskStore) -> usize {
    recover(store, 0).unwrap().sessions.len()
}

/// A store with three commits that was not closed.
fn made() -> (tempfile::TempDir, PathBuf) {
    let temporary = tempfile::tempdir().unwrap();
    let directory = temporary.path().join("data");
    let mut store = DiskStore::open(&directory).unwrap();
    commit(&mut store, 1..=3);
    drop(store);
    (temporary, directory)
}

fn names(directory: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(names(&path));
        } else {
            found.insert(path.clone(), fs::metadata(&path).unwrap().len());
        }
    }
    found
}

fn refused(directory: &Path) -> OpenError {
    let before = names(directory);
    let error = DiskStore::open(directory).err().expect("it is refused");
    assert_eq!(names(directory), before, "{error}");
    error
}

#[test]
fn a_store_goes_on_after_an_end_of_either_kind() {
    let (_temporary, directory) = made();
    let mut store = DiskStore::open(&directory).unwrap();
    assert_eq!((sessions(&store), store.last_commit()), (3, 3));
    commit(&mut store, 4..=5);
    Box::new(store).close().unwrap();
    assert!(directory.join("clean").exists());
    let store = DiskStore::open(&directory).unwrap();
    assert_eq!((sessions(&store), store.last_commit()), (5, 5));
    assert!(!directory.join("clean").exists() && store.ended_well());
    drop(store);
    assert!(!DiskStore::open(&directory).unwrap().ended_well());
}

#[test]
fn a_second_process_is_refused_and_so_is_a_look_from_outside() {
    let (_temporary, directory) = made();
    let store = DiskStore::open(&directory).unwrap();
    assert!(matches!(DiskStore::open(&directory), Err(OpenError::Locked(_))));
    assert!(matches!(lock_to_read(&directory), Err(OpenError::Locked(_))));
    drop(store);
    assert!(lock_to_read(&directory).unwrap().is_some());
}

#[test]
fn a_newer_format_is_refused_and_an_unreadable_one_is_damage() {
    let (_temporary, directory) = made();
    let format = directory.join("format");
    fs::write(&format, "5\n").unwrap();
    let error = refused(&directory);
    assert!(matches!(error, OpenError::Newer { found: 5, .. }), "{error}");
    fs::write(&format, "2\n").unwrap();
    let error = refused(&directory);
    assert!(matches!(error, OpenError::Older { found: 2, .. }) && error.to_string().contains("export"), "{error}");
    for text in [&b""[..], b"0\n", b"-1", b"one", b"\xFF"] {
        fs::write(&format, text).unwrap();
        assert!(refused(&directory).to_string().contains("format"));
    }
}

#[test]
fn an_older_format_that_can_be_read_is_raised_when_it_is_opened_and_not_before() {
    let (_temporary, directory) = made();
    let format = directory.join("format");
    fs::write(&format, "3\n").unwrap();
    assert!(inspect(&directory, &mut |_| {}).unwrap().problems.is_empty());
    assert_eq!(fs::read_to_string(&format).unwrap(), "3\n");
    drop(DiskStore::open(&directory).unwrap());
    assert_eq!(fs::read_to_string(&format).unwrap(), "4\n");
}

#[test]
fn a_watermark_that_is_ahead_missing_or_damaged_is_refused() {
    let (_temporary, directory) = made();
    let path = directory.join("watermark");
    let good = fs::read(&path).unwrap();
    Watermark::open(&directory).unwrap().advance(4, true).unwrap();
    let error = refused(&directory).to_string();
    assert!(error.contains("commit 3") && error.contains("ringmq store salvage"), "{error}");
    for bytes in [&good[..0], &good[..20], &[0; 60]] {
        fs::write(&path, bytes).unwrap();
        assert!(refused(&directory).to_string().contains("watermark"));
    }
    fs::remove_file(&path).unwrap();
    assert!(refused(&directory).to_string().contains("watermark"));
    fs::write(&path, good).unwrap();
    assert_eq!(sessions(&DiskStore::open(&directory).unwrap()), 3);
}

#[test]
fn a_database_that_is_gone_is_not_made_anew() {
    let (_temporary, directory) = made();
    fs::remove_dir_all(directory.join("db")).unwrap();
    assert!(refused(&directory).to_string().contains("db: is missing"));
    fs::remove_file(directory.join("watermark")).unwrap();
    assert!(refused(&directory).to_string().contains("db: is missing"));
}

#[test]
fn the_rest_of_a_commit_that_was_under_way_is_cut_off_and_only_that() {
    let (_temporary, directory) = made();
    let journal = directory.join("db/1.jnl");
    let end = journal_files::scan(&journal, None, &mut |_| {}).unwrap().end;
    let mut file = OpenOptions::new().write(true).open(&journal).unwrap();
    file.seek(SeekFrom::Start(end)).unwrap();
    file.write_all(&[1, 3, 0, 0, 0, 99]).unwrap();
    let inspection = inspect(&directory, &mut |_| {}).unwrap();
    assert!(inspection.is_torn() && inspection.problems.is_empty(), "{inspection:?}");
    let mut store = DiskStore::open(&directory).unwrap();
    assert_eq!(sessions(&store), 3);
    commit(&mut store, 4..=4);
    // After a clean end there is no such rest.
    Box::new(store).close().unwrap();
    let end = journal_files::scan(&journal, None, &mut |_| {}).unwrap().end;
    OpenOptions::new().write(true).open(&journal).unwrap().write_all_at(&[1, 3], end).unwrap();
    assert!(refused(&directory).to_string().contains("1.jnl"));
}

#[test]
fn sequence_numbers_of_batches_are_looked_at() {
    let (_temporary, directory) = made();
    let journal = directory.join("db/1.jnl");
    let good = fs::read(&journal).unwrap();
    // The library's checksum of a batch leaves out its sequence number, which follows the tag and the count.
    for byte in 5..13 {
        for bit in [0, 3, 7] {
            let mut bytes = good.clone();
            bytes[byte] ^= 1 << bit;
            fs::write(&journal, bytes).unwrap();
            assert!(
                inspect(&directory, &mut |_| {})
                    .is_ok_and(|inspection| { !inspection.problems.is_empty() || inspection.last_commit == Some(3) })
            );
            match DiskStore::open(&directory) {
                Ok(store) => assert_eq!(sessions(&store), 3, "byte {byte} bit {bit}"),
                Err(error) => assert!(error.to_string().contains("1.jnl"), "{error}"),
            }
        }
    }
}

#[test]
fn an_opening_that_was_broken_off_is_undone() {
    let (_temporary, directory) = made();
    let before = directory.join("db-before");
    super::link_all(&directory.join("db"), &before, None).unwrap();
    fs::remove_file(directory.join("db/version")).unwrap();
    fs::create_dir(directory.join("db-look")).unwrap();
    assert_eq!(sessions(&DiskStore::open(&directory).unwrap()), 3);
    assert!(!before.exists());
}

#[test]
fn a_commit_without_the_next_number_is_refused() {
    let (_temporary, directory) = made();
    let mut store = DiskStore::open(&directory).unwrap();
    let mut writes = WriteSet::default();
    writes.put(Space::State, b"s", Vec::new());
    assert!(matches!(store.commit(&writes, true), Err(StoreError::Failed(_))));
    assert_eq!(store.last_commit(), 3);
}

#[test]
fn a_copy_has_everything_and_leaves_the_original_alone() {
    let (_temporary, directory) = made();
    let before = names(&directory);
    let (copy, missing) = StoreCopy::make(&directory).unwrap();
    assert_eq!((copy.last_commit, missing), (3, Vec::new()));
    assert_eq!(recover(&copy, 0).unwrap().sessions.len(), 3);
    let mut found = 0;
    assert!(!copy.gather(Space::State, &mut |_, _| found += 1));
    assert_eq!((found, names(&directory)), (4, before));
}

/// The machine has been started anew since `written` commits were made, of which `synced` were synced.
fn started_anew(directory: &Path, written: u64, synced: u64) {
    let mut watermark = Watermark::open(directory).unwrap();
    watermark.boot = [7; super::BOOT_BYTES];
    watermark.advance(synced, true).unwrap();
    watermark.advance(written, false).unwrap();
}

#[test]
fn what_a_batched_store_may_lack_after_the_end_of_the_machine_is_said_once() {
    let (_temporary, directory) = made();
    DiskStore::open(&directory).unwrap().promise(false).unwrap();
    assert_eq!(DiskStore::open(&directory).unwrap().lacking(), None);
    started_anew(&directory, 5, 2);
    let store = DiskStore::open(&directory).unwrap();
    assert_eq!(store.lacking(), Some(Lacking { found: 3, made: Some(5) }));
    Box::new(store).close().unwrap();
    let mut store = DiskStore::open(&directory).unwrap();
    assert_eq!((store.lacking(), sessions(&store)), (None, 3));
    commit(&mut store, 4..=4);
    store.promise(true).unwrap();
    drop(store);
    started_anew(&directory, 4, 4);
    assert_eq!(DiskStore::open(&directory).unwrap().lacking(), None);
}

#[test]
fn what_was_synced_is_there_after_the_end_of_the_machine() {
    let (_temporary, directory) = made();
    started_anew(&directory, 5, 4);
    assert!(refused(&directory).to_string().contains("commit 3"));
}

#[test]
fn a_copy_of_a_journal_has_its_length_and_takes_no_more_room_than_what_is_in_it() {
    use std::os::unix::fs::MetadataExt as _;
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    let file = fs::File::create(&from).unwrap();
    file.write_all_at(b"begin", 0).unwrap();
    file.write_all_at(b"later", 5 << 20).unwrap();
    file.set_len((16 << 20) + 3).unwrap();
    copy_without_room(&from, &to).unwrap();
    assert!(fs::read(&from).unwrap() == fs::read(&to).unwrap());
    assert!(fs::metadata(&to).unwrap().blocks() * 512 <= 2 * COPY_BYTES as u64);
}

#[test]
fn what_was_gathered_and_is_written_is_let_go_and_nothing_else() {
    use lsm_tree::AbstractTree as _;

    let temporary = tempfile::tempdir().unwrap();
    let directory = temporary.path().join("data");
    let mut store = DiskStore::open(&directory).unwrap();
    let versions = |store: &DiskStore| store.keyspace(Space::State).tree.get_version_history_lock().free_list_len();
    commit(&mut store, 1..=3);
    let mut let_go = 0;
    for last in 4..=13 {
        store.reclaim().unwrap();
        while store.is_at_work() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        // Now and then the library has let them go by itself: when a table was written before its beginning was over.
        let_go += versions(&store);
        // Tables may be put together meanwhile, which makes a version more.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while versions(&store) > 0 {
            assert!(std::time::Instant::now() < until, "versions stay");
            store.forget_written();
        }
        // With nothing to let go, nothing goes.
        store.forget_written();
        commit(&mut store, last..=last);
        assert_eq!(sessions(&store), last as usize);
    }
    assert!(let_go > 0, "there is nothing to let go any more");
    drop(store);
    let store = DiskStore::open(&directory).unwrap();
    assert_eq!((sessions(&store), store.last_commit()), (13, 13));
}
