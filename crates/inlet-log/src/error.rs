//! What can go wrong with a log, an enum an operation.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::position::Position;

/// Why a record was not taken, or is not known to be durable.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// There is no room now; there may be later. Nothing was written.
    #[error("the log {} takes no more: {cause}", dir.display())]
    Full {
        /// The log's directory.
        dir: Arc<Path>,
        /// What there is no room in.
        cause: Full,
    },
    /// The records can never be taken: they are larger than a group may be. Nothing was written.
    #[error("{bytes} bytes are more than one append may have ({bytes_max})")]
    TooLarge {
        /// The bytes of the records with their headers.
        bytes: usize,
        /// The most that may be.
        bytes_max: usize,
    },
    /// The next segment can't be made, for another reason than a full disk. Nothing was written.
    #[error(transparent)]
    NoSegment(Arc<SegmentError>),
    /// A write or a sync failed. The records may or may not be durable, and none will be
    /// acknowledged until the log is opened again.
    #[error(transparent)]
    Poisoned(Arc<Poison>),
    /// The log is closing. Nothing was written.
    #[error("the log {} is closed", dir.display())]
    Closed {
        /// The log's directory.
        dir: Arc<Path>,
    },
}

/// What there is no room in.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Full {
    /// As much waits as may wait.
    #[error("{bytes} bytes wait to be stored, {bytes_max} may")]
    Queue {
        /// What waits, in bytes.
        bytes: u64,
        /// What may wait, in bytes.
        bytes_max: u64,
    },
    /// The next segment finds no room on the disk.
    #[error(transparent)]
    Disk(Arc<SegmentError>),
    /// More appends wait for the disk than may wait.
    #[error("{appends} appends wait for the disk already")]
    Appends {
        /// How many wait.
        appends: usize,
    },
}

/// The next segment could not be made.
#[derive(Debug, thiserror::Error)]
#[error("could not make the next segment in {}", dir.display())]
pub struct SegmentError {
    /// The log's directory.
    pub dir: Arc<Path>,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Why a log acknowledges nothing any more.
#[derive(Debug, thiserror::Error)]
#[error("could not {attempted} {}: nothing more is acknowledged", path.display())]
pub struct Poison {
    /// The attempt: `write to`, `sync`, `find at its path`.
    pub attempted: &'static str,
    /// The segment's file, or the directory.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Why a log could not be opened. Nothing was changed, but for [`OpenError::Io`].
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another writer has the directory.
    #[error("the log {} is in use by another process{}", dir.display(),
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    InUse {
        /// The log's directory.
        dir: PathBuf,
        /// The process that has it, where it could be read.
        pid: Option<u32>,
    },
    /// What is on the disk is not what was acknowledged.
    #[error(transparent)]
    Damage(#[from] Damage),
    /// An option is out of its range.
    #[error("{option} of the log can't be {value}: {why}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// What was given.
        value: u64,
        /// What it must be.
        why: &'static str,
    },
    /// The system refused something.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// A place where something else stands than was written there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is damaged at offset {offset}: {what}", path.display())]
pub struct Damage {
    /// The file, or the directory where a file is missing.
    pub path: PathBuf,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// What is there.
    pub what: String,
}

impl Damage {
    /// What to do about it.
    pub const HINT: &'static str =
        "`inlet fsck` lists all damage, `inlet fsck --repair` sets it aside and keeps the rest";
}

/// The system refused something.
#[derive(Debug, thiserror::Error)]
#[error("could not {attempted} {}", path.display())]
pub struct IoError {
    /// What was attempted.
    pub attempted: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl IoError {
    /// Opening a segment or a record failed. Something of that name that is no regular file is
    /// damage.
    pub(crate) fn opening<'a>(path: &'a Path) -> impl FnOnce(io::Error) -> ReadError + 'a {
        move |source| match source.kind() {
            io::ErrorKind::IsADirectory => {
                let what = "it is not a regular file".to_owned();
                Damage { path: path.to_owned(), offset: 0, what }.into()
            }
            _ => Self::on("open", path)(source).into(),
        }
    }

    pub(crate) fn on<'a>(
        attempted: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self { attempted, path: path.to_owned(), source }
    }
}

/// Why a batch could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// What is on the disk is not what was written. The reader stands before it.
    #[error(transparent)]
    Damage(#[from] Damage),
    /// The system refused something. Reading may be tried again.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl From<ReadError> for OpenError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Damage(damage) => damage.into(),
            ReadError::Io(error) => error.into(),
        }
    }
}

/// Why the log's writer ended before it was asked to.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DriveError {
    /// A write or a sync failed.
    #[error(transparent)]
    Poisoned(#[from] Arc<Poison>),
    /// The log is driven already.
    #[error("the log {} is driven already", dir.display())]
    Twice {
        /// The log's directory.
        dir: Arc<Path>,
    },
}

/// The reason drained segments could not be removed. The next release tries again.
#[derive(Debug, thiserror::Error)]
#[error("could not release the log {} up to {position}", dir.display())]
pub struct ReleaseError {
    /// The log's directory.
    pub dir: PathBuf,
    /// The position that was asked for.
    pub position: Position,
    /// The cause.
    #[source]
    pub source: ReadError,
}
