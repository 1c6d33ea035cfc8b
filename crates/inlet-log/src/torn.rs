//! Tells a torn write from damage.
//!
//! A group is written only after the one before it was synced. So at a crash at most one group,
//! the last one, is not wholly on the disk, and nothing in it was acknowledged. Of that group any
//! sectors may be there, and any may still be the zeros they were prepared with.
//!
//! A bad spot is therefore torn when no valid record follows it; or when all that follow belong
//! to one group that starts at or before the spot, and between the spot and the first of them at
//! least one whole sector is zeros. It is damage when a later group follows, since then what
//! stood at the spot was acknowledged, and when its own group follows without a hole, since then
//! nothing is missing there, it is merely wrong.
//!
//! What this can't tell: when the very last group of a log was acknowledged and then damaged, it
//! looks like a torn tail. It is cut, kept aside and told, like one.

use crate::record::{Decoded, Kind, RECORD_HEADER_BYTES, RecordHeader, decode};

/// What the disk writes as a whole, in bytes.
const SECTOR_BYTES: usize = 512;

/// What a bad spot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The rest of a write that a crash cut off; none of it was acknowledged.
    TornTail,
    /// The same with a hole in it: later bytes of the same write are there.
    TornGroup,
    /// Something that was acknowledged is not there any more.
    Damage,
}

/// Judges the bad spot at `offset`; `rest` is all that the segment holds from there on.
pub(crate) fn judge(rest: &[u8], offset: u64, identity: u64) -> Verdict {
    let mut first = None;
    let mut from = 0;
    while let Some((at, header)) = next_record(rest, from, identity) {
        let (_, group) = *first.get_or_insert((at, header.group));
        if header.group > offset || header.group != group || header.kind == Kind::Removed {
            return Verdict::Damage;
        }
        from = at + RECORD_HEADER_BYTES + header.length;
    }
    match first {
        None => Verdict::TornTail,
        Some((at, _)) if has_zero_sector(&rest[..at], offset) => Verdict::TornGroup,
        Some(_) => Verdict::Damage,
    }
}

/// The first valid record at or after `from`, wherever it starts.
///
/// It is looked for by the identity in its header, so that bytes between records are passed over
/// at the speed of a search and not by a checksum at every byte.
pub(crate) fn next_record(
    bytes: &[u8],
    mut from: usize,
    identity: u64,
) -> Option<(usize, RecordHeader)> {
    const IDENTITY_AT: usize = 16;
    let wanted = identity.to_le_bytes();
    loop {
        let start = from + IDENTITY_AT;
        let skip = bytes.get(start..)?.iter().position(|&byte| byte == wanted[0])?;
        from += skip;
        if bytes[start + skip..].starts_with(&wanted)
            && let Decoded::Record(header) = decode(&bytes[from..], identity)
        {
            return Some((from, header));
        }
        from += 1;
    }
}

/// Whether a whole sector within `bytes`, which start at `offset` in the file, is zeros.
fn has_zero_sector(bytes: &[u8], offset: u64) -> bool {
    let into = usize::try_from(offset % SECTOR_BYTES as u64).expect("less than a sector");
    let skip = (SECTOR_BYTES - into) % SECTOR_BYTES;
    let sectors = bytes.get(skip..).unwrap_or_default().chunks_exact(SECTOR_BYTES);
    sectors.into_iter().any(|sector| sector.iter().all(|&byte| byte == 0))
}
