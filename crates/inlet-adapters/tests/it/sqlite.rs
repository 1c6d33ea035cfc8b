use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use inlet_adapters::store::{SqliteOptions, SqliteStore};
use inlet_core::dead_letter::DeadLetterFilter;
use inlet_core::document::{Document, Timestamp};
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::{Outcome, PageQuery, Store, TallyKind};
use inlet_testkit::contract::store::StoreFixture;
use inlet_testkit::sample::{
    NOW, PutBatch, after, batch, day, document, document_with, id, keyed_document,
};
use rusqlite::Connection;
use tempfile::TempDir;

/// A store in a directory of its own, and a second connection to its file.
struct Sqlite {
    directory: TempDir,
    options: SqliteOptions,
    lock: Mutex<Option<Connection>>,
}

impl Default for Sqlite {
    fn default() -> Self {
        let options = SqliteOptions { busy_ms: 5, reserve_bytes: 0, ..SqliteOptions::default() };
        Self { directory: tempfile::tempdir().unwrap(), options, lock: Mutex::default() }
    }
}

impl Sqlite {
    fn try_open(&self) -> Result<SqliteStore, Failure> {
        SqliteStore::open(self.directory.path(), &self.options)
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join(SqliteStore::FILE)
    }

    fn execute(&self, sql: &str) {
        let connection = Connection::open(self.file()).unwrap();
        connection.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
        connection.execute_batch(sql).unwrap();
    }

    fn number(&self, sql: &str) -> i64 {
        let connection = Connection::open(self.file()).unwrap();
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

#[async_trait]
impl StoreFixture for Sqlite {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.try_open().unwrap())
    }

    async fn refuse(&self, marker: Option<&str>) {
        self.execute("DROP TRIGGER IF EXISTS poison");
        if let Some(marker) = marker {
            self.execute(&format!(
                "CREATE TRIGGER poison BEFORE INSERT ON documents
                 WHEN instr(CAST(new.body AS TEXT), '{marker}')
                 BEGIN SELECT RAISE(ABORT, 'poison is refused'); END"
            ));
        }
    }

    async fn set_away(&self, away: bool) {
        let lock = away.then(|| {
            let connection = Connection::open(self.file()).unwrap();
            connection.execute_batch("BEGIN IMMEDIATE").unwrap();
            connection
        });
        *self.lock.lock().unwrap() = lock;
    }
}

inlet_testkit::store_contract!(Sqlite::default());

#[tokio::test]
async fn a_lock_that_another_process_holds_is_an_outage_with_a_hint() {
    let sqlite = Sqlite::default();
    let store = sqlite.open().await;
    sqlite.set_away(true).await;
    let failure = store.put_batch(batch([document(1)])).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Unavailable);
    assert!(failure.hint_text().unwrap().contains("lock"));
    assert!(failure.to_string().contains(SqliteStore::FILE), "{failure}");
    store.erase(id(1), NOW).await.unwrap_err();
    store.check().await.unwrap();
    assert_eq!(store.get(id(1)).await.unwrap(), None);
}

#[tokio::test]
async fn the_cause_of_a_poison_document_is_what_sqlite_said() {
    let sqlite = Sqlite::default();
    let store = sqlite.open().await;
    sqlite.refuse(Some("poison")).await;
    store.put_batch(batch([document_with(1, "\"poison\"")])).await.unwrap();
    let letters = store.dead_letters(&DeadLetterFilter::default(), 10, None).await.unwrap();
    assert!(letters.items[0].cause.detail().contains("poison is refused"));
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_refused_by_both_versions() {
    let sqlite = Sqlite::default();
    sqlite.try_open().unwrap().close().await.unwrap();
    sqlite.execute("PRAGMA user_version = 7");
    let failure = sqlite.try_open().err().unwrap();
    assert_eq!(failure.kind(), FailureKind::Refused);
    assert!(failure.to_string().contains("version 7, this binary knows 1"), "{failure}");
    assert!(failure.hint_text().is_some());
    assert_eq!(sqlite.number("PRAGMA user_version"), 7);
}

#[tokio::test]
async fn the_file_of_another_program_is_refused() {
    let sqlite = Sqlite::default();
    sqlite.execute("CREATE TABLE theirs (x)");
    let failure = sqlite.try_open().err().unwrap();
    assert_eq!(failure.kind(), FailureKind::Refused);
    assert_eq!(sqlite.number("SELECT count(*) FROM sqlite_schema"), 1);
}

#[tokio::test]
async fn a_file_that_is_no_sqlite_file_is_damage() {
    let sqlite = Sqlite::default();
    fs::write(sqlite.file(), "not a store at all, ".repeat(500)).unwrap();
    let failure = sqlite.try_open().err().unwrap();
    assert_eq!(failure.kind(), FailureKind::Damaged);
    assert!(failure.hint_text().unwrap().contains("inlet restore"));
}

#[tokio::test]
async fn overwritten_pages_are_damage_and_not_poison() {
    let sqlite = Sqlite::default();
    let store = sqlite.try_open().unwrap();
    let body = format!("\"{}\"", "x".repeat(2_000));
    store.put_batch(batch((1..500).map(|n| document_with(n, &body)))).await.unwrap();
    store.close().await.unwrap();
    let file = fs::OpenOptions::new().write(true).open(sqlite.file()).unwrap();
    let pages = file.metadata().unwrap().len() / 4_096;
    // The first pages are left, so that it opens; the rest is overwritten.
    for page in 30..pages {
        file.write_all_at(&[0xa5; 4_096], page * 4_096).unwrap();
    }
    let store = sqlite.try_open().unwrap();
    let failure = store.put_batch(batch((1..500).map(document))).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Damaged, "{failure}");
    assert!(failure.hint_text().unwrap().contains("inlet restore"));
    assert!(!failure.is_retryable());
    let page = PageQuery { limit: 1_000, ..PageQuery::default() };
    let failure = store.page(&page).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Damaged);
}

#[tokio::test]
async fn a_full_store_fails_as_a_whole_and_goes_on_when_there_is_room() {
    let mut sqlite = Sqlite::default();
    sqlite.options.bytes_max = Some(256 << 10);
    let store = sqlite.try_open().unwrap();
    store.put_batch(batch([document(1)])).await.unwrap();
    let body = format!("\"{}\"", "x".repeat(8_000));
    let large: Vec<Document> = (2..200).map(|n| document_with(n, &body)).collect();
    let failure = store.put_batch(batch(large.clone())).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Full, "{failure}");
    assert!(failure.is_retryable());
    assert_eq!(sqlite.number("SELECT count(*) FROM documents"), 1);
    assert_eq!(sqlite.number("SELECT count(*) FROM dead_letters"), 0);
    assert_eq!(store.put_batch(batch([document(1)])).await.unwrap(), [Outcome::Duplicate]);
    store.close().await.unwrap();
    sqlite.options.bytes_max = None;
    let store = sqlite.try_open().unwrap();
    assert_eq!(store.put_batch(batch(large)).await.unwrap().len(), 198);
    assert_eq!(sqlite.number("SELECT count(*) FROM documents"), 199);
}

#[tokio::test]
async fn the_reserve_is_held_and_taken_once() {
    let mut sqlite = Sqlite::default();
    sqlite.options.reserve_bytes = 1 << 20;
    let reserve = sqlite.directory.path().join("reserve");
    for _ in 0..2 {
        sqlite.try_open().unwrap().close().await.unwrap();
        assert_eq!(fs::metadata(&reserve).unwrap().len(), 1 << 20);
    }
}

#[tokio::test]
async fn a_directory_that_can_not_be_is_refused_by_name() {
    let sqlite = Sqlite::default();
    let in_the_way = sqlite.directory.path().join("file");
    fs::write(&in_the_way, "").unwrap();
    let failure = SqliteStore::open(in_the_way.join("store"), &sqlite.options).err().unwrap();
    assert_eq!(failure.kind(), FailureKind::Refused, "{failure}");
    assert!(failure.to_string().contains("file/store"), "{failure}");
}

#[tokio::test]
async fn an_erased_body_is_in_no_file_any_more() {
    let sqlite = Sqlite::default();
    let store = sqlite.try_open().unwrap();
    let secret = "Zuckerwattenmaschine";
    store.put_batch(batch((1..50).map(document))).await.unwrap();
    store.put_batch(batch([document_with(60, &format!("\"{secret}\""))])).await.unwrap();
    store.put_batch(batch((100..150).map(document))).await.unwrap();
    assert!(found_in_files(&sqlite, secret));
    store.erase(id(60), NOW).await.unwrap();
    store.close().await.unwrap();
    assert!(!found_in_files(&sqlite, secret));
}

#[tokio::test]
async fn two_stores_on_one_file_see_what_the_other_stored() {
    let sqlite = Sqlite::default();
    let (one, other) = (sqlite.open().await, sqlite.open().await);
    for n in 0..10 {
        one.put_batch(batch([document(2 * n)])).await.unwrap();
        let outcomes = other.put_batch(batch([document(2 * n), document(2 * n + 1)])).await;
        assert_eq!(outcomes.unwrap(), [Outcome::Duplicate, Outcome::Stored]);
    }
    assert_eq!(sqlite.number("SELECT count(DISTINCT position) FROM documents"), 20);
    assert_eq!(sqlite.number("SELECT documents FROM streams"), 20);
    assert_eq!(sqlite.number("SELECT max(last_position) FROM spans"), 20);
}

#[tokio::test]
async fn a_time_range_is_found_among_many_spans_whatever_the_clock_did() {
    let sqlite = Sqlite::default();
    let store = sqlite.open().await;
    let mut n = 0;
    // Ten spans of 5,000 documents, the seventh of a day long before.
    for span in 0..10_i64 {
        let shift = if span == 6 { -86_400_000 } else { span * 10_000 };
        let documents: Vec<_> = (0..5_000)
            .map(|at| {
                n += 1;
                Document { received: after(shift + at), ..document(n) }
            })
            .collect();
        store.put_batch(batch(documents)).await.unwrap();
    }
    assert_eq!(sqlite.number("SELECT count(*) FROM spans"), 10);
    for (from, to, expected) in [
        (-86_400_000, -86_400_000 + 5, 5),
        (30_000, 30_003, 3),
        (34_998, 40_002, 4),
        (-86_400_000, 1, 5_001),
        (200_000, 300_000, 0),
        (-90_000_000, 200_000, 50_000),
    ] {
        let mut query = PageQuery {
            from: Some(after(from)),
            to: Some(after(to)),
            limit: 999,
            ..PageQuery::default()
        };
        let mut found = 0;
        loop {
            let page = store.page(&query).await.unwrap();
            found += page.items.len();
            query.after = page.next;
            if !page.more {
                break;
            }
        }
        assert_eq!(found, expected, "{from} to {to}");
    }
}

#[tokio::test]
async fn a_page_of_large_documents_ends_early_and_says_that_there_is_more() {
    let sqlite = Sqlite::default();
    let store = sqlite.open().await;
    let body = format!("\"{}\"", "x".repeat(1 << 20));
    store.put_batch(batch((0..20).map(|n| document_with(n, &body)))).await.unwrap();
    let mut query = PageQuery { limit: 1_000, ..PageQuery::default() };
    let mut lengths = Vec::new();
    loop {
        let page = store.page(&query).await.unwrap();
        lengths.push(page.items.len());
        query.after = page.next;
        if !page.more {
            break;
        }
    }
    assert_eq!(lengths, [8, 8, 4]);
}

#[tokio::test]
async fn a_cursor_of_no_page_is_refused() {
    let sqlite = Sqlite::default();
    let store = sqlite.open().await;
    for cursor in ["x", "-1", "", "99999999999999999999"] {
        let query = PageQuery { limit: 1, after: Some(cursor.to_owned()), ..PageQuery::default() };
        let failure = store.page(&query).await.unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Refused);
        let filter = DeadLetterFilter::default();
        store.dead_letters(&filter, 1, Some(cursor)).await.unwrap_err();
    }
}

#[tokio::test]
async fn random_ids_and_many_streams_are_all_counted() {
    let sqlite = Sqlite::default();
    let store = sqlite.open().await;
    let documents: Vec<_> = (0..3_000)
        .map(|n: u64| {
            let mut document = keyed_document(&format!("k{n}"), n.wrapping_mul(0x9e37_79b9));
            document.received = after(0);
            document.stream = inlet_testkit::sample::stream(&format!("s{}", n % 700));
            document
        })
        .collect();
    let outcomes = store.put_batch(batch(documents)).await.unwrap();
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Stored));
    let streams = store.streams().await.unwrap();
    assert_eq!(streams.len(), 700);
    assert_eq!(streams.iter().map(|figures| figures.documents).sum::<u64>(), 3_000);
    let tallies = store.tallies(day(), day()).await.unwrap().rows;
    let stored = tallies.iter().filter(|row| row.kind == TallyKind::Stored);
    assert_eq!(stored.map(|row| row.documents).sum::<u64>(), 3_000);
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let sqlite = Sqlite::default();
    let store = sqlite.try_open().unwrap();
    store.put_batch(batch([document(1)])).await.unwrap();
    store.close().await.unwrap();
    let failure = store.put_batch(batch([document(2)])).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Poisoned);
    store.check().await.unwrap_err();
    let wal = sqlite.directory.path().join(format!("{}-wal", SqliteStore::FILE));
    assert!(fs::metadata(wal).map_or(true, |wal| wal.len() == 0));
}

fn found_in_files(sqlite: &Sqlite, text: &str) -> bool {
    fs::read_dir(sqlite.directory.path()).unwrap().any(|entry| {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

#[tokio::test]
async fn two_files_have_two_identities_and_one_of_an_older_binary_gets_its_own() {
    let (one, other) = (Sqlite::default(), Sqlite::default());
    let identity = one.open().await.identity().await.unwrap();
    assert_ne!(other.open().await.identity().await.unwrap(), identity);
    one.execute("DROP TABLE identity");
    let given = one.open().await.identity().await.unwrap();
    assert_eq!(one.open().await.identity().await.unwrap(), given);
}

#[tokio::test]
async fn a_file_of_an_older_binary_keeps_its_marks_and_counts_from_then_on() {
    let mut sqlite = Sqlite::default();
    sqlite.options.busy_ms = 5_000;
    sqlite.open().await;
    sqlite.execute(
        "DROP TRIGGER erased_first; DROP TRIGGER erased_again; DROP INDEX erased_by_generation;
         ALTER TABLE erased DROP COLUMN generation;
         DROP TABLE tally_zones; DROP TABLE tally_weeks;",
    );
    erase_as_an_older_binary(&sqlite, 1, NOW);
    let (store, other) = (sqlite.open().await, sqlite.open().await);
    assert_eq!(store.erasures().await.unwrap(), 1);
    assert_eq!(other.marks(&[id(1)]).await.unwrap()[&id(1)].generation, 0);
    let sent = |n, received| Document { received, ..document(n) };
    // Nothing else than the moment is known of that erasure.
    let outcomes = store.put_batch(batch([sent(1, NOW), sent(1, after(9_000_000))])).await;
    assert_eq!(outcomes.unwrap(), [Outcome::Erased, Outcome::Stored]);
    let erasure = other.erase(id(1), NOW).await.unwrap();
    assert!(erasure.was_there && erasure.generation > 1);
    let outcomes = store.put_batch(batch([sent(1, after(9_000_001))])).await.unwrap();
    assert_eq!(outcomes, [Outcome::Erased]);
}

#[tokio::test]
async fn an_erasure_by_an_older_binary_beside_this_one_is_counted() {
    let sqlite = Sqlite::default();
    let store = sqlite.open().await;
    store.put_batch(batch([document(1)])).await.unwrap();
    let before = store.erase(id(2), NOW).await.unwrap().generation;
    for _ in 0..2 {
        let erasures = store.erasures().await.unwrap();
        erase_as_an_older_binary(&sqlite, 1, NOW);
        let mark = store.marks(&[id(1)]).await.unwrap()[&id(1)];
        assert_eq!(mark.generation, erasures + 1);
        assert_eq!(store.erasures().await.unwrap(), mark.generation);
        let ahead = Document { received: after(99_000_000), ..document(1) };
        assert_eq!(store.put_batch(batch([ahead])).await.unwrap(), [Outcome::Erased]);
    }
    assert!(store.erase(id(1), NOW).await.unwrap().generation > before + 2);
}

/// As `erase` was written before erasures were counted.
fn erase_as_an_older_binary(sqlite: &Sqlite, n: u64, now: Timestamp) {
    let connection = Connection::open(sqlite.file()).unwrap();
    let id = id(n);
    connection.execute("DELETE FROM documents WHERE id = ?1", [id.as_bytes()]).unwrap();
    let sql = "INSERT INTO erased (id, erased_us) VALUES (?1, ?2)
         ON CONFLICT (id) DO UPDATE SET erased_us = max(erased_us, excluded.erased_us)";
    connection.execute(sql, rusqlite::params![id.as_bytes(), now.as_micros()]).unwrap();
}
