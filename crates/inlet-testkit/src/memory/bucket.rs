//! A bucket in memory.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use inlet_core::document::hex;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::{
    Bucket, BucketKey, ByteRange, ByteStream, Clock, Finished, Object, ObjectMeta, Part,
    PartNumber, Precondition, UploadId,
};
use sha2::{Digest, Sha256};

use crate::clock::ManualClock;

const PIECE_BYTES: usize = 64 << 10;

/// A [`Bucket`] in memory. Promise 7 it keeps for what passes through; the objects themselves
/// are of course held.
#[derive(Clone)]
pub struct MemoryBucket {
    objects: Arc<Mutex<BTreeMap<BucketKey, (ObjectMeta, Bytes)>>>,
    uploads: Arc<Mutex<Uploads>>,
    clock: Arc<dyn Clock>,
}

/// Objects that are not whole yet.
#[derive(Default)]
struct Uploads {
    begun: usize,
    open: BTreeMap<String, Unfinished>,
}

struct Unfinished {
    key: BucketKey,
    content_type: String,
    parts: BTreeMap<PartNumber, (Part, Bytes)>,
}

impl Uploads {
    fn get(&mut self, key: &BucketKey, upload: &UploadId) -> Option<&mut Unfinished> {
        self.open.get_mut(upload.as_str()).filter(|unfinished| unfinished.key == *key)
    }
}

impl MemoryBucket {
    /// An empty bucket that tells when objects were put by `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { objects: Arc::default(), uploads: Arc::default(), clock }
    }

    /// The ids of the uploads that are neither finished nor abandoned.
    pub fn open_uploads(&self) -> Vec<String> {
        self.uploads().open.keys().cloned().collect()
    }

    fn uploads(&self) -> MutexGuard<'_, Uploads> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
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
    async fn put_if(
        &self,
        key: &BucketKey,
        content_type: &str,
        body: &mut dyn ByteStream,
        precondition: &Precondition,
    ) -> Result<Option<ObjectMeta>, Failure> {
        let bytes = whole(body).await?;
        let meta = ObjectMeta {
            key: key.clone(),
            bytes: bytes.len() as u64,
            content_type: content_type.to_owned(),
            sha256: hex(&Sha256::digest(&bytes)),
            modified: self.clock.now(),
        };
        let mut objects = self.objects();
        if !precondition.holds(objects.get(key).map(|(meta, _)| meta)) {
            return Ok(None);
        }
        objects.insert(key.clone(), (meta.clone(), bytes));
        Ok(Some(meta))
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

    async fn begin_upload(&self, key: &BucketKey, content_type: &str) -> Result<UploadId, Failure> {
        let mut uploads = self.uploads();
        uploads.begun += 1;
        let id = uploads.begun.to_string();
        let (key, content_type) = (key.clone(), content_type.to_owned());
        uploads.open.insert(id.clone(), Unfinished { key, content_type, parts: BTreeMap::new() });
        Ok(UploadId::new(id).expect("digits are an id"))
    }

    async fn put_part(
        &self,
        key: &BucketKey,
        upload: &UploadId,
        number: PartNumber,
        body: &mut dyn ByteStream,
    ) -> Result<Option<Part>, Failure> {
        if self.uploads().get(key, upload).is_none() {
            return Ok(None);
        }
        let bytes = whole(body).await?;
        let sha256 = hex(&Sha256::digest(&bytes));
        let part = Part { number, bytes: bytes.len() as u64, sha256 };
        let mut uploads = self.uploads();
        let Some(unfinished) = uploads.get(key, upload) else { return Ok(None) };
        unfinished.parts.insert(number, (part.clone(), bytes));
        Ok(Some(part))
    }

    async fn parts(
        &self,
        key: &BucketKey,
        upload: &UploadId,
    ) -> Result<Option<Vec<Part>>, Failure> {
        let mut uploads = self.uploads();
        let Some(unfinished) = uploads.get(key, upload) else { return Ok(None) };
        Ok(Some(unfinished.parts.values().map(|(part, _)| part.clone()).collect()))
    }

    async fn finish_upload(
        &self,
        key: &BucketKey,
        upload: &UploadId,
        parts: &[PartNumber],
        precondition: &Precondition,
    ) -> Result<Finished, Failure> {
        let mut uploads = self.uploads();
        let Some(unfinished) = uploads.get(key, upload) else {
            return Ok(Finished::UploadUnknown);
        };
        let mut bytes = BytesMut::new();
        for number in parts {
            let Some((_, body)) = unfinished.parts.get(number) else {
                let missing = format!("part {number} of {key}");
                return Err(Failure::new(FailureKind::Refused, "finish with", missing));
            };
            bytes.extend_from_slice(body);
        }
        let meta = ObjectMeta {
            key: key.clone(),
            bytes: bytes.len() as u64,
            content_type: unfinished.content_type.clone(),
            sha256: hex(&Sha256::digest(&bytes)),
            modified: self.clock.now(),
        };
        let mut objects = self.objects();
        if !precondition.holds(objects.get(key).map(|(meta, _)| meta)) {
            return Ok(Finished::PreconditionFailed);
        }
        objects.insert(key.clone(), (meta.clone(), bytes.freeze()));
        uploads.open.remove(upload.as_str());
        Ok(Finished::Object(meta))
    }

    async fn abandon_upload(&self, key: &BucketKey, upload: &UploadId) -> Result<(), Failure> {
        let mut uploads = self.uploads();
        if uploads.get(key, upload).is_some() {
            uploads.open.remove(upload.as_str());
        }
        Ok(())
    }
}

async fn whole(body: &mut dyn ByteStream) -> Result<Bytes, Failure> {
    let mut bytes = BytesMut::new();
    while let Some(piece) = body.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes.freeze())
}

struct Pieces(Bytes);

#[async_trait]
impl ByteStream for Pieces {
    async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        let piece = self.0.split_to(self.0.len().min(PIECE_BYTES));
        (!piece.is_empty()).then_some(Ok(piece))
    }
}
