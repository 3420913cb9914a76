//! What file systems say: how much room they have, and where a file has none yet.

#![allow(unsafe_code)]

use std::{
    ffi::CString,
    fs::File,
    io,
    mem::MaybeUninit,
    os::{fd::AsRawFd as _, unix::ffi::OsStrExt as _},
    path::Path,
};

/// Bytes that an ordinary user may still write where `path` is, and bytes that the file system holds in all.
///
/// # Errors
///
/// When there is no such path, or the file system does not say.
pub fn room_at(path: &Path) -> io::Result<(u64, u64)> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut facts = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the first pointer is to a string that ends with a zero, the second to memory of the size that is written, and
    // both live through the call.
    if unsafe { libc::statvfs(path.as_ptr(), facts.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has succeeded, so all of it was written.
    let facts = unsafe { facts.assume_init() };
    Ok((facts.f_bavail.saturating_mul(facts.f_frsize), facts.f_blocks.saturating_mul(facts.f_frsize)))
}

/// Where the first part of `file` at or behind `from` begins that nothing was ever written to; its length, when there is none.
/// Moves the place where the file is read next.
///
/// # Errors
///
/// When it ends before `from`, or the file system does not say.
pub fn hole_after(file: &File, from: u64) -> io::Result<u64> {
    let from = i64::try_from(from).map_err(io::Error::other)?;
    // SAFETY: no memory is touched, and the descriptor is open as long as the file is borrowed.
    let found = unsafe { libc::lseek64(file.as_raw_fd(), from, libc::SEEK_HOLE) };
    u64::try_from(found).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_has_no_more_room_than_it_holds() {
        let (free_bytes, total_bytes) = room_at(Path::new(".")).unwrap();
        assert!(free_bytes <= total_bytes && total_bytes > 0);
        assert_eq!(room_at(Path::new("./no such directory")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_hole_begins_behind_what_was_written() {
        use std::os::unix::fs::FileExt as _;
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        file.write_all_at(b"something", 0).unwrap();
        let hole = hole_after(&file, 0).unwrap();
        assert!((9..=1 << 16).contains(&hole), "{hole}");
        file.set_len(9).unwrap();
        assert_eq!(hole_after(&file, 0).unwrap(), 9);
        assert!(hole_after(&file, 10).is_err());
    }
}
