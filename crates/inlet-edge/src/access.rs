//! The access log: one JSON object a line for each request, once its answer is over.
//!
//! | member | is |
//! | --- | --- |
//! | `time` | when the request came, RFC 3339 in UTC |
//! | `request_id`, `client`, `method`, `path` | the path without its query |
//! | `status`, `bytes_in`, `bytes_out`, `duration_us` | body bytes; until the answer was over |
//! | `backend`, `zone`, `attempts` | whom it was sent to, and how many were tried |
//! | `refused` | the `code` of the problem, where the edge answered itself |
//! | `rules` | the firewall's rules that matched, in their order, where any did |
//! | `broken` | `true` where the answer broke off |
//!
//! No header's value is in it except the request's id, so no token; no query and no body.

use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use inlet_server::{LineWriter, Lines, Loss};
use serde::Serialize;

use crate::clock::{micros, now};

/// The destination of the lines. Requests never wait for it.
#[derive(Debug, Clone)]
pub struct AccessLog {
    lines: Lines,
}

impl AccessLog {
    /// A log, and what has to be run on a thread of its own for it to be written. What its writer
    /// can't keep up with, and what it can't write, is dropped, counted, and told in the log once
    /// a second.
    pub fn new() -> (Self, LineWriter) {
        let (lines, writer) = Lines::new(|loss| {
            let Loss { lines, error } = loss;
            tracing::warn!(lines, error, "lines of the access log were dropped");
        });
        (Self { lines }, writer)
    }

    /// Lines that were not written.
    pub fn dropped(&self) -> u64 {
        self.lines.dropped()
    }

    /// Waits until all lines up to here are written or dropped, but for no longer than `wait_max`;
    /// says whether they are. It blocks.
    pub fn flush(&self, wait_max: Duration) -> bool {
        self.lines.flush(wait_max)
    }

    fn line(&self, line: &[u8]) {
        self.lines.push(line);
    }
}

/// What is known of a request that is being answered. Its line is written when this is dropped.
#[derive(Debug)]
pub(crate) struct Record {
    log: AccessLog,
    began: Instant,
    line: Line,
    pub(crate) bytes_out: u64,
    pub(crate) is_broken: bool,
}

/// The members of a line that are known before the answer is over.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) time: String,
    pub(crate) request_id: String,
    pub(crate) client: IpAddr,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) status: u16,
    pub(crate) bytes_in: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) backend: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) zone: Option<String>,
    pub(crate) attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) rules: Vec<String>,
}

#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    line: &'a Line,
    bytes_out: u64,
    duration_us: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    broken: bool,
}

impl Record {
    pub(crate) fn new(log: AccessLog, began: Instant, line: Line) -> Self {
        Self { log, began, line, bytes_out: 0, is_broken: false }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let written = Written {
            line: &self.line,
            bytes_out: self.bytes_out,
            duration_us: micros(now().saturating_duration_since(self.began)),
            broken: self.is_broken,
        };
        match serde_json::to_vec(&written) {
            Ok(mut line) => {
                line.push(b'\n');
                self.log.line(&line);
            }
            Err(error) => tracing::error!(%error, "a line of the access log has no JSON"),
        }
    }
}

/// `time` as RFC 3339 in UTC, or the epoch for a time that has no such form.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}
