//! HTTP/2, over TLS and with prior knowledge.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use inlet_server::Transport;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{ALL, Harness, Setup};
use crate::tls::{certificates, connect, write_certificate};

const PATIENCE: Duration = Duration::from_secs(10);

type Client = SendRequest<Full<Bytes>>;

async fn client(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Client {
    let (client, connection) = handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    tokio::spawn(async move { connection.await.unwrap_or_default() });
    client
}

async fn ask(
    client: &mut Client,
    method: &str,
    target: &str,
    body: &'static [u8],
) -> (StatusCode, HeaderMap, Bytes) {
    let request = Request::builder()
        .method(method)
        .uri(format!("https://localhost{target}"))
        .header("x-auth-token", ALL)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from_static(body)))
        .unwrap();
    client.ready().await.unwrap();
    let (head, body) = client.send_request(request).await.unwrap().into_parts();
    (head.status, head.headers, body.collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn a_document_goes_in_and_comes_out_over_http2_and_tls() {
    let folder = tempfile::tempdir().unwrap();
    let trusted = write_certificate(folder.path());
    let transport = Transport::Tls(certificates(folder.path()));
    let server = Harness::start_with(Setup { transport, ..Setup::default() }).await;
    let stream = connect(&server, &trusted, b"h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let mut client = client(stream).await;
    let (status, headers, _) = ask(&mut client, "POST", "/api/save", b"{\"a\":1}").await;
    assert_eq!(status, 202);
    server.persist().await;
    let id = headers["location"].to_str().unwrap().rsplit('/').next().unwrap().to_owned();
    let (status, _, body) = ask(&mut client, "GET", &format!("/api/documents/{id}"), b"").await;
    assert_eq!((status.as_u16(), &body[..]), (200, b"{\"a\":1}".as_slice()));
    let (status, headers, body) =
        ask(&mut client, "HEAD", &format!("/api/documents/{id}"), b"").await;
    assert_eq!((status.as_u16(), body.len()), (200, 0));
    assert_eq!(headers["content-length"], "7");
}

#[tokio::test]
async fn prior_knowledge_is_understood_in_plain_text_and_drained_at_the_end() {
    let server = Harness::start().await;
    let mut client = client(TcpStream::connect(server.address).await.unwrap()).await;
    for _ in 0..3 {
        let (status, headers, _) = ask(&mut client, "POST", "/api/save", b"1").await;
        assert_eq!(status, 202);
        assert!(headers.contains_key("x-request-id"));
    }
    let (status, _, _) = ask(&mut client, "REFUSED", "/", b"").await;
    assert_eq!(status, 405, "what stands in for the refused is no method here");
    server.shutdown.begin();
    timeout(PATIENCE, server.serving).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn streams_that_are_opened_and_reset_in_haste_end_the_connection() {
    let server = Harness::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(4, 0, 0, b"")).await.unwrap();
    // :method GET, :scheme http, :path /, :authority a
    let head = [0x82, 0x86, 0x84, 0x41, 0x01, b'a'];
    let flood = async {
        for id in (1..200_000).step_by(2) {
            let mut bytes = frame(1, 0x5, id, &head);
            bytes.extend(frame(3, 0, id, &[0, 0, 0, 8]));
            if stream.write_all(&bytes).await.is_err() {
                return;
            }
        }
        panic!("all was taken");
    };
    timeout(PATIENCE, flood).await.unwrap();
    let mut client = client(TcpStream::connect(server.address).await.unwrap()).await;
    assert_eq!(ask(&mut client, "GET", "/healthz", b"").await.0, 200, "others are served");
}

#[tokio::test]
async fn a_head_in_endless_continuations_ends_the_connection() {
    let server = Harness::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(4, 0, 0, b"")).await.unwrap();
    stream.write_all(&frame(1, 0x1, 1, &[0x82, 0x86, 0x84])).await.unwrap();
    let flood = async {
        for _ in 0..100_000 {
            // A literal header without indexing: `x: y`.
            let piece = [0x00, 0x01, b'x', 0x01, b'y'].repeat(200);
            if stream.write_all(&frame(9, 0, 1, &piece)).await.is_err() {
                return;
            }
        }
        panic!("all was taken");
    };
    timeout(PATIENCE, flood).await.unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.map(drop).unwrap_or_default();
}

#[tokio::test]
async fn a_body_of_endless_empty_frames_is_refused() {
    let server = Harness::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(4, 0, 0, b"")).await.unwrap();
    let mut head = vec![0x83, 0x86, 0x44, 0x09];
    head.extend_from_slice(b"/api/save");
    head.extend_from_slice(&[0x41, 0x01, b'a']);
    for (name, value) in [("x-auth-token", ALL), ("content-type", "application/json")] {
        head.push(0);
        head.push(u8::try_from(name.len()).unwrap());
        head.extend_from_slice(name.as_bytes());
        head.push(u8::try_from(value.len()).unwrap());
        head.extend_from_slice(value.as_bytes());
    }
    stream.write_all(&frame(1, 0x4, 1, &head)).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let flood = tokio::spawn(async move {
        while writer.write_all(&frame(0, 0, 1, b"").repeat(64)).await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    // The answer is a HEADERS frame (type 1) on stream 1.
    let answered = async {
        loop {
            let mut head = [0; 9];
            if reader.read_exact(&mut head).await.is_err() {
                return;
            }
            let length = usize::from(head[1]) << 8 | usize::from(head[2]);
            let mut payload = vec![0; length];
            if reader.read_exact(&mut payload).await.is_err() || matches!(head[3], 1 | 3 | 7) {
                return;
            }
        }
    };
    timeout(PATIENCE, answered).await.unwrap();
    flood.abort();
    assert!(server.queue.is_empty());
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}
