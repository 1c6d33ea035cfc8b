//! The id a request goes by, in its answer and in the log.

use http::{HeaderMap, HeaderName, HeaderValue};
use rand::RngExt;

/// The header it comes and goes in.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken over from a client, in bytes.
const GIVEN_BYTES_MAX: usize = 128;

/// A fresh UUID (version 4), or what the client sent if that is 1 to 128 visible ASCII characters
/// that need no escaping in JSON, HTML or a log line.
#[derive(Debug, Clone)]
pub(crate) enum RequestId {
    Fresh([u8; 36]),
    Given(HeaderValue),
}

impl RequestId {
    /// The id of a request with these headers.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        match headers.get(X_REQUEST_ID) {
            Some(given) if is_safe(given.as_bytes()) => Self::Given(given.clone()),
            _ => Self::fresh(),
        }
    }

    /// A fresh id.
    pub(crate) fn fresh() -> Self {
        let mut id: [u8; 16] = rand::rng().random();
        id[6] = (id[6] & 0x0f) | 0x40;
        id[8] = (id[8] & 0x3f) | 0x80;
        Self::Fresh(inlet_core::id::DocumentId::from_bytes(id).text())
    }

    /// Its bytes: visible ASCII without quotes, angle brackets, ampersands and backslashes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Fresh(text) => text,
            Self::Given(value) => value.as_bytes(),
        }
    }

    /// Its text.
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("an id is ASCII")
    }

    /// It as a header's value.
    pub(crate) fn header(&self) -> HeaderValue {
        match self {
            Self::Fresh(text) => HeaderValue::from_bytes(text).expect("an id is visible ASCII"),
            Self::Given(value) => value.clone(),
        }
    }
}

fn is_safe(given: &[u8]) -> bool {
    (1..=GIVEN_BYTES_MAX).contains(&given.len())
        && given.iter().all(|b| {
            b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b'<' | b'>' | b'&' | b'\'')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> RequestId {
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, HeaderValue::from_str(text).unwrap());
        RequestId::of(&headers)
    }

    #[test]
    fn a_safe_id_is_taken_over_and_any_other_is_replaced() {
        assert_eq!(given("trace-1.a/b=c").as_str(), "trace-1.a/b=c");
        let long = "x".repeat(GIVEN_BYTES_MAX + 1);
        for bad in ["", "a b", "a\"b", "<script>", "a\\b", long.as_str()] {
            assert_eq!(given(bad).as_str().len(), 36, "{bad}");
        }
    }

    #[test]
    fn a_fresh_id_is_a_uuid_of_version_4_and_never_the_same() {
        let (one, other) = (RequestId::fresh(), RequestId::fresh());
        assert_eq!(&one.as_str()[14..15], "4");
        assert_ne!(one.as_bytes(), other.as_bytes());
    }
}
