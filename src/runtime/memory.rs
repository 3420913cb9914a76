//! How the process uses memory pages.
//!
//! Owns: when free ones go back to the kernel although nobody allocates, and the choice against transparent huge pages. They
//! round each arena up to 2 MiB at a time, so that a broker's memory grows in steps that no connection accounts for; a broker
//! with few clients was 10 MiB larger with them.

#![allow(unsafe_code)]

use super::{kernel::Errno, system};

/// Gives memory that the calling thread has freed back to the kernel. The allocator does that with later allocations; a thread
/// that falls silent makes none. It looks at every page of the thread, so it is for when much was freed.
pub fn give_back_free_pages() {
    // SAFETY: mi_collect(3) may be called by any thread at any time, whether or not mimalloc is the process's allocator, and
    // takes a plain value.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// Asks the kernel to give this process no transparent huge pages. Call it before memory is in use.
///
/// # Errors
///
/// When the kernel refuses, which costs memory and nothing else.
pub fn refuse_huge_pages() -> Result<(), Errno> {
    // SAFETY: prctl(2) with PR_SET_THP_DISABLE takes integers, the unused ones zero.
    system::checked(unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) }).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_never_allocated_there_may_give_back_too() {
        let thread = std::thread::spawn(give_back_free_pages);
        assert!(thread.join().is_ok());
    }

    #[test]
    fn the_kernel_remembers_that_huge_pages_are_refused() {
        assert_eq!(refuse_huge_pages(), Ok(()));
        // SAFETY: prctl(2) with PR_GET_THP_DISABLE takes integers, the unused ones zero.
        assert_eq!(unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, 0, 0, 0, 0) }, 1);
    }
}
