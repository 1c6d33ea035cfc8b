//! An instance whose log nobody drains says so, and the age of what waits is told in every form.

use std::process::Stdio;

use serde_json::Value;

use super::{Ended, prepared};
use crate::server::{Server, TOKEN, inlet, until};

fn part(server: &Server, name: &str) -> Option<Value> {
    let ready = server.get("/readyz").json();
    ready["parts"].as_array().unwrap().iter().find(|part| part["name"] == name).cloned()
}

/// The age of the oldest document that waits, in seconds.
fn lag(server: &Server) -> f64 {
    let metrics = server.get("/metrics").text();
    let line = metrics.lines().find(|line| line.starts_with("inlet_persist_lag_seconds "));
    line.unwrap().split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn an_instance_that_nobody_drains_is_not_ready_and_its_lag_grows_until_a_worker_comes() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = Server::start_as("serve", &data, &[], Some(TOKEN));
    let id = server.save("[1]");
    until("it is not ready", || server.get("/readyz").status == 503);
    let drain = part(&server, "drain").unwrap();
    assert_eq!((&drain["state"], &drain["cause"]), (&"unready".into(), &"undrained".into()));
    until("the lag grows", || lag(&server) > 1.0);
    // It is not lost, and the door is open: whoever sends all the same is answered.
    let other = server.save("[2]");
    let mut worker = inlet(directory.path());
    let worker = prepared(&mut worker, &data, "persist", &[]);
    let worker = Ended(worker.stdout(Stdio::null()).spawn().unwrap());
    for id in [&id, &other] {
        server.wait_until_stored(id);
    }
    until("it is ready", || server.get("/readyz").status == 200);
    until("nothing waits", || lag(&server) == 0.0);
    drop(worker);
    server.save("[3]");
    until("it is not ready again", || server.get("/readyz").status == 503);
    assert!(server.stop().success());
}

#[test]
fn a_whole_server_is_ready_and_drains() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"));
    let id = server.save("[1]");
    server.wait_until_stored(&id);
    until("nothing waits", || lag(&server) == 0.0);
    let drain = part(&server, "drain").unwrap();
    assert_eq!(drain["state"], "ready");
    assert_eq!(server.get("/readyz").status, 200);
    assert!(server.stop().success());
}

#[test]
fn the_container_runs_all_of_it() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/Dockerfile");
    let text = std::fs::read_to_string(root).unwrap();
    assert!(text.lines().any(|line| line == "CMD [\"up\"]"), "{text}");
}
