//! The state of each log, for whoever asks from outside of the loop that drains them: the oldest
//! document that waits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use inlet_core::document::Timestamp;
use inlet_core::envelope;
use inlet_core::ports::Oldest;
use inlet_log::{Log, Position, Reader, RealDisk};

/// Up to where each log is stored, by its directory.
#[derive(Debug, Default)]
pub(super) struct Standing(Mutex<BTreeMap<PathBuf, Stand>>);

#[derive(Debug, Clone)]
struct Stand {
    stored: Position,
    /// The log itself, where this process appends to it.
    own: Option<Log>,
    /// The first document after a position.
    oldest: Option<(Position, Timestamp)>,
}

impl Standing {
    /// Notes that the log in `dir` is stored up to a position.
    pub(super) fn note(&self, dir: &Path, own: Option<&Log>, stored: Position) {
        let fresh = || Stand { stored, own: own.cloned(), oldest: None };
        let mut logs = self.logs();
        let stand = logs.entry(dir.to_owned()).or_insert_with(fresh);
        stand.stored = stand.stored.max(stored);
    }

    /// Forgets a log that is not here any more.
    pub(super) fn forget(&self, dir: &Path) {
        self.logs().remove(dir);
    }

    /// The oldest document that waits in any of the logs. Reads one record of each log that moved
    /// since the last call; blocks.
    pub(super) fn oldest(&self) -> Oldest {
        let stands: Vec<_> =
            self.logs().iter().map(|(dir, stand)| (dir.clone(), stand.clone())).collect();
        let mut oldest = None;
        for (dir, stand) in stands {
            let known = stand.oldest.filter(|(position, _)| *position == stand.stored);
            let found = known.or_else(|| first(&dir, &stand));
            if let Some((_, accepted)) = found {
                oldest = Some(oldest.map_or(accepted, |oldest: Timestamp| oldest.min(accepted)));
            }
            if let Some(known) = self.logs().get_mut(&dir) {
                known.oldest = found;
            }
        }
        oldest.map_or(Oldest::Nothing, Oldest::Accepted)
    }

    fn logs(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Stand>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The moment at which the first document that is not stored was accepted. A log that can't be
/// read tells nothing; its reader says why.
fn first(dir: &Path, stand: &Stand) -> Option<(Position, Timestamp)> {
    let tail = stand.own.as_ref().map(Log::tail);
    if tail.is_some_and(|tail| tail <= stand.stored) {
        return None;
    }
    let mut reader = Reader::open(Arc::new(RealDisk), dir, stand.stored).ok()?;
    let batch = reader.next_batch(1, 1, tail).ok()?;
    let document = envelope::decode(&batch.records.first()?.payload).ok()?;
    Some((stand.stored, document.received))
}
