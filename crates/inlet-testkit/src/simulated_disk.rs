//! A disk in memory that behaves as badly as a real one is allowed to, and the same way each time.
//!
//! What it keeps through [`SimulatedDisk::crash`]:
//! - Of what was written and not synced, each sector of 512 bytes on its own is the old or the
//!   new one. A file that grew has its old or its new length.
//! - Each name that was made, changed or removed, and whose directory was not synced, is there as
//!   it was or as it became, each on its own; directories themselves are durable at once.
//! - After a failed sync what it should have made durable is adrift, as on Linux: it is still
//!   read back, no later sync makes it durable, and at a crash it may be lost.
//!
//! Faults are told by the number of the change that fails: every call that changes something
//! counts as one. All chance comes from the seed. It is a plain struct; a crate that has a trait
//! for its disk implements that over it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// What a disk writes as a whole, in bytes.
pub const SECTOR_BYTES: usize = 512;

/// A file of the disk, whatever its name.
pub type FileId = usize;

/// How a change goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An input/output error. Of a write some sectors may have been written.
    Io,
    /// No room is left.
    Full,
    /// A write that writes only some of the bytes and says so; any other change is not touched.
    Short,
}

/// A simulated disk. A clone is a disk in the same state, which then goes its own way.
#[derive(Debug, Clone)]
pub struct SimulatedDisk {
    random: u64,
    files: Vec<File>,
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, FileId>,
    kept_names: BTreeMap<PathBuf, FileId>,
    unsynced: Vec<NameChange>,
    changes: u64,
    fault: Option<(u64, Fault)>,
    room_bytes: Option<u64>,
    after_failure: u64,
    trace: Vec<String>,
}

#[derive(Debug, Clone, Default)]
struct File {
    /// What is read back.
    seen: Vec<u8>,
    /// What is on the platter.
    kept: Vec<u8>,
    /// Sectors in which the two differ and that the next sync takes care of.
    dirty: BTreeSet<usize>,
    /// Sectors in which the two differ and that no sync takes care of any more.
    adrift: BTreeSet<usize>,
    failed: bool,
}

#[derive(Debug, Clone)]
enum NameChange {
    Made(PathBuf, FileId),
    Renamed(PathBuf, PathBuf),
    Removed(PathBuf),
}

impl SimulatedDisk {
    /// An empty disk whose chance comes from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            random: seed,
            files: Vec::new(),
            dirs: BTreeSet::new(),
            names: BTreeMap::new(),
            kept_names: BTreeMap::new(),
            unsynced: Vec::new(),
            changes: 0,
            fault: None,
            room_bytes: None,
            after_failure: 0,
            trace: Vec::new(),
        }
    }

    /// A number by chance (SplitMix64).
    pub fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.random ^ self.random >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// A number below `bound` by chance.
    pub fn random_below(&mut self, bound: u64) -> u64 {
        self.random() % bound.max(1)
    }

    /// Has the `nth` change from now on fail, 0 being the next; one fault at a time.
    pub fn fail_change(&mut self, nth: u64, fault: Fault) {
        self.fault = Some((self.changes + nth, fault));
    }

    /// Takes back a fault that has not struck; says whether there was one.
    pub fn take_fault(&mut self) -> bool {
        self.fault.take().is_some()
    }

    /// Sets how many bytes all files together may have; `None` for any.
    pub fn set_room(&mut self, bytes: Option<u64>) {
        self.room_bytes = bytes;
    }

    /// How many bytes all files together have.
    pub fn used_bytes(&self) -> u64 {
        let live: BTreeSet<FileId> = self.names.values().copied().collect();
        live.iter().map(|&file| self.files[file].seen.len() as u64).sum()
    }

    /// The number of bytes there is room for.
    pub fn free_bytes(&self) -> u64 {
        self.room_bytes.map_or(u64::MAX, |room| room.saturating_sub(self.used_bytes()))
    }

    /// How often a file was written to or synced after a write or a sync of it had failed in the
    /// same process; see [`SimulatedDisk::restart`].
    pub fn changes_after_failure(&self) -> u64 {
        self.after_failure
    }

    /// Ends the process and starts another: no file counts as failed any more.
    pub fn restart(&mut self) {
        self.files.iter_mut().for_each(|file| file.failed = false);
    }

    /// All that was done, a line a call.
    pub fn trace(&self) -> &[String] {
        &self.trace
    }

    /// Makes a directory and those above it, durably.
    pub fn create_dir(&mut self, dir: &Path) {
        self.dirs.extend(dir.ancestors().map(Path::to_owned));
    }

    /// Removes a directory in which there is nothing, durably.
    pub fn remove_dir(&mut self, dir: &Path) -> io::Result<()> {
        if !self.list(dir)?.is_empty() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        self.dirs.remove(dir);
        Ok(())
    }

    /// The names in a directory.
    pub fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        if !self.dirs.contains(dir) {
            return Err(ErrorKind::NotFound.into());
        }
        let paths = self.names.keys().chain(&self.dirs);
        let within = paths.filter(|path| path.parent() == Some(dir));
        Ok(within.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    /// Makes an empty file; one of that name is emptied.
    pub fn create(&mut self, path: &Path) -> io::Result<FileId> {
        self.change("create", path)?;
        if let Some(&file) = self.names.get(path) {
            self.cut(file, 0);
            return Ok(file);
        }
        if self.dirs.contains(path) {
            return Err(ErrorKind::IsADirectory.into());
        }
        if !path.parent().is_some_and(|dir| self.dirs.contains(dir)) {
            return Err(ErrorKind::NotFound.into());
        }
        let file = self.files.len();
        self.files.push(File::default());
        self.names.insert(path.to_owned(), file);
        self.unsynced.push(NameChange::Made(path.to_owned(), file));
        Ok(file)
    }

    /// Opens a file that exists.
    pub fn open(&self, path: &Path) -> io::Result<FileId> {
        if self.dirs.contains(path) {
            return Err(ErrorKind::IsADirectory.into());
        }
        self.names.get(path).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// Reads at an offset; says how many bytes came.
    pub fn read_at(&self, file: FileId, buffer: &mut [u8], offset: u64) -> usize {
        let seen = &self.files[file].seen;
        let offset = index(offset).min(seen.len());
        let bytes = buffer.len().min(seen.len() - offset);
        buffer[..bytes].copy_from_slice(&seen[offset..offset + bytes]);
        bytes
    }

    /// Writes at an offset; says how many bytes went.
    pub fn write_at(&mut self, file: FileId, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.after_failure += u64::from(self.files[file].failed);
        let (offset, mut length) = (index(offset), bytes.len());
        let what = format!("write {length} at {offset} to");
        match self.change_file(&what, file) {
            Err(error) => {
                self.files[file].failed = true;
                let some = index(self.random_below(length as u64 + 1));
                self.put(file, &bytes[..some], offset);
                return Err(error);
            }
            Ok(Some(Fault::Short)) => length = index(self.random_below(length as u64)).max(1),
            Ok(_) => {}
        }
        let length = length.min(bytes.len());
        self.has_room_for(file, offset + length)?;
        self.put(file, &bytes[..length], offset);
        Ok(length)
    }

    /// Reserves room, as a file system does: what is not there yet reads as zeros.
    pub fn allocate(&mut self, file: FileId, bytes: u64) -> io::Result<()> {
        self.change_file("allocate", file)?;
        self.has_room_for(file, index(bytes))?;
        let file = &mut self.files[file];
        let from = file.seen.len();
        file.seen.resize(from.max(index(bytes)), 0);
        file.dirty.extend(from / SECTOR_BYTES..file.seen.len().div_ceil(SECTOR_BYTES));
        Ok(())
    }

    /// Makes what was written to a file durable.
    pub fn sync(&mut self, file: FileId) -> io::Result<()> {
        self.after_failure += u64::from(self.files[file].failed);
        let failed = self.change_file("sync", file);
        let file = &mut self.files[file];
        if let Err(error) = failed {
            file.failed = true;
            let dirty = std::mem::take(&mut file.dirty);
            file.adrift.extend(dirty);
            return Err(error);
        }
        file.kept.resize(file.seen.len(), 0);
        for sector in std::mem::take(&mut file.dirty) {
            file.keep(sector);
        }
        Ok(())
    }

    /// Cuts a file to that many bytes.
    pub fn truncate(&mut self, file: FileId, bytes: u64) -> io::Result<()> {
        self.change_file("truncate", file)?;
        self.cut(file, index(bytes));
        Ok(())
    }

    /// The length of a file in bytes.
    pub fn bytes(&self, file: FileId) -> u64 {
        self.files[file].seen.len() as u64
    }

    /// Gives a file, or a directory in which there is nothing, another name.
    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.change("rename", from)?;
        if self.dirs.remove(from) {
            self.dirs.insert(to.to_owned());
            return Ok(());
        }
        let file = self.names.remove(from).ok_or(ErrorKind::NotFound)?;
        self.names.insert(to.to_owned(), file);
        self.unsynced.push(NameChange::Renamed(from.to_owned(), to.to_owned()));
        Ok(())
    }

    /// Removes a file.
    pub fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.change("remove", path)?;
        self.names.remove(path).ok_or(ErrorKind::NotFound)?;
        self.unsynced.push(NameChange::Removed(path.to_owned()));
        Ok(())
    }

    /// Makes the names in a directory durable.
    pub fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.change("sync directory", dir)?;
        let (synced, other) = std::mem::take(&mut self.unsynced)
            .into_iter()
            .partition(|change: &NameChange| change.path().parent() == Some(dir));
        self.unsynced = other;
        for change in Vec::from_iter(synced) {
            change.apply(&mut self.kept_names);
        }
        Ok(())
    }

    /// Cuts the power: what was not synced is there or not, by chance.
    pub fn crash(&mut self) {
        self.trace.push("crash".to_owned());
        for change in std::mem::take(&mut self.unsynced) {
            if self.random_below(2) == 0 {
                change.apply(&mut self.kept_names);
            }
        }
        self.names = self.kept_names.clone();
        for at in 0..self.files.len() {
            // Of some files nothing is kept, of some all, of the others some sectors.
            let chance = self.random_below(4);
            let mut file = std::mem::take(&mut self.files[at]);
            let keeps = |disk: &mut Self| match chance {
                0 => false,
                1 => true,
                _ => disk.random_below(2) == 0,
            };
            if keeps(self) {
                file.kept.resize(file.seen.len(), 0);
            }
            for sector in file.dirty.iter().chain(&file.adrift).copied().collect::<BTreeSet<_>>() {
                if keeps(self) {
                    file.keep(sector);
                }
            }
            let kept = file.kept;
            self.files[at] = File { seen: kept.clone(), kept, ..File::default() };
        }
        self.fault = None;
    }

    /// What a file holds, by its name.
    pub fn contents(&self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(self.files[self.open(path)?].seen.clone())
    }

    /// Changes what a file holds behind everyone's back, durably.
    pub fn set_contents(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let file = self.open(path)?;
        let (seen, kept) = (bytes.to_vec(), bytes.to_vec());
        self.files[file] = File { seen, kept, ..File::default() };
        Ok(())
    }

    /// Flips bits of one byte of a file, durably.
    pub fn flip(&mut self, path: &Path, offset: usize, bits: u8) -> io::Result<()> {
        let file = self.open(path)?;
        let File { seen, kept, .. } = &mut self.files[file];
        seen[offset] ^= bits;
        kept[offset] ^= bits;
        Ok(())
    }

    /// Takes a name away behind everyone's back, durably.
    pub fn lose(&mut self, path: &Path) {
        self.names.remove(path);
        self.kept_names.remove(path);
    }

    /// Counts a change; fails it if it is to fail.
    fn change(&mut self, what: &str, path: &Path) -> io::Result<Option<Fault>> {
        let number = self.changes;
        self.changes += 1;
        let fault = self.fault.filter(|(at, _)| *at == number).map(|(_, fault)| fault);
        let told = fault.map(|fault| format!(": {fault:?}")).unwrap_or_default();
        self.trace.push(format!("{number}: {what} {}{told}", path.display()));
        if fault.is_some() {
            self.fault = None;
        }
        match fault {
            Some(Fault::Io) => Err(io::Error::other("the simulated disk failed")),
            Some(Fault::Full) => Err(ErrorKind::StorageFull.into()),
            Some(Fault::Short) | None => Ok(fault),
        }
    }

    fn change_file(&mut self, what: &str, file: FileId) -> io::Result<Option<Fault>> {
        let named = self.names.iter().find(|(_, named)| **named == file);
        let path = named.map_or_else(PathBuf::new, |(path, _)| path.clone());
        self.change(what, &path)
    }

    fn has_room_for(&self, file: FileId, bytes: usize) -> io::Result<()> {
        let more = bytes.saturating_sub(self.files[file].seen.len()) as u64;
        match self.room_bytes {
            Some(room) if more > 0 && self.used_bytes() + more > room => {
                Err(ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    fn put(&mut self, file: FileId, bytes: &[u8], offset: usize) {
        if bytes.is_empty() {
            return;
        }
        let file = &mut self.files[file];
        let end = offset + bytes.len();
        file.seen.resize(file.seen.len().max(end), 0);
        file.seen[offset..end].copy_from_slice(bytes);
        for sector in offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            file.adrift.remove(&sector);
            file.dirty.insert(sector);
        }
    }

    fn cut(&mut self, file: FileId, bytes: usize) {
        let file = &mut self.files[file];
        file.seen.resize(bytes, 0);
        let beyond = bytes.div_ceil(SECTOR_BYTES);
        file.dirty.retain(|&sector| sector < beyond);
        file.adrift.retain(|&sector| sector < beyond);
    }
}

impl File {
    /// Puts a sector as it is read back onto the platter.
    fn keep(&mut self, sector: usize) {
        let start = sector * SECTOR_BYTES;
        let end = (start + SECTOR_BYTES).min(self.seen.len()).min(self.kept.len());
        if start < end {
            self.kept[start..end].copy_from_slice(&self.seen[start..end]);
        }
    }
}

impl NameChange {
    fn path(&self) -> &Path {
        match self {
            Self::Made(path, _) | Self::Renamed(_, path) | Self::Removed(path) => path,
        }
    }

    fn apply(self, names: &mut BTreeMap<PathBuf, FileId>) {
        match self {
            Self::Made(path, file) => {
                names.insert(path, file);
            }
            Self::Renamed(from, to) => {
                if let Some(file) = names.remove(&from) {
                    names.insert(to, file);
                }
            }
            Self::Removed(path) => {
                names.remove(&path);
            }
        }
    }
}

/// An offset as an index: nothing in memory is larger than what memory can be.
fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("a simulated file fits the memory")
}
