//! One connection, from the socket to its end.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::guarded::{ClientStream, GuardedIo};
use crate::service::{AnswerBody, Answered, Service as Answering};
use crate::state::{Busy, ConnectionState};
use crate::strict::HEAD_BYTES_MAX;
use crate::tls::TlsCertificates;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// With this a client that knows that we speak HTTP/2 begins (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The largest piece of a body that hyper gathers, in bytes.
const READ_BYTES_MAX: usize = 256 << 10;

const HTTP2_STREAMS_MAX: u32 = 128;
/// Streams that a client opened and reset before we took them (CVE-2023-44487).
const HTTP2_PENDING_RESETS_MAX: usize = 20;
const HTTP2_LOCAL_RESETS_MAX: usize = 256;
const HTTP2_STREAM_WINDOW_BYTES: u32 = 256 << 10;
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
const HTTP2_SEND_BYTES_MAX: usize = 256 << 10;
const HTTP2_PING_EVERY: Duration = Duration::from_secs(20);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves a connection that begins with a TLS handshake.
pub(crate) async fn serve_tls<A: Answering>(
    stream: TcpStream,
    certificates: TlsCertificates,
    service: Arc<A>,
    connection: Arc<ConnectionState>,
) {
    let handshake = certificates.acceptor().accept(stream);
    let deadline = connection.deadlines().handshake;
    // What only one stretch of a connection needs is boxed, so that its task is small in the
    // others: there are thousands of them, and nearly all are silent.
    let stream = match Box::pin(tokio::time::timeout(deadline, handshake)).await {
        Ok(Ok(stream)) => Box::new(stream),
        Ok(Err(_)) => return service.counters().handshake_failed(),
        Err(_) => return service.counters().timed_out(),
    };
    connection.note_secure();
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        Box::pin(serve_http2(stream, &[], service, connection)).await;
    } else {
        serve_http1(stream, &[], service, connection).await;
    }
}

/// Serves a connection in plain text.
pub(crate) async fn serve_plain<A: Answering>(
    mut stream: TcpStream,
    service: Arc<A>,
    connection: Arc<ConnectionState>,
) {
    let begun = watched(read_beginning(&mut stream), |_| {}, &connection).await;
    match begun {
        Some(Ok(begun)) if begun == PREFACE => {
            Box::pin(serve_http2(stream, &begun, service, connection)).await;
        }
        Some(Ok(begun)) if !begun.is_empty() => {
            serve_http1(stream, &begun, service, connection).await;
        }
        Some(_) => {}
        None => service.counters().timed_out(),
    }
}

/// The first bytes: the preface of HTTP/2, or what tells that it is not.
async fn read_beginning(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut begun = Vec::with_capacity(PREFACE.len());
    while begun.len() < PREFACE.len() && PREFACE.starts_with(&begun) {
        let mut room = [0; PREFACE.len()];
        let read = stream.read(&mut room[..PREFACE.len() - begun.len()]).await?;
        if read == 0 {
            break;
        }
        begun.extend_from_slice(&room[..read]);
    }
    Ok(begun)
}

/// Serves HTTP/1, and between requests gives hyper's buffers back where the client is silent for
/// long: of what an idle connection takes they are the greater part.
async fn serve_http1<S: ClientStream, A: Answering>(
    stream: S,
    begun: &[u8],
    service: Arc<A>,
    connection: Arc<ConnectionState>,
) {
    let mut io = GuardedIo::http1(stream, Arc::clone(&connection), begun);
    loop {
        let serving = http1::Builder::new()
            .max_buf_size(READ_BYTES_MAX)
            // A client that has sent all it has to send may still wait for the answer.
            .half_close(true)
            .serve_connection(TokioIo::new(io), hyper_service(&service, &connection));
        io = match until_rest(Box::new(serving), &connection).await {
            Served::Resting(io) => io,
            Served::Ended => return,
            Served::TimedOut => return service.counters().timed_out(),
        };
        // A connection that is to drain while it rests has nothing to finish.
        let awakened = poll_fn(|cx| {
            connection.watch(cx);
            match connection.is_draining() {
                true => Poll::Ready(false),
                false => io.poll_awakened(cx).map(|()| true),
            }
        });
        if !awakened.await {
            if connection.is_closed() {
                service.counters().timed_out();
            }
            return;
        }
        connection.note_resting(false);
    }
}

/// How serving a connection came to a stop.
enum Served<S: ClientStream> {
    Ended,
    TimedOut,
    /// It is silent, and takes no more than its socket until the client says something.
    Resting(GuardedIo<S>),
}

/// Serves until the connection ends, is closed by a deadline, or is found to rest.
async fn until_rest<S, V, B>(
    serving: Box<http1::Connection<TokioIo<GuardedIo<S>>, V>>,
    connection: &ConnectionState,
) -> Served<S>
where
    S: ClientStream,
    V: HttpService<Incoming, ResBody = B, Error = Infallible> + Unpin,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    let mut serving = Some(serving);
    let mut drained = false;
    poll_fn(|cx| {
        connection.watch(cx);
        if connection.is_closed() {
            return Poll::Ready(Served::TimedOut);
        }
        // Looked at again here, where no request can begin in between.
        if connection.is_resting()
            && connection.is_quiet()
            && let Some(serving) = serving.take()
        {
            let parts = serving.into_parts();
            let mut io = parts.io.into_inner();
            io.give_back(&parts.read_buf);
            return Poll::Ready(Served::Resting(io));
        }
        let Some(serving) = serving.as_mut() else { return Poll::Ready(Served::Ended) };
        if connection.is_draining() && !std::mem::replace(&mut drained, true) {
            Pin::new(&mut **serving).graceful_shutdown();
        }
        Pin::new(&mut **serving).poll(cx).map(|_| Served::Ended)
    })
    .await
}

async fn serve_http2<S: ClientStream, A: Answering>(
    stream: S,
    begun: &[u8],
    service: Arc<A>,
    connection: Arc<ConnectionState>,
) {
    connection.note_http2();
    let io = TokioIo::new(GuardedIo::http2(stream, Arc::clone(&connection), begun));
    let head_bytes_max = u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX);
    let serving = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_pending_accept_reset_streams(HTTP2_PENDING_RESETS_MAX)
        .max_local_error_reset_streams(HTTP2_LOCAL_RESETS_MAX)
        .max_header_list_size(head_bytes_max)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(HTTP2_SEND_BYTES_MAX)
        .keep_alive_interval(HTTP2_PING_EVERY)
        .keep_alive_timeout(HTTP2_PING_TIMEOUT)
        .serve_connection(io, hyper_service(&service, &connection));
    if watched(serving, |serving| serving.graceful_shutdown(), &connection).await.is_none() {
        service.counters().timed_out();
    }
}

fn hyper_service<A: Answering>(
    service: &Arc<A>,
    connection: &Arc<ConnectionState>,
) -> impl Service<
    Request<Incoming>,
    Response = Response<AnswerBody<A::Body>>,
    Error = Infallible,
    Future = impl Future<Output = Answered<A::Body>> + Send + use<A>,
> + Unpin
+ use<A> {
    let (service, connection) = (Arc::clone(service), Arc::clone(connection));
    service_fn(move |request| {
        Arc::clone(&service).answer(request, Busy::begin(Arc::clone(&connection)))
    })
}

/// Runs `serving` until it ends or the connection is closed by a deadline (`None`). Once the
/// connection is to drain, `drain` is called, once.
async fn watched<F: Future>(
    serving: F,
    drain: impl FnOnce(Pin<&mut F>),
    connection: &ConnectionState,
) -> Option<F::Output> {
    let mut serving = pin!(serving);
    let mut drain = Some(drain);
    poll_fn(|cx| {
        connection.watch(cx);
        if connection.is_closed() {
            return Poll::Ready(None);
        }
        if connection.is_draining()
            && let Some(drain) = drain.take()
        {
            drain(serving.as_mut());
        }
        serving.as_mut().poll(cx).map(Some)
    })
    .await
}
