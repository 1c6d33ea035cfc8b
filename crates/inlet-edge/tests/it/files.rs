//! A folder that is served, and what lies outside of it.

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;

use http::Method;
use inlet_edge::{Edge, FilesOptions};
use tempfile::TempDir;

use crate::instance::Instance;
use crate::setup::{Answered, get, request, send, unchecked};

struct Site {
    folder: TempDir,
    edge: Edge,
    instance: Instance,
}

async fn site() -> Site {
    let instance = Instance::start("one").await;
    let folder = tempfile::tempdir().unwrap();
    let public = folder.path().join("public");
    fs::create_dir_all(public.join("css")).unwrap();
    fs::write(folder.path().join("secret.txt"), "secret").unwrap();
    fs::write(public.join("index.html"), "<h1>home</h1>").unwrap();
    fs::write(public.join("css/site.css"), "body { margin: 0 }\n".repeat(100)).unwrap();
    fs::write(public.join("a b.txt"), "spaced").unwrap();
    fs::write(public.join(".env"), "secret").unwrap();
    fs::write(public.join("large.bin"), vec![7u8; 1_000_000]).unwrap();
    let mut options = unchecked(&[&instance]);
    options.files = Some(FilesOptions {
        folder: public,
        prefix: "/static".to_owned(),
        cache_s: 3600,
        gzip_bytes_max: 1 << 20,
    });
    Site { folder, edge: Edge::new(options).unwrap(), instance }
}

async fn get_with(site: &Site, target: &str, name: &'static str, value: &str) -> Answered {
    let mut request = request(Method::GET, target, "");
    request.headers_mut().insert(name, value.parse().unwrap());
    send(&site.edge, request).await
}

fn unzipped(answer: &Answered) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(answer.body.as_ref()).read_to_string(&mut text).unwrap();
    text
}

#[tokio::test]
async fn files_are_served_without_an_instance() {
    let site = site().await;
    let answer = get(&site.edge, "/static/").await;
    assert_eq!(answer.text(), "<h1>home</h1>");
    assert_eq!(answer.headers["content-type"], "text/html; charset=utf-8");
    assert_eq!(answer.headers["cache-control"], "public, max-age=3600");
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    assert!(answer.headers.contains_key("x-request-id"));
    assert_eq!(get(&site.edge, "/static/a%20b.txt").await.text(), "spaced");
    let head = send(&site.edge, request(Method::HEAD, "/static/css/site.css", "")).await;
    assert_eq!(head.headers["content-length"], "1900");
    let large = get(&site.edge, "/static/large.bin").await;
    assert_eq!(large.body, vec![7u8; 1_000_000]);
    assert_eq!(
        send(&site.edge, request(Method::DELETE, "/static/index.html", "")).await.status,
        405
    );
    assert_eq!(site.instance.count(), 0);
    assert_eq!(get(&site.edge, "/staticky").await.from(), "one", "that is another path");
}

#[tokio::test]
async fn nothing_outside_of_the_folder_is_served() {
    let site = site().await;
    let public = site.folder.path().join("public");
    symlink(site.folder.path().join("secret.txt"), public.join("out.txt")).unwrap();
    symlink(site.folder.path(), public.join("up")).unwrap();
    symlink(public.join(".env"), public.join("env.txt")).unwrap();
    symlink(public.join("round"), public.join("round")).unwrap();
    symlink(public.join("a b.txt"), public.join("inside.txt")).unwrap();
    for (target, status) in [
        ("/static/../secret.txt", 400),
        ("/static/%2e%2e/secret.txt", 400),
        ("/static/..%2fsecret.txt", 400),
        ("/static/css/..%5c..%5csecret.txt", 400),
        ("/static//etc/passwd", 400),
        ("/static/%00", 400),
        ("/static/out.txt", 404),
        ("/static/up/secret.txt", 404),
        ("/static/.env", 404),
        ("/static/%2eenv", 404),
        ("/static/env.txt", 404),
        ("/static/round", 404),
        ("/static/css", 404),
        ("/static/css/", 404),
        ("/static/index.html/", 404),
        ("/static/nothing", 404),
    ] {
        let answer = get(&site.edge, target).await;
        assert_eq!(answer.status, status, "{target}: {}", answer.text());
        assert!(!answer.text().contains("secret\n") && answer.text() != "secret", "{target}");
    }
    assert_eq!(get(&site.edge, "/static/inside.txt").await.text(), "spaced");
    assert_eq!(site.instance.count(), 0);
}

#[tokio::test]
async fn what_a_client_has_is_not_sent_again() {
    let site = site().await;
    let first = get(&site.edge, "/static/css/site.css").await;
    let etag = first.headers["etag"].to_str().unwrap().to_owned();
    let date = first.headers["last-modified"].to_str().unwrap().to_owned();
    let target = "/static/css/site.css";
    for given in
        [etag.clone(), format!("W/{etag}, \"x\""), format!("\"x\", {etag}"), "*".to_owned()]
    {
        let again = get_with(&site, target, "if-none-match", &given).await;
        assert_eq!((again.status.as_u16(), again.body.len()), (304, 0), "{given}");
        assert_eq!(again.headers["etag"], etag.as_str());
    }
    assert_eq!(get_with(&site, target, "if-none-match", "\"x\"").await.status, 200);
    assert_eq!(get_with(&site, target, "if-modified-since", &date).await.status, 304);
    fs::write(site.folder.path().join("public/css/site.css"), "new").unwrap();
    assert_eq!(get_with(&site, target, "if-none-match", &etag).await.text(), "new");
}

#[tokio::test]
async fn text_is_compressed_for_those_who_take_it() {
    let site = site().await;
    let target = "/static/css/site.css";
    let plain = get(&site.edge, target).await;
    assert_eq!(plain.headers["vary"], "accept-encoding");
    assert!(!plain.headers.contains_key("content-encoding"));
    let zipped = get_with(&site, target, "accept-encoding", "br, gzip").await;
    assert_eq!(zipped.headers["content-encoding"], "gzip");
    assert!(zipped.body.len() < plain.body.len() / 5);
    assert_eq!(unzipped(&zipped), plain.text());
    assert_ne!(zipped.headers["etag"], plain.headers["etag"]);
    let refused = get_with(&site, target, "accept-encoding", "gzip;q=0").await;
    assert!(!refused.headers.contains_key("content-encoding"));
    let binary = get_with(&site, "/static/large.bin", "accept-encoding", "gzip").await;
    assert!(!binary.headers.contains_key("content-encoding"));

    let beside = site.folder.path().join("public/css/site.css.gz");
    let mut encoder = flate2::GzBuilder::new()
        .write(fs::File::create(&beside).unwrap(), flate2::Compression::best());
    std::io::Write::write_all(&mut encoder, b"made before").unwrap();
    encoder.finish().unwrap();
    let made = get_with(&site, target, "accept-encoding", "gzip").await;
    assert_eq!(unzipped(&made), "made before");
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_told_at_the_start() {
    let mut options = unchecked(&[]);
    options.files = Some(FilesOptions {
        folder: "/nowhere/at/all".into(),
        prefix: "/static".to_owned(),
        cache_s: 0,
        gzip_bytes_max: 0,
    });
    let error = Edge::new(options.clone()).err().unwrap().to_string();
    assert_eq!(error, "the folder /nowhere/at/all can't be served");
    options.files.as_mut().unwrap().prefix = "static/".to_owned();
    let error = Edge::new(options).err().unwrap().to_string();
    assert!(error.contains("no prefix"), "{error}");
}
