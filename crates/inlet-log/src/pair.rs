//! The pair of a log and the store that its records go to.
//!
//! A log lets go of segments once everything in them is stored. It then depends on that store:
//! another one in its place, or the same one as it was earlier, lacks what the log no longer has.
//! So the log records which store it is, before anything is let go of, and up to where.

use std::path::{Path, PathBuf};

use crate::disk::{Disk, LockError};
use crate::error::{IoError, ReadError};
use crate::ledger::{self, Released};
use crate::position::{Position, StoreId};
use crate::segment::numbers;

/// The reason a log and a store do not belong together. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// The log was let go of into another store.
    #[error(
        "the log {} was stored in the store {recorded}, and the store here is {found}",
        dir.display()
    )]
    OtherStore {
        /// The log's directory.
        dir: PathBuf,
        /// The store that the log records.
        recorded: StoreId,
        /// The store that is there.
        found: StoreId,
    },
    /// The store is the right one, but as it was earlier.
    #[error(
        "the store {store} has the log {} up to {stored}, and the log was let go of up to \
         {released}: this is an older copy of the store",
        dir.display()
    )]
    OlderStore {
        /// The log's directory.
        dir: PathBuf,
        /// The store.
        store: StoreId,
        /// Up to where the store has the log.
        stored: Position,
        /// Up to where the log was let go of.
        released: Position,
    },
    /// The log's own record can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The store that the log in a directory records; nothing before anything of it was stored.
///
/// # Errors
///
/// [`ReadError`].
pub fn recorded_store(disk: &dyn Disk, dir: &Path) -> Result<Option<StoreId>, ReadError> {
    Ok(ledger::read::<Released>(disk, dir)?.and_then(|released| released.store))
}

/// Checks that the log in a directory and a store belong together, where the store has the log up
/// to `stored`.
///
/// # Errors
///
/// [`PairError`].
pub fn check_pair(
    disk: &dyn Disk,
    dir: &Path,
    store: StoreId,
    stored: Position,
) -> Result<(), PairError> {
    let Some(released) = ledger::read::<Released>(disk, dir)? else { return Ok(()) };
    let dir = dir.to_owned();
    match released.store {
        Some(recorded) if recorded != store => {
            Err(PairError::OtherStore { dir, recorded, found: store })
        }
        Some(store) if stored < released.position => {
            let released = released.position;
            Err(PairError::OlderStore { dir, store, stored, released })
        }
        _ => Ok(()),
    }
}

/// Records the store that the log in a directory goes to, durably, where none is recorded. To be
/// called by the one who drains the log, before it is let go of.
///
/// # Errors
///
/// [`PairError`]; the pair is checked as by [`check_pair`].
pub fn bind_store(
    disk: &dyn Disk,
    dir: &Path,
    store: StoreId,
    stored: Position,
) -> Result<(), PairError> {
    check_pair(disk, dir, store, stored)?;
    let released = released(disk, dir)?;
    if released.store.is_none() {
        let bound = Released { store: Some(store), ..released };
        ledger::write(disk, dir, &bound).map_err(ReadError::from)?;
    }
    Ok(())
}

/// The reason a log could not be given to another store. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// A writer has the log open.
    #[error("the log {} is in use by another process", dir.display())]
    InUse {
        /// The log's directory.
        dir: PathBuf,
    },
    /// The log's own record can't be read or written.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Has the log in a directory, which nobody may have open, go on with another store than the one
/// it records, which has the log up to `stored`; with none given, with whichever comes first.
///
/// # Errors
///
/// [`AdoptError`].
pub fn adopt_store(
    disk: &dyn Disk,
    dir: &Path,
    store: Option<StoreId>,
    stored: Position,
) -> Result<(), AdoptError> {
    let _lock = disk.lock(dir).map_err(|error| match error {
        LockError::Held { .. } => AdoptError::InUse { dir: dir.to_owned() },
        LockError::Io(error) => ReadError::from(IoError::on("lock", dir)(error)).into(),
    })?;
    let released = released(disk, dir)?;
    let adopted = Released { position: released.position.min(stored), store, ..released };
    Ok(ledger::write(disk, dir, &adopted).map_err(ReadError::from)?)
}

/// The record of what was released. A log that only an older binary has drained has none: then
/// what is there is all there should be.
pub(crate) fn released(disk: &dyn Disk, dir: &Path) -> Result<Released, ReadError> {
    if let Some(released) = ledger::read::<Released>(disk, dir)? {
        return Ok(released);
    }
    let numbers = numbers(disk, dir).map_err(IoError::on("list", dir))?;
    let first = numbers.first().copied().unwrap_or(1);
    Ok(Released { first, position: Position::START, store: None })
}

/// Records that all segments before `first` go, everything in which is stored up to `position`.
/// Written before they are removed; a record that says so already is left.
pub(crate) fn note_release(
    disk: &dyn Disk,
    dir: &Path,
    first: u64,
    position: Position,
) -> Result<(), ReadError> {
    let known = released(disk, dir)?;
    let noted = Released {
        first: known.first.max(first),
        position: known.position.max(position),
        store: known.store,
    };
    if noted.first > known.first {
        ledger::write(disk, dir, &noted)?;
    }
    Ok(())
}
