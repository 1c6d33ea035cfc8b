//! A segment: one file of a log, `NNNNNNNNNNNNNNNNNNNN.seg`, its number in 20 digits.
//!
//! It is a header of one block (4096 bytes), then groups, then zeros. A group starts at a
//! multiple of 4096, is one write of whole blocks, and holds records back to back; the rest of
//! its last block is zeros. The next group starts in the next block, so a sector that was
//! acknowledged is never written again, and it is written only after the one before it was synced.
//!
//! The header, little endian:
//!
//! | offset | bytes | field | |
//! | --- | --- | --- | --- |
//! | 0 | 8 | magic | `inletseg` |
//! | 8 | 4 | version | 1 |
//! | 12 | 4 | checksum | CRC-32 (IEEE) of the whole block with these four bytes as zeros |
//! | 16 | 8 | number | the segment's number, as in its name |
//! | 24 | 8 | identity | random, not 0; each record repeats it |
//! | 32 | 16 | log | the log's identity, as in `log.id` |
//! | 48 | 8 | first sequence | in the first segment of a run: the sequence of its first record; 0 in the others, which carry on |
//! | 56 | 8 | previous sequence | in the first segment of a run: what the next record of the run before it would have had; 0 where that is not known |
//! | 64 | 4032 | | zeros |
//!
//! A run is what one writer writes between an open and its end. It starts a segment of its own,
//! and its sequence at that segment's number times 2^40: it can't run into the next run's, since
//! a segment holds far fewer than 2^40 records, and it needs nothing of the segments before it,
//! which may be gone. `previous sequence` ties it to the run before where that is there: records
//! that are missing at its end are missed.
//!
//! A segment is made under the name `….seg.new`, filled with zeros to its full length, synced,
//! renamed, and the directory is synced; only then is it used. So appends change neither the
//! file's length nor its extents, the room is reserved before it is needed, and a segment with a
//! damaged header is never what a crash leaves.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::buffer::AlignedBuffer;
use crate::disk::{Access, Disk, DiskFile, read_full, write_full};
use crate::position::LogId;

/// The unit of writing and of alignment, in bytes.
pub const BLOCK_BYTES: usize = 4096;

/// Where the first group of a segment starts, in bytes.
pub(crate) const GROUPS_START: u64 = BLOCK_BYTES as u64;

const MAGIC: &[u8; 8] = b"inletseg";
const VERSION: u32 = 1;
const SUFFIX: &str = ".seg";
const SUFFIX_NEW: &str = ".seg.new";

/// How much is zeroed by one write while a segment is made, in bytes.
const ZEROS_BYTES: usize = 256 << 10;

/// The smallest segment that is tried on a disk with little room, in bytes.
const CRAMPED_BYTES_MIN: u64 = 64 << 10;

/// What a segment's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) number: u64,
    pub(crate) identity: u64,
    pub(crate) log: LogId,
    pub(crate) run: Option<RunStart>,
}

/// What the first segment of a run says besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunStart {
    pub(crate) first_sequence: u64,
    /// 0 where it is not known.
    pub(crate) previous_sequence: u64,
}

impl RunStart {
    /// The start of a run with segment `number`, where the run before would have gone on with
    /// `previous_sequence`.
    pub(crate) fn new(number: u64, previous_sequence: u64) -> Self {
        Self { first_sequence: number << 40, previous_sequence }
    }
}

/// Why a header can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("the file ends within the header")]
    Short,
    #[error("the header's checksum is wrong")]
    Checksum,
    #[error("this is no segment")]
    Magic,
    #[error("the segment has format version {0}, this binary knows {VERSION}")]
    Version(u32),
    #[error("the header names another segment than the file's name")]
    Number,
    #[error("the segment belongs to another log")]
    Log,
}

impl SegmentHeader {
    /// The header as the first block of a file.
    pub(crate) fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        block[..8].copy_from_slice(MAGIC);
        block[8..12].copy_from_slice(&VERSION.to_le_bytes());
        block[16..24].copy_from_slice(&self.number.to_le_bytes());
        block[24..32].copy_from_slice(&self.identity.to_le_bytes());
        block[32..48].copy_from_slice(self.log.as_bytes());
        if let Some(run) = self.run {
            block[48..56].copy_from_slice(&run.first_sequence.to_le_bytes());
            block[56..64].copy_from_slice(&run.previous_sequence.to_le_bytes());
        }
        let checksum = crc32fast::hash(&block);
        block[12..16].copy_from_slice(&checksum.to_le_bytes());
        block
    }

    /// Reads a header back.
    pub(crate) fn decode(block: &[u8]) -> Result<Self, HeaderError> {
        let block: &[u8; BLOCK_BYTES] = block.try_into().map_err(|_| HeaderError::Short)?;
        let u64_at =
            |at: usize| u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| block[at + i]));
        let u32_at = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| block[at + i]));
        let mut checked = *block;
        checked[12..16].fill(0);
        if crc32fast::hash(&checked) != u32_at(12) {
            return Err(HeaderError::Checksum);
        }
        if &block[..8] != MAGIC {
            return Err(HeaderError::Magic);
        }
        if u32_at(8) != VERSION {
            return Err(HeaderError::Version(u32_at(8)));
        }
        let mut log = [0; 16];
        log.copy_from_slice(&block[32..48]);
        let (first_sequence, previous_sequence) = (u64_at(48), u64_at(56));
        let run = (first_sequence != 0).then_some(RunStart { first_sequence, previous_sequence });
        Ok(Self { number: u64_at(16), identity: u64_at(24), log: LogId::from_bytes(log), run })
    }

    /// Reads the header of whatever segment a file is.
    pub(crate) fn read_any(file: &dyn DiskFile) -> io::Result<Result<Self, HeaderError>> {
        let mut block = vec![0; BLOCK_BYTES];
        let bytes = read_full(file, &mut block, 0)?;
        Ok(Self::decode(&block[..bytes]))
    }

    /// Reads the header of segment `number` of log `log` from its file.
    pub(crate) fn read(
        file: &dyn DiskFile,
        number: u64,
        log: LogId,
    ) -> io::Result<Result<Self, HeaderError>> {
        Ok(Self::read_any(file)?.and_then(|header| match header {
            header if header.number != number => Err(HeaderError::Number),
            header if header.log != log => Err(HeaderError::Log),
            header => Ok(header),
        }))
    }
}

/// A segment that can be written to.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) identity: u64,
    /// The length of the file.
    pub(crate) bytes: u64,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) run: Option<RunStart>,
    /// True if it is smaller than planned, because the disk had no more room.
    pub(crate) cramped: bool,
}

/// A segment to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) number: u64,
    pub(crate) bytes: u64,
    pub(crate) run: Option<RunStart>,
}

impl Plan {
    /// The same for a disk that has no room for it, a quarter of the size; nothing where that
    /// would be too small.
    pub(crate) fn smaller(self) -> Option<Self> {
        let bytes = block_after(self.bytes / 4).max(CRAMPED_BYTES_MIN);
        (bytes < self.bytes).then_some(Self { bytes, ..self })
    }

    /// Makes the segment, durably, as the module's head says. What a failure leaves is removed
    /// as far as possible, so that a full disk gets its room back; the rest the next open removes.
    pub(crate) fn make(
        self,
        disk: &dyn Disk,
        dir: &Path,
        log: LogId,
        access: Access,
        cancelled: &dyn Fn() -> bool,
    ) -> io::Result<Segment> {
        let new = dir.join(format!("{:020}{SUFFIX_NEW}", self.number));
        self.make_as(&new, disk, dir, log, access, cancelled).inspect_err(|_| {
            if let Err(error) = disk.remove(&new) {
                tracing::debug!(%error, path = %new.display(), "an unfinished segment stays");
            }
        })
    }

    fn make_as(
        self,
        new: &Path,
        disk: &dyn Disk,
        dir: &Path,
        log: LogId,
        access: Access,
        cancelled: &dyn Fn() -> bool,
    ) -> io::Result<Segment> {
        let Self { number, bytes, run } = self;
        let identity = disk.random()?.max(1);
        let file = disk.create(new, access)?;
        file.allocate(bytes)?;
        let mut zeros = AlignedBuffer::with_capacity(ZEROS_BYTES);
        zeros.grow(ZEROS_BYTES).fill(0);
        let mut offset = GROUPS_START;
        while offset < bytes {
            if cancelled() {
                return Err(io::Error::new(io::ErrorKind::Interrupted, "the log is closing"));
            }
            let piece = usize::try_from(bytes - offset).map_or(ZEROS_BYTES, |n| n.min(ZEROS_BYTES));
            write_full(&*file, &zeros.as_slice()[..piece], offset)?;
            offset += piece as u64;
        }
        zeros.clear();
        let header = SegmentHeader { number, identity, log, run };
        zeros.grow(BLOCK_BYTES).copy_from_slice(&header.encode());
        write_full(&*file, zeros.as_slice(), 0)?;
        file.sync()?;
        let path = path(dir, number);
        disk.rename(new, &path)?;
        disk.sync_dir(dir)?;
        Ok(Segment { number, identity, bytes, path, file, run, cramped: false })
    }
}

/// The path of segment `number` in a log's directory.
pub(crate) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}{SUFFIX}"))
}

/// The number of a segment's file name; nothing for any other name.
pub(crate) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let all = digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit());
    all.then(|| digits.parse().ok()).flatten()
}

/// Whether this is the name of a segment whose making was not finished.
pub(crate) fn is_unfinished(name: &str) -> bool {
    name.ends_with(SUFFIX_NEW)
}

/// The numbers of the segments in a directory, ascending.
pub(crate) fn numbers(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers: Vec<u64> = disk.list(dir)?.iter().filter_map(|name| number(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The first multiple of [`BLOCK_BYTES`] that is not below `offset`.
pub(crate) fn block_after(offset: u64) -> u64 {
    offset.next_multiple_of(BLOCK_BYTES as u64)
}
