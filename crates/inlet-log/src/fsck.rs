//! Looks through a whole log and lists every problem; and sets damage aside.
//!
//! [`check`] changes nothing and may run beside a writer, whose write under way then looks like
//! a torn one. Every byte of the segments and of `log.id` is looked at, so every flipped bit in
//! them is found: records and headers by their checksums, everything else because it must be
//! zeros. `LOCK` holds nothing that matters.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::disk::{Access, Disk, DiskFile, read_full};
use crate::error::{IoError, ReadError};
use crate::identity::{lost_id, read_id};
use crate::position::LogId;
use crate::scan::{BadSpot, Mark, Scan, Step};
use crate::segment::{
    BLOCK_BYTES, GROUPS_START, RunStart, SegmentHeader, block_after, numbers, path,
};
use crate::torn::{Verdict, judge, next_record};

mod repair;

pub use repair::{Repair, RepairError, Taken, repair};

/// The directory in a log's directory where a repair keeps what it took out.
pub(crate) const QUARANTINE: &str = "quarantine";

/// How far a segment without a readable header is searched for a first record, in bytes: as far
/// as the largest group goes by default.
const HEAD_BYTES: usize = 4 << 20;

/// The most problems that are listed one by one.
const PROBLEMS_MAX: usize = 1000;

/// What a look through a log found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Segments looked at.
    pub segments: usize,
    /// Records that are as they were written.
    pub records: u64,
    /// Bytes of these records' payloads.
    pub bytes: u64,
    /// Places where an earlier repair took something out.
    pub removed: u64,
    /// What is wrong, in order; at most 1,000 of them.
    pub problems: Vec<Problem>,
    /// How many more problems there are.
    pub more: u64,
}

impl Report {
    /// Whether anything that was acknowledged is not as it was written. The rest of a torn write
    /// is no damage.
    pub fn is_damaged(&self) -> bool {
        self.more > 0 || self.problems.iter().any(|problem| problem.kind == ProblemKind::Damage)
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Whether it is damage.
    pub kind: ProblemKind,
    /// The file; the directory where a file is missing.
    pub path: PathBuf,
    /// Where it starts in the file, in bytes.
    pub offset: u64,
    /// Over how many bytes; 0 where something is missing.
    pub bytes: u64,
    /// What is there.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, offset, bytes, what, .. } = self;
        write!(f, "{}: {bytes} bytes at offset {offset}: {what}", path.display())
    }
}

/// What sort of problem it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// What was acknowledged is not there any more. A start is refused.
    Damage,
    /// The rest of a write that a crash cut off, or one that is under way. Nothing in it was
    /// acknowledged; the next start sets it aside.
    Torn,
}

/// Looks through the log in a directory. Blocks while it reads all of it.
///
/// # Errors
///
/// [`IoError`] where something can't be read at all.
pub fn check(disk: &dyn Disk, dir: &Path) -> Result<Report, IoError> {
    Ok(look(disk, dir)?.report)
}

/// A report, and what a repair has to know besides.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) report: Report,
    pub(crate) id: Option<LogId>,
    pub(crate) spots: Vec<Spot>,
}

/// A damaged place, as a repair needs it.
#[derive(Debug, Clone)]
pub(crate) enum Spot {
    /// `log.id` is not readable or not there.
    Identity,
    /// A segment is missing.
    Segment { number: u64 },
    /// A segment's header is wrong; this is what it should say, if its records tell, and where
    /// what is written in it ends.
    Header { number: u64, header: Option<SegmentHeader>, end: u64 },
    /// Bytes from `mark.at` or the block after it up to `end` are wrong.
    Bytes { number: u64, offset: u64, end: u64, mark: Mark },
    /// Records are missing between the end of a segment and the next segment.
    Gap { number: u64 },
    /// A record that is whole but does not belong where it is.
    Misplaced { number: u64, offset: u64 },
}

/// The end of the segment before.
#[derive(Debug, Clone, Copy)]
struct Before {
    number: u64,
    mark: Mark,
    sound: bool,
}

pub(crate) fn look(disk: &dyn Disk, dir: &Path) -> Result<Findings, IoError> {
    let mut findings = Findings::default();
    let numbers = numbers(disk, dir).map_err(IoError::on("list", dir))?;
    findings.look_at_identity(disk, dir, &numbers)?;
    let last = last_written(disk, dir, findings.id, &numbers)?;
    let mut before: Option<Before> = None;
    for &number in &numbers {
        let path = path(dir, number);
        let file = disk.open(&path, Access::Read).map_err(IoError::on("open", &path))?;
        let header = findings.look_at_header(&*file, &path, number)?;
        findings.report.segments += 1;
        let known = match &header {
            Some((header, _)) => *header,
            None => {
                before = Some(Before { number, mark: UNKNOWN, sound: false });
                continue;
            }
        };
        let mut scan = Scan::new(path.clone(), file, known, GROUPS_START)
            .map_err(IoError::on("read", &path))?;
        if let Some((_, sound)) = header {
            findings.look_between(dir, before, &mut scan, sound);
        }
        let is_last = Some(number) == last;
        let sound = findings
            .look_at_records(&mut scan, number, is_last)
            .map_err(IoError::on("read", &path))?;
        before = Some(Before { number, mark: scan.mark, sound });
    }
    Ok(findings)
}

/// After something that could not be read, anything may follow.
const UNKNOWN: Mark = Mark { at: GROUPS_START, group: None, expected: None };

/// The last segment with anything in it; those after it were prepared and never written to.
fn last_written(
    disk: &dyn Disk,
    dir: &Path,
    id: Option<LogId>,
    numbers: &[u64],
) -> Result<Option<u64>, IoError> {
    for &number in numbers.iter().rev() {
        let path = path(dir, number);
        let file = disk.open(&path, Access::Read).map_err(IoError::on("open", &path))?;
        let header = match id {
            Some(id) => {
                SegmentHeader::read(&*file, number, id).map_err(IoError::on("read", &path))?
            }
            None => return Ok(Some(number)),
        };
        let Ok(header) = header else { return Ok(Some(number)) };
        let mut scan = Scan::new(path.clone(), file, header, GROUPS_START)
            .map_err(IoError::on("read", &path))?;
        let written = scan.first_nonzero(GROUPS_START).map_err(IoError::on("read", &path))?;
        if header.run.is_some() || written.is_some() {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

impl Findings {
    fn problem(&mut self, kind: ProblemKind, path: &Path, offset: u64, bytes: u64, what: &str) {
        if self.report.problems.len() == PROBLEMS_MAX {
            self.report.more += 1;
            return;
        }
        let (path, what) = (path.to_owned(), what.to_owned());
        self.report.problems.push(Problem { kind, path, offset, bytes, what });
    }

    fn damage(&mut self, spot: Spot, path: &Path, offset: u64, bytes: u64, what: &str) {
        self.problem(ProblemKind::Damage, path, offset, bytes, what);
        self.spots.push(spot);
    }

    fn look_at_identity(
        &mut self,
        disk: &dyn Disk,
        dir: &Path,
        numbers: &[u64],
    ) -> Result<(), IoError> {
        let damage = match read_id(disk, dir) {
            Ok(Some(id)) => {
                self.id = Some(id);
                // One flipped digit is an identity too; then all segments belong to another log.
                let mut others = numbers.iter().map(|&number| log_of(disk, dir, number));
                let known = others.find_map(Result::transpose).transpose()?;
                match known {
                    Some(other) if other != id => {
                        self.id = Some(other);
                        let mut damage = lost_id(dir);
                        damage.what = "it names another log than the segments do".to_owned();
                        damage
                    }
                    _ => return Ok(()),
                }
            }
            Ok(None) if numbers.is_empty() => return Ok(()),
            Ok(None) => lost_id(dir),
            Err(ReadError::Damage(damage)) => damage,
            Err(ReadError::Io(error)) => return Err(error),
        };
        if self.id.is_none() {
            let mut logs = numbers.iter().map(|&number| log_of(disk, dir, number));
            self.id = logs.find_map(Result::transpose).transpose()?;
        }
        self.damage(Spot::Identity, &damage.path, 0, 0, &damage.what);
        Ok(())
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
        let known = header_of_records(file, number, log).map_err(IoError::on("read", path))?;
        let end = written_end(file).map_err(IoError::on("read", path))?;
        let spot = Spot::Header { number, header: known, end };
        self.damage(spot, path, 0, GROUPS_START, &error.to_string());
        Ok(known.map(|header| (header, false)))
    }

    /// What ties a segment to the one before it.
    fn look_between(&mut self, dir: &Path, before: Option<Before>, scan: &mut Scan, sound: bool) {
        let number = scan.header.number;
        let Some(before) = before else { return };
        if before.number + 1 != number {
            for missing in before.number + 1..number {
                let what = format!("segment {missing} is missing");
                self.damage(Spot::Segment { number: missing }, dir, 0, 0, &what);
            }
            return;
        }
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

    /// Looks at all records and what is between and after them; whether its end is to be relied
    /// on.
    fn look_at_records(
        &mut self,
        scan: &mut Scan,
        number: u64,
        is_last: bool,
    ) -> std::io::Result<bool> {
        let first = scan.mark;
        loop {
            let mark = scan.mark;
            let bad = match scan.step()? {
                Step::Record(found) if found.removed => {
                    self.report.removed += 1;
                    continue;
                }
                Step::Record(found) => {
                    self.report.records += 1;
                    self.report.bytes += found.payload.len() as u64;
                    continue;
                }
                Step::Bad(bad) => bad,
                Step::End => match scan.first_nonzero(block_after(mark.at))? {
                    None => return Ok(true),
                    Some(_) => BadSpot {
                        offset: block_after(mark.at),
                        what: "bytes where nothing was written, or a record that is missing",
                    },
                },
            };
            let rest = scan.rest(bad.offset)?;
            let identity = scan.header.identity;
            if is_last && judge(&rest, bad.offset, identity) != Verdict::Damage {
                let bytes = written(&rest);
                let what = "the rest of a write that a crash cut off, or one that is under way";
                self.problem(ProblemKind::Torn, &scan.path, bad.offset, bytes, what);
                return Ok(false);
            }
            let next = next_record(&rest, 0, identity);
            let end = bad.offset + next.map_or_else(|| written(&rest), |(at, _)| at as u64);
            let bytes = end - bad.offset;
            if bytes > 0 {
                let spot = Spot::Bytes { number, offset: bad.offset, end, mark };
                self.damage(spot, &scan.path, bad.offset, bytes, bad.what);
            } else if mark == first && mark.expected.is_some() && number > 1 {
                let what = "records are missing between the segment before and this one";
                let spot = Spot::Gap { number: number - 1 };
                self.damage(spot, &scan.path, bad.offset, 0, what);
            } else {
                let spot = Spot::Misplaced { number, offset: bad.offset };
                self.damage(spot, &scan.path, bad.offset, 0, bad.what);
            }
            // A record whose group starts after it is never taken for one.
            let next = next.filter(|(at, header)| header.group <= bad.offset + *at as u64);
            let Some((at, _)) = next else { return Ok(false) };
            scan.mark = Mark { at: bad.offset + at as u64, group: None, expected: None };
        }
    }
}

/// Which log a segment says it belongs to, where its header can be read.
fn log_of(disk: &dyn Disk, dir: &Path, number: u64) -> Result<Option<LogId>, IoError> {
    let path = path(dir, number);
    let file = disk.open(&path, Access::Read).map_err(IoError::on("open", &path))?;
    let log = SegmentHeader::read_any(&*file).map_err(IoError::on("read", &path))?;
    Ok(log.ok().map(|header| header.log))
}

/// What the header of a segment said, as far as its first readable record tells.
fn header_of_records(
    file: &dyn DiskFile,
    number: u64,
    log: LogId,
) -> std::io::Result<Option<SegmentHeader>> {
    let mut head = vec![0; HEAD_BYTES];
    let bytes = read_full(file, &mut head, GROUPS_START)?;
    for start in (0..bytes).step_by(BLOCK_BYTES) {
        let Some(identity) = head[start..bytes].get(16..24) else { break };
        let identity = u64::from_le_bytes(identity.try_into().expect("eight bytes"));
        if identity != 0
            && let Some((0, record)) = next_record(&head[start..bytes], 0, identity)
        {
            // A run's sequence starts at the number of its first segment.
            let started_here = record.sequence >> 40 == number;
            let run = started_here.then(|| RunStart::new(number, 0));
            return Ok(Some(SegmentHeader { number, identity, log, run }));
        }
    }
    Ok(None)
}

/// Where the last byte of a file is that is not zero.
fn written_end(file: &dyn DiskFile) -> std::io::Result<u64> {
    let mut chunk = vec![0; 1 << 20];
    let (mut offset, mut end) = (0, 0);
    loop {
        let bytes = read_full(file, &mut chunk, offset)?;
        if bytes == 0 {
            return Ok(end);
        }
        match written(&chunk[..bytes]) {
            0 => {}
            written => end = offset + written,
        }
        offset += bytes as u64;
    }
}

/// How many bytes there are up to the last that is not zero.
fn written(bytes: &[u8]) -> u64 {
    bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u64 + 1)
}
