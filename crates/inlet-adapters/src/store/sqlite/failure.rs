//! What an error of SQLite means for the caller.

use std::io;
use std::path::Path;

use inlet_core::failure::{Failure, FailureKind};
use rusqlite::ffi::{self, ErrorCode};

/// The failure that `error` is, while `attempted` was tried on the file at `path`.
pub(super) fn failure(error: rusqlite::Error, attempted: &'static str, path: &Path) -> Failure {
    let (kind, hint) = classify(&error);
    let failure = Failure::new(kind, attempted, path.display().to_string()).because(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// The same for what was tried on the file or its directory without SQLite.
pub(super) fn io_failure(error: io::Error, attempted: &'static str, path: &Path) -> Failure {
    crate::files::failure(error, attempted, path)
}

/// Whether SQLite refused this one row: the row can't be stored as it is, and others can.
pub(super) fn is_refusal(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch)
    )
}

/// Whether there was no room.
pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    classify(error).0 == FailureKind::Full
}

/// An error for what is in the file and can't be: it was not written by us like this.
pub(super) fn damaged(column: &'static str) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(
        ffi::Error::new(ffi::SQLITE_CORRUPT),
        Some(format!("a value of `{column}` is not one that was ever written")),
    )
}

fn classify(error: &rusqlite::Error) -> (FailureKind, Option<&'static str>) {
    const LOCKED: &str = "another process holds the lock on the file; it is tried again";
    const DAMAGED: &str =
        "the file is damaged: keep it aside and restore the last backup with `inlet restore`";
    const FULL: &str = "make room on the disk (or raise the limit of the store)";
    const READ_ONLY: &str = "check who owns the file and its directory, and how it is mounted";
    let rusqlite::Error::SqliteFailure(code, _) = error else {
        return match error {
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::Utf8Error(..) => (FailureKind::Damaged, Some(DAMAGED)),
            _ => (FailureKind::Refused, None),
        };
    };
    match (code.code, code.extended_code) {
        (_, ffi::SQLITE_IOERR_DATA | ffi::SQLITE_IOERR_CORRUPTFS) => {
            (FailureKind::Damaged, Some(DAMAGED))
        }
        // The shared-memory file beside the write-ahead log could not be made longer.
        (_, ffi::SQLITE_IOERR_SHMSIZE) => (FailureKind::Full, Some(FULL)),
        (ErrorCode::DiskFull, _) => (FailureKind::Full, Some(FULL)),
        (ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _) => {
            (FailureKind::Damaged, Some(DAMAGED))
        }
        (ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _) => {
            (FailureKind::Unavailable, Some(LOCKED))
        }
        (
            ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::AuthorizationForStatementDenied,
            _,
        ) => (FailureKind::Refused, Some(READ_ONLY)),
        (ErrorCode::CannotOpen, _) => (FailureKind::Unavailable, Some(READ_ONLY)),
        (
            ErrorCode::SystemIoFailure
            | ErrorCode::OutOfMemory
            | ErrorCode::OperationInterrupted
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::SchemaChanged,
            _,
        ) => (FailureKind::Unavailable, None),
        _ => (FailureKind::Refused, None),
    }
}
