//! `inlet get`, `list` and `tail`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

use crate::disk::clock::library;
use crate::server::{PATIENCE, Server, TOKEN, inlet};

fn run(directory: &Path, arguments: &[&str]) -> Output {
    inlet(directory).args(arguments).args(["--data", "data"]).output().unwrap()
}

fn printed(directory: &Path, arguments: &[&str]) -> String {
    let output = run(directory, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn refused(directory: &Path, arguments: &[&str], code: i32) -> String {
    let output = run(directory, arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    stderr
}

/// The bodies of what `list` or `tail` print with `--json`.
fn bodies(lines: &str) -> Vec<String> {
    let body = |line: &str| {
        let document: serde_json::Value = serde_json::from_str(line).unwrap();
        document["body"].as_str().unwrap().to_owned()
    };
    lines.lines().map(body).collect()
}

/// A command whose lines come while it runs. It ends with this.
struct Lines {
    child: Child,
    lines: Receiver<String>,
}

impl Lines {
    fn of(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines() {
                if line.is_err() || send.send(line.unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    fn next(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap()
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn a_document_is_got_by_the_first_digits_of_its_id() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"));
    let id = server.save("{\"hello\":\"world\"}");
    server.wait_until_stored(&id);
    for digits in [8, 13, 20, 36] {
        assert_eq!(printed(directory.path(), &["get", &id[..digits]]), "{\"hello\":\"world\"}");
    }
    let said = refused(directory.path(), &["get", &id[..7]], 2);
    assert!(said.contains("hint: give the whole id, or at least 8"), "{said}");
    let said = refused(directory.path(), &["get", "ffffffff"], 1);
    assert!(said.contains("no stored document whose id begins with ffffffff"), "{said}");
    // Others of the same minute begin alike.
    let other = server.save("2");
    server.wait_until_stored(&other);
    if id[..8] == other[..8] {
        let said = refused(directory.path(), &["get", &id[..8]], 1);
        assert!(said.contains(&id) && said.contains(&other), "{said}");
        assert!(said.contains("hint: give more digits"), "{said}");
    }
}

#[test]
fn a_document_with_a_key_is_got_by_its_first_digits_too() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"));
    let saved = server.post("/api/save", &[("Idempotency-Key", "order-1")], b"[7]");
    let id = saved.json()["MessageId"].as_str().unwrap().to_owned();
    server.wait_until_stored(&id);
    assert_eq!(printed(directory.path(), &["get", &id[..8]]), "[7]");
}

#[test]
fn a_document_that_is_not_stored_is_told_where_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"));
    let first = server.post("/api/save", &[("Idempotency-Key", "k")], b"1");
    let id = first.json()["MessageId"].as_str().unwrap().to_owned();
    server.wait_until_stored(&id);
    assert_eq!(server.delete(&format!("/api/documents/{id}")).status, 204);
    let said = refused(directory.path(), &["get", &id], 1);
    assert!(said.contains(&format!("error: there is no document {id}")), "{said}");
    assert!(said.contains("hint: `inlet list` lists documents"), "{said}");
    // One that nobody was ever given.
    let never = "019aa2f0-1111-7222-8333-444455556666";
    let said = refused(directory.path(), &["get", never], 1);
    assert!(said.contains(&format!("there is no document {never}")), "{said}");
}

#[test]
fn a_file_that_is_not_there_is_told_with_where_files_are_listed() {
    let directory = tempfile::tempdir().unwrap();
    let _server = Server::start(&directory.path().join("data"));
    for arguments in [&["file", "get", "nosuch"][..], &["file", "delete", "nosuch"]] {
        let said = refused(directory.path(), arguments, 1);
        assert!(said.contains("hint: `inlet file list` lists those there are"), "{said}");
        assert!(!said.contains("documents"), "{said}");
    }
}

#[test]
fn documents_are_listed_by_day_by_span_and_from_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"));
    for n in 1..=30 {
        let id = server.save(&n.to_string());
        server.wait_until_stored(&id);
    }
    let list =
        |flags: &[&str]| bodies(&printed(directory.path(), &[&["list", "--json"], flags].concat()));
    let last: Vec<String> = (11..=30).map(|n| n.to_string()).collect();
    assert_eq!(list(&["--last", "20"]), last);
    assert_eq!(list(&["--last", "1"]), ["30"]);
    assert_eq!(list(&["--last", "1000"]).len(), 30);
    assert_eq!(list(&["--since", "1h"]).len(), 30);
    assert_eq!(list(&["--from", "2001-01-01"]).len(), 30);
    assert_eq!(list(&["--from", "2999-01-01"]).len(), 0);
    assert_eq!(list(&["--to", "2001-01-01"]).len(), 0);
    assert_eq!(list(&["--from", "2001-01-01T00:00:00Z", "--limit", "2"]), ["1", "2"]);
    for flags in [
        &["--from", "yesterday"][..],
        &["--since", "1 hour"],
        &["--last", "0"],
        &["--last", "5", "--from", "2001-01-01"],
        &["--since", "1h", "--from", "2001-01-01"],
    ] {
        refused(directory.path(), &[&["list"], flags].concat(), 2);
    }
}

#[test]
fn tail_begins_at_the_servers_end_whatever_the_clock_of_the_client() {
    let Some(library) = library() else { return };
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"));
    let old = server.save("\"old\"");
    server.wait_until_stored(&old);
    // The clock of the client is ten minutes ahead. The command `faketime` would be a process between,
    // whose end is not that of the client.
    let mut command = inlet(directory.path());
    command.env("LD_PRELOAD", library).env("FAKETIME", "+10m");
    command.args(["tail", "--json", "--data", "data"]);
    let tail = Lines::of(&mut command);
    let mut sent = 0;
    let line = loop {
        sent += 1;
        server.save(&format!("\"new {sent}\""));
        if let Ok(line) = tail.lines.recv_timeout(std::time::Duration::from_millis(500)) {
            break line;
        }
        assert!(sent < 100, "nothing was shown");
    };
    let first = bodies(&line).remove(0);
    assert!(first.starts_with("\"new "), "{first}");
}

#[test]
fn tail_goes_on_where_it_was_when_the_server_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{address}");
    let start = || {
        let command = inlet(directory.path());
        let flags = ["--plain", &address.to_string(), "--https", "off", "--http", "off"];
        Server::start_bare(command, "up", &data, &flags, Some(TOKEN))
    };
    let server = start();
    let mut command = inlet(directory.path());
    command.args(["tail", "--json", "--since", "1h", "--url", &url, "--token", TOKEN]);
    let mut tail = Lines::of(command.stderr(Stdio::piped()));
    server.save("1");
    assert_eq!(bodies(&tail.next()), ["1"]);
    assert!(server.stop().success());
    let mut said = BufReader::new(tail.child.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.contains("trying again until it is back"), "{line}");
    let server = start();
    for n in [2, 3] {
        let id = server.save(&n.to_string());
        server.wait_until_stored(&id);
    }
    assert_eq!(bodies(&tail.next()), ["2"]);
    assert_eq!(bodies(&tail.next()), ["3"]);
}

#[test]
fn a_reader_that_goes_away_ends_a_command_quietly() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"));
    for n in 0..20 {
        server.save(&format!("\"{n}{}\"", "x".repeat(20_000)));
    }
    server.wait_until_drained();
    for command in ["list --json", "replay", "export", "tail --since 1h --limit 20"] {
        let script = format!("{} {command} --data data | head -c 10", env!("CARGO_BIN_EXE_inlet"));
        let output = Command::new("bash")
            .args(["-c", &format!("set -o pipefail; {script} >/dev/null")])
            .current_dir(directory.path())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{command}: {:?} {said}", output.status);
        assert!(!said.contains("error:"), "{command}: {said}");
    }
}

#[test]
fn what_is_listed_is_json_where_that_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"));
    let id = server.save("{\"a\":1}");
    server.wait_until_stored(&id);
    std::fs::File::create(directory.path().join("f")).unwrap().write_all(b"file").unwrap();
    printed(directory.path(), &["file", "put", "f"]);
    printed(directory.path(), &["token", "add", "x"]);
    for arguments in [
        &["list"][..],
        &["list", "--last", "1"],
        &["streams"],
        &["dead-letters"],
        &["redrive", "--dry-run"],
        &["file", "list"],
        &["token", "list"],
        &["config"],
        &["status"],
        &["get", &id],
        &["fsck"],
    ] {
        let lines = printed(directory.path(), &[arguments, &["--json"]].concat());
        for line in lines.lines() {
            let value: Result<serde_json::Value, _> = serde_json::from_str(line);
            assert!(value.is_ok_and(|value| value.is_object()), "{arguments:?}: {line}");
        }
    }
}
