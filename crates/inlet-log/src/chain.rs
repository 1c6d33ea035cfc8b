//! Reads all segments of a log and ties each to the one before it. Changes nothing.
//!
//! Segments are read side by side by a few threads, since reading waits for the disk and checking
//! for the processor; what ties them is looked at afterwards, in order. Memory is one chunk a
//! thread, however much there is to read.

use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytes::Bytes;

use crate::disk::{Access, Disk};
use crate::error::{Damage, IoError, ReadError};
use crate::identity::{lost_id, read_id};
use crate::ledger::{self, End, Released};
use crate::position::{LogId, Position};
use crate::scan::{BadSpot, Mark, Scan, Step};
use crate::segment::{GROUPS_START, SegmentHeader, block_after, numbers, path};

/// The most threads that read.
const THREADS_MAX: usize = 4;

/// A segment that was read to its end.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) number: u64,
    pub(crate) path: PathBuf,
    pub(crate) header: SegmentHeader,
    /// Where its records end.
    pub(crate) mark: Mark,
    /// What stands after its records that should not.
    pub(crate) bad: Option<BadSpot>,
    pub(crate) records: u64,
    /// The sequence of its first record, and where that is.
    first: Option<(u64, u64)>,
}

impl Read {
    /// Whether nothing was ever written to it.
    pub(crate) fn is_blank(&self) -> bool {
        self.bad.is_none() && self.mark.at == GROUPS_START
    }

    /// All bytes from an offset on.
    pub(crate) fn rest(&self, disk: &dyn Disk, offset: u64) -> Result<Bytes, IoError> {
        let path = &self.path;
        let file = disk.open(path, Access::Read).map_err(IoError::on("open", path))?;
        let scan = Scan::new(path.clone(), file, self.header, offset);
        scan.and_then(|mut scan| scan.rest(offset)).map_err(IoError::on("read", path))
    }

    pub(crate) fn damage(&self, bad: BadSpot) -> Damage {
        Damage { path: self.path.clone(), offset: bad.offset, what: bad.what.to_owned() }
    }
}

/// A log's record of its own extent, as far as it has one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Recorded {
    pub(crate) end: Option<End>,
    pub(crate) released: Option<Released>,
}

impl Recorded {
    /// The segments that must be there besides those in `numbers`, ascending, as ranges. Segments
    /// that are wholly stored, by `drained`, may be missing at the front.
    pub(crate) fn missing(
        &self,
        numbers: &[u64],
        drained: Position,
    ) -> Vec<std::ops::RangeInclusive<u64>> {
        let first = self.released.map(|released| released.first).or(numbers.first().copied());
        let newest = self.end.map_or(0, |end| end.newest).max(drained.segment);
        let mut missing = Vec::new();
        let mut expected = first.unwrap_or(1).max(drained.segment);
        for &number in numbers {
            if number > expected {
                missing.push(expected..=number - 1);
            }
            expected = expected.max(number.saturating_add(1));
        }
        if expected <= newest {
            missing.push(expected..=newest);
        }
        missing
    }
}

/// Segments are removed from the oldest on, and what was made and removed is recorded, so there is
/// none missing.
pub(crate) fn check_chain(
    dir: &Path,
    numbers: &[u64],
    drained: Position,
    recorded: Recorded,
) -> Result<(), Damage> {
    match recorded.missing(numbers, drained).first() {
        None => Ok(()),
        Some(missing) => {
            let number = missing.start();
            let why = match numbers.last() {
                Some(last) if last > number => String::new(),
                _ if *number <= drained.segment => format!(", but is stored up to {drained}"),
                _ => ", the newest that was made".to_owned(),
            };
            let what = format!("segment {number} is missing{why}");
            Err(Damage { path: dir.to_owned(), offset: 0, what })
        }
    }
}

/// Checks, without reading them, that all segments of the log in `dir` are there that are not
/// stored, which is up to `drained`. It may run beside a writer.
///
/// # Errors
///
/// [`ReadError::Damage`] where one is missing, [`ReadError::Io`].
pub fn check_extent(disk: &dyn Disk, dir: &Path, drained: Position) -> Result<(), ReadError> {
    // In this order: a writer makes a segment before it records it, and whoever drains the log
    // records a release before it removes one.
    let end = ledger::read(disk, dir)?;
    let numbers = numbers(disk, dir).map_err(IoError::on("list", dir))?;
    let released = ledger::read(disk, dir)?;
    Ok(check_chain(dir, &numbers, drained, Recorded { end, released })?)
}

/// Checks that the segments up to `newest` end where the log was closed, with nothing damaged.
pub(crate) fn check_seal(
    dir: &Path,
    reads: &[Read],
    newest: u64,
    sealed: Position,
) -> Result<(), Damage> {
    let closed = reads.partition_point(|read| read.number <= newest);
    let closed = &reads[..closed];
    if let Some((read, bad)) = closed.iter().find_map(|read| Some((read, read.bad?))) {
        return Err(read.damage(bad));
    }
    // The sealed part may have been stored and removed; then nothing is left to look at.
    if closed.first().is_none_or(|first| sealed.segment < first.number) {
        return match closed.iter().find(|read| !read.is_blank()) {
            None => Ok(()),
            Some(read) => Err(beyond_seal(&read.path, GROUPS_START, sealed)),
        };
    }
    let last = closed.iter().rfind(|read| !read.is_blank());
    let end = last.map(|last| Position { segment: last.number, offset: last.mark.at });
    match (last, end) {
        (_, Some(end)) if end == sealed => Ok(()),
        (Some(last), Some(end)) if end > sealed => {
            Err(beyond_seal(&last.path, sealed.offset, sealed))
        }
        (last, _) => {
            let found = last.filter(|last| last.number == sealed.segment);
            let offset = found.map_or(GROUPS_START, |last| last.mark.at);
            let what = format!("records are missing: the log was closed at {sealed}");
            Err(Damage { path: path(dir, sealed.segment), offset, what })
        }
    }
}

fn beyond_seal(path: &Path, offset: u64, sealed: Position) -> Damage {
    let what = format!("records after {sealed}, where the log was closed");
    Damage { path: path.to_owned(), offset, what }
}

/// Reads the segments that are not wholly drained, in order.
pub(crate) fn read_undrained(
    disk: &dyn Disk,
    dir: &Path,
    id: LogId,
    numbers: &[u64],
    drained: Position,
) -> Result<Vec<Read>, ReadError> {
    let undrained = numbers.partition_point(|&number| number < drained.segment);
    let numbers = &numbers[undrained..];
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = THREADS_MAX.min(cores).min(numbers.len() / 2).max(1);
    let next = AtomicUsize::new(0);
    let read_some = || {
        let mut some = Vec::new();
        while let Some(&number) = numbers.get(next.fetch_add(1, Ordering::Relaxed)) {
            some.push((number, read_segment(disk, dir, id, number)));
        }
        some
    };
    let mut reads = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(read_some)).collect();
        let mut reads = read_some();
        for other in others {
            reads.extend(other.join().expect("reading does not panic"));
        }
        reads
    });
    reads.sort_unstable_by_key(|(number, _)| *number);
    let reads = reads.into_iter().filter_map(|(_, read)| read.transpose());
    let mut reads = reads.collect::<Result<Vec<_>, _>>()?;
    for at in 1..reads.len() {
        let (before, after) = reads.split_at_mut(at);
        tie(&before[at - 1], &mut after[0])?;
    }
    Ok(reads)
}

/// The end of the last record of a log in which everything is as it was written, a torn tail not
/// excepted.
pub(crate) fn sound_tail(
    disk: &dyn Disk,
    dir: &Path,
    drained: Position,
) -> Result<Position, ReadError> {
    let id = read_id(disk, dir)?.ok_or_else(|| lost_id(dir))?;
    let numbers = numbers(disk, dir).map_err(IoError::on("list", dir))?;
    let recorded = Recorded { end: ledger::read(disk, dir)?, released: ledger::read(disk, dir)? };
    check_chain(dir, &numbers, drained, recorded)?;
    let reads = read_undrained(disk, dir, id, &numbers, drained)?;
    if let Some((read, bad)) = reads.iter().find_map(|read| Some((read, read.bad?))) {
        return Err(read.damage(bad).into());
    }
    let last = reads.iter().rfind(|read| !read.is_blank());
    let end = |read: &Read| Position { segment: read.number, offset: read.mark.at };
    Ok(last.map_or(Position::START, end))
}

/// Reads a segment to its end; nothing where it was released since it was listed.
fn read_segment(
    disk: &dyn Disk,
    dir: &Path,
    id: LogId,
    number: u64,
) -> Result<Option<Read>, ReadError> {
    let path = path(dir, number);
    let file = match disk.open(&path, Access::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let now = numbers(disk, dir).map_err(IoError::on("list", dir))?;
            if !now.contains(&number) {
                return Ok(None);
            }
            let what = "it leads to no file".to_owned();
            return Err(Damage { path, offset: 0, what }.into());
        }
        file => file.map_err(IoError::opening(&path))?,
    };
    let header = SegmentHeader::read(&*file, number, id).map_err(IoError::on("read", &path))?;
    let header = header.map_err(|error| Damage {
        path: path.clone(),
        offset: 0,
        what: error.to_string(),
    })?;
    let scan = Scan::new(path.clone(), file, header, GROUPS_START);
    let read = scan.and_then(|scan| read_to_end(scan, number));
    Ok(Some(read.map_err(IoError::on("read", &path))?))
}

fn read_to_end(mut scan: Scan, number: u64) -> io::Result<Read> {
    let (mut records, mut first) = (0, None);
    let bad = loop {
        match scan.step()? {
            Step::Record(found) => {
                records += u64::from(!found.removed);
                if found.start == GROUPS_START {
                    // After bytes that were taken out there is no telling what comes next.
                    first = scan.mark.expected.map(|next| (next - 1, found.start));
                }
            }
            Step::Bad(bad) => break Some(bad),
            Step::End => {
                let end = block_after(scan.mark.at);
                let what = "bytes where nothing was written, or a write whose start is missing";
                break scan.first_nonzero(end)?.map(|_| BadSpot { offset: end, what });
            }
        }
    };
    let Scan { path, header, mark, .. } = scan;
    Ok(Read { number, path, header, mark, bad, records, first })
}

/// Ties a segment to the one before it.
fn tie(before: &Read, read: &mut Read) -> Result<(), Damage> {
    let Some(expected) = before.mark.expected.filter(|_| before.bad.is_none()) else {
        // What is wrong with the one before is said by its bad spot, or was repaired.
        return Ok(());
    };
    match (read.header.run, read.first) {
        (Some(run), _) if ![0, expected].contains(&run.previous_sequence) => Err(Damage {
            path: before.path.clone(),
            offset: before.mark.at,
            what: "records are missing at the end of this run".to_owned(),
        }),
        (None, Some((sequence, start))) if sequence != expected => {
            let what = "a record that is not the next in sequence";
            read.bad = Some(BadSpot { offset: start, what });
            Ok(())
        }
        (None, _) if read.is_blank() => {
            read.mark.expected = Some(expected);
            Ok(())
        }
        _ => Ok(()),
    }
}
