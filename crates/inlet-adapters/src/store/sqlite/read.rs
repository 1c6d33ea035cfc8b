//! What is read: documents, dead letters, cursors.

use inlet_core::dead_letter::{DeadLetter, DeadLetterFilter};
use inlet_core::document::{StoredDocument, StreamName, md5};
use inlet_core::id::{DocumentId, IdPrefix};
use inlet_core::ports::{Cursor, Found, Page, PageQuery, StoreId};
use rusqlite::{Connection, OptionalExtension, Params, Row, ToSql, params, params_from_iter};

use super::rows;
use super::spans;

/// The most bytes of bodies on a page; one document is given even where it alone is larger.
const PAGE_BYTES_MAX: usize = 8 << 20;

pub(super) fn get(
    connection: &Connection,
    id: DocumentId,
) -> rusqlite::Result<Option<StoredDocument>> {
    let columns = rows::DOCUMENT;
    connection
        .prepare_cached(&format!(
            "SELECT {columns} FROM documents d JOIN streams s USING (stream_id) WHERE d.id = ?1"
        ))?
        .query_row([id.as_bytes()], rows::document)
        .optional()
}

pub(super) fn find(connection: &Connection, id: DocumentId) -> rusqlite::Result<Option<Found>> {
    let stored = connection
        .prepare_cached(
            "SELECT s.name, d.received_us, d.stored_us, length(d.body),
                 (SELECT count(*) FROM dead_letters WHERE id = ?1), d.body
             FROM documents d JOIN streams s USING (stream_id) WHERE d.id = ?1",
        )?
        .query_row([id.as_bytes()], |row| {
            Ok(Found::Stored {
                stream: rows::stream(row, 0)?,
                received: rows::moment(row, 1)?,
                stored: rows::moment(row, 2)?,
                bytes: rows::count(row, 3)?,
                letters: rows::count(row, 4)?,
                md5: md5(row.get_ref(5)?.as_blob()?),
            })
        })
        .optional()?;
    if stored.is_some() {
        return Ok(stored);
    }
    let columns = rows::DEAD_LETTER;
    let dead = connection
        .prepare_cached(&format!(
            "SELECT {columns} FROM dead_letters d JOIN streams s USING (stream_id)
             WHERE d.id = ?1 ORDER BY d.position LIMIT 1"
        ))?
        .query_row([id.as_bytes()], rows::dead_letter)
        .optional()?;
    if let Some(letter) = dead {
        return Ok(Some(Found::Dead(Box::new(letter))));
    }
    let erased =
        connection.prepare_cached("SELECT 1 FROM erased WHERE id = ?1")?.exists([id.as_bytes()])?;
    Ok(erased.then_some(Found::Erased))
}

/// A page of documents behind the position `after`.
pub(super) fn page(
    connection: &Connection,
    query: &PageQuery,
    (after, until): (i64, i64),
) -> rusqlite::Result<Page<StoredDocument>> {
    let mut gathered = Gathered::new(query.limit, query.after.clone());
    let stream_id: Option<i64> = match &query.stream {
        None => None,
        Some(stream) => {
            let found = connection
                .prepare_cached("SELECT stream_id FROM streams WHERE name = ?1")?
                .query_row([stream.as_str()], |row| row.get(0))
                .optional()?;
            let Some(id) = found else { return Ok(gathered.page) };
            Some(id)
        }
    };
    let from = query.from.map_or(i64::MIN, |from| from.as_micros());
    let to = query.to.map_or(i64::MAX, |to| to.as_micros());
    let columns = rows::DOCUMENT;
    let of_stream = if stream_id.is_some() { "d.stream_id = ?5" } else { "?5 IS NULL" };
    let sql = format!(
        "SELECT {columns} FROM documents d JOIN streams s ON s.stream_id = d.stream_id
         WHERE d.position BETWEEN ?1 AND ?2 AND d.received_us >= ?3 AND d.received_us < ?4
             AND {of_stream} ORDER BY d.position"
    );
    let (mut after, timed) = (after, query.from.is_some() || query.to.is_some());
    loop {
        let run = if timed { spans::next_run(connection, after, from, to)? } else { None };
        let (first, last) = match run {
            Some(run) => run,
            None if timed => return Ok(gathered.page),
            None => (after.saturating_add(1), i64::MAX),
        };
        let last = last.min(until);
        let whole = gathered.gather(
            connection,
            &sql,
            params![first, last, from, to, stream_id],
            rows::document,
            |stored| stored.document.body.len(),
        )?;
        if !whole || !timed || last == until {
            return Ok(gathered.page);
        }
        after = last;
    }
}

/// The position of the document before the last `count` of a stream, as a page's cursor.
pub(super) fn cursor_of_last(
    connection: &Connection,
    stream: Option<&StreamName>,
    count: usize,
) -> rusqlite::Result<Option<String>> {
    let skipped = i64::try_from(count).unwrap_or(i64::MAX);
    let position = |row: &Row<'_>| Ok(row.get::<_, i64>(0)?.to_string());
    let found = match stream {
        None => connection
            .prepare_cached(
                "SELECT position FROM documents ORDER BY position DESC LIMIT 1 OFFSET ?1",
            )?
            .query_row([skipped], position),
        Some(stream) => connection
            .prepare_cached(
                "SELECT d.position FROM documents d JOIN streams s ON s.stream_id = d.stream_id
                 WHERE s.name = ?2 ORDER BY d.position DESC LIMIT 1 OFFSET ?1",
            )?
            .query_row(params![skipped, stream.as_str()], position),
    };
    found.optional()
}

/// Ids of documents that begin so, in their order.
pub(super) fn ids(
    connection: &Connection,
    prefix: IdPrefix,
    limit: usize,
) -> rusqlite::Result<Vec<DocumentId>> {
    let mut statement = connection.prepare_cached(
        "SELECT id FROM documents WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let (first, last) = (prefix.first(), prefix.last());
    let found = statement.query_map(params![first.as_bytes(), last.as_bytes(), limit], |row| {
        Ok(DocumentId::from_bytes(row.get(0)?))
    })?;
    found.collect()
}

/// A page of dead letters behind the position `position`, which `after` is the text of.
pub(super) fn dead_letters(
    connection: &Connection,
    filter: &DeadLetterFilter,
    limit: usize,
    position: i64,
    after: Option<String>,
) -> rusqlite::Result<Page<DeadLetter>> {
    let mut conditions = vec!["d.position > ?"];
    let mut values: Vec<Box<dyn ToSql>> = vec![Box::new(position)];
    let mut add = |condition, value: Option<Box<dyn ToSql>>| {
        if let Some(value) = value {
            conditions.push(condition);
            values.push(value);
        }
    };
    let boxed = |value: &str| Box::new(value.to_owned()) as Box<dyn ToSql>;
    let micros = |moment: i64| Box::new(moment) as Box<dyn ToSql>;
    add("d.id = ?", filter.id.map(|id| Box::new(*id.as_bytes()) as Box<dyn ToSql>));
    add("s.name = ?", filter.stream.as_ref().map(|stream| boxed(stream.as_str())));
    add("d.cause = ?", filter.cause.as_deref().map(boxed));
    add("d.class = ?", filter.class.as_deref().map(boxed));
    add("d.died_us >= ?", filter.since.map(|since| micros(since.as_micros())));
    add("d.died_us < ?", filter.before.map(|before| micros(before.as_micros())));
    let (columns, conditions) = (rows::DEAD_LETTER, conditions.join(" AND "));
    let sql = format!(
        "SELECT {columns} FROM dead_letters d JOIN streams s ON s.stream_id = d.stream_id
         WHERE {conditions} ORDER BY d.position"
    );
    let mut gathered = Gathered::new(limit, after);
    gathered.gather(connection, &sql, params_from_iter(values), rows::dead_letter, |letter| {
        letter.body.len()
    })?;
    Ok(gathered.page)
}

pub(super) fn cursors(connection: &Connection) -> rusqlite::Result<Vec<Cursor>> {
    let mut statement = connection.prepare_cached("SELECT log, segment, offset FROM cursors")?;
    let found = statement.query_map([], |row| {
        Ok(Cursor { log: row.get(0)?, segment: rows::count(row, 1)?, offset: rows::count(row, 2)? })
    })?;
    found.collect()
}

pub(super) fn identity(connection: &Connection) -> rusqlite::Result<StoreId> {
    let mut statement = connection.prepare_cached("SELECT id FROM identity")?;
    statement.query_row([], |row| Ok(StoreId::from_bytes(row.get(0)?)))
}

/// Reads something that is always there.
pub(super) fn check(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("SELECT count(*) FROM sqlite_schema")?.query_row([], |_| Ok(()))
}

/// A page as it fills.
struct Gathered<T> {
    page: Page<T>,
    limit: usize,
    bytes: usize,
}

impl<T> Gathered<T> {
    fn new(limit: usize, after: Option<String>) -> Self {
        Self { page: Page { items: Vec::new(), next: after, more: false }, limit, bytes: 0 }
    }

    /// Adds what the query gives, its first column being the position; false where the page was
    /// full before the end.
    fn gather(
        &mut self,
        connection: &Connection,
        sql: &str,
        params: impl Params,
        item: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
        bytes: impl Fn(&T) -> usize,
    ) -> rusqlite::Result<bool> {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        while let Some(row) = rows.next()? {
            if self.page.items.len() >= self.limit || self.bytes >= PAGE_BYTES_MAX {
                self.page.more = true;
                return Ok(false);
            }
            let found = item(row)?;
            self.bytes += bytes(&found);
            self.page.items.push(found);
            self.page.next = Some(row.get::<_, i64>(0)?.to_string());
        }
        Ok(true)
    }
}
