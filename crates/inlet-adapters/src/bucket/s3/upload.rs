//! Objects that the caller puts in parts: S3's own uploads.
//!
//! A part is streamed: it is sent as it comes, with its SHA-256 behind it, which S3 checks before
//! it takes the part. What is on its way can't be sent again from here, so a part that fails is
//! the caller's to put again.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream as Body;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart, Part as SdkPart,
};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::{
    BucketKey, ByteStream, Finished, Part, PartNumber, Precondition, UploadId,
};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::condition::{self, guard};
use super::put::complete;
use super::{S3Bucket, checksum, failure};

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
        let mut pumping = std::pin::pin!(pump(body, pieces, place()));
        tokio::select! {
            pumped = &mut pumping => pumped,
            // It is refused, or the line broke, before all was sent.
            said = &mut sending => {
                return said_of_part(said, number, bytes, place());
            }
        }
    };
    // The call is dropped, and with it the connection: S3 keeps nothing of half a part.
    pumped?;
    match timeout(STALL_MAX, sending).await {
        Ok(said) => said_of_part(said, number, bytes, place()),
        Err(_) => Err(stalled(place())),
    }
}

/// The parts that were put.
pub(super) async fn parts(
    bucket: &S3Bucket,
    key: &BucketKey,
    upload: &UploadId,
) -> Result<Option<Vec<Part>>, Failure> {
    let Some(listed) = all(bucket, key, upload).await? else { return Ok(None) };
    Ok(Some(listed.into_iter().map(|(number, part)| described(number, &part)).collect()))
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
                .set_e_tag(part.e_tag().map(str::to_owned))
                .set_checksum_sha256(part.checksum_sha256().map(str::to_owned))
                .build(),
        );
    }
    let parts = CompletedMultipartUpload::builder().set_parts(Some(named)).build();
    let Some(guard) = guard(bucket, key, precondition).await? else {
        return Ok(Finished::PreconditionFailed);
    };
    let said = complete(bucket, key, upload.as_str(), parts, guard).await;
    if said.as_ref().is_err_and(condition::has_failed) {
        return Ok(Finished::PreconditionFailed);
    }
    // Where the answer to an earlier try got lost, the upload is no more, and the object is there.
    if let Err(error) = said
        && !is_no_upload(&error)
    {
        return Err(failure::failure(&error, "finish putting", bucket.place(key)));
    }
    Ok(bucket.described(key).await?.map_or(Finished::UploadUnknown, Finished::Object))
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
        Err(error) if !is_no_upload(&error) => {
            Err(failure::failure(&error, "give up putting", bucket.place(key)))
        }
        _ => Ok(()),
    }
}

/// All parts, by number.
async fn all(
    bucket: &S3Bucket,
    key: &BucketKey,
    upload: &UploadId,
) -> Result<Option<BTreeMap<PartNumber, SdkPart>>, Failure> {
    let mut all = BTreeMap::new();
    let mut after = None;
    loop {
        let Some(listed) = page(bucket, key, upload, after, 1_000).await? else {
            return Ok(None);
        };
        let before = all.len();
        for part in listed {
            let number = part.part_number().and_then(|number| u16::try_from(number).ok());
            if let Some(Ok(number)) = number.map(PartNumber::new) {
                all.insert(number, part);
            }
        }
        after = all.last_key_value().map(|(number, _)| number.get().to_string());
        if all.len() == before {
            return Ok(Some(all));
        }
    }
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
        Ok(listed) => Ok(Some(listed.parts().to_vec())),
        Err(error) if is_no_upload(&error) => Ok(None),
        Err(error) => Err(failure::failure(&error, "list the parts of", bucket.place(key))),
    }
}

fn described(number: PartNumber, part: &SdkPart) -> Part {
    let bytes = part.size().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0);
    Part { number, bytes, sha256: checksum(part.checksum_sha256(), None, None) }
}

fn said_of_part<E>(
    said: Result<aws_sdk_s3::operation::upload_part::UploadPartOutput, SdkError<E, Response>>,
    number: PartNumber,
    bytes: u64,
    place: String,
) -> Result<Option<Part>, Failure>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match said {
        Ok(said) => {
            Ok(Some(Part { number, bytes, sha256: checksum(said.checksum_sha256(), None, None) }))
        }
        Err(error) if is_no_upload(&error) => Ok(None),
        Err(error) => Err(failure::failure(&error, "put", place)),
    }
}

fn is_no_upload<E: ProvideErrorMetadata>(error: &SdkError<E, Response>) -> bool {
    error.code() == Some("NoSuchUpload")
}

fn stalled(place: String) -> Failure {
    let cause = format!("nothing of it was taken for {} s", STALL_MAX.as_secs());
    Failure::new(FailureKind::Unavailable, "put", place).because(cause)
}

/// Gives the pieces to the wire as it takes them.
async fn pump(
    body: &mut dyn ByteStream,
    pieces: mpsc::Sender<Bytes>,
    place: String,
) -> Result<(), Failure> {
    while let Some(piece) = body.next().await {
        match timeout(STALL_MAX, pieces.send(piece?)).await {
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
