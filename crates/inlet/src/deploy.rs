//! The commands for AWS: what is asked and printed; what is done is in `inlet-deploy`.
//!
//! Start reading at [`run`].

mod package;
mod plan;
mod target;
mod template;

use std::io::IsTerminal;

use inlet_deploy::DeployError;
use inlet_deploy::package::PackageError;
use inlet_deploy::templates::{EnvironmentError, Shape};

use crate::cli::{DeployCommand, ShapeName};
use crate::report::Hinted;
use crate::wire;

/// Does what the command line asks for.
pub(crate) fn run(command: DeployCommand) -> anyhow::Result<()> {
    match command {
        DeployCommand::Template(args) => template::run(&args),
        DeployCommand::Plan(args) => wire::runtime()?.block_on(plan::run(&args)),
    }
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
