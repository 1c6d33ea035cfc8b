//! Promise 14: how far tallies are summarized.

use std::collections::BTreeMap;

use inlet_core::calendar::{Calendar, Week};
use inlet_core::document::Document;
use inlet_core::ports::{Batch, PageQuery, Store, Tallies, TallyWeek, ZoneTally};

use super::StoreFixture;
use super::look::matching;
use crate::sample::{NOW, PutBatch, after, batch, day, document, document_with, id};

const WEEK_MS: i64 = 7 * 24 * 3_600_000;

/// The document `n`, received that many weeks before the others.
fn weeks_ago(n: u64, weeks: i64) -> Document {
    Document { received: after(-weeks * WEEK_MS), ..document(n) }
}

async fn weeks(store: &dyn Store) -> BTreeMap<Week, TallyWeek> {
    let weeks = store.tally_weeks().await.unwrap();
    let found: BTreeMap<_, _> = weeks.iter().map(|tally| (tally.week, *tally)).collect();
    assert_eq!(found.len(), weeks.len(), "a week is there twice: {weeks:?}");
    found
}

/// What comes late changes the number of its week and of no other; a repeat changes none.
pub async fn store_14_a_week_has_another_number_after_each_change(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    let (this, last) = (Week::of(day()), Week::of(day()).before());
    store.put_batch(batch([document(1), weeks_ago(2, 1)])).await.unwrap();
    let before = weeks(&*store).await;
    assert_eq!(before.keys().copied().collect::<Vec<_>>(), [last, this]);
    assert!(before.values().all(|tally| tally.revision > 0 && tally.summarized.is_none()));
    store.put_batch(batch([weeks_ago(2, 1), document(1)])).await.unwrap();
    assert_eq!(weeks(&*store).await, before, "nothing was counted");
    store.put_batch(batch([weeks_ago(3, 1)])).await.unwrap();
    let late = weeks(&*fixture.open().await).await;
    assert_eq!(late[&this], before[&this]);
    assert!(late[&last].revision > before[&last].revision);
    // A dead letter is counted, too.
    store.put_batch(batch([document_with(1, "[1]")])).await.unwrap();
    assert!(weeks(&*store).await[&this].revision > before[&this].revision);
    // Erasing takes nothing out of the tallies.
    let before = weeks(&*store).await;
    store.erase(id(1), NOW).await.unwrap();
    assert_eq!(weeks(&*store).await, before);
}

/// However many weeks change at once or one after the other, none is forgotten.
pub async fn store_14_no_week_is_forgotten_however_old_it_is(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    let documents = (0..30).map(|n| weeks_ago(n, i64::try_from(n).unwrap()));
    store.put_batch(batch(documents)).await.unwrap();
    for n in 30..60 {
        let weeks = i64::try_from(n).unwrap();
        store.put_batch(batch([weeks_ago(n, weeks)])).await.unwrap();
    }
    let before = weeks(&*store).await;
    assert_eq!(before.len(), 60);
    store.put_batch(batch([weeks_ago(100, 0), weeks_ago(101, 59)])).await.unwrap();
    let now = weeks(&*store).await;
    let changed: Vec<_> = now.iter().filter(|(week, tally)| before[week] != **tally).collect();
    assert_eq!(changed.len(), 2, "{changed:?}");
    assert_eq!((changed[0].0, changed[1].0), (now.keys().next().unwrap(), &Week::of(day())));
}

/// The note is kept as it was given, also of a week without tallies.
pub async fn store_14_what_was_noted_of_a_week_is_kept(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    let (this, last) = (Week::of(day()), Week::of(day()).before());
    store.put_batch(batch([document(1)])).await.unwrap();
    let revision = weeks(&*store).await[&this].revision;
    store.mark_summarized(this, revision).await.unwrap();
    store.mark_summarized(last, 0).await.unwrap();
    let noted = weeks(&*fixture.open().await).await;
    let note = |week, revision, summarized| TallyWeek { week, revision, summarized };
    assert_eq!(noted[&this], note(this, revision, Some(revision)));
    assert_eq!(noted[&last], note(last, 0, Some(0)));
    store.put_batch(batch([document(2)])).await.unwrap();
    let changed = weeks(&*store).await[&this];
    assert!(changed.revision > revision);
    assert_eq!(changed.summarized, Some(revision));
}

/// Documents are counted under the zone of their batch, also where two meet on one day.
pub async fn store_14_tallies_say_under_which_zones_they_were_counted(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    assert_eq!(store.tallies(day(), day()).await.unwrap(), Tallies::default());
    let berlin = Calendar::new("Europe/Berlin").unwrap();
    let put = |calendar: &Calendar, documents: Vec<Document>| Batch {
        calendar: calendar.clone(),
        ..batch(documents)
    };
    // An hour before midnight in UTC, which is the day's beginning in Berlin.
    let evening = Document { received: after(-3_600_000), ..document(3) };
    store.put_batch(put(&Calendar::utc(), vec![document(1), document(2)])).await.unwrap();
    store.put_batch(put(&berlin, vec![evening])).await.unwrap();
    let mut zones = store.tallies(day().plus(-1), day()).await.unwrap().zones;
    zones.sort();
    let tally = |zone: &str, documents, bytes| ZoneTally {
        day: day(),
        zone: zone.to_owned(),
        documents,
        bytes,
    };
    assert_eq!(zones, [tally("Europe/Berlin", 1, 7), tally("UTC", 2, 14)]);
}

/// What a page gives behind the cursor of the tallies is what was stored after them.
pub async fn store_14_tallies_say_up_to_which_cursor_they_count(fixture: &dyn StoreFixture) {
    let store = fixture.open().await;
    store.put_batch(batch([document(1), document(2)])).await.unwrap();
    store.put_batch(batch([document(3)])).await.unwrap();
    let cursor = store.tallies(day(), day()).await.unwrap().cursor;
    assert!(cursor.is_some());
    store.put_batch(batch([document(4), document(5)])).await.unwrap();
    let behind = PageQuery { after: cursor, ..PageQuery::default() };
    assert_eq!(matching(&*store, behind).await, [4, 5]);
}
