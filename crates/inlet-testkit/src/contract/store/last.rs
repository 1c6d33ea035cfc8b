//! Promises 15 and 16: the newest documents, and ids by their beginning.

use inlet_core::document::Document;
use inlet_core::failure::Failure;
use inlet_core::id::{DocumentId, IdPrefix};
use inlet_core::ports::{PageQuery, Store};

use super::StoreFixture;
use super::look::{NONE, matching};
use crate::sample::{MIDNIGHT, NOW, PutBatch, after, batch, document, document_in, stream};

/// The numbers of the newest documents, and of those that come later.
async fn behind(store: &dyn Store, name: Option<&str>, count: usize) -> Vec<u64> {
    let stream = name.map(stream);
    let after = store.cursor_of_last(stream.as_ref(), count).await.unwrap();
    matching(store, PageQuery { stream, after, ..PageQuery::default() }).await
}

/// The newest are those that came last, of all streams or of one, whatever their clocks said.
pub async fn store_15_the_newest_documents_are_behind_their_cursor(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    assert_eq!(store.cursor_of_last(None, 3).await.unwrap(), None);
    for n in [10, 11, 3, 4, 12] {
        store.put_batch(batch([document_in("a", n), document_in("b", n + 20)])).await.unwrap();
    }
    store.put_batch(batch([document_in("b", 50)])).await.unwrap();
    assert_eq!(behind(&*store, None, 1).await, [50]);
    assert_eq!(behind(&*store, None, 4).await, [24, 12, 32, 50]);
    assert_eq!(behind(&*store, Some("a"), 2).await, [4, 12]);
    assert_eq!(behind(&*store, Some("b"), 3).await, [24, 32, 50]);
    for count in [5, 6, 1_000] {
        assert_eq!(behind(&*store, Some("a"), count).await, [10, 11, 3, 4, 12], "{count}");
    }
    assert_eq!(behind(&*store, Some("none"), 2).await, NONE);
}

/// Behind the cursor of none is what comes from then on.
pub async fn store_15_behind_the_cursor_of_none_is_what_is_still_to_come(
    fixture: &dyn StoreFixture,
) {
    let store = fixture.open().await;
    store.put_batch(batch((1..=5).map(document))).await.unwrap();
    let after = store.cursor_of_last(None, 0).await.unwrap();
    assert!(after.is_some());
    let query = PageQuery { after, ..PageQuery::default() };
    assert_eq!(matching(&*store, query.clone()).await, NONE);
    // Received long before the others: order does not rest on the clock.
    store.put_batch(batch([document_in("orders", 0)])).await.unwrap();
    store.put_batch(batch([document(7)])).await.unwrap();
    assert_eq!(matching(&*store, query.clone()).await, [0, 7]);
    // Until there, nothing of that.
    let PageQuery { after: until, .. } = query;
    let nothing = PageQuery { after: until.clone(), until: until.clone(), ..PageQuery::default() };
    assert_eq!(matching(&*store, nothing).await, NONE);
    let before = PageQuery { until, ..PageQuery::default() };
    assert_eq!(matching(&*store, before.clone()).await, [1, 2, 3, 4, 5]);
    let timed = PageQuery { from: Some(MIDNIGHT), ..before };
    assert_eq!(matching(&*store, timed).await, [1, 2, 3, 4, 5]);
}

/// An id is found by its first digits, and none that was erased.
pub async fn store_16_ids_are_found_by_their_beginning(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    let minted = |millis: i64| {
        let received = after(millis);
        Document { id: DocumentId::mint(received), received, ..document(1) }
    };
    // A minute and more apart, so that their first eight digits differ; two at one moment.
    let documents = [minted(0), minted(200_000), minted(400_000), minted(400_000)];
    store.put_batch(batch(documents.clone())).await.unwrap();
    let find = async |digits: usize, of: &Document, limit: usize| {
        let prefix: IdPrefix = of.id.to_string()[..digits].parse().unwrap();
        store.ids(&prefix, limit).await
    };
    for document in &documents[..2] {
        for digits in [8, 9, 13, 36] {
            let found: Result<_, Failure> = find(digits, document, 2).await;
            assert_eq!(found.unwrap(), [document.id], "{digits}");
        }
    }
    let mut both = [documents[2].id, documents[3].id];
    both.sort_unstable();
    assert_eq!(find(8, &documents[2], 5).await.unwrap(), both);
    assert_eq!(find(8, &documents[2], 1).await.unwrap(), both[..1]);
    assert_eq!(find(36, &documents[2], 5).await.unwrap(), [documents[2].id]);
    store.erase(documents[0].id, NOW).await.unwrap();
    assert_eq!(find(8, &documents[0], 2).await.unwrap(), []);
    let nothing: IdPrefix = "ffffffff".parse().unwrap();
    assert_eq!(store.ids(&nothing, 2).await.unwrap(), []);
}
