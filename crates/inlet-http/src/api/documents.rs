//! `/api/documents`: one document, a page of them, and erasing one for good.
//!
//! A document never changes, so what was read once is remembered by its id until it is erased; the
//! store is asked for the marks of erasures alone.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CACHE_CONTROL, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH};
use http::{HeaderMap, StatusCode};
use inlet_core::budget::Share;
use inlet_core::document::{Document, IdempotencyKey, StoredDocument, StreamName, Timestamp, hex};
use inlet_core::envelope;
use inlet_core::error::Error;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::id::{DocumentId, IdPrefix};
use inlet_core::ports::{Found, PageQuery, Store};
use inlet_core::rejection::Rejection;
use serde_json::{Value, json};

use super::page::{PageRoom, cursor_error};
use crate::answer::{self, Answer, Handled, JSON};
use crate::app::App;
use crate::call::Call;
use crate::erasures;
use crate::escape;
use crate::query::Query;

const X_STREAM: HeaderName = HeaderName::from_static("x-stream");
const X_RECEIVED: HeaderName = HeaderName::from_static("x-received");
const X_STORED: HeaderName = HeaderName::from_static("x-stored");
const X_BODY_MD5: HeaderName = HeaderName::from_static("x-body-md5");

/// May be kept by the client, and must be asked about each time: it may have been erased.
const REVALIDATE: HeaderValue = HeaderValue::from_static("private, no-cache");

/// How many documents a page has where the client does not say.
const LIMIT_DEFAULT: usize = 100;

/// Gives a document as it was sent, or with `?view=full` as JSON with what is known about it.
pub(crate) async fn get(call: &Call<'_>) -> Handled {
    let id: DocumentId = call.parameter.parse()?;
    let query = call.query()?;
    let full = match query.get("view") {
        None => false,
        Some("full") => true,
        Some(_) => {
            return Err(Rejection::ParameterInvalid { name: "view", expected: "full" }.into());
        }
    };
    let stored = read(call.app, id).await?;
    // Of another stream than its own a token learns nothing.
    let stored = stored.filter(|stored| call.caller().may_use(&stored.document.stream));
    let stored = stored.ok_or(Rejection::NotFound)?;
    let md5 = hex(&stored.document.md5());
    let tag = if full { format!("\"{md5}-full\"") } else { format!("\"{md5}\"") };
    let mut answer = if matches_tag(&call.head.headers, &tag) {
        answer::empty(StatusCode::NOT_MODIFIED)
    } else {
        let mut share = call.app.intake.budget().share();
        share.grow(stored.document.body.len())?;
        let body = if full {
            let mut body = Vec::with_capacity(stored.document.body.len() + 512);
            write_document(&mut body, &stored);
            body.into()
        } else {
            stored.document.body.clone()
        };
        answer::held(StatusCode::OK, JSON, body, share)
    };
    let headers = answer.headers_mut();
    headers.insert(ETAG, visible(&tag));
    headers.insert(CACHE_CONTROL, REVALIDATE);
    headers.insert(X_STREAM, visible(stored.document.stream.as_str()));
    headers.insert(X_RECEIVED, visible(&stored.document.received.to_string()));
    headers.insert(X_STORED, visible(&stored.stored.to_string()));
    headers.insert(X_BODY_MD5, visible(&md5));
    Ok(answer)
}

/// Erases a document for good, with its dead letters, also one that still waits in the queue.
pub(crate) async fn erase(call: &Call<'_>) -> Handled {
    let id: DocumentId = call.parameter.parse()?;
    let App { intake, store, cache, clock, .. } = call.app;
    if call.caller().streams().is_some() {
        check_streams(call, store.find(id).await?.as_ref())?;
    }
    let (intake, store) = (Arc::clone(intake), Arc::clone(store));
    let (cache, now) = (Arc::clone(cache), clock.now());
    // In a task of its own, which goes on where the client goes away or the time is over.
    let erasing = tokio::spawn(async move {
        let erasure = store.erase(id, now).await?;
        cache.remove(&id.to_string()).await;
        intake.note_erased(id, &erasure);
        if id.is_derived() {
            tokio::time::sleep(erasures::SETTLE).await;
        }
        Ok::<_, Failure>(erasure)
    });
    let ended = |error| {
        Failure::new(FailureKind::Unavailable, "erase the document", id.to_string()).because(error)
    };
    let erasure = erasing.await.map_err(ended)??;
    if !erasure.was_there && !id.is_ours() {
        return Err(Rejection::NotFound.into());
    }
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

/// Gives a page of documents, newest last: behind a cursor or from the beginning, the newest ones,
/// or those whose ids begin in a given way.
pub(crate) async fn list(call: &Call<'_>) -> Handled {
    let query = call.query()?;
    if let Some(prefix) = query.get("prefix") {
        check_alone(&query, "prefix", &["stream", "limit"])?;
        return list_by_prefix(call, &query, prefix.parse()?).await;
    }
    let limit_max = call.app.intake.limits().page_documents_max;
    let mut limit = query.limit("limit", LIMIT_DEFAULT, limit_max)?;
    let mut asked = PageQuery {
        stream: call.stream(&query)?,
        from: moment(&query, "from")?,
        to: moment(&query, "to")?,
        limit: 0,
        after: query.cursor()?,
        until: None,
    };
    if let Some(last) = query.get("last") {
        check_alone(&query, "last", &["stream"])?;
        limit = if last == "0" { 0 } else { query.limit("last", 0, limit_max)? };
        asked.after = call.app.store.cursor_of_last(asked.stream.as_ref(), limit).await?;
    }
    let (mut room, given) = (PageRoom::new(limit), query.get("cursor").is_some());
    let mut page = DocumentPage::new(call.app);
    while let Some(step) = room.next_step() {
        asked.limit = step;
        let query = asked.clone();
        let read = move |store: Arc<dyn Store>| {
            let query = query.clone();
            async move { store.page(&query).await }
        };
        let found = call.app.read(read).await.map_err(|error| cursor_error(error, given))?;
        let bytes = found.items.iter().map(|stored| stored.document.body.len()).sum();
        room.took(found.items.len(), bytes);
        page.share.grow(bytes)?;
        found.items.iter().for_each(|stored| page.push(stored));
        page.more = found.more;
        asked.after = found.next.or(asked.after);
        if !page.more {
            break;
        }
    }
    Ok(page.answer(asked.after))
}

/// Gives the documents whose ids begin with `prefix`.
async fn list_by_prefix(call: &Call<'_>, query: &Query<'_>, prefix: IdPrefix) -> Handled {
    let limit_max = call.app.intake.limits().page_documents_max;
    let limit = query.limit("limit", LIMIT_DEFAULT, limit_max)?;
    // A caller that is limited to streams is, whether it names one or not.
    let stream = query.get("stream").map(StreamName::new).transpose()?;
    let ids = call.app.store.ids(&prefix, limit + 1).await.map_err(|failure| {
        if failure.kind() == FailureKind::Refused {
            let expected = "more digits of the id: too many documents came at that time";
            return Error::from(Rejection::ParameterInvalid { name: "prefix", expected });
        }
        failure.into()
    })?;
    let mut page = DocumentPage { more: ids.len() > limit, ..DocumentPage::new(call.app) };
    let mut room = PageRoom::new(limit);
    for id in ids.into_iter().take(limit) {
        if room.next_step().is_none() {
            page.more = true;
            break;
        }
        let Some(stored) = read(call.app, id).await? else { continue };
        let of = &stored.document.stream;
        if call.caller().may_use(of) && stream.as_ref().is_none_or(|stream| stream == of) {
            room.took(1, stored.document.body.len());
            page.share.grow(stored.document.body.len())?;
            page.push(&stored);
        }
    }
    Ok(page.answer(None))
}

/// Refuses parameters that mean nothing beside `name`.
fn check_alone(
    query: &Query<'_>,
    name: &'static str,
    beside: &'static [&'static str],
) -> Result<(), Rejection> {
    match query.names().all(|other| other == name || beside.contains(&other)) {
        true => Ok(()),
        false => {
            Err(Rejection::ParameterInvalid { name, expected: "no cursor and no time beside it" })
        }
    }
}

/// A page of documents as it is written.
struct DocumentPage {
    text: Vec<u8>,
    is_empty: bool,
    more: bool,
    share: Share,
}

impl DocumentPage {
    fn new(app: &App) -> Self {
        let share = app.intake.budget().share();
        Self { text: b"{\"documents\":[".to_vec(), is_empty: true, more: false, share }
    }

    fn push(&mut self, stored: &StoredDocument) {
        if !std::mem::take(&mut self.is_empty) {
            self.text.push(b',');
        }
        write_document(&mut self.text, stored);
    }

    fn answer(mut self, next: Option<String>) -> Answer {
        self.text.extend_from_slice(b"],\"next\":");
        self.text.extend_from_slice(Value::from(next).to_string().as_bytes());
        let more: &[u8] = if self.more { b",\"more\":true}" } else { b",\"more\":false}" };
        self.text.extend_from_slice(more);
        let mut answer = answer::held(StatusCode::OK, JSON, self.text, self.share);
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }
}

/// Refuses a caller that is limited to streams a document that is of none of them, or not known.
fn check_streams(call: &Call<'_>, found: Option<&Found>) -> Result<(), Rejection> {
    let stream = match found {
        Some(Found::Stored { stream, .. }) => stream,
        Some(Found::Dead(letter)) => &letter.stream,
        Some(Found::Erased) | None => return Err(Rejection::NotFound),
    };
    if call.caller().may_use(stream) { Ok(()) } else { Err(Rejection::NotFound) }
}

/// The document with that id, from the cache or the store. What the cache has is given only where
/// the store has no mark of a later erasure, whoever erased: that is looked up each time, because
/// no instance is told of the erasures of another.
async fn read(app: &App, id: DocumentId) -> Result<Option<StoredDocument>, Failure> {
    if let Some(remembered) = remembered_of(app, id).await {
        let Document { generation, received, .. } = &remembered.document;
        let marks = app.store.marks(&[id]).await?;
        if !marks.get(&id).is_some_and(|mark| mark.erases(*generation, *received)) {
            return Ok(Some(remembered));
        }
        app.cache.remove(&id.to_string()).await;
    }
    let stored = app.read(move |store| async move { store.get(id).await }).await?;
    if let Some(stored) = &stored {
        app.cache.put(&id.to_string(), to_remember(stored)).await;
    }
    Ok(stored)
}

/// The document with that id, if the cache has it.
async fn remembered_of(app: &App, id: DocumentId) -> Option<StoredDocument> {
    remembered(&app.cache.get(&id.to_string()).await?)
}

/// A document as the cache has it: the moment it was stored (8 bytes, little endian), then its
/// envelope.
fn to_remember(stored: &StoredDocument) -> Bytes {
    let envelope = envelope::encode(&stored.document);
    let mut bytes = BytesMut::with_capacity(8 + envelope.len());
    bytes.put_i64_le(stored.stored.as_micros());
    bytes.put_slice(&envelope);
    bytes.freeze()
}

/// What the cache has, unless a newer version of us put it there.
fn remembered(bytes: &Bytes) -> Option<StoredDocument> {
    let stored = i64::from_le_bytes(*bytes.first_chunk()?);
    let document = envelope::decode(&bytes.slice(8..)).ok()?;
    Some(StoredDocument { document, stored: Timestamp::from_micros(stored) })
}

/// Writes a document with all that is known about it. The body is a string, so that its bytes
/// come back whatever reads them.
fn write_document(out: &mut Vec<u8>, stored: &StoredDocument) {
    let Document { id, stream, key, received, body, .. } = &stored.document;
    let members = json!({
        "id": id.to_string(),
        "stream": stream.as_str(),
        "key": key.as_ref().map(IdempotencyKey::as_str),
        "received": received.to_string(),
        "stored": stored.stored.to_string(),
        "bytes": body.len(),
        "md5": hex(&stored.document.md5()),
    });
    let mut text = members.to_string();
    text.truncate(text.len() - 1);
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b",\"body\":\"");
    escape::json(out, body);
    out.extend_from_slice(b"\"}");
}

fn moment(query: &Query<'_>, name: &'static str) -> Result<Option<Timestamp>, Rejection> {
    let expected = "a moment as in 2026-11-21T02:03:18Z";
    let invalid = Rejection::ParameterInvalid { name, expected };
    query.get(name).map(|text| Timestamp::from_rfc3339(text).ok_or(invalid)).transpose()
}

/// Whether the client has what goes by `tag` already (RFC 9110, 13.1.2).
fn matches_tag(headers: &HeaderMap, tag: &str) -> bool {
    headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value
            .split(',')
            .map(str::trim)
            .any(|given| given == "*" || given.strip_prefix("W/").unwrap_or(given) == tag)
    })
}

fn visible(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("names, moments and digits are visible ASCII")
}
