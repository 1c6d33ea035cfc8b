//! TLS: which certificate is shown, and changing it while it runs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

/// Why a certificate can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read, or is not PEM.
    #[error("could not read {path} as PEM")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// The file has no certificate.
    #[error("{path} has no certificate")]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// The key can't be used, or is not the certificate's.
    #[error("the key in {key} can't be used with the certificate in {certificate}")]
    Key {
        /// The file with the key.
        key: PathBuf,
        /// The file with the certificate.
        certificate: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The library can't be set up.
    #[error("could not set up TLS")]
    Setup(#[source] rustls::Error),
}

/// The certificate of a server, as two PEM files, and the TLS settings around it: versions 1.2
/// and 1.3, HTTP/2 and HTTP/1.1 by ALPN, the server's order of ciphers, session tickets.
#[derive(Debug, Clone)]
pub struct TlsCertificates(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    certificate: PathBuf,
    key: PathBuf,
    shown: Arc<Shown>,
    config: Arc<ServerConfig>,
}

/// The certificate that is shown to clients now.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl TlsCertificates {
    /// Reads the chain in `certificate`, the server's own first, and the private key in `key`.
    ///
    /// # Errors
    /// Where a file can't be read or the two do not belong together.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let shown = Arc::new(Shown(RwLock::new(Arc::new(load(certificate, key)?))));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ignore_client_order = true;
        config.ticketer = ring::Ticketer::new().map_err(TlsError::Setup)?;
        Ok(Self(Arc::new(Inner {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            shown,
            config: Arc::new(config),
        })))
    }

    /// Reads the files again and shows what they have now to clients that connect from here on.
    /// Returns whether it is another certificate than before.
    ///
    /// # Errors
    /// As [`TlsCertificates::from_files`]; what was shown before is still shown.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let loaded = load(&self.0.certificate, &self.0.key)?;
        let mut shown = self.0.shown.0.write().unwrap_or_else(PoisonError::into_inner);
        let changed = shown.cert != loaded.cert;
        *shown = Arc::new(loaded);
        Ok(changed)
    }

    /// The two files: the certificate and the key.
    pub fn files(&self) -> [&Path; 2] {
        [&self.0.certificate, &self.0.key]
    }

    /// What takes a connection with these certificates.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0.config))
    }
}

fn load(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let unread = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Read { path, source }
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(unread(certificate))?;
    if chain.is_empty() {
        return Err(TlsError::Empty { path: certificate.to_owned() });
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(unread(key))?;
    CertifiedKey::from_der(chain, private, &ring::default_provider()).map_err(|source| {
        TlsError::Key { key: key.to_owned(), certificate: certificate.to_owned(), source }
    })
}

/// Where reading a file failed, for those who want to tell a missing file from a bad one.
impl TlsError {
    /// The error of the system, where it is one.
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Read { source: rustls::pki_types::pem::Error::Io(error), .. } => Some(error),
            _ => None,
        }
    }
}
