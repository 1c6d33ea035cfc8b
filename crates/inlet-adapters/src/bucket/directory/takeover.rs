//! Taking over the layout of version 1, by renaming alone.
//!
//! ```text
//! ROOT/2/summaries/2026-W47.html        the object, under the number of segments of its key
//! ROOT/meta/2/summaries/2026-W47.html   its metadata
//! ROOT/tmp/, ROOT/uploads/              as in version 2, but for their place
//! ```
//!
//! The metadata leads: first every object that has some moves to its new place, then, once that
//! is on disk, the metadata follows. Whatever has not moved is where version 1 had it, so that
//! the next start goes on where a crash came in between. What a process of version 1 put
//! meanwhile is taken over by the next start, too.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use inlet_core::ports::BucketKey;

use super::layout::{self, Layout, found, make_directories, parent};
use super::meta::Sidecar;
use crate::files;

/// An object of version 1.
struct Old {
    key: BucketKey,
    object: PathBuf,
    metadata: PathBuf,
}

/// Takes the layout over where there is one of version 1.
pub(super) fn run(layout: &Layout) -> io::Result<()> {
    let meta = layout.root().join("meta");
    let depths = depths(&meta)?;
    if depths.is_empty() && !is_empty_remainder(layout) {
        return Ok(());
    }
    let mut moved = 0_u64;
    let all = |depth: usize, handle: &mut dyn FnMut(&Old) -> io::Result<()>| {
        let name = depth.to_string();
        let (objects, metadata) = (layout.root().join(&name), meta.join(&name));
        walk(&metadata, "", &mut |path, key| {
            let Ok(key) = BucketKey::new(key) else { return Ok(()) };
            if key.as_str().split('/').count() != depth || Sidecar::read_at(&path).is_err() {
                return Ok(());
            }
            handle(&Old { object: objects.join(key.as_str()), metadata: path, key })
        })
    };
    for depth in &depths {
        all(*depth, &mut |old| {
            moved += u64::from(move_object(layout, old)?);
            Ok(())
        })?;
    }
    sync_all(layout)?;
    for depth in &depths {
        all(*depth, &mut |old| move_metadata(layout, old))?;
        remove_empty(&meta.join(depth.to_string()));
        remove_empty(&layout.root().join(depth.to_string()));
    }
    move_uploads(layout)?;
    let tmp = layout.root().join("tmp");
    if found(fs::metadata(&tmp))?.is_some() && layout::clear(&tmp)? {
        remove_empty(&tmp);
    }
    remove_empty(&meta);
    sync_all(layout)?;
    if moved > 0 {
        let root = layout.root().display();
        tracing::info!(%root, objects = moved, "the bucket's objects have their own names now");
    }
    Ok(())
}

/// Moves the object to its place. An object that was put there since is newer and stays.
fn move_object(layout: &Layout, old: &Old) -> io::Result<bool> {
    let Some(there) = found(fs::metadata(&old.object))?.filter(fs::Metadata::is_file) else {
        return Ok(false);
    };
    if let Some((file, _)) = layout.open_object(&old.key)?
        && file.metadata()?.modified()? > there.modified()?
    {
        fs::remove_file(&old.object)?;
        return Ok(false);
    }
    layout.place(&old.object, &old.key)?;
    Ok(true)
}

/// Moves the metadata, or adds it to that of an object put since.
fn move_metadata(layout: &Layout, old: &Old) -> io::Result<()> {
    let new = layout.metadata(&old.key);
    make_directories(parent(&new))?;
    let Some(mut sidecar) = found(Sidecar::read_at(&new))? else {
        return fs::rename(&old.metadata, &new);
    };
    sidecar.objects.extend(Sidecar::read_at(&old.metadata)?.objects);
    sidecar.write(layout, &old.key)?;
    fs::remove_file(&old.metadata)
}

fn move_uploads(layout: &Layout) -> io::Result<()> {
    let uploads = layout.root().join("uploads");
    for entry in found(fs::read_dir(&uploads))?.into_iter().flatten() {
        let entry = entry?;
        if entry.path().join(super::parts::ABOUT).is_file() {
            make_directories(&layout.uploads())?;
            fs::rename(entry.path(), layout.uploads().join(entry.file_name()))?;
        }
    }
    remove_empty(&uploads);
    Ok(())
}

/// The numbers of segments for which there is metadata of version 1.
fn depths(meta: &Path) -> io::Result<Vec<usize>> {
    let mut depths = Vec::new();
    for entry in found(fs::read_dir(meta))?.into_iter().flatten() {
        depths.extend(entry?.file_name().to_str().and_then(|name| name.parse::<usize>().ok()));
    }
    Ok(depths)
}

/// Whether version 1 left `meta/` and `tmp/` and no object.
fn is_empty_remainder(layout: &Layout) -> bool {
    let is_empty = |name: &str| {
        fs::read_dir(layout.root().join(name)).is_ok_and(|mut entries| entries.next().is_none())
    };
    is_empty("meta") && layout.root().join("tmp").is_dir()
}

/// Calls `handle` with each file under `directory`, and its path from there.
fn walk(
    directory: &Path,
    begin: &str,
    handle: &mut dyn FnMut(PathBuf, &str) -> io::Result<()>,
) -> io::Result<()> {
    for entry in found(fs::read_dir(directory))?.into_iter().flatten() {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let name = format!("{begin}{name}");
        match entry.file_type()? {
            kind if kind.is_dir() => walk(&entry.path(), &format!("{name}/"), handle)?,
            kind if kind.is_file() => handle(entry.path(), &name)?,
            _ => {}
        }
    }
    Ok(())
}

/// Removes a directory and those in it, as far as they hold no file.
fn remove_empty(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    // One that holds a file stays.
    drop(fs::remove_dir(directory));
}

fn sync_all(layout: &Layout) -> io::Result<()> {
    rustix::fs::syncfs(File::open(layout.root())?)?;
    files::sync_directory(layout.root())
}
