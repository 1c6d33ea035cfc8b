//! Objects that the caller puts in parts: S3's own uploads.
//!
//! A part is streamed: it is sent as it comes, with its SHA-256 behind it, which S3 checks before
//! it takes the part. What is on its way can't be sent again from here, so a part that fails is
//! the caller's to put again. The SHA-256 of the whole goes along where parts come in order, see
//! [`digest`].

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::upload_part::UploadPartOutput;
use aws_sdk_s3::primitives::ByteStream as Body;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart, Part as SdkPart,
};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use inlet_core::document::hex;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::{
    BucketKey, ByteStream, Finished, Part, PartNumber, Precondition, UploadId,
};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::condition::{self, guard};
use super::digest::{self, PartNote, Running};
use super::put::complete;
use super::{S3Bucket, failure, size, whole_checksum};

/// How many pieces of a part wait for the wire at most.
const PIECES_MAX: usize = 4;
/// How long the wire may take nothing of a part, and S3 to answer once it has all of it.
const STALL_MAX: Duration = Duration::from_secs(60);

/// The answer of a service, as the SDK wraps it.
type Response = aws_sdk_s3::config::http::HttpResponse;

/// Begins an upload.
pub(super) async fn begin(
    bucket: &S3Bucket,
    key: &BucketKey,
    content_type: &str,
) -> Result<UploadId, Failure> {
    digest::forget_uploads(bucket, key).await;
    let said = bucket
        .client
        .create_multipart_upload()
        .bucket(&bucket.name)
        .key(bucket.object(key))
        .content_type(content_type)
        .checksum_algorithm(ChecksumAlgorithm::Sha256)
        .checksum_type(ChecksumType::Composite)
        .send()
        .await
        .map_err(|error| failure::failure(&error, "begin to put", bucket.place(key)))?;
    UploadId::new(said.upload_id().unwrap_or_default()).map_err(|error| {
        Failure::new(FailureKind::Refused, "begin to put", bucket.place(key)).because(error)
    })
}

/// A part as the service lists it.
struct Listed {
    bytes: u64,
    tag: String,
    /// Its SHA-256 in base64.
    checksum: Option<String>,
}

/// Puts a part. That there is such an upload is looked at first, for the bytes of a part come only
/// once.
pub(super) async fn put_part(
    bucket: &S3Bucket,
    key: &BucketKey,
    upload: &UploadId,
    number: PartNumber,
    body: &mut dyn ByteStream,
) -> Result<Option<Part>, Failure> {
    let place = || format!("part {number} of {}", bucket.place(key));
    let Some(bytes) = body.bytes_left() else {
        return Err(Failure::new(FailureKind::Refused, "put", place())
            .hint("S3 wants to know the size of a part before it comes"));
    };
    if page(bucket, key, upload, None, 1).await?.is_none() {
        return Ok(None);
    }
    let mut running = match number.get() {
        1 => Some(Running::default()),
        number => {
            let before = digest::of_upload(bucket, key, upload).await?;
            (before.last + 1 == number).then_some(before)
        }
    };
    let hash = running.as_mut().map(|running| &mut running.hash);
    let Some(put) = send(bucket, key, upload, number, (body, bytes), hash).await? else {
        return Ok(None);
    };
    let (tag, checksum) = (put.e_tag().unwrap_or_default(), put.checksum_sha256());
    if let Some(mut running) = running {
        running.add(number, bytes, tag);
        if let Err(failure) = digest::note_upload(bucket, key, upload, &running).await {
            tracing::debug!(%failure, "the file is read back once it is whole");
        }
    }
    if let Some(checksum) = checksum {
        if bucket.lists_checksums.get().is_none() {
            let before = Some(number.get() - 1).filter(|before| *before > 0);
            page(bucket, key, upload, before.map(|before| before.to_string()), 1).await?;
        }
        if bucket.lists_checksums.get() == Some(&false) {
            let note = PartNote { tag: tag.to_owned(), checksum: checksum.to_owned() };
            digest::note_part(bucket, key, upload, number, &note).await?;
        }
    }
    let sha256 = whole_checksum(checksum, None).unwrap_or_default();
    Ok(Some(Part { number, bytes, sha256 }))
}

/// Sends a part of that size, and adds its bytes to the hash; `None` where there is no such
/// upload.
async fn send(
    bucket: &S3Bucket,
    key: &BucketKey,
    upload: &UploadId,
    number: PartNumber,
    (body, bytes): (&mut dyn ByteStream, u64),
    hash: Option<&mut Sha256>,
) -> Result<Option<UploadPartOutput>, Failure> {
    let place = || format!("part {number} of {}", bucket.place(key));
    let (pieces, coming) = mpsc::channel(PIECES_MAX);
    let call = bucket
        .client
        .upload_part()
        .bucket(&bucket.name)
        .key(bucket.object(key))
        .upload_id(upload.as_str())
        .part_number(i32::from(number.get()))
        .content_length(i64::try_from(bytes).unwrap_or(i64::MAX))
        .checksum_algorithm(ChecksumAlgorithm::Sha256)
        .body(Body::from_body_1_x(Coming { pieces: coming, left: bytes }))
        .customize()
        .config_override(unhurried());
    let mut sending = std::pin::pin!(call.send());
    let pumped = {
        let mut pumping = std::pin::pin!(pump(body, pieces, hash, place()));
        tokio::select! {
            // It is refused, or the line broke, before all was sent; or all of it was taken.
            said = &mut sending => Err(said),
            pumped = &mut pumping => Ok(pumped),
        }
    };
    let said = match pumped {
        // Where that failed the call is dropped, and with it the connection: S3 keeps nothing of
        // half a part.
        Ok(pumped) => {
            pumped?;
            timeout(STALL_MAX, sending).await.map_err(|_| stalled(place()))?
        }
        Err(said) => said,
    };
    match said {
        Ok(put) => Ok(Some(put)),
        Err(error) if is_no_upload(&error) => Ok(None),
        Err(error) => Err(failure::failure(&error, "put", place())),
    }
}

/// The parts that were put.
pub(super) async fn parts(
    bucket: &S3Bucket,
    key: &BucketKey,
    upload: &UploadId,
) -> Result<Option<Vec<Part>>, Failure> {
    let Some(listed) = all(bucket, key, upload).await? else { return Ok(None) };
    let described = |(number, part): (PartNumber, Listed)| {
        let sha256 = whole_checksum(part.checksum.as_deref(), None).unwrap_or_default();
        Part { number, bytes: part.bytes, sha256 }
    };
    Ok(Some(listed.into_iter().map(described).collect()))
}

/// Makes one object of the named parts.
pub(super) async fn finish(
    bucket: &S3Bucket,
    key: &BucketKey,
    upload: &UploadId,
    numbers: &[PartNumber],
    precondition: &Precondition,
) -> Result<Finished, Failure> {
    let Some(listed) = all(bucket, key, upload).await? else {
        return Ok(Finished::UploadUnknown);
    };
    let mut named = Vec::with_capacity(numbers.len());
    for number in numbers {
        let Some(part) = listed.get(number) else {
            let missing = format!("part {number} of {}", bucket.place(key));
            return Err(Failure::new(FailureKind::Refused, "finish with", missing)
                .hint("put the part, or leave its number out"));
        };
        named.push(
            CompletedPart::builder()
                .part_number(i32::from(number.get()))
                .e_tag(&part.tag)
                .set_checksum_sha256(part.checksum.clone())
                .build(),
        );
    }
    let running = match digest::of_upload(bucket, key, upload).await? {
        running if is_beginning(&running, numbers, &listed) => running,
        _ => Running::default(),
    };
    let parts = CompletedMultipartUpload::builder().set_parts(Some(named)).build();
    let Some(guard) = guard(bucket, key, precondition).await? else {
        return Ok(Finished::PreconditionFailed);
    };
    let said = complete(bucket, key, upload.as_str(), parts, guard).await;
    if said.as_ref().is_err_and(condition::has_failed) {
        return Ok(Finished::PreconditionFailed);
    }
    // Where the answer to an earlier try got lost, the upload is no more, and the object is there.
    if let Err(error) = &said
        && !is_no_upload(error)
    {
        return Err(failure::failure(error, "finish putting", bucket.place(key)));
    }
    let tag = said.ok().and_then(|said| said.e_tag().map(str::to_owned));
    let Some(seen) = bucket.look(key).await? else { return Ok(Finished::UploadUnknown) };
    let mut meta = seen.meta;
    // Another object may have taken its place by now.
    let is_own = tag.is_none() || tag == seen.tag;
    if let Some(tag) = seen.tag.filter(|_| is_own) {
        match sum_up(bucket, key, &tag, meta.bytes, running).await {
            Ok(sha256) => meta.sha256 = sha256,
            // The object is there, and its upload is not: only its checksum is missing.
            Err(failure) => tracing::warn!(%failure, "a file has no SHA-256"),
        }
    }
    digest::forget_upload(bucket, key, upload).await;
    Ok(Finished::Object(meta))
}

/// Whether the hash is of the first of the parts that are named, from 1 on without a gap.
fn is_beginning(
    running: &Running,
    numbers: &[PartNumber],
    listed: &BTreeMap<PartNumber, Listed>,
) -> bool {
    let Some(first) = numbers.get(..usize::from(running.last)) else { return false };
    let is_rising = first.iter().zip(1..).all(|(number, expected)| number.get() == expected);
    is_rising
        && running.is_of(first.iter().filter_map(|number| {
            let part = listed.get(number)?;
            Some((part.bytes, part.tag.as_str()))
        }))
}

/// Notes the SHA-256 of the object with this tag, of whose first bytes there is a hash.
async fn sum_up(
    bucket: &S3Bucket,
    key: &BucketKey,
    tag: &str,
    bytes: u64,
    running: Running,
) -> Result<String, Failure> {
    let Running { mut hash, bytes: from, .. } = running;
    if from < bytes {
        let said = bucket
            .client
            .get_object()
            .bucket(&bucket.name)
            .key(bucket.object(key))
            .if_match(tag)
            .range(format!("bytes={from}-"))
            .send()
            .await;
        let failed = "read back";
        let mut body =
            said.map_err(|error| failure::failure(&error, failed, bucket.place(key)))?.body;
        let mut came = from;
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| {
                Failure::new(FailureKind::Unavailable, failed, bucket.place(key)).because(error)
            })?;
            hash.update(&piece);
            came += piece.len() as u64;
        }
        if came != bytes {
            return Err(Failure::new(FailureKind::Unavailable, failed, bucket.place(key))
                .because(format!("{came} of {bytes} bytes came")));
        }
    }
    let sha256 = hex(&hash.finalize());
    digest::note_object(bucket, key, tag, bytes, &sha256).await?;
    Ok(sha256)
}

/// Gives up an upload.
pub(super) async fn abandon(
    bucket: &S3Bucket,
    key: &BucketKey,
    upload: &UploadId,
) -> Result<(), Failure> {
    let said = bucket
        .client
        .abort_multipart_upload()
        .bucket(&bucket.name)
        .key(bucket.object(key))
        .upload_id(upload.as_str())
        .send()
        .await;
    match said {
        Err(error) if !is_no_upload_id(&error) => {
            Err(failure::failure(&error, "give up putting", bucket.place(key)))
        }
        _ => {
            digest::forget_upload(bucket, key, upload).await;
            Ok(())
        }
    }
}

/// All parts, by number. Checksums that the service does not list are as they were noted.
async fn all(
    bucket: &S3Bucket,
    key: &BucketKey,
    upload: &UploadId,
) -> Result<Option<BTreeMap<PartNumber, Listed>>, Failure> {
    let mut all: BTreeMap<PartNumber, Vec<Listed>> = BTreeMap::new();
    let mut after = None;
    loop {
        let Some(listed) = page(bucket, key, upload, after, 1_000).await? else {
            return Ok(None);
        };
        let before = all.len();
        for part in listed {
            let number = part.part_number().and_then(|number| u16::try_from(number).ok());
            if let Some(Ok(number)) = number.map(PartNumber::new) {
                let tag = part.e_tag().unwrap_or_default().to_owned();
                let checksum = part.checksum_sha256().map(str::to_owned);
                let listed = Listed { bytes: size(part.size()), tag, checksum };
                all.entry(number).or_default().push(listed);
            }
        }
        after = all.last_key_value().map(|(number, _)| number.get().to_string());
        if all.len() == before {
            break;
        }
    }
    let has_notes = bucket.lists_checksums.get() == Some(&false);
    let mut chosen = BTreeMap::new();
    for (number, mut same) in all {
        if has_notes && let Some(note) = digest::of_part(bucket, key, upload, number).await? {
            // SeaweedFS lists a part that was put again twice, in any order.
            same.sort_by_key(|part| part.tag == note.tag);
            if let Some(part) = same.last_mut().filter(|part| part.tag == note.tag) {
                part.checksum = Some(note.checksum);
            }
        }
        chosen.extend(same.pop().map(|part| (number, part)));
    }
    Ok(Some(chosen))
}

/// Some of the parts, those behind a number; `None` where there is no such upload.
async fn page(
    bucket: &S3Bucket,
    key: &BucketKey,
    upload: &UploadId,
    after: Option<String>,
    limit: i32,
) -> Result<Option<Vec<SdkPart>>, Failure> {
    let said = bucket
        .client
        .list_parts()
        .bucket(&bucket.name)
        .key(bucket.object(key))
        .upload_id(upload.as_str())
        .set_part_number_marker(after)
        .max_parts(limit)
        .send()
        .await;
    match said {
        Ok(listed) => {
            if let Some(part) = listed.parts().first() {
                bucket.lists_checksums.get_or_init(|| part.checksum_sha256().is_some());
            }
            Ok(Some(listed.parts().to_vec()))
        }
        Err(error) if is_no_upload_id(&error) => Ok(None),
        Err(error) => Err(failure::failure(&error, "list the parts of", bucket.place(key))),
    }
}

/// Whether a call that names nothing but an upload failed for its id. SeaweedFS takes an id that
/// it could not have made for a malformed request.
fn is_no_upload_id<E: ProvideErrorMetadata>(error: &SdkError<E, Response>) -> bool {
    is_no_upload(error) || error.code() == Some("InvalidRequest")
}

fn is_no_upload<E: ProvideErrorMetadata>(error: &SdkError<E, Response>) -> bool {
    error.code() == Some("NoSuchUpload")
}

fn stalled(place: String) -> Failure {
    let cause = format!("nothing of it was taken for {} s", STALL_MAX.as_secs());
    Failure::new(FailureKind::Unavailable, "put", place).because(cause)
}

/// Gives the pieces to the wire as it takes them, and adds them to the hash.
async fn pump(
    body: &mut dyn ByteStream,
    pieces: mpsc::Sender<Bytes>,
    mut hash: Option<&mut Sha256>,
    place: String,
) -> Result<(), Failure> {
    while let Some(piece) = body.next().await {
        let piece = piece?;
        if let Some(hash) = &mut hash {
            hash.update(&piece);
        }
        match timeout(STALL_MAX, pieces.send(piece)).await {
            Ok(Ok(())) => {}
            // The call has ended, and tells why.
            Ok(Err(_)) => return std::future::pending().await,
            Err(_) => return Err(stalled(place)),
        }
    }
    Ok(())
}

/// The body of a part on the wire: what comes, until all that was announced has come.
struct Coming {
    pieces: mpsc::Receiver<Bytes>,
    left: u64,
}

impl http_body::Body for Coming {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.pieces.poll_recv(cx).map(|piece| {
            // Where it ends early, it must not be taken for the whole.
            let piece = piece.filter(|piece| piece.len() as u64 <= self.left);
            let Some(piece) = piece else { return Some(Err(io::ErrorKind::UnexpectedEof.into())) };
            self.left -= piece.len() as u64;
            Some(Ok(Frame::data(piece)))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// The settings of a call that lasts as long as the client takes to send.
fn unhurried() -> aws_sdk_s3::config::Builder {
    let limits = aws_sdk_s3::config::timeout::TimeoutConfig::builder()
        .disable_operation_attempt_timeout()
        .disable_operation_timeout()
        .disable_read_timeout()
        .build();
    aws_sdk_s3::Config::builder().timeout_config(limits)
}
