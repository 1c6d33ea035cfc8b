//! The address of a server as a person types it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ureq::http::Uri;

use crate::data::Running;
use crate::report::Hinted;

/// Scheme, host, port, and a path that everything is below: `https://host:8443/inlet`. It has no
/// user and no password, so that it can be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    is_tls: bool,
    host: String,
    port: Option<u16>,
    path: String,
}

impl Address {
    /// Reads what was typed for `flag`. Without a scheme it is HTTPS.
    ///
    /// # Errors
    /// A usage error that does not show what was typed, which may hold a password.
    pub(crate) fn parse(flag: &str, typed: &str) -> Result<Self, Hinted> {
        let hint = "write it as https://HOST or http://HOST:PORT";
        let refused = |why: &str, hint: &str| Hinted::usage(format!("{flag}: {why}"), hint);
        let typed = typed.trim();
        let with_scheme = match typed.split_once("://") {
            Some(_) => typed.to_owned(),
            None => format!("https://{typed}"),
        };
        let uri: Uri =
            with_scheme.parse().map_err(|_| refused("it is no address of a server", hint))?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(refused("it is neither https:// nor http://", hint)),
        };
        let authority = uri.authority().ok_or_else(|| refused("it names no host", hint))?;
        if authority.as_str().contains('@') {
            let hint = "leave out what stands before the @, and give the token with --token";
            return Err(refused("it has a user or a password in it", hint));
        }
        if uri.query().is_some() || typed.contains('#') {
            return Err(refused("it has something behind its path", hint));
        }
        if authority.host().is_empty() {
            return Err(refused("it names no host", hint));
        }
        Ok(Self {
            is_tls,
            host: authority.host().to_owned(),
            port: authority.port_u16(),
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// The address of a listener of this machine.
    pub(crate) fn of(is_tls: bool, listener: SocketAddr) -> Self {
        let reached = reachable(listener);
        let host = match reached.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        Self { is_tls, host, port: Some(reached.port()), path: String::new() }
    }

    /// Returns true if TLS is spoken there.
    pub(crate) fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The host's name or number, without brackets.
    pub(crate) fn host(&self) -> &str {
        self.host.trim_matches(['[', ']'])
    }

    /// The port.
    pub(crate) fn port(&self) -> u16 {
        self.port.unwrap_or(if self.is_tls { 443 } else { 80 })
    }

    /// The path that everything is below; empty for none.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Whether what runs on a data directory of this machine listens there.
    pub(crate) fn is_of(&self, running: &Running) -> bool {
        let listener = if self.is_tls { running.https } else { running.plain };
        let Some(listener) = listener else { return false };
        let is_here = match self.host().parse::<IpAddr>() {
            Ok(ip) => ip == listener.ip() || (listener.ip().is_unspecified() && ip.is_loopback()),
            Err(_) => self.host() == "localhost" && reachable(listener).ip().is_loopback(),
        };
        is_here && self.port() == listener.port()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { is_tls, host, port, path } = self;
        write!(f, "{}://{host}", if *is_tls { "https" } else { "http" })?;
        if let Some(port) = port {
            write!(f, ":{port}")?;
        }
        f.write_str(path)
    }
}

/// The address under which a listener is reached from this machine.
pub(crate) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

    use super::*;

    #[test]
    fn without_a_scheme_it_is_https() {
        for (typed, shown) in [
            ("127.0.0.1:8443", "https://127.0.0.1:8443"),
            ("inlet.example.com", "https://inlet.example.com"),
            ("[::1]:8443", "https://[::1]:8443"),
            ("http://h:1/", "http://h:1"),
            ("https://h/below/it/", "https://h/below/it"),
        ] {
            let address = Address::parse("--url", typed).unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(Address::parse("--url", shown).unwrap(), address);
        }
    }

    #[test]
    fn an_address_that_is_none_is_refused_and_not_shown() {
        for typed in [
            "",
            "https://",
            "ftp://geheim",
            "https://me:geheim@host",
            "me:geheim@host",
            "https://host/?password=geheim",
            "https://host#geheim",
            "https://ge heim",
            "https://:8443",
        ] {
            let refused = Address::parse("--url", typed).unwrap_err().to_string();
            assert!(refused.starts_with("--url: "), "{refused}");
            assert!(!refused.contains("geheim") && !refused.contains("heim"), "{refused}");
        }
    }

    #[test]
    fn a_server_of_this_machine_is_told_from_any_other() {
        let running = |https: &str, plain: Option<&str>| Running {
            https: Some(https.parse().unwrap()),
            plain: plain.map(|address| address.parse().unwrap()),
            ..Running::nowhere("i")
        };
        let here = running("127.0.0.1:8443", Some("127.0.0.1:8080"));
        let anywhere = running("0.0.0.0:8443", None);
        let outside = running("192.0.2.1:8443", None);
        for (typed, server, is_own) in [
            ("https://127.0.0.1:8443", &here, true),
            ("https://localhost:8443", &here, true),
            ("http://127.0.0.1:8080", &here, true),
            ("http://127.0.0.1:8443", &here, false),
            ("https://127.0.0.1:8080", &here, false),
            ("https://127.0.0.1", &here, false),
            ("https://127.0.0.2:8443", &here, false),
            ("https://example.com:8443", &here, false),
            ("https://localhost.example.com:8443", &here, false),
            ("https://127.0.0.1:8443", &anywhere, true),
            ("https://192.0.2.1:8443", &anywhere, false),
            ("https://192.0.2.1:8443", &outside, true),
            ("https://localhost:8443", &outside, false),
        ] {
            let address = Address::parse("--url", typed).unwrap();
            assert_eq!(address.is_of(server), is_own, "{typed}");
        }
    }
}
