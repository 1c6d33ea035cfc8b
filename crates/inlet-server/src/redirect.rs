//! Where plain HTTP is sent.

use http::header::{HOST, HeaderValue};
use http::request::Parts;

/// The same place over HTTPS on that port: the host that the client named, path and query kept.
/// `None` where it named no host.
pub fn https_location(head: &Parts, https_port: u16) -> Option<HeaderValue> {
    let given = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = given.or(head.uri.host()).map(without_port).filter(|host| !host.is_empty())?;
    let rest = head.uri.path_and_query().map_or("/", |rest| rest.as_str());
    let location = match https_port {
        443 => format!("https://{host}{rest}"),
        port => format!("https://{host}:{port}{rest}"),
    };
    HeaderValue::from_str(&location).ok()
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
