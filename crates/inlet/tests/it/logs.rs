//! Logs that nobody reads and disks that are full: nothing waits for them, and nothing storms.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::server::{TOKEN, inlet, until};

/// The longest that a stop may take here; nothing is left to be answered.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// A server whose stdout and stderr are pipes that nobody reads once it is up.
struct Unread {
    child: Child,
    plain: String,
    _stdout: BufReader<ChildStdout>,
    stderr: ChildStderr,
    directory: TempDir,
}

impl Unread {
    fn start(role: &str, flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command: Command = inlet(directory.path());
        command.args([role, "--https", "off", "--http", "off", "--plain", "127.0.0.1:0"]);
        command.args(flags).env("INLET_TOKEN", TOKEN);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = child.stderr.take().unwrap();
        let mut line = String::new();
        while !line.contains("Ctrl-C") {
            line.clear();
            assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "it ended early");
        }
        let running = std::fs::read(directory.path().join("inlet-data/run.json")).unwrap();
        let running: Value = serde_json::from_slice(&running).unwrap();
        let plain = running["plain"].as_str().unwrap().to_owned();
        Self { child, plain, _stdout: stdout, stderr, directory }
    }

    fn get(&self, path: &str) -> String {
        let answer = ureq::get(format!("http://{}{path}", self.plain)).call().unwrap();
        answer.into_body().read_to_string().unwrap()
    }

    fn save(&self) {
        let request = ureq::post(format!("http://{}/api/save", self.plain));
        let request = request.header("X-Auth-Token", TOKEN);
        let answer = request.header("Content-Type", "application/json").send("[1]").unwrap();
        assert_eq!(answer.status(), 202);
    }

    fn figure(&self, page: &str, name: &str) -> u64 {
        let text = self.get(page);
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    /// The process that says something for each SIGHUP: this one, or its only instance.
    fn noisy(&self) -> Pid {
        let mut status = inlet(self.directory.path());
        let status = status.args(["status", "--json"]).env("INLET_TOKEN", TOKEN).output().unwrap();
        let status: Value = serde_json::from_slice(&status.stdout).unwrap();
        let pid = status["instances"][0]["pid"].as_i64();
        pid.map_or_else(
            || Pid::from_child(&self.child),
            |pid| Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(),
        )
    }

    fn storm_until_lines_are_dropped(&self, page: &str) {
        let noisy = self.noisy();
        until("log lines are dropped", || {
            for _ in 0..2_000 {
                kill_process(noisy, Signal::HUP).unwrap();
                std::thread::yield_now();
            }
            self.figure(page, "inlet_log_lines_dropped_total") > 0
        });
    }

    /// Stops it with nobody reading, and gives what was left in the pipe of stderr.
    fn stop(mut self) -> String {
        let begun = Instant::now();
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        until("it has ended", || {
            assert!(begun.elapsed() < STOP_WITHIN, "it does not end");
            self.child.try_wait().unwrap().is_some()
        });
        assert!(self.child.wait().unwrap().success());
        let mut left = Vec::new();
        self.stderr.read_to_end(&mut left).unwrap();
        drop(self.directory);
        String::from_utf8_lossy(&left).into_owned()
    }
}

#[test]
fn a_reader_of_the_access_log_that_stalls_holds_up_neither_requests_nor_the_stop() {
    let server = Unread::start("up", &["--access-log", "-", "--log-level", "warn"]);
    // The pipe holds 64 KiB and what waits is bounded too.
    until("lines are dropped", || {
        (0..500).for_each(|_| drop(server.get("/healthz")));
        server.figure("/edge/metrics", "inlet_edge_access_lines_dropped_total") > 0
    });
    server.save();
    let said = server.stop();
    assert!(said.contains("lines of the access log were dropped"), "{said}");
}

#[test]
fn an_access_log_on_a_full_disk_is_one_warning_a_second_and_every_line_is_counted() {
    let begun = Instant::now();
    let server = Unread::start("up", &["--access-log", "/dev/full", "--log-level", "warn"]);
    (0..2_000).for_each(|_| drop(server.get("/healthz")));
    until("all lines are counted", || {
        server.figure("/edge/metrics", "inlet_edge_access_lines_dropped_total") >= 2_000
    });
    let passed = begun.elapsed().as_secs();
    let said = server.stop();
    let warnings = said.matches("lines of the access log were dropped").count() as u64;
    assert!((1..=passed + 2).contains(&warnings), "{warnings} warnings in {passed} s: {said}");
    assert!(said.contains("No space left on device"), "{said}");
}

#[test]
fn a_reader_of_stderr_that_stalls_holds_up_nothing_in_any_role() {
    for (role, flags, page) in [
        ("up", &[][..], "/metrics"),
        ("serve", &["--log-format", "json"], "/metrics"),
        ("up", &["--instances", "1", "--log-format", "json"], "/edge/metrics"),
    ] {
        let server = Unread::start(role, flags);
        server.storm_until_lines_are_dropped(page);
        server.save();
        server.stop();
    }
}

#[test]
fn lines_that_were_lost_are_told_once_the_reader_goes_on() {
    let mut server = Unread::start("up", &[]);
    server.storm_until_lines_are_dropped("/metrics");
    let mut lines = BufReader::new(&mut server.stderr).lines();
    let told = lines.find(|line| line.as_ref().unwrap().contains("log lines were dropped"));
    assert!(told.unwrap().unwrap().contains(" WARN "), "it has a level and a number");
    server.child.kill().unwrap();
    server.child.wait().unwrap();
}
