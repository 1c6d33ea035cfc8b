//! `inlet bench`.

use std::path::Path;
use std::process::Output;

use crate::remote::Stranger;
use crate::server::{Server, TOKEN, inlet};

fn bench(directory: &Path, flags: &[&str]) -> Output {
    let quick = ["bench", "--seconds", "0.3", "--connections", "4"];
    inlet(directory).args(quick).args(flags).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_server_of_others_is_measured_in_a_stream_of_its_own_that_is_empty_afterwards() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"));
    let kept = server.save("\"kept\"");
    server.wait_until_stored(&kept);
    for flags in [&[][..], &["--batch", "5"], &["--stored"]] {
        let flags =
            [&["--url", server.plain(), "--token", TOKEN, "--yes", "--json"], flags].concat();
        let output = bench(directory.path(), &flags);
        assert!(output.status.success(), "{}", said(&output));
        let outcome: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(outcome["accepted"].as_u64().unwrap() > 0, "{outcome}");
        server.wait_until_drained();
        let listed = server.get("/api/documents").json();
        assert_eq!(listed["documents"].as_array().unwrap().len(), 1, "{listed}");
        assert_eq!(listed["documents"][0]["id"], kept.as_str());
        for stream in server.get("/api/streams").json()["streams"].as_array().unwrap() {
            let count = u64::from(stream["stream"] == "default");
            assert_eq!(stream["documents"], count, "{stream}");
        }
    }
}

#[test]
fn nothing_is_sent_to_a_server_of_others_before_the_answer_to_a_question() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"));
    let output = bench(directory.path(), &["--url", server.plain(), "--token", TOKEN]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("hint: stdin is no terminal; pass `--yes`"),
        "{}",
        said(&output)
    );
    assert!(said(&output).contains("are erased afterwards"), "{}", said(&output));
    assert_eq!(server.get("/api/streams").json()["streams"].as_array().unwrap().len(), 0);
}

#[test]
fn a_token_that_could_not_erase_is_refused_before_anything_is_sent() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_with(&directory.path().join("data"), &[], None);
    let added = inlet(directory.path()).args(["token", "add", "x", "--data", "data"]).output();
    let token = String::from_utf8(added.unwrap().stdout).unwrap();
    let flags = ["--url", server.plain(), "--token", token.trim(), "--yes"];
    let output = bench(directory.path(), &flags);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("scopes save, read and admin"), "{}", said(&output));
    let listed = inlet(directory.path()).args(["list", "--data", "data"]).output().unwrap();
    assert!(listed.status.success() && listed.stdout.is_empty());
}

#[test]
fn a_token_is_shown_to_no_server_whose_certificate_is_not_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"));
    let url = format!("https://{}", server.https());
    let output = bench(directory.path(), &["--url", &url, "--token", TOKEN, "--yes"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("with --cacert"), "{}", said(&output));
    let cacert = directory.path().join("data/tls/cert.pem").display().to_string();
    let flags = ["--url", &url, "--token", TOKEN, "--yes", "--cacert", &cacert];
    let output = bench(directory.path(), &flags);
    assert!(output.status.success(), "{}", said(&output));
    // One that is no Inlet gets no document either.
    let stranger = Stranger::answering("200 OK");
    bench(directory.path(), &["--url", &stranger.url]);
    assert!(stranger.all().iter().all(|request| request.body.is_empty()));
}

#[test]
fn a_server_of_its_own_is_measured_with_tls_and_without_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    for flags in [&[][..], &["--tls"], &["--stored"]] {
        let output = bench(directory.path(), flags);
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
