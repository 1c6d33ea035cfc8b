//! Amazon's services, opened with what the environment says of account and region.

use std::sync::Arc;

use inlet_adapters::aws::Aws;
use inlet_adapters::bucket::S3Bucket;
use inlet_adapters::queue::{SqsOptions, SqsQueue};
use inlet_adapters::secrets::{SecretsManagerOptions, SecretsManagerSecrets};
use inlet_adapters::store::{DynamoOptions, DynamoStore};
use inlet_core::ports::{Bucket, Queue, Secrets, Store};

use super::{QueueUse, WiredQueue};

/// Opens the bucket at `s3://BUCKET/PREFIX`.
pub(super) async fn bucket(url: &str) -> anyhow::Result<Arc<dyn Bucket>> {
    Ok(Arc::new(S3Bucket::open(&Aws::from_environment().await, url).await?))
}

/// Opens the secrets at `aws-secrets-manager://PREFIX`.
pub(super) async fn secrets(url: &str) -> anyhow::Result<Arc<dyn Secrets>> {
    let (aws, options) = (Aws::from_environment().await, SecretsManagerOptions::default());
    Ok(Arc::new(SecretsManagerSecrets::open(&aws, url, &options).await?))
}

/// Opens the queue at `sqs://NAME`; what is too large for it goes to `bucket`.
pub(super) async fn queue(
    url: &str,
    bucket: &Arc<dyn Bucket>,
    queue_use: QueueUse,
) -> anyhow::Result<WiredQueue> {
    let (aws, overflow) = (Aws::from_environment().await, Arc::clone(bucket));
    let options = SqsOptions::default();
    let queue = Arc::new(match queue_use {
        QueueUse::Send => SqsQueue::open_to_send(&aws, url, overflow, &options).await?,
        QueueUse::Receive | QueueUse::Both => SqsQueue::open(&aws, url, overflow, &options).await?,
    });
    let release = {
        let queue = Arc::clone(&queue);
        Box::new(move || {
            let queue = Arc::clone(&queue);
            Box::pin(async move { queue.close().await }) as _
        })
    };
    Ok(WiredQueue { queue: queue as Arc<dyn Queue>, log: None, release: Some(release) })
}

/// Opens the store at `dynamodb://TABLE`; what is too large for it goes to `bucket`.
pub(super) async fn store(url: &str, bucket: &Arc<dyn Bucket>) -> anyhow::Result<Arc<dyn Store>> {
    let (aws, overflow) = (Aws::from_environment().await, Arc::clone(bucket));
    Ok(Arc::new(DynamoStore::open(&aws, url, overflow, &DynamoOptions::default()).await?))
}

/// Makes the table where it is not there.
pub(super) async fn make_table(url: &str) -> anyhow::Result<Vec<String>> {
    let made = DynamoStore::create_table(&Aws::from_environment().await, url).await?;
    Ok(if made { vec![format!("made {url}")] } else { Vec::new() })
}
