//! `inlet send`: what is new is added, what is there is not added twice, what is refused is told.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::server::{Server, inlet};

/// A server, and the directory that its clients run in.
struct Place {
    directory: tempfile::TempDir,
    server: Server,
}

impl Place {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::start_with(&directory.path().join("data"), flags, None);
        Self { directory, server }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = inlet(self.path());
        command.args(arguments).args(["--data", "data"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// The counts that `send` gave: new, already there, refused.
    fn sent(&self, arguments: &[&str], input: &str) -> (u64, u64, u64) {
        let output = self.run(&[&["send", "--json"], arguments].concat(), input);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let counted: Value = serde_json::from_slice(&output.stdout).expect(&said);
        let count = |name: &str| counted[name].as_u64().unwrap();
        let counts = (count("new"), count("already_there"), count("refused"));
        assert_eq!(output.status.code(), Some(i32::from(counts.2 > 0)), "{said}");
        counts
    }

    /// The number of times each body is stored.
    fn stored(&self) -> BTreeMap<String, usize> {
        self.server.wait_until_drained();
        let output = self.run(&["list", "--limit", "100000", "--json"], "");
        let mut stored = BTreeMap::new();
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let document: Value = serde_json::from_str(line).unwrap();
            *stored.entry(document["body"].as_str().unwrap().to_owned()).or_insert(0) += 1;
        }
        stored
    }
}

fn lines(numbers: impl IntoIterator<Item = u32>) -> String {
    numbers.into_iter().map(|n| format!("{{\"n\":{n}}}\n")).collect()
}

#[test]
fn a_mended_file_adds_only_what_was_mended() {
    let place = Place::new();
    place.write("f.ndjson", &format!("{}nonsense\n{}", lines(0..3), lines(3..6)));
    assert_eq!(place.sent(&["f.ndjson"], ""), (6, 0, 1));
    // As an editor does it: a new file in the place of the old one.
    place.write("mended", &format!("{}{}{}", lines(0..3), lines([99]), lines(3..6)));
    std::fs::rename(place.path().join("mended"), place.path().join("f.ndjson")).unwrap();
    assert_eq!(place.sent(&["f.ndjson"], ""), (1, 6, 0));
    assert!(place.stored().values().all(|count| *count == 1));
    assert_eq!(place.stored().len(), 7);
}

#[test]
fn a_file_that_grew_at_any_place_adds_only_what_is_new_whatever_the_batch() {
    let place = Place::new();
    place.write("f.ndjson", &lines(0..1_000));
    assert_eq!(place.sent(&["f.ndjson", "--batch", "7"], ""), (1_000, 0, 0));
    let grown = [lines([5_000]), lines(0..500), lines([6_000]), lines(500..1_100)].concat();
    place.write("f.ndjson", &grown);
    assert_eq!(place.sent(&["f.ndjson", "--batch", "33"], ""), (102, 1_000, 0));
    place.server.wait_until_drained();
    assert_eq!(place.sent(&["f.ndjson"], ""), (0, 1_102, 0));
    let stored = place.stored();
    assert_eq!((stored.len(), stored.values().sum::<usize>()), (1_102, 1_102));
}

#[test]
fn equal_readings_are_as_many_documents_as_there_are() {
    let place = Place::new();
    // From standard input each time is a sending of its own.
    for _ in 0..3 {
        assert_eq!(place.sent(&["-"], "{\"temp\":20}\n"), (1, 0, 0));
    }
    assert_eq!(place.stored()["{\"temp\":20}"], 3);
    // In one file, and in two files of the same content.
    place.write("a", "[1]\n[1]\n");
    place.write("b", "[1]\n[1]\n");
    assert_eq!(place.sent(&["a", "b"], ""), (4, 0, 0));
    assert_eq!(place.sent(&["a", "b"], ""), (0, 4, 0));
    assert_eq!(place.stored()["[1]"], 4);
}

#[test]
fn what_is_sent_under_one_name_is_one_sending() {
    let place = Place::new();
    assert_eq!(place.sent(&["-", "--run", "monday"], "[1]\n[2]\n"), (2, 0, 0));
    assert_eq!(place.sent(&["-", "--run", "monday"], "[0]\n[2]\n[1]\n"), (1, 2, 0));
    place.write("f", "[1]\n[3]\n");
    assert_eq!(place.sent(&["f", "--run", "monday"], ""), (1, 1, 0));
    assert_eq!(place.sent(&["f", "--run", "tuesday"], ""), (2, 0, 0));
    // A file that was filled anew may have readings like the old ones.
    place.write("g", "{\"temp\":20}\n");
    assert_eq!(place.sent(&["g", "--run", "1"], ""), (1, 0, 0));
    assert_eq!(place.sent(&["g", "--run", "2"], ""), (1, 0, 0));
    assert_eq!(place.run(&["send", "g", "--run", ""], "").status.code(), Some(2));
}

#[test]
fn a_send_that_was_killed_is_finished_by_sending_again() {
    let place = Place::new();
    place.write("f", &lines(0..20_000));
    let mut command = inlet(place.path());
    command.args(["send", "f", "--batch", "100", "--data", "data"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    crate::server::until("some were accepted", || {
        let metrics = place.server.get("/metrics").text();
        let accepted =
            metrics.lines().find_map(|line| line.strip_prefix("inlet_accepted_documents_total "));
        accepted.is_some_and(|count| count.parse::<u64>().unwrap() > 300)
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let (new, there, refused) = place.sent(&["f"], "");
    assert_eq!((new + there, refused), (20_000, 0));
    assert!(there > 300, "{there}");
    assert_eq!(place.server.get("/api/streams").status, 401, "the server has tokens of its own");
    place.server.wait_until_drained();
    let streams = place.run(&["streams", "--json"], "");
    let streams: Value = serde_json::from_slice(&streams.stdout).unwrap();
    assert_eq!(streams["documents"], 20_000);
}

#[test]
fn a_batch_that_is_larger_than_the_server_takes_is_sent_in_parts() {
    let place = Place::with(&[
        "--batch-bytes-max",
        "4KiB",
        "--body-bytes-max",
        "1KiB",
        "--batch-documents-max",
        "20",
    ]);
    let long = format!("{{\"long\":\"{}\"}}\n", "x".repeat(2_000));
    let longer = format!("{{\"longer\":\"{}\"}}\n", "x".repeat(5_000));
    place.write("f", &[lines(0..300), long, lines(300..310), longer, lines(310..320)].concat());
    let output = place.run(&["send", "f"], "");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "320 new, 0 already there, 2 refused\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("f:301: ") && said.contains("f:312: "), "{said}");
    assert!(said.contains("hint: the lines are named above"), "{said}");
    assert_eq!(place.stored().len(), 320);
}

#[test]
fn refused_lines_are_named_with_the_place_of_the_fault() {
    let place = Place::new();
    let output = place.run(&["send", "-"], "[1]\n\n[1,]\n{\"a\":1,\"a\":2}\n");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let alone = place.server.post("/api/save", &[], b"[1,]");
    assert_eq!(alone.status, 401);
    assert!(said.contains("standard input:3: the body is not acceptable JSON: "), "{said}");
    assert!(said.contains("standard input:4: "), "{said}");
    let fault = said.lines().find(|line| line.contains(":3: ")).unwrap();
    assert!(fault.contains('4') && !fault.contains("send-"), "{fault}");
}

#[test]
fn what_send_guarantees_is_in_its_help() {
    let directory = tempfile::tempdir().unwrap();
    let output = inlet(directory.path()).args(["send", "--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for said in
        ["idempotency key", "--run NAME", "Standard input", "already there", "exit code is 1"]
    {
        assert!(help.contains(said), "{said}: {help}");
    }
}
