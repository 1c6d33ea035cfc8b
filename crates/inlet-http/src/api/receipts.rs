//! `GET /api/receipts/ID`: where a document is.

use bytes::{BufMut, Bytes, BytesMut};
use http::StatusCode;
use inlet_core::dead_letter::DeadLetter;
use inlet_core::document::{StreamName, Timestamp};
use inlet_core::id::DocumentId;
use inlet_core::ports::Found;
use inlet_core::rejection::Rejection;
use serde_json::{Value, json};

use crate::answer::{Handled, json as json_answer};
use crate::call::Call;

/// What is told of a document that is stored, and never changes until it is erased.
#[derive(Debug, PartialEq, Eq)]
struct Stored {
    stream: StreamName,
    received: Timestamp,
    stored: Timestamp,
    bytes: u64,
}

/// Tells the state of a receipt: `stored`, `dead`, or `queued` for an id that this deployment
/// made and that is nowhere yet. An id it never made, or of what was erased, is not found.
pub(crate) async fn get(call: &Call<'_>) -> Handled {
    call.query()?;
    let id: DocumentId = call.parameter.parse()?;
    let cache = &call.app.cache;
    // Of a document that was read, nothing but its receipt is fetched from the cache.
    let remembered = cache.get(&cache_key(id)).await;
    let state = match remembered.and_then(|bytes| Stored::remembered(&bytes)) {
        Some(receipt) => receipt.told(call, id)?,
        None => match call.app.read(move |store| async move { store.find(id).await }).await? {
            Some(Found::Stored { stream, received, stored, bytes }) => {
                let receipt = Stored { stream, received, stored, bytes };
                cache.put(&cache_key(id), receipt.to_remember()).await;
                receipt.told(call, id)?
            }
            Some(Found::Dead(letter)) if call.caller().may_use(&letter.stream) => dead(id, &letter),
            Some(Found::Dead(_)) => return Err(Rejection::NotFound.into()),
            Some(Found::Erased) => return Err(Rejection::NotFound.into()),
            None if id.is_ours() => {
                json!({"id": id.to_string(), "state": "queued"})
            }
            None => return Err(Rejection::NotFound.into()),
        },
    };
    Ok(json_answer(StatusCode::OK, &state))
}

/// Under what the cache has the receipt of that document, once it is stored.
pub(super) fn cache_key(id: DocumentId) -> String {
    format!("receipt:{id}")
}

impl Stored {
    /// As JSON, to a caller that may use its stream; to others there is no such receipt.
    fn told(&self, call: &Call<'_>, id: DocumentId) -> Result<Value, Rejection> {
        if call.caller().may_use(&self.stream) {
            Ok(self.json(id))
        } else {
            Err(Rejection::NotFound)
        }
    }

    fn json(&self, id: DocumentId) -> Value {
        json!({
            "id": id.to_string(),
            "state": "stored",
            "stream": self.stream.as_str(),
            "received": self.received.to_string(),
            "stored": self.stored.to_string(),
            "bytes": self.bytes,
            "document": format!("/api/documents/{id}"),
        })
    }

    /// As the cache has it: when it was received and stored, and its size (8 bytes each, little
    /// endian), then the stream's name.
    fn to_remember(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(24 + self.stream.as_str().len());
        bytes.put_i64_le(self.received.as_micros());
        bytes.put_i64_le(self.stored.as_micros());
        bytes.put_u64_le(self.bytes);
        bytes.put_slice(self.stream.as_str().as_bytes());
        bytes.freeze()
    }

    /// What the cache has, unless a newer version of us put it there.
    fn remembered(bytes: &[u8]) -> Option<Self> {
        let (received, rest) = bytes.split_first_chunk()?;
        let (stored, rest) = rest.split_first_chunk()?;
        let (size, stream) = rest.split_first_chunk()?;
        Some(Self {
            stream: StreamName::new(std::str::from_utf8(stream).ok()?).ok()?,
            received: Timestamp::from_micros(i64::from_le_bytes(*received)),
            stored: Timestamp::from_micros(i64::from_le_bytes(*stored)),
            bytes: u64::from_le_bytes(*size),
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_remembered_whole_or_not_at_all() {
        let receipt = Stored {
            stream: StreamName::new("orders").unwrap(),
            received: Timestamp::from_micros(1),
            stored: Timestamp::from_micros(i64::MAX),
            bytes: 7,
        };
        let bytes = receipt.to_remember();
        assert_eq!(Stored::remembered(&bytes), Some(receipt));
        for short in 0..=24 {
            assert_eq!(Stored::remembered(&bytes[..short]), None);
        }
    }
}
