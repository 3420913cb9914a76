//! Receiving: arming, pausing, and coming back from a pool without buffers.

use super::{
    ARMED, CANCELLING, CloseCause, ConnectionId, Errno, INPUT_ENDED, Kernel, NEWCOMER, OperationKind, Phase, SENDING,
    STARVED, Tag, WANT_MULTISHOT, WANT_ONCE, WireHandler, Wires,
};
use crate::{
    plant::{Bug, planted},
    runtime::{
        kernel::{ReceiveMode, Reception},
        wires::Close,
    },
};

impl<K: Kernel> Wires<K> {
    pub(super) fn want(&mut self, id: ConnectionId, mode: u8) {
        let Some(slot) = self.slots.find(id) else { return };
        if slot.phase != Phase::Open {
            return;
        }
        slot.flags |= mode;
        self.arm(id);
    }

    /// Arms what is wanted, unless a recv is armed (its last completion comes back here) or no buffer is to be had.
    pub(super) fn arm(&mut self, id: ConnectionId) {
        let Some(slot) = self.slots.find(id) else { return };
        let receives = matches!(slot.phase, Phase::Open | Phase::Discarding);
        if !receives || slot.flags & (ARMED | STARVED) != 0 {
            return;
        }
        let mode = if slot.has(WANT_MULTISHOT) && !slot.has(NEWCOMER) {
            ReceiveMode::Multishot
        } else if slot.flags & (WANT_ONCE | WANT_MULTISHOT) != 0 {
            ReceiveMode::Once
        } else {
            return;
        };
        slot.flags |= ARMED;
        self.kernel.receive(id.tag(OperationKind::Receive), slot.socket, mode);
    }

    /// Wants no recv any more, and asks the armed one to end.
    pub(super) fn cancel_receive(&mut self, id: ConnectionId) {
        let Some(slot) = self.slots.find(id) else { return };
        if slot.phase != Phase::Open {
            return;
        }
        slot.flags &= !(WANT_ONCE | WANT_MULTISHOT);
        if slot.has(ARMED) && !slot.has(CANCELLING) {
            slot.flags |= CANCELLING;
            self.kernel.cancel_receive(id.tag(OperationKind::Receive));
        }
    }

    pub(super) fn on_reception(&mut self, handler: &mut impl WireHandler, tag: Tag, reception: Reception, more: bool) {
        let id = ConnectionId::from(tag);
        self.note_reception(id, more);
        match reception {
            Reception::Bytes { buffer, length } => {
                let phase = self.begin_input(id, length, more);
                if phase == Some(Phase::Open) {
                    handler.on_received(id, self.kernel.buffer(buffer, length));
                }
                self.kernel.give_back(buffer);
                self.end_input(id, length, phase);
            }
            Reception::EndOfStream => self.on_end_of_stream(handler, id),
            Reception::Failed(errno) => self.on_receive_failed(handler, id, errno, more),
        }
    }

    /// The same for bytes that have waited for their turn.
    pub(super) fn on_late_input(&mut self, handler: &mut impl WireHandler, tag: Tag, bytes: &mut [u8]) {
        let id = ConnectionId::from(tag);
        self.note_reception(id, false);
        let phase = self.begin_input(id, bytes.len(), false);
        if phase == Some(Phase::Open) {
            handler.on_received(id, bytes);
        }
        self.end_input(id, bytes.len(), phase);
    }

    fn note_reception(&mut self, id: ConnectionId, more: bool) {
        match self.slots.find(id) {
            Some(slot) if !more => slot.flags &= !(ARMED | CANCELLING),
            Some(_) => {}
            None => self.counters.stale += 1,
        }
    }

    fn begin_input(&mut self, id: ConnectionId, length: usize, more: bool) -> Option<Phase> {
        self.counters.received_bytes += length as u64;
        let slot = self.slots.find(id)?;
        // A recv that ends with these bytes and was armed for one reception has done what was wanted.
        if !more {
            slot.flags &= !WANT_ONCE;
        }
        if slot.has(WANT_MULTISHOT) {
            slot.flags &= !NEWCOMER;
        }
        Some(slot.phase)
    }

    fn end_input(&mut self, id: ConnectionId, length: usize, phase: Option<Phase>) {
        match phase {
            Some(Phase::Open) => self.arm(id),
            Some(_) => self.on_discarded(id, length),
            None => {}
        }
    }

    fn on_end_of_stream(&mut self, handler: &mut impl WireHandler, id: ConnectionId) {
        let Some(slot) = self.slots.find(id) else { return };
        if slot.phase == Phase::Open && !handler.is_over_without_input(id) {
            // The end is still there for the recv that is armed once what came before it is handled.
            slot.flags &= !(WANT_ONCE | WANT_MULTISHOT);
            return;
        }
        slot.flags |= INPUT_ENDED;
        match slot.phase {
            Phase::Open => {
                // The peer may have closed one direction only: what it is owed still goes out.
                let is_sending = slot.has(SENDING);
                handler.on_closed(id, CloseCause::EndOfStream, None);
                if is_sending {
                    self.flush_and_end(id);
                } else {
                    self.finish(id, Close::Linger);
                }
            }
            Phase::Discarding => self.finish(id, Close::Linger),
            Phase::Flushing => {}
            Phase::Finishing | Phase::Vacant => self.finish_if_quiet(id),
        }
    }

    fn on_receive_failed(&mut self, handler: &mut impl WireHandler, id: ConnectionId, errno: Errno, more: bool) {
        if more {
            return;
        }
        match errno.0 {
            libc::ENOBUFS => self.on_starved(id),
            // EINTR and EAGAIN are tried again. A cancelled recv is armed again when it was resumed meanwhile.
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => {
                self.arm(id);
                self.finish_if_quiet(id);
            }
            _ => match self.slots.find(id).map(|slot| slot.phase) {
                Some(Phase::Open) if !handler.is_over_without_input(id) => {
                    if let Some(slot) = self.slots.find(id) {
                        slot.flags &= !(WANT_ONCE | WANT_MULTISHOT);
                    }
                }
                Some(Phase::Open) => {
                    handler.on_closed(id, CloseCause::Failed(errno), None);
                    self.finish(id, Close::Linger);
                }
                Some(Phase::Flushing | Phase::Discarding) => self.finish(id, Close::Reset),
                _ => self.finish_if_quiet(id),
            },
        }
    }

    /// No buffer was left: the connection waits for its turn, behind those that met this before.
    fn on_starved(&mut self, id: ConnectionId) {
        self.counters.starved += 1;
        if planted(Bug::EnobufsForgotten) {
            return;
        }
        let Some(slot) = self.slots.find(id) else { return };
        if !slot.has(STARVED) {
            slot.flags |= STARVED;
            self.starved.push_back(id);
        }
        self.finish_if_quiet(id);
    }

    /// Arms as many starved connections as there are buffers, in order of waiting. All buffers are back by now: each is
    /// given back before its completion's handling ends.
    pub(super) fn rearm_starved(&mut self) {
        for _ in 0..self.starved.len().min(self.kernel.buffer_count()) {
            let Some(id) = self.starved.pop_front() else { break };
            if let Some(slot) = self.slots.find(id) {
                slot.flags &= !STARVED;
                self.arm(id);
            }
        }
    }
}
