//! The store in one Amazon DynamoDB table.
//!
//! Every item has a partition key `pk` and a sort key `sk`; there is no index beside them.
//!
//! ```text
//! pk             sk               what
//! d#ID           d                the document of an id, and what else is known of it ([`record`])
//! s#LANE         N                the order of the documents ([`span`])
//! s#LANE#STREAM  N                the same for one stream
//! c#LANE         CHAPTER          where to look for a range of time
//! lanes          LANE             how far each lane is
//! streams        STREAM#LANE      figures of streams ([`ledger`])
//! y#DAY          STREAM#LANE      tallies of a day
//! weeks          WEEK#LANE        weeks whose tallies changed
//! e#ID           e                the mark of an id that was erased ([`erase`])
//! erasures       count            how many erasures there were
//! l#ID           SHA256           dead letters ([`letter`])
//! letters        DIED#ID#SHA256   their list
//! cursors        LOG              how far logs are stored
//! schema         schema           the version of all this
//! schema         identity         the identity of the table as a store
//! ```
//!
//! Documents spread over as many partitions as there are ids. Their order is kept in 16 lanes, each
//! with one writer at a time, so that it has no gap; see [`span`]. A transaction of up to 90
//! documents is all there with its counts or not at all; see [`put`].
//!
//! All reads are consistent: what a call wrote the next one sees, from wherever it comes.

mod attributes;
mod create;
mod erase;
mod lane;
mod ledger;
mod letter;
mod page;
mod put;
mod record;
mod span;
mod table;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use inlet_core::calendar::{Day, Week};
use inlet_core::dead_letter::{DeadLetter, DeadLetterFilter};
use inlet_core::document::{BodyHash, StoredDocument, StreamName, Timestamp};
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::id::{DocumentId, IdPrefix};
use inlet_core::persist::plan::{KnownIds, Plan};
use inlet_core::ports::{
    Bucket, Cursor, EraseMark, Erasure, Found, Known, KnownLetter, Page, PageQuery, Store, StoreId,
    StreamFigures, Tallies, TallyWeek, Written,
};
use tokio::sync::Mutex;

use self::attributes::{find_number, find_text, from_sortable, must, sortable};
use self::lane::Lane;
use self::ledger::{STREAMS_KEY, WEEKS_KEY};
use self::letter::{LIST, Letter, Listed};
use self::put::CURSORS_KEY;
use self::record::{Body, Record, Stored};
use self::span::{Head, LANES_KEY};
use self::table::{Range, Table, behind};
use crate::aws::{Aws, Calls};
use crate::overflow::Overflow;

/// How many places of the list of dead letters one call reads.
const LISTED_MAX: i32 = 500;
/// How often tallies are read at most until no lane goes on meanwhile.
const TALLIES_ATTEMPTS_MAX: u32 = 3;
/// The most bytes of bodies on a page of dead letters.
const PAGE_BYTES_MAX: usize = 8 << 20;

/// The settings of a [`DynamoStore`].
#[derive(Debug, Clone)]
pub struct DynamoOptions {
    /// How long one attempt of a call may take, in milliseconds. Default 5,000.
    pub attempt_ms: u64,
    /// How often a call is tried in all, with back-off between, before it fails as
    /// [`FailureKind::Unavailable`]. Default 4.
    pub attempts_max: u32,
    /// The most documents in one transaction; DynamoDB takes 100 actions with all that goes with
    /// them. Default 90.
    pub transaction_documents_max: usize,
    /// The largest body that is kept in the table, in bytes; larger ones go to the bucket.
    /// DynamoDB's items have 400 KiB at most. Default 350 KiB.
    pub item_bytes_max: usize,
}

impl Default for DynamoOptions {
    fn default() -> Self {
        Self {
            attempt_ms: 5_000,
            attempts_max: 4,
            transaction_documents_max: 90,
            item_bytes_max: 350 << 10,
        }
    }
}

/// A [`Store`] in an Amazon DynamoDB table.
///
/// Any number may be open on the same table, in any number of processes. Each writes to one of 16
/// lanes; where two meet in one, one of them takes another.
///
/// Beyond the contract: a batch of more than 90 documents, of more than 3 MiB, or of many streams
/// and days, is put with several transactions, one behind the other. Each is atomic, with the
/// counts of its documents; the cursor goes with the last. A batch that fails in between has left
/// its first documents, which are duplicates when it comes again.
///
/// Documents of one writer are in the order in which it stored them; those of several are in the
/// order of their writers' clocks, as far as a reader finds them side by side. A page ends early,
/// with [`Page::more`], at 8 MiB of bodies. A dead letter that is buried while its list is being
/// read may be left out of it until it is read again.
pub struct DynamoStore {
    table: Table,
    overflow: Overflow,
    options: DynamoOptions,
    lane: Mutex<Lane>,
    calls: Calls,
}

impl DynamoStore {
    /// Opens the table that `url` names, as `dynamodb://TABLE`. Bodies that are too large for an
    /// item lie in `overflow`.
    ///
    /// Fails as [`FailureKind::Refused`] where the URL is none, no region is named or the table is
    /// of a newer version; as [`FailureKind::Missing`] where there is no such table; as
    /// [`FailureKind::Denied`] where the credentials are wrong or may not read it.
    pub async fn open(
        aws: &Aws,
        url: &str,
        overflow: Arc<dyn Bucket>,
        options: &DynamoOptions,
    ) -> Result<Self, Failure> {
        let calls = Calls::default();
        let table = table(aws, url, options, &calls)?;
        create::check_version(&table).await?;
        Ok(Self {
            table,
            overflow: Overflow::new(overflow, "store"),
            options: options.clone(),
            lane: Mutex::new(Lane::choose()),
            calls,
        })
    }

    /// Makes the table that `url` names, with on-demand billing, protection from deletion and
    /// point-in-time recovery, and waits until it can be used. Whether there was none before.
    pub async fn create_table(aws: &Aws, url: &str) -> Result<bool, Failure> {
        let table = table(aws, url, &DynamoOptions::default(), &Calls::default())?;
        create::create(&table).await
    }

    /// How often DynamoDB was called so far, repetitions included.
    pub fn calls(&self) -> u64 {
        self.calls.count()
    }

    /// The document, with its body from wherever it is; `None` where it was erased meanwhile.
    async fn document(
        &self,
        id: DocumentId,
        generation: u64,
        stored: Stored,
    ) -> Result<Option<StoredDocument>, Failure> {
        let key = match &stored.body {
            Body::Here(body) => {
                let body = body.clone();
                return Ok(Some(stored.with(id, generation, body)));
            }
            Body::There(key) => key.clone(),
        };
        if let Some(body) = self.overflow.get(&key).await? {
            return Ok(Some(stored.with(id, generation, body)));
        }
        let still = match self.record(id).await?.stored {
            Some(now) => now.body.overflow() == Some(&key),
            None => false,
        };
        if still {
            return Err(missing_body(id, &key));
        }
        Ok(None)
    }

    async fn record(&self, id: DocumentId) -> Result<Record, Failure> {
        let item = self.table.get(Record::key(id)).await?;
        item.map_or_else(|| Ok(Record::default()), |item| Record::read(&item))
    }

    /// The letters of an id, without the bodies that are elsewhere.
    async fn letters_of(&self, id: DocumentId) -> Result<Vec<Letter>, Failure> {
        let range = Range { partition: Letter::partition(id), ..Range::default() };
        let items = self.table.query_all(range).await?;
        items.iter().map(Letter::read).collect()
    }

    /// The heads of all lanes that have one, by lane.
    async fn heads(&self) -> Result<Vec<(u8, Head)>, Failure> {
        let range = Range { partition: LANES_KEY.to_owned(), ..Range::default() };
        self.table.query_all(range).await?.iter().map(Head::read).collect()
    }

    async fn tallies_between(&self, first: Day, last: Day) -> Result<Tallies, Failure> {
        let mut tallies = Tallies::default();
        let mut day = first;
        while day <= last {
            let range = Range { partition: ledger::Tallies::partition(day), ..Range::default() };
            ledger::add_up_day(day, &self.table.query_all(range).await?, &mut tallies)?;
            // Beyond the calendar's last day there is none.
            let next = day.plus(1);
            if next <= day {
                break;
            }
            day = next;
        }
        Ok(tallies)
    }

    /// The states of those of `ids` that the table has anything under.
    async fn known_ids(&self, ids: &[DocumentId]) -> Result<KnownIds, Failure> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let keys = ids.into_iter().map(Record::key).collect();
        let mut found = KnownIds::new();
        for item in self.table.get_many(keys).await? {
            let id = find_text(&item, "pk").and_then(|pk| pk.strip_prefix("d#")?.parse().ok());
            let id: DocumentId = must(id, &item, "pk")?;
            // A record without anything else still has the version that the next write names.
            found.insert(id, self.known_of(id, &Record::read(&item)?).await?);
        }
        Ok(found)
    }

    /// The state of an id, from its record and, where it has any, its letters.
    async fn known_of(&self, id: DocumentId, record: &Record) -> Result<Known, Failure> {
        let letters = match record.letters {
            0 => Vec::new(),
            _ => self.letters_of(id).await?,
        };
        Ok(Known {
            stored: record.stored.as_ref().map(|stored| BodyHash::from_bytes(stored.sha256)),
            letters: letters
                .iter()
                .map(|letter| KnownLetter {
                    body: BodyHash::from_bytes(letter.sha256),
                    attempts: letter.letter.attempts,
                })
                .collect(),
            erased: record.erased,
            version: record.rev,
        })
    }

    /// The letter with its body; `None` where it went meanwhile.
    async fn whole(&self, mut letter: Letter) -> Result<Option<DeadLetter>, Failure> {
        let Some(key) = letter.body.overflow() else { return Ok(Some(letter.letter)) };
        if let Some(body) = self.overflow.get(key).await? {
            letter.letter.body = body;
            return Ok(Some(letter.letter));
        }
        if self.table.get(letter.key()).await?.is_some() {
            return Err(missing_body(letter.letter.id, key));
        }
        Ok(None)
    }
}

#[async_trait]
impl Store for DynamoStore {
    async fn write(&self, plan: Arc<Plan>) -> Result<Written, Failure> {
        put::put(self, &plan).await
    }

    async fn get(&self, id: DocumentId) -> Result<Option<StoredDocument>, Failure> {
        let record = self.record(id).await?;
        let generation = record.generation();
        match record.stored {
            Some(stored) => self.document(id, generation, stored).await,
            None => Ok(None),
        }
    }

    async fn find(&self, id: DocumentId) -> Result<Option<Found>, Failure> {
        let record = self.record(id).await?;
        let (generation, letters) = (record.generation(), u64::from(record.letters));
        if let Some(stored) = record.stored {
            let bytes = stored.bytes;
            // A body that is gone by now was erased meanwhile.
            let found = self.document(id, generation, stored).await?;
            return Ok(Some(found.map_or(Found::Erased, |StoredDocument { document, stored }| {
                let (md5, received) = (document.md5(), document.received);
                Found::Stored { stream: document.stream, received, stored, bytes, md5, letters }
            })));
        }
        if record.letters > 0 {
            let letters = self.letters_of(id).await?;
            let first = letters.into_iter().min_by_key(|letter| letter.listed());
            if let Some(letter) = first
                && let Some(letter) = self.whole(letter).await?
            {
                return Ok(Some(Found::Dead(Box::new(letter))));
            }
        }
        Ok(record.erased.map(|_| Found::Erased))
    }

    async fn known(&self, ids: &[DocumentId]) -> Result<KnownIds, Failure> {
        self.known_ids(ids).await
    }

    async fn page(&self, query: &PageQuery) -> Result<Page<StoredDocument>, Failure> {
        page::page(self, query).await
    }

    async fn cursor_of_last(
        &self,
        stream: Option<&StreamName>,
        count: usize,
    ) -> Result<Option<String>, Failure> {
        page::cursor_of_last(self, stream, count).await
    }

    async fn ids(&self, prefix: &IdPrefix, limit: usize) -> Result<Vec<DocumentId>, Failure> {
        page::ids(self, prefix, limit).await
    }

    async fn erase(&self, id: DocumentId, now: Timestamp) -> Result<Erasure, Failure> {
        erase::erase(self, id, now).await
    }

    async fn erasures(&self) -> Result<u64, Failure> {
        erase::count(&self.table).await
    }

    async fn marks(&self, ids: &[DocumentId]) -> Result<HashMap<DocumentId, EraseMark>, Failure> {
        erase::marks(&self.table, ids).await
    }

    async fn streams(&self) -> Result<Vec<StreamFigures>, Failure> {
        let range = Range { partition: STREAMS_KEY.to_owned(), ..Range::default() };
        ledger::add_up(&self.table.query_all(range).await?)
    }

    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Page<DeadLetter>, Failure> {
        if let Some(after) = after {
            check_place(after, &self.table)?;
        }
        let since = filter.since.map(|since| sortable(since.as_micros()));
        let from = after.map(behind).max(since);
        // A place has more behind its moment, so those of that very moment are not among them.
        let to = filter.before.map(|before| sortable(before.as_micros()));
        if matches!((&from, &to), (Some(from), Some(to)) if from > to) {
            let next = after.map(str::to_owned);
            return Ok(Page { items: Vec::new(), next, more: false });
        }
        let partition = LIST.to_owned();
        let mut range = Range { partition, from, to, limit: Some(LISTED_MAX), is_reversed: false };
        let mut items: Vec<DeadLetter> = Vec::new();
        let (mut next, mut bytes) = (after.map(str::to_owned), 0);
        loop {
            let (listed, more) = self.table.query(&range).await?;
            let listed: Vec<Listed> = listed.iter().map(Listed::read).collect::<Result<_, _>>()?;
            let last = listed.last().map(|listed| listed.place.clone());
            let meeting: Vec<Listed> =
                listed.into_iter().filter(|listed| listed.meets(filter)).collect();
            for some in meeting.chunks(100) {
                let keys = some.iter().map(|listed| listed.key.clone()).collect();
                let found = self.table.get_many(keys).await?;
                let mut letters: Vec<Letter> =
                    found.iter().map(Letter::read).collect::<Result<_, _>>()?;
                letters.sort_by_cached_key(Letter::listed);
                for letter in letters {
                    if items.len() >= limit.max(1) || bytes >= PAGE_BYTES_MAX {
                        return Ok(Page { items, next, more: true });
                    }
                    let place = letter.listed();
                    if let Some(letter) = self.whole(letter).await? {
                        bytes += letter.body.len();
                        items.push(letter);
                        next = Some(place);
                    }
                }
            }
            match last {
                Some(last) if more => range.from = Some(behind(&last)),
                _ => return Ok(Page { items, next, more: false }),
            }
        }
    }

    async fn mark_redriven(&self, ids: &[DocumentId], now: Timestamp) -> Result<(), Failure> {
        for id in ids {
            erase::mark_redriven(self, *id, now).await?;
        }
        Ok(())
    }

    async fn cursors(&self) -> Result<Vec<Cursor>, Failure> {
        let range = Range { partition: CURSORS_KEY.to_owned(), ..Range::default() };
        let items = self.table.query_all(range).await?;
        let cursor = |item: &attributes::Item| {
            Ok(Cursor {
                log: must(find_text(item, "sk"), item, "sk")?.to_owned(),
                segment: must(find_number(item, "segment"), item, "segment")?,
                offset: must(find_number(item, "offset"), item, "offset")?,
            })
        };
        items.iter().map(cursor).collect()
    }

    async fn tallies(&self, first: Day, last: Day) -> Result<Tallies, Failure> {
        let mut heads = self.heads().await?;
        // The lanes may go on meanwhile. Where they do so each time, more may be counted than the
        // cursor says.
        for attempt in 1.. {
            let mut tallies = self.tallies_between(first, last).await?;
            let after = self.heads().await?;
            if after == heads || attempt == TALLIES_ATTEMPTS_MAX {
                tallies.cursor = span::cursor(&heads);
                return Ok(tallies);
            }
            heads = after;
        }
        unreachable!("the last attempt returns")
    }

    async fn tally_weeks(&self) -> Result<Vec<TallyWeek>, Failure> {
        let range = Range { partition: WEEKS_KEY.to_owned(), ..Range::default() };
        // A week that moves from a lane's item to one of its own is in one of them at least.
        let heads = self.heads().await?;
        ledger::add_up_weeks(&heads, &self.table.query_all(range).await?)
    }

    async fn mark_summarized(&self, week: Week, revision: u64) -> Result<(), Failure> {
        let item = ledger::summarized_item(week, revision);
        let put = self.table.client.put_item().table_name(&self.table.name).set_item(Some(item));
        let noted = put.send().await;
        noted.map_err(|error| self.table.failure("note a summary in the table", &error))?;
        Ok(())
    }

    async fn identity(&self) -> Result<StoreId, Failure> {
        create::identity(&self.table).await
    }

    async fn check(&self) -> Result<(), Failure> {
        self.table.get(create::version_key()).await.map(drop)
    }
}

fn table(aws: &Aws, url: &str, options: &DynamoOptions, calls: &Calls) -> Result<Table, Failure> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let name = url
        .strip_prefix("dynamodb://")
        .map(|name| name.trim_end_matches('/'))
        .filter(|name| (3..=255).contains(&name.len()) && name.bytes().all(allowed))
        .ok_or_else(|| {
            Failure::new(FailureKind::Refused, "use as a table", format!("{url:?}"))
                .hint("give dynamodb://TABLE, with 3 to 255 of A-Z a-z 0-9 _ - .")
        })?;
    aws.needs_region(url)?;
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_millis(options.attempt_ms / 2))
        .operation_attempt_timeout(Duration::from_millis(options.attempt_ms))
        .build();
    let config = aws_sdk_dynamodb::config::Builder::from(aws.config())
        .interceptor(calls.clone())
        .retry_config(RetryConfig::standard().with_max_attempts(options.attempts_max.max(1)))
        .timeout_config(timeouts)
        .build();
    Ok(Table { client: Client::from_conf(config), name: name.to_owned() })
}

fn check_place(after: &str, table: &Table) -> Result<(), Failure> {
    let died = after.split('#').next().and_then(from_sortable);
    if died.is_some() && after.matches('#').count() == 2 {
        return Ok(());
    }
    Err(Failure::new(FailureKind::Refused, "use that cursor on", &table.name)
        .hint("give the cursor of the page before as it was"))
}

fn missing_body(id: DocumentId, key: &str) -> Failure {
    Failure::new(FailureKind::Damaged, "read the body of the document", id.to_string())
        .because(format!("there is none in the bucket at {key}"))
        .hint("restore the object by the bucket's versions, or the document from a backup")
}
