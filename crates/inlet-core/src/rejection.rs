//! What a caller did that can't be accepted: a closed list with stable codes.

use crate::auth::Scope;
use crate::document::StreamName;
use crate::json::JsonFault;

/// Why a request was refused through the caller's doing. The code of each is part of the API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No token was sent.
    #[error("send a token in X-Auth-Token, or as Authorization: Bearer")]
    TokenMissing,
    /// The token is not one of ours, or was revoked.
    #[error("this token is not known here; it may have been revoked")]
    TokenUnknown,
    /// The token has expired.
    #[error("this token has expired")]
    TokenExpired,
    /// The token is good, but not for this.
    #[error("this token lacks the scope `{0}`")]
    ScopeMissing(Scope),
    /// The token is limited to other streams.
    #[error("this token is not for the stream {0}")]
    StreamForbidden(StreamName),
    /// The token is limited to streams, and the request is not about one.
    #[error("this token is limited to streams, and this is not about one of them")]
    StreamsOnly,
    /// There is a token with that name already.
    #[error("there is a token with this name already; revoke it first, or choose another")]
    TokenNameTaken,
    /// The list of tokens is full.
    #[error("there is no room for another token; revoke those that are not used")]
    TokenLimit,
    /// No other token could administer what is left.
    #[error("this is the last token with the scope `admin`; say so with last=true to revoke it")]
    LastAdminToken,
    /// The content type is not one of JSON.
    #[error("send Content-Type: application/json (or application/x-ndjson for a batch)")]
    MediaTypeUnsupported,
    /// The content encoding is not one we decode.
    #[error("send Content-Encoding: gzip or zstd, or none")]
    EncodingUnsupported,
    /// The body does not decode as its content encoding says.
    #[error("the body is not valid {0}")]
    EncodingInvalid(&'static str),
    /// The body is larger than allowed, as sent or once decoded.
    #[error("the body is larger than {limit_bytes} bytes")]
    BodyTooLarge {
        /// The limit, in bytes.
        limit_bytes: usize,
    },
    /// There is no body.
    #[error("the body is empty; send one JSON value")]
    BodyEmpty,
    /// The client went away or stopped before the body was whole.
    #[error("the body ended before it was whole")]
    BodyIncomplete,
    /// The body did not arrive in time.
    #[error("the body did not arrive in time")]
    BodyTimeout,
    /// The body is not one JSON value we accept.
    #[error("the body is not acceptable JSON: {0}")]
    JsonInvalid(JsonFault),
    /// The stream's name is not allowed.
    #[error("a stream name is 1 to 64 of A-Z a-z 0-9 _ -, and does not begin with -")]
    StreamNameInvalid,
    /// There are as many streams as are allowed.
    #[error("there are already {limit} streams; use one of them, or raise streams_max")]
    StreamLimit {
        /// How many streams there may be.
        limit: usize,
    },
    /// The idempotency key is not allowed.
    #[error("an Idempotency-Key is 1 to 255 visible ASCII characters")]
    KeyInvalid,
    /// The key was used before in this stream, with another body.
    #[error("this Idempotency-Key was used before in this stream with another body")]
    KeyConflict,
    /// A batch has no document.
    #[error("the batch is empty; send NDJSON or a JSON array")]
    BatchEmpty,
    /// A batch has too many documents.
    #[error("a batch has at most {limit} documents")]
    BatchTooLong {
        /// How many documents a batch may have.
        limit: usize,
    },
    /// The text is no document id.
    #[error("an id is a UUID, as in 019aa2f0-1111-7222-8333-444455556666")]
    IdInvalid,
    /// A query parameter or header has a value we can't use.
    #[error("{name}: {expected}")]
    ParameterInvalid {
        /// The parameter's name.
        name: &'static str,
        /// What was expected.
        expected: &'static str,
    },
    /// A file's bytes are not those that the request says they are.
    #[error("the bytes that came do not have the checksum in {0}; nothing was kept, send it again")]
    ChecksumMismatch(&'static str),
    /// The size of a body must be known before it comes.
    #[error("send Content-Length: the size of a part must be known before it comes")]
    LengthRequired,
    /// A part of a file that is not its last is too small.
    #[error("each part but the last has at least {bytes_min} bytes; part {number} is smaller")]
    PartTooSmall {
        /// The number of the part.
        number: u16,
        /// The fewest bytes of a part.
        bytes_min: u64,
    },
    /// A part that is to be in a file was not put.
    #[error("part {0} was not put; GET the upload for those that were, and put the rest")]
    PartMissing(u16),
    /// There is no such upload for that file.
    #[error(
        "there is no such upload of this file: it was finished, abandoned, or begun too long ago"
    )]
    UploadUnknown,
    /// What the request makes its condition is not so.
    #[error("{0}")]
    PreconditionFailed(&'static str),
    /// The range of a file that was asked for is not in it.
    #[error("the range is not in the file, which has {bytes} bytes")]
    RangeInvalid {
        /// The size of the file.
        bytes: u64,
    },
    /// Nothing is there under that id or path.
    #[error("there is nothing here")]
    NotFound,
    /// The path exists, but not for that method.
    #[error("this path does not take that method; see the Allow header")]
    MethodNotAllowed,
    /// The request is not well-formed HTTP.
    #[error("the request is not well-formed: {0}")]
    RequestMalformed(&'static str),
    /// The header section did not arrive in time.
    #[error("the request did not arrive in time")]
    RequestTimeout,
    /// The caller sends too much.
    #[error("too many requests; try again after {retry_after_s} s")]
    RateLimited {
        /// When to try again, in seconds.
        retry_after_s: u32,
    },
}

impl Rejection {
    /// The HTTP status it is answered with.
    pub fn status(&self) -> u16 {
        match self {
            Self::TokenMissing | Self::TokenUnknown | Self::TokenExpired => 401,
            Self::ScopeMissing(_) | Self::StreamForbidden(_) | Self::StreamsOnly => 403,
            Self::NotFound | Self::UploadUnknown => 404,
            Self::MethodNotAllowed => 405,
            Self::BodyTimeout | Self::RequestTimeout => 408,
            Self::KeyConflict | Self::TokenNameTaken | Self::TokenLimit | Self::LastAdminToken => {
                409
            }
            Self::LengthRequired => 411,
            Self::PreconditionFailed(_) => 412,
            Self::RangeInvalid { .. } => 416,
            Self::BodyTooLarge { .. } | Self::BatchTooLong { .. } => 413,
            Self::MediaTypeUnsupported | Self::EncodingUnsupported => 415,
            Self::RateLimited { .. } => 429,
            Self::EncodingInvalid(_)
            | Self::BodyEmpty
            | Self::BodyIncomplete
            | Self::JsonInvalid(_)
            | Self::StreamNameInvalid
            | Self::StreamLimit { .. }
            | Self::KeyInvalid
            | Self::BatchEmpty
            | Self::IdInvalid
            | Self::ChecksumMismatch(_)
            | Self::PartTooSmall { .. }
            | Self::PartMissing(_)
            | Self::ParameterInvalid { .. }
            | Self::RequestMalformed(_) => 400,
        }
    }

    /// Its stable code, the member `code` of an answer.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TokenMissing => "TokenMissing",
            Self::TokenUnknown => "TokenUnknown",
            Self::TokenExpired => "TokenExpired",
            Self::ScopeMissing(_) => "ScopeMissing",
            Self::StreamForbidden(_) => "StreamForbidden",
            Self::StreamsOnly => "StreamsOnly",
            Self::TokenNameTaken => "TokenNameTaken",
            Self::TokenLimit => "TokenLimit",
            Self::LastAdminToken => "LastAdminToken",
            Self::MediaTypeUnsupported => "MediaTypeUnsupported",
            Self::EncodingUnsupported => "EncodingUnsupported",
            Self::EncodingInvalid(_) => "EncodingInvalid",
            Self::BodyTooLarge { .. } => "BodyTooLarge",
            Self::BodyEmpty => "BodyEmpty",
            Self::BodyIncomplete => "BodyIncomplete",
            Self::BodyTimeout => "BodyTimeout",
            Self::JsonInvalid(_) => "JsonInvalid",
            Self::StreamNameInvalid => "StreamNameInvalid",
            Self::StreamLimit { .. } => "StreamLimit",
            Self::KeyInvalid => "KeyInvalid",
            Self::KeyConflict => "KeyConflict",
            Self::BatchEmpty => "BatchEmpty",
            Self::BatchTooLong { .. } => "BatchTooLong",
            Self::IdInvalid => "IdInvalid",
            Self::ParameterInvalid { .. } => "ParameterInvalid",
            Self::ChecksumMismatch(_) => "ChecksumMismatch",
            Self::LengthRequired => "LengthRequired",
            Self::PartTooSmall { .. } => "PartTooSmall",
            Self::PartMissing(_) => "PartMissing",
            Self::UploadUnknown => "UploadUnknown",
            Self::PreconditionFailed(_) => "PreconditionFailed",
            Self::RangeInvalid { .. } => "RangeInvalid",
            Self::NotFound => "NotFound",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::RequestMalformed(_) => "RequestMalformed",
            Self::RequestTimeout => "RequestTimeout",
            Self::RateLimited { .. } => "RateLimited",
        }
    }
}
