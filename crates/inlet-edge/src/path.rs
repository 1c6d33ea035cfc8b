//! Paths that mean one thing only.
//!
//! A path that two programs read in two ways is how checks are walked around, so the edge refuses
//! what is ambiguous rather than to repair it: dot segments, empty segments, a percent sign that
//! encodes nothing, and encoded slashes, backslashes, dots that make dot segments, and control
//! characters.

use std::borrow::Cow;

/// Checks a path and decodes it.
///
/// # Errors
/// What is wrong with it, in words for the client.
pub(crate) fn decode(path: &str) -> Result<Cow<'_, str>, &'static str> {
    if !path.starts_with('/') {
        return Err("the target must be a path");
    }
    let decoded =
        if path.contains('%') { Cow::Owned(unescape(path)?) } else { Cow::Borrowed(path) };
    if decoded.bytes().any(|byte| byte < 0x20 || byte == 0x7f || byte == b'\\') {
        return Err("the path has a control character or a backslash");
    }
    let mut segments = decoded[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        if matches!(segment, "." | "..") || (segment.is_empty() && !is_last) {
            return Err("the path has an empty or a dot segment");
        }
    }
    Ok(decoded)
}

fn unescape(path: &str) -> Result<String, &'static str> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
            return Err("the path has a percent sign that encodes nothing");
        };
        let byte = u8::try_from(high * 16 + low).expect("two digits make a byte");
        if byte == b'/' {
            return Err("the path has an encoded slash");
        }
        bytes.push(byte);
    }
    String::from_utf8(bytes).map_err(|_| "the path is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_pass_as_they_are() {
        for path in ["/", "/api/save", "/api/documents/x.json", "/a/", "/.well-known/x", "/a..b"] {
            assert_eq!(decode(path).as_deref(), Ok(path));
        }
        assert_eq!(decode("/a%20b/%C3%A4").as_deref(), Ok("/a b/ä"));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for path in [
            "",
            "*",
            "api",
            "//",
            "/a//b",
            "/.",
            "/..",
            "/a/../b",
            "/a/..",
            "/%2e%2e/x",
            "/a/%2E",
            "/a%2fb",
            "/a%2Fb",
            "/a\\b",
            "/a%5cb",
            "/a%00b",
            "/a%0ab",
            "/%",
            "/%4",
            "/%zz",
            "/%ff",
            "/%7f",
        ] {
            assert!(decode(path).is_err(), "{path}");
        }
    }
}
