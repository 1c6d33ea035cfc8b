//! The steps of a week: what fails is due again, and keeps nothing else from being written.

use std::num::NonZeroUsize;

use inlet_core::backup::{BackupPlace, find_backups};
use inlet_core::document::{Document, StoredDocument, StreamName, Timestamp};
use inlet_core::failure::Failure;
use inlet_core::id::DocumentId;
use inlet_core::schedule::Schedule;
use inlet_core::summary::list_summaries;
use inlet_core::weekly::Weekly;

use crate::double::{PlainBucket, PlainStore};

const DAY: i64 = 24 * 3_600 * 1_000_000;
/// Monday, 2026-11-23, 06:00:00 UTC: the first firing behind week 47.
const DUE: i64 = 1_795_413_600_000_000;

fn moment(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

/// A store whose first document came in week 47.
fn store() -> PlainStore {
    let store = PlainStore::default();
    let document = Document {
        id: DocumentId::from_bytes([0xab; 16]),
        stream: StreamName::new("orders").unwrap(),
        key: None,
        received: moment(DUE - 3 * DAY),
        generation: Some(0),
        body: "{}".into(),
    };
    let stored = moment(DUE - 3 * DAY);
    store.documents.lock().unwrap().push(StoredDocument { document, stored });
    store
}

struct Place {
    store: PlainStore,
    bucket: PlainBucket,
    schedule: Schedule,
}

impl Place {
    fn new() -> Self {
        let schedule = Schedule::new("0 6 * * 1", "UTC").unwrap();
        Self { store: store(), bucket: PlainBucket::default(), schedule }
    }

    fn weekly(&self) -> Weekly<'_> {
        Weekly {
            store: &self.store,
            bucket: &self.bucket,
            schedule: &self.schedule,
            backups_max: NonZeroUsize::new(8),
        }
    }

    /// Looks at `now` at both, as the loop and the function do: the weeks that were summed up, and
    /// whether a backup was written.
    async fn look(&self, now: i64) -> (Result<usize, Failure>, Result<bool, Failure>) {
        let weekly = self.weekly();
        let summaries = weekly.write_summaries(moment(now), || false).await;
        let backup = match weekly.latest_backup(moment(now)).await {
            Ok(Some(latest)) if latest.is_due => {
                weekly.write_backup(moment(now), latest.week).await.map(|_| true)
            }
            Ok(_) => Ok(false),
            Err(failure) => Err(failure),
        };
        (summaries.map(|weeks| weeks.len()), backup)
    }

    async fn there(&self) -> (usize, usize) {
        let summaries = list_summaries(&self.bucket).await.unwrap().len();
        (summaries, find_backups(&self.bucket, None).await.unwrap().len())
    }
}

#[tokio::test]
async fn a_backup_that_fails_is_made_once_it_can_be_though_the_summary_is_there() {
    let place = Place::new();
    *place.bucket.refuses.lock().unwrap() = Some("backups/");
    for later in 0..3 {
        let (summaries, backup) = place.look(DUE + later * 300_000_000).await;
        assert_eq!(summaries.unwrap(), usize::from(later == 0));
        assert!(backup.unwrap_err().is_retryable());
        assert_eq!(place.there().await, (1, 0));
    }
    *place.bucket.refuses.lock().unwrap() = None;
    let (summaries, backup) = place.look(DUE + 2 * DAY).await;
    assert_eq!((summaries.unwrap(), backup.unwrap()), (0, true));
    let (summaries, backup) = place.look(DUE + 2 * DAY).await;
    assert_eq!((summaries.unwrap(), backup.unwrap()), (0, false), "the week is done");
    assert_eq!(place.there().await, (1, 1));
}

#[tokio::test]
async fn a_summary_that_fails_keeps_no_backup_from_being_made() {
    let place = Place::new();
    *place.bucket.refuses.lock().unwrap() = Some("summaries/");
    let (summaries, backup) = place.look(DUE).await;
    assert!(summaries.unwrap_err().is_retryable());
    assert!(backup.unwrap());
    *place.bucket.refuses.lock().unwrap() = None;
    let (summaries, backup) = place.look(DUE + 1).await;
    assert_eq!((summaries.unwrap(), backup.unwrap()), (1, false));
}

#[tokio::test]
async fn weeks_that_were_missed_have_their_summaries_and_one_backup_that_holds_them_all() {
    let place = Place::new();
    let (summaries, backup) = place.look(DUE + 4 * 7 * DAY).await;
    assert_eq!((summaries.unwrap(), backup.unwrap()), (5, true));
    assert_eq!(place.there().await, (5, 1));
    assert!(place.bucket.bytes("backups/2026-W51.json").len() > 2);
}

#[tokio::test]
async fn a_backup_whose_object_is_gone_or_another_is_made_again() {
    let place = Place::new();
    place.look(DUE).await.1.unwrap();
    let object = BackupPlace::of_week("2026-W47".parse().unwrap()).object;
    let whole = place.bucket.bytes(object.as_str());
    place.bucket.remove(object.as_str());
    assert!(place.look(DUE + 1).await.1.unwrap(), "the object is gone");
    let mut other = whole.to_vec();
    other[20] ^= 1;
    place.bucket.set(object.as_str(), other);
    assert!(place.look(DUE + 2).await.1.unwrap(), "the object is another of the same size");
    place.bucket.set("backups/2026-W47.json", "no JSON");
    assert!(place.look(DUE + 3).await.1.unwrap(), "the manifest can't be read");
    assert!(!place.look(DUE + 4).await.1.unwrap());
}

/// A newer version made it, and may still run beside this one.
#[tokio::test]
async fn a_backup_in_a_newer_format_is_not_replaced() {
    let place = Place::new();
    let newer = "{\"format\":2,\"parts\":[]}";
    place.bucket.set("backups/2026-W47.json", newer);
    assert!(!place.look(DUE).await.1.unwrap());
    assert_eq!(place.bucket.bytes("backups/2026-W47.json"), newer);
}

/// Early on a Monday: the week that is over is not due yet, and the one before it may be missing.
#[tokio::test]
async fn before_the_first_firing_of_a_week_the_backup_of_the_week_before_is_due() {
    let place = Place::new();
    let (summaries, backup) = place.look(DUE + 7 * DAY - 3_600_000_000).await;
    assert_eq!((summaries.unwrap(), backup.unwrap()), (1, true));
    assert!(place.bucket.bytes("backups/2026-W47.json").len() > 2);
    let (summaries, backup) = place.look(DUE + 7 * DAY).await;
    assert_eq!((summaries.unwrap(), backup.unwrap()), (1, true));
    assert_eq!(place.there().await, (2, 2));
}

#[tokio::test]
async fn nothing_is_due_before_the_first_document_and_before_the_first_firing() {
    let place = Place::new();
    let (summaries, backup) = place.look(DUE - 1).await;
    assert_eq!((summaries.unwrap(), backup.unwrap()), (0, false));
    place.store.documents.lock().unwrap().clear();
    let (summaries, backup) = place.look(DUE + DAY).await;
    assert_eq!((summaries.unwrap(), backup.unwrap()), (0, false));
}
