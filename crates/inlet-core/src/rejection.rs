//! What a caller did that can't be accepted: a closed list with stable codes.

use crate::auth::Scope;
use crate::document::StreamName;
use crate::json::JsonFault;

/// When a stream may be free again, in seconds: once somebody erased the last document of one.
const STREAM_LIMIT_RETRY_AFTER_S: u32 = 60;

/// Why a request was refused through the caller's doing. The code of each is part of the API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No token was sent.
    #[error("send a token in X-Auth-Token, as Authorization: Bearer, or as a password in Basic")]
    TokenMissing,
    /// The token is not one of ours, or was revoked.
    #[error("this token is not known here; it may have been revoked")]
    TokenUnknown,
    /// The token has expired.
    #[error("this token has expired")]
    TokenExpired,
    /// Two tokens were sent that differ.
    #[error("the request carries two tokens that differ; send one")]
    TokenAmbiguous,
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
    /// The token has begun as many streams as one token may.
    #[error("this token has begun {limit} streams already; use one of them, or raise streams_max")]
    StreamQuota {
        /// How many streams one token may begin.
        limit: usize,
    },
    /// There are as many streams as are allowed.
    #[error("there are already {limit} streams; use one of them, or raise streams_total_max")]
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
    /// The key is too long for the number of documents in its batch.
    #[error(
        "the key of a batch is followed by # and the number of each document; with this many \
         documents it has at most {limit} characters"
    )]
    KeyTooLong {
        /// The longest key, in bytes.
        limit: usize,
    },
    /// A batch has no document.
    #[error("the batch is empty; send NDJSON or a JSON array")]
    BatchEmpty,
    /// A batch has too many documents.
    #[error("a batch has at most {limit} documents")]
    BatchTooLong {
        /// How many documents a batch may have.
        limit: usize,
    },
    /// Every document of a batch was refused.
    #[error("none of the {documents} documents is acceptable; see `results`")]
    BatchRefused {
        /// The number of documents in the batch.
        documents: usize,
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
    /// The header section of the request is too large.
    #[error("the header section has more bytes or more lines than are taken")]
    HeadTooLarge,
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

/// What is fixed for a refusal, whatever the request.
struct Row {
    status: u16,
    code: &'static str,
    title: &'static str,
}

const fn row(status: u16, code: &'static str, title: &'static str) -> Row {
    Row { status, code, title }
}

impl Rejection {
    /// The HTTP status it is answered with.
    pub fn status(&self) -> u16 {
        self.row().status
    }

    /// Its stable code, the member `code` of an answer.
    pub fn code(&self) -> &'static str {
        self.row().code
    }

    /// Its title, the same for all refusals with that code.
    pub fn title(&self) -> &'static str {
        self.row().title
    }

    /// When the same request may succeed, in seconds; `None` where it never will. Every refusal
    /// that is a limit (429) has one.
    pub fn retry_after_s(&self) -> Option<u32> {
        match self {
            Self::RateLimited { retry_after_s } => Some(*retry_after_s),
            Self::StreamQuota { .. } | Self::StreamLimit { .. } => Some(STREAM_LIMIT_RETRY_AFTER_S),
            _ => None,
        }
    }

    #[rustfmt::skip]
    fn row(&self) -> Row {
        match self {
            Self::TokenMissing => row(401, "TokenMissing", "A token is needed"),
            Self::TokenUnknown => row(401, "TokenUnknown", "The token is not known"),
            Self::TokenExpired => row(401, "TokenExpired", "The token has expired"),
            Self::TokenAmbiguous => row(400, "TokenAmbiguous", "Two tokens differ"),
            Self::ScopeMissing(_) => row(403, "ScopeMissing", "The token lacks a scope"),
            Self::StreamForbidden(_) => row(403, "StreamForbidden", "The token is for other streams"),
            Self::StreamsOnly => row(403, "StreamsOnly", "The token is for streams alone"),
            Self::TokenNameTaken => row(409, "TokenNameTaken", "The token's name is taken"),
            Self::TokenLimit => row(409, "TokenLimit", "There are too many tokens"),
            Self::LastAdminToken => row(409, "LastAdminToken", "It is the last token that may administer"),
            Self::MediaTypeUnsupported => row(415, "MediaTypeUnsupported", "The content type is not taken"),
            Self::EncodingUnsupported => row(415, "EncodingUnsupported", "The content encoding is not taken"),
            Self::EncodingInvalid(_) => row(400, "EncodingInvalid", "The body does not decode"),
            Self::BodyTooLarge { .. } => row(413, "BodyTooLarge", "The body is too large"),
            Self::BodyEmpty => row(400, "BodyEmpty", "The body is empty"),
            Self::BodyIncomplete => row(400, "BodyIncomplete", "The body is not whole"),
            Self::BodyTimeout => row(408, "BodyTimeout", "The body took too long"),
            Self::JsonInvalid(_) => row(400, "JsonInvalid", "The body is not acceptable JSON"),
            Self::StreamNameInvalid => row(400, "StreamNameInvalid", "The stream's name is not allowed"),
            Self::StreamQuota { .. } => row(429, "StreamQuota", "The token has too many streams"),
            Self::StreamLimit { .. } => row(429, "StreamLimit", "There are too many streams"),
            Self::KeyInvalid => row(400, "KeyInvalid", "The idempotency key is not allowed"),
            Self::KeyConflict => row(409, "KeyConflict", "The idempotency key was used with another body"),
            Self::KeyTooLong { .. } => row(400, "KeyTooLong", "The idempotency key is too long for the batch"),
            Self::BatchEmpty => row(400, "BatchEmpty", "The batch is empty"),
            Self::BatchTooLong { .. } => row(413, "BatchTooLong", "The batch has too many documents"),
            Self::BatchRefused { .. } => row(400, "BatchRefused", "Every document of the batch was refused"),
            Self::IdInvalid => row(400, "IdInvalid", "The id is not one"),
            Self::ParameterInvalid { .. } => row(400, "ParameterInvalid", "A parameter is not allowed"),
            Self::ChecksumMismatch(_) => row(400, "ChecksumMismatch", "The checksum does not fit"),
            Self::LengthRequired => row(411, "LengthRequired", "The length is needed"),
            Self::PartTooSmall { .. } => row(400, "PartTooSmall", "A part is too small"),
            Self::PartMissing(_) => row(400, "PartMissing", "A part is missing"),
            Self::UploadUnknown => row(404, "UploadUnknown", "The upload is not known"),
            Self::PreconditionFailed(_) => row(412, "PreconditionFailed", "A condition does not hold"),
            Self::RangeInvalid { .. } => row(416, "RangeInvalid", "The range is not in the file"),
            Self::NotFound => row(404, "NotFound", "Not found"),
            Self::MethodNotAllowed => row(405, "MethodNotAllowed", "The method is not taken here"),
            Self::RequestMalformed(_) => row(400, "RequestMalformed", "The request is not well-formed"),
            Self::HeadTooLarge => row(431, "HeadTooLarge", "The header section is too large"),
            Self::RequestTimeout => row(408, "RequestTimeout", "The request took too long"),
            Self::RateLimited { .. } => row(429, "RateLimited", "Too many requests"),
        }
    }
}
