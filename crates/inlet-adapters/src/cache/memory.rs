//! The cache in this process.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use inlet_core::ports::Cache;
use quick_cache::Weighter;
use quick_cache::sync::Cache as QuickCache;

/// What an entry costs beside its key and value, in bytes: the table's slot and the allocations'
/// own. Generous, so that the bound holds for small entries as well.
const ENTRY_BYTES: u64 = 128;
/// How large entries are taken to be when the table is sized.
const ENTRY_BYTES_EXPECTED: u64 = 1_024;
/// How long what was removed can't be put again: longer than a request takes.
const REMOVED: Duration = Duration::from_secs(60);
/// How many removals are remembered; about a megabyte.
const REMOVED_MAX: usize = 8_192;

/// A [`Cache`] in this process, bounded in bytes.
///
/// It is divided among the machine's cores; a value larger than such a part is not remembered.
/// What was removed can't be put again for a minute: who read it before it was erased may put it
/// only now.
#[derive(Debug)]
pub struct MemoryCache {
    values: QuickCache<Box<str>, Bytes, Bytewise>,
    removed: QuickCache<Box<str>, Instant>,
}

#[derive(Debug, Clone)]
struct Bytewise;

impl Weighter<Box<str>, Bytes> for Bytewise {
    fn weight(&self, key: &Box<str>, value: &Bytes) -> u64 {
        ENTRY_BYTES + key.len() as u64 + value.len() as u64
    }
}

impl MemoryCache {
    /// A cache that remembers `bytes_max` bytes at most, keys and its own bookkeeping counted.
    pub fn new(bytes_max: u64) -> Self {
        let entries = usize::try_from(bytes_max / ENTRY_BYTES_EXPECTED).unwrap_or(usize::MAX);
        let values = QuickCache::with_weighter(entries.max(1), bytes_max, Bytewise);
        Self { values, removed: QuickCache::new(REMOVED_MAX) }
    }
}

#[async_trait]
impl Cache for MemoryCache {
    async fn get(&self, key: &str) -> Option<Bytes> {
        self.values.get(key)
    }

    async fn put(&self, key: &str, value: Bytes) {
        // The value may be a slice of a much larger buffer, which it would keep alive.
        self.values.insert(Box::from(key), Bytes::copy_from_slice(&value));
        // Looked at behind the insertion, as `remove` notes before it removes: whichever comes
        // last takes it away.
        if self.removed.get(key).is_some_and(|at| at.elapsed() < REMOVED) {
            self.values.remove(key);
        }
    }

    async fn remove(&self, key: &str) {
        self.removed.insert(Box::from(key), Instant::now());
        self.values.remove(key);
    }
}
