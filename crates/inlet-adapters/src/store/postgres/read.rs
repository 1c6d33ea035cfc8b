//! What is read: documents, dead letters, streams, cursors.
//!
//! Pages are cut by the database, by number and by bytes, so that no answer is larger than a page.

use inlet_core::dead_letter::{DeadLetter, DeadLetterFilter};
use inlet_core::document::{StoredDocument, StreamName, Timestamp, md5};
use inlet_core::id::{DocumentId, IdPrefix};
use inlet_core::ports::{Cursor, Found, Page, PageQuery, StoreId, StreamFigures};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::failure::Fault;
use super::rows::{self, DEAD_LETTER, DOCUMENT, Id};
use super::spans;

/// The most bytes of bodies on a page; one document is given even where it alone is larger.
const PAGE_BYTES_MAX: i64 = 8 << 20;
/// The most documents on a page, whatever is asked for.
const PAGE_ITEMS_MAX: usize = 10_000;

/// Does `work` in a transaction that `begin` begins, for the limits that it sets.
pub(super) async fn in_transaction<T>(
    client: &Client,
    begin: &str,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    let begun = async { Ok(client.batch_execute(begin).await?) };
    let ((), value) = tokio::try_join!(biased; begun, work)?;
    client.batch_execute("COMMIT").await?;
    Ok(value)
}

pub(super) async fn get(client: &Client, id: DocumentId) -> Result<Option<StoredDocument>, Fault> {
    let sql = format!("SELECT {DOCUMENT}, body FROM inlet.documents AS d WHERE id = $1");
    let row = client.query_typed_opt(&sql, &[(&Id::from(id), Type::UUID)]).await?;
    row.as_ref().map(rows::document).transpose()
}

/// The three questions are asked in the order in which an id can move on, so that one that moves
/// meanwhile is found in one of the places.
pub(super) async fn find(client: &Client, id: DocumentId) -> Result<Option<Found>, Fault> {
    let id = Id::from(id);
    let id: (&(dyn ToSql + Sync), Type) = (&id, Type::UUID);
    let letter = format!(
        "SELECT {DEAD_LETTER}, body FROM inlet.dead_letters AS d WHERE id = $1 ORDER BY position LIMIT 1"
    );
    // Its own md5() is not to be had everywhere: FIPS forbids it.
    let stored = "SELECT stream, received_us, stored_us, octet_length(body)::bigint,
             (SELECT count(*) FROM inlet.dead_letters WHERE id = $1), body
         FROM inlet.documents WHERE id = $1";
    let (letter, stored, erased) = tokio::try_join!(
        biased;
        client.query_typed_opt(&letter, std::slice::from_ref(&id)),
        client.query_typed_opt(stored, std::slice::from_ref(&id)),
        client.query_typed_opt(
            "SELECT id FROM inlet.erased WHERE id = $1",
            std::slice::from_ref(&id),
        ),
    )?;
    if let Some(row) = stored {
        return Ok(Some(Found::Stored {
            stream: rows::stream(&row, 0)?,
            received: rows::moment(&row, 1)?,
            stored: rows::moment(&row, 2)?,
            bytes: rows::count(&row, 3)?,
            letters: rows::count(&row, 4)?,
            md5: md5(row.try_get(5)?),
        }));
    }
    if let Some(row) = letter {
        return Ok(Some(Found::Dead(Box::new(rows::dead_letter(&row)?))));
    }
    Ok(erased.map(|_| Found::Erased))
}

/// A page of documents behind the position `after`.
pub(super) async fn page(
    client: &Client,
    query: &PageQuery,
    (after, until): (i64, i64),
) -> Result<Page<StoredDocument>, Fault> {
    let mut gathered = Gathered::new(query.limit, query.after.clone());
    let from = query.from.map_or(i64::MIN, Timestamp::as_micros);
    let to = query.to.map_or(i64::MAX, Timestamp::as_micros);
    let is_timed = query.from.is_some() || query.to.is_some();
    let (mut after, stream) = (after, query.stream.as_ref().map(StreamName::as_str));
    // Each turn goes on behind the spans of the one before.
    loop {
        let run = if is_timed { spans::next_run(client, after, from, to).await? } else { None };
        let (first, last) = match run {
            Some(run) => run,
            None if is_timed => return Ok(gathered.page),
            None => (after.saturating_add(1), i64::MAX),
        };
        let last = last.min(until);
        let sql = page_sql(
            DOCUMENT,
            "inlet.documents",
            "position BETWEEN $3 AND $4 AND received_us >= $5 AND received_us < $6
                AND ($7::text IS NULL OR stream = $7)",
        );
        let found = client
            .query_typed(
                &sql,
                &[
                    (&gathered.rows_max(), Type::INT8),
                    (&gathered.bytes_left(), Type::INT8),
                    (&first, Type::INT8),
                    (&last, Type::INT8),
                    (&from, Type::INT8),
                    (&to, Type::INT8),
                    (&stream, Type::TEXT),
                ],
            )
            .await?;
        let is_whole =
            gathered.gather(&found, 7, rows::document, |stored| stored.document.body.len())?;
        if !is_whole || !is_timed || last == until {
            return Ok(gathered.page);
        }
        after = last;
    }
}

/// The position of the document before the last `count` of a stream, as a page's cursor.
pub(super) async fn cursor_of_last(
    client: &Client,
    stream: Option<&StreamName>,
    count: usize,
) -> Result<Option<String>, Fault> {
    let skipped = i64::try_from(count).unwrap_or(i64::MAX);
    // Two statements, so that each is answered from an index of its own.
    let row = match stream.map(StreamName::as_str) {
        None => {
            let sql = "SELECT position FROM inlet.documents ORDER BY position DESC
                LIMIT 1 OFFSET $1";
            client.query_typed_opt(sql, &[(&skipped, Type::INT8)]).await?
        }
        Some(stream) => {
            let sql = "SELECT position FROM inlet.documents WHERE stream = $2
                ORDER BY position DESC LIMIT 1 OFFSET $1";
            let values: [(&(dyn ToSql + Sync), Type); 2] =
                [(&skipped, Type::INT8), (&stream, Type::TEXT)];
            client.query_typed_opt(sql, &values).await?
        }
    };
    row.map(|row| Ok(row.try_get::<_, i64>(0)?.to_string())).transpose()
}

/// Ids of documents that begin so, in their order.
pub(super) async fn ids(
    client: &Client,
    prefix: &IdPrefix,
    limit: usize,
) -> Result<Vec<DocumentId>, Fault> {
    let sql = "SELECT id FROM inlet.documents WHERE id BETWEEN $1 AND $2 ORDER BY id LIMIT $3";
    let (first, last) = (Id::from(prefix.first()), Id::from(prefix.last()));
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let bounds: [(&(dyn ToSql + Sync), Type); 3] =
        [(&first, Type::UUID), (&last, Type::UUID), (&limit, Type::INT8)];
    let rows = client.query_typed(sql, &bounds).await?;
    let id = |row: &Row| {
        let Id(bytes) = row.try_get(0)?;
        Ok(DocumentId::from_bytes(bytes))
    };
    rows.iter().map(id).collect()
}

/// A page of dead letters behind the position `position`, which `after` is the text of.
pub(super) async fn dead_letters(
    client: &Client,
    filter: &DeadLetterFilter,
    limit: usize,
    position: i64,
    after: Option<String>,
) -> Result<Page<DeadLetter>, Fault> {
    let mut gathered = Gathered::new(limit, after);
    let sql = page_sql(
        DEAD_LETTER,
        "inlet.dead_letters",
        "position > $3 AND ($4::uuid IS NULL OR id = $4) AND ($5::text IS NULL OR stream = $5)
            AND ($6::text IS NULL OR cause = $6) AND ($7::text IS NULL OR class = $7)
            AND died_us >= $8 AND died_us < $9",
    );
    let found = client
        .query_typed(
            &sql,
            &[
                (&gathered.rows_max(), Type::INT8),
                (&gathered.bytes_left(), Type::INT8),
                (&position, Type::INT8),
                (&filter.id.map(Id::from), Type::UUID),
                (&filter.stream.as_ref().map(StreamName::as_str), Type::TEXT),
                (&filter.cause, Type::TEXT),
                (&filter.class, Type::TEXT),
                (&filter.since.map_or(i64::MIN, Timestamp::as_micros), Type::INT8),
                (&filter.before.map_or(i64::MAX, Timestamp::as_micros), Type::INT8),
            ],
        )
        .await?;
    gathered.gather(&found, 11, rows::dead_letter, |letter| letter.body.len())?;
    Ok(gathered.page)
}

/// The streams that have documents or had some, in name order.
pub(super) async fn streams(client: &Client) -> Result<Vec<StreamFigures>, Fault> {
    let sql = "SELECT stream, documents, bytes, first_us, last_us FROM inlet.streams
         ORDER BY stream";
    let figures = |row: &Row| {
        Ok(StreamFigures {
            stream: rows::stream(row, 0)?,
            documents: rows::count(row, 1)?,
            bytes: rows::count(row, 2)?,
            first: Some(rows::moment(row, 3)?),
            last: Some(rows::moment(row, 4)?),
        })
    };
    client.query_typed(sql, &[]).await?.iter().map(figures).collect()
}

pub(super) async fn cursors(client: &Client) -> Result<Vec<Cursor>, Fault> {
    let sql = "SELECT log, segment, \"offset\" FROM inlet.cursors";
    let cursor = |row: &Row| {
        Ok(Cursor {
            log: row.try_get(0)?,
            segment: rows::count(row, 1)?,
            offset: rows::count(row, 2)?,
        })
    };
    client.query_typed(sql, &[]).await?.iter().map(cursor).collect()
}

pub(super) async fn identity(client: &Client) -> Result<StoreId, Fault> {
    let row = client.query_typed_one("SELECT id FROM inlet.identity", &[]).await?;
    let rows::Id(id) = row.try_get(0)?;
    Ok(StoreId::from_bytes(id))
}

/// Reads something that is always there.
pub(super) async fn check(client: &Client) -> Result<(), Fault> {
    client.query_typed_one("SELECT last FROM inlet.positions", &[]).await?;
    Ok(())
}

/// The page of `table` that meets `condition`: $1 rows at most, and bodies up to $2 bytes; the
/// body of a row beyond those is not sent.
fn page_sql(columns: &str, table: &str, condition: &str) -> String {
    format!(
        "SELECT {columns}, CASE WHEN before < $2 THEN body END FROM (
             SELECT *, sum(octet_length(body)) OVER (ORDER BY position
                 ROWS UNBOUNDED PRECEDING) - octet_length(body) AS before
             FROM {table} WHERE {condition} ORDER BY position LIMIT $1
         ) AS d ORDER BY position"
    )
}

/// A page as it fills.
struct Gathered<T> {
    page: Page<T>,
    limit: usize,
    bytes: i64,
}

impl<T> Gathered<T> {
    fn new(limit: usize, after: Option<String>) -> Self {
        let page = Page { items: Vec::new(), next: after, more: false };
        Self { page, limit: limit.min(PAGE_ITEMS_MAX), bytes: 0 }
    }

    /// How many rows to ask for: one more than fit, to see whether there is more.
    fn rows_max(&self) -> i64 {
        i64::try_from(self.limit - self.page.items.len() + 1).unwrap_or(i64::MAX)
    }

    fn bytes_left(&self) -> i64 {
        PAGE_BYTES_MAX - self.bytes
    }

    /// Adds those rows, whose first column is the position and whose body is at `body`; false
    /// where the page was full before the end.
    fn gather(
        &mut self,
        rows: &[Row],
        body: usize,
        item: impl Fn(&Row) -> Result<T, Fault>,
        bytes: impl Fn(&T) -> usize,
    ) -> Result<bool, Fault> {
        for row in rows {
            let is_cut = row.try_get::<_, Option<&[u8]>>(body)?.is_none();
            if is_cut || self.page.items.len() >= self.limit {
                self.page.more = true;
                return Ok(false);
            }
            let found = item(row)?;
            self.bytes += rows::signed(bytes(&found) as u64)?;
            self.page.items.push(found);
            self.page.next = Some(row.try_get::<_, i64>(0)?.to_string());
        }
        Ok(true)
    }
}
