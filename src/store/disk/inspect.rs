//! Whether a data directory holds all that was committed, found out without changing anything in it.
//!
//! Owns: the rules by which what is on the disk is whole, as far as they can be told without opening the database.
//! Always: reads only.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{CommitRecord, OpenError, Problem, Watermark, at, format, journal_files, keyspaces};
use crate::store::Space;

/// What was found.
#[derive(Debug, Default)]
pub struct Inspection {
    /// What is wrong, by file.
    pub problems: Vec<Problem>,
    /// The last commit in the journals, when they hold any.
    pub last_commit: Option<u64>,
    /// The last commit that must be there.
    pub expected: u64,
    /// Whole batches in the journals.
    pub batches: u64,
    /// The version of the format.
    pub(super) format: u32,
    /// A journal that ends in the middle of a commit that nobody was told of, and where its last whole one ends.
    pub(super) torn: Option<(PathBuf, u64)>,
    /// The journals, and where their last whole batches end.
    pub(super) journals: Vec<(PathBuf, u64)>,
}

impl Inspection {
    /// Whether a journal ends in the middle of a commit that nobody was told of.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        self.torn.is_some()
    }

    /// An error when anything is wrong.
    pub(super) fn verdict(&self, directory: &Path) -> Result<(), OpenError> {
        let directory = directory.to_owned();
        match (self.problems.first(), self.last_commit) {
            (Some(problem), _) => {
                let more = self.problems.len() - 1;
                Err(OpenError::Damaged { directory, problem: problem.clone(), more })
            }
            (None, Some(found)) if found < self.expected => {
                Err(OpenError::Incomplete { directory, expected: self.expected, found })
            }
            _ => Ok(()),
        }
    }
}

/// Reads every file of the store in `directory`. `progress` is told of bytes read.
///
/// # Errors
/// When there is no store or it is newer, or its format cannot be told.
pub fn inspect(directory: &Path, progress: &mut dyn FnMut(u64)) -> Result<Inspection, OpenError> {
    let scratch = tempfile::Builder::new().prefix("ringmq-store-").tempdir();
    let scratch = scratch.map_err(at(&std::env::temp_dir()))?;
    inspect_with(directory, false, &scratch.path().join("db"), progress)
}

/// The same; `scratch` is a directory to make and to use, which is left there.
pub(super) fn inspect_with(
    directory: &Path,
    has_failed: bool,
    scratch: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Inspection, OpenError> {
    let data = data_directory(directory);
    if !data.exists() && !directory.join("format").exists() && !directory.join("watermark").exists() {
        return Err(OpenError::NotThere(directory.to_owned()));
    }
    let mut inspection = Inspection { format: format::check(directory)?, ..Inspection::default() };
    let watermark = Watermark::read(directory);
    // A sync that failed may have lost what the end of the machine would.
    let (expected, same_boot) = match &watermark {
        Ok(watermark) if has_failed => (watermark.synced, false),
        Ok(watermark) => (watermark.expected(), watermark.same_boot),
        Err(_) => (0, false),
    };
    inspection.expected = expected;
    inspection.problems.extend(watermark.err());
    if !data.is_dir() {
        inspection.problems.push(Problem::new(&data, "is missing"));
        return Ok(inspection);
    }
    let version = data.join("version");
    match fs::read(&version) {
        Ok(bytes) if bytes == LIBRARY_VERSION => {}
        Ok(_) => inspection.problems.push(Problem::new(&version, "is damaged")),
        Err(error) => inspection.problems.push(Problem::io(&version)(error)),
    }
    let is_clean = directory.join("clean").exists();
    let first = inspect_journals(&data, is_clean, same_boot, &mut inspection, progress);
    inspect_keyspaces(&data, &mut inspection.problems, progress)?;
    // A journal goes when everything in it is in tables. Whether the tables have everything from before the first that is
    // left, the library never asks.
    if let (Some(first), true) = (first, inspection.problems.is_empty()) {
        for space in Space::ALL {
            let needed = first.written_before[space as usize];
            let place = Path::new("keyspaces").join(super::database::keyspace_number(space).to_string());
            if needed == 0 {
                continue;
            }
            match keyspaces::last_sequence(&data.join(&place), &scratch.join(&place)) {
                Ok(found) if found < Some(needed) => {
                    inspection.problems.push(super::database::lacks_commits(&data, space))
                }
                Ok(_) => {}
                Err(problem) => inspection.problems.push(problem),
            }
        }
    }
    Ok(inspection)
}

/// Where the database is: while it is being opened, the one to go back to.
pub(super) fn data_directory(directory: &Path) -> PathBuf {
    let before = directory.join("db-before");
    if before.exists() { before } else { directory.join("db") }
}

/// Returns the first commit in the journals.
fn inspect_journals(
    data: &Path,
    is_clean: bool,
    same_boot: bool,
    inspection: &mut Inspection,
    progress: &mut dyn FnMut(u64),
) -> Option<CommitRecord> {
    let journals = match journal_files::list(data) {
        Ok(journals) => journals,
        Err(error) => {
            inspection.problems.push(Problem::new(data, error.to_string()));
            return None;
        }
    };
    if journals.is_empty() {
        inspection.problems.push(Problem::new(data, "the journal is missing"));
    }
    let (mut first, mut last) = (None, None);
    let count = journals.len();
    for (path, index) in journals.into_iter().zip(1..) {
        let scan = match journal_files::scan(&path, last, progress) {
            Ok(scan) => scan,
            Err(error) => {
                inspection.problems.push(Problem::io(&path)(error));
                continue;
            }
        };
        first = first.or(scan.first);
        last = scan.last;
        inspection.batches += scan.batches;
        inspection.expected = inspection.expected.max(scan.later_synced);
        inspection.last_commit = last.map(|(commit, _)| commit.number);
        inspection.journals.push((path.clone(), scan.end));
        if !scan.has_rest {
            continue;
        }
        // A process dies in its last commit at most; only a machine may leave later ones on the disk and not earlier ones.
        // Where all commits before are in tables, opening tells whether one is missing.
        let is_torn = index == count
            && !is_clean
            && inspection.last_commit.is_none_or(|found| found >= inspection.expected)
            && (scan.later_batches == 0 || !same_boot)
            && inspection.torn.is_none();
        if is_torn {
            inspection.torn = Some((path, scan.end));
        } else {
            let end = scan.end;
            let later = match scan.later_batches {
                0 => String::new(),
                later => format!(", and {later} whole commits after it"),
            };
            inspection
                .problems
                .push(Problem::new(&scan.path, format!("is damaged: byte {end} begins no commit{later}")));
        }
    }
    if inspection.problems.is_empty()
        && let (Some((path, _)), Some(found)) = (inspection.journals.last(), inspection.last_commit)
        && found < inspection.expected
    {
        let what = format!("ends with commit {found}, and commit {} was made", inspection.expected);
        inspection.problems.push(Problem::new(path, what));
    }
    first.map(|(commit, _)| commit)
}

fn inspect_keyspaces(data: &Path, problems: &mut Vec<Problem>, progress: &mut dyn FnMut(u64)) -> Result<(), OpenError> {
    let directory = data.join("keyspaces");
    let numbers: Vec<u64> = std::iter::once(0).chain(Space::ALL.map(super::database::keyspace_number)).collect();
    match fs::read_dir(&directory) {
        Ok(entries) => {
            for entry in entries {
                let path = entry.map_err(at(&directory))?.path();
                let name = path.file_name().and_then(|name| name.to_str());
                if !numbers.iter().any(|number| name == Some(number.to_string().as_str())) {
                    problems.push(Problem::new(&path, "does not belong here"));
                }
            }
        }
        Err(error) => problems.push(Problem::io(&directory)(error)),
    }
    for number in numbers {
        keyspaces::inspect(&directory.join(number.to_string()), problems, progress);
    }
    Ok(())
}

/// What the library writes into its file `version`.
const LIBRARY_VERSION: &[u8] = b"FJL\x03";
