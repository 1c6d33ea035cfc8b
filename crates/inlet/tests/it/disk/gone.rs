//! Directories that go while a server runs: removed, renamed, replaced, unmounted.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::mounts::Mount;
use super::{Ended, prepared};
use crate::server::{Server, TOKEN, inlet, until};

/// Starts a whole server whose words go to a file beside `data`.
fn start(data: &Path) -> (Server, PathBuf) {
    let log = data.parent().unwrap().join("stderr");
    let mut command = inlet(data.parent().unwrap());
    command.stderr(File::create(&log).unwrap());
    (Server::start_command(command, "up", data, &[], Some(TOKEN)), log)
}

/// Takes the data directory away under a server that was used: there is no `202` any more, and
/// the process ends and says why.
fn is_noticed(data: &Path, what: &str, take_away: impl FnOnce()) {
    let (server, log) = start(data);
    let id = server.save("[1]");
    server.wait_until_stored(&id);
    let log = File::open(&log).unwrap();
    take_away();
    for n in 0..30 {
        if let Some(status) = server.try_save(&format!("[{n}]")) {
            assert_ne!(status, 202, "{what}: acknowledged with nothing to keep it");
        }
    }
    let code = server.wait().code();
    let text = std::io::read_to_string(log).unwrap();
    assert_eq!(code, Some(1), "{what}: {text}");
    assert!(text.contains("removed, renamed, replaced or unmounted"), "{what}: {text}");
}

#[test]
fn a_data_directory_that_is_removed_renamed_or_replaced_ends_the_process_and_nothing_is_acked() {
    for what in ["removed", "renamed", "replaced"] {
        let directory = tempfile::tempdir().unwrap();
        let (data, away) = (directory.path().join("data"), directory.path().join("away"));
        is_noticed(&data, what, || match what {
            // The server may make a file in a directory that is just being removed.
            "removed" => {
                until("it is gone", || fs::remove_dir_all(&data).is_ok() || !data.exists())
            }
            "renamed" => fs::rename(&data, &away).unwrap(),
            _ => {
                fs::rename(&data, &away).unwrap();
                fs::create_dir_all(data.join("log")).unwrap();
            }
        });
    }
}

#[test]
fn a_data_directory_that_is_unmounted_ends_the_process_and_nothing_is_acked() {
    let Some(mount) = Mount::ext4(260) else { return };
    let words = tempfile::tempdir().unwrap();
    let data = words.path().join("data");
    std::os::unix::fs::symlink(mount.at.join("data"), &data).unwrap();
    fs::create_dir(mount.at.join("data")).unwrap();
    is_noticed(&data, "unmounted", || mount.detach());
}

#[test]
fn a_data_directory_that_goes_while_nothing_is_sent_ends_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let (server, log) = start(&data);
    fs::rename(&data, directory.path().join("away")).unwrap();
    assert_eq!(server.wait().code(), Some(1));
    let text = fs::read_to_string(log).unwrap();
    assert!(text.contains("removed, renamed, replaced or unmounted"), "{text}");
}

#[test]
fn a_store_that_goes_while_it_runs_stores_nothing_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (data, away) = (directory.path().join("data"), directory.path().join("away"));
    let (server, _) = start(&data);
    let first = server.save("[1]");
    server.wait_until_stored(&first);
    fs::rename(data.join("store"), &away).unwrap();
    let waiting: Vec<String> = (2..20).map(|n| server.save(&format!("[{n}]"))).collect();
    until("it is told", || {
        let ready = server.get("/readyz").json();
        ready["status"] == "degraded" && ready["parts"].to_string().contains("persist")
    });
    // Documents that wait have an age, in every form.
    until("the lag grows", || lag(&server) > 0.5);
    fs::rename(&away, data.join("store")).unwrap();
    for id in waiting.iter().chain([&first]) {
        server.wait_until_stored(id);
    }
    until("nothing waits", || lag(&server) == 0.0);
    assert!(server.stop().success());
}

#[test]
fn a_store_that_was_removed_while_it_ran_is_missed_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let (server, _) = start(&data);
    let first = server.save("[1]");
    server.wait_until_stored(&first);
    fs::remove_dir_all(data.join("store")).unwrap();
    let waiting = server.save("[2]");
    until("it is told", || server.get("/readyz").json()["status"] == "degraded");
    assert_ne!(server.get(&format!("/api/receipts/{waiting}")).json()["state"], "stored");
    assert!(server.stop().success());
    let text = super::refused(&data, "up", &[]);
    assert!(text.contains("there is no store in"), "{text}");
}

#[test]
fn a_bucket_that_goes_while_it_runs_takes_no_file_into_another_place() {
    let directory = tempfile::tempdir().unwrap();
    let (data, away) = (directory.path().join("data"), directory.path().join("away"));
    let (server, _) = start(&data);
    assert_eq!(server.put("/api/files/one", b"1").status, 201);
    fs::rename(data.join("bucket"), &away).unwrap();
    let refused = server.put("/api/files/two", b"2");
    assert!(refused.status >= 500, "{}", refused.text());
    assert!(!data.join("bucket").exists(), "it was made anew");
    fs::rename(&away, data.join("bucket")).unwrap();
    assert_eq!(server.put("/api/files/two", b"2").status, 201);
    assert_eq!(server.get("/api/files/one").text(), "1");
    assert!(server.stop().success());
}

#[test]
fn two_processes_on_one_log_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = Server::start_as("serve", &data, &[], Some(TOKEN));
    let text = super::refused(&data, "serve", &[]);
    assert!(text.contains("in use by another process"), "{text}");
    assert!(text.contains(&format!("pid {}", server.pid())), "{text}");
    let id = server.save("[1]");
    let mut worker = inlet(directory.path());
    let worker = prepared(&mut worker, &data, "persist", &[]);
    let worker = Ended(worker.stdout(Stdio::null()).spawn().unwrap());
    server.wait_until_stored(&id);
    drop(worker);
    assert!(server.stop().success());
}

/// The age of the oldest document that waits, in seconds.
fn lag(server: &Server) -> f64 {
    let metrics = server.get("/metrics").text();
    let line = metrics.lines().find(|line| line.starts_with("inlet_persist_lag_seconds "));
    line.unwrap().split(' ').nth(1).unwrap().parse().unwrap()
}
