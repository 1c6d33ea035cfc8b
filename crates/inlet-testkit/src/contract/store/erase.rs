//! Promise 8: erased is gone.

use inlet_core::document::Timestamp;
use inlet_core::ports::{Found, Outcome};

use super::StoreFixture;
use super::look::{all, get, letters};
use crate::sample::{NOW, PutBatch, batch, document, document_with, id};

/// Erased is gone from everywhere, also for a delivery that comes later.
pub async fn store_8_an_erased_document_is_gone_and_stays_gone(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    store.put_batch(batch([document(1), document(2)])).await.unwrap();
    assert!(store.erase(id(1), NOW).await.unwrap());
    assert!(!store.erase(id(1), NOW).await.unwrap());
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
    assert!(!store.erase(id(1), NOW).await.unwrap());
    let outcomes = store.put_batch(batch([document(1), document(2)])).await.unwrap();
    assert_eq!(outcomes, [Outcome::Erased, Outcome::Stored]);
    assert_eq!(all(&*store).await, [2]);
}

/// The dead letters of an erased id are gone as well.
pub async fn store_8_erasing_takes_dead_letters_with_it(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    fixture.refuse(Some("poison")).await;
    store.put_batch(batch([document_with(1, "\"poison\""), document(2)])).await.unwrap();
    assert!(store.erase(id(1), NOW).await.unwrap());
    assert_eq!(letters(&*store).await, []);
    assert_eq!(store.find(id(1)).await.unwrap(), Some(Found::Erased));
    let late = store.put_batch(batch([document_with(1, "\"poison\"")])).await.unwrap();
    assert_eq!(late, [Outcome::Erased]);
    assert_eq!(letters(&*store).await, []);
}

/// The client's key can be used again after the erasure.
pub async fn store_8_a_document_sent_anew_after_its_erasure_is_stored(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    store.put_batch(batch([document(1)])).await.unwrap();
    store.erase(id(1), NOW).await.unwrap();
    let mut anew = document_with(1, "{\"anew\":true}");
    anew.received = Timestamp::from_micros(NOW.as_micros() + 1);
    assert_eq!(store.put_batch(batch([anew.clone()])).await.unwrap(), [Outcome::Stored]);
    assert_eq!(get(&*store, 1).await.unwrap().document, anew);
    let late = store.put_batch(batch([document(1), anew.clone()])).await.unwrap();
    assert_eq!(late, [Outcome::Erased, Outcome::Duplicate]);
    assert_eq!(get(&*store, 1).await.unwrap().document, anew);
    assert!(matches!(store.find(id(1)).await.unwrap(), Some(Found::Stored { .. })));
}
