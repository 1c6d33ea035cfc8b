//! The rules of migrations, on lists of migrations that are made up.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use inlet_testkit::server::{Server, ServerKind};
use tokio_postgres::{Client, NoTls};

use super::{Limits, MigrateReport, Migration, Phase, Unfit, check, run};

static SERVER: LazyLock<Server> = LazyLock::new(|| Server::start(ServerKind::Postgres));
static COUNT: AtomicU32 = AtomicU32::new(0);

const FIRST: Migration = Migration {
    number: 1,
    name: "things",
    phase: Phase::Expand,
    sql: "CREATE TABLE inlet.things (old int); INSERT INTO inlet.things VALUES (7)",
};
const SECOND: Migration = Migration {
    number: 2,
    name: "new_things",
    phase: Phase::Expand,
    sql: "ALTER TABLE inlet.things ADD COLUMN new int GENERATED ALWAYS AS (old * 2) STORED",
};
const THIRD: Migration = Migration {
    number: 3,
    name: "no_old_things",
    phase: Phase::Contract,
    sql: "ALTER TABLE inlet.things ALTER COLUMN new DROP EXPRESSION; \
          ALTER TABLE inlet.things DROP COLUMN old",
};
/// What a binary knows, and the ones after it know.
const BEFORE: &[Migration] = &[FIRST];
const AFTER: &[Migration] = &[FIRST, SECOND, THIRD];

const LIMITS: Limits = Limits { wait_ms: 10_000, lock_ms: 200, statement_ms: 10_000 };

async fn connect(database: &str) -> Client {
    let port = SERVER.port();
    let url = format!("postgres://inlet:inlet@127.0.0.1:{port}/{database}?sslmode=disable");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Two connections to an empty database.
async fn empty() -> (Client, Client) {
    let name = format!("migrate_{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let sql = format!("CREATE DATABASE {name}");
    connect("postgres").await.batch_execute(&sql).await.unwrap();
    (connect(&name).await, connect(&name).await)
}

async fn expand(client: &Client, migrations: &[Migration]) -> MigrateReport {
    run(client, migrations, Phase::Expand, LIMITS).await.unwrap()
}

/// Why it was refused.
async fn refused(client: &Client, migrations: &[Migration], phase: Phase) -> String {
    let unfit = run(client, migrations, phase, LIMITS).await.unwrap_err();
    client.batch_execute("ROLLBACK").await.unwrap();
    let (Unfit::Refused(reason, _) | Unfit::Missing(reason, _)) = unfit else {
        panic!("{unfit:?}")
    };
    reason
}

#[tokio::test]
async fn the_binary_before_and_the_one_after_run_side_by_side_until_it_is_contracted() {
    let (client, _other) = empty().await;
    assert!(check(&client, BEFORE).await.is_err());
    assert_eq!(expand(&client, BEFORE).await.applied, ["0001_things"]);
    check(&client, BEFORE).await.unwrap();
    assert!(check(&client, AFTER).await.is_err(), "it needs what is not there yet");

    let report = expand(&client, AFTER).await;
    assert_eq!(report.applied, ["0002_new_things"]);
    assert_eq!((report.version, report.compatible_since), (2, 0));
    assert_eq!(report.to_contract, ["0003_no_old_things"]);
    check(&client, BEFORE).await.unwrap();
    check(&client, AFTER).await.unwrap();
    client.query_one("SELECT old, new FROM inlet.things", &[]).await.unwrap();
    // The binary before it may migrate again, as each does that is deployed with it.
    assert_eq!(expand(&client, BEFORE).await.applied, Vec::<String>::new());
    assert_eq!(expand(&client, AFTER).await.applied, Vec::<String>::new());

    let report = run(&client, AFTER, Phase::Contract, LIMITS).await.unwrap();
    assert_eq!(report.applied, ["0003_no_old_things"]);
    assert_eq!((report.version, report.compatible_since), (2, 3));
    check(&client, AFTER).await.unwrap();
    let unfit = check(&client, BEFORE).await.unwrap_err();
    assert!(matches!(unfit, Unfit::Refused(reason, _) if reason.contains("migration 3")));
    assert!(refused(&client, BEFORE, Phase::Expand).await.contains("migration 3"));
}

#[tokio::test]
async fn nothing_is_contracted_before_all_is_expanded() {
    let (client, _other) = empty().await;
    assert!(refused(&client, AFTER, Phase::Contract).await.contains("no tables"));
    expand(&client, BEFORE).await;
    assert!(refused(&client, AFTER, Phase::Contract).await.contains("older"));
    assert_eq!(expand(&client, AFTER).await.applied, ["0002_new_things"]);
}

#[tokio::test]
async fn two_that_migrate_at_once_wait_for_each_other() {
    let (one, other) = empty().await;
    let (one, other) = tokio::join!(expand(&one, AFTER), expand(&other, AFTER));
    assert_eq!(one.applied.len() + other.applied.len(), 2);
    assert!(one.applied.is_empty() || other.applied.is_empty());
    assert_eq!((one.version, other.version), (2, 2));
}

#[tokio::test]
async fn a_migration_that_was_changed_after_it_ran_is_refused() {
    let (client, _other) = empty().await;
    expand(&client, BEFORE).await;
    let changed = Migration { sql: "CREATE TABLE inlet.things (older int)", ..FIRST };
    let reason = refused(&client, &[changed, SECOND], Phase::Expand).await;
    assert!(reason.contains("migration 1"), "{reason}");
    check(&client, BEFORE).await.unwrap();
}

#[tokio::test]
async fn a_migration_that_fails_leaves_nothing() {
    let (client, _other) = empty().await;
    let wrong = Migration { sql: "CREATE TABLE inlet.x (a int); SELECT 1 / 0", ..SECOND };
    let unfit = run(&client, &[FIRST, wrong], Phase::Expand, LIMITS).await.unwrap_err();
    assert!(matches!(unfit, Unfit::Fault(_)));
    client.batch_execute("ROLLBACK").await.unwrap();
    assert!(check(&client, BEFORE).await.is_err(), "not even the first is there");
    assert_eq!(expand(&client, BEFORE).await.applied, ["0001_things"]);
}

#[tokio::test]
async fn a_table_in_use_is_not_waited_for_so_long_that_its_users_wait() {
    let (client, user) = empty().await;
    expand(&client, BEFORE).await;
    user.batch_execute("BEGIN; SELECT * FROM inlet.things").await.unwrap();
    let unfit = run(&client, AFTER, Phase::Expand, LIMITS).await.unwrap_err();
    let failure = unfit.failure("migrate the schema in", "postgres://here");
    assert!(failure.is_retryable(), "{failure}");
    client.batch_execute("ROLLBACK").await.unwrap();
    user.batch_execute("COMMIT").await.unwrap();
    assert_eq!(expand(&client, AFTER).await.applied, ["0002_new_things"]);
}
