//! What S3's errors mean.

use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_smithy_types::error::metadata::ErrorMetadata;
use inlet_core::failure::{Failure, FailureKind};

/// The answer of a service, as the SDK wraps it.
type Response = aws_sdk_s3::config::http::HttpResponse;

/// Whether the error says that the object is not there.
pub(super) fn is_missing<E: ProvideErrorMetadata>(error: &SdkError<E, Response>) -> bool {
    status(error) == Some(404) && error.code() != Some("NoSuchBucket")
}

/// Whether the error says that the range begins past the end.
pub(super) fn is_out_of_range<E: ProvideErrorMetadata>(error: &SdkError<E, Response>) -> bool {
    status(error) == Some(416)
}

/// The failure of a call.
pub(super) fn failure<E>(
    error: &SdkError<E, Response>,
    attempted: &'static str,
    subject: String,
) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let kind = match (status(error), error.code()) {
        (_, Some("NoSuchBucket" | "AccessDenied" | "InvalidAccessKeyId")) => FailureKind::Refused,
        (_, Some("SlowDown" | "RequestTimeout" | "ExpiredToken")) => FailureKind::Unavailable,
        (_, Some("BadDigest" | "XAmzContentChecksumMismatch")) => FailureKind::Damaged,
        (Some(403 | 301 | 400), _) => FailureKind::Refused,
        _ => FailureKind::Unavailable,
    };
    Failure::new(kind, attempted, subject).because(said(error))
}

/// The failure of the first look at a bucket.
pub(super) fn opening<E>(error: &SdkError<E, Response>, url: &str) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let name = url.trim_start_matches("s3://").split('/').next().unwrap_or_default();
    let hint = match status(error) {
        Some(404) => format!("make it: `aws s3 mb s3://{name}`, or `inlet deploy`"),
        Some(403) => "this identity may not use it; it needs s3:ListBucket, s3:GetObject, \
                      s3:PutObject and s3:DeleteObject"
            .to_owned(),
        Some(301 | 400) => "is it in another region? AWS_REGION names the one".to_owned(),
        _ => {
            let hint = "is the service reachable, and are there credentials (AWS_PROFILE)?";
            let kind = FailureKind::Unavailable;
            return Failure::new(kind, "open the bucket", url).because(said(error)).hint(hint);
        }
    };
    Failure::new(FailureKind::Refused, "open the bucket", url).because(said(error)).hint(hint)
}

fn status<E>(error: &SdkError<E, Response>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

fn said<E>(error: &SdkError<E, Response>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let meta: &ErrorMetadata = error.meta();
    match (meta.code(), meta.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => match status(error) {
            Some(status) => format!("the service answered {status}"),
            None => DisplayErrorContext(error).to_string(),
        },
    }
}
