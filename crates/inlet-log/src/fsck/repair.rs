//! Sets damage aside and keeps the rest readable.
//!
//! A damaged segment is copied, the damaged bytes in the copy are covered by a record of the kind
//! "removed" of just their length, and the copy takes the segment's place by a rename. So all
//! other records stay where they were, and positions that are kept elsewhere stay right. A segment
//! that is missing becomes an empty one with such a record. What is out of place altogether is
//! moved away, back to its place if that is free, else into the quarantine, from where its whole
//! records are appended anew. The rest of a torn write is left to the next start.
//!
//! Everything taken out is kept in `quarantine/`. A repair that is cut off can be done again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::look::{Findings, Spot, end_of, look};
use super::loss::{self, Covered, Loss};
use super::salvage::salvage;
use super::set_aside::{self, SALVAGE};
use super::{Problem, ProblemKind, QUARANTINE};
use crate::disk::{Access, Disk, DiskFile, LockError, read_full, write_full};
use crate::error::{AppendError, IoError, OpenError};
use crate::identity::write_id;
use crate::ledger::{self, End, Released};
use crate::position::{LogId, Position};
use crate::record::{Kind, RECORD_BYTES_MAX, RECORD_HEADER_BYTES, RecordHeader};
use crate::scan::Mark;
use crate::segment::{BLOCK_BYTES, GROUPS_START, SegmentHeader, block_after, numbers, path};

/// How much is copied at a time, in bytes.
const COPY_BYTES: usize = 1 << 20;

/// The most missing segments that are replaced; more is no log any more.
const SEGMENTS_MAX: u64 = 65_536;

/// The most times the log is looked at again: a repair may show more behind it.
const PASSES_MAX: usize = 4;

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Repair {
    /// The damage that was there.
    pub damage: Vec<Problem>,
    /// What was taken out, and where it is kept.
    pub taken: Vec<Taken>,
    /// The records that are gone, by the places they were in.
    pub lost: Vec<Loss>,
    /// Records that were out of place and were appended anew.
    pub salvaged: u64,
    /// Records that are readable now.
    pub records: u64,
}

/// Bytes that were taken out of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The file.
    pub path: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// The number of bytes; 0 for something that is no file.
    pub bytes: u64,
    /// Where they are kept.
    pub kept: PathBuf,
    /// True if whole records among them were appended anew.
    pub salvaged: bool,
}

/// The reason a log could not be repaired. Nothing was lost, and the repair may be done again.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// A writer has the log open.
    #[error("the log {} is in use by another process", dir.display())]
    InUse {
        /// The log's directory.
        dir: PathBuf,
    },
    /// There is nothing to go by, or a newer binary wrote it.
    #[error("could not repair {}: {what}", path.display())]
    Beyond {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Records that were out of place could not be appended anew; they are kept.
    #[error("could not append again what was out of place in {}", dir.display())]
    Salvage {
        /// The log's directory.
        dir: PathBuf,
        /// The cause.
        #[source]
        source: SalvageError,
    },
    /// The system refused something.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// The reason records could not be appended anew.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError {
    /// The log did not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A record was not taken.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The bytes that are kept could not be read.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// A repair under way.
pub(super) struct Work<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) dir: &'a Path,
    pub(super) repair: Repair,
    covered: Vec<Covered>,
}

/// What is to be changed in one segment.
#[derive(Debug, Default)]
struct Changes {
    header: Option<SegmentHeader>,
    covers: Vec<Cover>,
}

/// Bytes to be covered by a record that says that something was removed.
#[derive(Debug, Clone, Copy)]
struct Cover {
    offset: u64,
    end: u64,
    mark: Mark,
    /// True if there are whole records in these bytes.
    salvage: bool,
}

/// Repairs the log in a directory, which no writer may have open and which the store has up to
/// `drained`. Blocks while it does.
///
/// # Errors
///
/// [`RepairError`].
pub fn repair(disk: &Arc<dyn Disk>, dir: &Path, drained: Position) -> Result<Repair, RepairError> {
    let mut repair = {
        let _lock = disk.lock(dir).map_err(|error| match error {
            LockError::Held { .. } => RepairError::InUse { dir: dir.to_owned() },
            LockError::Io(error) => IoError::on("lock", dir)(error).into(),
        })?;
        set_right(&**disk, dir, drained)?
    };
    repair.salvaged = salvage(disk, dir, drained)
        .map_err(|source| RepairError::Salvage { dir: dir.to_owned(), source })?;
    for taken in &mut repair.taken {
        let kept = taken.kept.to_string_lossy().into_owned();
        if let Some(kept) = kept.strip_suffix(SALVAGE) {
            (taken.kept, taken.salvaged) = (PathBuf::from(kept), true);
        }
    }
    let after = look(&**disk, dir, drained)?;
    if let Some(left) = after.report.problems.iter().find(|left| left.kind == ProblemKind::Damage) {
        return Err(RepairError::Beyond { path: left.path.clone(), what: left.what.clone() });
    }
    repair.records = after.report.records;
    Ok(repair)
}

/// Sets everything right that can be without appending.
fn set_right(disk: &dyn Disk, dir: &Path, drained: Position) -> Result<Repair, RepairError> {
    let mut work = Work { disk, dir, repair: Repair::default(), covered: Vec::new() };
    let mut sealed = None;
    let mut cut_short = false;
    for pass in 0..PASSES_MAX {
        let findings = look(disk, dir, drained)?;
        let damage = findings.report.problems.iter();
        let damage = damage.filter(|problem| problem.kind == ProblemKind::Damage).cloned();
        if pass == 0 {
            work.repair.damage = damage.collect();
            sealed = findings.recorded.end.and_then(|end| end.sealed);
        }
        if findings.spots.is_empty() {
            break;
        }
        cut_short |= findings.spots.iter().any(|spot| matches!(spot, Spot::Seal));
        let quarantine = dir.join(QUARANTINE);
        disk.create_dir(&quarantine).map_err(IoError::on("make the directory", &quarantine))?;
        let id = work.set_aside(&findings)?;
        let Some(id) = id else { continue };
        for (number, changes) in plan(disk, dir, id, &findings)? {
            change(id, number, changes, &mut work)?;
        }
        work.record(&findings)?;
    }
    let Work { mut repair, covered, .. } = work;
    repair.lost = loss::account(disk, dir, &covered, sealed, cut_short)?;
    Ok(repair)
}

impl Work<'_> {
    /// Moves away what is out of place, and sees to it that the log knows who it is. Nothing
    /// where the log has to be looked at again first.
    fn set_aside(&mut self, findings: &Findings) -> Result<Option<LogId>, RepairError> {
        let mut moved = false;
        let mut misnamed = Vec::new();
        for spot in &findings.spots {
            match spot {
                Spot::Newer { path } => {
                    let what = "a newer binary wrote it; use that one".to_owned();
                    return Err(RepairError::Beyond { path: path.clone(), what });
                }
                Spot::Stray { path } => {
                    let kept = set_aside::put_away(self.disk, self.dir, path, "")?;
                    self.note(path, 0, 0, kept);
                    moved = true;
                }
                Spot::Misnamed { path, header } => misnamed.push((path, header)),
                Spot::Ledger { path } => {
                    let file = self.disk.open(path, Access::Read);
                    let file = file.map_err(IoError::on("open", path))?;
                    let bytes = file.bytes().map_err(IoError::on("look at", path))?;
                    self.keep(path, &*file, 0..bytes.min(1 << 20), None)?;
                    self.disk.remove(path).map_err(IoError::on("remove", path))?;
                    moved = true;
                }
                _ => {}
            }
        }
        moved |= !misnamed.is_empty();
        for (path, kept) in set_aside::put_back(self.disk, self.dir, misnamed, findings)? {
            self.note(&path, 0, 0, kept);
        }
        if moved {
            return Ok(None);
        }
        self.identity(findings).map(Some)
    }

    /// The log's identity; written anew where it was damaged, and made anew where nothing tells it.
    /// The store then has no cursor for it, and knows by their ids the documents that it has.
    fn identity(&mut self, findings: &Findings) -> Result<LogId, RepairError> {
        let path = self.dir.join("log.id");
        let id = match findings.id {
            Some(id) => id,
            None => {
                let random =
                    || self.disk.random().map_err(IoError::on("get random bytes for", &path));
                let mut bytes = [0; 16];
                bytes[..8].copy_from_slice(&random()?.to_le_bytes());
                bytes[8..].copy_from_slice(&random()?.to_le_bytes());
                LogId::from_bytes(bytes)
            }
        };
        if findings.id.is_none() || findings.spots.iter().any(|spot| matches!(spot, Spot::Identity))
        {
            if let Ok(file) = self.disk.open(&path, Access::Read) {
                let bytes = file.bytes().map_err(IoError::on("look at", &path))?;
                self.keep(&path, &*file, 0..bytes.min(1 << 20), None)?;
            }
            write_id(self.disk, self.dir, id)?;
        }
        Ok(id)
    }

    /// Records the log's extent as it is now, where what was recorded is not so.
    fn record(&self, findings: &Findings) -> Result<(), RepairError> {
        let (disk, dir) = (self.disk, self.dir);
        let numbers = numbers(disk, dir).map_err(IoError::on("list", dir))?;
        let (Some(&first), Some(&newest)) = (numbers.first(), numbers.last()) else {
            return Ok(());
        };
        // The end is as sure again once the log was opened and closed.
        ledger::write(disk, dir, &End { newest, sealed: None })?;
        if findings.recorded.released.is_none() {
            let released = Released { first, position: Position::START, store: None };
            ledger::write(disk, dir, &released)?;
        }
        Ok(())
    }

    fn note(&mut self, path: &Path, offset: u64, bytes: u64, kept: PathBuf) {
        let path = path.to_owned();
        self.repair.taken.push(Taken { path, offset, bytes, kept, salvaged: false });
    }

    /// Keeps bytes of a file in the quarantine, durably; with an identity, to be salvaged: there
    /// are whole records of the segment with that identity in them.
    fn keep(
        &mut self,
        path: &Path,
        file: &dyn DiskFile,
        range: Range<u64>,
        salvage: Option<u64>,
    ) -> Result<(), RepairError> {
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let suffix = salvage.map_or(String::new(), |identity| format!("-{identity:016x}{SALVAGE}"));
        let kept =
            set_aside::free_name(self.disk, self.dir, &format!("{name}-{}", range.start), &suffix)?;
        let bytes = range.end - range.start;
        let length = usize::try_from(bytes).map_err(std::io::Error::other);
        let mut taken = vec![0; length.map_err(IoError::on("keep", path))?];
        let read = read_full(file, &mut taken, range.start).map_err(IoError::on("read", path))?;
        let to = self.disk.create(&kept, Access::Write).map_err(IoError::on("create", &kept))?;
        write_full(&*to, &taken[..read], 0).map_err(IoError::on("write", &kept))?;
        to.sync().map_err(IoError::on("sync", &kept))?;
        let quarantine = self.dir.join(QUARANTINE);
        self.disk.sync_dir(&quarantine).map_err(IoError::on("sync", &quarantine))?;
        self.note(path, range.start, bytes, kept);
        Ok(())
    }
}

fn plan(
    disk: &dyn Disk,
    dir: &Path,
    id: LogId,
    findings: &Findings,
) -> Result<BTreeMap<u64, Changes>, RepairError> {
    let mut plan: BTreeMap<u64, Changes> = BTreeMap::new();
    let new_header = |number| {
        let random = disk.random().map_err(IoError::on("get random bytes for", dir))?;
        let identity = random.max(1);
        Ok::<_, IoError>(SegmentHeader { number, identity, log: id, run: None })
    };
    let gaps: BTreeSet<u64> = findings
        .spots
        .iter()
        .filter_map(|spot| match spot {
            Spot::Gap { number } => Some(*number),
            _ => None,
        })
        .collect();
    for spot in &findings.spots {
        match *spot {
            Spot::Segments { first, last } => {
                if last - first >= SEGMENTS_MAX {
                    let what = format!("segments {first} to {last} are missing");
                    return Err(RepairError::Beyond { path: dir.to_owned(), what });
                }
                for number in first..=last {
                    let changes = plan.entry(number).or_default();
                    changes.header = Some(new_header(number)?);
                    changes.covers.push(whole(GROUPS_START));
                }
            }
            Spot::Header { number, header: Some(header), .. } => {
                plan.entry(number).or_default().header = Some(SegmentHeader { log: id, ..header });
            }
            Spot::Header { number, header: None, end } => {
                let changes = plan.entry(number).or_default();
                changes.header = Some(new_header(number)?);
                changes.covers.push(whole(end.max(GROUPS_START)));
            }
            Spot::Bytes { number, offset, end, mark } => {
                let cover = Cover { offset, end, mark, salvage: false };
                plan.entry(number).or_default().covers.push(cover);
            }
            Spot::Misplaced { number, offset, end, mark } => {
                let cover = Cover { offset, end, mark, salvage: true };
                plan.entry(number).or_default().covers.push(cover);
            }
            Spot::Gap { .. }
            | Spot::Identity
            | Spot::Ledger { .. }
            | Spot::Newer { .. }
            | Spot::Stray { .. }
            | Spot::Misnamed { .. }
            | Spot::Seal => {}
        }
    }
    for number in gaps {
        let mark = end_of(disk, dir, id, number)?;
        let cover = Cover { offset: mark.at, end: mark.at, mark, salvage: false };
        plan.entry(number).or_default().covers.push(cover);
    }
    Ok(plan)
}

/// A cover over a segment from its first group on.
fn whole(end: u64) -> Cover {
    let mark = Mark { at: GROUPS_START, group: None, expected: None };
    Cover { offset: GROUPS_START, end, mark, salvage: false }
}

/// Replaces a segment by a copy with the changes in it, or makes one where it is missing.
fn change(
    id: LogId,
    number: u64,
    changes: Changes,
    work: &mut Work<'_>,
) -> Result<(), RepairError> {
    let Work { disk, dir, .. } = *work;
    let old_path = path(dir, number);
    let new_path = old_path.with_extension("seg.new");
    let writing = || IoError::on("write", &new_path);
    let new = disk.create(&new_path, Access::Write).map_err(IoError::on("create", &new_path))?;
    let old = match disk.open(&old_path, Access::Read) {
        Ok(old) => Some(old),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(IoError::on("open", &old_path)(error).into()),
    };
    if let Some(old) = &old {
        copy(&**old, &*new).map_err(IoError::on("copy", &old_path))?;
    }
    let header = match changes.header {
        Some(header) => {
            if let Some(old) = &old {
                // The bytes in place of the header may hold records.
                work.keep(&old_path, &**old, 0..GROUPS_START, Some(header.identity))?;
            }
            write_full(&*new, &header.encode(), 0).map_err(writing())?;
            header
        }
        None => {
            let header = SegmentHeader::read(&*new, number, id).map_err(writing())?;
            header.map_err(|error| RepairError::Beyond {
                path: old_path.clone(),
                what: error.to_string(),
            })?
        }
    };
    for cover in changes.covers {
        if let Some(old) = &old {
            let salvage = cover.salvage.then_some(header.identity);
            work.keep(&old_path, &**old, cover.offset..cover.end, salvage)?;
        }
        work.covered.push(Covered { segment: number, start: cover.offset, end: cover.end });
        cover.write(&*new, header.identity).map_err(writing())?;
    }
    new.sync().map_err(IoError::on("sync", &new_path))?;
    disk.rename(&new_path, &old_path).map_err(IoError::on("rename", &new_path))?;
    disk.sync_dir(dir).map_err(IoError::on("sync", dir))?;
    Ok(())
}

impl Cover {
    fn write(self, file: &dyn DiskFile, identity: u64) -> std::io::Result<()> {
        let Self { mut offset, end, mark, .. } = self;
        let header_bytes = RECORD_HEADER_BYTES as u64;
        let short = (1..header_bytes).contains(&(end - offset));
        if short && block_after(offset) == end {
            // Too little for a record, so it was padding that was not zeros.
            let zeros = vec![0; BLOCK_BYTES];
            let bytes = usize::try_from(end - offset).map_err(std::io::Error::other)?;
            return write_full(file, &zeros[..bytes], offset);
        }
        // Where nothing is to be covered the record only says that something is missing.
        let end = end.max(offset + header_bytes);
        let block = BLOCK_BYTES as u64;
        let mut group = match mark.group {
            Some(group) if offset == mark.at => group,
            _ => offset - offset % block,
        };
        while offset < end {
            let mut bytes = (end - offset).min((RECORD_HEADER_BYTES + RECORD_BYTES_MAX) as u64);
            // What is left must be room for a record, too.
            if end - offset - bytes > 0 && end - offset - bytes < header_bytes {
                bytes -= header_bytes;
            }
            let bytes = usize::try_from(bytes).map_err(std::io::Error::other)?;
            let mut record = vec![0; bytes];
            let length = bytes - RECORD_HEADER_BYTES;
            RecordHeader { length, sequence: 0, identity, group, kind: Kind::Removed }
                .seal(&mut record);
            write_full(file, &record, offset)?;
            offset += bytes as u64;
            group = offset - offset % block;
        }
        Ok(())
    }
}

fn copy(from: &dyn DiskFile, to: &dyn DiskFile) -> std::io::Result<()> {
    let mut chunk = vec![0; COPY_BYTES];
    let mut offset = 0;
    loop {
        let bytes = read_full(from, &mut chunk, offset)?;
        if bytes == 0 {
            return Ok(());
        }
        write_full(to, &chunk[..bytes], offset)?;
        offset += bytes as u64;
    }
}
