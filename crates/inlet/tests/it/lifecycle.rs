//! What happens to documents after they were stored, and to a log that was damaged.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::server::{Server, TOKEN, inlet, until};

fn run(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = inlet(directory).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn an_erased_document_is_gone_and_its_key_can_be_used_again() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"));
    let key = [("Idempotency-Key", "consent-1")];
    let id = server.post("/api/save", &key, b"{\"v\": 1}").json()["MessageId"].clone();
    let id = id.as_str().unwrap();
    server.wait_until_stored(id);
    assert_eq!(server.get(&format!("/api/documents/{id}")).status, 200);
    assert_eq!(server.delete(&format!("/api/documents/{id}")).status, 204);
    assert_eq!(server.get(&format!("/api/documents/{id}")).status, 404);
    assert_eq!(server.get(&format!("/api/receipts/{id}")).status, 404);
    let again = server.post("/api/save", &key, b"{\"v\": 2}");
    assert_eq!(again.status, 202, "{}", again.text());
    server.wait_until_stored(id);
    assert_eq!(server.get(&format!("/api/documents/{id}")).text(), "{\"v\": 2}");
}

#[test]
fn a_document_is_given_once_to_a_client_that_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"));
    let id = server.save("[1]");
    server.wait_until_stored(&id);
    let first = server.get(&format!("/api/documents/{id}"));
    let etag = first.headers["etag"].to_str().unwrap().to_owned();
    let again = ureq::get(format!("{}/api/documents/{id}", server.plain()))
        .header("X-Auth-Token", TOKEN)
        .header("If-None-Match", &etag)
        .call()
        .unwrap();
    assert_eq!(again.status(), 304);
}

#[test]
fn a_backup_is_restored_into_an_empty_directory_document_by_document() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"));
    let lines: String = (0..777).map(|n| format!("{{\"n\":{n}, \"t\":\"\u{e9}\\n\"}}\n")).collect();
    let headers = [("Content-Type", "application/x-ndjson")];
    let answer = server.post("/api/save/batch?stream=orders", &headers, lines.as_bytes());
    assert_eq!(answer.status, 202, "{}", answer.text());
    server.wait_until_drained();
    let (code, _, stderr) = run(directory.path(), &["summarize", "--data", "data"]);
    assert_eq!(code, Some(0), "{stderr}");
    let exported = |data: &str| -> Vec<Value> {
        let (code, stdout, stderr) = run(directory.path(), &["export", "--data", data]);
        assert_eq!(code, Some(0), "{stderr}");
        let mut lines: Vec<Value> =
            stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for line in &mut lines {
            // The new store took it at another moment.
            line["stored"].take();
        }
        lines
    };
    let before = exported("data");
    assert_eq!(before.len(), 777);
    assert!(server.stop().success());

    let bucket = directory.path().join("data/bucket");
    let arguments = ["restore", "--data", "new", "--from", bucket.to_str().unwrap()];
    let (code, stdout, stderr) = run(directory.path(), &arguments);
    assert_eq!((code, stdout.starts_with("777 documents")), (Some(0), true), "{stdout}{stderr}");
    assert_eq!(exported("new"), before);
    let (code, _, stderr) = run(directory.path(), &arguments);
    assert_eq!(code, Some(1), "a second restore went into a store that is not empty: {stderr}");
    assert!(stderr.contains("hint:"), "{stderr}");
}

#[test]
fn a_full_queue_is_503_until_a_worker_in_another_process_has_stored_it() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = Server::start_as("serve", &data, &["--queue-bytes-max", "64KiB"], Some(TOKEN));
    let mut ids = Vec::new();
    let full = loop {
        let answer = server.post("/api/save", &[], b"[1]");
        if answer.status != 202 {
            break answer;
        }
        ids.push(answer.json()["MessageId"].as_str().unwrap().to_owned());
        assert!(ids.len() < 1_000, "64 KiB hold no thousand blocks");
    };
    assert_eq!((full.status, full.json()["code"].as_str()), (503, Some("Full")));
    assert!(full.headers.contains_key("retry-after"));
    let mut worker = inlet(directory.path()).args(["persist", "--data", "data"]).spawn().unwrap();
    until("there is room again", || server.post("/api/save", &[], b"[2]").status == 202);
    ids.iter().for_each(|id| server.wait_until_stored(id));
    worker.kill().unwrap();
    worker.wait().unwrap();
}

/// The segments of the only log under `data`, oldest first.
fn segments(data: &Path) -> Vec<PathBuf> {
    let logs = std::fs::read_dir(data.join("log")).unwrap();
    let log = logs.map(|entry| entry.unwrap().path()).find(|path| path.is_dir()).unwrap();
    let mut segments: Vec<PathBuf> = std::fs::read_dir(log)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    segments.sort();
    segments
}

/// Flips a bit of the document with these bytes in the only log under `data`, and gives the
/// segment it is in.
pub(crate) fn flip_a_bit(data: &Path, document: &[u8]) -> PathBuf {
    let found = segments(data).into_iter().find_map(|path| {
        let bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(document.len()).position(|window| window == document)?;
        Some((path, bytes, at))
    });
    let (path, mut bytes, at) = found.unwrap();
    bytes[at + 3] ^= 0x10;
    std::fs::write(&path, &bytes).unwrap();
    path
}

#[test]
fn a_flipped_bit_in_the_log_is_refused_found_and_repaired_and_the_rest_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    // A process that only accepts: everything stays in the log.
    let server = Server::start_as("serve", &data, &[], Some(TOKEN));
    let ids: Vec<String> = (0..20).map(|n| server.save(&format!("{{\"number\": {n}}}"))).collect();
    server.kill();
    let path = flip_a_bit(&data, b"{\"number\": 7}");

    let (code, _, stderr) =
        run(directory.path(), &["up", "--https", "127.0.0.1:0", "--http", "off", "--data", "data"]);
    let name = path.file_name().unwrap().to_str().unwrap();
    assert_eq!(code, Some(1), "{stderr}");
    assert!(
        stderr.contains(name) && stderr.contains("offset") && stderr.contains("inlet fsck"),
        "{stderr}"
    );
    let (code, stdout, stderr) = run(directory.path(), &["fsck", "--data", "data"]);
    assert_eq!((code, stdout.contains(name)), (Some(1), true), "{stdout}{stderr}");
    let (code, stdout, stderr) = run(directory.path(), &["fsck", "--repair", "--data", "data"]);
    assert_eq!(code, Some(1), "what it lost is no success: {stdout}{stderr}");
    assert!(stdout.contains("lost: ") && stdout.contains(&ids[7]), "{stdout}{stderr}");

    let server = Server::start(&data);
    server.wait_until_drained();
    let found = |id: &String| server.get(&format!("/api/documents/{id}")).status;
    let statuses: Vec<u16> = ids.iter().map(found).collect();
    let missing: Vec<usize> = (0..20).filter(|n| statuses[*n] != 200).collect();
    assert_eq!(missing, [7], "{statuses:?}");
    assert!(server.stop().success());
}
