//! `inlet replay` to a URL: what it sends, how fast, and how it goes on.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::remote::Stranger;
use crate::server::{Server, TOKEN, inlet};

/// A server with `count` documents, the numbers from 0.
fn server_with(directory: &Path, count: usize) -> Server {
    let server = Server::start(&directory.join("data"));
    let lines: String = (0..count).map(|n| format!("{n}\n")).collect();
    let sent = server.post(
        "/api/save/batch",
        &[("Content-Type", "application/x-ndjson")],
        lines.as_bytes(),
    );
    assert_eq!(sent.status, 202);
    server.wait_until_drained();
    server
}

fn replay(directory: &Path, flags: &[&str]) -> Command {
    let mut command = inlet(directory);
    // Notes are kept in the directory of the test.
    command.env("XDG_STATE_HOME", directory.join("state"));
    command.args(["replay", "--data", "data"]).args(flags);
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn documents_are_posted_with_their_ids_as_keys_and_the_headers_that_are_given() {
    let directory = tempfile::tempdir().unwrap();
    let server = server_with(directory.path(), 3);
    let sink = Stranger::answering("200 OK");
    let url = sink.url.replace("http://", "http://me:ge%2Fheim@") + "/hook?x=1";
    let flags = ["--to-url", &url, "--header", "X-Team: inlet", "--rate", "1000"];
    let output = replay(directory.path(), &flags).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let listed = server.get("/api/documents").json();
    for (n, request) in sink.all().iter().enumerate() {
        assert_eq!(request.body, n.to_string());
        assert!(request.head.starts_with("post /hook?x=1 http/1.1\r\n"), "{}", request.head);
        let id = listed["documents"][n]["id"].as_str().unwrap();
        assert!(request.head.contains(&format!("idempotency-key: {id}\r\n")), "{}", request.head);
        assert!(request.head.contains("x-team: inlet\r\n"), "{}", request.head);
        // The base64 of `me:ge/heim`, in small letters.
        assert!(
            request.head.contains("authorization: basic bwu6z2uvagvpbq==\r\n"),
            "{}",
            request.head
        );
        assert!(!request.head.contains(TOKEN) && !request.head.contains("x-auth-token"));
    }
}

#[test]
fn the_rate_is_never_above_its_cap_also_after_the_sink_held_it_up() {
    let directory = tempfile::tempdir().unwrap();
    let _server = server_with(directory.path(), 80);
    let sink = Stranger::with(|n, _| match n {
        20 => "503 Service Unavailable\r\nRetry-After: 1".to_owned(),
        _ => "200 OK".to_owned(),
    });
    let begun = Instant::now();
    let flags = ["--to-url", &sink.url, "--rate", "50"];
    let output = replay(directory.path(), &flags).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let requests = sink.all();
    assert_eq!(requests.len(), 81, "one was sent twice");
    // Of 80 intervals between 81 requests one is the second that the sink asked for.
    assert!(begun.elapsed() >= Duration::from_millis(79 * 20 + 1_000));
    for window in requests.windows(11) {
        let took = window[10].at - window[0].at;
        // Ten intervals of 20 ms, but for how late a request may be seen.
        assert!(took >= Duration::from_millis(170), "{took:?}");
    }
}

#[test]
fn a_sink_that_takes_nothing_for_a_moment_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let _server = server_with(directory.path(), 4);
    for status in ["500 Oops", "429 Slow down", "408 Late"] {
        let answer = format!("{status}\r\nRetry-After: 0");
        let sink =
            Stranger::with(move |n, _| if n % 2 == 0 { answer.clone() } else { "204 Ok".into() });
        let flags = ["--to-url", &sink.url, "--rate", "1000"];
        let output = replay(directory.path(), &flags).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let bodies: Vec<String> = sink.all().into_iter().map(|request| request.body).collect();
        assert_eq!(bodies, ["0", "0", "1", "1", "2", "2", "3", "3"], "{status}");
    }
}

#[test]
fn a_replay_that_broke_off_goes_on_and_begins_anew_where_it_was_through() {
    let directory = tempfile::tempdir().unwrap();
    let _server = server_with(directory.path(), 9);
    let sink = Stranger::with(|n, _| if n == 5 { "422 No" } else { "200 OK" }.to_owned());
    let url = format!("{}/?token=geheim", sink.url);
    let run = |flags: &[&str]| {
        let flags = [&["--to-url", &url, "--rate", "1000"], flags].concat();
        let output = replay(directory.path(), &flags).output().unwrap();
        let bodies: Vec<String> = sink.all().into_iter().map(|request| request.body).collect();
        (output.status.code().unwrap(), bodies.join(""), said(&output))
    };
    let (code, bodies, told) = run(&[]);
    assert_eq!((code, bodies.as_str()), (1, "012345"), "{told}");
    assert!(told.contains("refused document") && told.contains(": 422"), "{told}");
    assert!(!told.contains("geheim"), "{told}");
    let (code, bodies, told) = run(&[]);
    assert_eq!((code, bodies.as_str()), (0, "5678"), "{told}");
    assert!(told.contains("going on where it broke off, after 5 documents"), "{told}");
    let (code, bodies, told) = run(&[]);
    assert_eq!((code, bodies.as_str()), (0, "012345678"), "it was through: {told}");
    // Nothing of it is a secret in the note of the next, which is gone when it is through.
    assert_eq!(std::fs::read_dir(directory.path().join("state/inlet/replays")).unwrap().count(), 0);
}

#[test]
fn a_replay_that_was_killed_goes_on_and_can_be_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let _server = server_with(directory.path(), 300);
    let sink = Stranger::answering("200 OK");
    let flags = ["--to-url", &sink.url, "--rate", "100"];
    let mut child = replay(directory.path(), &flags).spawn().unwrap();
    let before: Vec<usize> = (0..150).map(|_| sink.request().body.parse().unwrap()).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(before, (0..150).collect::<Vec<_>>());
    let flags = ["--to-url", &sink.url, "--rate", "100000"];
    drop(sink.all());
    let output = replay(directory.path(), &flags).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let after: Vec<usize> =
        sink.all().iter().map(|request| request.body.parse().unwrap()).collect();
    assert_eq!(after.last(), Some(&299));
    // Documents of its last half second come again, and no more than that.
    assert!((60..=151).contains(&after[0]), "{}", after[0]);
    assert!(after.windows(2).all(|pair| pair[1] == pair[0] + 1));
    let mut child =
        replay(directory.path(), &["--to-url", &sink.url, "--rate", "100"]).spawn().unwrap();
    for _ in 0..80 {
        sink.request();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    drop(sink.all());
    let flags = ["--to-url", &sink.url, "--rate", "100000", "--restart"];
    assert!(replay(directory.path(), &flags).output().unwrap().status.success());
    assert_eq!(sink.request().body, "0");
}

#[test]
fn a_sink_with_a_certificate_of_its_own_is_trusted_by_cacert() {
    let directory = tempfile::tempdir().unwrap();
    let _server = server_with(directory.path(), 2);
    // Another Inlet takes them.
    let other = Server::start_with(&directory.path().join("other"), &[], Some(TOKEN));
    let url = format!("https://{}/api/save?stream=copied", other.https());
    let token = format!("X-Auth-Token: {TOKEN}");
    let flags = ["--to-url", &url, "--header", &token, "--rate", "1000"];
    let output = replay(directory.path(), &flags).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = said(&output);
    assert!(told.contains("name the certificate, or its authority's, with --cacert"), "{told}");
    let output = replay(directory.path(), &flags).args(["--cacert", "other/tls/cert.pem"]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", said(&output));
    other.wait_until_drained();
    let listed = other.get("/api/documents?stream=copied").json();
    assert_eq!(listed["documents"].as_array().unwrap().len(), 2);
}

#[test]
fn no_message_of_a_replay_shows_what_the_url_or_a_header_keeps() {
    let directory = tempfile::tempdir().unwrap();
    let _server = server_with(directory.path(), 1);
    let refusing = Stranger::answering("401 Unauthorized");
    let sending_on = Stranger::answering("302 Found\r\nLocation: http://elsewhere/geheim");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let secret = |url: &str| url.replace("://", "://me:geheim@") + "/?password=geheim";
    for url in [
        secret(&refusing.url),
        secret(&sending_on.url),
        secret("https://nosuch.invalid"),
        secret(&format!("https://{nobody}")).replace("https", "ftp"),
        "http://me:geheim@".to_owned(),
    ] {
        let flags = ["--to-url", &url, "--header", "Authorization: geheim"];
        let output = replay(directory.path(), &flags).output().unwrap();
        let told = said(&output);
        assert!(!output.status.success() && !told.contains("geheim"), "{url}: {told}");
        assert!(told.contains("hint: "), "{told}");
    }
}
