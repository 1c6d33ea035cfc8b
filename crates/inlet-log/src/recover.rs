//! What an open finds, and what it makes good. The only place that truncates.
//!
//! All segments that are not drained are read once, in order. What may be cut is the rest of one
//! write at the end of the last segment that holds records, when `torn.rs` says that a crash left
//! it there: the bytes are first kept aside in a file `….seg.torn-OFFSET`, synced, then the
//! segment is cut where its last whole record ends, and that is told. A segment that was prepared
//! ahead and never written to does not count as the last. Everything else that is not as it was
//! written is damage, and the open is refused.
//!
//! At the end the last group is written once more, with the same bytes, and synced. What is read
//! here may be in the page cache only: when the process alone died before its sync, or when the
//! sync failed, after which the system calls the pages clean, and a second sync would return
//! success with nothing on the disk. Were such records relied on, a later loss of power would
//! leave a gap in the middle of the log. The groups before it were synced, since the next is
//! written only then. Last, the segment is cut to what it holds, which gives back the room it
//! had reserved and changes nothing that was written.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::committer::Extent;
use crate::disk::{Access, Disk, DiskFile, read_full, write_full};
use crate::error::{Damage, IoError, OpenError, ReadError};
use crate::position::{LogId, Position};
use crate::scan::{BadSpot, Scan, Step};
use crate::segment::{GROUPS_START, SegmentHeader, is_unfinished, number, numbers, path};
use crate::torn::{Verdict, judge};

const ID: &str = "log.id";
const ID_NEW: &str = "log.id.new";

/// What an open found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// Segments on the disk.
    pub segments: usize,
    /// Records in those that were read: all that are not drained.
    pub records: u64,
    /// The end of the last record.
    pub tail: Position,
    /// What was cut off, if a crash left something to cut.
    pub torn: Option<Torn>,
}

/// The rest of a write that a crash cut off. Nothing in it was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// The segment it was cut from.
    pub path: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// How many bytes, up to the last that was not zero.
    pub bytes: u64,
    /// Where these bytes are kept.
    pub kept: PathBuf,
    /// Whether later parts of the same write were there.
    pub hole: bool,
}

/// What the log goes on from.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) extents: VecDeque<Extent>,
    pub(crate) next_number: u64,
    /// What the next record of the last run would have had; 0 where it is not known.
    pub(crate) previous_sequence: u64,
    pub(crate) recovery: Recovery,
}

/// A segment that was read to its end.
struct Read {
    number: u64,
    scan: Scan,
    file: Arc<dyn DiskFile>,
    bad: Option<BadSpot>,
    records: u64,
}

impl Read {
    fn is_blank(&self) -> bool {
        self.bad.is_none() && self.scan.mark.at == GROUPS_START
    }

    fn damage(&self, bad: BadSpot) -> Damage {
        Damage { path: self.scan.path.clone(), offset: bad.offset, what: bad.what.to_owned() }
    }
}

/// Reads the identity of the log in a directory; `None` where there is no log yet.
pub(crate) fn read_id(disk: &dyn Disk, dir: &Path) -> Result<Option<LogId>, ReadError> {
    let path = dir.join(ID);
    let file = match disk.open(&path, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(IoError::on("open", &path)(error).into()),
    };
    let mut text = [0; 64];
    let bytes = read_full(&*file, &mut text, 0).map_err(IoError::on("read", &path))?;
    let id = text[..bytes].strip_suffix(b"\n").and_then(|text| str::from_utf8(text).ok());
    match id.and_then(|text| text.parse().ok()) {
        Some(id) => Ok(Some(id)),
        None => {
            let what = "this is no log identity".to_owned();
            Err(Damage { path, offset: 0, what }.into())
        }
    }
}

/// The identity of the log in a directory, made if there is no log yet.
pub(crate) fn make_id(disk: &dyn Disk, dir: &Path) -> Result<LogId, OpenError> {
    let random = || disk.random().map_err(IoError::on("get random bytes for", dir));
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&random()?.to_le_bytes());
    bytes[8..].copy_from_slice(&random()?.to_le_bytes());
    let id = LogId::from_bytes(bytes);
    write_id(disk, dir, id)?;
    Ok(id)
}

/// Writes the identity of a log, durably and in one step.
pub(crate) fn write_id(disk: &dyn Disk, dir: &Path, id: LogId) -> Result<(), IoError> {
    let (new, path) = (dir.join(ID_NEW), dir.join(ID));
    let file = disk.create(&new, Access::Write).map_err(IoError::on("create", &new))?;
    write_full(&*file, format!("{id}\n").as_bytes(), 0).map_err(IoError::on("write", &new))?;
    file.sync().map_err(IoError::on("sync", &new))?;
    disk.rename(&new, &path).map_err(IoError::on("rename", &new))?;
    disk.sync_dir(dir).map_err(IoError::on("sync", dir))
}

/// Checks what is in a directory and makes good what a crash left. `drained` is up to where all
/// is stored; segments before that are not read.
pub(crate) fn recover(
    disk: &dyn Disk,
    dir: &Path,
    id: LogId,
    drained: Position,
) -> Result<Recovered, OpenError> {
    let numbers = tidy(disk, dir)?;
    check_chain(dir, &numbers, drained)?;
    let mut reads = read_undrained(disk, dir, id, &numbers, drained)?;
    let torn = match reads.iter().position(|read| read.bad.is_some()) {
        None => None,
        Some(at) => Some(cut(disk, dir, &mut reads, at)?),
    };
    seal(&reads)?;

    let end = |number| {
        let read = reads.iter().find(|read| read.number == number);
        read.map_or(GROUPS_START, |read| read.scan.mark.at)
    };
    let extents: VecDeque<Extent> =
        numbers.iter().map(|&number| Extent { number, end: end(number) }).collect();
    let last = extents.back().copied();
    // Where no record is left, the last that was is the last that was drained.
    let tail = extents.iter().rfind(|extent| extent.end > GROUPS_START);
    let tail =
        tail.map_or(drained, |extent| Position { segment: extent.number, offset: extent.end });
    let records = reads.iter().map(|read| read.records).sum();
    Ok(Recovered {
        next_number: last.map_or(1, |last| last.number + 1),
        previous_sequence: reads.last().and_then(|read| read.scan.mark.expected).unwrap_or(0),
        recovery: Recovery { segments: extents.len(), records, tail, torn },
        extents,
    })
}

/// The end of the last record of a log in which everything is as it was written, a torn tail not
/// excepted. Changes nothing.
pub(crate) fn sound_tail(
    disk: &dyn Disk,
    dir: &Path,
    drained: Position,
) -> Result<Position, ReadError> {
    let id = read_id(disk, dir)?.ok_or_else(|| lost_id(dir))?;
    let numbers = numbers(disk, dir).map_err(IoError::on("list", dir))?;
    check_chain(dir, &numbers, drained)?;
    let reads = read_undrained(disk, dir, id, &numbers, drained)?;
    if let Some((read, bad)) = reads.iter().find_map(|read| Some((read, read.bad?))) {
        return Err(read.damage(bad).into());
    }
    let last = reads.iter().rfind(|read| !read.is_blank());
    Ok(last.map_or(Position::START, |read| Position {
        segment: read.number,
        offset: read.scan.mark.at,
    }))
}

/// Removes segments whose making was not finished; gives the numbers of those that are there.
fn tidy(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>, OpenError> {
    let names = disk.list(dir).map_err(IoError::on("list", dir))?;
    for unfinished in names.iter().filter(|name| is_unfinished(name)) {
        let path = dir.join(unfinished);
        disk.remove(&path).map_err(IoError::on("remove", &path))?;
    }
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| number(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Segments are removed from the oldest on, so there is none missing between two.
fn check_chain(dir: &Path, numbers: &[u64], drained: Position) -> Result<(), Damage> {
    let missing = |number: u64, why: &str| Damage {
        path: dir.to_owned(),
        offset: 0,
        what: format!("segment {number} is missing{why}"),
    };
    if let Some(pair) = numbers.windows(2).find(|pair| pair[0] + 1 != pair[1]) {
        return Err(missing(pair[0] + 1, ""));
    }
    if numbers.last().copied().unwrap_or(0) < drained.segment {
        return Err(missing(drained.segment, &format!(", but is drained up to {drained}")));
    }
    Ok(())
}

fn read_undrained(
    disk: &dyn Disk,
    dir: &Path,
    id: LogId,
    numbers: &[u64],
    drained: Position,
) -> Result<Vec<Read>, ReadError> {
    let mut reads: Vec<Read> = Vec::new();
    for &number in numbers.iter().filter(|&&number| number >= drained.segment) {
        let path = path(dir, number);
        let file = disk.open(&path, Access::Write).map_err(IoError::on("open", &path))?;
        let header = SegmentHeader::read(&*file, number, id).map_err(IoError::on("read", &path))?;
        let header = header.map_err(|error| Damage {
            path: path.clone(),
            offset: 0,
            what: error.to_string(),
        })?;
        let reading = IoError::on("read", &path);
        let scan = Scan::new(path.clone(), Arc::clone(&file), header, GROUPS_START);
        let mut read = Read { number, scan: scan.map_err(reading)?, file, bad: None, records: 0 };
        if let Some(before) = reads.last() {
            carry_on(before, &mut read)?;
        }
        read_to_end(&mut read).map_err(IoError::on("read", &path))?;
        reads.push(read);
    }
    Ok(reads)
}

/// Ties a segment to the one before it.
fn carry_on(before: &Read, read: &mut Read) -> Result<(), Damage> {
    match read.scan.header.run {
        None => read.scan.mark.expected = before.scan.mark.expected,
        // What is wrong with the one before is said by its bad spot.
        Some(_) if before.bad.is_some() => {}
        Some(run) => {
            let expected = before.scan.mark.expected;
            if run.previous_sequence != 0 && expected.is_some_and(|e| e != run.previous_sequence) {
                return Err(Damage {
                    path: before.scan.path.clone(),
                    offset: before.scan.mark.at,
                    what: "records are missing at the end of this run".to_owned(),
                });
            }
        }
    }
    Ok(())
}

fn read_to_end(read: &mut Read) -> std::io::Result<()> {
    read.bad = loop {
        match read.scan.step()? {
            Step::Record(_) => read.records += 1,
            Step::Bad(bad) => break Some(bad),
            Step::End => {
                let end = crate::segment::block_after(read.scan.mark.at);
                let what = "bytes where nothing was written, or a write whose start is missing";
                let nonzero = read.scan.first_nonzero(end)?;
                break nonzero.map(|_| BadSpot { offset: end, what });
            }
        }
    };
    Ok(())
}

/// Cuts off what a crash left at the bad spot of `reads[at]`, or refuses.
fn cut(disk: &dyn Disk, dir: &Path, reads: &mut [Read], at: usize) -> Result<Torn, OpenError> {
    let last = reads[at + 1..].iter().all(|read| read.is_blank() && read.scan.header.run.is_none());
    let read = &mut reads[at];
    let bad = read.bad.expect("the caller found one");
    if !last {
        return Err(read.damage(bad).into());
    }
    let path = read.scan.path.clone();
    let rest = read.scan.rest(bad.offset).map_err(IoError::on("read", &path))?;
    let verdict = judge(&rest, bad.offset, read.scan.header.identity);
    if verdict == Verdict::Damage {
        return Err(read.damage(bad).into());
    }
    let bytes = rest.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let mut name = path.clone().into_os_string();
    name.push(format!(".torn-{}", bad.offset));
    let kept = PathBuf::from(name);
    let file = disk.create(&kept, Access::Write).map_err(IoError::on("create", &kept))?;
    write_full(&*file, &rest[..bytes], 0).map_err(IoError::on("write", &kept))?;
    file.sync().map_err(IoError::on("sync", &kept))?;
    disk.sync_dir(dir).map_err(IoError::on("sync", dir))?;
    read.bad = None;
    Ok(Torn {
        path,
        offset: bad.offset,
        bytes: bytes as u64,
        kept,
        hole: verdict == Verdict::TornGroup,
    })
}

/// Makes the last segment with records durable, and cuts it and the blank ones after it to what
/// they hold.
fn seal(reads: &[Read]) -> Result<(), IoError> {
    let Some(last) = reads.iter().rposition(|read| !read.is_blank()).or(reads.len().checked_sub(1))
    else {
        return Ok(());
    };
    // Where a later run was started, an earlier open has done this.
    if reads[last + 1..].iter().all(|read| read.scan.header.run.is_none()) {
        write_again(&reads[last])?;
    }
    for read in &reads[last..] {
        let path = &read.scan.path;
        let end = read.scan.mark.at;
        if read.file.bytes().map_err(IoError::on("look at", path))? > end {
            read.file.truncate(end).map_err(IoError::on("cut", path))?;
            read.file.sync().map_err(IoError::on("sync", path))?;
        }
    }
    Ok(())
}

/// Writes the last group again, with the same bytes, and syncs it.
fn write_again(read: &Read) -> Result<(), IoError> {
    let path = &read.scan.path;
    if let Some(group) = read.scan.mark.group {
        let bytes = usize::try_from(read.scan.mark.at - group).map_err(std::io::Error::other);
        let mut bytes = vec![0; bytes.map_err(IoError::on("read", path))?];
        let there = read_full(&*read.file, &mut bytes, group).map_err(IoError::on("read", path))?;
        write_full(&*read.file, &bytes[..there], group).map_err(IoError::on("write", path))?;
    }
    read.file.sync().map_err(IoError::on("sync", path))
}

/// The damage of a log whose identity is not there though its segments are.
pub(crate) fn lost_id(dir: &Path) -> Damage {
    let what = "the log's identity is missing though there are segments".to_owned();
    Damage { path: dir.join(ID), offset: 0, what }
}
