//! The library's tables, checked without the library.
//!
//! Owns: the layout of a keyspace's directory: `current` names a version file and its checksum, that lists the tables with
//! theirs.
//! Always: reads only. The library does not look at the checksum of the version file, nor at that of a whole table, removes
//! keyspaces that it cannot find its way into, and panics at names that it does not expect; so all of that is looked at
//! before it opens anything.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::symlink,
    panic::catch_unwind,
    path::{Path, PathBuf},
};

use lsm_tree::{AbstractTree as _, SequenceNumberCounter};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

use super::Problem;

/// A table as a version file lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub number: u64,
    pub checksum: u128,
    /// Added to the sequence numbers in it.
    pub sequence: u64,
}

/// The runs of tables of each level.
pub(super) type Levels = Vec<Vec<Vec<Table>>>;

/// The version file that is current in the keyspace `directory`.
pub(super) fn current_version(directory: &Path) -> Result<PathBuf, Problem> {
    let path = directory.join("current");
    let bytes = fs::read(&path).map_err(Problem::io(&path))?;
    let damaged = || Problem::new(&path, "names no version file: it is damaged");
    let bytes: [u8; CURRENT_BYTES] = bytes.try_into().map_err(|_| damaged())?;
    let (number, rest) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
    let (checksum, kind) = rest.split_first_chunk::<16>().ok_or_else(damaged)?;
    if *kind != [0] {
        return Err(damaged());
    }
    let version = directory.join(format!("v{}", u64::from_le_bytes(*number)));
    let bytes = fs::read(&version).map_err(Problem::io(&version))?;
    if xxh3_128(&bytes) != u128::from_le_bytes(*checksum) {
        return Err(Problem::new(&version, "is damaged, or `current` is: the checksum differs"));
    }
    Ok(version)
}

/// The tables that a version file lists, whose checksum is known to be right or that is read as far as it can be.
pub(super) fn read_levels(version: &Path) -> Result<Levels, Problem> {
    let damaged = || Problem::new(version, "lists no tables: it is damaged");
    let bytes = section(version, b"tables").ok_or_else(damaged)?;
    let mut reader = Bytes(&bytes);
    let mut levels = Levels::new();
    let level_count = reader.take::<1>().ok_or_else(damaged)?[0];
    for _ in 0..level_count {
        let run_count = reader.take::<1>().ok_or_else(damaged)?[0];
        let mut runs = Vec::new();
        for _ in 0..run_count {
            let count = u32::from_le_bytes(reader.take().ok_or_else(damaged)?);
            let tables: Option<Vec<Table>> = (0..count).map(|_| reader.table()).collect();
            runs.push(tables.ok_or_else(damaged)?);
        }
        levels.push(runs);
    }
    Ok(levels)
}

/// The inverse of [`read_levels`]; runs that have become empty are left out.
pub(super) fn write_levels(levels: &Levels) -> Vec<u8> {
    let mut out = vec![levels.len() as u8];
    for level in levels {
        let runs: Vec<&Vec<Table>> = level.iter().filter(|run| !run.is_empty()).collect();
        out.push(runs.len() as u8);
        for run in runs {
            out.extend_from_slice(&(run.len() as u32).to_le_bytes());
            for table in run {
                out.extend_from_slice(&table.number.to_le_bytes());
                out.push(0);
                out.extend_from_slice(&table.checksum.to_le_bytes());
                out.extend_from_slice(&table.sequence.to_le_bytes());
            }
        }
    }
    out
}

/// The content of a section of a version file.
pub(super) fn section(version: &Path, name: &[u8]) -> Option<Vec<u8>> {
    let file = fs::read(version).ok()?;
    let reader = sfa::Reader::from_reader(&mut io::Cursor::new(&file)).ok()?;
    let entry = reader.toc().section(name)?;
    let start = usize::try_from(entry.pos()).ok()?;
    file.get(start..start.checked_add(usize::try_from(entry.len()).ok()?)?).map(<[u8]>::to_vec)
}

/// Checks one keyspace; `progress` is told of bytes read.
pub(super) fn inspect(directory: &Path, problems: &mut Vec<Problem>, progress: &mut dyn FnMut(u64)) {
    let tables = directory.join("tables");
    let names = match fs::read_dir(&tables).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
        Ok(names) => names,
        // Whatever copied the directory may have left out one that is empty; the library makes it again.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return problems.push(Problem::io(&tables)(error)),
    };
    for entry in names {
        let is_number = entry.file_name().to_str().is_some_and(|name| name.parse::<u64>().is_ok());
        if !is_number || !entry.path().is_file() {
            problems.push(Problem::new(&entry.path(), "does not belong here"));
        }
    }
    let version = match current_version(directory) {
        Ok(version) => version,
        Err(problem) => return problems.push(problem),
    };
    let levels = match read_levels(&version) {
        Ok(levels) => levels,
        Err(problem) => return problems.push(problem),
    };
    if section(&version, b"blob_files").is_none_or(|files| files != [0; 4]) {
        problems.push(Problem::new(&version, "lists files that this program does not write"));
    }
    for table in levels.iter().flatten().flatten() {
        let path = tables.join(table.number.to_string());
        match checksum(&path, progress) {
            Ok(checksum) if checksum == table.checksum => {}
            Ok(_) => problems.push(Problem::new(&path, "is damaged: its checksum differs")),
            Err(error) => problems.push(Problem::io(&path)(error)),
        }
    }
}

/// The largest sequence number in the tables of a keyspace whose files are known to be whole; found out by the library, in a
/// copy of links at `scratch`, because it removes what it does not need.
pub(super) fn last_sequence(directory: &Path, scratch: &Path) -> Result<Option<u64>, Problem> {
    let (from, to) = (directory.join("tables"), scratch.join("tables"));
    fs::create_dir_all(&to).map_err(Problem::io(&to))?;
    let version = current_version(directory)?;
    let levels = read_levels(&version)?;
    for table in levels.iter().flatten().flatten() {
        let name = table.number.to_string();
        let table = fs::canonicalize(from.join(&name)).map_err(Problem::io(&from))?;
        symlink(table, to.join(&name)).map_err(Problem::io(&to))?;
    }
    for file in [directory.join("current"), version] {
        let target = file.file_name().map(|name| scratch.join(name)).unwrap_or_default();
        fs::copy(&file, target).map_err(Problem::io(&file))?;
    }
    let counter = SequenceNumberCounter::default;
    let open =
        || lsm_tree::Config::new(scratch, counter(), counter()).open().map(|tree| tree.get_highest_persisted_seqno());
    match catch_unwind(open) {
        Ok(Ok(sequence)) => Ok(sequence),
        Ok(Err(error)) => Err(Problem::new(directory, format!("cannot be opened: {error}"))),
        Err(_) => Err(Problem::new(directory, "cannot be opened")),
    }
}

/// The checksum of a whole file.
pub(super) fn checksum(path: &Path, progress: &mut dyn FnMut(u64)) -> io::Result<u128> {
    let mut file = File::open(path)?;
    let mut hasher = Xxh3Default::new();
    let mut bytes = vec![0; READ_BYTES];
    loop {
        match file.read(&mut bytes)? {
            0 => return Ok(hasher.digest128()),
            read => {
                hasher.update(bytes.get(..read).unwrap_or_default());
                progress(read as u64);
            }
        }
    }
}

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const LEN: usize>(&mut self) -> Option<[u8; LEN]> {
        let (taken, rest) = self.0.split_first_chunk::<LEN>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn table(&mut self) -> Option<Table> {
        let number = u64::from_le_bytes(self.take()?);
        let [0] = self.take::<1>()? else { return None };
        let checksum = u128::from_le_bytes(self.take()?);
        Some(Table { number, checksum, sequence: u64::from_le_bytes(self.take()?) })
    }
}

const CURRENT_BYTES: usize = 25;
const READ_BYTES: usize = 256 << 10;
