//! Lines for a reader that may stall or a disk that may be full: log lines, access logs.
//!
//! A thread of its own writes them. Whoever has a line never waits: a line that finds no room is
//! dropped and counted, and so are those that could not be written. Losses are reported at most
//! once a second, so that a full disk does not turn every request into a warning.

use std::io::Write;
use std::mem;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most that waits to be written, in bytes; as much again may be in the hands of the writer.
const BYTES_MAX: usize = 1 << 20;
/// The time between two reports of losses.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Log lines of this process that were lost. Whoever writes them counts here; services show it
/// among the figures of their connections.
pub static LOG_LINES_DROPPED: AtomicU64 = AtomicU64::new(0);

/// The destination of lines. Clones are the same place; it is closed when the last of them is gone.
#[derive(Debug, Clone)]
pub struct Lines {
    open: Arc<Open>,
}

/// Lines that were lost since the last report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The number of lines.
    pub lines: u64,
    /// The reason the latest of them could not be written; `None` where there was no room for it.
    pub error: Option<String>,
}

/// The writing side of [`Lines`].
#[derive(Debug)]
pub struct LineWriter(Arc<Shared>);

/// Closes the place when it is dropped.
#[derive(Debug)]
struct Open(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Something waits to be written, or the place is closed.
    filled: Condvar,
    /// Something was written, or lost.
    drained: Condvar,
    report: Box<dyn Fn(Loss) + Send + Sync>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    lines_waiting: u64,
    /// Lines that were taken, and how many of those have left the writer's hands.
    taken: u64,
    done: u64,
    dropped: u64,
    /// Of the dropped ones, those that were reported.
    reported: u64,
    reported_at: Option<Instant>,
    error: Option<String>,
    is_writer_idle: bool,
    is_closed: bool,
}

impl Lines {
    /// A place for lines, and what has to be run for them to be written. Losses are given to
    /// `report`, on whichever thread met them.
    pub fn new(report: impl Fn(Loss) + Send + Sync + 'static) -> (Self, LineWriter) {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            filled: Condvar::new(),
            drained: Condvar::new(),
            report: Box::new(report),
        });
        let writer = LineWriter(Arc::clone(&shared));
        (Self { open: Arc::new(Open(shared)) }, writer)
    }

    /// Takes a line with its end, or drops it where there is no room. Never waits.
    pub fn push(&self, line: &[u8]) {
        let shared = &self.open.0;
        let mut state = shared.state();
        if state.waiting.len() + line.len() > BYTES_MAX {
            state.dropped += 1;
            let loss = state.loss_to_report();
            drop(state);
            shared.report(loss);
            return;
        }
        state.waiting.extend_from_slice(line);
        state.lines_waiting += 1;
        state.taken += 1;
        let is_idle = mem::take(&mut state.is_writer_idle);
        drop(state);
        if is_idle {
            shared.filled.notify_one();
        }
    }

    /// Lines that were not written.
    pub fn dropped(&self) -> u64 {
        self.open.0.state().dropped
    }

    /// Waits until all lines up to here are written or lost, but for no longer than `within`; says
    /// whether they are. It blocks.
    pub fn flush(&self, within: Duration) -> bool {
        let shared = &self.open.0;
        let state = shared.state();
        let taken = state.taken;
        let waited = shared.drained.wait_timeout_while(state, within, |state| state.done < taken);
        waited.unwrap_or_else(PoisonError::into_inner).0.done >= taken
    }
}

impl LineWriter {
    /// Writes to `writer` until the last of the [`Lines`] is gone and all is written. It blocks,
    /// so it is run on a thread of its own.
    pub fn run(&self, writer: impl Write) {
        self.0.write_to(writer);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.state().is_closed = true;
        self.0.filled.notify_one();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, loss: Option<Loss>) {
        if let Some(loss) = loss {
            (self.report)(loss);
        }
    }

    fn write_to(&self, mut writer: impl Write) {
        let mut chunk = Vec::new();
        while let Some(lines) = self.next(&mut chunk) {
            let written = writer.write_all(&chunk).and_then(|()| writer.flush());
            chunk.clear();
            let mut state = self.state();
            state.done += lines;
            if let Err(error) = written {
                state.dropped += lines;
                state.error = Some(error.to_string());
            }
            let loss = state.loss_to_report();
            drop(state);
            self.drained.notify_all();
            self.report(loss);
        }
    }

    /// Waits for lines and moves them into `chunk`; `None` once there will be no more.
    fn next(&self, chunk: &mut Vec<u8>) -> Option<u64> {
        let mut state = self.state();
        while state.waiting.is_empty() {
            if state.is_closed {
                return None;
            }
            state.is_writer_idle = true;
            // Losses that came too soon after the last report are reported without a further line.
            let wait = if state.dropped > state.reported { REPORT_EVERY } else { Duration::MAX };
            let waited = self.filled.wait_timeout(state, wait);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if let Some(loss) = state.loss_to_report() {
                drop(state);
                (self.report)(loss);
                state = self.state();
            }
        }
        state.is_writer_idle = false;
        mem::swap(&mut state.waiting, chunk);
        Some(mem::take(&mut state.lines_waiting))
    }
}

impl State {
    fn loss_to_report(&mut self) -> Option<Loss> {
        let is_due = self.reported_at.is_none_or(|at| at.elapsed() >= REPORT_EVERY);
        if self.dropped == self.reported || !is_due {
            return None;
        }
        let lines = self.dropped - self.reported;
        self.reported = self.dropped;
        self.reported_at = Some(Instant::now());
        Some(Loss { lines, error: self.error.take() })
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("state", &self.state).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

    use std::io;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::JoinHandle;

    use super::*;

    /// A writer that takes a chunk only when it is told to, and tells what it took.
    struct Stalling {
        go: Receiver<io::Result<()>>,
        took: Sender<usize>,
    }

    impl Write for Stalling {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.go.recv().map_err(io::Error::other)??;
            self.took.send(bytes.len()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A place for lines with a writer that stalls.
    struct Stalled {
        lines: Lines,
        thread: JoinHandle<()>,
        go: Sender<io::Result<()>>,
        taken: Receiver<usize>,
        lost: Receiver<Loss>,
    }

    fn stalled() -> Stalled {
        let (go, waits) = channel();
        let (took, taken) = channel();
        let (losses, lost) = channel();
        let (lines, writer) = Lines::new(move |loss| losses.send(loss).unwrap());
        let thread = std::thread::spawn(move || writer.run(Stalling { go: waits, took }));
        Stalled { lines, thread, go, taken, lost }
    }

    #[test]
    fn a_writer_that_stalls_holds_nobody_up_and_what_has_no_room_is_dropped_and_counted() {
        let Stalled { lines, thread, go, taken, lost } = stalled();
        let line = [b'x'; 1024];
        let begun = Instant::now();
        for _ in 0..4 * BYTES_MAX / line.len() {
            lines.push(&line);
        }
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!(!lines.flush(Duration::from_millis(1)), "nothing is written");
        let dropped = lines.dropped();
        assert!(dropped >= 2 * 1024, "{dropped}: twice what waits is the most there is room for");
        assert_eq!(lost.recv().unwrap(), Loss { lines: 1, error: None }, "the first at once");
        assert!(lost.try_recv().is_err(), "and no other within the second");
        for _ in 0..2 {
            go.send(Ok(())).unwrap();
        }
        assert!(lines.flush(Duration::from_secs(5)));
        let written: usize = taken.try_iter().sum();
        assert_eq!(written as u64 / 1024 + dropped, 4 * 1024);
        drop(lines);
        thread.join().unwrap();
    }

    #[test]
    fn what_can_not_be_written_is_reported_once_a_second_with_the_cause() {
        let Stalled { lines, thread, go, taken: _taken, lost } = stalled();
        let begun = Instant::now();
        for _ in 0..50 {
            lines.push(b"line\n");
            go.send(Err(io::Error::other("no room"))).unwrap();
            assert!(lines.flush(Duration::from_secs(5)), "what is lost is done with");
        }
        let passed = begun.elapsed();
        assert_eq!(lines.dropped(), 50);
        assert_eq!(lost.recv().unwrap(), Loss { lines: 1, error: Some("no room".to_owned()) });
        // The rest follows by itself, though no further line comes.
        let mut rest = 0;
        let mut reports = 0;
        while rest < 49 {
            rest += lost.recv_timeout(Duration::from_secs(5)).unwrap().lines;
            reports += 1;
        }
        assert!(reports <= passed.as_secs() + 2, "{reports} reports in {passed:?}");
        drop((lines, go));
        thread.join().unwrap();
    }

    #[test]
    fn all_that_was_taken_is_written_before_the_thread_ends() {
        let Stalled { lines, thread, go, taken, lost: _lost } = stalled();
        for _ in 0..10 {
            lines.push(b"0123456789");
        }
        for _ in 0..10 {
            go.send(Ok(())).unwrap();
        }
        drop(lines);
        thread.join().unwrap();
        assert_eq!(taken.iter().sum::<usize>(), 100);
    }
}
