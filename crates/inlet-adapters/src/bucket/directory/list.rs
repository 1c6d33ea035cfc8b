//! The keys in order.
//!
//! In a tree, keys in byte order are a walk that takes directories by their name with the `/`
//! behind it; the keys of the root and of what lies beside are then merged. A directory is read
//! as often as it takes to hold no more names of it than a page may have.

use std::collections::BinaryHeap;
use std::fs;
use std::io;
use std::path::Path;

use inlet_core::failure::Failure;
use inlet_core::ports::{BucketKey, ObjectMeta, RESERVED_SEGMENT};

use super::layout::{Layout, found};
use super::meta;
use crate::files;

/// The most names of one directory held at a time.
const NAMES_MAX: usize = 1_024;
/// The directory that a file system makes at its root, which only its administrator may read.
const LOST_AND_FOUND: &str = "lost+found";

/// The objects whose keys begin with `prefix` and come after `after`, `limit` at most.
pub(super) fn list(
    layout: &Layout,
    prefix: &str,
    after: Option<BucketKey>,
    limit: usize,
) -> Result<Vec<ObjectMeta>, Failure> {
    let failed = |error| files::failure(error, "list the bucket", layout.root());
    let trees = layout.trees().map_err(failed)?;
    let mut after = after.map_or_else(String::new, |key| key.as_str().to_owned());
    let mut listed = Vec::new();
    while listed.len() < limit {
        let wanted = limit - listed.len();
        let mut keys = Vec::new();
        for tree in &trees {
            let mut walk = Walk { prefix, after: &after, limit: wanted, keys: Vec::new() };
            walk.directory(tree, "").map_err(failed)?;
            keys.append(&mut walk.keys);
        }
        keys.sort_unstable();
        keys.dedup();
        keys.truncate(wanted);
        let Some(last) = keys.last() else { break };
        after.clone_from(last);
        for key in keys {
            // Anything deleted in the meantime, and any name that is no key, makes room for the
            // next.
            if let Ok(key) = BucketKey::new(key)
                && let Some(meta) = meta::look(layout, &key)?
            {
                listed.push(meta);
            }
        }
    }
    Ok(listed)
}

struct Walk<'a> {
    prefix: &'a str,
    after: &'a str,
    limit: usize,
    keys: Vec<String>,
}

impl Walk<'_> {
    /// Adds the keys in `directory`, which begin with `begin`, until there are as many as wanted.
    fn directory(&mut self, directory: &Path, begin: &str) -> io::Result<()> {
        let mut behind = None;
        loop {
            let some = self.names(directory, begin, behind.as_deref())?;
            for key in &some {
                if self.keys.len() == self.limit {
                    return Ok(());
                }
                match key.strip_suffix('/') {
                    Some(path) => self.directory(&directory.join(&path[begin.len()..]), key)?,
                    None => self.keys.push(key.clone()),
                }
            }
            if some.len() < NAMES_MAX {
                return Ok(());
            }
            behind = some.into_iter().next_back();
        }
    }

    /// The first names in `directory` behind `behind` that can lead to a wanted key, in order,
    /// each with `begin` before it, and a directory's with a `/` behind it.
    fn names(
        &self,
        directory: &Path,
        begin: &str,
        behind: Option<&str>,
    ) -> io::Result<Vec<String>> {
        let mut first = BinaryHeap::new();
        for entry in found(fs::read_dir(directory))?.into_iter().flatten() {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let is_directory = entry.file_type()?.is_dir();
            let is_foreign = name == RESERVED_SEGMENT || name == LOST_AND_FOUND;
            if begin.is_empty() && is_directory && is_foreign {
                continue;
            }
            let key = format!("{begin}{name}{}", if is_directory { "/" } else { "" });
            if self.can_lead(&key) && behind.is_none_or(|behind| key.as_str() > behind) {
                first.push(key);
                if first.len() > NAMES_MAX {
                    first.pop();
                }
            }
        }
        Ok(first.into_sorted_vec())
    }

    fn can_lead(&self, key: &str) -> bool {
        if !key.ends_with('/') {
            return key.starts_with(self.prefix) && key > self.after;
        }
        (key.starts_with(self.prefix) || self.prefix.starts_with(key))
            && (key > self.after || self.after.starts_with(key))
    }
}
