//! Releases a log that this process does not write.

use std::io;
use std::path::Path;

use crate::chain;
use crate::disk::{Disk, LockError};
use crate::error::{IoError, ReadError, ReleaseError};
use crate::ledger;
use crate::pair;
use crate::position::Position;
use crate::segment::{self, numbers};

/// Removes the segments of the log in `dir` that are wholly before `position`, whether a writer
/// has it open or not: once something was read from a later segment, the writer is done with
/// those before. The newest segment always stays, so that no number comes again. A writer takes
/// note by [`Log::notice_released`](crate::Log::notice_released) and by itself now and then. For
/// the one that drains the log.
///
/// # Errors
///
/// [`ReleaseError`]; what was not removed is at the next release.
pub fn release(disk: &dyn Disk, dir: &Path, position: Position) -> Result<(), ReleaseError> {
    let failed = |source| ReleaseError { dir: dir.to_owned(), position, source };
    let listed = numbers(disk, dir).map_err(IoError::on("list", dir));
    let numbers = listed.map_err(|error| failed(error.into()))?;
    let Some((&newest, older)) = numbers.split_last() else { return Ok(()) };
    let older = &older[..older.partition_point(|&older| older < position.segment)];
    let Some(last) = older.last() else { return Ok(()) };
    let position = position.min(Position { segment: newest, offset: u64::MAX });
    pair::note_release(disk, dir, last + 1, position).map_err(failed)?;
    remove(disk, dir, older).map_err(|error| failed(IoError::on("remove", dir)(error).into()))
}

/// Removes the log in `dir`, directory and all, if no writer has it, `drained` is the end of its
/// last record, and `agree`, which is asked last, says so; says whether it did. For the logs of
/// instances that will not come back.
///
/// # Errors
///
/// [`ReleaseError`]; a log that was removed in part is empty, and can be removed later.
pub fn remove_drained(
    disk: &dyn Disk,
    dir: &Path,
    drained: Position,
    agree: impl FnOnce() -> bool,
) -> Result<bool, ReleaseError> {
    let failed = |error| ReleaseError {
        dir: dir.to_owned(),
        position: drained,
        source: IoError::on("remove", dir)(error).into(),
    };
    let _lock = match disk.lock(dir) {
        Ok(lock) => lock,
        Err(LockError::Held { .. }) => return Ok(false),
        Err(LockError::Io(error)) => return Err(failed(error)),
    };
    let names = disk.list(dir).map_err(failed)?;
    // What recovery or repair set aside is for a person to look at.
    let kept = |name: &String| name.contains(".torn-") || name == crate::fsck::QUARANTINE;
    if names.iter().any(kept) || !is_drained(disk, dir, drained).map_err(failed)? || !agree() {
        return Ok(false);
    }
    // The log's record of its extent goes first: a removal that is cut off leaves a log with fewer
    // segments, none of which is missed.
    for name in names.iter().filter(|name| ledger::is_entry(name)) {
        disk.remove(&dir.join(name)).map_err(failed)?;
    }
    disk.sync_dir(dir).map_err(failed)?;
    let segments = numbers(disk, dir).map_err(failed)?;
    remove(disk, dir, &segments).map_err(failed)?;
    for name in disk.list(dir).map_err(failed)? {
        disk.remove(&dir.join(name)).map_err(failed)?;
    }
    disk.remove_dir(dir).map_err(failed)?;
    Ok(true)
}

/// Whether all that can be read lies before `drained`, and nothing is there that can't.
fn is_drained(disk: &dyn Disk, dir: &Path, drained: Position) -> io::Result<bool> {
    match chain::sound_tail(disk, dir, drained) {
        Ok(tail) => Ok(tail <= drained),
        Err(ReadError::Damage(_)) => Ok(false),
        Err(ReadError::Io(error)) => Err(error.source),
    }
}

/// Removes segments one at a time, oldest first: a crash leaves no gap between two.
fn remove(disk: &dyn Disk, dir: &Path, numbers: &[u64]) -> io::Result<()> {
    for &number in numbers {
        match disk.remove(&segment::path(dir, number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => disk.sync_dir(dir)?,
        }
    }
    Ok(())
}
