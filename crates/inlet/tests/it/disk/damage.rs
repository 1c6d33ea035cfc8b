//! Damage to the log of a server that has stopped: found, named, repaired, and told afterwards.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{refused, run};
use crate::server::{Server, TOKEN, until};

/// A data directory with documents in the log that nobody has stored, closed in good order.
fn unstored(data: &Path, count: usize, bytes: usize) -> Vec<String> {
    let server = Server::start_as("serve", data, &[], Some(TOKEN));
    let filler = "x".repeat(bytes);
    let ids = (0..count).map(|n| server.save(&format!("{{\"n\": {n}, \"f\": \"{filler}\"}}")));
    let ids = ids.collect();
    assert!(server.stop().success());
    ids
}

/// The segments of the only log, in order.
fn segments(data: &Path) -> Vec<PathBuf> {
    let logs = fs::read_dir(data.join("log")).unwrap().map(|entry| entry.unwrap().path());
    let log = logs.into_iter().find(|path| path.is_dir()).unwrap();
    let paths = fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "seg")).collect();
    segments.sort();
    segments
}

/// Flips one bit of the body of a document where it lies in the log.
fn flip(data: &Path, text: &str) {
    for segment in segments(data) {
        let bytes = fs::read(&segment).unwrap();
        if let Some(at) = bytes.windows(text.len()).position(|part| part == text.as_bytes()) {
            let file = fs::OpenOptions::new().write(true).open(&segment).unwrap();
            file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
            return;
        }
    }
    panic!("{text} is in no segment");
}

/// Sees that a start is refused, and that a repair makes it work and says what is lost; gives
/// what the repair printed, and the server.
fn is_repaired(data: &Path) -> (String, Server) {
    let text = refused(data, "up", &[]);
    assert!(text.contains("inlet fsck"), "{text}");
    let (code, text) = run(data.parent().unwrap(), &["fsck", "--data", "data"]);
    assert_eq!(code, Some(1), "{text}");
    let (code, text) = run(data.parent().unwrap(), &["fsck", "--repair", "--data", "data"]);
    assert_eq!(code, Some(1), "a repair that lost something is no success: {text}");
    let (code, again) = run(data.parent().unwrap(), &["fsck", "--data", "data"]);
    assert_eq!(code, Some(0), "{again}");
    let server = Server::start(data);
    server.wait_until_drained();
    (text, server)
}

fn stored(server: &Server, ids: &[String]) -> Vec<bool> {
    ids.iter().map(|id| server.get(&format!("/api/documents/{id}")).status == 200).collect()
}

#[test]
fn the_last_acknowledged_document_damaged_after_a_clean_stop_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let ids = unstored(&data, 5, 10);
    flip(&data, "\"n\": 4");
    let (text, server) = is_repaired(&data);
    assert_eq!(stored(&server, &ids), [true, true, true, true, false]);
    assert!(text.contains("lost: ") && text.contains(&ids[3]) && text.contains(&ids[4]), "{text}");
    assert!(server.stop().success());
}

#[test]
fn a_document_damaged_in_the_middle_is_named_with_its_neighbours() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let ids = unstored(&data, 5, 10);
    flip(&data, "\"n\": 2");
    let (text, server) = is_repaired(&data);
    assert_eq!(stored(&server, &ids), [true, true, false, true, true]);
    let lost =
        format!("1 document accepted between {} and {}, among them {}", ids[1], ids[3], ids[2]);
    assert!(text.contains(&lost), "{lost}: {text}");
    assert!(server.stop().success());
}

#[test]
fn the_receipt_of_a_document_that_is_damaged_or_lost_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let ids = unstored(&data, 60, 200_000);
    flip(&data, "\"n\": 50");
    fs::remove_file(&segments(&data)[0]).unwrap();
    let (_, server) = is_repaired(&data);
    let receipt = |id: &str| server.get(&format!("/api/receipts/{id}")).json();
    // Its id was read from what was set aside; of a missing segment nothing was.
    assert_eq!(
        (&receipt(&ids[50])["state"], &receipt(&ids[50])["certain"]),
        (&"damaged".into(), &true.into())
    );
    assert_eq!(
        (&receipt(&ids[0])["state"], &receipt(&ids[0])["certain"]),
        (&"damaged".into(), &false.into())
    );
    for id in &ids {
        assert_ne!(receipt(id)["state"], "queued", "{id}");
    }
    let (code, text) = run(directory.path(), &["get", &ids[50], "--data", "data"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&format!("document {} is damaged", ids[50])), "{text}");
    assert!(server.stop().success());
}

#[test]
fn a_segment_can_be_missing_emptied_cut_replaced_or_swapped_and_the_rest_is_kept() {
    type Break = fn(&[PathBuf]);
    // Of 60 documents of 200 KB the first segment holds some 20.
    let breaks: [(&str, Break); 8] = [
        ("missing", |paths| fs::remove_file(&paths[0]).unwrap()),
        ("emptied", |paths| drop(fs::File::create(&paths[0]).unwrap())),
        ("cut", |paths| {
            fs::OpenOptions::new().write(true).open(&paths[0]).unwrap().set_len(1 << 20).unwrap();
        }),
        ("punched", |paths| {
            let file = fs::OpenOptions::new().write(true).open(&paths[0]).unwrap();
            file.write_all_at(&vec![0; 1 << 20], 1 << 20).unwrap();
        }),
        ("a directory", |paths| {
            fs::remove_file(&paths[0]).unwrap();
            fs::create_dir(&paths[0]).unwrap();
        }),
        ("a link to nowhere", |paths| {
            fs::remove_file(&paths[0]).unwrap();
            std::os::unix::fs::symlink("/nowhere", &paths[0]).unwrap();
        }),
        ("a pipe", |paths| {
            fs::remove_file(&paths[0]).unwrap();
            assert!(
                std::process::Command::new("mkfifo").arg(&paths[0]).status().unwrap().success()
            );
        }),
        ("swapped", |paths| {
            let beside = paths[0].with_extension("beside");
            fs::rename(&paths[0], &beside).unwrap();
            fs::rename(&paths[1], &paths[0]).unwrap();
            fs::rename(&beside, &paths[1]).unwrap();
        }),
    ];
    let directory = tempfile::tempdir().unwrap();
    let whole = directory.path().join("whole");
    let ids = unstored(&whole, 60, 200_000);
    for (what, break_it) in breaks {
        let place = tempfile::tempdir().unwrap();
        let data = place.path().join("data");
        let copied = std::process::Command::new("cp").arg("-a").arg(&whole).arg(&data).status();
        assert!(copied.unwrap().success());
        break_it(&segments(&data));
        let (text, server) = is_repaired(&data);
        let stored = stored(&server, &ids);
        let lost: Vec<usize> = (0..ids.len()).filter(|&n| !stored[n]).collect();
        match what {
            "swapped" => assert!(lost.is_empty(), "{what}: {lost:?}: {text}"),
            _ => {
                assert!((1..30).contains(&lost.len()), "{what}: {lost:?}");
                assert!(text.contains("lost: "), "{what}: {text}");
                let next = &ids[lost.last().unwrap() + 1];
                assert!(text.contains(next), "{what}: its neighbour is not named: {text}");
            }
        }
        let id = server.save("[\"after\"]");
        server.wait_until_stored(&id);
        assert!(server.stop().success());
    }
}

#[test]
fn damage_in_the_log_of_a_gone_instance_is_told_and_all_others_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = Server::start_as("serve", &data, &["--instance", "gone"], Some(TOKEN));
    let lost = server.save("{\"n\": \"in the gone one\"}");
    server.save("{\"n\": \"behind it\"}");
    server.kill();
    flip(&data, "in the gone one");
    let server = Server::start_with(&data, &["--instance", "healthy"], Some(TOKEN));
    let told = || {
        let ready = server.get("/readyz").json();
        let parts = ready["parts"].as_array().unwrap().clone();
        parts.into_iter().find(|part| part["name"] == "log-gone")
    };
    until("it is told", || told().is_some());
    let part = told().unwrap();
    assert_eq!((&part["state"], &part["cause"]), (&"degraded".into(), &"damaged".into()));
    for n in 0..20 {
        let id = server.save(&format!("[{n}]"));
        server.wait_until_stored(&id);
    }
    assert_eq!(server.get("/readyz").status, 200);
    let metrics = server.get("/metrics").text();
    assert!(metrics.contains("inlet_part_state{part=\"log-gone\"} 1"), "{metrics}");
    // It can be repaired while the healthy one runs, and then goes on.
    let (code, text) = run(directory.path(), &["fsck", "--repair", "--data", "data"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&lost), "{text}");
    until("it is in order", || told().is_none());
    until("the rest of it is stored", || {
        server.get("/api/documents?limit=100").text().contains("behind it")
    });
    assert!(server.stop().success());
}
