//! One connection, from the socket to its end.

use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::client::Client;
use crate::counters::ConnectionCounters;
use crate::http1::{Conversation, End};
use crate::http2;
use crate::member::Member;
use crate::peer::Peer;
use crate::proxy;
use crate::service::Service;
use crate::tls::TlsCertificates;

/// With this a client that knows that we speak HTTP/2 begins (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Room for the first bytes of a connection: a small request fits.
const FIRST_ROOM_BYTES: usize = 4 << 10;

/// A connection that was just accepted, on `S` as its stream.
pub(crate) struct Opened<S> {
    pub(crate) stream: S,
    pub(crate) peer: Peer,
    pub(crate) member: Member,
}

impl From<Opened<TcpStream>> for Opened<Client<TcpStream>> {
    fn from(opened: Opened<TcpStream>) -> Self {
        let Opened { stream, peer, member } = opened;
        Self { stream: stream.into(), peer, member }
    }
}

/// Reads what a proxy says of its client. `None` where the connection is at its end with that.
pub(crate) async fn read_proxy_header(
    mut opened: Opened<TcpStream>,
    counters: &ConnectionCounters,
) -> Option<Opened<TcpStream>> {
    let within = opened.member.deadlines().first_byte;
    let reading = take_proxy_header(&mut opened.stream);
    match opening(reading, within, &mut opened.member).await {
        Some(Ok(client)) => {
            opened.peer.address = client.unwrap_or(opened.peer.address);
            Some(opened)
        }
        Some(Err(error)) => {
            tracing::debug!(proxy = %opened.peer.address, %error, "no PROXY header");
            counters.proxy_header_refused();
            None
        }
        None => {
            counters.timed_out();
            None
        }
    }
}

/// Takes the header out of the stream, and nothing of what follows it.
async fn take_proxy_header(stream: &mut TcpStream) -> io::Result<Option<IpAddr>> {
    let (mut read, mut room) = (Vec::new(), [0; 256]);
    loop {
        let taken = read.len();
        let peeked = stream.peek(&mut room).await?;
        if peeked == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        read.extend_from_slice(&room[..peeked]);
        let header = proxy::read(&read).map_err(io::Error::other)?;
        let of_header = header.map_or(read.len(), |header| header.bytes) - taken;
        stream.read_exact(&mut room[..of_header]).await?;
        if let Some(header) = header {
            return Ok(header.client);
        }
    }
}

/// Serves a connection that begins with a TLS handshake.
pub(crate) async fn serve_tls<A: Service>(
    opened: Opened<TcpStream>,
    certificates: TlsCertificates,
    service: Arc<A>,
) {
    let Opened { stream, peer, mut member } = opened;
    let handshake = certificates.acceptor().accept(stream);
    let within = member.deadlines().handshake;
    // What only one stretch of a connection needs is boxed, so that its task is small in the
    // others: there are thousands of them, and nearly all are silent.
    let stream = match Box::pin(opening(handshake, within, &mut member)).await {
        Some(Ok(stream)) => stream,
        Some(Err(_)) => return service.counters().handshake_failed(),
        None => return service.counters().timed_out(),
    };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let peer = Peer { is_secure: true, ..peer };
    let opened = Opened { stream: Client::from(stream), peer, member };
    if is_http2 {
        Box::pin(http2::serve(opened, BytesMut::new(), service)).await;
    } else {
        serve_http1(opened, BytesMut::new(), service).await;
    }
}

/// Serves a connection in plain text.
pub(crate) async fn serve_plain<S, A>(mut opened: Opened<Client<S>>, service: Arc<A>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Service,
{
    let within = opened.member.deadlines().first_byte;
    let beginning = read_beginning(&mut opened.stream.stream);
    match Box::pin(opening(beginning, within, &mut opened.member)).await {
        Some(Ok(begun)) if begun.starts_with(PREFACE) => {
            Box::pin(http2::serve(opened, begun, service)).await;
        }
        Some(Ok(begun)) if !begun.is_empty() => serve_http1(opened, begun, service).await,
        Some(_) => {}
        None => service.counters().timed_out(),
    }
}

/// The first bytes, as many as tell whether they are the preface of HTTP/2.
async fn read_beginning(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<BytesMut> {
    let mut begun = BytesMut::with_capacity(FIRST_ROOM_BYTES);
    while begun.len() < PREFACE.len() && PREFACE.starts_with(&begun) {
        if stream.read_buf(&mut begun).await? == 0 {
            break;
        }
    }
    Ok(begun)
}

async fn serve_http1<S, A>(opened: Opened<Client<S>>, begun: BytesMut, service: Arc<A>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    A: Service,
{
    let peer = opened.peer;
    let begin = |request| Arc::clone(&service).answer(request, peer);
    let mut conversation = Conversation::new(opened, begun, Arc::clone(&service));
    if poll_fn(|cx| conversation.poll(cx, &begin)).await == End::TimedOut {
        service.counters().timed_out();
    }
}

/// Waits for what a connection begins with: no longer than `within`, nor, once its lane is to
/// finish, than a first request is waited for. `None` where that is over.
async fn opening<F: Future>(
    beginning: F,
    within: Duration,
    member: &mut Member,
) -> Option<F::Output> {
    let mut beginning = pin!(beginning);
    let deadline = Instant::now() + within;
    let mut timer = pin!(tokio::time::sleep_until(deadline));
    let first_request = member.deadlines().first_request;
    poll_fn(|cx| {
        member.watch(cx);
        if member.is_closed() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(begun) = beginning.as_mut().poll(cx) {
            return Poll::Ready(Some(begun));
        }
        if let Some(since) = member.draining_since()
            && since + first_request < timer.deadline()
        {
            timer.as_mut().reset(since + first_request);
        }
        Pin::new(&mut timer).poll(cx).map(|()| None)
    })
    .await
}
