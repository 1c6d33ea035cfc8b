//! What an open finds, and what it makes good. The only place that truncates.
//!
//! All segments that are not drained are read once, in order. What may be cut is the rest of one
//! write at the end of the last segment that holds records, when `torn.rs` says that a crash may
//! have left it there and the log was not closed: the bytes are first kept aside in a file
//! `….seg.torn-OFFSET`, synced, then the segment is cut where its last whole record ends, and that
//! is told. A segment that was prepared ahead and never written to does not count as the last.
//! Everything else that is not as it was written is damage, and the open is refused. A close
//! seals the end (`ledger.rs`), so after one even the last byte is known.
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

use crate::chain::{Read, Recorded, check_chain, check_seal, read_undrained};
use crate::committer::Extent;
use crate::disk::{Access, Disk, DiskFile, read_full, write_full};
use crate::error::{IoError, OpenError};
use crate::ledger::{self, End, Released};
use crate::position::{LogId, Position};
use crate::segment::{GROUPS_START, is_unfinished, number};
use crate::torn::{Verdict, judge};

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

/// Bytes at the end of a log that was not closed and that are no whole records.
///
/// They are the rest of a write that a crash cut off, none of which was acknowledged, or, where
/// there is no [hole](Self::hole), possibly the last write that was acknowledged, damaged since:
/// without a close nothing tells the two apart.
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
    /// True if later parts of the same write were there: then it is certainly a write that was cut
    /// off.
    pub hole: bool,
}

impl Torn {
    /// The meaning of these bytes, as far as it is known, as a sentence.
    pub fn meaning(&self) -> &'static str {
        if self.hole {
            "the rest of a write that was cut off was set aside; none of it was acknowledged"
        } else {
            "the end of the log is no whole record and was set aside; the log was not closed, so \
             this is either the rest of a write that was cut off, which nobody was told is kept, \
             or the last write, damaged since: which of the two is not known"
        }
    }
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

/// Checks what is in a directory and makes good what a crash left. `drained` is up to where all
/// is stored; segments before that are not read.
pub(crate) fn recover(
    disk: &dyn Disk,
    dir: &Path,
    id: LogId,
    drained: Position,
) -> Result<Recovered, OpenError> {
    let end = ledger::read::<End>(disk, dir)?;
    let released = ledger::read::<Released>(disk, dir)?;
    let numbers = tidy(disk, dir)?;
    check_chain(dir, &numbers, drained, Recorded { end, released })?;
    let mut reads = read_undrained(disk, dir, id, &numbers, drained)?;
    if let Some(End { newest, sealed: Some(sealed) }) = end {
        check_seal(dir, &reads, newest, sealed)?;
    }
    let torn = match reads.iter().position(|read| read.bad.is_some()) {
        None => None,
        Some(at) => Some(cut(disk, dir, &mut reads, at)?),
    };
    seal(disk, &reads)?;

    let end = |number| {
        let read = reads.iter().find(|read| read.number == number);
        read.map_or(GROUPS_START, |read| read.mark.at)
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
        previous_sequence: reads.last().and_then(|read| read.mark.expected).unwrap_or(0),
        recovery: Recovery { segments: extents.len(), records, tail, torn },
        extents,
    })
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

/// Cuts off what a crash left at the bad spot of `reads[at]`, or refuses.
fn cut(disk: &dyn Disk, dir: &Path, reads: &mut [Read], at: usize) -> Result<Torn, OpenError> {
    let last = reads[at + 1..].iter().all(|read| read.is_blank() && read.header.run.is_none());
    let read = &mut reads[at];
    let bad = read.bad.expect("the caller found one");
    if !last {
        return Err(read.damage(bad).into());
    }
    let path = read.path.clone();
    let rest = read.rest(disk, bad.offset)?;
    let verdict = judge(&rest, bad.offset, read.header.identity);
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
    let hole = verdict == Verdict::TornGroup;
    Ok(Torn { path, offset: bad.offset, bytes: bytes as u64, kept, hole })
}

/// Makes the last segment with records durable, and cuts it and the blank ones after it to what
/// they hold.
fn seal(disk: &dyn Disk, reads: &[Read]) -> Result<(), IoError> {
    // If no record is left, all of them: one may hold what was cut off.
    let last = reads.iter().rposition(|read| !read.is_blank()).unwrap_or(0);
    // If a later run was started, an earlier open has done this.
    let first_time = reads.iter().skip(last + 1).all(|read| read.header.run.is_none());
    for (at, read) in reads.iter().enumerate().skip(last) {
        let path = &read.path;
        let file = disk.open(path, Access::Write).map_err(IoError::on("open", path))?;
        if at == last && first_time {
            write_again(read, &*file)?;
        }
        if file.bytes().map_err(IoError::on("look at", path))? > read.mark.at {
            file.truncate(read.mark.at).map_err(IoError::on("cut", path))?;
            file.sync().map_err(IoError::on("sync", path))?;
        }
    }
    Ok(())
}

/// Writes the last group again, with the same bytes, and syncs it.
fn write_again(read: &Read, file: &dyn DiskFile) -> Result<(), IoError> {
    let path = &read.path;
    if let Some(group) = read.mark.group {
        let bytes = usize::try_from(read.mark.at - group).map_err(std::io::Error::other);
        let mut bytes = vec![0; bytes.map_err(IoError::on("read", path))?];
        let there = read_full(file, &mut bytes, group).map_err(IoError::on("read", path))?;
        write_full(file, &bytes[..there], group).map_err(IoError::on("write", path))?;
    }
    file.sync().map_err(IoError::on("sync", path))
}
