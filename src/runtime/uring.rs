//! The real kernel: one io_uring per thread, for one shard or for several ([`seat`]).
//!
//! Owns: the ring, its pool of receive buffers, and the buffers of sends in flight. What always holds: a send's memory
//! stays here and unchanged until its completion is taken; the ring is used by the thread that made it. It must never
//! be waited on by anything but [`Kernel::enter`]: with DEFER_TASKRUN a poll on the ring's own descriptor is not woken.

#![allow(unsafe_code)]

use std::{
    collections::VecDeque,
    mem::ManuallyDrop,
    net::SocketAddr,
    time::{Duration, Instant},
};

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use self::{
    alarm::{Alarm, BACKSTOP, Setting},
    buffers::{BUFFER_GROUP, BufferRing},
};
use super::{
    drain::{DrainPolicy, TurnCounts},
    kernel::{
        BufferIndex, Completion, EnterWait, Errno, Kernel, OperationKind, ReceiveMode, Reception, SLOTS_MAX, Socket,
        Tag,
    },
    system,
    wake::Wake,
};
use crate::transport::OutBuffer;

mod alarm;
mod buffers;
mod circulation;
pub mod seat;

/// The sizes of a ring.
#[derive(Clone, Copy, Debug)]
pub struct UringParameters {
    /// Submissions that fit before a system call takes them.
    pub submissions: u32,
    /// Completions that fit before the kernel must keep them elsewhere (none is ever lost).
    pub completions: u32,
    /// Receive buffers, a power of two up to 32,768. When all are in use, receives wait for their turn.
    pub buffers: u16,
    /// Size of a receive buffer in bytes.
    pub buffer_bytes: u32,
    /// Completions that one enter tries to collect when it doesn't wait; 0 lets [`DrainPolicy`] choose from turn to turn.
    pub drain: u32,
}

impl Default for UringParameters {
    fn default() -> Self {
        UringParameters { submissions: 1024, completions: 16_384, buffers: 512, buffer_bytes: 4096, drain: 0 }
    }
}

/// Why there is no ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UringError {
    /// The kernel made no ring: it is too old, or io_uring is forbidden, or memory ran out.
    #[error("io_uring_setup failed: {0}")]
    Setup(Errno),
    /// The pool of receive buffers could not be mapped.
    #[error("the receive buffers could not be mapped: {0}")]
    Map(Errno),
    /// The kernel didn't take the pool of receive buffers.
    #[error("the receive buffers could not be registered: {0}")]
    Register(Errno),
}

/// An io_uring with its receive buffers.
pub struct Uring {
    ring: IoUring,
    buffers: BufferRing,
    /// What the submission queue had no room for, in order.
    backlog: VecDeque<squeue::Entry>,
    /// Sends in flight. A send's `user_data` has its place here where others have their slot.
    sends: Vec<Option<Sending>>,
    vacant_sends: Vec<u32>,
    /// Boxed, because the submission queue holds their addresses.
    #[allow(clippy::vec_box, reason = "a spare moves into a send without a copy and back")]
    spare_gathers: Vec<Box<Gather>>,
    /// What ends a wait.
    wakes: Vec<Wake>,
    /// Who asks: what is asked for from now on completes as its own.
    seat: u8,
    alarm: Alarm,
    drain: DrainPolicy,
    /// Completions that the next enter is asked for.
    collect: u32,
    /// The turn that is under way: what its enter brought, and what was asked for since.
    turn: TurnCounts,
    /// The seat and slot that the last reception of this turn was for.
    last_source: Option<(u8, u32)>,
    /// Whether the kernel can wait for several completions and settle for one after a while.
    settles_for_one: bool,
    /// So many more turns are taken for ones whose sends may not complete at once.
    unsure_turns: u32,
    turns: u32,
    enters: u64,
}

/// A send in flight.
struct Sending {
    tag: Tag,
    /// The turn in which it was asked for.
    turn: u32,
    buffer: Box<OutBuffer>,
    gather: Option<Box<Gather>>,
}

/// What sendmsg(2) wants to be told about memory.
struct Gather {
    header: libc::msghdr,
    slices: Vec<libc::iovec>,
}

/// Where a `user_data` says who asked.
const SEAT_SHIFT: u32 = 56;
/// How many can ask.
const SEATS_MAX: u8 = 16;
/// Slices of one sendmsg; what is beyond goes out with the next.
const SLICES_MAX: usize = 128;
const SPARE_GATHERS_MAX: usize = 64;
/// How long a wait holds out for sends that don't complete at once, in microseconds.
const SENDS_WAIT_US: u32 = 1000;
/// The same where they have completed at once so far: rarely needed, and a wake-up each time it is over.
const SENDS_ALARM: Duration = Duration::from_millis(4);
/// Turns after one in which a send did not complete at once.
const UNSURE_TURNS: u32 = 64;

impl Uring {
    /// Makes a ring for the calling thread, which `wake` wakes while it waits.
    ///
    /// # Errors
    ///
    /// When the kernel can't or won't.
    pub fn new(parameters: UringParameters, wake: Wake) -> Result<Self, UringError> {
        let ring = IoUring::builder()
            .setup_cqsize(parameters.completions.max(parameters.submissions))
            .setup_clamp()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_defer_taskrun()
            .build(parameters.submissions)
            .map_err(|error| UringError::Setup(errno_of(&error)))?;
        let buffers = BufferRing::new(&ring, parameters.buffers, parameters.buffer_bytes)?;
        let settles_for_one = ring.params().is_feature_min_timeout();
        let mut uring = Uring {
            ring,
            buffers,
            backlog: VecDeque::new(),
            sends: Vec::new(),
            vacant_sends: Vec::new(),
            spare_gathers: Vec::new(),
            wakes: Vec::new(),
            seat: 0,
            alarm: Alarm::new(),
            drain: DrainPolicy::new(parameters.drain),
            collect: 0,
            turn: TurnCounts::default(),
            last_source: None,
            settles_for_one,
            unsure_turns: 0,
            turns: 0,
            enters: 0,
        };
        uring.add_wake(wake);
        Ok(uring)
    }

    /// From now on `wake` wakes the thread as well.
    pub fn add_wake(&mut self, wake: Wake) {
        self.wakes.push(wake);
        self.watch_wake(self.wakes.len() as u32 - 1);
    }

    /// Arms the poll that ends a wait. It is multishot, and edge-triggered: nobody needs to read the eventfd.
    fn watch_wake(&mut self, index: u32) {
        let Some(wake) = self.wakes.get(index as usize) else { return };
        let descriptor = types::Fd(wake.descriptor());
        let tag = Tag { kind: OperationKind::Wake, slot: index, generation: 0 };
        let poll = opcode::PollAdd::new(descriptor, libc::POLLIN as u32).multi(true).build();
        self.push(poll.user_data(tag.pack()));
    }

    /// Names an operation of who asks.
    fn user_data(&self, tag: Tag) -> u64 {
        tag.pack() | u64::from(self.seat) << SEAT_SHIFT
    }

    fn cancel(&self, tag: Tag) -> squeue::Entry {
        let cancelling = Tag { kind: OperationKind::Cancel, ..tag };
        let entry = opcode::AsyncCancel::new(self.user_data(tag)).build().user_data(self.user_data(cancelling));
        entry.flags(squeue::Flags::SKIP_SUCCESS)
    }

    fn push(&mut self, entry: squeue::Entry) {
        if !self.backlog.is_empty() || !self.try_push(&entry) {
            self.backlog.push_back(entry);
        }
    }

    fn try_push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: what the entry points to outlives the operation: receive buffers and the alarm's time as long as the
        // ring, a send's buffer and gather list in `sends` until its completion is taken.
        unsafe { self.ring.submission().push(entry).is_ok() }
    }

    /// Moves the backlog into the submission queue, submitting as often as that fills it.
    fn flush_backlog(&mut self) {
        while let Some(entry) = self.backlog.pop_front() {
            if self.try_push(&entry) {
                continue;
            }
            self.enters += 1;
            let submitted = self.ring.submit();
            if !self.try_push(&entry) {
                // The kernel takes nothing now (completions must be collected first): the rest waits in order.
                self.backlog.push_front(entry);
                if !matches!(submitted, Err(ref error) if error.raw_os_error() == Some(libc::EINTR)) {
                    return;
                }
            }
        }
    }

    fn vacant_send(&mut self) -> u32 {
        self.vacant_sends.pop().unwrap_or_else(|| {
            self.sends.push(None);
            (self.sends.len() - 1) as u32
        })
    }

    /// Whether an enter that doesn't wait would do anything.
    fn has_work(&mut self) -> bool {
        let submission = self.ring.submission();
        !submission.is_empty() || submission.taskrun() || submission.cq_overflow()
    }

    /// Submits and waits. Sends complete as they are submitted unless a peer doesn't read: a wait for one completion would
    /// end with them, and a second system call would have to follow. So they are waited for as well, for a moment: until the
    /// alarm, or where they have not always completed of late, exactly.
    fn enter_to_wait(&mut self, timeout: Option<Duration>) {
        let sends = if self.settles_for_one { self.turn.sends as usize } else { 0 };
        if sends > 0 && self.unsure_turns > 0 {
            return self.enter_once(1 + sends, timeout, SENDS_WAIT_US);
        }
        let patience = (sends > 0).then_some(SENDS_ALARM);
        let longest = timeout.into_iter().chain(patience).min();
        let is_alarmed = longest.is_none_or(|wait| self.set_alarm(wait));
        match (is_alarmed, sends) {
            (true, 0) => self.enter_once(1, None, 0),
            (true, _) => self.enter_once(1 + sends, timeout.into_iter().chain([BACKSTOP]).min(), 0),
            (false, 0) => self.enter_once(1, timeout, 0),
            (false, _) => self.enter_once(1 + sends, timeout, SENDS_WAIT_US),
        }
    }

    /// Learns whether the sends that went with the last enter completed with it.
    fn note_sends(&mut self) {
        let all_completed = self.turn.sent >= self.turn.sends_before;
        self.unsure_turns = if all_completed { self.unsure_turns.saturating_sub(1) } else { UNSURE_TURNS };
    }

    /// Sees to it that a wait that begins now is ended after `wait` at the latest; false where the enter has to.
    fn set_alarm(&mut self, wait: Duration) -> bool {
        if self.ring.submission().is_full() {
            // It would not leave with this enter.
            return false;
        }
        let tag = Tag { kind: OperationKind::Alarm, slot: 0, generation: 0 }.pack();
        let entry = match self.alarm.wait_for(wait, Instant::now()) {
            Setting::Keep => return true,
            Setting::Refused => return false,
            Setting::Set => opcode::Timeout::new(&raw const *self.alarm.time).build().user_data(tag),
            Setting::Move => {
                // When it has gone off meanwhile, this fails, and either ends the wait.
                let moving = Tag { kind: OperationKind::Cancel, slot: 0, generation: 0 };
                let entry = opcode::TimeoutUpdate::new(tag, &raw const *self.alarm.time).build();
                entry.user_data(moving.pack()).flags(squeue::Flags::SKIP_SUCCESS)
            }
        };
        self.push(entry);
        true
    }

    /// One system call. After `settle_us`, unless that is 0, one completion is enough. A timeout, a signal and a full
    /// completion queue are no failures: the caller comes again.
    fn enter_once(&mut self, completions_min: usize, timeout: Option<Duration>, settle_us: u32) {
        self.enters += 1;
        let timespec = timeout.map(types::Timespec::from);
        // The kernel looks at the timeout only after that.
        let settle_us =
            timeout.map_or(settle_us, |timeout| settle_us.min(u32::try_from(timeout.as_micros()).unwrap_or(u32::MAX)));
        let mut arguments = types::SubmitArgs::new().min_wait_usec(settle_us);
        if let Some(timespec) = &timespec {
            arguments = arguments.timespec(timespec);
        }
        let entered = self.ring.submitter().submit_with_args(completions_min, &arguments);
        if let Err(error) = entered {
            let errno = error.raw_os_error();
            let expected = matches!(errno, Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN));
            debug_assert!(expected, "io_uring_enter: {error}");
            if !expected {
                tracing::error!(%error, "io_uring_enter failed");
            }
        }
    }

    /// The next completion, and whose it is.
    fn next(&mut self) -> Option<(u8, Completion)> {
        loop {
            let entry = self.ring.completion().next()?;
            let Some(tag) = Tag::unpack(entry.user_data()) else { continue };
            let seat = (entry.user_data() >> SEAT_SHIFT) as u8 & (SEATS_MAX - 1);
            if let Some(completion) = self.complete(seat, tag, &entry) {
                return Some((seat, completion));
            }
        }
    }

    fn complete(&mut self, seat: u8, tag: Tag, entry: &cqueue::Entry) -> Option<Completion> {
        let more = cqueue::more(entry.flags());
        let result = entry.result();
        let errno = Errno(-result);
        match tag.kind {
            OperationKind::Receive => {
                self.turn.receptions += 1;
                let source = (seat, tag.slot);
                self.turn.sources += u32::from(self.last_source.replace(source) != Some(source));
                let reception = match (result, cqueue::buffer_select(entry.flags())) {
                    (1.., Some(buffer)) => {
                        self.turn.received_bytes = self.turn.received_bytes.saturating_add(result as u32);
                        Reception::Bytes { buffer: BufferIndex(buffer), length: result as usize }
                    }
                    (0.., buffer) => {
                        // The end of the stream may come with a buffer that holds nothing.
                        if let Some(buffer) = buffer {
                            self.buffers.give_back(buffer);
                        }
                        Reception::EndOfStream
                    }
                    (_, _) => {
                        if errno.0 == libc::ENOBUFS {
                            self.buffers.note_shortage();
                        }
                        Reception::Failed(errno)
                    }
                };
                Some(Completion::Received { tag, reception, more })
            }
            OperationKind::Send => {
                let sending = self.sends.get_mut(tag.slot as usize)?.take()?;
                self.turn.sent += u32::from(sending.turn == self.turns.wrapping_sub(1));
                self.vacant_sends.push(tag.slot);
                if let Some(gather) = sending.gather.filter(|_| self.spare_gathers.len() < SPARE_GATHERS_MAX) {
                    self.spare_gathers.push(gather);
                }
                let result = if result < 0 { Err(errno) } else { Ok(result as usize) };
                Some(Completion::Sent { tag: sending.tag, result, buffer: sending.buffer })
            }
            OperationKind::Accept => {
                let result = if result < 0 { Err(errno) } else { Ok(Socket(result)) };
                Some(Completion::Accepted { listener: tag.slot as u16, result, more })
            }
            OperationKind::Wake => {
                if !more {
                    self.watch_wake(tag.slot);
                }
                Some(Completion::Woken)
            }
            OperationKind::Alarm => {
                self.alarm.went_off(result);
                None
            }
            OperationKind::Cancel => None,
        }
    }
}

impl Kernel for Uring {
    fn accept(&mut self, index: u16, listener: Socket) {
        let accept = opcode::AcceptMulti::new(types::Fd(listener.0)).flags(libc::SOCK_CLOEXEC).build();
        self.push(accept.user_data(self.user_data(accept_tag(index))));
    }

    fn receive(&mut self, tag: Tag, socket: Socket, mode: ReceiveMode) {
        let descriptor = types::Fd(socket.0);
        let receive = match mode {
            ReceiveMode::Multishot => opcode::RecvMulti::new(descriptor, BUFFER_GROUP).build(),
            ReceiveMode::Once => {
                let length = self.buffers.buffer_bytes();
                let once = opcode::Recv::new(descriptor, std::ptr::null_mut(), length).buf_group(BUFFER_GROUP);
                once.build().flags(squeue::Flags::BUFFER_SELECT)
            }
        };
        self.push(receive.user_data(self.user_data(tag)));
    }

    fn send(&mut self, tag: Tag, socket: Socket, buffer: Box<OutBuffer>, skip_bytes: usize) {
        let descriptor = types::Fd(socket.0);
        // With MSG_WAITALL the kernel continues a partial send by itself as long as the peer reads.
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let mut slices = buffer.slices(skip_bytes);
        let first = slices.next().unwrap_or_default();
        let is_plain = slices.next().is_none();
        let (send, gather) = if is_plain {
            let length = u32::try_from(first.len()).unwrap_or(u32::MAX);
            (opcode::Send::new(descriptor, first.as_ptr(), length).flags(flags).build(), None)
        } else {
            let mut gather = self.spare_gathers.pop().unwrap_or_else(Gather::new);
            gather.fill(&buffer, skip_bytes);
            (opcode::SendMsg::new(descriptor, &raw const gather.header).flags(flags as u32).build(), Some(gather))
        };
        drop(slices);
        let place = self.vacant_send();
        debug_assert!(place < SLOTS_MAX);
        self.sends[place as usize] = Some(Sending { tag, turn: self.turns, buffer, gather });
        self.turn.sends += 1;
        self.push(send.user_data(self.user_data(Tag { slot: place, ..tag })));
    }

    fn cancel_receive(&mut self, tag: Tag) {
        self.push(self.cancel(tag));
    }

    fn cancel_accept(&mut self, index: u16) {
        self.push(self.cancel(accept_tag(index)));
    }

    fn accept_now(&mut self, listener: Socket) -> Result<Socket, Errno> {
        // Only now: an accept on a ring fails at once on a listener that doesn't block, instead of waiting.
        system::set_nonblocking(listener, true)?;
        system::accept_now(listener)
    }

    // A socket whose peer is gone refuses the next three with ENOTCONN, which changes nothing: it is over already, and
    // its operations complete by themselves.

    fn shutdown_write(&mut self, socket: Socket) {
        let _ = system::shutdown(socket, libc::SHUT_WR);
    }

    fn shutdown_both(&mut self, socket: Socket) {
        let _ = system::shutdown(socket, libc::SHUT_RDWR);
    }

    fn reset_on_close(&mut self, socket: Socket) {
        let _ = system::reset_on_close(socket);
    }

    fn close(&mut self, socket: Socket) {
        system::close(socket);
    }

    fn peer(&mut self, socket: Socket) -> Option<SocketAddr> {
        system::peer(socket).ok()
    }

    fn enter(&mut self, wait: EnterWait) {
        self.drain.note_turn(self.turn);
        let depth = self.drain.depth().max(self.collect);
        self.buffers.note_turn(self.turn, depth);
        self.buffers.publish();
        self.flush_backlog();
        self.note_sends();
        let must_not_wait = !self.backlog.is_empty() || !self.ring.completion().is_empty();
        match wait {
            EnterWait::For(timeout) if !must_not_wait => self.enter_to_wait(timeout),
            _ if !self.has_work() => {}
            _ => match depth {
                0 => self.enter_once(0, None, 0),
                depth => self.enter_once(depth as usize, Some(Duration::ZERO), 0),
            },
        }
        self.turns = self.turns.wrapping_add(1);
        let completions = self.ring.completion().len() as u32;
        self.last_source = None;
        self.turn = TurnCounts { completions, sends_before: self.turn.sends, ..TurnCounts::default() };
    }

    fn collect(&mut self, completions: u32) {
        self.collect = completions;
    }

    fn next_completion(&mut self) -> Option<Completion> {
        self.next().map(|(_, completion)| completion)
    }

    fn buffer(&mut self, buffer: BufferIndex, length: usize) -> &mut [u8] {
        self.buffers.bytes(buffer.0, length)
    }

    fn give_back(&mut self, buffer: BufferIndex) {
        self.buffers.give_back(buffer.0);
    }

    fn buffer_count(&self) -> usize {
        self.buffers.count()
    }

    fn enters(&self) -> u64 {
        self.enters
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // The kernel ends the operations in its own time after the ring is closed. Without its buffer ring no recv finds
        // memory to write to; the memory of sends in flight is left to the process, since nobody will tell when they end.
        self.buffers.unregister(&self.ring);
        for sending in self.sends.drain(..).flatten() {
            let _ = ManuallyDrop::new(sending);
        }
    }
}

impl std::fmt::Debug for Uring {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Uring").field("enters", &self.enters).finish_non_exhaustive()
    }
}

impl Gather {
    fn new() -> Box<Self> {
        // SAFETY: all zeros is a valid `msghdr`: no name, no slices, no control data.
        let header = unsafe { std::mem::zeroed() };
        Box::new(Gather { header, slices: Vec::new() })
    }

    /// Points at what `buffer` holds after `skip_bytes`.
    fn fill(&mut self, buffer: &OutBuffer, skip_bytes: usize) {
        self.slices.clear();
        let slices = buffer.slices(skip_bytes).take(SLICES_MAX);
        self.slices.extend(
            slices.map(|slice| libc::iovec { iov_base: slice.as_ptr().cast_mut().cast(), iov_len: slice.len() }),
        );
        self.header.msg_iov = self.slices.as_mut_ptr();
        self.header.msg_iovlen = self.slices.len() as _;
    }
}

const fn accept_tag(index: u16) -> Tag {
    Tag { kind: OperationKind::Accept, slot: index as u32, generation: 0 }
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(libc::EIO))
}
