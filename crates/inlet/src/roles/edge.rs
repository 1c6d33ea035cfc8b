//! `inlet edge`: an edge before instances on this machine or on others.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use inlet_core::health::Health;
use inlet_core::ports::SystemClock;

use super::doors::{Doors, Listening};
use super::front::{Backends, Followed, Front, Instances, Live};
use super::stop::{Reason, Stop};
use super::watched::Watched;
use super::{instance, serve};
use crate::cli::Given;
use crate::config::{Role, Settings};
use crate::data::{DataDirectory, Running};
use crate::report::{self, Hinted};
use crate::signals::{self, Hangups};
use crate::{systemd, wire};

/// Runs an edge until it is time to stop.
pub(crate) fn run(settings: Settings, given: Given) -> anyhow::Result<()> {
    wire::log_lines(&settings)?;
    // What is wrong with the instances is told before anything is opened.
    let backends = read_backends(&settings)?;
    let data = DataDirectory::open_or_create(&settings.data)?;
    wire::block_on(run_in(settings, given, backends, data))?
}

async fn run_in(
    settings: Settings,
    given: Given,
    backends: Backends,
    data: DataDirectory,
) -> anyhow::Result<()> {
    let stop = Stop::new();
    let watched = Watched::new(stop.clone(), Health::new(Arc::new(SystemClock)));
    let hangups = signals::listen(&watched, &stop)?;
    let doors = Doors::open(&settings)?;
    let zone = Some(settings.zone.clone());
    let more = Box::new(String::new);
    let mut front =
        Front::new(&settings, &data, doors, Instances::Elsewhere { zone }, more, &watched, &stop)?;
    let backends = Followed::start(front.edge.clone(), backends, &watched, &stop).await?;
    front.serve()?;
    let certificate = serve::certificate_path(&settings, &data);
    let announced = data.announce(&running(&front.listening, certificate))?;
    banner(&front);
    systemd::ready();
    let reloads = Reloads { live: front.live.clone(), given, backends };
    watched.essential_task("reloads", {
        let stop = stop.clone();
        move || reloads.run(hangups, stop)
    });
    let reason = instance::wait_for_the_end(&stop).await;
    front.ended().await?;
    drop(announced);
    match reason {
        Reason::Asked => Ok(()),
        Reason::Failed(why) => Err(Hinted::new(why, "its lines are above").into()),
    }
}

/// The parts that a reload takes up anew, and their sources.
struct Reloads {
    live: Live,
    given: Given,
    backends: Followed,
}

impl Reloads {
    /// Reads the settings again with each SIGHUP. Those that arrive during a reload are one.
    async fn run(self, mut hangups: Hangups, stop: Stop) {
        loop {
            tokio::select! {
                _ = stop.wait() => return,
                hangup = hangups.recv() => if hangup.is_none() { return },
            }
            systemd::reload::begun();
            match self.reload().await {
                Ok(()) => {
                    tracing::info!("the settings were taken up anew");
                    systemd::reload::done("the settings were taken up anew");
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(error, "not all settings were taken up; the others stay");
                    systemd::reload::done(&format!("not all settings were taken up: {error}"));
                }
            }
        }
    }

    /// Takes up the instances, and what the front can take up.
    async fn reload(&self) -> anyhow::Result<()> {
        let given = self.given.clone();
        // Files are read, and names of listeners looked up, without holding up this thread.
        let read = tokio::task::spawn_blocking(move || {
            let settings = Settings::read(&given.read()?, Role::Edge)?;
            let backends = read_backends(&settings)?;
            anyhow::Ok((settings, backends))
        });
        let (settings, backends) = read.await.context("reading the settings failed")??;
        self.backends.replace(backends)?;
        self.live.take_up(&settings)
    }
}

fn read_backends(settings: &Settings) -> anyhow::Result<Backends> {
    let edge = &settings.edge;
    Backends::read(&edge.backends, edge.backend_ca.as_deref(), &settings.zone)
}

fn running(listening: &Listening, certificate: Option<PathBuf>) -> Running {
    Running {
        https: listening.https,
        http: listening.http,
        plain: listening.plain,
        certificate: listening.https.and(certificate),
        ..Running::nowhere("edge")
    }
}

fn banner(front: &Front) {
    let Listening { https, http, plain } = front.listening;
    let mut text = format!("The edge of Inlet {} is up.\n\n", env!("CARGO_PKG_VERSION"));
    let doors = [("HTTPS", "https", https), ("Redirect", "http", http), ("No TLS", "http", plain)];
    for (name, scheme, address) in doors {
        if let Some(address) = address.map(crate::client::address::reachable) {
            text.push_str(&format!("  {name:<12} {scheme}://{address}\n"));
        }
    }
    for status in front.edge.status() {
        let (id, zone, address) = (status.id, status.zone, status.address);
        text.push_str(&format!("  {:<12} {id} at {address} in zone {zone}\n", "Instance"));
    }
    text.push_str("\n/edge/status and /edge/metrics say how it stands, to this machine.\n");
    text.push_str("Stop with Ctrl-C; what was taken is answered.");
    report::data(text).unwrap_or_else(|error| report::say(format_args!("{error:#}")));
}
