//! A server of the bench's own: this binary on a new directory, ended with the bench.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use inlet_core::auth::new_token_text;

use super::load::Target;
use crate::client::address::Address;
use crate::client::tls;
use crate::data::DataDirectory;
use crate::report::Hinted;

/// How long the server may take to listen.
const START_WAIT_MAX: Duration = Duration::from_secs(20);
/// How long the server may take to stop.
const STOP_WAIT_MAX: Duration = Duration::from_secs(40);

/// A running server, killed when dropped.
pub(super) struct OwnServer {
    child: Child,
    directory: PathBuf,
    address: Option<Address>,
    certificate: Option<PathBuf>,
    token: String,
}

impl OwnServer {
    /// Starts the server and waits until it listens.
    pub(super) fn start(tls: bool) -> anyhow::Result<Self> {
        let token = new_token_text().context("could not get randomness from the system")?;
        let directory = std::env::current_dir()
            .context("could not tell the current directory")?
            .join(format!("inlet-bench-{}", std::process::id()));
        let program = std::env::current_exe().context("could not tell this program's path")?;
        let (https, plain) = if tls { ("127.0.0.1:0", "off") } else { ("off", "127.0.0.1:0") };
        let child = Command::new(program)
            .args(["up", "--http", "off", "--https", https, "--plain", plain, "--data"])
            .arg(&directory)
            .env("INLET_TOKEN", &token)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("could not start a server to measure")?;
        let mut server = Self { child, directory, address: None, certificate: None, token };
        server.wait_until_it_listens(tls)?;
        Ok(server)
    }

    fn wait_until_it_listens(&mut self, tls: bool) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < START_WAIT_MAX {
            let running =
                DataDirectory::open(&self.directory).ok().and_then(|d| d.running().ok().flatten());
            let listener = running.as_ref().and_then(|r| if tls { r.https } else { r.plain });
            if let (Some(running), Some(listener)) = (&running, listener) {
                self.address = Some(Address::of(tls, listener));
                self.certificate = running.certificate.clone();
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                let message = format!("the server to measure ended: {status}");
                return Err(Hinted::new(message, "its messages are above").into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(Hinted::new("the server to measure did not listen in time", "").into())
    }

    /// Its address, and the means to speak to it.
    pub(super) fn target(&self) -> anyhow::Result<Target> {
        Ok(Target {
            address: self.address.clone().context("the server to measure listens nowhere")?,
            token: self.token.clone(),
            tls: tls::config(None, self.certificate.as_deref())?,
            stream: "default".to_owned(),
        })
    }

    /// The most memory the server had resident, in bytes.
    pub(super) fn resident_bytes_max(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    }

    /// Stops the server as an operator would, and waits for it.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .context("could not stop the server that was measured")?;
        let begun = Instant::now();
        while begun.elapsed() < STOP_WAIT_MAX {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(Hinted::new("the server that was measured did not stop in time", "").into())
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let killed = self.child.kill().and_then(|()| self.child.wait().map(|_| ()));
            if let Err(error) = killed {
                tracing::warn!(%error, "could not end the server that was measured");
            }
        }
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            tracing::warn!(path = %self.directory.display(), %error, "could not remove");
        }
    }
}
