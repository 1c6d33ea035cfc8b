use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use inlet_adapters::secrets::FileSecrets;
use inlet_core::ports::Secrets;
use inlet_testkit::contract::secrets::{SecretsFixture, put};
use tempfile::TempDir;

struct Files(TempDir);

impl Default for Files {
    fn default() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Files {
    fn directory(&self) -> PathBuf {
        self.0.path().join("secrets")
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.directory().join(name)).unwrap().permissions().mode() & 0o777
    }
}

#[async_trait]
impl SecretsFixture for Files {
    async fn open(&self) -> Arc<dyn Secrets> {
        Arc::new(FileSecrets::open(self.directory()).unwrap())
    }

    async fn exposed(&self) -> Vec<String> {
        let names = fs::read_dir(self.directory()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut exposed: Vec<_> = names.filter(|name| self.mode(name) != 0o600).collect();
        if self.mode("") != 0o700 {
            exposed.push(".".to_owned());
        }
        exposed
    }
}

inlet_testkit::secrets_contract!(Files::default());

#[tokio::test]
async fn what_others_could_read_is_closed_to_them() {
    let files = Files::default();
    let secrets = files.open().await;
    put(&*secrets, "token", b"1").await.unwrap();
    let set = |name: &str, mode| {
        fs::set_permissions(files.directory().join(name), Permissions::from_mode(mode)).unwrap();
    };
    set("token", 0o664);
    set("", 0o775);
    assert_eq!(secrets.get("token").await.unwrap(), Some(b"1".to_vec()));
    assert_eq!(files.mode("token"), 0o600);
    files.open().await;
    assert_eq!(files.mode(""), 0o700);
}

#[tokio::test]
async fn what_a_crashed_change_left_is_removed_at_the_next_start() {
    let files = Files::default();
    put(&*files.open().await, "kept", b"1").await.unwrap();
    let left = files.directory().join(".unfinished-0011223344556677");
    fs::write(&left, "half a val").unwrap();
    let in_use = fs::File::open(files.directory().join(".lock")).unwrap();
    in_use.lock().unwrap();
    files.open().await;
    assert!(left.exists(), "another process was in the middle of a change");
    drop(in_use);
    let secrets = files.open().await;
    assert!(!left.exists());
    assert_eq!(secrets.get("kept").await.unwrap(), Some(b"1".to_vec()));
}

#[tokio::test]
async fn nothing_but_the_secrets_is_left_behind() {
    let files = Files::default();
    let secrets = files.open().await;
    put(&*secrets, "a", b"1").await.unwrap();
    put(&*secrets, "a", b"2").await.unwrap();
    secrets.swap("a", None, b"3").await.unwrap();
    secrets.swap("b", None, b"3").await.unwrap();
    put(&*secrets, "c", &vec![0; 1 << 20]).await.unwrap_err();
    let mut names: Vec<_> = fs::read_dir(files.directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, [".lock", "a", "b"]);
}
