//! Crowds: thousands of connections that begin or end at once don't keep those waiting that stay.
//!
//! Owns: the beginnings and ends that wait for their turn, in order: accepts, input of newcomers, ends of streams, failures,
//! and the shutting down of our side. Always: what waits here is not in yet, so for everyone else its operation is still in
//! flight and its slot can't be freed; it is handled in the order in which it came,
//! [`WiresParameters::crowd_per_turn_max`](super::WiresParameters) a turn, behind all else that came with the turn.
//! Never: holds a receive buffer (input is copied out of it), nor the room of a crowd that is gone.
//!
//! A connection is a newcomer until the second time that something of it is handled: CONNECT, and what it says then. Until
//! then each recv ends with the first bytes, so that nothing of it overtakes what waits here.
//!
//! The kernel brings completions in the order in which they happened, some twenty with an enter. A PINGREQ behind 15,000
//! closed connections would wait for all of them. So a crowd is collected as a whole, which costs little, and handled in
//! portions, which is what costs: each takes several system calls.

use std::collections::VecDeque;

use super::{Completion, ConnectionId, Errno, Kernel, NEWCOMER, Phase, Socket, Tag, WireHandler, Wires};
use crate::runtime::kernel::Reception;

/// What waits for its turn.
#[derive(Debug)]
enum Waiting {
    /// A socket that this listener accepted.
    Accepted(u16, Socket),
    Completion(Completion),
    /// What a newcomer sent.
    Input {
        tag: Tag,
        bytes: Box<[u8]>,
    },
    /// All was sent: our side is to be shut down.
    Flushed(ConnectionId),
}

/// Beginnings and ends of connections.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    /// At most two of each socket (it was accepted, it has ended, all is sent), and input within [`INPUT_BYTES_MAX`].
    waiting: VecDeque<Waiting>,
    input_bytes: usize,
    /// How many may still be handled in this turn.
    left: usize,
    /// How many came in this turn.
    came: usize,
    /// Completions of this turn that held a receive buffer.
    inputs: usize,
}

impl Crowd {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether more of a crowd is to be expected: an enter that waits would bring a few of it only.
    pub(super) fn is_coming(&self) -> bool {
        self.came >= CROWD_MIN
    }

    /// Bytes of input that wait.
    #[cfg(test)]
    pub(super) fn input_bytes(&self) -> usize {
        self.input_bytes
    }

    /// Sockets that were accepted and that nobody has heard of yet.
    pub(super) fn sockets(&self) -> impl Iterator<Item = Socket> {
        self.waiting.iter().filter_map(|waiting| match waiting {
            Waiting::Accepted(_, socket) => Some(*socket),
            _ => None,
        })
    }

    /// Whether the next one may be handled at once: nothing waits before it, and the turn is not full.
    fn admits(&mut self) -> bool {
        self.came += 1;
        let admits = self.waiting.is_empty() && self.left > 0;
        self.left -= usize::from(admits);
        admits
    }

    fn pop(&mut self) -> Option<Waiting> {
        let first = self.waiting.pop_front();
        if let Some(Waiting::Input { bytes, .. }) = &first {
            self.input_bytes -= bytes.len() + INPUT_EXTRA_BYTES;
        }
        if self.waiting.is_empty() && self.waiting.capacity() > WAITING_KEPT_MAX {
            self.waiting = VecDeque::new();
        }
        first
    }
}

impl<K: Kernel> Wires<K> {
    /// A turn begins, with room for so many beginnings and ends.
    pub(super) fn open_crowd(&mut self) {
        (self.crowd.left, self.crowd.came, self.crowd.inputs) = (self.parameters.crowd_per_turn_max, 0, 0);
    }

    /// Lets a beginning or an end wait for its turn; gives back what is to be handled now.
    pub(super) fn postpone(&mut self, handler: &mut impl WireHandler, completion: Completion) -> Option<Completion> {
        let input = match completion {
            Completion::Received { tag, reception: Reception::Bytes { buffer, length }, .. } => {
                self.crowd.inputs += 1;
                Some((tag, buffer, length))
            }
            _ => None,
        };
        if !self.begins_or_ends(&completion) || self.crowd.admits() {
            return Some(completion);
        }
        let waiting = match input {
            Some((tag, buffer, length)) => {
                let charge = length + INPUT_EXTRA_BYTES;
                while self.crowd.input_bytes + charge > INPUT_BYTES_MAX && self.handle_longest_waiting(handler) {}
                let bytes = Box::from(&*self.kernel.buffer(buffer, length));
                self.kernel.give_back(buffer);
                self.crowd.input_bytes += charge;
                Waiting::Input { tag, bytes }
            }
            None => Waiting::Completion(completion),
        };
        self.crowd.waiting.push_back(waiting);
        None
    }

    fn begins_or_ends(&mut self, completion: &Completion) -> bool {
        let passes = |errno: Errno| matches!(errno.0, libc::EINTR | libc::EAGAIN | libc::ENOBUFS);
        match *completion {
            Completion::Received { tag, reception, more } => match reception {
                Reception::Bytes { .. } => !more && self.is_newcomer(tag),
                Reception::EndOfStream => true,
                Reception::Failed(Errno(libc::ECANCELED)) => {
                    self.slots.find(tag.into()).is_some_and(|slot| slot.phase != Phase::Open)
                }
                Reception::Failed(errno) => !passes(errno),
            },
            Completion::Sent { result, .. } => result.is_err_and(|errno| !passes(errno)),
            // What an accept says of its listener can't wait: the next may fail before descriptors are closed.
            Completion::Accepted { .. } | Completion::Woken => false,
        }
    }

    fn is_newcomer(&mut self, tag: Tag) -> bool {
        self.slots.find(tag.into()).is_some_and(|slot| slot.phase == Phase::Open && slot.has(NEWCOMER))
    }

    /// Handles those that have waited longest, as far as the turn has room. Returns how many.
    pub(super) fn handle_crowd(&mut self, handler: &mut impl WireHandler) -> usize {
        let mut handled = 0;
        while self.crowd.left > 0 && self.handle_longest_waiting(handler) {
            handled += 1;
        }
        handled
    }

    /// Returns whether there was one.
    fn handle_longest_waiting(&mut self, handler: &mut impl WireHandler) -> bool {
        let Some(waiting) = self.crowd.pop() else { return false };
        self.crowd.left = self.crowd.left.saturating_sub(1);
        match waiting {
            Waiting::Accepted(listener, socket) => self.welcome(handler, listener, socket),
            Waiting::Completion(completion) => self.handle(handler, completion),
            Waiting::Input { tag, mut bytes } => self.on_late_input(handler, tag, &mut bytes),
            Waiting::Flushed(id) => self.flushed(id),
        }
        true
    }

    /// A socket was accepted: welcomes it, in its turn.
    pub(super) fn welcome_in_turn(&mut self, handler: &mut impl WireHandler, listener: u16, socket: Socket) {
        if self.crowd.admits() {
            self.welcome(handler, listener, socket);
        } else {
            self.crowd.waiting.push_back(Waiting::Accepted(listener, socket));
        }
    }

    /// All was sent: ends our side, in its turn.
    pub(super) fn flushed_in_turn(&mut self, id: ConnectionId) {
        if self.crowd.admits() {
            self.flushed(id);
        } else {
            self.crowd.waiting.push_back(Waiting::Flushed(id));
        }
    }

    /// Tells the kernel how much the next enter is to bring, after a turn that brought `completions`: while a crowd comes,
    /// all of it, unless input comes along, which holds a buffer each.
    pub(super) fn look_deeper(&mut self, completions: usize) {
        let depth = if self.crowd.is_empty() && !self.crowd.is_coming() {
            0
        } else if self.crowd.inputs * 4 <= completions {
            DEPTH_MAX
        } else {
            DEPTH_WITH_INPUT_MAX.min(self.kernel.buffer_count() as u32 / 2)
        };
        self.kernel.collect(depth);
    }
}

/// So many beginnings and ends in a turn are a crowd.
const CROWD_MIN: usize = 16;
/// Completions that an enter collects while other input comes along.
const DEPTH_WITH_INPUT_MAX: u32 = 256;
/// Completions that an enter collects of a crowd: some milliseconds of the kernel's work.
const DEPTH_MAX: u32 = 4096;
/// Input that waits; with more, those that have waited longest are handled, whatever room the turn has.
pub(super) const INPUT_BYTES_MAX: usize = 4 << 20;
/// What each piece of it is charged beyond its bytes: its place here, and what the allocator adds.
pub(super) const INPUT_EXTRA_BYTES: usize = 64;
/// Places that are kept for the next crowd.
const WAITING_KEPT_MAX: usize = 1024;
