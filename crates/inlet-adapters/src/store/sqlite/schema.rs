//! What is in the file, and how it is opened.
//!
//! | table | holds |
//! | --- | --- |
//! | `documents` | a row a document; `position` is the order in which they were stored |
//! | `spans` | for each run of positions the earliest and latest `received_us` in it, so that a time range is found without an index that every insert would pay for, and though clocks jump |
//! | `streams` | the names of streams, with their figures |
//! | `dead_letters` | a row a dead letter, one for each id and body |
//! | `erased` | the marks of ids that were erased: which erasure of the store it was (`generation`; 0 for those of versions that did not count), and when |
//! | `cursors` | how far each log is stored |
//! | `identity` | one row: the identity of this store, which logs record |
//! | `tally_weeks` | the weeks whose tallies changed, how often, and up to where they are summarized |
//! | `tally_zones` | the documents of each day by the time zone under whose days they were counted |
//! | `tallies` | counts a day, stream and kind: 0 stored, 1 dead (`name` is the code of the cause), 2 field (`name` is its path, `type` its type) |
//!
//! Times are microseconds since the epoch. `application_id` is `Inlt`; `user_version` is the
//! version of this format. What only adds to the format and can be left alone by an older binary
//! keeps the version; what can't raises it, and an older binary then refuses the file.

use std::fs;
use std::path::Path;
use std::time::Duration;

use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::StoreId;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::SqliteOptions;
use super::failure::{failure, io_failure};
use crate::files;

/// The version that this binary writes, and the newest it reads.
const VERSION: i64 = 1;
/// `Inlt`.
const APPLICATION_ID: i64 = 0x496e_6c74;
const PAGE_BYTES: u64 = 4_096;
/// At this length the write-ahead log is moved into the file. A longer one moves a page that
/// changed often fewer times; this one is read in some 20 ms at a start after a crash.
const WAL_PAGES: u64 = 4_096;

const SCHEMA: &str = "
CREATE TABLE streams (
    stream_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    documents INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    first_us INTEGER,
    last_us INTEGER
) STRICT;

CREATE TABLE documents (
    position INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    stream_id INTEGER NOT NULL,
    received_us INTEGER NOT NULL,
    stored_us INTEGER NOT NULL,
    key TEXT,
    body BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX documents_by_id ON documents (id);
CREATE INDEX documents_by_stream ON documents (stream_id);

CREATE TABLE spans (
    first_position INTEGER PRIMARY KEY,
    last_position INTEGER NOT NULL,
    received_min_us INTEGER NOT NULL,
    received_max_us INTEGER NOT NULL
) STRICT;

CREATE TABLE dead_letters (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL,
    body_sha256 BLOB NOT NULL,
    stream_id INTEGER NOT NULL,
    received_us INTEGER NOT NULL,
    key TEXT,
    body BLOB NOT NULL,
    cause TEXT NOT NULL,
    class TEXT NOT NULL,
    detail TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    died_us INTEGER NOT NULL,
    redriven_us INTEGER,
    UNIQUE (id, body_sha256)
) STRICT;

CREATE TABLE erased (
    id BLOB PRIMARY KEY,
    erased_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX erased_by_time ON erased (erased_us);

CREATE TABLE cursors (
    log TEXT PRIMARY KEY,
    segment INTEGER NOT NULL,
    offset INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tallies (
    day TEXT NOT NULL,
    stream_id INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    documents INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (day, stream_id, kind, name, type)
) STRICT, WITHOUT ROWID;
";

/// Added to the format later; a file of an older binary gets it at its next open.
const IDENTITY: &str = "
CREATE TABLE IF NOT EXISTS identity (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id BLOB NOT NULL CHECK (length(id) = 16)
) STRICT;
";

/// Later additions to the format: the table by which a file is known to have one, and the SQL that
/// adds it.
const ADDED: [(&str, &str); 2] = [
    (
        "tally_zones",
        "
CREATE TABLE IF NOT EXISTS tally_weeks (
    week TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    summarized INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tally_zones (
    day TEXT NOT NULL,
    zone TEXT NOT NULL,
    documents INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (day, zone)
) STRICT, WITHOUT ROWID;
",
    ),
    // An older binary beside this one erases without a number; the triggers give it the next one.
    (
        "erased_again",
        "
ALTER TABLE erased ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
CREATE INDEX erased_by_generation ON erased (generation);
CREATE TRIGGER erased_first AFTER INSERT ON erased WHEN new.generation = 0 BEGIN
    UPDATE erased SET generation = 1 + max((SELECT max(generation) FROM erased), 1)
    WHERE id = new.id;
END;
CREATE TRIGGER erased_again AFTER UPDATE OF erased_us ON erased
WHEN new.generation = old.generation BEGIN
    UPDATE erased SET generation = 1 + max((SELECT max(generation) FROM erased), 1)
    WHERE id = new.id;
END;
",
    ),
];

/// Opens the file for writing, and makes it and its directory where there is none.
pub(super) fn open(
    directory: &Path,
    path: &Path,
    options: &SqliteOptions,
) -> Result<Connection, Failure> {
    let told = |error| failure(error, "open the store", path);
    fs::create_dir_all(directory)
        .map_err(|error| io_failure(error, "make the directory of the store", directory))?;
    // SQLite opens a file it may not write as read-only and says so at the first write only.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(told)?;
    connection.busy_timeout(Duration::from_millis(options.busy_ms)).map_err(told)?;
    let version = check_version(&connection, path)?;
    configure(&connection, options).map_err(told)?;
    if version == 0 {
        create(&mut connection).map_err(told)?;
        check_version(&connection, path)?;
        files::sync_directory(directory)
            .map_err(|error| io_failure(error, "sync the directory of the store", directory))?;
    }
    identify(&mut connection).map_err(told)?;
    expand(&mut connection).map_err(told)?;
    Ok(connection)
}

/// Opens the file for reading; it must be there.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(1))?;
    connection.execute_batch(
        "PRAGMA query_only = ON; PRAGMA cache_size = -1024; PRAGMA mmap_size = 0;
         PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF;",
    )?;
    Ok(connection)
}

/// The file's version; 0 where nothing is in it yet. Refuses what is not ours and what is newer.
fn check_version(connection: &Connection, path: &Path) -> Result<i64, Failure> {
    let number = |sql: &str| {
        connection
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .map_err(|error| failure(error, "read the version of the store", path))
    };
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    let (application_id, version) =
        (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
    let refused = |attempted: String, hint: &'static str| {
        Failure::new(FailureKind::Refused, attempted, path.display().to_string()).hint(hint)
    };
    if tables > 0 && application_id != APPLICATION_ID {
        return Err(refused(
            "use as a store the SQLite file of another program,".to_owned(),
            "choose another directory with --data",
        ));
    }
    if version > VERSION {
        return Err(refused(
            format!("open (version {version}, this binary knows {VERSION}) the store"),
            "use the binary that wrote it, or a newer one",
        ));
    }
    Ok(version)
}

fn configure(connection: &Connection, options: &SqliteOptions) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(64);
    let cache_kib = options.cache_bytes / 1_024;
    connection.execute_batch(&format!(
        "PRAGMA page_size = {PAGE_BYTES};
         PRAGMA secure_delete = ON;
         PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = OFF;
         PRAGMA mmap_size = 0;
         PRAGMA temp_store = MEMORY;
         PRAGMA trusted_schema = OFF;
         PRAGMA cache_size = -{cache_kib};"
    ))?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN),
            Some(format!("journal mode WAL was refused, it stays {mode}")),
        ));
    }
    let wal_bytes_max = WAL_PAGES * PAGE_BYTES * 2;
    connection.execute_batch(&format!(
        "PRAGMA wal_autocheckpoint = {WAL_PAGES}; PRAGMA journal_size_limit = {wal_bytes_max};"
    ))?;
    if let Some(bytes_max) = options.bytes_max {
        let pages_max = (bytes_max / PAGE_BYTES).max(1);
        connection.execute_batch(&format!("PRAGMA max_page_count = {pages_max}"))?;
    }
    Ok(())
}

/// Makes the tables, unless another process just did.
fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = tx.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == 0 {
        tx.execute_batch(SCHEMA)?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.pragma_update(None, "user_version", VERSION)?;
    }
    tx.commit()
}

fn has(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    connection.prepare("SELECT 1 FROM sqlite_schema WHERE name = ?1")?.exists([name])
}

/// Adds what a file of an older binary lacks.
fn expand(connection: &mut Connection) -> rusqlite::Result<()> {
    for (name, sql) in ADDED {
        if has(connection, name)? {
            continue;
        }
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another process may have been faster.
        if !has(&tx, name)? {
            tx.execute_batch(sql)?;
        }
        tx.commit()?;
    }
    Ok(())
}

/// Gives the file an identity where it has none.
fn identify(connection: &mut Connection) -> rusqlite::Result<()> {
    if has(connection, "identity")? {
        return Ok(());
    }
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(IDENTITY)?;
    let made = StoreId::random();
    tx.execute("INSERT OR IGNORE INTO identity (one, id) VALUES (1, ?1)", [made.as_bytes()])?;
    tx.commit()
}
