//! The library's journals, read without the library.
//!
//! Owns: the layout of a journal: batches of a start (count, sequence number), items, and an end with their checksum.
//! Always: reads only. The library cuts a journal where it meets something that it cannot read, and opens with less than
//! there was; and neither its checksums nor its errors cover the sequence numbers of batches, by which it leaves out what it
//! takes for written already. So each commit carries its own number and the least sequence number that it can have, and
//! what is not in order is damage.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::Xxh3;

use super::{CommitRecord, Space};
use crate::store::record;

/// What one journal holds.
#[derive(Debug)]
pub(super) struct JournalScan {
    pub path: PathBuf,
    /// Whole batches in order, from the beginning.
    pub batches: u64,
    /// The first of them.
    pub first: Option<(CommitRecord, u64)>,
    /// The last.
    pub last: Option<(CommitRecord, u64)>,
    /// Where the last one ends.
    pub end: u64,
    /// Whether anything but room follows.
    pub has_rest: bool,
    /// Whole batches in that, and the last commit that they say was synced.
    pub later_batches: u64,
    pub later_synced: u64,
}

/// The journals of the database in `data`, oldest first.
pub(super) fn list(data: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(data)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jnl")) {
            let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse::<u64>().ok());
            let wrong = || io::Error::new(io::ErrorKind::InvalidData, format!("{}: no journal's name", path.display()));
            found.push((number.filter(|_| path.is_file()).ok_or_else(wrong)?, path.clone()));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Reads the journal at `path`, whose first batch comes after `before`. `progress` is told of bytes read.
pub(super) fn scan(
    path: &Path,
    before: Option<(CommitRecord, u64)>,
    progress: &mut dyn FnMut(u64),
) -> io::Result<JournalScan> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let mut source = Source::new(BufReader::with_capacity(READ_BYTES, file), bytes);
    let mut scan = JournalScan {
        path: path.to_owned(),
        batches: 0,
        first: None,
        last: before,
        end: 0,
        has_rest: false,
        later_batches: 0,
        later_synced: 0,
    };
    while let Some(batch) = source.batch() {
        let Some(commit) = batch.commit.filter(|commit| follows(*commit, batch.sequence, scan.last)) else { break };
        progress(source.position - scan.end);
        scan.end = source.position;
        scan.batches += 1;
        scan.first = scan.first.or(Some((commit, batch.sequence)));
        scan.last = Some((commit, batch.sequence));
    }
    if let Some(error) = source.error.take() {
        return Err(error);
    }
    let mut file = source.reader.into_inner();
    file.seek(SeekFrom::Start(scan.end))?;
    let mut rest = Vec::new();
    // The room that a journal gets when it is made is most of it.
    scan.has_rest = !is_room(&mut file)?;
    if scan.has_rest {
        file.seek(SeekFrom::Start(scan.end))?;
        file.read_to_end(&mut rest)?;
    }
    let mut at = 1;
    while let Some(found) = rest.get(at..).and_then(|rest| memchr::memchr(TAG_START, rest)) {
        at += found;
        let rest = rest.get(at..).unwrap_or_default();
        let mut source = Source::new(rest, rest.len() as u64);
        match source.batch().and_then(|batch| batch.commit) {
            Some(commit) => {
                scan.later_batches += 1;
                scan.later_synced = scan.later_synced.max(commit.synced);
                at += source.position as usize;
            }
            None => at += 1,
        }
    }
    progress(bytes.saturating_sub(scan.end));
    Ok(scan)
}

/// The bytes of every whole batch of a journal, in order of their sequence numbers, whatever lies between them; and how many
/// bytes that is no part of one.
pub(super) fn salvage(path: &Path) -> io::Result<(Vec<u8>, u64)> {
    let bytes = std::fs::read(path)?;
    let (mut whole, mut lost, mut at) = (Vec::new(), 0, 0);
    let mut last: Option<u64> = None;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let mut source = Source::new(rest, rest.len() as u64);
        let batch = source.batch();
        let is_in_order = |batch: &Batch| {
            let least = batch.commit.map_or(0, |commit| commit.sequence_least);
            batch.sequence >= least
                && batch.sequence - least < SEQUENCE_SLACK
                && last.is_none_or(|last| batch.sequence > last)
        };
        let taken = match batch.filter(is_in_order) {
            Some(batch) => {
                last = Some(batch.sequence);
                let taken = source.position as usize;
                whole.extend_from_slice(&rest[..taken]);
                taken
            }
            None => {
                let taken = memchr::memchr(TAG_START, &rest[1..]).map_or(rest.len(), |found| found + 1);
                lost += rest[..taken].iter().filter(|&&byte| byte != 0).count() as u64;
                taken
            }
        };
        at += taken;
    }
    Ok((whole, lost))
}

/// Whether `commit`, with its batch's sequence number, can be what came after `before`.
fn follows(commit: CommitRecord, sequence: u64, before: Option<(CommitRecord, u64)>) -> bool {
    let is_plausible = sequence >= commit.sequence_least && sequence - commit.sequence_least < SEQUENCE_SLACK;
    is_plausible
        && before.is_none_or(|(before, before_sequence)| {
            commit.number == before.number + 1 && sequence > before_sequence && commit.sequence_least > before_sequence
        })
}

/// Whether nothing but zeros is left in `file`.
fn is_room(file: &mut File) -> io::Result<bool> {
    let mut bytes = vec![0; READ_BYTES];
    loop {
        match file.read(&mut bytes)? {
            0 => return Ok(true),
            read if bytes.iter().take(read).any(|&byte| byte != 0) => return Ok(false),
            _ => {}
        }
    }
}

/// One batch of a journal.
#[derive(Debug)]
pub(super) struct Batch {
    sequence: u64,
    commit: Option<CommitRecord>,
}

/// Bytes of a journal.
struct Source<R> {
    reader: R,
    left: u64,
    position: u64,
    /// What the operating system said, beside that there is no more.
    error: Option<io::Error>,
    body: Vec<u8>,
}

impl<R: Read> Source<R> {
    fn new(reader: R, left: u64) -> Self {
        Self { reader, left, position: 0, error: None, body: Vec::new() }
    }

    fn fill(&mut self, into: &mut [u8]) -> Option<()> {
        self.left = self.left.checked_sub(into.len() as u64)?;
        self.position += into.len() as u64;
        match self.reader.read_exact(into) {
            Ok(()) => Some(()),
            Err(error) => {
                self.error = Some(error).filter(|error| error.kind() != io::ErrorKind::UnexpectedEof);
                None
            }
        }
    }

    fn take<const LEN: usize>(&mut self) -> Option<[u8; LEN]> {
        let mut bytes = [0; LEN];
        self.fill(&mut bytes)?;
        Some(bytes)
    }

    /// The batch that begins here, when a whole one does.
    fn batch(&mut self) -> Option<Batch> {
        let start: [u8; 13] = self.take()?;
        let (tag, rest) = start.split_first()?;
        if *tag != TAG_START {
            return None;
        }
        let (count, sequence) = rest.split_first_chunk::<4>()?;
        let sequence = record::read_number(sequence)?;
        let mut hasher = Xxh3::new();
        let mut commit = None;
        for _ in 0..u32::from_le_bytes(*count) {
            let head: [u8; 21] = self.take()?;
            let [TAG_ITEM, kind @ (VALUE | TOMBSTONE), 0, rest @ ..] = &head else { return None };
            let (keyspace, rest) = rest.split_first_chunk::<8>()?;
            let (key_bytes, rest) = rest.split_first_chunk::<2>()?;
            let (value_bytes, stored_bytes) = rest.split_first_chunk::<4>()?;
            if value_bytes[..] != *stored_bytes {
                return None;
            }
            let key_bytes = usize::from(u16::from_le_bytes(*key_bytes));
            let len = key_bytes + u32::from_le_bytes(*value_bytes) as usize;
            // A length that is damaged must not take the memory of the machine.
            if len as u64 > self.left {
                return None;
            }
            let mut body = std::mem::take(&mut self.body);
            body.resize(len, 0);
            let filled = self.fill(&mut body);
            self.body = body;
            filled?;
            hasher.update(&head);
            hasher.update(&self.body);
            let (key, value) = self.body.split_at_checked(key_bytes)?;
            let is_state = u64::from_le_bytes(*keyspace) == super::database::keyspace_number(Space::State);
            if is_state && *kind == VALUE && key == record::COMMIT_KEY {
                commit = CommitRecord::read(value);
            }
        }
        let end: [u8; 13] = self.take()?;
        let [TAG_END, rest @ ..] = &end else { return None };
        let (checksum, magic) = rest.split_first_chunk::<8>()?;
        let is_whole = u64::from_le_bytes(*checksum) == hasher.digest() && magic == MAGIC;
        is_whole.then_some(Batch { sequence, commit })
    }
}

const TAG_START: u8 = 1;
const TAG_ITEM: u8 = 2;
const TAG_END: u8 = 3;
const VALUE: u8 = 0;
const TOMBSTONE: u8 = 1;
const MAGIC: &[u8] = b"FJL\x03";
/// Sequence numbers that the library may take for itself between two commits.
const SEQUENCE_SLACK: u64 = 1 << 20;
const READ_BYTES: usize = 256 << 10;
