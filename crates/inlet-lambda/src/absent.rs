//! What a part has no right to use: every call fails and says so, and nothing is remembered.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use inlet_core::calendar::{Day, Week};
use inlet_core::dead_letter::{DeadLetter, DeadLetterFilter};
use inlet_core::document::{Document, StoredDocument, StreamName, Timestamp};
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::id::{DocumentId, IdPrefix};
use inlet_core::persist::plan::{KnownIds, Plan};
use inlet_core::ports::{
    BatchLimit, Bucket, BucketKey, ByteRange, ByteStream, Cache, Cursor, Delivery, Depth,
    EraseMark, Erasure, Finished, Found, Object, ObjectMeta, Outcome, Page, PageQuery, Part,
    PartNumber, Precondition, Queue, Store, StoreId, StreamFigures, Tallies, TallyWeek, UploadId,
    Written,
};

/// No engine at all.
#[derive(Debug)]
pub(crate) struct Absent;

fn absent<T>(what: &'static str) -> Result<T, Failure> {
    Err(Failure::new(FailureKind::Refused, "use", what)
        .hint("this function has no right to; another one has: see its handler"))
}

#[async_trait]
impl Store for Absent {
    async fn write(&self, _: Arc<Plan>) -> Result<Written, Failure> {
        absent("the store")
    }

    async fn get(&self, _: DocumentId) -> Result<Option<StoredDocument>, Failure> {
        absent("the store")
    }

    async fn find(&self, _: DocumentId) -> Result<Option<Found>, Failure> {
        absent("the store")
    }

    async fn known(&self, _: &[DocumentId]) -> Result<KnownIds, Failure> {
        absent("the store")
    }

    async fn page(&self, _: &PageQuery) -> Result<Page<StoredDocument>, Failure> {
        absent("the store")
    }

    async fn cursor_of_last(
        &self,
        _: Option<&StreamName>,
        _: usize,
    ) -> Result<Option<String>, Failure> {
        absent("the store")
    }

    async fn ids(&self, _: &IdPrefix, _: usize) -> Result<Vec<DocumentId>, Failure> {
        absent("the store")
    }

    async fn erase(&self, _: DocumentId, _: Timestamp) -> Result<Erasure, Failure> {
        absent("the store")
    }

    async fn erasures(&self) -> Result<u64, Failure> {
        absent("the store")
    }

    async fn marks(&self, _: &[DocumentId]) -> Result<HashMap<DocumentId, EraseMark>, Failure> {
        absent("the store")
    }

    async fn streams(&self) -> Result<Vec<StreamFigures>, Failure> {
        absent("the store")
    }

    async fn dead_letters(
        &self,
        _: &DeadLetterFilter,
        _: usize,
        _: Option<&str>,
    ) -> Result<Page<DeadLetter>, Failure> {
        absent("the store")
    }

    async fn mark_redriven(&self, _: &[DocumentId], _: Timestamp) -> Result<(), Failure> {
        absent("the store")
    }

    async fn cursors(&self) -> Result<Vec<Cursor>, Failure> {
        absent("the store")
    }

    async fn tallies(&self, _: Day, _: Day) -> Result<Tallies, Failure> {
        absent("the store")
    }

    async fn tally_weeks(&self) -> Result<Vec<TallyWeek>, Failure> {
        absent("the store")
    }

    async fn mark_summarized(&self, _: Week, _: u64) -> Result<(), Failure> {
        absent("the store")
    }

    async fn identity(&self) -> Result<StoreId, Failure> {
        absent("the store")
    }

    async fn check(&self) -> Result<(), Failure> {
        // What is not used can't be away.
        Ok(())
    }
}

#[async_trait]
impl Queue for Absent {
    fn has_room(&self) -> Result<(), Failure> {
        // Whether this function is ready does not hang on it; to send is refused.
        Ok(())
    }

    async fn send(&self, _: &[Document]) -> Result<(), Failure> {
        absent("the queue")
    }

    async fn receive(&self, _: BatchLimit) -> Result<Delivery, Failure> {
        absent("the queue")
    }

    async fn settle(&self, _: &Delivery, _: &[Outcome]) -> Result<(), Failure> {
        absent("the queue")
    }

    async fn depth(&self) -> Result<Depth, Failure> {
        Ok(Depth::default())
    }
}

#[async_trait]
impl Bucket for Absent {
    async fn put_if(
        &self,
        _: &BucketKey,
        _: &str,
        _: &mut dyn ByteStream,
        _: &Precondition,
    ) -> Result<Option<ObjectMeta>, Failure> {
        absent("the bucket")
    }

    async fn get(&self, _: &BucketKey, _: Option<ByteRange>) -> Result<Option<Object>, Failure> {
        absent("the bucket")
    }

    async fn head(&self, _: &BucketKey) -> Result<Option<ObjectMeta>, Failure> {
        absent("the bucket")
    }

    async fn delete(&self, _: &BucketKey) -> Result<(), Failure> {
        absent("the bucket")
    }

    async fn list(
        &self,
        _: &str,
        _: Option<&BucketKey>,
        _: usize,
    ) -> Result<Vec<ObjectMeta>, Failure> {
        absent("the bucket")
    }

    async fn begin_upload(&self, _: &BucketKey, _: &str) -> Result<UploadId, Failure> {
        absent("the bucket")
    }

    async fn put_part(
        &self,
        _: &BucketKey,
        _: &UploadId,
        _: PartNumber,
        _: &mut dyn ByteStream,
    ) -> Result<Option<Part>, Failure> {
        absent("the bucket")
    }

    async fn parts(&self, _: &BucketKey, _: &UploadId) -> Result<Option<Vec<Part>>, Failure> {
        absent("the bucket")
    }

    async fn finish_upload(
        &self,
        _: &BucketKey,
        _: &UploadId,
        _: &[PartNumber],
        _: &Precondition,
    ) -> Result<Finished, Failure> {
        absent("the bucket")
    }

    async fn abandon_upload(&self, _: &BucketKey, _: &UploadId) -> Result<(), Failure> {
        absent("the bucket")
    }
}

#[async_trait]
impl Cache for Absent {
    async fn get(&self, _: &str) -> Option<Bytes> {
        None
    }

    async fn put(&self, _: &str, _: Bytes) {}

    async fn remove(&self, _: &str) {}
}
