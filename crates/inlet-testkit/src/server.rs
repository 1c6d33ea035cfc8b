//! Real servers for tests: PostgreSQL, PgBouncer, Redis and an emulator of Amazon's services,
//! each on a port of its own on the loopback address, ended with the test that started it.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a server may take until it answers.
const START_MAX: Duration = Duration::from_secs(60);

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerKind {
    /// PostgreSQL: user, password and database administrator are `inlet`; `ca.pem` in the
    /// directory signed its certificate for `localhost`.
    Postgres,
    /// PgBouncer in transaction mode before the PostgreSQL on that port.
    PgBouncer(u16),
    /// Redis without a password.
    Redis,
    /// Redis that takes TLS alone; `ca.pem` in the directory signed its certificate for
    /// `localhost` and 127.0.0.1.
    RedisTls,
    /// A container registry without a password.
    Registry,
    /// The double of CloudFormation before moto.
    CloudFormation,
    /// moto: SQS, DynamoDB, S3, Secrets Manager and more, for any key.
    Moto,
    /// SeaweedFS: S3, for any key.
    SeaweedFs,
}

/// A server that runs until this is dropped. `scripts/server` starts it and ends it when this
/// process ends, however that happens.
#[derive(Debug)]
pub struct Server {
    kind: ServerKind,
    port: u16,
    directory: TempDir,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    script: Child,
    pid: u32,
}

impl Server {
    /// Starts a server and waits until it answers.
    ///
    /// # Panics
    ///
    /// Where it is not installed (`scripts/test` does that) or does not come up within a minute.
    pub fn start(kind: ServerKind) -> Self {
        let mut server = Self {
            kind,
            port: free_port(),
            directory: tempfile::tempdir().expect("a directory for a server"),
            running: None,
        };
        server.resume_or_start();
        server
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where the server keeps its files.
    pub fn directory(&self) -> PathBuf {
        self.directory.path().join("server")
    }

    /// Ends the server; what it wrote stays. `kill` ends it as a crash does.
    pub fn stop(&mut self, kill: bool) {
        let Some(mut running) = self.running.take() else { return };
        if kill {
            signal(running.pid, "KILL");
        }
        drop(running.script.stdin.take());
        let deadline = Instant::now() + Duration::from_secs(20);
        while Path::new(&format!("/proc/{}", running.pid)).exists() {
            if Instant::now() > deadline {
                signal(running.pid, "KILL");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        running.script.wait().expect("the server's script was started by us");
    }

    /// Starts a stopped server again, on the same port with the same files.
    pub fn resume_or_start(&mut self) {
        if self.running.is_some() {
            return;
        }
        let (kind, extra) = match self.kind {
            ServerKind::Postgres => ("postgres", String::new()),
            ServerKind::PgBouncer(port) => ("pgbouncer", port.to_string()),
            ServerKind::Redis => ("redis", String::new()),
            ServerKind::RedisTls => ("redis-tls", String::new()),
            ServerKind::Registry => ("registry", String::new()),
            ServerKind::CloudFormation => ("cloudformation", String::new()),
            ServerKind::Moto => ("moto", String::new()),
            ServerKind::SeaweedFs => ("seaweedfs", String::new()),
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/server");
        let mut command = Command::new(script);
        command.arg(kind).arg(self.port.to_string()).arg(self.directory());
        if !extra.is_empty() {
            command.arg(extra);
        }
        let mut script = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("scripts/server can be run");
        let mut line = String::new();
        let out = script.stdout.take().expect("its output is piped");
        BufReader::new(out).read_line(&mut line).expect("its output can be read");
        let Ok(pid) = line.trim().parse() else {
            let mut said = String::new();
            if let Some(mut err) = script.stderr.take() {
                err.read_to_string(&mut said).expect("its errors are text");
            }
            panic!("{kind} did not start: {said}");
        };
        self.running = Some(Running { script, pid });
        let deadline = Instant::now() + START_MAX;
        while !self.answers() {
            let log = std::fs::read_to_string(self.directory().join("out")).unwrap_or_default();
            assert!(Instant::now() < deadline, "{kind} does not answer: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops the server's processes in mid-air: connections stay open and nothing answers.
    pub fn freeze(&self) {
        self.signal_all("STOP");
    }

    /// Lets them go on.
    pub fn thaw(&self) {
        self.signal_all("CONT");
    }

    fn signal_all(&self, name: &str) {
        let Some(running) = &self.running else { return };
        for child in children(running.pid) {
            signal(child, name);
        }
        signal(running.pid, name);
    }

    /// Whether it takes connections and answers in its own protocol.
    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)) else {
            return false;
        };
        let question: &[u8] = match self.kind {
            // That it takes connections has to do: the question would be a handshake.
            ServerKind::RedisTls => return true,
            // A request for TLS: any answer means that the server is there.
            ServerKind::Postgres | ServerKind::PgBouncer(_) => {
                &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]
            }
            ServerKind::Redis => b"PING\r\n",
            ServerKind::Registry => b"GET /v2/ HTTP/1.0\r\n\r\n",
            ServerKind::CloudFormation => b"GET /double/resources HTTP/1.0\r\n\r\n",
            ServerKind::Moto => b"GET /moto-api/ HTTP/1.0\r\n\r\n",
            ServerKind::SeaweedFs => b"GET / HTTP/1.0\r\n\r\n",
        };
        stream.set_read_timeout(Some(Duration::from_secs(2))).is_ok()
            && std::io::Write::write_all(&mut stream, question).is_ok()
            && matches!(stream.read(&mut [0; 1]), Ok(1))
            && (self.kind != ServerKind::Postgres || self.is_ready())
    }

    /// PostgreSQL takes connections while it still recovers, and refuses them.
    fn is_ready(&self) -> bool {
        Command::new("pg_isready")
            .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
            .status()
            .is_ok_and(|status| status.success())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.thaw();
        self.stop(false);
    }
}

/// A port of 127.0.0.1 on which nobody listens now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

fn signal(pid: u32, name: &str) {
    // A process that is gone already needs no signal.
    if let Err(error) = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).output()
    {
        panic!("kill can't be run: {error}");
    }
}

fn children(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    list.unwrap_or_default().split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
