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

use crate::{
    plant::{Bug, planted},
    sync::atomic::{AtomicU64, Ordering, fence},
};

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
        self.waiting.is_empty() || planted(Bug::RetainedNoGrace)
    }
}

const PARKED: u64 = 1;

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    fn running(shards: usize) -> TurnClocks {
        let clocks = TurnClocks::new(shards);
        (0..shards).for_each(|shard| clocks.unpark(shard));
        clocks
    }

    #[test]
    fn each_other_running_shard_must_end_its_turn() {
        let clocks = running(3);
        let mut grace = Grace::begin(&clocks, 1);
        assert!(!grace.has_passed(&clocks));
        clocks.publish_turn(0);
        clocks.publish_turn(1);
        assert!(!grace.has_passed(&clocks));
        clocks.publish_turn(2);
        assert!(grace.has_passed(&clocks));
        assert!(grace.has_passed(&clocks));
    }

    #[test]
    fn a_parked_shard_is_not_waited_for_even_if_it_wakes() {
        let clocks = running(2);
        clocks.park(0);
        let mut grace = Grace::begin(&clocks, 1);
        clocks.unpark(0);
        assert!(grace.has_passed(&clocks));
    }

    #[test]
    fn a_shard_that_parked_and_woke_between_two_looks_has_passed() {
        let clocks = running(2);
        let mut grace = Grace::begin(&clocks, 1);
        assert!(!grace.has_passed(&clocks));
        clocks.park(0);
        clocks.unpark(0);
        assert!(grace.has_passed(&clocks));
    }

    #[test]
    fn parking_twice_and_waking_twice_change_nothing() {
        let clocks = running(2);
        clocks.unpark(0);
        let mut grace = Grace::begin(&clocks, 1);
        clocks.unpark(0);
        assert!(!grace.has_passed(&clocks));
        clocks.park(0);
        clocks.park(0);
        assert!(clocks.is_parked(0));
        assert!(grace.has_passed(&clocks));
    }

    #[test]
    fn shards_that_have_not_started_and_a_single_shard_are_not_waited_for() {
        let clocks = TurnClocks::new(3);
        assert!(Grace::begin(&clocks, 0).has_passed(&clocks));
        assert!(Grace::begin(&running(1), 0).has_passed(&running(1)));
    }
}

/// The race of the module's documentation. P's message is retained and has the home B; A subscribes.
#[cfg(all(test, feature = "loom"))]
mod loom_tests {
    use loom::thread;

    use super::*;
    use crate::{
        routing::{
            hash::HashKey,
            interest::{InterestCounts, InterestTable},
        },
        sync::{Arc, atomic::AtomicBool},
    };

    const P: usize = 0;
    const B: usize = 1;
    const A: usize = 2;

    struct World {
        clocks: TurnClocks,
        interest: InterestTable,
        /// The ring from A to B, and that from P to B.
        question: AtomicBool,
        message: AtomicBool,
    }

    /// Runs P's `begin` (before its probe) and `end` (when its message lies in the ring) against A and B.
    fn race(parked: bool, begin: fn(&TurnClocks), end: fn(&TurnClocks), waits: bool) {
        loom::model(move || {
            let key = HashKey::from_seed(42);
            let world = Arc::new(World {
                clocks: TurnClocks::new(3),
                interest: InterestTable::new(2, 3),
                question: AtomicBool::new(false),
                message: AtomicBool::new(false),
            });
            if !parked {
                world.clocks.unpark(P);
            }
            let publisher = thread::spawn({
                let world = world.clone();
                move || {
                    begin(&world.clocks);
                    let wanted = world.interest.probe(key.topic("a/b"), &[]);
                    world.message.store(true, Ordering::Release);
                    end(&world.clocks);
                    wanted & InterestTable::bit(A) != 0
                }
            });
            let subscriber = thread::spawn({
                let world = world.clone();
                move || {
                    InterestCounts::new(&world.interest, A).add(&world.interest, key.filter("a/b"));
                    world.question.store(true, Ordering::Release);
                }
            });
            let mut answer = None;
            if world.question.load(Ordering::Acquire) {
                let mut grace = Grace::begin(&world.clocks, B);
                if !waits || grace.has_passed(&world.clocks) || grace.has_passed(&world.clocks) {
                    answer = Some(world.message.load(Ordering::Acquire));
                }
            }
            let was_live = publisher.join().unwrap();
            subscriber.join().unwrap();
            // Live and retained twice is allowed, missing is not.
            assert!(was_live || answer != Some(false), "the subscriber keeps an old value for ever");
        });
    }

    const NEXT_TURN: fn(&TurnClocks) = |clocks| clocks.publish_turn(P);

    #[test]
    fn no_retained_message_is_missed_between_two_turns() {
        race(false, NEXT_TURN, NEXT_TURN, true);
    }

    #[test]
    fn no_retained_message_is_missed_before_parking() {
        race(false, NEXT_TURN, |clocks| clocks.park(P), true);
    }

    #[test]
    fn no_retained_message_is_missed_after_waking() {
        race(true, |clocks| clocks.unpark(P), |clocks| clocks.park(P), true);
    }

    #[test]
    #[should_panic(expected = "the subscriber keeps an old value for ever")]
    fn without_the_fence_after_a_turn_one_is_missed() {
        race(false, |clocks| clocks.advance(P, 2), NEXT_TURN, true);
    }

    #[test]
    #[should_panic(expected = "the subscriber keeps an old value for ever")]
    fn without_the_fence_after_waking_one_is_missed() {
        race(true, |clocks| clocks.advance(P, 1), |clocks| clocks.park(P), true);
    }

    #[test]
    #[should_panic(expected = "the subscriber keeps an old value for ever")]
    fn without_the_grace_period_one_is_missed() {
        race(false, NEXT_TURN, NEXT_TURN, false);
    }
}
