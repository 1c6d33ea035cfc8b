//! Promises 8 and 15: erased is gone, and marked.

use std::collections::BTreeSet;

use inlet_core::document::{Document, Timestamp};
use inlet_core::id::DocumentId;
use inlet_core::ports::{EraseMark, Found, Outcome, PageQuery, Store};

use super::StoreFixture;
use super::look::{all, get, letters};
use crate::sample::{NOW, PutBatch, batch, document, document_with, id};

/// Five seconds, by which clocks differ.
const SKEW_US: i64 = 5_000_000;

/// The document as it is sent after the erasure with that number.
fn anew(document: Document, generation: u64) -> Document {
    Document { generation: Some(generation), ..document }
}

/// The moment that is `micros` after [`NOW`].
fn from_now(micros: i64) -> Timestamp {
    Timestamp::from_micros(NOW.as_micros() + micros)
}

/// Erases until the engine does it: if two erasures meet, an engine may ask one of them to come
/// again.
async fn erase(store: &dyn Store, id: DocumentId) -> u64 {
    loop {
        match store.erase(id, NOW).await {
            Ok(erasure) => return erasure.generation,
            Err(failure) => assert!(failure.is_retryable(), "{failure}"),
        }
        tokio::task::yield_now().await;
    }
}

/// Erased is gone from everywhere, also for a delivery that comes later.
pub async fn store_8_an_erased_document_is_gone_and_stays_gone(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    store.put_batch(batch([document(1), document(2)])).await.unwrap();
    assert!(store.erase(id(1), NOW).await.unwrap().was_there);
    assert!(!store.erase(id(1), NOW).await.unwrap().was_there);
    for store in [store, fixture.open().await] {
        assert_eq!(store.get(id(1)).await.unwrap(), None);
        assert_eq!(store.find(id(1)).await.unwrap(), Some(Found::Erased));
        assert_eq!(all(&*store).await, [2]);
        assert_eq!(store.put_batch(batch([document(1)])).await.unwrap(), [Outcome::Erased]);
        assert_eq!(store.get(id(1)).await.unwrap(), None);
        assert_eq!(letters(&*store).await, []);
    }
}

/// An erasure is also for what still waits in the queue.
pub async fn store_8_what_is_erased_before_it_is_stored_is_never_stored(
    fixture: &dyn StoreFixture,
) {
    let store = fixture.open().await;
    assert!(!store.erase(id(1), NOW).await.unwrap().was_there);
    let outcomes = store.put_batch(batch([document(1), document(2)])).await.unwrap();
    assert_eq!(outcomes, [Outcome::Erased, Outcome::Stored]);
    assert_eq!(all(&*store).await, [2]);
}

/// The dead letters of an erased id are gone as well.
pub async fn store_8_erasing_takes_dead_letters_with_it(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    fixture.refuse(Some("poison")).await;
    store.put_batch(batch([document_with(1, "\"poison\""), document(2)])).await.unwrap();
    assert!(store.erase(id(1), NOW).await.unwrap().was_there);
    assert_eq!(letters(&*store).await, []);
    assert_eq!(store.find(id(1)).await.unwrap(), Some(Found::Erased));
    let late = store.put_batch(batch([document_with(1, "\"poison\"")])).await.unwrap();
    assert_eq!(late, [Outcome::Erased]);
    assert_eq!(letters(&*store).await, []);
}

/// The client's key can be used again after the erasure, and can be erased again.
pub async fn store_8_a_document_sent_anew_after_its_erasure_is_stored(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    store.put_batch(batch([document(1)])).await.unwrap();
    let erased = erase(&*store, id(1)).await;
    let second = anew(document_with(1, "{\"anew\":true}"), erased);
    assert_eq!(store.put_batch(batch([second.clone()])).await.unwrap(), [Outcome::Stored]);
    assert_eq!(get(&*store, 1).await.unwrap().document, second);
    let late = store.put_batch(batch([document(1), second.clone()])).await.unwrap();
    assert_eq!(late, [Outcome::Erased, Outcome::Duplicate]);
    assert_eq!(get(&*store, 1).await.unwrap().document, second);
    assert!(matches!(store.find(id(1)).await.unwrap(), Some(Found::Stored { .. })));
    let again = store.erase(id(1), NOW).await.unwrap();
    assert!(again.was_there && again.generation > erased);
    let outcomes = store.put_batch(batch([second])).await.unwrap();
    assert_eq!(outcomes, [Outcome::Erased], "it is of the generation before");
    let third = anew(document(1), again.generation);
    assert_eq!(store.put_batch(batch([third])).await.unwrap(), [Outcome::Stored]);
}

/// Neither a clock that is ahead nor one that is behind brings a document back or loses one.
pub async fn store_8_no_order_of_erasing_and_sending_rests_on_a_clock(fixture: &dyn StoreFixture) {
    for (n, skew_us) in [(1, SKEW_US), (2, -SKEW_US)] {
        let store = fixture.open().await;
        let received = |micros| Document { received: from_now(micros), ..document(n) };
        // Accepted before the erasure, by an instance whose clock differs.
        let erased = erase(&*store, id(n)).await;
        let outcomes = store.put_batch(batch([received(skew_us)])).await.unwrap();
        assert_eq!(outcomes, [Outcome::Erased], "{skew_us}");
        // And after it.
        let second = anew(received(-skew_us), erased);
        let outcomes = store.put_batch(batch([second.clone()])).await.unwrap();
        assert_eq!(outcomes, [Outcome::Stored], "{skew_us}");
        // Erased by an instance whose clock differs.
        let again = store.erase(id(n), from_now(-skew_us)).await.unwrap();
        assert_eq!(store.put_batch(batch([second])).await.unwrap(), [Outcome::Erased]);
        let third = anew(received(0), again.generation);
        assert_eq!(store.put_batch(batch([third])).await.unwrap(), [Outcome::Stored]);
    }
}

/// A document that comes through a door that knows of no erasure is told from the erased one by its
/// moment; that is all there is.
pub async fn store_8_without_a_generation_the_moment_decides(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    store.erase(id(1), NOW).await.unwrap();
    let unknown = |micros| Document { received: from_now(micros), generation: None, ..document(1) };
    let outcomes = store.put_batch(batch([unknown(0), unknown(1)])).await.unwrap();
    assert_eq!(outcomes, [Outcome::Erased, Outcome::Stored]);
}

/// Erasures have a number each, in the order in which they came about, whoever erases.
pub async fn store_8_each_erasure_has_the_next_number(fixture: &dyn StoreFixture) {
    let (one, other) = (fixture.open().await, fixture.open().await);
    assert_eq!(one.erasures().await.unwrap(), 0);
    let mut last = 0;
    for (store, n) in [(&one, 1), (&other, 2), (&one, 1), (&other, 1)] {
        let generation = erase(&**store, id(n)).await;
        assert!(generation > last, "{generation} after {last}");
        last = generation;
    }
    assert_eq!(other.erasures().await.unwrap(), last);
    let ids: Vec<_> = (10..20).map(id).collect();
    let mut generations = BTreeSet::new();
    for pair in ids.chunks(2) {
        let (here, there) = tokio::join!(erase(&*one, pair[0]), erase(&*other, pair[1]));
        generations.extend([here, there]);
    }
    assert_eq!(generations.len(), 10, "two have the same number");
    assert!(generations.iter().all(|generation| *generation > last));
    assert_eq!(Some(&one.erasures().await.unwrap()), generations.last());
}

/// A mark is there for every handle once `erase` returned, and no mark of anything else.
pub async fn store_17_marks_are_those_of_what_was_erased(fixture: &dyn StoreFixture) {
    let (store, other) = (fixture.open().await, fixture.open().await);
    store.put_batch(batch([document(1), document(2)])).await.unwrap();
    assert_eq!(store.marks(&[id(1), id(2), id(9)]).await.unwrap().len(), 0);
    let first = erase(&*store, id(1)).await;
    let second = erase(&*other, id(9)).await;
    for store in [store, other, fixture.open().await] {
        let marks = store.marks(&[id(9), id(2), id(1), id(9)]).await.unwrap();
        assert_eq!(marks.len(), 2);
        assert_eq!(marks[&id(1)], EraseMark { generation: first, at: NOW });
        assert_eq!(marks[&id(9)], EraseMark { generation: second, at: NOW });
        assert_eq!(store.known(&[id(1)]).await.unwrap()[&id(1)].erased, Some(marks[&id(1)]));
        assert_eq!(store.erasures().await.unwrap(), second);
    }
}

/// A document that is read can be told from the one before the erasure, and redriven.
pub async fn store_17_what_is_read_carries_the_generation_of_its_mark(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    fixture.refuse(Some("poison")).await;
    let (first, second) = (erase(&*store, id(1)).await, erase(&*store, id(2)).await);
    let documents = [
        anew(document(1), first),
        anew(document_with(2, "\"poison\""), second),
        document(3),
        document_with(4, "\"poison\""),
    ];
    store.put_batch(batch(documents)).await.unwrap();
    assert_eq!(get(&*store, 1).await.unwrap().document.generation, Some(first));
    assert_eq!(get(&*store, 3).await.unwrap().document.generation, Some(0));
    let query = PageQuery { limit: 10, ..PageQuery::default() };
    let page = store.page(&query).await.unwrap();
    let generations: Vec<_> = page.items.iter().map(|it| it.document.generation).collect();
    assert_eq!(generations, [Some(first), Some(0)]);
    let mut letters: Vec<_> =
        letters(&*store).await.iter().map(|letter| (letter.id, letter.generation)).collect();
    letters.sort_unstable();
    assert_eq!(letters, [(id(2), Some(second)), (id(4), Some(0))]);
    let Some(Found::Dead(letter)) = store.find(id(2)).await.unwrap() else { panic!("it is gone") };
    assert_eq!(letter.generation, Some(second));
}
