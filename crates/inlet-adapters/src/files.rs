//! What adapters on files share: how an error of the file system is told, and how a name is made
//! to last.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use inlet_core::document::hex;
use inlet_core::failure::{Failure, FailureKind};
use rustix::io::Errno;

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
