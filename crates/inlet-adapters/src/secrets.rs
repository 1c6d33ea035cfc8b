//! Small named values that nobody else may read.

mod file;

pub use file::FileSecrets;
