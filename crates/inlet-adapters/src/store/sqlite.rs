//! The store in one SQLite file.
//!
//! One thread owns the connection that writes and takes its commands from a bounded channel;
//! reads go over a few read-only connections on blocking threads. The file is in WAL mode with
//! `synchronous=FULL`: when a batch returns, it is on disk, and the queue may forget it.
//!
//! What is where in the file is in [`schema`]; what a batch does to it in [`put`].

mod failure;
mod known;
mod put;
mod read;
mod readers;
mod reserve;
mod rows;
mod schema;
mod spans;
mod streams;
mod tallies;
mod writer;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

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
use tokio::sync::{mpsc, oneshot};

use self::readers::Readers;
use self::writer::{Command, Writer};
use crate::files;

/// How many commands wait for the writing thread before callers wait themselves.
const COMMANDS_MAX: usize = 16;

/// The settings of a [`SqliteStore`].
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// How long a write waits for a lock that another process holds, in milliseconds, before the
    /// batch fails as [`FailureKind::Unavailable`]. Default 5,000.
    pub busy_ms: u64,
    /// How much of the file the writing connection keeps in memory, in bytes. Default 8 MiB.
    pub cache_bytes: usize,
    /// How many reads run at once; each has 1 MiB of cache. Default 3.
    pub readers_max: usize,
    /// The most bytes the file may have; beyond it a batch fails as [`FailureKind::Full`].
    /// Default `None`: as many as the disk has.
    pub bytes_max: Option<u64>,
    /// How much disk is held back for when it is full, in bytes: given up then, so that what
    /// waits in the queue can still be stored and its segments deleted. Default 16 MiB.
    pub reserve_bytes: u64,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            busy_ms: 5_000,
            cache_bytes: 8 << 20,
            readers_max: 3,
            bytes_max: None,
            reserve_bytes: 16 << 20,
        }
    }
}

/// A [`Store`] in one SQLite file.
///
/// Several may be open on the same file, also in several processes; SQLite's lock sets their
/// writes one behind the other.
///
/// Beyond the contract: a page ends early, with [`Page::more`], at 8 MiB of bodies, so that one
/// answer is bounded; a cursor that is none of this store's is refused; an erased document is
/// overwritten in the file, and the write-ahead log is emptied as soon as nothing else is to be
/// written. `first` and `last` of a stream's figures tell of what was received, erased or not.
pub struct SqliteStore {
    path: Arc<Path>,
    writer: mpsc::Sender<Command>,
    readers: Readers,
}

impl SqliteStore {
    /// The name of the file in its directory.
    pub const FILE: &'static str = "documents.sqlite3";

    /// Opens the store in `directory`, or makes it where there is none. Blocks, for
    /// milliseconds; for the start of a process.
    ///
    /// Fails as [`FailureKind::Refused`] where the file is of a newer version, no store of
    /// Inlet, or can't be written, and as [`FailureKind::Damaged`] where it is no SQLite file.
    pub fn open(directory: impl Into<PathBuf>, options: &SqliteOptions) -> Result<Self, Failure> {
        let directory = directory.into();
        let path: Arc<Path> = Arc::from(directory.join(Self::FILE));
        let connection = schema::open(&directory, &path, options)?;
        let reserve = reserve::Reserve::take(&directory, options.reserve_bytes);
        let (writer, commands) = mpsc::channel(COMMANDS_MAX);
        let place = files::Place::of(&path)
            .map_err(|error| files::failure(error, "look at the store", &path))?;
        let state = Writer::new(connection, Arc::clone(&path), place.clone(), reserve);
        thread::Builder::new()
            .name("inlet-sqlite".to_owned())
            .spawn(move || state.run(commands))
            .map_err(|error| {
            Failure::new(FailureKind::Unavailable, "start the thread that writes", show(&path))
                .because(error)
        })?;
        let readers = Readers::new(Arc::clone(&path), place, options.readers_max);
        Ok(Self { path, writer, readers })
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Finishes what was begun, moves the write-ahead log into the file and closes it. Whatever
    /// is asked of the store afterwards fails. Without it nothing is lost; the next start has
    /// the write-ahead log to read.
    pub async fn close(&self) -> Result<(), Failure> {
        self.command(|reply| Command::Close { reply }).await
    }

    async fn command<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T, Failure>>) -> Command,
    ) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        self.writer.send(make(reply)).await.map_err(|_| self.gone())?;
        answer.await.map_err(|_| self.gone())?
    }

    fn gone(&self) -> Failure {
        Failure::new(FailureKind::Poisoned, "reach the thread that writes", show(&self.path))
            .hint("the store was closed, or its thread has failed; start Inlet again")
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn write(&self, plan: Arc<Plan>) -> Result<Written, Failure> {
        self.command(|reply| Command::Write { plan, reply }).await
    }

    async fn get(&self, id: DocumentId) -> Result<Option<StoredDocument>, Failure> {
        self.readers.read("read a document from", move |tx| read::get(tx, id)).await
    }

    async fn find(&self, id: DocumentId) -> Result<Option<Found>, Failure> {
        self.readers.read("find an id in", move |tx| read::find(tx, id)).await
    }

    async fn known(&self, ids: &[DocumentId]) -> Result<KnownIds, Failure> {
        let ids = ids.to_vec();
        self.readers.read("look up ids in", move |tx| known::known(tx, ids)).await
    }

    async fn page(&self, query: &PageQuery) -> Result<Page<StoredDocument>, Failure> {
        let after = self.position(query.after.as_deref())?;
        let until = query.until.as_deref().map(|until| self.position(Some(until))).transpose()?;
        let behind = (after, until.unwrap_or(i64::MAX));
        let query = query.clone();
        self.readers.read("read a page from", move |tx| read::page(tx, &query, behind)).await
    }

    async fn cursor_of_last(
        &self,
        stream: Option<&StreamName>,
        count: usize,
    ) -> Result<Option<String>, Failure> {
        let stream = stream.cloned();
        let found = self.readers.read("find the last documents of", move |tx| {
            read::cursor_of_last(tx, stream.as_ref(), count)
        });
        found.await
    }

    async fn ids(&self, prefix: &IdPrefix, limit: usize) -> Result<Vec<DocumentId>, Failure> {
        let prefix = *prefix;
        self.readers.read("find ids in", move |tx| read::ids(tx, prefix, limit)).await
    }

    async fn erase(&self, id: DocumentId, now: Timestamp) -> Result<Erasure, Failure> {
        self.command(|reply| Command::Erase { id, now, reply }).await
    }

    async fn erasures(&self) -> Result<u64, Failure> {
        self.readers.read("count the erasures of", |tx| known::erasures(tx)).await
    }

    async fn marks(&self, ids: &[DocumentId]) -> Result<HashMap<DocumentId, EraseMark>, Failure> {
        let ids = ids.to_vec();
        self.readers.read("look up marks in", move |tx| known::marks(tx, &ids)).await
    }

    async fn streams(&self) -> Result<Vec<StreamFigures>, Failure> {
        self.readers.read("list the streams of", |tx| streams::list(tx)).await
    }

    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Page<DeadLetter>, Failure> {
        let position = self.position(after)?;
        let (filter, after) = (filter.clone(), after.map(str::to_owned));
        self.readers
            .read("list the dead letters of", move |tx| {
                read::dead_letters(tx, &filter, limit, position, after)
            })
            .await
    }

    async fn mark_redriven(&self, ids: &[DocumentId], now: Timestamp) -> Result<(), Failure> {
        if ids.is_empty() {
            return Ok(());
        }
        let ids = ids.to_vec();
        self.command(|reply| Command::MarkRedriven { ids, now, reply }).await
    }

    async fn cursors(&self) -> Result<Vec<Cursor>, Failure> {
        self.readers.read("read the cursors of", |tx| read::cursors(tx)).await
    }

    async fn tallies(&self, first: Day, last: Day) -> Result<Tallies, Failure> {
        self.readers.read("read the tallies of", move |tx| tallies::between(tx, first, last)).await
    }

    async fn tally_weeks(&self) -> Result<Vec<TallyWeek>, Failure> {
        self.readers.read("read the tallied weeks of", |tx| tallies::weeks(tx)).await
    }

    async fn mark_summarized(&self, week: Week, revision: u64) -> Result<(), Failure> {
        self.command(|reply| Command::MarkSummarized { week, revision, reply }).await
    }

    async fn identity(&self) -> Result<StoreId, Failure> {
        self.readers.read("read the identity of", |tx| read::identity(tx)).await
    }

    async fn check(&self) -> Result<(), Failure> {
        if self.writer.is_closed() {
            return Err(self.gone());
        }
        self.readers.read("check", |tx| read::check(tx)).await
    }
}

impl SqliteStore {
    /// The position a page's cursor stands for: 0 where there is none.
    fn position(&self, after: Option<&str>) -> Result<i64, Failure> {
        let Some(after) = after else { return Ok(0) };
        after.parse().ok().filter(|position| *position >= 0).ok_or_else(|| {
            Failure::new(FailureKind::Refused, "use that cursor on", show(&self.path))
                .hint("give the cursor of the page before as it was")
        })
    }
}

fn show(path: &Path) -> String {
    path.display().to_string()
}
