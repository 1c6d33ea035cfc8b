//! One server of each kind for all tests of this binary; each test gets a place of its own in it.

use std::path::Path;
use std::process::Output;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use inlet_testkit::server::{Server, ServerKind};
use ureq::Agent;

use crate::server::{Server as InletServer, TOKEN, inlet};

/// PostgreSQL.
pub(crate) static POSTGRES: LazyLock<Postgres> =
    LazyLock::new(|| Postgres(Server::start(ServerKind::Postgres)));
/// The emulator of Amazon's services.
pub(crate) static AWS: LazyLock<Aws> = LazyLock::new(|| Aws(Server::start(ServerKind::Moto)));
/// Redis.
pub(crate) static REDIS: LazyLock<Redis> =
    LazyLock::new(|| Redis(Server::start(ServerKind::Redis)));

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A name that no other test has.
pub(crate) struct Namespace(String);

impl Namespace {
    pub(crate) fn new() -> Self {
        Self(format!("t{}", NUMBER.fetch_add(1, Ordering::Relaxed)))
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }
}

/// PostgreSQL with a database a test.
pub(crate) struct Postgres(pub(crate) Server);

impl Postgres {
    /// The URL of a new database in which the schema has been made by `inlet migrate`.
    pub(crate) fn database(&self) -> String {
        let url = self.empty_database();
        migrate(&["--store", &url]);
        url
    }

    /// The URL of a new database without a schema.
    pub(crate) fn empty_database(&self) -> String {
        let name = Namespace::new();
        let admin = self.url("postgres");
        let made = std::process::Command::new("psql")
            .args([&admin, "-qc", &format!("CREATE DATABASE {}", name.name())])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        self.url(name.name())
    }

    /// Runs SQL in the database at that URL.
    pub(super) fn execute(&self, url: &str, sql: &str) {
        let done = std::process::Command::new("psql").args([url, "-qc", sql]).output().unwrap();
        assert!(done.status.success(), "{sql}: {}", String::from_utf8_lossy(&done.stderr));
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://inlet:inlet@127.0.0.1:{}/{database}", self.0.port())
    }
}

/// The emulator with a table, a queue, a bucket and a secret a test.
pub(crate) struct Aws(pub(crate) Server);

impl Aws {
    /// What a process needs to find it.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        variables_at(self.0.port())
    }

    /// The URL of a new table, made by `inlet migrate`.
    pub(crate) fn table(&self) -> String {
        let url = format!("dynamodb://table-{}", Namespace::new().name());
        migrate(&["--store", &url]);
        url
    }

    /// The URL of a new queue with a dead-letter queue, `NAME-dead`.
    pub(crate) fn queue(&self, name: &Namespace) -> String {
        let name = name.name();
        self.sqs("CreateQueue", &format!(r#"{{"QueueName":"{name}-dead"}}"#));
        let arn = format!("arn:aws:sqs:eu-central-1:123456789012:{name}-dead");
        let policy = format!(r#"{{\"deadLetterTargetArn\":\"{arn}\",\"maxReceiveCount\":5}}"#);
        // A crashed worker's messages come again after this.
        let attributes = format!(r#"{{"RedrivePolicy":"{policy}","VisibilityTimeout":"5"}}"#);
        self.sqs("CreateQueue", &format!(r#"{{"QueueName":"{name}","Attributes":{attributes}}}"#));
        format!("sqs://{name}")
    }

    /// The URL of a new bucket, with a prefix.
    pub(crate) fn bucket(&self) -> String {
        let name = format!("bucket-{}", Namespace::new().name());
        let body = "<CreateBucketConfiguration><LocationConstraint>eu-central-1\
                    </LocationConstraint></CreateBucketConfiguration>";
        let request = Agent::new_with_defaults()
            .put(format!("{}/{name}", self.url()))
            .header("Authorization", authorization("s3"));
        assert_eq!(request.send(body).unwrap().status(), 200);
        format!("s3://{name}/inlet")
    }

    /// The URL of a secret that nobody made yet.
    pub(crate) fn secret(&self) -> String {
        format!("aws-secrets-manager://inlet-{}", Namespace::new().name())
    }

    /// Puts a text on a queue, as any other client would.
    pub(crate) fn put_on_queue(&self, url: &str, body: &str) {
        let name = url.strip_prefix("sqs://").unwrap();
        let body = serde_json::json!({
            "QueueUrl": format!("{}/123456789012/{name}", self.url()),
            "MessageBody": body,
        });
        self.sqs("SendMessage", &body.to_string());
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.0.port())
    }

    fn sqs(&self, action: &str, body: &str) {
        let request = Agent::new_with_defaults()
            .post(self.url())
            .header("Authorization", authorization("sqs"))
            .header("Content-Type", "application/x-amz-json-1.0")
            .header("X-Amz-Target", format!("AmazonSQS.{action}"));
        assert_eq!(request.send(body).unwrap().status(), 200, "{action} {body}");
    }
}

/// The variables a process needs to find Amazon's services at that port of this machine.
pub(super) fn variables_at(port: u16) -> Vec<(String, String)> {
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    vec![
        variable("AWS_ENDPOINT_URL", &format!("http://127.0.0.1:{port}")),
        variable("AWS_REGION", "eu-central-1"),
        variable("AWS_ACCESS_KEY_ID", "test"),
        variable("AWS_SECRET_ACCESS_KEY", "test"),
    ]
}

/// Redis, shared by all tests: ids differ.
pub(crate) struct Redis(pub(crate) Server);

impl Redis {
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.0.port())
    }
}

/// Runs `inlet migrate`.
pub(crate) fn migrate(flags: &[&str]) {
    let output = try_migrate(flags);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

pub(crate) fn try_migrate(flags: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    inlet(directory.path()).arg("migrate").args(flags).envs(AWS.variables()).output().unwrap()
}

/// The emulator reads the region and the service from it and checks nothing.
fn authorization(service: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=test/20261121/eu-central-1/{service}/aws4_request, \
         SignedHeaders=host, Signature=0"
    )
}

/// Starts a process that serves, which finds the engines at `variables`.
pub(crate) fn start(
    role: &str,
    data: &Path,
    flags: &[&str],
    variables: Vec<(String, String)>,
) -> InletServer {
    let mut command = inlet(data.parent().unwrap());
    command.envs(variables);
    InletServer::start_command(command, role, data, flags, Some(TOKEN))
}
