//! Promises 9 to 12: cursors and tallies, dead letters, streams, the identity.

use std::sync::Arc;

use bytes::Bytes;
use inlet_core::dead_letter::DeadLetterFilter;
use inlet_core::id::DocumentId;
use inlet_core::ports::{Batch, TallyKind};

use super::StoreFixture;
use super::look::{counted, letters, listed};
use crate::sample::{
    NOW, PutBatch, after, batch, cursor, day, document, document_in, document_with, id,
};

/// A cursor behind the one that is kept changes nothing, and logs have their own.
pub async fn store_9_a_cursor_never_moves_backwards(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    for (log, segment, offset) in
        [("b", 2, 10), ("a", 1, 50), ("a", 1, 40), ("a", 2, 8), ("a", 1, 99), ("b", 2, 10)]
    {
        let put = Batch { cursor: Some(cursor(log, segment, offset)), ..batch([]) };
        store.put_batch(put).await.unwrap();
    }
    let mut cursors = fixture.open().await.cursors().await.unwrap();
    cursors.sort();
    assert_eq!(cursors, [cursor("a", 2, 8), cursor("b", 2, 10)]);
}

/// Tallies count what came for the first time, by day and stream.
pub async fn store_9_a_document_is_counted_once_however_often_it_comes(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    fixture.refuse(Some("poison")).await;
    let mut yesterday = document_in("other", 3);
    yesterday.received = after(-1);
    let documents = [document(1), document_with(2, "\"poison\""), yesterday, document_with(1, "0")];
    for _ in 0..3 {
        store.put_batch(batch(documents.clone())).await.unwrap();
    }
    let mut rows = store.tallies(day().plus(-1), day()).await.unwrap().rows;
    rows.retain(|row| !matches!(row.kind, TallyKind::Field(..)));
    rows.sort_by(|a, b| (a.day, &a.kind).cmp(&(b.day, &b.kind)));
    let counts: Vec<_> = rows
        .iter()
        .map(|row| (row.day, row.stream.as_str(), row.kind.clone(), row.documents, row.bytes))
        .collect();
    assert_eq!(
        counts,
        [
            (day().plus(-1), "other", TallyKind::Stored, 1, 7),
            (day(), "orders", TallyKind::Stored, 1, 7),
            (day(), "orders", TallyKind::Dead("key_conflict".into()), 1, 1),
            (day(), "orders", TallyKind::Dead("refused".into()), 1, 8),
        ]
    );
    let before = store.tallies(day().plus(-3), day().plus(-2)).await.unwrap().rows;
    assert_eq!(before, []);
}

/// Letters come oldest first, in pages, by what the filter asks.
pub async fn store_10_dead_letters_are_listed_oldest_first_by_filter(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    let empty = store.dead_letters(&DeadLetterFilter::default(), 2, None).await.unwrap();
    assert_eq!((empty.items.len(), empty.next, empty.more), (0, None, false));
    fixture.refuse(Some("poison")).await;
    let poison = |name: &str, n| {
        let mut document = document_in(name, n);
        document.body = Bytes::from(format!("\"poison {n}\""));
        document
    };
    for n in 1..=4 {
        let name = if n % 2 == 0 { "even" } else { "odd" };
        let put =
            Batch { now: after(1_000 * i64::try_from(n).unwrap()), ..batch([poison(name, n)]) };
        store.put_batch(put).await.unwrap();
    }
    let conflict = Batch { now: after(9_000), ..batch([document(8), document_with(8, "8")]) };
    store.put_batch(conflict).await.unwrap();
    let list = |text: &str| {
        let filter: DeadLetterFilter = text.parse().unwrap();
        let store = Arc::clone(&store);
        async move { listed(&*store, &filter, 2).await }
    };
    assert_eq!(list("").await, [id(1), id(2), id(3), id(4), id(8)]);
    assert_eq!(list("stream=even").await, [id(2), id(4)]);
    assert_eq!(list("cause=key_conflict").await, [id(8)]);
    assert_eq!(list("class=poison,stream=odd").await, [id(1), id(3)]);
    assert_eq!(
        list("since=2026-11-21T00:00:02Z,before=2026-11-21T00:00:04Z").await,
        [id(2), id(3)]
    );
    assert_eq!(list(&format!("id={}", id(3))).await, [id(3)]);
    assert_eq!(list("stream=none").await, Vec::<DocumentId>::new());
}

/// A redrive is noted with its moment on the letters that are named.
pub async fn store_10_a_redrive_is_noted_on_the_letter(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    fixture.refuse(Some("poison")).await;
    let poison = (1..=3).map(|n| document_with(n, "\"poison\""));
    store.put_batch(batch(poison)).await.unwrap();
    store.mark_redriven(&[id(1), id(3), id(77)], after(5)).await.unwrap();
    store.mark_redriven(&[], after(6)).await.unwrap();
    let redriven: Vec<_> = letters(&*store).await.iter().map(|letter| letter.redriven).collect();
    assert_eq!(redriven, [Some(after(5)), None, Some(after(5))]);
}

/// A letter that was redriven and dies again keeps its place, its first death and its tally, and
/// its attempts add up.
pub async fn store_10_a_letter_that_dies_again_is_one_letter(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    fixture.refuse(Some("poison")).await;
    let poison = document_with(1, "\"poison\"");
    store.put_batch(batch([poison.clone()])).await.unwrap();
    store.put_batch(batch([document_with(2, "\"poison\"")])).await.unwrap();
    store.mark_redriven(&[id(1)], after(5)).await.unwrap();
    let again = Batch { now: after(9), ..batch([poison]) };
    store.put_batch(again).await.unwrap();
    let letters = letters(&*store).await;
    assert_eq!(letters.iter().map(|letter| letter.id).collect::<Vec<_>>(), [id(1), id(2)]);
    assert_eq!(letters[0].attempts, 6);
    assert_eq!((letters[0].died, letters[0].redriven), (NOW, Some(after(5))));
    assert_eq!(counted(&*store, &TallyKind::Dead("refused".into())).await.0, 2);
}

/// A stream's figures follow what is stored and erased; dead letters alone make no stream.
pub async fn store_11_streams_have_their_figures_in_name_order(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    assert_eq!(store.streams().await.unwrap(), []);
    fixture.refuse(Some("poison")).await;
    let mut dead = document_in("only-dead", 9);
    dead.body = Bytes::from_static(b"\"poison\"");
    store
        .put_batch(batch([document_in("b", 5), document_in("a", 2), document_in("b", 3), dead]))
        .await
        .unwrap();
    store.put_batch(batch([document_in("b", 5), document_in("b", 4)])).await.unwrap();
    store.erase(id(2), NOW).await.unwrap();
    for store in [store, fixture.open().await] {
        let streams = store.streams().await.unwrap();
        assert_eq!(streams.len(), 2, "{streams:?}");
        let (a, b) = (&streams[0], &streams[1]);
        assert_eq!((a.stream.as_str(), a.documents, a.bytes), ("a", 0, 0));
        assert_eq!((b.stream.as_str(), b.documents, b.bytes), ("b", 3, 21));
        assert_eq!((b.first, b.last), (Some(after(3)), Some(after(5))));
    }
}

/// Every handle gives the same identity, whatever was stored meanwhile.
pub async fn store_12_its_identity_never_changes(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    let identity = store.identity().await.unwrap();
    store.put_batch(batch([document(1)])).await.unwrap();
    for store in [store, fixture.open().await] {
        assert_eq!(store.identity().await.unwrap(), identity);
    }
}
