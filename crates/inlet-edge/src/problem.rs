//! Answers that the edge gives itself: RFC 9457 problems, or a page for a browser.
//!
//! They have the members and the codes that an instance's problems have, so that a client need
//! not know who answered.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use inlet_server::error_class;
use serde_json::json;

use crate::body::EdgeBody;
use crate::headers::X_REQUEST_ID;
use crate::pages::{Pages, prefers_html};

const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Why the edge answers itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    /// The stable `code`, and the anchor in the docs.
    pub(crate) code: &'static str,
    pub(crate) title: &'static str,
    pub(crate) detail: String,
    pub(crate) retry_after_s: Option<u32>,
    pub(crate) allow: Option<String>,
}

impl Problem {
    fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self { status, code, title, detail: detail.into(), retry_after_s: None, allow: None }
    }

    fn retried_after(self, seconds: u32) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }

    /// No backend could be asked; nothing was sent to any.
    pub(crate) fn unavailable() -> Self {
        let detail = "no instance can be reached just now; nothing was accepted, send it again";
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Unavailable",
            "The service is not available",
            detail,
        )
        .retried_after(1)
    }

    /// All backends have as much to do as they may.
    pub(crate) fn overloaded() -> Self {
        let detail = "there is too much to do just now; nothing was accepted, send it again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Overloaded", "Too much to do", detail)
            .retried_after(1)
    }

    /// A backend broke off while it had the request.
    pub(crate) fn bad_gateway() -> Self {
        let detail = "the instance that had this request broke off; whether it did what was asked \
                      is not known";
        Self::new(StatusCode::BAD_GATEWAY, "InstanceFailed", "An instance failed", detail)
    }

    /// A backend did not answer in time.
    pub(crate) fn gateway_timeout() -> Self {
        let detail = "the instance that had this request did not answer in time; whether it did \
                      what was asked is not known";
        let title = "An instance did not answer";
        Self::new(StatusCode::GATEWAY_TIMEOUT, "InstanceTimeout", title, detail)
    }

    pub(crate) fn not_found() -> Self {
        let detail = "there is nothing here";
        Self::new(StatusCode::NOT_FOUND, "NotFound", "Nothing is here", detail)
    }

    pub(crate) fn method_not_allowed(allow: String) -> Self {
        let detail = "this path does not take that method; see the Allow header";
        let title = "This path does not take that method";
        let problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", title, detail);
        Self { allow: Some(allow), ..problem }
    }

    pub(crate) fn media_type() -> Self {
        let detail = "this path does not take that content type";
        let title = "This content type is not taken";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "MediaTypeUnsupported", title, detail)
    }

    pub(crate) fn body_too_large(bytes_max: u64) -> Self {
        let detail = format!("the body is larger than {bytes_max} bytes");
        let title = "The body is too large";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "BodyTooLarge", title, detail)
    }

    pub(crate) fn body_incomplete() -> Self {
        let detail = "the body ended before it was whole";
        Self::new(StatusCode::BAD_REQUEST, "BodyIncomplete", "The body is not whole", detail)
    }

    /// The client takes too long to send its body.
    pub(crate) fn body_timeout() -> Self {
        let detail = "the body came too slowly";
        Self::new(StatusCode::REQUEST_TIMEOUT, "BodyTimeout", "The body took too long", detail)
    }

    /// The head has more bytes or more lines than are taken.
    pub(crate) fn head_too_large() -> Self {
        let detail = "the header section has more bytes or more lines than are taken";
        let title = "The header section is too large";
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        Self::new(status, "HeadTooLarge", title, detail)
    }

    /// The client takes too long to send its head.
    pub(crate) fn request_timeout() -> Self {
        let detail = "the head of the request came too slowly";
        let title = "The request took too long";
        Self::new(StatusCode::REQUEST_TIMEOUT, "RequestTimeout", title, detail)
    }

    pub(crate) fn malformed(why: &str) -> Self {
        let detail = format!("the request is not well-formed: {why}");
        let title = "The request is not well-formed";
        Self::new(StatusCode::BAD_REQUEST, "RequestMalformed", title, detail)
    }

    /// A rule of the firewall matched. Which one is in the log, not in the answer.
    pub(crate) fn forbidden() -> Self {
        let detail = "this request is not let through";
        Self::new(StatusCode::FORBIDDEN, "Forbidden", "This request is not let through", detail)
    }

    pub(crate) fn rate_limited(retry_after_s: u32) -> Self {
        let detail = format!("too many requests; try again after {retry_after_s} s");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "RateLimited", "Too many requests", detail)
            .retried_after(retry_after_s)
    }

    pub(crate) fn internal() -> Self {
        let detail = "the fault is ours; it was noted under this request's id";
        let title = "Something went wrong here";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalFailure", title, detail)
    }

    /// The answer to a request for `path`: a page where `Accept` asks for HTML.
    pub(crate) fn answer(
        &self,
        accept: Option<&HeaderValue>,
        path: &str,
        id: &HeaderValue,
        pages: &Pages,
    ) -> Response<EdgeBody> {
        let id_text = id.to_str().unwrap_or_default();
        let (kind, body) = if prefers_html(accept) {
            (HTML, Bytes::from(pages.page(self, id_text)))
        } else {
            (PROBLEM, Bytes::from(self.json(path, id_text)))
        };
        let mut answer = Response::new(EdgeBody::from(body));
        *answer.status_mut() = self.status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, kind);
        headers.insert(CACHE_CONTROL, NO_STORE);
        headers.insert(X_REQUEST_ID, id.clone());
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(Ok(allow)) = self.allow.as_deref().map(HeaderValue::from_str) {
            headers.insert(ALLOW, allow);
        }
        answer
    }

    #[cfg(test)]
    fn all() -> Vec<Self> {
        vec![
            Self::unavailable(),
            Self::overloaded(),
            Self::bad_gateway(),
            Self::gateway_timeout(),
            Self::not_found(),
            Self::method_not_allowed("GET".to_owned()),
            Self::media_type(),
            Self::body_too_large(1),
            Self::body_incomplete(),
            Self::body_timeout(),
            Self::request_timeout(),
            Self::malformed("there is no Host"),
            Self::forbidden(),
            Self::rate_limited(1),
            Self::internal(),
        ]
    }

    fn json(&self, path: &str, id: &str) -> Vec<u8> {
        let members = json!({
            "type": format!("/docs#{}", self.code),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
            "instance": path,
            "errorType": error_class(self.status),
            "code": self.code,
            "httpStatus": self.status.as_u16(),
            "requestId": id,
        });
        members.to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use inlet_server::EDGE_CODES;

    use super::*;

    /// Codes that an instance answers too.
    const SHARED: [&str; 11] = [
        "Unavailable",
        "NotFound",
        "MethodNotAllowed",
        "MediaTypeUnsupported",
        "BodyTooLarge",
        "BodyIncomplete",
        "BodyTimeout",
        "RequestTimeout",
        "RequestMalformed",
        "RateLimited",
        "InternalFailure",
    ];

    #[test]
    fn every_code_of_the_edge_is_one_that_the_description_lists() {
        for problem in Problem::all() {
            let is_listed = EDGE_CODES.contains(&problem.code) || SHARED.contains(&problem.code);
            assert!(is_listed, "{}", problem.code);
        }
    }

    #[test]
    fn what_may_pass_says_when_to_try_again() {
        for problem in Problem::all() {
            let passes = matches!(problem.status.as_u16(), 429 | 503);
            assert_eq!(problem.retry_after_s.is_some(), passes, "{}", problem.code);
        }
    }
}
