//! Lists every problem of a log, and repairs it: sets damage aside and keeps the rest.
//!
//! [`check`] changes nothing and may run beside a writer, whose write under way then looks like
//! a torn one. Every byte of the segments, of `log.id` and of the records of the log's extent is
//! looked at, so every flipped bit in them is found: by checksums, or because it must be zero.
//! `LOCK` holds nothing that matters.
//!
//! Everything that an open refuses as damage is a [`Problem`] here, and [`repair()`] makes the log
//! open again; the tests hold the three to each other.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::disk::Disk;
use crate::error::IoError;
use crate::position::Position;

mod look;
mod loss;
mod records;
mod repair;
mod salvage;
mod set_aside;

pub use loss::Loss;
pub use repair::{Repair, RepairError, SalvageError, Taken, repair};

use look::look;

/// The directory in a log's directory where a repair keeps what it took out.
pub(crate) const QUARANTINE: &str = "quarantine";

/// What a look through a log found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Segments looked at.
    pub segments: usize,
    /// Records that are as they were written.
    pub records: u64,
    /// Bytes of these records' payloads.
    pub bytes: u64,
    /// Places where an earlier repair took something out.
    pub removed: u64,
    /// What is wrong, in order; at most 1,000 of them.
    pub problems: Vec<Problem>,
    /// How many more problems there are.
    pub more: u64,
}

impl Report {
    /// Whether anything that was acknowledged is not as it was written. The rest of a torn write
    /// is no damage.
    pub fn is_damaged(&self) -> bool {
        self.more > 0 || self.problems.iter().any(|problem| problem.kind == ProblemKind::Damage)
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Whether it is damage.
    pub kind: ProblemKind,
    /// The file; the directory where a file is missing.
    pub path: PathBuf,
    /// Where it starts in the file, in bytes.
    pub offset: u64,
    /// Over how many bytes; 0 where something is missing.
    pub bytes: u64,
    /// What is there.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, offset, bytes, what, .. } = self;
        write!(f, "{}: {bytes} bytes at offset {offset}: {what}", path.display())
    }
}

/// What sort of problem it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// Something is not as it was written. A start is refused.
    Damage,
    /// The end of a log that was not closed is no whole record: a write that a crash cut off, or
    /// one that is under way, none of which was acknowledged; or the last write, damaged since.
    /// The next start sets it aside.
    Torn,
}

/// Looks through the log in a directory, which the store has up to `drained`;
/// [`Position::START`] where that is not known. Blocks while it reads all of the log.
///
/// # Errors
///
/// [`IoError`] where something can't be read at all.
pub fn check(disk: &dyn Disk, dir: &Path, drained: Position) -> Result<Report, IoError> {
    Ok(look(disk, dir, drained)?.report)
}
