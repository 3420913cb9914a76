//! An allocator that counts what the calling thread asks of it. A test binary makes it its own with `#[global_allocator]`.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// The system's allocator, counted.
pub struct Counting;

/// What a thread has asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Calls that gave out memory, growing included.
    pub allocations: u64,
    /// Bytes that these calls asked for, all of them again where memory grew: what may have had to be moved.
    pub requested: u64,
    /// Bytes that are in use, each piece rounded up as the broker's allocator does.
    pub bytes: i64,
}

thread_local! {
    static COUNTED: Cell<Counted> = const { Cell::new(Counted { allocations: 0, requested: 0, bytes: 0 }) };
    /// The most bytes that were in use since it was set.
    static MOST: Cell<i64> = const { Cell::new(0) };
}

/// What the calling thread has asked for so far. Memory that another thread frees counts there.
pub fn counted() -> Counted {
    COUNTED.get()
}

/// The most bytes that `work` has in use at one moment, beyond those in use before.
pub fn most_bytes(work: impl FnOnce()) -> i64 {
    let before = counted().bytes;
    MOST.set(before);
    work();
    MOST.get() - before
}

fn count(allocations: u64, requested: usize, bytes: i64) {
    let mut counted = COUNTED.get();
    counted.allocations += allocations;
    counted.requested += requested as u64;
    counted.bytes += bytes;
    COUNTED.set(counted);
    MOST.set(MOST.get().max(counted.bytes));
}

/// The size class of mimalloc: multiples of 16 up to 128, then eight classes to each power of two.
fn rounded(bytes: usize) -> i64 {
    bytes.next_multiple_of(if bytes <= 128 { 16 } else { (bytes.next_power_of_two() / 8).max(16) }) as i64
}

// SAFETY: every call goes on to the system's allocator unchanged; counting touches a `Cell` without a destructor, which
// allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size(), rounded(layout.size()));
        // SAFETY: the caller's contract is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(0, 0, -rounded(layout.size()));
        // SAFETY: the caller's contract is the system's.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count(1, bytes, rounded(bytes) - rounded(layout.size()));
        // SAFETY: the caller's contract is the system's.
        unsafe { System.realloc(place, layout, bytes) }
    }
}
