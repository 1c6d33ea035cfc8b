//! Threads and tasks that panic: the process ends with a message, or goes on and counts.

use std::process::Stdio;

use crate::server::{Server, TOKEN, inlet, until};

/// Starts `inlet up` in which these fail points are set.
fn start(data: &std::path::Path, fail_points: &str) -> Server {
    let mut command = inlet(data.parent().unwrap());
    command.env("FAILPOINTS", fail_points);
    Server::start_command(command, "up", data, &[], Some(TOKEN))
}

#[test]
fn a_loop_that_panics_is_started_again_and_its_restarts_are_counted() {
    let loops = ["persist", "summary", "tokens", "certificates", "renewal"];
    let fail_points = loops.map(|name| format!("{name}=2*panic")).join(";");
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory.path().join("data"), &fail_points);
    let id = server.save(r#"{"persist":"panics"}"#);
    server.wait_until_stored(&id);
    for name in loops {
        let line = format!("inlet_thread_restarts_total{{thread=\"{name}\"}} 2");
        until("the restarts are counted", || {
            server.get("/metrics").text().lines().any(|found| found == line)
        });
    }
    let ready = server.get("/readyz").json();
    let parts = ready["parts"].as_array().unwrap();
    let part = parts.iter().find(|part| part["name"] == "thread-persist").unwrap();
    assert!(part["state"] == "ready" || part["cause"] == "panicked", "{ready}");
    assert!(server.stop().success());
}

#[test]
fn a_thread_without_which_nothing_is_served_ends_the_process_with_a_message_when_it_panics() {
    for name in ["serve-0", "serve-1", "log", "shutdown", "hangups"] {
        let directory = tempfile::tempdir().unwrap();
        let output = inlet(directory.path())
            .args(["up", "--https", "127.0.0.1:0", "--http", "off", "--threads", "2"])
            .args(["--shutdown-s", "1"])
            .env("FAILPOINTS", format!("{name}=panic"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert!(said.contains(&format!("error: the thread {name} panicked")), "{name}: {said}");
        assert!(said.contains("hint: "), "{name}: {said}");
    }
}

#[test]
fn a_worker_of_its_own_is_watched_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = Server::start_as("serve", &data, &[], Some(TOKEN));
    let id = server.save(r#"{"persist":"elsewhere"}"#);
    let mut worker = inlet(directory.path())
        .args(["persist", "--data"])
        .arg(&data)
        .env("FAILPOINTS", "persist=3*panic")
        .spawn()
        .unwrap();
    server.wait_until_stored(&id);
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&worker),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    assert!(worker.wait().unwrap().success());
}
