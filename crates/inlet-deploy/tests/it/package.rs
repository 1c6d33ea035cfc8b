use std::io::{Cursor, Read};
use std::path::Path;
use std::process::Command;

use inlet_deploy::package::{
    Credentials, Executable, Image, PackageError, Registry, function_zip, sbom,
};
use inlet_testkit::server::{Server, ServerKind};
use serde_json::Value;

/// A small executable that is on every machine and was linked with libraries.
const SMALL: &str = "/bin/sh";

fn executable() -> Executable {
    Executable::read(Path::new(SMALL)).unwrap()
}

#[test]
fn a_zip_is_the_same_twice_and_starts_as_bootstrap() {
    let Ok(first) = function_zip(&executable()) else {
        // This machine's C library is newer than a function's: that must be what is said.
        let error = function_zip(&executable()).unwrap_err();
        assert!(matches!(error, PackageError::GlibcTooNew { .. }), "{error}");
        assert!(error.hint().unwrap().contains("crt-static"));
        return;
    };
    assert_eq!(first, function_zip(&executable()).unwrap());
    let mut zip = zip::ZipArchive::new(Cursor::new(first)).unwrap();
    assert_eq!(zip.len(), 1);
    let mut entry = zip.by_name("bootstrap").unwrap();
    assert_eq!(entry.unix_mode().unwrap() & 0o777, 0o755);
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, std::fs::read(SMALL).unwrap());
}

#[test]
fn a_text_is_no_executable_and_is_refused_by_name() {
    let error =
        Executable::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml").as_path())
            .unwrap_err();
    assert!(error.to_string().contains("Cargo.toml"), "{error}");
}

#[test]
fn an_image_is_the_same_twice_and_holds_what_runs() {
    let image = Image::new(&executable(), "1.2.3").unwrap();
    assert_eq!(image.manifest.digest, Image::new(&executable(), "1.2.3").unwrap().manifest.digest);
    let unpacked = tempfile::tempdir().unwrap();
    let layer = flate2::read::GzDecoder::new(Cursor::new(&image.blobs[0].bytes));
    tar::Archive::new(layer).unpack(unpacked.path()).unwrap();
    // Run by its own loader with nothing but its own libraries, as in a container.
    let inside = |path: &str| unpacked.path().join(path);
    let loader = ["lib64/ld-linux-x86-64.so.2", "lib/ld-linux-aarch64.so.1"]
        .map(inside)
        .into_iter()
        .find(|path| path.exists())
        .unwrap();
    let libraries = ["lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu", "lib64", "usr/lib"]
        .map(|path| inside(path).display().to_string())
        .join(":");
    let output = Command::new(loader)
        .args(["--inhibit-cache", "--library-path", &libraries])
        .arg(inside("usr/local/bin/inlet"))
        .args(["-c", "echo it runs"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "it runs\n", "{output:?}");
}

#[test]
fn an_image_is_pushed_to_a_registry_and_comes_back_as_it_was() {
    let server = Server::start(ServerKind::Registry);
    let url = format!("http://127.0.0.1:{}", server.port());
    let image = Image::new(&executable(), "1.2.3").unwrap();
    let registry = Registry::new(&url, "team/inlet", Credentials::None);
    let digest = registry.push(&image, "v1").unwrap();
    // Again at once: everything is there already.
    assert_eq!(registry.push(&image, "v2").unwrap(), digest);
    for tag in ["v1", "v2", digest.as_str()] {
        let mut answer = ureq::get(format!("{url}/v2/team/inlet/manifests/{tag}"))
            .header("Accept", image.manifest.media_type)
            .call()
            .unwrap();
        assert_eq!(answer.body_mut().read_to_vec().unwrap(), image.manifest.bytes);
    }
    for blob in &image.blobs {
        let mut answer =
            ureq::get(format!("{url}/v2/team/inlet/blobs/{}", blob.digest)).call().unwrap();
        let bytes = answer.body_mut().with_config().limit(1 << 30).read_to_vec().unwrap();
        assert_eq!(bytes, blob.bytes);
    }
}

#[test]
fn a_registry_that_is_not_there_is_named() {
    let port = inlet_testkit::server::free_port();
    let registry =
        Registry::new(&format!("http://127.0.0.1:{port}"), "team/inlet", Credentials::None);
    let error = registry.push(&Image::new(&executable(), "1").unwrap(), "v1").unwrap_err();
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}/team/inlet")), "{error}");
}

#[test]
fn the_list_of_what_is_in_it_names_every_crate_with_its_checksum() {
    let lock = include_str!("../../../../Cargo.lock");
    let list = sbom("inlet", "1.2.3", lock, b"artifact").unwrap();
    assert_eq!(list, sbom("inlet", "1.2.3", lock, b"artifact").unwrap());
    let components = list["components"].as_array().unwrap();
    let hyper = components.iter().find(|one| one["name"] == "hyper").unwrap();
    assert!(hyper["purl"].as_str().unwrap().starts_with("pkg:cargo/hyper@1."));
    assert_eq!(hyper["hashes"][0]["content"].as_str().unwrap().len(), 64);
    assert!(components.iter().all(|one| one["name"] != "inlet-core"), "our own are no parts");
    assert!(!Value::is_null(&list["serialNumber"]));
}
