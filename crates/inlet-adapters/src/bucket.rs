//! Where files, summaries and exports live.

mod directory;
#[cfg(feature = "aws")]
mod s3;

pub use directory::DirectoryBucket;
#[cfg(feature = "aws")]
pub use s3::{PART_BYTES, S3Bucket};
