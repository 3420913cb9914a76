//! Accepting: listeners, running out of descriptors, and closing a listener without resetting its backlog.

use super::{Errno, Kernel, Moment, Socket, UNKNOWN_PEER, WireHandler, Wires};

/// A listening socket of this shard.
#[derive(Debug)]
pub(super) struct Listener {
    socket: Socket,
    state: ListenerState,
}

/// Whether a listener accepts.
///
/// ```text
///   Armed ──EMFILE, ENFILE, ENOBUFS, ENOMEM──► Paused ──later──► Armed
///     │                                          │
///     └─stop─► Stopping ──last completion──► Draining ──EAGAIN──► Closed
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ListenerState {
    /// The accept is armed.
    Armed,
    /// Descriptors or memory ran out; the moment is set at the start of the next turn.
    Paused(Option<Moment>),
    /// The accept is armed and was asked to end.
    Stopping,
    /// No accept is armed; what waits in the backlog is still to be accepted.
    Draining,
    /// It is closed.
    Closed,
}

/// The kernel's own limit of a backlog: more cannot wait when accepting stops.
const BACKLOG_MAX: usize = 65_536;

impl Listener {
    /// Its socket, unless it is closed.
    pub(super) fn open_socket(&self) -> Option<Socket> {
        (self.state != ListenerState::Closed).then_some(self.socket)
    }
}

impl<K: Kernel> Wires<K> {
    /// Takes a listening socket and accepts from it. Returns its number, which counts up from 0: add them in the same
    /// order on every shard.
    ///
    /// # Panics
    ///
    /// With more than 65,536 listeners.
    pub fn add_listener(&mut self, socket: Socket) -> u16 {
        let index = u16::try_from(self.listeners.len()).expect("the configuration limits the number of listeners");
        self.listeners.push(Listener { socket, state: ListenerState::Armed });
        self.kernel.accept(index, socket);
        index
    }

    /// Closes the listeners, once everything that waits in their backlogs is accepted: the kernel would reset it. Takes
    /// some turns; [`Wires::is_accepting`] tells.
    pub fn stop_accepting(&mut self) {
        for (index, listener) in (0_u16..).zip(&mut self.listeners) {
            match listener.state {
                ListenerState::Armed => {
                    listener.state = ListenerState::Stopping;
                    self.kernel.cancel_accept(index);
                }
                ListenerState::Paused(_) => listener.state = ListenerState::Draining,
                ListenerState::Stopping | ListenerState::Draining | ListenerState::Closed => {}
            }
        }
    }

    /// Whether a listener is still open.
    #[must_use]
    pub fn is_accepting(&self) -> bool {
        self.listeners.iter().any(|listener| listener.state != ListenerState::Closed)
    }

    pub(super) fn on_accept_completed(
        &mut self,
        handler: &mut impl WireHandler,
        index: u16,
        result: Result<Socket, Errno>,
        more: bool,
    ) {
        if let Ok(socket) = result {
            self.welcome_in_turn(handler, index, socket);
        }
        let Some(listener) = self.listeners.get_mut(usize::from(index)) else { return };
        if more {
            return;
        }
        match (listener.state, result) {
            (ListenerState::Stopping, _) => listener.state = ListenerState::Draining,
            (ListenerState::Armed, Err(Errno(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))) => {
                listener.state = ListenerState::Paused(None);
                self.counters.accept_pauses += 1;
            }
            // The accept ended without a reason that lasts (an aborted connection, a full completion queue).
            (ListenerState::Armed, _) => self.kernel.accept(index, listener.socket),
            (ListenerState::Paused(_) | ListenerState::Draining | ListenerState::Closed, _) => {}
        }
    }

    pub(super) fn welcome(&mut self, handler: &mut impl WireHandler, listener: u16, socket: Socket) {
        let Some(id) = self.slots.insert(socket, listener) else {
            self.counters.refused += 1;
            self.counters.resets += 1;
            self.counters.closed += 1;
            self.kernel.reset_on_close(socket);
            self.kernel.close(socket);
            return;
        };
        self.counters.accepted += 1;
        let peer = self.kernel.peer(socket).unwrap_or(UNKNOWN_PEER);
        handler.on_accepted(id, listener, peer);
    }

    /// Ends pauses that are over, and empties the backlogs of listeners that stop. Returns whether one was closed,
    /// so that the caller looks again before it waits.
    pub(super) fn accept_rest(&mut self, handler: &mut impl WireHandler, now: Moment) -> bool {
        let mut has_changed = false;
        for number in 0..self.listeners.len() {
            let index = number as u16;
            let Some(listener) = self.listeners.get_mut(number) else { break };
            match listener.state {
                ListenerState::Paused(None) => {
                    listener.state = ListenerState::Paused(Some(now.after(self.parameters.accept_pause)));
                }
                ListenerState::Paused(Some(until)) if until <= now => {
                    listener.state = ListenerState::Armed;
                    self.kernel.accept(index, listener.socket);
                }
                ListenerState::Draining => {
                    listener.state = ListenerState::Closed;
                    let socket = listener.socket;
                    self.drain_backlog(handler, index, socket);
                    self.kernel.close(socket);
                    has_changed = true;
                }
                _ => {}
            }
        }
        has_changed
    }

    fn drain_backlog(&mut self, handler: &mut impl WireHandler, index: u16, listener: Socket) {
        for _ in 0..BACKLOG_MAX {
            match self.kernel.accept_now(listener) {
                Ok(socket) => self.welcome(handler, index, socket),
                Err(Errno(libc::EINTR | libc::ECONNABORTED)) => {}
                Err(_) => break,
            }
        }
    }

    pub(super) fn accept_deadline(&self) -> Option<Moment> {
        let paused = self.listeners.iter().filter_map(|listener| match listener.state {
            ListenerState::Paused(until) => until,
            _ => None,
        });
        paused.min()
    }
}
