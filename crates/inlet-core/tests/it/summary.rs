//! The weekly summary: what it counts, what it puts, and what its page may not do.

use inlet_core::calendar::{Calendar, Day, Week};
use inlet_core::document::{Document, StoredDocument, StreamName, Timestamp};
use inlet_core::failure::FailureKind;
use inlet_core::id::DocumentId;
use inlet_core::ports::{Batch, Bucket, PageQuery, Store, TallyKind, TallyRow};
use inlet_core::schedule::{CRON_DEFAULT, Schedule};
use inlet_core::summary::{
    DueReason, FIELDS_MAX, Summary, html_key, list_summaries, page, read_summary,
    read_summary_page, summaries_due, summarize_week,
};
use inlet_testkit::memory::MemoryStore;
use inlet_testkit::sample::PutBatch;

use crate::double::{PlainBucket, PlainStore};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn week() -> Week {
    "2026-W47".parse().unwrap()
}

fn row(day: &str, stream: &str, kind: TallyKind, documents: u64, bytes: u64) -> TallyRow {
    let day: Day = day.parse().unwrap();
    TallyRow { day, stream: StreamName::new(stream).unwrap(), kind, documents, bytes }
}

fn field(path: &str, kind: &str) -> TallyKind {
    TallyKind::Field(path.to_owned(), kind.to_owned())
}

fn tallies() -> Vec<TallyRow> {
    vec![
        row("2026-11-09", "orders", TallyKind::Stored, 80, 8_000),
        row("2026-11-15", "orders", field("old", "string"), 80, 0),
        row("2026-11-12", "audit", TallyKind::Stored, 5, 50),
        row("2026-11-16", "orders", TallyKind::Stored, 60, 6_000),
        row("2026-11-22", "orders", TallyKind::Stored, 40, 3_000),
        row("2026-11-16", "orders", field("id", "string"), 60, 0),
        row("2026-11-22", "orders", field("id", "string"), 30, 0),
        row("2026-11-22", "orders", field("id", "number"), 10, 0),
        row("2026-11-17", "orders", field("note", "string"), 1, 0),
        row("2026-11-18", "orders", TallyKind::Dead("refused".to_owned()), 2, 20),
        row("2026-11-19", "orders", TallyKind::Dead("key_conflict".to_owned()), 3, 30),
        row("2026-11-18", "clicks", TallyKind::Stored, 300, 900),
        row("2026-11-23", "clicks", TallyKind::Stored, 7_000, 7_000),
        row("2026-11-08", "clicks", TallyKind::Stored, 7_000, 7_000),
    ]
}

async fn summarize(rows: Vec<TallyRow>, bucket: &PlainBucket, now: &str) -> Summary {
    let store = PlainStore::default();
    *store.tallies.lock().unwrap() = rows;
    let summary = summarize_week(&store, bucket, at(now), &Calendar::utc(), week()).await.unwrap();
    assert_eq!(*store.reads.lock().unwrap(), 0, "a summary reads no document");
    summary
}

/// The weeks that are due, for whatever reason.
async fn weeks_due(
    store: &dyn Store,
    bucket: &dyn Bucket,
    schedule: &Schedule,
    now: Timestamp,
) -> Vec<Week> {
    let due = summaries_due(store, bucket, schedule, now).await.unwrap();
    due.into_iter().map(|due| due.week).collect()
}

const MONDAY: &str = "2026-11-23T06:00:00Z";

#[tokio::test]
async fn a_summary_adds_up_its_weeks_tallies_and_no_others() {
    let summary = summarize(tallies(), &PlainBucket::default(), MONDAY).await;
    assert_eq!((summary.total.documents, summary.total.bytes), (400, 9_900));
    assert!(summary.complete);
    assert_eq!(summary.from, at("2026-11-16T00:00:00Z"));
    assert_eq!(summary.to, at("2026-11-23T00:00:00Z"));
    let names: Vec<_> = summary.streams.iter().map(|stream| stream.stream.as_str()).collect();
    assert_eq!(names, ["clicks", "orders", "audit"]);

    let orders = &summary.streams[1];
    let days: Vec<_> = orders.figures.days.iter().map(|day| day.documents).collect();
    assert_eq!(days, [60, 0, 0, 0, 0, 0, 40]);
    assert_eq!(orders.share, 25.0);
    let growth = orders.figures.growth;
    assert_eq!((growth.documents.before, growth.documents.difference), (80, 20));
    assert_eq!(growth.documents.percent, Some(25.0));
    assert_eq!((growth.bytes.difference, growth.bytes.percent), (1_000, Some(12.5)));
    let dead: Vec<_> = orders
        .figures
        .dead_letters
        .iter()
        .map(|dead| (dead.cause.as_str(), dead.documents, dead.bytes))
        .collect();
    assert_eq!(dead, [("key_conflict", 3, 30), ("refused", 2, 20)]);
    assert_eq!(orders.fields.len(), 2);
    let id: Vec<_> = orders.fields[0]
        .types
        .iter()
        .map(|of| (of.kind.as_str(), of.documents, of.share))
        .collect();
    assert_eq!(orders.fields[0].path, "id");
    assert_eq!(id, [("string", 90, 90.0), ("number", 10, 10.0)]);
}

#[tokio::test]
async fn what_a_store_counted_is_what_the_summary_says() {
    let store = MemoryStore::default();
    let mut documents: Vec<Document> = (0..50u8)
        .map(|n| Document {
            id: DocumentId::from_bytes([n; 16]),
            stream: StreamName::new("orders").unwrap(),
            key: None,
            received: at("2026-11-18T12:00:00Z"),
            generation: Some(0),
            body: format!("{{\"n\":{},\"even\":{}}}", n + 10, n.is_multiple_of(2)).into(),
        })
        .collect();
    documents.push(documents[0].clone());
    let batch = Batch {
        documents,
        dead: Vec::new(),
        cursor: None,
        now: at(MONDAY),
        calendar: Calendar::utc(),
        attempts_max: 3,
    };
    store.put_batch(batch).await.unwrap();
    let bucket = PlainBucket::default();
    let made = summarize_week(&store, &bucket, at(MONDAY), &Calendar::utc(), week()).await;
    let summary = made.unwrap();
    assert_eq!(summary.total.documents, 50, "a duplicate counts once");
    assert_eq!(summary.total.days[2].documents, 50);
    let fields: Vec<_> = summary.streams[0]
        .fields
        .iter()
        .flat_map(|field| field.types.iter().map(|of| (&*field.path, &*of.kind, of.documents)))
        .collect();
    assert_eq!(fields, [("even", "boolean", 50), ("n", "number", 50)]);
}

#[tokio::test]
async fn growth_has_no_percentage_where_the_week_before_had_nothing() {
    let summary = summarize(tallies(), &PlainBucket::default(), MONDAY).await;
    let clicks = summary.streams[0].figures.growth.documents;
    assert_eq!((clicks.before, clicks.difference, clicks.percent), (0, 300, None));
    let audit = summary.streams[2].figures.growth.documents;
    assert_eq!((audit.before, audit.difference, audit.percent), (5, -5, Some(-100.0)));
}

#[tokio::test]
async fn made_twice_it_is_the_same_but_for_the_moment() {
    let bucket = PlainBucket::default();
    let mut rows = tallies();
    let first = summarize(rows.clone(), &bucket, MONDAY).await;
    let (json, html) =
        (bucket.bytes("summaries/2026-W47.json"), bucket.bytes("summaries/2026-W47.html"));
    rows.reverse();
    let second = summarize(rows, &bucket, "2026-11-24T07:08:09Z").await;
    assert_eq!(Summary { made: first.made, ..second }, first);
    for (before, key) in [(json, "summaries/2026-W47.json"), (html, "summaries/2026-W47.html")] {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let after = text(&bucket.bytes(key))
            .replace("2026-11-24T07:08:09", "2026-11-23T06:00:00")
            .replace("2026-11-24 07:08:09", "2026-11-23 06:00:00");
        assert_eq!(after, text(&before), "{key}");
    }
}

#[tokio::test]
async fn the_json_is_put_after_the_page_and_reads_back_as_it_was() {
    let bucket = PlainBucket::default();
    let summary = summarize(tallies(), &bucket, MONDAY).await;
    assert_eq!(
        *bucket.puts.lock().unwrap(),
        ["summaries/2026-W47.html", "summaries/2026-W47.json"]
    );
    assert_eq!(read_summary(&bucket, week()).await.unwrap(), Some(summary));
    assert_eq!(read_summary(&bucket, week().before()).await.unwrap(), None);
    let html = read_summary_page(&bucket, week()).await.unwrap().unwrap();
    assert_eq!(html.meta.content_type, "text/html; charset=utf-8");
    assert_eq!(bucket.head(&html_key(week())).await.unwrap().unwrap(), html.meta);
}

#[tokio::test]
async fn the_json_has_the_members_its_documentation_names() {
    let bucket = PlainBucket::default();
    summarize(tallies(), &bucket, MONDAY).await;
    let json: serde_json::Value =
        serde_json::from_slice(&bucket.bytes("summaries/2026-W47.json")).unwrap();
    assert_eq!(json["format"], 1);
    assert_eq!(json["week"], "2026-W47");
    assert_eq!(json["zone"], "UTC");
    assert_eq!(json["made"], "2026-11-23T06:00:00.000000Z");
    assert_eq!(json["total"]["days"].as_array().unwrap().len(), 7);
    assert_eq!(json["streams"][1]["stream"], "orders");
    assert_eq!(json["streams"][1]["documents"], 100);
    assert_eq!(json["streams"][1]["days"][6]["day"], "2026-11-22");
    assert_eq!(json["streams"][0]["growth"]["documents"]["percent"], serde_json::Value::Null);
    assert_eq!(json["streams"][1]["fields"][0]["types"][1]["type"], "number");
    assert_eq!(json["streams"][1]["fields_left_out"], 0);
}

#[tokio::test]
async fn weeks_are_listed_newest_first_and_other_objects_passed_over() {
    let bucket = PlainBucket::default();
    for week in ["2026-W02", "2025-W52", "2026-W47"] {
        bucket.set(&format!("summaries/{week}.json"), "{}");
    }
    for other in ["summaries/2026-W01.html", "summaries/notes.json", "backups/2026-W46.json"] {
        bucket.set(other, "{}");
    }
    let weeks: Vec<_> =
        list_summaries(&bucket).await.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(weeks, ["2026-W47", "2026-W02", "2025-W52"]);
}

#[tokio::test]
async fn more_than_a_thousand_weeks_are_listed_whole() {
    let bucket = PlainBucket::default();
    let mut week: Week = "2001-W01".parse().unwrap();
    for _ in 0..1_200 {
        bucket.set(&format!("summaries/{week}.json"), "{}");
        week = week.after();
    }
    assert_eq!(list_summaries(&bucket).await.unwrap().len(), 1_200);
}

#[tokio::test]
async fn a_newer_format_is_refused_and_nonsense_is_damage() {
    let bucket = PlainBucket::default();
    bucket.set("summaries/2026-W47.json", r#"{"format":2,"anything":[]}"#);
    let newer = read_summary(&bucket, week()).await.unwrap_err();
    assert_eq!(newer.kind(), FailureKind::Refused);
    for damaged in ["", "{}", "[1]", r#"{"format":1}"#, r#"{"format":"1"}"#] {
        bucket.set("summaries/2026-W47.json", damaged);
        let failure = read_summary(&bucket, week()).await.unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Damaged, "{damaged}");
        assert!(failure.to_string().contains("summaries/2026-W47.json"));
    }
}

#[tokio::test]
async fn a_member_from_a_later_version_is_passed_over() {
    let bucket = PlainBucket::default();
    let summary = summarize(tallies(), &bucket, MONDAY).await;
    let json = String::from_utf8(bucket.bytes("summaries/2026-W47.json").to_vec()).unwrap();
    bucket.set("summaries/2026-W47.json", json.replacen('{', "{\"later\": [1],", 1));
    assert_eq!(read_summary(&bucket, week()).await.unwrap(), Some(summary));
}

#[tokio::test]
async fn days_are_those_of_the_calendar_also_in_a_week_of_169_hours() {
    let store = PlainStore::default();
    let berlin = Calendar::new("Europe/Berlin").unwrap();
    let autumn: Week = "2026-W43".parse().unwrap();
    let bucket = PlainBucket::default();
    let now = at("2026-10-25T22:59:59Z");
    let summary = summarize_week(&store, &bucket, now, &berlin, autumn).await.unwrap();
    assert_eq!(summary.zone, "Europe/Berlin");
    assert_eq!((summary.to.as_micros() - summary.from.as_micros()) / 3_600_000_000, 169);
    assert!(!summary.complete, "a second is left");
    assert!(page(&summary).contains("was not over"));
}

#[tokio::test]
async fn only_the_most_frequent_fields_are_listed_and_the_rest_is_counted() {
    let mut rows = vec![row("2026-11-16", "wide", TallyKind::Stored, 1_000, 9)];
    for n in 0..FIELDS_MAX as u64 + 44 {
        rows.push(row("2026-11-16", "wide", field(&format!("f{n:03}"), "null"), n + 1, 0));
    }
    let summary = summarize(rows, &PlainBucket::default(), MONDAY).await;
    let wide = &summary.streams[0];
    assert_eq!((wide.fields.len(), wide.fields_left_out), (FIELDS_MAX, 44));
    assert_eq!(wide.fields[0].path, "f299");
    assert!(page(&summary).contains("44 fields that were rarer are not listed"));
}

#[tokio::test]
async fn a_week_without_documents_has_a_page_that_says_so() {
    let bucket = PlainBucket::default();
    let empty = summarize(Vec::new(), &bucket, MONDAY).await;
    let html = page(&empty);
    assert!(html.contains("Nothing was stored this week."));
    assert!(html.contains("No document died this week."));
    assert!(!html.contains("NaN") && !html.contains("<svg"));
    let gone =
        summarize(vec![row("2026-11-10", "orders", TallyKind::Stored, 1_234, 9)], &bucket, MONDAY);
    let html = page(&gone.await);
    assert!(html.contains("The week before had 1,234 documents."));
    assert!(html.contains("gone"));
}

#[tokio::test]
async fn whatever_a_field_is_called_is_text_on_the_page() {
    let evil = "</code><script>alert(1)</script><img src=x onerror='a'>\u{202e}\0\"&";
    let rows = vec![
        row("2026-11-16", "orders", TallyKind::Stored, 2, 20),
        row("2026-11-16", "orders", field(evil, "<b>"), 2, 0),
        row("2026-11-16", "orders", TallyKind::Dead("<i>".to_owned()), 1, 1),
    ];
    let bucket = PlainBucket::default();
    let summary = summarize(rows, &bucket, MONDAY).await;
    let html = page(&summary);
    for markup in ["<script", "<img", "<b>", "<i>", "\u{202e}", "\0"] {
        assert!(!html.contains(markup), "{markup:?}");
    }
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert_eq!(read_summary(&bucket, week()).await.unwrap(), Some(summary));
}

#[tokio::test]
async fn the_page_fetches_nothing_and_runs_nothing() {
    let html = page(&summarize(tallies(), &PlainBucket::default(), MONDAY).await);
    for forbidden in ["http:", "https:", "url(", "@import", "<script", "<link", " style="] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    for tag in html.split('<').skip(1).filter_map(|rest| rest.split('>').next()) {
        let handler = tag.split(' ').any(|part| part.starts_with("on") && part.contains('='));
        assert!(!handler, "{tag}");
    }
    assert!(html.starts_with("<!doctype html>\n<html lang=\"en\">"));
}

#[tokio::test]
async fn every_chart_has_a_title_and_a_description_or_is_hidden() {
    let html = page(&summarize(tallies(), &PlainBucket::default(), MONDAY).await);
    let charts = html.matches("<svg class=\"chart\"").count();
    assert_eq!(charts, 4, "all streams, growth, and two streams with documents");
    assert_eq!(html.matches("role=\"img\"").count(), charts);
    assert_eq!(html.matches("<desc id=").count(), charts);
    for (at, _) in html.match_indices("<svg class=\"spark\"") {
        assert!(html[at..at + 80].contains("aria-hidden"));
    }
    let mut ids: Vec<_> =
        html.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "no id stands twice");
    for id in html.split("aria-labelledby=\"").skip(1) {
        for id in id.split('"').next().unwrap().split(' ') {
            assert!(ids.contains(&id), "{id}");
        }
    }
}

#[tokio::test]
async fn every_element_of_the_page_is_closed() {
    let mut rows = tallies();
    for n in 0..80 {
        rows.push(row("2026-11-18", &format!("s{n}"), TallyKind::Stored, n + 1, 10));
        for path in 0..14 {
            rows.push(row(
                "2026-11-18",
                &format!("s{n}"),
                field(&format!("f{path}"), "null"),
                1,
                0,
            ));
        }
    }
    let html = page(&summarize(rows, &PlainBucket::default(), MONDAY).await);
    let mut open = Vec::new();
    for tag in html.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()) {
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        if tag.starts_with('!') || tag.ends_with('/') || name == "meta" {
            continue;
        }
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "</{name}>");
        } else {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
    assert!(html.contains("23 more streams"), "80 and 3 streams, 60 have a section");
}

#[tokio::test]
async fn counts_at_their_end_neither_wrap_nor_panic() {
    let rows = vec![
        row("2026-11-16", "a", TallyKind::Stored, u64::MAX, u64::MAX),
        row("2026-11-17", "a", TallyKind::Stored, u64::MAX, u64::MAX),
        row("2026-11-10", "b", TallyKind::Stored, u64::MAX, u64::MAX),
        row("2026-11-16", "a", field("x", "null"), u64::MAX, 0),
        row("2026-11-17", "a", field("x", "null"), u64::MAX, 0),
    ];
    let summary = summarize(rows, &PlainBucket::default(), MONDAY).await;
    assert_eq!(summary.total.documents, u64::MAX);
    assert_eq!(summary.streams[1].figures.growth.documents.difference, i64::MIN);
}

#[tokio::test]
async fn what_is_due_follows_from_what_lies_in_the_bucket() {
    let (store, bucket) = (PlainStore::default(), PlainBucket::default());
    let schedule = Schedule::new(CRON_DEFAULT, "UTC").unwrap();
    let now = at("2026-11-23T06:00:00Z");
    let due = async || weeks_due(&store, &bucket, &schedule, now).await;
    assert!(due().await.is_empty(), "no document, no summary");
    store.documents.lock().unwrap().push(StoredDocument {
        document: Document {
            id: DocumentId::from_bytes([1; 16]),
            stream: StreamName::default(),
            key: None,
            received: at("2026-11-12T00:00:00Z"),
            generation: Some(0),
            body: "1".into(),
        },
        stored: at("2026-11-12T00:00:00Z"),
    });
    let before = week().before();
    assert_eq!(due().await, [before, week()]);
    summarize_week(&store, &bucket, now, schedule.calendar(), week()).await.unwrap();
    assert_eq!(due().await, [before]);
    summarize_week(&store, &bucket, now, schedule.calendar(), before).await.unwrap();
    assert!(due().await.is_empty());
    bucket.set("summaries/2026-W46.json", "half a summ");
    assert_eq!(due().await, [before], "what can't be read is made again");
}

/// The document `n` of the stream `orders`, received then.
fn received(n: u8, moment: &str) -> Document {
    Document {
        id: DocumentId::from_bytes([n; 16]),
        stream: StreamName::new("orders").unwrap(),
        key: None,
        received: at(moment),
        generation: Some(0),
        body: format!("{{\"n\":{n}}}").into(),
    }
}

async fn store_at(store: &MemoryStore, now: &str, zone: &str, documents: Vec<Document>) {
    let batch = Batch {
        documents,
        dead: Vec::new(),
        cursor: None,
        now: at(now),
        calendar: Calendar::new(zone).unwrap(),
        attempts_max: 3,
    };
    store.put_batch(batch).await.unwrap();
}

/// Writes every summary that is due, and gives those weeks.
async fn write_due(
    store: &MemoryStore,
    bucket: &PlainBucket,
    schedule: &Schedule,
    now: &str,
) -> Vec<String> {
    let due = weeks_due(store, bucket, schedule, at(now)).await;
    for week in &due {
        summarize_week(store, bucket, at(now), schedule.calendar(), *week).await.unwrap();
    }
    due.iter().map(ToString::to_string).collect()
}

async fn summary_of(bucket: &PlainBucket, week: &str) -> Summary {
    read_summary(bucket, week.parse().unwrap()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_document_stored_after_its_weeks_summary_was_written_is_in_the_next_revision() {
    let (store, bucket) = (MemoryStore::default(), PlainBucket::default());
    let schedule = Schedule::new(CRON_DEFAULT, "UTC").unwrap();
    store_at(&store, "2026-11-18T12:00:00Z", "UTC", vec![received(1, "2026-11-18T12:00:00Z")])
        .await;
    assert_eq!(write_due(&store, &bucket, &schedule, MONDAY).await, ["2026-W47"]);
    let first = summary_of(&bucket, "2026-W47").await;
    assert_eq!((first.revision, first.changes.len(), first.total.documents), (1, 0, 1));
    assert_eq!(write_due(&store, &bucket, &schedule, MONDAY).await, [""; 0]);

    // Accepted a minute before the week ended, stored six seconds after its summary.
    let late = vec![received(2, "2026-11-22T23:59:00Z"), received(3, "2026-11-23T00:00:00Z")];
    store_at(&store, "2026-11-23T06:00:06Z", "UTC", late).await;
    let now = "2026-11-23T06:01:00Z";
    let due = summaries_due(&store, &bucket, &schedule, at(now)).await.unwrap();
    assert_eq!(due.iter().map(|due| due.reason).collect::<Vec<_>>(), [DueReason::Changed]);
    assert_eq!(write_due(&store, &bucket, &schedule, now).await, ["2026-W47"]);
    let second = summary_of(&bucket, "2026-W47").await;
    assert_eq!((second.revision, second.total.documents), (2, 2));
    let change = &second.changes[0];
    assert_eq!((change.revision, change.made), (2, at(now)));
    assert_eq!((change.documents, change.bytes, change.dead_letters), (1, 7, 0));
    assert_eq!(change.streams.len(), 1);
    assert_eq!((change.streams[0].stream.as_str(), change.streams[0].documents), ("orders", 1));
    assert!(page(&second).contains("Revision 2"));
    assert_eq!(write_due(&store, &bucket, &schedule, now).await, [""; 0]);
}

#[tokio::test]
async fn a_redrive_days_later_is_in_the_summary_of_its_week_and_in_the_growth_of_the_next() {
    let (store, bucket) = (MemoryStore::default(), PlainBucket::default());
    let schedule = Schedule::new(CRON_DEFAULT, "UTC").unwrap();
    store.refuse(Some("2"));
    let documents = vec![received(1, "2026-11-11T12:00:00Z"), received(2, "2026-11-11T12:00:00Z")];
    store_at(&store, "2026-11-11T12:00:00Z", "UTC", documents).await;
    store_at(&store, MONDAY, "UTC", vec![received(3, "2026-11-18T12:00:00Z")]).await;
    let written = write_due(&store, &bucket, &schedule, MONDAY).await;
    assert_eq!(written, ["2026-W46", "2026-W47"]);
    assert_eq!(summary_of(&bucket, "2026-W46").await.total.dead_letters[0].documents, 1);

    store.refuse(None);
    let tuesday = "2026-11-24T09:00:00Z";
    store_at(&store, tuesday, "UTC", vec![received(2, "2026-11-11T12:00:00Z")]).await;
    assert_eq!(write_due(&store, &bucket, &schedule, tuesday).await, ["2026-W46", "2026-W47"]);
    let (of, next) = (summary_of(&bucket, "2026-W46").await, summary_of(&bucket, "2026-W47").await);
    assert_eq!((of.revision, of.total.documents), (2, 2));
    assert_eq!((next.revision, next.total.documents), (2, 1));
    assert_eq!(next.total.growth.documents.before, 2);
    assert_eq!(next.changes[0].documents, 0);
    assert_eq!(write_due(&store, &bucket, &schedule, tuesday).await, [""; 0]);
}

#[tokio::test]
async fn a_week_of_any_age_is_due_when_it_changes_or_was_never_summarized() {
    let (store, bucket) = (MemoryStore::default(), PlainBucket::default());
    let schedule = Schedule::new(CRON_DEFAULT, "UTC").unwrap();
    // The machine was off from July on.
    store_at(&store, "2026-06-29T05:00:00Z", "UTC", vec![received(1, "2026-06-28T12:00:00Z")])
        .await;
    let recent: Vec<String> = (40..=47).map(|week| format!("2026-W{week}")).collect();
    let mut expected = vec!["2026-W26".to_owned()];
    expected.extend(recent);
    assert_eq!(write_due(&store, &bucket, &schedule, MONDAY).await, expected);
    assert_eq!(write_due(&store, &bucket, &schedule, MONDAY).await, [""; 0]);
    store_at(&store, MONDAY, "UTC", vec![received(2, "2026-06-28T13:00:00Z")]).await;
    assert_eq!(write_due(&store, &bucket, &schedule, MONDAY).await, ["2026-W26"]);
    let summary = summary_of(&bucket, "2026-W26").await;
    assert_eq!((summary.revision, summary.total.documents), (2, 2));
    assert_eq!(write_due(&store, &bucket, &schedule, MONDAY).await, [""; 0]);
}

#[tokio::test]
async fn a_summary_says_up_to_which_cursor_it_counts() {
    let (store, bucket) = (MemoryStore::default(), PlainBucket::default());
    let documents = vec![received(1, "2026-11-18T12:00:00Z"), received(2, "2026-11-18T12:00:00Z")];
    store_at(&store, MONDAY, "UTC", documents).await;
    let summary = summarize_week(&store, &bucket, at(MONDAY), &Calendar::utc(), week()).await;
    store_at(&store, MONDAY, "UTC", vec![received(3, "2026-11-18T12:00:00Z")]).await;
    let after = summary.unwrap().cursor;
    assert!(after.is_some());
    let query = PageQuery { limit: 10, after, ..PageQuery::default() };
    let behind = store.page(&query).await.unwrap().items;
    assert_eq!(behind.len(), 1);
    assert_eq!(behind[0].document, received(3, "2026-11-18T12:00:00Z"));
}

#[tokio::test]
async fn a_changed_time_zone_leaves_no_document_out_and_is_told() {
    let (store, bucket) = (MemoryStore::default(), PlainBucket::default());
    let kiritimati = Schedule::new(CRON_DEFAULT, "Pacific/Kiritimati").unwrap();
    let honolulu = Schedule::new(CRON_DEFAULT, "Pacific/Honolulu").unwrap();
    // In the one zone it is Monday already, in the other still Saturday.
    let night = "2026-11-22T09:30:00Z";
    store_at(&store, night, "Pacific/Kiritimati", vec![received(1, "2026-11-21T09:00:00Z")]).await;
    store_at(&store, night, "Pacific/Kiritimati", vec![received(2, "2026-11-22T10:30:00Z")]).await;
    let monday = "2026-11-22T16:30:00Z";
    assert_eq!(write_due(&store, &bucket, &kiritimati, monday).await, ["2026-W47"]);
    assert_eq!(summary_of(&bucket, "2026-W47").await.zones, []);
    let after = "2026-11-22T17:00:00Z";
    store_at(&store, after, "Pacific/Honolulu", vec![received(3, "2026-11-22T16:59:00Z")]).await;

    let week_later = "2026-12-07T17:00:00Z";
    let written = write_due(&store, &bucket, &honolulu, week_later).await;
    assert_eq!(written, ["2026-W47", "2026-W48", "2026-W49"]);
    let mut counted = 0;
    for week in ["2026-W47", "2026-W48", "2026-W49"] {
        counted += summary_of(&bucket, week).await.total.documents;
    }
    assert_eq!(counted, 3, "each document is in one summary");
    let summary = summary_of(&bucket, "2026-W47").await;
    let zones: Vec<_> = summary
        .zones
        .iter()
        .map(|zone| (zone.zone.as_str(), zone.from.to_string(), zone.documents))
        .collect();
    assert_eq!(
        zones,
        [
            ("Pacific/Kiritimati", "2026-11-21".to_owned(), 1),
            ("Pacific/Honolulu", "2026-11-22".to_owned(), 1)
        ]
    );
    assert!(page(&summary).contains("The time zone was changed."));
}

#[tokio::test]
async fn a_restored_store_takes_nothing_out_of_the_summaries_there_are() {
    let (store, bucket) = (MemoryStore::default(), PlainBucket::default());
    let schedule = Schedule::new(CRON_DEFAULT, "UTC").unwrap();
    let documents: Vec<_> = (1..=3).map(|n| received(n, "2026-11-18T12:00:00Z")).collect();
    store_at(&store, MONDAY, "UTC", documents.clone()).await;
    write_due(&store, &bucket, &schedule, MONDAY).await;
    // One of them was erased before the backup that the new store was filled from.
    let restored = MemoryStore::default();
    store_at(&restored, MONDAY, "UTC", documents[1..].to_vec()).await;
    assert_eq!(write_due(&restored, &bucket, &schedule, MONDAY).await, [""; 0]);
    let kept = summary_of(&bucket, "2026-W47").await;
    assert_eq!((kept.revision, kept.total.documents), (1, 3));
    assert_eq!(write_due(&restored, &bucket, &schedule, MONDAY).await, [""; 0]);
    // What comes late to the restored store is in it all the same.
    store_at(&restored, MONDAY, "UTC", vec![received(9, "2026-11-18T12:00:00Z")]).await;
    assert_eq!(write_due(&restored, &bucket, &schedule, MONDAY).await, ["2026-W47"]);
}

#[tokio::test]
async fn a_summary_of_an_older_version_is_made_again_only_for_what_came_late() {
    let (store, bucket) = (MemoryStore::default(), PlainBucket::default());
    let schedule = Schedule::new(CRON_DEFAULT, "UTC").unwrap();
    store_at(&store, MONDAY, "UTC", vec![received(1, "2026-11-18T12:00:00Z")]).await;
    write_due(&store, &bucket, &schedule, MONDAY).await;
    let mut json: serde_json::Value =
        serde_json::from_slice(&bucket.bytes("summaries/2026-W47.json")).unwrap();
    for member in ["revision", "changes", "cursor", "counted", "zones"] {
        json.as_object_mut().unwrap().remove(member).unwrap();
    }
    let (fresh, older) = (MemoryStore::default(), PlainBucket::default());
    older.set("summaries/2026-W47.json", json.to_string());
    store_at(&fresh, MONDAY, "UTC", vec![received(1, "2026-11-18T12:00:00Z")]).await;
    assert_eq!(write_due(&fresh, &older, &schedule, MONDAY).await, [""; 0]);
    store_at(&fresh, MONDAY, "UTC", vec![received(2, "2026-11-18T12:00:00Z")]).await;
    assert_eq!(write_due(&fresh, &older, &schedule, MONDAY).await, ["2026-W47"]);
    assert_eq!(summary_of(&older, "2026-W47").await.revision, 2);
}
