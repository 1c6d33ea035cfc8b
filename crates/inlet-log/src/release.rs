//! Releases a log that this process does not write.

use std::io;
use std::path::Path;

use crate::chain;
use crate::disk::{Disk, LockError};
use crate::error::{ReadError, ReleaseError};
use crate::position::Position;
use crate::segment::{self, numbers};

/// Removes the segments of the log in `dir` that are wholly before `position`, whether a writer
/// has it open or not: where something was read from a later segment, the writer is done with
/// those before. The newest segment always stays, so that no number comes again. A writer takes
/// note by [`Log::notice_released`](crate::Log::notice_released) and by itself now and then.
///
/// # Errors
///
/// [`ReleaseError`]; what was not removed is at the next release.
pub fn release(disk: &dyn Disk, dir: &Path, position: Position) -> Result<(), ReleaseError> {
    remove_before(disk, dir, position.segment).map_err(|source| ReleaseError {
        dir: dir.to_owned(),
        position,
        source,
    })
}

/// Removes the log in `dir`, directory and all, if no writer has it and `drained` is the end of
/// its last record; says whether it did. For the logs of instances that will not come back.
///
/// # Errors
///
/// [`ReleaseError`]; a log that was removed in part is empty, and can be removed later.
pub fn remove_drained(
    disk: &dyn Disk,
    dir: &Path,
    drained: Position,
) -> Result<bool, ReleaseError> {
    let failed = |source| ReleaseError { dir: dir.to_owned(), position: drained, source };
    let _lock = match disk.lock(dir) {
        Ok(lock) => lock,
        Err(LockError::Held { .. }) => return Ok(false),
        Err(LockError::Io(error)) => return Err(failed(error)),
    };
    let names = disk.list(dir).map_err(failed)?;
    // What recovery or repair set aside is for a person to look at.
    let kept = |name: &String| name.contains(".torn-") || name == crate::fsck::QUARANTINE;
    if names.iter().any(kept) || !is_drained(disk, dir, drained).map_err(failed)? {
        return Ok(false);
    }
    let segments = numbers(disk, dir).map_err(failed)?;
    for number in segments {
        disk.remove(&segment::path(dir, number)).map_err(failed)?;
        disk.sync_dir(dir).map_err(failed)?;
    }
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

fn remove_before(disk: &dyn Disk, dir: &Path, number: u64) -> io::Result<()> {
    let numbers = numbers(disk, dir)?;
    let older = numbers.split_last().map_or(&[][..], |(_newest, older)| older);
    for &drained in older.iter().filter(|&&older| older < number) {
        match disk.remove(&segment::path(dir, drained)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => disk.sync_dir(dir)?,
        }
    }
    Ok(())
}
