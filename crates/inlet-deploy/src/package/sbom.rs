//! What is in the executable: its crates, as CycloneDX 1.6 has it.
//! Source: <https://cyclonedx.org/docs/1.6/json/>.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{PackageError, digest};

#[derive(Deserialize)]
struct Lock {
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
}

/// The list for `name` at `version`, of the crates in the lock file `lock`. `artifact` is what is
/// shipped: its digest is in the list.
pub fn sbom(name: &str, version: &str, lock: &str, artifact: &[u8]) -> Result<Value, PackageError> {
    let lock: Lock = toml::from_str(lock).map_err(|error| PackageError::Lock(error.to_string()))?;
    let artifact = digest(artifact);
    let hash = artifact.trim_start_matches("sha256:");
    // The same input has the same number: a version 8 UUID of the artifact's digest.
    let serial = format!(
        "urn:uuid:{}-{}-8{}-8{}-{}",
        &hash[..8],
        &hash[8..12],
        &hash[13..16],
        &hash[17..20],
        &hash[20..32]
    );
    let components: Vec<Value> = lock
        .package
        .iter()
        .filter(|package| package.source.is_some())
        .map(|package| {
            let purl = format!("pkg:cargo/{}@{}", package.name, package.version);
            let mut component = json!({
                "type": "library",
                "bom-ref": purl,
                "name": package.name,
                "version": package.version,
                "purl": purl,
            });
            if let Some(checksum) = &package.checksum {
                component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
            }
            component
        })
        .collect();
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": serial,
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "name": name,
                "version": version,
                "hashes": [{ "alg": "SHA-256", "content": hash }],
            },
        },
        "components": components,
    }))
}
