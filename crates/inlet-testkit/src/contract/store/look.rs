//! What a suite sees of a store.

use bytes::Bytes;
use inlet_core::dead_letter::{Cause, DeadLetter, DeadLetterFilter};
use inlet_core::document::StoredDocument;
use inlet_core::failure::Failure;
use inlet_core::id::DocumentId;
use inlet_core::ports::{PageQuery, Store, TallyKind};

use crate::sample::{NOW, after, day, id, stream};

/// No documents.
pub(super) const NONE: [u64; 0] = [];

pub(super) fn undecodable(n: u64) -> DeadLetter {
    DeadLetter {
        id: id(n),
        stream: stream("default"),
        key: None,
        received: NOW,
        generation: Some(0),
        body: Bytes::from_static(b"\x00\xffno document"),
        cause: Cause::Undecodable("the envelope ends after 1 bytes".into()),
        attempts: 1,
        died: NOW,
        redriven: None,
    }
}

pub(super) async fn get(store: &dyn Store, n: u64) -> Option<StoredDocument> {
    store.get(id(n)).await.unwrap()
}

/// The numbers of all documents, in page order.
pub(super) async fn all(store: &dyn Store) -> Vec<u64> {
    matching(store, PageQuery::default()).await
}

/// The numbers of the documents that meet `query`, over as many pages as it takes.
pub(super) async fn matching(store: &dyn Store, mut query: PageQuery) -> Vec<u64> {
    query.limit = 2;
    let mut numbers = Vec::new();
    loop {
        let page = store.page(&query).await.unwrap();
        numbers.extend(page.items.iter().map(|stored| {
            let received = stored.document.received.as_micros() - after(0).as_micros();
            u64::try_from(received / 1_000).unwrap_or(0) % 100
        }));
        query.after = page.next;
        if !page.more {
            return numbers;
        }
    }
}

pub(super) async fn letters(store: &dyn Store) -> Vec<DeadLetter> {
    store.dead_letters(&DeadLetterFilter::default(), 1_000, None).await.unwrap().items
}

pub(super) async fn listed(
    store: &dyn Store,
    filter: &DeadLetterFilter,
    limit: usize,
) -> Vec<DocumentId> {
    let mut ids = Vec::new();
    let mut after = None;
    loop {
        let page: Result<_, Failure> = store.dead_letters(filter, limit, after.as_deref()).await;
        let page = page.unwrap();
        assert!(page.items.len() <= limit);
        ids.extend(page.items.iter().map(|letter| letter.id));
        after = page.next;
        if !page.more {
            return ids;
        }
    }
}

/// Documents and bytes counted of a kind on the sample day, in all streams.
pub(super) async fn counted(store: &dyn Store, kind: &TallyKind) -> (u64, u64) {
    let rows = store.tallies(day(), day()).await.unwrap().rows;
    rows.iter()
        .filter(|row| row.kind == *kind)
        .fold((0, 0), |sum, row| (sum.0 + row.documents, sum.1 + row.bytes))
}
