//! `GET /api/receipts/ID`: where a document is.

use http::StatusCode;
use inlet_core::dead_letter::DeadLetter;
use inlet_core::document::{StreamName, Timestamp};
use inlet_core::id::DocumentId;
use inlet_core::ports::Found;
use inlet_core::rejection::Rejection;
use serde_json::{Value, json};

use super::documents;
use crate::answer::{Handled, json as json_answer};
use crate::call::Call;

/// Tells the state of a receipt: `stored`, `dead`, or `queued` for an id that this deployment
/// made and that is nowhere yet. An id it never made, or of what was erased, is not found.
pub(crate) async fn get(call: &Call<'_>) -> Handled {
    call.query()?;
    let id: DocumentId = call.parameter.parse()?;
    let state = match documents::remembered_of(call.app, id).await {
        Some(found) => {
            let document = &found.document;
            stored(
                id,
                &document.stream,
                document.received,
                found.stored,
                document.body.len() as u64,
            )
        }
        None => match call.app.store.find(id).await? {
            Some(Found::Stored { stream, received, stored: at, bytes }) => {
                stored(id, &stream, received, at, bytes)
            }
            Some(Found::Dead(letter)) => dead(id, &letter),
            Some(Found::Erased) => return Err(Rejection::NotFound.into()),
            None if id.is_ours() => {
                json!({"id": id.to_string(), "state": "queued"})
            }
            None => return Err(Rejection::NotFound.into()),
        },
    };
    Ok(json_answer(StatusCode::OK, &state))
}

fn stored(
    id: DocumentId,
    stream: &StreamName,
    received: Timestamp,
    stored: Timestamp,
    bytes: u64,
) -> Value {
    json!({
        "id": id.to_string(),
        "state": "stored",
        "stream": stream.as_str(),
        "received": received.to_string(),
        "stored": stored.to_string(),
        "bytes": bytes,
        "document": format!("/api/documents/{id}"),
    })
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
    })
}
