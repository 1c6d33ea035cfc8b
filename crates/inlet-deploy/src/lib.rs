//! Stands Inlet up on AWS with the binary that does the work: packages it, plans and applies
//! templates, and shows how it goes.
//!
//! - [`package`] makes a function's zip and a container's image, the same bytes for the same
//!   input, pushes the image to a registry, and lists what is in them.
//! - [`templates`] has the templates and environments of `deploy/`, and says what they make.
//! - [`cost`] says what an environment costs a month, [`actions`] what its deployer has to be
//!   allowed.
//! - [`stacks`] plans, changes and removes stacks of CloudFormation, which keeps the state, makes
//!   change sets and rolls back; [`plan`] says in words what a change set would do.
//!
//! May import nothing of ours: it is given paths, names and texts.
//!
//! Invariants: nothing is changed without having been shown before; what holds data is never
//! removed without being named; the same input gives the same digests; a run that was cancelled
//! or failed can be run again.
//!
//! Start reading at [`stacks`].

mod account;
pub mod actions;
mod bucket;
mod call;
pub mod cost;
mod error;
pub mod firewall;
pub mod foundation;
mod images;
mod migration;
pub mod package;
pub mod plan;
mod release;
pub mod remains;
pub mod services;
pub mod stacks;
pub mod templates;

pub use account::Account;
pub use bucket::Bucket;
pub use error::{DeployError, FirstFailure};
pub use migration::Migration;
pub use release::Release;
