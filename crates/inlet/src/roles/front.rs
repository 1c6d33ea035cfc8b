//! The edge in a process, be it `edge` or `up`: what it is made from, and the threads that serve.

mod access_log;
mod backends;
mod live;
mod model;

use std::sync::Arc;
use std::time::Duration;

use inlet_edge::{
    AccessLog, DocumentIds, Edge, EdgeOptions, EdgeService, FilesOptions, MoreFigures, RetryOptions,
};
use inlet_server::{Lane, Server, ServerOptions, TlsCertificates};
use tokio::time::Instant;

pub(super) use self::backends::{Backends, Followed};
pub(super) use self::live::Live;

use super::doors::{Doors, Listening};
use super::serve;
use super::stop::Stop;
use super::watched::{Thread, Watched};
use crate::config::Settings;
use crate::data::DataDirectory;
use crate::report::Hinted;
use crate::tokens;

/// The path under which the folder of files is served.
const FILES_PREFIX: &str = "/static";
/// For how long clients may keep a file of that folder without asking again, in seconds.
const FILES_CACHE_S: u32 = 300;
/// The largest file that is compressed while it is served, in bytes.
const FILES_GZIP_BYTES_MAX: u64 = 1 << 20;

/// How long the last lines of the access log may take to be written.
const LOG_WITHIN: Duration = Duration::from_secs(5);

/// An edge at its doors.
pub(super) struct Front {
    /// It takes instances by `set_backends`, and lets go of one by `drain`.
    pub(super) edge: Edge,
    /// What it takes up of other settings while it runs.
    pub(super) live: Live,
    pub(super) listening: Listening,
    /// What is served once there are instances.
    lanes: Vec<Vec<Lane<EdgeService>>>,
    threads: Vec<Thread>,
    log: Option<AccessLog>,
    shutdown_max: Duration,
    watched: Watched,
    stop: Stop,
}

/// Whose instances an edge is before.
pub(super) enum Instances {
    /// Those of others; the zone is the one that the edge is in, if it is in one.
    Elsewhere { zone: Option<String> },
    /// Its own, for which it mints the ids of documents.
    Own(DocumentIds),
}

impl Front {
    /// An edge that serves nobody yet. `more_figures` are shown with its own.
    ///
    /// Certificates, firewall rules, plans and error pages are taken up anew when their files
    /// change.
    pub(super) fn new(
        settings: &Settings,
        data: &DataDirectory,
        doors: Doors,
        instances: Instances,
        more_figures: MoreFigures,
        watched: &Watched,
        stop: &Stop,
    ) -> anyhow::Result<Self> {
        let listening = doors.listening()?;
        let certificates = match listening.https {
            Some(https) => Some(serve::certificates(settings, data, &[https.ip()], watched, stop)?),
            None => None,
        };
        let (zone, document_ids) = match instances {
            Instances::Elsewhere { zone } => (zone, None),
            Instances::Own(ids) => (None, Some(ids)),
        };
        let log = access_log::open(settings.edge.access_log.as_deref(), watched)?;
        let options = options(settings, zone, certificates.as_ref(), log.clone())?;
        let edge = Edge::new(EdgeOptions { document_ids, ..options }).map_err(|error| {
            let hint = "see the files named by --firewall, --pages and --static";
            anyhow::Error::new(error).context(Hinted::usage("the edge could not start", hint))
        })?;
        let live = Live::new(edge.clone(), settings);
        live.follow(watched, stop);
        let service = EdgeService::new(edge.clone(), more_figures, tokens::outside()?.as_deref());
        let server = Server::new(Arc::new(service), server_options(settings));
        let lanes = serve::lanes(&server, settings, doors, certificates)?;
        let (threads, watched, stop) = (Vec::new(), watched.clone(), stop.clone());
        let shutdown_max = settings.shutdown + LOG_WITHIN;
        Ok(Self { edge, live, listening, lanes, threads, log, shutdown_max, watched, stop })
    }

    /// Begins to serve. Clients that have connected before wait until then, so it is called when
    /// there are instances. From the stop on no more connections are taken, and what was taken is
    /// answered.
    pub(super) fn serve(&mut self) -> anyhow::Result<()> {
        let shutdown = serve::begun_with(&self.watched, &self.stop);
        // On a thread of its own, which outlives those that serve: each of them ends with its last
        // connection.
        let edge = self.edge.clone();
        self.watched.restarted_thread("health-checks", move || {
            let edge = edge.clone();
            async move { edge.run().await }
        })?;
        for (index, lanes) in std::mem::take(&mut self.lanes).into_iter().enumerate() {
            let (shutdown, stop) = (shutdown.clone(), self.stop.clone());
            let name = format!("edge-{index}");
            let serve = move || serve::serve_lanes(lanes, shutdown, stop);
            self.threads.push(self.watched.essential_thread(name, serve)?);
        }
        Ok(())
    }

    /// Waits until everything that was taken is answered, after the stop.
    pub(super) async fn ended(self) -> anyhow::Result<()> {
        let until = Instant::now() + self.shutdown_max;
        for thread in self.threads {
            thread.join(until).await?;
        }
        if let Some(log) = self.log
            && !tokio::task::spawn_blocking(move || log.flush(LOG_WITHIN)).await?
        {
            tracing::warn!("the last lines of the access log could not be written");
        }
        Ok(())
    }
}

/// As many connections as the settings allow and the process may open, of which instances need as
/// many again.
fn server_options(settings: &Settings) -> ServerOptions {
    let mut options = serve::options(settings);
    options.connections_max = options.connections_max.saturating_mul(2);
    let mut options = options.within_file_limit();
    options.connections_max = (options.connections_max / 2).max(1);
    options
}

fn options(
    settings: &Settings,
    zone: Option<String>,
    certificates: Option<&TlsCertificates>,
    access_log: Option<AccessLog>,
) -> anyhow::Result<EdgeOptions> {
    let edge = &settings.edge;
    // A browser that was told so lets nobody past a certificate that it does not trust.
    let is_trusted = certificates.is_some_and(|certificates| !certificates.is_self_signed());
    let trusted_proxies = edge.trusted_proxies.iter().map(|network| {
        network.parse().map_err(|_| {
            let hint = "give a network as in 10.0.0.0/8";
            Hinted::usage(format!("{network:?} in trusted_proxy is no network"), hint).into()
        })
    });
    Ok(EdgeOptions {
        zone,
        lanes: settings.threads,
        routes: model::routes(&settings.limits),
        firewall: edge.firewall.clone(),
        plans: live::plans(edge.plans.as_deref())?,
        files: edge.files.clone().map(|folder| FilesOptions {
            folder,
            prefix: FILES_PREFIX.to_owned(),
            cache_s: FILES_CACHE_S,
            gzip_bytes_max: FILES_GZIP_BYTES_MAX,
        }),
        pages: settings.pages.clone(),
        trusted_proxies: trusted_proxies.collect::<anyhow::Result<_>>()?,
        hsts_s: Some(edge.hsts_s).filter(|seconds| *seconds > 0 && is_trusted),
        retry: RetryOptions { mints_keys: edge.mints_keys, ..RetryOptions::default() },
        access_log,
        ..EdgeOptions::default()
    })
}
