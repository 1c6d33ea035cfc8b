//! What the command line prints, and with which exit code.

use std::path::Path;
use std::process::Output;

use crate::server::{Server, TOKEN, inlet};

fn run(directory: &Path, arguments: &[&str]) -> Output {
    inlet(directory).args(arguments).output().unwrap()
}

/// The command, its exit code and both outputs, as a snapshot has them.
fn shown(arguments: &[&str], output: &Output) -> String {
    format!(
        "$ inlet {}\nexit code: {}\n--- stdout\n{}--- stderr\n{}",
        arguments.join(" "),
        output.status.code().unwrap(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    )
}

/// Pins what a command prints in an empty directory.
macro_rules! pinned {
    ($name:ident, $($argument:expr),+) => {
        #[test]
        fn $name() {
            let directory = tempfile::tempdir().unwrap();
            let arguments = [$($argument),+];
            let output = run(directory.path(), &arguments);
            insta::assert_snapshot!(stringify!($name), shown(&arguments, &output));
        }
    };
}

#[cfg(feature = "deploy")]
pinned!(help_is_short_and_complete, "-h");
pinned!(help_of_a_command_names_its_flags, "dead-letters", "-h");
pinned!(settings_are_listed_with_their_origins, "config", "--zone", "eu-1a");
pinned!(a_word_that_is_no_command_is_refused, "uup");
pinned!(a_value_that_does_not_fit_is_refused, "config", "--body-bytes-max", "lots");
pinned!(an_id_that_is_none_is_refused, "get", "42");
pinned!(a_filter_that_is_none_is_refused, "redrive", "--where", "colour=red");
pinned!(a_store_that_is_not_known_is_refused, "export", "--store", "mongodb://x");
pinned!(a_week_that_is_none_is_refused, "summarize", "--week", "2026-47");
pinned!(without_a_server_there_is_a_hint, "list");

#[test]
fn completions_are_made_for_every_shell() {
    let directory = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(directory.path(), &["completions", shell]);
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains("dead-letters"), "{shell}");
    }
}

#[test]
fn documents_are_sent_listed_read_and_exported_from_the_command_line() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_with(&directory.path().join("data"), &[], None);
    let ours = |arguments: &[&str]| {
        let output = run(directory.path(), &[arguments, &["--data", "data"]].concat());
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    };
    let lines: String = (0..1_234).map(|n| format!("{{\"n\": {n}}}\n")).collect();
    std::fs::write(directory.path().join("orders.ndjson"), &lines).unwrap();
    let sent = ours(&["send", "orders.ndjson", "--stream", "orders"]);
    assert_eq!(sent, "1234 new, 0 already there, 0 refused\n");
    let again = ours(&["send", "orders.ndjson", "--stream", "orders"]);
    assert_eq!(again, "0 new, 1234 already there, 0 refused\n");
    server.wait_until_drained();

    let streams = ours(&["streams", "--json"]);
    let streams: serde_json::Value = serde_json::from_str(&streams).unwrap();
    assert_eq!((&streams["stream"], &streams["documents"]), (&"orders".into(), &1234.into()));

    let listed = ours(&["list", "--stream", "orders", "--limit", "2000", "--json"]);
    let listed: Vec<serde_json::Value> =
        listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(listed.len(), 1_234);
    let id = listed[7]["id"].as_str().unwrap();
    assert_eq!(ours(&["get", id]), listed[7]["body"].as_str().unwrap());

    let exported = ours(&["export", "--stream", "orders"]);
    assert!(exported.lines().count() >= 1_234);
    assert!(exported.contains(id));
    let replayed = ours(&["replay", "--stream", "orders", "--rate", "1000000"]);
    let mut sorted: Vec<&str> = replayed.lines().collect();
    sorted.sort_unstable();
    let mut wanted: Vec<&str> = lines.lines().collect();
    wanted.sort_unstable();
    assert_eq!(sorted, wanted);
    assert_eq!(ours(&["dead-letters"]), "");
    assert_eq!(ours(&["redrive", "--dry-run"]), "0 of 0 would go back to the queue\n");
    let tailed = ours(&["tail", "--from", "2000-01-01T00:00:00Z", "--limit", "3"]);
    assert_eq!(tailed.lines().count(), 3);
}

#[test]
fn a_refused_line_is_named_and_the_others_are_sent() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"));
    std::fs::write(directory.path().join("mixed.ndjson"), "{\"a\":1}\nnonsense\n[2]\n").unwrap();
    let output = inlet(directory.path())
        .args(["send", "mixed.ndjson", "--data", "data", "--token", TOKEN])
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("mixed.ndjson:2:"), "{stderr}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "2 new, 0 already there, 1 refused\n");
    server.wait_until_drained();
}

#[test]
fn a_revoked_token_is_refused_by_the_running_server() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_with(&directory.path().join("data"), &[], None);
    let added = run(directory.path(), &["token", "add", "ci", "--data", "data"]);
    let token = String::from_utf8(added.stdout).unwrap();
    let list = || {
        let arguments = ["list", "--data", "data", "--token", token.trim()];
        run(directory.path(), &arguments).status.code()
    };
    crate::server::until("the token is taken up", || list() == Some(0));
    assert!(run(directory.path(), &["token", "revoke", "ci", "--data", "data"]).status.success());
    crate::server::until("the token is refused", || list() == Some(1));
    drop(server);
}
