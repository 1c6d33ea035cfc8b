//! `/api/dead-letters`: what could not be stored, and sending it back to the queue.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderValue};
use inlet_core::dead_letter::{DeadLetter, DeadLetterFilter};
use inlet_core::document::IdempotencyKey;
use inlet_core::json;
use inlet_core::ports::Store;
use inlet_core::redrive;
use inlet_core::rejection::Rejection;
use inlet_server::Body;
use serde::Deserialize;
use serde_json::{Value, json};

use super::page::{PageRoom, cursor_error};
use crate::answer::{Handled, JSON, held, json as json_answer};
use crate::call::Call;

/// How many dead letters a page has where the client does not say.
const LIMIT_DEFAULT: usize = 100;
/// How deep the settings of a redrive may be nested.
const DEPTH_MAX: usize = 8;

/// Gives a page of dead letters, oldest first, with their causes.
pub(crate) async fn list(call: &Call<'_>) -> Handled {
    let query = call.query()?;
    let filter = filter(call, query.get("where").unwrap_or_default())?;
    let limit_max = call.app.intake.limits().page_documents_max;
    let mut room = PageRoom::new(query.limit("limit", LIMIT_DEFAULT, limit_max)?);
    let mut after = query.cursor()?;
    let given = after.is_some();
    let (mut letters, mut more) = (Vec::new(), false);
    let mut share = call.app.intake.budget().share();
    while let Some(step) = room.next_step() {
        let asked = (filter.clone(), after.clone());
        let read = move |store: Arc<dyn Store>| {
            let (filter, after) = asked.clone();
            async move { store.dead_letters(&filter, step, after.as_deref()).await }
        };
        let page = call.app.read(read).await.map_err(|error| cursor_error(error, given))?;
        let bytes = page.items.iter().map(|letter| letter.body.len()).sum();
        room.took(page.items.len(), bytes);
        share.grow(bytes)?;
        letters.extend(page.items.iter().map(dead_letter));
        more = page.more;
        after = page.next.or(after);
        if !more {
            break;
        }
    }
    let page = json!({"dead_letters": letters, "next": after, "more": more});
    let mut answer = held(StatusCode::OK, JSON, page.to_string(), share);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(answer)
}

/// What a redrive is asked to do.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(rename = "where")]
    filter: String,
    #[serde(default)]
    dry_run: bool,
}

/// Sends the dead letters that meet a filter back to the queue, or only counts them.
pub(crate) async fn redrive(call: &Call<'_>, body: Body) -> Handled {
    call.query()?;
    let body = call.body(body).await?;
    if body.is_empty() {
        return Err(Rejection::BodyEmpty.into());
    }
    json::check(&body, DEPTH_MAX).map_err(Rejection::JsonInvalid)?;
    let wanted: Wanted = serde_json::from_slice(&body).map_err(|_| {
        let expected = "an object with `where` (text; empty for all) and `dry_run` (true or false)";
        Rejection::ParameterInvalid { name: "body", expected }
    })?;
    let filter = filter(call, &wanted.filter)?;
    let (store, queue, clock) = (&*call.app.store, &*call.app.queue, &*call.app.clock);
    let report = redrive::redrive(store, queue, clock, &filter, wanted.dry_run).await?;
    let answer = json!({
        "matched": report.matched,
        "redriven": report.redriven,
        "skipped": report.skipped,
        "dry_run": wanted.dry_run,
    });
    Ok(json_answer(StatusCode::OK, &answer))
}

/// The filter, kept to the streams that the caller may use.
fn filter(call: &Call<'_>, text: &str) -> Result<DeadLetterFilter, Rejection> {
    let mut filter: DeadLetterFilter = text.parse()?;
    filter.stream = call.narrowed(filter.stream.take())?;
    Ok(filter)
}

/// A dead letter. Its body is text where it is text, which a document always is; else it is in
/// `body_base64`.
fn dead_letter(letter: &DeadLetter) -> Value {
    let text = std::str::from_utf8(&letter.body).ok();
    json!({
        "id": letter.id.to_string(),
        "stream": letter.stream.as_str(),
        "key": letter.key.as_ref().map(IdempotencyKey::as_str),
        "received": letter.received.to_string(),
        "died": letter.died.to_string(),
        "redriven": letter.redriven.map(|moment| moment.to_string()),
        "attempts": letter.attempts,
        "cause": letter.cause.code(),
        "class": letter.cause.class(),
        "detail": letter.cause.detail(),
        "bytes": letter.body.len(),
        "body": text,
        "body_base64": text.is_none().then(|| STANDARD.encode(&letter.body)),
    })
}
