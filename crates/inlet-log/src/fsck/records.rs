//! The look at the bytes of one segment.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::look::{Findings, Spot};
use crate::disk::{Access, Disk, DiskFile, read_full};
use crate::error::IoError;
use crate::position::LogId;
use crate::record::RECORD_HEADER_BYTES;
use crate::scan::{BadSpot, Mark, Scan, Step};
use crate::segment::{BLOCK_BYTES, GROUPS_START, RunStart, SegmentHeader, block_after, path};
use crate::torn::{Verdict, judge, next_record};

/// The bytes of a segment without a readable header that are searched for a first record: as many
/// as the largest group has by default.
const HEAD_BYTES: usize = 4 << 20;

/// The last segment with anything in it; those after it were prepared and never written to.
pub(super) fn last_written(
    disk: &dyn Disk,
    dir: &Path,
    id: Option<LogId>,
    numbers: &[u64],
) -> Result<Option<u64>, IoError> {
    for &number in numbers.iter().rev() {
        let path = path(dir, number);
        let reading = || IoError::on("read", &path);
        let file = match disk.open(&path, Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened.map_err(IoError::on("open", &path))?,
        };
        let Some(id) = id else { return Ok(Some(number)) };
        let header = SegmentHeader::read(&*file, number, id).map_err(reading())?;
        let Ok(header) = header else { return Ok(Some(number)) };
        let mut scan = Scan::new(path.clone(), file, header, GROUPS_START).map_err(reading())?;
        let written = scan.first_nonzero(GROUPS_START).map_err(reading())?;
        if header.run.is_some() || written.is_some() {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

/// Looks at all records and what is between and after them; whether its end is to be relied on.
pub(super) fn look_at_records(
    findings: &mut Findings,
    scan: &mut Scan,
    number: u64,
    may_be_torn: bool,
) -> io::Result<bool> {
    let first = scan.mark;
    loop {
        let mark = scan.mark;
        let bad = match scan.step()? {
            Step::Record(found) if found.removed => {
                findings.report.removed += 1;
                continue;
            }
            Step::Record(found) => {
                findings.report.records += 1;
                findings.report.bytes += found.payload.len() as u64;
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
        if may_be_torn && judge(&rest, bad.offset, identity) != Verdict::Damage {
            findings.torn(&scan.path, bad.offset, written(&rest));
            return Ok(false);
        }
        let next = next_record(&rest, 0, identity);
        let end = bad.offset + next.map_or_else(|| written(&rest), |(at, _)| at as u64);
        let bytes = end - bad.offset;
        let here = next.filter(|_| bytes == 0).map(|(_, header)| header.length);
        // If a segment's first record is whole but is not the next, it is the end of the one before
        // that is missing, or the record that does not belong here.
        let is_late = mark == first && mark.expected.is_some() && scan.header.run.is_none();
        let resume = match here {
            None => {
                let spot = Spot::Bytes { number, offset: bad.offset, end, mark };
                findings.damage(spot, &scan.path, bad.offset, bytes, bad.what);
                // A record whose group starts after it is never taken for one.
                let next = next.filter(|(at, header)| header.group <= bad.offset + *at as u64);
                let Some((at, _)) = next else { return Ok(false) };
                bad.offset + at as u64
            }
            Some(_) if is_late => {
                let what = "records are missing between the segment before and this one";
                let spot = Spot::Gap { number: number - 1 };
                findings.damage(spot, &scan.path, bad.offset, 0, what);
                bad.offset
            }
            Some(length) => {
                let end = bad.offset + (RECORD_HEADER_BYTES + length) as u64;
                let spot = Spot::Misplaced { number, offset: bad.offset, end, mark };
                findings.damage(spot, &scan.path, bad.offset, end - bad.offset, bad.what);
                end
            }
        };
        scan.mark = Mark { at: resume, group: None, expected: None };
    }
}

/// The header of a segment, as far as its first readable record tells.
pub(super) fn header_of_records(
    file: &dyn DiskFile,
    number: u64,
    log: LogId,
) -> io::Result<Option<SegmentHeader>> {
    let mut head = vec![0; HEAD_BYTES];
    let bytes = read_full(file, &mut head, 0)?;
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

/// The end of the last byte of a file that is not zero.
pub(super) fn written_end(file: &dyn DiskFile) -> io::Result<u64> {
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

/// The end of the records of a segment.
pub(super) fn records_end(
    path: &Path,
    file: Arc<dyn DiskFile>,
    id: LogId,
    number: u64,
) -> io::Result<Mark> {
    let header = SegmentHeader::read(&*file, number, id)?.map_err(io::Error::other)?;
    let mut scan = Scan::new(path.to_owned(), file, header, GROUPS_START)?;
    while let Step::Record(_) = scan.step()? {}
    Ok(scan.mark)
}

/// The number of bytes up to the last that is not zero.
fn written(bytes: &[u8]) -> u64 {
    bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u64 + 1)
}
