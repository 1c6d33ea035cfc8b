//! Counters, and their text for Prometheus.
//!
//! Counting must cost a request next to nothing: each thread adds to a shard of its own, and only
//! a scrape adds the shards up.

mod text;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use inlet_core::persist::PersistReport;
use inlet_server::ConnectionCounters;

pub(crate) use self::text::Scraped;
pub use self::text::parts_text;

/// How many threads can count without meeting on a cache line.
const SHARDS: usize = 8;

/// The upper bounds of the latency buckets, in microseconds.
const LATENCY_BOUNDS_US: [u64; 12] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 1_000_000, 10_000_000,
];

/// The codes that a request can be refused with, for the label `code`. What is not here is
/// counted under the last.
const CODES: [&str; 47] = [
    "TokenMissing",
    "TokenUnknown",
    "TokenExpired",
    "TokenAmbiguous",
    "ScopeMissing",
    "StreamForbidden",
    "StreamsOnly",
    "TokenNameTaken",
    "TokenLimit",
    "LastAdminToken",
    "MediaTypeUnsupported",
    "EncodingUnsupported",
    "EncodingInvalid",
    "BodyTooLarge",
    "BodyEmpty",
    "BodyIncomplete",
    "BodyTimeout",
    "JsonInvalid",
    "StreamNameInvalid",
    "StreamQuota",
    "StreamLimit",
    "KeyInvalid",
    "KeyTooLong",
    "KeyConflict",
    "BatchEmpty",
    "BatchTooLong",
    "BatchRefused",
    "IdInvalid",
    "ParameterInvalid",
    "NotFound",
    "MethodNotAllowed",
    "RequestMalformed",
    "HeadTooLarge",
    "RequestTimeout",
    "RateLimited",
    "ChecksumMismatch",
    "LengthRequired",
    "PartTooSmall",
    "PartMissing",
    "UploadUnknown",
    "PreconditionFailed",
    "RangeInvalid",
    "Full",
    "Unavailable",
    "InternalFailure",
    "Panic",
    "Other",
];

/// Answers by class: 1xx to 5xx.
const CLASSES: usize = 5;

/// Requests by route; the last row is for those that met no route.
const ROWS: usize = 64;

#[repr(align(128))]
#[derive(Debug)]
struct Shard {
    answers: [[AtomicU64; CLASSES]; ROWS],
    refused: [AtomicU64; CODES.len()],
    latency: [AtomicU64; LATENCY_BOUNDS_US.len() + 1],
    latency_sum_us: AtomicU64,
    accepted_documents: AtomicU64,
    accepted_bytes: AtomicU64,
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            answers: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
            refused: std::array::from_fn(|_| AtomicU64::new(0)),
            latency: std::array::from_fn(|_| AtomicU64::new(0)),
            latency_sum_us: AtomicU64::new(0),
            accepted_documents: AtomicU64::new(0),
            accepted_bytes: AtomicU64::new(0),
        }
    }
}

/// What persist steps did since the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Persisted {
    /// Documents stored for the first time.
    pub stored: u64,
    /// Documents that became dead letters.
    pub dead: u64,
    /// Steps that failed and were tried again.
    pub failures: u64,
    /// For how long the oldest document of the last step had waited.
    pub lag: Option<Duration>,
}

/// The counters of a process.
#[derive(Debug, Default)]
pub struct Metrics {
    shards: [Shard; SHARDS],
    connections: ConnectionCounters,
    stored: AtomicU64,
    duplicates: AtomicU64,
    dead: AtomicU64,
    erased: AtomicU64,
    persist_failures: AtomicU64,
    persist_lag_us: AtomicU64,
    outage_logged_s: AtomicU64,
    bucket_on_store_disk: AtomicBool,
    log_durability: Mutex<Option<LogDurability>>,
}

/// The age of the oldest document, in microseconds, where it is not known.
const LAG_UNKNOWN: u64 = u64::MAX;

/// The way the log is made durable.
#[derive(Debug, Clone)]
struct LogDurability {
    method: String,
    file_system: String,
    known: bool,
}

impl Metrics {
    /// Adds what one persist step did; the persist role calls this.
    pub fn persisted(&self, report: &PersistReport) {
        self.stored.fetch_add(report.stored, Relaxed);
        self.duplicates.fetch_add(report.duplicates, Relaxed);
        self.dead.fetch_add(report.dead, Relaxed);
        self.erased.fetch_add(report.erased, Relaxed);
    }

    /// Counts a persist step that failed and will be tried again.
    pub fn persist_failed(&self) {
        self.persist_failures.fetch_add(1, Relaxed);
    }

    /// Notes the age of the oldest document that waits; `None` where the queue can't tell.
    pub fn persist_lag(&self, lag: Option<Duration>) {
        let micros = lag.and_then(|lag| u64::try_from(lag.as_micros()).ok());
        self.persist_lag_us.store(micros.unwrap_or(LAG_UNKNOWN), Relaxed);
    }

    /// Notes how the log is made durable: the method, the file system, and whether that one is
    /// known to keep what it syncs.
    pub fn log_durability(&self, method: String, file_system: String, known: bool) {
        let durability = LogDurability { method, file_system, known };
        *self.log_durability.lock().unwrap_or_else(PoisonError::into_inner) = Some(durability);
    }

    /// What persist steps did so far.
    pub fn persisted_so_far(&self) -> Persisted {
        Persisted {
            stored: self.stored.load(Relaxed),
            dead: self.dead.load(Relaxed),
            failures: self.persist_failures.load(Relaxed),
            lag: self.lag(),
        }
    }

    /// Notes whether the bucket is on the disk that its backups are to protect.
    pub fn bucket_on_store_disk(&self, is_on_it: bool) {
        self.bucket_on_store_disk.store(is_on_it, Relaxed);
    }

    /// Returns true if the bucket is on the disk that its backups are to protect, as last noted.
    pub(crate) fn is_bucket_on_store_disk(&self) -> bool {
        self.bucket_on_store_disk.load(Relaxed)
    }

    /// The age of the oldest document that waits, as last noted.
    fn lag(&self) -> Option<Duration> {
        let micros = self.persist_lag_us.load(Relaxed);
        (micros != LAG_UNKNOWN).then(|| Duration::from_micros(micros))
    }

    /// Documents accepted since the start.
    pub fn accepted_documents(&self) -> u64 {
        self.shards.iter().map(|shard| shard.accepted_documents.load(Relaxed)).sum()
    }

    /// The counters of connections.
    pub fn connections(&self) -> &ConnectionCounters {
        &self.connections
    }

    pub(crate) fn accepted(&self, documents: u64, bytes: usize) {
        let shard = self.shard();
        shard.accepted_documents.fetch_add(documents, Relaxed);
        shard.accepted_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Counts an answer. `row` is the route's place in the table, or [`Metrics::NO_ROUTE`].
    pub(crate) fn answered(&self, row: usize, status: u16, took: Duration) {
        let shard = self.shard();
        let class = usize::from(status / 100).clamp(1, CLASSES) - 1;
        shard.answers[row.min(ROWS - 1)][class].fetch_add(1, Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BOUNDS_US.partition_point(|bound| *bound < micros);
        shard.latency[bucket].fetch_add(1, Relaxed);
        shard.latency_sum_us.fetch_add(micros, Relaxed);
    }

    pub(crate) const NO_ROUTE: usize = ROWS - 1;

    pub(crate) fn refused(&self, code: &str) {
        let row = CODES.iter().position(|known| *known == code).unwrap_or(CODES.len() - 1);
        self.shard().refused[row].fetch_add(1, Relaxed);
    }

    /// Whether an outage may be logged now: true at most once a second.
    pub(crate) fn may_log_outage(&self, uptime: Duration) -> bool {
        let second = uptime.as_secs() + 1;
        self.outage_logged_s.swap(second, Relaxed) != second
    }

    fn shard(&self) -> &Shard {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static MINE: Cell<usize> = Cell::new(NEXT.fetch_add(1, Relaxed) % SHARDS);
        }
        &self.shards[MINE.get()]
    }

    fn sum(&self, counter: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        self.shards.iter().map(|shard| counter(shard).load(Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::ROUTES;

    #[test]
    fn there_is_a_row_for_every_route() {
        assert!(ROUTES.len() < ROWS);
    }

    #[test]
    fn every_code_is_counted_under_its_own_name() {
        for problem in crate::problem::Problem::all(&Default::default()) {
            assert!(CODES.contains(&problem.code), "{}", problem.code);
        }
    }

    #[test]
    fn an_answer_falls_into_its_bucket() {
        let metrics = Metrics::default();
        metrics.answered(0, 202, Duration::from_micros(250));
        metrics.answered(0, 202, Duration::from_micros(251));
        metrics.answered(Metrics::NO_ROUTE, 404, Duration::from_secs(60));
        assert_eq!(metrics.sum(|shard| &shard.latency[0]), 1);
        assert_eq!(metrics.sum(|shard| &shard.latency[1]), 1);
        assert_eq!(metrics.sum(|shard| &shard.latency[LATENCY_BOUNDS_US.len()]), 1);
        assert_eq!(metrics.sum(|shard| &shard.answers[0][1]), 2);
    }
}
