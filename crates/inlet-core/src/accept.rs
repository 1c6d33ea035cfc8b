//! The step that takes a document: authenticate, admit, decode, validate, append.
//!
//! Nothing before the append writes, and nothing after it refuses. The first two steps need only
//! the head of a request, so that what will not be taken is refused before its body is read.

mod keys;

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use self::keys::{RecentKeys, Reservation};
use crate::auth::{Caller, Scope, Tokens};
use crate::decode::{self, Encoding};
use crate::document::{Document, IdempotencyKey, StreamName, md5};
use crate::error::Error;
use crate::failure::Failure;
use crate::id::DocumentId;
use crate::json;
use crate::limits::Limits;
use crate::ports::{Clock, Queue, Store};
use crate::rejection::Rejection;

/// The head of a request to save, as its transport gives it.
#[derive(Debug, Clone, Copy, Default)]
pub struct SaveHead<'a> {
    /// The stream that is named, if one is.
    pub stream: Option<&'a str>,
    /// The `Idempotency-Key`.
    pub key: Option<&'a str>,
    /// The `Content-Type`.
    pub content_type: Option<&'a str>,
    /// The `Content-Encoding`.
    pub content_encoding: Option<&'a str>,
    /// The `Content-Length`, in bytes.
    pub content_length: Option<u64>,
}

/// What was found good about a head, and how much body may follow.
#[derive(Debug, Clone)]
pub struct Admission {
    stream: StreamName,
    key: Option<IdempotencyKey>,
    encoding: Encoding,
    form: BatchForm,
    body_bytes_max: usize,
}

impl Admission {
    /// How many bytes of body may be read, as they are sent.
    pub fn body_bytes_max(&self) -> usize {
        self.body_bytes_max
    }
}

/// How the documents of a batch are set apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BatchForm {
    Lines,
    Array,
}

/// The answer to an accepted document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The document's id.
    pub id: DocumentId,
    /// The MD5 of its body.
    pub md5: [u8; 16],
    /// Its body.
    pub body: Bytes,
}

/// Takes documents: the rules, and where accepted documents go.
pub struct Intake {
    tokens: Tokens,
    limits: Limits,
    clock: Arc<dyn Clock>,
    queue: Arc<dyn Queue>,
    /// Asked whether an idempotency key was used before; without it, the persist step finds out.
    store: Option<Arc<dyn Store>>,
    keys: RecentKeys,
    streams: RwLock<HashSet<StreamName>>,
}

impl Intake {
    /// An intake by these rules into `queue`.
    pub fn new(
        tokens: Tokens,
        limits: Limits,
        clock: Arc<dyn Clock>,
        queue: Arc<dyn Queue>,
        store: Option<Arc<dyn Store>>,
    ) -> Self {
        Self {
            tokens,
            limits,
            clock,
            queue,
            store,
            keys: RecentKeys::default(),
            streams: RwLock::default(),
        }
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Counts these streams toward the limit; for the start, with those the store has.
    pub fn know_streams(&self, known: impl IntoIterator<Item = StreamName>) {
        self.streams.write().unwrap_or_else(PoisonError::into_inner).extend(known);
    }

    /// Forgets what was noted of an erased document's key, so that it can be used again.
    pub fn forget_key(&self, id: &DocumentId) {
        self.keys.forget(id);
    }

    /// The tokens in force.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// The holder of the token, if it has the scope.
    ///
    /// # Errors
    /// As [`Tokens::authorize`].
    pub fn authenticate(&self, token: Option<&str>, scope: Scope) -> Result<Caller, Rejection> {
        self.tokens.authorize(token, scope, self.clock.now())
    }

    /// Checks the head of a request of `caller` for one document.
    pub fn admit(&self, caller: &Caller, head: &SaveHead<'_>) -> Result<Admission, Error> {
        if !is_json(head.content_type) {
            return Err(Rejection::MediaTypeUnsupported.into());
        }
        self.admit_form(caller, head, BatchForm::Lines, self.limits.body_bytes_max)
    }

    /// Checks the head of a request of `caller` for many documents.
    pub fn admit_batch(&self, caller: &Caller, head: &SaveHead<'_>) -> Result<Admission, Error> {
        let form = match head.content_type {
            Some(given) if is_media_type(given, &["application/x-ndjson", "application/jsonl"]) => {
                BatchForm::Lines
            }
            given if is_json(given) => BatchForm::Array,
            _ => return Err(Rejection::MediaTypeUnsupported.into()),
        };
        self.admit_form(caller, head, form, self.limits.batch_bytes_max)
    }

    fn admit_form(
        &self,
        caller: &Caller,
        head: &SaveHead<'_>,
        form: BatchForm,
        body_bytes_max: usize,
    ) -> Result<Admission, Error> {
        let encoding = Encoding::from_header(head.content_encoding)?;
        let stream = head.stream.map_or_else(|| Ok(caller.default_stream()), StreamName::new)?;
        caller.check_stream(&stream)?;
        self.check_stream(&stream)?;
        let key = head.key.map(IdempotencyKey::new).transpose()?;
        if head.content_length.is_some_and(|length| length > body_bytes_max as u64) {
            return Err(Rejection::BodyTooLarge { limit_bytes: body_bytes_max }.into());
        }
        self.queue.has_room()?;
        Ok(Admission { stream, key, encoding, form, body_bytes_max })
    }

    fn check_stream(&self, stream: &StreamName) -> Result<(), Rejection> {
        let known = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        if known.contains(stream) || known.len() < self.limits.streams_max {
            return Ok(());
        }
        Err(Rejection::StreamLimit { limit: self.limits.streams_max })
    }

    /// Takes one document. When this returns a receipt, the document is safe.
    pub async fn accept(&self, admission: Admission, body: Bytes) -> Result<Receipt, Error> {
        let body = decode::decode(admission.encoding, body, admission.body_bytes_max)?;
        self.validate(&body)?;
        let (document, receipt) = self.document(admission.stream, admission.key, body);
        let reservation = self.reserve_key(&document, &receipt.md5).await?;
        self.append(std::slice::from_ref(&document)).await?;
        if let Some(reservation) = reservation {
            reservation.keep();
        }
        Ok(receipt)
    }

    /// Takes many documents: a result for each, in order. Those that are good are safe when this
    /// returns, whatever became of the others.
    ///
    /// With an idempotency key, the document at index `n` (from 0, bad ones counted) has the key
    /// `KEY#n`: the same batch sent again gives the same receipts.
    pub async fn accept_batch(
        &self,
        admission: Admission,
        body: Bytes,
    ) -> Result<Vec<Result<Receipt, Rejection>>, Error> {
        let body = decode::decode(admission.encoding, body, admission.body_bytes_max)?;
        let documents_max = self.limits.batch_documents_max;
        let parts = match admission.form {
            BatchForm::Lines => json::lines(&body, documents_max),
            BatchForm::Array => {
                json::split_array(&body, documents_max).map_err(Rejection::JsonInvalid)?
            }
        };
        if parts.is_empty() {
            return Err(Rejection::BatchEmpty.into());
        }
        if parts.len() > self.limits.batch_documents_max {
            let limit = self.limits.batch_documents_max;
            return Err(Rejection::BatchTooLong { limit }.into());
        }
        let mut results = Vec::with_capacity(parts.len());
        let mut documents = Vec::with_capacity(parts.len());
        let mut reservations = Vec::new();
        for (index, part) in parts.into_iter().enumerate() {
            let result = self.prepare_item(&admission, index, body.slice(part)).await;
            results.push(result.map(|(document, receipt, reservation)| {
                documents.push(document);
                reservations.extend(reservation);
                receipt
            }));
        }
        if !documents.is_empty() {
            self.append(&documents).await?;
        }
        reservations.into_iter().for_each(Reservation::keep);
        Ok(results)
    }

    async fn prepare_item(
        &self,
        admission: &Admission,
        index: usize,
        body: Bytes,
    ) -> Result<(Document, Receipt, Option<Reservation<'_>>), Rejection> {
        if body.len() > self.limits.body_bytes_max {
            return Err(Rejection::BodyTooLarge { limit_bytes: self.limits.body_bytes_max });
        }
        self.validate(&body)?;
        let key = match &admission.key {
            Some(key) => Some(IdempotencyKey::new(&format!("{}#{index}", key.as_str()))?),
            None => None,
        };
        let (document, receipt) = self.document(admission.stream.clone(), key, body);
        let reservation = self.reserve_key(&document, &receipt.md5).await?;
        Ok((document, receipt, reservation))
    }

    fn validate(&self, body: &Bytes) -> Result<(), Rejection> {
        if body.is_empty() {
            return Err(Rejection::BodyEmpty);
        }
        json::check(body, self.limits.depth_max).map_err(Rejection::JsonInvalid)
    }

    fn document(
        &self,
        stream: StreamName,
        key: Option<IdempotencyKey>,
        body: Bytes,
    ) -> (Document, Receipt) {
        let received = self.clock.now();
        let id = match &key {
            Some(key) => DocumentId::derive(&stream, key),
            None => DocumentId::mint(received),
        };
        let receipt = Receipt { id, md5: md5(&body), body: body.clone() };
        (Document { id, stream, key, received, body }, receipt)
    }

    /// Refuses a key that was used before with another body, as far as that can be seen from
    /// here: among the keys this instance saw lately, and in the store. A store that does not
    /// answer is no reason to close the door; the persist step looks again.
    async fn reserve_key(
        &self,
        document: &Document,
        md5: &[u8; 16],
    ) -> Result<Option<Reservation<'_>>, Rejection> {
        if document.key.is_none() {
            return Ok(None);
        }
        let reservation = self.keys.reserve(document.id, *md5)?;
        if reservation.is_first()
            && let Some(store) = &self.store
            && let Ok(Some(stored)) = store.get(document.id).await
            && stored.document.body != document.body
        {
            return Err(Rejection::KeyConflict);
        }
        Ok(Some(reservation))
    }

    async fn append(&self, documents: &[Document]) -> Result<(), Failure> {
        self.queue.send(documents).await?;
        for document in documents {
            self.know_stream(&document.stream);
        }
        Ok(())
    }

    fn know_stream(&self, stream: &StreamName) {
        if !self.streams.read().unwrap_or_else(PoisonError::into_inner).contains(stream) {
            self.know_streams([stream.clone()]);
        }
    }
}

fn is_json(content_type: Option<&str>) -> bool {
    content_type.is_some_and(|given| {
        given == "application/json" || is_media_type(given, &["application/json", "text/json"])
    })
}

/// Whether `given` is one of `wanted` or, where JSON is wanted, a type with the suffix `+json`;
/// and, where it names a character set, UTF-8.
fn is_media_type(given: &str, wanted: &[&str]) -> bool {
    let mut parts = given.split(';');
    let essence = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let fits = wanted.contains(&essence.as_str())
        || (wanted.contains(&"application/json")
            && essence.starts_with("application/")
            && essence.ends_with("+json"));
    let charset = parts.filter_map(|part| part.split_once('=')).find_map(|(name, value)| {
        name.trim().eq_ignore_ascii_case("charset").then_some(value.trim().trim_matches('"'))
    });
    fits && charset.is_none_or(|charset| charset.eq_ignore_ascii_case("utf-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_types_are_known_by_essence_suffix_and_character_set() {
        for good in
            ["application/json", "Application/JSON; charset=UTF-8", "application/cloudevents+json"]
        {
            assert!(is_json(Some(good)), "{good}");
        }
        for bad in [None, Some("text/plain"), Some("application/json; charset=utf-16"), Some("")] {
            assert!(!is_json(bad), "{bad:?}");
        }
    }
}
