//! Which PacketIdentifiers a client may hold that the store knows nothing of.
//!
//! Where a listener promises less than `sync`, a message of QoS 2 is sent before the store has it for good. When the machine
//! ends, the message may be gone while its client holds the PacketIdentifier, and would take whatever comes under that for a
//! repetition. So places of the queue are reserved in the store before messages of QoS 2 are sent at them, many at a time.
//!
//! Owns: how far the places of one session's queue are reserved, and those that were when the machine ended: their
//! PacketIdentifiers are *held* until the client has answered a PUBREL for them.
//! Always: a message of QoS 2 that the store may lose is sent at a reserved place. A held place is not used again. Every held
//! PacketIdentifier is released once on each connection, until it is answered for.
//! Never: more than [`STEP_MAX`] places in reserve, so the span of a client's identifiers has room for what is held. A client
//! that ends its connections over a PUBREL that it did not expect is not asked for ever: after [`ATTEMPTS_MAX`] of them, with
//! no answer, what it may hold is forgotten.

use super::outbox::{SPAN_MAX, identifier_of};
use crate::mqtt::PacketIdentifier;

/// What the store keeps of a reserve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReserveRecord {
    /// No place before this one is used again.
    pub floor: u64,
    /// Messages of QoS 2 may have been sent at places before this one.
    pub below: u64,
    /// Ranges of places that are held: the first, and the first one behind them. In order, with something between them.
    pub held: Vec<(u64, u64)>,
}

/// The reserve of one session. See the module's header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reserve {
    floor: u64,
    /// The store has it that places before this one may be used.
    below: u64,
    /// It was asked to have more, with this batch.
    asked: Option<(u64, u64)>,
    /// Places that are asked for at once.
    step: u64,
    /// More were wanted while the store had not taken note of those.
    is_late: bool,
    /// The batch that the next message to send waits for.
    awaited: u64,
    held: Vec<(u64, u64)>,
    /// PUBREL was sent on this connection for places before this one.
    released_below: u64,
    /// Connections on which it was sent since the last answer.
    attempts: u8,
}

impl Reserve {
    /// What the store had when the broker started.
    #[must_use]
    pub fn of(record: ReserveRecord) -> Self {
        let ReserveRecord { floor, below, held } = record;
        Self { floor, below, held, ..Self::default() }
    }

    /// What the store is to have.
    #[must_use]
    pub fn record(&self) -> ReserveRecord {
        let below = self.asked.map_or(self.below, |(below, _)| below);
        ReserveRecord { floor: self.floor, below, held: self.held.clone() }
    }

    /// Messages of QoS 2 may be sent at places before this one. `synced`: the last batch that outlives the machine.
    pub fn below(&mut self, synced: u64) -> u64 {
        if let Some((below, _)) = self.asked.take_if(|(_, batch)| *batch <= synced) {
            self.below = below;
        }
        self.below
    }

    /// A message of QoS 2 gets the place `sequence`. Returns whether the store is to be told of more places, with `batch`.
    pub fn is_to_grow(&mut self, sequence: u64, batch: u64) -> bool {
        let below = self.asked.map_or(self.below, |(below, _)| below);
        if sequence + self.step / 2 < below {
            return false;
        }
        if self.asked.is_some() {
            self.is_late = true;
            return false;
        }
        let grown = if std::mem::take(&mut self.is_late) { self.step * 2 } else { self.step };
        self.step = grown.clamp(STEP_MIN, STEP_MAX);
        self.forget_before(sequence);
        self.asked = Some((sequence + self.step, batch));
        true
    }

    /// The message at the place `sequence`, which was asked for with `batch`, waits until the store has synced it or a place for
    /// it. Returns the batch to wait for, unless one is waited for already.
    pub fn await_for(&mut self, sequence: u64, batch: u64, synced: u64) -> Option<u64> {
        let place = self.asked.filter(|(below, _)| sequence < *below).map_or(batch, |(_, place)| place.min(batch));
        let is_new = self.awaited <= synced;
        self.awaited = if is_new { place } else { self.awaited };
        is_new.then_some(place)
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn holds_nothing(&self) -> bool {
        self.held.is_empty()
    }

    /// The client has come back, and its next message gets the place `sequence`: what is held is released anew. Returns whether
    /// the store is to be told that less is held.
    pub fn begin_resume(&mut self, sequence: u64) -> bool {
        let held = self.held.len();
        self.forget_before(sequence);
        if self.attempts >= ATTEMPTS_MAX {
            self.held.clear();
        }
        self.released_below = 0;
        self.attempts = self.attempts.saturating_add(1);
        self.held.len() != held
    }

    /// The next PacketIdentifier that is to be released on this connection.
    pub fn next_release(&mut self) -> Option<PacketIdentifier> {
        let behind = self.held.iter().find(|(_, below)| *below > self.released_below)?;
        let place = behind.0.max(self.released_below);
        self.released_below = place + 1;
        Some(identifier_of(place))
    }

    /// PUBCOMP came for something that is not in flight. Returns whether it was the last one that was held.
    pub fn complete(&mut self, identifier: PacketIdentifier) -> bool {
        let value = u64::from(identifier.value());
        let place_in = |&(from, below): &(u64, u64)| {
            let place = from + (value + SPAN_MAX - u64::from(identifier_of(from).value())) % SPAN_MAX;
            (place < below).then_some(place)
        };
        let found = self.held.iter().enumerate().find_map(|(at, range)| Some((at, place_in(range)?)));
        let Some((at, place)) = found else { return false };
        self.attempts = 0;
        let (from, below) = self.held.remove(at);
        let left = [(from, place), (place + 1, below)];
        self.held.splice(at..at, left.into_iter().filter(|(from, below)| from < below));
        self.held.is_empty()
    }

    /// Forgets what is held as identifiers that have come around until `sequence`.
    fn forget_before(&mut self, sequence: u64) {
        let oldest = (sequence + 1).saturating_sub(SPAN_MAX);
        self.held.retain(|(from, _)| *from >= oldest);
    }
}

impl ReserveRecord {
    /// The machine has ended and the store lacks what came last: `next` is the first place that it knows nothing of. What was
    /// reserved from there on is held. Returns where places go on.
    pub fn doubt(&mut self, next: u64) -> u64 {
        if self.below <= next {
            return next;
        }
        match self.held.last_mut().filter(|(_, below)| *below == next) {
            Some((_, below)) => *below = self.below,
            None => self.held.push((next, self.below)),
        }
        self.floor = self.below;
        self.below
    }
}

/// Places that are asked for at first: what a client with a small window may hold, and little to ask it for.
const STEP_MIN: u64 = 64;
/// Places that are asked for at most.
pub const STEP_MAX: u64 = 16_384;
/// Connections on which the same is released, when nothing is answered.
pub const ATTEMPTS_MAX: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn identifiers(reserve: &mut Reserve) -> Vec<u16> {
        std::iter::from_fn(|| reserve.next_release()).map(PacketIdentifier::value).collect()
    }

    #[test]
    fn places_are_free_once_the_store_has_them_for_good() {
        let mut reserve = Reserve::default();
        assert!(reserve.is_to_grow(10, 3));
        assert_eq!((reserve.record().below, reserve.below(2)), (10 + STEP_MIN, 0));
        assert_eq!(reserve.below(3), 10 + STEP_MIN);
        assert!(!reserve.is_to_grow(11, 4) && !reserve.is_to_grow(41, 5), "half of it is left");
        assert!(reserve.is_to_grow(42, 6));
        assert_eq!((reserve.below(5), reserve.below(6)), (10 + STEP_MIN, 42 + STEP_MIN));
    }

    #[test]
    fn a_client_that_is_faster_than_the_store_gets_more_at_once() {
        let mut reserve = Reserve::default();
        let (mut sequence, mut step) = (0, STEP_MIN);
        for batch in 1..20 {
            assert!(reserve.is_to_grow(sequence, batch));
            assert_eq!(reserve.record().below, sequence + step);
            sequence += step;
            assert!(!reserve.is_to_grow(sequence, batch), "one is asked for after the other");
            assert_eq!(reserve.below(batch), sequence);
            step = (step * 2).min(STEP_MAX);
        }
        assert_eq!(step, STEP_MAX);
    }

    #[test]
    fn what_may_be_held_is_released_on_each_connection_until_it_is_answered_for() {
        let mut record = ReserveRecord { below: 5, ..ReserveRecord::default() };
        assert_eq!(record.doubt(7), 7);
        assert_eq!(record, ReserveRecord { below: 5, ..ReserveRecord::default() }, "the store knows more than that");
        record.below = 4;
        assert_eq!(record.doubt(1), 4);
        assert_eq!(record, ReserveRecord { floor: 4, below: 4, held: vec![(1, 4)] });
        record.below = 6;
        assert_eq!(record.doubt(4), 6);
        record.below = 9;
        assert_eq!(record.doubt(7), 9);
        assert_eq!(record.held, [(1, 6), (7, 9)]);
        let mut reserve = Reserve::of(record);
        assert!(!reserve.begin_resume(9));
        assert_eq!(identifiers(&mut reserve), [2, 3, 4, 5, 6, 8, 9]);
        let complete = |reserve: &mut Reserve, value| reserve.complete(PacketIdentifier::new(value).unwrap());
        assert!(!complete(&mut reserve, 7) && !complete(&mut reserve, 4) && !complete(&mut reserve, 4));
        assert!(!complete(&mut reserve, 9));
        assert_eq!(reserve.record().held, [(1, 3), (4, 6), (7, 8)]);
        assert!(!reserve.begin_resume(9));
        assert_eq!(identifiers(&mut reserve), [2, 3, 5, 6, 8]);
        for value in [8, 2, 6, 3] {
            assert!(!complete(&mut reserve, value));
        }
        assert!(complete(&mut reserve, 5) && reserve.holds_nothing());
    }

    #[test]
    fn a_client_that_never_answers_is_asked_on_few_connections() {
        let mut reserve = Reserve::of(ReserveRecord { floor: 9, below: 9, held: vec![(7, 9)] });
        for _ in 0..ATTEMPTS_MAX {
            assert!(!reserve.begin_resume(9));
            assert_eq!(identifiers(&mut reserve), [8, 9]);
        }
        assert!(reserve.begin_resume(9) && reserve.holds_nothing());
        assert!(identifiers(&mut reserve).is_empty());
    }

    #[test]
    fn what_is_held_is_forgotten_when_its_identifiers_come_around() {
        let held = vec![(7, 9), (20, 30)];
        let mut reserve = Reserve::of(ReserveRecord { floor: 30, below: 30, held: held.clone() });
        assert!(!reserve.begin_resume(SPAN_MAX + 6));
        assert_eq!(reserve.record().held, held);
        assert!(reserve.begin_resume(SPAN_MAX + 7));
        assert_eq!(reserve.record().held, held[1..]);
        assert!(reserve.is_to_grow(SPAN_MAX + 20, 1) && reserve.holds_nothing());
    }
}
