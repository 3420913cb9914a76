//! A kernel in memory: what the simulation and the unit tests run [`Wires`](super::wires::Wires) on.
//!
//! Owns: a network of listeners and connections that several kernels (one per shard) share, and the operations of each.
//! What always holds: everything that happens is drawn from one seed; descriptors are given out lowest first, so that
//! they are reused at once; an operation holds the connection that its descriptor named when it was *submitted*, as in
//! Linux; a connection ends for its peer only when its descriptor is closed *and* no operation holds it. It must never be
//! kinder than Linux: a close with unread input resets, and what the peer had not read by then is lost.

mod network;

use std::net::SocketAddr;

pub use self::network::{FakeClient, FakeNetwork, PeerView};
use self::network::{ReadOutcome, WriteOutcome};
use super::kernel::{
    BufferIndex, Completion, EnterWait, Errno, Kernel, OperationKind, ReceiveMode, Reception, Socket, Tag,
};
use crate::transport::OutBuffer;

/// What goes wrong in a [`FakeKernel`], in percent of the chances that it has.
#[derive(Clone, Copy, Debug)]
pub struct FakeFaults {
    /// An operation that could proceed waits for a later enter.
    pub delay: u8,
    /// A send goes out in part.
    pub partial_send: u8,
    /// A recv takes a few bytes of what is there.
    pub short_receive: u8,
    /// A multishot recv or accept ends although nothing is wrong.
    pub multishot_ends: u8,
    /// An operation is interrupted (EINTR).
    pub interrupted: u8,
}

impl FakeFaults {
    /// Nothing goes wrong, nothing is late.
    pub const NONE: FakeFaults =
        FakeFaults { delay: 0, partial_send: 0, short_receive: 0, multishot_ends: 0, interrupted: 0 };

    /// Everything goes wrong now and then.
    pub const SOME: FakeFaults =
        FakeFaults { delay: 30, partial_send: 20, short_receive: 20, multishot_ends: 10, interrupted: 5 };
}

/// One shard's kernel in memory.
#[derive(Debug)]
pub struct FakeKernel {
    network: FakeNetwork,
    faults: FakeFaults,
    submissions: Vec<Submission>,
    operations: Vec<Operation>,
    completions: std::collections::VecDeque<Completion>,
    buffers: Vec<Vec<u8>>,
    free_buffers: Vec<u16>,
    buffer_bytes: usize,
    enters: u64,
}

/// What was asked for and not yet submitted: it names descriptors.
#[derive(Debug)]
enum Submission {
    Accept { index: u16, listener: Socket },
    Receive { tag: Tag, socket: Socket, mode: ReceiveMode },
    Send { tag: Tag, socket: Socket, buffer: Box<OutBuffer>, skip_bytes: usize },
    CancelReceive { tag: Tag },
    CancelAccept { index: u16 },
}

/// What was submitted: it holds connections.
#[derive(Debug)]
enum Operation {
    Accept { index: u16, listener: Socket, is_cancelled: bool },
    Receive { tag: Tag, connection: usize, mode: ReceiveMode, is_cancelled: bool },
    Send { tag: Tag, connection: usize, buffer: Box<OutBuffer>, skip_bytes: usize, done: usize },
}

impl FakeKernel {
    /// A kernel on `network` with a pool of `buffers` receive buffers of `buffer_bytes` each.
    #[must_use]
    pub fn new(network: FakeNetwork, faults: FakeFaults, buffers: u16, buffer_bytes: usize) -> Self {
        FakeKernel {
            network,
            faults,
            submissions: Vec::new(),
            operations: Vec::new(),
            completions: std::collections::VecDeque::new(),
            buffers: (0..buffers).map(|_| Vec::new()).collect(),
            free_buffers: (0..buffers).collect(),
            buffer_bytes: buffer_bytes.max(1),
            enters: 0,
        }
    }

    /// Changes what goes wrong from now on.
    pub fn set_faults(&mut self, faults: FakeFaults) {
        self.faults = faults;
    }

    /// Whether an enter would bring something, now or after some delays. When no kernel can progress and no shard has
    /// anything to do, only time or a client changes anything.
    #[must_use]
    pub fn can_progress(&self) -> bool {
        let has_ready = self.operations.iter().any(|operation| self.is_ready(operation));
        !self.submissions.is_empty() || !self.completions.is_empty() || has_ready
    }

    fn is_ready(&self, operation: &Operation) -> bool {
        match operation {
            Operation::Accept { listener, is_cancelled, .. } => *is_cancelled || self.network.has_waiting(*listener),
            Operation::Receive { connection, is_cancelled, .. } => {
                *is_cancelled || self.network.is_readable(*connection)
            }
            Operation::Send { connection, .. } => self.network.is_writable(*connection),
        }
    }

    /// Operations that are submitted and not complete.
    #[must_use]
    pub fn operations_in_flight(&self) -> usize {
        self.operations.len()
    }

    /// Receive buffers that are in the pool.
    #[must_use]
    pub fn free_buffers(&self) -> usize {
        self.free_buffers.len()
    }

    /// Lets operations proceed and collects their completions, as a kernel does whether or not anybody waits in it.
    pub fn work(&mut self) {
        let mut operations = std::mem::take(&mut self.operations);
        self.network.shuffle(&mut operations);
        for operation in operations {
            let mut going_on = self.proceed(operation);
            while let Some(operation) = going_on {
                // A multishot operation may bring all that there is at once.
                if !self.is_ready(&operation) || self.network.chance(50) {
                    self.operations.push(operation);
                    break;
                }
                going_on = self.proceed(operation);
            }
        }
    }

    /// Submits what was asked for and completes nothing: what an enter does before it waits.
    pub fn submit_all(&mut self) {
        for submission in std::mem::take(&mut self.submissions) {
            let is_cancel = matches!(submission, Submission::CancelReceive { .. });
            if is_cancel && self.network.chance(self.faults.delay) {
                // It comes too late for what lands meanwhile.
                self.submissions.push(submission);
            } else {
                self.submit(submission);
            }
        }
    }

    fn submit(&mut self, submission: Submission) {
        match submission {
            Submission::Accept { index, listener } => {
                self.operations.push(Operation::Accept { index, listener, is_cancelled: false });
            }
            Submission::Receive { tag, socket, mode } => match self.network.hold(socket) {
                Some(connection) => {
                    self.operations.push(Operation::Receive { tag, connection, mode, is_cancelled: false });
                }
                None => self.complete_receive(tag, Reception::Failed(Errno(libc::EBADF)), false),
            },
            Submission::Send { tag, socket, buffer, skip_bytes } => match self.network.hold(socket) {
                Some(connection) => {
                    self.operations.push(Operation::Send { tag, connection, buffer, skip_bytes, done: 0 });
                }
                None => {
                    let result = Err(Errno(libc::EBADF));
                    self.completions.push_back(Completion::Sent { tag, result, buffer });
                }
            },
            Submission::CancelReceive { tag: wanted } => {
                for operation in &mut self.operations {
                    if let Operation::Receive { tag, is_cancelled, .. } = operation {
                        *is_cancelled |= *tag == wanted;
                    }
                }
            }
            Submission::CancelAccept { index: wanted } => {
                for operation in &mut self.operations {
                    if let Operation::Accept { index, is_cancelled, .. } = operation {
                        *is_cancelled |= *index == wanted;
                    }
                }
            }
        }
    }

    /// Lets an operation proceed once. Returns it while it is not over.
    fn proceed(&mut self, operation: Operation) -> Option<Operation> {
        if self.network.chance(self.faults.delay) {
            return Some(operation);
        }
        match operation {
            Operation::Accept { index, listener, is_cancelled } => self.proceed_accept(index, listener, is_cancelled),
            Operation::Receive { tag, connection, mode, is_cancelled } => {
                self.proceed_receive(tag, connection, mode, is_cancelled)
            }
            Operation::Send { tag, connection, buffer, skip_bytes, done } => {
                self.proceed_send(tag, connection, buffer, skip_bytes, done)
            }
        }
    }

    fn proceed_accept(&mut self, index: u16, listener: Socket, is_cancelled: bool) -> Option<Operation> {
        let result = if is_cancelled {
            Err(Errno(libc::ECANCELED))
        } else {
            match self.network.accept(listener) {
                Err(Errno(libc::EAGAIN)) => return Some(Operation::Accept { index, listener, is_cancelled }),
                result => result,
            }
        };
        let more = result.is_ok() && !self.network.chance(self.faults.multishot_ends);
        self.completions.push_back(Completion::Accepted { listener: index, result, more });
        more.then_some(Operation::Accept { index, listener, is_cancelled })
    }

    fn proceed_receive(
        &mut self,
        tag: Tag,
        connection: usize,
        mode: ReceiveMode,
        is_cancelled: bool,
    ) -> Option<Operation> {
        let is_short = self.network.chance(self.faults.short_receive);
        let (reception, more) = if is_cancelled {
            (Reception::Failed(Errno(libc::ECANCELED)), false)
        } else if self.network.chance(self.faults.interrupted) {
            (Reception::Failed(Errno(libc::EINTR)), false)
        } else if self.free_buffers.is_empty() {
            (Reception::Failed(Errno(libc::ENOBUFS)), false)
        } else {
            let length_max = if is_short { self.network.draw(8) + 1 } else { self.buffer_bytes };
            match self.network.read_server(connection, length_max.min(self.buffer_bytes)) {
                ReadOutcome::Nothing => return Some(Operation::Receive { tag, connection, mode, is_cancelled }),
                ReadOutcome::EndOfStream => (Reception::EndOfStream, false),
                ReadOutcome::Reset => (Reception::Failed(Errno(libc::ECONNRESET)), false),
                ReadOutcome::Bytes(bytes) => {
                    let buffer = self.free_buffers.pop()?;
                    let length = bytes.len();
                    self.buffers[usize::from(buffer)] = bytes;
                    let more = mode == ReceiveMode::Multishot && !self.network.chance(self.faults.multishot_ends);
                    (Reception::Bytes { buffer: BufferIndex(buffer), length }, more)
                }
            }
        };
        self.complete_receive(tag, reception, more);
        if more {
            return Some(Operation::Receive { tag, connection, mode, is_cancelled });
        }
        self.network.let_go(connection);
        None
    }

    fn complete_receive(&mut self, tag: Tag, reception: Reception, more: bool) {
        self.completions.push_back(Completion::Received { tag, reception, more });
    }

    fn proceed_send(
        &mut self,
        tag: Tag,
        connection: usize,
        buffer: Box<OutBuffer>,
        skip_bytes: usize,
        done: usize,
    ) -> Option<Operation> {
        let rest: Vec<u8> = buffer.slices(skip_bytes + done).flatten().copied().collect();
        let is_partial = self.network.chance(self.faults.partial_send);
        let result = if self.network.chance(self.faults.interrupted) && done == 0 {
            Err(Errno(libc::EINTR))
        } else {
            let length = if is_partial { self.network.draw(rest.len()) + 1 } else { rest.len() };
            match self.network.write_server(connection, &rest[..length.min(rest.len())]) {
                WriteOutcome::Full => {
                    return Some(Operation::Send { tag, connection, buffer, skip_bytes, done });
                }
                WriteOutcome::Broken if done > 0 => Ok(done),
                WriteOutcome::Broken => Err(Errno(libc::EPIPE)),
                WriteOutcome::Took(taken) if taken < rest.len() && !is_partial => {
                    return Some(Operation::Send { tag, connection, buffer, skip_bytes, done: done + taken });
                }
                WriteOutcome::Took(taken) => Ok(done + taken),
            }
        };
        self.completions.push_back(Completion::Sent { tag, result, buffer });
        self.network.let_go(connection);
        None
    }
}

impl Kernel for FakeKernel {
    fn accept(&mut self, index: u16, listener: Socket) {
        self.submissions.push(Submission::Accept { index, listener });
    }

    fn receive(&mut self, tag: Tag, socket: Socket, mode: ReceiveMode) {
        debug_assert_eq!(tag.kind, OperationKind::Receive);
        self.submissions.push(Submission::Receive { tag, socket, mode });
    }

    fn send(&mut self, tag: Tag, socket: Socket, buffer: Box<OutBuffer>, skip_bytes: usize) {
        debug_assert_eq!(tag.kind, OperationKind::Send);
        self.submissions.push(Submission::Send { tag, socket, buffer, skip_bytes });
    }

    fn cancel_receive(&mut self, tag: Tag) {
        self.submissions.push(Submission::CancelReceive { tag });
    }

    fn cancel_accept(&mut self, index: u16) {
        self.submissions.push(Submission::CancelAccept { index });
    }

    fn accept_now(&mut self, listener: Socket) -> Result<Socket, Errno> {
        self.network.accept(listener)
    }

    fn shutdown_write(&mut self, socket: Socket) {
        self.network.shutdown(socket, false);
    }

    fn shutdown_both(&mut self, socket: Socket) {
        self.network.shutdown(socket, true);
    }

    fn reset_on_close(&mut self, socket: Socket) {
        self.network.reset_on_close(socket);
    }

    fn close(&mut self, socket: Socket) {
        self.network.close_server(socket);
    }

    fn peer(&mut self, socket: Socket) -> Option<SocketAddr> {
        self.network.peer(socket)
    }

    fn enter(&mut self, _wait: EnterWait) {
        self.enters += 1;
        self.submit_all();
        self.work();
    }

    /// It collects what there is anyway.
    fn collect(&mut self, _completions: u32) {}

    fn next_completion(&mut self) -> Option<Completion> {
        self.completions.pop_front()
    }

    fn buffer(&mut self, buffer: BufferIndex, length: usize) -> &mut [u8] {
        &mut self.buffers[usize::from(buffer.0)][..length]
    }

    fn give_back(&mut self, buffer: BufferIndex) {
        assert!(!self.free_buffers.contains(&buffer.0), "a buffer was given back twice");
        self.free_buffers.push(buffer.0);
    }

    fn buffer_count(&self) -> usize {
        self.buffers.len()
    }

    fn enters(&self) -> u64 {
        self.enters
    }
}
