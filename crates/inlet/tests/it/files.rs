//! Files, by real processes: how much memory they take, and the commands.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};

use crate::server::{Server, TOKEN, inlet};
use crate::supervise::Fleet;

/// The most memory that a process had, in KiB.
pub(crate) fn peak_kib(pid: impl std::fmt::Display) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A file of that size, which is not the same anywhere.
fn make(path: &Path, bytes: u64) {
    let mut file = File::create(path).unwrap();
    let mut block = vec![0; 1 << 20];
    for at in 0..bytes.div_ceil(1 << 20) {
        for (index, word) in block.chunks_exact_mut(8).enumerate() {
            let mixed = (at << 20 | index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            word.copy_from_slice(&mixed.to_le_bytes());
        }
        let some = usize::try_from((bytes - (at << 20)).min(1 << 20)).unwrap();
        file.write_all(&block[..some]).unwrap();
    }
}

fn same(one: &Path, other: &Path) -> bool {
    Command::new("cmp").args([one, other]).status().unwrap().success()
}

fn run(directory: &Path, server: &Server, arguments: &[&str]) -> Output {
    let mut command = inlet(directory);
    command
        .args(arguments)
        .args(["--url", server.plain(), "--token", TOKEN])
        .env("XDG_STATE_HOME", directory.join("state"));
    command.output().unwrap()
}

fn done(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Sends the file, and reads it back.
pub(crate) fn pass(address: &str, source: &Path, bytes: u64) {
    let mut upload = TcpStream::connect(address).unwrap();
    let head = format!(
        "PUT /api/files/large HTTP/1.1\r\nHost: a\r\nX-Auth-Token: {TOKEN}\r\n\
         Connection: close\r\nContent-Length: {bytes}\r\n\r\n"
    );
    upload.write_all(head.as_bytes()).unwrap();
    std::io::copy(&mut File::open(source).unwrap(), &mut upload).unwrap();
    let mut answer = String::new();
    upload.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");

    let mut download = TcpStream::connect(address).unwrap();
    let head = format!(
        "GET /api/files/large HTTP/1.1\r\nHost: a\r\nX-Auth-Token: {TOKEN}\r\n\
         Connection: close\r\n\r\n"
    );
    download.write_all(head.as_bytes()).unwrap();
    let came = std::io::copy(&mut download, &mut std::io::sink()).unwrap();
    assert!(came > bytes && came < bytes + 4_096, "{came}");
}

#[test]
fn a_file_of_a_gigabyte_passes_both_ways_through_little_memory() {
    const BYTES: u64 = 1 << 30;
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("source");
    // All of it zeros, so that the test's own disk is spared.
    File::create(&source).unwrap().set_len(BYTES).unwrap();
    let server = Server::start(&directory.path().join("data"));
    server.save("{}");
    let before = peak_kib(server.pid());

    pass(server.plain_address(), &source, BYTES);
    let more = peak_kib(server.pid()) - before;
    assert!(more < 64 << 10, "{more} KiB more");
}

#[test]
fn a_file_passes_through_the_edge_and_an_instance_in_little_memory() {
    const BYTES: u64 = 256 << 20;
    let fleet = Fleet::start(&[]);
    let source = fleet.data.with_file_name("source");
    File::create(&source).unwrap().set_len(BYTES).unwrap();
    let pids: Vec<i32> =
        fleet.up().into_values().chain([fleet.server.pid().cast_signed()]).collect();
    let before: Vec<u64> = pids.iter().map(peak_kib).collect();
    pass(fleet.server.plain_address(), &source, BYTES);
    for (pid, before) in pids.iter().zip(before) {
        let more = peak_kib(pid) - before;
        assert!(more < 64 << 10, "{more} KiB more in {pid}");
    }
    fs::remove_file(source).unwrap();
}

#[test]
fn a_file_is_put_listed_got_and_deleted_from_the_command_line() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let server = Server::start(&directory.join("data"));
    let small = directory.join("report.pdf");
    make(&small, 70_000);
    let large = directory.join("large.bin");
    make(&large, 40 << 20);
    for (file, key) in [(&small, "2026/report.pdf"), (&large, "a b/ü.bin")] {
        let said = done(run(directory, &server, &["file", "put", file.to_str().unwrap(), key]));
        assert!(said.trim_end().ends_with(key), "{said}");
        let back = directory.join("back");
        done(run(directory, &server, &["file", "get", key, "-o", back.to_str().unwrap()]));
        assert!(same(file, &back));
        let printed = run(directory, &server, &["file", "get", key]);
        assert!(printed.stdout == fs::read(file).unwrap());
    }
    let listed = done(run(directory, &server, &["file", "list", "--json"]));
    let listed: Vec<serde_json::Value> =
        listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(listed[0]["key"], "2026/report.pdf");
    assert_eq!(listed[0]["contentType"], "application/pdf");
    assert_eq!((&listed[1]["key"], &listed[1]["bytes"]), (&"a b/ü.bin".into(), &(40 << 20).into()));

    let again = run(directory, &server, &["file", "put", "report.pdf", "2026/report.pdf", "--new"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("412"));
    done(run(directory, &server, &["file", "delete", "2026/report.pdf"]));
    let gone = run(directory, &server, &["file", "get", "2026/report.pdf"]);
    assert!(String::from_utf8_lossy(&gone.stderr).contains("404"));
    assert!(!directory.join("state/inlet/uploads").read_dir().unwrap().any(|_| true));
    // Nothing of an upload or a put is left beside the objects.
    assert!(!directory.join("data/bucket/.inlet/uploads").exists());
    assert_eq!(fs::read_dir(directory.join("data/bucket/.inlet/tmp")).unwrap().count(), 0);
}

/// What `sha256sum` says of it.
pub(crate) fn sha256sum(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}

#[test]
fn a_file_put_in_parts_has_the_sha256_that_sha256sum_confirms() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let server = Server::start(&directory.join("data"));
    let large = directory.join("large.bin");
    make(&large, (40 << 20) + 1);
    let expected = sha256sum(&large);
    let made = done(run(directory, &server, &["file", "put", "large.bin", "--json"]));
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    assert_eq!(made["sha256"], expected);
    let head = server.get("/api/files/large.bin");
    assert_eq!(head.headers["etag"], format!("\"{expected}\""));
    assert_eq!(sha256sum(&directory.join("data/bucket/files/large.bin")), expected);
}

#[test]
fn a_put_that_broke_off_goes_on_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let data = directory.join("data");
    let server = Server::start(&data);
    let file = directory.join("large.bin");
    make(&file, 40 << 20);
    // Its third part is not what it was when the upload was begun: that one is sent again.
    let mut changed = File::options().write(true).open(&file).unwrap();
    let modified = changed.metadata().unwrap().modified().unwrap();
    let url = server.plain().to_owned();
    let begun = server.post("/api/files/large.bin?uploads", &[], b"").json();
    let upload = begun["uploadId"].as_str().unwrap();
    let bytes = fs::read(&file).unwrap();
    for (number, part) in (1..).zip(bytes.chunks(16 << 20)) {
        let path = format!("{url}/api/files/large.bin?uploadId={upload}&partNumber={number}");
        let sent = ureq::put(path).header("X-Auth-Token", TOKEN).send(part).unwrap();
        assert_eq!(sent.status(), 200);
    }
    changed.seek(SeekFrom::Start(33 << 20)).unwrap();
    changed.write_all(b"something else").unwrap();
    changed.set_modified(modified).unwrap();
    let state = directory.join("state/inlet/uploads");
    fs::create_dir_all(&state).unwrap();
    let canonical = fs::canonicalize(&file).unwrap();
    let subject = format!("{url}\0large.bin\0{}", canonical.display());
    let name = inlet_core::document::hex(&<sha2::Sha256 as sha2::Digest>::digest(subject));
    let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap();
    let note = serde_json::json!({
        "server": url, "key": "large.bin", "file": canonical, "bytes": 40 << 20,
        "modified_us": u64::try_from(since.as_micros()).unwrap(), "part_bytes": 16 << 20, "upload": upload,
    });
    fs::write(state.join(format!("{}.json", &name[..32])), note.to_string()).unwrap();

    let output = run(directory, &server, &["file", "put", "large.bin"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("going on with an upload that has 3 parts"), "{said}");
    done(output);
    let back = directory.join("back");
    done(run(directory, &server, &["file", "get", "large.bin", "-o", back.to_str().unwrap()]));
    assert!(same(&file, &back));
    assert!(!data.join("bucket/.inlet/uploads").exists(), "the upload that was begun was finished");
}

#[test]
fn a_get_that_broke_off_goes_on_where_it_was_and_never_with_another_version() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let server = Server::start(&directory.join("data"));
    let file = directory.join("large.bin");
    make(&file, 3 << 20);
    done(run(directory, &server, &["file", "put", "large.bin"]));
    let tag = {
        let answer = server.get("/api/files/large.bin");
        answer.headers["etag"].to_str().unwrap().to_owned()
    };
    let name = inlet_core::document::hex(&<sha2::Sha256 as sha2::Digest>::digest(&tag)[..8]);
    let unfinished = directory.join(format!(".back.{name}.part"));
    fs::write(&unfinished, &fs::read(&file).unwrap()[..1_000_000]).unwrap();
    done(run(directory, &server, &["file", "get", "large.bin", "-o", "back"]));
    assert!(same(&file, &directory.join("back")) && !unfinished.exists());

    // What is beside it does not fit: that is found, and the next get is whole.
    fs::write(&unfinished, vec![b'x'; 1_000_000]).unwrap();
    let output = run(directory, &server, &["file", "get", "large.bin", "-o", "back"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("checksum"));
    done(run(directory, &server, &["file", "get", "large.bin", "-o", "back"]));
    assert!(same(&file, &directory.join("back")));
}
