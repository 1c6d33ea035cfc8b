//! One log that is drained.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use inlet_core::envelope;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::{BatchLimit, Cursor, Delivered, Delivery, Store, Undecodable};
use inlet_log::{Log, LogId, Position, ReadBatch, ReadError, Reader, RealDisk, Record, StoreId};
use tokio::task;
use tokio::time::Instant;

use super::failure;
use crate::files;

/// A log, how far it was given out, and how far of that it is stored.
pub(super) struct Drain {
    pub(super) dir: PathBuf,
    pub(super) log: String,
    /// The log itself, where it is this process that appends to it.
    own: Option<Log>,
    reader: Arc<Mutex<Reader>>,
    settled: Position,
    /// Whether something may have been given out behind `settled`.
    outstanding: bool,
    /// The log's tail when there was nothing more up to it.
    empty_at: Option<Position>,
    /// When something came last, or the log was found.
    pub(super) came: Instant,
    /// The store that the log goes to.
    store: StoreId,
    /// True once the log records that.
    bound: bool,
    lock: DrainLock,
}

impl Drain {
    /// Takes the log in `dir` to drain, from where the store is; `None` where another worker has
    /// it. Lets go of what the store had stored before. Blocks.
    pub(super) fn take(
        dir: &Path,
        own: Option<Log>,
        known: &StoreState,
    ) -> Result<Option<Self>, Failure> {
        let path = lock_path(dir);
        let lock = DrainLock::take(&path)
            .map_err(|error| files::failure(error, "lock the log with", &path))?;
        let Some(lock) = lock else { return Ok(None) };
        let mut reader =
            Reader::open(Arc::new(RealDisk), dir, Position::START).map_err(failure::read)?;
        let settled = position_in(&known.cursors, reader.log());
        inlet_log::check_pair(&RealDisk, dir, known.id, settled).map_err(failure::pair)?;
        inlet_log::check_extent(&RealDisk, dir, settled).map_err(failure::read)?;
        reader.seek(settled);
        release(own.as_ref(), dir, settled);
        Ok(Some(Self {
            dir: dir.to_owned(),
            log: reader.log().to_string(),
            own,
            reader: Arc::new(Mutex::new(reader)),
            settled,
            outstanding: false,
            empty_at: None,
            came: Instant::now(),
            store: known.id,
            bound: false,
            lock,
        }))
    }

    /// What comes next, if there is anything. What was given out and not settled comes again.
    pub(super) async fn next(&mut self, limit: BatchLimit) -> Result<Option<Delivery>, Failure> {
        let tail = self.own.as_ref().map(Log::tail);
        if !self.outstanding && tail.is_some() && tail == self.empty_at {
            return Ok(None);
        }
        let back_to = self.outstanding.then_some(self.settled);
        // Set before the wait: where this is dropped half-way, the reader has gone on.
        self.outstanding = true;
        let reader = Arc::clone(&self.reader);
        let reading = task::spawn_blocking(move || {
            let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(position) = back_to {
                reader.seek(position);
            }
            let batch = reader.next_batch(limit.documents_max.max(1), limit.bytes_max, tail)?;
            Ok::<_, ReadError>(messages(batch))
        });
        let read = match reading.await {
            Ok(read) => read.map_err(failure::read),
            Err(error) => {
                let dir = self.dir.display().to_string();
                Err(Failure::new(FailureKind::Unavailable, "read the log", dir).because(error))
            }
        };
        let (messages, end) = read?;
        if end == self.settled && messages.is_empty() {
            self.outstanding = false;
            self.empty_at = tail;
            return Ok(None);
        }
        self.came = Instant::now();
        let cursor = Cursor { log: self.log.clone(), segment: end.segment, offset: end.offset };
        Ok(Some(Delivery { messages, cursor: Some(cursor) }))
    }

    /// Notes that everything up to `position` is stored, and lets the log remove it.
    pub(super) async fn settle(&mut self, position: Position) {
        // What was given out again in the meantime begins at the new place all the same.
        self.outstanding = position != self.position();
        self.settled = self.settled.max(position);
        let (own, dir, store, bound) = (self.own.clone(), self.dir.clone(), self.store, self.bound);
        let releasing = task::spawn_blocking(move || {
            // Before anything is let go of the log knows where it is.
            if !bound {
                inlet_log::bind_store(&RealDisk, &dir, store, position).map_err(failure::pair)?;
            }
            release(own.as_ref(), &dir, position);
            Ok::<_, Failure>(())
        });
        // What was not removed is at the next settle; the documents are stored either way.
        match releasing.await {
            Ok(Ok(())) => self.bound = true,
            Ok(Err(failure)) => {
                tracing::warn!(failure = %failure.chain(), "segments that are stored stay for now");
            }
            Err(error) => tracing::error!(%error, "segments that are stored stay for now"),
        }
    }

    /// Up to where the log is stored.
    pub(super) fn settled(&self) -> Position {
        self.settled
    }

    /// The log itself, where this process appends to it.
    pub(super) fn own(&self) -> Option<&Log> {
        self.own.as_ref()
    }

    /// Where to wait for more, where this process appends to the log.
    pub(super) fn waits_at(&self) -> Option<(Log, Position)> {
        self.own.clone().zip(self.empty_at)
    }

    /// Whether it is another process that appends to it, or none any more.
    pub(super) fn is_foreign(&self) -> bool {
        self.own.is_none()
    }

    /// Removes the log if nobody appends to it and all of it is stored; whether it did. `forget`
    /// is called before anything of it is gone.
    pub(super) async fn remove(
        &mut self,
        forget: impl Fn() -> Result<(), Failure> + Send + 'static,
    ) -> bool {
        let (dir, settled) = (self.dir.clone(), self.settled);
        let lock = self.lock.path.clone();
        let removing = task::spawn_blocking(move || {
            let forgotten = || {
                forget().inspect_err(|failure| {
                    tracing::warn!(failure = %failure.chain(), "the log stays");
                })
            };
            let removed =
                inlet_log::remove_drained(&RealDisk, &dir, settled, || forgotten().is_ok())?;
            if removed && let Err(error) = fs::remove_file(&lock) {
                tracing::warn!(path = %lock.display(), %error, "the lock of a log that is gone stays");
            }
            Ok::<_, inlet_log::ReleaseError>(removed)
        });
        match removing.await {
            Ok(Ok(true)) => {
                tracing::info!(dir = %self.dir.display(), "the drained log of a gone instance is removed");
                true
            }
            Ok(Ok(false)) => false,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the drained log of a gone instance stays");
                false
            }
            Err(error) => {
                tracing::error!(%error, "the drained log of a gone instance stays");
                false
            }
        }
    }

    fn position(&self) -> Position {
        // Nobody reads while a delivery is settled, but for a receive that was given up.
        self.reader.try_lock().map_or(Position::START, |reader| reader.position())
    }
}

/// Lets go of what is stored, as far as that goes now; the next release makes up for a failure.
fn release(own: Option<&Log>, dir: &Path, position: Position) {
    let released = match own {
        Some(log) => log.release(position),
        None => inlet_log::release(&RealDisk, dir, position),
    };
    if let Err(error) = released {
        let failure = failure::release(error);
        tracing::warn!(failure = %failure.chain(), "segments that are stored stay for now");
    }
}

/// A store's identity and its view of the logs that it has.
#[derive(Debug, Clone)]
pub(super) struct StoreState {
    pub(super) id: StoreId,
    pub(super) cursors: Vec<Cursor>,
}

impl StoreState {
    pub(super) async fn ask(store: &dyn Store) -> Result<Self, Failure> {
        let id = StoreId::from_bytes(*store.identity().await?.as_bytes());
        Ok(Self { id, cursors: store.cursors().await? })
    }
}

/// Where the store is in the log with that identity.
pub(super) fn position_in(cursors: &[Cursor], id: LogId) -> Position {
    let log = id.to_string();
    let cursor = cursors.iter().find(|cursor| cursor.log == log);
    cursor.map_or(Position::START, |cursor| Position {
        segment: cursor.segment,
        offset: cursor.offset,
    })
}

fn messages(batch: ReadBatch) -> (Vec<Delivered>, Position) {
    let delivered = |Record { payload, .. }: Record| Delivered {
        document: envelope::decode(&payload)
            .map_err(|error| Undecodable { cause: error.to_string(), payload }),
        deliveries_before: 0,
        given_up: None,
        handle: Box::default(),
    };
    (batch.records.into_iter().map(delivered).collect(), batch.end)
}

/// Says that a log is drained, for as long as it lives.
struct DrainLock {
    path: PathBuf,
    _file: File,
}

impl DrainLock {
    fn take(path: &Path) -> io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Where the log was removed just now, and its lock with it, this one locks nothing.
        let there = fs::metadata(path).map(|there| there.ino());
        let still = there.is_ok_and(|there| file.metadata().is_ok_and(|own| own.ino() == there));
        Ok(still.then(|| Self { path: path.to_owned(), _file: file }))
    }
}

/// Returns true if a worker drains the log in `dir`, of this process or another. Blocks.
///
/// A worker that looks for logs at the same moment takes this one with its next look.
pub(super) fn is_drained(dir: &Path) -> io::Result<bool> {
    let file = match File::open(lock_path(dir)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn lock_path(dir: &Path) -> PathBuf {
    let mut path = dir.as_os_str().to_owned();
    path.push(".drain");
    PathBuf::from(path)
}
