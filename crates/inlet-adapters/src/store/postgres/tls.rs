//! What is asked of a server's certificate.

use std::path::Path;
use std::sync::Arc;

use inlet_core::failure::{Failure, FailureKind};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::{Address, Trust};

/// What makes TLS of a connection to `address`. Reads files, so it blocks.
pub(super) fn connector(address: &Address) -> Result<MakeRustlsConnect, Failure> {
    let provider = Arc::new(ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match address.trust {
        Trust::Nothing => Arc::new(Lenient {
            algorithms: provider.signature_verification_algorithms,
            authorities: None,
        }),
        Trust::Authority => Arc::new(Lenient {
            algorithms: provider.signature_verification_algorithms,
            authorities: Some(authorities(address, &provider)?),
        }),
        Trust::AuthorityAndName => authorities(address, &provider)?,
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// The check against the authorities of the URL, or else of this machine.
fn authorities(
    address: &Address,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, Failure> {
    let mut roots = RootCertStore::empty();
    match &address.roots {
        Some(path) => {
            for certificate in read(path)? {
                roots.add(certificate).map_err(|error| unusable(path).because(error))?;
            }
            if roots.is_empty() {
                return Err(unusable(path).because("it has no certificate"));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                let subject = "of this machine, to check the server's against";
                return Err(Failure::new(FailureKind::Refused, "find certificates", subject)
                    .hint("give the file of the server's authority: ?sslrootcert=FILE"));
            }
        }
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| {
            Failure::new(FailureKind::Refused, "use the certificates for", address.shown.clone())
                .because(error)
        })
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(path).because(error))
}

fn unusable(path: &Path) -> Failure {
    Failure::new(
        FailureKind::Refused,
        "read the authorities of sslrootcert,",
        path.display().to_string(),
    )
    .hint("it must be a file of certificates in PEM (for Amazon RDS: its global bundle)")
}

/// A check that leaves something out, because the URL asks for that.
#[derive(Debug)]
struct Lenient {
    algorithms: WebPkiSupportedAlgorithms,
    /// Who must have signed the certificate, whatever name is on it; anybody where `None`.
    authorities: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authorities) = &self.authorities else {
            return Ok(ServerCertVerified::assertion());
        };
        let checked = authorities.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match checked {
            // The name is looked at last, after the signatures and the dates.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            checked => checked,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
