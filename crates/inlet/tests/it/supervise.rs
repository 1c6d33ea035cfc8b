//! `inlet up --instances N --zones 2`: real processes that are killed, stopped and replaced.

mod faults;
mod reload;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Output;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::server::{Server, TOKEN, inlet, until};

/// A running `up` with two instances, named `t`, in each of two zones.
pub(crate) struct Fleet {
    pub(crate) server: Server,
    pub(crate) data: PathBuf,
    _directory: TempDir,
}

/// The flags of [`Fleet`].
const FLAGS: [&str; 8] =
    ["--instances", "2", "--zones", "2", "--instance", "t", "--log-level", "warn"];

impl Fleet {
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), flags)
    }

    /// In a directory in which something lies already; the data directory is `data` in it.
    fn start_in(directory: TempDir, flags: &[&str]) -> Self {
        let data = directory.path().join("data");
        let flags: Vec<&str> = FLAGS.iter().chain(flags).copied().collect();
        let server = Server::start_with(&data, &flags, Some(TOKEN));
        Self { server, data, _directory: directory }
    }

    /// Runs `inlet` beside it.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = inlet(self.data.parent().unwrap());
        command.args(arguments).arg("--data").arg(&self.data).output().unwrap()
    }

    pub(crate) fn status(&self) -> Value {
        let output = self.run(&["status", "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What the status says of the instance with this id.
    fn instance(&self, id: &str) -> Option<Value> {
        let instances = self.status()["instances"].take();
        instances.as_array().unwrap().iter().find(|instance| instance["id"] == id).cloned()
    }

    /// The ids of all instances that are up, with their process ids.
    pub(crate) fn up(&self) -> BTreeMap<String, i32> {
        let instances = self.status()["instances"].take();
        let up = instances.as_array().unwrap().iter().filter(|it| it["state"] == "up");
        let pid = |it: &Value| i32::try_from(it["pid"].as_i64().unwrap()).unwrap();
        up.map(|it| (it["id"].as_str().unwrap().to_owned(), pid(it))).collect()
    }

    fn wait_until_up(&self, ids: &[&str]) {
        until(&format!("{ids:?} are up, and no others"), || self.up().keys().eq(ids));
    }

    /// Waits until nothing is left in any queue.
    fn wait_until_drained(&self) {
        until("all queues are empty", || {
            let status = self.status();
            let instances = status["instances"].as_array().unwrap();
            instances.iter().all(|instance| instance["queue_bytes"] == 0)
        });
    }

    fn pid(&self, id: &str) -> i32 {
        self.up()[id]
    }
}

fn send(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Whether the process is there and is a child of an `up`.
fn is_there(pid: i32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| String::from_utf8_lossy(&line).contains("--supervised"))
}

/// Where the log of an instance is.
fn log(data: &Path, id: &str) -> PathBuf {
    data.join("log").join(id)
}

#[test]
fn all_instances_in_both_zones_answer_in_turn_with_figures_from_the_store() {
    let fleet = Fleet::start(&[]);
    fleet.wait_until_up(&["t-a1", "t-a2", "t-b1", "t-b2"]);
    let id = fleet.server.save("[1]");
    fleet.server.wait_until_stored(&id);
    let mut answered: BTreeMap<(String, String), u32> = BTreeMap::new();
    until("every instance has answered ten times", || {
        let landing = fleet.server.get("/").json();
        let text = |name: &str| landing[name].as_str().unwrap().to_owned();
        assert!(landing["store"]["documents"].is_u64(), "{landing}");
        *answered.entry((text("zone"), text("instance"))).or_default() += 1;
        answered.len() == 4 && answered.values().all(|times| *times >= 10)
    });
    let expected = [("a", "t-a1"), ("a", "t-a2"), ("b", "t-b1"), ("b", "t-b2")];
    let seen: Vec<_> = answered.keys().map(|(zone, id)| (zone.as_str(), id.as_str())).collect();
    assert_eq!(seen, expected);
    let all: u32 = answered.values().sum();
    assert!(answered.values().all(|times| *times <= all / 2), "one has most of it: {answered:?}");
    assert!(fleet.server.stop().success());
}

#[test]
fn plain_http_is_redirected_and_reaches_no_instance() {
    let fleet = Fleet::start(&[]);
    let running = std::fs::read(fleet.data.join("run.json")).unwrap();
    let running: Value = serde_json::from_slice(&running).unwrap();
    let (http, https) = (running["http"].as_str().unwrap(), running["https"].as_str().unwrap());
    let config = ureq::Agent::config_builder().max_redirects(0).http_status_as_error(false);
    let agent = config.build().new_agent();
    let answer = agent.get(format!("http://{http}/api/documents?limit=3")).call().unwrap();
    assert_eq!(answer.status(), 308);
    let expected = format!("https://{https}/api/documents?limit=3");
    assert_eq!(answer.headers()["location"].to_str().unwrap(), expected);
    assert!(answer.headers().get("x-instance-id").is_none());
}

#[test]
fn a_request_that_is_not_well_framed_reaches_no_instance() {
    let fleet = Fleet::start(&[]);
    let mut stream = TcpStream::connect(fleet.server.plain_address()).unwrap();
    let request = "POST /api/save HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\
                   Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "one answer: {answer}");
    assert!(answer.contains("\"code\":\"RequestMalformed\""), "{answer}");
    assert!(!answer.to_ascii_lowercase().contains("x-instance-id"), "{answer}");
}

#[test]
fn the_children_of_an_up_that_is_killed_end_by_themselves() {
    let fleet = Fleet::start(&[]);
    let status = fleet.status();
    let worker = i32::try_from(status["worker"]["pid"].as_i64().unwrap()).unwrap();
    let mut children: BTreeSet<i32> = fleet.up().into_values().collect();
    children.insert(worker);
    assert_eq!(children.len(), 5, "{status}");
    assert!(children.iter().all(|pid| is_there(*pid)));
    // One that hangs would not notice: the system wakes it for that.
    send(fleet.pid("t-b2"), Signal::STOP);
    let Fleet { server, data, _directory } = fleet;
    server.kill();
    until("they are gone", || !children.iter().any(|pid| is_there(*pid)));
    // Nothing is in the way of the next one.
    let flags: Vec<&str> = FLAGS.to_vec();
    let server = Server::start_with(&data, &flags, Some(TOKEN));
    assert!(server.stop().success());
}

#[test]
fn the_status_tells_instances_zones_edge_queue_and_worker() {
    let fleet = Fleet::start(&[]);
    fleet.wait_until_up(&["t-a1", "t-a2", "t-b1", "t-b2"]);
    fleet.server.save("{}");
    until("the worker has told that it stored something", || {
        fleet.status()["worker"]["figures"]["stored"] == 1
    });
    let status = fleet.status();
    assert_eq!(status["zones"][1]["name"], "b");
    assert_eq!(status["zones"][1]["state"], "up");
    for instance in status["instances"].as_array().unwrap() {
        assert_eq!(instance["restarts"], 0);
        assert!(instance["queue_bytes"].is_u64(), "{instance}");
        assert!(instance["edge"]["in_flight"].is_u64(), "{instance}");
    }
    assert!(status["worker"]["figures"]["lag_ms"].is_u64(), "{status}");
    let printed = String::from_utf8(fleet.run(&["status"]).stdout).unwrap();
    for id in ["t-a1", "t-a2", "t-b1", "t-b2", "persist worker up"] {
        assert!(printed.contains(id), "{printed}");
    }
}

#[test]
fn the_figures_of_edge_instances_zones_and_worker_are_on_one_page() {
    let fleet = Fleet::start(&[]);
    fleet.wait_until_up(&["t-a1", "t-a2", "t-b1", "t-b2"]);
    let has = |line: &str| fleet.server.get("/edge/metrics").text().lines().any(|it| it == line);
    for line in [
        "inlet_edge_backend_up{backend=\"t-a1\",zone=\"a\"} 1",
        "inlet_child_ready{child=\"t-b2\",zone=\"b\"} 1",
        "inlet_child_restarts_total{child=\"t-persist\",zone=\"\"} 0",
        "inlet_zone_up{zone=\"b\"} 1",
        "inlet_connections_refused_total 0",
        "inlet_dead_documents_total 0",
    ] {
        until(line, || has(line));
    }
    send(fleet.pid("t-b2"), Signal::KILL);
    let line = "inlet_child_restarts_total{child=\"t-b2\",zone=\"b\"} 1";
    until(line, || has(line));
}

#[test]
fn one_process_alone_tells_its_status_too_and_has_no_zones() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let _server = Server::start_with(&data, &["--instance", "alone"], Some(TOKEN));
    let run = |arguments: &[&str]| {
        inlet(directory.path()).args(arguments).arg("--data").arg(&data).output().unwrap()
    };
    let printed = String::from_utf8(run(&["status"]).stdout).unwrap();
    assert!(printed.starts_with("alone  zone local"), "{printed}");
    let refused = run(&["zone", "down", "a"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("no `inlet up` with instances runs on"), "{said}");
}
