//! The edge behind a server, by the bytes that a client sends and gets.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use inlet_edge::{Edge, Peer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::instance::{Does, Instance};
use crate::setup::unchecked;

/// Serves HTTP/1 on a port of its own.
async fn served(edge: Edge) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, peer) = listener.accept().await.unwrap();
            tokio::spawn(serve(edge.clone(), stream, peer, false));
        }
    });
    address
}

async fn serve(edge: Edge, stream: TcpStream, peer: SocketAddr, is_http2: bool) {
    let peer = Peer { address: peer.ip(), is_tls: false };
    let service = service_fn(|request: Request<Incoming>| {
        let edge = edge.clone();
        async move { Ok::<_, Infallible>(edge.call(request, peer).await) }
    });
    let io = TokioIo::new(stream);
    if is_http2 {
        let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        drop(http.serve_connection(io, service).await);
    } else {
        drop(hyper::server::conn::http1::Builder::new().serve_connection(io, service).await);
    }
}

/// Sends bytes and reads until the server closes.
async fn exchange(address: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut text));
    read.await.expect("the server closes").ok();
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let instance = Instance::start("one").await;
    let address = served(Edge::new(unchecked(&[&instance])).unwrap()).await;
    let text = exchange(
        address,
        "POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nA\
         POST /2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nB\r\n0\r\n\r\n\
         GET /3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    .await;
    let bodies: Vec<&str> =
        text.split("one ").skip(1).map(|rest| &rest[..rest.len().min(1)]).collect();
    assert_eq!(bodies, ["A", "B", ""], "{text}");
    let targets: Vec<String> = instance.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/1", "/2", "/3"]);
    assert_eq!(instance.connections(), 1);
}

#[tokio::test]
async fn an_upgrade_is_not_passed_on() {
    let instance = Instance::start("one").await;
    let address = served(Edge::new(unchecked(&[&instance])).unwrap()).await;
    let text = exchange(
        address,
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\n\r\n",
    )
    .await;
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    assert!(!instance.seen()[0].headers.contains_key("upgrade"));
    assert!(!instance.seen()[0].headers.contains_key("connection"));
}

#[tokio::test]
async fn a_body_is_asked_for_when_the_client_waits_to_be_asked() {
    let instance = Instance::start("one").await;
    let address = served(Edge::new(unchecked(&[&instance])).unwrap()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\
                Connection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{}").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.ends_with("one {}"), "{text}");
    assert!(!instance.seen()[0].headers.contains_key("expect"));
}

#[tokio::test]
async fn a_broken_answer_is_not_made_to_look_whole() {
    let instance = Instance::start("one").await;
    instance.does(Does::BreakOffInBody);
    let address = served(Edge::new(unchecked(&[&instance])).unwrap()).await;
    let text = exchange(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(text.to_ascii_lowercase().contains("content-length: 100\r\n"), "{text}");
    assert!(text.ends_with("0123456789"), "closed after what there was: {text}");
}

#[tokio::test]
async fn http2_in_front_is_http1_behind() {
    let instance = Instance::start("one").await;
    let edge = Edge::new(unchecked(&[&instance])).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, peer) = listener.accept().await.unwrap();
        serve(edge, stream, peer, true).await;
    });
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let asking: Vec<_> = (0..20)
        .map(|number| {
            let request = Request::post(format!("http://inlet.test/{number}"))
                .body(http_body_util::Full::new(bytes::Bytes::from(number.to_string())));
            (number, sender.send_request(request.unwrap()))
        })
        .collect();
    for (number, answering) in asking {
        let answer = answering.await.unwrap();
        let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
        assert_eq!(body, format!("one {number}"));
    }
    let seen = instance.seen();
    assert_eq!(seen.len(), 20);
    assert!(seen.iter().all(|seen| seen.headers["host"] == "inlet.test"));
    assert!(seen.iter().all(|seen| seen.target.starts_with('/')));
}
