//! Closing: the last bytes go out, the peer is given time to read them, and the descriptor is closed last of all.
//!
//! close(2) with unread input resets the connection and takes the last DISCONNECT with it; close(2) with an armed recv
//! sends no FIN at all. So: flush, shut down our side, discard input until the peer ends, then close.

use super::{
    ARMED, CANCELLING, Close, ConnectionId, INPUT_ENDED, Kernel, Moment, OperationKind, Phase, SENDING, WANT_MULTISHOT,
    WANT_ONCE, Wires,
};
use crate::plant::{Bug, planted};

/// A connection that lingers, and how long it may.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lingerer {
    id: ConnectionId,
    /// Set at the start of the next turn: a turn may have slept since its own moment was read.
    until: Option<Moment>,
}

impl<K: Kernel> Wires<K> {
    /// Ends a connection. The handler hears no more of it; its slot is freed when its operations are over.
    pub fn close(&mut self, id: ConnectionId, how: Close) {
        let Some(slot) = self.slots.find(id) else { return };
        if slot.phase != Phase::Open {
            return;
        }
        match how {
            Close::Reset => self.finish(id, Close::Reset),
            Close::Linger if planted(Bug::CloseWithoutLinger) => {
                slot.queued = None;
                self.finish(id, Close::Linger);
            }
            Close::Linger => self.flush_and_end(id),
        }
    }

    /// Lets what was handed over go out, then ends our side.
    pub(super) fn flush_and_end(&mut self, id: ConnectionId) {
        let Some(slot) = self.slots.find(id) else { return };
        slot.phase = Phase::Flushing;
        slot.flags &= !(WANT_ONCE | WANT_MULTISHOT);
        let is_sending = slot.has(SENDING);
        self.lingering_live += 1;
        self.lingering.push_back(Lingerer { id, until: None });
        if !is_sending {
            self.flushed_in_turn(id);
        }
        self.limit_lingerers();
    }

    /// Ends our side once nothing is left to send.
    pub(super) fn flushed(&mut self, id: ConnectionId) {
        let Some(slot) = self.slots.find(id) else { return };
        if slot.phase != Phase::Flushing || slot.has(SENDING) {
            return;
        }
        if slot.has(INPUT_ENDED) {
            return self.finish(id, Close::Linger);
        }
        slot.phase = Phase::Discarding;
        slot.discarded_bytes = 0;
        slot.flags |= WANT_MULTISHOT;
        self.kernel.shutdown_write(slot.socket);
        self.arm(id);
    }

    /// Input came after the end: it is counted and forgotten.
    pub(super) fn on_discarded(&mut self, id: ConnectionId, length: usize) {
        let limit = self.parameters.linger_bytes_max;
        let Some(slot) = self.slots.find(id) else { return };
        slot.discarded_bytes = slot.discarded_bytes.saturating_add(u32::try_from(length).unwrap_or(u32::MAX));
        match slot.phase {
            Phase::Discarding if slot.discarded_bytes > limit => self.finish(id, Close::Reset),
            // The last bytes are still on their way: what more the peer sends stays in its socket meanwhile.
            Phase::Flushing if slot.discarded_bytes > limit && slot.has(ARMED) && !slot.has(CANCELLING) => {
                slot.flags |= CANCELLING;
                self.kernel.cancel_receive(id.tag(OperationKind::Receive));
            }
            Phase::Discarding => self.arm(id),
            Phase::Finishing => self.finish_if_quiet(id),
            _ => {}
        }
    }

    /// Waits for the last completions only; hurries them.
    pub(super) fn finish(&mut self, id: ConnectionId, how: Close) {
        let Some(slot) = self.slots.find(id) else { return };
        if matches!(slot.phase, Phase::Flushing | Phase::Discarding) {
            self.lingering_live -= 1;
        }
        slot.phase = Phase::Finishing;
        slot.flags &= !(WANT_ONCE | WANT_MULTISHOT);
        slot.queued = None;
        if how == Close::Reset {
            self.counters.resets += 1;
            self.kernel.reset_on_close(slot.socket);
        }
        if planted(Bug::SlotFreedEarly) {
            return self.free(id);
        }
        // A descriptor that is closed while an operation holds the socket sends neither FIN nor reset, so the operations
        // are ended first.
        if !slot.has_operations() {
            self.free(id);
        } else if how == Close::Reset && !slot.has(SENDING) {
            // Shutting down would send a FIN ahead of the reset, and the peer would take it for an end in order.
            if !slot.has(CANCELLING) {
                slot.flags |= CANCELLING;
                self.kernel.cancel_receive(id.tag(OperationKind::Receive));
            }
        } else {
            self.kernel.shutdown_both(slot.socket);
        }
    }

    /// Frees a finishing connection whose last completion is in.
    pub(super) fn finish_if_quiet(&mut self, id: ConnectionId) {
        if self
            .slots
            .find(id)
            .is_some_and(|slot| slot.phase == Phase::Finishing && !slot.has(ARMED) && !slot.has(SENDING))
        {
            self.free(id);
        }
    }

    fn free(&mut self, id: ConnectionId) {
        let Some(slot) = self.slots.find(id) else { return };
        let socket = slot.socket;
        self.slots.remove(id.slot);
        self.kernel.close(socket);
        self.counters.closed += 1;
    }

    fn is_lingering(&mut self, id: ConnectionId) -> bool {
        self.slots.find(id).is_some_and(|slot| matches!(slot.phase, Phase::Flushing | Phase::Discarding))
    }

    /// Resets those whose time is up, and gives the new ones their deadline. Returns whether any was reset.
    pub(super) fn expire_lingerers(&mut self, now: Moment) -> bool {
        let mut has_reset = false;
        let until = now.after(self.parameters.linger);
        for lingerer in self.lingering.iter_mut().rev().take_while(|lingerer| lingerer.until.is_none()) {
            lingerer.until = Some(until);
        }
        while let Some(first) = self.lingering.front().copied() {
            let is_over = first.until.is_some_and(|until| until <= now);
            let lingers = self.is_lingering(first.id);
            if lingers && !is_over {
                break;
            }
            self.lingering.pop_front();
            if lingers {
                self.finish(first.id, Close::Reset);
                has_reset = true;
            }
        }
        has_reset
    }

    /// Resets the oldest lingerers beyond the limit. Entries of connections that ended by themselves are swept out
    /// when the list is twice as long as it may be.
    fn limit_lingerers(&mut self) {
        let limit = self.parameters.lingering_max;
        while self.lingering_live > limit {
            let Some(oldest) = self.lingering.pop_front() else { break };
            if self.is_lingering(oldest.id) {
                self.finish(oldest.id, Close::Reset);
            }
        }
        if self.lingering.len() > limit.saturating_mul(2) {
            let mut kept = std::mem::take(&mut self.lingering);
            kept.retain(|lingerer| self.is_lingering(lingerer.id));
            self.lingering = kept;
        }
    }

    pub(super) fn lingerer_deadline(&self) -> Option<Moment> {
        self.lingering.front().and_then(|lingerer| lingerer.until)
    }
}
