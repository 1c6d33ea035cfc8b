//! An account of its own for a test: a region of the double, and what its services say.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::LazyLock;

use inlet_testkit::server::{Server, ServerKind};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Two of them: each is one process that does one thing at a time.
static DOUBLES: [LazyLock<Server>; 2] = [
    LazyLock::new(|| Server::start(ServerKind::CloudFormation)),
    LazyLock::new(|| Server::start(ServerKind::CloudFormation)),
];
static REGISTRY: LazyLock<Server> = LazyLock::new(|| Server::start(ServerKind::Registry));

/// A region of a double, which no other test works in.
pub(super) struct Account {
    pub(super) region: &'static str,
    pub(super) directory: TempDir,
}

impl Account {
    /// The account in that region.
    pub(super) fn in_region(region: &'static str) -> Self {
        Self { region, directory: tempfile::tempdir().unwrap() }
    }

    /// A path of its double.
    pub(super) fn url(&self, path: &str) -> String {
        let letters: usize = self.region.bytes().map(usize::from).sum();
        format!("http://127.0.0.1:{}{path}", DOUBLES[letters % DOUBLES.len()].port())
    }

    /// Lets something fail in stacks whose names begin so.
    pub(super) fn fault(&self, stack: &str, mut said: Value) {
        said["stack"] = stack.into();
        ureq::post(self.url("/double/faults")).send(said.to_string()).unwrap();
    }

    /// Lets a resource fail once at an operation.
    pub(super) fn fails(&self, stack: &str, logical_id: &str, operation: &str, reason: &str) {
        let said = json!({"logical_id": logical_id, "operation": operation, "reason": reason});
        self.fault(stack, said);
    }

    /// The binary, signed in.
    pub(super) fn inlet(&self) -> Command {
        let mut command = crate::server::inlet(self.directory.path());
        command
            .env("AWS_ENDPOINT_URL", self.url(""))
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_MAX_ATTEMPTS", "4")
            .env("AWS_REGION", self.region);
        command
    }

    /// Runs a command, its words by spaces.
    pub(super) fn run(&self, words: &str) -> Output {
        self.inlet().args(self.words(words)).output().unwrap()
    }

    /// The words of a command, with what stands for the packages in a test: a small executable,
    /// and a registry on this machine.
    pub(super) fn words(&self, words: &str) -> Vec<String> {
        let mut words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let command = words[0].clone();
        if command != "template" {
            words.extend(["--look-ms".into(), "20".into()]);
        }
        if matches!(command.as_str(), "plan" | "deploy") {
            for flag in ["--function-binary", "--image-binary"] {
                if !words.iter().any(|word| word == flag) {
                    words.extend([flag.into(), "/bin/true".into()]);
                }
            }
        }
        if command == "deploy" && words.iter().any(|word| word == "containers") {
            let url = format!("http://127.0.0.1:{}", REGISTRY.port());
            words.extend(["--registry-url".into(), url]);
        }
        words
    }

    /// Runs a command that has to work, and gives what it printed on both outputs.
    pub(super) fn ours(&self, words: &str) -> String {
        let output = self.run(words);
        let (out, said) = texts(&output);
        assert!(output.status.success(), "{words}: {said}\n{out}");
        if words.starts_with("template") || words.contains("--json") {
            return out;
        }
        out + &said
    }

    /// Runs a command that has to fail, and gives what it said.
    pub(super) fn refused(&self, words: &str) -> String {
        let output = self.run(words);
        let (out, said) = texts(&output);
        assert_eq!(output.status.code(), Some(1), "{words}: {said}\n{out}");
        said
    }

    /// Every resource that stands, by the double, whose stack's name begins so.
    pub(super) fn standing(&self, stack: &str) -> Vec<Value> {
        let mut answer = ureq::get(self.url("/double/resources")).call().unwrap();
        let every: Vec<Value> =
            serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
        every
            .into_iter()
            .filter(|one| one["region"] == self.region)
            .filter(|one| one["stack"].as_str().unwrap().starts_with(stack))
            .collect()
    }

    /// The migrations that ran, oldest first.
    pub(super) fn migrations(&self) -> Vec<Value> {
        let mut answer = ureq::get(self.url("/double/runs")).call().unwrap();
        let every: Vec<Value> =
            serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
        every.into_iter().filter(|one| one["region"] == self.region).collect()
    }

    /// What a service with the JSON protocol answers.
    pub(super) fn ask(&self, service: &str, target: &str, arguments: &Value) -> Value {
        let credential = format!(
            "AWS4-HMAC-SHA256 Credential=test/20261121/{}/{service}/aws4_request, \
             SignedHeaders=host, Signature=0",
            self.region
        );
        let mut answer = ureq::post(self.url("/"))
            .config()
            .http_status_as_error(false)
            .build()
            .header("authorization", credential)
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-target", target)
            .send(arguments.to_string())
            .unwrap();
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
    }
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// A file below `deploy/`.
pub(super) fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(path)
}
