//! The queue in logs on this machine's disk.
//!
//! ```text
//! ROOT/INSTANCE/         the log of one instance, which it alone appends to
//! ROOT/INSTANCE.drain    locked by the one worker that drains that log
//! KNOWN/INSTANCE         the identity of the log, noted outside of ROOT (`known.rs`)
//! LOSSES                 the documents that no log can deliver any more (`damaged.rs`)
//! ```
//!
//! A document is a record: its envelope's head, then its body. A worker drains all logs under
//! ROOT, in turn, also those of instances that are gone; logs that appear later are found by
//! listing ROOT again. The store says up to where each log is stored: it keeps the cursor in the
//! transaction that stores the documents, and a worker starts there. A log is tied to the store
//! that its first documents went to; another store, or an older copy of it, is refused.
//!
//! A worker in the process that appends follows that log by being told; the others it polls some
//! ten times a second. It alone removes segments, once they are settled; a log that was drained
//! long ago and whose instance is gone is removed. A log that can't be read is set aside and
//! reported on the board, and holds up no other.

mod damaged;
mod directory;
mod drain;
mod drains;
mod failure;
mod known;
mod send;
mod standing;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use inlet_core::document::Document;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::health::Health;
use inlet_core::id::DocumentId;
use inlet_core::ports::{BatchLimit, Damaged, Delivery, Depth, Oldest, Outcome, Queue, Store};
use inlet_log::{Durability, Log, LogOptions, OpenError, Position, RealDisk, Recovery};
use tokio::{task, time};

use self::damaged::LossFile;
use self::drain::StoreState;
use self::drains::{Drains, Turn};
use self::known::Known;
use self::standing::Standing;

pub use self::damaged::LossNote;
pub use self::directory::{LogDirectory, StoreView};
pub use self::known::MissingLog;

/// How often a log whose lock is held is opened again: the process before may be at its end.
const OPEN_ATTEMPTS_MAX: u32 = 20;
const OPEN_RETRY: Duration = Duration::from_millis(50);

/// The settings of a [`LogQueue`].
#[derive(Clone)]
pub struct LogQueueOptions {
    /// How the own log is kept; `drained` is set by the queue.
    pub log: LogOptions,
    /// How often logs of other processes are looked at for more, in milliseconds. Default 100.
    pub poll_ms: u64,
    /// How often logs that appeared are looked for, in milliseconds. Default 1,000.
    pub list_ms: u64,
    /// After how long without a document the drained log of an instance that is gone is removed,
    /// in milliseconds. Default 600,000.
    pub remove_after_ms: u64,
    /// The time for which a log that can't be read is left alone, in milliseconds. Default 5,000.
    pub retry_ms: u64,
    /// The directory in which the logs are noted, outside of the one that holds them. Default
    /// `None`: a log that is taken away is not missed.
    pub known: Option<PathBuf>,
    /// The file with the documents that can't be delivered any more. Default `None`: none is kept.
    pub losses: Option<PathBuf>,
    /// The board on which logs that can't be read are reported. Default `None`: they are logged.
    pub health: Option<Health>,
}

impl Default for LogQueueOptions {
    fn default() -> Self {
        Self {
            log: LogOptions::default(),
            poll_ms: 100,
            list_ms: 1_000,
            remove_after_ms: 600_000,
            retry_ms: 5_000,
            known: None,
            losses: None,
            health: None,
        }
    }
}

/// A [`Queue`] in logs on this machine's disk: it sends, receives, or both.
///
/// A handle that sends has to be driven ([`LogQueue::drive`]). Of several handles that receive
/// under the same root, each log is drained by the one that came first.
///
/// Beyond the contract: [`Queue::receive`] never fails because of one log; [`Queue::depth`] counts
/// the bytes of the own log, and knows the oldest document of all logs that are drained from here.
pub struct LogQueue {
    root: PathBuf,
    own: Option<Log>,
    standing: Arc<Standing>,
    losses: Option<Arc<LossFile>>,
    bytes_max: Option<u64>,
    append_bytes_max: usize,
    recovery: Option<Recovery>,
    receiving: Option<Turn>,
}

impl LogQueue {
    /// Opens the log of `instance` under `root` to send, and receives from all logs under it.
    pub async fn open(
        root: &Path,
        instance: &str,
        store: Arc<dyn Store>,
        options: &LogQueueOptions,
    ) -> Result<Self, Failure> {
        let standing = Arc::<Standing>::default();
        let (log, recovery) = open_log(root, instance, &*store, &standing, options).await?;
        let (own, root) = (Some(log.clone()), root.to_owned());
        let drains = Drains::new(root.clone(), own, store, Arc::clone(&standing), options);
        Ok(Self::of(&root, Some((log, recovery)), Some(drains), standing, options))
    }

    /// Opens the log of `instance` under `root` to send. The store is asked how far it is
    /// drained, to start the faster; one that is away is no reason not to start.
    pub async fn open_to_send(
        root: &Path,
        instance: &str,
        store: &dyn Store,
        options: &LogQueueOptions,
    ) -> Result<Self, Failure> {
        let standing = Arc::<Standing>::default();
        let opened = open_log(root, instance, store, &standing, options).await?;
        Ok(Self::of(root, Some(opened), None, standing, options))
    }

    /// Receives from all logs under `root`. Those that can be drained are looked for with the
    /// first [`Queue::receive`].
    pub fn open_to_receive(root: &Path, store: Arc<dyn Store>, options: &LogQueueOptions) -> Self {
        let standing = Arc::<Standing>::default();
        let drains = Drains::new(root.to_owned(), None, store, Arc::clone(&standing), options);
        Self::of(root, None, Some(drains), standing, options)
    }

    /// What drives the own log, until it is closed; to be spawned on the runtime that serves. It
    /// ends with an error where a write or a sync failed: then nothing more is acknowledged, and
    /// the process should say so and end. `None` where nothing is sent from here.
    pub fn drive(&self) -> Option<impl Future<Output = Result<(), Failure>> + Send + 'static> {
        let driven = self.own.as_ref()?.drive();
        Some(async move { driven.await.map_err(failure::drive) })
    }

    /// Asks the store how far the own log is drained, so that what is stored counts no more. For a
    /// process that sends and does not receive: its worker is elsewhere, and the store is where
    /// both meet. Fails as [`FailureKind::Refused`] where the store is not the log's.
    pub async fn note_drained(&self, store: &dyn Store) -> Result<(), Failure> {
        let Some(log) = self.own.clone() else { return Ok(()) };
        let known = StoreState::ask(store).await?;
        let position = drain::position_in(&known.cursors, log.id());
        self.standing.note(log.dir(), Some(&log), position);
        self.blocking("look at the log", move || {
            inlet_log::check_pair(&RealDisk, log.dir(), known.id, position)
                .map_err(failure::pair)?;
            log.note_drained(position);
            log.notice_released().map_err(failure::io)
        })
        .await?
    }

    /// Returns true if a worker drains the own log, in this process or another, and also if nothing
    /// is sent from here.
    pub async fn is_drained(&self) -> Result<bool, Failure> {
        let Some(log) = self.own.clone() else { return Ok(true) };
        let dir = log.dir().to_owned();
        self.blocking("look at the lock of the log", move || {
            drain::is_drained(&dir)
                .map_err(|error| crate::files::failure(error, "look at the lock of", &dir))
        })
        .await?
    }

    /// Poisons the own log where its directory was removed, renamed, replaced or unmounted: then
    /// what drives it ends. Acknowledgements ask that for themselves.
    pub async fn check_place(&self) -> Result<(), Failure> {
        let Some(log) = self.own.clone() else { return Ok(()) };
        self.blocking("look for the log", move || log.check_place()).await
    }

    /// What the open of the own log found and made good.
    pub fn recovery(&self) -> Option<&Recovery> {
        self.recovery.as_ref()
    }

    /// The method that the own log is made durable by, and what its file system keeps.
    pub fn durability(&self) -> Option<&Durability> {
        self.own.as_ref().map(Log::durability)
    }

    /// Takes nothing more, waits until what was taken is durable or has failed, and ends what
    /// drives the log.
    pub async fn close(&self) {
        if let Some(log) = &self.own {
            log.close().await;
        }
    }

    fn of(
        root: &Path,
        opened: Option<(Log, Recovery)>,
        drains: Option<Drains>,
        standing: Arc<Standing>,
        options: &LogQueueOptions,
    ) -> Self {
        let (own, recovery) = opened.unzip();
        Self {
            root: root.to_owned(),
            standing,
            losses: options.losses.as_deref().map(LossFile::new).map(Arc::new),
            bytes_max: own.as_ref().map(|_| options.log.queue_bytes_max),
            append_bytes_max: send::append_bytes_max(&options.log),
            own,
            recovery,
            receiving: drains.map(Turn::new),
        }
    }

    fn sending(&self) -> Result<&Log, Failure> {
        self.own.as_ref().ok_or_else(|| {
            let root = self.root.display().to_string();
            Failure::new(FailureKind::Refused, "send by a handle that only receives from", root)
        })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        attempted: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        task::spawn_blocking(work).await.map_err(|error| {
            let root = self.root.display().to_string();
            Failure::new(FailureKind::Unavailable, attempted, root).because(error)
        })
    }

    fn receiving(&self) -> Result<&Turn, Failure> {
        self.receiving.as_ref().ok_or_else(|| {
            let root = self.root.display().to_string();
            Failure::new(FailureKind::Refused, "receive by a handle that only sends to", root)
        })
    }
}

#[async_trait]
impl Queue for LogQueue {
    fn has_room(&self) -> Result<(), Failure> {
        self.sending()?.has_room().map_err(failure::append)
    }

    async fn send(&self, documents: &[Document]) -> Result<(), Failure> {
        let sent = send::send(self.sending()?, documents, self.append_bytes_max).await;
        sent.map_err(failure::append)
    }

    async fn receive(&self, limit: BatchLimit) -> Result<Delivery, Failure> {
        self.receiving()?.take(&self.root)?.receive(limit).await
    }

    async fn settle(&self, delivery: &Delivery, _outcomes: &[Outcome]) -> Result<(), Failure> {
        let turn = self.receiving()?;
        match &delivery.cursor {
            Some(cursor) => turn.take(&self.root)?.settle(cursor).await,
            None => Ok(()),
        }
    }

    async fn depth(&self) -> Result<Depth, Failure> {
        let standing = Arc::clone(&self.standing);
        let oldest = self.blocking("look at the logs under", move || standing.oldest()).await;
        let own = self.own.as_ref();
        Ok(Depth {
            bytes: own.map_or(0, Log::bytes),
            bytes_max: self.bytes_max,
            messages: None,
            oldest: oldest.unwrap_or(Oldest::Unknown),
        })
    }

    async fn damaged(&self, id: DocumentId) -> Result<Option<Damaged>, Failure> {
        let Some(losses) = self.losses.clone() else { return Ok(None) };
        self.blocking("look at the losses of the logs under", move || losses.find(id)).await?
    }
}

async fn open_log(
    root: &Path,
    instance: &str,
    store: &dyn Store,
    standing: &Standing,
    options: &LogQueueOptions,
) -> Result<(Log, Recovery), Failure> {
    let dir = root.join(instance);
    let known = StoreState::ask(store).await;
    let known = known.inspect_err(|failure| {
        let failure = failure.chain();
        tracing::warn!(failure, "the store does not say how far the log is drained: all is read");
    });
    let known = known.ok();
    let mut attempts = 0;
    let (log, recovery) = loop {
        attempts += 1;
        let (root, instance, options) = (root.to_owned(), instance.to_owned(), options.clone());
        let known = known.clone();
        let opening =
            task::spawn_blocking(move || open_blocking(&root, &instance, known.as_ref(), &options));
        match opening.await {
            Ok(Err(Opening::Log(OpenError::InUse { .. }))) if attempts < OPEN_ATTEMPTS_MAX => {
                time::sleep(OPEN_RETRY).await;
            }
            Ok(Ok(opened)) => break opened,
            Ok(Err(Opening::Log(error))) => return Err(failure::open(error)),
            Ok(Err(Opening::Failed(failure))) => return Err(failure),
            Err(error) => {
                let dir = dir.display().to_string();
                let failure = Failure::new(FailureKind::Unavailable, "open the log", dir);
                return Err(failure.because(error));
            }
        }
    };
    let position =
        known.map_or(Position::START, |known| drain::position_in(&known.cursors, log.id()));
    standing.note(log.dir(), Some(&log), position);
    Ok((log, recovery))
}

/// The reason a log was not opened.
enum Opening {
    Log(OpenError),
    Failed(Failure),
}

impl From<Failure> for Opening {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Opens the log of an instance, if it is where it was and belongs to the store, and notes it.
fn open_blocking(
    root: &Path,
    instance: &str,
    store: Option<&StoreState>,
    options: &LogQueueOptions,
) -> Result<(Log, Recovery), Opening> {
    let dir = root.join(instance);
    let known = options.known.as_deref().map(Known::new);
    if let Some(known) = &known {
        let missing = known.missing(root)?;
        if let Some(missing) = missing.iter().find(|missing| missing.instance == instance) {
            return Err(failure::missing(missing).into());
        }
    }
    let id = Log::read_id(&RealDisk, &dir).map_err(|error| Opening::Log(error.into()))?;
    let mut log_options = options.log.clone();
    if let (Some(id), Some(store)) = (id, store) {
        let stored = drain::position_in(&store.cursors, id);
        inlet_log::check_pair(&RealDisk, &dir, store.id, stored).map_err(failure::pair)?;
        log_options.drained = stored;
    }
    let (log, recovery) =
        Log::open(Arc::new(RealDisk), &dir, &log_options).map_err(Opening::Log)?;
    if let Some(known) = &known {
        known.note(instance, log.id())?;
    }
    if let (Some(torn), Some(losses)) = (&recovery.torn, &options.losses)
        && let Err(failure) = damaged::note_torn(losses, instance, torn)
    {
        tracing::warn!(failure = %failure.chain(), "what was set aside is not noted");
    }
    Ok((log, recovery))
}
