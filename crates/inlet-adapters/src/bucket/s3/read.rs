//! Reads an object, or a range of it, as it comes.

use async_trait::async_trait;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream as Body;
use aws_sdk_s3::types::ChecksumMode;
use bytes::Bytes;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::{BucketKey, ByteRange, ByteStream, FixedBytes, Object, ObjectMeta};

use super::checked::Checked;
use super::{S3Bucket, Sum, failure, media_type, moment, size};

/// Begins to read.
pub(super) async fn get(
    bucket: &S3Bucket,
    key: &BucketKey,
    range: Option<ByteRange>,
) -> Result<Option<Object>, Failure> {
    if range.is_some_and(|range| range.last < range.first) {
        return Ok(bucket.described(key).await?.map(nothing_of));
    }
    let said = bucket
        .client
        .get_object()
        .bucket(&bucket.name)
        .key(bucket.object(key))
        .set_range(range.map(range_text))
        .checksum_mode(ChecksumMode::Enabled)
        .send()
        .await;
    match said {
        Ok(found) => Ok(Some(object(bucket, key, found, range.is_some()).await?)),
        Err(error) if failure::is_missing(&error) => Ok(None),
        Err(error) if failure::is_out_of_range(&error) => {
            Ok(bucket.described(key).await?.map(nothing_of))
        }
        Err(error) => Err(failure::failure(&error, "read", bucket.place(key))),
    }
}

async fn object(
    bucket: &S3Bucket,
    key: &BucketKey,
    mut found: GetObjectOutput,
    is_part: bool,
) -> Result<Object, Failure> {
    // Of a range S3 tells the size of the range, and the whole's behind the slash.
    let whole = found.content_range().and_then(|range| range.rsplit('/').next()?.parse().ok());
    let bytes = whole.unwrap_or_else(|| size(found.content_length()));
    let (said, kind) = (found.checksum_sha256(), found.checksum_type());
    let sum = bucket.sum(key, said, kind, found.metadata(), found.e_tag(), bytes).await?;
    let place = bucket.place(key);
    let body = std::mem::take(&mut found.body);
    let mut body: Box<dyn ByteStream> = Box::new(Streamed { body, place: place.clone() });
    if let Sum::Noted(sha256) = &sum
        && !is_part
    {
        body = Box::new(Checked::new(body, sha256.clone(), place));
    }
    let mut meta = ObjectMeta {
        key: key.clone(),
        bytes,
        content_type: media_type(found.content_type()),
        sha256: sum.into_hex(),
        modified: moment(found.last_modified()),
    };
    if is_part && meta.sha256.is_empty() {
        // S3 leaves it out of the answer to a range.
        meta.sha256 = bucket.described(key).await?.map_or_else(String::new, |meta| meta.sha256);
    }
    Ok(Object { meta, body })
}

/// A last byte that no object has is left out: not every service counts so far.
fn range_text(ByteRange { first, last }: ByteRange) -> String {
    match i64::try_from(last) {
        Ok(last) => format!("bytes={first}-{last}"),
        Err(_) => format!("bytes={first}-"),
    }
}

fn nothing_of(meta: ObjectMeta) -> Object {
    Object { meta, body: Box::new(FixedBytes::default()) }
}

struct Streamed {
    body: Body,
    place: String,
}

#[async_trait]
impl ByteStream for Streamed {
    async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        let piece = self.body.next().await?;
        Some(piece.map_err(|error| {
            let text = error.to_string();
            let kind = if text.contains("checksum") {
                FailureKind::Damaged
            } else {
                FailureKind::Unavailable
            };
            Failure::new(kind, "read", self.place.clone()).because(error)
        }))
    }
}
