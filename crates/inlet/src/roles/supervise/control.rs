//! Does what is asked for over the control socket.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use inlet_edge::BackendStatus;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::backends::Backends;
use super::board::{Board, Entry};
use super::fleet::Zones;
use super::placement::{Zone, zone_name};
use super::probe;
use crate::control::status::{EdgeFigures, InstanceStatus, Status, WorkerStatus, ZoneStatus};
use crate::control::{Answer, SOCKET, in_directory};
use crate::data::Running;
use crate::roles::watched::Watched;
use crate::signals::Hangups;

/// The longest request, in bytes.
const REQUEST_BYTES_MAX: u64 = 256;
/// How many may ask at once.
const ASKERS_MAX: usize = 16;
/// How long a request may take to come.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);
/// How long an instance may take to tell its figures.
const FIGURES_WITHIN: Duration = Duration::from_secs(1);

/// What can be asked of a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// To replace all instances by new ones.
    Reload,
    /// To take a zone out of use.
    Close(String),
    /// To take it into use again.
    Open(String),
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    Done(String),
    Refused(String),
}

/// A command, and who waits for what becomes of it.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) command: Command,
    pub(super) asker: Option<oneshot::Sender<Reply>>,
}

/// Whoever asks something of a fleet.
pub(super) struct Asked {
    pub(super) requests: mpsc::Receiver<Request>,
    /// Each asks for a reload; those that arrive during one are one.
    pub(super) hangups: Hangups,
}

impl Asked {
    /// The next request; waits for ever once nobody can ask any more.
    pub(super) async fn next(&mut self) -> Request {
        tokio::select! {
            Some(request) = self.requests.recv() => request,
            Some(()) = self.hangups.recv() => Request { command: Command::Reload, asker: None },
            else => std::future::pending().await,
        }
    }
}

/// What is known of the whole.
pub(super) struct Overview {
    pub(super) board: Board,
    pub(super) backends: Backends,
    pub(super) zones: Zones,
    pub(super) running: Running,
    pub(super) started: Instant,
}

/// Listens on the socket in `directory`.
pub(super) fn listen(directory: &Path) -> anyhow::Result<UnixListener> {
    in_directory(directory, UnixListener::bind)
        .with_context(|| format!("could not listen on {}", directory.join(SOCKET).display()))
}

/// Answers on the socket until it is dropped.
pub(super) async fn serve(
    listener: Arc<UnixListener>,
    overview: Arc<Overview>,
    requests: mpsc::Sender<Request>,
    watched: Watched,
) {
    let askers = Arc::new(Semaphore::new(ASKERS_MAX));
    loop {
        let Ok(asker) = Arc::clone(&askers).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (overview, requests) = (Arc::clone(&overview), requests.clone());
                watched.task("control", async move {
                    if let Err(error) = answer(stream, &overview, &requests).await {
                        tracing::debug!(%error, "who asked is gone");
                    }
                    drop(asker);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket takes nobody; pausing");
                tokio::time::sleep(FIGURES_WITHIN).await;
            }
        }
    }
}

async fn answer(
    mut stream: UnixStream,
    overview: &Overview,
    requests: &mpsc::Sender<Request>,
) -> std::io::Result<()> {
    let mut line = String::new();
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader.take(REQUEST_BYTES_MAX));
    tokio::time::timeout(REQUEST_WITHIN, reader.read_line(&mut line)).await??;
    let words: Vec<&str> = line.split_whitespace().collect();
    let answer = match words[..] {
        ["status"] => Answer::Status(Box::new(overview.status().await)),
        ["reload"] => demand(requests, Command::Reload).await,
        ["zone", "down", zone] => demand(requests, Command::Close(zone.to_owned())).await,
        ["zone", "up", zone] => demand(requests, Command::Open(zone.to_owned())).await,
        _ => Answer::Refused("this `inlet up` does not know what was asked for".to_owned()),
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    writer.write_all(&text).await
}

async fn demand(requests: &mpsc::Sender<Request>, command: Command) -> Answer {
    let (asker, reply) = oneshot::channel();
    let sent = requests.send(Request { command, asker: Some(asker) }).await;
    match (sent, reply.await) {
        (Ok(()), Ok(Reply::Done(done))) => Answer::Done(done),
        (Ok(()), Ok(Reply::Refused(reason))) => Answer::Refused(reason),
        _ => Answer::Refused("it is stopping".to_owned()),
    }
}

impl Overview {
    async fn status(&self) -> Status {
        let entries = self.board.entries();
        let edge = self.backends.edge().status();
        let asking = entries.iter().filter(|entry| entry.place.is_some()).map(|entry| {
            let (entry, edge) = (entry.clone(), edge.clone());
            tokio::spawn(async move { instance(&entry, &edge).await })
        });
        // All are asked before the first is waited for.
        let asking: Vec<_> = asking.collect();
        let mut instances = Vec::with_capacity(asking.len());
        for asked in asking {
            instances.extend(asked.await);
        }
        let zones = self.zones.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let worker = entries.iter().find(|entry| entry.place.is_none());
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: self.running.pid,
            uptime_s: self.started.elapsed().as_secs(),
            https: self.running.https,
            http: self.running.http,
            plain: self.running.plain,
            zones: zones.iter().enumerate().map(zone).collect(),
            queue_bytes: instances.iter().filter_map(|instance| instance.queue_bytes).sum(),
            instances,
            worker: worker.map(|entry| WorkerStatus {
                state: entry.state().to_owned(),
                pid: entry.pid,
                uptime_s: entry.started.elapsed().as_secs(),
                restarts: entry.restarts,
                figures: entry.figures,
                failing: entry.failing.clone(),
                reason: entry.reason(),
            }),
        }
    }
}

fn zone((index, zone): (usize, &Zone)) -> ZoneStatus {
    let state = match zone {
        Zone::Up => "up",
        Zone::Down => "down",
        Zone::Closed => "closed",
    };
    ZoneStatus { name: zone_name(index), state: state.to_owned() }
}

async fn instance(entry: &Entry, edge: &[BackendStatus]) -> InstanceStatus {
    let metrics = match entry.address.filter(|_| entry.ready_since.is_some()) {
        Some(address) => probe::get(address, "/metrics", FIGURES_WITHIN).await,
        None => None,
    };
    let page = metrics.map(|(_, page)| page).unwrap_or_default();
    let bytes = |name| probe::figure(&page, name).and_then(whole);
    let known = edge.iter().find(|status| status.id == entry.id);
    InstanceStatus {
        id: entry.id.clone(),
        zone: entry.place.map(|place| zone_name(place.zone)).unwrap_or_default(),
        state: entry.state().to_owned(),
        pid: entry.pid,
        address: entry.address,
        uptime_s: entry.started.elapsed().as_secs(),
        restarts: entry.restarts,
        edge: known.map(|status| EdgeFigures {
            health: status.standing.as_str().to_owned(),
            in_flight: status.outstanding,
            requests: status.requests,
            latency_us: status.latency_us,
        }),
        queue_bytes: bytes("inlet_queue_bytes"),
        queue_bytes_max: bytes("inlet_queue_bytes_max"),
        reason: entry.reason.clone(),
    }
}

/// A figure of a page of metrics that counts something.
fn whole(figure: f64) -> Option<u64> {
    format!("{figure:.0}").parse().ok()
}
