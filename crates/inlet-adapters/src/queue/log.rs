//! The queue in logs on this machine's disk.
//!
//! ```text
//! ROOT/INSTANCE/         the log of one instance, which it alone appends to
//! ROOT/INSTANCE.drain    locked by the one worker that drains that log
//! ```
//!
//! A document is a record: its envelope's head, then its body. A worker drains all logs under
//! ROOT, in turn, also those of instances that are gone; logs that appear later are found by
//! looking again now and then. Where each log stands is the store's to say: it keeps the cursor
//! in the transaction that stores the documents, and a worker starts there.
//!
//! A worker in the process that appends follows that log by being told; the others it looks at
//! some ten times a second. What is settled is released to the log, which removes the segments it
//! no longer needs; a log that was drained long ago and whose instance is gone is removed.

mod drain;
mod drains;
mod failure;
mod send;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use inlet_core::document::Document;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::{BatchLimit, Delivery, Depth, Outcome, Queue, Store};
use inlet_log::{Log, LogOptions, OpenError, Position, RealDisk, Recovery};
use tokio::{task, time};

use self::drains::{Drains, Turn};

/// How often a log whose lock is held is opened again: the process before may be at its end.
const OPEN_ATTEMPTS_MAX: u32 = 20;
const OPEN_RETRY: Duration = Duration::from_millis(50);

/// The settings of a [`LogQueue`].
#[derive(Debug, Clone)]
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
}

impl Default for LogQueueOptions {
    fn default() -> Self {
        Self { log: LogOptions::default(), poll_ms: 100, list_ms: 1_000, remove_after_ms: 600_000 }
    }
}

/// A [`Queue`] in logs on this machine's disk: it sends, receives, or both.
///
/// A handle that sends has to be driven ([`LogQueue::drive`]). Of several handles that receive
/// under the same root, each log is drained by the one that came first.
///
/// Beyond the contract: a damaged log is told as [`FailureKind::Damaged`] once no other log has
/// anything to give, so that it holds up none of them; [`Queue::depth`] is that of the own log.
pub struct LogQueue {
    root: PathBuf,
    own: Option<Log>,
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
        let (log, recovery) = open_log(root, instance, &*store, options).await?;
        let drains = Drains::new(root.to_owned(), Some(log.clone()), store, options);
        Ok(Self::of(root, Some((log, recovery)), Some(drains), options))
    }

    /// Opens the log of `instance` under `root` to send. The store is asked how far it is
    /// drained, to start the faster; one that is away is no reason not to start.
    pub async fn open_to_send(
        root: &Path,
        instance: &str,
        store: &dyn Store,
        options: &LogQueueOptions,
    ) -> Result<Self, Failure> {
        let opened = open_log(root, instance, store, options).await?;
        Ok(Self::of(root, Some(opened), None, options))
    }

    /// Receives from all logs under `root`. Those that can be drained are looked for with the
    /// first [`Queue::receive`].
    pub fn open_to_receive(root: &Path, store: Arc<dyn Store>, options: &LogQueueOptions) -> Self {
        let drains = Drains::new(root.to_owned(), None, store, options);
        Self::of(root, None, Some(drains), options)
    }

    /// What drives the own log, until it is closed; to be spawned on the runtime that serves. It
    /// ends with an error where a write or a sync failed: then nothing more is acknowledged, and
    /// the process should say so and end. `None` where nothing is sent from here.
    pub fn drive(&self) -> Option<impl Future<Output = Result<(), Failure>> + Send + 'static> {
        let driven = self.own.as_ref()?.drive();
        Some(async move { driven.await.map_err(failure::drive) })
    }

    /// Asks the store how far the own log is drained, and lets go of that much. For a process that
    /// sends and does not receive: its worker is elsewhere, and the store is where both meet.
    pub async fn note_drained(&self, store: &dyn Store) -> Result<(), Failure> {
        let Some(log) = self.own.clone() else { return Ok(()) };
        let position = drain::position_in(&store.cursors().await?, log.id());
        let dir = log.dir().display().to_string();
        match task::spawn_blocking(move || log.release(position)).await {
            Ok(released) => released.map_err(failure::release),
            Err(error) => {
                Err(Failure::new(FailureKind::Unavailable, "release the log", dir).because(error))
            }
        }
    }

    /// What the open of the own log found and made good.
    pub fn recovery(&self) -> Option<&Recovery> {
        self.recovery.as_ref()
    }

    /// Which way the own log is written: `io_uring` or `thread`.
    pub fn sync_method(&self) -> Option<&'static str> {
        self.own.as_ref().map(Log::sync_method)
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
        options: &LogQueueOptions,
    ) -> Self {
        let (own, recovery) = opened.unzip();
        Self {
            root: root.to_owned(),
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
        let own = self.own.as_ref();
        Ok(Depth { bytes: own.map_or(0, Log::bytes), bytes_max: self.bytes_max, messages: None })
    }
}

async fn open_log(
    root: &Path,
    instance: &str,
    store: &dyn Store,
    options: &LogQueueOptions,
) -> Result<(Log, Recovery), Failure> {
    let dir = root.join(instance);
    let cursors = store.cursors().await.unwrap_or_else(|error| {
        tracing::warn!(%error, "the store does not say how far the log is drained: all is read");
        Vec::new()
    });
    let mut attempts = 0;
    loop {
        attempts += 1;
        let (dir, mut log, cursors) = (dir.clone(), options.log.clone(), cursors.clone());
        let opening = task::spawn_blocking(move || {
            let id = Log::read_id(&RealDisk, &dir)?;
            log.drained = id.map_or(Position::START, |id| drain::position_in(&cursors, id));
            Log::open(Arc::new(RealDisk), &dir, &log)
        });
        match opening.await {
            Ok(Err(OpenError::InUse { .. })) if attempts < OPEN_ATTEMPTS_MAX => {
                time::sleep(OPEN_RETRY).await;
            }
            Ok(opened) => return opened.map_err(failure::open),
            Err(error) => {
                let root = root.display().to_string();
                let failure = Failure::new(FailureKind::Unavailable, "open a log under", root);
                return Err(failure.because(error));
            }
        }
    }
}
