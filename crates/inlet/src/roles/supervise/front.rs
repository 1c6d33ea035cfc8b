//! The edge in the process of `up`: its doors and the threads that serve them.
//!
//! It keeps deadlines for handshakes and heads, and a cap on connections. It has none yet for slow
//! bodies and slow readers, no cap an address, and leaves the framing of messages to hyper: what
//! the instances' own server checks, before which hyper writes every message anew.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, LOCATION};
use http::{HeaderValue, Response, StatusCode, Uri};
use http_body_util::{Either, Empty, Full};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use inlet_edge::firewall::Route;
use inlet_edge::{Edge, EdgeBody, EdgeOptions, Peer};
use inlet_http::routes::{Endpoint, ROUTES};
use inlet_server::{ServerOptions, TlsCertificates};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::metrics::Figures;
use crate::config::Settings;
use crate::data::DataDirectory;
use crate::roles::serve::{self, Doors, Listening};
use crate::roles::stop::Stop;
use crate::wire;

/// How long a handshake may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// How long a head may take to come, and how long a connection may be idle.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// The largest head, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// How many streams a client of HTTP/2 may have open.
const STREAMS_MAX: u32 = 128;
/// How long accepting pauses when the system gives no more sockets.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the figures of the edge and of all children are.
const FIGURES_PATH: &str = "/edge/metrics";
const FIGURES_TYPE: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

type AnswerBody = Either<EdgeBody, Full<Bytes>>;

/// A running edge.
pub(super) struct Front {
    pub(super) edge: Edge,
    pub(super) listening: Listening,
    threads: Vec<JoinHandle<()>>,
}

/// What is spoken at a door.
#[derive(Clone)]
enum Transport {
    Tls(TlsAcceptor),
    Plain,
    Redirect(u16),
}

/// What all connections share.
#[derive(Clone)]
struct Serving {
    edge: Edge,
    figures: Figures,
    places: Arc<Semaphore>,
    shutdown: Duration,
    stop: Stop,
}

impl Front {
    /// Starts the edge, without instances yet.
    pub(super) fn start(
        settings: &Settings,
        data: &DataDirectory,
        doors: Doors,
        figures: Figures,
        stop: &Stop,
    ) -> anyhow::Result<Self> {
        let listening = doors.listening()?;
        let edge = Edge::new(EdgeOptions {
            lanes: settings.threads,
            routes: routes(),
            pages: settings.pages.clone(),
            ..EdgeOptions::default()
        })?;
        let serving = Serving {
            edge: edge.clone(),
            figures,
            places: Arc::new(Semaphore::new(connections_max(settings))),
            shutdown: settings.shutdown,
            stop: stop.clone(),
        };
        let mut open = Vec::new();
        if let Some(https) = listening.https {
            let certificates = serve::certificates(settings, data, &[https.ip()], stop)?;
            open.push((doors.https, Transport::Tls(TlsCertificates::acceptor(&certificates))));
            open.push((doors.http, Transport::Redirect(https.port())));
        }
        open.push((doors.plain, Transport::Plain));
        let open: Vec<(StdListener, Transport)> =
            open.into_iter().filter_map(|(door, spoken)| Some((door?, spoken))).collect();
        let mut threads = Vec::new();
        for index in 0..settings.threads {
            let mut doors = Vec::new();
            for (door, spoken) in &open {
                door.set_nonblocking(true)?;
                doors.push((door.try_clone()?, spoken.clone()));
            }
            let (serving, runtime) = (serving.clone(), wire::runtime()?);
            let thread = std::thread::Builder::new()
                .name(format!("edge-{index}"))
                .spawn(move || runtime.block_on(serving.serve(doors, index == 0)))
                .context("could not start a thread of the edge")?;
            threads.push(thread);
        }
        Ok(Self { edge, listening, threads })
    }

    /// Waits until everything that was taken is answered, after the stop.
    pub(super) async fn ended(self) -> anyhow::Result<()> {
        for thread in self.threads {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await?;
            joined.map_err(|_| anyhow::anyhow!("a thread of the edge panicked"))?;
        }
        Ok(())
    }
}

/// As many as the settings allow and the process may open, of which instances need as many again.
fn connections_max(settings: &Settings) -> usize {
    let connections_max = settings.connections_max.saturating_mul(2);
    let options = ServerOptions { connections_max, ..ServerOptions::default() };
    (options.within_file_limit().connections_max / 2).max(1)
}

/// What instances answer, and nothing else. How large a body may be is theirs to say: a reload can
/// change it.
fn routes() -> Vec<Route> {
    let route = |route: &inlet_http::routes::Route| Route {
        method: route.method.clone(),
        path: route.path.to_owned(),
        content_types: Vec::new(),
        body_bytes_max: u64::MAX,
        is_keyed: route.endpoint == Endpoint::Save,
    };
    ROUTES.iter().map(route).collect()
}

impl Serving {
    async fn serve(self, doors: Vec<(StdListener, Transport)>, keeps: bool) {
        if keeps {
            let edge = self.edge.clone();
            // It ends with the runtime, when everything is answered.
            tokio::spawn(async move { edge.run().await });
        }
        let mut accepting = JoinSet::new();
        for (door, spoken) in doors {
            accepting.spawn(self.clone().accept(door, spoken));
        }
        while let Some(accepted) = accepting.join_next().await {
            if let Err(error) = accepted {
                tracing::error!(%error, "a door of the edge failed");
            }
        }
    }

    /// Takes connections until the stop, and waits until they are over.
    async fn accept(self, door: StdListener, spoken: Transport) {
        let door = match TcpListener::from_std(door) {
            Ok(door) => door,
            Err(error) => return tracing::error!(%error, "a door of the edge can't be used"),
        };
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = self.stop.wait() => break,
                Some(_) = connections.join_next() => continue,
                accepted = door.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection; pausing");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Without a place it is closed at once.
            if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
                let (serving, spoken) = (self.clone(), spoken.clone());
                connections.spawn(async move {
                    serving.connection(stream, peer, spoken).await;
                    drop(place);
                });
            }
        }
        drop(door);
        let over = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(self.shutdown, over).await.is_err() {
            tracing::warn!("the time to finish is over; connections that are left are closed");
        }
    }

    async fn connection(&self, stream: TcpStream, peer: SocketAddr, spoken: Transport) {
        if stream.set_nodelay(true).is_err() {
            // It is closed already.
            return;
        }
        match spoken {
            Transport::Plain => {
                self.http1(stream, Peer { address: peer.ip(), is_tls: false }).await;
            }
            Transport::Tls(acceptor) => {
                let handshake = tokio::time::timeout(HANDSHAKE_WITHIN, acceptor.accept(stream));
                let Ok(Ok(stream)) = handshake.await else { return };
                let peer = Peer { address: peer.ip(), is_tls: true };
                if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    self.http2(stream, peer).await;
                } else {
                    self.http1(stream, peer).await;
                }
            }
            Transport::Redirect(port) => self.redirect(stream, port).await,
        }
    }

    async fn call(&self, request: Request<Incoming>, peer: Peer) -> Response<AnswerBody> {
        // Of the whole machine, and so for this machine only.
        if request.uri().path() == FIGURES_PATH && peer.address.to_canonical().is_loopback() {
            let mut answer = Response::new(Either::Right(self.figures.text(&self.edge).into()));
            answer.headers_mut().insert(CONTENT_TYPE, FIGURES_TYPE);
            return answer;
        }
        self.edge.call(request, peer).await.map(Either::Left)
    }

    async fn http1(&self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static, peer: Peer) {
        let service = service_fn(|request: Request<Incoming>| async move {
            Ok::<_, Infallible>(self.call(request, peer).await)
        });
        let mut connection = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_WITHIN)
                .max_buf_size(HEAD_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), service)
        );
        let served = tokio::select! {
            served = connection.as_mut() => served,
            _ = self.stop.wait() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        said(served);
    }

    async fn http2(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: Peer,
    ) {
        let service = service_fn(move |request: Request<Incoming>| {
            let serving = self.clone();
            async move { Ok::<_, Infallible>(serving.call(request, peer).await) }
        });
        let mut connection = pin!(
            http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS_MAX)
                .keep_alive_interval(HEAD_WITHIN)
                .serve_connection(TokioIo::new(stream), service)
        );
        let served = tokio::select! {
            served = connection.as_mut() => served,
            _ = self.stop.wait() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        said(served);
    }

    async fn redirect(&self, stream: TcpStream, port: u16) {
        let service = service_fn(|request: Request<Incoming>| async move {
            Ok::<_, Infallible>(redirected(request.headers().get(HOST), request.uri(), port))
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        said(connection.await);
    }
}

fn said(served: Result<(), hyper::Error>) {
    if let Err(error) = served {
        tracing::trace!(%error, "a connection broke");
    }
}

/// To the same host, path and query with TLS.
fn redirected(host: Option<&HeaderValue>, uri: &Uri, port: u16) -> Response<Empty<Bytes>> {
    let mut answer = Response::new(Empty::new());
    let host = host.and_then(|host| host.to_str().ok()).and_then(|host| {
        let authority: http::uri::Authority = host.parse().ok()?;
        Some(authority.host().to_owned())
    });
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let location = host.and_then(|host| {
        let port = if port == 443 { String::new() } else { format!(":{port}") };
        HeaderValue::try_from(format!("https://{host}{port}{path}")).ok()
    });
    match location {
        Some(location) => {
            *answer.status_mut() = StatusCode::PERMANENT_REDIRECT;
            answer.headers_mut().insert(LOCATION, location);
        }
        None => *answer.status_mut() = StatusCode::BAD_REQUEST,
    }
    answer
}
