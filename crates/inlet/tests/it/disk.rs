//! A real process on real disks that are taken away, filled, cut off from power, or damaged.
//!
//! Mounts need root, loop devices and FUSE. A test that can't have what it needs says so in a line
//! `not run: …` past the test harness; `scripts/test` counts these lines, and none counts as
//! passed.

pub(crate) mod clock;
mod damage;
mod full;
mod gone;
mod mounts;
mod pair;
mod power;
mod undrained;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use crate::server::{PATIENCE, TOKEN, inlet};

/// Says that a test could not run.
pub(crate) fn not_run(why: &str) {
    let thread = std::thread::current();
    let line = format!("not run: {}: {why}\n", thread.name().unwrap_or_default());
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// The exit code and all that a command printed, on both streams.
pub(crate) fn run(directory: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = inlet(directory).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout) + &text(output.stderr))
}

/// Runs `inlet up` (or another role) that is to be refused: its exit code and its words. One that
/// starts all the same is ended and fails the test.
pub(crate) fn refused(data: &Path, role: &str, flags: &[&str]) -> String {
    let mut command = inlet(data.parent().unwrap());
    let (code, text) = outcome(prepared(&mut command, data, role, flags));
    assert_eq!(code, Some(1), "{text}");
    text
}

/// The command line of a role on `data`, on ports of its own.
pub(crate) fn prepared<'a>(
    command: &'a mut Command,
    data: &Path,
    role: &str,
    flags: &[&str],
) -> &'a mut Command {
    command.arg(role).arg("--data").arg(data).args(flags).env("INLET_TOKEN", TOKEN);
    if role != "persist" {
        command.args(["--https", "off", "--http", "off", "--plain", "127.0.0.1:0"]);
    }
    command
}

/// The exit code and the words of a command that is to end by itself.
pub(crate) fn outcome(command: &mut Command) -> (Option<i32>, String) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (sender, texts) = mpsc::channel();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let (out, err) = (sender.clone(), sender);
    std::thread::spawn(move || read_all(stdout, &out));
    std::thread::spawn(move || read_all(stderr, &err));
    let mut text = String::new();
    loop {
        match texts.recv_timeout(PATIENCE) {
            Ok(line) => text.push_str(&line),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                child.kill().unwrap();
                panic!("it did not end: {text}");
            }
        }
    }
    (child.wait().unwrap().code(), text)
}

fn read_all(reader: impl BufRead, sender: &mpsc::Sender<String>) {
    for line in reader.lines().map_while(Result::ok) {
        if sender.send(line + "\n").is_err() {
            return;
        }
    }
}

/// Ends a child by its id when dropped.
pub(crate) struct Ended(pub(crate) Child);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }
}
