//! The look through a log: what is wrong, and what a repair has to know of it.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::records::{header_of_records, last_written, look_at_records, records_end, written_end};
use super::{Problem, ProblemKind, Report};
use crate::chain::Recorded;
use crate::disk::{Access, Disk, DiskFile};
use crate::error::{IoError, ReadError};
use crate::identity::{lost_id, read_id};
use crate::ledger::{self, Entry};
use crate::position::{LogId, Position};
use crate::scan::{Mark, Scan};
use crate::segment::{GROUPS_START, HeaderError, SegmentHeader, number, path};

/// The most problems that are listed one by one.
const PROBLEMS_MAX: usize = 1000;

/// A report, and what a repair has to know besides.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) report: Report,
    pub(super) id: Option<LogId>,
    pub(super) recorded: Recorded,
    pub(super) drained: Position,
    /// The newest segment that is in its place.
    pub(super) newest: u64,
    pub(super) spots: Vec<Spot>,
}

/// A damaged place, as a repair needs it.
#[derive(Debug, Clone)]
pub(super) enum Spot {
    /// `log.id` is not readable or not there.
    Identity,
    /// `log.end` or `log.released` is not readable.
    Ledger { path: PathBuf },
    /// A newer binary wrote this file, which is none of our business to change.
    Newer { path: PathBuf },
    /// Something of this name that does not belong here: no regular file, a segment of another
    /// log, or a file without a header far beyond the others.
    Stray { path: PathBuf },
    /// A segment of this log under the name of another.
    Misnamed { path: PathBuf, header: SegmentHeader },
    /// Segments are missing, from the first to the last of these.
    Segments { first: u64, last: u64 },
    /// A segment's header is wrong; this is what it should say, if its records tell, and where
    /// what is written in it ends.
    Header { number: u64, header: Option<SegmentHeader>, end: u64 },
    /// Bytes from `mark.at` or the block after it up to `end` are wrong.
    Bytes { number: u64, offset: u64, end: u64, mark: Mark },
    /// A record that is whole but does not belong where it is.
    Misplaced { number: u64, offset: u64, end: u64, mark: Mark },
    /// Records are missing between the end of a segment and the next segment.
    Gap { number: u64 },
    /// The log does not end where it was closed.
    Seal,
}

/// The end of the segment before.
#[derive(Debug, Clone, Copy)]
struct Before {
    number: u64,
    mark: Mark,
    sound: bool,
}

/// After something that could not be read, anything may follow.
const UNKNOWN: Mark = Mark { at: GROUPS_START, group: None, expected: None };

/// Looks through the log in a directory, which is stored up to `drained` at least.
pub(super) fn look(disk: &dyn Disk, dir: &Path, drained: Position) -> Result<Findings, IoError> {
    let mut findings = Findings { drained, ..Findings::default() };
    // In this order a writer beside makes nothing look as if it were missing.
    findings.recorded.end = findings.look_at_ledger(disk, dir)?;
    let names = disk.list(dir).map_err(IoError::on("list", dir))?;
    findings.recorded.released = findings.look_at_ledger(disk, dir)?;
    let headers = findings.look_at_names(disk, dir, &names)?;
    findings.look_at_identity(disk, dir, &headers)?;
    let numbers = findings.look_at_places(dir, headers);
    findings.newest = numbers.last().copied().unwrap_or(0);
    findings.look_at_chain(dir, &numbers);
    let last = last_written(disk, dir, findings.id, &numbers)?;
    let closed = findings.recorded.end.filter(|end| end.sealed.is_some()).map(|end| end.newest);
    let mut before: Option<Before> = None;
    let mut tail = None;
    for &number in &numbers {
        let path = path(dir, number);
        let Some(file) = open(disk, &path)? else { continue };
        let header = findings.look_at_header(&*file, &path, number)?;
        findings.report.segments += 1;
        let known = match &header {
            Some((header, _)) => *header,
            None => {
                before = Some(Before { number, mark: UNKNOWN, sound: false });
                continue;
            }
        };
        let reading = || IoError::on("read", &path);
        let mut scan = Scan::new(path.clone(), file, known, GROUPS_START).map_err(reading())?;
        if let Some((_, sound)) = header {
            findings.look_between(dir, before, &mut scan, sound);
        }
        // The end of a log that was closed is as sure as everything before it.
        let may_be_torn = Some(number) == last && closed.is_none_or(|newest| number > newest);
        let sound = look_at_records(&mut findings, &mut scan, number, may_be_torn);
        let sound = sound.map_err(reading())?;
        if scan.mark.at > GROUPS_START && closed.is_some_and(|newest| number <= newest) {
            tail = Some(Position { segment: number, offset: scan.mark.at });
        }
        before = Some(Before { number, mark: scan.mark, sound });
    }
    findings.look_at_seal(dir, &numbers, tail);
    Ok(findings)
}

/// Opens a segment that was there; nothing where it was removed meanwhile.
fn open(disk: &dyn Disk, path: &Path) -> Result<Option<std::sync::Arc<dyn DiskFile>>, IoError> {
    match disk.open(path, Access::Read) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(IoError::on("open", path)(error)),
    }
}

/// The header of each segment whose name and kind are those of one, or `None` where it can't be
/// read.
type Headers = BTreeMap<u64, Option<SegmentHeader>>;

impl Findings {
    fn problem(&mut self, kind: ProblemKind, path: &Path, offset: u64, bytes: u64, what: &str) {
        if self.report.problems.len() == PROBLEMS_MAX {
            self.report.more += 1;
            return;
        }
        let (path, what) = (path.to_owned(), what.to_owned());
        self.report.problems.push(Problem { kind, path, offset, bytes, what });
    }

    pub(super) fn torn(&mut self, path: &Path, offset: u64, bytes: u64) {
        let what = "no whole record at the end of a log that was not closed: a write that was cut \
                    off, or one that is under way, or the last write, damaged since";
        self.problem(ProblemKind::Torn, path, offset, bytes, what);
    }

    pub(super) fn damage(&mut self, spot: Spot, path: &Path, offset: u64, bytes: u64, what: &str) {
        self.problem(ProblemKind::Damage, path, offset, bytes, what);
        self.spots.push(spot);
    }

    /// The newest segment that the log records.
    pub(super) fn recorded_newest(&self) -> u64 {
        self.recorded.end.map_or(0, |end| end.newest)
    }

    fn look_at_ledger<E: Entry>(
        &mut self,
        disk: &dyn Disk,
        dir: &Path,
    ) -> Result<Option<E>, IoError> {
        match ledger::read::<E>(disk, dir) {
            Ok(entry) => Ok(entry),
            Err(ReadError::Damage(damage)) => {
                let path = damage.path.clone();
                let spot = match ledger::is_newer::<E>(disk, dir) {
                    true => Spot::Newer { path },
                    false if is_no_file(disk, &path) => Spot::Stray { path },
                    false => Spot::Ledger { path },
                };
                self.damage(spot, &damage.path, 0, 0, &damage.what);
                Ok(None)
            }
            Err(ReadError::Io(error)) => Err(error),
        }
    }

    /// Tells the names of segments from what only has such a name, and reads their headers.
    fn look_at_names(
        &mut self,
        disk: &dyn Disk,
        dir: &Path,
        names: &[String],
    ) -> Result<Headers, IoError> {
        let mut headers = Headers::new();
        for name in names {
            let numbered = number(name);
            if numbered.is_none() && !crate::segment::is_unfinished(name) {
                continue;
            }
            let path = dir.join(name);
            let file = match disk.open(&path, Access::Read) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::IsADirectory => {
                    self.damage(Spot::Stray { path: path.clone() }, &path, 0, 0, NO_FILE);
                    continue;
                }
                // A link that leads nowhere is listed still; what was released is not.
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let now = disk.list(dir).map_err(IoError::on("list", dir))?;
                    if now.contains(name) {
                        self.damage(Spot::Stray { path: path.clone() }, &path, 0, 0, NO_FILE);
                    }
                    continue;
                }
                Err(error) => return Err(IoError::on("open", &path)(error)),
            };
            if let Some(number) = numbered {
                let header = SegmentHeader::read_any(&*file).map_err(IoError::on("read", &path))?;
                headers.insert(number, header.ok());
            }
        }
        Ok(headers)
    }

    /// Determines the identity of the log: that in `log.id` if any segment has the same, else that
    /// of most segments.
    fn look_at_identity(
        &mut self,
        disk: &dyn Disk,
        dir: &Path,
        headers: &Headers,
    ) -> Result<(), IoError> {
        let logs: Vec<LogId> = headers.values().flatten().map(|header| header.log).collect();
        let count = |id: &LogId| logs.iter().filter(|log| *log == id).count();
        let most = logs.iter().copied().max_by_key(count);
        let damage = match read_id(disk, dir) {
            Ok(Some(id)) if count(&id) > 0 || most.is_none() => {
                self.id = Some(id);
                return Ok(());
            }
            // One flipped digit makes another identity.
            Ok(Some(_)) => {
                let mut damage = lost_id(dir);
                damage.what = "it names another log than the segments do".to_owned();
                damage
            }
            Ok(None) if headers.is_empty() && self.recorded.end.is_none() => return Ok(()),
            Ok(None) => lost_id(dir),
            Err(ReadError::Damage(damage)) => {
                if is_no_file(disk, &damage.path) {
                    let spot = Spot::Stray { path: damage.path.clone() };
                    self.damage(spot, &damage.path, 0, 0, NO_FILE);
                }
                damage
            }
            Err(ReadError::Io(error)) => return Err(error),
        };
        self.id = most;
        self.damage(Spot::Identity, &damage.path, 0, 0, &damage.what);
        Ok(())
    }

    /// The segments that are in their places, ascending.
    fn look_at_places(&mut self, dir: &Path, headers: Headers) -> Vec<u64> {
        let in_place = |&(number, header): &(&u64, &Option<SegmentHeader>)| {
            header.is_some_and(|header| header.number == *number && Some(header.log) == self.id)
        };
        let newest = headers.iter().rfind(in_place).map_or(0, |(number, _)| *number);
        let newest = newest.max(self.recorded_newest());
        let mut numbers = Vec::new();
        for (number, header) in headers {
            let path = path(dir, number);
            match header {
                Some(header) if self.id.is_some_and(|id| header.log != id) => {
                    let what = "the segment belongs to another log";
                    self.damage(Spot::Stray { path: path.clone() }, &path, 0, GROUPS_START, what);
                }
                Some(header) if header.number != number => {
                    let what = format!("this is segment {}, under another name", header.number);
                    let spot = Spot::Misnamed { path: path.clone(), header };
                    self.damage(spot, &path, 0, GROUPS_START, &what);
                }
                None if number > newest.saturating_add(1) => {
                    let what = "a file without a header, beyond the last segment";
                    self.damage(Spot::Stray { path: path.clone() }, &path, 0, GROUPS_START, what);
                }
                _ => numbers.push(number),
            }
        }
        numbers
    }

    fn look_at_chain(&mut self, dir: &Path, numbers: &[u64]) {
        for missing in self.recorded.missing(numbers, self.drained) {
            let (first, last) = missing.into_inner();
            let what = match first == last {
                true => format!("segment {first} is missing"),
                false => format!("segments {first} to {last} are missing"),
            };
            self.damage(Spot::Segments { first, last }, dir, 0, 0, &what);
        }
    }

    /// The header, or what can be told of it from the records, and whether it is sound.
    fn look_at_header(
        &mut self,
        file: &dyn DiskFile,
        path: &Path,
        number: u64,
    ) -> Result<Option<(SegmentHeader, bool)>, IoError> {
        let log = self.id.unwrap_or(LogId::from_bytes([0; 16]));
        let header = SegmentHeader::read(file, number, log).map_err(IoError::on("read", path))?;
        let error = match header {
            Ok(header) => return Ok(Some((header, true))),
            Err(error) => error,
        };
        if let HeaderError::Version(_) = error {
            let spot = Spot::Newer { path: path.to_owned() };
            self.damage(spot, path, 0, GROUPS_START, &error.to_string());
            return Ok(None);
        }
        let known = header_of_records(file, number, log).map_err(IoError::on("read", path))?;
        let end = written_end(file).map_err(IoError::on("read", path))?;
        let spot = Spot::Header { number, header: known, end };
        self.damage(spot, path, 0, GROUPS_START, &error.to_string());
        Ok(known.map(|header| (header, false)))
    }

    /// Checks the link between a segment and the one before it.
    fn look_between(&mut self, dir: &Path, before: Option<Before>, scan: &mut Scan, sound: bool) {
        let number = scan.header.number;
        let Some(before) = before.filter(|before| before.number + 1 == number) else { return };
        if !sound || !before.sound {
            return;
        }
        match scan.header.run {
            None => scan.mark.expected = before.mark.expected,
            Some(run) => {
                let expected = before.mark.expected;
                let missing = expected.is_some_and(|next| next != run.previous_sequence);
                if run.previous_sequence != 0 && missing {
                    let what = "records are missing at the end of this run";
                    let spot = Spot::Gap { number: before.number };
                    self.damage(spot, &path(dir, before.number), before.mark.at, 0, what);
                }
            }
        }
    }

    /// Checks that the log ends where it was closed; `tail` is where the segments of then end.
    fn look_at_seal(&mut self, dir: &Path, numbers: &[u64], tail: Option<Position>) {
        let Some(sealed) = self.recorded.end.and_then(|end| end.sealed) else { return };
        // The sealed part may have been stored and removed.
        let there = numbers.first().is_some_and(|first| sealed.segment >= *first);
        let fits = if there { tail == Some(sealed) } else { tail.is_none() };
        // Damage that is listed already explains an end that could not be read.
        if fits || !self.spots.is_empty() {
            return;
        }
        let offset = tail.filter(|tail| tail.segment == sealed.segment);
        let offset = offset.map_or(GROUPS_START, |tail| tail.offset.min(sealed.offset));
        let what =
            format!("the log was closed at {sealed} and ends elsewhere: records are missing");
        self.damage(Spot::Seal, &path(dir, sealed.segment), offset, 0, &what);
    }
}

const NO_FILE: &str = "it is not a regular file";

fn is_no_file(disk: &dyn Disk, path: &Path) -> bool {
    disk.open(path, Access::Read).is_err_and(|error| error.kind() == ErrorKind::IsADirectory)
}

/// The end of the records of a sound segment, for a cover that says that more is missing there.
pub(super) fn end_of(disk: &dyn Disk, dir: &Path, id: LogId, number: u64) -> Result<Mark, IoError> {
    let path = path(dir, number);
    let file = disk.open(&path, Access::Read).map_err(IoError::on("open", &path))?;
    records_end(&path, file, id, number).map_err(IoError::on("read", &path))
}
