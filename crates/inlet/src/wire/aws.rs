//! Amazon's services, opened with what the environment says of account and region.

use std::sync::Arc;

use inlet_adapters::aws::Aws;
use inlet_adapters::bucket::S3Bucket;
use inlet_adapters::queue::{SqsOptions, SqsQueue};
use inlet_adapters::secrets::{SecretsManagerOptions, SecretsManagerSecrets};
use inlet_adapters::store::{DynamoOptions, DynamoStore};
use inlet_core::ports::{Bucket, Queue, Secrets, Store};
use tokio::sync::OnceCell;

use super::QueueUse;
use super::engines::{Open, Slot, keep, opening};

/// The environment, read once: all services share its credentials.
async fn aws() -> &'static Aws {
    static AWS: OnceCell<Aws> = OnceCell::const_new();
    AWS.get_or_init(Aws::from_environment).await
}

/// Opens the bucket at `s3://BUCKET/PREFIX`.
pub(super) fn bucket(url: &str) -> Open<dyn Bucket> {
    let url = url.to_owned();
    opening(move || {
        let url = url.clone();
        async move { Ok(Arc::new(S3Bucket::open(aws().await, &url).await?) as Arc<dyn Bucket>) }
    })
}

/// Opens the secrets at `aws-secrets-manager://PREFIX`.
pub(super) fn secrets(url: &str) -> Open<dyn Secrets> {
    let url = url.to_owned();
    opening(move || {
        let url = url.clone();
        async move {
            let options = SecretsManagerOptions::default();
            let opened = SecretsManagerSecrets::open(aws().await, &url, &options).await?;
            Ok(Arc::new(opened) as Arc<dyn Secrets>)
        }
    })
}

/// Opens the queue at `sqs://NAME`; what is too large for it goes to `bucket`.
pub(super) fn queue(
    url: &str,
    bucket: &Arc<dyn Bucket>,
    queue_use: QueueUse,
    sqs: &Slot<SqsQueue>,
) -> Open<dyn Queue> {
    let (url, bucket, sqs) = (url.to_owned(), Arc::clone(bucket), Arc::clone(sqs));
    opening(move || {
        let (url, overflow, sqs) = (url.clone(), Arc::clone(&bucket), Arc::clone(&sqs));
        async move {
            let (aws, options) = (aws().await, SqsOptions::default());
            let opened = Arc::new(match queue_use {
                QueueUse::Send => SqsQueue::open_to_send(aws, &url, overflow, &options).await?,
                QueueUse::Receive | QueueUse::Both => {
                    SqsQueue::open(aws, &url, overflow, &options).await?
                }
            });
            keep(&sqs, &opened);
            Ok(opened as Arc<dyn Queue>)
        }
    })
}

/// Opens the store at `dynamodb://TABLE`; what is too large for it goes to `bucket`.
pub(super) fn store(url: &str, bucket: &Arc<dyn Bucket>) -> Open<dyn Store> {
    let (url, bucket) = (url.to_owned(), Arc::clone(bucket));
    opening(move || {
        let (url, overflow) = (url.clone(), Arc::clone(&bucket));
        async move {
            let options = DynamoOptions::default();
            let opened = DynamoStore::open(aws().await, &url, overflow, &options).await?;
            Ok(Arc::new(opened) as Arc<dyn Store>)
        }
    })
}

/// Makes the table where it is not there.
pub(super) async fn make_table(url: &str) -> anyhow::Result<Vec<String>> {
    let made = DynamoStore::create_table(aws().await, url).await?;
    Ok(if made { vec![format!("made {url}")] } else { Vec::new() })
}
