//! Puts an object: in one call where it fits, otherwise in parts, each sent while the next one
//! is filled.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::complete_multipart_upload::{
    CompleteMultipartUploadError, CompleteMultipartUploadOutput,
};
use aws_sdk_s3::primitives::ByteStream as Body;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use aws_smithy_types::base64;
use bytes::{Bytes, BytesMut};
use inlet_core::document::hex;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::{BucketKey, ByteStream, Clock, ObjectMeta, Precondition, SystemClock};
use sha2::{Digest, Sha256};
use tokio::task::{self, JoinHandle};

use super::condition::{self, Guard, guard};
use super::parts::{PART_BYTES, PARTS_MAX, part_bytes};
use super::{S3Bucket, SHA256, digest, failure};

/// How long sending a part, or making the object from its parts, may take, in seconds: 64 MiB over
/// a slow line; S3 may take minutes for many parts.
const ATTEMPT_S: u64 = 300;

/// Puts the whole of `body`, or nothing: `None` where the precondition does not hold. Gives the
/// object's tag too.
pub(super) async fn put(
    bucket: &S3Bucket,
    key: &BucketKey,
    content_type: &str,
    body: &mut dyn ByteStream,
    precondition: &Precondition,
) -> Result<Option<(ObjectMeta, Option<String>)>, Failure> {
    let mut source = Source { body, rest: Bytes::new() };
    let first = source.part(1).await?;
    let put = if first.len() < PART_BYTES {
        whole(bucket, key, content_type, first, precondition).await?
    } else {
        let upload = Upload::begin(bucket, key, content_type).await?;
        match upload.send(first, &mut source).await {
            Ok(sent) => upload.finish(key, sent, precondition).await?,
            Err(failure) => {
                upload.abandon().await;
                return Err(failure);
            }
        }
    };
    let Some(Put { bytes, sha256, tag }) = put else { return Ok(None) };
    let (key, content_type) = (key.clone(), content_type.to_owned());
    let meta = ObjectMeta { key, bytes, content_type, sha256, modified: SystemClock.now() };
    Ok(Some((meta, tag)))
}

/// An object that was put.
struct Put {
    bytes: u64,
    sha256: String,
    tag: Option<String>,
}

/// Puts all of it in one call.
async fn whole(
    bucket: &S3Bucket,
    key: &BucketKey,
    content_type: &str,
    bytes: Bytes,
    precondition: &Precondition,
) -> Result<Option<Put>, Failure> {
    let (_, digest) = hashed(bytes.clone(), Sha256::new(), bucket.place(key)).await?;
    let Some(mut guard) = guard(bucket, key, precondition).await? else { return Ok(None) };
    loop {
        let said = bucket
            .client
            .put_object()
            .bucket(&bucket.name)
            .key(bucket.object(key))
            .content_type(content_type)
            .metadata(SHA256, hex(&digest))
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .checksum_sha256(base64::encode(digest))
            .set_if_match(guard.if_match.clone())
            .set_if_none_match(guard.if_none_match.clone())
            .body(Body::from(bytes.clone()))
            .send()
            .await;
        return match said {
            Ok(said) => Ok(Some(Put {
                bytes: bytes.len() as u64,
                sha256: hex(&digest),
                tag: said.e_tag().map(str::to_owned),
            })),
            Err(error) if guard.is_unknown(&error) => {
                guard = Guard::default();
                continue;
            }
            Err(error) if condition::has_failed(&error) => Ok(None),
            Err(error) => Err(failure::failure(&error, "put", bucket.place(key))),
        };
    }
}

/// The body, cut into parts.
struct Source<'a> {
    body: &'a mut dyn ByteStream,
    rest: Bytes,
}

impl Source<'_> {
    /// The part of that number: shorter than [`part_bytes`] only at the end.
    async fn part(&mut self, number: i32) -> Result<Bytes, Failure> {
        let size = part_bytes(number);
        // At once as large as it becomes: what grows leaves its smaller selves to the allocator.
        let left = self.body.bytes_left().map_or(size, |left| {
            usize::try_from(left).unwrap_or(size).saturating_add(self.rest.len())
        });
        let mut part = BytesMut::with_capacity(left.min(size));
        loop {
            let take = self.rest.len().min(size - part.len());
            part.extend_from_slice(&self.rest.split_to(take));
            if part.len() == size {
                return Ok(part.freeze());
            }
            match self.body.next().await {
                Some(piece) => self.rest = piece?,
                None => return Ok(part.freeze()),
            }
        }
    }
}

/// What was sent of an upload.
#[derive(Default)]
struct Sent {
    parts: Vec<CompletedPart>,
    bytes: u64,
    hash: Sha256,
}

/// A part under way.
struct UnderWay {
    sending: JoinHandle<Result<CompletedPart, Failure>>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        // What arrives behind the end of an upload would be left behind.
        self.sending.abort();
    }
}

/// An upload in parts; given up when it is dropped unfinished, as where the client went away.
struct Upload {
    bucket: S3Bucket,
    object: String,
    place: String,
    id: String,
    open: AtomicBool,
}

impl Upload {
    /// Begins one. Where nobody waits for it any more, it is given up once it has begun.
    async fn begin(
        bucket: &S3Bucket,
        key: &BucketKey,
        content_type: &str,
    ) -> Result<Self, Failure> {
        let (bucket, object) = (bucket.clone(), bucket.object(key));
        let (place, content_type) = (bucket.place(key), content_type.to_owned());
        let at = place.clone();
        let beginning = tokio::spawn(async move {
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
        });
        beginning.await.unwrap_or_else(|error| {
            Err(Failure::new(FailureKind::Unavailable, "begin to put", at).because(error))
        })
    }

    async fn send(&self, first: Bytes, source: &mut Source<'_>) -> Result<Sent, Failure> {
        let mut sent = Sent::default();
        let mut under_way = self.start(1, first, &mut sent).await?;
        for number in 2.. {
            let filled = source.part(number).await;
            self.arrived(under_way, &mut sent).await?;
            let bytes = filled?;
            if bytes.is_empty() {
                break;
            }
            if number > PARTS_MAX {
                return Err(Failure::new(FailureKind::Refused, "put", self.place.clone())
                    .hint("it is larger than the 492 GiB that one upload takes"));
            }
            let is_last = bytes.len() < part_bytes(number);
            under_way = self.start(number, bytes, &mut sent).await?;
            if is_last {
                self.arrived(under_way, &mut sent).await?;
                break;
            }
        }
        Ok(sent)
    }

    async fn start(&self, number: i32, bytes: Bytes, sent: &mut Sent) -> Result<UnderWay, Failure> {
        let hash = std::mem::take(&mut sent.hash);
        let (hash, digest) = hashed(bytes.clone(), hash, self.place.clone()).await?;
        sent.hash = hash;
        sent.bytes += bytes.len() as u64;
        let checksum = base64::encode(digest);
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
            .body(Body::from(bytes))
            .customize()
            .config_override(patient());
        let place = self.place.clone();
        let sending = tokio::spawn(async move {
            let said = call
                .send()
                .await
                .map_err(|error| failure::failure(&error, "put a part of", place))?;
            Ok(CompletedPart::builder()
                .part_number(number)
                .set_e_tag(said.e_tag().map(str::to_owned))
                .checksum_sha256(checksum)
                .build())
        });
        Ok(UnderWay { sending })
    }

    async fn arrived(&self, mut under_way: UnderWay, sent: &mut Sent) -> Result<(), Failure> {
        let part = (&mut under_way.sending).await.unwrap_or_else(|error| {
            Err(Failure::new(FailureKind::Unavailable, "put a part of", self.place.clone())
                .because(error))
        });
        sent.parts.push(part?);
        Ok(())
    }

    /// Makes the object from what was sent.
    async fn finish(
        self,
        key: &BucketKey,
        sent: Sent,
        precondition: &Precondition,
    ) -> Result<Option<Put>, Failure> {
        let Sent { parts, bytes, hash } = sent;
        let sha256 = hex(&hash.finalize());
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let guarded = match guard(&self.bucket, key, precondition).await {
            Ok(Some(guard)) => complete(&self.bucket, key, &self.id, parts, guard).await,
            Ok(None) => {
                self.abandon().await;
                return Ok(None);
            }
            Err(failure) => {
                self.abandon().await;
                return Err(failure);
            }
        };
        let tag = match guarded {
            Ok(said) => said.e_tag().map(str::to_owned),
            Err(error) if condition::has_failed(&error) => {
                self.abandon().await;
                return Ok(None);
            }
            // The answer to an earlier try may have got lost, and the upload is no more.
            Err(error) if error.code() == Some("NoSuchUpload") => None,
            Err(error) => {
                let failure = failure::failure(&error, "finish putting", self.place.clone());
                self.abandon().await;
                return Err(failure);
            }
        };
        self.open.store(false, Ordering::Relaxed);
        let tag = match tag {
            Some(tag) => tag,
            None => self.tag_of_own(key, bytes).await?,
        };
        digest::note_object(&self.bucket, key, &tag, bytes, &sha256).await?;
        Ok(Some(Put { bytes, sha256, tag: Some(tag) }))
    }

    /// The tag of the object that a call made whose answer got lost, if it is there.
    async fn tag_of_own(&self, key: &BucketKey, bytes: u64) -> Result<String, Failure> {
        let seen = self.bucket.look(key).await?.filter(|seen| seen.meta.bytes == bytes);
        seen.and_then(|seen| seen.tag).ok_or_else(|| {
            Failure::new(FailureKind::Unavailable, "finish putting", self.place.clone())
                .because("the upload is no more, and the object is not there")
        })
    }

    async fn abandon(self) {
        self.open.store(false, Ordering::Relaxed);
        give_up(&self.bucket.client, &self.bucket.name, &self.object, &self.id).await;
    }
}

impl Drop for Upload {
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

/// The hash with `bytes` added, and the SHA-256 of `bytes` alone, made on a thread that may block.
async fn hashed(
    bytes: Bytes,
    mut hash: Sha256,
    place: String,
) -> Result<(Sha256, [u8; 32]), Failure> {
    let hashing = task::spawn_blocking(move || {
        hash.update(&bytes);
        (hash, Sha256::digest(&bytes).into())
    });
    hashing
        .await
        .map_err(|error| Failure::new(FailureKind::Unavailable, "hash", place).because(error))
}

/// Makes the object from its parts.
pub(super) async fn complete(
    bucket: &S3Bucket,
    key: &BucketKey,
    upload: &str,
    parts: CompletedMultipartUpload,
    mut guard: Guard,
) -> Result<CompleteMultipartUploadOutput, SdkError<CompleteMultipartUploadError>> {
    loop {
        let said = bucket
            .client
            .complete_multipart_upload()
            .bucket(&bucket.name)
            .key(bucket.object(key))
            .upload_id(upload)
            .multipart_upload(parts.clone())
            .set_if_match(guard.if_match.clone())
            .set_if_none_match(guard.if_none_match.clone())
            .customize()
            .config_override(patient())
            .send()
            .await;
        match said {
            Err(error) if guard.is_unknown(&error) => guard = Guard::default(),
            said => return said,
        }
    }
}

/// The settings of calls that may take long.
pub(super) fn patient() -> aws_sdk_s3::config::Builder {
    let attempt = Duration::from_secs(ATTEMPT_S);
    let limits = TimeoutConfig::builder().operation_attempt_timeout(attempt).build();
    aws_sdk_s3::Config::builder().timeout_config(limits)
}
