//! A line of a keyed batch: a document with a key of its own.

use std::borrow::Cow;
use std::ops::Range;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::document::IdempotencyKey;
use crate::json;
use crate::rejection::Rejection;

/// A line, as it is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    document: &'a RawValue,
}

/// The key of a line, and where its document is in it, byte for byte. The document may be nested
/// `depth_max` deep.
///
/// # Errors
/// A rejection where the line is no JSON, lacks a member or has one too many, or the key is none.
pub(super) fn read(
    line: &[u8],
    depth_max: usize,
) -> Result<(IdempotencyKey, Range<usize>), Rejection> {
    json::check(line, depth_max.saturating_add(1)).map_err(Rejection::JsonInvalid)?;
    let read: Line<'_> = serde_json::from_slice(line).map_err(|_| Rejection::ParameterInvalid {
        name: "body",
        expected: "lines of the form {\"key\":\"KEY\",\"document\":DOCUMENT}",
    })?;
    let document = read.document.get();
    // It is borrowed from the line, so it is in it.
    let begins = document.as_ptr().addr() - line.as_ptr().addr();
    Ok((IdempotencyKey::new(&read.key)?, begins..begins + document.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_gives_its_key_and_the_bytes_of_its_document() {
        for (line, key, document) in [
            (r#"{"key":"a","document":{"n": 1.0}}"#, "a", r#"{"n": 1.0}"#),
            (" { \"document\" :  [1,\t2] , \"key\":\"b\" } ", "b", "[1,\t2]"),
            (r#"{"key":"\u0041","document":"\u0041"}"#, "A", r#""\u0041""#),
        ] {
            let (found, range) = read(line.as_bytes(), 8).unwrap();
            assert_eq!((found.as_str(), &line[range]), (key, document));
        }
    }

    #[test]
    fn a_line_that_is_none_is_refused() {
        for line in [
            "{}",
            "[]",
            "1",
            r#"{"key":"a"}"#,
            r#"{"document":1}"#,
            r#"{"key":1,"document":1}"#,
            r#"{"key":"","document":1}"#,
            r#"{"key":"ä","document":1}"#,
            r#"{"key":"a","document":1,"stream":"x"}"#,
            r#"{"key":"a","key":"b","document":1}"#,
            r#"{"key":"a","document":{"a":1,"a":2}}"#,
            r#"{"key":"a","document":"#,
        ] {
            assert!(read(line.as_bytes(), 8).is_err(), "{line}");
        }
    }

    #[test]
    fn a_document_may_be_as_deep_as_one_that_is_sent_alone() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        for (depth, is_taken) in [(8, true), (9, false)] {
            assert_eq!(json::check(nested(depth).as_bytes(), 8).is_ok(), is_taken);
            let line = format!("{{\"key\":\"a\",\"document\":{}}}", nested(depth));
            assert_eq!(read(line.as_bytes(), 8).is_ok(), is_taken, "{depth}");
        }
    }
}
