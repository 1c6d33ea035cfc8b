//! The URL of the cache.

use std::path::PathBuf;

use inlet_core::failure::{Failure, FailureKind};
use inlet_core::redact;
use redis::{Client, RedisError, TlsCertificates};

const HINT: &str = "as in redis://:PASSWORD@HOST:6379/0, or rediss:// for TLS, where ?ca=FILE names \
                    the authority to trust; percent-encode what is special in a password";

/// Where the server is, and as whom it is asked.
pub(super) struct Address {
    pub(super) client: Client,
    /// The URL without its password.
    pub(super) shown: String,
}

impl Address {
    /// Reads `url`, and the file that it names. Fails as [`FailureKind::Refused`].
    pub(super) async fn parse(url: &str) -> Result<Self, Failure> {
        let shown = redact::url(url);
        let refused = |reason: String| {
            Failure::new(FailureKind::Refused, "read the URL of the cache", shown.clone())
                .because(reason)
                .hint(HINT)
        };
        if url.contains('#') {
            // The driver would take `#insecure` as a wish to check no certificate.
            return Err(refused("nothing may follow a #".to_owned()));
        }
        let (front, query) = url.split_once('?').unwrap_or((url, ""));
        let is_tls = front.starts_with("rediss://");
        if !is_tls && !front.starts_with("redis://") {
            return Err(refused("its scheme is neither redis nor rediss".to_owned()));
        }
        let mut authority = None;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("ca", path)) if is_tls => authority = Some(PathBuf::from(path)),
                Some(("ca", _)) => return Err(refused("ca is for rediss:// only".to_owned())),
                _ => return Err(refused("it knows no parameter but ca".to_owned())),
            }
        }
        let unusable = |error: RedisError| refused(error.to_string());
        let client = match authority {
            None => Client::open(front).map_err(unusable)?,
            Some(path) => {
                let certificates = TlsCertificates {
                    client_tls: None,
                    root_cert: Some(read(path.clone()).await?),
                };
                Client::build_with_tls(front, certificates)
                    .map_err(|error| unreadable(&path).because(error.to_string()))?
            }
        };
        Ok(Self { client, shown })
    }
}

async fn read(path: PathBuf) -> Result<Vec<u8>, Failure> {
    let asked = path.clone();
    let read = tokio::task::spawn_blocking(move || std::fs::read(asked)).await;
    let pem = read
        .map_err(|error| unreadable(&path).because(error))?
        .map_err(|error| unreadable(&path).because(error))?;
    if !pem.windows(CERTIFICATE.len()).any(|window| window == CERTIFICATE) {
        return Err(unreadable(&path).because("it has no certificate"));
    }
    Ok(pem)
}

const CERTIFICATE: &[u8] = b"BEGIN CERTIFICATE";

fn unreadable(path: &std::path::Path) -> Failure {
    Failure::new(FailureKind::Refused, "read the authority of ca,", path.display().to_string())
        .hint("it must be a file of certificates in PEM")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_url_that_is_none_is_refused_without_its_password() {
        for url in [
            "redis://",
            "http://:geheim@db",
            "redis+unix:///run/redis.sock?pass=geheim",
            "rediss://:geheim@db:6379/0#insecure",
            "redis://:geheim@db:port",
            "redis://:ge#h@eim@db:port",
            "redis://:geheim@db?protocol=resp3",
            "redis://:geheim@db?ca=/ca.pem",
            "rediss://:geheim@db?ca=/no/such/file.pem",
            "rediss://:geheim@db?ca=/etc/hostname",
        ] {
            let failure = Address::parse(url).await.err().unwrap();
            assert_eq!(failure.kind(), FailureKind::Refused, "{url}");
            assert!(failure.hint_text().is_some(), "{url}");
            let text = format!("{failure} {failure:?}");
            assert!(!text.contains("geheim") && !text.contains("eim"), "{text}");
        }
    }

    #[tokio::test]
    async fn what_is_shown_has_no_password() {
        let address = Address::parse("redis://me:geheim@cache.example.com:6380/2").await.unwrap();
        assert_eq!(address.shown, "redis://me:***@cache.example.com:6380/2");
    }
}
