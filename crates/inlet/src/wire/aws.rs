//! Amazon's services, opened with what the environment says of account and region.

use std::sync::Arc;

use inlet_adapters::aws::Aws;
use inlet_adapters::bucket::S3Bucket;
use inlet_adapters::secrets::{SecretsManagerOptions, SecretsManagerSecrets};
use inlet_core::ports::{Bucket, Secrets};

/// Opens the bucket at `s3://BUCKET/PREFIX`.
pub(super) async fn bucket(url: &str) -> anyhow::Result<Arc<dyn Bucket>> {
    Ok(Arc::new(S3Bucket::open(&Aws::from_environment().await, url).await?))
}

/// Opens the secrets at `aws-secrets-manager://PREFIX`.
pub(super) async fn secrets(url: &str) -> anyhow::Result<Arc<dyn Secrets>> {
    let (aws, options) = (Aws::from_environment().await, SecretsManagerOptions::default());
    Ok(Arc::new(SecretsManagerSecrets::open(&aws, url, &options).await?))
}
