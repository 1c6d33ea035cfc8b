//! Conditional writes.
//!
//! The precondition is checked here first, for services that ignore the headers, and then by the
//! service in the same step as the write. A service that refuses the headers as unknown
//! (`NotImplemented`) gets the call again without them.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use inlet_core::failure::Failure;
use inlet_core::ports::{BucketKey, Precondition};

use super::S3Bucket;

/// The answer of a service, as the SDK wraps it.
type Response = aws_sdk_s3::config::http::HttpResponse;

/// The headers that make a write conditional; none where there is no condition.
#[derive(Debug, Clone, Default)]
pub(super) struct Guard {
    pub(super) if_match: Option<String>,
    pub(super) if_none_match: Option<String>,
}

impl Guard {
    /// Whether a call with these headers failed because the service does not know them.
    pub(super) fn is_unknown<E>(&self, error: &SdkError<E, Response>) -> bool
    where
        E: ProvideErrorMetadata,
    {
        let is_set = self.if_match.is_some() || self.if_none_match.is_some();
        is_set && error.code() == Some("NotImplemented")
    }
}

/// The guard for a write to `key`; `None` where the precondition does not hold now.
pub(super) async fn guard(
    bucket: &S3Bucket,
    key: &BucketKey,
    precondition: &Precondition,
) -> Result<Option<Guard>, Failure> {
    if *precondition == Precondition::None {
        return Ok(Some(Guard::default()));
    }
    let seen = bucket.look(key).await?;
    if !precondition.holds(seen.as_ref().map(|seen| &seen.meta)) {
        return Ok(None);
    }
    Ok(Some(match seen {
        None => Guard { if_none_match: Some("*".to_owned()), ..Guard::default() },
        Some(seen) => Guard { if_match: seen.tag, ..Guard::default() },
    }))
}

/// Whether a call failed because its precondition does not hold.
pub(super) fn has_failed<E: ProvideErrorMetadata>(error: &SdkError<E, Response>) -> bool {
    let status = error.raw_response().map(|response| response.status().as_u16());
    // An object that `If-Match` names and that is gone is a 404.
    status == Some(412) || (status == Some(404) && error.code() == Some("NoSuchKey"))
}
