//! A store that is opened now or later.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use inlet_core::calendar::{Day, Week};
use inlet_core::dead_letter::{DeadLetter, DeadLetterFilter};
use inlet_core::document::{StoredDocument, StreamName, Timestamp};
use inlet_core::failure::Failure;
use inlet_core::health::{Part, State};
use inlet_core::id::{DocumentId, IdPrefix};
use inlet_core::persist::plan::{KnownIds, Plan};
use inlet_core::ports::{
    Cursor, EraseMark, Erasure, Found, Page, PageQuery, Store, StoreId, StreamFigures, Tallies,
    TallyWeek, Written,
};

use super::reports::Direction::{Read, Write};
use super::reports::Reports;
use super::{Deferred, Opening};

impl Deferred<dyn Store> {
    /// A store that `open` opens and that reports to `part`. Nothing is opened yet.
    pub fn store(
        part: Part,
        open: impl Fn() -> Opening<dyn Store> + Send + Sync + 'static,
    ) -> Self {
        let reports = Reports::new(part, State::Degraded).keeping_damage();
        Self::new(reports, Some(|store| Box::pin(async move { store.check().await })), true, open)
    }
}

#[async_trait]
impl Store for Deferred<dyn Store> {
    async fn write(&self, plan: Arc<Plan>) -> Result<Written, Failure> {
        let store = self.opened()?;
        self.seen(Write, &store, store.write(plan).await)
    }

    async fn get(&self, id: DocumentId) -> Result<Option<StoredDocument>, Failure> {
        let store = self.opened()?;
        self.seen(Read, &store, store.get(id).await)
    }

    async fn find(&self, id: DocumentId) -> Result<Option<Found>, Failure> {
        let store = self.opened()?;
        self.seen(Read, &store, store.find(id).await)
    }

    async fn known(&self, ids: &[DocumentId]) -> Result<KnownIds, Failure> {
        let store = self.opened()?;
        self.seen(Read, &store, store.known(ids).await)
    }

    async fn page(&self, query: &PageQuery) -> Result<Page<StoredDocument>, Failure> {
        let store = self.opened()?;
        self.seen(Read, &store, store.page(query).await)
    }

    async fn cursor_of_last(
        &self,
        stream: Option<&StreamName>,
        count: usize,
    ) -> Result<Option<String>, Failure> {
        let store = self.opened()?;
        self.seen(Read, &store, store.cursor_of_last(stream, count).await)
    }

    async fn ids(&self, prefix: &IdPrefix, limit: usize) -> Result<Vec<DocumentId>, Failure> {
        let store = self.opened()?;
        self.seen(Read, &store, store.ids(prefix, limit).await)
    }

    async fn erase(&self, id: DocumentId, now: Timestamp) -> Result<Erasure, Failure> {
        let store = self.opened()?;
        self.seen(Write, &store, store.erase(id, now).await)
    }

    async fn erasures(&self) -> Result<u64, Failure> {
        let store = self.opened()?;
        self.seen(Read, &store, store.erasures().await)
    }

    async fn marks(&self, ids: &[DocumentId]) -> Result<HashMap<DocumentId, EraseMark>, Failure> {
        let store = self.opened()?;
        self.seen(Read, &store, store.marks(ids).await)
    }

    async fn streams(&self) -> Result<Vec<StreamFigures>, Failure> {
        let store = self.opened()?;
        self.seen(Read, &store, store.streams().await)
    }

    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Page<DeadLetter>, Failure> {
        let store = self.opened()?;
        self.seen(Read, &store, store.dead_letters(filter, limit, after).await)
    }

    async fn mark_redriven(&self, ids: &[DocumentId], now: Timestamp) -> Result<(), Failure> {
        let store = self.opened()?;
        self.seen(Write, &store, store.mark_redriven(ids, now).await)
    }

    async fn cursors(&self) -> Result<Vec<Cursor>, Failure> {
        let store = self.opened()?;
        self.seen(Read, &store, store.cursors().await)
    }

    async fn tallies(&self, first: Day, last: Day) -> Result<Tallies, Failure> {
        let store = self.opened()?;
        self.seen(Read, &store, store.tallies(first, last).await)
    }

    async fn tally_weeks(&self) -> Result<Vec<TallyWeek>, Failure> {
        let store = self.opened()?;
        self.seen(Read, &store, store.tally_weeks().await)
    }

    async fn mark_summarized(&self, week: Week, revision: u64) -> Result<(), Failure> {
        let store = self.opened()?;
        self.seen(Write, &store, store.mark_summarized(week, revision).await)
    }

    async fn identity(&self) -> Result<StoreId, Failure> {
        let store = self.opened()?;
        self.seen(Read, &store, store.identity().await)
    }

    async fn check(&self) -> Result<(), Failure> {
        self.ask().await?;
        self.damage()
    }
}
