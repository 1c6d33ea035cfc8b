//! Whose account it is and where: read from the environment as every tool of Amazon's does.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

use crate::call::texts;
use crate::error::DeployError;

/// How often a call is tried in all where `AWS_MAX_ATTEMPTS` says nothing, with exponential back-off and jitter: calls of a deployment
/// are throttled often and are worth waiting for.
const ATTEMPTS_MAX: u32 = 8;
/// The region where the environment names none.
const REGION: &str = "us-east-1";

/// An account in a region.
#[derive(Debug, Clone)]
pub struct Account {
    pub(crate) config: SdkConfig,
    /// How often a call is tried in all.
    pub(crate) attempts_max: u32,
}

impl Account {
    /// Reads the environment: `AWS_REGION`, `AWS_PROFILE`, `AWS_ENDPOINT_URL` and the others.
    /// Nothing is asked of any service.
    pub async fn from_environment() -> Self {
        let client = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let attempts_max = std::env::var("AWS_MAX_ATTEMPTS")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(ATTEMPTS_MAX);
        let mut config = aws_config::defaults(BehaviorVersion::latest())
            .http_client(client)
            .retry_config(RetryConfig::standard().with_max_attempts(attempts_max))
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(Duration::from_secs(5))
                    .operation_attempt_timeout(Duration::from_secs(60))
                    .build(),
            )
            .load()
            .await;
        if config.region().is_none() {
            config = config.into_builder().region(Region::from_static(REGION)).build();
        }
        Self { config, attempts_max }
    }

    /// The same, reached at `url` with this key: for tests beside each other.
    pub async fn at(url: &str, region: &str, access_key_id: &str) -> Self {
        let credentials = aws_sdk_cloudformation::config::Credentials::new(
            access_key_id,
            "x",
            None,
            None,
            "given",
        );
        let provider = aws_sdk_cloudformation::config::SharedCredentialsProvider::new(credentials);
        let here = Self::from_environment().await;
        let config = here
            .config
            .into_builder()
            .endpoint_url(url)
            .region(Region::new(region.to_owned()))
            .credentials_provider(provider)
            .build();
        Self { config, attempts_max: here.attempts_max }
    }

    /// Whose it is: the account's twelve digits, and the identity that asks.
    pub async fn identity(&self) -> Result<(String, String), DeployError> {
        let about = ("ask who signs in to", self.region());
        let xml = self.query(about, ("sts", "sts"), "2011-06-15", "GetCallerIdentity", &[]).await?;
        let one = |name| texts(&xml, name).into_iter().next().unwrap_or_default();
        Ok((one("Account"), one("Arn")))
    }

    /// The region, as `eu-central-1`.
    pub fn region(&self) -> &str {
        self.config.region().map_or(REGION, Region::as_ref)
    }
}
