//! Backups: made until they are there, and restored from wherever they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::server::{Server, inlet, until};

/// A folder with the two files of a backup that version 0.1.0 wrote: three documents of 2020.
fn backup_of_2020() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/backup-of-0.1.0")
}

fn run(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = inlet(directory).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A data directory with documents of 2020, so that every week since is due.
fn with_documents_of_2020(directory: &Path) -> PathBuf {
    let from = backup_of_2020();
    let from = ["restore", "--data", "data", "--from", from.to_str().unwrap()];
    let (code, stdout, stderr) = run(directory, &from);
    assert_eq!((code, stdout.starts_with("3 documents")), (Some(0), true), "{stdout}{stderr}");
    directory.join("data")
}

/// The names of the files in `directory` with that ending.
fn names(directory: &Path, ending: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(ending)).collect();
    names.sort_unstable();
    names
}

/// The part of the process that makes backups, as readiness tells of it.
fn backup_part(server: &Server) -> Value {
    let ready = server.get("/readyz").json();
    let parts = ready["parts"].as_array().unwrap().iter();
    parts.clone().find(|part| part["name"] == "backup").cloned().unwrap_or_default()
}

#[test]
fn a_weekly_backup_that_fails_is_made_once_it_can_be_also_after_a_restart() {
    for restarts in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let data = with_documents_of_2020(directory.path());
        let (summaries, backups) = (data.join("bucket/summaries"), data.join("bucket/backups"));
        fs::write(&backups, "in the way").unwrap();
        let mut server = Server::start(&data);
        until("readiness says that the backup is overdue", || {
            backup_part(&server)["state"] == "degraded"
        });
        assert_eq!(server.get("/readyz").status, 200, "documents are taken all the same");
        until("the summaries are there", || !names(&summaries, ".json").is_empty());
        if restarts {
            assert!(server.stop().success());
            server = Server::start(&data);
            until("the backup is overdue", || backup_part(&server)["state"] == "degraded");
        }
        fs::remove_file(&backups).unwrap();
        until("the backup is there", || !names(&backups, ".json").is_empty());
        until("readiness says so", || backup_part(&server)["state"] == "ready");
        assert!(backup_part(&server)["lastSuccess"].is_string());
        let metrics = server.get("/metrics").text();
        let name = "inlet_part_last_success_timestamp_seconds{part=\"backup\"} ";
        assert!(metrics.contains(name), "{metrics}");
        // The same week has both; of the weeks before, the one backup holds everything.
        let week = names(&backups, ".json").remove(0);
        assert!(names(&summaries, ".json").contains(&week));
        assert_eq!(names(&backups, ".json").len(), 1);
        assert_eq!(names(&backups, ".ndjson.zst").len(), 1);
    }
}

#[test]
fn a_backup_is_restored_from_wherever_it_lies_and_nothing_is_written_there() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let folder = root.join("folder");
    let layouts = ["folder", "bucket/backups", "inlet-data/bucket/backups", "old/2/backups"];
    for place in layouts {
        fs::create_dir_all(root.join(place)).unwrap();
        for name in ["2020-W01.json", "2020-W01.ndjson.zst"] {
            fs::copy(backup_of_2020().join(name), root.join(place).join(name)).unwrap();
        }
    }
    let manifest = folder.join("2020-W01.json");
    let object = folder.join("2020-W01.ndjson.zst");
    // Under other names, as downloads have them, and apart.
    fs::create_dir_all(root.join("apart")).unwrap();
    fs::copy(&manifest, root.join("manifest (1).json")).unwrap();
    fs::copy(&object, root.join("apart/object.zst")).unwrap();
    let before = tree(root);
    for (n, from) in [
        vec!["folder"],
        vec!["folder", "--week", "2020-W01"],
        vec!["bucket"],
        vec!["bucket/backups/"],
        vec!["file:bucket"],
        vec!["inlet-data"],
        vec!["old"],
        vec!["old/2"],
        vec!["folder/2020-W01.json"],
        vec!["folder/2020-W01.ndjson.zst"],
        vec!["folder/2020-W01.ndjson.zst", "folder/2020-W01.json"],
        vec!["manifest (1).json", "apart/object.zst"],
    ]
    .into_iter()
    .enumerate()
    {
        let data = tempfile::tempdir().unwrap();
        let data = data.path().join("new");
        let arguments =
            [&["restore", "--data", data.to_str().unwrap(), "--from"][..], &from].concat();
        let (code, stdout, stderr) = run(root, &arguments);
        let is_whole = stdout.starts_with("3 documents");
        assert_eq!((code, is_whole), (Some(0), true), "{n} {from:?}: {stdout}{stderr}");
        assert_eq!(tree(root), before, "{from:?} is only read");
    }
    for (from, hint) in [
        (vec!["folder", "--week", "2021-W01"], "there is 2020-W01"),
        (vec!["nowhere"], "--from takes"),
        (vec!["apart"], "inlet summarize"),
        (vec!["folder/2020-W01.json", "--week", "2020-W01"], "leave --week out"),
    ] {
        let arguments = [&["restore", "--data", "made", "--from"][..], &from].concat();
        let (code, _, stderr) = run(root, &arguments);
        assert!(code != Some(0) && stderr.contains(hint), "{from:?}: {stderr}");
        assert!(!root.join("made").exists(), "nothing is made before the backup is found");
    }
}

/// Every path below `directory`.
fn tree(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path));
        }
        found.push(path);
    }
    found.sort_unstable();
    found
}

#[test]
fn an_s3_address_is_never_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    for from in ["s3://bucket/prefix", "s3:bucket"] {
        let output = inlet(directory.path())
            .args(["restore", "--data", "data", "--from", from])
            .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
            .envs([("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "a")])
            .env("AWS_REGION", "eu-central-1")
            .output()
            .unwrap();
        assert!(!output.status.success(), "{from}");
        assert!(tree(directory.path()).is_empty(), "{:?}", tree(directory.path()));
    }
}

#[test]
fn backups_beyond_those_to_keep_are_deleted_once_a_newer_one_is_verified() {
    let directory = tempfile::tempdir().unwrap();
    let data = with_documents_of_2020(directory.path());
    let backups = data.join("bucket/backups");
    fs::create_dir_all(&backups).unwrap();
    fs::write(backups.join("notes.json"), "{}").unwrap();
    for week in ["2020-W02", "2020-W03", "2020-W04", "2020-W05"] {
        let arguments = ["summarize", "--data", "data", "--backups-max", "2", "--week", week];
        let (code, _, stderr) = run(directory.path(), &arguments);
        assert_eq!(code, Some(0), "{stderr}");
    }
    assert_eq!(names(&backups, ".json"), ["2020-W04.json", "2020-W05.json", "notes.json"]);
    assert_eq!(names(&backups, ".zst"), ["2020-W04.ndjson.zst", "2020-W05.ndjson.zst"]);
}

#[test]
fn a_bucket_on_the_disk_of_the_store_is_told_at_the_start_by_config_and_in_the_console() {
    let directory = tempfile::tempdir().unwrap();
    let (code, _, stderr) = run(directory.path(), &["config", "--data", "data"]);
    assert_eq!(code, Some(0));
    assert!(stderr.contains("bucket") && stderr.contains("disk"), "{stderr}");
    let (code, stdout, stderr) = run(directory.path(), &["config", "--json", "--data", "data"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let settings: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let bucket = settings.iter().find(|setting| setting["name"] == "bucket").unwrap();
    assert!(bucket["warning"].as_str().unwrap().contains("disk"), "{bucket}");
    let server = Server::start(&directory.path().join("data"));
    let metrics = server.get("/metrics").text();
    assert!(metrics.lines().any(|line| line == "inlet_bucket_on_store_disk 1"), "{metrics}");
    let warnings = server.get("/").json()["warnings"].clone();
    assert!(warnings[0].as_str().unwrap().contains("disk"), "the console shows it: {warnings}");
    // Elsewhere there is nothing to say.
    let arguments = ["config", "--bucket", "file:/dev/shm/no-such-bucket", "--data", "data"];
    let (_, _, stderr) = run(directory.path(), &arguments);
    assert!(!stderr.contains("disk"), "{stderr}");
}

#[test]
fn a_backup_made_while_documents_arrive_is_whole_document_by_document() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = Server::start(&data);
    let batch = |server: &Server, from: usize| {
        let lines: String = (from..from + 200)
            .map(|n| format!("{{\"n\":{n},\"t\":\"{}\"}}\n", "\u{e9}".repeat(n % 97)))
            .collect();
        let headers = [("Content-Type", "application/x-ndjson")];
        let answer = server.post("/api/save/batch?stream=load", &headers, lines.as_bytes());
        assert_eq!(answer.status, 202, "{}", answer.text());
    };
    (0..20).for_each(|n| batch(&server, n * 200));
    server.wait_until_drained();
    let exported = |data: &str| -> BTreeMap<String, Value> {
        let (code, stdout, stderr) = run(directory.path(), &["export", "--data", data]);
        assert_eq!(code, Some(0), "{stderr}");
        let lines = stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .map(|mut line| {
                // The new store took it at another moment.
                line["stored"].take();
                (line["id"].as_str().unwrap().to_owned(), line)
            })
            .collect()
    };
    let before = exported("data");
    assert_eq!(before.len(), 4_000);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 20;
            while !done.load(Ordering::Relaxed) {
                batch(&server, n * 200);
                n += 1;
            }
        });
        for week in ["2026-W01", "2026-W02", "2026-W03"] {
            let arguments = ["summarize", "--data", "data", "--week", week];
            let (code, _, stderr) = run(directory.path(), &arguments);
            assert_eq!(code, Some(0), "{stderr}");
        }
        done.store(true, Ordering::Relaxed);
    });
    server.wait_until_drained();
    let after = exported("data");
    assert!(after.len() > before.len(), "nothing arrived meanwhile");
    let bucket = data.join("bucket");
    for week in ["2026-W01", "2026-W02", "2026-W03"] {
        let from = ["--from", bucket.to_str().unwrap(), "--week", week];
        let arguments = [&["restore", "--data", week][..], &from].concat();
        let (code, stdout, stderr) = run(directory.path(), &arguments);
        assert_eq!(code, Some(0), "{stdout}{stderr}");
        let restored = exported(week);
        for (id, document) in &before {
            assert_eq!(restored.get(id), Some(document), "{id} was there before it began");
        }
        for (id, document) in &restored {
            assert_eq!(after.get(id), Some(document), "{id} is one of those that were sent");
        }
    }
}
