//! The keys of documents that are sent from a file.
//!
//! A key is made of three things: the sending, the document's bytes, and how often these bytes
//! stood in the same file before. What is one sending:
//!
//! - with `--run NAME`, everything that is sent under that name, from wherever;
//! - else a file, by its path on this machine: mended, grown or sent again it is the same one;
//! - else, for standard input and pipes, this run of the command alone.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::Context;
use inlet_core::document::hex;
use sha2::{Digest, Sha256};

use crate::report::Hinted;

/// The most different documents of one file, of each of which 16 bytes are held in memory.
const DIFFERENT_MAX: usize = 20_000_000;

/// Gives each document of a file its key.
pub(super) struct Keys {
    sending: [u8; 32],
    /// The number of times each document came so far, by the first bytes of its hash. Two that
    /// share those count as one here, and still have two keys.
    seen: HashMap<u64, u32>,
    different_max: usize,
}

impl Keys {
    /// The keys of a sending of `file`, or of standard input.
    ///
    /// # Errors
    /// Returns an error if the file can't be found, or if the system has no randomness for what is
    /// a sending of its own.
    pub(super) fn of(run: Option<&str>, file: Option<&Path>) -> anyhow::Result<Self> {
        let regular = file.filter(|path| path.is_file());
        let hash = Sha256::new().chain_update(b"inlet send v1\0");
        let hash = match (run, regular) {
            (Some(run), _) => hash.chain_update(b"run\0").chain_update(run),
            (None, Some(path)) => {
                let path = fs::canonicalize(path)
                    .with_context(|| format!("could not find {}", path.display()))?;
                let path = path.into_os_string().into_encoded_bytes();
                hash.chain_update(b"file\0").chain_update(machine()).chain_update(path)
            }
            (None, None) => {
                let mut random = [0; 16];
                getrandom::fill(&mut random).context("could not get randomness from the system")?;
                hash.chain_update(b"once\0").chain_update(random)
            }
        };
        Ok(Self {
            sending: hash.finalize().into(),
            seen: HashMap::new(),
            different_max: DIFFERENT_MAX,
        })
    }

    /// The key of the next document of the file.
    ///
    /// # Errors
    /// Returns an error if the file has more different documents than are kept in mind.
    pub(super) fn next(&mut self, document: &[u8]) -> anyhow::Result<String> {
        let digest: [u8; 32] = Sha256::digest(document).into();
        let short = u64::from_be_bytes(*digest.first_chunk().expect("a digest has 32 bytes"));
        if self.seen.len() >= self.different_max && !self.seen.contains_key(&short) {
            let max = self.different_max;
            let hint = "split it, and send the parts with the same --run NAME";
            let message = format!("it has more than {max} different documents");
            return Err(Hinted::new(message, hint).into());
        }
        let times = self.seen.entry(short).or_insert(0);
        let key = Sha256::new()
            .chain_update(self.sending)
            .chain_update(digest)
            .chain_update(times.to_be_bytes())
            .finalize();
        *times = times.saturating_add(1);
        Ok(format!("send-{}", hex(&key[..16])))
    }
}

/// The bytes that tell this machine from others: its id, where it has one, else its name.
/// Source: <https://www.freedesktop.org/software/systemd/man/latest/machine-id.html>.
fn machine() -> Vec<u8> {
    let id = fs::read("/etc/machine-id").unwrap_or_default();
    if !id.trim_ascii().is_empty() {
        return id.trim_ascii().to_vec();
    }
    rustix::system::uname().nodename().to_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

    use std::collections::HashSet;

    use super::*;

    fn keys(keys: &mut Keys, documents: &[&str]) -> Vec<String> {
        documents.iter().map(|document| keys.next(document.as_bytes()).unwrap()).collect()
    }

    fn of_run(name: &str) -> Keys {
        Keys::of(Some(name), None).unwrap()
    }

    #[test]
    fn a_document_keeps_its_key_whatever_stands_around_it() {
        let before = keys(&mut of_run("a"), &["1", "2", "3"]);
        let after = keys(&mut of_run("a"), &["0", "3", "new", "1", "2", "more"]);
        let kept: HashSet<&String> = before.iter().collect();
        assert_eq!(after.iter().filter(|key| kept.contains(key)).count(), 3);
    }

    #[test]
    fn equal_documents_of_one_file_are_as_many_as_there_are() {
        let twice = keys(&mut of_run("a"), &["1", "1"]);
        assert_ne!(twice[0], twice[1]);
        let thrice = keys(&mut of_run("a"), &["1", "1", "1"]);
        assert_eq!(twice, thrice[..2]);
    }

    #[test]
    fn other_sendings_have_other_keys() {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = (directory.path().join("one"), directory.path().join("other"));
        fs::write(&one, "1").unwrap();
        fs::write(&other, "1").unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&one, &link).unwrap();
        let key = |run: Option<&str>, path: Option<&Path>| {
            keys(&mut Keys::of(run, path).unwrap(), &["1"]).remove(0)
        };
        let of_one = key(None, Some(&one));
        assert_eq!(key(None, Some(&one)), of_one);
        assert_eq!(key(None, Some(&link)), of_one, "another name of the same file");
        let run = key(Some("x"), Some(&one));
        assert_eq!(key(Some("x"), Some(&other)), run, "the name of the run says what is the same");
        let all = [
            of_one,
            run,
            key(None, Some(&other)),
            key(Some("y"), None),
            key(None, None),
            key(None, None),
        ];
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    }

    #[test]
    fn a_file_of_too_many_different_documents_is_refused() {
        let mut few = Keys { different_max: 2, ..of_run("a") };
        keys(&mut few, &["1", "2", "1", "2"]);
        assert!(few.next(b"3").is_err());
        assert!(few.next(b"1").is_ok());
    }
}
