//! The least store and bucket that the summary and the backup can be tested on.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use inlet_core::calendar::{Day, Week};
use inlet_core::dead_letter::{DeadLetter, DeadLetterFilter};
use inlet_core::document::{BodyHash, Document, StoredDocument, StreamName, Timestamp, hex};
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::id::{DocumentId, IdPrefix};
use inlet_core::persist::plan::{KnownIds, LetterWrite, Plan};
use inlet_core::ports::{
    Bucket, BucketKey, ByteRange, ByteStream, Cursor, EraseMark, Erasure, Finished, Found,
    KnownLetter, Object, ObjectMeta, Page, PageQuery, Part, PartNumber, Precondition, Store,
    StoreId, StreamFigures, Tallies, TallyRow, TallyWeek, UploadId, Written,
};
use sha2::{Digest, Sha256};

/// Documents in the order they were put, and tallies as a test sets them.
#[derive(Default)]
pub(crate) struct PlainStore {
    pub(crate) documents: Mutex<Vec<StoredDocument>>,
    pub(crate) dead: Mutex<Vec<DeadLetter>>,
    pub(crate) tallies: Mutex<Vec<TallyRow>>,
    /// How many calls read documents or dead letters.
    pub(crate) reads: Mutex<u64>,
    /// How many more batches are taken; `None` for any number.
    pub(crate) batches_left: Mutex<Option<u32>>,
    /// The largest page that was given, in bytes of bodies.
    pub(crate) page_bytes_max: Mutex<usize>,
}

impl PlainStore {
    /// All documents by id.
    pub(crate) fn by_id(&self) -> BTreeMap<DocumentId, Document> {
        let documents = self.documents.lock().unwrap();
        documents.iter().map(|stored| (stored.document.id, stored.document.clone())).collect()
    }
}

fn page_of<T: Clone>(all: &[T], after: Option<&str>, limit: usize) -> Page<T> {
    let from = after.map_or(0, |after| after.parse::<usize>().unwrap());
    let items: Vec<T> = all.iter().skip(from).take(limit).cloned().collect();
    let to = from + items.len();
    Page { items, next: (to > 0).then(|| to.to_string()), more: to < all.len() }
}

#[async_trait]
impl Store for PlainStore {
    async fn write(&self, plan: Arc<Plan>) -> Result<Written, Failure> {
        let ids: Vec<_> = plan.items().map(|item| item.id()).collect();
        let mut states = self.known(&ids).await?;
        states.retain(|id, known| plan.known(*id) != Some(known));
        if !states.is_empty() {
            return Ok(Written::Changed(states));
        }
        if let Some(left) = &mut *self.batches_left.lock().unwrap() {
            *left = left.checked_sub(1).ok_or_else(|| {
                Failure::new(FailureKind::Unavailable, "write a batch to", "the store")
            })?;
        }
        let stored = plan
            .inserts()
            .map(|document| StoredDocument { document: document.clone(), stored: plan.batch.now });
        self.documents.lock().unwrap().extend(stored);
        let mut dead = self.dead.lock().unwrap();
        for letter in &plan.letters {
            match letter {
                LetterWrite::New { letter, .. } => {
                    dead.push(DeadLetter { redriven: None, ..letter.clone() });
                }
                LetterWrite::Again { .. } => unreachable!("neither step lets a letter die again"),
                LetterWrite::Gone { id, body } => {
                    dead.retain(|dead| dead.id != *id || BodyHash::of(&dead.body) != *body);
                }
            }
        }
        Ok(Written::Done)
    }

    async fn get(&self, id: DocumentId) -> Result<Option<StoredDocument>, Failure> {
        *self.reads.lock().unwrap() += 1;
        let documents = self.documents.lock().unwrap();
        Ok(documents.iter().find(|stored| stored.document.id == id).cloned())
    }

    async fn find(&self, _: DocumentId) -> Result<Option<Found>, Failure> {
        unreachable!("neither step looks for an id")
    }

    async fn known(&self, ids: &[DocumentId]) -> Result<KnownIds, Failure> {
        let (documents, dead) = (self.documents.lock().unwrap(), self.dead.lock().unwrap());
        let mut known = KnownIds::new();
        for StoredDocument { document, .. } in
            documents.iter().filter(|stored| ids.contains(&stored.document.id))
        {
            known.entry(document.id).or_default().stored = Some(document.body_hash());
        }
        for letter in dead.iter().filter(|letter| ids.contains(&letter.id)) {
            let body = BodyHash::of(&letter.body);
            let letters = &mut known.entry(letter.id).or_default().letters;
            letters.push(KnownLetter { body, attempts: letter.attempts });
        }
        Ok(known)
    }

    async fn page(&self, query: &PageQuery) -> Result<Page<StoredDocument>, Failure> {
        *self.reads.lock().unwrap() += 1;
        let documents = self.documents.lock().unwrap();
        let until = query.until.as_ref().map_or(documents.len(), |until| until.parse().unwrap());
        let page = page_of(&documents[..until], query.after.as_deref(), query.limit);
        let bytes = page.items.iter().map(|stored| stored.document.body.len()).sum();
        let mut most = self.page_bytes_max.lock().unwrap();
        *most = most.max(bytes);
        Ok(page)
    }

    async fn cursor_of_last(
        &self,
        _: Option<&StreamName>,
        _: usize,
    ) -> Result<Option<String>, Failure> {
        Ok(Some(self.documents.lock().unwrap().len().to_string()).filter(|end| end != "0"))
    }

    async fn ids(&self, _: &IdPrefix, _: usize) -> Result<Vec<DocumentId>, Failure> {
        unreachable!("neither step looks for an id by its beginning")
    }

    async fn erase(&self, _: DocumentId, _: Timestamp) -> Result<Erasure, Failure> {
        unreachable!("neither step erases")
    }

    async fn erasures(&self) -> Result<u64, Failure> {
        unreachable!("neither step erases")
    }

    async fn marks(&self, _: &[DocumentId]) -> Result<HashMap<DocumentId, EraseMark>, Failure> {
        unreachable!("neither step erases")
    }

    async fn streams(&self) -> Result<Vec<StreamFigures>, Failure> {
        let mut streams: BTreeMap<StreamName, StreamFigures> = BTreeMap::new();
        for StoredDocument { document, .. } in self.documents.lock().unwrap().iter() {
            let stream = document.stream.clone();
            let figures = streams.entry(stream.clone()).or_insert(StreamFigures {
                stream,
                documents: 0,
                bytes: 0,
                first: None,
                last: None,
            });
            figures.documents += 1;
            figures.bytes += document.body.len() as u64;
            figures.first =
                figures.first.map_or(Some(document.received), |at| Some(at.min(document.received)));
            figures.last = figures.last.max(Some(document.received));
        }
        Ok(streams.into_values().collect())
    }

    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Page<DeadLetter>, Failure> {
        *self.reads.lock().unwrap() += 1;
        let dead = self.dead.lock().unwrap();
        let dead: Vec<_> = dead.iter().filter(|letter| filter.matches(letter)).cloned().collect();
        Ok(page_of(&dead, after, limit))
    }

    async fn mark_redriven(&self, ids: &[DocumentId], now: Timestamp) -> Result<(), Failure> {
        for letter in self.dead.lock().unwrap().iter_mut() {
            if ids.contains(&letter.id) {
                letter.redriven = Some(now);
            }
        }
        Ok(())
    }

    async fn cursors(&self) -> Result<Vec<Cursor>, Failure> {
        Ok(Vec::new())
    }

    async fn tallies(&self, first: Day, last: Day) -> Result<Tallies, Failure> {
        let tallies = self.tallies.lock().unwrap();
        let rows = tallies.iter().filter(|row| first <= row.day && row.day <= last).cloned();
        Ok(Tallies { rows: rows.collect(), ..Tallies::default() })
    }

    async fn tally_weeks(&self) -> Result<Vec<TallyWeek>, Failure> {
        Ok(Vec::new())
    }

    async fn mark_summarized(&self, _: Week, _: u64) -> Result<(), Failure> {
        Ok(())
    }

    async fn identity(&self) -> Result<StoreId, Failure> {
        Ok(StoreId::from_bytes([7; 16]))
    }

    async fn check(&self) -> Result<(), Failure> {
        Ok(())
    }
}

/// Objects by key. It gives them in small pieces of several sizes.
#[derive(Default)]
pub(crate) struct PlainBucket {
    pub(crate) objects: Mutex<BTreeMap<BucketKey, (String, Bytes)>>,
    /// The largest piece it was given.
    pub(crate) piece_bytes_max: Mutex<usize>,
    /// The keys it was given, in order.
    pub(crate) puts: Mutex<Vec<String>>,
    /// Set if it keeps a bit of each object another way than it was given.
    pub(crate) flips: bool,
    /// The prefix of the keys under which it takes nothing, as if it were away.
    pub(crate) refuses: Mutex<Option<&'static str>>,
}

struct Pieces(Bytes, usize);

#[async_trait]
impl ByteStream for Pieces {
    async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        if self.0.is_empty() {
            return None;
        }
        self.1 = self.1 * 7 % 4_099 + 1;
        Some(Ok(self.0.split_to(self.1.min(self.0.len()))))
    }
}

impl PlainBucket {
    /// The bytes under `key`.
    pub(crate) fn bytes(&self, key: &str) -> Bytes {
        self.objects.lock().unwrap()[&BucketKey::new(key).unwrap()].1.clone()
    }

    /// Sets the bytes under `key`.
    pub(crate) fn set(&self, key: &str, bytes: impl Into<Bytes>) {
        let key = BucketKey::new(key).unwrap();
        self.objects.lock().unwrap().insert(key, (String::new(), bytes.into()));
    }

    /// Takes `key` away.
    pub(crate) fn remove(&self, key: &str) {
        self.objects.lock().unwrap().remove(&BucketKey::new(key).unwrap());
    }

    fn meta(key: &BucketKey, (content_type, bytes): &(String, Bytes)) -> ObjectMeta {
        ObjectMeta {
            key: key.clone(),
            bytes: bytes.len() as u64,
            content_type: content_type.clone(),
            sha256: hex(&Sha256::digest(bytes)),
            modified: Timestamp::default(),
        }
    }
}

#[async_trait]
impl Bucket for PlainBucket {
    async fn put_if(
        &self,
        key: &BucketKey,
        content_type: &str,
        body: &mut dyn ByteStream,
        precondition: &Precondition,
    ) -> Result<Option<ObjectMeta>, Failure> {
        assert_eq!(*precondition, Precondition::None, "neither step makes a condition");
        if self.refuses.lock().unwrap().is_some_and(|prefix| key.as_str().starts_with(prefix)) {
            return Err(Failure::new(FailureKind::Unavailable, "put", key.as_str()));
        }
        let mut bytes = Vec::new();
        while let Some(piece) = body.next().await {
            let piece = piece?;
            assert!(!piece.is_empty(), "a piece is never empty");
            let mut most = self.piece_bytes_max.lock().unwrap();
            *most = most.max(piece.len());
            bytes.extend_from_slice(&piece);
        }
        if let Some(byte) = bytes.last_mut().filter(|_| self.flips) {
            *byte ^= 1;
        }
        let object = (content_type.to_owned(), Bytes::from(bytes));
        let meta = Self::meta(key, &object);
        self.puts.lock().unwrap().push(key.to_string());
        self.objects.lock().unwrap().insert(key.clone(), object);
        Ok(Some(meta))
    }

    async fn get(
        &self,
        key: &BucketKey,
        range: Option<ByteRange>,
    ) -> Result<Option<Object>, Failure> {
        assert_eq!(range, None, "neither step asks for a range");
        let objects = self.objects.lock().unwrap();
        Ok(objects.get(key).map(|object| Object {
            meta: Self::meta(key, object),
            body: Box::new(Pieces(object.1.clone(), 17)),
        }))
    }

    async fn head(&self, key: &BucketKey) -> Result<Option<ObjectMeta>, Failure> {
        Ok(self.objects.lock().unwrap().get(key).map(|object| Self::meta(key, object)))
    }

    async fn delete(&self, key: &BucketKey) -> Result<(), Failure> {
        self.objects.lock().unwrap().remove(key);
        Ok(())
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&BucketKey>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, Failure> {
        let objects = self.objects.lock().unwrap();
        let listed = objects
            .iter()
            .filter(|(key, _)| key.as_str().starts_with(prefix) && after.is_none_or(|at| *key > at))
            .take(limit);
        Ok(listed.map(|(key, object)| Self::meta(key, object)).collect())
    }

    async fn begin_upload(&self, _: &BucketKey, _: &str) -> Result<UploadId, Failure> {
        unreachable!("neither step puts in parts")
    }

    async fn put_part(
        &self,
        _: &BucketKey,
        _: &UploadId,
        _: PartNumber,
        _: &mut dyn ByteStream,
    ) -> Result<Option<Part>, Failure> {
        unreachable!("neither step puts in parts")
    }

    async fn parts(&self, _: &BucketKey, _: &UploadId) -> Result<Option<Vec<Part>>, Failure> {
        unreachable!("neither step puts in parts")
    }

    async fn finish_upload(
        &self,
        _: &BucketKey,
        _: &UploadId,
        _: &[PartNumber],
        _: &Precondition,
    ) -> Result<Finished, Failure> {
        unreachable!("neither step puts in parts")
    }

    async fn abandon_upload(&self, _: &BucketKey, _: &UploadId) -> Result<(), Failure> {
        unreachable!("neither step puts in parts")
    }
}
