//! The schema: who makes it, who may only read and write.

use inlet_adapters::store::{Password, PostgresOptions, PostgresStore};
use inlet_core::document::Document;
use inlet_core::failure::FailureKind;
use inlet_core::ports::{Batch, Outcome, Store};
use inlet_testkit::sample::{NOW, PutBatch, after, batch, cursor, document, document_with, id};

use super::database::Database;

#[tokio::test]
async fn a_migration_makes_the_schema_once_also_where_two_run_at_once() {
    let database = Database::empty().await;
    let (url, options) = (database.url(), PostgresOptions::default());
    let (one, other) = tokio::join!(
        PostgresStore::migrate(&url, &options),
        PostgresStore::migrate(&url, &options),
    );
    let (one, other) = (one.unwrap(), other.unwrap());
    // One ran all of them, the other none.
    assert_eq!(one.applied.len().min(other.applied.len()), 0, "{one:?} {other:?}");
    assert_ne!(one.applied, other.applied);
    assert_eq!((one.version, one.compatible_since), (other.version, other.compatible_since));
    let again = PostgresStore::migrate(&url, &options).await.unwrap();
    assert_eq!(again.applied, Vec::<String>::new());
    let contracted = PostgresStore::migrate_contract(&url, &options).await.unwrap();
    assert_eq!(contracted.applied, Vec::<String>::new());
    database.try_open().await.unwrap();
}

#[tokio::test]
async fn two_schemas_have_two_identities() {
    let (one, other) = (Database::empty().await, Database::empty().await);
    for database in [&one, &other] {
        PostgresStore::migrate(&database.url(), &database.options).await.unwrap();
    }
    let identity = one.try_open().await.unwrap().identity().await.unwrap();
    assert_eq!(one.try_open().await.unwrap().identity().await.unwrap(), identity);
    assert_ne!(other.try_open().await.unwrap().identity().await.unwrap(), identity);
}

#[tokio::test]
async fn the_schema_of_a_newer_binary_is_used_until_it_says_that_it_no_longer_can_be() {
    let database = Database::new().await;
    database.execute("UPDATE inlet.schema_version SET version = 7").await;
    let store = database.try_open().await.unwrap();
    assert_eq!(store.put_batch(batch([document(1)])).await.unwrap(), [Outcome::Stored]);
    database.execute("UPDATE inlet.schema_version SET compatible_since = 7").await;
    let failure = database.try_open().await.err().unwrap();
    assert_eq!(failure.kind(), FailureKind::Refused);
    assert!(failure.hint_text().unwrap().contains("newer"));
    let failure = PostgresStore::migrate(&database.url(), &database.options).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Refused);
}

#[tokio::test]
async fn a_role_that_was_granted_reads_and_writes_and_can_change_nothing_else() {
    let database = Database::new().await;
    let role = format!("odd \"role\" {}", database.name);
    let quoted = format!("\"{}\"", role.replace('"', "\"\""));
    database.execute(&format!("CREATE ROLE {quoted} LOGIN PASSWORD 'w'")).await;
    let options = PostgresOptions::default();
    let encoded = role.replace(' ', "%20").replace('"', "%22");
    let url = database.url().replace("inlet:inlet", &format!("{encoded}:w"));
    let failure = PostgresStore::open(&url, &options).await.err().unwrap();
    assert_eq!(failure.kind(), FailureKind::Denied);
    assert!(failure.hint_text().unwrap().contains("--grant"), "{failure}");
    PostgresStore::grant(&database.url(), &options, &role).await.unwrap();

    let store = PostgresStore::open(&url, &options).await.unwrap();
    let mut whole = batch([document(1), document(2), document_with(1, "[2]")]);
    whole.cursor = Some(cursor("log", 1, 2));
    store.put_batch(Batch { ..whole }).await.unwrap();
    assert!(store.erase(id(2), NOW).await.unwrap().was_there);
    store.mark_redriven(&[id(1)], NOW).await.unwrap();
    assert_eq!(store.streams().await.unwrap()[0].documents, 1);
    let migrated = PostgresStore::migrate_contract(&url, &options).await;
    assert!(migrated.is_ok_and(|report| report.applied.is_empty()));

    let client = database.client().await;
    client.batch_execute(&format!("SET ROLE {quoted}")).await.unwrap();
    for sql in [
        "ALTER TABLE inlet.documents ADD COLUMN x int",
        "DROP TABLE inlet.documents",
        "TRUNCATE inlet.documents",
        "CREATE TABLE inlet.mine (x int)",
        "DROP SCHEMA inlet CASCADE",
        "UPDATE inlet.schema_version SET version = 0",
        "DELETE FROM inlet.migrations",
    ] {
        let error = client.batch_execute(sql).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501", "{sql}: {error}");
    }
    let failure = PostgresStore::grant(&url, &options, "nobody at all").await.unwrap_err();
    assert!(matches!(failure.kind(), FailureKind::Missing | FailureKind::Denied), "{failure}");
}

#[tokio::test]
async fn a_role_is_made_with_its_password_and_gets_a_new_one() {
    let database = Database::new().await;
    let options = PostgresOptions::default();
    let role = format!("made_{}", database.name);
    for password in ["it's \\ the first", "the second"] {
        PostgresStore::make_role(&database.url(), &options, &role, password).await.unwrap();
        PostgresStore::grant(&database.url(), &options, &role).await.unwrap();
        let url = database.url().replace("inlet:inlet", &role);
        let known = password.to_owned();
        let known = PostgresOptions {
            password: Some(Password::new(move || Some(known.clone()))),
            ..PostgresOptions::default()
        };
        PostgresStore::open(&url, &known).await.unwrap();
        // It may not make itself another.
        let refused = PostgresStore::make_role(&url, &known, "another", "x").await.unwrap_err();
        assert_eq!(refused.kind(), FailureKind::Denied);
        assert!(refused.hint_text().unwrap().contains("CREATEROLE"), "{refused}");
    }
    let kept = format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{role}'");
    let rows = database.client().await.query(&kept, &[]).await.unwrap();
    assert!(rows[0].get::<_, String>(0).starts_with("SCRAM-SHA-256$"));
    let failure = PostgresStore::make_role(&database.url(), &options, &role, "").await.unwrap_err();
    assert!(failure.hint_text().unwrap().contains("the secret `app`"), "{failure}");
}

#[tokio::test]
async fn a_role_that_may_make_no_schema_migrates_the_one_that_an_administrator_made() {
    let database = Database::empty().await;
    let role = format!("owner_{}", database.name);
    database.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'w'")).await;
    let url = database.url().replace("inlet:inlet", &format!("{role}:w"));
    let options = PostgresOptions::default();
    let failure = PostgresStore::migrate(&url, &options).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Denied);
    let hint = failure.hint_text().unwrap();
    assert!(hint.contains("CREATE SCHEMA inlet AUTHORIZATION"), "{hint}");
    assert!(!hint.contains("inlet migrate"), "it names the command that just failed: {hint}");

    database.execute(&format!("CREATE SCHEMA inlet AUTHORIZATION {role}")).await;
    let report = PostgresStore::migrate(&url, &options).await.unwrap();
    assert!(!report.applied.is_empty());
    let store = PostgresStore::open(&url, &options).await.unwrap();
    assert_eq!(store.put_batch(batch([document(1)])).await.unwrap(), [Outcome::Stored]);
    assert_eq!(PostgresStore::migrate(&url, &options).await.unwrap().applied, Vec::<String>::new());
}

#[tokio::test]
async fn an_erasure_by_an_older_binary_beside_this_one_is_counted() {
    let database = Database::new().await;
    let store = database.try_open().await.unwrap();
    store.put_batch(batch([document(1)])).await.unwrap();
    store.erase(id(2), NOW).await.unwrap();
    let older = format!(
        "WITH gone AS (DELETE FROM inlet.documents WHERE id = '{0}')
         INSERT INTO inlet.erased AS e (id, erased_us) VALUES ('{0}', {1})
         ON CONFLICT (id) DO UPDATE SET erased_us = greatest(e.erased_us, excluded.erased_us)",
        id(1),
        NOW.as_micros()
    );
    for _ in 0..2 {
        let erasures = store.erasures().await.unwrap();
        database.execute(&older).await;
        let mark = store.marks(&[id(1)]).await.unwrap()[&id(1)];
        assert!(mark.generation > erasures);
        assert_eq!(store.erasures().await.unwrap(), mark.generation);
        let ahead = Document { received: after(99_000_000), ..document(1) };
        assert_eq!(store.put_batch(batch([ahead])).await.unwrap(), [Outcome::Erased]);
    }
}

#[tokio::test]
async fn marks_from_before_erasures_were_counted_are_told_by_their_moment() {
    let database = Database::new().await;
    database
        .execute(&format!(
            "ALTER TABLE inlet.erased DISABLE TRIGGER count_erasure;
             INSERT INTO inlet.erased (id, erased_us) VALUES ('{}', {});
             ALTER TABLE inlet.erased ENABLE TRIGGER count_erasure;",
            id(1),
            NOW.as_micros()
        ))
        .await;
    let store = database.try_open().await.unwrap();
    assert_eq!(store.erasures().await.unwrap(), 1);
    let sent = |received| Document { received, ..document(1) };
    let outcomes = store.put_batch(batch([sent(NOW), sent(after(9_000_000))])).await.unwrap();
    assert_eq!(outcomes, [Outcome::Erased, Outcome::Stored]);
    assert!(store.erase(id(1), NOW).await.unwrap().generation > 1);
    let outcomes = store.put_batch(batch([sent(after(9_000_001))])).await.unwrap();
    assert_eq!(outcomes, [Outcome::Erased]);
}
