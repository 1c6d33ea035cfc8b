//! What an error of an Amazon service means for the caller.

use std::error::Error;

use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use inlet_core::failure::{Failure, FailureKind};

const CREDENTIALS: &str = "check the credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, \
     AWS_PROFILE, or the role of the task, function or machine";
const PERMISSION: &str = "the credentials are known and may not do this: check the policies of \
     the role";

/// The failure that `error` is, while `attempted` was tried on `subject`.
pub(crate) fn failure<E>(
    attempted: &'static str,
    subject: impl Into<String>,
    error: &SdkError<E>,
) -> Failure
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let (kind, hint) = classify(error);
    let failure = Failure::new(kind, attempted, subject).because(describe(error));
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// The code of the service's answer; empty where there was none.
pub(crate) fn code<E: ProvideErrorMetadata>(error: &SdkError<E>) -> &str {
    error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default()
}

/// What happened, on one line: the service's own words where it answered.
fn describe<E>(error: &SdkError<E>) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
{
    if let Some(answer) = error.as_service_error() {
        let said = answer.message().unwrap_or("no message");
        return match answer.code() {
            Some(code) => format!("{code}: {said}"),
            None => said.to_owned(),
        };
    }
    chain(error)
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}

fn classify<E>(error: &SdkError<E>) -> (FailureKind, Option<&'static str>)
where
    E: ProvideErrorMetadata + Error + 'static,
{
    if error.as_service_error().is_none() {
        return match error {
            SdkError::ConstructionFailure(_) => (FailureKind::Refused, None),
            _ if lacks_credentials(&chain(error)) => (FailureKind::Refused, Some(CREDENTIALS)),
            _ => (FailureKind::Unavailable, None),
        };
    }
    let code = code(error);
    let status = error.raw_response().map_or(0, |response| response.status().as_u16());
    match code.rsplit('.').next().unwrap_or_default() {
        "InvalidClientTokenId"
        | "InvalidAccessKeyId"
        | "UnrecognizedClientException"
        | "SignatureDoesNotMatch"
        | "InvalidSignatureException"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "InvalidSecurity" => (FailureKind::Refused, Some(CREDENTIALS)),
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" | "KmsAccessDenied" => {
            (FailureKind::Refused, Some(PERMISSION))
        }
        // Credentials that rotate are fetched anew by the next call.
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => {
            (FailureKind::Unavailable, Some(CREDENTIALS))
        }
        _ if status >= 500 || status == 429 || is_throttling(code) => {
            (FailureKind::Unavailable, None)
        }
        _ => (FailureKind::Refused, None),
    }
}

fn lacks_credentials(text: &str) -> bool {
    text.contains("credentials") && !text.contains("timed out")
}

/// Whether the service asks for fewer calls.
fn is_throttling(code: &str) -> bool {
    matches!(
        code.rsplit('.').next().unwrap_or_default(),
        "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "RequestThrottled"
            | "RequestThrottledException"
            | "KmsThrottled"
            | "RequestLimitExceeded"
            | "LimitExceededException"
            | "TooManyRequestsException"
            | "ProvisionedThroughputExceededException"
            | "BandwidthLimitExceeded"
            | "SlowDown"
            | "PriorRequestNotComplete"
            | "TransactionInProgressException"
            | "OverLimit"
            | "InternalError"
            | "InternalFailure"
            | "ServiceUnavailable"
    )
}
