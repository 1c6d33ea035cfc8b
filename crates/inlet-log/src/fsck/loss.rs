//! The account of what a repair could not keep: between which records, and how many.

use std::path::Path;

use bytes::Bytes;

use crate::disk::{Access, Disk};
use crate::error::IoError;
use crate::position::Position;
use crate::scan::{Scan, Step};
use crate::segment::{GROUPS_START, SegmentHeader, numbers, path};

/// Records that are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The end of the last record before them that is there.
    pub from: Position,
    /// The number of records, where their sequence tells.
    pub records: Option<u64>,
    /// The payload of the last record before them, where there is one.
    pub before: Option<Bytes>,
    /// The payload of the first record after them, where there is one.
    pub after: Option<Bytes>,
}

/// A place that this repair covered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Covered {
    pub(super) segment: u64,
    pub(super) start: u64,
    pub(super) end: u64,
}

/// A record that is there: its sequence where known, and its payload.
type Known = (Option<u64>, Bytes);

/// Goes through a repaired log and says what is missing at the covered places. `sealed` is where
/// the log was closed, and `cut_short` whether it ends before that.
pub(super) fn account(
    disk: &dyn Disk,
    dir: &Path,
    covered: &[Covered],
    sealed: Option<Position>,
    cut_short: bool,
) -> Result<Vec<Loss>, IoError> {
    let mut losses = Vec::new();
    if covered.is_empty() && !cut_short {
        return Ok(losses);
    }
    let mut last: Option<Known> = None;
    let mut end = Position::START;
    let mut open: Option<Loss> = None;
    for number in numbers(disk, dir).map_err(IoError::on("list", dir))? {
        let path = path(dir, number);
        let reading = || IoError::on("read", &path);
        let file = disk.open(&path, Access::Read).map_err(IoError::on("open", &path))?;
        let header = SegmentHeader::read_any(&*file).map_err(reading())?;
        let Ok(header) = header else { continue };
        if let (Some(loss), Some(run)) = (&mut open, header.run)
            && run.previous_sequence != 0
        {
            loss.records = between(last.as_ref(), Some(run.previous_sequence));
        }
        let mut scan = Scan::new(path.clone(), file, header, GROUPS_START).map_err(reading())?;
        while let Step::Record(found) = scan.step().map_err(reading())? {
            let here = |cover: &Covered| {
                cover.segment == number && (cover.start..=cover.end).contains(&found.start)
            };
            if found.removed {
                let at = Position { segment: number, offset: found.start };
                let beyond = sealed.is_some_and(|sealed| at >= sealed);
                if covered.iter().any(here) && !beyond {
                    let before = last.as_ref().map(|(_, payload)| payload.clone());
                    let loss = Loss { from: end, records: None, before, after: None };
                    open.get_or_insert(loss);
                }
                continue;
            }
            let sequence = scan.mark.expected.map(|next| next - 1);
            if let Some(mut loss) = open.take() {
                loss.records = loss.records.or(between(last.as_ref(), sequence));
                loss.after = Some(found.payload.clone());
                losses.push(loss);
            }
            last = Some((sequence, found.payload));
            end = Position { segment: number, offset: found.end };
        }
    }
    if open.is_none() && cut_short {
        let before = last.map(|(_, payload)| payload);
        open = Some(Loss { from: end, records: None, before, after: None });
    }
    losses.extend(open);
    // Bytes between records were covered as well; nothing was in them.
    losses.retain(|loss| loss.records != Some(0));
    Ok(losses)
}

/// The number of records between one and the record with the sequence `next` of its run.
fn between(last: Option<&Known>, next: Option<u64>) -> Option<u64> {
    let (last, next) = (last?.0?, next?);
    (last >> 40 == next >> 40).then(|| next.saturating_sub(last + 1))
}
