//! Promise 7: what is read is what was stored, in a stable order.

use inlet_core::document::{StoredDocument, Timestamp};
use inlet_core::ports::{Found, PageQuery};

use super::StoreFixture;
use super::look::{NONE, all, matching};
use crate::sample::{
    NOW, PutBatch, after, batch, document, document_in, document_with, id, keyed_document, stream,
};

/// Bytes and names come back as they went in.
pub async fn store_7_get_gives_bytes_and_names_as_they_were(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    let mut documents = vec![
        document_with(1, "  {\"a\" : 1.0e5, \"a\":\"\\u0000\"}\r\n"),
        keyed_document("key with spaces ~", 2),
        document_in("Other_stream-9", 3),
        document_with(4, &format!("\"{}\"", "x".repeat(300_000))),
    ];
    documents[1].received = Timestamp::from_micros(-1);
    store.put_batch(batch(documents.clone())).await.unwrap();
    for document in documents {
        let stored = store.get(document.id).await.unwrap().unwrap();
        assert_eq!(stored, StoredDocument { document, stored: NOW });
    }
    assert_eq!(store.get(id(99)).await.unwrap(), None);
}

/// Where an id is: stored, dead, erased, or nowhere.
pub async fn store_7_find_tells_where_an_id_is(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    fixture.refuse(Some("poison")).await;
    store.put_batch(batch([document(1), document_with(2, "\"poison\"")])).await.unwrap();
    store.erase(id(3), NOW).await.unwrap();
    let stored = |letters| Found::Stored {
        stream: stream("orders"),
        received: after(1),
        stored: NOW,
        bytes: 7,
        md5: document(1).md5(),
        letters,
    };
    assert_eq!(store.find(id(1)).await.unwrap(), Some(stored(0)));
    // Documents that lost their key to it are counted once each, however often they came.
    for other in ["\"a\"", "\"b\"", "\"a\""] {
        store.put_batch(batch([document_with(1, other)])).await.unwrap();
    }
    assert_eq!(store.find(id(1)).await.unwrap(), Some(stored(2)));
    let Some(Found::Dead(letter)) = store.find(id(2)).await.unwrap() else {
        panic!("a dead letter is found as one")
    };
    assert_eq!((letter.id, &letter.body[..]), (id(2), &b"\"poison\""[..]));
    assert_eq!(store.find(id(3)).await.unwrap(), Some(Found::Erased));
    assert_eq!(store.find(id(4)).await.unwrap(), None);
}

/// All pages together are all documents, each once, in the order they were stored.
pub async fn store_7_pages_give_each_document_once_in_order(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    let empty = store.page(&PageQuery { limit: 3, ..PageQuery::default() }).await.unwrap();
    assert_eq!((empty.items.len(), empty.next, empty.more), (0, None, false));
    for n in [5, 6, 7, 8, 9] {
        store.put_batch(batch([document(n)])).await.unwrap();
    }
    store.put_batch(batch((10..15).map(document))).await.unwrap();
    for limit in [1, 2, 3, 10, 11] {
        let mut query = PageQuery { limit, ..PageQuery::default() };
        let mut found = Vec::new();
        loop {
            let page = store.page(&query).await.unwrap();
            assert!(page.items.len() <= limit);
            found.extend(page.items.iter().map(|stored| stored.document.clone()));
            assert!(page.next.is_some());
            query.after = page.next;
            if !page.more {
                break;
            }
        }
        assert_eq!(found, (5..15).map(document).collect::<Vec<_>>(), "with limit {limit}");
    }
}

/// Stream and time narrow a page; the end of a time range is not part of it.
pub async fn store_7_pages_keep_to_stream_and_time(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    // The clock jumps back in between, as clocks do.
    for n in [10, 11, 3, 4, 12, 13] {
        store.put_batch(batch([document_in("a", n), document_in("b", n + 100)])).await.unwrap();
    }
    let named = |name: &str| PageQuery { stream: Some(stream(name)), ..PageQuery::default() };
    assert_eq!(matching(&*store, named("a")).await, [10, 11, 3, 4, 12, 13]);
    assert_eq!(matching(&*store, named("none")).await, NONE);
    let from = PageQuery { from: Some(after(11)), ..named("a") };
    assert_eq!(matching(&*store, from).await, [11, 12, 13]);
    let to = PageQuery { to: Some(after(11)), ..named("a") };
    assert_eq!(matching(&*store, to).await, [10, 3, 4]);
    let range = PageQuery { from: Some(after(4)), to: Some(after(103)), ..PageQuery::default() };
    assert_eq!(matching(&*store, range).await, [10, 11, 4, 12, 13]);
}

/// A cursor goes on behind what it gave, whatever came and went in between.
pub async fn store_7_a_cursor_goes_on_where_it_ended_after_more_came_and_some_went(
    fixture: &dyn StoreFixture,
) {
    let store = fixture.open().await;
    store.put_batch(batch((1..=6).map(document))).await.unwrap();
    let first = store.page(&PageQuery { limit: 3, ..PageQuery::default() }).await.unwrap();
    store.erase(id(3), NOW).await.unwrap();
    store.erase(id(4), NOW).await.unwrap();
    // Received long before the others: order does not rest on the clock.
    let mut late = document(7);
    late.received = after(-100_000);
    store.put_batch(batch([late])).await.unwrap();
    let rest = PageQuery { limit: 10, after: first.next, ..PageQuery::default() };
    let rest = store.page(&rest).await.unwrap();
    let ids: Vec<_> = rest.items.iter().map(|stored| stored.document.id).collect();
    assert_eq!(ids, [id(5), id(6), id(7)]);
    let end = PageQuery { limit: 10, after: rest.next, ..PageQuery::default() };
    let end = store.page(&end).await.unwrap();
    assert_eq!((end.items.len(), end.more), (0, false));
    store.put_batch(batch([document(8)])).await.unwrap();
    let later = PageQuery { limit: 10, after: end.next, ..PageQuery::default() };
    assert_eq!(store.page(&later).await.unwrap().items[0].document, document(8));
}

/// A place in the order is never given twice.
pub async fn store_7_a_cursor_never_skips_a_document_stored_after_the_last_one_was_erased(
    fixture: &dyn StoreFixture,
) {
    let store = fixture.open().await;
    store.put_batch(batch((1..=3).map(document))).await.unwrap();
    let page = store.page(&PageQuery { limit: 10, ..PageQuery::default() }).await.unwrap();
    for n in [3, 2, 1] {
        assert!(store.erase(id(n), NOW).await.unwrap().was_there);
    }
    for store in [store, fixture.open().await] {
        let n = 4 + all(&*store).await.len() as u64;
        store.put_batch(batch([document(n)])).await.unwrap();
        let later = PageQuery { limit: 10, after: page.next.clone(), ..PageQuery::default() };
        let later = store.page(&later).await.unwrap();
        assert_eq!(later.items.last().unwrap().document, document(n));
    }
}

/// A store that is there answers.
pub async fn store_check_answers(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    store.check().await.unwrap();
}
