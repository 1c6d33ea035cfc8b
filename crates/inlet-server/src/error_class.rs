//! The class of an error, which all faces of Inlet tell in the same words.

use http::StatusCode;

/// The class that an error with this status belongs to: its reason phrase (RFC 9110) in one word.
///
/// Problem answers carry it as `errorType`, which clients of this kind of service compare. It is
/// the same for all errors with one status; the finer `code` tells them apart.
pub fn error_class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        406 => "NotAcceptable",
        408 => "RequestTimeout",
        409 => "Conflict",
        411 => "LengthRequired",
        412 => "PreconditionFailed",
        413 => "ContentTooLarge",
        414 => "URITooLong",
        415 => "UnsupportedMediaType",
        416 => "RangeNotSatisfiable",
        417 => "ExpectationFailed",
        421 => "MisdirectedRequest",
        422 => "UnprocessableContent",
        426 => "UpgradeRequired",
        429 => "TooManyRequests",
        431 => "RequestHeaderFieldsTooLarge",
        500 => "InternalServerError",
        501 => "NotImplemented",
        502 => "BadGateway",
        503 => "ServiceUnavailable",
        504 => "GatewayTimeout",
        505 => "HTTPVersionNotSupported",
        507 => "InsufficientStorage",
        other if other < 500 => "BadRequest",
        _ => "InternalServerError",
    }
}

/// The codes of problems that only an edge answers. A client may meet them wherever the API is
/// behind one, so the API's description lists them too.
pub const EDGE_CODES: [&str; 4] = ["Forbidden", "InstanceFailed", "InstanceTimeout", "Overloaded"];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

    use super::*;

    #[test]
    fn a_class_is_the_reason_phrase_in_one_word() {
        for status in (400..600).filter_map(|code| StatusCode::from_u16(code).ok()) {
            let class = error_class(status);
            assert!(class.chars().all(|letter| letter.is_ascii_alphabetic()), "{class}");
            // RFC 9110 renamed two since the crate's phrases were written.
            let renamed = [("PayloadTooLarge", "ContentTooLarge")];
            let renamed = renamed.iter().chain(&[("UnprocessableEntity", "UnprocessableContent")]);
            let Some(phrase) = status.canonical_reason() else { continue };
            let mut word: String = phrase.split([' ', '-']).collect();
            if let Some((_, new)) = renamed.clone().find(|(old, _)| *old == word) {
                word = (*new).to_owned();
            }
            let known = ["BadRequest", "InternalServerError"].contains(&class);
            assert!(known || class == word, "{status}: {class}, {word}");
        }
        assert_eq!(error_class(StatusCode::UNAUTHORIZED), "Unauthorized");
    }
}
