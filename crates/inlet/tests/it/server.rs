//! A real `inlet up` on a directory and ports of its own, ended by its id.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::Agent;

/// The token that the tests' servers are given.
pub(crate) const TOKEN: &str = "inlet_test_token";
/// How long a test waits for a condition before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running server.
pub(crate) struct Server {
    child: Child,
    /// What it printed until it was up.
    pub(crate) banner: String,
    plain: String,
    https: String,
    agent: Agent,
}

/// An answer: its status, its headers and its body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

/// `inlet` with no variables of this machine's, in `directory`.
pub(crate) fn inlet(directory: &Path) -> Command {
    inlet_at(Path::new(env!("CARGO_BIN_EXE_inlet")), directory)
}

/// The same with the binary at `path`.
pub(crate) fn inlet_at(path: &Path, directory: &Path) -> Command {
    let mut command = Command::new(path);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("INLET_")) {
        command.env_remove(name);
    }
    command.current_dir(directory).stdin(Stdio::null()).env("COLUMNS", "100");
    command
}

impl Server {
    /// Starts `inlet up` on `data` and waits until it is up.
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, &[], Some(TOKEN))
    }

    /// The same with more flags, and with the token given, or with none from outside.
    pub(crate) fn start_with(data: &Path, flags: &[&str], token: Option<&str>) -> Self {
        Self::start_as("up", data, flags, token)
    }

    /// The same in another role that serves.
    pub(crate) fn start_as(role: &str, data: &Path, flags: &[&str], token: Option<&str>) -> Self {
        Self::start_command(inlet(data.parent().unwrap()), role, data, flags, token)
    }

    /// The same by a command that is not complete yet.
    pub(crate) fn start_command(
        command: Command,
        role: &str,
        data: &Path,
        flags: &[&str],
        token: Option<&str>,
    ) -> Self {
        let free = "127.0.0.1:0";
        let doors = ["--https", free, "--http", free, "--plain", free];
        Self::start_bare(command, role, data, &[&doors, flags].concat(), token)
    }

    /// The same with no door but those of the flags.
    pub(crate) fn start_bare(
        mut command: Command,
        role: &str,
        data: &Path,
        flags: &[&str],
        token: Option<&str>,
    ) -> Self {
        command.arg(role).arg("--data").arg(data).args(flags).stdout(Stdio::piped());
        if let Some(token) = token {
            command.env("INLET_TOKEN", token);
        }
        let mut child = command.spawn().unwrap();
        let mut banner = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        // The last line of the banner says how to stop it.
        while !banner.contains("Ctrl-C") {
            assert_ne!(lines.read_line(&mut banner).unwrap(), 0, "it ended early: {banner}");
        }
        let running = std::fs::read(data.join("run.json")).unwrap();
        let running: Value = serde_json::from_slice(&running).unwrap();
        let plain = format!("http://{}", running["plain"].as_str().unwrap());
        let https = running["https"].as_str().unwrap_or_default().to_owned();
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .new_agent();
        Self { child, banner, plain, https, agent }
    }

    /// Where the API listens without TLS.
    pub(crate) fn plain(&self) -> &str {
        &self.plain
    }

    /// The address of that listener, `127.0.0.1:PORT`.
    pub(crate) fn plain_address(&self) -> &str {
        self.plain.strip_prefix("http://").unwrap()
    }

    /// The address of the listener with TLS, `127.0.0.1:PORT`.
    pub(crate) fn https(&self) -> &str {
        &self.https
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        let request = self.agent.get(format!("{}{path}", self.plain)).header("X-Auth-Token", TOKEN);
        answer(request.call().unwrap())
    }

    pub(crate) fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let url = format!("{}{path}", self.plain);
        let mut request = self.agent.post(url).header("X-Auth-Token", TOKEN);
        if !headers.iter().any(|(name, _)| *name == "Content-Type") {
            request = request.header("Content-Type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.send(body).unwrap())
    }

    pub(crate) fn put(&self, path: &str, body: &[u8]) -> Answer {
        let request = self.agent.put(format!("{}{path}", self.plain)).header("X-Auth-Token", TOKEN);
        answer(request.send(body).unwrap())
    }

    /// The status of a save; nothing where the server was not to be had.
    pub(crate) fn try_save(&self, body: &str) -> Option<u16> {
        let request = self.agent.post(format!("{}/api/save", self.plain));
        let request =
            request.header("X-Auth-Token", TOKEN).header("Content-Type", "application/json");
        request.send(body.as_bytes()).ok().map(|response| response.status().as_u16())
    }

    pub(crate) fn delete(&self, path: &str) -> Answer {
        let request =
            self.agent.delete(format!("{}{path}", self.plain)).header("X-Auth-Token", TOKEN);
        answer(request.call().unwrap())
    }

    /// Sends a document into `default` and gives its id.
    pub(crate) fn save(&self, body: &str) -> String {
        let answer = self.post("/api/save", &[], body.as_bytes());
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.json()["MessageId"].as_str().unwrap().to_owned()
    }

    /// Waits until the receipt is `stored`.
    pub(crate) fn wait_until_stored(&self, id: &str) {
        until("the document is stored", || {
            self.get(&format!("/api/receipts/{id}")).json()["state"] == "stored"
        });
    }

    /// Waits until nothing is left in the queue.
    pub(crate) fn wait_until_drained(&self) {
        until("the queue is empty", || {
            let metrics = self.get("/metrics").text();
            metrics.lines().any(|line| line == "inlet_queue_bytes 0")
        });
    }

    /// Ends it as an operator would, and waits.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.child.wait().unwrap()
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Kills it, as a crash would, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }
}

/// Looks again and again until `condition` holds.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::yield_now();
    }
}

fn answer(response: ureq::http::Response<ureq::Body>) -> Answer {
    let (parts, mut body) = response.into_parts();
    let body = body.with_config().limit(64 << 20).read_to_vec().unwrap();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}
