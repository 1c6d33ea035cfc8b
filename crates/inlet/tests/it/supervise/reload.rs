//! New settings and new binaries, taken up one instance at a time.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use super::{FLAGS, Fleet, send};
use crate::load::{Load, read_answer};
use crate::server::{Server, TOKEN, inlet_at, until};

/// A fleet with a file of settings beside its data directory.
fn with_settings(settings: &str) -> Fleet {
    let directory = tempfile::tempdir().unwrap();
    // Not under the name that other commands look for.
    fs::write(directory.path().join("up.toml"), settings).unwrap();
    let fleet = Fleet::start_in(directory, &["--config", "up.toml"]);
    fleet.wait_until_up(&["t-a1", "t-a2", "t-b1", "t-b2"]);
    fleet
}

fn settings(fleet: &Fleet) -> std::path::PathBuf {
    fleet.data.parent().unwrap().join("up.toml")
}

/// Reloads, which must be refused, and gives the reason.
fn refused(fleet: &Fleet) -> String {
    let before = fleet.up();
    let output = fleet.run(&["reload"]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(fleet.up(), before, "the old ones stay");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_reload_under_load_replaces_every_instance_and_fails_no_request() {
    let fleet = with_settings("");
    let before = fleet.up();
    let load = Load::start_without_keys(fleet.server.plain_address());
    load.wait_for(50);
    let output = fleet.run(&["reload"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "4 instances were replaced: t-a1.2, t-a2.2, t-b1.2, t-b2.2\n"
    );
    fleet.wait_until_up(&["t-a1.2", "t-a2.2", "t-b1.2", "t-b2.2"]);
    load.wait_for(50);
    // Once more, by the signal.
    fleet.server.signal(Signal::HUP);
    fleet.wait_until_up(&["t-a1", "t-a2", "t-b1", "t-b2"]);
    load.wait_for(50);
    load.finish_without_failure();
    let after: BTreeMap<_, _> = fleet.up();
    assert!(after.iter().all(|(id, pid)| before[id] != *pid), "{before:?} {after:?}");
    fleet.wait_until_drained();
    assert!(fleet.server.stop().success());
}

#[test]
fn changed_settings_are_taken_up_by_a_reload_and_not_by_a_crash() {
    let fleet = with_settings("body_bytes_max = \"1KiB\"\n");
    let document = format!("\"{}\"", "x".repeat(2_000));
    let status = || fleet.server.post("/api/save", &[], document.as_bytes()).status;
    assert_eq!(status(), 413);
    fs::write(settings(&fleet), "body_bytes_max = \"4KiB\"\n").unwrap();
    for (id, before) in fleet.up() {
        send(before, Signal::KILL);
        until("it is back", || fleet.up().get(&id).is_some_and(|pid| *pid != before));
    }
    assert_eq!(status(), 413, "a crash is no reload");
    assert!(fleet.run(&["reload"]).status.success());
    assert_eq!(status(), 202);
}

/// A fleet whose size is in its file of settings.
fn sized_by_its_file(settings: &str) -> Fleet {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("up.toml"), settings).unwrap();
    let data = directory.path().join("data");
    let flags = ["--config", "up.toml", "--instance", "t", "--log-level", "warn"];
    let server = Server::start_with(&data, &flags, Some(TOKEN));
    Fleet { server, data, _directory: directory }
}

/// The threads that an instance was started with.
fn threads(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    let line = String::from_utf8(line).unwrap();
    let mut words = line.split('\0').skip_while(|word| *word != "--threads");
    words.nth(1).unwrap().to_owned()
}

#[test]
fn one_reload_takes_up_every_setting_and_names_those_that_take_a_restart() {
    let fleet = sized_by_its_file("instances = 1\nzones = 1\nthreads = 1\n");
    fleet.wait_until_up(&["t-a1"]);
    assert_eq!(threads(fleet.pid("t-a1")), "1");
    fs::write(settings(&fleet), "instances = 2\nzones = 2\nthreads = 8\n").unwrap();
    let output = fleet.run(&["reload"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let expected = "4 instances were replaced: t-a1.2, t-a2, t-b1, t-b2; \
                    in force: instances, zones, threads\n";
    assert_eq!(said, expected);
    assert!(fleet.up().keys().eq(["t-a1.2", "t-a2", "t-b1", "t-b2"]));
    assert!(fleet.up().into_values().all(|pid| threads(pid) == "2"));

    // Fewer again, and one that only a restart can take up.
    fs::write(settings(&fleet), "instances = 1\nzones = 1\nthreads = 8\nhsts_s = 7\n").unwrap();
    let output = fleet.run(&["reload"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("in force: instances, zones; not in force before a restart"), "{said}");
    assert!(said.contains("hsts_s"), "{said}");
    fleet.wait_until_up(&["t-a1"]);
    assert_eq!(threads(fleet.pid("t-a1")), "8");
    let id = fleet.server.save("[1]");
    fleet.server.wait_until_stored(&id);
}

#[test]
fn a_reload_of_which_one_instance_fails_goes_back_and_says_so() {
    let fleet = with_settings("depth_max = 64\n");
    // The first successor starts, the second finds no place for its log.
    fs::write(fleet.data.join("log").join("t-a2.2"), "in the way").unwrap();
    fs::write(settings(&fleet), "depth_max = 3\n").unwrap();
    let output = fleet.run(&["reload"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("not reloaded, all stays as it was: t-a2.2 did not become"), "{said}");
    assert!(said.contains("t-a1.2 went back"), "{said}");
    fleet.wait_until_up(&["t-a1", "t-a2", "t-b1", "t-b2"]);
    for _ in 0..8 {
        fleet.server.save("[[[[[1]]]]]");
    }
    fs::remove_file(fleet.data.join("log").join("t-a2.2")).unwrap();
    assert!(fleet.run(&["reload"]).status.success());
    let answer = fleet.server.post("/api/save", &[], b"[[[[[1]]]]]");
    assert_eq!(answer.status, 400, "{}", answer.text());
}

#[test]
fn settings_that_are_wrong_are_refused_with_the_reason_and_the_old_instances_stay() {
    let fleet = with_settings("depth_max = 64\n");
    fs::write(settings(&fleet), "qeue = \"log:\"\n").unwrap();
    let said = refused(&fleet);
    assert!(said.contains("there is no setting \"qeue\""), "{said}");
    // These can be read, and no instance starts with them.
    fs::write(settings(&fleet), "store = \"sqlite:/proc/nowhere\"\n").unwrap();
    let said = refused(&fleet);
    assert!(said.contains("did not become ready"), "{said}");
    assert!(said.contains("/proc/nowhere"), "{said}");
    fleet.server.save("[1]");
    fs::remove_file(settings(&fleet)).unwrap();
    let said = refused(&fleet);
    assert!(said.contains("could not read the settings in up.toml"), "{said}");
    fs::write(settings(&fleet), "").unwrap();
    assert!(fleet.run(&["reload"]).status.success());
}

#[test]
fn rules_plans_pages_and_files_are_the_edges_and_a_reload_takes_up_others() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::create_dir(path("site")).unwrap();
    fs::create_dir(path("pages")).unwrap();
    fs::write(path("site/hello.txt"), "hello").unwrap();
    fs::write(path("pages/4xx.html"), "<h1>ours</h1>").unwrap();
    fs::write(path("up.toml"), "static = \"site\"\npages = \"pages\"\n").unwrap();
    let fleet = Fleet::start_in(directory, &["--config", "up.toml"]);
    fleet.wait_until_up(&["t-a1", "t-a2", "t-b1", "t-b2"]);
    let file = fleet.server.get("/static/hello.txt");
    assert_eq!((file.status, file.text().as_str()), (200, "hello"));
    assert!(file.headers.contains_key("etag") && file.headers.contains_key("cache-control"));
    assert_eq!(page(&fleet, "/nothing"), (404, "<h1>ours</h1>".to_owned()));

    let beside = |name: &str| fleet.data.parent().unwrap().join(name);
    let rule = "[[rules]]\nname = \"no-docs\"\naction = \"block\"\npath = '^/docs$'\n";
    fs::write(beside("firewall.toml"), rule).unwrap();
    let plan = "address_plan = \"one\"\n[plans.one]\nrequests_per_second = 1000\n";
    fs::write(beside("plans.toml"), plan).unwrap();
    let more = "static = \"site\"\nfirewall = \"firewall.toml\"\nplans = \"plans.toml\"\n";
    fs::write(settings(&fleet), more).unwrap();
    assert_eq!(fleet.server.get("/docs").status, 200);
    assert!(fleet.run(&["reload"]).status.success());
    assert_eq!(fleet.server.get("/docs").status, 403);
    assert!(fleet.server.get("/").headers.contains_key("ratelimit"));
    assert_ne!(page(&fleet, "/nothing").1, "<h1>ours</h1>", "there are none of ours any more");

    // From here on the files are looked at, as if they had been there from the start.
    fs::write(beside("firewall.toml"), "").unwrap();
    until("the rule is gone", || fleet.server.get("/docs").status == 200);
    fs::write(beside("firewall.toml"), rule).unwrap();
    until("the rule is back", || fleet.server.get("/docs").status == 403);
    fs::write(beside("firewall.toml"), "[[rules]]\nname = 7\n").unwrap();
    let output = fleet.run(&["reload"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("firewall.toml: line 2"), "{said}");
    assert_eq!(fleet.server.get("/docs").status, 403, "the old rule is in force");
}

/// The status and the page that a browser gets.
fn page(fleet: &Fleet, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(fleet.server.plain_address()).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    read_answer(&mut BufReader::new(stream)).unwrap()
}

#[test]
fn a_new_binary_is_taken_up_by_a_reload_if_it_becomes_ready() {
    let directory = tempfile::tempdir().unwrap();
    let binary = directory.path().join("inlet");
    copy(Path::new(env!("CARGO_BIN_EXE_inlet")), &binary);
    let data = directory.path().join("data");
    let command = inlet_at(&binary, directory.path());
    let server = Server::start_command(command, "up", &data, &FLAGS, Some(TOKEN));
    let fleet = Fleet { server, data, _directory: directory };
    fleet.wait_until_up(&["t-a1", "t-a2", "t-b1", "t-b2"]);
    let replace = |other: &Path| {
        let new = binary.with_extension("new");
        copy(other, &new);
        fs::rename(new, &binary).unwrap();
    };
    replace(Path::new("/bin/false"));
    let said = refused(&fleet);
    assert!(said.contains("t-a1.2 did not become ready: exit status: 1"), "{said}");
    // One that ends is started from the binary that is in force, which lies nowhere any more.
    let before = fleet.pid("t-b1");
    send(before, Signal::KILL);
    until("it is back", || fleet.up().get("t-b1").is_some_and(|pid| *pid != before));
    assert!(runs_a_deleted_file(fleet.pid("t-b1")));
    replace(Path::new(env!("CARGO_BIN_EXE_inlet")));
    let output = fleet.run(&["reload"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(fleet.up().into_values().all(|pid| !runs_a_deleted_file(pid)));
}

/// Copies a binary by a process of its own: were it written to here, a child that another test starts
/// meanwhile could hold it open, and the system runs no file that is open for writing.
fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

fn runs_a_deleted_file(pid: i32) -> bool {
    let target = fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    target.to_string_lossy().ends_with(" (deleted)")
}
