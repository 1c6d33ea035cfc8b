//! Small named values that nobody else may read.

mod file;
#[cfg(feature = "aws")]
mod secrets_manager;

pub use file::FileSecrets;
#[cfg(feature = "aws")]
pub use secrets_manager::{SecretsManagerOptions, SecretsManagerSecrets};
