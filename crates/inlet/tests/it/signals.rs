//! Signals in the first moments of a process.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::server::{PATIENCE, inlet, until};

/// Every role, with flags that let it start anywhere.
const ROLES: [&[&str]; 5] = [
    &["up", "--https", "127.0.0.1:0", "--http", "off"],
    &["up", "--https", "127.0.0.1:0", "--http", "off", "--instances", "2"],
    &["serve", "--https", "127.0.0.1:0", "--http", "off"],
    &["edge", "--https", "127.0.0.1:0", "--http", "off", "--backend", "127.0.0.1:1"],
    &["persist"],
];

/// Moments after the first in which signals are held, in milliseconds.
const MOMENTS_MS: [u64; 5] = [0, 5, 10, 20, 50];

fn start(directory: &Path, words: &[&str]) -> Child {
    let mut command = inlet(directory);
    command.args(words).args(["--log-level", "error"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Waits until the process holds signals, or catches them; before that it has run nothing of ours.
fn wait_until_held(pid: Pid) {
    until("the process holds signals", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_pid()));
        let status = status.unwrap_or_default();
        let mask = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        // Bit 0 is signal 1.
        let both = 1 << 0 | 1 << 14;
        (mask("SigBlk:") | mask("SigCgt:")) & both == both
    });
}

/// The moments are what is tested: nothing is waited for.
fn let_pass(moment_ms: u64) {
    std::thread::sleep(Duration::from_millis(moment_ms));
}

fn wait_until_ended(child: &mut Child) -> ExitStatus {
    until("it has ended", || child.try_wait().unwrap().is_some());
    child.wait().unwrap()
}

#[test]
fn sigterm_in_the_first_moments_stops_every_role_in_good_order() {
    let directory = tempfile::tempdir().unwrap();
    for words in ROLES {
        for moment_ms in MOMENTS_MS {
            let mut child = start(directory.path(), words);
            let pid = Pid::from_child(&child);
            wait_until_held(pid);
            let_pass(moment_ms);
            kill_process(pid, Signal::TERM).unwrap();
            let status = wait_until_ended(&mut child);
            assert_eq!(status.code(), Some(0), "{words:?} after {moment_ms} ms: {status}");
        }
    }
}

#[test]
fn sighup_in_the_first_moments_ends_no_role() {
    let directory = tempfile::tempdir().unwrap();
    for words in ROLES {
        for moment_ms in MOMENTS_MS {
            let mut child = start(directory.path(), words);
            let pid = Pid::from_child(&child);
            wait_until_held(pid);
            let_pass(moment_ms);
            kill_process(pid, Signal::HUP).unwrap();
            // It is there to be stopped, and stops in good order.
            kill_process(pid, Signal::TERM).unwrap();
            let status = wait_until_ended(&mut child);
            assert_eq!(status.signal(), None, "{words:?} after {moment_ms} ms: {status}");
            assert_eq!(status.code(), Some(0), "{words:?} after {moment_ms} ms: {status}");
        }
    }
}

#[test]
fn a_storm_of_sighup_ends_no_role_and_keeps_none_from_stopping() {
    let directory = tempfile::tempdir().unwrap();
    for words in ROLES {
        let mut child = start(directory.path(), words);
        let pid = Pid::from_child(&child);
        wait_until_held(pid);
        for _ in 0..3_000 {
            kill_process(pid, Signal::HUP).unwrap();
            std::thread::yield_now();
        }
        kill_process(pid, Signal::TERM).unwrap();
        let status = wait_until_ended(&mut child);
        assert_eq!(status.code(), Some(0), "{words:?}: {status}");
    }
}

/// The first process of a namespace, as in a container, which signals without a handler do not
/// reach.
struct First {
    unshare: Child,
    pid: Pid,
}

impl First {
    fn start(directory: &Path, words: &[&str]) -> Self {
        let inner = inlet(directory);
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child"]).arg(inner.get_program()).args(words);
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.current_dir(directory).stdin(Stdio::null());
        let unshare = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", unshare.id());
        let mut pid = None;
        until("the process has begun", || {
            let children = std::fs::read_to_string(&children).unwrap_or_default();
            pid = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
            pid.is_some()
        });
        Self { unshare, pid: Pid::from_raw(pid.unwrap()).unwrap() }
    }
}

#[test]
fn sigterm_in_the_first_moments_reaches_the_first_process_of_a_container() {
    assert_eq!(rustix::process::geteuid().as_raw(), 0, "a namespace of processes needs root");
    let directory = tempfile::tempdir().unwrap();
    for words in ROLES {
        for moment_ms in MOMENTS_MS {
            let mut first = First::start(directory.path(), words);
            wait_until_held(first.pid);
            let_pass(moment_ms);
            kill_process(first.pid, Signal::TERM).unwrap();
            let begun = std::time::Instant::now();
            let status = wait_until_ended(&mut first.unshare);
            assert!(begun.elapsed() < PATIENCE);
            assert_eq!(status.code(), Some(0), "{words:?} after {moment_ms} ms: {status}");
        }
    }
}
