//! The step that takes a document: authenticate, admit, examine, accept.
//!
//! [`Intake::authenticate`] and [`Intake::admit`] need only the head of a request, so that what
//! will not be taken is refused before its body is read. [`Admission::examine`] decodes and checks
//! the body; it takes time in proportion to its size and touches nothing else, so that it can run
//! on any thread. [`Intake::accept`] reserves the key and appends.
//!
//! Nothing before the append writes, and nothing after it refuses: each step takes what only the
//! step before it gives.

mod keyed;
mod keys;
mod media;
mod streams;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use self::keys::{Generations, RecentKeys, Reservation};
pub use self::media::KEYED;
use self::media::{Media, MediaForm};
use self::streams::Streams;
use crate::auth::{Caller, Scope, Tokens};
use crate::budget::{Budget, Share};
use crate::decode::{self, Encoding};
use crate::document::{BodyHash, Document, IdempotencyKey, StreamName, Timestamp, md5};
use crate::error::Error;
use crate::id::DocumentId;
use crate::json;
use crate::limits::Limits;
use crate::ports::{Clock, Erasure, Known, LookAhead, Queue};
use crate::rejection::Rejection;

/// The memory that one document of a batch takes beside its body, in bytes: its names, its result
/// and its receipt.
const ITEM_BYTES: usize = 512;

/// The head of a request to save, as its transport gives it.
#[derive(Debug, Clone, Copy, Default)]
pub struct SaveHead<'a> {
    /// The stream that is named, if one is.
    pub stream: Option<&'a str>,
    /// The `Idempotency-Key`.
    pub key: Option<&'a str>,
    /// The id that the edge before this instance minted for the document or the batch; without
    /// effect beside a key.
    pub minted: Option<DocumentId>,
    /// The `Content-Type`.
    pub content_type: Option<&'a str>,
    /// The `Content-Encoding`.
    pub content_encoding: Option<&'a str>,
    /// The `Content-Length`, in bytes.
    pub content_length: Option<u64>,
}

/// A request whose head is good, and whose body may follow.
#[derive(Debug, Clone)]
pub struct Admission {
    owner: Arc<str>,
    stream: StreamName,
    key: Option<IdempotencyKey>,
    minted: Option<DocumentId>,
    encoding: Encoding,
    media: Media,
    body_bytes_max: usize,
    document_bytes_max: usize,
    documents_max: usize,
    depth_max: usize,
}

/// One document that was found good. Nothing of it is kept yet.
#[derive(Debug)]
pub struct Examined {
    owner: Arc<str>,
    stream: StreamName,
    item: Item,
}

/// The documents of a batch, each found good or not. Nothing of them is kept yet.
#[derive(Debug)]
pub struct ExaminedBatch {
    owner: Arc<str>,
    stream: StreamName,
    items: Vec<Result<Item, Rejection>>,
}

#[derive(Debug)]
struct Item {
    body: Bytes,
    md5: [u8; 16],
    /// Its key, and the id that follows from it.
    keyed: Option<(IdempotencyKey, DocumentId)>,
    /// The id that was minted for it, where it has no key.
    minted: Option<DocumentId>,
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
    /// Whether its key was used before, with the same body, as far as could be seen: in the keys
    /// this instance saw lately, and in the store.
    pub replayed: bool,
}

impl Admission {
    /// How many bytes of body may be read, as they are sent.
    pub fn body_bytes_max(&self) -> usize {
        self.body_bytes_max
    }

    /// Whether a body of that size, as it is sent, is examined in about a millisecond at most. A
    /// larger one would hold up everything else on the thread.
    pub fn is_light(&self, body_bytes: usize) -> bool {
        match self.encoding {
            Encoding::Identity => body_bytes <= LIGHT_BYTES_MAX,
            // A few bytes may inflate to the limit.
            Encoding::Gzip | Encoding::Zstd => {
                self.body_bytes_max <= 1 << 20 && body_bytes <= LIGHT_BYTES_MAX / 16
            }
        }
    }

    /// Decodes and checks the body of one document. `share` has the body as it was sent, and takes
    /// what it needs beyond that.
    ///
    /// # Errors
    /// A rejection where the body is not acceptable, and a failure where the budget has no more.
    pub fn examine(self, body: Bytes, share: &mut Share) -> Result<Examined, Error> {
        let body = decode::decode(self.encoding, body, self.body_bytes_max, share)?;
        let item = self.item(body, self.key.clone(), DocumentId::derive, self.minted)?;
        Ok(Examined { owner: self.owner, stream: self.stream, item })
    }

    /// Decodes, divides and checks the body of a batch.
    ///
    /// With an idempotency key, the document at index `n` (from 0, bad ones counted) has the key
    /// `KEY#n`: the same batch sent again gives the same receipts. In a batch of the type [`KEYED`]
    /// each document has the key of its line, as if it had been sent alone with it.
    ///
    /// # Errors
    /// A rejection where the batch as a whole is not acceptable, and a failure where the budget
    /// has no more.
    pub fn examine_batch(self, body: Bytes, share: &mut Share) -> Result<ExaminedBatch, Error> {
        let body = decode::decode(self.encoding, body, self.body_bytes_max, share)?;
        let parts = match self.media.form {
            MediaForm::Lines | MediaForm::Keyed => json::lines(&body, self.documents_max),
            MediaForm::Json => {
                json::split_array(&body, self.documents_max).map_err(Rejection::JsonInvalid)?
            }
        };
        let Some(last) = parts.len().checked_sub(1) else {
            return Err(Rejection::BatchEmpty.into());
        };
        if parts.len() > self.documents_max {
            return Err(Rejection::BatchTooLong { limit: self.documents_max }.into());
        }
        // The last key is the longest: where it fits, all do.
        self.key.as_ref().map(|key| key.of_item(last)).transpose()?;
        share.grow(parts.len().saturating_mul(ITEM_BYTES))?;
        let is_keyed = self.media.form == MediaForm::Keyed;
        let item = |(index, part): (usize, Range<usize>)| {
            if is_keyed {
                let line = body.slice(part);
                let (key, document) = keyed::read(&line, self.depth_max)?;
                return self.item(line.slice(document), Some(key), DocumentId::derive, None);
            }
            let key = self.key.as_ref().map(|key| key.of_item(index)).transpose()?;
            let minted = self.minted.map(|batch| batch.of_item(index));
            self.item(body.slice(part), key, DocumentId::derive_item, minted)
        };
        let items = parts.into_iter().enumerate().map(item).collect();
        Ok(ExaminedBatch { owner: self.owner, stream: self.stream, items })
    }

    fn item(
        &self,
        body: Bytes,
        key: Option<IdempotencyKey>,
        id_of: fn(&StreamName, &IdempotencyKey) -> DocumentId,
        minted: Option<DocumentId>,
    ) -> Result<Item, Rejection> {
        if body.is_empty() {
            return Err(Rejection::BodyEmpty);
        }
        if body.len() > self.document_bytes_max {
            return Err(Rejection::BodyTooLarge { limit_bytes: self.document_bytes_max });
        }
        if self.media.ascii_only && !body.is_ascii() {
            return Err(Rejection::MediaTypeUnsupported);
        }
        json::check(&body, self.depth_max).map_err(Rejection::JsonInvalid)?;
        let keyed = key.map(|key| {
            let id = id_of(&self.stream, &key);
            (key, id)
        });
        Ok(Item { md5: md5(&body), body, keyed, minted })
    }
}

/// The largest body that is examined where it was read, in bytes: see [`Admission::is_light`].
const LIGHT_BYTES_MAX: usize = 64 << 10;

impl Examined {
    /// The size of the document's body, in bytes.
    pub fn body_bytes(&self) -> usize {
        self.item.body.len()
    }
}

impl Item {
    fn id(&self) -> Option<DocumentId> {
        self.keyed.as_ref().map(|(_, id)| *id)
    }
}

/// Takes documents: the rules, and where accepted documents go.
pub struct Intake {
    tokens: Tokens,
    limits: Limits,
    clock: Arc<dyn Clock>,
    queue: Arc<dyn Queue>,
    /// Without it, the persist step finds out what was there before.
    look_ahead: Option<Arc<dyn LookAhead>>,
    keys: RecentKeys,
    /// The number of erasures so far, as far as this instance knows.
    erasures: AtomicU64,
    streams: Streams,
    budget: Budget,
}

impl Intake {
    /// An intake by these rules into `queue`.
    pub fn new(
        tokens: Tokens,
        limits: Limits,
        clock: Arc<dyn Clock>,
        queue: Arc<dyn Queue>,
        look_ahead: Option<Arc<dyn LookAhead>>,
    ) -> Self {
        Self {
            tokens,
            streams: Streams::new(&limits),
            budget: Budget::new(limits.bodies_bytes_max),
            limits,
            clock,
            queue,
            look_ahead,
            keys: RecentKeys::default(),
            erasures: AtomicU64::new(0),
        }
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The memory that bodies in flight may take.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Notes the erasure of a document: its key can be used again, and its stream may be empty.
    pub fn note_erased(&self, id: DocumentId, erasure: &Erasure) {
        self.note_erasures(erasure.generation);
        self.keys.forget(&id);
        self.streams.note_erased();
    }

    /// Notes how many erasures the store has counted. Documents with a key carry that count where
    /// the store can't be asked about the key itself. Returns whether there were more than known.
    pub fn note_erasures(&self, erasures: u64) -> bool {
        self.erasures.fetch_max(erasures, Ordering::AcqRel) < erasures
    }

    /// Returns true if a document of that id was accepted here, in knowledge of the erasure with
    /// that number or a later one.
    pub fn has_accepted_since(&self, id: &DocumentId, erasure: u64) -> bool {
        self.keys.has_kept_since(id, erasure)
    }

    /// The tokens in force.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// The holder of the token, if it has the scope.
    ///
    /// # Errors
    /// As [`Tokens::authorize`].
    pub fn authenticate(&self, token: Option<&str>, scope: Scope) -> Result<Caller, Error> {
        self.tokens.authorize(token, scope, self.clock.now())
    }

    /// Checks the head of a request of `caller` for one document.
    ///
    /// # Errors
    /// A rejection where it is not acceptable, and a failure where the queue has no room.
    pub async fn admit(&self, caller: &Caller, head: &SaveHead<'_>) -> Result<Admission, Error> {
        let media = Media::of(head.content_type)?;
        if media.form != MediaForm::Json {
            return Err(Rejection::MediaTypeUnsupported.into());
        }
        self.admit_as(caller, head, media, self.limits.body_bytes_max).await
    }

    /// Checks the head of a request of `caller` for many documents.
    ///
    /// # Errors
    /// As [`admit`](Self::admit).
    pub async fn admit_batch(
        &self,
        caller: &Caller,
        head: &SaveHead<'_>,
    ) -> Result<Admission, Error> {
        let media = Media::of(head.content_type)?;
        if media.form == MediaForm::Keyed && head.key.is_some() {
            let expected = "none: each document of this type of batch brings its own";
            return Err(Rejection::ParameterInvalid { name: "Idempotency-Key", expected }.into());
        }
        self.admit_as(caller, head, media, self.limits.batch_bytes_max).await
    }

    async fn admit_as(
        &self,
        caller: &Caller,
        head: &SaveHead<'_>,
        media: Media,
        body_bytes_max: usize,
    ) -> Result<Admission, Error> {
        let encoding = Encoding::from_header(head.content_encoding)?;
        let stream = head.stream.map_or_else(|| Ok(caller.default_stream()), StreamName::new)?;
        caller.check_stream(&stream)?;
        let key = head.key.map(IdempotencyKey::new).transpose()?;
        if head.content_length.is_some_and(|length| length > body_bytes_max as u64) {
            return Err(Rejection::BodyTooLarge { limit_bytes: body_bytes_max }.into());
        }
        let owner = Arc::clone(&caller.name);
        self.check_stream(&stream, &owner).await?;
        self.queue.has_room()?;
        Ok(Admission {
            owner,
            stream,
            key,
            minted: head.minted,
            encoding,
            media,
            body_bytes_max,
            document_bytes_max: self.limits.body_bytes_max,
            documents_max: self.limits.batch_documents_max,
            depth_max: self.limits.depth_max,
        })
    }

    /// Refuses a stream that is one too many. Before a new one is let in or refused, the store is
    /// looked at for those that others began, and for places that are free again.
    async fn check_stream(&self, stream: &StreamName, owner: &Arc<str>) -> Result<(), Rejection> {
        if self.streams.should_look(stream, owner)
            && let Some(look_ahead) = &self.look_ahead
            && let Some(stored) = look_ahead.streams().await
        {
            self.streams.update(stored);
        }
        self.streams.check(stream, owner)
    }

    /// Takes one document. When this returns a receipt, the document is safe.
    ///
    /// # Errors
    /// A rejection where its key was used with another body, and a failure where the queue did not
    /// take it.
    pub async fn accept(&self, examined: Examined) -> Result<Receipt, Error> {
        let Examined { owner, stream, item } = examined;
        self.streams.claim(&stream, &owner)?;
        let now = self.clock.now();
        if item.keyed.is_none() {
            let (document, receipt) = item.document(&stream, now, Some(0));
            self.queue.send(std::slice::from_ref(&document)).await?;
            return Ok(receipt);
        }
        let Reserved { item, reservation, generation, replayed } =
            self.reserve(vec![Ok(item)]).await.remove(0)?;
        let (document, mut receipt) = item.document(&stream, now, generation);
        self.queue.send(std::slice::from_ref(&document)).await?;
        receipt.replayed = replayed | reservation.is_some_and(Reservation::keep);
        Ok(receipt)
    }

    /// Takes many documents: a result for each, in order. Those that are good are safe when this
    /// returns, whatever became of the others.
    ///
    /// # Errors
    /// A failure where the queue did not take those that are good.
    pub async fn accept_batch(
        &self,
        examined: ExaminedBatch,
    ) -> Result<Vec<Result<Receipt, Rejection>>, Error> {
        let ExaminedBatch { owner, stream, items } = examined;
        if items.iter().any(Result::is_ok) {
            self.streams.claim(&stream, &owner)?;
        }
        let now = self.clock.now();
        let mut documents = Vec::with_capacity(items.len());
        let mut reservations = Vec::with_capacity(items.len());
        let mut results: Vec<Result<Receipt, Rejection>> = Vec::with_capacity(items.len());
        for reserved in self.reserve(items).await {
            results.push(reserved.map(|reserved| {
                let Reserved { item, reservation, generation, replayed } = reserved;
                let (document, receipt) = item.document(&stream, now, generation);
                documents.push(document);
                reservations.push(reservation);
                Receipt { replayed, ..receipt }
            }));
        }
        if !documents.is_empty() {
            self.queue.send(&documents).await?;
        }
        for (receipt, reservation) in results.iter_mut().flatten().zip(reservations) {
            receipt.replayed |= reservation.is_some_and(Reservation::keep);
        }
        Ok(results)
    }

    /// Reserves the keys of the items that are good. One that was used before with another body is
    /// refused, as far as that can be seen from here: among the keys this instance saw lately, and
    /// in the store, which is asked once for all of them.
    async fn reserve(
        &self,
        items: Vec<Result<Item, Rejection>>,
    ) -> Vec<Result<Reserved<'_>, Rejection>> {
        let ids: Vec<DocumentId> =
            items.iter().filter_map(|item| item.as_ref().ok()?.id()).collect();
        let known = match &self.look_ahead {
            Some(look_ahead) if !ids.is_empty() => look_ahead.known(&ids).await,
            _ => None,
        };
        let reserved = items.into_iter().map(|item| {
            let item = item?;
            match item.id() {
                Some(id) => self.reserve_key(item, id, known.as_ref()),
                None => {
                    let generation = Some(0);
                    Ok(Reserved { item, reservation: None, generation, replayed: false })
                }
            }
        });
        reserved.collect()
    }

    /// Reserves one key, by what this instance and the store know of it. Where the store was not
    /// asked, the document is of the last generation that is known here.
    fn reserve_key(
        &self,
        item: Item,
        id: DocumentId,
        known: Option<&HashMap<DocumentId, Known>>,
    ) -> Result<Reserved<'_>, Rejection> {
        let state = known.and_then(|known| known.get(&id));
        let stored = state.map_or(Verdict::Nothing, |state| verdict(state, &item.body));
        if stored == Verdict::Other {
            return Err(Rejection::KeyConflict);
        }
        let (erased, generation) = match known {
            Some(_) => {
                let mark = state.and_then(|state| state.erased);
                let generation = mark.map_or(0, |mark| mark.generation_after());
                (generation, generation)
            }
            // An erasure that is not known of any key is no reason to forget this one.
            None => (0, self.erasures.load(Ordering::Acquire)),
        };
        let reservation = self.keys.reserve(id, item.md5, Generations { erased, generation })?;
        let replayed = stored == Verdict::Same;
        let generation = self.look_ahead.is_some().then_some(generation);
        Ok(Reserved { item, reservation: Some(reservation), generation, replayed })
    }
}

/// An item whose key is reserved, where it has one.
struct Reserved<'a> {
    item: Item,
    reservation: Option<Reservation<'a>>,
    /// The generation of the document.
    generation: Option<u64>,
    /// Whether the store has it.
    replayed: bool,
}

/// What the store says of a body under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The same body was accepted before.
    Same,
    /// Another body is stored.
    Other,
    /// There is nothing.
    Nothing,
}

fn verdict(known: &Known, body: &[u8]) -> Verdict {
    if known.stored.is_none() && known.letters.is_empty() {
        return Verdict::Nothing;
    }
    let hash = BodyHash::of(body);
    match known.stored {
        Some(stored) if stored == hash => Verdict::Same,
        Some(_) => Verdict::Other,
        None if known.attempts_of(&hash).is_some() => Verdict::Same,
        None => Verdict::Nothing,
    }
}

impl Item {
    fn document(
        self,
        stream: &StreamName,
        now: Timestamp,
        generation: Option<u64>,
    ) -> (Document, Receipt) {
        let Self { body, md5, keyed, minted } = self;
        let (key, id) = match keyed {
            Some((key, id)) => (Some(key), id),
            None => (None, minted.unwrap_or_else(|| DocumentId::mint(now))),
        };
        // A document that two instances accept under one id is the same in both, its moment too.
        let received = minted.filter(|_| key.is_none()).and_then(|id| id.accepted());
        let received = received.unwrap_or(now);
        let receipt = Receipt { id, md5, body: body.clone(), replayed: false };
        (Document { id, stream: stream.clone(), key, received, generation, body }, receipt)
    }
}
