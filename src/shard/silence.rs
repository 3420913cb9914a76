//! What a connection needs only while its client speaks: it is let go of once the client has been silent for a while.
//!
//! Owns: the rounds that look for such connections. Always: whatever input leaves behind is looked at by a round that begins
//! after it; when nobody has spoken since the last round began, there is no further one, and a shard of silent clients
//! sleeps. Never: looks at more than [`STEP`] connections at a time, or takes anything that is still needed.

use std::time::Duration;

use super::{Shard, timers::Timer};
use crate::time::Moment;

/// How far the search for silent connections has come.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// A timer is set for the next step.
    is_set: bool,
    /// Somebody has spoken since the round began, or too shortly before.
    has_spoken: bool,
    /// Where the round goes on.
    slot: u32,
    /// Connections that something was let go of since memory was last given back.
    freed: u32,
    /// A round is over after which memory is to be given back.
    gives_back: bool,
}

impl Shard {
    /// Somebody said something that may leave memory behind.
    #[inline]
    pub(super) fn note_speaking(&mut self, now: Moment) {
        self.silence.has_spoken = true;
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
            return self.set_silence(self.silence.has_spoken.then_some(SILENT_AFTER), now);
        }
        let first = self.silence.slot;
        if first == 0 {
            self.silence.has_spoken = false;
        }
        let places = self.clients.connections.places();
        let end = first.saturating_add(STEP).min(places);
        for slot in first..end {
            let Some(connection) = self.clients.connections.at_mut(slot) else { continue };
            if connection.last_seen.after(SILENT_AFTER) > now {
                self.silence.has_spoken = true;
                continue;
            }
            let inbound = connection.inbound.take_if(|inbound| inbound.is_idle());
            let session = connection.session;
            self.silence.freed += u32::from(self.free_idle_session(session) || inbound.is_some());
        }
        let is_over = end == places;
        self.silence.slot = if is_over { 0 } else { end };
        self.silence.gives_back = is_over && self.silence.freed >= GIVEN_BACK_MIN;
        let pauses = !is_over || self.silence.gives_back;
        let wait = if pauses { Some(PAUSE) } else { self.silence.has_spoken.then_some(SILENT_AFTER) };
        self.set_silence(wait, now);
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
