//! The edge as the service of the server that Inlet has.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use inlet_edge::{Edge, EdgeOptions, EdgeService};
use inlet_server::{Deadlines, Server, ServerOptions, Shutdown, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::instance::Instance;
use crate::setup::unchecked;

/// Serves the edge, and gives the door of the whole and the one that only redirects.
fn served(options: EdgeOptions) -> (SocketAddr, SocketAddr) {
    let figures = Box::new(|| "more_figures 7\n".to_owned());
    let edge = Edge::new(options).unwrap();
    let service = Arc::new(EdgeService::new(edge, figures, Some("let-me-in")));
    let moment = Duration::from_millis(40);
    let deadlines = Deadlines { head: moment, body_grace: moment, ..Deadlines::default() };
    let server = Server::new(service, ServerOptions { deadlines, ..ServerOptions::default() });
    let door = |transport| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = server.clone();
        tokio::spawn(async move { server.serve(listener, transport, Shutdown::new()).await });
        address
    };
    (door(Transport::Plain), door(Transport::Redirect { https_port: 8443 }))
}

/// Sends the bytes, and reads until the connection ends.
async fn exchange(address: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.example:80\r\n{headers}Connection: close\r\n\r\n")
}

#[tokio::test]
async fn a_door_that_redirects_keeps_path_and_query_and_asks_no_instance() {
    let instance = Instance::start("one").await;
    let (_, redirecting) = served(unchecked(&[&instance]));
    let answer = exchange(redirecting, &get("/api/save?stream=a%20b", "")).await;
    assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
    assert!(answer.contains("location: https://a.example:8443/api/save?stream=a%20b\r\n"));
    assert!(answer.contains("x-request-id: "), "{answer}");
    let answer = exchange(redirecting, &get("/edge/status", "")).await;
    assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
    assert_eq!(instance.count(), 0);
}

#[tokio::test]
async fn what_the_edge_says_of_itself_is_for_this_machine_and_for_who_has_the_token() {
    let instance = Instance::start("one").await;
    let mut options = unchecked(&[&instance]);
    // So that a client can be on another machine.
    options.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let (door, _) = served(options);
    for (path, expected) in [
        ("/edge/status", "\"id\":\"one\""),
        ("/edge/metrics", "inlet_edge_backend_up{backend=\"one\",zone=\"a\"} 1"),
        ("/edge/metrics", "inlet_connections_open 1"),
        ("/edge/metrics", "more_figures 7"),
    ] {
        let answer = exchange(door, &get(path, "")).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(expected), "{answer}");
    }
    let far = "X-Forwarded-For: 192.0.2.7\r\n";
    for (headers, status) in [
        (far.to_owned(), 404),
        (format!("{far}X-Auth-Token: wrong\r\n"), 404),
        (format!("{far}X-Auth-Token: let-me-in\r\n"), 200),
        (format!("{far}Authorization: Bearer let-me-in\r\n"), 200),
    ] {
        let answer = exchange(door, &get("/edge/status", &headers)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{headers}: {answer}");
    }
    for path in ["/edge/", "/edge/x"] {
        assert!(exchange(door, &get(path, "")).await.starts_with("HTTP/1.1 404 "), "{path}");
    }
    assert_eq!(instance.count(), 0, "none of these reaches an instance");
}

#[tokio::test]
async fn what_the_server_refuses_gets_a_problem_of_the_edge() {
    let instance = Instance::start("one").await;
    let (door, _) = served(unchecked(&[&instance]));
    let answer = exchange(door, "GET / HTTP/1.1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("\"code\":\"RequestMalformed\""), "{answer}");
    let answer = exchange(door, "GET / HTTP/1.1\r\nHost: a\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("\"code\":\"RequestTimeout\""), "{answer}");
    assert_eq!(instance.count(), 0);
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_told_so_whether_it_is_kept_or_streamed() {
    let instance = Instance::start("one").await;
    let (door, _) = served(unchecked(&[&instance]));
    for announced in [9, 100_000] {
        let head = format!("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: {announced}\r\n\r\n");
        let answer = exchange(door, &format!("{head}some")).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{announced}: {answer}");
        assert!(answer.contains("\"code\":\"BodyTimeout\""), "{answer}");
    }
}
