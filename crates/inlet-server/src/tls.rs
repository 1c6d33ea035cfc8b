//! TLS: which certificate is shown to whom, and changing them while they are.

use std::collections::HashMap;
use std::fs;
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
use webpki::EndEntityCert;

use crate::clock::{Tickets, WallClock};

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
    /// The folder of certificates can't be read.
    #[error("could not read the folder of certificates {path}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The library can't be set up.
    #[error("could not set up TLS")]
    Setup(#[source] rustls::Error),
}

/// The certificates of a server and the TLS settings around them: versions 1.2 and 1.3, HTTP/2 and
/// HTTP/1.1 by ALPN, the server's order of ciphers, session tickets.
///
/// One certificate, in two PEM files, is shown to whoever asks for no name or for one that no
/// other is for. Of a folder, each `X.pem` with an `X.key` beside it is shown to those who ask for
/// one of the DNS names that it is for (SNI); a wildcard stands for one label.
#[derive(Debug, Clone)]
pub struct TlsCertificates(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    files: Pair,
    folder: Option<PathBuf>,
    shown: Arc<Shown>,
    config: Arc<ServerConfig>,
}

/// The files of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

/// The certificates that are shown to clients now.
#[derive(Debug)]
struct Shown(RwLock<Set>);

#[derive(Debug, PartialEq)]
struct Set {
    first: Certificate,
    by_name: HashMap<String, Certificate>,
}

#[derive(Debug, Clone)]
struct Certificate(Arc<CertifiedKey>);

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.0.cert == other.0.cert
    }
}

impl Set {
    fn read(files: &Pair, folder: Option<&Path>) -> Result<Self, TlsError> {
        let first = files.load()?;
        let mut by_name = HashMap::new();
        for pair in folder.map_or_else(|| Ok(Vec::new()), pairs)? {
            let certificate = pair.load()?;
            for name in certificate.names() {
                by_name.insert(name, certificate.clone());
            }
        }
        Ok(Self { first, by_name })
    }

    /// The certificate for a name: one for just it, else a wildcard's, else the first.
    fn find(&self, name: Option<&str>) -> &Certificate {
        let found = name.filter(|_| !self.by_name.is_empty()).and_then(|name| {
            let name = name.to_ascii_lowercase();
            let wildcard = || Some(format!("*.{}", name.split_once('.')?.1));
            self.by_name.get(&name).or_else(|| self.by_name.get(&wildcard()?))
        });
        found.unwrap_or(&self.first)
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let set = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&set.find(hello.server_name()).0))
    }
}

impl TlsCertificates {
    /// Reads the chain in `certificate`, the server's own first, and the private key in `key`.
    ///
    /// # Errors
    /// Where a file can't be read or the two do not belong together.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Self::new(certificate, key, None)
    }

    /// The same, with more certificates for more names in `folder`.
    ///
    /// # Errors
    /// As [`TlsCertificates::from_files`], for any of them.
    pub fn from_files_and_folder(
        certificate: &Path,
        key: &Path,
        folder: &Path,
    ) -> Result<Self, TlsError> {
        Self::new(certificate, key, Some(folder))
    }

    fn new(certificate: &Path, key: &Path, folder: Option<&Path>) -> Result<Self, TlsError> {
        let files = Pair { certificate: certificate.to_owned(), key: key.to_owned() };
        let shown = Arc::new(Shown(RwLock::new(Set::read(&files, folder)?)));
        let (provider, clock) = (Arc::new(ring::default_provider()), Arc::new(WallClock));
        let mut config = ServerConfig::builder_with_details(provider, clock)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ignore_client_order = true;
        config.ticketer = Arc::new(Tickets::default());
        let folder = folder.map(Path::to_owned);
        Ok(Self(Arc::new(Inner { files, folder, shown, config: Arc::new(config) })))
    }

    /// Reads the files again and shows what they have now to clients that connect from here on.
    /// Returns whether it is another certificate than before.
    ///
    /// # Errors
    /// As [`TlsCertificates::from_files_and_folder`]; what was shown before is still shown.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let read = Set::read(&self.0.files, self.0.folder.as_deref())?;
        let mut shown = self.0.shown.0.write().unwrap_or_else(PoisonError::into_inner);
        let changed = *shown != read;
        *shown = read;
        Ok(changed)
    }

    /// The files that are read now: certificates and keys, and the folder.
    pub fn files(&self) -> Vec<PathBuf> {
        let more = self.0.folder.as_deref().map_or_else(|| Ok(Vec::new()), pairs);
        let pairs = std::iter::once(self.0.files.clone()).chain(more.unwrap_or_default());
        let files = pairs.flat_map(|pair| [pair.certificate, pair.key]);
        files.chain(self.0.folder.clone()).collect()
    }

    /// Whether the certificate that is shown first names itself as the one who signed it. Clients
    /// trust such a one only where they were told to.
    pub fn is_self_signed(&self) -> bool {
        let shown = self.0.shown.0.read().unwrap_or_else(PoisonError::into_inner);
        shown.first.parsed().is_some_and(|parsed| parsed.issuer() == parsed.subject())
    }

    /// What takes a connection with these certificates.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0.config))
    }
}

impl Certificate {
    fn parsed(&self) -> Option<EndEntityCert<'_>> {
        EndEntityCert::try_from(self.0.cert.first()?).ok()
    }

    /// The DNS names that it is for, in small letters.
    fn names(&self) -> Vec<String> {
        let parsed = self.parsed();
        let names = parsed.iter().flat_map(|parsed| parsed.valid_dns_names());
        names.map(str::to_ascii_lowercase).collect()
    }
}

/// The certificates of a folder, those of later names last.
fn pairs(folder: &Path) -> Result<Vec<Pair>, TlsError> {
    let failed = |error| TlsError::Folder { path: folder.to_owned(), source: error };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let certificate = entry.map_err(failed)?.path();
        let key = certificate.with_extension("key");
        if certificate.extension().is_some_and(|extension| extension == "pem") && key.exists() {
            found.push(Pair { certificate, key });
        }
    }
    found.sort_by(|a, b| a.certificate.cmp(&b.certificate));
    Ok(found)
}

impl Pair {
    fn load(&self) -> Result<Certificate, TlsError> {
        load(&self.certificate, &self.key).map(Arc::new).map(Certificate)
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
