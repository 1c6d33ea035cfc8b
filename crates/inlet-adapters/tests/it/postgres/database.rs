//! A database of its own for each test, on one server for all of them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use inlet_adapters::store::{PostgresOptions, PostgresStore};
use inlet_core::failure::Failure;
use inlet_core::ports::Store;
use inlet_testkit::contract::store::StoreFixture;
use inlet_testkit::server::{Server, ServerKind};
use tokio::sync::{Mutex, OnceCell};
use tokio_postgres::{Client, NoTls};

static SERVER: LazyLock<Server> = LazyLock::new(|| Server::start(ServerKind::Postgres));
static POOLER: LazyLock<Server> =
    LazyLock::new(|| Server::start(ServerKind::PgBouncer(SERVER.port())));
/// The database with the schema in it, that those of the tests are copies of.
static MIGRATED: OnceCell<()> = OnceCell::const_new();
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A database that nobody else uses, and how a store gets to it.
pub(super) struct Database {
    pub(super) name: String,
    pub(super) port: u16,
    pub(super) options: PostgresOptions,
    lock: Mutex<Option<Client>>,
}

impl Database {
    /// One with the schema in it.
    pub(super) async fn new() -> Self {
        MIGRATED
            .get_or_init(|| async {
                execute("postgres", "CREATE DATABASE migrated").await;
                let url = url(SERVER.port(), "migrated");
                PostgresStore::migrate(&url, &PostgresOptions::default()).await.unwrap();
            })
            .await;
        Self::of("TEMPLATE migrated").await
    }

    /// One with nothing in it.
    pub(super) async fn empty() -> Self {
        Self::of("").await
    }

    /// One with the schema in it, that the store gets to through PgBouncer.
    pub(super) async fn pooled() -> Self {
        Self { port: POOLER.port(), ..Self::new().await }
    }

    async fn of(kind: &str) -> Self {
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        execute("postgres", &format!("CREATE DATABASE {name} {kind}")).await;
        let options = PostgresOptions { lock_ms: 50, ..PostgresOptions::default() };
        Self { name, port: SERVER.port(), options, lock: Mutex::default() }
    }

    pub(super) fn url(&self) -> String {
        url(self.port, &self.name)
    }

    pub(super) async fn try_open(&self) -> Result<PostgresStore, Failure> {
        PostgresStore::open(&self.url(), &self.options).await
    }

    pub(super) async fn execute(&self, sql: &str) {
        execute(&self.name, sql).await;
    }

    pub(super) async fn number(&self, sql: &str) -> i64 {
        let client = connect(&self.name).await;
        client.query_one(sql, &[]).await.unwrap().get(0)
    }

    pub(super) async fn client(&self) -> Client {
        connect(&self.name).await
    }
}

#[async_trait]
impl StoreFixture for Database {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.try_open().await.unwrap())
    }

    async fn refuse(&self, marker: Option<&str>) {
        self.execute("DROP TRIGGER IF EXISTS poison ON inlet.documents").await;
        if let Some(marker) = marker {
            self.execute(&format!(
                "CREATE OR REPLACE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS
                 $$BEGIN RAISE EXCEPTION 'poison is refused'; END$$;
                 CREATE TRIGGER poison BEFORE INSERT ON inlet.documents FOR EACH ROW
                 WHEN (position('{marker}'::bytea IN new.body) > 0) EXECUTE FUNCTION poison()"
            ))
            .await;
        }
    }

    async fn set_away(&self, away: bool) {
        let mut lock = self.lock.lock().await;
        if let Some(client) = lock.take() {
            client.batch_execute("ROLLBACK").await.unwrap();
        }
        if away {
            let client = self.client().await;
            let sql = "BEGIN; SELECT last FROM inlet.positions FOR UPDATE";
            client.batch_execute(sql).await.unwrap();
            *lock = Some(client);
        }
    }
}

/// The URL of a database on that port of this machine.
pub(super) fn url(port: u16, database: &str) -> String {
    format!("postgres://inlet:inlet@127.0.0.1:{port}/{database}")
}

/// The server of all tests.
pub(super) fn server() -> &'static Server {
    &SERVER
}

/// Between two attempts a worker lets others go on.
pub(super) async fn as_a_worker_pauses() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

async fn connect(database: &str) -> Client {
    let url = format!("{}?sslmode=disable", url(SERVER.port(), database));
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn execute(database: &str, sql: &str) {
    connect(database).await.batch_execute(sql).await.unwrap();
}
