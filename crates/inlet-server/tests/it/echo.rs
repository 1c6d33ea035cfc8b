//! A service that does what the path of a request says, and a client that sends what it is told.

use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use inlet_server::{
    Body, BodyError, ConnectionCounters, Deadlines, Peer, Refusal, Server, ServerOptions, Service,
    Shutdown,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The body of an answer: pieces, of which the sum is told beforehand or not.
pub(crate) struct Pieces {
    pieces: Vec<Bytes>,
    is_announced: bool,
    is_broken: bool,
}

impl Pieces {
    fn whole(bytes: impl Into<Bytes>) -> Self {
        Self { pieces: vec![bytes.into()], is_announced: true, is_broken: false }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("broken, for this test")]
pub(crate) struct Broken;

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.pieces.is_empty() {
            return Poll::Ready(self.is_broken.then_some(Err(Broken)));
        }
        let piece = self.pieces.remove(0);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        let bytes = self.pieces.iter().map(Bytes::len).sum::<usize>() as u64;
        if self.is_announced { SizeHint::with_exact(bytes) } else { SizeHint::default() }
    }
}

/// Does what the path of a request says.
#[derive(Default)]
pub(crate) struct Echo {
    pub(crate) counters: ConnectionCounters,
    /// `METHOD PATH` of each request, in the order in which they came.
    pub(crate) asked: Mutex<Vec<String>>,
    /// The notification that `/wait` waits for.
    pub(crate) gate: Notify,
    /// The outcomes of the bodies that `/hand-on` handed to another task.
    pub(crate) handed_on: Mutex<Vec<Result<usize, BodyError>>>,
}

async fn whole(mut body: Body) -> Result<Vec<u8>, BodyError> {
    let mut all = Vec::new();
    while let Some(piece) = body.piece().await {
        all.extend_from_slice(&piece?);
    }
    Ok(all)
}

impl Service for Echo {
    type Body = Pieces;

    async fn answer(self: Arc<Self>, request: Request<Body>, peer: Peer) -> Response<Pieces> {
        let (head, body) = request.into_parts();
        self.asked.lock().unwrap().push(format!("{} {}", head.method, head.uri.path()));
        let status = |code: u16, body: Pieces| {
            let mut answer = Response::new(body);
            *answer.status_mut() = StatusCode::from_u16(code).unwrap();
            answer
        };
        match head.uri.path() {
            "/refuse" => status(401, Pieces::whole("refused")),
            "/peer" => status(200, Pieces::whole(peer.address.to_string())),
            "/204" => status(204, Pieces::whole("")),
            "/304" => status(304, Pieces::whole("never sent")),
            "/wait" => {
                self.gate.notified().await;
                status(200, Pieces::whole("waited"))
            }
            "/chunks" => {
                let pieces = ["a", "", "bc"].map(Bytes::from).to_vec();
                status(200, Pieces { pieces, is_announced: false, is_broken: false })
            }
            "/broken" => {
                let pieces = vec![Bytes::from_static(b"half")];
                status(200, Pieces { pieces, is_announced: false, is_broken: true })
            }
            "/short" => {
                let mut answer =
                    status(200, Pieces { is_announced: false, ..Pieces::whole("abc") });
                answer.headers_mut().insert("content-length", 5.into());
                answer
            }
            "/large" => status(200, Pieces::whole(vec![b'x'; 1 << 20])),
            "/close" => {
                let mut answer = status(200, Pieces::whole("closing"));
                answer.headers_mut().insert("connection", "close".parse().unwrap());
                answer
            }
            "/hand-on" => {
                let reading = tokio::spawn(async move { whole(body).await.map(|all| all.len()) });
                let read = reading.await.unwrap();
                self.handed_on.lock().unwrap().push(read);
                status(200, Pieces::whole(format!("{read:?}")))
            }
            _ => match whole(body).await {
                Ok(body) => status(200, Pieces::whole(body)),
                Err(error) => status(400, Pieces::whole(format!("{error}"))),
            },
        }
    }

    fn refuse(&self, refusal: Refusal, _: Peer) -> Response<Pieces> {
        let mut answer = Response::new(Pieces::whole(format!("{refusal:?}")));
        *answer.status_mut() = match refusal {
            Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
            Refusal::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Refusal::Late => StatusCode::REQUEST_TIMEOUT,
        };
        answer
    }

    fn counters(&self) -> &ConnectionCounters {
        &self.counters
    }
}

/// An answer as it came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

/// A client, its connection and the service at the other end.
pub(crate) struct Client {
    pub(crate) stream: DuplexStream,
    pub(crate) service: Arc<Echo>,
    pub(crate) shutdown: Shutdown,
    pub(crate) serving: JoinHandle<()>,
    received: Vec<u8>,
}

impl Client {
    pub(crate) fn connect() -> Self {
        Self::with(Deadlines::default(), 64 << 10)
    }

    /// A client between whom and the server `bytes` fit into the pipe, in each direction.
    pub(crate) fn with(deadlines: Deadlines, bytes: usize) -> Self {
        let service = Arc::new(Echo::default());
        let options = ServerOptions { deadlines, ..ServerOptions::default() };
        let server = Server::new(Arc::clone(&service), options);
        let (stream, theirs) = duplex(bytes);
        let shutdown = Shutdown::new();
        let serving = tokio::spawn({
            let shutdown = shutdown.clone();
            let address = IpAddr::from(Ipv4Addr::LOCALHOST);
            async move { server.serve_stream(theirs, address, shutdown).await }
        });
        Self { stream, service, shutdown, serving, received: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next answer.
    pub(crate) async fn answer(&mut self) -> Answer {
        self.answer_to("GET").await
    }

    /// The next answer, to a request of that method.
    pub(crate) async fn answer_to(&mut self, method: &str) -> Answer {
        let head = self.through(b"\r\n\r\n").await;
        let mut answer = Answer { head: String::from_utf8(head).unwrap(), body: String::new() };
        let has_body = method != "HEAD" && ![100, 204, 304].contains(&answer.status());
        let mut body = Vec::new();
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let line = String::from_utf8(self.through(b"\r\n").await).unwrap();
                let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
                body.extend(self.take(size).await);
                assert_eq!(self.take(2).await, b"\r\n");
                if size == 0 {
                    break;
                }
            }
        } else if has_body && let Some(length) = answer.header("content-length") {
            body = self.take(length.parse().unwrap()).await;
        }
        answer.body = String::from_utf8(body).unwrap();
        answer
    }

    /// All that is left, until the server closes.
    pub(crate) async fn rest(&mut self) -> String {
        while self.read().await {}
        String::from_utf8(std::mem::take(&mut self.received)).unwrap()
    }

    async fn through(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.received.windows(end.len()).position(|bytes| bytes == end) {
                return self.received.drain(..at + end.len()).collect();
            }
            assert!(self.read().await, "cut off: {:?}", String::from_utf8_lossy(&self.received));
        }
    }

    async fn take(&mut self, bytes: usize) -> Vec<u8> {
        while self.received.len() < bytes {
            assert!(self.read().await, "cut off in a body");
        }
        self.received.drain(..bytes).collect()
    }

    async fn read(&mut self) -> bool {
        self.stream.read_buf(&mut self.received).await.unwrap_or(0) > 0
    }
}

/// A request with a body of that length.
pub(crate) fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}
