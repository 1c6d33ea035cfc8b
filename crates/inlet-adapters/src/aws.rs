//! What the adapters of Amazon's services share: region, credentials, endpoint, TLS.

mod calls;
mod failure;

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use inlet_core::failure::{Failure, FailureKind};

pub(crate) use self::calls::Calls;
pub(crate) use self::failure::{class_of, code, failure, is_refused};

/// How long a connection may take, in seconds. Endpoints are in the same region or VPC.
const CONNECT_S: u64 = 2;
/// How long one attempt may take, in seconds; longer than the longest poll of SQS (20 s).
const ATTEMPT_S: u64 = 30;
/// How often a call is tried in all, with exponential back-off and jitter between.
const ATTEMPTS_MAX: u32 = 3;

/// Where Amazon's services are and who we are there, read once from the environment as every
/// tool of Amazon's does: `AWS_REGION`, `AWS_PROFILE`, `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`,
/// the roles of a task, a function or a machine. Credentials are fetched at the first call, not
/// here.
#[derive(Debug, Clone)]
pub struct Aws {
    config: SdkConfig,
}

impl Aws {
    /// Reads the environment. Nothing is asked of any service.
    pub async fn from_environment() -> Self {
        let client = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let config = aws_config::defaults(BehaviorVersion::latest())
            .http_client(client)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX))
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(Duration::from_secs(CONNECT_S))
                    .operation_attempt_timeout(Duration::from_secs(ATTEMPT_S))
                    .build(),
            )
            .load()
            .await;
        Self { config }
    }

    /// Whether the environment names a region. Where it names none nothing is asked of any
    /// region: what is found in one that nobody named is not what was meant.
    ///
    /// # Errors
    /// [`FailureKind::Refused`], naming the setting with this `url`.
    pub(crate) fn needs_region(&self, url: &str) -> Result<(), Failure> {
        if self.config.region().is_some() {
            return Ok(());
        }
        Err(Failure::new(FailureKind::Refused, "find the region of", url).hint(
            "name it: AWS_REGION, as in AWS_REGION=eu-central-1, or `region` in the profile of \
             AWS_PROFILE",
        ))
    }

    /// The same services, reached at `url` (`http://127.0.0.1:5000`), with this key: for tests
    /// that run beside each other against emulators of their own.
    pub async fn at(url: &str, access_key_id: &str, secret_access_key: &str) -> Self {
        let here = Self::from_environment().await;
        let credentials = aws_sdk_sqs::config::Credentials::new(
            access_key_id,
            secret_access_key,
            None,
            None,
            "given",
        );
        let provider = aws_sdk_sqs::config::SharedCredentialsProvider::new(credentials);
        let config = here
            .config
            .into_builder()
            .endpoint_url(url)
            .region(Region::from_static("us-east-1"))
            .credentials_provider(provider)
            .build();
        Self { config }
    }

    /// What the clients of the services are made from.
    pub(crate) fn config(&self) -> &SdkConfig {
        &self.config
    }
}
