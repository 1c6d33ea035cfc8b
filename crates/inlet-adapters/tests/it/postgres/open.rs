//! What can be wrong at the start, and what is asked of a server's certificate.

use std::error::Error;
use std::path::Path;
use std::sync::{Arc, Mutex};

use inlet_adapters::store::{Password, PostgresOptions, PostgresStore};
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::{Outcome, Store};
use inlet_testkit::sample::{PutBatch, batch, document};
use inlet_testkit::server::free_port;

use super::database::{Database, as_a_worker_pauses, server, url};

async fn refused(url: &str) -> Failure {
    let failure = PostgresStore::open(url, &PostgresOptions::default()).await.err().unwrap();
    assert!(failure.hint_text().is_some(), "{failure}: {:?}", failure.source());
    failure
}

/// All that a person gets to read.
fn text(failure: &Failure) -> String {
    let mut text = failure.to_string();
    let mut source = failure.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text + ". " + failure.hint_text().unwrap_or_default()
}

#[tokio::test]
async fn a_database_without_the_schema_is_refused_with_the_command_that_makes_it() {
    let database = Database::empty().await;
    let failure = refused(&database.url()).await;
    assert_eq!(failure.kind(), FailureKind::Missing);
    assert!(text(&failure).contains("inlet migrate --store"), "{}", text(&failure));
    assert!(text(&failure).contains(&format!("inlet@127.0.0.1:{}", database.port)));
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_shown_nowhere() {
    let database = Database::new().await;
    let failure = refused(&database.url().replace("inlet:inlet", "inlet:geheim")).await;
    assert_eq!(failure.kind(), FailureKind::Denied);
    let text = text(&failure);
    assert!(text.contains("password") && !text.contains("geheim"), "{text}");
    let failure = refused(&database.url().replace("inlet:inlet", "nobody:geheim")).await;
    assert_eq!(failure.kind(), FailureKind::Denied);
    let failure = refused(&database.url().replace("inlet:inlet", "inlet")).await;
    assert_eq!(failure.kind(), FailureKind::Denied);
    assert!(self::text(&failure).contains("password missing"), "{failure}");
}

#[tokio::test]
async fn a_database_that_is_not_there_is_refused_by_name() {
    let failure = refused(&url(server().port(), "nowhere")).await;
    assert_eq!(failure.kind(), FailureKind::Missing);
    assert!(text(&failure).contains("nowhere"), "{}", text(&failure));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_outage_that_names_it() {
    let port = free_port();
    let failure = refused(&url(port, "inlet")).await;
    assert_eq!(failure.kind(), FailureKind::Unavailable);
    assert!(text(&failure).contains(&port.to_string()), "{}", text(&failure));
    let unresolved = "postgres://u:p@nowhere.invalid/d";
    assert_eq!(refused(unresolved).await.kind(), FailureKind::Unavailable);
}

#[tokio::test]
async fn a_certificate_is_checked_against_the_given_authority_and_the_name() {
    let database = Database::new().await;
    let files = tempfile::tempdir().unwrap();
    let (ours, theirs) = (server().directory().join("ca.pem"), files.path().join("other.pem"));
    // The server's own certificate has not signed itself.
    std::fs::copy(server().directory().join("server.pem"), &theirs).unwrap();
    let with = |host: &str, mode: &str, authority: &Path| {
        let url = database.url().replace("127.0.0.1", host);
        format!("{url}?sslmode={mode}&sslrootcert={}&hostaddr=127.0.0.1", authority.display())
    };
    for (host, mode) in [
        ("localhost", "verify-full"),
        ("127.0.0.1", "verify-full"),
        ("db.example.com", "verify-ca"),
        ("db.example.com", "require"),
    ] {
        let url = with(host, mode, &ours);
        let store = PostgresStore::open(&url, &PostgresOptions::default()).await;
        store.map_err(|failure| text(&failure)).unwrap().check().await.unwrap();
    }
    let wrong_name = refused(&with("db.example.com", "verify-full", &ours)).await;
    assert_eq!(wrong_name.kind(), FailureKind::Denied);
    assert!(text(&wrong_name).contains("another name"), "{}", text(&wrong_name));
    // A server elsewhere is checked like that without being told to.
    let unsaid = with("db.example.com", "", &ours).replace("sslmode=&", "");
    assert!(text(&refused(&unsaid).await).contains("another name"));
    for mode in ["verify-full", "verify-ca"] {
        let unknown = refused(&with("localhost", mode, &theirs)).await;
        assert_eq!(unknown.kind(), FailureKind::Denied);
        assert!(text(&unknown).contains("sslrootcert"), "{}", text(&unknown));
    }
    let missing = refused(&with("localhost", "verify-full", Path::new("/nowhere.pem"))).await;
    assert!(text(&missing).contains("/nowhere.pem"), "{}", text(&missing));
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    let database = Database::pooled().await;
    let failure = refused(&format!("{}?sslmode=require", database.url())).await;
    assert_eq!(failure.kind(), FailureKind::Denied);
    assert!(text(&failure).contains("sslmode=disable"), "{}", text(&failure));
}

#[tokio::test]
async fn a_password_that_was_rotated_is_used_without_a_restart() {
    let mut database = Database::new().await;
    let role = format!("rotated_{}", database.name);
    database.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'one'")).await;
    let owner = PostgresOptions::default();
    PostgresStore::grant(&database.url(), &owner, &role).await.unwrap();
    let current = Arc::new(Mutex::new("one".to_owned()));
    let provider = Arc::clone(&current);
    database.options.password = Some(Password::new(move || Some(provider.lock().unwrap().clone())));
    let url = database.url().replace("inlet:inlet", &role);
    let store = PostgresStore::open(&url, &database.options).await.unwrap();
    assert_eq!(store.put_batch(batch([document(1)])).await.unwrap(), [Outcome::Stored]);
    database.execute(&format!("ALTER ROLE {role} PASSWORD 'two'")).await;
    end_sessions(&database, &role).await;
    // In the middle of the rotation it is an outage, and nothing to stop for.
    let failure = store.put_batch(batch([document(2)])).await.unwrap_err();
    assert!(failure.is_retryable(), "{}", text(&failure));
    *current.lock().unwrap() = "two".to_owned();
    let outcomes = loop {
        match store.put_batch(batch([document(2)])).await {
            Ok(outcomes) => break outcomes,
            Err(failure) => assert!(failure.is_retryable(), "{}", text(&failure)),
        }
        as_a_worker_pauses().await;
    };
    assert_eq!(outcomes, [Outcome::Stored]);
    assert!(!format!("{:?}", database.options).contains("two"));
}

/// Ends the sessions of that role, and waits until they are gone.
async fn end_sessions(database: &Database, role: &str) {
    let of = format!("FROM pg_stat_activity WHERE usename = '{role}'");
    database.execute(&format!("SELECT pg_terminate_backend(pid) {of}")).await;
    while database.number(&format!("SELECT count(*) {of}")).await > 0 {}
}
