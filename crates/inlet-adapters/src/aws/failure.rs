//! What an error of an Amazon service means for the caller: one table of all documented codes.
//!
//! Sources: the *Errors* sections of the API references of Amazon SQS, Amazon DynamoDB, Amazon S3,
//! AWS Secrets Manager and AWS KMS, and their common errors:
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html>,
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html>,
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>,
//! <https://docs.aws.amazon.com/secretsmanager/latest/apireference/CommonErrors.html>,
//! <https://docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html>.
//!
//! A code that is not in the table may pass: it is an outage, which callers bound.

use std::error::Error;

use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::BatchResultErrorEntry;
use inlet_core::failure::{Failure, FailureKind};

const CREDENTIALS: &str = "check the credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, \
     AWS_PROFILE, or the role of the task, function or machine";
const CLOCK: &str = "check the clock of this machine: a request is valid for minutes, by the \
     service's clock";
const PERMISSION: &str = "the credentials are known and may not do this: check the policies of \
     the role, and of the key that encrypts there";
const KEY: &str = "check the KMS key that encrypts there: it must be enabled, and this identity \
     needs kms:Decrypt and kms:GenerateDataKey";
const REGION: &str = "it is in another region: AWS_REGION names the one to ask";
const MISSING: &str = "make it, or correct its name or AWS_REGION";
const INVALID: &str = "the service never takes this: check the setting that names it; if that is \
     right, please report this line";

/// What a code means: the kind of the failure, and what a person can do about it.
type Class = (FailureKind, Option<&'static str>);

const UNAVAILABLE: Class = (FailureKind::Unavailable, None);

/// The documented codes, without the name of a service before them (`KMS.`, `AWS.…`).
const CODES: &[(Class, &[&str])] = &[
    (
        UNAVAILABLE,
        &[
            "BandwidthLimitExceeded",
            "Busy",
            "ConditionalRequestConflict",
            "DependencyTimeoutException",
            "EC2ThrottledException",
            "InternalError",
            "InternalErrorException",
            "InternalFailure",
            "InternalServerError",
            "InternalServiceError",
            "InternalServiceErrorException",
            "KMSInternalException",
            "KmsThrottled",
            "LimitExceededException",
            "OperationAborted",
            "OverLimit",
            "PriorRequestNotComplete",
            "ProvisionedThroughputExceededException",
            "PurgeQueueInProgress",
            "QueueDeletedRecently",
            "ReplicatedWriteConflictException",
            "RequestLimitExceeded",
            "RequestThrottled",
            "RequestThrottledException",
            "RequestTimeout",
            "RequestTimeoutException",
            "ResourceInUseException",
            "ServiceFailure",
            "ServiceUnavailable",
            "ServiceUnavailableException",
            "SlowDown",
            "TableInUseException",
            "TemporaryRedirect",
            "ThrottledException",
            "Throttling",
            "ThrottlingException",
            "TooManyRequestsException",
            "TransactionCanceledException",
            "TransactionConflictException",
            "TransactionInProgressException",
        ],
    ),
    // Credentials that rotate are fetched anew by the next call.
    (
        (FailureKind::Unavailable, Some(CREDENTIALS)),
        &["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"],
    ),
    (
        (FailureKind::Denied, Some(CREDENTIALS)),
        &[
            "AuthFailure",
            "IncompleteSignature",
            "IncompleteSignatureException",
            "InvalidAccessKeyId",
            "InvalidClientTokenId",
            "InvalidSecurity",
            "InvalidSignatureException",
            "InvalidToken",
            "MissingAuthenticationToken",
            "MissingAuthenticationTokenException",
            "MissingSecurityHeader",
            "NotAuthorized",
            "NotSignedUp",
            "OptInRequired",
            "SignatureDoesNotMatch",
            "SubscriptionRequiredException",
            "UnrecognizedClientException",
        ],
    ),
    (
        (FailureKind::Denied, Some(CLOCK)),
        &["RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"],
    ),
    (
        (FailureKind::Denied, Some(PERMISSION)),
        &[
            "AccessDenied",
            "AccessDeniedException",
            "AccountProblem",
            "AllAccessDisabled",
            "InvalidPayer",
            "KmsAccessDenied",
            "UnauthorizedAccess",
            "UnauthorizedOperation",
        ],
    ),
    (
        (FailureKind::Denied, Some(KEY)),
        &[
            "DecryptionFailure",
            "DisabledException",
            "EncryptionFailure",
            "InvalidGrantTokenException",
            "InvalidKeyUsageException",
            "KMSInvalidStateException",
            "KeyUnavailableException",
            "KmsDisabled",
            "KmsInvalidKeyUsage",
            "KmsInvalidState",
            "KmsNotFound",
            "KmsOptInRequired",
            "NotFoundException",
        ],
    ),
    (
        (FailureKind::Missing, Some(MISSING)),
        &[
            "NoSuchBucket",
            "NonExistentQueue",
            "NotFound",
            "QueueDoesNotExist",
            "ResourceNotFoundException",
            "TableNotFoundException",
        ],
    ),
    (
        (FailureKind::Refused, Some(REGION)),
        &[
            "AuthorizationHeaderMalformed",
            "IllegalLocationConstraintException",
            "InvalidEndpointException",
            "PermanentRedirect",
        ],
    ),
    // What arrived is not what was sent.
    (
        (FailureKind::Damaged, None),
        &["BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"],
    ),
    (
        (FailureKind::Refused, Some(INVALID)),
        &[
            "BatchEntryIdsNotDistinct",
            "BatchRequestTooLong",
            "BucketAlreadyExists",
            "ConditionalCheckFailedException",
            "EmptyBatchRequest",
            "EncryptionTypeMismatch",
            "EntityTooLarge",
            "EntityTooSmall",
            "IdempotentParameterMismatchException",
            "IncompleteBody",
            "InvalidAction",
            "InvalidAddress",
            "InvalidArgument",
            "InvalidAttributeName",
            "InvalidAttributeValue",
            "InvalidBatchEntryId",
            "InvalidBucketName",
            "InvalidBucketState",
            "InvalidDigest",
            "InvalidIdFormat",
            "InvalidMessageContents",
            "InvalidNextTokenException",
            "InvalidObjectState",
            "InvalidParameterCombination",
            "InvalidParameterException",
            "InvalidParameterValue",
            "InvalidPart",
            "InvalidPartOrder",
            "InvalidQueryParameter",
            "InvalidRange",
            "InvalidRequest",
            "InvalidURI",
            "ItemCollectionSizeLimitExceededException",
            "KeyTooLongError",
            "MalformedPolicyDocumentException",
            "MalformedQueryString",
            "MalformedXML",
            "MessageNotInflight",
            "MetadataTooLarge",
            "MethodNotAllowed",
            "MissingAction",
            "MissingContentLength",
            "MissingParameter",
            "NoSuchKey",
            "NoSuchUpload",
            "NoSuchVersion",
            "NotImplemented",
            "PreconditionFailed",
            "PreconditionNotMetException",
            "PublicPolicyException",
            "QueueNameExists",
            "ReceiptHandleIsInvalid",
            "ResourceExistsException",
            "SerializationException",
            "TooManyEntriesInBatchRequest",
            "UnknownOperationException",
            "UnsupportedOperation",
            "ValidationError",
            "ValidationException",
        ],
    ),
    // Secrets Manager's for a secret that is being deleted.
    (
        (
            FailureKind::Denied,
            Some("is it being deleted? `aws secretsmanager restore-secret` keeps it"),
        ),
        &["InvalidRequestException"],
    ),
];

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

/// What a code and its message mean; an unknown one may pass.
pub(crate) fn class_of(code: &str, message: &str) -> Class {
    // The signature is right, and of another time.
    if message.contains("Signature expired") || message.contains("Signature not yet current") {
        return (FailureKind::Denied, Some(CLOCK));
    }
    let code = code.rsplit(['.', '#']).next().unwrap_or_default();
    let known = CODES.iter().find(|(_, codes)| codes.contains(&code));
    known.map_or(UNAVAILABLE, |(class, _)| *class)
}

/// Whether SQS refused this entry of a batch for good.
pub(crate) fn is_refused(entry: &BatchResultErrorEntry) -> bool {
    let (kind, _) = class_of(entry.code(), entry.message().unwrap_or_default());
    kind == FailureKind::Refused
}

/// What happened, on one line: the service's own words where it answered, else all causes.
fn describe<E>(error: &SdkError<E>) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match error.as_service_error().map(|answer| (answer.code(), answer.message())) {
        Some((Some(code), Some(message))) => format!("{code}: {message}"),
        Some((Some(code), None)) => format!("the service answered {code}"),
        Some((None, Some(message))) => message.to_owned(),
        Some((None, None)) => match status(error) {
            Some(status) => format!("the service answered {status}"),
            None => chain(error),
        },
        None => chain(error),
    }
}

/// An error with all of its causes. What a cause says again of its own cause is left out.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let said = source.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = source.source();
    }
    text
}

fn classify<E>(error: &SdkError<E>) -> Class
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let Some(answer) = error.as_service_error() else {
        let text = chain(error);
        return match error {
            _ if lacks_credentials(&text) => (FailureKind::Denied, Some(CREDENTIALS)),
            SdkError::ConstructionFailure(_) => (FailureKind::Refused, None),
            _ => UNAVAILABLE,
        };
    };
    if let Some(code) = answer.code().filter(|code| !code.is_empty()) {
        return class_of(code, answer.message().unwrap_or_default());
    }
    // An answer without a body, as to a HEAD.
    match status(error) {
        Some(301) => (FailureKind::Refused, Some(REGION)),
        // S3 answers so for another region, and for a session that expired.
        Some(400 | 403) => (FailureKind::Denied, Some(PERMISSION)),
        Some(404) => (FailureKind::Missing, Some(MISSING)),
        _ => UNAVAILABLE,
    }
}

fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

fn lacks_credentials(text: &str) -> bool {
    text.contains("credentials") && !text.contains("timed out")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_code_has_one_class() {
        let mut seen = HashSet::new();
        for code in CODES.iter().flat_map(|(_, codes)| codes.iter()) {
            assert!(seen.insert(code), "{code} stands twice");
        }
    }

    #[test]
    fn a_code_is_known_with_the_name_of_its_service_before_it() {
        for (code, kind) in [
            ("KMS.ThrottlingException", FailureKind::Unavailable),
            ("KMS.DisabledException", FailureKind::Denied),
            ("KMS.AccessDeniedException", FailureKind::Denied),
            ("AWS.SimpleQueueService.NonExistentQueue", FailureKind::Missing),
            ("com.amazonaws.sqs#QueueDoesNotExist", FailureKind::Missing),
            ("com.amazonaws.dynamodb.v20120810#ResourceNotFoundException", FailureKind::Missing),
            ("InvalidMessageContents", FailureKind::Refused),
        ] {
            assert_eq!(class_of(code, "").0, kind, "{code}");
        }
    }

    #[test]
    fn a_code_that_nobody_documented_may_pass() {
        for code in ["", "NewException", "KMS.NewException"] {
            assert_eq!(class_of(code, ""), UNAVAILABLE, "{code}");
        }
    }

    #[test]
    fn a_clock_that_is_off_is_told_as_such_whatever_the_code() {
        let said = "Signature expired: 20261130T000000Z is now earlier than 20261130T001000Z";
        for code in ["InvalidSignatureException", "SignatureDoesNotMatch", "RequestExpired"] {
            let (kind, hint) = class_of(code, said);
            assert_eq!((kind, hint), (FailureKind::Denied, Some(CLOCK)), "{code}");
        }
    }
}
