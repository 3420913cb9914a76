//! The version of the format of a data directory.
//!
//! Always: an older one that this program reads says so until it is opened to be written to; from then on no older program
//! opens it.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
};

use super::{OpenError, Problem, at, damaged, record::FORMAT_VERSION, sync_directory};

/// Format 3 has no places in reserve, and is otherwise the same.
const OLDEST_READ: u32 = 3;

/// Says that `directory`, whose format is `found`, is of the one that this program writes.
pub(super) fn raise(directory: &Path, found: u32) -> Result<(), OpenError> {
    if found < FORMAT_VERSION {
        tracing::info!(directory = %directory.display(), "the data directory is of format {FORMAT_VERSION} from now on");
        write(directory)?;
    }
    Ok(())
}

/// The same of one in which nothing was written.
pub(super) fn write(directory: &Path) -> Result<(), OpenError> {
    let (path, making) = (directory.join("format"), directory.join("format-making"));
    let mut file = File::create(&making).map_err(at(&making))?;
    writeln!(file, "{FORMAT_VERSION}").and_then(|()| file.sync_all()).map_err(at(&making))?;
    fs::rename(&making, &path).map_err(at(&making))?;
    sync_directory(directory)
}

/// The format of `directory`, if it can be read.
pub(super) fn check(directory: &Path) -> Result<u32, OpenError> {
    let path = directory.join("format");
    let text = fs::read(&path).map_err(|error| damaged(directory, Problem::io(&path)(error)))?;
    let number = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse::<u32>().ok());
    match number {
        Some(found) if found > FORMAT_VERSION => Err(OpenError::Newer { directory: directory.to_owned(), found }),
        Some(found @ OLDEST_READ..) => Ok(found),
        Some(found @ 1..) => Err(OpenError::Older { directory: directory.to_owned(), found }),
        _ => Err(damaged(directory, Problem::new(&path, "the version of the format is damaged"))),
    }
}
