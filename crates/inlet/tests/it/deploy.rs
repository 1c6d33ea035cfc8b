//! The commands for AWS, against the double of CloudFormation before an emulator of the services.

mod account;
mod bad_ways;
#[cfg(feature = "aws")]
mod flow;
mod image;
mod life;
mod migration;
mod plan;
mod template;
