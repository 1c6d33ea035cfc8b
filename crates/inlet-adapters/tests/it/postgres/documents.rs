//! What the contract leaves to the adapter.

use inlet_core::dead_letter::{Cause, DeadLetterFilter};
use inlet_core::document::Document;
use inlet_core::failure::FailureKind;
use inlet_core::ports::{Outcome, PageQuery, Store, TallyKind};
use inlet_testkit::contract::store::StoreFixture;
use inlet_testkit::sample::{
    PutBatch, after, batch, day, document, document_with, keyed_document, stream,
};

use super::database::Database;

#[tokio::test]
async fn a_constraint_makes_one_dead_letter_that_names_it_and_quotes_no_body() {
    let database = Database::new().await;
    let store = database.try_open().await.unwrap();
    let sql = "ALTER TABLE inlet.documents ADD CONSTRAINT small CHECK (octet_length(body) < 50)";
    database.execute(sql).await;
    let secret = format!("\"{}\"", "geheim".repeat(20));
    let mut documents: Vec<Document> = (0..300).map(document).collect();
    documents[123].body = secret.into();
    let outcomes = store.put_batch(batch(documents)).await.unwrap();
    let stored = outcomes.iter().filter(|outcome| **outcome == Outcome::Stored).count();
    assert_eq!(stored, 299);
    let Outcome::Dead(Cause::Refused(detail)) = &outcomes[123] else { panic!("{outcomes:?}") };
    assert!(detail.contains("small") && !detail.contains("geheim"), "{detail}");
    assert_eq!(database.number("SELECT count(*) FROM inlet.documents").await, 299);
    assert_eq!(database.number("SELECT sum(documents)::bigint FROM inlet.streams").await, 299);
}

#[tokio::test]
async fn a_large_batch_of_nothing_but_poison_is_done_with_in_one_call() {
    let database = Database::new().await;
    let store = database.open().await;
    database.refuse(Some("poison")).await;
    let poison = (0..1_500).map(|n| document_with(n, &format!("\"poison {n}\"")));
    let outcomes = store.put_batch(batch(poison.chain([document(9_999)]))).await.unwrap();
    assert_eq!(outcomes.last(), Some(&Outcome::Stored));
    assert_eq!(database.number("SELECT count(*) FROM inlet.dead_letters").await, 1_500);
    let tried = "SELECT count(*) FROM inlet.dead_letters WHERE attempts = 3";
    assert_eq!(database.number(tried).await, 1_500);
}

#[tokio::test]
async fn a_full_disk_is_an_outage_and_no_poison() {
    let database = Database::new().await;
    let store = database.try_open().await.unwrap();
    let sql = "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS
         $$BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END$$;
         CREATE TRIGGER no_room BEFORE INSERT ON inlet.documents EXECUTE FUNCTION no_room()";
    database.execute(sql).await;
    let failure = store.put_batch(batch([document(1)])).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Full, "{failure}");
    assert!(failure.hint_text().unwrap().contains("disk"));
    let letters = store.dead_letters(&DeadLetterFilter::default(), 10, None).await.unwrap();
    assert_eq!(letters.items, []);
    database.execute("DROP TRIGGER no_room ON inlet.documents").await;
    assert_eq!(store.put_batch(batch([document(1)])).await.unwrap(), [Outcome::Stored]);
}

#[tokio::test]
async fn texts_that_postgres_can_not_hold_make_no_batch_fail() {
    let database = Database::new().await;
    let store = database.try_open().await.unwrap();
    let documents = [
        document_with(1, "{\"a\\u0000b\":1}"),
        document_with(2, "\"\\u0000\""),
        document_with(3, "{\"\\u2026\":1,\"…\":2}"),
    ];
    let outcomes = store.put_batch(batch(documents.clone())).await.unwrap();
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Stored), "{outcomes:?}");
    for document in documents {
        let stored = store.get(document.id).await.unwrap().unwrap();
        assert_eq!(stored.document.body, document.body);
    }
}

#[tokio::test]
async fn two_workers_with_the_same_documents_store_and_count_each_once() {
    let mut database = Database::new().await;
    database.options.lock_ms = 10_000;
    let (one, other) = (database.try_open().await.unwrap(), database.try_open().await.unwrap());
    for round in 0..20 {
        let documents = || (round * 200..round * 200 + 200).map(document);
        let (ours, theirs) = tokio::join!(
            one.put_batch(batch(documents())),
            other.put_batch(batch(documents().rev())),
        );
        let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
        for (ours, theirs) in ours.iter().zip(theirs.iter().rev()) {
            let both = [ours, theirs];
            assert!(both.contains(&&Outcome::Stored) && both.contains(&&Outcome::Duplicate));
        }
    }
    assert_eq!(database.number("SELECT count(*) FROM inlet.documents").await, 4_000);
    assert_eq!(database.number("SELECT documents FROM inlet.streams").await, 4_000);
    let counted = "SELECT documents FROM inlet.tallies WHERE kind = 0";
    assert_eq!(database.number(counted).await, 4_000);
}

#[tokio::test]
async fn a_reader_that_follows_skips_nothing_that_two_workers_store() {
    let mut database = Database::new().await;
    database.options.lock_ms = 10_000;
    let (one, other) = (database.try_open().await.unwrap(), database.try_open().await.unwrap());
    let put = async |store: &dyn Store, first: u64| {
        for n in 0..100 {
            let documents = (first + n * 10..first + n * 10 + 10).map(document);
            store.put_batch(batch(documents)).await.unwrap();
        }
    };
    let follow = async {
        let mut query = PageQuery { limit: 7, ..PageQuery::default() };
        let mut found = 0;
        while found < 2_000 {
            let page = one.page(&query).await.unwrap();
            found += page.items.len();
            query.after = page.next;
        }
        found
    };
    let ((), (), found) = tokio::join!(put(&one, 0), put(&other, 1_000), follow);
    assert_eq!(found, 2_000);
}

#[tokio::test]
async fn a_time_range_is_found_among_many_spans_whatever_the_clock_did() {
    let database = Database::new().await;
    let store = database.open().await;
    let mut n = 0;
    // Ten runs of 5,000 documents, the seventh of a day long before.
    for run in 0..10_i64 {
        let shift = if run == 6 { -86_400_000 } else { run * 10_000 };
        let documents: Vec<_> = (0..5_000)
            .map(|at| {
                n += 1;
                Document { received: after(shift + at), ..document(n) }
            })
            .collect();
        store.put_batch(batch(documents)).await.unwrap();
    }
    for (from, to, expected) in [
        (-86_400_000, -86_400_000 + 5, 5),
        (30_000, 30_003, 3),
        (34_998, 40_002, 4),
        (-86_400_000, 1, 5_001),
        (200_000, 300_000, 0),
        (-90_000_000, 200_000, 50_000),
    ] {
        let mut query = PageQuery {
            from: Some(after(from)),
            to: Some(after(to)),
            limit: 2_999,
            ..PageQuery::default()
        };
        let mut found = 0;
        loop {
            let page = store.page(&query).await.unwrap();
            found += page.items.len();
            query.after = page.next;
            if !page.more {
                break;
            }
        }
        assert_eq!(found, expected, "{from} to {to}");
    }
}

#[tokio::test]
async fn a_page_of_large_documents_ends_early_and_says_that_there_is_more() {
    let database = Database::new().await;
    let store = database.open().await;
    let body = format!("\"{}\"", "x".repeat(1 << 20));
    store.put_batch(batch((0..20).map(|n| document_with(n, &body)))).await.unwrap();
    for from in [None, Some(after(-1))] {
        let mut query = PageQuery { limit: 1_000, from, ..PageQuery::default() };
        let mut lengths = Vec::new();
        loop {
            let page = store.page(&query).await.unwrap();
            lengths.push(page.items.len());
            query.after = page.next;
            if !page.more {
                break;
            }
        }
        assert_eq!(lengths, [8, 8, 4]);
    }
}

#[tokio::test]
async fn a_cursor_of_no_page_is_refused() {
    let database = Database::new().await;
    let store = database.open().await;
    for cursor in ["x", "-1", "", "99999999999999999999"] {
        let query = PageQuery { limit: 1, after: Some(cursor.to_owned()), ..PageQuery::default() };
        let failure = store.page(&query).await.unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Refused);
        let filter = DeadLetterFilter::default();
        store.dead_letters(&filter, 1, Some(cursor)).await.unwrap_err();
    }
    let last = PageQuery { limit: 1, after: Some(i64::MAX.to_string()), ..PageQuery::default() };
    assert_eq!(store.page(&last).await.unwrap().items, []);
}

#[tokio::test]
async fn random_ids_and_many_streams_are_all_counted() {
    let database = Database::new().await;
    let store = database.open().await;
    let documents: Vec<_> = (0..3_000)
        .map(|n: u64| {
            let mut document = keyed_document(&format!("k{n}"), n.wrapping_mul(0x9e37_79b9));
            document.received = after(0);
            document.stream = stream(&format!("s{}", n % 700));
            document
        })
        .collect();
    let outcomes = store.put_batch(batch(documents)).await.unwrap();
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Stored));
    let streams = store.streams().await.unwrap();
    assert_eq!(streams.len(), 700);
    assert_eq!(streams.iter().map(|figures| figures.documents).sum::<u64>(), 3_000);
    let tallies = store.tallies(day(), day()).await.unwrap().rows;
    let stored = tallies.iter().filter(|row| row.kind == TallyKind::Stored);
    assert_eq!(stored.map(|row| row.documents).sum::<u64>(), 3_000);
}

#[tokio::test]
async fn fields_whose_names_are_data_do_not_make_the_tallies_grow() {
    let database = Database::new().await;
    let store = database.open().await;
    for round in 0..4 {
        let documents = (0..200).map(|n| {
            let n = round * 200 + n;
            document_with(n, &format!("{{\"f{n}\":1,\"always\":true}}"))
        });
        store.put_batch(batch(documents)).await.unwrap();
    }
    let tallies = store.tallies(day(), day()).await.unwrap().rows;
    let fields = || tallies.iter().filter(|row| matches!(row.kind, TallyKind::Field(..)));
    assert!((512..530).contains(&fields().count()), "{}", fields().count());
    let named = |wanted: &str| -> u64 {
        let of = |row: &&_| matches!(row, TallyKind::Field(path, _) if path == wanted);
        fields().filter(|row| of(&&row.kind)).map(|row| row.documents).sum()
    };
    assert_eq!(named("always"), 800);
    let total: u64 = fields().filter(|row| row.kind != root()).map(|row| row.documents).sum();
    assert!(total >= 1_600, "{total}");
}

/// What counts the documents themselves.
fn root() -> TallyKind {
    TallyKind::Field("$".to_owned(), "object".to_owned())
}
