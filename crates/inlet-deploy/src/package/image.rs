//! The image of a container, as the OCI image format has it: one layer, a configuration and a
//! manifest. There is no shell and no package in it: the executable, the libraries it was linked
//! with, the certificates of public authorities, and a user without rights.

use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};

use super::{Executable, PackageError, digest};

/// Where the executable is in the image.
const ENTRY: &str = "usr/local/bin/inlet";
/// Where the certificates are; the libraries that read them look here.
const CERTIFICATES: &str = "etc/ssl/certs/ca-certificates.crt";
/// Where this machine may have them.
const CERTIFICATE_PLACES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
/// A user without rights, as images without a shell number it.
const USER: u64 = 65_532;
/// The data directory, which the image declares as a volume. Fargate gives a volume the owner and
/// the mode of the image's directory where the image has it and declares it, and root's otherwise.
/// Source: <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/bind-mounts.html>
const DATA: &str = "data";

/// Some content, and the name that follows from it.
#[derive(Debug, Clone)]
pub struct Blob {
    /// Its media type.
    pub media_type: &'static str,
    /// `sha256:` and hexadecimal digits.
    pub digest: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Blob {
    fn new(media_type: &'static str, bytes: Vec<u8>) -> Self {
        Self { media_type, digest: digest(&bytes), bytes }
    }

    fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len() })
    }
}

/// An image that can be pushed.
#[derive(Debug, Clone)]
pub struct Image {
    /// What the manifest refers to.
    pub blobs: Vec<Blob>,
    /// The manifest; its digest is the image's.
    pub manifest: Blob,
}

impl Image {
    /// The image of an executable at `version`.
    pub fn new(executable: &Executable, version: &str) -> Result<Self, PackageError> {
        let tar = layer(executable)
            .map_err(|source| PackageError::Pack { what: "the image's layer", source })?;
        let diff = digest(&tar);
        let layer = Blob::new(
            "application/vnd.oci.image.layer.v1.tar+gzip",
            gzip(&tar).map_err(|source| PackageError::Pack { what: "the layer", source })?,
        );
        let config = json!({
            "created": "1970-01-01T00:00:00Z",
            "architecture": executable.architecture().container_name(),
            "os": "linux",
            "config": {
                "User": format!("{USER}:{USER}"),
                "Env": [
                    "PATH=/usr/local/bin",
                    format!("SSL_CERT_FILE=/{CERTIFICATES}"),
                    format!("INLET_DATA=/{DATA}"),
                    "INLET_LOG_FORMAT=json",
                ],
                "Entrypoint": [format!("/{ENTRY}")],
                "Cmd": ["serve"],
                "WorkingDir": "/tmp",
                "Volumes": { format!("/{DATA}"): {} },
                "StopSignal": "SIGTERM",
                "Labels": {
                    "org.opencontainers.image.title": "inlet",
                    "org.opencontainers.image.version": version,
                    "org.opencontainers.image.licenses": "Apache-2.0",
                },
            },
            "rootfs": { "type": "layers", "diff_ids": [diff] },
            "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "inlet deploy" }],
        });
        let config =
            Blob::new("application/vnd.oci.image.config.v1+json", config.to_string().into_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.descriptor(),
            "layers": [layer.descriptor()],
        });
        let manifest = Blob::new(
            "application/vnd.oci.image.manifest.v1+json",
            manifest.to_string().into_bytes(),
        );
        Ok(Self { blobs: vec![layer, config], manifest })
    }
}

/// One path of the layer.
enum Entry<'a> {
    Directory { mode: u32, owner: u64 },
    File(&'a [u8], u32),
}

fn layer(executable: &Executable) -> std::io::Result<Vec<u8>> {
    let certificates = CERTIFICATE_PLACES.iter().find_map(|place| std::fs::read(place).ok());
    let users = format!("root:x:0:0:root:/:/none\ninlet:x:{USER}:{USER}:inlet:/tmp:/none\n");
    let groups = format!("root:x:0:\ninlet:x:{USER}:\n");
    let mut entries: std::collections::BTreeMap<PathBuf, Entry<'_>> = Default::default();
    entries.insert(ENTRY.into(), Entry::File(&executable.bytes, 0o755));
    for (path, bytes) in &executable.libraries {
        let inside = path.strip_prefix("/").unwrap_or(path);
        entries.insert(inside.into(), Entry::File(bytes, 0o755));
    }
    if let Some(certificates) = &certificates {
        entries.insert(CERTIFICATES.into(), Entry::File(certificates, 0o644));
    }
    entries.insert("etc/passwd".into(), Entry::File(users.as_bytes(), 0o644));
    entries.insert("etc/group".into(), Entry::File(groups.as_bytes(), 0o644));
    entries.insert("tmp".into(), Entry::Directory { mode: 0o1777, owner: 0 });
    entries.insert(DATA.into(), Entry::Directory { mode: 0o755, owner: USER });
    let parents: Vec<PathBuf> = entries
        .keys()
        .flat_map(|path| path.ancestors().skip(1))
        .filter(|path| !path.as_os_str().is_empty())
        .map(Path::to_owned)
        .collect();
    for parent in parents {
        entries.entry(parent).or_insert(Entry::Directory { mode: 0o755, owner: 0 });
    }
    let mut tar = tar::Builder::new(Vec::new());
    for (path, entry) in &entries {
        let mut header = tar::Header::new_ustar();
        header.set_mtime(0);
        let (bytes, owner): (&[u8], u64) = match entry {
            Entry::Directory { mode, owner } => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(*mode);
                (&[], *owner)
            }
            Entry::File(bytes, mode) => {
                header.set_entry_type(tar::EntryType::Regular);
                header.set_mode(*mode);
                (bytes, 0)
            }
        };
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, path, bytes)?;
    }
    tar.into_inner()
}

fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    // No name and no time in the header: they would differ from machine to machine.
    let mut gzip: GzEncoder<Vec<u8>> =
        GzBuilder::new().mtime(0).write(Vec::new(), Compression::new(6));
    gzip.write_all(bytes)?;
    gzip.finish()
}
