//! The store on disk: fjall, and what it takes to notice that something is missing.
//!
//! Owns: the data directory: its lock, the version of its format, the database in it, and the watermark.
//! Always: a commit is written before it counts, and with `sync` it is on the disk. Commits are numbered without gaps. The
//! number of the last one stands in the database with each commit, that of the last one that wrote to a space in that space,
//! and after the commit it goes into the watermark, a small file of its own that is synced each second: a database that ends
//! earlier than either says has lost something, and is refused. Before the library opens it every file is read and compared
//! with its checksums, since the library itself cuts off, removes or passes over part of what it cannot read. What is refused
//! is left as it was. What was found is synced before anybody hears of it: it may have been written and not synced before.
//! Never: a second process in the same directory.
//!
//! | in the data directory | |
//! |---|---|
//! | `lock` | held by the process that uses it |
//! | `format` | the version of the format |
//! | `watermark` | the last commit |
//! | `clean` | there after a clean end |
//! | `batched` | there while commits are written and not synced at once: the end of the machine may take the last ones |
//! | `db` | the database |
//! | `db-before` | links to its files while it is opened |
//! | `probe` | there while it is found out whether the disk can be written to again |

mod ahead;
mod copy;
mod database;
mod format;
mod inspect;
mod journal_files;
mod keyspaces;
mod medium;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use fjall::{Database, Keyspace, PersistMode};

use self::{
    ahead::RoomAhead,
    database::{MARKER_KEY, MEMTABLE_BYTES, last_commit, open_database, scan_keyspace},
};
pub use self::{
    copy::StoreCopy,
    inspect::{Inspection, inspect},
    medium::DiskMedium,
};
use super::{
    Record, Space, Store, StoreError, WriteSet,
    record::{self, FORMAT_VERSION},
};

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file or directory.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
}

impl Problem {
    fn new(path: &Path, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), what: what.into() }
    }

    fn io(path: &Path) -> impl Fn(io::Error) -> Self {
        move |error| match error.kind() {
            io::ErrorKind::NotFound => Self::new(path, "is missing"),
            _ => Self::new(path, format!("cannot be read: {error}")),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is none.
    #[error("{}: no data directory of RingMQ", .0.display())]
    NotThere(PathBuf),
    /// Something else uses it.
    #[error("{}: another process uses this data directory", .0.display())]
    Locked(PathBuf),
    /// A newer program wrote it.
    #[error(
        "{}: written in format {found} by a newer RingMQ; this one reads format {FORMAT_VERSION}. Start that version, or export with it", .directory.display()
    )]
    Newer {
        /// The directory.
        directory: PathBuf,
        /// Its format.
        found: u32,
    },
    /// An older program wrote it.
    #[error(
        "{}: written in format {found} by an older RingMQ; this one reads no format before 3. Export it with that version (`ringmq store export`), and import it with this one", .directory.display()
    )]
    Older {
        /// The directory.
        directory: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It lacks what was committed.
    #[error(
        "{}: commit {expected} was made here, and the database ends with {found}: something is missing. {}", .directory.display(), remedy(.directory)
    )]
    Incomplete {
        /// The directory.
        directory: PathBuf,
        /// What the watermark says.
        expected: u64,
        /// What was found.
        found: u64,
    },
    /// A file is missing or damaged.
    #[error("{problem}{}. {}", and_more(*.more), remedy(.directory))]
    Damaged {
        /// The directory.
        directory: PathBuf,
        /// What is wrong.
        problem: Problem,
        /// How many more files have something wrong with them.
        more: usize,
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

fn and_more(more: usize) -> String {
    match more {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    }
}

/// What to do about a data directory that is damaged.
pub fn remedy(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "Nothing was changed. `ringmq store check --data-dir {directory}` says more; `ringmq store salvage --data-dir \
         {directory} --to NEWDIR` copies what can be read into a new directory"
    )
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |error| OpenError::Io { path, error }
}

/// What stands in the database about the last commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct CommitRecord {
    /// Counted from 1.
    number: u64,
    /// The batch has at least this sequence number in the library, and all before it have smaller ones.
    sequence_least: u64,
    /// The last commit before it that was known to be synced.
    synced: u64,
    /// By space, the least sequence number of the last commit that wrote to it, this one counted in; 0: there was none.
    written: [u64; 2],
    /// The same before this commit.
    written_before: [u64; 2],
}

impl CommitRecord {
    fn read(value: &[u8]) -> Option<Self> {
        let value: &[u8; 56] = value.try_into().ok()?;
        let (numbers, _) = value.as_chunks::<8>();
        let mut numbers = numbers.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let mut next = || numbers.next().unwrap_or_default();
        Some(Self {
            number: next(),
            sequence_least: next(),
            synced: next(),
            written: [next(), next()],
            written_before: [next(), next()],
        })
    }

    fn write(self) -> Vec<u8> {
        let numbers = [self.number, self.sequence_least, self.synced].into_iter();
        let numbers = numbers.chain(self.written).chain(self.written_before);
        numbers.flat_map(u64::to_le_bytes).collect()
    }
}

/// Creates the directory when it is missing and locks it for this process as long as the file lives.
///
/// # Errors
/// When it cannot be created or is in use.
pub fn lock_directory(directory: &Path) -> Result<File, OpenError> {
    if !directory.exists() {
        fs::create_dir_all(directory).map_err(at(directory))?;
        let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_directory(parent.unwrap_or(Path::new(".")))?;
    }
    let path = directory.join("lock");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(at(&path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked(directory.to_owned())),
        Err(TryLockError::Error(error)) => Err(OpenError::Io { path, error }),
    }
}

/// Locks a directory that is there, without changing anything in it.
///
/// # Errors
/// When there is none, or it is in use.
pub fn lock_to_read(directory: &Path) -> Result<Option<File>, OpenError> {
    if !directory.is_dir() {
        return Err(OpenError::NotThere(directory.to_owned()));
    }
    let path = directory.join("lock");
    let lock = match File::open(&path) {
        Ok(lock) => lock,
        // Whoever uses a directory has made one.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::Io { path, error }),
    };
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked(directory.to_owned())),
        Err(TryLockError::Error(error)) => Err(OpenError::Io { path, error }),
    }
}

/// The store on disk. See the module's header.
pub struct DiskStore {
    database: Database,
    spaces: [Keyspace; 2],
    watermark: Watermark,
    last: CommitRecord,
    lacking: Option<Lacking>,
    ended_well: bool,
    directory: PathBuf,
    ahead: RoomAhead,
    /// Every commit is synced before anybody goes on.
    is_waited_for: bool,
    memtable_bytes: u64,
    lock: Arc<File>,
}

/// The machine ended while commits were written and not synced: the last of them may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lacking {
    /// The last commit that is there.
    pub found: u64,
    /// A later one that is known to have been made, if one is.
    pub made: Option<u64>,
}

impl DiskStore {
    /// Opens the store in `directory`, or makes one.
    ///
    /// # Errors
    /// When something else uses the directory, or what is in it is newer, incomplete or unreadable.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        Self::open_with(directory, MEMTABLE_BYTES)
    }

    /// Opens the store in `directory`, or makes one. `progress` is told of bytes read.
    ///
    /// # Errors
    /// As above.
    pub fn open_watched(directory: &Path, progress: &mut dyn FnMut(u64)) -> Result<Self, OpenError> {
        Self::open_locked(directory, Arc::new(lock_directory(directory)?), MEMTABLE_BYTES, false, progress)
    }

    /// Opens the store in `directory`, or makes one that gathers `memtable_bytes` of each space in memory before it writes a
    /// table.
    ///
    /// # Errors
    /// As above.
    pub fn open_with(directory: &Path, memtable_bytes: u64) -> Result<Self, OpenError> {
        Self::open_locked(directory, Arc::new(lock_directory(directory)?), memtable_bytes, false, &mut |_| {})
    }

    /// The same in a directory that is locked. `has_failed`: this process had it open, and failed to write it. `progress` is
    /// told of bytes read.
    fn open_locked(
        directory: &Path,
        lock: Arc<File>,
        memtable_bytes: u64,
        has_failed: bool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, OpenError> {
        let data = directory.join("db");
        undo_opening(directory, &data)?;
        if is_new(directory, &data)? {
            create(directory, &data, memtable_bytes)?;
        }
        let scratch = directory.join("db-look");
        remove_directory(&scratch)?;
        let inspection = inspect::inspect_with(directory, has_failed, &scratch, progress);
        remove_directory(&scratch)?;
        let inspection = inspection?;
        inspection.verdict(directory)?;
        format::raise(directory, inspection.format)?;
        let mut watermark = Watermark::open(directory)?;
        let before = directory.join("db-before");
        link_all(&data, &before, inspection.torn.as_ref().map(|(journal, _)| journal.as_path()))?;
        sync_directory(directory)?;
        if let Some((journal, end)) = &inspection.torn {
            // The rest of a commit that was under way when the process or the machine died.
            let file = OpenOptions::new().write(true).open(journal).map_err(at(journal))?;
            file.set_len(*end).and_then(|()| file.sync_all()).map_err(at(journal))?;
        }
        if let ([(journal, 0)], None) = (&inspection.journals[..], &inspection.torn) {
            // Nothing is in it. The library forgets the length of a journal that it opens, and gives one to a new one.
            fs::remove_file(journal).map_err(at(journal))?;
        } else if let (true, Some((journal, end))) = (has_failed, inspection.journals.last()) {
            medium::write_anew(journal, *end).map_err(at(journal))?;
        }
        let opened = open_database(&data, memtable_bytes).and_then(|(database, spaces)| {
            let last = last_commit(&data, &spaces)?;
            let failed = |error: fjall::Error| Problem::new(&data, format!("cannot be synced: {error}"));
            database.persist(PersistMode::SyncAll).map_err(failed)?;
            Ok((database, spaces, last))
        });
        let found = opened.map_err(|problem| damaged(directory, problem)).and_then(|(database, spaces, last)| {
            let expected = inspection.expected.max(inspection.last_commit.unwrap_or(0));
            match last.number {
                found if found < expected => {
                    Err(OpenError::Incomplete { directory: directory.to_owned(), expected, found })
                }
                _ => Ok((database, spaces, last)),
            }
        });
        let (database, spaces, last) = match found {
            Ok(found) => found,
            Err(error) => {
                undo_opening(directory, &data)?;
                return Err(error);
            }
        };
        forget_before(directory, &before)?;
        let made = Some(watermark.written).filter(|&written| written > last.number);
        (watermark.written, watermark.synced) = (last.number, last.number);
        let clean = directory.join("clean");
        let ended_well = clean.exists();
        let was_cut = !watermark.same_boot && !ended_well && directory.join("batched").exists();
        let lacking = was_cut.then_some(Lacking { found: last.number, made });
        if ended_well {
            fs::remove_file(&clean).map_err(at(&clean))?;
            sync_directory(directory)?;
        }
        let (directory, ahead) = (directory.to_owned(), RoomAhead::new(data));
        let is_waited_for = true;
        Ok(Self {
            database,
            spaces,
            watermark,
            last,
            lacking,
            ended_well,
            directory,
            ahead,
            is_waited_for,
            memtable_bytes,
            lock,
        })
    }

    /// What the store lies on.
    #[must_use]
    pub fn medium(&self) -> DiskMedium {
        let Self { directory, lock, memtable_bytes, .. } = self;
        DiskMedium { directory: directory.clone(), lock: Arc::clone(lock), memtable_bytes: *memtable_bytes }
    }

    /// Waits until the tables are written that opening has to write. A library that cannot would let the next commit wait
    /// for good.
    fn settle(&self) -> Result<(), StoreError> {
        let failed = |error: fjall::Error| StoreError::Failed(error.to_string());
        let until = Instant::now() + SETTLE_TIMEOUT;
        while self.spaces.iter().any(|space| space.sealed_memtable_count() > 0) {
            self.database.persist(PersistMode::Buffer).map_err(failed)?;
            if Instant::now() > until {
                return Err(StoreError::Failed("its tables are not written in time".into()));
            }
            std::thread::sleep(SETTLE_PACE);
        }
        Ok(())
    }

    /// What may be missing, if that is so.
    #[must_use]
    pub fn lacking(&self) -> Option<Lacking> {
        self.lacking
    }

    /// Whether it has everything that it was given, whatever was promised of it: it was closed before it was opened.
    #[must_use]
    pub fn ended_well(&self) -> bool {
        self.ended_well
    }

    /// From here on every commit is synced at once, or not.
    ///
    /// # Errors
    /// When that cannot be noted down for the next start.
    pub fn promise(&mut self, sync: bool) -> Result<(), OpenError> {
        let path = self.directory.join("batched");
        if path.exists() == sync {
            let noted = if sync { fs::remove_file(&path) } else { File::create(&path).map(drop) };
            noted.map_err(at(&path))?;
            sync_directory(&self.directory)?;
        }
        self.is_waited_for = sync;
        Ok(())
    }

    /// The number of the last commit.
    #[must_use]
    pub fn last_commit(&self) -> u64 {
        self.last.number
    }

    fn keyspace(&self, space: Space) -> &Keyspace {
        &self.spaces[space as usize]
    }
}

fn damaged(directory: &Path, problem: Problem) -> OpenError {
    OpenError::Damaged { directory: directory.to_owned(), problem, more: 0 }
}

impl Store for DiskStore {
    fn commit(&mut self, writes: &WriteSet, sync: bool) -> Result<(), StoreError> {
        let mode = if sync { PersistMode::SyncData } else { PersistMode::Buffer };
        if self.is_waited_for {
            self.ahead.make(writes.len(), writes.bytes());
        }
        let mut batch = self.database.batch().durability(Some(mode));
        let number = writes.get(Space::State, record::COMMIT_KEY).flatten().and_then(record::read_number);
        let number = number.filter(|&number| number == self.last.number + 1);
        let number = number.ok_or_else(|| StoreError::Failed("a commit without its number".into()))?;
        let mut last = CommitRecord {
            number,
            sequence_least: self.database.seqno(),
            synced: self.watermark.synced,
            written: self.last.written,
            written_before: self.last.written,
        };
        last.written[Space::State as usize] = last.sequence_least;
        for (space, key, value) in writes.iter().filter(|&(space, key, _)| (space, key) != COMMIT) {
            last.written[space as usize] = last.sequence_least;
            match value {
                Some(value) => batch.insert(self.keyspace(space), key, value),
                None => batch.remove(self.keyspace(space), key),
            }
        }
        if last.written[Space::Queue as usize] == last.sequence_least {
            batch.insert(self.keyspace(Space::Queue), MARKER_KEY, last.sequence_least.to_le_bytes());
        }
        batch.insert(self.keyspace(Space::State), record::COMMIT_KEY, last.write());
        batch.commit().map_err(|error| StoreError::Failed(error.to_string()))?;
        self.last = last;
        self.watermark.advance(number, sync)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.database.persist(PersistMode::SyncData).map_err(|error| StoreError::Failed(error.to_string()))?;
        self.watermark.advance(self.watermark.written, true)
    }

    fn note(&mut self) -> Result<(), StoreError> {
        self.watermark.note()
    }

    fn scan(&self, space: Space, from: &[u8], max: usize) -> Result<Vec<Record>, StoreError> {
        scan_keyspace(self.keyspace(space), space, from, max)
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.keyspace(space).get(key).map_err(|error| StoreError::Damaged(error.to_string()))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn gathered_bytes(&self) -> u64 {
        self.database.write_buffer_size()
    }

    fn is_at_work(&self) -> bool {
        let has_tables_to_write = self.spaces.iter().any(|space| space.sealed_memtable_count() > 0);
        has_tables_to_write || self.database.active_compactions() > 0
    }

    fn forget_written(&mut self) {
        database::forget_versions(&self.database, &self.spaces);
    }

    /// Has what is in memory written as tables, one after the other: journals go when all that they hold is in some, and what
    /// was removed goes when tables are put together.
    fn reclaim(&mut self) -> Result<(), StoreError> {
        let rotate = |space: &Keyspace| space.rotate_memtable().map(drop);
        self.spaces.iter().try_for_each(rotate).map_err(|error| StoreError::Failed(error.to_string()))
    }

    /// The next start need not look for losses.
    fn close(mut self: Box<Self>) -> Result<(), StoreError> {
        self.sync()?;
        let directory = self.directory.clone();
        let Self { database, spaces, watermark, lock: _lock, .. } = *self;
        // The lock is held until all is said.
        drop((database, spaces, watermark));
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
    /// What the file on the disk says of that.
    noted: u64,
    /// The machine's current life.
    boot: [u8; BOOT_BYTES],
    same_boot: bool,
}

impl Watermark {
    fn create(directory: &Path) -> Result<(), OpenError> {
        let path = directory.join("watermark");
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path);
        let mut watermark =
            Self { file: file.map_err(at(&path))?, written: 0, synced: 0, noted: 0, boot: boot_id(), same_boot: true };
        let failed = |error: StoreError| OpenError::Io { path: path.clone(), error: io::Error::other(error) };
        watermark.advance(0, true).map_err(failed)?;
        watermark.file.sync_all().map_err(at(&path))
    }

    fn open(directory: &Path) -> Result<Self, OpenError> {
        let path = directory.join("watermark");
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let file = file.map_err(|error| damaged(directory, Problem::io(&path)(error)))?;
        Self::of(file, &path).map_err(|problem| damaged(directory, problem))
    }

    fn read(directory: &Path) -> Result<Self, Problem> {
        let path = directory.join("watermark");
        Self::of(File::open(&path).map_err(Problem::io(&path))?, &path)
    }

    fn of(file: File, path: &Path) -> Result<Self, Problem> {
        let mut bytes = Vec::new();
        (&file).take(WATERMARK_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(Problem::io(path))?;
        let damaged = || Problem::new(path, "the watermark is damaged");
        let bytes: [u8; WATERMARK_BYTES] = bytes.try_into().map_err(|_| damaged())?;
        let number = |at: usize| bytes.get(at..at + 8).and_then(record::read_number).unwrap_or_default();
        if number(CHECK_AT) != checksum(&bytes[..CHECK_AT]) {
            return Err(damaged());
        }
        let boot = boot_id();
        let same_boot = bytes[16..CHECK_AT] == boot;
        Ok(Self { file, written: number(0), synced: number(8), noted: 0, boot, same_boot })
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

    /// Brings the file to the disk, if it says more than is there.
    fn note(&mut self) -> Result<(), StoreError> {
        if self.noted < self.synced {
            self.noted = self.synced;
            self.file.sync_data().map_err(|error| StoreError::Failed(format!("watermark: {error}")))?;
        }
        Ok(())
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

/// Whether nothing was committed in `directory` yet.
fn is_new(directory: &Path, data: &Path) -> Result<bool, OpenError> {
    if data.exists() {
        return Ok(false);
    }
    let [format, watermark, clean] = ["format", "watermark", "clean"].map(|name| directory.join(name).exists());
    let was_used = match (format, watermark) {
        (_, true) => Watermark::read(directory).map_err(|problem| damaged(directory, problem))?.written > 0,
        (is_there, false) => is_there,
    };
    if was_used || clean {
        return Err(damaged(directory, Problem::new(data, "is missing")));
    }
    Ok(true)
}

/// Makes an empty database, and what stands beside it. What is there afterwards is whole: it gets its name last.
fn create(directory: &Path, data: &Path, memtable_bytes: u64) -> Result<(), OpenError> {
    let making = directory.join("db-making");
    remove_directory(&making)?;
    drop(open_database(&making, memtable_bytes).map_err(|problem| damaged(directory, problem))?);
    Watermark::create(directory)?;
    format::write(directory)?;
    fs::rename(&making, data).map_err(at(&making))?;
    sync_directory(directory)
}

/// Links every file of `data` into `before`, where it is found when opening comes to nothing. All but journals are never
/// written again, and of journals the library cuts off only the room at their ends; `torn` is copied, because more of it is.
fn link_all(data: &Path, before: &Path, torn: Option<&Path>) -> Result<(), OpenError> {
    let making = before.with_extension("making");
    remove_directory(&making)?;
    if let Err(error) = link_directory(data, &making, torn) {
        // What it takes of a disk that is full would be in the way of the next attempt.
        remove_directory(&making)?;
        return Err(error);
    }
    fs::rename(&making, before).map_err(at(before))
}

fn link_directory(from: &Path, to: &Path, torn: Option<&Path>) -> Result<(), OpenError> {
    fs::create_dir(to).map_err(at(to))?;
    for entry in fs::read_dir(from).map_err(at(from))? {
        let path = entry.map_err(at(from))?.path();
        let Some(target) = path.file_name().map(|name| to.join(name)) else { continue };
        if path.is_dir() {
            link_directory(&path, &target, torn)?;
        } else if torn == Some(path.as_path()) || fs::hard_link(&path, &target).is_err() {
            // Some file systems have no links.
            copy_without_room(&path, &target).map_err(at(&path))?;
        }
    }
    sync_directory(to)
}

/// Copies a file, and writes nothing where it has nothing but zeros: a journal has room for much more than is in it.
fn copy_without_room(from: &Path, to: &Path) -> io::Result<()> {
    let (mut source, target) = (File::open(from)?, File::create(to)?);
    let (mut block, mut end) = (vec![0; COPY_BYTES], 0);
    loop {
        let count = source.read(&mut block)?;
        let bytes = &block[..count];
        if count == 0 {
            target.set_len(end)?;
            return target.sync_all();
        }
        if bytes.iter().any(|&byte| byte != 0) {
            target.write_all_at(bytes, end)?;
        }
        end += count as u64;
    }
}

/// Puts the database back as it was before an opening that came to nothing.
fn undo_opening(directory: &Path, data: &Path) -> Result<(), OpenError> {
    remove_directory(&directory.join("db-before.done"))?;
    let before = directory.join("db-before");
    if before.exists() {
        remove_directory(data)?;
        fs::rename(&before, data).map_err(at(data))?;
        sync_directory(directory)?;
    }
    Ok(())
}

/// The database is open: what was before must never come back.
fn forget_before(directory: &Path, before: &Path) -> Result<(), OpenError> {
    let done = before.with_extension("done");
    fs::rename(before, &done).map_err(at(before))?;
    sync_directory(directory)?;
    remove_directory(&done)
}

fn remove_directory(path: &Path) -> Result<(), OpenError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(OpenError::Io { path: path.to_owned(), error }),
        _ => Ok(()),
    }
}

fn sync_directory(directory: &Path) -> Result<(), OpenError> {
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(at(directory))
}

const COMMIT: (Space, &[u8]) = (Space::State, record::COMMIT_KEY);
/// What is copied at once.
const COPY_BYTES: usize = 64 << 10;
/// After a failure: how long the tables may take that opening has to write, and how often that is looked at.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
const SETTLE_PACE: Duration = Duration::from_millis(10);
