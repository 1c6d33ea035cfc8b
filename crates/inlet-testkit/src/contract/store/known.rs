//! Promise 13: the states of ids.

use inlet_core::document::BodyHash;
use inlet_core::ports::{Known, KnownLetter};

use super::StoreFixture;
use crate::sample::{NOW, PutBatch, batch, document, document_with, id};

/// Stored, dead, erased, or several of them; an id of which nothing is known is left out.
pub async fn store_13_known_gives_the_state_of_each_id_that_has_one(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    assert_eq!(store.known(&[]).await.unwrap().len(), 0);
    assert_eq!(store.known(&[id(1), id(2)]).await.unwrap().len(), 0);
    fixture.refuse(Some("poison")).await;
    let poison = document_with(2, "\"poison\"");
    let documents =
        [document(1), poison.clone(), document_with(1, "[1]"), document(3), document(4)];
    store.put_batch(batch(documents)).await.unwrap();
    store.erase(id(3), NOW).await.unwrap();
    for store in [store, fixture.open().await] {
        let mut known = store.known(&[id(9), id(4), id(3), id(2), id(1), id(4)]).await.unwrap();
        assert_eq!(known.len(), 4, "{known:?}");
        // The version is each store's own.
        known.values_mut().for_each(|known| known.version = 0);
        let letter = |body: &[u8], attempts| KnownLetter { body: BodyHash::of(body), attempts };
        let conflict = Known {
            stored: Some(document(1).body_hash()),
            letters: vec![letter(b"[1]", 1)],
            ..Known::default()
        };
        assert_eq!(known[&id(1)], conflict);
        let dead = Known { letters: vec![letter(&poison.body, 3)], ..Known::default() };
        assert_eq!(known[&id(2)], dead);
        assert_eq!((known[&id(3)].stored, &known[&id(3)].letters[..]), (None, &[][..]));
        assert_eq!(known[&id(3)].erased.map(|mark| mark.at), Some(NOW));
        let stored = Known { stored: Some(document(4).body_hash()), ..Known::default() };
        assert_eq!(known[&id(4)], stored);
    }
}

/// As many ids as a batch request may have are asked for with one call.
pub async fn store_13_known_answers_for_thousands_of_ids(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    store.put_batch(batch([document(7), document(1_007), document(9_999)])).await.unwrap();
    let ids: Vec<_> = (0..10_000).map(id).collect();
    let mut known: Vec<_> = store.known(&ids).await.unwrap().into_keys().collect();
    known.sort_unstable();
    assert_eq!(known, [id(7), id(1_007), id(9_999)]);
}
