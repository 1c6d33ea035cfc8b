//! The command line run by another user than the service: root beside it, and a stranger.
//!
//! Each test needs root, to start processes of two users; `scripts/test` names them where they
//! could not run.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::server::{Server, inlet_at, until};

/// The user of the service, and one of nobody.
const SERVICE: u32 = 61_895;
const STRANGER: u32 = 61_896;

/// A machine with a service on it: a directory of its own, below one that only root may pass, as
/// systemd has it.
struct Machine {
    root: TempDir,
    binary: PathBuf,
}

impl Machine {
    fn new() -> Option<Self> {
        let root = tempfile::tempdir().unwrap();
        if root.path().metadata().unwrap().uid() != 0 {
            return None;
        }
        open(root.path(), 0o755);
        // Another process copies it: one of ours that is being started would hold it open.
        let binary = root.path().join("inlet");
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_inlet")).arg(&binary).status();
        assert!(copied.unwrap().success());
        let state = root.path().join("private");
        fs::create_dir(&state).unwrap();
        open(&state, 0o755);
        let directory = state.join("inlet");
        fs::create_dir(&directory).unwrap();
        chown(&directory, Some(SERVICE), Some(SERVICE)).unwrap();
        Some(Self { root, binary })
    }

    fn data(&self) -> PathBuf {
        self.root.path().join("private/inlet/data")
    }

    /// Only root may pass, as long as the service does not run: it has no mounts of its own here.
    fn close(&self) {
        open(&self.root.path().join("private"), 0o700);
    }

    fn start(&self) -> Server {
        open(&self.root.path().join("private"), 0o755);
        let mut command = inlet_at(&self.binary, self.data().parent().unwrap());
        command.uid(SERVICE).gid(SERVICE);
        Server::start_command(command, "up", &self.data(), &[], None)
    }

    fn start_and_stop(&self) {
        let server = self.start();
        assert_eq!(server.get("/readyz").status, 200);
        assert!(server.stop().success());
    }

    fn run_as(&self, user: Option<u32>, arguments: &[&str]) -> Output {
        let mut command = inlet_at(&self.binary, self.root.path());
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        command.args(arguments).arg("--data").arg(self.data()).output().unwrap()
    }

    /// What root's command printed.
    fn root(&self, arguments: &[&str]) -> String {
        let output = self.run_as(None, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Files in the data directory that are not the service's.
    fn foreign(&self) -> Vec<PathBuf> {
        let mut foreign = Vec::new();
        let mut left = vec![self.data()];
        while let Some(path) = left.pop() {
            let about = fs::symlink_metadata(&path).unwrap();
            if about.uid() != SERVICE || about.gid() != SERVICE {
                foreign.push(path.clone());
            }
            if about.is_dir() {
                left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
        foreign
    }
}

fn open(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_root_does_beside_a_running_service_leaves_the_service_its_files() {
    let Some(machine) = Machine::new() else { return };
    let server = machine.start();
    machine.root(&["list"]);
    let token = machine.root(&["token", "add", "ci"]).trim().to_owned();
    let reads = |token: &str| {
        let url = format!("{}/api/streams", server.plain());
        let answer = ureq::get(&url)
            .config()
            .http_status_as_error(false)
            .build()
            .header("X-Auth-Token", token)
            .call();
        answer.unwrap().status().as_u16()
    };
    assert_eq!(reads(&token), 200, "the server knows it at once");
    machine.root(&["summarize", "--week", "2026-W40"]);
    machine.root(&["export"]);
    machine.root(&["fsck"]);
    machine.root(&["token", "revoke", "ci"]);
    assert_eq!(reads(&token), 401, "the server knows that at once, too");
    assert_eq!(machine.foreign(), Vec::<PathBuf>::new());
    assert!(server.stop().success());
    machine.start_and_stop();
}

#[test]
fn what_root_does_while_the_service_is_stopped_leaves_the_service_its_files() {
    let Some(machine) = Machine::new() else { return };
    machine.start_and_stop();
    machine.close();
    let token = machine.root(&["token", "add", "ci"]).trim().to_owned();
    machine.root(&["summarize", "--week", "2026-W40"]);
    machine.root(&["migrate"]);
    machine.root(&["fsck", "--repair"]);
    let exported = machine.root.path().join("exported.ndjson");
    machine.root(&["export", "--output", exported.to_str().unwrap()]);
    assert_eq!(exported.metadata().unwrap().uid(), 0, "what was exported is root's");
    machine.root(&["restore", "--week", "2026-W40"]);
    assert_eq!(machine.foreign(), Vec::<PathBuf>::new());
    let server = machine.start();
    let listed = machine.root(&["list", "--token", &token]);
    assert_eq!(listed, "");
    machine.root(&["token", "revoke", "ci"]);
    let refused = || machine.run_as(None, &["list", "--token", &token]).status.code() == Some(1);
    until("the revoked token is refused", refused);
    assert!(server.stop().success());
}

#[test]
fn a_server_that_root_starts_on_the_directory_of_another_user_acts_as_that_user() {
    let Some(machine) = Machine::new() else { return };
    machine.start_and_stop();
    machine.close();
    for flags in [&[][..], &["--instances", "1"]] {
        let command = inlet_at(&machine.binary, machine.root.path());
        let server = Server::start_command(command, "up", &machine.data(), flags, None);
        let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
        let uids = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
        assert_eq!(uids.split_whitespace().filter(|uid| *uid == "61895").count(), 4, "{uids}");
        machine.root(&["token", "list"]);
        assert!(server.stop().success());
        assert_eq!(machine.foreign(), Vec::<PathBuf>::new(), "{flags:?}");
    }
    machine.start_and_stop();
}

#[test]
fn another_user_is_refused_and_changes_nothing() {
    let Some(machine) = Machine::new() else { return };
    machine.start_and_stop();
    // Even one who may write there, as the group does on a shared volume.
    for directory in ["", "secrets"] {
        open(&machine.data().join(directory), 0o777);
    }
    for arguments in
        [&["token", "add", "x"][..], &["summarize"], &["migrate"], &["fsck", "--repair"]]
    {
        let output = machine.run_as(Some(STRANGER), arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("belongs to user 61895"), "{arguments:?}: {said}");
        assert!(said.contains("hint: run it as that user or as root"), "{said}");
    }
    assert_eq!(machine.foreign(), Vec::<PathBuf>::new());
    // Where they may not even look, the hint says who may.
    open(&machine.data(), 0o700);
    let output = machine.run_as(Some(STRANGER), &["list"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("hint: run it as the user whose it is"), "{said}");
    // A start is refused for the directory, and not for what it would look at in it.
    for role in ["up", "serve", "persist"] {
        let output = machine.run_as(Some(STRANGER), &[role]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{role}: {said}");
        assert!(!said.contains("logs") && said.contains("hint: "), "{role}: {said}");
    }
}
