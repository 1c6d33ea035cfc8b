//! Listeners behind proxies that speak the PROXY protocol.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use inlet_server::{Deadlines, Server, ServerOptions, Shutdown, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::echo::{Echo, get};

/// A server that takes what `proxies` say, with room for that many connections of an address.
fn start(proxies: &str, per_address: usize, deadlines: Deadlines) -> (SocketAddr, Arc<Echo>) {
    let service = Arc::new(Echo::default());
    let connections_per_address_max = per_address;
    let options = ServerOptions { connections_per_address_max, deadlines, ..Default::default() };
    let server = Server::new(Arc::clone(&service), options);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let proxies = vec![proxies.parse().unwrap()];
    let lanes = server.lanes_behind(proxies, listener, Transport::Plain, 1).unwrap();
    for lane in lanes {
        tokio::spawn(lane.serve(Shutdown::new()));
    }
    (address, service)
}

/// All that the server says to `bytes`, sent in these pieces.
async fn said(address: SocketAddr, pieces: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in pieces {
        // It may have heard enough.
        stream.write_all(piece).await.unwrap_or_default();
        tokio::task::yield_now().await;
    }
    stream.shutdown().await.unwrap_or_default();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.map(drop).unwrap_or_default();
    String::from_utf8(said).unwrap()
}

const TEXT: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n";
const BINARY: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x08\xc6\x33\x64\x01\0\x50\x01\xbb";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

#[tokio::test]
async fn a_client_is_who_its_proxy_says_however_the_header_is_cut() {
    let (address, _) = start("127.0.0.0/8", 10, Deadlines::default());
    let request = get("/peer");
    let request = request.as_bytes();
    for (header, client) in [(TEXT, "192.0.2.7"), (BINARY, "192.0.2.8"), (LOCAL, "127.0.0.1")] {
        for cut in 0..header.len() {
            let rest = [&header[cut..], request].concat();
            let said = said(address, &[&header[..cut], &rest]).await;
            assert!(said.ends_with(&format!("\r\n\r\n{client}")), "{cut}: {said:?}");
        }
    }
}

#[tokio::test]
async fn a_proxy_without_a_good_header_is_closed_and_nobody_else_may_send_one() {
    let (address, service) = start("127.0.0.0/8", 10, Deadlines::default());
    let request = get("/peer");
    for bad in [b"".as_slice(), b"PROXY TCP4 x y 1 2\r\n", b"PROXY UNKNOWN\n"] {
        assert_eq!(said(address, &[&[bad, request.as_bytes()].concat()]).await, "", "{bad:?}");
    }
    let refused = |service: &Echo| service.counters.figures()[5].value;
    assert_eq!(refused(&service), 3);
    let (address, service) = start("192.0.2.0/24", 10, Deadlines::default());
    let answer = said(address, &[&[TEXT, request.as_bytes()].concat()]).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(said(address, &[request.as_bytes()]).await.ends_with("127.0.0.1"));
    assert_eq!(refused(&service), 0);
}

#[tokio::test]
async fn connections_of_a_client_are_counted_and_not_those_of_its_proxy() {
    let (address, service) = start("127.0.0.0/8", 1, Deadlines::default());
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(&[TEXT, get("/peer").as_bytes()].concat()).await.unwrap();
    assert!(first.read(&mut [0; 64]).await.unwrap() > 0);
    assert_eq!(said(address, &[TEXT, get("/peer").as_bytes()]).await, "", "one has its place");
    assert!(said(address, &[BINARY, get("/peer").as_bytes()]).await.ends_with("192.0.2.8"));
    assert_eq!(service.counters.figures()[2].value, 1, "refused over a cap");
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_says_nothing_is_closed_in_its_time() {
    let (address, service) = start("127.0.0.0/8", 10, Deadlines::default());
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"PROXY TCP4").await.unwrap();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0);
    assert_eq!(service.counters.figures()[3].value, 1, "timed out");
}
