//! Answers, before the headers that all of them carry are added.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use inlet_core::accept::AcceptError;
use serde::Serialize;

/// An answer: its body is always at hand, because nothing that is read whole is larger than the
/// limits allow.
pub(crate) type Answer = Response<Full<Bytes>>;

/// What a handler comes to: an answer, a refusal or a failure.
pub(crate) type Handled = Result<Answer, AcceptError>;

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(crate) const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
pub(crate) const CSS: HeaderValue = HeaderValue::from_static("text/css; charset=utf-8");
pub(crate) const SCRIPT: HeaderValue = HeaderValue::from_static("text/javascript; charset=utf-8");

const CONTENT_SECURITY_POLICY: HeaderName = HeaderName::from_static("content-security-policy");
const X_CONTENT_TYPE_OPTIONS: HeaderName = HeaderName::from_static("x-content-type-options");
const REFERRER_POLICY: HeaderName = HeaderName::from_static("referrer-policy");

/// What our own pages may load: style and script from here, nothing from elsewhere, nothing
/// inline.
const OWN_PAGES_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// What a summary's page may load: it brings its style within it, and has no script.
pub(crate) const STORED_PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'; sandbox",
);

/// An answer of that status, type and body.
pub(crate) fn answer(
    status: StatusCode,
    content_type: HeaderValue,
    body: impl Into<Bytes>,
) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

/// `value` as JSON, which no cache may keep.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(value).expect("what we describe has text for names");
    let mut answer = answer(status, JSON, body);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// A page of ours.
pub(crate) fn page(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = answer(status, HTML, body);
    guard_page(&mut answer, OWN_PAGES_POLICY);
    answer
}

/// Adds the headers that keep a page from loading or being loaded elsewhere.
pub(crate) fn guard_page(answer: &mut Answer, policy: HeaderValue) {
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

/// Something built in that a browser may keep for an hour.
pub(crate) fn asset(content_type: HeaderValue, body: &'static str) -> Answer {
    let mut answer = answer(StatusCode::OK, content_type, body);
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
