//! The bucket port.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use crate::document::Timestamp;
use crate::failure::{Failure, FailureKind};
use crate::rejection::Rejection;

/// The longest key, in bytes, as S3 has it.
pub const BUCKET_KEY_BYTES_MAX: usize = 1_024;

/// A segment that no key has: adapters keep their own notes under it.
pub const RESERVED_SEGMENT: &str = ".inlet";

/// The key of an object: segments of visible characters with `/` between them. No segment is
/// empty, `.` or `..`, so that a key can't leave the prefix or the directory it is put under, and
/// none is [`RESERVED_SEGMENT`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketKey(String);

impl BucketKey {
    /// Checks `key` and keeps it.
    pub fn new(key: impl Into<String>) -> Result<Self, Rejection> {
        let key = key.into();
        let fits = (1..=BUCKET_KEY_BYTES_MAX).contains(&key.len())
            && key.split('/').all(|segment| {
                !matches!(segment, "" | "." | ".." | RESERVED_SEGMENT)
                    && segment.len() <= 255
                    && !segment.chars().any(|c| c.is_control() || c == '\\')
            });
        if fits {
            Ok(Self(key))
        } else {
            Err(Rejection::ParameterInvalid {
                name: "key",
                expected: "segments with / between them, none empty, `.`, `..` or `.inlet`, 1,024 bytes \
                           at most",
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

    /// How many bytes are still to come, where that is known before they came: some services
    /// want to be told. A stream that then gives another number has failed.
    fn bytes_left(&self) -> Option<u64> {
        None
    }
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

    fn bytes_left(&self) -> Option<u64> {
        Some(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
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
    /// The SHA-256 of all of its bytes, in hexadecimal digits, however it was put. Empty where
    /// others put the object and told none.
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

/// The most parts of an object, as S3 has it.
pub const PARTS_MAX: u16 = 10_000;

/// The fewest bytes of a part that is not the last, as S3 has it: 5 MiB.
pub const PART_BYTES_MIN: u64 = 5 << 20;

/// The most bytes of a part, as S3 has it: 5 GiB.
pub const PART_BYTES_MAX: u64 = 5 << 30;

/// The longest name of an upload, in bytes.
pub const UPLOAD_ID_BYTES_MAX: usize = 1_024;

/// The name of an upload in parts: what the bucket that began it made up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UploadId(String);

impl UploadId {
    /// Checks `id` and keeps it. It may still be no upload's.
    pub fn new(id: impl Into<String>) -> Result<Self, Rejection> {
        let id = id.into();
        let fits = (1..=UPLOAD_ID_BYTES_MAX).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_graphic());
        if fits {
            Ok(Self(id))
        } else {
            Err(Rejection::ParameterInvalid { name: "uploadId", expected: "the id of an upload" })
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number of a part of an object, from 1 to [`PARTS_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartNumber(u16);

impl PartNumber {
    /// Checks `number` and keeps it.
    pub fn new(number: u16) -> Result<Self, Rejection> {
        if (1..=PARTS_MAX).contains(&number) {
            Ok(Self(number))
        } else {
            Err(Rejection::ParameterInvalid {
                name: "partNumber",
                expected: "a number from 1 to 10,000",
            })
        }
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for PartNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A part of an object that is not whole yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its number.
    pub number: PartNumber,
    /// Its size, in bytes.
    pub bytes: u64,
    /// The SHA-256 of its bytes, in hexadecimal digits. Empty where the service keeps none.
    pub sha256: String,
}

/// What must be under a key for an object to take its place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Precondition {
    /// Anything, or nothing.
    #[default]
    None,
    /// Nothing.
    Absent,
    /// This object, unchanged.
    Unchanged(ObjectMeta),
}

impl Precondition {
    /// Whether it holds where `there` is under the key.
    pub fn holds(&self, there: Option<&ObjectMeta>) -> bool {
        match self {
            Self::None => true,
            Self::Absent => there.is_none(),
            Self::Unchanged(meta) => there == Some(meta),
        }
    }
}

/// The end of an upload in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finished {
    /// The parts are this object now.
    Object(ObjectMeta),
    /// The precondition does not hold; the upload stays.
    PreconditionFailed,
    /// There is no such upload.
    UploadUnknown,
}

/// Keeps objects: summaries, backups, files.
///
/// Contract:
/// 1. After `put` returned, `get` gives the same bytes and type and the SHA-256 of these bytes,
///    whatever their size, also after a restart.
/// 2. A `put` whose stream fails leaves what was there before, and nothing else behind.
/// 3. `put` over an existing key replaces it whole: a reader has the old bytes or the new ones.
/// 4. `get` with a range gives those bytes; a range that begins past the end gives none.
/// 5. `list` gives the objects under a prefix in key order, after `after`, `limit` at most.
/// 6. After `delete` returned, the key is gone; `delete` of a key that is not there is no error.
/// 7. Memory held does not grow with the size of an object, nor with that of a part whose stream
///    tells its size.
///
/// An object may also be put in parts, over days and over restarts. Each but the last has at
/// least [`PART_BYTES_MIN`], none more than [`PART_BYTES_MAX`]; the caller sees to it, for not
/// every adapter does.
///
/// 8. After `put_part` returned, `parts` tells of the part, in the order of the numbers, also
///    after a restart. A part put again replaces the one before it, and one whose stream fails
///    changes nothing.
/// 9. `finish_upload` makes of the named parts, in that order, one object, which is there as one
///    that was put, its SHA-256 included; the upload and its other parts are gone then. Before it, no object has
///    changed. Where a part is named that was not put, it fails, and the upload stays.
/// 10. After `abandon_upload` returned, nothing is left of the upload. Of an upload that was
///     finished or abandoned, was begun under another key, or never was, `put_part` and `parts`
///     give `None`, `finish_upload` gives [`Finished::UploadUnknown`], and `abandon_upload`
///     succeeds.
/// 11. `put_if` and `finish_upload` check their precondition when all bytes have come. Where it
///     does not hold, nothing changes. Check and change are one step where the service has such a
///     step; on a service without, two calls at the same moment may both succeed.
///
/// What nobody finishes is removed some days after it was begun: by the adapter, or by a rule of
/// the service.
#[async_trait]
pub trait Bucket: Send + Sync {
    /// Puts an object where `precondition` holds; `None` where it does not.
    async fn put_if(
        &self,
        key: &BucketKey,
        content_type: &str,
        body: &mut dyn ByteStream,
        precondition: &Precondition,
    ) -> Result<Option<ObjectMeta>, Failure>;
    /// Puts an object, whatever is there.
    async fn put(
        &self,
        key: &BucketKey,
        content_type: &str,
        body: &mut dyn ByteStream,
    ) -> Result<ObjectMeta, Failure> {
        let put = self.put_if(key, content_type, body, &Precondition::None).await?;
        put.ok_or_else(|| {
            Failure::new(FailureKind::Unavailable, "put", key.as_str())
                .because("the bucket refused a condition that was not made")
        })
    }
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
    /// Begins an object that will be put in parts.
    async fn begin_upload(&self, key: &BucketKey, content_type: &str) -> Result<UploadId, Failure>;
    /// Puts a part; `None` where there is no such upload.
    async fn put_part(
        &self,
        key: &BucketKey,
        upload: &UploadId,
        number: PartNumber,
        body: &mut dyn ByteStream,
    ) -> Result<Option<Part>, Failure>;
    /// The parts that were put; `None` where there is no such upload.
    async fn parts(&self, key: &BucketKey, upload: &UploadId)
    -> Result<Option<Vec<Part>>, Failure>;
    /// Makes one object of `parts`, whose numbers rise, where `precondition` holds.
    async fn finish_upload(
        &self,
        key: &BucketKey,
        upload: &UploadId,
        parts: &[PartNumber],
        precondition: &Precondition,
    ) -> Result<Finished, Failure>;
    /// Removes an upload with all of its parts.
    async fn abandon_upload(&self, key: &BucketKey, upload: &UploadId) -> Result<(), Failure>;
}
