//! The logs of a data directory from outside: what is there, what should be, and how to set it
//! right. For commands; nothing here opens a log to write.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use inlet_core::document::Timestamp;
use inlet_core::envelope;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::id::DocumentId;
use inlet_core::ports::{Cursor, StoreId as CoreStoreId};
use inlet_log::fsck::{self, Loss, Repair, RepairError, Report};
use inlet_log::{Disk, Log, Position, RealDisk, StoreId};

use super::damaged::{LossFile, LossNote};
use super::drain::position_in;
use super::failure;
use super::known::{Known, MissingLog};

/// The most bytes of a file in the quarantine that are searched for ids.
const SEARCHED_BYTES_MAX: u64 = 256 << 20;

/// The logs under one root.
#[derive(Debug, Clone)]
pub struct LogDirectory {
    root: PathBuf,
    known: PathBuf,
    losses: PathBuf,
}

/// A store's identity and its view of the logs that it has.
#[derive(Debug, Clone)]
pub struct StoreView {
    /// The store.
    pub id: CoreStoreId,
    /// Up to where it has each log.
    pub cursors: Vec<Cursor>,
}

impl LogDirectory {
    /// The logs under `root`, with their notes in `known` and their losses in the file `losses`,
    /// as in [`LogQueueOptions`](super::LogQueueOptions).
    pub fn new(root: PathBuf, known: PathBuf, losses: PathBuf) -> Self {
        Self { root, known, losses }
    }

    /// The directories that hold a log, in name order.
    pub fn logs(&self) -> Result<Vec<PathBuf>, Failure> {
        let listing = |error| crate::files::failure(error, "list the logs under", &self.root);
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(listing)?,
        };
        let mut logs = Vec::new();
        for entry in entries {
            let path = entry.map_err(listing)?.path();
            if path.is_dir() {
                logs.push(path);
            }
        }
        logs.sort();
        Ok(logs)
    }

    /// The logs that were made here and are not here any more.
    pub fn missing(&self) -> Result<Vec<MissingLog>, Failure> {
        Known::new(&self.known).missing(&self.root)
    }

    /// Goes on without a log that is not here any more: what was in it and not stored is noted as
    /// lost.
    pub fn forget(&self, log: &MissingLog, now: Timestamp) -> Result<(), Failure> {
        self.note(&[note(&log.instance, format!("the log {} is gone", log.id), now)])?;
        Known::new(&self.known).forget(&log.instance)
    }

    /// A log that records a store which documents of it went to, and that store.
    pub fn recorded_store(&self) -> Result<Option<(PathBuf, CoreStoreId)>, Failure> {
        for dir in self.logs()? {
            // One whose record can't be read says nothing here; its open is refused.
            if let Some(store) = self.recorded_store_of(&dir) {
                return Ok(Some((dir, store)));
            }
        }
        Ok(None)
    }

    /// The store that a log records; nothing where it records none, or its record can't be read.
    pub fn recorded_store_of(&self, dir: &Path) -> Option<CoreStoreId> {
        let store = inlet_log::recorded_store(&RealDisk, dir).ok()??;
        Some(CoreStoreId::from_bytes(*store.as_bytes()))
    }

    /// Looks through a log for damage. Blocks while it reads all of it.
    pub fn check(&self, dir: &Path, store: Option<&StoreView>) -> Result<Report, Failure> {
        fsck::check(&RealDisk, dir, stored(dir, store)).map_err(failure::io)
    }

    /// Sets damage in a log aside, and notes what is lost. Blocks while it does.
    pub fn repair(
        &self,
        dir: &Path,
        store: Option<&StoreView>,
        now: Timestamp,
    ) -> Result<(Repair, Vec<LossNote>), Failure> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let repaired = fsck::repair(&disk, dir, stored(dir, store)).map_err(|error| {
            let kind = match error {
                RepairError::Io(_) => FailureKind::Unavailable,
                _ => FailureKind::Refused,
            };
            let failure = Failure::new(kind, "repair the log", dir.display().to_string());
            let failure = match error {
                RepairError::InUse { .. } => failure.hint("stop the process that uses it first"),
                _ => failure,
            };
            failure.because(error)
        })?;
        let notes = notes(&instance(dir), &repaired, now);
        self.note(&notes)?;
        Ok((repaired, notes))
    }

    /// The reason a log does not belong to a store, if it does not.
    pub fn misfit(&self, dir: &Path, store: &StoreView) -> Result<Option<Failure>, Failure> {
        let id = StoreId::from_bytes(*store.id.as_bytes());
        match inlet_log::check_pair(&RealDisk, dir, id, stored(dir, Some(store))) {
            Ok(()) => Ok(None),
            // Damage is for the repair.
            Err(inlet_log::PairError::Read(_)) => Ok(None),
            Err(error) => Ok(Some(failure::pair(error))),
        }
    }

    /// Has a log go on with a store that is not the one it records, or an older copy of it. What
    /// the log let go of and that store lacks is noted as lost. Blocks.
    pub fn adopt(
        &self,
        dir: &Path,
        store: Option<&StoreView>,
        now: Timestamp,
    ) -> Result<LossNote, Failure> {
        let position = stored(dir, store);
        let id = store.map(|store| StoreId::from_bytes(*store.id.as_bytes()));
        inlet_log::adopt_store(&RealDisk, dir, id, position).map_err(failure::adopt)?;
        let what = "what this log had let go of into another store, or a newer one".to_owned();
        let first = inlet_log::Reader::open(Arc::new(RealDisk), dir, position)
            .and_then(|mut reader| reader.next_batch(1, 1, None));
        let first = first.ok().and_then(|batch| neighbour(&batch.records.first()?.payload));
        let note = LossNote { before: first, ..note(&instance(dir), what, now) };
        self.note(std::slice::from_ref(&note))?;
        Ok(note)
    }

    fn note(&self, notes: &[LossNote]) -> Result<(), Failure> {
        LossFile::new(&self.losses).add(notes)
    }
}

fn instance(dir: &Path) -> String {
    dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Up to where a store has a log; its start where nobody knows.
fn stored(dir: &Path, store: Option<&StoreView>) -> Position {
    let id = Log::read_id(&RealDisk, dir).ok().flatten();
    id.zip(store).map_or(Position::START, |(id, store)| position_in(&store.cursors, id))
}

fn note(instance: &str, what: String, now: Timestamp) -> LossNote {
    LossNote {
        instance: instance.to_owned(),
        found_us: now.as_micros(),
        what,
        documents: None,
        ids: Vec::new(),
        after: None,
        before: None,
        certain: false,
    }
}

/// The losses of a repair, with the ids that can be read from the bytes it set aside.
fn notes(instance: &str, repaired: &Repair, now: Timestamp) -> Vec<LossNote> {
    let ids = ids_set_aside(repaired);
    let lost = |loss: &Loss| LossNote {
        documents: loss.records,
        after: loss.before.as_ref().and_then(neighbour),
        before: loss.after.as_ref().and_then(neighbour),
        certain: true,
        ..note(instance, format!("damaged or missing after {} in the log", loss.from), now)
    };
    let mut notes: Vec<LossNote> = repaired.lost.iter().map(lost).collect();
    if let [only] = &mut notes[..] {
        only.ids = ids;
    } else if !ids.is_empty() {
        notes.push(LossNote {
            documents: Some(ids.len() as u64),
            ids,
            certain: true,
            ..note(instance, "set aside in the log's quarantine".to_owned(), now)
        });
    }
    notes
}

fn ids_set_aside(repaired: &Repair) -> Vec<String> {
    let mut ids: Vec<DocumentId> = Vec::new();
    // Bytes that were moved as a whole, or appended anew, are either not ours or not lost.
    for taken in repaired.taken.iter().filter(|taken| taken.bytes > 0 && !taken.salvaged) {
        match fs::metadata(&taken.kept) {
            Ok(kept) if kept.len() <= SEARCHED_BYTES_MAX => {
                ids.extend(envelope::find_ids(&fs::read(&taken.kept).unwrap_or_default()));
            }
            _ => {}
        }
    }
    ids.sort();
    ids.dedup();
    ids.iter().map(ToString::to_string).collect()
}

/// The id of a document beside a loss, and when it was accepted.
fn neighbour(payload: &bytes::Bytes) -> Option<(String, i64)> {
    let document = envelope::decode(payload).ok()?;
    Some((document.id.to_string(), document.received.as_micros()))
}
