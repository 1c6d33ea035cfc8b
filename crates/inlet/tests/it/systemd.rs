//! What a service is told by systemd and tells it, with this test in systemd's place, and its unit.

use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::load::read_answer;
use crate::server::{PATIENCE, Server, TOKEN, inlet};

/// The socket that services speak to.
struct Notified {
    socket: UnixDatagram,
    path: PathBuf,
    _directory: TempDir,
}

impl Notified {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, path, _directory: directory }
    }

    fn start(&self, role: &str, data: &Path, flags: &[&str]) -> Server {
        let mut command = inlet(data.parent().unwrap());
        command.env("NOTIFY_SOCKET", &self.path).env("WATCHDOG_USEC", "100000");
        Server::start_command(command, role, data, flags, Some(TOKEN))
    }

    fn next(&self) -> String {
        let mut room = [0; 1024];
        let bytes = self.socket.recv(&mut room).unwrap();
        String::from_utf8(room[..bytes].to_vec()).unwrap().trim().to_owned()
    }

    /// Reads on to the first message that is no sign of life.
    fn next_but_life(&self) -> String {
        loop {
            let next = self.next();
            if next != "WATCHDOG=1" {
                return next;
            }
        }
    }
}

/// A process on a socket that it was handed. It ends with this.
pub(crate) struct Running(Child);

impl Running {
    /// Starts a role whose plain door is `socket`, which stays open here too, as systemd does it.
    pub(crate) fn start_on(
        socket: &TcpListener,
        role: &str,
        directory: &Path,
        flags: &[&str],
    ) -> Self {
        let mut shell = Command::new("/bin/sh");
        let program = inlet(directory).get_program().to_owned();
        // The shell becomes the server, so that its id is the one that the socket is for.
        let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=plain \
                      exec \"$0\" \"$@\"";
        shell.arg("-c").arg(script).arg(program).arg(role);
        shell.args(["--https", "off", "--log-level", "warn"]).args(flags);
        let shell = shell.current_dir(directory).env("INLET_TOKEN", TOKEN);
        Self(shell.stdin(handed(socket)).stdout(Stdio::null()).spawn().unwrap())
    }

    /// Ends it as systemd does, and waits.
    pub(crate) fn end(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }
}

/// The socket as what a shell reads: the one descriptor whose number is known beforehand.
fn handed(socket: &TcpListener) -> Stdio {
    Stdio::from(OwnedFd::from(socket.try_clone().unwrap()))
}

#[test]
fn an_up_with_instances_that_is_started_again_on_a_kept_socket_fails_no_request() {
    let directory = tempfile::tempdir().unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let flags = ["--instances", "1", "--data", "data"];
    let start = || Running::start_on(&socket, "up", directory.path(), &flags);
    let ask = || {
        let mut connection = TcpStream::connect(address).unwrap();
        connection.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        read_answer(&mut BufReader::new(connection)).map(|(status, _)| status)
    };
    let is_over = AtomicBool::new(false);
    let mut up = start();
    let answers = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut answers = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                answers.push(ask());
            }
            answers
        });
        for _ in 0..2 {
            ask();
            up.end();
            up = start();
        }
        ask();
        is_over.store(true, Ordering::Relaxed);
        asking.join().unwrap()
    });
    assert!(answers.len() > 2 && answers.iter().all(|answer| *answer == Some(200)), "{answers:?}");
}

#[test]
fn every_role_that_serves_says_that_it_is_ready_lives_and_stops() {
    let directory = tempfile::tempdir().unwrap();
    let roles: [(&str, &[&str]); 4] = [
        ("serve", &[]),
        ("up", &[]),
        ("up", &["--instances", "1"]),
        ("edge", &["--backend", "127.0.0.1:1"]),
    ];
    for (number, (role, flags)) in roles.into_iter().enumerate() {
        let notified = Notified::new();
        let server = notified.start(role, &directory.path().join(number.to_string()), flags);
        assert_eq!(notified.next(), "READY=1", "{role} {flags:?}");
        for _ in 0..3 {
            assert_eq!(notified.next(), "WATCHDOG=1", "{role} {flags:?}");
        }
        // It is asked to reload, and lives on. What has nothing to reload says nothing of it.
        server.signal(Signal::HUP);
        if flags.len() == 2 {
            let reloading = notified.next_but_life();
            assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{role}: {reloading}");
            let reloaded = notified.next_but_life();
            assert!(reloaded.starts_with("READY=1\nSTATUS="), "{role}: {reloaded}");
            assert!(!reloaded.contains("not "), "{role}: {reloaded}");
        }
        for _ in 0..3 {
            assert_eq!(notified.next(), "WATCHDOG=1", "{role} {flags:?}");
        }
        server.signal(Signal::TERM);
        assert_eq!(notified.next_but_life(), "STOPPING=1", "{role} {flags:?}");
        assert!(server.stop().success(), "{role} {flags:?}");
    }
}

#[test]
fn a_socket_that_is_for_no_door_is_refused_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut shell = std::process::Command::new("/bin/sh");
    let program = inlet(directory.path()).get_program().to_owned();
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"";
    shell.stdin(handed(&socket));
    shell.arg("-c").arg(script).arg(program).args(["serve", "--https", "127.0.0.1:0", "--data"]);
    let output = shell.arg(directory.path().join("data")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    let address = socket.local_addr().unwrap();
    assert!(said.contains(&format!("a socket on {address} was handed over for no door")), "{said}");
    assert!(said.contains("FileDescriptorName="), "{said}");
}

#[test]
fn the_unit_starts_without_a_file_of_settings() {
    let unit = include_str!("../../../../deploy/systemd/inlet.service");
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| {
        let path = directory.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path.display().to_string()
    };
    let here = |text: &str| {
        text.replace("/var/lib/inlet", &place("data")).replace("/etc/inlet", &place("settings"))
    };
    let value = |name: &'static str| unit.lines().filter_map(move |line| line.strip_prefix(name));
    let mut command = inlet(Path::new(&here(value("WorkingDirectory=").next().unwrap())));
    for variable in value("Environment=") {
        let (name, value) = variable.split_once('=').unwrap();
        command.env(name, here(value));
    }
    let output = command.arg("config").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
