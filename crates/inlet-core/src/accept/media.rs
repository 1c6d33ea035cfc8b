//! Media types and character sets that are taken.

use crate::rejection::Rejection;

/// The type of a batch whose documents have keys of their own.
pub const KEYED: &str = "application/vnd.inlet.keyed+ndjson";

/// What a body is, as its `Content-Type` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Media {
    pub(super) form: MediaForm,
    /// Whether only ASCII means the same in the character set that was named as in UTF-8.
    pub(super) ascii_only: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MediaForm {
    /// One JSON value.
    Json,
    /// JSON values, one to a line.
    Lines,
    /// JSON values with a key each, one to a line.
    Keyed,
}

impl Media {
    /// Reads a `Content-Type`: `application/json`, `text/json`, a type with the suffix `+json`, one
    /// of NDJSON, or [`KEYED`].
    ///
    /// RFC 8259 gives JSON no character set but UTF-8, and no parameter for one. Clients send one
    /// all the same: names of UTF-8 and of its subset ASCII are taken, and a set that shares ASCII
    /// with UTF-8 as long as the body has nothing else.
    ///
    /// # Errors
    /// [`Rejection::MediaTypeUnsupported`] for everything else.
    pub(super) fn of(content_type: Option<&str>) -> Result<Self, Rejection> {
        let given = content_type.ok_or(Rejection::MediaTypeUnsupported)?;
        if given == "application/json" {
            return Ok(Self { form: MediaForm::Json, ascii_only: false });
        }
        let mut parts = given.split(';');
        let essence = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
        let form = match essence.as_str() {
            "application/json" | "text/json" => MediaForm::Json,
            KEYED => MediaForm::Keyed,
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => MediaForm::Lines,
            other if other.starts_with("application/") && other.ends_with("+json") => {
                MediaForm::Json
            }
            _ => return Err(Rejection::MediaTypeUnsupported),
        };
        let mut ascii_only = false;
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            if name.trim().eq_ignore_ascii_case("charset") {
                ascii_only |= is_ascii_only(value)?;
            }
        }
        Ok(Self { form, ascii_only })
    }
}

/// Whether the character set of that name has only ASCII in common with UTF-8.
fn is_ascii_only(charset: &str) -> Result<bool, Rejection> {
    let name = charset.trim().trim_matches(['"', '\'']).trim().to_ascii_lowercase();
    match name.as_str() {
        "" | "utf-8" | "utf8" | "us-ascii" | "ascii" | "ansi_x3.4-1968" | "iso646-us" => Ok(false),
        "latin1" | "latin-1" => Ok(true),
        other if ["iso-8859-", "iso8859-", "windows-125"].iter().any(|p| other.starts_with(p)) => {
            Ok(true)
        }
        _ => Err(Rejection::MediaTypeUnsupported),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_known_by_essence_suffix_and_character_set() {
        let json = Ok(Media { form: MediaForm::Json, ascii_only: false });
        let latin = Ok(Media { form: MediaForm::Json, ascii_only: true });
        let lines = Ok(Media { form: MediaForm::Lines, ascii_only: false });
        let keyed = Ok(Media { form: MediaForm::Keyed, ascii_only: false });
        let refused = Err(Rejection::MediaTypeUnsupported);
        let table = [
            (Some("application/json"), &json),
            (Some("Application/JSON; charset=UTF-8"), &json),
            (Some("application/json;charset=utf8"), &json),
            (Some("application/json; charset=UTF8"), &json),
            (Some("application/json; charset=\"utf-8\""), &json),
            (Some("application/json; charset='utf-8'"), &json),
            (Some("application/json; charset=\"UTF8\"; profile=x"), &json),
            (Some("application/json; profile=x; Charset = us-ascii"), &json),
            (Some("application/json; charset=ASCII"), &json),
            (Some("application/json; charset="), &json),
            (Some("application/json;"), &json),
            (Some("text/json; charset=utf8"), &json),
            (Some("application/cloudevents+json; charset=utf8"), &json),
            (Some("application/json; charset=ISO-8859-1"), &latin),
            (Some("application/json; charset=windows-1252"), &latin),
            (Some("application/x-ndjson; charset=utf8"), &lines),
            (Some("application/jsonl"), &lines),
            (Some("application/vnd.inlet.keyed+ndjson"), &keyed),
            (Some("Application/vnd.inlet.keyed+NDJSON; charset=utf-8"), &keyed),
            (None, &refused),
            (Some(""), &refused),
            (Some("text/plain"), &refused),
            (Some("text/plain; charset=utf-8"), &refused),
            (Some("application/json; charset=utf-16"), &refused),
            (Some("application/json; charset=utf-16le"), &refused),
            (Some("application/json; charset=utf-8; charset=utf-32"), &refused),
            (Some("application/json; charset=ebcdic"), &refused),
        ];
        for (given, expected) in table {
            assert_eq!(&Media::of(given), expected, "{given:?}");
        }
    }
}
