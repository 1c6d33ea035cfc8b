//! What S3's errors mean.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use inlet_core::failure::{Failure, FailureKind};

use crate::aws;

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
    aws::failure(attempted, subject, error)
}

/// The failure of the first look at a bucket.
pub(super) fn opening<E>(error: &SdkError<E, Response>, url: &str) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let failure = aws::failure("open the bucket", url, error);
    let name = url.trim_start_matches("s3://").split('/').next().unwrap_or_default();
    match failure.kind() {
        FailureKind::Missing => {
            failure.hint(format!("make it: `aws s3 mb s3://{name}`, or `inlet deploy`"))
        }
        FailureKind::Denied if status(error) == Some(403) => failure.hint(
            "this identity may not use it; it needs s3:ListBucket, s3:GetObject, s3:PutObject and \
             s3:DeleteObject",
        ),
        FailureKind::Denied if status(error) == Some(400) => {
            failure.hint("is it in another region? AWS_REGION names the one")
        }
        FailureKind::Unavailable if failure.hint_text().is_none() => {
            failure.hint("is the service reachable?")
        }
        _ => failure,
    }
}

fn status<E>(error: &SdkError<E, Response>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}
