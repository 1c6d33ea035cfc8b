//! The doors: the sockets on which a process listens.

use std::net::{IpAddr, SocketAddr, TcpListener};

use crate::config::Settings;
use crate::report::Hinted;
use crate::systemd::{self, Socket};

/// How many connections the system may hold for us before they are accepted.
const BACKLOG: i32 = 4_096;

/// Sockets that listen.
#[derive(Debug)]
pub(super) struct Doors {
    pub(super) https: Option<TcpListener>,
    pub(super) http: Option<TcpListener>,
    pub(super) plain: Option<TcpListener>,
}

/// Where they listen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listening {
    pub(super) https: Option<SocketAddr>,
    pub(super) http: Option<SocketAddr>,
    pub(super) plain: Option<SocketAddr>,
}

impl Doors {
    /// Takes the sockets that were handed to this process, and the addresses of the settings for
    /// the doors that have none.
    pub(super) fn open(settings: &Settings) -> anyhow::Result<Self> {
        let mut handed = Handed::sort(systemd::sockets()?, settings)?;
        if settings.https.is_none() && settings.plain.is_none() && handed.0.is_empty() {
            let hint = "give an address with --https, or with --plain behind a proxy";
            return Err(Hinted::usage("there is nowhere to listen", hint).into());
        }
        let mut open = |name, address: Option<SocketAddr>| match handed.take(name) {
            Some(listener) => Ok(Some(listener)),
            None => address.map(|address| listen(name, address)).transpose(),
        };
        let https = open("https", settings.https)?;
        if let (None, Some(given)) = (&https, &settings.needs_https) {
            let hint = "give an address with --https, or leave it out";
            let message = format!("{given} has no effect: there is no HTTPS");
            return Err(Hinted::usage(message, hint).into());
        }
        // Without HTTPS there is nothing to redirect to.
        let http = open("http", settings.http.filter(|_| https.is_some()))?;
        let plain = open("plain", settings.plain)?;
        Ok(Self { https, http, plain })
    }

    /// The addresses, with the ports that the system chose for port 0.
    pub(super) fn listening(&self) -> anyhow::Result<Listening> {
        let address = |listener: &Option<TcpListener>| {
            listener.as_ref().map(TcpListener::local_addr).transpose()
        };
        Ok(Listening {
            https: address(&self.https)?,
            http: address(&self.http)?,
            plain: address(&self.plain)?,
        })
    }
}

/// Sockets that were handed over, each with its door.
struct Handed(Vec<(&'static str, TcpListener)>);

impl Handed {
    /// A socket is for the door that it is named after, else for the one whose port it has.
    fn sort(sockets: Vec<Socket>, settings: &Settings) -> anyhow::Result<Self> {
        let doors = [("https", settings.https), ("http", settings.http), ("plain", settings.plain)];
        let mut sorted: Vec<(&'static str, TcpListener)> = Vec::new();
        for Socket { name, listener } in sockets {
            let address = listener.local_addr()?;
            let by_name = doors.iter().find(|(door, _)| *door == name);
            let by_port =
                || doors.iter().find(|(_, at)| at.is_some_and(|at| at.port() == address.port()));
            let door = by_name.or_else(by_port).map(|(door, _)| *door);
            match door {
                Some(door) if sorted.iter().all(|(other, _)| *other != door) => {
                    sorted.push((door, listener));
                }
                _ => {
                    let hint = "name it https, http or plain with FileDescriptorName=, or give its \
                                address with --https, --http or --plain";
                    let message = format!("a socket on {address} was handed over for no door");
                    return Err(Hinted::usage(message, hint).into());
                }
            }
        }
        Ok(Self(sorted))
    }

    fn take(&mut self, door: &str) -> Option<TcpListener> {
        let index = self.0.iter().position(|(name, _)| *name == door)?;
        Some(self.0.swap_remove(index).1)
    }
}

fn listen(name: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    bind(address).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!("another process listens there; choose one with --{name}, port 0 for any")
            }
            std::io::ErrorKind::PermissionDenied => {
                format!("ports below 1024 need the right to; choose one with --{name}")
            }
            _ => format!("choose an address of this machine with --{name}"),
        };
        Hinted::new(format!("could not listen on {address}: {error}"), hint).into()
    })
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
    let family = match address.ip() {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // A stopped server's connections linger for a minute; they must not keep the next one out.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}
