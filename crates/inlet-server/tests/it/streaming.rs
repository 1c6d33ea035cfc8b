//! Answers and bodies that come in pieces.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use inlet_server::{
    Body, BodyError, ConnectionCounters, Deadlines, Peer, Refusal, Server, ServerOptions, Service,
    Shutdown, Transport,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// A body made of what is sent to it, until the sender is dropped.
struct Pieces(mpsc::Receiver<Bytes>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// Answers with the client's address, then with what came of its body, then at the word of a test.
struct Slow {
    counters: ConnectionCounters,
    answering: mpsc::Sender<mpsc::Sender<Bytes>>,
}

impl Service for Slow {
    type Body = Pieces;

    async fn answer(self: Arc<Self>, request: Request<Body>, peer: Peer) -> Response<Pieces> {
        let (pieces, answer) = mpsc::channel(4);
        let came = match request.into_body().collect().await {
            Ok(body) => format!("{} bytes", body.to_bytes().len()),
            Err(BodyError::Late) => "late".to_owned(),
            Err(error) => error.to_string(),
        };
        pieces.send(format!("{} {came}\n", peer.address).into()).await.unwrap();
        self.answering.send(pieces).await.unwrap();
        Response::new(Pieces(answer))
    }

    fn refuse(&self, _: Refusal, _: Peer) -> Response<Pieces> {
        let mut answer = Response::new(Pieces(mpsc::channel(1).1));
        *answer.status_mut() = StatusCode::BAD_REQUEST;
        answer
    }

    fn counters(&self) -> &ConnectionCounters {
        &self.counters
    }
}

struct Running {
    address: SocketAddr,
    service: Arc<Slow>,
    /// The senders of the answers that are under way.
    answers: mpsc::Receiver<mpsc::Sender<Bytes>>,
}

fn start(deadlines: Deadlines) -> Running {
    let (answering, answers) = mpsc::channel(4);
    let service = Arc::new(Slow { counters: ConnectionCounters::default(), answering });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let options = ServerOptions { deadlines, ..ServerOptions::default() };
    let server = Server::new(Arc::clone(&service), options);
    tokio::spawn(async move { server.serve(listener, Transport::Plain, Shutdown::new()).await });
    Running { address, service, answers }
}

fn quick() -> Deadlines {
    let moment = Duration::from_millis(30);
    Deadlines { rest: moment, idle: 3 * moment, body_grace: 2 * moment, ..Deadlines::default() }
}

/// Reads until what came ends in `end`.
async fn read_to(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).await.unwrap(), 1, "it ended after {text:?}");
        text.push(char::from(byte[0]));
    }
    text
}

#[tokio::test]
async fn an_answer_that_is_silent_for_longer_than_a_connection_may_idle_is_sent_whole() {
    let mut server = start(quick());
    let mut client = TcpStream::connect(server.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let answer = server.answers.recv().await.unwrap();
    let begun = read_to(&mut client, "127.0.0.1 0 bytes\n\r\n").await;
    assert!(begun.starts_with("HTTP/1.1 200 "), "{begun}");
    // Another connection is opened later, is idle, and is closed for that: so would this one be.
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    drop(server.answers.recv().await.unwrap());
    let mut all = Vec::new();
    idle.read_to_end(&mut all).await.unwrap();
    assert!(all.ends_with(b"0\r\n\r\n"));
    answer.send("the end".into()).await.unwrap();
    drop(answer);
    read_to(&mut client, "the end\r\n0\r\n\r\n").await;
    assert_eq!(server.service.counters().open(), 1);
}

#[tokio::test]
async fn a_streamed_body_breaks_off_once_its_client_is_late() {
    let mut server = start(quick());
    let mut client = TcpStream::connect(server.address).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nsome";
    client.write_all(head).await.unwrap();
    drop(server.answers.recv().await.unwrap());
    read_to(&mut client, "127.0.0.1 late\n\r\n0\r\n\r\n").await;
}

#[tokio::test]
async fn a_streamed_body_that_keeps_its_pace_is_read_whole() {
    let mut server = start(Deadlines { body_bytes_per_s_min: 1, ..quick() });
    let mut client = TcpStream::connect(server.address).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.write_all(head).await.unwrap();
    for _ in 0..100 {
        client.write_all(b"5\r\nhello\r\n").await.unwrap();
        tokio::task::yield_now().await;
    }
    client.write_all(b"0\r\n\r\n").await.unwrap();
    drop(server.answers.recv().await.unwrap());
    read_to(&mut client, "127.0.0.1 500 bytes\n\r\n0\r\n\r\n").await;
}
