//! An instance to stand behind the edge, which can be told to fail in many ways.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use inlet_edge::BackendOptions;
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// What an instance does with a request that is no check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Does {
    /// Answers with its id, and the request's body after it.
    Answer,
    /// Sends each piece of the body back as it comes.
    Echo,
    /// Answers with this status.
    Status(u16),
    /// Answers after a while.
    Slow(Duration),
    /// Reads the request and never answers.
    Hang,
    /// Reads the request and closes the connection.
    BreakOff,
    /// Answers to the first request of a connection, and breaks off at the second.
    BreakOffWhenReused,
    /// Announces 100 bytes, sends 10, and closes the connection.
    BreakOffInBody,
    /// Announces 100 bytes, sends 10, and is silent.
    HangInBody,
    /// Switches protocols without being asked to.
    Switch,
}

/// A request that reached an instance.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    /// The body, where it was read to its end.
    pub(crate) body: Option<Bytes>,
}

pub(crate) struct Instance {
    pub(crate) id: &'static str,
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    listening: AbortHandle,
}

struct State {
    id: &'static str,
    does: Mutex<Does>,
    is_ready: AtomicBool,
    is_silent: AtomicBool,
    connections: AtomicUsize,
    arrivals: AtomicUsize,
    seen: Mutex<Vec<Seen>>,
}

impl Instance {
    pub(crate) async fn start(id: &'static str) -> Self {
        Self::start_with(id, None).await
    }

    pub(crate) async fn start_with(id: &'static str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            id,
            does: Mutex::new(Does::Answer),
            is_ready: AtomicBool::new(true),
            is_silent: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            arrivals: AtomicUsize::new(0),
            seen: Mutex::default(),
        });
        let listening = tokio::spawn(listen(listener, state.clone(), tls)).abort_handle();
        Self { id, address, state, listening }
    }

    pub(crate) fn options(&self, zone: &str) -> BackendOptions {
        let (id, zone) = (self.id.to_owned(), zone.to_owned());
        BackendOptions { id, zone, address: self.address, tls: None }
    }

    pub(crate) fn does(&self, does: Does) {
        *self.state.does.lock().unwrap() = does;
    }

    /// Whether its check passes.
    pub(crate) fn is_ready(&self, is_ready: bool) {
        self.state.is_ready.store(is_ready, Ordering::Relaxed);
    }

    /// Answers nothing any more, not even checks, like a host that is cut off.
    pub(crate) fn falls_silent(&self) {
        self.state.is_silent.store(true, Ordering::Relaxed);
    }

    /// Closes its port and all connections, like a process that is killed.
    pub(crate) fn is_killed(&self) {
        self.listening.abort();
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.state.seen.lock().unwrap().len()
    }

    /// How many requests have arrived, be it with all of their bodies or not.
    pub(crate) fn arrivals(&self) -> usize {
        self.state.arrivals.load(Ordering::Relaxed)
    }

    /// How many connections carried a request that was no check.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }
}

async fn listen(listener: TcpListener, state: Arc<State>, tls: Option<TlsAcceptor>) {
    // Dropped with this task, and the connections with it.
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let state = state.clone();
        let tls = tls.clone();
        connections.spawn(async move {
            let requests = AtomicUsize::new(0);
            let service = service_fn(|request| {
                let number = requests.fetch_add(1, Ordering::Relaxed);
                let state = state.clone();
                async move { state.answer(request, number).await }
            });
            let http = hyper::server::conn::http1::Builder::new();
            match tls {
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        drop(http.serve_connection(TokioIo::new(stream), service).await);
                    }
                }
                None => drop(http.serve_connection(TokioIo::new(stream), service).await),
            }
        });
    }
}

#[derive(Debug, thiserror::Error)]
#[error("told to break off")]
struct BrokenOff;

type Answer = Response<BoxBody<Bytes, BrokenOff>>;

impl State {
    async fn answer(&self, request: Request<Incoming>, number: usize) -> Result<Answer, BrokenOff> {
        if self.is_silent.load(Ordering::Relaxed) {
            std::future::pending::<Infallible>().await;
        }
        if request.uri().path() == "/readyz" {
            let ready = self.is_ready.load(Ordering::Relaxed);
            return Ok(full(if ready { 200 } else { 503 }, Bytes::new()));
        }
        if number == 0 {
            self.connections.fetch_add(1, Ordering::Relaxed);
        }
        self.arrivals.fetch_add(1, Ordering::Relaxed);
        let (head, body) = request.into_parts();
        let does = *self.does.lock().unwrap();
        let seen = Seen {
            method: head.method,
            target: head.uri.to_string(),
            headers: head.headers,
            body: None,
        };
        if does == Does::Echo {
            self.seen.lock().unwrap().push(seen);
            return Ok(Response::new(body.map_err(|_| BrokenOff).boxed()));
        }
        let body = body.collect().await.ok().map(http_body_util::Collected::to_bytes);
        let text = [self.id.as_bytes(), b" ", body.as_deref().unwrap_or_default()].concat();
        self.seen.lock().unwrap().push(Seen { body, ..seen });
        match does {
            Does::Status(status) => return Ok(full(status, Bytes::from(text))),
            Does::Slow(time) => tokio::time::sleep(time).await,
            Does::Hang => std::future::pending().await,
            Does::BreakOff => return Err(BrokenOff),
            Does::BreakOffWhenReused if number > 0 => return Err(BrokenOff),
            Does::BreakOffInBody => return Ok(partial(false)),
            Does::HangInBody => return Ok(partial(true)),
            Does::Switch => {
                let mut answer = full(101, Bytes::new());
                answer.headers_mut().insert("upgrade", "x".parse().unwrap());
                answer.headers_mut().insert("connection", "upgrade".parse().unwrap());
                return Ok(answer);
            }
            Does::Answer | Does::Echo | Does::BreakOffWhenReused => {}
        }
        Ok(full(200, Bytes::from(text)))
    }
}

fn full(status: u16, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body).map_err(|never| match never {}).boxed());
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
}

fn partial(hangs: bool) -> Answer {
    let mut answer = Response::new(Partial { polls: 0, hangs }.boxed());
    answer.headers_mut().insert("content-length", "100".parse().unwrap());
    answer
}

struct Partial {
    polls: u32,
    hangs: bool,
}

impl Body for Partial {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        self.polls += 1;
        match self.polls {
            1 => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"0123456789"))))),
            // What there is is written out before the end.
            2 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ if self.hangs => Poll::Pending,
            _ => Poll::Ready(Some(Err(BrokenOff))),
        }
    }
}
