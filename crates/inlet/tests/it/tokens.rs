//! Tokens: made, listed, revoked, by many at once and beside a running server.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::server::{Server, inlet, until};

fn run(directory: &Path, arguments: &[&str]) -> Output {
    inlet(directory).args(arguments).args(["--data", "data"]).output().unwrap()
}

/// What it printed, where it succeeded.
fn printed(directory: &Path, arguments: &[&str]) -> String {
    let output = run(directory, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn names(directory: &Path) -> BTreeSet<String> {
    let listed = printed(directory, &["token", "list", "--json"]);
    let name = |line: &str| {
        let token: Value = serde_json::from_str(line).unwrap();
        token["name"].as_str().unwrap().to_owned()
    };
    listed.lines().map(name).collect()
}

#[test]
fn eight_tokens_added_at_once_are_eight_and_a_revocation_beside_them_holds() {
    let directory = tempfile::tempdir().unwrap();
    drop(Server::start_with(&directory.path().join("data"), &[], None));
    printed(directory.path(), &["token", "add", "old"]);
    let start = |arguments: &[&str]| {
        let mut command = inlet(directory.path());
        command.args(arguments).args(["--data", "data"]).stdout(Stdio::null());
        command.spawn().unwrap()
    };
    let mut changes: Vec<_> = (0..8).map(|n| start(&["token", "add", &format!("t{n}")])).collect();
    changes.push(start(&["token", "revoke", "old"]));
    for mut change in changes {
        assert!(change.wait().unwrap().success());
    }
    let wanted = (0..8).map(|n| format!("t{n}")).chain(["first".to_owned()]).collect();
    assert_eq!(names(directory.path()), wanted);
}

#[test]
fn a_token_command_in_a_wrong_directory_makes_no_data_directory() {
    for arguments in [&["token", "add", "ci"][..], &["token", "list"], &["token", "revoke", "ci"]] {
        let directory = tempfile::tempdir().unwrap();
        let output = run(directory.path(), arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("data is no data directory"), "{stderr}");
        assert!(stderr.contains("hint: "), "{stderr}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "{arguments:?}");
    }
}

#[test]
fn a_first_token_that_was_revoked_is_in_no_banner_and_a_start_without_tokens_makes_another() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let first = Server::start_with(&data, &[], None);
    let token = std::fs::read_to_string(data.join("token")).unwrap().trim().to_owned();
    assert!(first.banner.contains(&token));
    printed(directory.path(), &["token", "add", "admin", "--scopes", "save,read,admin"]);
    printed(directory.path(), &["token", "revoke", "first"]);
    assert!(first.stop().success());
    let second = Server::start_with(&data, &[], None);
    assert!(!second.banner.contains(&token), "{}", second.banner);
    assert!(second.banner.contains("one of `inlet token list`"), "{}", second.banner);
    printed(directory.path(), &["token", "revoke", "admin", "--yes"]);
    until("the revocation is in force", || names(directory.path()).is_empty());
    assert!(second.stop().success());
    let third = Server::start_with(&data, &[], None);
    let made = std::fs::read_to_string(data.join("token")).unwrap().trim().to_owned();
    assert!(made != token && third.banner.contains(&made), "{}", third.banner);
}

#[test]
fn a_token_is_limited_to_its_streams_and_ends_with_its_time() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_with(&directory.path().join("data"), &[], None);
    let add = |flags: &[&str]| {
        printed(directory.path(), &[&["token", "add"], flags].concat()).trim().to_owned()
    };
    let saves = |token: &str, stream: &str| {
        let url = format!("{}/api/save?stream={stream}", server.plain());
        let sent = ureq::post(&url)
            .config()
            .http_status_as_error(false)
            .build()
            .header("Content-Type", "application/json")
            .header("X-Auth-Token", token)
            .send("{}");
        sent.unwrap().status().as_u16()
    };
    let device = add(&["device", "--scopes", "save", "--streams", "readings,alarms"]);
    assert_eq!((saves(&device, "readings"), saves(&device, "alarms")), (202, 202));
    assert_eq!(saves(&device, "orders"), 403);
    // It is good for its time, and refused afterwards.
    let brief = add(&["brief", "--expires", "1s"]);
    until("it has expired", || saves(&brief, "readings") == 401);
    let day = add(&["day", "--expires", "2999-01-01"]);
    assert_eq!(saves(&day, "orders"), 202);

    let listed = printed(directory.path(), &["token", "list", "--json"]);
    let listed: Vec<Value> =
        listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |name: &str| listed.iter().find(|token| token["name"] == name).unwrap();
    assert_eq!(of("device")["streams"], serde_json::json!(["readings", "alarms"]));
    assert!(of("device")["last_used"].is_string());
    assert_eq!(of("day")["expires"], "2999-01-01T00:00:00.000000Z");
    assert_eq!(of("first")["streams"], Value::Null);
    assert!(listed.iter().all(|token| token.get("sha256").is_none()));
}

#[test]
fn the_last_token_that_may_administer_is_revoked_only_by_yes() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_with(&directory.path().join("data"), &[], None);
    printed(directory.path(), &["token", "add", "reader", "--scopes", "read"]);
    // Through the server, and in the directory once it is gone.
    for server in [Some(server), None] {
        let output = run(directory.path(), &["token", "revoke", "first"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("first is the last token that may administer"), "{said}");
        assert!(said.contains("hint: pass `--yes`"), "{said}");
        assert!(names(directory.path()).contains("first"));
        drop(server);
    }
    printed(directory.path(), &["token", "revoke", "first", "--yes"]);
    assert_eq!(names(directory.path()), BTreeSet::from(["reader".to_owned()]));
}

#[test]
fn what_is_wrong_with_a_token_is_told_alike_with_a_server_and_without() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_with(&directory.path().join("data"), &[], None);
    for server in [Some(server), None] {
        for (arguments, code, wanted) in [
            (&["token", "add", "first"][..], 1, "there is a token with this name already"),
            (&["token", "revoke", "nosuch"], 1, "`inlet token list` lists those there are"),
            (&["token", "add", "a", "--scopes", "write"], 2, "one of save, read, admin"),
            (&["token", "add", "a", "--expires", "never"], 2, "--expires: "),
            (&["token", "add", "a", "--streams", "a b"], 2, "a stream name is"),
        ] {
            let output = run(directory.path(), arguments);
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
            assert!(said.contains(wanted), "{arguments:?}: {said}");
        }
        drop(server);
    }
}
