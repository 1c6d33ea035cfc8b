//! What a service is told by systemd and tells it, with this test in systemd's place, and its unit.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tempfile::TempDir;

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
        // It is asked to reload, and lives on.
        server.signal(Signal::HUP);
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
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::empty()).unwrap();
    let mut shell = std::process::Command::new("/bin/sh");
    let program = inlet(directory.path()).get_program().to_owned();
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&socket);
    let script = format!("exec 3<&{descriptor}; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"");
    shell.arg("-c").arg(script).arg(program).args(["serve", "--https", "127.0.0.1:0", "--data"]);
    let output = shell.arg(directory.path().join("data")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    let address = socket.local_addr().unwrap();
    assert!(said.contains(&format!("a socket on {address} was handed over for no door")), "{said}");
    assert!(said.contains("FileDescriptorName="), "{said}");
}
