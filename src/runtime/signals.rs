//! SIGTERM and SIGINT: counted, and every shard is woken to look at the count.
//!
//! What always holds: the handler does nothing but an atomic addition and writes to eventfds, all of which POSIX allows in
//! a signal handler.

#![allow(unsafe_code)]

use std::sync::{
    OnceLock,
    atomic::{AtomicU32, Ordering},
};

use super::{
    kernel::Errno,
    system,
    wake::{Wake, wake_raw},
};

/// Why signals are not handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignalError {
    /// Handlers are installed once per process.
    #[error("signal handlers are installed already")]
    AlreadyInstalled,
    /// The kernel refused a handler.
    #[error("a signal handler was refused: {0}")]
    Refused(Errno),
}

/// Handles SIGTERM and SIGINT from now on: each is counted and wakes everything in `wakes`.
///
/// # Errors
///
/// When this was done before, or the kernel refuses.
pub fn handle_stop_signals(wakes: Vec<Wake>) -> Result<(), SignalError> {
    WAKES.set(wakes).map_err(|_| SignalError::AlreadyInstalled)?;
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: all zeros is a valid `sigaction`: no flags, an empty mask, the default handler.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_stop_signal as extern "C" fn(libc::c_int) as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: the action lives through the call and its handler is async-signal-safe, see there.
        system::checked(unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) })
            .map_err(SignalError::Refused)?;
    }
    Ok(())
}

/// How many stop signals came so far. The first asks for a drain; a second is impatient.
#[must_use]
pub fn stop_signals() -> u32 {
    STOPS.load(Ordering::Acquire)
}

static WAKES: OnceLock<Vec<Wake>> = OnceLock::new();
static STOPS: AtomicU32 = AtomicU32::new(0);

extern "C" fn on_stop_signal(_signal: libc::c_int) {
    // SAFETY: the location is this thread's own, and what was interrupted must find its errno again.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { *errno };
    STOPS.fetch_add(1, Ordering::AcqRel);
    // The list was set before the handler was installed, so this is one load.
    for wake in WAKES.get().into_iter().flatten() {
        wake_raw(wake.descriptor());
    }
    // SAFETY: as above.
    unsafe { *errno = before };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_counted_and_wakes() {
        let wake = Wake::new().unwrap();
        handle_stop_signals(vec![wake.clone()]).unwrap();
        assert_eq!(handle_stop_signals(Vec::new()), Err(SignalError::AlreadyInstalled));
        assert_eq!(stop_signals(), 0);
        // SAFETY: raise(2) takes an integer; the handler is installed.
        unsafe { libc::raise(libc::SIGTERM) };
        assert_eq!(stop_signals(), 1);
        assert!(wake.take());
    }
}
