//! A wrong URL or scheme refuses the start; what may pass, as a wrong password, is told while the
//! process runs. Both say what was tried on what, hint, and never show a password.

use super::servers::{AWS, POSTGRES, REDIS};
use crate::server::{inlet, until};

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

/// Runs `inlet up` with these flags; it must start, and say all of `said`.
#[track_caller]
fn told(flags: &[&str], said: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let mut process = inlet(directory.path())
        .args(["up", "--https", "off", "--http", "off", "--plain", "127.0.0.1:0"])
        .args(flags)
        .envs(AWS.variables())
        .stdout(std::process::Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let text = || std::fs::read_to_string(&log).unwrap();
    until("it tells what fails", || said.iter().all(|part| text().contains(part)));
    until("it is up", || directory.path().join("inlet-data/run.json").exists());
    assert!(process.try_wait().unwrap().is_none(), "it ended: {}", text());
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(text().contains("hint="), "{}", text());
    assert!(!text().contains("s3cret"), "the password is shown:\n{}", text());
}

#[test]
fn a_wrong_password_is_told_without_showing_it() {
    let postgres = format!("postgres://inlet:s3cret@127.0.0.1:{}/postgres", POSTGRES.0.port());
    told(&["--store", &postgres], &["127.0.0.1", "password"]);
    let redis = format!("redis://:s3cret@127.0.0.1:{}", REDIS.0.port());
    told(&["--cache", &redis], &["127.0.0.1", "password"]);
}

#[test]
fn a_server_that_is_not_there_is_told_with_its_address() {
    let port = inlet_testkit::server::free_port();
    let url = format!("postgres://inlet:s3cret@127.0.0.1:{port}/inlet");
    told(&["--store", &url], &[&format!("127.0.0.1:{port}")]);
    told(&["--store", "postgres://inlet:s3cret@no-such-host.invalid/inlet"], &["no-such-host"]);
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_told_and_keeps_no_door_closed() {
    let url = format!("postgres://inlet:s3cret@localhost:{}/postgres", POSTGRES.0.port());
    told(&["--store", &format!("{url}?sslmode=verify-full")], &["sslrootcert"]);
}

#[test]
fn no_region_anywhere_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for flags in [
        ["--store", "dynamodb://table"],
        ["--queue", "sqs://queue"],
        ["--bucket", "s3://bucket"],
        ["--secrets", "aws-secrets-manager://prefix"],
    ] {
        let variables = AWS.variables().into_iter().filter(|(name, _)| name != "AWS_REGION");
        let output = inlet(directory.path())
            .args(["up", "--https", "127.0.0.1:0", "--http", "off"])
            .args(flags)
            .envs(variables)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env_remove("AWS_REGION")
            .env_remove("AWS_DEFAULT_REGION")
            .env("AWS_CONFIG_FILE", directory.path().join("none"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{flags:?}: {text}");
        assert!(text.contains(flags[1]) && text.contains("hint: name it: AWS_REGION"), "{text}");
    }
}

#[test]
fn the_causes_of_credentials_that_can_not_be_had_are_told_whole() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config");
    std::fs::write(
        &config,
        "[profile broken]\nregion = eu-central-1\nsource_profile = nobody\n\
                             role_arn = arn:aws:iam::123456789012:role/x\n",
    )
    .unwrap();
    let log = directory.path().join("log");
    let mut process = inlet(directory.path())
        .args(["up", "--https", "off", "--http", "off", "--plain", "127.0.0.1:0"])
        .args(["--store", "dynamodb://table"])
        .env("AWS_CONFIG_FILE", &config)
        .env("AWS_SHARED_CREDENTIALS_FILE", directory.path().join("none"))
        .env("AWS_PROFILE", "broken")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env_remove("AWS_ACCESS_KEY_ID")
        .stdout(std::process::Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let text = || std::fs::read_to_string(&log).unwrap();
    until("the cause is told", || text().contains("nobody") && text().contains("AWS_PROFILE"));
    process.kill().unwrap();
    process.wait().unwrap();
}

#[test]
fn what_is_missing_is_named_with_the_command_that_makes_it() {
    refused(&["--store", &POSTGRES.empty_database()], &["inlet migrate"]);
    refused(&["--store", "postgres://inlet:s3cret@127.0.0.1:port/x"], &["postgres", "port"]);
    refused(&["--store", "dynamodb://no-such-table"], &["no-such-table", "inlet migrate"]);
    refused(&["--queue", "sqs://no-such-queue"], &["no-such-queue", "create-queue"]);
    refused(&["--bucket", "s3://no-such-bucket"], &["no-such-bucket"]);
}
