//! An account of its own for a test: a region of the double.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::LazyLock;

use inlet_testkit::server::{Server, ServerKind};
use tempfile::TempDir;

static DOUBLE: LazyLock<Server> = LazyLock::new(|| Server::start(ServerKind::CloudFormation));

/// A region of the double, which no other test works in.
pub(super) struct Account {
    pub(super) region: &'static str,
    pub(super) directory: TempDir,
}

impl Account {
    /// The account in that region.
    pub(super) fn in_region(region: &'static str) -> Self {
        Self { region, directory: tempfile::tempdir().unwrap() }
    }

    /// The binary, signed in.
    pub(super) fn inlet(&self) -> Command {
        let mut command = crate::server::inlet(self.directory.path());
        command
            .env("AWS_ENDPOINT_URL", url(""))
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_MAX_ATTEMPTS", "3")
            .env("AWS_REGION", self.region);
        command
    }

    /// Runs a command, its words by spaces.
    pub(super) fn run(&self, words: &str) -> Output {
        self.inlet().args(words.split(' ')).output().unwrap()
    }

    /// Runs a command that has to work, and gives what it printed.
    pub(super) fn ours(&self, words: &str) -> String {
        let output = self.run(words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// A path of the double.
pub(super) fn url(path: &str) -> String {
    format!("http://127.0.0.1:{}{path}", DOUBLE.port())
}

/// A file below `deploy/`.
pub(super) fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(path)
}
