//! A log and its store know each other, and so do the data directory and its logs.

use std::fs;
use std::path::Path;

use super::{refused, run};
use crate::server::{Server, TOKEN};

/// A data directory in which documents were stored, over more than one segment.
fn used(data: &Path) -> Vec<String> {
    let server = Server::start(data);
    let large = "x".repeat(400_000);
    let ids: Vec<String> =
        (0..25).map(|n| server.save(&format!("{{\"n\": {n}, \"f\": \"{large}\"}}"))).collect();
    for id in &ids {
        server.wait_until_stored(id);
    }
    assert!(server.stop().success());
    ids
}

fn all_are_there(data: &Path, ids: &[String]) {
    let server = Server::start(data);
    for id in ids {
        assert_eq!(server.get(&format!("/api/documents/{id}")).status, 200, "{id}");
    }
    let more = server.save("[\"more\"]");
    server.wait_until_stored(&more);
    assert!(server.stop().success());
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn a_store_that_is_missing_is_refused_by_every_role_and_nothing_is_made_in_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let (data, away) = (directory.path().join("data"), directory.path().join("away"));
    let ids = used(&data);
    fs::rename(data.join("store"), &away).unwrap();
    for (role, flags) in
        [("up", &[][..]), ("serve", &[]), ("persist", &[]), ("up", &["--instances", "2"])]
    {
        if cfg!(not(feature = "edge")) && !flags.is_empty() {
            continue;
        }
        let text = refused(&data, role, flags);
        for part in ["there is no store in", "data/store", "data/log/", "inlet fsck --repair"] {
            assert!(text.contains(part), "{role}: {part}: {text}");
        }
        assert!(!data.join("store").exists(), "{role} made a store");
    }
    fs::rename(&away, data.join("store")).unwrap();
    all_are_there(&data, &ids);
}

#[test]
fn another_store_is_refused_by_both_names() {
    let directory = tempfile::tempdir().unwrap();
    let (data, other) = (directory.path().join("data"), directory.path().join("other"));
    let ids = used(&data);
    used(&other);
    for (from, to) in [("data/store", "s"), ("other/store", "data/store"), ("s", "other/store")] {
        fs::rename(directory.path().join(from), directory.path().join(to)).unwrap();
    }
    for (role, data) in [("up", &data), ("serve", &other)] {
        let text = refused(data, role, &[]);
        assert!(text.contains("was stored in the store"), "{text}");
        assert!(text.contains("and the store here is"), "{text}");
        let names = text.split(|c: char| !c.is_ascii_hexdigit()).filter(|word| word.len() == 32);
        assert!(names.count() >= 2, "{text}");
    }
    for (from, to) in [("data/store", "s"), ("other/store", "data/store"), ("s", "other/store")] {
        fs::rename(directory.path().join(from), directory.path().join(to)).unwrap();
    }
    all_are_there(&data, &ids);
}

#[test]
fn an_older_copy_of_the_store_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (data, older) = (directory.path().join("data"), directory.path().join("older"));
    used(&data);
    copy(&data.join("store"), &older);
    // More is stored, and the log lets go of it.
    used(&data);
    let ids = used(&data);
    let newer = directory.path().join("newer");
    fs::rename(data.join("store"), &newer).unwrap();
    copy(&older, &data.join("store"));
    let text = refused(&data, "up", &[]);
    assert!(text.contains("older copy of the store"), "{text}");
    fs::remove_dir_all(data.join("store")).unwrap();
    fs::rename(&newer, data.join("store")).unwrap();
    all_are_there(&data, &ids);
}

#[test]
fn a_store_that_is_gone_for_good_has_a_way_on() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let ids = used(&data);
    let backup = directory.path().join("backup");
    let (code, text) = run(directory.path(), &["summarize", "--data", "data"]);
    assert_eq!(code, Some(0), "{text}");
    // Documents that wait in the log when the store is lost are not lost with it.
    let server = Server::start_as("serve", &data, &[], Some(TOKEN));
    let waiting = server.save("[\"waits\"]");
    assert!(server.stop().success());
    fs::rename(data.join("bucket"), &backup).unwrap();
    fs::remove_dir_all(data.join("store")).unwrap();
    refused(&data, "up", &[]);
    let (code, text) = run(directory.path(), &["fsck", "--data", "data"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("misfit"), "{text}");
    let from = backup.to_str().unwrap();
    let (code, text) = run(directory.path(), &["restore", "--data", "data", "--from", from]);
    assert_eq!(code, Some(0), "{text}");
    let text = refused(&data, "up", &[]);
    assert!(text.contains("and the store here is"), "{text}");
    let (code, text) = run(directory.path(), &["fsck", "--repair", "--data", "data"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("it goes on with the store"), "{text}");
    let (code, text) = run(directory.path(), &["fsck", "--data", "data"]);
    assert_eq!(code, Some(0), "{text}");
    let server = Server::start(&data);
    server.wait_until_stored(&waiting);
    assert!(server.stop().success());
    all_are_there(&data, &ids);
}

#[test]
fn a_log_that_is_missing_is_refused_and_can_be_put_back_or_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let (data, away) = (directory.path().join("data"), directory.path().join("away"));
    let ids = used(&data);
    for whole in [true, false] {
        let there = match whole {
            true => data.join("log"),
            false => fs::read_dir(data.join("log"))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .find(|path| path.is_dir())
                .unwrap(),
        };
        fs::rename(&there, &away).unwrap();
        for role in ["up", "serve"] {
            let text = refused(&data, role, &[]);
            assert!(text.contains("does not hold the log"), "{text}");
            assert!(text.contains("inlet fsck --repair"), "{text}");
        }
        if there.exists() {
            fs::remove_dir_all(&there).unwrap();
        }
        fs::rename(&away, &there).unwrap();
        all_are_there(&data, &ids);
    }
    fs::remove_dir_all(data.join("log")).unwrap();
    let (code, text) = run(directory.path(), &["fsck", "--data", "data"]);
    assert_eq!(code, Some(1), "{text}");
    let (code, text) = run(directory.path(), &["fsck", "--repair", "--data", "data"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("what was in it and not stored is lost"), "{text}");
    all_are_there(&data, &ids);
}
