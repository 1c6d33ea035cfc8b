//! `GET /api/receipts/ID`: where a document is.
//!
//! The store is asked each time: it may have been erased by another instance, and another body may
//! have been sent under its key since.

use http::StatusCode;
use inlet_core::dead_letter::DeadLetter;
use inlet_core::document::{hex, md5};
use inlet_core::id::DocumentId;
use inlet_core::ports::{Damaged, Found};
use inlet_core::rejection::Rejection;
use serde_json::{Value, json};

use crate::answer::{Handled, json as json_answer};
use crate::call::Call;

/// Tells the state of a receipt: `stored`, `dead`, `damaged` where the queue lost the document, or
/// `queued` for an id that this deployment made and that is nowhere yet. An id it never made, or of what was erased, is not found.
pub(crate) async fn get(call: &Call<'_>) -> Handled {
    call.query()?;
    let id: DocumentId = call.parameter.parse()?;
    let found = call.app.read(move |store| async move { store.find(id).await }).await?;
    let state = match found {
        // Of another stream than its own a token learns nothing.
        Some(Found::Stored { stream, .. }) if !call.caller().may_use(&stream) => None,
        Some(Found::Dead(letter)) if !call.caller().may_use(&letter.stream) => None,
        Some(Found::Stored { stream, received, stored, bytes, md5, letters }) => Some(json!({
            "id": id.to_string(),
            "state": "stored",
            "stream": stream.as_str(),
            "received": received.to_string(),
            "stored": stored.to_string(),
            "bytes": bytes,
            "md5": hex(&md5),
            "document": format!("/api/documents/{id}"),
            "conflicts": letters,
            "dead_letters": (letters > 0).then(|| dead_letters(id)),
        })),
        Some(Found::Dead(letter)) => Some(dead(id, &letter)),
        None if id.is_ours() => Some(match call.app.queue.damaged(id).await? {
            Some(found) => damaged(id, &found),
            None => json!({"id": id.to_string(), "state": "queued"}),
        }),
        Some(Found::Erased) | None => None,
    };
    Ok(json_answer(StatusCode::OK, &state.ok_or(Rejection::NotFound)?))
}

fn dead(id: DocumentId, letter: &DeadLetter) -> Value {
    json!({
        "id": id.to_string(),
        "state": "dead",
        "stream": letter.stream.as_str(),
        "received": letter.received.to_string(),
        "died": letter.died.to_string(),
        "attempts": letter.attempts,
        "cause": letter.cause.code(),
        "class": letter.cause.class(),
        "detail": letter.cause.detail(),
        "redriven": letter.redriven.map(|moment| moment.to_string()),
        "bytes": letter.body.len(),
        "md5": hex(&md5(&letter.body)),
        "dead_letters": dead_letters(id),
    })
}

/// The address of the dead letters of an id.
fn dead_letters(id: DocumentId) -> String {
    format!("/api/dead-letters?where=id%3D{id}")
}

fn damaged(id: DocumentId, damaged: &Damaged) -> Value {
    json!({
        "id": id.to_string(),
        "state": "damaged",
        "found": damaged.found.to_string(),
        "certain": damaged.certain,
    })
}
