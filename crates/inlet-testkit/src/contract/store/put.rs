//! Promises 1 to 6: what becomes of a batch.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use inlet_core::dead_letter::{Cause, DeadLetter};
use inlet_core::document::Document;
use inlet_core::persist::plan::{KnownIds, plan};
use inlet_core::ports::{Batch, Found, Outcome, Store, Tallies, TallyKind, Written};

use super::StoreFixture;
use super::look::{NONE, all, counted, get, letters, undecodable};
use crate::sample::{
    NOW, PutBatch, batch, cursor, day, document, document_with, id, keyed_document,
};

/// Everything of a batch is there, and still there after a restart.
pub async fn store_1_a_batch_is_all_there_also_after_a_restart(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    let mut whole = batch([document(1), keyed_document("k 1", 2)]);
    whole.dead.push(undecodable(90));
    whole.cursor = Some(cursor("log-a", 3, 4_096));
    let outcomes = store.put_batch(whole).await.unwrap();
    assert_eq!(outcomes, [Outcome::Stored, Outcome::Stored]);
    for store in [store, fixture.open().await] {
        assert_eq!(get(&*store, 1).await.unwrap().document, document(1));
        assert_eq!(get(&*store, 2).await.unwrap().document, keyed_document("k 1", 2));
        assert_eq!(store.cursors().await.unwrap(), [cursor("log-a", 3, 4_096)]);
        assert_eq!(letters(&*store).await, [undecodable(90)]);
        assert_eq!(counted(&*store, &TallyKind::Stored).await, (2, 14));
        assert_eq!(counted(&*store, &TallyKind::Dead("undecodable".into())).await.0, 1);
    }
}

/// After an error nothing of the batch is there, and the same batch can be put again.
pub async fn store_1_a_batch_that_failed_left_nothing(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    let mut whole = batch([document(1), document(2)]);
    whole.dead.push(undecodable(90));
    whole.cursor = Some(cursor("log-a", 3, 4_096));
    fixture.set_away(true).await;
    store.put_batch(whole.clone()).await.unwrap_err();
    fixture.set_away(false).await;
    assert_eq!(all(&*store).await, NONE);
    assert_eq!(letters(&*store).await, []);
    assert_eq!(store.cursors().await.unwrap(), []);
    assert_eq!(store.tallies(day(), day()).await.unwrap(), Tallies::default());
    assert_eq!(store.tally_weeks().await.unwrap(), []);
    assert_eq!(store.put_batch(whole).await.unwrap(), [Outcome::Stored, Outcome::Stored]);
    assert_eq!(counted(&*store, &TallyKind::Stored).await.0, 2);
}

/// One outcome a document, in order, whatever became of each.
pub async fn store_1_outcomes_are_in_the_order_of_the_documents(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    store.put_batch(batch([document(1), document(2)])).await.unwrap();
    fixture.refuse(Some("poison")).await;
    store.erase(id(5), NOW).await.unwrap();
    let outcomes = store
        .put_batch(batch([
            document(3),
            document(1),
            document_with(4, "\"poison\""),
            document(5),
            document_with(2, "2"),
            document(6),
        ]))
        .await
        .unwrap();
    assert_eq!(outcomes.len(), 6);
    assert_eq!(outcomes[0], Outcome::Stored);
    assert_eq!(outcomes[1], Outcome::Duplicate);
    assert!(matches!(outcomes[2], Outcome::Dead(Cause::Refused(_))), "{:?}", outcomes[2]);
    assert_eq!(outcomes[3], Outcome::Erased);
    assert_eq!(outcomes[4], Outcome::Dead(Cause::KeyConflict));
    assert_eq!(outcomes[5], Outcome::Stored);
    assert_eq!(store.put_batch(batch([])).await.unwrap(), []);
}

/// A document that comes again is a duplicate.
pub async fn store_2_a_repeat_is_no_second_document(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    store.put_batch(batch([document(1)])).await.unwrap();
    let outcomes = store.put_batch(batch([document(1), document(2)])).await.unwrap();
    assert_eq!(outcomes, [Outcome::Duplicate, Outcome::Stored]);
    let store = fixture.open().await;
    let outcomes = store.put_batch(batch([document(2), document(1)])).await.unwrap();
    assert_eq!(outcomes, [Outcome::Duplicate, Outcome::Duplicate]);
    assert_eq!(all(&*store).await, [1, 2]);
    assert_eq!(counted(&*store, &TallyKind::Stored).await, (2, 14));
    assert_eq!(letters(&*store).await, []);
}

/// What is stored by now, or changed otherwise, is given in place of writing.
pub async fn store_2_a_plan_that_rests_on_other_states_is_not_written(fixture: &dyn StoreFixture) {
    let (store, other) = (fixture.open().await, fixture.open().await);
    let nothing = KnownIds::new();
    let planned = |documents: Vec<Document>, known: &KnownIds| {
        let put = Arc::new(Batch { cursor: Some(cursor("log-a", 1, 1)), ..batch(documents) });
        Arc::new(plan(&put, 0..put.len(), known, &HashMap::new()))
    };
    other.put_batch(batch([document(1)])).await.unwrap();
    other.erase(id(3), NOW).await.unwrap();
    let documents = vec![document(1), document(2), document(3)];
    let Written::Changed(mut known) =
        store.write(planned(documents.clone(), &nothing)).await.unwrap()
    else {
        panic!("it was written");
    };
    // An engine may tell of one change before it sees the other.
    if known.len() < 2
        && let Written::Changed(more) =
            store.write(planned(documents.clone(), &known)).await.unwrap()
    {
        known.extend(more);
    }
    assert_eq!(known[&id(1)].stored, Some(document(1).body_hash()));
    assert!(known[&id(3)].erased.is_some());
    assert!(!known.contains_key(&id(2)), "nothing is known of it");
    assert_eq!(all(&*store).await, [1]);
    assert_eq!(store.cursors().await.unwrap(), []);

    // Somebody else is faster once more.
    let late = planned(documents.clone(), &known);
    other.put_batch(batch([document(2)])).await.unwrap();
    let Written::Changed(more) = store.write(late).await.unwrap() else {
        panic!("it was written");
    };
    assert_eq!(more.into_keys().collect::<Vec<_>>(), [id(2)]);
    known.insert(id(2), store.known(&[id(2)]).await.unwrap().remove(&id(2)).unwrap());
    assert_eq!(store.write(planned(documents, &known)).await.unwrap(), Written::Done);
    assert_eq!(all(&*store).await, [1, 2]);
    assert_eq!(store.cursors().await.unwrap(), [cursor("log-a", 1, 1)]);
    assert_eq!(counted(&*store, &TallyKind::Stored).await.0, 2);
}

/// Two workers that store the same documents at once, in whatever order, store each once.
pub async fn store_2_two_writers_of_the_same_documents_store_each_once(fixture: &dyn StoreFixture) {
    let (one, other) = (fixture.open().await, fixture.open().await);
    for round in 0..5 {
        let documents = || (0..20).map(move |n| document(round * 20 + n));
        let backwards: Vec<_> = documents().rev().collect();
        let (here, there) = tokio::join!(
            put_until_there(&*one, documents().collect()),
            put_until_there(&*other, backwards),
        );
        let stored = |outcomes: &[Outcome]| {
            outcomes.iter().filter(|outcome| **outcome == Outcome::Stored).count()
        };
        assert_eq!(stored(&here) + stored(&there), 20);
        assert!(
            here.iter()
                .chain(&there)
                .all(|it| { matches!(it, Outcome::Stored | Outcome::Duplicate) })
        );
    }
    assert_eq!(counted(&*one, &TallyKind::Stored).await.0, 100);
    assert_eq!(letters(&*one).await, []);
}

/// As a worker does: an outage is waited out.
async fn put_until_there(store: &dyn Store, documents: Vec<Document>) -> Vec<Outcome> {
    loop {
        match store.put_batch(batch(documents.clone())).await {
            Ok(outcomes) => return outcomes,
            Err(failure) => assert!(failure.is_retryable(), "{failure}"),
        }
        tokio::task::yield_now().await;
    }
}

/// The same within one batch.
pub async fn store_2_a_repeat_within_one_batch_is_no_second_document(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    let outcomes = store.put_batch(batch([document(1), document(2), document(1)])).await.unwrap();
    assert_eq!(outcomes, [Outcome::Stored, Outcome::Stored, Outcome::Duplicate]);
    assert_eq!(all(&*store).await, [1, 2]);
    assert_eq!(counted(&*store, &TallyKind::Stored).await.0, 2);
}

/// Another body under the same id is a conflict; the first document stays.
pub async fn store_3_the_same_id_with_other_bytes_is_a_dead_letter_and_the_first_stays(
    fixture: &dyn StoreFixture,
) {
    let store = fixture.open().await;
    let (first, mut second) = (keyed_document("k", 1), keyed_document("k", 1));
    second.body = Bytes::from_static(b"[2]");
    let outcomes = store.put_batch(batch([first.clone(), second.clone()])).await.unwrap();
    assert_eq!(outcomes, [Outcome::Stored, Outcome::Dead(Cause::KeyConflict)]);
    assert_eq!(get(&*store, 1).await.unwrap().document, first);
    let letters = letters(&*store).await;
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((letter.id, &letter.stream, &letter.key), (second.id, &second.stream, &second.key));
    assert_eq!((&letter.body, letter.received), (&second.body, second.received));
    assert_eq!((letter.died, letter.redriven, letter.attempts), (NOW, None, 1));
    assert_eq!(counted(&*store, &TallyKind::Dead("key_conflict".into())).await, (1, 3));
    assert_eq!(counted(&*store, &TallyKind::Stored).await.0, 1);
}

/// What the engine refuses is dead with its cause and attempts; the rest is stored.
pub async fn store_4_a_refused_document_is_a_dead_letter_and_the_others_are_stored(
    fixture: &dyn StoreFixture,
) {
    let store = fixture.open().await;
    fixture.refuse(Some("poison")).await;
    let poison = document_with(2, "{\"poison\":true}");
    let mut whole = batch([document(1), poison.clone(), document(3)]);
    whole.cursor = Some(cursor("log-a", 1, 1));
    let outcomes = store.put_batch(whole).await.unwrap();
    assert_eq!((&outcomes[0], &outcomes[2]), (&Outcome::Stored, &Outcome::Stored));
    assert_eq!(all(&*store).await, [1, 3]);
    assert_eq!(store.cursors().await.unwrap(), [cursor("log-a", 1, 1)]);
    let letters = letters(&*store).await;
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].id, &letters[0].body), (poison.id, &poison.body));
    assert_eq!(letters[0].attempts, 3);
    assert_eq!(letters[0].cause.code(), "refused");
    assert!(!letters[0].cause.detail().is_empty());
    assert_eq!(outcomes[1], Outcome::Dead(letters[0].cause.clone()));
    assert_eq!(counted(&*store, &TallyKind::Dead("refused".into())).await, (1, 15));
    assert_eq!(counted(&*store, &TallyKind::Stored).await.0, 2);
}

/// Also where all of a batch is refused, the next batch goes through.
pub async fn store_4_a_batch_of_refused_documents_holds_up_nothing(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    fixture.refuse(Some("poison")).await;
    let poison = (0..50).map(|n| document_with(n, &format!("\"poison {n}\"")));
    let outcomes = store.put_batch(batch(poison)).await.unwrap();
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Dead(Cause::Refused(_)))));
    assert_eq!(letters(&*store).await.len(), 50);
    assert_eq!(store.put_batch(batch([document(99)])).await.unwrap(), [Outcome::Stored]);
    assert_eq!(all(&*store).await, [99]);
}

/// A refused document is named by its place in the batch, and nothing is written meanwhile.
pub async fn store_4_a_refused_document_is_named_and_nothing_is_written(
    fixture: &dyn StoreFixture,
) {
    let store = fixture.open().await;
    fixture.refuse(Some("poison")).await;
    let documents = [document(1), document_with(2, "\"poison\""), document(3)];
    let put = Arc::new(batch(documents));
    // An engine may take fewer at a time until it has found the one.
    let (mut first, mut end) = (0, put.len());
    let refused = loop {
        let planned = plan(&put, first..end, &KnownIds::new(), &HashMap::new());
        match store.write(Arc::new(planned)).await.unwrap() {
            Written::Refused(refused) => break refused,
            Written::TooLarge(items) => end = first + items,
            Written::Done => (first, end) = (end, put.len()),
            Written::Changed(known) => panic!("{known:?}"),
        }
    };
    assert_eq!(refused.keys().collect::<Vec<_>>(), [&1]);
    assert!(!refused[&1].is_empty());
    assert!(store.get(id(2)).await.unwrap().is_none());
    assert_eq!(letters(&*store).await, []);
}

/// An outage is no poison.
pub async fn store_5_an_engine_that_is_away_is_an_error_and_makes_no_dead_letter(
    fixture: &dyn StoreFixture,
) {
    let store = fixture.open().await;
    fixture.set_away(true).await;
    for _ in 0..5 {
        let failure = store.put_batch(batch([document(1)])).await.unwrap_err();
        assert!(failure.is_retryable(), "{failure}: {:?}", failure.kind());
    }
    fixture.set_away(false).await;
    assert_eq!(letters(&*store).await, []);
    assert_eq!(store.put_batch(batch([document(1)])).await.unwrap(), [Outcome::Stored]);
}

/// A letter whose document is stored after all is taken away, and only that one.
pub async fn store_6_storing_takes_the_dead_letter_with_the_same_bytes_away(
    fixture: &dyn StoreFixture,
) {
    let store = fixture.open().await;
    fixture.refuse(Some("poison")).await;
    let (first, second) = (document_with(1, "\"poison 1\""), document_with(2, "\"poison 2\""));
    store.put_batch(batch([first.clone(), second.clone()])).await.unwrap();
    fixture.refuse(None).await;
    assert_eq!(store.put_batch(batch([first.clone()])).await.unwrap(), [Outcome::Stored]);
    assert_eq!(letters(&*store).await.iter().map(|letter| letter.id).collect::<Vec<_>>(), [id(2)]);
    assert_eq!(get(&*store, 1).await.unwrap().document, first);
    assert!(matches!(store.find(id(1)).await.unwrap(), Some(Found::Stored { .. })));
}

/// A letter that is put for a document that is stored is not kept, in whatever order they come.
pub async fn store_6_a_letter_put_for_a_document_that_is_stored_is_not_kept(
    fixture: &dyn StoreFixture,
) {
    let store = fixture.open().await;
    let given_up =
        |n| DeadLetter::of(&document(n), Cause::Refused("delivered too often".into()), 5, NOW);
    store.put_batch(batch([document(1)])).await.unwrap();
    let put = Batch { dead: vec![given_up(1), given_up(2), given_up(3)], ..batch([document(2)]) };
    let outcomes = inlet_core::persist::put_batch(&*store, put).await.unwrap();
    let dead = Outcome::Dead(given_up(3).cause);
    assert_eq!(outcomes, [Outcome::Stored, Outcome::Duplicate, Outcome::Duplicate, dead]);
    assert_eq!(letters(&*store).await.iter().map(|letter| letter.id).collect::<Vec<_>>(), [id(3)]);
    let refused = TallyKind::Dead("refused".into());
    assert_eq!(counted(&*store, &refused).await.0, 1);
    // With another body it is another document's.
    let other = DeadLetter { body: Bytes::from_static(b"[1]"), ..given_up(1) };
    let put = Batch { dead: vec![other.clone()], ..batch([]) };
    store.put_batch(put).await.unwrap();
    let mut kept = letters(&*store).await;
    kept.sort_unstable_by_key(|letter| letter.id);
    assert_eq!(kept, [other, given_up(3)]);
}

/// A letter of the same id with other bytes is another document's, and stays.
pub async fn store_6_storing_leaves_the_dead_letter_with_other_bytes(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    store.put_batch(batch([document(1), document_with(1, "[2]")])).await.unwrap();
    assert_eq!(letters(&*store).await.len(), 1);
    assert_eq!(store.put_batch(batch([document(1)])).await.unwrap(), [Outcome::Duplicate]);
    assert_eq!(letters(&*store).await.len(), 1);
}
