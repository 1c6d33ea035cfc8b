//! The S3 adapter before SeaweedFS, a service that others wrote, and that others than moto's
//! authors read Amazon's documentation for. Its list of parts has no checksums, and it walks
//! directories where S3 sorts keys.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use inlet_adapters::aws::Aws;
use inlet_adapters::bucket::S3Bucket;
use inlet_core::ports::Bucket;
use inlet_testkit::contract::bucket::BucketFixture;
use inlet_testkit::server::{Server, ServerKind, free_port};

static SEAWEEDFS: LazyLock<Server> = LazyLock::new(|| Server::start(ServerKind::SeaweedFs));

/// A bucket of its own.
struct Fixture {
    name: String,
}

impl Fixture {
    fn new() -> Self {
        let name = format!("bucket-{}", free_port());
        let made = ureq::put(format!("{}/{name}", url())).send_empty().unwrap();
        assert_eq!(made.status(), 200);
        Self { name }
    }

    /// The service's own answer to a GET.
    fn ask(&self, query: &str) -> String {
        let mut answer = ureq::get(format!("{}/{}?{query}", url(), self.name)).call().unwrap();
        answer.body_mut().read_to_string().unwrap()
    }
}

fn url() -> String {
    format!("http://127.0.0.1:{}", SEAWEEDFS.port())
}

#[async_trait]
impl BucketFixture for Fixture {
    async fn open(&self) -> Arc<dyn Bucket> {
        let aws = Aws::at(&url(), "test", "test").await;
        let url = format!("s3://{}/some/prefix", self.name);
        Arc::new(S3Bucket::open(&aws, &url).await.unwrap())
    }

    async fn remains(&self) -> Vec<String> {
        crate::s3::remains(&self.ask("uploads"), &self.ask("list-type=2"))
    }

    fn lists_by_bytes(&self) -> bool {
        false
    }
}

inlet_testkit::bucket_contract!(Fixture::new());
