//! Reads what a configuration is put together from.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::config::SourceFile;

/// Why a configuration file can't be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    /// The operating system says so.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    /// It is longer than any configuration.
    #[error("{} is larger than {} KiB", path.display(), FILE_BYTES_MAX >> 10)]
    TooLarge { path: PathBuf },
    /// It is not UTF-8, which TOML is.
    #[error("{} is not UTF-8: byte {byte} of line {line}", path.display())]
    NotUtf8 { path: PathBuf, line: usize, byte: usize },
}

/// Reads the configuration file at `path`.
pub(super) fn read_file(path: &Path) -> Result<SourceFile, SourceError> {
    let unreadable = |error| SourceError::Unreadable { path: path.to_owned(), error };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(SourceError::TooLarge { path: path.to_owned() });
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(SourceFile { path: path.display().to_string(), text }),
        Err(error) => {
            let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            let byte = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
            Err(SourceError::NotUtf8 { path: path.to_owned(), line, byte })
        }
    }
}

/// The process's environment. What isn't UTF-8 gets replacement characters, which the configuration refuses.
pub(super) fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .map(|(variable, value)| (variable.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .collect()
}

const FILE_BYTES_MAX: u64 = 1 << 20;
