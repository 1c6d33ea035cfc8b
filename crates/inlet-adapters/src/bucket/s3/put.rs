//! Puts an object: in one call where it fits, otherwise in parts, each sent while the next one
//! is filled.

use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream as Body;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::{BucketKey, ByteStream};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

use super::{PART_BYTES, S3Bucket, failure};

/// The most parts of an object.
/// Source: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>.
const PARTS_MAX: i32 = 10_000;

/// Puts the whole of `body`, or nothing.
pub(super) async fn put(
    bucket: &S3Bucket,
    key: &BucketKey,
    content_type: &str,
    body: &mut dyn ByteStream,
) -> Result<(), Failure> {
    let mut source = Source { body, rest: Bytes::new() };
    let first = source.part().await?;
    if first.len() < PART_BYTES {
        return whole(bucket, key, content_type, first).await;
    }
    let upload = Upload::begin(bucket, key, content_type).await?;
    let sent = upload.send(first, &mut source).await;
    match sent {
        Ok(parts) => upload.finish(parts).await,
        Err(failure) => {
            upload.abandon().await;
            Err(failure)
        }
    }
}

async fn whole(
    bucket: &S3Bucket,
    key: &BucketKey,
    content_type: &str,
    bytes: Bytes,
) -> Result<(), Failure> {
    let said = bucket
        .client
        .put_object()
        .bucket(&bucket.name)
        .key(bucket.object(key))
        .content_type(content_type)
        .checksum_algorithm(ChecksumAlgorithm::Sha256)
        .checksum_sha256(sha256(&bytes))
        .body(Body::from(bytes))
        .send()
        .await;
    said.map(drop).map_err(|error| failure::failure(&error, "put", bucket.place(key)))
}

/// The body, cut into parts.
struct Source<'a> {
    body: &'a mut dyn ByteStream,
    rest: Bytes,
}

impl Source<'_> {
    /// The next part: shorter than [`PART_BYTES`] only at the end.
    async fn part(&mut self) -> Result<Bytes, Failure> {
        let mut part = BytesMut::new();
        loop {
            let take = self.rest.len().min(PART_BYTES - part.len());
            part.extend_from_slice(&self.rest.split_to(take));
            if part.len() == PART_BYTES {
                return Ok(part.freeze());
            }
            match self.body.next().await {
                Some(piece) => self.rest = piece?,
                None => return Ok(part.freeze()),
            }
        }
    }
}

/// An upload in parts; given up when it is dropped unfinished, as where the client went away.
struct Upload<'a> {
    bucket: &'a S3Bucket,
    object: String,
    place: String,
    id: String,
    open: AtomicBool,
}

impl<'a> Upload<'a> {
    async fn begin(
        bucket: &'a S3Bucket,
        key: &BucketKey,
        content_type: &str,
    ) -> Result<Self, Failure> {
        let (object, place) = (bucket.object(key), bucket.place(key));
        let said = bucket
            .client
            .create_multipart_upload()
            .bucket(&bucket.name)
            .key(&object)
            .content_type(content_type)
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .checksum_type(ChecksumType::Composite)
            .send()
            .await
            .map_err(|error| failure::failure(&error, "begin to put", place.clone()))?;
        let id = said.upload_id().unwrap_or_default().to_owned();
        Ok(Self { bucket, object, place, id, open: AtomicBool::new(true) })
    }

    async fn send(
        &self,
        first: Bytes,
        source: &mut Source<'_>,
    ) -> Result<Vec<CompletedPart>, Failure> {
        let mut parts = Vec::new();
        let mut under_way = self.start(1, first);
        for number in 2.. {
            let filled = source.part().await;
            let part = under_way.await.unwrap_or_else(|error| {
                Err(Failure::new(FailureKind::Unavailable, "put a part of", self.place.clone())
                    .because(error))
            });
            parts.push(part?);
            let bytes = filled?;
            if bytes.is_empty() {
                break;
            }
            if number > PARTS_MAX {
                return Err(Failure::new(FailureKind::Refused, "put", self.place.clone())
                    .hint("it is too large for one call: upload it in parts of your own"));
            }
            let is_last = bytes.len() < PART_BYTES;
            under_way = self.start(number, bytes);
            if is_last {
                parts.push(under_way.await.unwrap_or_else(|error| {
                    let kind = FailureKind::Unavailable;
                    Err(Failure::new(kind, "put a part of", self.place.clone()).because(error))
                })?);
                break;
            }
        }
        Ok(parts)
    }

    fn start(&self, number: i32, bytes: Bytes) -> JoinHandle<Result<CompletedPart, Failure>> {
        let checksum = sha256(&bytes);
        let call = self
            .bucket
            .client
            .upload_part()
            .bucket(&self.bucket.name)
            .key(&self.object)
            .upload_id(&self.id)
            .part_number(number)
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .checksum_sha256(&checksum)
            .body(Body::from(bytes));
        let place = self.place.clone();
        tokio::spawn(async move {
            let said = call
                .send()
                .await
                .map_err(|error| failure::failure(&error, "put a part of", place))?;
            Ok(CompletedPart::builder()
                .part_number(number)
                .set_e_tag(said.e_tag().map(str::to_owned))
                .checksum_sha256(checksum)
                .build())
        })
    }

    async fn finish(self, parts: Vec<CompletedPart>) -> Result<(), Failure> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let said = self
            .bucket
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket.name)
            .key(&self.object)
            .upload_id(&self.id)
            .multipart_upload(parts)
            .send()
            .await;
        match said {
            Ok(_) => {
                self.open.store(false, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                let failure = failure::failure(&error, "finish putting", self.place.clone());
                self.abandon().await;
                Err(failure)
            }
        }
    }

    async fn abandon(self) {
        self.open.store(false, Ordering::Relaxed);
        give_up(&self.bucket.client, &self.bucket.name, &self.object, &self.id).await;
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        if !self.open.load(Ordering::Relaxed) {
            return;
        }
        let (client, name) = (self.bucket.client.clone(), self.bucket.name.clone());
        let (object, id) = (self.object.clone(), self.id.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { give_up(&client, &name, &object, &id).await });
        }
    }
}

async fn give_up(client: &Client, name: &str, object: &str, id: &str) {
    let said = client.abort_multipart_upload().bucket(name).key(object).upload_id(id).send().await;
    if let Err(error) = said {
        // A rule of the bucket removes what could not be given up after some days.
        let error = failure::failure(&error, "give up putting", format!("s3://{name}/{object}"));
        tracing::warn!(%error, "parts of an unfinished upload are left behind");
    }
}

fn sha256(bytes: &[u8]) -> String {
    aws_smithy_types::base64::encode(Sha256::digest(bytes))
}
