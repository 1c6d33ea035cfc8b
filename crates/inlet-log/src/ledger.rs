//! The two small files in which a log records its own extent, so that what is missing is missed.
//!
//! | file | written by | says |
//! | --- | --- | --- |
//! | `log.end` | the writer | the newest segment that was made, and, after a clean close, where the last record ends |
//! | `log.released` | whoever drains the log | the first segment that was not removed, up to where the log was let go of, and into which store |
//!
//! Each is lines of text that end in a checksum, in one sector, replaced by a rename; on a full
//! disk the sector is overwritten in place, which disks do as a whole, because nothing could be
//! removed from a full disk otherwise. The order of writing makes them safe to rely on: a segment
//! is made before `log.end` names it, and `log.end` names it before a record in it is
//! acknowledged; `log.released` is written before what it lets go of is removed. Neither is there
//! in a log that only an older binary has opened.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::disk::{Access, Disk, is_full, read_full, write_full};
use crate::error::{Damage, IoError, ReadError};
use crate::position::{Position, StoreId};

/// The length of each of these files, in bytes: a sector.
const BYTES: usize = 512;
const VERSION: u32 = 1;

/// The content of `log.end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// The newest segment that was made.
    pub(crate) newest: u64,
    /// The end of the last record when the log was closed; nothing while a writer has it, and after
    /// one that did not close it.
    pub(crate) sealed: Option<Position>,
}

/// The content of `log.released`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Released {
    /// The first segment that was not removed.
    pub(crate) first: u64,
    /// Everything up to here was stored when segments were removed.
    pub(crate) position: Position,
    /// The store it was stored in; nothing before anything was.
    pub(crate) store: Option<StoreId>,
}

/// A record of a log about itself.
pub(crate) trait Entry: Sized {
    const NAME: &'static str;

    fn lines(&self) -> String;
    fn parse(lines: &mut dyn Iterator<Item = &str>) -> Option<Self>;
}

impl Entry for End {
    const NAME: &'static str = "log.end";

    fn lines(&self) -> String {
        let sealed = self.sealed.map_or_else(|| "no".to_owned(), |end| end.to_string());
        format!("newest {}\nsealed {sealed}\n", self.newest)
    }

    fn parse(lines: &mut dyn Iterator<Item = &str>) -> Option<Self> {
        let newest = lines.next()?.strip_prefix("newest ")?.parse().ok()?;
        let sealed = match lines.next()?.strip_prefix("sealed ")? {
            "no" => None,
            end => Some(end.parse().ok()?),
        };
        Some(Self { newest, sealed })
    }
}

impl Entry for Released {
    const NAME: &'static str = "log.released";

    fn lines(&self) -> String {
        let store = self.store.map_or_else(|| "none".to_owned(), |store| store.to_string());
        format!("first {}\nposition {}\nstore {store}\n", self.first, self.position)
    }

    fn parse(lines: &mut dyn Iterator<Item = &str>) -> Option<Self> {
        let first = lines.next()?.strip_prefix("first ")?.parse().ok()?;
        let position = lines.next()?.strip_prefix("position ")?.parse().ok()?;
        let store = match lines.next()?.strip_prefix("store ")? {
            "none" => None,
            store => Some(store.parse().ok()?),
        };
        Some(Self { first, position, store })
    }
}

/// The path of a record in a log's directory.
pub(crate) fn path<E: Entry>(dir: &Path) -> PathBuf {
    dir.join(E::NAME)
}

/// Returns true if this is the name of one of the two files, or of one that was not finished.
pub(crate) fn is_entry(name: &str) -> bool {
    let name = name.strip_suffix(".new").unwrap_or(name);
    [End::NAME, Released::NAME].contains(&name)
}

/// Reads a record; nothing where the log has none.
pub(crate) fn read<E: Entry>(disk: &dyn Disk, dir: &Path) -> Result<Option<E>, ReadError> {
    let path = path::<E>(dir);
    let file = match disk.open(&path, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(IoError::opening(&path)(error)),
    };
    // A byte more, to see that there is none.
    let mut bytes = [0; BYTES + 1];
    let length = read_full(&*file, &mut bytes, 0).map_err(IoError::on("read", &path))?;
    match decode(&bytes[..length]) {
        Some(entry) => Ok(Some(entry)),
        None => {
            let what = match newer(&bytes[..length], E::NAME) {
                Some(version) => {
                    format!("the record has format version {version}, this binary knows {VERSION}")
                }
                None => "the record of the log's extent can't be read".to_owned(),
            };
            Err(Damage { path, offset: 0, what }.into())
        }
    }
}

/// Returns true if a newer binary wrote the record, which a repair then leaves alone.
pub(crate) fn is_newer<E: Entry>(disk: &dyn Disk, dir: &Path) -> bool {
    let mut bytes = [0; BYTES + 1];
    let length = disk
        .open(&path::<E>(dir), Access::Read)
        .and_then(|file| read_full(&*file, &mut bytes, 0))
        .unwrap_or(0);
    newer(&bytes[..length], E::NAME).is_some()
}

/// Replaces a record, durably and in one step.
pub(crate) fn write<E: Entry>(disk: &dyn Disk, dir: &Path, entry: &E) -> Result<(), IoError> {
    let path = path::<E>(dir);
    let new = dir.join(format!("{}.new", E::NAME));
    let sector = encode(entry);
    match put(disk, &new, &sector) {
        Ok(()) => {
            disk.rename(&new, &path).map_err(IoError::on("rename", &new))?;
            disk.sync_dir(dir).map_err(IoError::on("sync", dir))
        }
        Err(error) if is_full(&error.source) => {
            let file = disk.open(&path, Access::Write).map_err(|_| error)?;
            write_full(&*file, &sector, 0).map_err(IoError::on("write", &path))?;
            file.sync().map_err(IoError::on("sync", &path))
        }
        Err(error) => Err(error),
    }
}

/// Writes a new file, durably but for its name. One that failed is removed: a file that a write
/// or a sync failed on is not used again.
fn put(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), IoError> {
    let file = disk.create(path, Access::Write).map_err(IoError::on("create", path))?;
    let written = write_full(&*file, bytes, 0).map_err(IoError::on("write", path));
    let written = written.and_then(|()| file.sync().map_err(IoError::on("sync", path)));
    written.inspect_err(|_| {
        if let Err(error) = disk.remove(path) {
            tracing::debug!(%error, path = %path.display(), "an unfinished record stays");
        }
    })
}

fn encode<E: Entry>(entry: &E) -> Vec<u8> {
    let mut text = format!("inlet {} {VERSION}\n{}", E::NAME, entry.lines());
    let checksum = crc32fast::hash(text.as_bytes());
    writeln!(text, "checksum {checksum:08x}").expect("text takes all that is written");
    let mut sector = text.into_bytes();
    assert!(sector.len() <= BYTES, "no record is longer than a sector");
    sector.resize(BYTES, 0);
    sector
}

/// One record has one form, so that every flipped bit in it shows.
fn decode<E: Entry>(sector: &[u8]) -> Option<E> {
    let mut lines = str::from_utf8(sector).ok()?.lines().skip(1);
    let entry = E::parse(&mut lines)?;
    (encode(&entry) == sector).then_some(entry)
}

fn newer(sector: &[u8], name: &str) -> Option<u32> {
    let text = str::from_utf8(sector).ok()?.trim_end_matches('\0');
    let (text, checksum) = text.trim_end().rsplit_once("checksum ")?;
    let sound = format!("{:08x}", crc32fast::hash(text.as_bytes())) == checksum;
    let head = text.lines().next()?.strip_prefix("inlet ")?.strip_prefix(name)?;
    let version = head.trim().parse().ok()?;
    (sound && version > VERSION).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_its_text_and_no_flipped_bit_passes() {
        let end = End { newest: 7, sealed: Some(Position { segment: 6, offset: 12_345 }) };
        let store = Some(StoreId::from_bytes([9; 16]));
        let released =
            Released { first: 3, position: Position { segment: 2, offset: 8192 }, store };
        assert_eq!(decode::<End>(&encode(&end)), Some(end));
        assert_eq!(decode::<Released>(&encode(&released)), Some(released));
        let whole = encode(&released);
        for at in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert_eq!(decode::<Released>(&flipped), None, "bit {at}");
        }
    }

    #[test]
    fn a_record_of_a_newer_binary_is_told_by_its_version() {
        let text = "inlet log.end 2\nnewest 7\nmore of it\n";
        let text = format!("{text}checksum {:08x}\n", crc32fast::hash(text.as_bytes()));
        let bytes = text.as_bytes();
        assert_eq!((decode::<End>(bytes), newer(bytes, End::NAME)), (None, Some(2)));
        assert_eq!(newer(text.replace('2', "3").as_bytes(), End::NAME), None);
    }
}
