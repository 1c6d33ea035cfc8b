//! The doors, and the threads that serve them.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context;
use inlet_adapters::queue::LogQueue;
use inlet_core::ports::{Clock, SystemClock};
use inlet_http::App;
use inlet_server::{Lane, Server, ServerOptions, Shutdown, TlsCertificates, Transport};
use tokio::task::JoinSet;

use super::persist::chain;
use super::stop::{Reason, Stop};
use super::watch;
use crate::certificate::{self, CertificateFiles};
use crate::config::Settings;
use crate::data::DataDirectory;
use crate::report::Hinted;
use crate::wire::{self, WiredQueue};

/// How many connections the system may hold for us before they are accepted.
const BACKLOG: i32 = 4_096;

/// Sockets that listen.
#[derive(Debug)]
pub(super) struct Doors {
    pub(super) https: Option<TcpListener>,
    pub(super) http: Option<TcpListener>,
    pub(super) plain: Option<TcpListener>,
}

/// Where they listen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listening {
    pub(super) https: Option<SocketAddr>,
    pub(super) http: Option<SocketAddr>,
    pub(super) plain: Option<SocketAddr>,
}

impl Doors {
    /// Takes the addresses of the settings.
    pub(super) fn open(settings: &Settings) -> anyhow::Result<Self> {
        if settings.https.is_none() && settings.plain.is_none() {
            let hint = "give an address with --https, or with --plain behind a proxy";
            return Err(Hinted::usage("there is nowhere to listen", hint).into());
        }
        let open = |name, address: Option<SocketAddr>| {
            address.map(|address| listen(name, address)).transpose()
        };
        Ok(Self {
            https: open("https", settings.https)?,
            // Without HTTPS there is nothing to redirect to.
            http: open("http", settings.http.filter(|_| settings.https.is_some()))?,
            plain: open("plain", settings.plain)?,
        })
    }

    /// The addresses, with the ports that the system chose for port 0.
    pub(super) fn listening(&self) -> anyhow::Result<Listening> {
        let address = |listener: &Option<TcpListener>| {
            listener.as_ref().map(TcpListener::local_addr).transpose()
        };
        Ok(Listening {
            https: address(&self.https)?,
            http: address(&self.http)?,
            plain: address(&self.plain)?,
        })
    }
}

fn listen(name: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    bind(address).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!("another process listens there; choose one with --{name}, port 0 for any")
            }
            std::io::ErrorKind::PermissionDenied => {
                format!("ports below 1024 need the right to; choose one with --{name}")
            }
            _ => format!("choose an address of this machine with --{name}"),
        };
        Hinted::new(format!("could not listen on {address}: {error}"), hint).into()
    })
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
    let family = match address.ip() {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // A stopped server's connections linger for a minute; they must not keep the next one out.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// Starts the threads that serve. The first one also drives the log.
pub(super) fn start(
    settings: &Settings,
    data: &DataDirectory,
    doors: Doors,
    app: Arc<App>,
    queue: &WiredQueue,
    stop: &Stop,
) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let mut options = ServerOptions {
        connections_max: settings.connections_max,
        connections_per_address_max: settings.connections_per_address_max,
        ..ServerOptions::default()
    };
    options.deadlines.drain = settings.shutdown;
    let server = Server::new(app, options.within_file_limit());
    let listening = doors.listening()?;
    let mut lanes: Vec<Vec<Lane<App>>> = (0..settings.threads).map(|_| Vec::new()).collect();
    let mut spread = |listener: Option<TcpListener>, transport: Transport| {
        let Some(listener) = listener else { return Ok(()) };
        let count = settings.threads;
        for (thread, lane) in lanes.iter_mut().zip(server.lanes(listener, transport, count)?) {
            thread.push(lane);
        }
        anyhow::Ok(())
    };
    if let Some(https) = listening.https {
        let certificates = certificates(settings, data, &[https.ip()], stop)?;
        spread(doors.https, Transport::Tls(certificates))?;
        spread(doors.http, Transport::Redirect { https_port: https.port() })?;
    }
    spread(doors.plain, Transport::Plain)?;

    let shutdown = Shutdown::new();
    tokio::spawn({
        let (shutdown, stop) = (shutdown.clone(), stop.clone());
        async move {
            stop.wait().await;
            shutdown.begin();
        }
    });
    let mut threads = Vec::new();
    for (index, lanes) in lanes.into_iter().enumerate() {
        let driven = (index == 0).then(|| queue.log.clone()).flatten();
        let (shutdown, stop) = (shutdown.clone(), stop.clone());
        let runtime = wire::runtime()?;
        let thread = std::thread::Builder::new()
            .name(format!("serve-{index}"))
            .spawn(move || runtime.block_on(serve(lanes, driven, shutdown, stop)))
            .context("could not start a serving thread")?;
        threads.push(thread);
    }
    Ok(threads)
}

/// Serves until the shutdown is through, then closes the log.
async fn serve(
    lanes: Vec<Lane<App>>,
    driven: Option<Arc<LogQueue>>,
    shutdown: Shutdown,
    stop: Stop,
) {
    let driver = driven.as_ref().and_then(|log| log.drive()).map(|drive| {
        let stop = stop.clone();
        tokio::spawn(async move {
            if let Err(failure) = drive.await {
                let why = chain(&failure);
                stop.now(Reason::Failed(format!("nothing more is acknowledged: {why}")));
            }
        })
    });
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
    stop: &Stop,
) -> anyhow::Result<TlsCertificates> {
    let own = settings.tls_files.is_none();
    let names = certificate::names(addresses);
    let directory = data.join("tls");
    let files = match settings.tls_files.clone() {
        Some((cert, key)) => CertificateFiles { cert, key },
        None => certificate::self_signed(&directory, &names, SystemClock.now())?.0,
    };
    let certificates = TlsCertificates::from_files(&files.cert, &files.key).map_err(|error| {
        anyhow::Error::new(error).context(Hinted::new(
            format!("could not use the certificate in {}", files.cert.display()),
            "tls_cert and tls_key are PEM files that belong together",
        ))
    })?;
    let reload = {
        let certificates = certificates.clone();
        move || certificates.reload().map(|_| ()).map_err(|error| error.to_string())
    };
    tokio::spawn(watch::files(vec![files.cert, files.key], reload, stop.clone()));
    if own {
        tokio::spawn(watch::every_day(
            move || match certificate::self_signed(&directory, &names, SystemClock.now()) {
                Ok((_, true)) => tracing::info!("the self-signed certificate was renewed"),
                Ok((_, false)) => {}
                Err(error) => tracing::warn!(error = %format!("{error:#}"), "not renewed"),
            },
            stop.clone(),
        ));
    }
    Ok(certificates)
}
