//! What wakes a parked shard: an eventfd that its ring watches.

#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::Arc,
};

/// Wakes one shard. Clones wake the same shard; any thread may.
#[derive(Clone, Debug)]
pub struct Wake {
    descriptor: Arc<OwnedFd>,
}

impl Wake {
    /// A new eventfd.
    ///
    /// # Errors
    ///
    /// When descriptors ran out.
    pub fn new() -> io::Result<Self> {
        // SAFETY: eventfd(2) takes two integers.
        let raw = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `raw` was just given to us and nobody else has it.
        Ok(Wake { descriptor: Arc::new(unsafe { OwnedFd::from_raw_fd(raw) }) })
    }

    /// Wakes the shard, or keeps it from falling asleep.
    pub fn wake(&self) {
        wake_raw(self.descriptor());
    }

    /// Whether [`Wake::wake`] was called since the last time this was asked.
    #[must_use]
    pub fn take(&self) -> bool {
        let mut count = 0_u64;
        // SAFETY: the pointer and the length describe `count`, which lives through the call.
        let read = unsafe { libc::read(self.descriptor(), (&raw mut count).cast(), size_of::<u64>()) };
        read == 8 && count > 0
    }

    /// The descriptor, for a ring to watch. It is open as long as a clone of this lives.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

/// Writes to an eventfd. Safe in a signal handler: one write(2), no allocation, no lock.
pub(super) fn wake_raw(descriptor: RawFd) {
    let one = 1_u64;
    // SAFETY: the pointer and the length describe `one`, which lives through the call. A full counter (EAGAIN) means that
    // a wake-up is pending already.
    unsafe { libc::write(descriptor, (&raw const one).cast(), size_of::<u64>()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wakes_are_remembered_once() {
        let wake = Wake::new().unwrap();
        assert!(!wake.take());
        wake.wake();
        wake.clone().wake();
        assert!(wake.take());
        assert!(!wake.take());
    }
}
