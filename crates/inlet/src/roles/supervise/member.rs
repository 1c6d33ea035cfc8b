//! One child: started, watched, and started again until it is told to stop.

use std::process::ExitStatus;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::backoff::Backoff;
use super::board::{Board, Phase};
use super::launch::Launch;
use super::lines::{Tail, next_line, pass_on};
use super::placement::{Place, zone_name};
use super::probe;
use crate::roles::parent::{ToChild, Told};
use crate::roles::watched::Watched;

/// How long a child may take to say that it runs. It reads its whole log before that.
const START_MAX: Duration = Duration::from_secs(120);
/// How often a child is asked until it is ready, and afterwards.
const ASK_SOON: Duration = Duration::from_millis(40);
const ASK_EVERY: Duration = Duration::from_millis(500);
/// How long an instance may take to say whether it is ready: it asks its store for up to 2 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How long a child may take beyond its shutdown time before it is killed.
const GRACE: Duration = Duration::from_secs(2);
/// How long the last lines of a process that ended are waited for.
const LAST_LINES_WITHIN: Duration = Duration::from_secs(1);

/// What a child is, and how it is started.
#[derive(Debug, Clone)]
pub(super) struct Kind {
    pub(super) id: String,
    /// Where an instance is; `None` for the worker.
    pub(super) place: Option<Place>,
    pub(super) threads: usize,
    pub(super) bodies_bytes_max: usize,
    /// After how long without an answer it is killed.
    pub(super) hang: Duration,
    /// How long it may take to stop.
    pub(super) shutdown: Duration,
    /// Whether its lines go on as they are.
    pub(super) log_json: bool,
    /// By which an instance knows its edge.
    pub(super) edge_secret: Arc<str>,
}

/// A child that is kept running. Dropping this ends it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) place: Option<Place>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Keeps one child running.
struct Keeper {
    kind: Kind,
    launch: Arc<Launch>,
    board: Board,
    watched: Watched,
    stop: watch::Receiver<bool>,
}

/// A process, its pipes, and the last it wrote.
struct Process {
    child: Child,
    /// The child ends when this does.
    stdin: Option<ChildStdin>,
    told: BufReader<ChildStdout>,
    lines: JoinHandle<()>,
    tail: Tail,
}

/// How the life of a process came to its end.
enum End {
    Stopped,
    /// It ended by itself, or was killed because it hung: why, and for how long it ran well.
    Ended(String, Option<Duration>),
}

impl Member {
    /// Starts a child and keeps it running.
    pub(super) fn start(kind: Kind, launch: Arc<Launch>, board: &Board, watched: &Watched) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (id, place) = (kind.id.clone(), kind.place);
        board.add(&id, place);
        let (board, watched) = (board.clone(), watched.clone());
        let keeper = Keeper { kind, launch, board, watched: watched.clone(), stop: stopped };
        Self { id, place, stop, task: watched.task("keeper", keeper.run()) }
    }

    /// Tells the child to stop. [`Member::ended`] says when it has.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until the child is gone; to be called until it has returned once.
    pub(super) async fn ended(&mut self) {
        if let Err(error) = (&mut self.task).await {
            tracing::error!(child = self.id, %error, "the task that keeps a child failed");
        }
    }
}

impl Keeper {
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        while let End::Ended(reason, well) = self.run_once().await {
            let reason = self.launch.in_words_of_people(&reason);
            let pause = backoff.ended(well.unwrap_or_default());
            let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(child = self.kind.id, reason, pause_ms, "it is started again");
            self.board.update(&self.kind.id, |entry| {
                entry.phase = Phase::BackingOff;
                entry.ready_since = None;
                (entry.pid, entry.address) = (None, None);
                entry.restarts = entry.restarts.saturating_add(1);
                entry.failures = if well.is_some() { 1 } else { entry.failures.saturating_add(1) };
                entry.reason = Some(reason);
            });
            tokio::select! {
                _ = self.stop.wait_for(|stop| *stop) => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.board.remove(&self.kind.id);
    }

    async fn run_once(&mut self) -> End {
        if *self.stop.borrow() {
            return End::Stopped;
        }
        let mut process = match self.spawn() {
            Ok(process) => process,
            Err(error) => return End::Ended(format!("it could not be started: {error}"), None),
        };
        self.board.update(&self.kind.id, |entry| {
            entry.phase = Phase::Starting;
            entry.pid = process.child.id();
            entry.started = Instant::now();
            entry.figures = None;
            entry.failing.clear();
        });
        let ready_since = OnceLock::new();
        let Process { child, told, stdin, .. } = &mut process;
        let ended = tokio::select! {
            never = tell_worker(&self.kind, &self.board, stdin) => never,
            status = child.wait() => Ok(status),
            _ = self.stop.wait_for(|stop| *stop) => Err(None),
            hung = watch_over(&self.kind, &self.board, told, &ready_since) => Err(Some(hung)),
        };
        let well = || ready_since.get().map(Instant::elapsed);
        match ended {
            Ok(status) => End::Ended(process.reason(status).await, well()),
            Err(Some(hung)) => {
                process.kill().await;
                End::Ended(format!("{hung}, and was killed"), well())
            }
            Err(None) => {
                self.board.update(&self.kind.id, |entry| entry.phase = Phase::Stopping);
                process.stop(&self.kind).await;
                End::Stopped
            }
        }
    }

    fn spawn(&self) -> std::io::Result<Process> {
        let Kind { id, place, threads, bodies_bytes_max, log_json, .. } = &self.kind;
        let (threads, bodies_bytes_max) = (threads.to_string(), bodies_bytes_max.to_string());
        let mut child = match place {
            Some(place) => {
                let zone = zone_name(place.zone);
                self.launch.spawn(
                    "serve",
                    &[
                        ("instance", id),
                        ("zone", &zone),
                        ("threads", &threads),
                        ("bodies_bytes_max", &bodies_bytes_max),
                        ("https", "off"),
                        ("http", "off"),
                        ("plain", "127.0.0.1:0"),
                        // Longer than the edge keeps a connection, whatever clients do.
                        ("idle_s", "620"),
                    ],
                )?
            }
            None => self.launch.spawn("persist", &[])?,
        };
        let tail = Tail::default();
        let name = (!log_json).then(|| id.clone());
        let missing = || std::io::Error::other("a pipe is missing");
        let stderr = child.stderr.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        Ok(Process {
            stdin: child.stdin.take(),
            told: BufReader::new(stdout),
            lines: self.watched.task("child-lines", pass_on(stderr, name, tail.clone())),
            tail,
            child,
        })
    }
}

/// Tells an instance the secret of its edge, and which parts of the worker fail, whenever that
/// changes. It never returns.
async fn tell_worker<T>(kind: &Kind, board: &Board, stdin: &mut Option<ChildStdin>) -> T {
    let (mut changes, mut known) = (board.watch(), Vec::new());
    if let (Some(_), Some(stdin)) = (kind.place, stdin.as_mut()) {
        let secret = ToChild::EdgeSecret(kind.edge_secret.as_ref().into());
        if stdin.write_all(secret.line().as_bytes()).await.is_err() {
            // It is ending, which is seen elsewhere.
            return std::future::pending().await;
        }
    }
    while let (Some(_), Some(stdin)) = (kind.place, stdin.as_mut()) {
        let worker = board.entries().into_iter().find(|entry| entry.place.is_none());
        let failing = worker.map(|worker| worker.failing).unwrap_or_default();
        if failing != known {
            let line = ToChild::Failing(failing.clone()).line();
            if stdin.write_all(line.as_bytes()).await.is_err() {
                // It is ending, which is seen elsewhere.
                break;
            }
            known = failing;
        }
        if changes.changed().await.is_err() {
            break;
        }
    }
    std::future::pending().await
}

/// Hears what the child tells and asks it how it is, until it hangs; gives why that is thought.
async fn watch_over(
    kind: &Kind,
    board: &Board,
    told: &mut BufReader<impl AsyncRead + Unpin>,
    ready_since: &OnceLock<Instant>,
) -> String {
    let address = match tokio::time::timeout(START_MAX, next_told(told)).await {
        Ok(Told::Running(running)) => running.plain,
        Ok(_) => return "it did not say that it runs".to_owned(),
        Err(_) => return format!("it did not say within {} s that it runs", START_MAX.as_secs()),
    };
    match address {
        Some(address) => {
            board.update(&kind.id, |entry| entry.address = Some(address));
            let ask = ask_again_and_again(kind, board, address, ready_since);
            // Nothing more is expected; it must not be kept waiting if it writes all the same.
            let read = async {
                loop {
                    next_told(told).await;
                }
            };
            tokio::select! {
                hung = ask => hung,
                never = read => never,
            }
        }
        None => hear_again_and_again(kind, board, told, ready_since).await,
    }
}

/// The next thing that the child tells; anything else on its stdout is passed over. It does not
/// return when the child tells nothing more because it ends: that is waited for elsewhere.
async fn next_told(told: &mut BufReader<impl AsyncRead + Unpin>) -> Told {
    loop {
        match next_line(told).await {
            Some(line) => match serde_json::from_slice(&line) {
                Ok(told) => return told,
                Err(error) => tracing::trace!(%error, "a line of a child that tells nothing"),
            },
            None => std::future::pending().await,
        }
    }
}

/// Asks an instance until it has not answered for too long. That it does not take documents is an
/// answer: to start it again would not help it.
async fn ask_again_and_again(
    kind: &Kind,
    board: &Board,
    address: std::net::SocketAddr,
    ready_since: &OnceLock<Instant>,
) -> String {
    let mut answered = Instant::now();
    loop {
        let answer = probe::get(address, "/readyz", ANSWER_WITHIN.min(kind.hang)).await;
        let is_ready = matches!(answer, Some((200, _)));
        if answer.is_some() {
            answered = Instant::now();
            note(kind, board, is_ready, ready_since);
        } else if answered.elapsed() >= kind.hang {
            return format!("it did not answer for {} s", kind.hang.as_secs());
        }
        tokio::time::sleep(if is_ready { ASK_EVERY } else { ASK_SOON }).await;
    }
}

/// Hears a worker until it has told nothing for too long.
async fn hear_again_and_again(
    kind: &Kind,
    board: &Board,
    told: &mut BufReader<impl AsyncRead + Unpin>,
    ready_since: &OnceLock<Instant>,
) -> String {
    note(kind, board, true, ready_since);
    // It tells once a second.
    let silence_max = kind.hang + Duration::from_secs(1);
    loop {
        match tokio::time::timeout(silence_max, next_told(told)).await {
            Ok(Told::Figures(figures)) => {
                board.update(&kind.id, |entry| entry.figures = Some(figures));
            }
            Ok(Told::Failing(failing)) => {
                board.update(&kind.id, |entry| entry.failing = failing);
            }
            Ok(Told::Running(_)) => {}
            Err(_) => return format!("it told nothing for {} s", silence_max.as_secs()),
        }
    }
}

/// Notes that the child runs, and whether it is ready. Those who watch are told of changes only.
fn note(kind: &Kind, board: &Board, is_ready: bool, ready_since: &OnceLock<Instant>) {
    let known = board.entry(&kind.id);
    let is_known = known.is_some_and(|entry| {
        entry.phase == Phase::Running && entry.ready_since.is_some() == is_ready
    });
    if is_known {
        return;
    }
    let now = Instant::now();
    if is_ready {
        ready_since.get_or_init(|| now);
    }
    board.update(&kind.id, |entry| {
        entry.phase = Phase::Running;
        entry.ready_since = is_ready.then_some(now);
        if is_ready {
            entry.failures = 0;
        }
    });
}

impl Process {
    /// Why the process ended, as far as it said so.
    async fn reason(self, status: std::io::Result<ExitStatus>) -> String {
        let said = match tokio::time::timeout(LAST_LINES_WITHIN, self.lines).await {
            Ok(_) => self.tail.reason(),
            Err(_) => None,
        };
        match (status, said) {
            (Ok(status), Some(said)) if status.code().is_some() => format!("{status}: {said}"),
            (Ok(status), _) => status.to_string(),
            (Err(error), _) => format!("how it ended is not known: {error}"),
        }
    }

    async fn kill(&mut self) {
        if let Err(error) = self.child.kill().await {
            tracing::warn!(%error, "a child could not be killed");
        }
    }

    /// Asks the process to stop, and kills it where it does not in time.
    async fn stop(mut self, kind: &Kind) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(Err(error)) = pid.map(|pid| kill_process(pid, Signal::TERM)) {
            tracing::debug!(child = kind.id, %error, "it could not be asked to stop");
        }
        if tokio::time::timeout(kind.shutdown + GRACE, self.child.wait()).await.is_err() {
            tracing::warn!(child = kind.id, "it did not stop in time, and is killed");
            self.kill().await;
        }
        if tokio::time::timeout(LAST_LINES_WITHIN, self.lines).await.is_err() {
            tracing::debug!(child = kind.id, "its last lines did not come");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

    use tokio::io::AsyncWriteExt;

    use super::*;

    const TOLD: &[u8] = b"{\"figures\":{\"lag_ms\":1,\"stored\":2,\"dead\":3,\"failures\":4}}\n";

    fn worker() -> (Kind, Board) {
        let (hang, shutdown) = (Duration::from_secs(10), Duration::from_secs(30));
        let id = "t-persist".to_owned();
        let (place, bodies_bytes_max, log_json) = (None, 1 << 20, false);
        let edge_secret = "".into();
        let kind =
            Kind { id, place, threads: 1, bodies_bytes_max, hang, shutdown, log_json, edge_secret };
        let board = Board::default();
        board.add(&kind.id, None);
        (kind, board)
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_floods_its_stdout_and_tells_nothing_is_taken_for_hung() {
        let (kind, board) = worker();
        let (mut child, parent) = tokio::io::duplex(1 << 10);
        tokio::spawn(async move {
            child.write_all(TOLD).await.unwrap();
            // Until it is no longer read.
            while child.write_all(b"noise\n{\"figures\":7}\n").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let (mut told, ready) = (BufReader::new(parent), OnceLock::new());
        let begun = tokio::time::Instant::now();
        let hung = hear_again_and_again(&kind, &board, &mut told, &ready).await;
        assert_eq!(hung, "it told nothing for 11 s");
        assert!(begun.elapsed() < Duration::from_secs(13), "{:?}", begun.elapsed());
        assert_eq!(board.entry(&kind.id).unwrap().figures.unwrap().stored, 2);
    }

    #[tokio::test]
    async fn what_a_child_writes_before_it_tells_that_it_runs_is_passed_over() {
        let noise = [b'x'; 100_000];
        let bytes = [&noise[..], b"\n\n{}\n", TOLD].concat();
        let mut told = BufReader::new(&bytes[..]);
        assert!(matches!(next_told(&mut told).await, Told::Figures(figures) if figures.dead == 3));
    }
}
