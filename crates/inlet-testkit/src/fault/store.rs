//! A store that fails when told to.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use inlet_core::calendar::{Day, Week};
use inlet_core::dead_letter::{DeadLetter, DeadLetterFilter};
use inlet_core::document::{StoredDocument, StreamName, Timestamp};
use inlet_core::failure::Failure;
use inlet_core::id::{DocumentId, IdPrefix};
use inlet_core::persist::plan::{KnownIds, Plan};
use inlet_core::ports::{
    Cursor, EraseMark, Erasure, Found, Page, PageQuery, Store, StoreId, StreamFigures, Tallies,
    TallyWeek, Written,
};

use super::plan::{Faults, with_fault};

/// A [`Store`] whose calls fail as its [`Faults`] say.
#[derive(Debug, Clone)]
pub struct FailingStore<S> {
    inner: S,
    faults: Faults,
}

impl<S> FailingStore<S> {
    /// `inner`, with faults as planned.
    pub fn new(inner: S, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

#[async_trait]
impl<S: Store> Store for FailingStore<S> {
    async fn write(&self, plan: Arc<Plan>) -> Result<Written, Failure> {
        with_fault!(self.faults, "write a batch to", self.inner.write(plan).await)
    }

    async fn get(&self, id: DocumentId) -> Result<Option<StoredDocument>, Failure> {
        with_fault!(self.faults, "read a document from", self.inner.get(id).await)
    }

    async fn find(&self, id: DocumentId) -> Result<Option<Found>, Failure> {
        with_fault!(self.faults, "find an id in", self.inner.find(id).await)
    }

    async fn known(&self, ids: &[DocumentId]) -> Result<KnownIds, Failure> {
        with_fault!(self.faults, "look up ids in", self.inner.known(ids).await)
    }

    async fn page(&self, query: &PageQuery) -> Result<Page<StoredDocument>, Failure> {
        with_fault!(self.faults, "read a page from", self.inner.page(query).await)
    }

    async fn cursor_of_last(
        &self,
        stream: Option<&StreamName>,
        count: usize,
    ) -> Result<Option<String>, Failure> {
        let inner = self.inner.cursor_of_last(stream, count);
        with_fault!(self.faults, "find the last documents of", inner.await)
    }

    async fn ids(&self, prefix: &IdPrefix, limit: usize) -> Result<Vec<DocumentId>, Failure> {
        with_fault!(self.faults, "find ids in", self.inner.ids(prefix, limit).await)
    }

    async fn erase(&self, id: DocumentId, now: Timestamp) -> Result<Erasure, Failure> {
        with_fault!(self.faults, "erase from", self.inner.erase(id, now).await)
    }

    async fn erasures(&self) -> Result<u64, Failure> {
        with_fault!(self.faults, "count the erasures of", self.inner.erasures().await)
    }

    async fn marks(&self, ids: &[DocumentId]) -> Result<HashMap<DocumentId, EraseMark>, Failure> {
        with_fault!(self.faults, "look up marks in", self.inner.marks(ids).await)
    }

    async fn streams(&self) -> Result<Vec<StreamFigures>, Failure> {
        with_fault!(self.faults, "list the streams of", self.inner.streams().await)
    }

    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Page<DeadLetter>, Failure> {
        with_fault!(
            self.faults,
            "list the dead letters of",
            self.inner.dead_letters(filter, limit, after).await
        )
    }

    async fn mark_redriven(&self, ids: &[DocumentId], now: Timestamp) -> Result<(), Failure> {
        with_fault!(self.faults, "note a redrive in", self.inner.mark_redriven(ids, now).await)
    }

    async fn cursors(&self) -> Result<Vec<Cursor>, Failure> {
        with_fault!(self.faults, "read the cursors of", self.inner.cursors().await)
    }

    async fn tallies(&self, first: Day, last: Day) -> Result<Tallies, Failure> {
        with_fault!(self.faults, "read the tallies of", self.inner.tallies(first, last).await)
    }

    async fn tally_weeks(&self) -> Result<Vec<TallyWeek>, Failure> {
        with_fault!(self.faults, "read the tallied weeks of", self.inner.tally_weeks().await)
    }

    async fn mark_summarized(&self, week: Week, revision: u64) -> Result<(), Failure> {
        with_fault!(
            self.faults,
            "note a summary in",
            self.inner.mark_summarized(week, revision).await
        )
    }

    async fn identity(&self) -> Result<StoreId, Failure> {
        with_fault!(self.faults, "read the identity of", self.inner.identity().await)
    }

    async fn check(&self) -> Result<(), Failure> {
        with_fault!(self.faults, "check", self.inner.check().await)
    }
}
