//! The bucket in Amazon S3, or in a service that speaks its protocol.
//!
//! An object of less than [`PART_BYTES`] is put in one call, a larger one in parts ([`parts`]), so
//! that no more than two parts are ever in memory. Each call carries the SHA-256 of what it sends;
//! S3 refuses what arrives otherwise, keeps the checksum, and gives it back. Of an object in
//! parts the checksum is S3's composite: the SHA-256 over the SHA-256 of each part, with `-` and
//! their number behind it. What is read whole is checked against it.

mod checked;
mod condition;
mod failure;
mod list;
mod parts;
mod put;
mod read;
mod upload;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
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
}

/// An object as `HEAD` tells of it.
struct Seen {
    meta: ObjectMeta,
    tag: Option<String>,
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
                let tag = head.e_tag().map(str::to_owned);
                Ok(Some(Seen { meta: meta_of(key, &head), tag }))
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
        let Some(put) = put::put(self, key, content_type, body, precondition).await? else {
            return Ok(None);
        };
        match self.described(key).await {
            // That of another put, if one came right behind.
            Ok(Some(meta)) => Ok(Some(meta)),
            // Deleted by then; or this identity may put and not look, as a function's may be.
            Ok(None) | Err(_) => Ok(Some(put)),
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
        let said =
            self.client.delete_object().bucket(&self.name).key(self.object(key)).send().await;
        said.map(drop).map_err(|error| failure::failure(&error, "delete", self.place(key)))
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

fn meta_of(key: &BucketKey, head: &HeadObjectOutput) -> ObjectMeta {
    ObjectMeta {
        key: key.clone(),
        bytes: head.content_length().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
        content_type: head.content_type().unwrap_or("application/octet-stream").to_owned(),
        sha256: checksum(head.checksum_sha256(), head.checksum_type(), head.e_tag()),
        modified: moment(head.last_modified()),
    }
}

/// The checksum as we write it; empty of an object that others put without one.
fn checksum(said: Option<&str>, kind: Option<&ChecksumType>, tag: Option<&str>) -> String {
    let Some(said) = said else { return String::new() };
    let (digest, parts) = said.split_once('-').map_or((said, None), |(d, n)| (d, Some(n)));
    let Ok(bytes) = aws_smithy_types::base64::decode(digest) else { return String::new() };
    // Not every service tells the number of parts there; the entity tag has it too.
    let parts = parts.or_else(|| {
        let tag = tag.filter(|_| kind == Some(&ChecksumType::Composite))?;
        Some(tag.trim_matches('"').split_once('-')?.1)
    });
    let hex = hex(&bytes);
    parts.map_or(hex.clone(), |parts| format!("{hex}-{parts}"))
}

fn moment(said: Option<&aws_smithy_types::DateTime>) -> Timestamp {
    Timestamp::from_micros(said.map_or(0, |moment| {
        moment
            .secs()
            .saturating_mul(1_000_000)
            .saturating_add(i64::from(moment.subsec_nanos()) / 1_000)
    }))
}
