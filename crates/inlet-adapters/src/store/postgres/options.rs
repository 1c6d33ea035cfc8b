//! The settings of the store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

/// The settings of a [`PostgresStore`](super::PostgresStore).
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// How many connections there are at most. Default 8.
    pub connections_max: usize,
    /// How long a caller waits for a connection while all are busy, in milliseconds. Default
    /// 5,000.
    pub wait_ms: u64,
    /// How long making a connection may take, with TLS and password, in milliseconds. Default
    /// 5,000.
    pub connect_ms: u64,
    /// How long the other side may leave what was sent unconfirmed (`TCP_USER_TIMEOUT`, and the
    /// same for keep-alive), in milliseconds. Default 15,000.
    pub silence_ms: u64,
    /// How long one statement may take, in milliseconds; the server ends it then. Default 30,000.
    pub statement_ms: u64,
    /// How long a statement waits for a lock, in milliseconds. Default 10,000.
    pub lock_ms: u64,
    /// How long a whole transaction may take on our side, in milliseconds; its connection is
    /// closed then. It bounds every call, also where the server is silent. Default 60,000.
    pub transaction_ms: u64,
    /// How old a connection may get, in milliseconds: so that passwords that rotate, and names
    /// that lead elsewhere, are followed. Default 1,800,000 (half an hour).
    pub lifetime_ms: u64,
    /// How long a migration waits for another that runs, in milliseconds. Default 60,000.
    pub migrate_wait_ms: u64,
    /// How long one statement of a migration may take, in milliseconds. Default 3,600,000 (an
    /// hour).
    pub migrate_statement_ms: u64,
    /// The password of new connections, instead of the one in the URL. Default `None`.
    pub password: Option<Password>,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            connections_max: 8,
            wait_ms: 5_000,
            connect_ms: 5_000,
            silence_ms: 15_000,
            statement_ms: 30_000,
            lock_ms: 10_000,
            transaction_ms: 60_000,
            lifetime_ms: 1_800_000,
            migrate_wait_ms: 60_000,
            migrate_statement_ms: 3_600_000,
            password: None,
        }
    }
}

impl PostgresOptions {
    pub(super) fn wait(&self) -> Duration {
        Duration::from_millis(self.wait_ms)
    }

    pub(super) fn connect(&self) -> Duration {
        Duration::from_millis(self.connect_ms)
    }

    pub(super) fn silence(&self) -> Duration {
        Duration::from_millis(self.silence_ms.max(1_000))
    }

    pub(super) fn transaction(&self) -> Duration {
        Duration::from_millis(self.transaction_ms)
    }

    pub(super) fn lifetime(&self) -> Duration {
        Duration::from_millis(self.lifetime_ms)
    }

    /// What begins a transaction that writes. All of it is set in the transaction and ends with
    /// it, because behind a pooler the next transaction may have another server's session.
    ///
    /// Fresh snapshots for each statement are needed for what is read behind the lock, and a
    /// commit must be on disk, whatever the database's defaults are. All that a batch touches it
    /// finds by keys: thousands of them at once would make the planner read small tables whole,
    /// as it would before it knows that they have grown, and compile what runs for milliseconds.
    pub(super) fn begin(&self) -> String {
        format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED;
             {}
             SET LOCAL enable_seqscan = off;
             SET LOCAL jit = off;
             SELECT set_config('synchronous_commit', 'on', true)
             WHERE current_setting('synchronous_commit') = 'off'",
            self.limits()
        )
    }

    /// What begins a transaction that reads.
    pub(super) fn begin_reading(&self) -> String {
        format!("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; {}", self.limits())
    }

    /// Begins a transaction that reads several tables as of one moment.
    pub(super) fn begin_snapshot(&self) -> String {
        format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {}", self.limits())
    }

    fn limits(&self) -> String {
        let Self { statement_ms, lock_ms, transaction_ms, .. } = self;
        format!(
            "SET LOCAL statement_timeout = {statement_ms};
             SET LOCAL lock_timeout = {lock_ms};
             SET LOCAL idle_in_transaction_session_timeout = {transaction_ms};"
        )
    }
}

/// Where the password of a new connection comes from. Asked each time one is made, so that a
/// password that was rotated is used without a restart.
#[derive(Clone)]
pub struct Password(Arc<dyn Fn() -> Option<String> + Send + Sync>);

impl Password {
    /// `current` gives the password of this moment, or `None` for the one of the URL. It is
    /// called on the runtime and must not block.
    pub fn new(current: impl Fn() -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(current))
    }

    /// The password in a secret: that of the JSON which Amazon RDS keeps and rotates, as in
    /// `{"username": "inlet_app", "password": "…"}`, or the text itself without its last line's
    /// end. `None` where the bytes are no text.
    pub fn in_secret(secret: &[u8]) -> Option<String> {
        #[derive(Deserialize)]
        struct Rotated {
            password: String,
        }
        let text = std::str::from_utf8(secret).ok()?;
        let rotated = serde_json::from_str::<Rotated>(text).map(|rotated| rotated.password);
        Some(rotated.unwrap_or_else(|_| text.trim_end().to_owned()))
    }

    pub(super) fn current(&self) -> Option<String> {
        (self.0)()
    }
}

/// Never the password.
impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}
