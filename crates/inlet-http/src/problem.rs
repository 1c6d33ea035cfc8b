//! Answers to what can't be done: RFC 9457 problems, or a page for a browser.
//!
//! A problem has the members of the RFC (`type`, `title`, `status`, `detail`, `instance`) and
//! three that clients of this kind of service know: `errorType`, `httpStatus`, `requestId`. The
//! `errorType` is the class, one for each status; `code` tells the errors of a class apart. A
//! refusal tells what is wrong with the request; a failure of ours tells only whether to try
//! again, and the log has the rest under the request's id.

use http::header::{
    ALLOW, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{Method, StatusCode};
use inlet_core::auth::Scope;
use inlet_core::document::{KEY_BYTES_MAX, StreamName};
use inlet_core::error::Error;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::limits::Limits;
use inlet_core::ports::PART_BYTES_MIN;
use inlet_core::rejection::Rejection;
use inlet_server::error_class;
use serde_json::{Map, Value, json};

use crate::accept_header::prefers_html;
use crate::answer::{Answer, JSON, answer};
use crate::pages::Pages;
use crate::request_id::RequestId;
use crate::routes;

pub(crate) const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"inlet\"");

/// When to try again after a failure that may pass, in seconds.
pub(crate) const RETRY_AFTER_UNAVAILABLE_S: u32 = 2;
/// When to try again after a queue or a disk was full, in seconds: draining takes longer.
const RETRY_AFTER_FULL_S: u32 = 5;

/// What went wrong, as a client may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    /// The stable `code`, and the anchor in the docs.
    pub(crate) code: &'static str,
    pub(crate) title: &'static str,
    pub(crate) detail: String,
    retry_after_s: Option<u32>,
    /// The size of the file whose range can't be given, in bytes.
    file_bytes: Option<u64>,
    /// Members beyond the usual ones: `line`, `column`, `limit`.
    more: Map<String, Value>,
}

/// What of a request its problem answer depends on.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) id: &'a RequestId,
}

impl Problem {
    /// The problem for either kind of error.
    pub(crate) fn of(error: &Error) -> Self {
        match error {
            Error::Rejected(rejection) => Self::rejected(rejection),
            Error::Failed(failure) => Self::failed(failure),
        }
    }

    /// The problem for a refusal.
    pub(crate) fn rejected(rejection: &Rejection) -> Self {
        let mut more = Map::new();
        match rejection {
            Rejection::BodyTooLarge { limit_bytes } => {
                more.insert("limit".to_owned(), json!(limit_bytes));
            }
            Rejection::BatchTooLong { limit }
            | Rejection::StreamQuota { limit }
            | Rejection::StreamLimit { limit }
            | Rejection::KeyTooLong { limit } => {
                more.insert("limit".to_owned(), json!(limit));
            }
            Rejection::JsonInvalid(fault) => {
                more.insert("line".to_owned(), json!(fault.line));
                more.insert("column".to_owned(), json!(fault.column));
            }
            _ => {}
        }
        let file_bytes = match rejection {
            Rejection::RangeInvalid { bytes } => Some(*bytes),
            _ => None,
        };
        Self {
            status: StatusCode::from_u16(rejection.status()).unwrap_or(StatusCode::BAD_REQUEST),
            code: rejection.code(),
            title: rejection.title(),
            detail: rejection.to_string(),
            retry_after_s: rejection.retry_after_s(),
            file_bytes,
            more,
        }
    }

    /// The problem for a failure: nothing of its text.
    pub(crate) fn failed(failure: &Failure) -> Self {
        let (status, code, title, detail, retry_after_s) = match failure.kind() {
            FailureKind::Full => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Full",
                "There is no room",
                "no more can be kept just now; nothing was accepted, send it again later",
                Some(RETRY_AFTER_FULL_S),
            ),
            FailureKind::Unavailable
            | FailureKind::Denied
            | FailureKind::Missing
            | FailureKind::Poisoned => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Unavailable",
                "The service is not available",
                "this can't be done just now; send it again later",
                Some(RETRY_AFTER_UNAVAILABLE_S),
            ),
            FailureKind::Damaged | FailureKind::Refused => return Self::internal(),
        };
        let detail = detail.to_owned();
        Self { status, code, title, detail, retry_after_s, file_bytes: None, more: Map::new() }
    }

    /// The problem where the fault is ours and trying again does not help.
    pub(crate) fn internal() -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            code: "InternalFailure",
            title: "Something went wrong here",
            detail: "the fault is ours; it was noted under this request's id".to_owned(),
            retry_after_s: None,
            file_bytes: None,
            more: Map::new(),
        }
    }

    /// Every problem there is, in the order of the docs. Details that depend on a request are
    /// those of an example.
    pub(crate) fn all(limits: &Limits) -> Vec<Self> {
        let fault = inlet_core::json::check(b"", 1).expect_err("nothing is no JSON");
        let rejections = [
            Rejection::TokenMissing,
            Rejection::TokenUnknown,
            Rejection::TokenExpired,
            Rejection::TokenAmbiguous,
            Rejection::ScopeMissing(Scope::Save),
            Rejection::StreamForbidden(StreamName::default()),
            Rejection::StreamsOnly,
            Rejection::TokenNameTaken,
            Rejection::TokenLimit,
            Rejection::LastAdminToken,
            Rejection::NotFound,
            Rejection::MethodNotAllowed,
            Rejection::RequestMalformed("there is no Host"),
            Rejection::HeadTooLarge,
            Rejection::RequestTimeout,
            Rejection::ParameterInvalid { name: "limit", expected: "a whole number from 1" },
            Rejection::IdInvalid,
            Rejection::StreamNameInvalid,
            Rejection::StreamQuota { limit: limits.streams_max },
            Rejection::StreamLimit { limit: limits.streams_total_max },
            Rejection::KeyInvalid,
            Rejection::KeyTooLong { limit: KEY_BYTES_MAX - 5 },
            Rejection::KeyConflict,
            Rejection::MediaTypeUnsupported,
            Rejection::EncodingUnsupported,
            Rejection::EncodingInvalid("gzip"),
            Rejection::BodyEmpty,
            Rejection::BodyTooLarge { limit_bytes: limits.body_bytes_max },
            Rejection::BodyIncomplete,
            Rejection::BodyTimeout,
            Rejection::JsonInvalid(fault),
            Rejection::BatchEmpty,
            Rejection::BatchTooLong { limit: limits.batch_documents_max },
            Rejection::BatchRefused { documents: 2 },
            Rejection::RateLimited { retry_after_s: 1 },
            Rejection::ChecksumMismatch("Content-MD5"),
            Rejection::LengthRequired,
            Rejection::PartTooSmall { number: 1, bytes_min: PART_BYTES_MIN },
            Rejection::PartMissing(1),
            Rejection::UploadUnknown,
            Rejection::PreconditionFailed("there is a file under this key already"),
            Rejection::RangeInvalid { bytes: 0 },
        ];
        let failures = [FailureKind::Full, FailureKind::Unavailable, FailureKind::Damaged];
        let failures = failures.map(|kind| Self::failed(&Failure::new(kind, "do", "this")));
        rejections.iter().map(Self::rejected).chain(failures).collect()
    }

    /// The members that any form of it has; `instance` where a path is known.
    pub(crate) fn members(&self, request_id: &str) -> Map<String, Value> {
        let mut members = Map::new();
        members.insert("type".to_owned(), json!(format!("/docs#{}", self.code)));
        members.insert("title".to_owned(), json!(self.title));
        members.insert("status".to_owned(), json!(self.status.as_u16()));
        members.insert("detail".to_owned(), json!(self.detail));
        members.insert("errorType".to_owned(), json!(error_class(self.status)));
        members.insert("code".to_owned(), json!(self.code));
        members.insert("httpStatus".to_owned(), json!(self.status.as_u16()));
        members.insert("requestId".to_owned(), json!(request_id));
        members.extend(self.more.iter().map(|(name, value)| (name.clone(), value.clone())));
        members
    }

    /// The answer: a page where the client asked for HTML, else JSON.
    pub(crate) fn answer(&self, asked: Asked<'_>, pages: &Pages) -> Answer {
        let mut answer = if prefers_html(asked.headers) {
            pages.error(self, asked.id.as_str())
        } else {
            let mut members = self.members(asked.id.as_str());
            members.insert("instance".to_owned(), json!(asked.path));
            let body = serde_json::to_vec(&members).expect("a map with text for names is JSON");
            let mut answer = answer(self.status, JSON, body);
            answer.headers_mut().insert(CONTENT_TYPE, PROBLEM);
            answer
        };
        let headers = answer.headers_mut();
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(bytes) = self.file_bytes
            && let Ok(range) = HeaderValue::from_str(&format!("bytes */{bytes}"))
        {
            headers.insert(CONTENT_RANGE, range);
        }
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, CHALLENGE);
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                if let Ok(methods) = HeaderValue::from_str(&routes::allowed(asked.path)) {
                    headers.insert(ALLOW, methods);
                }
            }
            _ => {}
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_tells_a_client_nothing_of_its_text() {
        for kind in FailureKind::ALL {
            let failure = Failure::new(kind, "open", "/secret/path").because("EIO");
            let text = Value::Object(Problem::failed(&failure).members("id")).to_string();
            assert!(!text.contains("secret") && !text.contains("EIO"), "{text}");
            assert!(failure.chain().contains("/secret/path: EIO"));
        }
    }

    #[test]
    fn what_may_pass_says_when_to_try_again() {
        for problem in Problem::all(&Limits::default()) {
            let passes = matches!(problem.status.as_u16(), 429 | 503);
            assert_eq!(problem.retry_after_s.is_some(), passes, "{}", problem.code);
        }
        for kind in FailureKind::ALL {
            let again = !matches!(kind, FailureKind::Damaged | FailureKind::Refused);
            let problem = Problem::failed(&Failure::new(kind, "write", "x"));
            assert_eq!(problem.retry_after_s.is_some(), again);
            assert_eq!(problem.status.as_u16(), if again { 503 } else { 500 });
        }
    }
}
