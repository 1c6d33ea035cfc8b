//! Places in the directory, and the locks on it.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::{BucketKey, RESERVED_SEGMENT};
use rustix::io::Errno;

use super::takeover;
use crate::files;

/// How often a directory that vanishes while it is to be used is made anew.
const ATTEMPTS_MAX: usize = 16;
/// The version of the layout that is written, and the newest that is read.
const FORMAT: u32 = 2;

/// The places in one directory.
#[derive(Debug)]
pub(super) struct Layout {
    root: PathBuf,
    own: PathBuf,
    tmp: PathBuf,
    is_read_only: bool,
    /// The directory as it was opened; nothing until it was made.
    place: Option<files::Place>,
}

impl Layout {
    /// The places in `root`, made where they are missing; an older layout is taken over.
    pub(super) fn open(root: PathBuf) -> Result<Self, Failure> {
        let mut layout = Self::at(root, false);
        for directory in [&layout.tmp, &layout.own.join("meta")] {
            make_directories(directory)
                .map_err(|error| files::failure(error, "make the bucket", directory))?;
        }
        let failed = |error| files::failure(error, "open the bucket", &layout.root);
        // Of several processes that start at once, one takes the older layout over.
        let alone = File::open(&layout.own).map_err(failed)?;
        alone.lock().map_err(failed)?;
        layout.check_format()?;
        takeover::run(&layout).map_err(failed)?;
        layout.clear_tmp().map_err(failed)?;
        layout.place = Some(files::Place::of(&layout.root).map_err(failed)?);
        Ok(layout)
    }

    /// The places in `root`, in which nothing is made, moved or removed.
    pub(super) fn read_only(root: PathBuf) -> Result<Self, Failure> {
        let layout = Self::at(root, true);
        let there = fs::metadata(&layout.root)
            .map_err(|error| files::failure(error, "read the bucket", &layout.root))?;
        if !there.is_dir() {
            let root = layout.root.display().to_string();
            return Err(Failure::new(FailureKind::Refused, "read the bucket", root)
                .because("it is not a directory"));
        }
        layout.check_format()?;
        Ok(layout)
    }

    fn at(root: PathBuf, is_read_only: bool) -> Self {
        let own = root.join(RESERVED_SEGMENT);
        let tmp = own.join("tmp");
        Self { root, own, tmp, is_read_only, place: None }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Fails where the bucket's directory is not the one that was opened any more: a new one in its
    /// place would be filled unseen.
    pub(super) fn check_place(&self) -> Result<(), Failure> {
        self.place.as_ref().map_or(Ok(()), |place| place.check("use the bucket"))
    }

    pub(super) fn tmp(&self) -> &Path {
        &self.tmp
    }

    /// The directory of unfinished uploads; there only while there are any.
    pub(super) fn uploads(&self) -> PathBuf {
        self.own.join("uploads")
    }

    /// The trees that objects lie in, by their own names from there on.
    pub(super) fn trees(&self) -> io::Result<Vec<PathBuf>> {
        let mut trees = vec![self.root.clone()];
        for entry in found(fs::read_dir(self.own.join("beside")))?.into_iter().flatten() {
            trees.push(entry?.path());
        }
        Ok(trees)
    }

    /// The file of the metadata of `key`.
    pub(super) fn metadata(&self, key: &BucketKey) -> PathBuf {
        self.own.join("meta").join(segments(key).to_string()).join(key.as_str())
    }

    /// Opens the object with that key, and gives the place it lies at.
    pub(super) fn open_object(&self, key: &BucketKey) -> io::Result<Option<(File, PathBuf)>> {
        for place in self.places(key) {
            if let Some(true) = found(fs::metadata(&place))?.map(|there| there.is_file())
                && let Some(file) = found(File::open(&place))?
            {
                return Ok(Some((file, place)));
            }
        }
        Ok(None)
    }

    /// The place that an object with that key gets: under its own name, or beside where that is
    /// taken by a directory, or a directory of it by another object. A file in the way that is none
    /// of ours is an error: a person put it there, and would not look beside. Makes the directories
    /// around the place.
    fn prepare(&self, key: &BucketKey) -> io::Result<PathBuf> {
        let [plain, beside] = self.places(key);
        match make_directories(parent(&plain)) {
            Ok(()) if !plain.is_dir() => return Ok(plain),
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotADirectory && self.is_below(key) => {}
            Err(error) => return Err(error),
        }
        make_directories(parent(&beside))?;
        Ok(beside)
    }

    /// Returns true if the beginning of the key, up to one of its slashes, is the key of an object
    /// of ours.
    fn is_below(&self, key: &BucketKey) -> bool {
        key.as_str().match_indices('/').zip(1..).any(|((at, _), depth)| {
            let beginning = Path::new(&depth.to_string()).join(&key.as_str()[..at]);
            // While an older layout is taken over, metadata follows its objects.
            [&self.own, &self.root].iter().any(|base| base.join("meta").join(&beginning).is_file())
        })
    }

    /// Renames `file` to the place of the object with that key, and makes that last. Gives the
    /// place.
    pub(super) fn place(&self, file: &Path, key: &BucketKey) -> io::Result<PathBuf> {
        let [plain, beside] = self.places(key);
        let mut attempts = 0;
        let place = loop {
            let place = self.prepare(key)?;
            match fs::rename(file, &place) {
                Ok(()) => break place,
                // Another put or delete made or removed a directory in between.
                Err(error) if is_race(&error) && attempts < ATTEMPTS_MAX && file.exists() => {
                    attempts += 1;
                }
                Err(error) => return Err(error),
            }
        };
        files::sync_directory(parent(&place))?;
        if place == plain && found(fs::remove_file(&beside))?.is_some() {
            files::sync_directory(parent(&beside))?;
            self.prune(key);
        }
        Ok(place)
    }

    /// Removes the object with that key, the older of two first: a crash in between leaves the
    /// newer.
    pub(super) fn remove(&self, key: &BucketKey) -> io::Result<()> {
        let [plain, beside] = self.places(key);
        for place in [beside, plain] {
            match found(fs::remove_file(&place)) {
                Ok(Some(())) => files::sync_directory(parent(&place))?,
                Ok(None) => {}
                // A directory of longer keys, and no object.
                Err(error) if error.kind() == ErrorKind::IsADirectory => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Both places that an object with that key may lie at. If it is at both, the first counts.
    fn places(&self, key: &BucketKey) -> [PathBuf; 2] {
        let depth = segments(key).to_string();
        let beside = self.own.join("beside").join(depth).join(key.as_str());
        [self.root.join(key.as_str()), beside]
    }

    /// Marks `tmp` as in use until the file is closed: by its owner or by a crash.
    pub(super) fn use_tmp(&self) -> io::Result<File> {
        let directory = File::open(&self.tmp)?;
        directory.lock_shared()?;
        Ok(directory)
    }

    /// Refuses a bucket that is only read.
    pub(super) fn writable(&self) -> Result<&Self, Failure> {
        if self.is_read_only {
            let root = self.root.display().to_string();
            return Err(Failure::new(FailureKind::Refused, "write to", root)
                .because("the bucket was opened to be read only"));
        }
        Ok(self)
    }

    /// Locks the directory of the metadata of `key`, which is made where it is missing.
    pub(super) fn lock(&self, key: &BucketKey) -> Result<File, Failure> {
        let metadata = self.metadata(key);
        let directory = parent(&metadata);
        let failed = |error| files::failure(error, "lock", directory);
        for _ in 0..ATTEMPTS_MAX {
            make_directories(directory).map_err(failed)?;
            let file = match File::open(directory) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                opened => opened.map_err(failed)?,
            };
            file.lock().map_err(failed)?;
            // A delete may have removed it while this waited; then the lock is on nothing.
            let locked = file.metadata().map_err(failed)?;
            if fs::metadata(directory).is_ok_and(|there| there.ino() == locked.ino()) {
                return Ok(file);
            }
        }
        let directory = directory.display().to_string();
        Err(Failure::new(FailureKind::Unavailable, "lock (it keeps vanishing)", directory))
    }

    /// Removes the directories of a key from the innermost on, as far as they are empty.
    pub(super) fn prune(&self, key: &BucketKey) {
        let depth = segments(key);
        let [plain, beside] = self.places(key);
        // In `beside` and `meta`, a directory for the number of segments stands around them.
        for (place, directories) in
            [(plain, depth - 1), (beside, depth + 1), (self.metadata(key), depth)]
        {
            for directory in place.ancestors().skip(1).take(directories) {
                // One that is not empty, or was removed by another, ends it; both are as they
                // should.
                if fs::remove_dir(directory).is_err() {
                    break;
                }
            }
        }
    }

    /// Refuses a layout of a newer version, and notes this one where none is noted.
    fn check_format(&self) -> Result<(), Failure> {
        let path = self.own.join("FORMAT");
        let failed = |error| files::failure(error, "read", &path);
        let Some(text) = found(fs::read_to_string(&path)).map_err(failed)? else {
            if self.is_read_only {
                return Ok(());
            }
            return super::upload::write_small(self, &path, format!("{FORMAT}\n").as_bytes())
                .map_err(|error| files::failure(error, "write", &path));
        };
        match text.trim().parse::<u32>() {
            Ok(version) if version <= FORMAT => Ok(()),
            Ok(newer) => {
                let root = self.root.display().to_string();
                Err(Failure::new(FailureKind::Refused, "open the bucket", root)
                    .because(format!("its layout is {newer}, this binary knows {FORMAT}"))
                    .hint("run the newer binary that wrote it; nothing was changed"))
            }
            Err(_) => {
                let path = path.display().to_string();
                Err(Failure::new(FailureKind::Damaged, "read", path)
                    .because("it does not hold the version of a layout")
                    .hint(format!("restore that file; it holds the line `{FORMAT}`")))
            }
        }
    }

    /// Removes what crashed puts left; nothing where another process is in the middle of a put.
    fn clear_tmp(&self) -> io::Result<()> {
        clear(&self.tmp).map(drop)
    }
}

/// Removes all files in a directory of unfinished objects, unless someone uses it. Returns
/// whether it did.
pub(super) fn clear(tmp: &Path) -> io::Result<bool> {
    let directory = File::open(tmp)?;
    match directory.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(false),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    for entry in fs::read_dir(tmp)? {
        let path = entry?.path();
        tracing::info!(path = %path.display(), "removing an object that was never whole");
        fs::remove_file(path)?;
    }
    Ok(true)
}

/// Makes a directory and those around it, and makes their names last.
pub(super) fn make_directories(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let around = parent(directory);
    make_directories(around)?;
    match fs::create_dir(directory) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => match directory.is_dir() {
            true => Ok(()),
            false => Err(Errno::NOTDIR.into()),
        },
        Err(error) => Err(error),
        Ok(()) => files::sync_directory(around),
    }
}

/// The directory that a file is in.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

/// `None` for what is not there: neither the name nor, where a file is in the way, its directory.
pub(super) fn found<T>(looked: io::Result<T>) -> io::Result<Option<T>> {
    match looked {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether a rename failed because directories around it changed.
fn is_race(error: &io::Error) -> bool {
    use ErrorKind::{IsADirectory, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | IsADirectory | NotADirectory)
}

fn segments(key: &BucketKey) -> usize {
    key.as_str().split('/').count()
}
