//! What a user expects of Inlet, whatever engines stand behind it.

use std::path::Path;

use inlet_core::document::hex;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::servers::AWS;
use crate::server::{Server, TOKEN, inlet, until};

/// Sends, reads, repeats, conflicts, erases and sums up.
pub(super) fn works_as_promised(server: &Server, data: &Path, flags: &[&str]) {
    a_document_comes_back_byte_for_byte(server);
    a_repeat_is_no_second_document(server);
    a_key_with_another_body_is_a_conflict(server);
    a_batch_is_listed_in_order(server);
    an_erased_document_stays_erased(server);
    a_large_document_is_no_exception(server);
    a_summary_is_written(server, data, flags);
    a_file_is_put_whole_and_in_parts(server);
    let ready = server.get("/readyz");
    assert_eq!(ready.status, 200, "{}", ready.text());
}

fn a_file_is_put_whole_and_in_parts(server: &Server) {
    let put = |path: &str, body: &[u8]| {
        let url = format!("{}{path}", server.plain());
        let mut answer = ureq::put(url).header("X-Auth-Token", TOKEN).send(body).unwrap();
        let status = answer.status().as_u16();
        (status, answer.body_mut().read_to_string().unwrap())
    };
    let whole = put("/api/files/a/b%20c.txt", b"0123456789");
    assert_eq!(whole.0, 201, "{}", whole.1);
    assert_eq!(server.get("/api/files/a/b%20c.txt").body, b"0123456789");
    let path = "/api/files/in/parts";
    let begun = server.post(&format!("{path}?uploads"), &[], b"").json();
    let upload = begun["uploadId"].as_str().unwrap();
    let first = vec![b'x'; 5 << 20];
    for (number, part) in [(1, first.as_slice()), (2, b"the end")] {
        let answer = put(&format!("{path}?uploadId={upload}&partNumber={number}"), part);
        assert_eq!(answer.0, 200, "{}", answer.1);
    }
    let parts = server.get(&format!("{path}?uploadId={upload}")).json();
    assert_eq!(parts["parts"].as_array().unwrap().len(), 2);
    let made = server.post(&format!("{path}?uploadId={upload}"), &[], b"");
    assert_eq!(made.status, 201, "{}", made.text());
    let found = server.get(path);
    assert!(found.body == [first.as_slice(), b"the end"].concat());
    let whole = Sha256::new().chain_update(&first).chain_update("the end").finalize();
    assert_eq!(found.headers["etag"], format!("\"{}\"", hex(&whole)));
    let listed = server.get("/api/files?prefix=in/").json();
    assert_eq!(listed["files"][0]["key"], "in/parts");
    assert_eq!(server.delete(path).status, 204);
    assert_eq!(server.get(path).status, 404);
}

fn a_document_comes_back_byte_for_byte(server: &Server) {
    let body = "{\"a\": 1.00,\t\"b\": \"\\u00e9\u{e9}\u{1f600}\",\n \"c\": 1e2}";
    let id = server.save(body);
    server.wait_until_stored(&id);
    let found = server.get(&format!("/api/documents/{id}"));
    assert_eq!((found.status, found.text()), (200, body.to_owned()));
    // The second time it may come from the cache.
    let again = server.get(&format!("/api/documents/{id}"));
    assert_eq!((again.status, again.text()), (200, body.to_owned()));
    let unknown = server.get("/api/receipts/0190a0b0-0000-7000-8000-000000000000");
    assert_eq!(unknown.status, 404, "{}", unknown.text());
}

fn a_repeat_is_no_second_document(server: &Server) {
    let send = || {
        let headers = [("Idempotency-Key", "order-1")];
        let answer = server.post("/api/save?stream=repeats", &headers, br#"{"order":1}"#);
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.json()["MessageId"].as_str().unwrap().to_owned()
    };
    let id = send();
    server.wait_until_stored(&id);
    assert_eq!(send(), id);
    // Behind the repeat in the queue: once this is stored, the repeat was dealt with.
    let marker = server.save(r#"{"behind":"the repeat"}"#);
    server.wait_until_stored(&marker);
    until("the stream has one document", || stream(server, "repeats")["documents"] == 1);
}

fn a_key_with_another_body_is_a_conflict(server: &Server) {
    let headers = [("Idempotency-Key", "order-1")];
    let answer = server.post("/api/save?stream=repeats", &headers, br#"{"order":2}"#);
    assert_eq!(answer.status, 409, "{}", answer.text());
}

fn a_batch_is_listed_in_order(server: &Server) {
    let lines: Vec<String> = (0..50).map(|n| json!({ "n": n }).to_string()).collect();
    let headers = [("Content-Type", "application/x-ndjson")];
    let body = lines.join("\n");
    let answer = server.post("/api/save/batch?stream=batch", &headers, body.as_bytes());
    assert_eq!(answer.status, 202, "{}", answer.text());
    until("the batch is stored", || stream(server, "batch")["documents"] == 50);
    let mut found = Vec::new();
    let mut path = "/api/documents?stream=batch&limit=20".to_owned();
    loop {
        let page = server.get(&path).json();
        let documents = page["documents"].as_array().unwrap();
        found.extend(documents.iter().map(|one| one["body"].as_str().unwrap().to_owned()));
        if page["more"] != true {
            break;
        }
        let next = page["next"].as_str().unwrap();
        path = format!("/api/documents?stream=batch&limit=20&cursor={next}");
    }
    found.sort_unstable();
    let mut expected = lines;
    expected.sort_unstable();
    assert_eq!(found, expected);
}

fn an_erased_document_stays_erased(server: &Server) {
    let id = server.save(r#"{"erase":"me"}"#);
    server.wait_until_stored(&id);
    assert_eq!(server.get(&format!("/api/documents/{id}")).status, 200);
    assert_eq!(server.delete(&format!("/api/documents/{id}")).status, 204);
    assert_eq!(server.get(&format!("/api/documents/{id}")).status, 404);
}

/// Larger than an item of DynamoDB may be.
fn a_large_document_is_no_exception(server: &Server) {
    let body = json!({ "filler": "x".repeat(700_000) }).to_string();
    let id = server.save(&body);
    server.wait_until_stored(&id);
    assert_eq!(server.get(&format!("/api/documents/{id}")).text(), body);
}

fn a_summary_is_written(server: &Server, data: &Path, flags: &[&str]) {
    let week = jiff::Zoned::now().with_time_zone(jiff::tz::TimeZone::UTC).date().iso_week_date();
    let week = format!("{}-W{:02}", week.year(), week.week());
    let output = inlet(data.parent().unwrap())
        .args(["summarize", "--week", &week, "--data"])
        .arg(data)
        .envs(variables(flags))
        .envs(AWS.variables())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let summary = server.get(&format!("/api/summaries/{week}.json"));
    assert_eq!(summary.status, 200, "{}", summary.text());
    assert!(summary.json()["total"]["documents"].as_u64().unwrap() >= 53, "{}", summary.text());
}

/// These flags as variables, which speak to every command: one that can't honour a setting passes
/// over its variable, and refuses its flag.
fn variables(flags: &[&str]) -> Vec<(String, String)> {
    let name = |flag: &str| format!("INLET_{}", flag[2..].replace('-', "_").to_uppercase());
    flags.chunks_exact(2).map(|pair| (name(pair[0]), pair[1].to_owned())).collect()
}

fn stream(server: &Server, name: &str) -> serde_json::Value {
    let streams = server.get("/api/streams").json();
    let streams = streams["streams"].as_array().unwrap();
    streams.iter().find(|one| one["stream"] == name).cloned().unwrap_or_default()
}
