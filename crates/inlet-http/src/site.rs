//! What is not under `/api`: health, the landing page, the description, the console.

pub(crate) mod console;
pub(crate) mod docs;
pub(crate) mod health;
pub(crate) mod landing;
mod openapi;

use http::StatusCode;
use http::header::{ALLOW, HeaderValue, LOCATION};
use http::request::Parts;
use inlet_core::rejection::Rejection;
use inlet_server::https_location;

use crate::answer::{Answer, CSS, Handled, asset, empty};
use crate::{pages, routes};

/// The style of all pages.
pub(crate) fn style() -> Answer {
    asset(CSS, pages::style())
}

/// The methods that a path takes, for `OPTIONS`: the default check of several load balancers.
pub(crate) fn options(path: &str) -> Answer {
    let mut answer = empty(StatusCode::NO_CONTENT);
    if let Ok(methods) = HeaderValue::from_str(&routes::allowed(path)) {
        answer.headers_mut().insert(ALLOW, methods);
    }
    answer
}

/// Sends the client to the same place over HTTPS.
pub(crate) fn redirect(head: &Parts, https_port: u16) -> Handled {
    const NO_HOST: Rejection = Rejection::RequestMalformed("there is no Host to redirect to");
    let location = https_location(head, https_port).ok_or(NO_HOST)?;
    let mut answer = empty(StatusCode::PERMANENT_REDIRECT);
    answer.headers_mut().insert(LOCATION, location);
    Ok(answer)
}
