//! Clients that are slow or silent: each is given up at its deadline, and others are served.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::{sleep, timeout};

use crate::client::{Connection, ask, json_headers, request};
use crate::harness::{Harness, READ, SAVE, Setup};

const SHORT: Duration = Duration::from_millis(60);
/// Long enough to tell a deadline from none.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn silence_after_connecting_is_closed() {
    let server = Harness::start_with(Setup::deadlines(|d| d.first_byte = SHORT)).await;
    let mut connection = Connection::open(server.address).await;
    assert!(timeout(PATIENCE, connection.is_closed()).await.unwrap());
}

#[tokio::test]
async fn a_head_that_dribbles_is_told_408_and_closed() {
    let server = Harness::start_with(Setup::deadlines(|d| d.head = SHORT)).await;
    let mut connection = Connection::open(server.address).await;
    let (mut reader, mut writer) = connection.stream.split();
    let dribble = async {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\nX: ".iter().chain(std::iter::repeat(&b'y'));
        for byte in head {
            if tokio::io::AsyncWriteExt::write_all(&mut writer, &[*byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_millis(2)).await;
        }
    };
    let mut said = Vec::new();
    let read = async { reader.read_to_end(&mut said).await.map(drop).unwrap_or_default() };
    timeout(PATIENCE, async {
        tokio::select! { () = dribble => {}, () = read => {} }
    })
    .await
    .unwrap();
    let said = String::from_utf8(said).unwrap();
    assert!(said.starts_with("HTTP/1.1 408") && said.contains("RequestTimeout"), "{said}");
}

#[tokio::test]
async fn a_connection_that_is_idle_is_closed_but_not_before() {
    let server = Harness::start_with(Setup::deadlines(|d| {
        d.first_byte = Duration::from_millis(1);
        d.idle = Duration::from_millis(150);
    }))
    .await;
    let mut connection = Connection::open(server.address).await;
    for _ in 0..3 {
        connection.send("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(connection.answer().await.unwrap().status, 200);
        sleep(Duration::from_millis(50)).await;
    }
    assert!(timeout(PATIENCE, connection.is_closed()).await.unwrap());
}

#[tokio::test]
async fn a_connection_that_rests_is_served_again_however_its_next_request_comes() {
    let server = Harness::start_with(Setup::deadlines(|d| {
        d.rest = Duration::from_millis(20);
        d.head = Duration::from_millis(300);
    }))
    .await;
    let mut connection = Connection::open(server.address).await;
    let save = request("POST", "/api/save", &json_headers(SAVE), b"{\"a\":1}");
    for cut in [0, 1, 20, save.len() - 7, save.len() - 1, save.len()] {
        connection.send(&save[..cut]).await;
        sleep(Duration::from_millis(60)).await;
        connection.send(&save[cut..]).await;
        assert_eq!(connection.answer().await.unwrap().status, 202, "cut at {cut}");
        sleep(Duration::from_millis(60)).await;
    }
    connection.send(save.repeat(3)).await;
    for _ in 0..3 {
        assert_eq!(connection.answer().await.unwrap().status, 202);
    }
    sleep(Duration::from_millis(60)).await;
    connection.send("GET / HTT").await;
    let late = timeout(PATIENCE, connection.answer()).await.unwrap().unwrap();
    assert_eq!(late.code(), "RequestTimeout");
    assert!(timeout(PATIENCE, connection.is_closed()).await.unwrap());
}

#[tokio::test]
async fn a_connection_that_rests_is_closed_when_it_is_idle_too_long_or_the_server_stops() {
    let server = Harness::start_with(Setup::deadlines(|d| {
        d.rest = Duration::from_millis(20);
        d.idle = Duration::from_millis(200);
    }))
    .await;
    let health = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut connection = Connection::open(server.address).await;
    connection.send(health).await;
    assert_eq!(connection.answer().await.unwrap().status, 200);
    assert!(timeout(PATIENCE, connection.is_closed()).await.unwrap());

    let server = Harness::start_with(Setup::deadlines(|d| d.rest = Duration::from_millis(1))).await;
    let mut connection = Connection::open(server.address).await;
    connection.send(health).await;
    assert_eq!(connection.answer().await.unwrap().status, 200);
    sleep(Duration::from_millis(60)).await;
    server.shutdown.begin();
    assert!(timeout(PATIENCE, connection.is_closed()).await.unwrap());
    timeout(PATIENCE, server.serving).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_body_that_dribbles_is_told_408_and_closed() {
    let server = Harness::start_with(Setup::deadlines(|d| d.body_grace = SHORT)).await;
    let mut connection = Connection::open(server.address).await;
    let save = request("POST", "/api/save", &json_headers(SAVE), &[b' '; 10_000]);
    let head = save.len() - 10_000;
    connection.send(&save[..head]).await;
    let answer = timeout(PATIENCE, async {
        for byte in &save[head..] {
            connection.send([*byte]).await;
            if timeout(Duration::from_millis(5), connection.stream.readable()).await.is_ok() {
                break;
            }
        }
        connection.answer().await
    });
    let answer = answer.await.unwrap().unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (408, "BodyTimeout"));
    assert!(timeout(PATIENCE, connection.is_closed()).await.unwrap());
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_closed() {
    let server = Harness::start_with(Setup::deadlines(|d| d.write = SHORT)).await;
    let id = save_and_store(&server, format!("\"{}\"", "x".repeat(1_000_000))).await;
    let mut connection = Connection::open(server.address).await;
    let read = request("GET", &format!("/api/documents/{id}"), &[("X-Auth-Token", READ)], b"");
    // More answers than the buffers of both sockets can hold.
    connection.send(read.repeat(64)).await;
    let closed = async {
        while server.app.metrics.connections().open() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, closed).await.unwrap();
}

#[tokio::test]
async fn others_are_served_while_many_are_silent() {
    let server = Harness::start().await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        let mut connection = Connection::open(server.address).await;
        connection.send("POST /api/save HTTP/1.1\r\nHost:").await;
        silent.push(connection);
    }
    let answer = ask(server.address, "POST", "/api/save", &json_headers(SAVE), b"1").await;
    assert_eq!(answer.status, 202);
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_a_body_harms_nothing() {
    let server = Harness::start().await;
    for keep in [0, 1, 5] {
        let mut connection = Connection::open(server.address).await;
        let save = request("POST", "/api/save", &json_headers(SAVE), b"{\"a\":1}");
        connection.send(&save[..save.len() - 7 + keep]).await;
        drop(connection);
    }
    // One that only stops sending still gets to read why.
    let mut connection = Connection::open(server.address).await;
    let save = request("POST", "/api/save", &json_headers(SAVE), b"{\"a\":1}");
    connection.send(&save[..save.len() - 2]).await;
    tokio::io::AsyncWriteExt::shutdown(&mut connection.stream).await.unwrap();
    let answer = connection.answer().await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (400, "BodyIncomplete"));
    let answer = ask(server.address, "POST", "/api/save", &json_headers(SAVE), b"1").await;
    assert_eq!((answer.status, server.queue.len()), (202, 1));
}

async fn save_and_store(server: &Harness, body: String) -> String {
    let answer =
        ask(server.address, "POST", "/api/save", &json_headers(SAVE), body.as_bytes()).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    server.persist().await;
    answer.json()["MessageId"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_connection_whose_request_is_refused_before_its_body_came_can_be_used_again() {
    let server = Harness::start().await;
    let mut client = Connection::open(server.address).await;
    for _ in 0..2 {
        // The head alone; the answer must not be the end of what the client may send.
        client.send("POST /api/save HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n").await;
        client.send("[1]").await;
        let answer = client.answer().await.unwrap();
        assert_eq!((answer.status, answer.header("connection")), (401, None));
    }
    // A body that does not come is not waited for long, and a large one not at all: then the
    // client is told not to use the connection again.
    for length in [3, 1 << 20] {
        let mut client = Connection::open(server.address).await;
        let head =
            format!("POST /api/save HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        client.send(head).await;
        let answer = client.answer().await.unwrap();
        assert_eq!((answer.status, answer.header("connection")), (401, Some("close")));
    }
}
