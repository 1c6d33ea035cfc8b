//! Requests that two servers could read in two ways: each is told `400`, and the connection ends.

use crate::client::{Connection, json_headers, request};
use crate::harness::{Harness, SAVE};

const REFUSED: &[&str] = &[
    "POST /api/save HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
    "POST /api/save HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 2\r\n\r\n{}",
    "POST /api/save HTTP/1.1\r\nHost: a\r\nContent-Length: 7, 7\r\n\r\n{\"a\":1}",
    "POST /api/save HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\nContent-Length: 7\r\n\r\n{\"a\":1}",
    "POST /api/save HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "POST /api/save HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "POST /api/save HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "POST /api/save HTTP/1.1\nHost: a\nContent-Length: 2\n\n{}",
    "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n folded\r\n\r\n",
    "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "GET / HTTP/3.0\r\nHost: a\r\n\r\n",
    "GET /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n",
    "hello\r\n\r\n",
];

const GOOD: &str = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn what_is_ambiguous_is_refused_and_the_connection_ends() {
    let server = Harness::start().await;
    for text in REFUSED {
        let mut connection = Connection::open(server.address).await;
        // What follows the request would be smuggled if it were answered.
        connection.send(format!("{text}{GOOD}")).await;
        let answer = connection.answer().await.unwrap_or_else(|| panic!("no answer to {text:?}"));
        assert_eq!((answer.status, answer.code().as_str()), (400, "RequestMalformed"), "{text:?}");
        assert_eq!(answer.header("connection"), Some("close"), "{text:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert!(answer.header("x-request-id").is_some());
        assert!(connection.is_closed().await, "{text:?}");
    }
    assert!(server.queue.is_empty());
}

#[tokio::test]
async fn those_before_it_are_answered_first_and_in_order() {
    let server = Harness::start().await;
    for text in REFUSED {
        let mut connection = Connection::open(server.address).await;
        let save = request("POST", "/api/save", &json_headers(SAVE), b"{\"n\":1}");
        let save = String::from_utf8(save).unwrap();
        connection.send(format!("{GOOD}{save}{text}{GOOD}")).await;
        let statuses = [200, 202, 400];
        for status in statuses {
            let answer = connection.answer().await.unwrap_or_else(|| panic!("after {text:?}"));
            assert_eq!(answer.status, status, "{text:?}");
        }
        assert!(connection.is_closed().await, "{text:?}");
    }
}

#[tokio::test]
async fn a_chunked_body_that_is_not_well_formed_is_refused_whole() {
    let server = Harness::start().await;
    for body in [
        "2\n{}\r\n0\r\n\r\n",
        "2;x\ny\r\n{}\r\n0\r\n\r\n",
        "2;x=y\n{}\r\n0\r\n\r\n",
        "2\r\n{}0\r\n\r\n",
        "2\r\n{}\r\n0\r\nHost: b\r\n\r\n",
    ] {
        let mut connection = Connection::open(server.address).await;
        let head = format!(
            "POST /api/save HTTP/1.1\r\nHost: a\r\nX-Auth-Token: {SAVE}\r\n\
             Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        connection.send(format!("{head}{body}{GOOD}")).await;
        let answer = connection.answer().await.unwrap_or_else(|| panic!("no answer to {body:?}"));
        assert_eq!((answer.status, answer.code().as_str()), (400, "RequestMalformed"), "{body:?}");
        assert!(connection.is_closed().await, "{body:?}");
    }
    assert!(server.queue.is_empty());
}

#[tokio::test]
async fn a_good_request_may_come_in_any_pieces() {
    let server = Harness::start().await;
    let save = request("POST", "/api/save", &json_headers(SAVE), b"{\"n\":1}");
    let mut connection = Connection::open(server.address).await;
    for cut in (0..save.len()).step_by(3) {
        connection.send(&save[..cut]).await;
        tokio::task::yield_now().await;
        connection.send(&save[cut..]).await;
        assert_eq!(connection.answer().await.unwrap().status, 202, "cut at {cut}");
    }
}

#[tokio::test]
async fn a_chunked_body_is_taken() {
    let server = Harness::start().await;
    let mut connection = Connection::open(server.address).await;
    let head = format!(
        "POST /api/save HTTP/1.1\r\nHost: a\r\nX-Auth-Token: {SAVE}\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    connection.send(format!("{head}3\r\n{{\"a\r\n4\r\n\":1}}\r\n0\r\n\r\n{GOOD}")).await;
    let answer = connection.answer().await.unwrap();
    assert_eq!((answer.status, answer.json()["body"].as_str()), (202, Some("{\"a\":1}")));
    assert_eq!(connection.answer().await.unwrap().status, 200);
    // Parts that a recipient need not know are read past.
    let body = "3;sig=0a;n=\"b;c\"\r\n{\"a\r\n4;x\r\n\":1}\r\n0;last\r\nX-Sum: 1\r\n\r\n";
    connection.send(format!("\r\n\r\n{head}{body}{GOOD}")).await;
    let answer = connection.answer().await.unwrap();
    assert_eq!((answer.status, answer.json()["body"].as_str()), (202, Some("{\"a\":1}")));
    assert_eq!(connection.answer().await.unwrap().status, 200);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_told_431() {
    let server = Harness::start().await;
    let long = format!("X: {}\r\n", "y".repeat(40 << 10));
    for lines in [long, "X: y\r\n".repeat(101), "X: y\r\n".repeat(5_000)] {
        let mut connection = Connection::open(server.address).await;
        connection.send(format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{lines}\r\n{GOOD}")).await;
        let answer = connection.answer().await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (431, "HeadTooLarge"));
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(connection.is_closed().await);
    }
}

#[tokio::test]
async fn a_check_by_http_1_0_without_a_host_is_answered() {
    let server = Harness::start().await;
    let mut connection = Connection::open(server.address).await;
    connection.send("OPTIONS / HTTP/1.0\r\n\r\n").await;
    let answer = connection.answer().await.unwrap();
    assert!(answer.status < 300, "{}", answer.status);
    assert!(connection.is_closed().await);
    connection = Connection::open(server.address).await;
    connection.send("GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
    let answer = connection.answer().await.unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("keep-alive")));
    connection.send("GET /healthz HTTP/1.0\r\n\r\n").await;
    assert_eq!(connection.answer().await.unwrap().header("connection"), Some("close"));
    assert!(connection.is_closed().await);
}
