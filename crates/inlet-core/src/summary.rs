//! The step that writes the summary of a week.
//!
//! [`summarize_week`] reads tallies and nothing else: what it costs follows from how many streams
//! and fields there were in two weeks, never from how many documents were counted. It puts two
//! objects into the bucket, `summaries/2026-W47.html` and then `summaries/2026-W47.json`, each
//! written whole: where the JSON is, the page is. Made twice from the same tallies they are the
//! same but for the moment `made`.
//!
//! A document belongs to the week in which it was received, and may be stored later: after an
//! outage, by a redrive, from a log that nobody drained. The summary of its week is then due again
//! ([`summaries_due`]), however old that week is, and is written as the next revision.
//!
//! # The JSON format, version 1
//!
//! Members may be added without a new version; a reader skips those it does not know.
//!
//! | member | meaning |
//! | --- | --- |
//! | `format` | the version: 1 |
//! | `week`, `zone` | the ISO 8601 week (`2026-W47`), and the time zone its days are of |
//! | `made` | when the summary was made, RFC 3339 |
//! | `from`, `to` | the moments the week begins and ends; `to` is not part of it |
//! | `complete` | whether the week was over when the summary was made |
//! | `revision` | 1 for the first summary of the week, one more each time its figures changed |
//! | `changes` | the last [`CHANGES_MAX`] changes: `revision`, `made`, the differences in `documents`, `bytes` and `dead_letters`, and the `streams` they are of |
//! | `cursor` | the cursor of `GET /api/documents` up to which documents are counted: what is listed behind it is not; `null` where nothing was ever stored |
//! | `counted` | the store's number for the tallies that were counted |
//! | `zones` | where documents were counted under the days of other time zones than `zone`: each zone with its `documents`, `bytes`, and the days `from` and `to`; empty where there was one zone only |
//! | `total` | the figures of all streams together |
//! | `streams` | the figures of each stream that had documents or dead letters in this week or documents in the week before; most documents first |
//!
//! Figures are `documents`, `bytes`, `days` (seven of `day`, `documents`, `bytes`, Monday first)
//! and `growth`: for `documents` and `bytes` each `before` (the week before), `difference`, and
//! `percent` to one decimal, `null` where the week before had nothing. `dead_letters` is a list of
//! `cause` (its code), `documents`, `bytes`. A stream also has `stream`, `share` (its part of the
//! week's documents in per cent), `fields` (`path`, and `types` with `type`, `documents` and
//! `share` in per cent of the stream's documents) and `fields_left_out`: how many paths beyond
//! the [`FIELDS_MAX`] most frequent are not listed.

mod bucket;
mod chart;
mod count;
mod due;
mod escape;
mod number;
mod page;
mod revision;
mod section;
pub(crate) mod text;

use serde::{Deserialize, Serialize};

use crate::calendar::{Calendar, Day, Week};
use crate::document::Timestamp;
use crate::failure::Failure;
use crate::ports::{Bucket, Store};

pub(crate) use bucket::list_weeks;
pub use bucket::{html_key, json_key, list_summaries, read_summary, read_summary_page};
pub use due::{Due, DueReason, summaries_due};
pub use page::{STYLE, page};

/// The version of the JSON format that is written, and the newest that is read.
pub const SUMMARY_FORMAT: u32 = 1;
/// The most paths listed for a stream; the most frequent ones are.
pub const FIELDS_MAX: usize = 256;
/// How many changes a summary tells of; the last ones are.
pub const CHANGES_MAX: usize = 10;
/// How many streams a change names.
const CHANGED_STREAMS_MAX: usize = 100;

/// The summary of one week. Its serialized form is the format in the [module's docs](self).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The version of the format.
    pub format: u32,
    /// The week.
    #[serde(with = "text")]
    pub week: Week,
    /// The IANA name of the time zone the days are of.
    pub zone: String,
    /// When it was made.
    #[serde(with = "text")]
    pub made: Timestamp,
    /// When the week begins.
    #[serde(with = "text")]
    pub from: Timestamp,
    /// When the week ends; the next one begins then.
    #[serde(with = "text")]
    pub to: Timestamp,
    /// Whether the week was over when the summary was made.
    pub complete: bool,
    /// How many versions of this summary there were whose figures differed, this one included.
    #[serde(default = "first_revision")]
    pub revision: u32,
    /// The last changes, oldest first.
    #[serde(default)]
    pub changes: Vec<SummaryChange>,
    /// The page cursor up to which documents are counted.
    #[serde(default)]
    pub cursor: Option<String>,
    /// The store's number for the tallies of this week and the one before.
    #[serde(default)]
    pub counted: u64,
    /// The zones under whose days documents were counted, where there were several.
    #[serde(default)]
    pub zones: Vec<ZoneFigures>,
    /// All streams together.
    pub total: Figures,
    /// Each stream, most documents first, then by name.
    pub streams: Vec<StreamSummary>,
}

/// What one revision of a summary has more than the one before, or less.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummaryChange {
    /// The revision that has it.
    pub revision: u32,
    /// When that was made.
    #[serde(with = "text")]
    pub made: Timestamp,
    /// More documents of the week.
    pub documents: i64,
    /// Their bytes.
    pub bytes: i64,
    /// More dead letters.
    pub dead_letters: i64,
    /// The streams that changed, by name; at most 100.
    pub streams: Vec<StreamChange>,
}

/// The same for one stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamChange {
    /// Its name.
    pub stream: String,
    /// More documents.
    pub documents: i64,
    /// Their bytes.
    pub bytes: i64,
    /// More dead letters.
    pub dead_letters: i64,
}

/// The documents of a week that were counted under the days of one time zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneFigures {
    /// The IANA name of the zone.
    pub zone: String,
    /// The first day for which documents were counted under it.
    #[serde(with = "text")]
    pub from: Day,
    /// The last one.
    #[serde(with = "text")]
    pub to: Day,
    /// How many documents.
    pub documents: u64,
    /// Their bytes.
    pub bytes: u64,
}

fn first_revision() -> u32 {
    1
}

/// What was counted in a week, of one stream or of all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Documents stored.
    pub documents: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The same by day, Monday first; always seven.
    pub days: Vec<DayFigures>,
    /// Against the week before.
    pub growth: Growth,
    /// Documents that became dead letters, by cause, most first.
    pub dead_letters: Vec<DeadLetters>,
}

/// What was counted on one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayFigures {
    /// The day.
    #[serde(with = "text")]
    pub day: Day,
    /// Documents stored.
    pub documents: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The growth of documents and of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// Of documents.
    pub documents: Change,
    /// Of bytes.
    pub bytes: Change,
}

/// A count against that of the week before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The count of the week before.
    pub before: u64,
    /// How much more (or less) it is now.
    pub difference: i64,
    /// The difference in per cent of the week before, to one decimal; `None` where the week
    /// before had nothing.
    pub percent: Option<f64>,
}

/// Dead letters of one cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetters {
    /// The code of the cause.
    pub cause: String,
    /// How many.
    pub documents: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// One stream's week.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamSummary {
    /// Its name.
    pub stream: String,
    /// Its part of the week's documents, in per cent to one decimal.
    pub share: f64,
    /// What was counted.
    #[serde(flatten)]
    pub figures: Figures,
    /// The fields its documents had, most frequent first.
    pub fields: Vec<FieldSummary>,
    /// How many paths are not listed in `fields`.
    pub fields_left_out: u64,
}

/// One field of a stream's documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FieldSummary {
    /// Its path, as [`crate::fields`] writes it. Any text.
    pub path: String,
    /// The types it had, most frequent first. One document can have several where the path goes
    /// through an array.
    pub types: Vec<FieldTypeCount>,
}

/// How often a field had a type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FieldTypeCount {
    /// The name of the type.
    #[serde(rename = "type")]
    pub kind: String,
    /// How many documents had the field with this type.
    pub documents: u64,
    /// The same in per cent of the stream's documents, to one decimal.
    pub share: f64,
}

/// Makes the summary of `week` from the tallies and puts it into the bucket, as JSON and as a
/// page; what was there for that week is replaced. Where its figures differ from those that were
/// there, it is a new revision and tells the difference.
///
/// A week that is not over yet gives what was counted so far, and says so
/// ([`Summary::complete`]).
pub async fn summarize_week(
    store: &dyn Store,
    bucket: &dyn Bucket,
    now: Timestamp,
    calendar: &Calendar,
    week: Week,
) -> Result<Summary, Failure> {
    let before = bucket::read_if_possible(bucket, week).await?;
    let summary = counted(store, now, calendar, week).await?.revising(before);
    bucket::put(bucket, &summary).await?;
    store.mark_summarized(week, summary.counted).await?;
    Ok(summary)
}

/// The summary of `week` from the tallies, as its first revision.
async fn counted(
    store: &dyn Store,
    now: Timestamp,
    calendar: &Calendar,
    week: Week,
) -> Result<Summary, Failure> {
    // Read first: what changes in between is found changed again.
    let revision = due::revision(&store.tally_weeks().await?, week);
    let tallies = store.tallies(week.before().first_day(), week.last_day()).await?;
    let summary = count::summary(tallies, now, calendar, week);
    Ok(Summary { counted: revision, ..summary })
}
