//! How much room a file system has.

#![allow(unsafe_code)]

use std::{ffi::CString, io, mem::MaybeUninit, os::unix::ffi::OsStrExt as _, path::Path};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_has_no_more_room_than_it_holds() {
        let (free_bytes, total_bytes) = room_at(Path::new(".")).unwrap();
        assert!(free_bytes <= total_bytes && total_bytes > 0);
        assert_eq!(room_at(Path::new("./no such directory")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
