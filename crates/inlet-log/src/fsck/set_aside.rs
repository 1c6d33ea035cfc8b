//! Moves what is out of place: back to its place, or into the quarantine.

use std::io;
use std::path::{Path, PathBuf};

use super::QUARANTINE;
use super::look::Findings;
use crate::disk::{Access, Disk, read_full};
use crate::error::IoError;
use crate::segment::{self, SegmentHeader};

/// The end of the names in the quarantine of files whose whole records are yet to be appended
/// anew; before it stands the identity that these records carry.
pub(super) const SALVAGE: &str = ".salvage";

/// A name in the quarantine that nothing has.
pub(super) fn free_name(
    disk: &dyn Disk,
    dir: &Path,
    name: &str,
    suffix: &str,
) -> Result<PathBuf, IoError> {
    let quarantine = dir.join(QUARANTINE);
    let names = disk.list(&quarantine).map_err(IoError::on("list", &quarantine))?;
    let is_taken = |wanted: &str| names.iter().any(|name| name.starts_with(wanted));
    let mut free = name.to_owned();
    let mut copies = 1;
    while is_taken(&free) {
        copies += 1;
        free = format!("{name}.{copies}");
    }
    Ok(quarantine.join(free + suffix))
}

/// Moves something into the quarantine, whatever it is, durably.
pub(super) fn put_away(
    disk: &dyn Disk,
    dir: &Path,
    path: &Path,
    suffix: &str,
) -> Result<PathBuf, IoError> {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let kept = free_name(disk, dir, &name, suffix)?;
    rename(disk, dir, path, &kept)?;
    Ok(kept)
}

/// Moves segments under wrong names to their places, where these are free, else into the
/// quarantine. Gives what went there: from where and to where.
pub(super) fn put_back(
    disk: &dyn Disk,
    dir: &Path,
    misnamed: Vec<(&PathBuf, &SegmentHeader)>,
    findings: &Findings,
) -> Result<Vec<(PathBuf, PathBuf)>, IoError> {
    // All of them go first: two that were swapped are in each other's place.
    let mut away = Vec::new();
    for (path, header) in misnamed {
        let suffix = format!("-{:016x}{SALVAGE}", header.identity);
        away.push((path, header, put_away(disk, dir, path, &suffix)?));
    }
    let mut kept = Vec::new();
    for (path, header, at) in away {
        let place = segment::path(dir, header.number);
        let belongs = header.number <= findings.newest.max(findings.recorded_newest()) + 1;
        match disk.open(&place, Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && belongs => {
                rename(disk, dir, &at, &place)?;
            }
            // A copy of what is in its place has nothing to salvage.
            Ok(there) if same(disk, &*there, &at)? => {
                let name = at.to_string_lossy();
                let plain = PathBuf::from(name.strip_suffix(SALVAGE).unwrap_or(&name));
                rename(disk, dir, &at, &plain)?;
                kept.push((path.clone(), plain));
            }
            _ => kept.push((path.clone(), at)),
        }
    }
    Ok(kept)
}

/// Moves something between the log's directory and its quarantine, durably.
pub(super) fn rename(disk: &dyn Disk, dir: &Path, from: &Path, to: &Path) -> Result<(), IoError> {
    disk.rename(from, to).map_err(IoError::on("move", from))?;
    // The destination first, then the source: it may be in both after a crash, never in none.
    let quarantine = dir.join(QUARANTINE);
    let dirs = match to.starts_with(&quarantine) {
        true => [quarantine.as_path(), dir],
        false => [dir, quarantine.as_path()],
    };
    for dir in dirs {
        disk.sync_dir(dir).map_err(IoError::on("sync", dir))?;
    }
    Ok(())
}

/// Returns true if a file holds the same bytes as the one at a path.
fn same(disk: &dyn Disk, one: &dyn crate::disk::DiskFile, path: &Path) -> Result<bool, IoError> {
    let reading = || IoError::on("read", path);
    let other = disk.open(path, Access::Read).map_err(IoError::on("open", path))?;
    let (mut first, mut second) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut offset = 0;
    loop {
        let read = read_full(one, &mut first, offset).map_err(reading())?;
        let beside = read_full(&*other, &mut second, offset).map_err(reading())?;
        if first[..read] != second[..beside] {
            return Ok(false);
        }
        if read == 0 {
            return Ok(true);
        }
        offset += read as u64;
    }
}
