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
            if connection.inbound.as_ref().is_some_and(|inbound| inbound.is_idle()) {
                connection.inbound = None;
            }
            let session = connection.session;
            self.free_idle_session(session);
        }
        let is_over = end == places;
        self.silence.slot = if is_over { 0 } else { end };
        self.silence.is_set = !is_over || self.silence.has_spoken;
        if self.silence.is_set {
            self.timers.set(now.after(if is_over { SILENT_AFTER } else { PAUSE }), Timer::Silence);
        }
    }

    /// Lets go of what a silent session does not need.
    fn free_idle_session(&mut self, session: u32) {
        if let Some(session) = self.clients.sessions.at_mut(session) {
            session.drop_empty_outbox();
            if session.received.as_ref().is_some_and(|received| received.is_empty()) {
                session.received = None;
            }
        }
    }
}

/// Who has said nothing for so long is silent. Less, and those who speak every second or so would pay for it.
const SILENT_AFTER: Duration = Duration::from_secs(2);
/// Connections that a step looks at: less than a millisecond's work.
const STEP: u32 = 4096;
const PAUSE: Duration = Duration::from_millis(100);
