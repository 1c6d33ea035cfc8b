//! Appends whole records that were out of place once more, at the end.
//!
//! Whoever drains a log stores a record once, however often it comes, so one that was there
//! already does no harm.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::QUARANTINE;
use super::repair::SalvageError;
use super::set_aside::{SALVAGE, rename};
use crate::disk::{Access, Disk, read_full};
use crate::error::{AppendError, IoError};
use crate::log::{Log, LogOptions, Sync};
use crate::position::Position;
use crate::record::{Kind, RECORD_HEADER_BYTES};
use crate::torn::next_record;

/// Appends what is to be salvaged; says how many records that was.
pub(super) fn salvage(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    drained: Position,
) -> Result<u64, SalvageError> {
    let mut log = None;
    let mut records = 0;
    for (path, identity) in waiting(&**disk, dir)? {
        let file = disk.open(&path, Access::Read).map_err(IoError::on("open", &path))?;
        let bytes = file.bytes().map_err(IoError::on("look at", &path))?;
        let length = usize::try_from(bytes).map_err(std::io::Error::other);
        let mut bytes = vec![0; length.map_err(IoError::on("read", &path))?];
        let read = read_full(&*file, &mut bytes, 0).map_err(IoError::on("read", &path))?;
        let bytes = &bytes[..read];
        let mut from = 0;
        while let Some((at, header)) = next_record(bytes, from, identity) {
            from = at + RECORD_HEADER_BYTES + header.length;
            if header.kind == Kind::Removed {
                continue;
            }
            let log = match &mut log {
                Some(log) => log,
                none => none.insert(open(disk, dir, drained)?),
            };
            append(log, &bytes[at + RECORD_HEADER_BYTES..from])?;
            records += 1;
        }
        let name = path.to_string_lossy();
        let done = PathBuf::from(name.strip_suffix(SALVAGE).unwrap_or(&name));
        rename(&**disk, dir, &path, &done)?;
    }
    let Some(log) = log else { return Ok(0) };
    // Nothing else drives the log, so this does not wait.
    let mut close = pin!(log.close());
    if close.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
        tracing::warn!(dir = %dir.display(), "the log's end is not sealed");
    }
    Ok(records)
}

/// Opens the log to append by hand. Most often there are few records.
fn open(disk: &Arc<dyn Disk>, dir: &Path, drained: Position) -> Result<Log, SalvageError> {
    let first_segment_bytes = 64 << 10;
    let options =
        LogOptions { drained, sync: Sync::Thread, first_segment_bytes, ..LogOptions::default() };
    Ok(Log::open(Arc::clone(disk), dir, &options)?.0)
}

/// The files to be salvaged, with the identity that their records carry.
fn waiting(disk: &dyn Disk, dir: &Path) -> Result<Vec<(PathBuf, u64)>, IoError> {
    let quarantine = dir.join(QUARANTINE);
    let names = match disk.list(&quarantine) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names.map_err(IoError::on("list", &quarantine))?,
    };
    let mut files: Vec<_> = names
        .iter()
        .filter_map(|name| {
            let (_, identity) = name.strip_suffix(SALVAGE)?.rsplit_once('-')?;
            Some((quarantine.join(name), u64::from_str_radix(identity, 16).ok()?))
        })
        .collect();
    files.sort();
    Ok(files)
}

/// Appends a record by hand, and comes back once it is durable.
fn append(log: &Log, payload: &[u8]) -> Result<(), AppendError> {
    let parts = [payload];
    let mut append = log.append(&parts);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(appended) = Pin::new(&mut append).poll(&mut cx) {
            return appended.map(drop);
        }
        log.write_group();
        log.make_segment();
    }
}
