//! The first minute, as the README has it.

use std::process::Command;

use serde_json::Value;

use crate::server::{Server, TOKEN, until};

/// The curl line of a banner.
fn curl_line(banner: &str) -> &str {
    banner.lines().map(str::trim).find(|line| line.starts_with("curl ")).unwrap()
}

fn run(line: &str) -> Vec<u8> {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn the_printed_curl_line_is_answered_with_a_receipt_and_the_document_is_stored() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = Server::start_with(&data, &[], None);
    let line = format!("{} --silent --show-error", curl_line(&server.banner));
    let receipt: Value = serde_json::from_slice(&run(&line)).unwrap();
    for member in ["ResponseMetadata", "MD5OfMessageBody", "MessageId", "body"] {
        assert!(receipt.get(member).is_some(), "{receipt} lacks {member}");
    }
    assert!(receipt["ResponseMetadata"]["RequestId"].is_string());
    let id = receipt["MessageId"].as_str().unwrap().to_owned();
    let token = std::fs::read_to_string(data.join("token")).unwrap();
    let ask = |server: &Server, path: &str| {
        let url = format!("{}{path}", server.plain());
        run(&format!("curl -sS -H 'X-Auth-Token: {}' {url}", token.trim()))
    };
    until("the receipt says stored", || {
        let state: Value =
            serde_json::from_slice(&ask(&server, &format!("/api/receipts/{id}"))).unwrap();
        assert!(matches!(state["state"].as_str(), Some("queued" | "stored")), "{state}");
        state["state"] == "stored"
    });
    let document = ask(&server, &format!("/api/documents/{id}"));
    assert_eq!(String::from_utf8(document.clone()).unwrap(), receipt["body"].as_str().unwrap());

    let first_banner = server.banner.clone();
    assert!(server.stop().success());
    let again = Server::start_with(&data, &[], None);
    let token_of = |banner: &str| {
        banner.split_whitespace().find(|word| word.starts_with("inlet_")).unwrap().to_owned()
    };
    assert_eq!(token_of(&again.banner), token_of(&first_banner), "a second start, another token");
    assert_eq!(ask(&again, &format!("/api/documents/{id}")), document);
}

#[test]
fn a_token_from_outside_is_used_and_not_printed() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"));
    assert!(!server.banner.contains(TOKEN), "{}", server.banner);
    let id = server.save("[1, 2]");
    server.wait_until_stored(&id);
    assert_eq!(server.get(&format!("/api/documents/{id}")).text(), "[1, 2]");
}

#[test]
fn the_curl_line_of_the_readme_puts_a_file_as_it_is_printed() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let readme = std::fs::read_to_string(readme).unwrap().replace("\\\n", "");
    let commands = |begins: &str| {
        let lines = readme.lines().filter_map(|line| line.strip_prefix("$ "));
        lines.filter(|line| line.starts_with(begins)).map(str::to_owned).collect::<Vec<_>>()
    };
    let (tokens, curls) = (commands("TOKEN="), commands("curl --cacert inlet-data"));
    assert_eq!((tokens.len(), curls.len()), (1, 1));
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("video.mp4"), b"a film").unwrap();
    let server = Server::start_with(&directory.path().join("inlet-data"), &[], None);
    let port = server.https().rsplit(':').next().unwrap();
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_inlet")).parent().unwrap();
    // A server takes up a new token within a second.
    let script = format!(
        "set -e; cd {}; PATH={}:$PATH; {}; {} --fail -sS --retry 5 --retry-all-errors",
        directory.path().display(),
        program.display(),
        tokens[0],
        curls[0].replace("8443", port),
    );
    run(&script);
    let name = curls[0].rsplit("/api/files/").next().unwrap();
    let token = std::fs::read_to_string(directory.path().join("inlet-data/token")).unwrap();
    let url = format!("{}/api/files/{name}", server.plain());
    assert_eq!(run(&format!("curl -sS -H 'X-Auth-Token: {}' {url}", token.trim())), b"a film");
}
