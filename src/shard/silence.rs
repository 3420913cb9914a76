//! What a connection needs only while its client speaks: it is let go of once the client has been silent for a while.
//!
//! Owns: who has spoken, and the rounds that look whether they are silent by now. Always: whatever input leaves behind is looked
//! at by a round that begins after it; when nobody has spoken whom no round has found silent, there is no further one, and a
//! shard of silent clients sleeps. Never: looks at who has not spoken, at more than [`STEP`] connections at a time, or takes
//! anything that is still needed.

use std::time::Duration;

use super::{Shard, timers::Timer};
use crate::time::Moment;

/// How far the search for silent connections has come.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// A timer is set for the next step.
    is_set: bool,
    spoken: Spoken,
    /// Where the round goes on.
    slot: u32,
    /// Connections that something was let go of since memory was last given back.
    freed: u32,
    /// A round is over after which memory is to be given back.
    gives_back: bool,
}

/// Slots whose clients have spoken: a bit each.
#[derive(Debug, Default)]
struct Spoken {
    words: Vec<u64>,
    count: usize,
}

impl Silence {
    /// When the next round begins, if there is anyone to look at.
    fn next_round(&self) -> Option<Duration> {
        (self.spoken.count > 0).then_some(SILENT_AFTER)
    }
}

impl Spoken {
    #[inline]
    fn mark(&mut self, slot: u32) {
        let word = slot as usize / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let bit = 1 << (slot % 64);
        self.count += usize::from(self.words[word] & bit == 0);
        self.words[word] |= bit;
    }

    fn unmark(&mut self, slot: u32) {
        if let Some(word) = self.words.get_mut(slot as usize / 64) {
            let bit = 1 << (slot % 64);
            self.count -= usize::from(*word & bit != 0);
            *word &= !bit;
        }
    }

    /// The first that is marked, from `slot` on.
    fn next(&self, slot: u32) -> Option<u32> {
        let first = slot as usize / 64;
        let behind = self.words.get(first..)?.iter().enumerate().map(|(index, word)| {
            let is_before = if index == 0 { (1 << (slot % 64)) - 1 } else { 0 };
            (first + index, word & !is_before)
        });
        let (word, bits) = behind.into_iter().find(|(_, bits)| *bits != 0)?;
        Some(word as u32 * 64 + bits.trailing_zeros())
    }
}

impl Shard {
    /// The client in `slot` said something that may leave memory behind.
    #[inline]
    pub(super) fn note_speaking(&mut self, slot: u32, now: Moment) {
        self.silence.spoken.mark(slot);
        if !self.silence.is_set {
            self.silence.is_set = true;
            self.timers.set(now.after(SILENT_AFTER), Timer::Silence);
        }
    }

    /// One step of a round.
    pub(super) fn on_silence(&mut self, now: Moment) {
        if std::mem::take(&mut self.silence.gives_back) {
            self.effects.gives_back_memory = true;
            self.silence.freed = 0;
            return self.set_silence(self.silence.next_round(), now);
        }
        let mut next = self.silence.spoken.next(self.silence.slot);
        for _ in 0..STEP {
            let Some(slot) = next else { break };
            self.look_whether_silent(slot, now);
            next = self.silence.spoken.next(slot + 1);
        }
        self.silence.slot = next.unwrap_or_default();
        self.silence.gives_back = next.is_none() && self.silence.freed >= GIVEN_BACK_MIN;
        let pauses = next.is_some() || self.silence.gives_back;
        self.set_silence(if pauses { Some(PAUSE) } else { self.silence.next_round() }, now);
    }

    fn look_whether_silent(&mut self, slot: u32, now: Moment) {
        if let Some(connection) = self.clients.connections.at_mut(slot) {
            if connection.last_seen.after(SILENT_AFTER) > now {
                return;
            }
            let inbound = connection.inbound.take_if(|inbound| inbound.is_idle());
            // What it waits for may come without another word of its client.
            let waits = connection.inbound.as_ref().is_some_and(|inbound| inbound.waits());
            let session = connection.session;
            self.silence.freed += u32::from(self.free_idle_session(session) || inbound.is_some());
            if waits {
                return;
            }
        }
        self.silence.spoken.unmark(slot);
    }

    fn set_silence(&mut self, wait: Option<Duration>, now: Moment) {
        self.silence.is_set = wait.is_some();
        if let Some(wait) = wait {
            self.timers.set(now.after(wait), Timer::Silence);
        }
    }

    /// Lets go of what a silent session does not need. Returns whether there was anything.
    fn free_idle_session(&mut self, session: u32) -> bool {
        let Some(session) = self.clients.sessions.at_mut(session) else { return false };
        let had_outbox = session.outbox.is_some();
        session.drop_empty_outbox();
        let received = session.received.take_if(|received| received.is_empty());
        (had_outbox && session.outbox.is_none()) || received.is_some()
    }
}

/// Who has said nothing for so long is silent. Less, and those who speak every second or so would pay for it.
const SILENT_AFTER: Duration = Duration::from_secs(2);
/// Connections that a step looks at: less than a millisecond's work.
const STEP: u32 = 4096;
/// Between two steps, and before memory is given back.
const PAUSE: Duration = Duration::from_millis(100);
/// What fewer connections leave behind, about a kilobyte each, is kept for those who speak next.
const GIVEN_BACK_MIN: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_have_spoken_are_found_and_no_others() {
        let mut spoken = Spoken::default();
        assert_eq!(spoken.next(0), None);
        let slots = [0, 63, 64, 130, 1000];
        slots.iter().for_each(|&slot| spoken.mark(slot));
        spoken.mark(130);
        let found = |spoken: &Spoken| {
            let all = std::iter::successors(spoken.next(0), |&slot| spoken.next(slot + 1));
            all.collect::<Vec<_>>()
        };
        assert_eq!((found(&spoken), spoken.count), (slots.to_vec(), 5));
        assert_eq!((spoken.next(65), spoken.next(1001), spoken.next(5000)), (Some(130), None, None));
        for slot in [63, 63, 500, 9999, 1000] {
            spoken.unmark(slot);
        }
        assert_eq!((found(&spoken), spoken.count), (vec![0, 64, 130], 3));
    }
}
