use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use inlet_adapters::aws::Aws;
use inlet_adapters::secrets::{SecretsManagerOptions, SecretsManagerSecrets};
use inlet_core::failure::FailureKind;
use inlet_core::ports::Secrets;
use inlet_testkit::contract::secrets::{SecretsFixture, put};
use inlet_testkit::server::{Server, ServerKind, free_port};

static MOTO: LazyLock<Server> = LazyLock::new(|| Server::start(ServerKind::Moto));

/// A prefix of its own in the emulator.
struct Fixture(String);

impl Fixture {
    fn new() -> Self {
        Self(format!("aws-secrets-manager://inlet/{}", free_port()))
    }

    async fn secrets(&self, fresh_ms: u64) -> SecretsManagerSecrets {
        let options = SecretsManagerOptions { fresh_ms };
        SecretsManagerSecrets::open(&aws().await, &self.0, &options).await.unwrap()
    }
}

async fn aws() -> Aws {
    Aws::at(&format!("http://127.0.0.1:{}", MOTO.port()), "test", "test").await
}

#[async_trait]
impl SecretsFixture for Fixture {
    async fn open(&self) -> Arc<dyn Secrets> {
        Arc::new(self.secrets(0).await)
    }

    async fn exposed(&self) -> Vec<String> {
        // Who may read is the account's matter; nothing is kept on this machine.
        Vec::new()
    }
}

inlet_testkit::secrets_contract!(Fixture::new());

#[tokio::test]
async fn a_rotated_secret_is_seen_without_opening_it_again() {
    let fixture = Fixture::new();
    let (ours, theirs) = (fixture.secrets(20).await, fixture.secrets(0).await);
    put(&theirs, "database", b"{\"password\":\"old\"}").await.unwrap();
    while ours.get("database").await.unwrap().is_none() {}
    put(&theirs, "database", b"{\"password\":\"new\"}").await.unwrap();
    while ours.get("database").await.unwrap().unwrap() != b"{\"password\":\"new\"}" {}
}

#[tokio::test]
async fn a_value_is_asked_for_once_while_it_is_fresh() {
    let fixture = Fixture::new();
    let (ours, theirs) = (fixture.secrets(600_000).await, fixture.secrets(0).await);
    put(&theirs, "tokens", b"one").await.unwrap();
    assert_eq!(ours.get("tokens").await.unwrap(), None, "it was looked at when it was opened");
    put(&ours, "tokens", b"two").await.unwrap();
    assert_eq!(ours.get("tokens").await.unwrap().unwrap(), b"two");
    put(&theirs, "tokens", b"three").await.unwrap();
    assert_eq!(ours.get("tokens").await.unwrap().unwrap(), b"two");
}

#[tokio::test]
async fn a_url_that_is_none_is_refused_and_a_service_that_is_away_is_an_outage() {
    let options = SecretsManagerOptions::default();
    for url in ["aws-secrets-manager://", "aws-secrets-manager:x", "aws-secrets-manager://a b"] {
        let failure = SecretsManagerSecrets::open(&aws().await, url, &options).await.unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Refused, "{failure:?}");
        assert!(failure.hint_text().unwrap().contains("aws-secrets-manager://PREFIX"));
    }
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let aws = Aws::at(&nowhere, "test", "test").await;
    let failure = SecretsManagerSecrets::open(&aws, "aws-secrets-manager://x", &options).await;
    assert_eq!(failure.unwrap_err().kind(), FailureKind::Unavailable);
}

#[tokio::test]
async fn a_secret_may_be_named_by_its_arn() {
    let by_prefix = Fixture::new();
    put(&by_prefix.secrets(0).await, "anything", b"{}").await.unwrap();
    let prefix = by_prefix.0.strip_prefix("aws-secrets-manager://").unwrap();
    let url = format!("aws-secrets-manager://?database={prefix}/anything");
    let options = SecretsManagerOptions { fresh_ms: 0 };
    let secrets = SecretsManagerSecrets::open(&aws().await, &url, &options).await.unwrap();
    assert_eq!(secrets.get("database").await.unwrap().unwrap(), b"{}");
    put(&secrets, "database", b"changed").await.unwrap();
    assert_eq!(secrets.get("database").await.unwrap().unwrap(), b"changed");
    assert_eq!(secrets.get("tokens").await.unwrap(), None);
    let failure = put(&secrets, "tokens", b"x").await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Refused);
}
