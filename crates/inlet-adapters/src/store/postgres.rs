//! The store in a PostgreSQL database (Amazon Aurora, too).
//!
//! All is in the database's schema `inlet`, which `inlet migrate` makes and changes
//! ([`migrate`]); what is in it is in `migrations/0001_documents.sql`. What a batch does is in
//! [`put`].
//!
//! Behind PgBouncer in transaction mode and Amazon RDS Proxy it works as it does without, and
//! nothing has to be set for that: each statement is an unnamed one with its parameters beside it
//! (so no session has to remember it), and limits are set inside of each transaction. A statement
//! of a batch is planned once for thousands of rows.

mod address;
mod connect;
mod erase;
mod failure;
mod known;
mod migrate;
mod options;
mod put;
mod read;
mod rows;
mod sessions;
mod spans;
mod tallies;
mod tls;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use inlet_core::calendar::{Day, Week};
use inlet_core::dead_letter::{DeadLetter, DeadLetterFilter};
use inlet_core::document::{StoredDocument, StreamName, Timestamp};
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::id::{DocumentId, IdPrefix};
use inlet_core::persist::plan::{KnownIds, Plan};
use inlet_core::ports::{
    Cursor, EraseMark, Erasure, Found, Page, PageQuery, Store, StoreId, StreamFigures, Tallies,
    TallyWeek, Written,
};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout, timeout_at};

use self::address::Address;
use self::failure::Fault;
use self::migrate::{Limits, MIGRATIONS, Phase};
use self::sessions::{Session, Sessions};

pub use self::migrate::MigrateReport;
pub use self::options::{Password, PostgresOptions};

/// How often a transaction is begun at once again because another one was in its way.
const RETRIES_MAX: u32 = 5;

/// A [`Store`] in a PostgreSQL database.
///
/// Any number may be open on the same database, in any number of processes: their writes go one
/// behind the other.
///
/// Beyond the contract: a page ends early, with [`Page::more`], at 8 MiB of bodies, so that one
/// answer is bounded; a cursor that is none of this store's is refused. `first` and `last` of a
/// stream's figures tell of what was received, erased or not. An erased body is out of reach at
/// once; the server overwrites it when it next vacuums the table.
///
/// Every call ends within [`PostgresOptions::transaction_ms`] and the time a connection takes.
/// While the server is away calls fail as [`FailureKind::Unavailable`], and a new connection is
/// tried after pauses of 100 ms to 5 s. While none of the hosts may write, what reads goes on with
/// one that may only read, unless the URL says `target_session_attrs`.
pub struct PostgresStore {
    sessions: Sessions,
    begin: String,
    begin_reading: String,
    begin_snapshot: String,
}

impl PostgresStore {
    /// Opens the store in the database at `url`, as in
    /// `postgres://USER:PASSWORD@HOST:5432/DATABASE?sslmode=verify-full&sslrootcert=FILE`.
    ///
    /// `sslmode` is one of `disable`, `prefer`, `require`, `verify-ca`, `verify-full`, and without
    /// it `verify-full`, or `prefer` where the server is on this machine. `sslrootcert` names a
    /// file of authorities in PEM; without it those of this machine are trusted.
    ///
    /// Fails as [`FailureKind::Refused`] where the URL is none, or the schema is older or newer than
    /// this binary; as [`FailureKind::Missing`] where the database or the schema is not there; as
    /// [`FailureKind::Denied`] where user or password are not known there, or TLS does not come
    /// about; as [`FailureKind::Unavailable`] where the server can't be reached.
    pub async fn open(url: &str, options: &PostgresOptions) -> Result<Self, Failure> {
        let address = Address::parse(url)?;
        let store = Self {
            sessions: Sessions::open(&address, options).await?,
            begin: options.begin(),
            begin_reading: options.begin_reading(),
            begin_snapshot: options.begin_snapshot(),
        };
        let session = store.sessions.session("open the store in").await?;
        let checked = timeout(options.connect(), migrate::check(&session, MIGRATIONS)).await;
        match checked {
            Ok(checked) => {
                checked.map_err(|unfit| unfit.failure("open the store in", &address.shown))?;
            }
            Err(_) => {
                let reason = "no answer in time".to_owned();
                return Err(failure::away("open the store in", &address.shown, reason));
            }
        }
        drop(session);
        Ok(store)
    }

    /// Makes the schema, or brings it to what this binary needs, so that the binary before it
    /// goes on working. Waits for another that does the same. The role of `url` must be allowed
    /// to make a schema in the database, or to make tables in the schema `inlet` that is there.
    ///
    /// Fails as [`FailureKind::Refused`] where the schema is one that only newer binaries know,
    /// or a migration that ran there is not the one this binary has.
    pub async fn migrate(url: &str, options: &PostgresOptions) -> Result<MigrateReport, Failure> {
        Self::run(url, options, Phase::Expand).await
    }

    /// Takes away from the schema what only older binaries used. To be called once none of them
    /// runs any more; from then on the schema refuses them.
    pub async fn migrate_contract(
        url: &str,
        options: &PostgresOptions,
    ) -> Result<MigrateReport, Failure> {
        Self::run(url, options, Phase::Contract).await
    }

    /// Lets a role that exists read and write what is in the schema, also in tables that later
    /// migrations of the same user make; changing the schema stays with the role of `url`.
    pub async fn grant(url: &str, options: &PostgresOptions, role: &str) -> Result<(), Failure> {
        const ATTEMPTED: &str = "give a role its rights in";
        Self::once(url, options, ATTEMPTED, async |session| migrate::grant(session, role).await)
            .await
    }

    /// Makes a role that may sign in with `password`, where it is not there; where it is, it is
    /// given that password. What it may do is for [`grant`](Self::grant) to say. The role of
    /// `url` must be allowed to make roles.
    pub async fn make_role(
        url: &str,
        options: &PostgresOptions,
        role: &str,
        password: &str,
    ) -> Result<(), Failure> {
        const ATTEMPTED: &str = "make a role in";
        Self::once(url, options, ATTEMPTED, async |session| {
            migrate::make_role(session, role, password).await
        })
        .await
    }

    /// Does `work` over a connection of its own.
    async fn once(
        url: &str,
        options: &PostgresOptions,
        attempted: &'static str,
        work: impl AsyncFnOnce(&Session) -> Result<(), migrate::Unfit>,
    ) -> Result<(), Failure> {
        let address = Address::parse(url)?;
        let sessions = Sessions::open(&address, options).await?;
        let mut session = sessions.session(attempted).await?;
        session.begin();
        match timeout(options.transaction(), work(&session)).await {
            Ok(done) => done.map_err(|unfit| unfit.changing(attempted, &address.shown)),
            Err(_) => Err(failure::away(attempted, &address.shown, "no answer in time".to_owned())),
        }
    }

    async fn run(
        url: &str,
        options: &PostgresOptions,
        phase: Phase,
    ) -> Result<MigrateReport, Failure> {
        const ATTEMPTED: &str = "migrate the schema in";
        let address = Address::parse(url)?;
        let sessions = Sessions::open(&address, options).await?;
        let mut session = sessions.session(ATTEMPTED).await?;
        let limits = Limits {
            wait_ms: options.migrate_wait_ms,
            lock_ms: options.lock_ms,
            statement_ms: options.migrate_statement_ms,
        };
        // Whatever ends it early, the connection is closed then, and nothing of it stays.
        session.begin();
        let silent_max = options.transaction() + limits.longest();
        match timeout(silent_max, migrate::run(&session, MIGRATIONS, phase, limits)).await {
            Ok(ran) => ran.map_err(|unfit| unfit.changing(ATTEMPTED, &address.shown)),
            Err(_) => Err(failure::away(ATTEMPTED, &address.shown, "no answer in time".to_owned())),
        }
    }

    /// A connection for one call; it is closed where the call does not end as it should.
    async fn session(&self, attempted: &'static str) -> Result<Session, Failure> {
        let mut session = self.sessions.session(attempted).await?;
        session.begin();
        Ok(session)
    }

    /// Until when a call may take, that begins now.
    fn deadline(&self) -> Instant {
        Instant::now() + self.sessions.transaction_max()
    }

    /// Waits for `work` as long as a transaction may take.
    async fn bounded<T>(&self, work: impl Future<Output = T>) -> Result<T, Elapsed> {
        timeout_at(self.deadline(), work).await
    }

    /// Ends a call that reads.
    async fn done<T>(
        &self,
        session: Session,
        attempted: &'static str,
        result: Result<Result<T, Fault>, Elapsed>,
    ) -> Result<T, Failure> {
        let settled = self.sessions.settle(session, attempted, result).await?;
        settled.ok_or_else(|| self.busy(attempted))
    }

    fn busy(&self, attempted: &'static str) -> Failure {
        let reason = "other sessions were in the way each time".to_owned();
        failure::away(attempted, self.sessions.shown(), reason)
    }

    /// The position a page's cursor stands for: 0 where there is none.
    fn position(&self, after: Option<&str>) -> Result<i64, Failure> {
        let Some(after) = after else { return Ok(0) };
        after.parse().ok().filter(|position| *position >= 0).ok_or_else(|| {
            Failure::new(FailureKind::Refused, "use that cursor on", self.sessions.shown())
                .hint("give the cursor of the page before as it was")
        })
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn write(&self, plan: Arc<Plan>) -> Result<Written, Failure> {
        const ATTEMPTED: &str = "write a batch to";
        let deadline = self.deadline();
        for _ in 0..RETRIES_MAX {
            let session = self.session(ATTEMPTED).await?;
            let written = timeout_at(deadline, put::put(&session, &self.begin, &plan)).await;
            if let Some(written) = self.sessions.settle(session, ATTEMPTED, written).await? {
                return Ok(written);
            }
        }
        Err(self.busy(ATTEMPTED))
    }

    async fn get(&self, id: DocumentId) -> Result<Option<StoredDocument>, Failure> {
        const ATTEMPTED: &str = "read a document from";
        let session = self.session(ATTEMPTED).await?;
        let found = self.bounded(read::get(&session, id)).await;
        self.done(session, ATTEMPTED, found).await
    }

    async fn find(&self, id: DocumentId) -> Result<Option<Found>, Failure> {
        const ATTEMPTED: &str = "find an id in";
        let session = self.session(ATTEMPTED).await?;
        let found = self.bounded(read::find(&session, id)).await;
        self.done(session, ATTEMPTED, found).await
    }

    async fn known(&self, ids: &[DocumentId]) -> Result<KnownIds, Failure> {
        const ATTEMPTED: &str = "look up ids in";
        if ids.is_empty() {
            return Ok(KnownIds::new());
        }
        let session = self.session(ATTEMPTED).await?;
        let known = known::known(&session, ids);
        let found = self.bounded(read::in_transaction(&session, &self.begin_reading, known)).await;
        self.done(session, ATTEMPTED, found).await
    }

    async fn page(&self, query: &PageQuery) -> Result<Page<StoredDocument>, Failure> {
        const ATTEMPTED: &str = "read a page from";
        let after = self.position(query.after.as_deref())?;
        let until = query.until.as_deref().map(|until| self.position(Some(until))).transpose()?;
        let behind = (after, until.unwrap_or(i64::MAX));
        let session = self.session(ATTEMPTED).await?;
        let page = read::page(&session, query, behind);
        let found = self.bounded(read::in_transaction(&session, &self.begin_reading, page)).await;
        self.done(session, ATTEMPTED, found).await
    }

    async fn cursor_of_last(
        &self,
        stream: Option<&StreamName>,
        count: usize,
    ) -> Result<Option<String>, Failure> {
        const ATTEMPTED: &str = "find the last documents of";
        let session = self.session(ATTEMPTED).await?;
        let found = read::cursor_of_last(&session, stream, count);
        let found = self.bounded(read::in_transaction(&session, &self.begin_reading, found)).await;
        self.done(session, ATTEMPTED, found).await
    }

    async fn ids(&self, prefix: &IdPrefix, limit: usize) -> Result<Vec<DocumentId>, Failure> {
        const ATTEMPTED: &str = "find ids in";
        let session = self.session(ATTEMPTED).await?;
        let found = read::ids(&session, prefix, limit);
        let found = self.bounded(read::in_transaction(&session, &self.begin_reading, found)).await;
        self.done(session, ATTEMPTED, found).await
    }

    async fn erase(&self, id: DocumentId, now: Timestamp) -> Result<Erasure, Failure> {
        const ATTEMPTED: &str = "erase from";
        let deadline = self.deadline();
        for _ in 0..RETRIES_MAX {
            let session = self.session(ATTEMPTED).await?;
            let erased = timeout_at(deadline, erase::erase(&session, &self.begin, id, now)).await;
            if let Some(erasure) = self.sessions.settle(session, ATTEMPTED, erased).await? {
                return Ok(erasure);
            }
        }
        Err(self.busy(ATTEMPTED))
    }

    async fn erasures(&self) -> Result<u64, Failure> {
        const ATTEMPTED: &str = "count the erasures of";
        let session = self.session(ATTEMPTED).await?;
        let found = self.bounded(known::erasures(&session)).await;
        self.done(session, ATTEMPTED, found).await
    }

    async fn marks(&self, ids: &[DocumentId]) -> Result<HashMap<DocumentId, EraseMark>, Failure> {
        const ATTEMPTED: &str = "look up marks in";
        let session = self.session(ATTEMPTED).await?;
        let found = self.bounded(known::marks(&session, ids)).await;
        self.done(session, ATTEMPTED, found).await
    }

    async fn streams(&self) -> Result<Vec<StreamFigures>, Failure> {
        const ATTEMPTED: &str = "list the streams of";
        let session = self.session(ATTEMPTED).await?;
        let streams = read::streams(&session);
        let found =
            self.bounded(read::in_transaction(&session, &self.begin_reading, streams)).await;
        self.done(session, ATTEMPTED, found).await
    }

    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Page<DeadLetter>, Failure> {
        const ATTEMPTED: &str = "list the dead letters of";
        let position = self.position(after)?;
        let session = self.session(ATTEMPTED).await?;
        let after = after.map(str::to_owned);
        let letters = read::dead_letters(&session, filter, limit, position, after);
        let found =
            self.bounded(read::in_transaction(&session, &self.begin_reading, letters)).await;
        self.done(session, ATTEMPTED, found).await
    }

    async fn mark_redriven(&self, ids: &[DocumentId], now: Timestamp) -> Result<(), Failure> {
        const ATTEMPTED: &str = "note a redrive in";
        if ids.is_empty() {
            return Ok(());
        }
        let deadline = self.deadline();
        for _ in 0..RETRIES_MAX {
            let session = self.session(ATTEMPTED).await?;
            let marked =
                timeout_at(deadline, erase::mark_redriven(&session, &self.begin, ids, now)).await;
            if self.sessions.settle(session, ATTEMPTED, marked).await?.is_some() {
                return Ok(());
            }
        }
        Err(self.busy(ATTEMPTED))
    }

    async fn cursors(&self) -> Result<Vec<Cursor>, Failure> {
        const ATTEMPTED: &str = "read the cursors of";
        let session = self.session(ATTEMPTED).await?;
        let found = self.bounded(read::cursors(&session)).await;
        self.done(session, ATTEMPTED, found).await
    }

    async fn tallies(&self, first: Day, last: Day) -> Result<Tallies, Failure> {
        const ATTEMPTED: &str = "read the tallies of";
        let session = self.session(ATTEMPTED).await?;
        let tallies = tallies::between(&session, first, last);
        let found =
            self.bounded(read::in_transaction(&session, &self.begin_snapshot, tallies)).await;
        self.done(session, ATTEMPTED, found).await
    }

    async fn tally_weeks(&self) -> Result<Vec<TallyWeek>, Failure> {
        const ATTEMPTED: &str = "read the tallied weeks of";
        let session = self.session(ATTEMPTED).await?;
        let weeks = tallies::weeks(&session);
        let found = self.bounded(read::in_transaction(&session, &self.begin_reading, weeks)).await;
        self.done(session, ATTEMPTED, found).await
    }

    async fn mark_summarized(&self, week: Week, revision: u64) -> Result<(), Failure> {
        const ATTEMPTED: &str = "note a summary in";
        let deadline = self.deadline();
        for _ in 0..RETRIES_MAX {
            let session = self.session(ATTEMPTED).await?;
            let mark = tallies::mark_summarized(&session, &self.begin, week, revision);
            let marked = timeout_at(deadline, mark).await;
            if self.sessions.settle(session, ATTEMPTED, marked).await?.is_some() {
                return Ok(());
            }
        }
        Err(self.busy(ATTEMPTED))
    }

    async fn identity(&self) -> Result<StoreId, Failure> {
        const ATTEMPTED: &str = "read the identity of";
        let session = self.session(ATTEMPTED).await?;
        let found = self.bounded(read::identity(&session)).await;
        self.done(session, ATTEMPTED, found).await
    }

    async fn check(&self) -> Result<(), Failure> {
        const ATTEMPTED: &str = "check";
        let session = self.session(ATTEMPTED).await?;
        let checked = self.bounded(read::check(&session)).await;
        self.done(session, ATTEMPTED, checked).await
    }
}
