//! A store to read, while the one on the disk stays as it is.
//!
//! Owns: a database of its own in a temporary directory, made of links to the tables and copies of the journals' whole
//! batches; it goes when this does.
//! Always: nothing in the data directory is changed, whatever the library does when it opens the copy. What cannot be made
//! part of it is told.

use std::{
    fs,
    io::{self, Cursor, Write as _},
    ops::Bound,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use fjall::{Database, Keyspace};
use tempfile::TempDir;
use xxhash_rust::xxh3::xxh3_128;

use super::{
    OpenError, Problem, at, damaged,
    database::{MARKER_KEY, MEMTABLE_BYTES, keyspace_number, last_commit, open_database, scan_keyspace},
    format,
    inspect::data_directory,
    journal_files,
    keyspaces::{self, Levels, Table},
};
use crate::store::{Record, Space, Store, StoreError, WriteSet};

/// See the module's header.
pub struct StoreCopy {
    /// The number of the last commit in it.
    pub last_commit: u64,
    spaces: [Keyspace; 2],
    _database: Database,
    _temporary: TempDir,
}

impl StoreCopy {
    /// A copy of the store in `directory`, with what is missing from it.
    ///
    /// # Errors
    /// When there is no store, it is newer, or nothing of it can be read.
    pub fn make(directory: &Path) -> Result<(Self, Vec<Problem>), OpenError> {
        format::check(directory)?;
        let data = data_directory(directory);
        let mut failure = Problem::new(&data, "cannot be read");
        for attempt in ATTEMPTS {
            let temporary = tempfile::Builder::new().prefix("ringmq-store-").tempdir();
            let temporary = temporary.map_err(at(&std::env::temp_dir()))?;
            let copy = temporary.path().join("db");
            let mut missing = Vec::new();
            let built = build(&data, &copy, attempt, &mut missing).map_err(Problem::io(temporary.path()));
            match built.and_then(|()| open_database(&copy, MEMTABLE_BYTES)) {
                Ok((database, spaces)) => {
                    let last = last_commit(&data, &spaces);
                    let last_commit = last.as_ref().map_or(0, |last| last.number);
                    missing.extend(last.err());
                    return Ok((Self { last_commit, spaces, _database: database, _temporary: temporary }, missing));
                }
                Err(problem) => failure.what = format!("cannot be read: {}", problem.what),
            }
        }
        Err(damaged(directory, failure))
    }

    /// Calls `see` with every record of a space that can be read, in no order. Returns whether there are others.
    pub fn gather(&self, space: Space, see: &mut dyn FnMut(&[u8], &[u8])) -> bool {
        let low = if space == Space::State { Bound::Unbounded } else { Bound::Excluded(MARKER_KEY.to_vec()) };
        self.gather_between(space, low, Bound::Unbounded, 0, see)
    }

    /// Reads from both ends up to what is damaged, then looks for more in the middle of what is left.
    fn gather_between(
        &self,
        space: Space,
        low: Bound<Vec<u8>>,
        high: Bound<Vec<u8>>,
        fruitless: u32,
        see: &mut dyn FnMut(&[u8], &[u8]),
    ) -> bool {
        let keyspace = &self.spaces[space as usize];
        let (mut first_gap, mut last_gap) = (low.clone(), high.clone());
        let mut is_damaged = false;
        for guard in keyspace.range((low.clone(), high.clone())) {
            match guard.into_inner() {
                Ok((key, value)) => {
                    see(&key, &value);
                    first_gap = Bound::Excluded(key.to_vec());
                }
                Err(_) => {
                    is_damaged = true;
                    break;
                }
            }
        }
        if !is_damaged {
            return false;
        }
        for guard in keyspace.range((first_gap.clone(), high.clone())).rev() {
            let Ok((key, value)) = guard.into_inner() else { break };
            see(&key, &value);
            last_gap = Bound::Excluded(key.to_vec());
        }
        let fruitless = if first_gap == low && last_gap == high { fruitless + 1 } else { 0 };
        if let (Some(middle), true) = (middle(&first_gap, &last_gap), fruitless < FRUITLESS_MAX) {
            self.gather_between(space, first_gap, Bound::Excluded(middle.clone()), fruitless, see);
            self.gather_between(space, Bound::Included(middle), last_gap, fruitless, see);
        }
        true
    }
}

impl Store for StoreCopy {
    fn commit(&mut self, _: &WriteSet, _: bool) -> Result<(), StoreError> {
        Err(StoreError::Failed("a copy is not written to".into()))
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn scan(&self, space: Space, from: &[u8], max: usize) -> Result<Vec<Record>, StoreError> {
        scan_keyspace(&self.spaces[space as usize], space, from, max)
    }

    fn close(self: Box<Self>) -> Result<(), StoreError> {
        Ok(())
    }
}

/// What a copy is made of; the most first.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    damaged_tables: bool,
    tables: bool,
    journals: bool,
}

/// The library opens nothing when it cannot make sense of a part, so parts are left out until it does.
const ATTEMPTS: [Attempt; 4] = [
    Attempt { damaged_tables: true, tables: true, journals: true },
    Attempt { damaged_tables: false, tables: true, journals: true },
    Attempt { damaged_tables: false, tables: true, journals: false },
    Attempt { damaged_tables: false, tables: false, journals: true },
];

/// Makes a database in `copy` of what `attempt` takes of the one in `data`.
fn build(data: &Path, copy: &Path, attempt: Attempt, missing: &mut Vec<Problem>) -> io::Result<()> {
    let made = open_database(copy, MEMTABLE_BYTES).map_err(|problem| io::Error::other(problem.to_string()))?;
    drop(made);
    for journal in journal_files::list(copy)? {
        fs::remove_file(journal)?;
    }
    for space in Space::ALL {
        let place = Path::new("keyspaces").join(keyspace_number(space).to_string());
        link_keyspace(&data.join(&place), &copy.join(&place), attempt, missing)?;
    }
    let mut journals: Vec<(u64, PathBuf)> = fs::read_dir(data)?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((path.file_name()?.to_str()?.strip_suffix(".jnl")?.parse().ok()?, path))
        })
        .collect();
    journals.sort();
    if journals.is_empty() {
        missing.push(Problem::new(data, "the journal is missing"));
    }
    for (number, path) in journals {
        if !attempt.journals {
            missing.push(Problem::new(&path, "cannot be read together with the tables"));
            continue;
        }
        match journal_files::salvage(&path) {
            Ok((whole, lost)) => {
                if lost > 0 {
                    let what = format!("{lost} bytes cannot be read, or are the rest of a commit under way");
                    missing.push(Problem::new(&path, what));
                }
                fs::write(copy.join(format!("{number}.jnl")), whole)?;
            }
            Err(error) => missing.push(Problem::io(&path)(error)),
        }
    }
    Ok(())
}

/// Fills an empty keyspace with links to the tables of another.
fn link_keyspace(from: &Path, to: &Path, attempt: Attempt, missing: &mut Vec<Problem>) -> io::Result<()> {
    let tables = from.join("tables");
    let mut levels = match keyspaces::current_version(from).and_then(|version| keyspaces::read_levels(&version)) {
        Ok(levels) => levels,
        Err(problem) => {
            missing.push(problem);
            all_tables(&tables)
        }
    };
    let mut takes = |table: &Table| {
        let path = tables.join(table.number.to_string());
        let is_whole = match keyspaces::checksum(&path, &mut |_| {}) {
            Ok(checksum) => checksum == table.checksum,
            Err(error) => {
                missing.push(Problem::io(&path)(error));
                return false;
            }
        };
        if !is_whole {
            let what =
                if attempt.damaged_tables { "is damaged: part of it is lost" } else { "is damaged: it is left out" };
            missing.push(Problem::new(&path, what));
        } else if !attempt.tables {
            missing.push(Problem::new(&path, "cannot be read together with the journals"));
        }
        attempt.tables && (is_whole || attempt.damaged_tables)
    };
    for run in levels.iter_mut().flatten() {
        run.retain(&mut takes);
    }
    for table in levels.iter().flatten().flatten() {
        let name = table.number.to_string();
        symlink(fs::canonicalize(tables.join(&name))?, to.join("tables").join(&name))?;
    }
    let version = keyspaces::current_version(to).map_err(|problem| io::Error::other(problem.to_string()))?;
    rewrite_version(to, &version, &levels)
}

/// Every table in a directory, the newest first, where nothing says how they belong together.
fn all_tables(tables: &Path) -> Levels {
    let mut numbers: Vec<u64> = fs::read_dir(tables)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    let run = |number: u64| {
        let checksum = keyspaces::checksum(&tables.join(number.to_string()), &mut |_| {}).ok()?;
        Some(vec![Table { number, checksum, sequence: 0 }])
    };
    let mut levels = vec![Vec::new(); LEVELS];
    levels[0] = numbers.into_iter().filter_map(run).take(usize::from(u8::MAX)).collect();
    levels
}

/// Writes a version file like `version` that lists other tables, and makes it the current one.
fn rewrite_version(directory: &Path, version: &Path, levels: &Levels) -> io::Result<()> {
    let bytes = fs::read(version)?;
    let failed = |error: sfa::Error| io::Error::other(format!("{error:?}"));
    let reader = sfa::Reader::from_reader(&mut Cursor::new(&bytes)).map_err(failed)?;
    let mut writer = sfa::Writer::from_writer(Cursor::new(Vec::new()));
    for entry in reader.toc().iter() {
        writer.start(entry.name())?;
        if entry.name() == b"tables" {
            writer.write_all(&keyspaces::write_levels(levels))?;
        } else {
            writer.write_all(&keyspaces::section(version, entry.name()).unwrap_or_default())?;
        }
    }
    let rewritten = writer.into_inner().map_err(failed)?.into_inner();
    let number = VERSION_NUMBER;
    fs::write(directory.join(format!("v{number}")), &rewritten)?;
    let mut current = number.to_le_bytes().to_vec();
    current.extend_from_slice(&xxh3_128(&rewritten).to_le_bytes());
    current.push(0);
    fs::write(directory.join("current"), current)
}

/// A key between two others, when there is one; keys that begin alike for long are not told apart.
fn middle(low: &Bound<Vec<u8>>, high: &Bound<Vec<u8>>) -> Option<Vec<u8>> {
    let bytes = |bound: &Bound<Vec<u8>>, unbounded: u8| {
        let mut bytes = [0_u8; MIDDLE_BYTES];
        match bound {
            Bound::Included(key) | Bound::Excluded(key) => {
                bytes.iter_mut().zip(key).for_each(|(byte, key)| *byte = *key);
            }
            Bound::Unbounded => bytes = [unbounded; MIDDLE_BYTES],
        }
        bytes
    };
    let (low, high) = (bytes(low, 0), bytes(high, u8::MAX));
    // Their sum, last byte first, then its half.
    let mut carry = 0;
    let mut sum: Vec<u16> = Vec::with_capacity(MIDDLE_BYTES);
    for (low, high) in low.iter().zip(&high).rev() {
        let byte = u16::from(*low) + u16::from(*high) + carry;
        carry = byte >> 8;
        sum.push(byte & 0xFF);
    }
    let mut middle = Vec::with_capacity(MIDDLE_BYTES);
    for byte in sum.iter().rev() {
        let doubled = (carry << 8) | byte;
        middle.push((doubled >> 1) as u8);
        carry = doubled & 1;
    }
    (middle[..] > low[..] && middle[..] < high[..]).then_some(middle)
}

/// Levels of a keyspace.
const LEVELS: usize = 7;
/// The number of the version file that is made: above those of an empty keyspace.
const VERSION_NUMBER: u64 = 1 << 20;
/// How often what is damaged is halved without anything being found.
const FRUITLESS_MAX: u32 = 10;
/// Bytes of keys that are looked at when they are halved: a tag, a session, and the beginning of a name.
const MIDDLE_BYTES: usize = 24;
