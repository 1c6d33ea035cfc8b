//! The same bytes to our server and to hyper's: the same requests, or a stricter refusal.
//!
//! The fuzz target of `fuzz/` includes this file.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, request};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use inlet_server::{
    Body, ConnectionCounters, Peer, Refusal, Server, ServerOptions, Service, Shutdown,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

/// A request as a service saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    /// Its head, in one line.
    head: String,
    /// Its body, if that came whole.
    body: Option<Bytes>,
}

#[derive(Default)]
struct Recorder {
    seen: Mutex<Vec<Seen>>,
    refused: Mutex<Vec<String>>,
    counters: ConnectionCounters,
}

impl Recorder {
    async fn record<B: http_body::Body<Data = Bytes>>(&self, request: Request<B>) {
        let (parts, body) = request.into_parts();
        let head = head_of(&parts);
        self.seen.lock().unwrap().push(Seen { head, body: None });
        if let Ok(body) = body.collect().await {
            let mut seen = self.seen.lock().unwrap();
            seen.last_mut().unwrap().body = Some(body.to_bytes());
        }
    }
}

fn head_of(parts: &request::Parts) -> String {
    let mut text = format!("{} {} {:?}", parts.method, parts.uri, parts.version);
    for (name, value) in &parts.headers {
        write!(text, " | {name}: {value:?}").unwrap();
    }
    text
}

impl Service for Recorder {
    type Body = Full<Bytes>;

    async fn answer(self: Arc<Self>, request: Request<Body>, _: Peer) -> Response<Full<Bytes>> {
        self.record(request).await;
        Response::new(Full::default())
    }

    fn refuse(&self, refusal: Refusal, _: Peer) -> Response<Full<Bytes>> {
        self.refused.lock().unwrap().push(format!("{refusal:?}"));
        Response::new(Full::default())
    }

    fn counters(&self) -> &ConnectionCounters {
        &self.counters
    }
}

/// Sends `pieces` one after another, ends our side, and reads all that comes.
async fn talk(stream: DuplexStream, pieces: Vec<Vec<u8>>) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let sending = async {
        for piece in pieces {
            // The server may have heard enough.
            if writer.write_all(&piece).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        writer.shutdown().await.unwrap_or_default();
    };
    let mut all = Vec::new();
    let (_, read) = tokio::join!(sending, reader.read_to_end(&mut all));
    read.map(drop).unwrap_or_default();
}

/// The requests that our server sees in `pieces`, and its refusals.
async fn ours(pieces: Vec<Vec<u8>>) -> (Vec<Seen>, Vec<String>) {
    let recorder = Arc::new(Recorder::default());
    let server = Server::new(Arc::clone(&recorder), ServerOptions::default());
    let (client, stream) = duplex(64 << 10);
    let address = IpAddr::from(Ipv4Addr::LOCALHOST);
    let serving = server.serve_stream(stream, address, Shutdown::new());
    tokio::join!(serving, talk(client, pieces));
    let seen = recorder.seen.lock().unwrap().clone();
    let refused = recorder.refused.lock().unwrap().clone();
    (seen, refused)
}

/// The requests that hyper sees in them.
async fn hypers(pieces: Vec<Vec<u8>>) -> Vec<Seen> {
    let recorder = Arc::new(Recorder::default());
    let (client, stream) = duplex(64 << 10);
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        let recorder = Arc::clone(&recorder);
        async move {
            recorder.record(request).await;
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let (served, ()) = tokio::join!(serving, talk(client, pieces));
    served.unwrap_or_default();
    std::mem::take(&mut *recorder.seen.lock().unwrap())
}

/// Compares what both see in `bytes`, cut into pieces as `seed` says.
///
/// # Panics
/// Panics if ours sees a request that hyper does not see just so, or sees fewer without a refusal.
pub(crate) fn compare(bytes: &[u8], seed: u64) {
    // With that begins HTTP/2, which is hyper's on our side too.
    if b"PRI * HTTP/2.0".starts_with(&bytes[..bytes.len().min(14)]) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
    let pieces = cut(bytes, seed);
    let (ours, refused) = runtime.block_on(ours(pieces.clone()));
    let hypers = runtime.block_on(hypers(pieces));
    let shown = || {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(2_000)]);
        format!("{text:?}\n  seed {seed}\n  ours {ours:#?} {refused:?}\n  hyper {hypers:#?}")
    };
    for (index, request) in ours.iter().enumerate() {
        let Some(other) = hypers.get(index) else { panic!("hyper sees fewer: {}", shown()) };
        assert_eq!(request.head, other.head, "another head: {}", shown());
        match &request.body {
            Some(_) => assert_eq!(request.body, other.body, "another body: {}", shown()),
            None => assert_eq!(index + 1, ours.len(), "more after a bad body: {}", shown()),
        }
    }
    let is_refused = !refused.is_empty() || ours.last().is_some_and(|last| last.body.is_none());
    assert!(ours.len() == hypers.len() || is_refused, "silently fewer: {}", shown());
}

/// `bytes` in up to four pieces.
fn cut(bytes: &[u8], seed: u64) -> Vec<Vec<u8>> {
    let mut numbers = Numbers(seed | 1);
    let mut cuts: Vec<usize> = (0..3).map(|_| numbers.below(bytes.len() + 1)).collect();
    if numbers.below(3) == 0 {
        return vec![bytes.to_vec()];
    }
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| bytes[pair[0]..pair[1]].to_vec()).collect()
}

/// Numbers that look random and are the same for the same seed (xorshift64*).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    /// The next one, below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16;
        usize::try_from(number).unwrap_or(0) % bound
    }
}
