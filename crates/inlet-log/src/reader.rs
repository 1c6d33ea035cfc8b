//! Reads a log from a position on, while it is written or after.
//!
//! A reader writes nothing and skips nothing. Its memory is bounded by the batch it is asked for
//! and one chunk of 1 MiB (or one record, where that is larger), however much waits. Payloads are
//! slices of the chunk they were read in.
//!
//! There are two ways to know where to stop. In the process of the writer the caller passes the
//! log's tail, and everything before that must be there. Elsewhere nobody says how far the writer
//! has come: what is no record at the end of the newest segment may be a write under way, and
//! means "no more yet", unless a later write follows it. A segment counts as finished once a
//! later one holds a record or was started by a later run; then all of it must be in order.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Access, Disk};
use crate::error::{Damage, IoError, ReadError};
use crate::position::{LogId, Position};
use crate::scan::{BadSpot, Scan, Step};
use crate::segment::{GROUPS_START, SegmentHeader, numbers, path};
use crate::torn::{Verdict, judge};

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// After this record.
    pub end: Position,
    /// The bytes that were appended.
    pub payload: Bytes,
}

/// What one read brought.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadBatch {
    /// The records, in order; none where there are no more yet.
    pub records: Vec<Record>,
    /// Where to go on: after the last of the records, or where the reader stood before.
    pub end: Position,
}

/// A reader of a log.
#[derive(Debug)]
pub struct Reader {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    log: LogId,
    position: Position,
    scan: Option<Scan>,
    /// How often the end of the newest segment was found unreadable in a row.
    unreadable: u32,
}

/// What to do at a place where there is no record.
enum Onward {
    /// The segment is done; the next one is open.
    Moved,
    /// There is nothing more yet.
    Waits,
}

impl Reader {
    /// A reader of the log in `dir` that starts after `from`; with [`Position::START`] at the
    /// oldest record there is. Where the segment of `from` is gone, having been released, it
    /// starts at the oldest that is there.
    ///
    /// # Errors
    ///
    /// [`ReadError::Damage`] where there is no log, [`ReadError::Io`].
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, from: Position) -> Result<Self, ReadError> {
        let dir = dir.to_owned();
        let Some(log) = crate::identity::read_id(&*disk, &dir)? else {
            let what = "there is no log here".to_owned();
            return Err(Damage { path: dir, offset: 0, what }.into());
        };
        Ok(Self { disk, dir, log, position: from, scan: None, unreadable: 0 })
    }

    /// The identity of the log.
    pub fn log(&self) -> LogId {
        self.log
    }

    /// After the last record that was read.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Goes back, or forward, to a position of this log.
    pub fn seek(&mut self, position: Position) {
        self.position = position;
        self.scan = None;
    }

    /// The next records: at most `records_max`, and at most `bytes_max` bytes of payloads, but
    /// one record is given even where it alone is larger. `tail` is the log's tail where the
    /// writer is in this process, `None` elsewhere; see the module's head. Blocks while it reads.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; the records before a damaged place are given first.
    pub fn next_batch(
        &mut self,
        records_max: usize,
        bytes_max: usize,
        tail: Option<Position>,
    ) -> Result<ReadBatch, ReadError> {
        let mut records = Vec::new();
        let mut bytes = 0;
        match self.fill(&mut records, &mut bytes, records_max, bytes_max, tail) {
            // What was read is given; the error comes again with the next call.
            Err(error) if records.is_empty() => return Err(error),
            _ => {}
        }
        Ok(ReadBatch { records, end: self.position })
    }

    fn fill(
        &mut self,
        records: &mut Vec<Record>,
        bytes: &mut usize,
        records_max: usize,
        bytes_max: usize,
        tail: Option<Position>,
    ) -> Result<(), ReadError> {
        if self.scan.is_none() && !self.open_scan()? {
            return Ok(());
        }
        // What was read ahead in an earlier call may have been written since.
        let mut fresh = false;
        while records.len() < records_max {
            let scan = self.scan.as_mut().expect("it was opened");
            let (mark, number) = (scan.mark, scan.header.number);
            if let Some(tail) = tail {
                let at = Position { segment: number, offset: mark.at };
                if at >= tail {
                    return Ok(());
                }
                scan.limit((number == tail.segment).then_some(tail.offset));
            }
            let path = scan.path.clone();
            let step = scan.step().map_err(IoError::on("read", &path))?;
            let bad = match step {
                Step::Record(found) => {
                    if !records.is_empty() && *bytes + found.payload.len() > bytes_max {
                        scan.mark = mark;
                        return Ok(());
                    }
                    self.position = Position { segment: number, offset: found.end };
                    self.unreadable = 0;
                    if !found.removed {
                        *bytes += found.payload.len();
                        records.push(Record { end: self.position, payload: found.payload });
                    }
                    continue;
                }
                Step::End => None,
                Step::Bad(bad) => Some(bad),
            };
            if !std::mem::replace(&mut fresh, true) {
                scan.refresh();
                continue;
            }
            match self.onward(bad, tail)? {
                Onward::Moved => fresh = true,
                Onward::Waits => return Ok(()),
            }
        }
        Ok(())
    }

    /// Opens the segment of the position, or the oldest; says whether there is one.
    fn open_scan(&mut self) -> Result<bool, ReadError> {
        let numbers = self.numbers()?;
        let wanted = self.position.segment;
        let Some(&oldest) = numbers.first() else { return Ok(false) };
        if wanted < oldest {
            let scan = self.open_segment(oldest, GROUPS_START)?;
            self.scan = Some(scan);
        } else if numbers.contains(&wanted) {
            let scan = self.open_segment(wanted, self.position.offset)?;
            self.scan = Some(scan);
        } else {
            return Err(self.missing(wanted).into());
        }
        Ok(true)
    }

    /// Where there is no record: goes to the next segment if this one is finished.
    fn onward(
        &mut self,
        bad: Option<BadSpot>,
        tail: Option<Position>,
    ) -> Result<Onward, ReadError> {
        let (number, path) = {
            let scan = self.scan.as_ref().expect("it was opened");
            (scan.header.number, scan.path.clone())
        };
        let finished = match tail {
            Some(tail) => tail.segment > number,
            None => self.is_finished(number)?,
        };
        let scan = self.scan.as_mut().expect("it was opened");
        let damage = |bad: BadSpot| {
            let (offset, what) = (bad.offset, bad.what.to_owned());
            ReadError::from(Damage { path: path.clone(), offset, what })
        };
        if !finished {
            return match (bad, tail) {
                (None, None) => Ok(Onward::Waits),
                (Some(bad), None) => {
                    // Looking at all that follows is dear; what is under way will be done soon.
                    self.unreadable = self.unreadable.saturating_add(1);
                    let look =
                        self.unreadable.is_power_of_two() || self.unreadable.is_multiple_of(64);
                    if look {
                        let rest = scan.rest(bad.offset).map_err(IoError::on("read", &path))?;
                        let verdict = judge(&rest, bad.offset, scan.header.identity);
                        scan.refresh();
                        if verdict == Verdict::Damage {
                            return Err(damage(bad));
                        }
                    }
                    Ok(Onward::Waits)
                }
                (bad, Some(_)) => {
                    let (offset, what) = (scan.mark.at, "nothing where a record was acknowledged");
                    Err(damage(bad.unwrap_or(BadSpot { offset, what })))
                }
            };
        }
        // It was finished before this look, so what is there now is all there will be.
        scan.refresh();
        let mark = scan.mark;
        match scan.step().map_err(IoError::on("read", &path))? {
            // It came between the two looks; it is read again in its turn.
            Step::Record(_) => {
                scan.mark = mark;
                return Ok(Onward::Moved);
            }
            Step::Bad(bad) => return Err(damage(bad)),
            Step::End => {}
        }
        // Where this one was released meanwhile, an empty one behind it may have been as well.
        let next = match self.numbers()?.as_slice() {
            [oldest, ..] if *oldest > number => *oldest,
            numbers if numbers.contains(&(number + 1)) => number + 1,
            _ => return Err(self.missing(number + 1).into()),
        };
        let mut next = self.open_segment(next, GROUPS_START)?;
        match next.header.run {
            None => next.mark.expected = mark.expected,
            Some(run) if mark.expected.is_some_and(|next| next < run.previous_sequence) => {
                let (offset, what) = (mark.at, "records are missing at the segment's end");
                return Err(damage(BadSpot { offset, what }));
            }
            Some(_) => {}
        }
        self.scan = Some(next);
        Ok(Onward::Moved)
    }

    /// Whether a later segment shows that this one is written to no more.
    fn is_finished(&self, number: u64) -> Result<bool, ReadError> {
        for later in self.numbers()?.into_iter().filter(|&later| later > number) {
            let mut scan = self.open_segment(later, GROUPS_START)?;
            let path = scan.path.clone();
            if scan.header.run.is_some()
                || matches!(scan.step().map_err(IoError::on("read", &path))?, Step::Record(_))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn open_segment(&self, number: u64, at: u64) -> Result<Scan, ReadError> {
        let path = path(&self.dir, number);
        let file = self.disk.open(&path, Access::Read).map_err(IoError::opening(&path))?;
        let header = SegmentHeader::read(&*file, number, self.log);
        let header = header.map_err(IoError::on("read", &path))?.map_err(|error| Damage {
            path: path.clone(),
            offset: 0,
            what: error.to_string(),
        })?;
        Ok(Scan::new(path.clone(), file, header, at).map_err(IoError::on("read", &path))?)
    }

    fn numbers(&self) -> Result<Vec<u64>, ReadError> {
        Ok(numbers(&*self.disk, &self.dir).map_err(IoError::on("list", &self.dir))?)
    }

    fn missing(&self, number: u64) -> Damage {
        let what = format!("segment {number} is missing");
        Damage { path: self.dir.clone(), offset: 0, what }
    }
}
