//! A wrong URL, scheme or password refuses the start, says what was tried on what, hints, and
//! never shows a password.

use super::servers::{AWS, POSTGRES, REDIS};
use crate::server::inlet;

/// Runs `inlet up` with these flags; it must end by itself and say all of `said`.
#[track_caller]
fn refused(flags: &[&str], said: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let output = inlet(directory.path())
        .args(["up", "--https", "127.0.0.1:0", "--http", "off"])
        .args(flags)
        .envs(AWS.variables())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it started with {flags:?}");
    assert!(text.contains("error: ") && text.contains("hint: "), "{text}");
    for part in said {
        assert!(text.contains(part), "{part:?} is missing:\n{text}");
    }
    assert!(!text.contains("s3cret"), "the password is shown:\n{text}");
}

#[test]
fn a_scheme_that_is_unknown_is_refused_with_those_that_are_known() {
    refused(&["--store", "mysql://root:s3cret@db/x"], &["mysql:", "postgres://", "dynamodb://"]);
    refused(&["--queue", "kafka://x"], &["kafka:", "sqs://"]);
    refused(&["--bucket", "gs://x"], &["gs:", "s3://"]);
    refused(&["--cache", "memcached://x"], &["memcached:", "redis://"]);
    refused(&["--secrets", "vault://x"], &["vault:", "aws-secrets-manager://"]);
}

#[test]
fn a_wrong_password_is_refused_without_showing_it() {
    let postgres = format!("postgres://inlet:s3cret@127.0.0.1:{}/postgres", POSTGRES.0.port());
    refused(&["--store", &postgres], &["127.0.0.1", "password"]);
    let redis = format!("redis://:s3cret@127.0.0.1:{}", REDIS.0.port());
    refused(&["--cache", &redis], &["127.0.0.1", "password"]);
}

#[test]
fn a_server_that_is_not_there_is_refused_with_its_address() {
    let port = inlet_testkit::server::free_port();
    let url = format!("postgres://inlet:s3cret@127.0.0.1:{port}/inlet");
    refused(&["--store", &url], &[&format!("127.0.0.1:{port}")]);
    refused(&["--store", "postgres://inlet:s3cret@no-such-host.invalid/inlet"], &["no-such-host"]);
}

#[test]
fn what_is_missing_is_named_with_the_command_that_makes_it() {
    refused(&["--store", &POSTGRES.empty_database()], &["inlet migrate"]);
    refused(&["--store", "postgres://inlet:inlet@127.0.0.1:1/x y"], &["postgres"]);
    refused(&["--store", "dynamodb://no-such-table"], &["no-such-table", "inlet migrate"]);
    refused(&["--queue", "sqs://no-such-queue"], &["no-such-queue", "create-queue"]);
    refused(&["--bucket", "s3://no-such-bucket"], &["no-such-bucket"]);
}
