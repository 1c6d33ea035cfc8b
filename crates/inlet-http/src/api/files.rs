//! `/api/files`: large files, streamed to the bucket and from it, never held in memory.
//!
//! They lie under `files/` in the bucket, so that no key reaches what else is there. A file is
//! replaced only once the new one is whole and checked, and only by a token with the scope
//! `admin`: one with `save` creates files and never changes those that are there.

mod conditions;
mod incoming;
mod uploads;

use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    LAST_MODIFIED, LOCATION, RANGE,
};
use http::{HeaderMap, Method, StatusCode};
use inlet_core::document::unhex;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::media_type;
use inlet_core::ports::{BUCKET_KEY_BYTES_MAX, BucketKey, ByteRange, ObjectMeta};
use inlet_core::rejection::Rejection;
use inlet_server::Body;
use serde_json::{Value, json};

use self::conditions::{Conditions, Demand, Wanted, entity_tag, http_date};
use self::incoming::IncomingFile;
use crate::answer::{self, Answer, Handled};
use crate::call::{Call, content_length};
use crate::query;

const CONTENT_SECURITY_POLICY: HeaderName = HeaderName::from_static("content-security-policy");
const X_CONTENT_TYPE_OPTIONS: HeaderName = HeaderName::from_static("x-content-type-options");
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// What every file's key begins with in the bucket.
const PREFIX: &str = "files/";
/// The longest key of a file, in bytes.
pub(crate) const FILE_KEY_BYTES_MAX: usize = BUCKET_KEY_BYTES_MAX - PREFIX.len();
/// How many files a page has where the client does not say.
const LIMIT_DEFAULT: usize = 100;
/// The most bytes of a file that may wait in memory for the bucket.
const FILE_BYTES_HELD: usize = 9 << 20;
/// How often a file that is replaced while it is looked at is looked at again.
const ATTEMPTS_MAX: usize = 4;

/// Puts a file, or with `?uploadId=&partNumber=` a part of one.
pub(crate) async fn put(call: &Call<'_>, body: Body) -> Handled {
    let key = key(call)?;
    let query = call.query()?;
    // Pieces of it wait in memory for the bucket: a part's worth for one that takes it in parts.
    let mut share = call.app.intake.budget().share();
    let bytes = content_length(&call.head.headers).unwrap_or(u64::MAX);
    share.grow(usize::try_from(bytes).unwrap_or(usize::MAX).min(FILE_BYTES_HELD))?;
    match (query.get("uploadId"), query.get("partNumber")) {
        (None, None) => {}
        (Some(upload), Some(number)) => {
            return uploads::put_part(call, &key, upload, number, body).await;
        }
        _ => {
            let expected = "both are needed to put a part, neither to put a file";
            return Err(
                Rejection::ParameterInvalid { name: "uploadId, partNumber", expected }.into()
            );
        }
    }
    let content_type = content_type(&call.head.headers)?;
    let bytes_max = call.app.intake.limits().file_bytes_max;
    if content_length(&call.head.headers).is_some_and(|length| length > bytes_max) {
        return Err(too_large(bytes_max).into());
    }
    let demand = Demand::of(call, &key).await?;
    let mut file = IncomingFile::new(call, body, bytes_max)?;
    let put = call.app.bucket.put_if(&key, &content_type, &mut file, &demand.precondition).await;
    let meta = put.map_err(|failure| file.blame(failure))?.ok_or(demand.rejection)?;
    Ok(created(&meta))
}

/// Gives a file or a range of it, what is known of it for `HEAD`, or with `?uploadId=` the parts
/// that were put of it.
pub(crate) async fn get(call: &Call<'_>) -> Handled {
    let key = key(call)?;
    let query = call.query()?;
    if let Some(upload) = query.get("uploadId") {
        return uploads::parts(call, &key, upload).await;
    }
    let headers = &call.head.headers;
    let bucket = &call.app.bucket;
    if call.head.method == Method::HEAD {
        let meta = bucket.head(&key).await?.ok_or(Rejection::NotFound)?;
        return Ok(match Conditions::of(headers).wanted(&meta, headers)? {
            Wanted::Nothing => not_modified(&meta),
            Wanted::Range(range) => partial(answer::empty(StatusCode::OK), &meta, range),
            Wanted::Whole => whole(answer::empty(StatusCode::OK), &meta),
        });
    }
    if ![RANGE, IF_NONE_MATCH, IF_MODIFIED_SINCE].iter().any(|name| headers.contains_key(name)) {
        let object = bucket.get(&key, None).await?.ok_or(Rejection::NotFound)?;
        let meta = object.meta.clone();
        return Ok(whole(answer::object(object, meta.bytes), &meta));
    }
    for _ in 0..ATTEMPTS_MAX {
        let meta = bucket.head(&key).await?.ok_or(Rejection::NotFound)?;
        let wanted = Conditions::of(headers).wanted(&meta, headers)?;
        let range = match wanted {
            Wanted::Nothing => return Ok(not_modified(&meta)),
            Wanted::Range(range) => Some(range),
            Wanted::Whole => None,
        };
        let Some(object) = bucket.get(&key, range).await? else { break };
        if object.meta == meta {
            return Ok(match range {
                Some(range) => {
                    let bytes = range.last - range.first + 1;
                    partial(answer::object(object, bytes), &meta, range)
                }
                None => whole(answer::object(object, meta.bytes), &meta),
            });
        }
    }
    if bucket.head(&key).await?.is_none() {
        return Err(Rejection::NotFound.into());
    }
    let cause = "it is replaced all the time";
    Err(Failure::new(FailureKind::Unavailable, "read", key.as_str()).because(cause).into())
}

/// Begins an upload in parts (`?uploads`), or makes a file of its parts (`?uploadId=`).
pub(crate) async fn post(call: &Call<'_>, body: Body) -> Handled {
    let key = key(call)?;
    let query = call.query()?;
    match (query.get("uploads"), query.get("uploadId")) {
        (Some(""), None) => uploads::begin(call, &key, body).await,
        (None, Some(upload)) => uploads::finish(call, &key, upload, body).await,
        _ => {
            let expected = "one of ?uploads, to begin an upload, and ?uploadId=, to finish it";
            Err(Rejection::ParameterInvalid { name: "query", expected }.into())
        }
    }
}

/// Deletes a file, or abandons an upload of one.
pub(crate) async fn delete(call: &Call<'_>) -> Handled {
    let key = key(call)?;
    let query = call.query()?;
    if let Some(upload) = query.get("uploadId") {
        return uploads::abandon(call, &key, upload).await;
    }
    let bucket = &call.app.bucket;
    if bucket.head(&key).await?.is_none() {
        return Err(Rejection::NotFound.into());
    }
    bucket.delete(&key).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

/// Lists files in the order of their keys.
pub(crate) async fn list(call: &Call<'_>) -> Handled {
    let query = call.query()?;
    let limit_max = call.app.intake.limits().page_documents_max;
    let limit = query.limit("limit", LIMIT_DEFAULT, limit_max)?;
    let prefix = query.get("prefix").unwrap_or_default();
    if prefix.len() > FILE_KEY_BYTES_MAX || prefix.chars().any(char::is_control) {
        let expected = "at most 1,018 bytes, none of them a control character";
        return Err(Rejection::ParameterInvalid { name: "prefix", expected }.into());
    }
    let prefix = format!("{PREFIX}{prefix}");
    let after = query.get("cursor").map(|cursor| BucketKey::new(format!("{PREFIX}{cursor}")));
    let mut files = call.app.bucket.list(&prefix, after.transpose()?.as_ref(), limit + 1).await?;
    let more = files.len() > limit;
    files.truncate(limit);
    let next = files.last().map(|meta| name(&meta.key).to_owned());
    let files: Vec<Value> = files.iter().map(described).collect();
    Ok(answer::json(StatusCode::OK, &json!({"files": files, "next": next, "more": more})))
}

/// The key in the bucket of the file that the path names.
fn key(call: &Call<'_>) -> Result<BucketKey, Rejection> {
    let expected =
        "segments with / between them, none empty, `.`, `..` or `.inlet`, 1,018 bytes at most";
    let invalid = Rejection::ParameterInvalid { name: "key", expected };
    BucketKey::new(format!("{PREFIX}{}", call.parameter)).map_err(|_| invalid)
}

/// The key as clients know it.
fn name(key: &BucketKey) -> &str {
    key.as_str().strip_prefix(PREFIX).unwrap_or(key.as_str())
}

/// The media type, kept as it was sent.
fn content_type(headers: &HeaderMap) -> Result<String, Rejection> {
    if headers.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        let expected = "none: a file is kept as it comes, and given back so";
        return Err(Rejection::ParameterInvalid { name: "Content-Encoding", expected });
    }
    let Some(given) = headers.get(CONTENT_TYPE) else { return Ok(media_type::DEFAULT.to_owned()) };
    let given = given.to_str().ok().filter(|text| (1..=255).contains(&text.len()));
    let expected = "a media type of at most 255 visible ASCII characters";
    given.map(str::to_owned).ok_or(Rejection::ParameterInvalid { name: "Content-Type", expected })
}

fn too_large(bytes_max: u64) -> Rejection {
    Rejection::BodyTooLarge { limit_bytes: usize::try_from(bytes_max).unwrap_or(usize::MAX) }
}

/// What is known of a file, as JSON.
fn described(meta: &ObjectMeta) -> Value {
    json!({
        "key": name(&meta.key),
        "bytes": meta.bytes,
        "contentType": meta.content_type,
        "sha256": meta.sha256,
        "modified": meta.modified.to_string(),
    })
}

/// The answer to a file that was put.
fn created(meta: &ObjectMeta) -> Answer {
    let mut answer = answer::json(StatusCode::CREATED, &described(meta));
    let headers = answer.headers_mut();
    headers.insert(ETAG, entity_tag(meta));
    let location = format!("/api/files/{}", query::percent_encoded_path(name(&meta.key)));
    if let Ok(location) = HeaderValue::from_str(&location) {
        headers.insert(LOCATION, location);
    }
    answer
}

fn not_modified(meta: &ObjectMeta) -> Answer {
    let mut answer = answer::empty(StatusCode::NOT_MODIFIED);
    validators(answer.headers_mut(), meta);
    answer
}

fn whole(mut answer: Answer, meta: &ObjectMeta) -> Answer {
    let headers = answer.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(meta.bytes));
    guard(headers, meta);
    answer
}

fn partial(mut answer: Answer, meta: &ObjectMeta, range: ByteRange) -> Answer {
    *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(range.last - range.first + 1));
    let given = format!("bytes {}-{}/{}", range.first, range.last, meta.bytes);
    if let Ok(given) = HeaderValue::from_str(&given) {
        headers.insert(CONTENT_RANGE, given);
    }
    guard(headers, meta);
    answer
}

/// What the client may compare and keep.
fn validators(headers: &mut HeaderMap, meta: &ObjectMeta) {
    headers.insert(ETAG, entity_tag(meta));
    headers.insert(LAST_MODIFIED, http_date(meta.modified));
    // It may be kept, and must be asked about each time: it may have been replaced.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
}

/// What goes with the bytes of a file. They are somebody's: a browser is to save them, and never
/// to run them as if they were pages of ours.
fn guard(headers: &mut HeaderMap, meta: &ObjectMeta) {
    validators(headers, meta);
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let content_type = HeaderValue::from_str(&meta.content_type);
    let default = HeaderValue::from_static(media_type::DEFAULT);
    headers.insert(CONTENT_TYPE, content_type.unwrap_or(default));
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let policy = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; sandbox");
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    // RFC 9530.
    let digest = unhex(&meta.sha256).filter(|digest| digest.len() == 32);
    if let Some(digest) = digest
        && let Ok(text) = HeaderValue::from_str(&format!("sha-256=:{}:", incoming::base64(&digest)))
    {
        headers.insert(REPR_DIGEST, text);
    }
}
