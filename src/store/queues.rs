//! The queues of all sessions: which chunk has which message, and what is done with.
//!
//! Owns: for each session with a queue the runs of places that lie in one chunk, the places that are done with, and those
//! whose QoS 2 message has arrived; for each chunk how many references to it are left; the messages that are not written yet.
//! Always: a chunk is removed with its last reference, in the commit that says so. What is done with before it was written
//! is not written. That a place of a written chunk is done with stands in the session's head from the same commit on.
//! Places of a session are used once, and a session's number too: so a reference to a session that is over, or to a place
//! before its floor, is done with wherever it stands.
//! Never: a message in memory that has been written.
//!
//! A chunk of which little is left is written anew under its number with what is left, once such chunks have come to some
//! size; most are gone by then.

use std::collections::VecDeque;

use ahash::AHashMap;

use super::{
    Entries, QueueEntry, Space, Store, StoreError, WriteSet,
    chunk::{ChunkWriter, REFERENCE_BYTES, Reference, for_each_message},
    counts::{Count, Counts},
    record::{self, Head, damaged, is_in},
    runs::{Run, Runs},
};
use crate::{
    message::ApplicationMessage,
    plant::{Bug, planted},
    session::SliceRange,
};

/// A session's queue.
#[derive(Debug, Default)]
struct Queue {
    runs: Runs,
    /// Absent for most.
    more: Option<Box<More>>,
    /// Its head is to be written.
    is_dirty: bool,
}

#[derive(Debug, Default)]
struct More {
    /// Places behind the first that are done with. In order, with something between them.
    gone: Vec<(u64, u64)>,
    /// Places whose QoS 2 message has arrived. In order.
    released: Vec<u64>,
    /// Places that went since runs were looked at that have none left.
    ended: u32,
}

impl Queue {
    fn gone(&self) -> &[(u64, u64)] {
        self.more.as_ref().map_or(&[], |more| &more.gone)
    }

    fn released(&self) -> &[u64] {
        self.more.as_ref().map_or(&[], |more| &more.released)
    }

    fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.released().is_empty()
    }

    /// Whether a place has a message that is not done with.
    fn is_live(&self, place: u64) -> bool {
        place >= self.runs.first() && place < self.runs.below() && !is_in(self.gone(), place)
    }

    /// A place is done with. Returns the chunk that has it, if it is one that was not done with.
    fn end(&mut self, place: u64) -> Option<u64> {
        let front = self.runs.front()?;
        if place == front.first {
            self.runs.advance(1);
            self.skip_gone();
            return Some(front.chunk);
        }
        if !self.is_live(place) {
            return None;
        }
        let run = self.runs.find(place)?;
        let more = self.more.get_or_insert_default();
        insert(&mut more.gone, place);
        more.ended += 1;
        if more.ended >= ENDED_MAX {
            more.ended = 0;
            let gone = &more.gone;
            self.runs.retain(|run| !covers(gone, run));
        }
        Some(run.chunk)
    }

    /// Goes on to the first place that is not done with.
    fn skip_gone(&mut self) {
        let Some(more) = &mut self.more else { return };
        let mut passed = 0;
        while let (Some(front), Some((from, below))) = (self.runs.front(), more.gone.get_mut(passed)) {
            if *below <= front.first {
                passed += 1;
            } else if *from <= front.first {
                self.runs.advance(*below - front.first);
            } else {
                break;
            }
        }
        if let (true, Some(&(_, below))) = (self.runs.is_empty(), more.gone.last()) {
            // What a start did not find may be there, with what others have.
            self.runs.begin_at(below);
            passed = more.gone.len();
        }
        more.gone.drain(..passed);
        self.drop_more();
    }

    fn drop_more(&mut self) {
        if self.more.as_ref().is_some_and(|more| more.gone.is_empty() && more.released.is_empty()) {
            self.more = None;
        }
    }

    fn head(&self) -> Head {
        Head { floor: self.runs.first(), gone: self.gone().to_vec(), released: self.released().to_vec() }
    }
}

/// Adds a number to ranges.
fn insert(ranges: &mut Vec<(u64, u64)>, number: u64) {
    let at = ranges.partition_point(|&(from, _)| from <= number);
    let joins_next = ranges.get(at).is_some_and(|&(from, _)| from == number + 1);
    let before = at.checked_sub(1).and_then(|before| ranges.get_mut(before));
    match before {
        Some((_, below)) if *below == number => {
            *below += 1;
            if joins_next {
                let (_, next_below) = ranges.remove(at);
                ranges[at - 1].1 = next_below;
            }
        }
        _ if joins_next => ranges[at].0 = number,
        _ => ranges.insert(at, (number, number + 1)),
    }
}

/// Whether every place of a run is in one of the ranges.
fn covers(ranges: &[(u64, u64)], run: &Run) -> bool {
    let behind = ranges.partition_point(|&(from, _)| from <= run.first);
    behind.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|&(_, below)| run.below <= below)
}

/// Numbers of `from..below` that are in one of the ranges.
fn count_in(ranges: &[(u64, u64)], from: u64, below: u64) -> u64 {
    let first = ranges.partition_point(|&(_, range_below)| range_below <= from);
    let overlapping = ranges.iter().skip(first).take_while(|(range_from, _)| *range_from < below);
    overlapping.map(|&(range_from, range_below)| range_below.min(below) - range_from.max(from)).sum()
}

/// A message that is not written yet.
#[derive(Debug)]
struct Pending {
    chunk: u64,
    number: u64,
    message: ApplicationMessage,
    entries: Entries,
}

/// All queues. See the module's header.
#[derive(Debug)]
pub struct Queues {
    queues: AHashMap<u64, Queue>,
    chunks: Counts,
    /// The chunk that is being filled.
    open: u64,
    open_bytes: usize,
    open_references: usize,
    /// Chunks before this one are written.
    unwritten: u64,
    pending: Vec<Pending>,
    pending_references: usize,
    pending_bytes: usize,
    /// Something in `pending` is done with.
    has_ended: bool,
    /// Sessions whose heads are to be written.
    dirty: Vec<u64>,
    /// Chunks that are to be removed.
    removed: Vec<u64>,
    /// Chunks of which little is left, and their size.
    sparse: VecDeque<(u64, u32)>,
    sparse_bytes: usize,
    sparse_bytes_max: usize,
    is_thinning: bool,
}

impl Default for Queues {
    fn default() -> Self {
        Self::beginning_at(1)
    }
}

impl Queues {
    /// Queues of nobody; the next chunk is this one.
    pub fn beginning_at(chunk: u64) -> Self {
        Self {
            queues: AHashMap::new(),
            chunks: Counts::default(),
            open: chunk,
            open_bytes: 0,
            open_references: 0,
            unwritten: chunk,
            pending: Vec::new(),
            pending_references: 0,
            pending_bytes: 0,
            has_ended: false,
            dirty: Vec::new(),
            removed: Vec::new(),
            sparse: VecDeque::new(),
            sparse_bytes: 0,
            sparse_bytes_max: SPARSE_BYTES_MAX,
            is_thinning: false,
        }
    }

    /// Chunks of which little is left are written anew when they have come to this many bytes.
    pub fn set_sparse_bytes_max(&mut self, bytes: usize) {
        self.sparse_bytes_max = bytes;
    }

    /// Queues a message for `entries`.
    pub fn push(&mut self, number: u64, message: ApplicationMessage, mut entries: Entries) {
        entries.sort_unstable_by_key(|entry| (entry.session, entry.sequence));
        // One of ten thousand that comes back is not to read the references of all. A large message is worth more of them.
        let max = CHUNK_REFERENCES.max(message.charged_bytes() / BYTES_PER_REFERENCE);
        while entries.len() > max {
            let part = entries.drain(entries.len() - max..).collect();
            self.push_one(number, message.clone(), part);
        }
        self.push_one(number, message, entries);
    }

    /// The same for no more entries than a chunk may have for one message; in order.
    fn push_one(&mut self, number: u64, message: ApplicationMessage, entries: Entries) {
        // A large one has a chunk of its own: nothing small keeps it on the disk when it is done with.
        let is_large = message.charged_bytes() > LARGE_BYTES;
        let is_full = self.open_bytes >= CHUNK_BYTES || self.open_references >= CHUNK_REFERENCES;
        if is_full || (is_large && self.open_references > 0) {
            self.open += 1;
            (self.open_bytes, self.open_references) = (0, 0);
        }
        for entry in &entries {
            let queue = self.queues.entry(entry.session).or_default();
            if entry.sequence < queue.runs.first() {
                // The floor that was written is above it.
                set_dirty(queue, &mut self.dirty, entry.session);
            }
            queue.runs.push(entry.sequence, self.open);
        }
        let count = self.chunks.get_or_add(self.open);
        count.live += entries.len() as u32;
        count.total += entries.len() as u32;
        let bytes = message.charged_bytes() + entries.len() * REFERENCE_BYTES;
        self.open_bytes += if is_large { CHUNK_BYTES } else { message.charged_bytes() };
        self.open_references += entries.len();
        self.pending_references += entries.len();
        self.pending_bytes += bytes;
        self.pending.push(Pending { chunk: self.open, number, message, entries });
    }

    /// A place of a session is done with.
    pub fn end(&mut self, session: u64, place: u64) {
        let Some(queue) = self.queues.get_mut(&session) else { return };
        let Some(chunk) = queue.end(place) else { return };
        if chunk < self.unwritten {
            set_dirty(queue, &mut self.dirty, session);
        }
        // What is dirty goes when its head is written.
        if queue.is_empty() && !queue.is_dirty {
            self.queues.remove(&session);
        }
        self.release_chunk(chunk, 1);
    }

    /// The QoS 2 message at a place of a session has arrived.
    pub fn release(&mut self, session: u64, place: u64) {
        let queue = self
            .queues
            .entry(session)
            .or_insert_with(|| Queue { runs: Runs::beginning_at(place + 1), ..Queue::default() });
        let chunk = queue.end(place);
        let more = queue.more.get_or_insert_default();
        if let Err(at) = more.released.binary_search(&place) {
            more.released.insert(at, place);
        }
        set_dirty(queue, &mut self.dirty, session);
        if let Some(chunk) = chunk {
            self.release_chunk(chunk, if planted(Bug::BodyReleasedTwice) { 2 } else { 1 });
        }
    }

    /// A place of a session is done with whose QoS 2 message had arrived.
    pub fn end_released(&mut self, session: u64, place: u64) {
        let Some(queue) = self.queues.get_mut(&session) else { return };
        let Some(more) = &mut queue.more else { return };
        let Ok(at) = more.released.binary_search(&place) else { return };
        more.released.remove(at);
        queue.drop_more();
        set_dirty(queue, &mut self.dirty, session);
    }

    /// A session is over.
    pub fn end_session(&mut self, session: u64) {
        let Some(queue) = self.queues.remove(&session) else { return };
        for run in queue.runs.iter() {
            let live = run.below - run.first - count_in(queue.gone(), run.first, run.below);
            self.release_chunk(run.chunk, live as u32);
        }
    }

    fn release_chunk(&mut self, chunk: u64, references: u32) {
        let is_written = chunk < self.unwritten;
        self.has_ended |= !is_written;
        let Some(count) = self.chunks.get_mut(chunk) else { return };
        let was_sparse = count.is_sparse();
        count.live = count.live.saturating_sub(references);
        if !is_written {
            return;
        }
        if count.live == 0 {
            self.chunks.remove(chunk);
            self.removed.push(chunk);
        } else if count.is_sparse() && !was_sparse {
            self.sparse.push_back((chunk, count.bytes));
            self.sparse_bytes += count.bytes as usize;
        }
    }

    /// Whether there is nothing to write.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.dirty.is_empty() && self.removed.is_empty()
    }

    /// References and bytes that are to be written.
    pub fn pending(&self) -> (usize, usize) {
        (self.pending_references + self.dirty.len() + self.removed.len(), self.pending_bytes)
    }

    /// Puts what there is to write into `writes`.
    pub fn write(&mut self, writes: &mut WriteSet) {
        let mut pending = std::mem::take(&mut self.pending);
        let mut writer = ChunkWriter::default();
        let has_ended = std::mem::take(&mut self.has_ended);
        let mut messages = pending.drain(..).peekable();
        while let Some(Pending { chunk, number, message, mut entries }) = messages.next() {
            let is_touched = has_ended && self.chunks.get(chunk).is_none_or(|count| count.live < count.total);
            if is_touched {
                entries.retain(|entry| is_live(&self.queues, entry.session, entry.sequence));
            }
            if !entries.is_empty() {
                writer.push(number, &message, entries.iter());
            }
            if messages.peek().is_some_and(|next| next.chunk == chunk) {
                continue;
            }
            if writer.is_empty() {
                self.chunks.remove(chunk);
                continue;
            }
            let value = writer.finish();
            if let Some(count) = self.chunks.get_mut(chunk) {
                count.total = count.live;
                count.bytes = u32::try_from(value.len()).unwrap_or(u32::MAX);
            }
            writes.put(Space::Queue, &record::chunk_key(chunk), value);
        }
        drop(messages);
        // Its room is of use again.
        self.pending = pending;
        (self.pending_references, self.pending_bytes) = (0, 0);
        if self.open_references > 0 {
            self.open += 1;
            (self.open_bytes, self.open_references) = (0, 0);
        }
        self.unwritten = self.open;
        for chunk in self.removed.drain(..) {
            writes.remove(Space::Queue, &record::chunk_key(chunk));
        }
        for session in self.dirty.drain(..) {
            let Some(queue) = self.queues.get_mut(&session) else { continue };
            queue.is_dirty = false;
            let key = record::session_key(record::tag::HEAD, session);
            writes.put(Space::State, &key, record::write_head(&queue.head()));
            if queue.is_empty() {
                self.queues.remove(&session);
            }
        }
    }

    /// Whether so much is left of chunks of which little is, that they are to be written anew.
    pub fn is_sparse(&self) -> bool {
        self.sparse_bytes > if self.is_thinning { self.sparse_bytes_max / 2 } else { self.sparse_bytes_max }
    }

    /// Writes chunks anew that have had little left for longest, if it is time for that; so many as count as `max` records.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn thin(&mut self, store: &dyn Store, writes: &mut WriteSet, max: usize) -> Result<(), StoreError> {
        self.is_thinning = self.is_sparse();
        let mut left = max.div_ceil(RECORDS_PER_CHUNK);
        while self.is_thinning && left > 0 {
            let Some((chunk, bytes)) = self.sparse.pop_front() else { break };
            self.sparse_bytes -= bytes as usize;
            self.is_thinning = self.is_sparse();
            if self.thin_one(store, writes, chunk)? {
                left -= 1;
            }
        }
        Ok(())
    }

    /// Returns whether the chunk is still there.
    fn thin_one(&mut self, store: &dyn Store, writes: &mut WriteSet, chunk: u64) -> Result<bool, StoreError> {
        let Some(count) = self.chunks.get_mut(chunk) else { return Ok(false) };
        let key = record::chunk_key(chunk);
        let value = store.get(Space::Queue, &key)?.ok_or_else(|| no_chunk(chunk))?;
        let mut writer = ChunkWriter::default();
        let mut left = 0;
        let queues = &self.queues;
        for_each_message(&value, |message| {
            left += writer.keep(&message, |reference| is_live(queues, reference.session, reference.sequence))?;
            Some(())
        })
        .ok_or_else(|| damaged("queued messages", &key))?;
        if left != count.live {
            return Err(StoreError::Damaged(format!("chunk {chunk} has {left} messages and not {}", count.live)));
        }
        let value = writer.finish();
        *count = Count { live: left, total: left, bytes: u32::try_from(value.len()).unwrap_or(u32::MAX) };
        if !planted(Bug::ThinnedChunkLost) {
            writes.put(Space::Queue, &key, value);
        } else {
            writes.remove(Space::Queue, &key);
        }
        Ok(true)
    }

    /// The entries of a session's queue in `range`, as many as make about 256 KiB, and whether those are all.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn read(
        &self,
        store: &dyn Store,
        session: u64,
        range: SliceRange,
    ) -> Result<(Vec<QueueEntry>, bool), StoreError> {
        let SliceRange { from, upto, max } = range;
        let mut entries = Vec::new();
        let Some(queue) = self.queues.get(&session) else { return Ok((entries, true)) };
        let released = queue.released();
        let mut released = released.iter().copied().skip_while(|&place| place < from).peekable();
        let mut bytes = 0;
        for run in queue.runs.iter() {
            if run.below <= from {
                continue;
            }
            if run.first > upto {
                break;
            }
            let mut wanted = Run { first: run.first.max(from), below: run.below.min(upto.saturating_add(1)), ..run };
            if covers(queue.gone(), &wanted) {
                continue;
            }
            if entries.len() >= max || bytes >= SLICE_BYTES {
                return Ok((entries, false));
            }
            // No more of it than there is room for.
            let room = (max - entries.len()) as u64 + count_in(queue.gone(), wanted.first, wanted.below);
            let is_cut = wanted.below - wanted.first > room;
            if is_cut {
                wanted.below = wanted.first + room;
            }
            for entry in read_run(store, session, wanted, queue.gone())? {
                while let Some(place) = released.next_if(|&place| place < entry.sequence) {
                    if entries.len() >= max {
                        return Ok((entries, false));
                    }
                    entries.push(QueueEntry::released(place));
                }
                if entries.len() >= max || bytes >= SLICE_BYTES {
                    return Ok((entries, false));
                }
                bytes += entry.message.as_ref().map_or(0, ApplicationMessage::charged_bytes);
                entries.push(entry);
            }
            if is_cut {
                return Ok((entries, false));
            }
        }
        let rest = released.take_while(|&place| place <= upto);
        for place in rest {
            if entries.len() >= max {
                return Ok((entries, false));
            }
            entries.push(QueueEntry::released(place));
        }
        Ok((entries, true))
    }

    /// Calls `each` with every entry of a session's queue, in order.
    ///
    /// # Errors
    /// When one cannot be read, and those of `each`.
    pub fn for_each<E: From<StoreError>>(
        &self,
        store: &dyn Store,
        session: u64,
        mut each: impl FnMut(QueueEntry) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut range = SliceRange { from: 0, upto: u64::MAX, max: ENTRIES_AT_ONCE };
        loop {
            let (entries, is_complete) = self.read(store, session, range)?;
            range.from = entries.last().map_or(range.from, |last| last.sequence + 1);
            for entry in entries {
                each(entry)?;
            }
            if is_complete {
                return Ok(());
            }
        }
    }

    /// Whether a reference that was read is to something that is not done with.
    pub fn is_live(&self, reference: &Reference) -> bool {
        is_live(&self.queues, reference.session, reference.sequence)
    }

    /// A session's queue was found.
    pub fn restore_queue(&mut self, session: u64, FoundQueue { mut queue, .. }: FoundQueue) {
        queue.skip_gone();
        if !queue.is_empty() {
            self.queues.insert(session, queue);
        }
    }

    /// A chunk was found, with so many references, of which so many are to sessions that are there and to places that are
    /// not done with.
    pub fn restore_chunk(&mut self, chunk: u64, bytes: usize, total: u32, live: u32) {
        let count = Count { live, total, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) };
        (self.open, self.unwritten) = (self.open.max(chunk + 1), self.unwritten.max(chunk + 1));
        if live == 0 {
            self.removed.push(chunk);
            return;
        }
        if count.is_sparse() {
            self.sparse.push_back((chunk, count.bytes));
            self.sparse_bytes += count.bytes as usize;
        }
        *self.chunks.get_or_add(chunk) = count;
    }
}

/// A session's queue while a start looks for what is in it.
#[derive(Debug, Default)]
pub struct FoundQueue {
    queue: Queue,
    floor: u64,
}

impl FoundQueue {
    /// That of a session which is so far.
    pub fn with_head(head: Head) -> Self {
        let Head { floor, gone, released } = head;
        let more = (!gone.is_empty() || !released.is_empty()).then(|| Box::new(More { gone, released, ended: 0 }));
        Self { queue: Queue { runs: Runs::beginning_at(floor), more, is_dirty: false }, floor }
    }

    /// Whether the message at a place is done with, or has arrived.
    pub fn is_done(&self, place: u64) -> bool {
        place < self.floor || is_in(self.queue.gone(), place)
    }

    /// Places whose message has arrived.
    pub fn released(&self) -> &[u64] {
        self.queue.released()
    }

    /// A place was found in a chunk.
    pub fn push(&mut self, place: u64, chunk: u64) {
        self.queue.runs.push(place, chunk);
    }
}

fn is_live(queues: &AHashMap<u64, Queue>, session: u64, place: u64) -> bool {
    queues.get(&session).is_some_and(|queue| queue.is_live(place))
}

fn set_dirty(queue: &mut Queue, dirty: &mut Vec<u64>, session: u64) {
    if !planted(Bug::HeadForgotten) && !std::mem::replace(&mut queue.is_dirty, true) {
        dirty.push(session);
    }
}

fn no_chunk(chunk: u64) -> StoreError {
    StoreError::Damaged(format!("there is no chunk {chunk} of queued messages"))
}

/// What a session has in one chunk, in order.
fn read_run(store: &dyn Store, session: u64, run: Run, gone: &[(u64, u64)]) -> Result<Vec<QueueEntry>, StoreError> {
    let key = record::chunk_key(run.chunk);
    let value = store.get(Space::Queue, &key)?.ok_or_else(|| no_chunk(run.chunk))?;
    let mut entries = Vec::new();
    let read = for_each_message(&value, |message| {
        for (at, reference) in message.of_session(session) {
            let reference = reference?;
            let Reference { sequence, qos, retain, .. } = reference;
            if sequence < run.first || sequence >= run.below || is_in(gone, sequence) {
                continue;
            }
            entries.push(QueueEntry {
                sequence,
                number: message.number,
                message: Some(message.message()?),
                qos,
                retain,
                identifiers: message.identifiers_at(at, reference)?,
            });
        }
        Some(())
    });
    read.ok_or_else(|| damaged("queued messages", &key))?;
    entries.sort_by_key(|entry| entry.sequence);
    let expected = run.below - run.first - count_in(gone, run.first, run.below);
    let is_once_each = entries.is_sorted_by(|first, second| first.sequence < second.sequence);
    if entries.len() as u64 != expected || !is_once_each {
        let found = entries.len();
        return Err(StoreError::Damaged(format!(
            "chunk {} has {found} messages of session {session} and not {expected}",
            run.chunk
        )));
    }
    Ok(entries)
}

/// A chunk takes in no more when its messages have so many bytes.
const CHUNK_BYTES: usize = 16 << 10;
/// A message of more has a chunk of its own.
const LARGE_BYTES: usize = CHUNK_BYTES / 4;
/// Or so many references.
const CHUNK_REFERENCES: usize = 1024;
/// A message that has more references is there several times: so many bytes of it for each at most.
const BYTES_PER_REFERENCE: usize = 16;
/// One chunk that is written anew counts as so many records.
const RECORDS_PER_CHUNK: usize = 32;
/// Chunks of which little is left are written anew when they take this many bytes.
const SPARSE_BYTES_MAX: usize = 8 << 20;
/// Bytes after which a slice takes in no more.
const SLICE_BYTES: usize = 256 << 10;
/// Entries read at once.
const ENTRIES_AT_ONCE: usize = 1024;
/// Places behind the first that go until runs are looked at that have none left.
const ENDED_MAX: u32 = 256;

#[cfg(test)]
mod tests;
