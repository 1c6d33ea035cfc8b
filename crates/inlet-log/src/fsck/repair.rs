//! Sets damage aside and keeps the rest readable.
//!
//! A damaged segment is copied, the damaged bytes in the copy are covered by a record of the kind
//! "removed" of just their length, and the copy takes the segment's place by a rename. So all
//! other records stay where they were, and positions that are kept elsewhere stay right. The
//! damaged bytes are kept in `quarantine/` under their segment's name and offset. The rest of a
//! torn write is left to the next start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::disk::{Access, Disk, DiskFile, LockError, read_full, write_full};
use crate::error::IoError;
use crate::fsck::{Findings, Problem, ProblemKind, QUARANTINE, Spot, look};
use crate::identity::write_id;
use crate::position::LogId;
use crate::record::{Kind, RECORD_BYTES_MAX, RECORD_HEADER_BYTES, RecordHeader};
use crate::scan::Mark;
use crate::segment::{BLOCK_BYTES, GROUPS_START, SegmentHeader, block_after, path};

/// How much is copied at a time, in bytes.
const COPY_BYTES: usize = 1 << 20;

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Repair {
    /// The damage that was there.
    pub damage: Vec<Problem>,
    /// What was taken out, and where it is kept.
    pub taken: Vec<Taken>,
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
    /// How many.
    pub bytes: u64,
    /// Where they are kept.
    pub kept: PathBuf,
}

/// Why a log could not be repaired. What was done so far lost nothing and may be done again.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// A writer has the log open.
    #[error("the log {} is in use by another process", dir.display())]
    InUse {
        /// The log's directory.
        dir: PathBuf,
    },
    /// There is damage of a sort that no crash and no bad disk makes.
    #[error("could not repair {}: {what}", path.display())]
    Beyond {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The system refused something.
    #[error(transparent)]
    Io(#[from] IoError),
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
}

/// Repairs the log in a directory, which no writer may have open. Blocks while it does.
///
/// # Errors
///
/// [`RepairError`].
pub fn repair(disk: &dyn Disk, dir: &Path) -> Result<Repair, RepairError> {
    let _lock = disk.lock(dir).map_err(|error| match error {
        LockError::Held { .. } => RepairError::InUse { dir: dir.to_owned() },
        LockError::Io(error) => IoError::on("lock", dir)(error).into(),
    })?;
    let findings = look(disk, dir)?;
    let mut repair = Repair::default();
    let damage = findings.report.problems.iter();
    repair.damage = damage.filter(|problem| problem.kind == ProblemKind::Damage).cloned().collect();
    if findings.spots.is_empty() {
        repair.records = findings.report.records;
        return Ok(repair);
    }
    let quarantine = dir.join(QUARANTINE);
    disk.create_dir(&quarantine).map_err(IoError::on("make the directory", &quarantine))?;
    let id = identity(disk, dir, &findings, &mut repair)?;
    for (number, changes) in plan(disk, dir, id, &findings)? {
        change(disk, dir, id, number, changes, &mut repair)?;
    }
    let after = look(disk, dir)?;
    if let Some(left) = after.report.problems.iter().find(|left| left.kind == ProblemKind::Damage) {
        return Err(RepairError::Beyond { path: left.path.clone(), what: left.what.clone() });
    }
    repair.records = after.report.records;
    Ok(repair)
}

/// The log's identity; written anew where it was damaged.
fn identity(
    disk: &dyn Disk,
    dir: &Path,
    findings: &Findings,
    repair: &mut Repair,
) -> Result<LogId, RepairError> {
    let path = dir.join("log.id");
    let id = findings.id.ok_or_else(|| RepairError::Beyond {
        path: path.clone(),
        what: "neither it nor any segment tells which log this is".to_owned(),
    })?;
    if findings.spots.iter().any(|spot| matches!(spot, Spot::Identity)) {
        if let Ok(file) = disk.open(&path, Access::Read) {
            let bytes = file.bytes().map_err(IoError::on("look at", &path))?;
            repair.taken.push(keep(disk, dir, &path, &*file, 0, bytes.min(1 << 20))?);
        }
        write_id(disk, dir, id)?;
    }
    Ok(id)
}

fn plan(
    disk: &dyn Disk,
    dir: &Path,
    id: LogId,
    findings: &Findings,
) -> Result<BTreeMap<u64, Changes>, RepairError> {
    let mut plan: BTreeMap<u64, Changes> = BTreeMap::new();
    let beyond = |number, what: &str| {
        Err(RepairError::Beyond { path: path(dir, number), what: what.to_owned() })
    };
    let new_header = |number| {
        let random = disk.random().map_err(IoError::on("get random bytes for", dir))?;
        let identity = random.max(1);
        Ok::<_, IoError>(SegmentHeader { number, identity, log: id, run: None })
    };
    for spot in &findings.spots {
        match *spot {
            Spot::Identity => {}
            Spot::Segment { number } => {
                let changes = plan.entry(number).or_default();
                changes.header = Some(new_header(number)?);
                changes.covers.push(whole(GROUPS_START));
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
                plan.entry(number).or_default().covers.push(Cover { offset, end, mark });
            }
            Spot::Gap { number } => {
                let mark = end_of(disk, dir, id, number)?;
                let cover = Cover { offset: mark.at, end: mark.at, mark };
                plan.entry(number).or_default().covers.push(cover);
            }
            Spot::Misplaced { number, offset } => {
                return beyond(number, &format!("a whole record at {offset} is out of its place"));
            }
        }
    }
    Ok(plan)
}

/// A cover over a segment from its first group on.
fn whole(end: u64) -> Cover {
    let mark = Mark { at: GROUPS_START, group: None, expected: None };
    Cover { offset: GROUPS_START, end, mark }
}

/// Where the records of a sound segment end.
fn end_of(disk: &dyn Disk, dir: &Path, id: LogId, number: u64) -> Result<Mark, RepairError> {
    let path = path(dir, number);
    let reading = || IoError::on("read", &path);
    let file = disk.open(&path, Access::Read).map_err(IoError::on("open", &path))?;
    let header = SegmentHeader::read(&*file, number, id).map_err(reading())?;
    let header = header
        .map_err(|error| RepairError::Beyond { path: path.clone(), what: error.to_string() })?;
    let mut scan =
        crate::scan::Scan::new(path.clone(), file, header, GROUPS_START).map_err(reading())?;
    while let crate::scan::Step::Record(_) = scan.step().map_err(reading())? {}
    Ok(scan.mark)
}

fn change(
    disk: &dyn Disk,
    dir: &Path,
    id: LogId,
    number: u64,
    changes: Changes,
    repair: &mut Repair,
) -> Result<(), RepairError> {
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
                repair.taken.push(keep(disk, dir, &old_path, &**old, 0, GROUPS_START)?);
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
            let bytes = cover.end - cover.offset;
            repair.taken.push(keep(disk, dir, &old_path, &**old, cover.offset, bytes)?);
        }
        cover.write(&*new, header.identity).map_err(writing())?;
    }
    new.sync().map_err(IoError::on("sync", &new_path))?;
    disk.rename(&new_path, &old_path).map_err(IoError::on("rename", &new_path))?;
    disk.sync_dir(dir).map_err(IoError::on("sync", dir))?;
    Ok(())
}

impl Cover {
    fn write(self, file: &dyn DiskFile, identity: u64) -> std::io::Result<()> {
        let Self { mut offset, end, mark } = self;
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

/// Keeps bytes of a file in the quarantine, durably.
fn keep(
    disk: &dyn Disk,
    dir: &Path,
    path: &Path,
    file: &dyn DiskFile,
    offset: u64,
    bytes: u64,
) -> Result<Taken, RepairError> {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let quarantine = dir.join(QUARANTINE);
    let kept = quarantine.join(format!("{name}-{offset}"));
    let length = usize::try_from(bytes).map_err(std::io::Error::other);
    let mut taken = vec![0; length.map_err(IoError::on("keep", path))?];
    let read = read_full(file, &mut taken, offset).map_err(IoError::on("read", path))?;
    let to = disk.create(&kept, Access::Write).map_err(IoError::on("create", &kept))?;
    write_full(&*to, &taken[..read], 0).map_err(IoError::on("write", &kept))?;
    to.sync().map_err(IoError::on("sync", &kept))?;
    disk.sync_dir(&quarantine).map_err(IoError::on("sync", &quarantine))?;
    Ok(Taken { path: path.to_owned(), offset, bytes, kept })
}
