//! A bucket in memory.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use inlet_core::document::hex;
use inlet_core::failure::Failure;
use inlet_core::ports::{Bucket, BucketKey, ByteRange, ByteStream, Clock, Object, ObjectMeta};
use sha2::{Digest, Sha256};

use crate::clock::ManualClock;

const PIECE_BYTES: usize = 64 << 10;

/// A [`Bucket`] in memory. Promise 7 it keeps for what passes through; the objects themselves
/// are of course held.
#[derive(Clone)]
pub struct MemoryBucket {
    objects: Arc<Mutex<BTreeMap<BucketKey, (ObjectMeta, Bytes)>>>,
    clock: Arc<dyn Clock>,
}

impl MemoryBucket {
    /// An empty bucket that tells when objects were put by `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { objects: Arc::default(), clock }
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<BucketKey, (ObjectMeta, Bytes)>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An empty bucket with a clock that stands still.
impl Default for MemoryBucket {
    fn default() -> Self {
        Self::new(Arc::new(ManualClock::default()))
    }
}

#[async_trait]
impl Bucket for MemoryBucket {
    async fn put(
        &self,
        key: &BucketKey,
        content_type: &str,
        body: &mut dyn ByteStream,
    ) -> Result<ObjectMeta, Failure> {
        let mut bytes = BytesMut::new();
        while let Some(piece) = body.next().await {
            bytes.extend_from_slice(&piece?);
        }
        let meta = ObjectMeta {
            key: key.clone(),
            bytes: bytes.len() as u64,
            content_type: content_type.to_owned(),
            sha256: hex(&Sha256::digest(&bytes)),
            modified: self.clock.now(),
        };
        self.objects().insert(key.clone(), (meta.clone(), bytes.freeze()));
        Ok(meta)
    }

    async fn get(
        &self,
        key: &BucketKey,
        range: Option<ByteRange>,
    ) -> Result<Option<Object>, Failure> {
        let Some((meta, bytes)) = self.objects().get(key).cloned() else { return Ok(None) };
        let bytes = match range {
            None => bytes,
            Some(range) => {
                let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
                let first = at(range.first).min(bytes.len());
                let end = at(range.last).saturating_add(1).clamp(first, bytes.len());
                bytes.slice(first..end)
            }
        };
        Ok(Some(Object { meta, body: Box::new(Pieces(bytes)) }))
    }

    async fn head(&self, key: &BucketKey) -> Result<Option<ObjectMeta>, Failure> {
        Ok(self.objects().get(key).map(|(meta, _)| meta.clone()))
    }

    async fn delete(&self, key: &BucketKey) -> Result<(), Failure> {
        self.objects().remove(key);
        Ok(())
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&BucketKey>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, Failure> {
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let objects = self.objects();
        let found = objects.range((begin, Bound::Unbounded));
        let found = found.filter(|(key, _)| key.as_str().starts_with(prefix));
        Ok(found.take(limit).map(|(_, (meta, _))| meta.clone()).collect())
    }
}

struct Pieces(Bytes);

#[async_trait]
impl ByteStream for Pieces {
    async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        let piece = self.0.split_to(self.0.len().min(PIECE_BYTES));
        (!piece.is_empty()).then_some(Ok(piece))
    }
}
