//! Whose account it is and where: read from the environment as every tool of Amazon's does.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

/// How often a call is tried in all, with exponential back-off and jitter: calls of a deployment
/// are throttled often and are worth waiting for.
const ATTEMPTS_MAX: u32 = 8;
/// The region where the environment names none.
const REGION: &str = "us-east-1";

/// An account in a region.
#[derive(Debug, Clone)]
pub struct Account {
    pub(crate) config: SdkConfig,
}

impl Account {
    /// Reads the environment: `AWS_REGION`, `AWS_PROFILE`, `AWS_ENDPOINT_URL` and the others.
    /// Nothing is asked of any service.
    pub async fn from_environment() -> Self {
        let client = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let mut config = aws_config::defaults(BehaviorVersion::latest())
            .http_client(client)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX))
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
        Self { config }
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
        let here = Self::from_environment().await.config.into_builder();
        let config = here
            .endpoint_url(url)
            .region(Region::new(region.to_owned()))
            .credentials_provider(provider)
            .build();
        Self { config }
    }

    /// The region, as `eu-central-1`.
    pub fn region(&self) -> &str {
        self.config.region().map_or(REGION, Region::as_ref)
    }
}
