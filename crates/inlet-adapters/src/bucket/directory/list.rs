//! The keys in order.
//!
//! Each number of segments has its own tree. In one tree, keys in byte order are a walk that
//! takes directories by their name with the `/` behind it; the trees' keys are then merged. A
//! directory is read as often as it takes to hold no more names of it than a page may have.

use std::collections::BinaryHeap;
use std::fs;
use std::io;
use std::path::Path;

use inlet_core::failure::Failure;
use inlet_core::ports::{BucketKey, ObjectMeta};

use super::layout::Layout;
use super::meta;
use crate::files;

/// The most names of one directory held at a time.
const NAMES_MAX: usize = 1_024;

/// The objects whose keys begin with `prefix` and come after `after`, `limit` at most.
pub(super) fn list(
    layout: &Layout,
    prefix: &str,
    after: Option<BucketKey>,
    limit: usize,
) -> Result<Vec<ObjectMeta>, Failure> {
    let failed = |error| files::failure(error, "list the bucket", layout.root());
    let depths = depths(layout.root()).map_err(failed)?;
    let mut after = after.map_or_else(String::new, |key| key.as_str().to_owned());
    let mut found = Vec::new();
    while found.len() < limit {
        let wanted = limit - found.len();
        let mut keys = Vec::new();
        for depth in &depths {
            let mut walk = Walk { prefix, after: &after, limit: wanted, keys: Vec::new() };
            walk.directory(&layout.root().join(depth.to_string()), "", *depth).map_err(failed)?;
            keys.append(&mut walk.keys);
        }
        keys.sort_unstable();
        keys.truncate(wanted);
        let Some(last) = keys.last() else { break };
        after.clone_from(last);
        for key in keys {
            // What was deleted in the meantime, or is no object, makes room for the next.
            if let Ok(key) = BucketKey::new(key)
                && let Some((_, meta)) = meta::open(layout, &key)?
            {
                found.push(meta);
            }
        }
    }
    Ok(found)
}

struct Walk<'a> {
    prefix: &'a str,
    after: &'a str,
    limit: usize,
    keys: Vec<String>,
}

impl Walk<'_> {
    /// Adds the keys in `directory`, which begin with `begin` and have `depth` segments more,
    /// until there are as many as wanted.
    fn directory(&mut self, directory: &Path, begin: &str, depth: usize) -> io::Result<()> {
        let slash = if depth > 1 { "/" } else { "" };
        let mut behind = None;
        loop {
            let some = self.names(directory, begin, slash, behind.as_deref())?;
            for key in &some {
                if self.keys.len() == self.limit {
                    return Ok(());
                }
                if depth == 1 {
                    self.keys.push(key.clone());
                } else {
                    let name = &key[begin.len()..key.len() - 1];
                    self.directory(&directory.join(name), key, depth - 1)?;
                }
            }
            if some.len() < NAMES_MAX {
                return Ok(());
            }
            behind = some.into_iter().next_back();
        }
    }

    /// The first names in `directory` behind `behind` that can lead to a wanted key, in order,
    /// each with what comes before it and the slash.
    fn names(
        &self,
        directory: &Path,
        begin: &str,
        slash: &str,
        behind: Option<&str>,
    ) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut first = BinaryHeap::new();
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if entry.file_type()?.is_dir() == slash.is_empty() {
                continue;
            }
            let key = format!("{begin}{name}{slash}");
            if self.can_lead(&key, slash) && behind.is_none_or(|behind| key.as_str() > behind) {
                first.push(key);
                if first.len() > NAMES_MAX {
                    first.pop();
                }
            }
        }
        Ok(first.into_sorted_vec())
    }

    fn can_lead(&self, key: &str, slash: &str) -> bool {
        if slash.is_empty() {
            return key.starts_with(self.prefix) && key > self.after;
        }
        (key.starts_with(self.prefix) || self.prefix.starts_with(key))
            && (key > self.after || self.after.starts_with(key))
    }
}

/// The numbers of segments that keys have.
fn depths(root: &Path) -> io::Result<Vec<usize>> {
    let mut depths = Vec::new();
    for entry in fs::read_dir(root)? {
        if let Some(depth) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
            depths.push(depth);
        }
    }
    Ok(depths)
}
