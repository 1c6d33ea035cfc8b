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
    printed(directory.path(), &["token", "revoke", "admin"]);
    until("the revocation is in force", || names(directory.path()).is_empty());
    assert!(second.stop().success());
    let third = Server::start_with(&data, &[], None);
    let made = std::fs::read_to_string(data.join("token")).unwrap().trim().to_owned();
    assert!(made != token && third.banner.contains(&made), "{}", third.banner);
}
