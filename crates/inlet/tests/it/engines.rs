//! The engines that teams run, against real servers: each alone, all together, and several
//! processes that share them while they are killed.

mod bad_input;
mod erasing;
mod kill;
mod outage;
mod scenario;
pub(crate) mod servers;
mod start;

use inlet_testkit::server::{Server, ServerKind};
use scenario::works_as_promised;
use servers::{AWS, Namespace, POSTGRES, REDIS, start};

use crate::files::{pass, peak_kib, sha256sum};

/// Runs `inlet up` with these flags and holds it to what a user expects.
fn up_with(flags: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = start("up", &data, flags, AWS.variables());
    works_as_promised(&server, &data, flags);
    assert!(server.stop().success());
}

#[test]
fn documents_live_in_postgres() {
    up_with(&["--store", &POSTGRES.database()]);
}

#[test]
fn documents_live_in_dynamodb() {
    up_with(&["--store", &AWS.table()]);
}

#[test]
fn documents_wait_in_sqs() {
    up_with(&["--queue", &AWS.queue(&Namespace::new())]);
}

#[test]
fn summaries_live_in_s3() {
    up_with(&["--bucket", &AWS.bucket()]);
}

#[test]
fn a_file_passes_to_s3_and_back_through_little_memory() {
    const BYTES: u64 = 192 << 20;
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("source");
    std::fs::File::create(&source).unwrap().set_len(BYTES).unwrap();
    let data = directory.path().join("data");
    let server = start("up", &data, &["--bucket", &AWS.bucket()], AWS.variables());
    let before = peak_kib(server.pid());
    pass(server.plain_address(), &source, BYTES);
    let more = peak_kib(server.pid()) - before;
    assert!(more < 64 << 10, "{more} KiB more");
}

#[test]
fn a_file_put_in_parts_to_s3_has_the_sha256_that_sha256sum_confirms() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = start("up", &data, &["--bucket", &AWS.bucket()], AWS.variables());
    let mut file: Vec<u8> = (0..13 << 20).map(|n: u32| n.to_le_bytes()[1] ^ 0x5a).collect();
    file.push(b'\n');
    let source = directory.path().join("source");
    std::fs::write(&source, &file).unwrap();
    let expected = sha256sum(&source);
    // In order, as the command line sends them, and out of order, as others do.
    for (name, order) in [("in-order", [1, 2, 3]), ("out-of-order", [3, 1, 2])] {
        let path = format!("/api/files/{name}");
        let begun = server.post(&format!("{path}?uploads"), &[], b"").json();
        let upload = begun["uploadId"].as_str().unwrap();
        for number in order {
            let (first, end) = ((number - 1) * (6 << 20), (number * (6 << 20)).min(file.len()));
            let part = format!("{path}?uploadId={upload}&partNumber={number}");
            assert_eq!(server.put(&part, &file[first..end]).status, 200);
        }
        let made = server.post(&format!("{path}?uploadId={upload}"), &[], b"");
        assert_eq!(made.json()["sha256"], expected, "{name}");
        assert_eq!(server.get(&path).headers["etag"], format!("\"{expected}\""));
    }
}

/// More than the 8 MiB that go to S3 in one call, and nothing that can be compressed.
fn a_large_backup_passes(bucket: &str, variables: Vec<(String, String)>) {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = start("up", &data, &["--bucket", bucket], variables.clone());
    let mut state = 1_u64;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'#' + (state % 57).to_le_bytes()[0])
    };
    for _ in 0..14 {
        let text: String = std::iter::repeat_with(&mut noise).take(700_000).collect();
        server.save(&serde_json::to_string(&text).unwrap());
    }
    server.wait_until_drained();
    let run = |arguments: &[&str]| {
        let mut command = crate::server::inlet(directory.path());
        let output = command.args(arguments).envs(variables.clone()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(output.stderr));
        text(output.stdout)
    };
    run(&["summarize", "--data", "data", "--bucket", bucket]);
    let folder = format!("{}/backups", bucket.trim_end_matches('/'));
    for (data, from) in [("one", bucket), ("other", &folder)] {
        let said = run(&["restore", "--data", data, "--from", from]);
        assert!(said.starts_with("14 documents"), "{said}");
        let bodies = |data: &str| -> Vec<serde_json::Value> {
            let lines = run(&["export", "--data", data]);
            let lines = lines.lines().map(|line| serde_json::from_str(line).unwrap());
            lines.map(|line: serde_json::Value| line["body"].clone()).collect()
        };
        assert!(bodies(data) == bodies("data"), "documents differ");
    }
    assert!(!directory.path().join("s3:").exists());
}

#[test]
fn a_backup_of_more_than_a_part_goes_to_s3_and_comes_back() {
    a_large_backup_passes(&AWS.bucket(), AWS.variables());
}

#[test]
fn a_backup_of_more_than_a_part_goes_to_a_service_of_others_and_comes_back() {
    let server = Server::start(ServerKind::SeaweedFs);
    let url = format!("http://127.0.0.1:{}", server.port());
    assert_eq!(ureq::put(format!("{url}/backups")).send_empty().unwrap().status(), 200);
    let mut variables = AWS.variables();
    // Only S3 is elsewhere, as with a service that is nothing but S3.
    variables.retain(|(name, _)| name != "AWS_ENDPOINT_URL");
    variables.push(("AWS_ENDPOINT_URL_S3".to_owned(), url));
    a_large_backup_passes("s3://backups/a/prefix/", variables);
}

#[test]
fn documents_are_remembered_by_redis() {
    up_with(&["--cache", &REDIS.url()]);
}

#[test]
fn tokens_are_kept_in_secrets_manager() {
    up_with(&["--secrets", &AWS.secret()]);
}

#[test]
fn all_of_them_work_together() {
    let (postgres, queue) = (POSTGRES.database(), AWS.queue(&Namespace::new()));
    let (bucket, redis, secrets) = (AWS.bucket(), REDIS.url(), AWS.secret());
    let flags = ["--store", &postgres, "--queue", &queue, "--bucket", &bucket, "--cache", &redis];
    up_with(&[&flags[..], &["--secrets", &secrets]].concat());
}

#[test]
fn dynamodb_takes_the_place_of_postgres_among_them() {
    let (table, queue) = (AWS.table(), AWS.queue(&Namespace::new()));
    let (bucket, redis, secrets) = (AWS.bucket(), REDIS.url(), AWS.secret());
    let flags = ["--store", &table, "--queue", &queue, "--bucket", &bucket, "--cache", &redis];
    up_with(&[&flags[..], &["--secrets", &secrets]].concat());
}
