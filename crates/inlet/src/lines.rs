//! Lines on stderr while a role runs: its own log, those of its children, and its last words.
//!
//! Nothing waits for whoever reads them. A reader that stalls, or a disk that is full, costs lines,
//! which are counted in `inlet_log_lines_dropped_total` and told once lines are taken again.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use inlet_core::ports::{Clock, SystemClock};
use inlet_server::{LOG_LINES_DROPPED, Lines};
use tracing_subscriber::fmt::MakeWriter;

/// The time that the last lines of a process may take to be written.
const LAST_WITHIN: Duration = Duration::from_secs(1);

static STDERR: OnceLock<Lines> = OnceLock::new();
/// Lost lines that nobody was told of.
static UNTOLD: AtomicU64 = AtomicU64::new(0);

/// The destination of the log's lines.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stderr;

/// The writer of the thread that writes: whole lines, and what was lost before them.
struct Telling {
    stderr: File,
    is_json: bool,
}

/// Starts the thread that writes to stderr, for a role that goes on running.
pub(crate) fn start(is_json: bool) -> anyhow::Result<()> {
    // A descriptor of its own: the lock of the standard one would be held by a write that hangs.
    let stderr = io::stderr().as_fd().try_clone_to_owned().context("could not open stderr")?;
    let mut writer = Telling { stderr: File::from(stderr), is_json };
    let (lines, lines_writer) = Lines::new(|loss| {
        LOG_LINES_DROPPED.fetch_add(loss.lines, Ordering::Relaxed);
        UNTOLD.fetch_add(loss.lines, Ordering::Relaxed);
    });
    let write = move || {
        // The one thread whose panic nobody could be told of goes on.
        while catch_unwind(AssertUnwindSafe(|| lines_writer.run(&mut writer))).is_err() {}
    };
    let spawned = std::thread::Builder::new().name("stderr".to_owned()).spawn(write);
    spawned.context("could not start the thread that writes log lines")?;
    // The first one stays: a process has one role.
    STDERR.get_or_init(|| lines);
    Ok(())
}

/// Writes whole lines, with their ends.
pub(crate) fn push(text: &[u8]) {
    match STDERR.get() {
        Some(lines) => lines.push(text),
        None => {
            // A command that ends by itself may wait; where nobody listens, nothing is lost.
            io::stderr().write_all(text).unwrap_or_default();
        }
    }
}

/// Writes what waits, before the process ends.
pub(crate) fn flush() {
    if let Some(lines) = STDERR.get() {
        lines.flush(LAST_WITHIN);
    }
}

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl Write for Telling {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let untold = UNTOLD.swap(0, Ordering::Relaxed);
        if untold > 0 {
            let told = self.stderr.write_all(loss(untold, self.is_json).as_bytes());
            told.inspect_err(|_| {
                UNTOLD.fetch_add(untold, Ordering::Relaxed);
            })?;
        }
        self.stderr.write(lines)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stderr.flush()
    }
}

/// The line about lines that were lost, in the form of the others.
fn loss(lines: u64, is_json: bool) -> String {
    let (now, message) = (SystemClock.now(), "log lines were dropped");
    if is_json {
        let fields = serde_json::json!({ "message": message, "lines": lines });
        let line = serde_json::json!({
            "timestamp": now.to_string(), "level": "WARN", "fields": fields, "target": "inlet::lines",
        });
        format!("{line}\n")
    } else {
        format!("{now}  WARN {message} lines={lines}\n")
    }
}
