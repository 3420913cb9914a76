//! The pool of receive buffers that the kernel takes from by itself.
//!
//! What always holds: a buffer rests, is in the kernel's ring, or is named by exactly one completion; it is given back once
//! for each completion that named it. Those that rest are used last first: they are in the caches sooner. Both mappings
//! outlive the registration.

#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::{IoUring, types::BufRingEntry};

use super::{Errno, UringError, circulation::Circulation, errno_of};
use crate::runtime::{drain::TurnCounts, system};

/// The group that the receives name. A ring has one pool.
pub(super) const BUFFER_GROUP: u16 = 0;

/// Provided buffers of equal size.
pub(super) struct BufferRing {
    entries: Mapping,
    memory: Mapping,
    count: u16,
    buffer_bytes: u32,
    circulation: Circulation,
    /// Those that neither the kernel has nor a completion names.
    resting: Vec<u16>,
    /// Where the next entry goes; published to the kernel once for many.
    tail: u16,
    is_published: bool,
}

/// Anonymous memory, aligned to pages.
struct Mapping {
    start: *mut u8,
    length: usize,
}

impl BufferRing {
    /// Maps `count` buffers (rounded up to a power of two, at most 32,768) and registers them.
    pub fn new(ring: &IoUring, count: u16, buffer_bytes: u32) -> Result<Self, UringError> {
        let count = count.clamp(1, 1 << 15).next_power_of_two();
        let buffer_bytes = buffer_bytes.max(64);
        let entries = Mapping::new(usize::from(count) * size_of::<BufRingEntry>()).map_err(UringError::Map)?;
        let memory = Mapping::new(usize::from(count) * buffer_bytes as usize).map_err(UringError::Map)?;
        let mut buffers = BufferRing {
            entries,
            memory,
            count,
            buffer_bytes,
            circulation: Circulation::new(u32::from(count)),
            resting: (0..count).rev().collect(),
            tail: 0,
            is_published: true,
        };
        // SAFETY: the mapping has room for `count` entries, is aligned to pages, and lives until after `unregister`, or
        // until the ring that is given here is gone.
        unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(buffers.entries.start as u64, count, BUFFER_GROUP, 0)
                .map_err(|error| UringError::Register(errno_of(&error)))?;
        }
        buffers.publish();
        Ok(buffers)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        usize::from(self.count)
    }

    pub fn buffer_bytes(&self) -> u32 {
        self.buffer_bytes
    }

    /// A receive found none: more go round.
    pub fn note_shortage(&mut self) {
        self.circulation.note_shortage();
    }

    /// What came of a turn; the next enter looks for `depth` completions, if not 0.
    pub fn note_turn(&mut self, counts: TurnCounts, depth: u32) {
        self.circulation.note_turn(counts, depth);
    }

    /// The first `length` bytes of a buffer that a completion named.
    pub fn bytes(&mut self, buffer: u16, length: usize) -> &mut [u8] {
        assert!(buffer < self.count && length <= self.buffer_bytes as usize, "the kernel named a buffer of ours");
        // SAFETY: the range lies in the mapping, as was just checked; the kernel filled it and leaves it alone until it is
        // given back, which needs `&mut self`.
        unsafe {
            let start = self.memory.start.add(usize::from(buffer) * self.buffer_bytes as usize);
            std::slice::from_raw_parts_mut(start, length)
        }
    }

    /// Gives a buffer back; the kernel sees it with [`BufferRing::publish`], unless there are enough and it rests.
    pub fn give_back(&mut self, buffer: u16) {
        assert!(buffer < self.count, "the kernel named a buffer of ours");
        if self.going_round() > self.circulation.wanted() {
            self.resting.push(buffer);
        } else {
            self.give(buffer);
        }
    }

    /// Those that do not rest.
    fn going_round(&self) -> u32 {
        u32::from(self.count) - self.resting.len() as u32
    }

    fn give(&mut self, buffer: u16) {
        let place = usize::from(self.tail & (self.count - 1));
        // SAFETY: `place` is below the number of entries, and the kernel reads an entry only below the published tail.
        // The first entry's reserved field, which is the tail itself, is not touched by these setters.
        let entry = unsafe { &mut *self.entries.start.cast::<BufRingEntry>().add(place) };
        // SAFETY: the offset lies in the mapping since `buffer` is below `count`.
        let address = unsafe { self.memory.start.add(usize::from(buffer) * self.buffer_bytes as usize) };
        entry.set_addr(address as u64);
        entry.set_len(self.buffer_bytes);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        self.is_published = false;
    }

    /// Lets the kernel see what was given back, and gives it of those that rest as many as are missing.
    pub fn publish(&mut self) {
        while self.going_round() < self.circulation.wanted()
            && let Some(buffer) = self.resting.pop()
        {
            self.give(buffer);
        }
        if std::mem::replace(&mut self.is_published, true) {
            return;
        }
        // SAFETY: the mapping starts with the entries, and the tail lies within the first, aligned for a u16. The kernel
        // reads it concurrently, hence the atomic store.
        let tail = unsafe { &*BufRingEntry::tail(self.entries.start.cast()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }

    /// Takes the pool away from the kernel.
    pub fn unregister(&mut self, ring: &IoUring) {
        let _ = ring.submitter().unregister_buf_ring(BUFFER_GROUP);
    }
}

impl Mapping {
    fn new(length: usize) -> Result<Self, Errno> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: an anonymous private mapping at an address of the kernel's choice touches no existing memory.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
        };
        if start == libc::MAP_FAILED { Err(system::last_errno()) } else { Ok(Mapping { start: start.cast(), length }) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this start and length and nothing refers to it any more.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}
