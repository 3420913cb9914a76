//! The timing wheel of a shard.
//!
//! Owns: what is due when, to a tenth of a second.
//! Always: 16 bytes a timer, one push to set it, never cancelled: whoever receives a timer that has lost its meaning
//! drops it, or sets it again when it came too early. Clients that come and go all the time set no more timers than they
//! take places: a place with a timer that is due earlier gets no second one. A timer never fires early; it fires at most
//! a tick late.
//! Never: reads a clock, allocates per tick, or keeps the memory of a burst.
//!
//! Four levels of 256 slots: level 0 holds the next 25.6 seconds a tick a slot, level 1 the next 1.8 hours, level 2 the
//! next 19 days, level 3 the next 13 years. What lies farther is held at the far end and moved on from there.

use crate::time::Moment;

/// What is due. The meaning of the numbers depends on the kind; `generation` tells reused places apart.
#[allow(missing_docs, reason = "slot and session are the places that the variants speak of")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// CONNECT of the connection in this slot.
    ConnectDeadline { slot: u32, generation: u32 },
    /// A packet of whatever connection is in this slot then.
    KeepAlive { slot: u32 },
    /// The end of whatever session is in this place then.
    SessionExpiry { session: u32 },
    /// The publication of the Will of whatever session is in this place then.
    WillDelay { session: u32 },
    /// A slice of the search for expired retained messages.
    RetainedSweep,
    /// A step of the search for connections that have fallen silent.
    Silence,
    /// The next `$SYS` publications.
    SysInterval,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    tick: u32,
    index: u32,
    generation: u32,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    ConnectDeadline,
    KeepAlive,
    SessionExpiry,
    WillDelay,
    RetainedSweep,
    Silence,
    SysInterval,
}

/// The timers of one shard.
#[derive(Debug)]
pub struct TimerWheel {
    /// Tick 0.
    origin: Moment,
    /// Every tick before this one has fired.
    tick: u32,
    levels: [Level; LEVELS],
    len: usize,
    /// For each kind that names a place: the earliest tick at which a timer of that place is due.
    pending: [Pending; 3],
}

/// The earliest tick at which a timer is due, by place; `u32::MAX` for none. Four bytes a place that ever had one.
#[derive(Debug, Default)]
struct Pending(Vec<Box<[u32; PENDING_CHUNK]>>);

#[derive(Debug)]
struct Level {
    slots: Vec<Vec<Entry>>,
    occupied: [u64; SLOTS / 64],
}

impl TimerWheel {
    /// A wheel that starts at `now`.
    #[must_use]
    pub fn new(now: Moment) -> Self {
        let level = || Level { slots: (0..SLOTS).map(|_| Vec::new()).collect(), occupied: [0; SLOTS / 64] };
        Self { origin: now, tick: 0, levels: [level(), level(), level(), level()], len: 0, pending: Default::default() }
    }

    /// How many timers are set.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer is set.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets `timer` for `due`. A timer that names a place is left out when one of that place is due earlier: whoever
    /// receives that one sets it again.
    pub fn set(&mut self, due: Moment, timer: Timer) {
        // Rounded up: a timer never fires early.
        let micros = due.micros().saturating_sub(self.origin.micros());
        let tick = u32::try_from(micros.div_ceil(TICK_MICROS)).unwrap_or(u32::MAX);
        let (kind, index, generation) = match timer {
            Timer::ConnectDeadline { slot, generation } => (Kind::ConnectDeadline, slot, generation),
            Timer::KeepAlive { slot } => (Kind::KeepAlive, slot, 0),
            Timer::SessionExpiry { session } => (Kind::SessionExpiry, session, 0),
            Timer::WillDelay { session } => (Kind::WillDelay, session, 0),
            Timer::RetainedSweep => (Kind::RetainedSweep, 0, 0),
            Timer::Silence => (Kind::Silence, 0, 0),
            Timer::SysInterval => (Kind::SysInterval, 0, 0),
        };
        let tick = tick.max(self.tick);
        if let Some(pending) = kind.pending() {
            let earliest = self.pending[pending].at_mut(index);
            if *earliest <= tick && *earliest != u32::MAX {
                return;
            }
            *earliest = tick;
        }
        self.len += 1;
        self.place(Entry { tick, index, generation, kind });
    }

    /// Moves the timers that are due at `now` into `due`, about `max` of them, the earliest ticks first. Returns
    /// whether more are due.
    pub fn poll_due(&mut self, now: Moment, max: usize, due: &mut Vec<Timer>) -> bool {
        let reached = u32::try_from(now.since(self.origin).as_micros() as u64 / TICK_MICROS).unwrap_or(u32::MAX);
        let mut found = 0;
        while self.tick <= reached {
            if found >= max {
                return true;
            }
            let slot = (self.tick as usize) % SLOTS;
            if slot == 0 {
                self.cascade();
            }
            let entries = self.levels[0].take(slot);
            found += entries.len();
            self.len -= entries.len();
            for entry in &entries {
                if let Some(pending) = entry.kind.pending() {
                    let earliest = self.pending[pending].at_mut(entry.index);
                    if *earliest == entry.tick {
                        *earliest = u32::MAX;
                    }
                }
                due.push(entry.timer());
            }
            if self.tick == u32::MAX {
                break;
            }
            self.tick += 1;
            self.skip_empty(reached);
        }
        false
    }

    /// A moment at or before the next timer, when any is set: the wheel wants to be polled then.
    #[must_use]
    pub fn next_due(&self) -> Option<Moment> {
        if self.len == 0 {
            return None;
        }
        let tick = self.next_tick()?;
        Some(Moment::from_micros(self.origin.micros() + u64::from(tick) * TICK_MICROS))
    }

    /// The next tick at which a slot fires or is spread over the level below.
    fn next_tick(&self) -> Option<u32> {
        (0..LEVELS)
            .filter_map(|level| {
                let shift = 8 * level as u32;
                // At its own tick a level's slot is spread already, except when the wheel stands right on it.
                let aligned = self.tick & ((1 << shift) - 1) == 0;
                let position = self.tick >> shift;
                let from = if level == 0 || aligned { position } else { position + 1 };
                let distance = self.levels[level].distance_from(from as usize % SLOTS)?;
                Some((u64::from(from) + distance as u64) << shift)
            })
            .min()
            .map(|tick| u32::try_from(tick).unwrap_or(u32::MAX))
    }

    /// Jumps over ticks at which nothing happens, but not beyond `reached` + 1.
    fn skip_empty(&mut self, reached: u32) {
        let next = self.next_tick().unwrap_or(u32::MAX).max(self.tick);
        self.tick = next.min(reached.saturating_add(1));
    }

    /// The wheel stands at a multiple of 256: spreads the slots that begin here over the levels below, the highest first.
    fn cascade(&mut self) {
        for level in (1..LEVELS).rev() {
            let shift = 8 * level as u32;
            if self.tick & ((1 << shift) - 1) == 0 {
                let slot = (self.tick >> shift) as usize % SLOTS;
                for entry in self.levels[level].take(slot) {
                    self.place(entry);
                }
            }
        }
    }

    fn place(&mut self, entry: Entry) {
        let distance = entry.tick.saturating_sub(self.tick);
        let level = match distance {
            0..0x100 => 0,
            0x100..0x1_0000 => 1,
            0x1_0000..0x100_0000 => 2,
            _ => 3,
        };
        let slot = (entry.tick >> (8 * level)) as usize % SLOTS;
        // A slot of a higher level that begins right here is spread now or never.
        self.levels[level].put(slot, entry);
    }
}

impl Kind {
    /// Which list says what is pending, for a kind that names a place.
    fn pending(self) -> Option<usize> {
        match self {
            Kind::KeepAlive => Some(0),
            Kind::SessionExpiry => Some(1),
            Kind::WillDelay => Some(2),
            Kind::ConnectDeadline | Kind::RetainedSweep | Kind::Silence | Kind::SysInterval => None,
        }
    }
}

impl Pending {
    fn at_mut(&mut self, place: u32) -> &mut u32 {
        let (chunk, offset) = (place as usize / PENDING_CHUNK, place as usize % PENDING_CHUNK);
        // In chunks: growing moves nothing.
        while self.0.len() <= chunk {
            self.0.push(Box::new([u32::MAX; PENDING_CHUNK]));
        }
        &mut self.0[chunk][offset]
    }
}

impl Level {
    fn put(&mut self, slot: usize, entry: Entry) {
        self.slots[slot].push(entry);
        self.occupied[slot / 64] |= 1 << (slot % 64);
    }

    fn take(&mut self, slot: usize) -> Vec<Entry> {
        self.occupied[slot / 64] &= !(1 << (slot % 64));
        std::mem::take(&mut self.slots[slot])
    }

    /// Slots from `from` to the first occupied one, going round.
    fn distance_from(&self, from: usize) -> Option<usize> {
        (0..SLOTS).step_by(64).chain([SLOTS]).find_map(|step| {
            let word_index = ((from + step) / 64) % (SLOTS / 64);
            let mut word = self.occupied[word_index];
            if step == 0 {
                word &= u64::MAX << (from % 64);
            } else if step == SLOTS {
                word &= (1u64 << (from % 64)).wrapping_sub(1);
            }
            if word == 0 {
                return None;
            }
            let slot = word_index * 64 + word.trailing_zeros() as usize;
            Some((slot + SLOTS - from) % SLOTS)
        })
    }
}

impl Entry {
    fn timer(&self) -> Timer {
        let Entry { index, generation, .. } = *self;
        match self.kind {
            Kind::ConnectDeadline => Timer::ConnectDeadline { slot: index, generation },
            Kind::KeepAlive => Timer::KeepAlive { slot: index },
            Kind::SessionExpiry => Timer::SessionExpiry { session: index },
            Kind::WillDelay => Timer::WillDelay { session: index },
            Kind::RetainedSweep => Timer::RetainedSweep,
            Kind::Silence => Timer::Silence,
            Kind::SysInterval => Timer::SysInterval,
        }
    }
}

const LEVELS: usize = 4;
const SLOTS: usize = 256;
/// A tenth of a second.
const TICK_MICROS: u64 = 100_000;
/// 4 KiB a chunk.
const PENDING_CHUNK: usize = 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn timer(slot: u32) -> Timer {
        Timer::KeepAlive { slot }
    }

    #[test]
    fn a_timer_takes_sixteen_bytes() {
        assert_eq!(size_of::<Entry>(), 16);
    }

    #[test]
    fn a_far_timer_fires_after_all_levels() {
        let start = Moment::from_micros(1_000_000_000);
        let mut wheel = TimerWheel::new(start);
        for (slot, seconds) in [1, 30, 7_000, 2_000_000, 40_000_000].into_iter().enumerate() {
            wheel.set(start.after(Duration::from_secs(seconds)), timer(slot as u32));
        }
        let mut due = Vec::new();
        for (slot, seconds) in [1, 30, 7_000, 2_000_000, 40_000_000].into_iter().enumerate() {
            wheel.poll_due(start.after(Duration::from_millis(seconds * 1000 - 1)), 100, &mut due);
            assert!(due.is_empty(), "{seconds}");
            wheel.poll_due(start.after(Duration::from_secs(seconds)), 100, &mut due);
            assert_eq!(due, [timer(slot as u32)]);
            due.clear();
        }
        assert!(wheel.is_empty());
    }

    #[test]
    fn a_wheel_that_stands_where_a_slot_begins_wants_to_be_polled_for_it() {
        let start = Moment::from_micros(0);
        let mut wheel = TimerWheel::new(start);
        let due = Moment::from_micros(TICK_MICROS * 300);
        wheel.set(due, timer(1));
        wheel.poll_due(Moment::from_micros(TICK_MICROS * 255), 100, &mut Vec::new());
        assert!(wheel.next_due().is_some_and(|next| next <= due), "{:?}", wheel.next_due());
        let mut fired = Vec::new();
        wheel.poll_due(due, 100, &mut fired);
        assert_eq!(fired, [timer(1)]);
    }

    #[test]
    fn a_place_with_an_earlier_timer_gets_no_second_one() {
        let start = Moment::from_micros(0);
        let mut wheel = TimerWheel::new(start);
        for second in 0..1000 {
            let now = start.after(Duration::from_secs(second));
            wheel.set(now.after(Duration::from_secs(86_400)), timer(7));
        }
        assert_eq!(wheel.len, 1);
        wheel.set(start.after(Duration::from_secs(2_000)), timer(7));
        assert_eq!(wheel.len, 2, "one that is due earlier is needed");
        let mut due = Vec::new();
        wheel.poll_due(start.after(Duration::from_secs(3_000)), 100, &mut due);
        assert_eq!(due, [timer(7)]);
        wheel.set(start.after(Duration::from_secs(86_500)), timer(7));
        while wheel.poll_due(start.after(Duration::from_secs(90_000)), 100, &mut due) {}
        assert!(wheel.is_empty());
        assert_eq!(due, [timer(7); 3]);
    }

    proptest! {
        #[test]
        fn every_timer_fires_once_in_its_tick(
            sets in prop::collection::vec((0u64..100_000, 0u64..400_000_000_000), 1..200),
            follow_next_due: bool,
        ) {
            let start = Moment::from_micros(7);
            let mut wheel = TimerWheel::new(start);
            let mut now = start;
            let mut pending: Vec<(u64, u32)> = Vec::new();
            let mut due = Vec::new();
            let fire = |wheel: &mut TimerWheel, now: Moment, pending: &mut Vec<(u64, u32)>, due: &mut Vec<Timer>| {
                due.clear();
                while wheel.poll_due(now, 5, due) {}
                for fired in due.iter() {
                    let Timer::KeepAlive { slot } = *fired else { panic!() };
                    let at = pending.iter().position(|entry| entry.1 == slot).expect("fires once");
                    let (deadline, _) = pending.remove(at);
                    assert!(deadline <= now.micros(), "never early");
                }
                for &(deadline, _) in pending.iter() {
                    assert!(deadline + TICK_MICROS > now.micros(), "at most a tick late");
                }
            };
            for (index, (step, ahead)) in sets.into_iter().enumerate() {
                now = now.after(Duration::from_micros(step * 1000));
                fire(&mut wheel, now, &mut pending, &mut due);
                let deadline = now.micros() + ahead;
                wheel.set(Moment::from_micros(deadline), timer(index as u32));
                pending.push((deadline, index as u32));
            }
            let mut rounds = 0;
            while !wheel.is_empty() {
                let next = wheel.next_due().expect("something is set");
                now = if follow_next_due { next.max(now) } else { now.after(Duration::from_secs(50_000)) };
                fire(&mut wheel, now, &mut pending, &mut due);
                rounds += 1;
                prop_assert!(rounds < 100_000);
            }
            prop_assert!(pending.is_empty());
        }
    }
}
