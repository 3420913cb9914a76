//! What the ring can do, as a trait: operations that go in, completions that come out.
//!
//! Owns: the vocabulary between [`Wires`](super::wires::Wires) and a kernel, real ([`Uring`](super::uring::Uring)) or
//! in memory ([`FakeKernel`](super::fake::FakeKernel)). What always holds: each operation that was asked for ends with
//! exactly one completion whose `more` is false; memory that an operation uses belongs to the kernel until that
//! completion is out. It must never interpret a completion: slots, pauses and closing are the business of `Wires`.

use std::{net::SocketAddr, time::Duration};

use crate::transport::OutBuffer;

/// A socket's file descriptor (or, in the simulation, its number). Copying it doesn't duplicate the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Socket(pub i32);

/// An error number of the operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", std::io::Error::from_raw_os_error(self.0))]
pub struct Errno(pub i32);

/// What an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OperationKind {
    /// A multishot accept; its slot is the number of the listener.
    Accept = 1,
    /// A single-shot or multishot recv of a connection.
    Receive = 2,
    /// A send of a connection.
    Send = 3,
    /// The request to end another operation.
    Cancel = 4,
    /// The poll on the wake-up descriptor.
    Wake = 5,
    /// The timer that ends a wait.
    Alarm = 6,
}

/// Names one operation: what it is, for which slot, and for which life of that slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag {
    /// What the operation is.
    pub kind: OperationKind,
    /// The slot that it works for, below [`SLOTS_MAX`].
    pub slot: u32,
    /// The slot's generation when the operation began.
    pub generation: u32,
}

/// Slots are numbered with 24 bits, so that kind, slot and generation fit into the 64 bits of `user_data`, and 4 bits are left for
/// who asks.
pub const SLOTS_MAX: u32 = 1 << 24;

impl Tag {
    /// The tag as `user_data`: kind in the top 4 bits, then 4 bits of zeros, 24 bits of slot, and the generation.
    #[inline]
    #[must_use]
    pub const fn pack(self) -> u64 {
        debug_assert!(self.slot < SLOTS_MAX);
        (self.kind as u64) << 60 | (self.slot as u64) << 32 | self.generation as u64
    }

    /// The tag that [`Tag::pack`] made; nothing when no kind has that number.
    #[inline]
    #[must_use]
    pub const fn unpack(user_data: u64) -> Option<Tag> {
        let kind = match user_data >> 60 {
            1 => OperationKind::Accept,
            2 => OperationKind::Receive,
            3 => OperationKind::Send,
            4 => OperationKind::Cancel,
            5 => OperationKind::Wake,
            6 => OperationKind::Alarm,
            _ => return None,
        };
        Some(Tag { kind, slot: (user_data >> 32) as u32 & (SLOTS_MAX - 1), generation: user_data as u32 })
    }
}

/// How long a recv stays armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveMode {
    /// It ends with the first bytes: what comes later stays in the socket.
    Once,
    /// It takes everything that comes, until it fails, is cancelled, or no buffer is left.
    Multishot,
}

/// A buffer of the kernel's pool that holds received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferIndex(pub u16);

/// What a recv brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reception {
    /// Bytes, in a buffer that must be given back with [`Kernel::give_back`].
    Bytes {
        /// Where they are.
        buffer: BufferIndex,
        /// How many they are, at least 1.
        length: usize,
    },
    /// The peer sends no more.
    EndOfStream,
    /// The recv failed.
    Failed(Errno),
}

/// How an operation went.
#[derive(Debug)]
pub enum Completion {
    /// A connection was accepted, or accepting failed.
    Accepted {
        /// The number of the listener.
        listener: u16,
        /// The new socket.
        result: Result<Socket, Errno>,
        /// Whether the accept stays armed.
        more: bool,
    },
    /// A recv brought something.
    Received {
        /// Which recv.
        tag: Tag,
        /// What it brought.
        reception: Reception,
        /// Whether the recv stays armed.
        more: bool,
    },
    /// A send ended.
    Sent {
        /// Which send.
        tag: Tag,
        /// How many bytes went out of those that it was given.
        result: Result<usize, Errno>,
        /// The buffer, back from the kernel.
        buffer: Box<OutBuffer>,
    },
    /// The wake-up descriptor was written to.
    Woken,
}

/// Whether [`Kernel::enter`] waits for a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnterWait {
    /// Submits, collects what is there, returns.
    No,
    /// Returns with the first completion or after this time; `None` waits for ever.
    For(Option<Duration>),
}

/// The operations of a ring. Nothing happens before [`Kernel::enter`], except where a method says so.
pub trait Kernel {
    /// Arms a multishot accept on `listener`, to complete as [`Completion::Accepted`] with number `index`.
    fn accept(&mut self, index: u16, listener: Socket);

    /// Arms a recv. The tag's kind is [`OperationKind::Receive`].
    fn receive(&mut self, tag: Tag, socket: Socket, mode: ReceiveMode);

    /// Sends what `buffer` holds after its first `skip_bytes`. The buffer comes back with the completion, whether or
    /// not all went out. The tag's kind is [`OperationKind::Send`].
    fn send(&mut self, tag: Tag, socket: Socket, buffer: Box<OutBuffer>, skip_bytes: usize);

    /// Asks the recv with this tag to end; its last completion tells. Too late is not an error.
    fn cancel_receive(&mut self, tag: Tag);

    /// Asks the accept of this listener to end; its last completion tells.
    fn cancel_accept(&mut self, index: u16);

    /// At once: accepts one connection if one waits. For a listener that has no accept armed.
    ///
    /// # Errors
    ///
    /// `EAGAIN` when none waits, and what accept(2) says.
    fn accept_now(&mut self, listener: Socket) -> Result<Socket, Errno>;

    /// At once: says to the peer that we send no more (FIN behind what was sent).
    fn shutdown_write(&mut self, socket: Socket);

    /// At once: ends both directions, which makes every operation in flight on this socket complete.
    fn shutdown_both(&mut self, socket: Socket);

    /// At once: makes [`Kernel::close`] reset the connection instead of delivering what is unsent.
    fn reset_on_close(&mut self, socket: Socket);

    /// At once: closes the descriptor, which may be given out again. No operation may be in flight on it.
    fn close(&mut self, socket: Socket);

    /// At once: the peer's address; nothing when the peer is gone already.
    fn peer(&mut self, socket: Socket) -> Option<SocketAddr>;

    /// Submits everything that was asked for, waits as `wait` says, and collects completions.
    fn enter(&mut self, wait: EnterWait);

    /// Asks the next enter that doesn't wait to bring so many completions, if there are; 0: as many as it likes.
    fn collect(&mut self, completions: u32);

    /// The next completion that is collected and not yet taken.
    fn next_completion(&mut self) -> Option<Completion>;

    /// The received bytes of a completion that was taken and whose buffer was not given back.
    fn buffer(&mut self, buffer: BufferIndex, length: usize) -> &mut [u8];

    /// Gives a buffer back to the pool.
    fn give_back(&mut self, buffer: BufferIndex);

    /// How many buffers the pool has in all.
    fn buffer_count(&self) -> usize;

    /// How many times the kernel was entered by a system call.
    fn enters(&self) -> u64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_survives_packing() {
        for kind in [
            OperationKind::Accept,
            OperationKind::Receive,
            OperationKind::Send,
            OperationKind::Cancel,
            OperationKind::Wake,
        ] {
            for slot in [0, 1, 77, SLOTS_MAX - 1] {
                for generation in [0, 1, u32::MAX] {
                    let tag = Tag { kind, slot, generation };
                    assert_eq!(Tag::unpack(tag.pack()), Some(tag));
                }
            }
        }
        assert_eq!(Tag::unpack(0), None);
        assert_eq!(Tag::unpack(u64::MAX), None);
    }
}
