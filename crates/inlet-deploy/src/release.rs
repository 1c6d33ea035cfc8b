//! What is uploaded for a deployment: the templates' modules and, for functions, their zip, under
//! a name that follows from their bytes, so that the same input is uploaded once.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::bucket::Bucket;
use crate::error::DeployError;
use crate::templates;

/// How many hexadecimal digits of a digest name a release; it has to fit what templates take.
const NAME_DIGITS: usize = 32;

/// A release.
#[derive(Debug, Clone)]
pub struct Release {
    /// What its keys begin with, with a slash at its end.
    pub prefix: String,
    files: BTreeMap<String, Vec<u8>>,
}

impl Release {
    /// The release of the templates that this binary carries, with the zip of functions where
    /// there are any, and the list of what is in the package.
    pub fn new(zip: Option<Vec<u8>>, sbom: Option<Vec<u8>>) -> Self {
        let mut files: BTreeMap<String, Vec<u8>> = templates::modules()
            .map(|file| (file.path.to_owned(), file.text.as_bytes().to_vec()))
            .collect();
        files.extend(zip.map(|zip| ("functions.zip".to_owned(), zip)));
        files.extend(sbom.map(|sbom| ("sbom.cdx.json".to_owned(), sbom)));
        Self { prefix: prefix(&files), files }
    }

    /// The release with `text` in place of the file at `path`.
    #[must_use]
    pub fn with_file(mut self, path: &str, text: String) -> Self {
        self.files.insert(path.to_owned(), text.into_bytes());
        self.prefix = prefix(&self.files);
        self
    }

    /// Uploads what is not there yet; without the packages where only a plan is made.
    pub async fn upload(&self, bucket: &Bucket, with_packages: bool) -> Result<(), DeployError> {
        let wanted = |name: &str| with_packages || name.starts_with("modules/");
        for (name, bytes) in self.files.iter().filter(|(name, _)| wanted(name)) {
            let key = format!("{}{name}", self.prefix);
            if !bucket.has(&key).await? {
                bucket.put(&key, bytes.clone()).await?;
            }
        }
        Ok(())
    }

    /// The name of this release with these settings: functions are published anew when either
    /// changes.
    pub fn name(&self, parameters: &BTreeMap<String, String>) -> String {
        let mut hash = Sha256::new();
        hash.update(&self.prefix);
        for (name, value) in parameters.iter().filter(|(name, _)| *name != "Release") {
            hash.update(name);
            hash.update([0]);
            hash.update(value);
            hash.update([0]);
        }
        hexadecimal(&hash.finalize())[..12].to_owned()
    }
}

/// What the keys of these files begin with.
fn prefix(files: &BTreeMap<String, Vec<u8>>) -> String {
    let mut hash = Sha256::new();
    for (name, bytes) in files {
        hash.update(name);
        hash.update([0]);
        hash.update(Sha256::digest(bytes));
    }
    let digits = hexadecimal(&hash.finalize());
    format!("releases/{}/", &digits[..NAME_DIGITS])
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_input_has_the_same_name_and_another_another() {
        let one = Release::new(Some(b"zip".to_vec()), None);
        assert_eq!(one.prefix, Release::new(Some(b"zip".to_vec()), None).prefix);
        assert_ne!(one.prefix, Release::new(Some(b"zap".to_vec()), None).prefix);
        let settings = |value: &str| BTreeMap::from([("Waf".to_owned(), value.to_owned())]);
        assert_eq!(one.name(&settings("off")), one.name(&settings("off")));
        assert_ne!(one.name(&settings("off")), one.name(&settings("block")));
    }
}
