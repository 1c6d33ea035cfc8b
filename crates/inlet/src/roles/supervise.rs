//! `inlet up --instances N --zones 2`: an edge before instances that heal themselves.
//!
//! ```text
//! up ─┬─ the edge, on threads of its own                       doors: --https, --http, --plain
//!     ├─ the weekly summary
//!     ├─ inlet serve    a1, a2, …  b1, b2, …    loopback ports, a log each, one store
//!     └─ inlet persist  one worker, which drains all logs, those of dead instances too
//! ```
//!
//! Children are processes of the same binary. They say on stdout where they listen (`parent.rs`),
//! and end when the pipe that is their stdin does, which is when this process ends, however it
//! ends.
//!
//! - An instance that ends is started again: at once the first time, after pauses that double up
//!   to 30 s when it goes on. Its log is its own, so it comes back with what it had accepted.
//! - One that has not answered for `hang_s` is killed, and so started again.
//! - A zone is *down* when each of its instances has ended three times in a row before it was
//!   ready while another zone has one that is. As many more are started elsewhere, and it is
//!   still tried. When all its instances have been ready for 2 s, the others are drained.
//! - At a reload (SIGHUP, `inlet reload`) binary and settings are read anew. Each instance gets a
//!   successor; once that is ready and the edge asks it, the old one is drained and stopped. The
//!   first that does not become ready ends the reload, and those that are left stay.
//! - At the end the edge finishes first, then the instances, then the worker.
//!
//! Start reading at [`run`], then `fleet.rs`, then `member.rs`.

mod backends;
mod backoff;
mod board;
mod control;
mod fleet;
mod launch;
mod lines;
mod member;
mod metrics;
mod placement;
mod probe;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::Context;
use inlet_core::health::Health;
use inlet_core::id::DocumentId;
use inlet_core::ports::{Clock, SystemClock};
use inlet_edge::DocumentIds;
use rand::RngExt;
use tokio::sync::mpsc;

use self::backends::Backends;
use self::board::Board;
use self::control::{Asked, Overview};
use self::fleet::Fleet;
use self::metrics::Figures;
use self::placement::Zone;
use super::doors::Doors;
use super::front::{Front, Instances};
use super::stop::{Reason, Stop};
use super::watched::Watched;
use super::{instance, serve, summary};
use crate::cli::Given;
use crate::config::{FleetOptions, Settings};
use crate::control::DIRECTORY;
use crate::data::{DataDirectory, Running};
use crate::report::Hinted;
use crate::tokens::{self, Copy, Known};
use crate::wire::{self, Engines, Start};
use crate::{signals, systemd};

/// How many commands may wait.
const REQUESTS_MAX: usize = 8;

/// Runs an edge and its instances until it is time to stop.
pub(crate) fn run(settings: Settings, given: Given, size: FleetOptions) -> anyhow::Result<()> {
    wire::log_lines(&settings)?;
    tokens::outside()?;
    let data = DataDirectory::open_or_create(&settings.data)?;
    let _lock = data.lock()?;
    wire::block_on(run_in(settings, given, size, data))?
}

async fn run_in(
    settings: Settings,
    given: Given,
    size: FleetOptions,
    data: DataDirectory,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let stop = Stop::new();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let health = Health::new(Arc::clone(&clock));
    let watched = Watched::new(stop.clone(), health.clone());
    let hangups = signals::listen(&watched, &stop)?;
    let doors = Doors::open(&settings)?;
    let socket = control::listen(&run_directory(&data)?)?;
    let base = data.instance(settings.instance.as_deref())?;
    let start =
        Start { settings: &settings, data: &data, health: &health, watched: &watched, stop: &stop };
    // Opened before the children do: a new store is made once.
    let opened = stop.before(Engines::begin(&start)).await.transpose()?;
    let Some(engines) = opened else { return Ok(()) };
    let local = tokens::local()?;
    data.keep_private(&data.local_token_path(), &local)?;
    let copy = Copy::new(&data, &settings.secrets);
    let (_, known) = tokens::at_start(&copy, &engines.secrets, &local, &*clock).await?;
    if known == Known::Unread {
        instance::first_token_later(&start, &engines, &clock);
    }
    let board = Board::default();
    let zones = Arc::new(Mutex::new(vec![Zone::Up; size.zones]));
    let figures =
        Figures { board: board.clone(), zones: Arc::clone(&zones), health: health.clone() };
    let figures = Box::new(move || figures.text());
    let (edge_secret, ids) = document_ids();
    let mut front =
        Front::new(&settings, &data, doors, Instances::Own(ids), figures, &watched, &stop)?;
    let backends = Backends::new(front.edge.clone(), board.clone());
    let running = Running {
        pid: std::process::id(),
        instance: base.clone(),
        https: front.listening.https,
        http: front.listening.http,
        plain: front.listening.plain,
        token: Some(local),
        certificate: front.listening.https.and(serve::certificate_path(&settings, &data)),
    };
    let overview = Overview {
        board: board.clone(),
        backends: backends.clone(),
        zones: Arc::clone(&zones),
        running: running.clone(),
        started,
    };
    let mut fleet = Fleet::start(fleet::Parts {
        size,
        base,
        settings: settings.clone(),
        given,
        data: data.path().to_owned(),
        board,
        backends: backends.clone(),
        live: front.live.clone(),
        zones,
        edge_secret,
        watched: watched.clone(),
    })?;
    let (requests, requested) = mpsc::channel(REQUESTS_MAX);
    let following = watched.restarted_task("backends", move || {
        let backends = backends.clone();
        async move { backends.follow().await }
    });
    let (socket, overview) = (Arc::new(socket), Arc::new(overview));
    let answering = watched.restarted_task("control", {
        let watched = watched.clone();
        move || {
            let (socket, overview) = (Arc::clone(&socket), Arc::clone(&overview));
            control::serve(socket, overview, requests.clone(), watched.clone())
        }
    });
    let mut asked = Asked { requests: requested, hangups };
    let summarizer = wire::summarizer(&settings, &engines, &clock)?;
    let summary = watched.restarted_thread("summary", {
        let stop = stop.clone();
        let weeks = Arc::new(summary::Parts::new(&health));
        move || summary::run(summarizer.clone(), Arc::clone(&weeks), stop.clone())
    })?;

    let begun = tokio::select! {
        begun = fleet.first_instances() => begun,
        _ = stop.wait() => Ok(()),
    };
    let mut announced = None;
    match begun {
        Ok(()) if !stop.is_now() => {
            front.serve()?;
            announced = Some(data.announce(&running)?);
            instance::banner(&data, &running, &known)?;
            systemd::ready();
        }
        Ok(()) => {}
        Err(reason) => stop.now(Reason::Failed(format!("no instance could be started: {reason}"))),
    }
    fleet.run(&mut asked, &stop).await;
    let reason = instance::wait_for_the_end(&stop).await;
    // The edge finishes while the instances are there to answer.
    front.ended().await?;
    answering.abort();
    drop(asked);
    fleet.end().await;
    following.abort();
    let until = tokio::time::Instant::now() + settings.shutdown;
    summary.join(until).await?;
    if tokio::time::timeout_at(until, engines.close()).await.is_err() {
        tracing::info!("the store is away: the next start reads its write-ahead log");
    }
    drop(announced);
    match reason {
        Reason::Asked => Ok(()),
        Reason::Failed(why) => Err(Hinted::new(why, "its lines are above").into()),
    }
}

/// A secret that edge and instances share for as long as they run, and the ids that the edge mints
/// by it: what is sent to a second instance is the same document there.
fn document_ids() -> (Arc<str>, DocumentIds) {
    let secret: [u8; 16] = rand::rng().random();
    let secret = format!("{:032x}", u128::from_be_bytes(secret));
    let ids = DocumentIds::new(|| DocumentId::mint(SystemClock.now()).text(), &secret)
        .expect("hexadecimal digits are visible ASCII");
    (secret.into(), ids)
}

/// The directory for what belongs to this process, made anew: the lock of the data directory says
/// that what another has left there is nobody's.
fn run_directory(data: &DataDirectory) -> anyhow::Result<PathBuf> {
    let path = data.join(DIRECTORY);
    let emptied = match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => DirBuilder::new().mode(0o700).create(&path),
    };
    emptied.with_context(|| format!("could not make {} anew", path.display()))?;
    Ok(path)
}
