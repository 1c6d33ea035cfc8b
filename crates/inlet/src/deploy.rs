//! The commands for AWS: what is asked and printed; what is done is in `inlet-deploy`.
//!
//! Start reading at [`run`].

mod apply;
mod destroy;
mod firewall;
mod migration;
mod package;
mod plan;
mod progress;
mod question;
mod status;
mod target;
mod template;

use std::io::IsTerminal;
use std::path::PathBuf;

use inlet_deploy::DeployError;
use inlet_deploy::package::PackageError;
use inlet_deploy::templates::{EnvironmentError, Shape};

use crate::cli::StatusArgs;
use crate::cli::deploy::{DeployCommand, ShapeName};
use crate::report::Hinted;
use crate::wire;

/// Does what the command line asks for, with the rules in `firewall` where there are such.
pub(crate) fn run(command: DeployCommand, firewall: Option<PathBuf>) -> anyhow::Result<()> {
    let waf = firewall.as_deref().map(firewall::template).transpose()?;
    match command {
        DeployCommand::Template(args) => template::run(&args, waf.as_deref()),
        DeployCommand::Plan(args) => until_interrupted(plan::run(&args, waf)),
        DeployCommand::Deploy(args) => until_interrupted(apply::run(&args, waf)),
        DeployCommand::Destroy(args) => until_interrupted(destroy::run(&args)),
    }
}

/// Prints how an environment stands.
pub(crate) fn status(args: &StatusArgs) -> anyhow::Result<()> {
    until_interrupted(status::run(args))
}

/// Runs a command until it ends or somebody interrupts it.
fn until_interrupted(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = wire::runtime()?;
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = command => ended,
            _ = tokio::signal::ctrl_c() => {
                let hint = "CloudFormation goes on with what was begun; run the same command again: \
                            it waits for that and takes up from there";
                Err(Hinted::new("interrupted", hint).into())
            }
        }
    });
    // A question that nobody answers must not hold the end up.
    runtime.shutdown_background();
    ended
}

impl From<ShapeName> for Shape {
    fn from(name: ShapeName) -> Self {
        match name {
            ShapeName::Serverless => Self::Serverless,
            ShapeName::Containers => Self::Containers,
        }
    }
}

/// Whether what is printed may have colours.
fn has_colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// A failure of a service with what helps.
fn failed(error: DeployError) -> anyhow::Error {
    let hint = error.hint().unwrap_or_default();
    Hinted::new(error.to_string(), hint).into()
}

/// Words that name no environment or parameter, with what does.
fn misnamed(error: EnvironmentError) -> anyhow::Error {
    Hinted::usage(error.to_string(), error.hint()).into()
}

/// A package that could not be made, with what helps.
fn unpackaged(error: PackageError) -> anyhow::Error {
    let hinted = Hinted::new(error.to_string(), error.hint().unwrap_or_default());
    anyhow::Error::new(error).context(hinted)
}
