//! The process's descriptors: how many there may be, and a table that is grown once.

#![allow(unsafe_code)]

use super::{kernel::Errno, system};

/// How many descriptors the process may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorLimit {
    /// The limit in force.
    pub soft: u64,
    /// What it may be raised to without privileges.
    pub hard: u64,
}

/// Reads the limit.
///
/// # Errors
///
/// When the kernel refuses to tell.
pub fn descriptor_limit() -> Result<DescriptorLimit, Errno> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a `rlimit` that lives through the call.
    system::checked(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    Ok(DescriptorLimit { soft: limit.rlim_cur, hard: limit.rlim_max })
}

/// Raises the limit as far as it goes and returns it.
///
/// # Errors
///
/// When the kernel refuses.
pub fn raise_descriptor_limit() -> Result<DescriptorLimit, Errno> {
    let found = descriptor_limit()?;
    let wanted = libc::rlimit { rlim_cur: found.hard, rlim_max: found.hard };
    // SAFETY: the pointer is to a `rlimit` that lives through the call.
    system::checked(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const wanted) })?;
    descriptor_limit()
}

/// Grows the table of descriptors to hold `count`, once, before there are threads: growing it later waits for every
/// thread that shares it, at each doubling (12k instead of 67-108k accepted connections per second).
///
/// # Errors
///
/// When `count` is above the limit.
pub fn grow_descriptor_table(count: u64) -> Result<(), Errno> {
    let highest = i32::try_from(count.saturating_sub(1)).unwrap_or(i32::MAX);
    // SAFETY: fcntl(2) with F_DUPFD_CLOEXEC takes integers; descriptor 2 is copied to a free number and nothing else.
    let copy = system::checked(unsafe { libc::fcntl(libc::STDERR_FILENO, libc::F_DUPFD_CLOEXEC, highest) })?;
    // SAFETY: the copy was just made and nobody else knows of it.
    unsafe { libc::close(copy) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_grows_up_to_the_limit_and_not_beyond() {
        let limit = raise_descriptor_limit().unwrap();
        assert_eq!(limit.soft, limit.hard);
        grow_descriptor_table(limit.soft.min(4096)).unwrap();
        assert!(grow_descriptor_table(limit.soft + 1).is_err());
    }
}
