//! Shared by adapters on files: mapping I/O errors to `Failure`, syncing directories, and noticing
//! that a path leads elsewhere than it did.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use inlet_core::document::hex;
use inlet_core::failure::{Failure, FailureKind};
use rustix::io::Errno;

/// A path and the file or directory that it led to when it was opened. What is written to one that
/// was removed, renamed, replaced or unmounted since is nowhere after a restart.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Place {
    /// The place that `path` leads to now.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let there = std::fs::metadata(path)?;
        Ok(Self { path: path.to_owned(), device: there.dev(), inode: there.ino() })
    }

    /// Fails as [`FailureKind::Missing`] where the path leads elsewhere than it did, or nowhere.
    pub(crate) fn check(&self, attempted: &'static str) -> Result<(), Failure> {
        let Self { path, device, inode } = self;
        match std::fs::metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == (*device, *inode) => return Ok(()),
            // A path that may not be looked up is not one that is gone.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
            _ => {}
        }
        Err(Failure::new(FailureKind::Missing, attempted, path.display().to_string())
            .because("it was removed, renamed, replaced or unmounted since it was opened")
            .hint("put it back, or stop Inlet and start it with what is there now"))
    }
}

/// The failure that `error` is, while `attempted` was tried on `path`.
pub(crate) fn failure(error: io::Error, attempted: &'static str, path: &Path) -> Failure {
    let (kind, hint) = match Errno::from_io_error(&error) {
        Some(Errno::NOSPC | Errno::DQUOT) => (FailureKind::Full, Some("make room on the disk")),
        Some(Errno::ROFS) => (
            FailureKind::Refused,
            Some("the file system is read-only; choose another directory with --data"),
        ),
        Some(Errno::ACCESS | Errno::PERM) => (
            FailureKind::Refused,
            Some("check who owns the directory and what it allows, or choose another with --data"),
        ),
        Some(Errno::NOENT) => (
            FailureKind::Missing,
            Some("is it a volume that is not mounted? else name another path"),
        ),
        Some(Errno::NAMETOOLONG | Errno::NOTDIR | Errno::ISDIR | Errno::LOOP) => {
            (FailureKind::Refused, None)
        }
        Some(Errno::MFILE | Errno::NFILE) => {
            (FailureKind::Unavailable, Some("raise the limit of open files (ulimit -n)"))
        }
        _ => (FailureKind::Unavailable, None),
    };
    let failure = Failure::new(kind, attempted, path.display().to_string()).because(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Makes the names in `directory` last: what was created, renamed or removed in it stays so
/// after a power cut.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// A path in `directory` that nothing has: 16 random hexadecimal digits.
pub(crate) fn random_path(directory: &Path) -> io::Result<PathBuf> {
    let mut name = [0; 8];
    getrandom::fill(&mut name).map_err(io::Error::other)?;
    Ok(directory.join(hex(&name)))
}
