//! Where files, summaries and exports live.

mod directory;

pub use directory::DirectoryBucket;
