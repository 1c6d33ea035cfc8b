//! The load: connections, documents, and the clock.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio_rustls::TlsConnector;

use crate::client::address::Address;
use crate::report::Hinted;

/// The smallest document of a load, in bytes.
pub(super) const BODY_BYTES_MIN: usize = 64;
/// How many different documents are sent in turn.
const DOCUMENTS: usize = 64;
/// How long the wait until all is stored may take.
const STORED_WAIT_MAX: Duration = Duration::from_secs(600);

/// What is sent, and for how long.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) connections: usize,
    pub(super) body_bytes: usize,
    /// Documents in one request; 1 for a request a document.
    pub(super) batch: usize,
    pub(super) warm_up: Duration,
    pub(super) measured: Duration,
    pub(super) rate: Option<f64>,
    pub(super) stored: bool,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) latency_us: Histogram<u64>,
    pub(super) seconds: f64,
    pub(super) accepted: u64,
    /// Documents accepted in all, also before it was measured.
    pub(super) accepted_in_all: u64,
    pub(super) refused: u64,
    pub(super) errors: u64,
    pub(super) stored_per_second: Option<f64>,
    pub(super) queue_bytes_at_end: Option<u64>,
}

impl Outcome {
    /// Documents accepted a second while it was measured.
    pub(super) fn accepted_per_second(&self) -> f64 {
        self.accepted as f64 / self.seconds
    }
}

/// A server, how it is spoken to, and into which stream documents are sent.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) address: Address,
    pub(super) token: String,
    pub(super) tls: Arc<rustls::ClientConfig>,
    pub(super) stream: String,
}

/// What the connections share.
struct Shared {
    requests: Vec<Vec<u8>>,
    documents_a_request: u64,
    begins: Instant,
    measures: Instant,
    ends: Instant,
    /// Time between two documents that are due, in open loop.
    spacing: Option<Duration>,
    sent: u32,
    tally: Tally,
}

struct Tally {
    latency_us: Histogram<u64>,
    /// Accepted while it was measured, and in all.
    accepted: u64,
    accepted_in_all: u64,
    refused: u64,
    errors: u64,
}

impl Load {
    /// Sends the load to the server and counts what it answers.
    pub(super) async fn run(&self, target: &Target) -> anyhow::Result<Outcome> {
        let before = if self.stored { Some(target.documents().await?) } else { None };
        let begins = Instant::now();
        let shared = Rc::new(RefCell::new(Shared {
            requests: requests(target, self.body_bytes, self.batch),
            documents_a_request: self.batch as u64,
            begins,
            measures: begins + self.warm_up,
            ends: begins + self.warm_up + self.measured,
            spacing: self.rate.map(|rate| Duration::from_secs_f64(1.0 / rate)),
            sent: 0,
            tally: Tally {
                latency_us: Histogram::new_with_bounds(1, 600_000_000, 3)
                    .context("could not make a histogram")?,
                accepted: 0,
                accepted_in_all: 0,
                refused: 0,
                errors: 0,
            },
        }));
        let connections = LocalSet::new();
        for _ in 0..self.connections {
            let io = target
                .connect()
                .await
                .with_context(|| format!("could not reach {}", target.address))?;
            let shared = Rc::clone(&shared);
            connections.spawn_local(async move {
                if converse(io, &shared).await.is_err() {
                    shared.borrow_mut().tally.errors += 1;
                }
            });
        }
        connections.await;
        let shared = Rc::into_inner(shared).context("a connection is still open")?.into_inner();
        let (mut stored_per_second, mut queue_bytes_at_end) = (None, None);
        if let Some(before) = before {
            queue_bytes_at_end = Some(target.queue_bytes().await?);
            let wanted = before + shared.tally.accepted_in_all;
            target.wait_until_stored(wanted).await?;
            let took = begins.elapsed().as_secs_f64();
            stored_per_second = Some(shared.tally.accepted_in_all as f64 / took);
        }
        Ok(Outcome {
            latency_us: shared.tally.latency_us,
            seconds: self.measured.as_secs_f64(),
            accepted: shared.tally.accepted,
            accepted_in_all: shared.tally.accepted_in_all,
            refused: shared.tally.refused,
            errors: shared.tally.errors,
            stored_per_second,
            queue_bytes_at_end,
        })
    }
}

impl Shared {
    /// The moment at which the next document is due, and which one it is.
    fn next(&mut self) -> Option<(Instant, usize)> {
        let now = Instant::now();
        let due = self.spacing.map_or(now, |spacing| self.begins + spacing * self.sent);
        let index = self.sent as usize % self.requests.len();
        self.sent = self.sent.wrapping_add(1);
        (now < self.ends && due < self.ends).then_some((due, index))
    }

    fn answered(&mut self, due: Instant, status: u16) {
        let now = Instant::now();
        let measured = self.measures <= now && now < self.ends;
        let accepted = status == 202;
        let documents = if accepted { self.documents_a_request } else { 0 };
        self.tally.accepted_in_all += documents;
        if !measured {
            return;
        }
        if accepted {
            self.tally.accepted += documents;
            let micros = u64::try_from((now - due).as_micros()).unwrap_or(u64::MAX);
            self.tally.latency_us.saturating_record(micros);
        } else {
            self.tally.refused += 1;
        }
    }
}

/// Sends documents over one connection until the time is up.
async fn converse(mut io: Box<dyn Stream>, shared: &RefCell<Shared>) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(16 * 1024);
    let mut request = Vec::new();
    loop {
        let Some((due, index)) = shared.borrow_mut().next() else { return Ok(()) };
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
        }
        request.clear();
        request.extend_from_slice(&shared.borrow().requests[index]);
        io.write_all(&request).await?;
        io.flush().await?;
        let status = read_answer(&mut io, &mut buffer).await?.0;
        shared.borrow_mut().answered(due, status);
    }
}

/// Reads one answer: its status and its body.
async fn read_answer(io: &mut Box<dyn Stream>, buffer: &mut Vec<u8>) -> io::Result<(u16, Vec<u8>)> {
    buffer.clear();
    loop {
        if io.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut answer = httparse::Response::new(&mut headers);
        let invalid = |error: httparse::Error| io::Error::new(io::ErrorKind::InvalidData, error);
        let httparse::Status::Complete(head) = answer.parse(buffer).map_err(invalid)? else {
            continue;
        };
        let status = answer.code.unwrap_or(0);
        let length = answer
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case("content-length"))
            .and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<usize>().ok())
            .unwrap_or(0);
        while buffer.len() < head + length {
            if io.read_buf(buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        return Ok((status, buffer[head..head + length].to_vec()));
    }
}

impl Target {
    fn authority(&self) -> String {
        let (host, port) = (self.address.host(), self.address.port());
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    async fn connect(&self) -> anyhow::Result<Box<dyn Stream>> {
        let tcp = TcpStream::connect(self.authority()).await?;
        tcp.set_nodelay(true)?;
        if !self.address.is_tls() {
            return Ok(Box::new(tcp));
        }
        let name = ServerName::try_from(self.address.host().to_owned())?;
        Ok(Box::new(TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await?))
    }

    async fn get(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let mut io = self.connect().await?;
        let request = format!(
            "GET {}{path} HTTP/1.1\r\nHost: {}\r\nX-Auth-Token: {}\r\nConnection: close\r\n\r\n",
            self.address.path(),
            self.authority(),
            self.token
        );
        io.write_all(request.as_bytes()).await?;
        io.flush().await?;
        let (status, body) = read_answer(&mut io, &mut Vec::new()).await?;
        if status != 200 {
            let hint = "the token needs the scope `read` as well";
            return Err(Hinted::new(format!("GET {path} was answered {status}"), hint).into());
        }
        Ok(body)
    }

    /// The number of documents of the stream in the store.
    async fn documents(&self) -> anyhow::Result<u64> {
        let streams: serde_json::Value = serde_json::from_slice(&self.get("/api/streams").await?)?;
        let streams = streams["streams"].as_array().context("there is no list of streams")?;
        let own = streams.iter().filter(|stream| stream["stream"] == self.stream.as_str());
        Ok(own.filter_map(|stream| stream["documents"].as_u64()).sum())
    }

    /// How many bytes wait in the queue.
    async fn queue_bytes(&self) -> anyhow::Result<u64> {
        let metrics = self.get("/metrics").await?;
        let metrics = String::from_utf8_lossy(&metrics);
        let line = metrics.lines().find_map(|line| line.strip_prefix("inlet_queue_bytes "));
        let line = line.context("/metrics has no inlet_queue_bytes")?;
        line.trim().parse().context("inlet_queue_bytes is no number of bytes")
    }

    async fn wait_until_stored(&self, wanted: u64) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let stored = self.documents().await?;
            if stored >= wanted {
                return Ok(());
            }
            if begun.elapsed() > STORED_WAIT_MAX {
                let message = format!("{stored} of {wanted} documents were stored in ten minutes");
                return Err(Hinted::new(message, "look at the server's log").into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A connection, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

fn requests(target: &Target, body_bytes: usize, batch: usize) -> Vec<Vec<u8>> {
    let (path, media_type) = match batch {
        1 => ("/api/save", "application/json"),
        _ => ("/api/save/batch", "application/x-ndjson"),
    };
    let (authority, Target { address, token, stream, .. }) = (target.authority(), target);
    let prefix = address.path();
    (0..DOCUMENTS)
        .map(|index| {
            let documents = (0..batch).map(|n| document(index + n, body_bytes));
            let body = documents.collect::<Vec<_>>().join(&b'\n');
            let head = format!(
                "POST {prefix}{path}?stream={stream} HTTP/1.1\r\nHost: {authority}\r\n\
                 X-Auth-Token: {token}\r\nContent-Type: {media_type}\r\n\
                 Content-Length: {}\r\n\r\n",
                body.len()
            );
            [head.into_bytes(), body].concat()
        })
        .collect()
}

/// A document like an order's webhook, of exactly `bytes` bytes (or the smallest there is).
fn document(index: usize, bytes: usize) -> Vec<u8> {
    let mut body = format!("{{\"order\":{index},\"note\":\"").into_bytes();
    let filler = b"two of the blue ones, please; deliver to the back door, ring twice. ";
    let members = b"\",\"paid\":true,\"total\":129.95,\"items\":[{\"sku\":\"B-117\",\"n\":2}]}";
    let end: &[u8] = if body.len() + members.len() <= bytes { members } else { b"\"}" };
    while body.len() + end.len() < bytes {
        body.push(filler[body.len() % filler.len()]);
    }
    body.extend_from_slice(end);
    body
}
