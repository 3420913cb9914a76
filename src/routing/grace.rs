//! The grace period: when has every shard got past a moment.
//!
//! Owns the process-wide turn counters. Always holds: when [`Grace::has_passed`] says so, each other shard that probed an
//! interest table and missed a bit, although that bit was set before the question came, has laid what it then sent into
//! the mesh rings, and the caller's next drain sees it. Must never do: wait, or let one shard write another's counter.
//!
//! # The race
//! Shard P probes the interest table just before A sets its bit there. A's question for the retained message reaches the
//! topic's home B before P's retained message does. If B answered at once, A would get the old value and never the new
//! one. So B notes where every shard's turn counter stands ([`Grace::begin`]), waits until each has moved, drains its
//! rings, and answers then.
//!
//! # Why it is right
//! P stores its counter, passes a SeqCst fence, then probes. A sets the bit, then asks; B passes a SeqCst fence, then reads
//! the counters. If P's probe misses the bit, P's fence came before B's, so B reads the counter that P stored before that
//! probe, or a later one. B then waits for the next store, which P does only once what the probe led to lies in the
//! rings. Without P's fence the processor may let the probe's load overtake the store of the counter: B reads an old
//! counter, takes the store that was under way for the end of the turn, and answers too early.
//!
//! # The counter
//! ```text
//!   running, even ──publish_turn: +2──► running        parked, odd: in no turn, nothing under way
//!   running, even ──park: +1──► parked, odd ──unpark: +1──► running, even
//! ```
//! It never takes a value twice: a shard that was seen running and has another value since has ended that turn, or has
//! been parked since, however often it has woken up again.

use smallvec::SmallVec;

use crate::sync::atomic::{AtomicU64, Ordering, fence};

/// Every shard's turn counter, each alone in its cache lines.
#[derive(Debug)]
pub struct TurnClocks {
    clocks: Box<[Clock]>,
}

#[derive(Debug)]
#[repr(align(128))]
struct Clock(AtomicU64);

/// A wait for all other shards to end the turn that they were in.
#[derive(Clone, Debug, Default)]
pub struct Grace {
    /// The shards that were running and are not known to have moved, with what their counters stood at.
    waiting: SmallVec<[(u16, u64); 8]>,
}

impl TurnClocks {
    /// The counters of `shards` shards, all parked: a shard calls [`unpark`](Self::unpark) before its first turn.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        Self { clocks: (0..shards).map(|_| Clock(AtomicU64::new(PARKED))).collect() }
    }

    /// Ends a turn of `shard` and begins the next. Only that shard's thread calls it, once all that the turn sent lies in
    /// the mesh rings; while some of it waits in an overflow behind a full ring, the turn has not ended.
    #[inline]
    pub fn publish_turn(&self, shard: usize) {
        self.advance(shard, 2);
        fence(Ordering::SeqCst);
    }

    /// Says that `shard` probes and sends nothing until [`unpark`](Self::unpark). All that it sent lies in the mesh rings.
    /// Also the last word of a shard that ends. Does nothing when parked already.
    #[inline]
    pub fn park(&self, shard: usize) {
        if !self.is_parked(shard) {
            self.advance(shard, 1);
        }
    }

    /// Begins a turn after [`park`](Self::park), before any probe. Does nothing when running already.
    #[inline]
    pub fn unpark(&self, shard: usize) {
        if self.is_parked(shard) {
            self.advance(shard, 1);
        }
        fence(Ordering::SeqCst);
    }

    /// Whether `shard` was parked when last heard of.
    #[must_use]
    pub fn is_parked(&self, shard: usize) -> bool {
        self.clocks[shard].0.load(Ordering::Relaxed) & PARKED != 0
    }

    /// The number of shards.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.clocks.len()
    }

    /// One thread alone writes a counter, so load and store do. Release: who sees the new value sees what was sent.
    #[inline]
    fn advance(&self, shard: usize, step: u64) {
        let clock = &self.clocks[shard].0;
        clock.store(clock.load(Ordering::Relaxed).wrapping_add(step), Ordering::Release);
    }
}

impl Grace {
    /// Begins a wait of shard `me`, after it has taken the question (or all questions of a turn) from its rings.
    #[must_use]
    pub fn begin(clocks: &TurnClocks, me: usize) -> Self {
        fence(Ordering::SeqCst);
        let waiting = (0..clocks.shards())
            .filter(|shard| *shard != me)
            // Acquire also here: who is past already, or parked, is not looked at again.
            .map(|shard| (shard as u16, clocks.clocks[shard].0.load(Ordering::Acquire)))
            .filter(|(_, turn)| turn & PARKED == 0)
            .collect();
        Self { waiting }
    }

    /// Whether every other shard has ended the turn that it was in at the beginning, or has been parked since. When it
    /// is true the caller drains its rings once more, then answers. Stays true.
    #[must_use]
    pub fn has_passed(&mut self, clocks: &TurnClocks) -> bool {
        self.waiting.retain(|(shard, turn)| clocks.clocks[usize::from(*shard)].0.load(Ordering::Acquire) == *turn);
        self.waiting.is_empty()
    }
}

const PARKED: u64 = 1;
