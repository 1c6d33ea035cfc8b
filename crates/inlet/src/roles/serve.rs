//! The threads that serve at the doors.

use std::net::{IpAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use inlet_adapters::queue::LogQueue;
use inlet_core::ports::{Clock, SystemClock};
use inlet_http::App;
use inlet_server::{Lane, Server, ServerOptions, Service, Shutdown, TlsCertificates, Transport};
use tokio::task::JoinSet;

use super::doors::Doors;
use super::stop::{Reason, Stop};
use super::watch;
use super::watched::{Thread, Watched};
use crate::certificate::{self, CertificateFiles};
use crate::config::Settings;
use crate::data::DataDirectory;
use crate::report::Hinted;
use crate::wire::WiredQueue;

/// Room that an instance has for what an edge adds to a head: bytes and lines.
const ADDED_BY_EDGE: (usize, usize) = (4 << 10, 12);

/// A lane for each listener, by the thread that serves them.
type Lanes<S> = Vec<Vec<Lane<S>>>;

/// Starts the threads that serve. The first one also drives the log.
pub(super) fn start(
    settings: &Settings,
    data: &DataDirectory,
    doors: Doors,
    app: Arc<App>,
    queue: &WiredQueue,
    watched: &Watched,
    stop: &Stop,
) -> anyhow::Result<Vec<Thread>> {
    let mut options = options(settings).within_file_limit();
    options.head_bytes_max += ADDED_BY_EDGE.0;
    options.head_lines_max += ADDED_BY_EDGE.1;
    let server = Server::new(app, options);
    let listening = doors.listening()?;
    let certificates = match listening.https {
        Some(https) => Some(certificates(settings, data, &[https.ip()], watched, stop)?),
        None => None,
    };
    let lanes = lanes(&server, settings, doors, certificates)?;
    let shutdown = begun_with(watched, stop);
    let mut threads = Vec::new();
    for (index, lanes) in lanes.into_iter().enumerate() {
        let driven = (index == 0).then(|| queue.log.clone()).flatten();
        let (shutdown, stop) = (shutdown.clone(), stop.clone());
        let serving = watched.clone();
        threads.push(watched.essential_thread(format!("serve-{index}"), move || {
            serve(lanes, driven, shutdown, serving, stop)
        })?);
    }
    Ok(threads)
}

/// The file of the certificate chain that the settings name, or of our own; absolute.
pub(super) fn certificate_path(settings: &Settings, data: &DataDirectory) -> Option<PathBuf> {
    let given = settings.tls_files.as_ref().map(|(cert, _)| cert.clone());
    given.unwrap_or_else(|| data.join("tls/cert.pem")).canonicalize().ok()
}

/// The limits of a server.
pub(super) fn options(settings: &Settings) -> ServerOptions {
    let mut options = ServerOptions {
        connections_max: settings.connections_max,
        connections_per_address_max: settings.connections_per_address_max,
        ..ServerOptions::default()
    };
    options.deadlines.idle = settings.idle;
    options.deadlines.drain = settings.shutdown;
    options
}

/// Spreads the connections of all doors over the threads. Without certificates HTTPS is not spoken,
/// and nothing is redirected to it. Balancers of the setting `proxy_protocol` are believed at each.
pub(super) fn lanes<S: Service>(
    server: &Server<S>,
    settings: &Settings,
    doors: Doors,
    certificates: Option<TlsCertificates>,
) -> anyhow::Result<Lanes<S>> {
    let https = doors.listening()?.https;
    let mut lanes: Lanes<S> = (0..settings.threads).map(|_| Vec::new()).collect();
    let mut spread = |listener: Option<TcpListener>, transport: Transport| {
        let Some(listener) = listener else { return Ok(()) };
        let networks = settings.proxy_protocol.iter().map(|network| {
            network.parse().map_err(|_| {
                let hint = "give a network as in 10.0.0.0/8";
                Hinted::usage(format!("{network:?} in proxy_protocol is no network"), hint)
            })
        });
        let networks = networks.collect::<Result<_, Hinted>>()?;
        let spread = server.lanes_behind(networks, listener, transport, settings.threads)?;
        for (thread, lane) in lanes.iter_mut().zip(spread) {
            thread.push(lane);
        }
        anyhow::Ok(())
    };
    if let (Some(certificates), Some(https)) = (certificates, https) {
        spread(doors.https, Transport::Tls(certificates))?;
        spread(doors.http, Transport::Redirect { https_port: https.port() })?;
    }
    spread(doors.plain, Transport::Plain)?;
    Ok(lanes)
}

/// A shutdown that begins with the stop.
pub(super) fn begun_with(watched: &Watched, stop: &Stop) -> Shutdown {
    let shutdown = Shutdown::new();
    watched.essential_task("shutdown", {
        let (shutdown, stop) = (shutdown.clone(), stop.clone());
        move || async move {
            stop.wait().await;
            shutdown.begin();
        }
    });
    shutdown
}

/// Serves until the shutdown is through.
pub(super) async fn serve_lanes<S: Service>(lanes: Vec<Lane<S>>, shutdown: Shutdown, stop: Stop) {
    let mut serving = JoinSet::new();
    for lane in lanes {
        serving.spawn(lane.serve(shutdown.clone()));
    }
    while let Some(served) = serving.join_next().await {
        match served {
            Ok(Ok(())) => {}
            Ok(Err(error)) => stop.now(Reason::Failed(format!("could not serve: {error}"))),
            Err(error) => stop.now(Reason::Failed(format!("a serving task failed: {error}"))),
        }
    }
}

/// Serves until the shutdown is through, then closes the log.
async fn serve(
    lanes: Vec<Lane<App>>,
    driven: Option<Arc<LogQueue>>,
    shutdown: Shutdown,
    watched: Watched,
    stop: Stop,
) {
    let driver = driven.as_ref().and_then(|log| log.drive()).map(|drive| {
        let stop = stop.clone();
        watched.essential_task("log", move || async move {
            if let Err(failure) = drive.await {
                let why = failure.chain();
                stop.now(Reason::Failed(format!("nothing more is acknowledged: {why}")));
            }
        })
    });
    serve_lanes(lanes, shutdown, stop).await;
    if let (Some(log), Some(driver)) = (driven, driver) {
        log.close().await;
        if let Err(error) = driver.await {
            tracing::error!(%error, "the log's driver failed");
        }
    }
}

/// The certificate of the settings, or one of our own; taken up anew when its files change.
pub(super) fn certificates(
    settings: &Settings,
    data: &DataDirectory,
    addresses: &[IpAddr],
    watched: &Watched,
    stop: &Stop,
) -> anyhow::Result<TlsCertificates> {
    let own = settings.tls_files.is_none();
    let names = certificate::names(addresses);
    let directory = data.join("tls");
    let files = match settings.tls_files.clone() {
        Some((cert, key)) => CertificateFiles { cert, key },
        None => certificate::self_signed(&directory, &names, SystemClock.now())?.0,
    };
    let read = match &settings.tls_dir {
        None => TlsCertificates::from_files(&files.cert, &files.key),
        Some(folder) => TlsCertificates::from_files_and_folder(&files.cert, &files.key, folder),
    };
    let certificates = read.map_err(|error| {
        anyhow::Error::new(error).context(Hinted::new(
            format!("could not use the certificate in {}", files.cert.display()),
            "tls_cert and tls_key, and X.pem and X.key in tls_dir, are PEM files that belong \
             together",
        ))
    })?;
    let reload = {
        let certificates = certificates.clone();
        move || certificates.reload().map(|_| ()).map_err(|error| error.to_string())
    };
    let files = {
        let certificates = certificates.clone();
        move || certificates.files()
    };
    watched.restarted_task("certificates", {
        let stop = stop.clone();
        move || watch::changes(files.clone(), reload.clone(), stop.clone())
    });
    if own {
        let renew = move || match certificate::self_signed(&directory, &names, SystemClock.now()) {
            Ok((_, true)) => tracing::info!("the self-signed certificate was made anew"),
            Ok((_, false)) => {}
            Err(error) => tracing::warn!(error = %format!("{error:#}"), "not renewed"),
        };
        let stop = stop.clone();
        watched.restarted_task("renewal", move || watch::every_minute(renew.clone(), stop.clone()));
    }
    Ok(certificates)
}
