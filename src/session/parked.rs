//! What of a queue is in the store only.
//!
//! Owns: the counts and the range of what is parked, and the messages that wait behind it.
//! Always: begins with something that is parked. What is parked between two messages is told apart from what is parked
//! behind them.

use std::collections::VecDeque;

use super::outbox::Queued;

/// What was queued for a session when the broker stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueSummary {
    /// The first place in use.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// Messages below this place may have been sent.
    pub sent_below: u64,
    /// So many of them.
    pub sent: u64,
    /// Messages that wait behind those.
    pub count: u64,
    /// Bytes that they are charged with.
    pub bytes: u64,
}

/// What to read of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceRange {
    /// From this place on.
    pub from: u64,
    /// Up to this one, itself included.
    pub upto: u64,
    /// At most so many messages.
    pub max: usize,
}

/// Messages that are in the store only, next to each other in the queue.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Parked {
    /// No one has a smaller sequence number.
    pub first: u64,
    /// None has a larger one.
    pub last: u64,
    /// Those below were sent before the broker started.
    pub sent_below: u64,
    /// So many of them.
    pub sent: u64,
    /// So many wait.
    pub count: u64,
    /// So many of the oldest that waited are dropped and still in the store.
    pub dropped: u64,
    /// What those that wait are charged with.
    pub bytes: u64,
    /// None was asked for with a later batch.
    pub batch: u64,
}

impl Parked {
    /// Whether none is left to be read.
    pub fn is_empty(&self) -> bool {
        self.sent + self.count + self.dropped == 0
    }

    /// One of those that wait is taken out. Returns the bytes that it was charged with, as far as that is known.
    pub fn take_one(&mut self, bytes: u64) -> u64 {
        self.count = self.count.saturating_sub(1);
        let bytes = if self.count == 0 { self.bytes } else { bytes.min(self.bytes) };
        self.bytes -= bytes;
        bytes
    }
}

/// A part of a queue.
#[derive(Debug)]
pub(super) enum Segment {
    /// In the store only.
    Parked(Parked),
    /// In memory.
    Message(Queued),
}

/// What waits behind the messages in memory. See the module's header.
#[derive(Debug, Default)]
pub(super) struct Rest {
    pub segments: VecDeque<Segment>,
    /// A slice is on its way.
    pub is_asked: bool,
    /// Messages in the last slice.
    slice: u16,
    /// Messages that wait.
    queued: usize,
}

impl Rest {
    pub fn of(summary: QueueSummary) -> Self {
        let QueueSummary { first, last, sent_below, sent, count, bytes } = summary;
        let mut segments = VecDeque::with_capacity(1);
        segments.push_back(Segment::Parked(Parked {
            first,
            last,
            sent_below,
            sent,
            count,
            dropped: 0,
            bytes,
            batch: 0,
        }));
        Self { segments, queued: count as usize, ..Self::default() }
    }

    /// What is parked in front.
    pub fn parked(&self) -> Option<&Parked> {
        match self.segments.front() {
            Some(Segment::Parked(parked)) => Some(parked),
            _ => None,
        }
    }

    /// As above.
    pub fn parked_mut(&mut self) -> Option<&mut Parked> {
        match self.segments.front_mut() {
            Some(Segment::Parked(parked)) => Some(parked),
            _ => None,
        }
    }

    /// Messages that wait.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Counts them anew.
    pub fn recount(&mut self) {
        let counts = self.segments.iter().map(|segment| match segment {
            Segment::Parked(parked) => parked.count as usize,
            Segment::Message(_) => 1,
        });
        self.queued = counts.sum();
    }

    /// Puts a message behind everything.
    pub fn push(&mut self, message: Queued) {
        self.queued += 1;
        self.segments.push_back(Segment::Message(message));
    }

    /// Parks a message behind everything.
    pub fn park_back(&mut self, message: &Queued) {
        let (sequence, bytes, batch) = (message.sequence, message.bytes(), message.batch());
        self.queued += 1;
        if let Some(Segment::Parked(parked)) = self.segments.back_mut() {
            parked.last = sequence;
            parked.count += 1;
            parked.bytes += bytes;
            parked.batch = parked.batch.max(batch);
            return;
        }
        if self.segments.is_empty() {
            self.segments.reserve_exact(1);
        }
        let parked = Parked { first: sequence, last: sequence, count: 1, bytes, batch, ..Parked::default() };
        self.segments.push_back(Segment::Parked(parked));
    }

    /// Parks a message in front of everything.
    pub fn park_front(&mut self, message: &Queued) {
        self.slice = 0;
        let Some(parked) = self.parked_mut() else { return self.park_back(message) };
        parked.first = message.sequence;
        parked.count += 1;
        parked.bytes += message.bytes();
        parked.batch = parked.batch.max(message.batch());
        self.queued += 1;
    }

    /// What to read, when it is time for it: few messages are left for a client that is there, or many are only to be dropped.
    pub fn ask(&mut self, is_online: bool, to_send: usize) -> Option<SliceRange> {
        let slice = self.slice;
        let is_asked = self.is_asked;
        let parked = self.parked_mut()?;
        let is_due = (is_online && to_send <= usize::from(slice) / 2) || parked.dropped >= DROPPED_MAX;
        if is_asked || !is_due {
            return None;
        }
        let max =
            if is_online { (slice * 2).clamp(SLICE_MESSAGES_MIN, SLICE_MESSAGES_MAX) } else { SLICE_MESSAGES_MIN };
        let range = SliceRange { from: parked.first, upto: parked.last, max: usize::from(max) };
        self.slice = max;
        self.is_asked = true;
        Some(range)
    }

    /// Takes out the oldest that waits, or notes that one that is parked is dropped: then a part of its kind is returned,
    /// with a count of 1 and its bytes, or of 0 when there was none.
    pub fn drop_oldest(&mut self) -> Segment {
        for index in 0..self.segments.len() {
            match self.segments.get_mut(index) {
                Some(Segment::Parked(parked)) if parked.count > 0 => {
                    let bytes = parked.take_one(parked.bytes / parked.count);
                    parked.dropped += 1;
                    self.queued -= 1;
                    return Segment::Parked(Parked { count: 1, bytes, ..Parked::default() });
                }
                Some(Segment::Parked(_)) | None => {}
                Some(Segment::Message(_)) => {
                    if let Some(message) = self.segments.remove(index) {
                        self.queued -= 1;
                        return message;
                    }
                }
            }
        }
        Segment::Parked(Parked::default())
    }

    /// The messages in memory.
    pub fn into_messages(self) -> impl Iterator<Item = Queued> {
        self.segments.into_iter().filter_map(|segment| match segment {
            Segment::Message(queued) => Some(queued),
            Segment::Parked(_) => None,
        })
    }

    /// Bytes that the waiting messages are charged with.
    #[cfg(any(test, debug_assertions))]
    pub fn bytes(&self) -> u64 {
        let bytes = self.segments.iter().map(|segment| match segment {
            Segment::Parked(parked) => parked.bytes,
            Segment::Message(queued) => queued.delivery.message.charged_bytes() as u64,
        });
        bytes.sum()
    }

    /// The first sequence number.
    #[cfg(any(test, debug_assertions))]
    pub fn first(&self) -> u64 {
        self.parked().map_or(u64::MAX, |parked| parked.first)
    }
}

/// Messages in the first slice; each has twice as many as the one before.
const SLICE_MESSAGES_MIN: u16 = 64;
/// Messages in a slice.
const SLICE_MESSAGES_MAX: u16 = 1024;
/// So many that are dropped are read, to be forgotten.
const DROPPED_MAX: u64 = 64;
