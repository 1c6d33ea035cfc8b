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

use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use crate::clock::{micros, now};

/// How many lines may wait to be written; past that they are dropped and counted.
const LINES_MAX: usize = 8192;

/// Where the lines go.
#[derive(Debug, Clone)]
pub struct AccessLog {
    entries: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

/// What the writing thread is given.
#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    /// Tell this one that all before it is written.
    Mark(SyncSender<()>),
}

impl AccessLog {
    /// Writes to `writer` from a thread of its own, which ends, flushed, when the last of these
    /// logs and the edges that hold one are gone. Requests never wait for it: when it can't keep
    /// up, or fails, lines are dropped and counted.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn to(writer: impl Write + Send + 'static) -> io::Result<(Self, JoinHandle<()>)> {
        let (entries, waiting) = sync_channel(LINES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = dropped.clone();
        let thread = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_lines(&waiting, writer, &counted))?;
        Ok((Self { entries, dropped }, thread))
    }

    /// How many lines were not written.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until all lines up to here are written, but for no longer than `wait_max`; says whether
    /// they are. It blocks.
    pub fn flush(&self, wait_max: Duration) -> bool {
        let (mark, written) = sync_channel(1);
        self.entries.send(Entry::Mark(mark)).is_ok() && written.recv_timeout(wait_max).is_ok()
    }

    fn line(&self, line: Vec<u8>) {
        if self.entries.try_send(Entry::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write_lines(waiting: &Receiver<Entry>, writer: impl Write, dropped: &AtomicU64) {
    let mut writer = BufWriter::with_capacity(64 << 10, writer);
    let mut marks = Vec::new();
    while let Ok(first) = waiting.recv() {
        let mut lines = 0;
        let mut result = Ok(());
        let mut next = Some(first);
        while let Some(entry) = next {
            match entry {
                Entry::Line(line) => {
                    lines += 1;
                    result = result.and_then(|()| writer.write_all(&line));
                }
                Entry::Mark(mark) => marks.push(mark),
            }
            next = if lines < LINES_MAX as u64 { waiting.try_recv().ok() } else { None };
        }
        if let Err(error) = result.and_then(|()| writer.flush()) {
            dropped.fetch_add(lines, Ordering::Relaxed);
            tracing::warn!(%error, "the access log could not be written");
        }
        for mark in marks.drain(..) {
            // Whoever waited may have given up.
            mark.try_send(()).unwrap_or_default();
        }
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
                self.log.line(line);
            }
            Err(error) => tracing::error!(%error, "a line of the access log has no JSON"),
        }
    }
}

/// `time` as RFC 3339 in UTC, or the epoch for a time that has no such form.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}
