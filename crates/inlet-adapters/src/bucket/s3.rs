//! The bucket in Amazon S3, or in a service that speaks its protocol.
//!
//! An object of less than [`PART_BYTES`] is put in one call, a larger one in parts ([`parts`]), so
//! that no more than two parts are ever in memory. Each call carries the SHA-256 of its bytes, and
//! S3 refuses others. The SHA-256 of the whole is the service's own checksum, else a metadatum
//! of an object put in one call, else noted beside an object in parts ([`digest`]). An object
//! that is read whole is checked against it.

mod checked;
mod condition;
mod digest;
mod failure;
mod list;
mod parts;
mod put;
mod read;
mod upload;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::types::{ChecksumMode, ChecksumType};
use inlet_core::document::{Timestamp, hex};
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::{
    Bucket, BucketKey, ByteRange, ByteStream, Finished, Object, ObjectMeta, Part, PartNumber,
    Precondition, UploadId,
};

pub use self::parts::PART_BYTES;
use crate::aws::Aws;

/// A [`Bucket`] in an S3 bucket, under a prefix.
#[derive(Debug, Clone)]
pub struct S3Bucket {
    client: Client,
    name: String,
    /// What every key begins with: empty, or ending in `/`.
    prefix: String,
    /// Whether the service's list of parts has their checksums; known once it listed one.
    lists_checksums: Arc<OnceLock<bool>>,
}

/// The name of the metadatum with the SHA-256 of an object that was put in one call, in
/// hexadecimal digits.
const SHA256: &str = "inlet-sha256";

/// An object as `HEAD` tells of it.
struct Seen {
    meta: ObjectMeta,
    tag: Option<String>,
}

/// The SHA-256 of an object, and the one who says so.
enum Sum {
    /// The service, which checks what it gives.
    Checked(String),
    /// Whoever put the object.
    Noted(String),
    Unknown,
}

impl Sum {
    fn into_hex(self) -> String {
        match self {
            Self::Checked(sha256) | Self::Noted(sha256) => sha256,
            Self::Unknown => String::new(),
        }
    }
}

impl S3Bucket {
    /// Opens the bucket at `url`, `s3://BUCKET` or `s3://BUCKET/PREFIX`.
    ///
    /// Fails as [`FailureKind::Refused`] where the URL is none or no region is named, as
    /// [`FailureKind::Missing`] where the bucket is not there, as [`FailureKind::Denied`] where this
    /// identity may not use it, and as [`FailureKind::Unavailable`] where the service is away.
    pub async fn open(aws: &Aws, url: &str) -> Result<Self, Failure> {
        let bucket = Self::open_unseen(aws, url)?;
        let there = bucket.client.head_bucket().bucket(&bucket.name).send().await;
        there.map_err(|error| failure::opening(&error, url))?;
        Ok(bucket)
    }

    /// The same without a look whether the bucket is there: for a function, whose start is paid
    /// for and which may have no right to look.
    pub fn open_unseen(aws: &Aws, url: &str) -> Result<Self, Failure> {
        let refused = |hint: &'static str| {
            Failure::new(FailureKind::Refused, "open the bucket", url).hint(hint)
        };
        let (name, prefix) = url
            .strip_prefix("s3://")
            .map(|rest| rest.split_once('/').unwrap_or((rest, "")))
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| refused("write it as s3://BUCKET or s3://BUCKET/PREFIX"))?;
        let prefix = prefix.trim_matches('/');
        if !prefix.is_empty() && BucketKey::new(prefix).is_err() {
            return Err(refused("a prefix is segments with / between them, none `.` or `..`"));
        }
        aws.needs_region(url)?;
        // Names of buckets are no host names elsewhere than at Amazon's.
        let path_style = aws.config().endpoint_url().is_some();
        let config = aws_sdk_s3::config::Builder::from(aws.config()).force_path_style(path_style);
        Ok(Self {
            client: Client::from_conf(config.build()),
            name: name.to_owned(),
            prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            lists_checksums: Arc::default(),
        })
    }

    /// The key in S3.
    fn object(&self, key: &BucketKey) -> String {
        format!("{}{key}", self.prefix)
    }

    /// For messages.
    fn place(&self, key: &BucketKey) -> String {
        format!("s3://{}/{}{key}", self.name, self.prefix)
    }

    /// The SHA-256 of an object, from all that an answer tells of it.
    async fn sum(
        &self,
        key: &BucketKey,
        said: Option<&str>,
        kind: Option<&ChecksumType>,
        metadata: Option<&HashMap<String, String>>,
        tag: Option<&str>,
        bytes: u64,
    ) -> Result<Sum, Failure> {
        if let Some(sha256) = whole_checksum(said, kind) {
            return Ok(Sum::Checked(sha256));
        }
        if let Some(noted) = metadata.and_then(|all| all.get(SHA256)) {
            return Ok(Sum::Noted(noted.clone()));
        }
        // The tag of an object in parts ends in `-` and their number.
        let Some(tag) = tag.filter(|tag| tag.contains('-')) else { return Ok(Sum::Unknown) };
        let noted = digest::of_object(self, key, tag, bytes).await?;
        Ok(noted.map_or(Sum::Unknown, Sum::Noted))
    }

    async fn described(&self, key: &BucketKey) -> Result<Option<ObjectMeta>, Failure> {
        Ok(self.look(key).await?.map(|seen| seen.meta))
    }

    /// The object under `key`, as `HEAD` tells of it.
    async fn look(&self, key: &BucketKey) -> Result<Option<Seen>, Failure> {
        let said = self
            .client
            .head_object()
            .bucket(&self.name)
            .key(self.object(key))
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await;
        match said {
            Ok(head) => {
                let bytes = size(head.content_length());
                let (said, kind) = (head.checksum_sha256(), head.checksum_type());
                let sum = self.sum(key, said, kind, head.metadata(), head.e_tag(), bytes).await?;
                let meta = ObjectMeta {
                    key: key.clone(),
                    bytes,
                    content_type: media_type(head.content_type()),
                    sha256: sum.into_hex(),
                    modified: moment(head.last_modified()),
                };
                Ok(Some(Seen { meta, tag: head.e_tag().map(str::to_owned) }))
            }
            Err(error) if failure::is_missing(&error) => Ok(None),
            Err(error) => Err(failure::failure(&error, "look at", self.place(key))),
        }
    }
}

#[async_trait]
impl Bucket for S3Bucket {
    async fn put_if(
        &self,
        key: &BucketKey,
        content_type: &str,
        body: &mut dyn ByteStream,
        precondition: &Precondition,
    ) -> Result<Option<ObjectMeta>, Failure> {
        let Some((put, tag)) = put::put(self, key, content_type, body, precondition).await? else {
            return Ok(None);
        };
        match self.look(key).await {
            Ok(Some(seen)) if seen.tag == tag => Ok(Some(seen.meta)),
            // Deleted or replaced by then, not shown yet; or this identity may put and not look,
            // as a function's may be.
            Ok(_) | Err(_) => Ok(Some(put)),
        }
    }

    async fn get(
        &self,
        key: &BucketKey,
        range: Option<ByteRange>,
    ) -> Result<Option<Object>, Failure> {
        read::get(self, key, range).await
    }

    async fn head(&self, key: &BucketKey) -> Result<Option<ObjectMeta>, Failure> {
        self.described(key).await
    }

    async fn delete(&self, key: &BucketKey) -> Result<(), Failure> {
        let object = self.client.delete_object().bucket(&self.name).key(self.object(key)).send();
        let (object, note) = tokio::join!(object, digest::forget_object(self, key));
        match object {
            Err(error) if !failure::is_missing(&error) => {
                Err(failure::failure(&error, "delete", self.place(key)))
            }
            _ => note,
        }
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&BucketKey>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, Failure> {
        list::list(self, prefix, after, limit).await
    }

    async fn begin_upload(&self, key: &BucketKey, content_type: &str) -> Result<UploadId, Failure> {
        upload::begin(self, key, content_type).await
    }

    async fn put_part(
        &self,
        key: &BucketKey,
        upload: &UploadId,
        number: PartNumber,
        body: &mut dyn ByteStream,
    ) -> Result<Option<Part>, Failure> {
        upload::put_part(self, key, upload, number, body).await
    }

    async fn parts(
        &self,
        key: &BucketKey,
        upload: &UploadId,
    ) -> Result<Option<Vec<Part>>, Failure> {
        upload::parts(self, key, upload).await
    }

    async fn finish_upload(
        &self,
        key: &BucketKey,
        upload: &UploadId,
        parts: &[PartNumber],
        precondition: &Precondition,
    ) -> Result<Finished, Failure> {
        upload::finish(self, key, upload, parts, precondition).await
    }

    async fn abandon_upload(&self, key: &BucketKey, upload: &UploadId) -> Result<(), Failure> {
        upload::abandon(self, key, upload).await
    }
}

/// The SHA-256 of all bytes, in hexadecimal digits, where the service tells it: that of an object
/// in parts is one over their checksums.
fn whole_checksum(said: Option<&str>, kind: Option<&ChecksumType>) -> Option<String> {
    let said = said.filter(|said| !said.contains('-') && kind != Some(&ChecksumType::Composite))?;
    aws_smithy_types::base64::decode(said).ok().map(|bytes| hex(&bytes))
}

fn size(said: Option<i64>) -> u64 {
    said.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0)
}

fn media_type(said: Option<&str>) -> String {
    said.unwrap_or("application/octet-stream").to_owned()
}

fn moment(said: Option<&aws_smithy_types::DateTime>) -> Timestamp {
    Timestamp::from_micros(said.map_or(0, |moment| {
        moment
            .secs()
            .saturating_mul(1_000_000)
            .saturating_add(i64::from(moment.subsec_nanos()) / 1_000)
    }))
}
