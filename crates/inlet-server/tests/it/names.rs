//! Which certificate is shown to whom.

use std::fs;
use std::path::Path;

use inlet_server::TlsCertificates;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

/// Writes a self-signed certificate for these names to `X.pem` and `X.key`.
fn write(folder: &Path, stem: &str, names: &[&str]) -> CertificateDer<'static> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    fs::write(folder.join(format!("{stem}.pem")), made.cert.pem()).unwrap();
    fs::write(folder.join(format!("{stem}.key")), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

fn read(folder: &Path, more: &Path) -> TlsCertificates {
    let (certificate, key) = (folder.join("first.pem"), folder.join("first.key"));
    TlsCertificates::from_files_and_folder(&certificate, &key, more).unwrap()
}

/// The certificate that a client is shown that asks for `name`, trusting all of `known`.
async fn shown(
    certificates: &TlsCertificates,
    name: &'static str,
    known: &[&CertificateDer<'static>],
) -> Option<CertificateDer<'static>> {
    let mut roots = RootCertStore::empty();
    for certificate in known {
        roots.add((*certificate).clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = certificates.acceptor();
    let accepting =
        tokio::spawn(
            async move { drop(acceptor.accept(listener.accept().await.unwrap().0).await) },
        );
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(name).unwrap();
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    accepting.await.unwrap();
    Some(connected.ok()?.get_ref().1.peer_certificates()?[0].clone().into_owned())
}

#[tokio::test]
async fn each_name_gets_its_certificate_and_all_others_the_first() {
    let (folder, more) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = write(folder.path(), "first", &["first.example", "other.example"]);
    let one = write(more.path(), "one", &["one.example", "www.one.example"]);
    let wild = write(more.path(), "wild", &["*.wild.example"]);
    let certificates = read(folder.path(), more.path());
    let known = [&first, &one, &wild];
    for (name, expected) in [
        ("one.example", &one),
        ("www.one.example", &one),
        ("a.wild.example", &wild),
        ("first.example", &first),
        ("other.example", &first),
    ] {
        assert_eq!(shown(&certificates, name, &known).await.as_ref(), Some(expected), "{name}");
    }
    assert_eq!(shown(&certificates, "a.b.wild.example", &known).await, None, "one label only");
}

#[tokio::test]
async fn a_folder_is_read_again_and_a_bad_pair_in_it_leaves_all_as_it_was() {
    let (folder, more) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = write(folder.path(), "first", &["first.example"]);
    let certificates = read(folder.path(), more.path());
    assert!(!certificates.reload().unwrap(), "nothing has changed");
    let one = write(more.path(), "one", &["one.example"]);
    assert!(certificates.reload().unwrap());
    assert_eq!(shown(&certificates, "one.example", &[&first, &one]).await, Some(one.clone()));
    assert!(certificates.files().contains(&more.path().join("one.key")));
    write(more.path(), "two", &["two.example"]);
    fs::copy(more.path().join("one.key"), more.path().join("two.key")).unwrap();
    let error = certificates.reload().unwrap_err().to_string();
    assert!(error.contains("two.key"), "{error}");
    assert_eq!(shown(&certificates, "one.example", &[&first, &one]).await, Some(one));
}

#[tokio::test]
async fn a_certificate_that_another_signed_is_not_self_signed() {
    let (folder, more) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(folder.path(), "first", &["first.example"]);
    assert!(read(folder.path(), more.path()).is_self_signed());
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let name = rcgen::DnType::CommonName;
    authority.distinguished_name.push(name, "an authority");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let signed = CertificateParams::new(vec!["first.example".to_owned()]).unwrap();
    let signed = signed.signed_by(&key, &authority).unwrap();
    fs::write(folder.path().join("first.pem"), signed.pem()).unwrap();
    fs::write(folder.path().join("first.key"), key.serialize_pem()).unwrap();
    assert!(!read(folder.path(), more.path()).is_self_signed());
}
