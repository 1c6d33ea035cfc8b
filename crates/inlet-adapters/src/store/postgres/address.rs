//! The URL of a database, as `psql` would take it.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use inlet_core::failure::{Failure, FailureKind};
use inlet_core::redact;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

/// How much of a server's certificate is checked, by the names that `libpq` gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Anything goes, and no TLS as well.
    Nothing,
    /// It is signed by a known authority.
    Authority,
    /// The same, and it is for the host that was connected to.
    AuthorityAndName,
}

/// Which database, as which user, how.
#[derive(Clone)]
pub(super) struct Address {
    /// What the driver needs to know.
    pub(super) config: Config,
    /// What is asked of the server's certificate.
    pub(super) trust: Trust,
    /// The file of the authorities that are trusted instead of the machine's.
    pub(super) roots: Option<PathBuf>,
    /// True if reads may go to a server that may only read: the URL does not say which it wants.
    pub(super) reads_anywhere: bool,
    /// The URL without the password.
    pub(super) shown: String,
}

impl Address {
    /// Reads `url`. Fails as [`FailureKind::Refused`].
    pub(super) fn parse(url: &str) -> Result<Self, Failure> {
        let refused = |reason: &str| {
            Failure::new(FailureKind::Refused, "read the URL of the store", redact::url(url))
                .because(reason.to_owned())
                .hint(
                    "as in postgres://USER:PASSWORD@HOST:5432/DATABASE?sslmode=verify-full; \
                     percent-encode what is special in a password",
                )
        };
        let (front, query) = url.split_once('?').unwrap_or((url, ""));
        if !front.starts_with("postgres://") && !front.starts_with("postgresql://") {
            return Err(refused("its scheme is not postgres"));
        }
        let (mut mode, mut roots, mut rest) = (None, None, String::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value),
                Some(("sslrootcert", value)) => {
                    let path = decode(value).ok_or_else(|| refused("sslrootcert is no path"))?;
                    roots = Some(PathBuf::from(path));
                }
                _ => {
                    rest.push(if rest.is_empty() { '?' } else { '&' });
                    rest.push_str(pair);
                }
            }
        }
        let mut config = Config::from_str(&format!("{front}{rest}"))
            .map_err(|error| refused(&super::failure::chain(&error)))?;
        if config.get_hosts().is_empty() {
            return Err(refused("it names no host"));
        }
        let near = config.get_hosts().iter().all(is_near);
        let (ssl_mode, trust) = match (mode, roots.is_some()) {
            (None, _) if !near => (SslMode::Require, Trust::AuthorityAndName),
            (Some("disable"), _) => (SslMode::Disable, Trust::Nothing),
            (None | Some("prefer"), _) => (SslMode::Prefer, Trust::Nothing),
            // With a file of authorities, libpq checks against it as well.
            (Some("require"), false) => (SslMode::Require, Trust::Nothing),
            (Some("require" | "verify-ca"), _) => (SslMode::Require, Trust::Authority),
            (Some("verify-full"), _) => (SslMode::Require, Trust::AuthorityAndName),
            (Some(_), _) => {
                return Err(refused(
                    "sslmode is none of disable, prefer, require, verify-ca, verify-full",
                ));
            }
        };
        config.ssl_mode(ssl_mode);
        if config.get_application_name().is_none() {
            config.application_name("inlet");
        }
        let reads_anywhere = !query.contains("target_session_attrs=");
        if reads_anywhere {
            // After a failover a name can still lead to the server that may only read now.
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        let shown = shown(&config);
        Ok(Self { config, trust, roots, reads_anywhere, shown })
    }
}

/// Whether nobody can stand between that host and this one.
fn is_near(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    }
}

fn shown(config: &Config) -> String {
    let mut text = "postgres://".to_owned();
    if let Some(user) = config.get_user() {
        text.push_str(user);
        text.push('@');
    }
    for (index, host) in config.get_hosts().iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        match host {
            Host::Tcp(name) if name.contains(':') => {
                write!(text, "[{name}]").expect("a String takes any text");
            }
            Host::Tcp(name) => text.push_str(name),
            Host::Unix(path) => text.push_str(&path.to_string_lossy()),
        }
        let ports = config.get_ports();
        if let Some(port) = ports.get(index).or(ports.first()) {
            write!(text, ":{port}").expect("a String takes any text");
        }
    }
    text.push('/');
    text.push_str(config.get_dbname().unwrap_or_default());
    text
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modes(url: &str) -> (SslMode, Trust) {
        let address = Address::parse(url).unwrap();
        (address.config.get_ssl_mode(), address.trust)
    }

    #[test]
    fn a_server_elsewhere_must_prove_its_name_unless_the_url_says_otherwise() {
        let full = (SslMode::Require, Trust::AuthorityAndName);
        assert_eq!(modes("postgres://u@db.example.com/d"), full);
        assert_eq!(modes("postgres://u@127.0.0.1,db.example.com/d"), full);
        assert_eq!(modes("postgres://u@127.0.0.1/d?sslmode=verify-full"), full);
        for near in ["localhost", "127.0.0.1", "[::1]", "%2Frun%2Fpostgresql"] {
            let found = modes(&format!("postgres://u@{near}/d"));
            assert_eq!(found, (SslMode::Prefer, Trust::Nothing), "{near}");
        }
        let require = (SslMode::Require, Trust::Nothing);
        assert_eq!(modes("postgres://u@db/d?sslmode=require"), require);
        let authority = (SslMode::Require, Trust::Authority);
        assert_eq!(modes("postgres://u@db/d?sslmode=require&sslrootcert=/ca.pem"), authority);
        assert_eq!(modes("postgres://u@db/d?sslmode=verify-ca"), authority);
        let disable = (SslMode::Disable, Trust::Nothing);
        assert_eq!(modes("postgres://u@db/d?connect_timeout=3&sslmode=disable"), disable);
    }

    #[test]
    fn what_is_shown_has_no_password() {
        let url = "postgres://me:geheim@db.example.com:6432/docs?sslrootcert=%2Fetc%2Fca%20x.pem";
        let address = Address::parse(url).unwrap();
        assert_eq!(address.shown, "postgres://me@db.example.com:6432/docs");
        assert_eq!(address.roots, Some(PathBuf::from("/etc/ca x.pem")));
        assert_eq!(address.config.get_password(), Some(&b"geheim"[..]));
    }

    #[test]
    fn a_url_that_is_none_is_refused_without_its_password() {
        for url in [
            "postgres://",
            "mysql://me:geheim@db/d",
            "postgres://me:geheim@db/d?sslmode=maybe",
            "postgres://me:geheim@db:port/d",
            "postgres://me:ge/heim@db/d?colour=red",
            "postgres://me:ge?heim@db:port/d",
            "postgres://me:geh@eim@db:x/d",
            "postgres://me@db/d?password=geheim&colour=red",
            "postgres://me:geheim@db/d?sslrootcert=%zz",
        ] {
            let failure = Address::parse(url).err().unwrap();
            assert_eq!(failure.kind(), FailureKind::Refused);
            let text = super::super::failure::chain(&failure);
            assert!(!text.contains("geheim") && !text.contains("eim"), "{text}");
            assert!(failure.hint_text().is_some());
        }
    }
}
