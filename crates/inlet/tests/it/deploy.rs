//! The commands for AWS, against the double of CloudFormation before an emulator of the services.

mod account;
mod plan;
mod template;
