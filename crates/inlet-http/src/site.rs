//! What is not under `/api`: health, the landing page, the description, the console.

pub(crate) mod console;
pub(crate) mod docs;
pub(crate) mod health;
pub(crate) mod landing;
mod openapi;

use http::StatusCode;
use http::header::{HOST, HeaderValue, LOCATION};
use http::request::Parts;
use inlet_core::rejection::Rejection;

use crate::answer::{Answer, CSS, Handled, asset, empty};
use crate::pages;

/// The style of all pages.
pub(crate) fn style() -> Answer {
    asset(CSS, pages::style())
}

/// Sends the client to the same place over HTTPS.
pub(crate) fn redirect(head: &Parts, https_port: u16) -> Handled {
    const NO_HOST: Rejection = Rejection::RequestMalformed("there is no Host to redirect to");
    let given = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = given.or(head.uri.host()).map(without_port).filter(|host| !host.is_empty());
    let host = host.ok_or(NO_HOST)?;
    let rest = head.uri.path_and_query().map_or("/", |rest| rest.as_str());
    let location = match https_port {
        443 => format!("https://{host}{rest}"),
        port => format!("https://{host}:{port}{rest}"),
    };
    let mut answer = empty(StatusCode::PERMANENT_REDIRECT);
    let location = HeaderValue::from_str(&location).map_err(|_| NO_HOST)?;
    answer.headers_mut().insert(LOCATION, location);
    Ok(answer)
}

/// A host without its port; an IPv6 address keeps its brackets.
fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_taken_off_and_brackets_stay() {
        let table = [
            ("a.example:8080", "a.example"),
            ("a.example", "a.example"),
            ("[::1]:8080", "[::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
        ];
        for (host, without) in table {
            assert_eq!(without_port(host), without);
        }
    }
}
