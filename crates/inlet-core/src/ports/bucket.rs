//! The bucket port.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use crate::document::Timestamp;
use crate::failure::Failure;
use crate::rejection::Rejection;

/// The longest key, in bytes, as S3 has it.
pub const BUCKET_KEY_BYTES_MAX: usize = 1_024;

/// The key of an object: segments of visible characters with `/` between them. No segment is
/// empty, `.` or `..`, so that a key can't leave the prefix or the directory it is put under.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketKey(String);

impl BucketKey {
    /// Checks `key` and keeps it.
    pub fn new(key: impl Into<String>) -> Result<Self, Rejection> {
        let key = key.into();
        let fits = (1..=BUCKET_KEY_BYTES_MAX).contains(&key.len())
            && key.split('/').all(|segment| {
                !matches!(segment, "" | "." | "..")
                    && segment.len() <= 255
                    && !segment.chars().any(|c| c.is_control() || c == '\\')
            });
        if fits {
            Ok(Self(key))
        } else {
            Err(Rejection::ParameterInvalid {
                name: "key",
                expected: "segments with / between them, none empty, `.` or `..`, 1,024 bytes at most",
            })
        }
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BucketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Bytes that come in pieces, so that nothing large is ever held whole.
#[async_trait]
pub trait ByteStream: Send {
    /// The next piece; `None` at the end. After an error nothing more may be asked.
    async fn next(&mut self) -> Option<Result<Bytes, Failure>>;
}

/// A [`ByteStream`] of bytes that are already here.
#[derive(Debug, Default)]
pub struct FixedBytes(Option<Bytes>);

impl FixedBytes {
    /// A stream of these bytes, in one piece.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(Some(bytes.into()))
    }
}

#[async_trait]
impl ByteStream for FixedBytes {
    async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        self.0.take().map(Ok)
    }
}

/// What is known of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its key.
    pub key: BucketKey,
    /// Its size, in bytes.
    pub bytes: u64,
    /// Its media type, as it was given.
    pub content_type: String,
    /// The SHA-256 of its bytes, in hexadecimal digits; of an object that was put in parts the
    /// SHA-256 over the SHA-256 of each part, with `-` and their number behind it, as S3 has it.
    /// Empty of an object that others put without one.
    pub sha256: String,
    /// When it was put.
    pub modified: Timestamp,
}

/// An object being read.
pub struct Object {
    /// What it is.
    pub meta: ObjectMeta,
    /// Its bytes, or those of the range that was asked for.
    pub body: Box<dyn ByteStream>,
}

/// A range of an object's bytes: from `first` to `last`, both included; the object's end bounds
/// `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// The offset of the first byte.
    pub first: u64,
    /// The offset of the last byte.
    pub last: u64,
}

/// Keeps objects: summaries, backups, files.
///
/// Contract:
/// 1. After `put` returned, `get` gives the same bytes, type and checksum, also after a restart.
/// 2. A `put` whose stream fails leaves what was there before, and nothing else behind.
/// 3. `put` over an existing key replaces it whole: a reader has the old bytes or the new ones.
/// 4. `get` with a range gives those bytes; a range that begins past the end gives none.
/// 5. `list` gives the objects under a prefix in key order, after `after`, `limit` at most.
/// 6. After `delete` returned, the key is gone; `delete` of a key that is not there is no error.
/// 7. Memory held does not grow with the size of an object.
#[async_trait]
pub trait Bucket: Send + Sync {
    /// Puts an object.
    async fn put(
        &self,
        key: &BucketKey,
        content_type: &str,
        body: &mut dyn ByteStream,
    ) -> Result<ObjectMeta, Failure>;
    /// Reads an object, or a range of it; `None` where there is none.
    async fn get(
        &self,
        key: &BucketKey,
        range: Option<ByteRange>,
    ) -> Result<Option<Object>, Failure>;
    /// What is known of an object; `None` where there is none.
    async fn head(&self, key: &BucketKey) -> Result<Option<ObjectMeta>, Failure>;
    /// Deletes an object.
    async fn delete(&self, key: &BucketKey) -> Result<(), Failure>;
    /// The objects whose keys begin with `prefix` (text, not a path) and come after `after`.
    async fn list(
        &self,
        prefix: &str,
        after: Option<&BucketKey>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, Failure>;
}
