//! Reads the records of one segment in order, and says where that ends and why.
//!
//! This is the one place that decides what may follow what; the reader, the recovery and `fsck`
//! all stand on it. Expected at any place is: the next record of the same group, or zeros up to
//! the end of the block and then a new group, or zeros. Anything else is a bad spot. It never
//! writes and never skips.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{DiskFile, read_full};
use crate::record::{Decoded, Kind, RECORD_HEADER_BYTES, RecordHeader, decode};
use crate::segment::{GROUPS_START, SegmentHeader, block_after};

/// How much is read at a time where there is that much, in bytes.
const CHUNK_BYTES_MAX: usize = 1 << 20;
/// How far ahead of a long read the disk is told what will be read, in bytes.
const AHEAD_BYTES: u64 = 4 << 20;
/// How much is read first: a reader at the tail mostly finds little.
const CHUNK_BYTES_MIN: usize = 64 << 10;

/// Where a segment holds something else than a record or zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadSpot {
    pub(crate) offset: u64,
    pub(crate) what: &'static str,
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) payload: Bytes,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Set where a repair took bytes out: then there is no payload to give.
    pub(crate) removed: bool,
}

/// What stands at the place the scan has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A record; the scan stands after it now.
    Record(Found),
    /// No record, but zeros where one would start.
    End,
    /// Neither.
    Bad(BadSpot),
}

/// Where a scan stands, to come back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The end of the last record, or where the first group starts.
    pub(crate) at: u64,
    /// The start of the group that record is in; unknown at first and after removed bytes.
    pub(crate) group: Option<u64>,
    /// The sequence the next record has; unknown likewise.
    pub(crate) expected: Option<u64>,
}

/// A walk over the records of one segment.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) path: PathBuf,
    pub(crate) header: SegmentHeader,
    pub(crate) mark: Mark,
    file: Arc<dyn DiskFile>,
    file_bytes: u64,
    /// Nothing from this offset on is read.
    limit: u64,
    chunk: Bytes,
    chunk_start: u64,
    chunk_bytes: usize,
}

impl Scan {
    /// A scan of a segment from `at`, its first group or the end of a record in it.
    pub(crate) fn new(
        path: PathBuf,
        file: Arc<dyn DiskFile>,
        header: SegmentHeader,
        at: u64,
    ) -> io::Result<Self> {
        let at = at.max(GROUPS_START);
        let run = header.run.filter(|_| at == GROUPS_START);
        let mark = Mark { at, group: None, expected: run.map(|run| run.first_sequence) };
        let file_bytes = file.bytes()?;
        let limit = file_bytes;
        let (chunk, chunk_start, chunk_bytes) = (Bytes::new(), 0, CHUNK_BYTES_MIN);
        Ok(Self { path, header, mark, file, file_bytes, limit, chunk, chunk_start, chunk_bytes })
    }

    /// Sets the offset from which on nothing is read; without one it is the end of the file.
    pub(crate) fn limit(&mut self, limit: Option<u64>) {
        self.limit = limit.unwrap_or(self.file_bytes).min(self.file_bytes);
    }

    /// Forgets what was read ahead, so that the next step sees what is there now.
    pub(crate) fn refresh(&mut self) {
        self.chunk = Bytes::new();
        self.chunk_bytes = CHUNK_BYTES_MIN;
    }

    /// What stands here. After anything but a record the scan stands where it stood.
    pub(crate) fn step(&mut self) -> io::Result<Step> {
        let Mark { at, group, .. } = self.mark;
        let next = block_after(at);
        let here = |start: u64| match group {
            Some(group) => start == group || start == at,
            None => start <= at,
        };
        let what = match self.record(at)? {
            Ok((header, payload)) if here(header.group) => {
                return Ok(self.accept(at, header, payload));
            }
            Ok(_) => "a record of another group",
            Err(what) => what,
        };
        if !self.is_zero(at, next - at)? {
            return Ok(Step::Bad(BadSpot { offset: at, what }));
        }
        let what = if next == at {
            what
        } else {
            match self.record(next)? {
                Ok((header, payload)) if header.group == next => {
                    return Ok(self.accept(next, header, payload));
                }
                Ok(_) => "a record of another group",
                Err(what) => what,
            }
        };
        if self.is_zero(next, RECORD_HEADER_BYTES as u64)? {
            return Ok(Step::End);
        }
        Ok(Step::Bad(BadSpot { offset: next, what }))
    }

    /// The first byte from `from` on that is not zero, up to the limit.
    pub(crate) fn first_nonzero(&mut self, mut from: u64) -> io::Result<Option<u64>> {
        while from < self.limit {
            let held = self.hold(from, 1)?;
            let window = &self.chunk[held..];
            if window.is_empty() {
                break;
            }
            if let Some(at) = window.iter().position(|&byte| byte != 0) {
                return Ok(Some(from + at as u64));
            }
            from += window.len() as u64;
        }
        Ok(None)
    }

    /// All bytes from `from` to the limit. Only asked for where a spot is bad.
    pub(crate) fn rest(&mut self, from: u64) -> io::Result<Bytes> {
        let bytes = usize::try_from(self.limit.saturating_sub(from)).map_err(io::Error::other)?;
        let held = self.hold(from, bytes)?;
        Ok(self.chunk.slice(held..))
    }

    fn accept(&mut self, start: u64, header: RecordHeader, payload: Bytes) -> Step {
        let removed = header.kind == Kind::Removed;
        if !removed && self.mark.expected.is_some_and(|expected| expected != header.sequence) {
            let what = "a record that is not the next in sequence";
            return Step::Bad(BadSpot { offset: start, what });
        }
        let end = start + (RECORD_HEADER_BYTES + header.length) as u64;
        let known = |value: u64| (!removed).then_some(value);
        let (group, expected) = (known(header.group), known(header.sequence + 1));
        self.mark = Mark { at: end, group, expected };
        Step::Record(Found { payload, start, end, removed })
    }

    /// The record at an offset, or why there is none.
    fn record(&mut self, offset: u64) -> io::Result<Result<(RecordHeader, Bytes), &'static str>> {
        const CUT: &str = "a record that the file ends within";
        let mut needed = RECORD_HEADER_BYTES;
        loop {
            let start = self.hold(offset, needed)?;
            if self.chunk.len() < start + needed {
                return Ok(Err(CUT));
            }
            match decode(&self.chunk[start..], self.header.identity) {
                Decoded::Record(header) => {
                    let payload = start + RECORD_HEADER_BYTES;
                    let payload = self.chunk.slice(payload..payload + header.length);
                    return Ok(Ok((header, payload)));
                }
                Decoded::Incomplete(more) if offset + more as u64 > self.limit => {
                    return Ok(Err(CUT));
                }
                Decoded::Incomplete(more) => needed = more,
                Decoded::Invalid(what) => return Ok(Err(what)),
            }
        }
    }

    fn is_zero(&mut self, from: u64, bytes: u64) -> io::Result<bool> {
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        let start = self.hold(from, bytes)?;
        let end = self.chunk.len().min(start + bytes);
        Ok(self.chunk[start..end].iter().all(|&byte| byte == 0))
    }

    /// Sees to it that the chunk holds `bytes` bytes from `from` on, or all there are up to the
    /// limit and the end of the file; says where in the chunk they start.
    fn hold(&mut self, from: u64, bytes: usize) -> io::Result<usize> {
        let room = usize::try_from(self.limit.saturating_sub(from)).map_err(io::Error::other)?;
        let bytes = bytes.min(room);
        let held = from.checked_sub(self.chunk_start).and_then(|skip| usize::try_from(skip).ok());
        if let Some(start) = held
            && start + bytes <= self.chunk.len()
        {
            return Ok(start);
        }
        // Where no payload of the last chunk is held any more, its memory is used again.
        let chunk = std::mem::take(&mut self.chunk).try_into_mut();
        let mut chunk = chunk.unwrap_or_default();
        chunk.resize(bytes.max(self.chunk_bytes).min(room), 0);
        let read = read_full(&*self.file, &mut chunk, from);
        chunk.truncate(*read.as_ref().unwrap_or(&0));
        if self.chunk_bytes == CHUNK_BYTES_MAX {
            // A long read: the disk fetches what comes while this is looked at.
            self.file.will_read(from + AHEAD_BYTES, CHUNK_BYTES_MAX as u64);
        }
        self.chunk_bytes = CHUNK_BYTES_MAX.min(self.chunk_bytes * 4);
        (self.chunk, self.chunk_start) = (chunk.freeze(), from);
        let read = read?;
        debug_assert_eq!(read, self.chunk.len());
        Ok(0)
    }
}
