//! HTTPS: both protocols, and a certificate that is changed while it runs.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use inlet_server::{TlsCertificates, Transport};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::{ALL, Harness, Setup};

/// Writes a new certificate for `localhost` with its key, and gives it.
pub(crate) fn write_certificate(folder: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

pub(crate) fn certificates(folder: &Path) -> TlsCertificates {
    TlsCertificates::from_files(&folder.join("cert.pem"), &folder.join("key.pem")).unwrap()
}

/// Connects, trusting that certificate alone.
pub(crate) async fn connect(
    server: &Harness,
    trusted: &CertificateDer<'static>,
    alpn: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = TcpStream::connect(server.address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

async fn health(stream: &mut TlsStream<TcpStream>) -> String {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut room = [0; 4096];
    let read = stream.read(&mut room).await.unwrap();
    String::from_utf8_lossy(&room[..read]).into_owned()
}

async fn start(folder: &Path) -> (Harness, TlsCertificates) {
    let certificates = certificates(folder);
    let transport = Transport::Tls(certificates.clone());
    (Harness::start_with(Setup { transport, ..Setup::default() }).await, certificates)
}

#[tokio::test]
async fn a_new_certificate_is_shown_and_a_bad_one_is_told_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let first = write_certificate(folder.path());
    let (server, certificates) = start(folder.path()).await;
    let mut old = connect(&server, &first, b"http/1.1").await.unwrap();
    assert!(health(&mut old).await.starts_with("HTTP/1.1 200"));

    assert!(!certificates.reload().unwrap(), "the same one is no change");
    let second = write_certificate(folder.path());
    assert!(certificates.reload().unwrap());
    assert!(connect(&server, &first, b"http/1.1").await.is_err());
    let mut new = connect(&server, &second, b"http/1.1").await.unwrap();
    assert!(health(&mut new).await.starts_with("HTTP/1.1 200"));
    assert!(health(&mut old).await.starts_with("HTTP/1.1 200"), "who was there stays");

    let good_key = fs::read(folder.path().join("key.pem")).unwrap();
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    for bad in [b"nonsense".as_slice(), b"", other.as_bytes()] {
        fs::write(folder.path().join("key.pem"), bad).unwrap();
        assert!(certificates.reload().is_err());
    }
    fs::write(folder.path().join("key.pem"), good_key).unwrap();
    fs::remove_file(folder.path().join("cert.pem")).unwrap();
    assert!(certificates.reload().unwrap_err().io().is_some());
    assert!(connect(&server, &second, b"http/1.1").await.is_ok(), "the last good one is shown");
}

#[tokio::test]
async fn a_handshake_that_never_ends_and_silence_after_one_are_closed() {
    let folder = tempfile::tempdir().unwrap();
    let trusted = write_certificate(folder.path());
    let mut setup = Setup::deadlines(|deadlines| {
        deadlines.handshake = Duration::from_millis(60);
        deadlines.first_byte = Duration::from_millis(60);
    });
    setup.transport = Transport::Tls(certificates(folder.path()));
    let server = Harness::start_with(setup).await;
    let patience = Duration::from_secs(10);

    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let closed = timeout(patience, silent.read(&mut [0; 16])).await.unwrap();
    assert_eq!(closed.unwrap_or(0), 0);

    for alpn in [b"http/1.1".as_slice(), b"h2"] {
        let mut shaken = connect(&server, &trusted, alpn).await.unwrap();
        let mut said = Vec::new();
        let end = timeout(patience, shaken.read_to_end(&mut said)).await;
        assert!(end.is_ok(), "silence after the handshake is borne for ever");
    }
}

#[tokio::test]
async fn plain_text_on_the_tls_port_harms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let trusted = write_certificate(folder.path());
    let (server, _) = start(folder.path()).await;
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    plain.read_to_end(&mut said).await.map(drop).unwrap_or_default();
    assert!(!said.starts_with(b"HTTP"), "a TLS alert at most");
    assert!(connect(&server, &trusted, b"http/1.1").await.is_ok());
}

#[tokio::test]
async fn an_answer_of_any_size_comes_whole_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let trusted = write_certificate(folder.path());
    let (server, _certificates) = start(folder.path()).await;
    for kilobytes in [100, 200, 300, 400, 500, 700, 900].repeat(4) {
        // A new connection has a small window: the end of an answer waits within TLS for its socket.
        let mut stream = connect(&server, &trusted, b"http/1.1").await.unwrap();
        let body = format!("\"{}\"", "x".repeat(kilobytes << 10));
        let head = format!(
            "POST /api/save HTTP/1.1\r\nHost: a\r\nX-Auth-Token: {ALL}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).await.unwrap();
        // The receipt has the document in it, as text in JSON.
        let length = body.len() + 2;
        let mut answer = Vec::new();
        while answer.len() < length {
            let read = timeout(Duration::from_secs(10), stream.read_buf(&mut answer)).await;
            let read = read.expect("the end of the answer never came").unwrap();
            assert!(read > 0, "{} of {length}", answer.len());
        }
        while !answer.ends_with(b"}") && !answer.ends_with(b"}\n") {
            let read = timeout(Duration::from_secs(10), stream.read_buf(&mut answer)).await;
            assert!(read.expect("the end of the answer never came").unwrap() > 0);
        }
        assert!(answer.starts_with(b"HTTP/1.1 202"), "{kilobytes}");
    }
}
