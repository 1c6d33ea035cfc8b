//! A record: one payload as it lies in a segment.
//!
//! All numbers are little endian.
//!
//! | offset | bytes | field | |
//! | --- | --- | --- | --- |
//! | 0 | 4 | checksum | CRC-32 (IEEE 802.3, as `crc32fast` computes it) of all that follows, payload included |
//! | 4 | 4 | length | bytes of the payload, at most 32 MiB |
//! | 8 | 8 | sequence | one more than that of the record before it; 0 where bytes were taken out, and any after that |
//! | 16 | 8 | identity | that of the segment, from its header |
//! | 24 | 4 | group | where the group of the record starts in the segment, in blocks of 4096 bytes |
//! | 28 | 4 | kind | 1: a payload; 2: bytes that `fsck --repair` took out |
//! | 32 | length | payload | |
//!
//! Why each is there:
//! - The checksum comes first and covers the length, so a length that was damaged is found and
//!   never believed.
//! - The identity keeps bytes of another segment, which the disk may have kept in that place,
//!   from passing for a record of this one. Zeros never decode: an identity is not 0, nor is a
//!   kind, nor a group.
//! - The group start tells, when a record can't be read, whether those after it were written
//!   together with it (then none of them was acknowledged) or later (then this one was).
//! - The sequence shows a record that is missing altogether, which a checksum can't.
//!
//! 32 bits of checksum find every error of up to 32 bits in a row and miss one in four billion of
//! all others; what may be read at all is narrowed by identity, group and sequence besides.
//! 32 MiB for a payload is far above the largest document (1 MiB by default) and bounds what a
//! damaged length can make a reader allocate.

use crate::segment::BLOCK_BYTES;

/// The largest payload, in bytes.
pub const RECORD_BYTES_MAX: usize = 32 << 20;

/// What a record takes beside its payload, in bytes.
pub const RECORD_HEADER_BYTES: usize = 32;

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The payload as it was appended.
    Payload,
    /// Nothing any more: it covers bytes that a repair took out.
    Removed,
}

/// All of a record but its payload and checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) length: usize,
    pub(crate) sequence: u64,
    pub(crate) identity: u64,
    /// Where the record's group starts, in bytes.
    pub(crate) group: u64,
    pub(crate) kind: Kind,
}

/// What bytes say when they are read as a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// A record, checked.
    Record(RecordHeader),
    /// It may be one, if there are that many bytes in all.
    Incomplete(usize),
    /// It is none, and this is what is wrong.
    Invalid(&'static str),
}

impl RecordHeader {
    /// Writes the record's header before a payload that is already in its place.
    pub(crate) fn seal(&self, record: &mut [u8]) {
        debug_assert_eq!(record.len(), RECORD_HEADER_BYTES + self.length);
        let length = u32::try_from(self.length).expect("a payload is at most 32 MiB");
        let group = u32::try_from(self.group / BLOCK_BYTES as u64).expect("a segment ends first");
        let kind: u32 = if self.kind == Kind::Payload { 1 } else { 2 };
        record[4..8].copy_from_slice(&length.to_le_bytes());
        record[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        record[16..24].copy_from_slice(&self.identity.to_le_bytes());
        record[24..28].copy_from_slice(&group.to_le_bytes());
        record[28..32].copy_from_slice(&kind.to_le_bytes());
        let checksum = crc32fast::hash(&record[4..]);
        record[..4].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// Reads the record at the start of `bytes`, which belongs to the segment with this identity.
pub(crate) fn decode(bytes: &[u8], identity: u64) -> Decoded {
    let Some(header) = bytes.first_chunk::<RECORD_HEADER_BYTES>() else {
        return Decoded::Incomplete(RECORD_HEADER_BYTES);
    };
    let u32_at = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| header[at + i]));
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    // The cheap checks come first; each of them is covered by the checksum as well.
    if u64_at(16) != identity {
        return Decoded::Invalid("no record of this segment");
    }
    let length = u32_at(4) as usize;
    if length > RECORD_BYTES_MAX {
        return Decoded::Invalid("a record longer than the longest allowed");
    }
    let Some(covered) = bytes.get(4..RECORD_HEADER_BYTES + length) else {
        return Decoded::Incomplete(RECORD_HEADER_BYTES + length);
    };
    if crc32fast::hash(covered) != u32_at(0) {
        return Decoded::Invalid("a record whose checksum is wrong");
    }
    let kind = match u32_at(28) {
        1 => Kind::Payload,
        2 => Kind::Removed,
        _ => return Decoded::Invalid("a record of an unknown kind"),
    };
    let group = u64::from(u32_at(24)) * BLOCK_BYTES as u64;
    Decoded::Record(RecordHeader { length, sequence: u64_at(8), identity, group, kind })
}
