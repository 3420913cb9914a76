//! The store on disk: fjall, and what it takes to notice that something is missing.
//!
//! Owns: the data directory: its lock, the version of its format, the database in it, and the watermark.
//! Always: a commit is written before it counts, and with `sync` it is on the disk. The number of the last commit stands in
//! the database with each commit and, after it, in the watermark, a small file of its own: a database that opens with an
//! older commit than the watermark names has lost something, and is refused. While it was not closed cleanly its journal is
//! copied aside before it is opened, since opening cuts off what cannot be read.
//! Never: a second process in the same directory.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{
    Space, Store, StoreError, WriteSet,
    record::{self, FORMAT_VERSION},
};

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Something else uses it.
    #[error("{}: another process uses this data directory", .0.display())]
    Locked(PathBuf),
    /// A newer program wrote it.
    #[error(
        "{}: written in format {found} by a newer RingMQ; this one reads up to {FORMAT_VERSION}. Start that version, or export with it", .directory.display()
    )]
    Newer {
        /// The directory.
        directory: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It lacks what was committed.
    #[error(
        "{}: commit {expected} was made here, and the database ends with {found}: something is missing. Nothing was changed. `ringmq store check --data-dir {}` says more; `ringmq store salvage` copies what can be read into a new directory", .directory.display(), .directory.display()
    )]
    Incomplete {
        /// The directory.
        directory: PathBuf,
        /// What the watermark says.
        expected: u64,
        /// What was found.
        found: u64,
    },
    /// A file cannot be read.
    #[error(
        "{}: {what}. `ringmq store check` says more; `ringmq store salvage` copies what can be read into a new directory", .path.display()
    )]
    Damaged {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The operating system refuses.
    #[error("{}: {error}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |error| OpenError::Io { path, error }
}

/// Creates the directory when it is missing and locks it for this process as long as the file lives.
///
/// # Errors
/// When it cannot be created or is in use.
pub fn lock_directory(directory: &Path) -> Result<File, OpenError> {
    fs::create_dir_all(directory).map_err(at(directory))?;
    let path = directory.join("lock");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(at(&path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked(directory.to_owned())),
        Err(TryLockError::Error(error)) => Err(OpenError::Io { path, error }),
    }
}

/// The store on disk. See the module's header.
pub struct DiskStore {
    database: Database,
    spaces: [Keyspace; 3],
    watermark: Watermark,
    directory: PathBuf,
    _lock: File,
}

impl DiskStore {
    /// Opens the store in `directory`, or makes one.
    ///
    /// # Errors
    /// When something else uses the directory, or what is in it is newer, incomplete or unreadable.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        let lock = lock_directory(directory)?;
        check_format(directory)?;
        let clean = directory.join("clean");
        let was_clean = clean.exists();
        let data = directory.join("db");
        let aside = directory.join("journal-aside");
        if !was_clean && data.exists() {
            copy_journals(&data, &aside)?;
        }
        let opened = Self::open_database(directory, &data, lock);
        match opened {
            Ok(store) => {
                if aside.exists() {
                    fs::remove_dir_all(&aside).map_err(at(&aside))?;
                }
                if was_clean {
                    fs::remove_file(&clean).map_err(at(&clean))?;
                    sync_directory(directory)?;
                }
                Ok(store)
            }
            Err(error) => {
                // Opening may have cut the journal: put it back as it was.
                if aside.exists() {
                    restore_journals(&aside, &data)?;
                }
                Err(error)
            }
        }
    }

    fn open_database(directory: &Path, data: &Path, lock: File) -> Result<Self, OpenError> {
        let failed = |error: fjall::Error| OpenError::Damaged {
            path: data.to_owned(),
            what: format!("cannot be opened: {error}"),
        };
        let watermark = Watermark::open(&directory.join("watermark"))?;
        let database = Database::builder(data)
            .cache_size(CACHE_BYTES)
            .worker_threads(1)
            .manual_journal_persist(true)
            .open()
            .map_err(failed)?;
        let keyspace = |name: &str, memtable_bytes: u64| {
            let options = || KeyspaceCreateOptions::default().max_memtable_size(memtable_bytes);
            database.keyspace(name, options).map_err(failed)
        };
        let spaces = [
            keyspace("state", MEMTABLE_BYTES)?,
            keyspace("queue", MEMTABLE_BYTES)?,
            keyspace("bodies", MEMTABLE_BYTES)?,
        ];
        let found = spaces[0].get(record::COMMIT_KEY).map_err(failed)?;
        let found = match found {
            None => 0,
            Some(value) => record::read_number(&value).ok_or_else(|| OpenError::Damaged {
                path: data.to_owned(),
                what: "the commit number cannot be read".into(),
            })?,
        };
        let expected = watermark.expected();
        if found < expected {
            return Err(OpenError::Incomplete { directory: directory.to_owned(), expected, found });
        }
        Ok(Self { database, spaces, watermark, directory: directory.to_owned(), _lock: lock })
    }

    fn keyspace(&self, space: Space) -> &Keyspace {
        &self.spaces[space as usize]
    }
}

impl Store for DiskStore {
    fn commit(&mut self, writes: &WriteSet, sync: bool) -> Result<(), StoreError> {
        let mode = if sync { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut batch = self.database.batch().durability(Some(mode));
        for (space, key, value) in writes.iter() {
            match value {
                Some(value) => batch.insert(self.keyspace(space), key, value),
                None => batch.remove(self.keyspace(space), key),
            }
        }
        let number = writes.get(Space::State, record::COMMIT_KEY).flatten().and_then(record::read_number);
        batch.commit().map_err(|error| StoreError::Failed(error.to_string()))?;
        self.watermark.advance(number.unwrap_or(0), sync)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.database.persist(PersistMode::SyncData).map_err(|error| StoreError::Failed(error.to_string()))?;
        self.watermark.advance(self.watermark.written, true)
    }

    fn scan(&self, space: Space, from: &[u8], max: usize) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        let failed = |error: fjall::Error| StoreError::Damaged(error.to_string());
        let records = self.keyspace(space).range(from.to_vec()..).take(max);
        let records = records.map(|guard| guard.into_inner().map(|(key, value)| (key.to_vec(), value.to_vec())));
        records.collect::<Result<_, _>>().map_err(failed)
    }

    /// The next start need not look for losses.
    fn close(mut self: Box<Self>) -> Result<(), StoreError> {
        self.sync()?;
        let directory = self.directory.clone();
        drop(self);
        let clean = directory.join("clean");
        let made = File::create(&clean).and_then(|file| file.sync_all()).map_err(at(&clean));
        made.and_then(|()| sync_directory(&directory)).map_err(|error| StoreError::Failed(error.to_string()))
    }
}

/// The last commit, as a file of its own remembers it.
struct Watermark {
    file: File,
    /// The last commit that survives the death of the process.
    written: u64,
    /// The last one that survives that of the machine.
    synced: u64,
    /// The machine's current life.
    boot: [u8; BOOT_BYTES],
    same_boot: bool,
}

impl Watermark {
    fn open(path: &Path) -> Result<Self, OpenError> {
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path).map_err(at(path))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(at(path))?;
        let boot = boot_id();
        if bytes.is_empty() {
            return Ok(Self { file, written: 0, synced: 0, boot, same_boot: true });
        }
        let damaged = || OpenError::Damaged { path: path.to_owned(), what: "the watermark cannot be read".into() };
        let bytes: [u8; WATERMARK_BYTES] = bytes.try_into().map_err(|_| damaged())?;
        let number = |at: usize| bytes.get(at..at + 8).and_then(record::read_number).unwrap_or_default();
        if number(CHECK_AT) != checksum(&bytes[..CHECK_AT]) {
            return Err(damaged());
        }
        let same_boot = bytes[16..CHECK_AT] == boot;
        Ok(Self { file, written: number(0), synced: number(8), boot, same_boot })
    }

    /// The commit that must be found.
    fn expected(&self) -> u64 {
        if self.same_boot { self.written } else { self.synced }
    }

    fn advance(&mut self, written: u64, synced: bool) -> Result<(), StoreError> {
        self.written = written;
        self.synced = if synced { written } else { self.synced };
        let mut bytes = [0; WATERMARK_BYTES];
        bytes[..8].copy_from_slice(&self.written.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.synced.to_le_bytes());
        bytes[16..CHECK_AT].copy_from_slice(&self.boot);
        let check = checksum(&bytes[..CHECK_AT]);
        bytes[CHECK_AT..].copy_from_slice(&check.to_le_bytes());
        self.file.write_all_at(&bytes, 0).map_err(|error| StoreError::Failed(format!("watermark: {error}")))
    }
}

const BOOT_BYTES: usize = 36;
const CHECK_AT: usize = 16 + BOOT_BYTES;
const WATERMARK_BYTES: usize = CHECK_AT + 8;

/// What tells this life of the machine from the one before: what was written and not synced survives only in the same.
fn boot_id() -> [u8; BOOT_BYTES] {
    let text = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let mut id = [0; BOOT_BYTES];
    let len = text.len().min(BOOT_BYTES);
    id[..len].copy_from_slice(&text[..len]);
    id
}

/// FNV-1a: tells a damaged watermark from a good one.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
}

fn check_format(directory: &Path) -> Result<(), OpenError> {
    let path = directory.join("format");
    match fs::read_to_string(&path) {
        Ok(text) => {
            let found = text.trim().parse().map_err(|_| OpenError::Damaged {
                path: path.clone(),
                what: "the version of the format cannot be read".into(),
            })?;
            if found > FORMAT_VERSION {
                return Err(OpenError::Newer { directory: directory.to_owned(), found });
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if directory.join("db").exists() {
                return Err(OpenError::Damaged { path, what: "is missing, and a database is there".into() });
            }
            let mut file = File::create(&path).map_err(at(&path))?;
            writeln!(file, "{FORMAT_VERSION}").and_then(|()| file.sync_all()).map_err(at(&path))?;
            sync_directory(directory)
        }
        Err(error) => Err(OpenError::Io { path, error }),
    }
}

fn is_journal(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "jnl")
}

fn copy_journals(data: &Path, aside: &Path) -> Result<(), OpenError> {
    if aside.exists() {
        // A start that did not get to its end: what lies there is older than what it may have cut since.
        return restore_journals(aside, data).and_then(|()| copy_journals(data, aside));
    }
    let making = aside.with_extension("making");
    if making.exists() {
        fs::remove_dir_all(&making).map_err(at(&making))?;
    }
    fs::create_dir(&making).map_err(at(&making))?;
    for entry in fs::read_dir(data).map_err(at(data))? {
        let path = entry.map_err(at(data))?.path();
        if let (true, Some(name)) = (is_journal(&path), path.file_name()) {
            fs::copy(&path, making.join(name)).map_err(at(&path))?;
        }
    }
    fs::rename(&making, aside).map_err(at(aside))
}

fn restore_journals(aside: &Path, data: &Path) -> Result<(), OpenError> {
    for entry in fs::read_dir(aside).map_err(at(aside))? {
        let path = entry.map_err(at(aside))?.path();
        if let Some(name) = path.file_name() {
            fs::copy(&path, data.join(name)).map_err(at(&path))?;
        }
    }
    fs::remove_dir_all(aside).map_err(at(aside))
}

fn sync_directory(directory: &Path) -> Result<(), OpenError> {
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(at(directory))
}

/// Blocks that are kept in memory for reading.
const CACHE_BYTES: u64 = 16 << 20;
/// What a space gathers in memory before it is written as a table.
const MEMTABLE_BYTES: u64 = 16 << 20;
