//! The parameters of the API: the meaning of each, and the rule that the code holds it to.
//!
//! Generators and validators of other people work by these rules: a value that fits one must be
//! taken, as far as its form goes. `tests/it/openapi.rs` drives the bounds of each through the
//! handlers.

use inlet_core::auth::TOKEN_NAME_BYTES_MAX;
use inlet_core::dead_letter::FILTER_BYTES_MAX;
use inlet_core::document::{KEY_BYTES_MAX, STREAM_NAME_BYTES_MAX};
use inlet_core::ports::{PARTS_MAX, UPLOAD_ID_BYTES_MAX};
use serde_json::{Value, json};

use crate::api::files::FILE_KEY_BYTES_MAX;
use crate::query::CURSOR_BYTES_MAX;
use crate::routes::Endpoint;

/// A moment as RFC 3339 has it, as far as a pattern can tell.
const MOMENT: &str = "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[Tt]\
    ([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?\
    ([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])";
/// A UUID, of any version.
const UUID: &str = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}";
/// The name of a stream.
const STREAM: &str = "[A-Za-z0-9_][A-Za-z0-9_-]{0,63}";
/// An entity tag, weak or strong (RFC 9110, 8.8.3).
const TAG: &str = "(W/)?\"[!#-~]*\"";
/// A moment in a header (RFC 9110, 5.6.7).
const HTTP_DATE: &str = "(Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-3][0-9] \
    (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4} \
    [0-2][0-9]:[0-5][0-9]:[0-5][0-9] GMT";
/// 32 bytes in base64: the last digit has no bits that stand for nothing.
const BASE64_OF_32: &str = "[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=";
/// The beginning of an id, with all hyphens that stand in it or with none.
const ID_PREFIX: &str = "[0-9A-Fa-f]{8}([0-9A-Fa-f]{0,24}|(-[0-9A-Fa-f]{4}){0,2}-[0-9A-Fa-f]{0,4}|\
    (-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{0,12})";
/// The key of a file: segments with `/` between them, of at most 255 bytes each and 1,018 in all.
/// A character may take four bytes, so beyond ASCII the lengths are a quarter of that.
const FILE_KEY: &str = "(?=[ -~]{1,1018}$|.{1,254}$)(?!(\\.{1,2}|\\.inlet)(/|$))\
    ([ -.0-\\[\\]-~]{1,255}|[^/\\\\\\u0000-\\u001f\\u007f-\\u009f]{1,63})\
    (/(?!(\\.{1,2}|\\.inlet)(/|$))\
    ([ -.0-\\[\\]-~]{1,255}|[^/\\\\\\u0000-\\u001f\\u007f-\\u009f]{1,63}))*";

/// A text of that pattern, all of it.
fn text(pattern: &str, example: &str) -> Value {
    json!({"type": "string", "pattern": format!("^{pattern}$"), "examples": [example]})
}

/// The pattern of a moment: the year 9999 is not all there in every time zone.
pub(super) fn moment() -> String {
    format!("^(?!9999){MOMENT}$")
}

/// The rule for the parameter `name` of `endpoint`.
pub(super) fn schema(name: &str, endpoint: Endpoint) -> Value {
    let mut schema = match name {
        "stream" => text(STREAM, "orders"),
        "id" => text(UUID, "019aa2f0-1111-7222-8333-444455556666"),
        "week" => text("[0-9]{4}-W(0[1-9]|[1-4][0-9]|5[0-3])(\\.(json|html))?", "2026-W47"),
        "view" => json!({"type": "string", "enum": ["full"]}),
        "from" | "to" => json!({
            "type": "string",
            "pattern": moment(),
            "examples": ["2026-11-21T02:03:18Z"],
        }),
        "limit" => json!({"type": "integer", "minimum": 1, "default": 100, "examples": [100]}),
        "cursor" if endpoint == Endpoint::Files => text(FILE_KEY, "2026/video.mp4"),
        "cursor" => json!({"type": "string", "pattern": "^[!-~]+$"}),
        "where" => text(
            &format!(
                " *({0}( *, *{0})*)? *",
                format_args!(
                    "(id={UUID}|stream={STREAM}|(cause|class)=[^,]*|(since|before)={MOMENT})"
                )
            ),
            "stream=orders,cause=refused",
        ),
        "Idempotency-Key" => text("[!-~]([ -~]*[!-~])?", "order-17"),
        "key" => text(FILE_KEY, "2026/video.mp4"),
        "prefix" if endpoint == Endpoint::Documents => text(ID_PREFIX, "019aa2f0-11"),
        "prefix" => text("(?=[ -~]{0,1018}$|.{0,254}$)[^\\u0000-\\u001f\\u007f-\\u009f]*", "2026/"),
        "name" => text("[A-Za-z0-9._@-]{1,64}", "warehouse"),
        "last" if endpoint == Endpoint::Documents => {
            json!({"type": "integer", "minimum": 0, "examples": [20]})
        }
        "last" => json!({"type": "string", "enum": ["true", "false"]}),
        "uploads" => json!({"type": "string", "enum": [""]}),
        "uploadId" => json!({"type": "string", "pattern": "^[!-~]+$"}),
        "partNumber" => json!({"type": "integer", "minimum": 1, "maximum": PARTS_MAX}),
        "Content-Type" => text("[!-~]([ -~]*[!-~])?", "video/mp4"),
        "Content-MD5" => text("[A-Za-z0-9+/]{21}[AQgw]==", "1B2M2Y8AsgTpgAmY7PhCfg=="),
        "Content-Digest" => text(
            &format!("sha-256=:{BASE64_OF_32}:"),
            "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:",
        ),
        "x-amz-checksum-sha256" => {
            text(BASE64_OF_32, "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")
        }
        "If-Match" | "If-None-Match" => {
            text(&format!("(\\*|{TAG}( *, *{TAG})*)"), "\"d41d8cd98f00b204e9800998ecf8427e\"")
        }
        "Range" => text("bytes=([0-9]{1,15}-([0-9]{1,15})?|-[0-9]{1,15})", "bytes=0-1023"),
        "If-Range" => text(&format!("(\"[!#-~]*\"|{HTTP_DATE})"), "Sat, 21 Nov 2026 02:03:18 GMT"),
        "If-Modified-Since" => text(HTTP_DATE, "Sat, 21 Nov 2026 02:03:18 GMT"),
        "Content-Encoding" => {
            json!({"type": "string", "enum": ["gzip", "x-gzip", "zstd", "identity"]})
        }
        _ => json!({"type": "string"}),
    };
    let format = match name {
        "id" => Some("uuid"),
        "from" | "to" => Some("date-time"),
        _ => None,
    };
    if let Some(format) = format {
        schema["format"] = json!(format);
    }
    let lengths = match name {
        "stream" => Some((1, STREAM_NAME_BYTES_MAX)),
        "id" => Some((36, 36)),
        "week" => Some((8, 13)),
        "name" => Some((1, TOKEN_NAME_BYTES_MAX)),
        "from" | "to" => Some((20, 35)),
        "where" => Some((0, FILTER_BYTES_MAX)),
        "cursor" if endpoint != Endpoint::Files => Some((1, CURSOR_BYTES_MAX)),
        "Idempotency-Key" => Some((1, KEY_BYTES_MAX)),
        "key" | "cursor" => Some((1, FILE_KEY_BYTES_MAX)),
        "prefix" if endpoint == Endpoint::Documents => Some((8, 36)),
        "prefix" => Some((0, FILE_KEY_BYTES_MAX)),
        "uploadId" => Some((1, UPLOAD_ID_BYTES_MAX)),
        "Content-Type" => Some((1, 255)),
        "Content-MD5" => Some((24, 24)),
        "x-amz-checksum-sha256" => Some((44, 44)),
        "Content-Digest" => Some((54, 54)),
        "If-Modified-Since" => Some((29, 29)),
        _ => None,
    };
    if let Some((shortest, longest)) = lengths {
        schema["minLength"] = json!(shortest);
        schema["maxLength"] = json!(longest);
    }
    schema
}
