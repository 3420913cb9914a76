//! How the process uses memory pages.
//!
//! Owns: when freed memory goes back to the kernel, and the choice against transparent huge pages. They round each arena up to 2 MiB at a time, so that a broker's memory
//! grows in steps that no connection accounts for; a broker with few clients was 10 MiB larger with them.

#![allow(unsafe_code)]

use super::{kernel::Errno, system};

/// Asks the kernel to give this process no transparent huge pages. Call it before memory is in use.
///
/// # Errors
///
/// When the kernel refuses, which costs memory and nothing else.
pub fn refuse_huge_pages() -> Result<(), Errno> {
    // SAFETY: prctl(2) with PR_SET_THP_DISABLE takes integers, the unused ones zero.
    system::checked(unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) }).map(|_| ())
}

/// Gives memory back to the kernel that this thread has freed. The allocator does that by itself while a thread goes on
/// allocating, and not when it has nothing more to do.
pub fn give_back() {
    // SAFETY: mi_collect(3) may be called at any time, whether or not mimalloc is the process's allocator.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_remembers_that_huge_pages_are_refused() {
        assert_eq!(refuse_huge_pages(), Ok(()));
        // SAFETY: prctl(2) with PR_GET_THP_DISABLE takes integers, the unused ones zero.
        assert_eq!(unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, 0, 0, 0, 0) }, 1);
    }
}
