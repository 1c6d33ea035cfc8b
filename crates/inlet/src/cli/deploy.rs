//! The words of the commands for AWS.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::JsonArgs;

/// The commands for AWS; `inlet status --env NAME` is one more.
#[derive(Debug, Subcommand)]
pub(crate) enum DeployCommand {
    /// Show what a deployment to AWS would change, what it costs and what it needs to be allowed
    Plan(PlanArgs),
    /// Deploy to AWS: package, show what would change, ask, change it
    Deploy(DeployArgs),
    /// Remove an environment from AWS; says first what goes and what stays
    Destroy(DestroyArgs),
    /// Print the CloudFormation templates and environments that this binary carries
    Template(TemplateArgs),
}

/// How Inlet stands on AWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShapeName {
    /// Functions behind API Gateway
    Serverless,
    /// Tasks behind a load balancer
    Containers,
}

/// Which environment, in which shape.
#[derive(Debug, Clone, Args)]
pub(crate) struct EnvironmentArgs {
    /// The environment: staging, production or a name of your own
    #[arg(long, value_name = "NAME")]
    pub(crate) env: String,
    /// How it stands there
    #[arg(long, value_enum, default_value_t = ShapeName::Serverless)]
    pub(crate) shape: ShapeName,
}

/// What is to stand there.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReleaseArgs {
    #[command(flatten)]
    pub(crate) environment: EnvironmentArgs,
    /// The environment that one with a name of your own begins as
    #[arg(long, value_name = "NAME")]
    pub(crate) like: Option<String>,
    /// Another value for a parameter; what was given once is remembered
    #[arg(long = "parameter", value_name = "NAME=VALUE")]
    pub(crate) parameters: Vec<String>,
    /// Forget the parameters that were given before
    #[arg(long)]
    pub(crate) reset: bool,
    /// The executable of functions; inlet-lambda beside this one where none is given
    #[arg(long, value_name = "FILE")]
    pub(crate) function_binary: Option<PathBuf>,
    /// The executable in the image; this one where none is given
    #[arg(long, value_name = "FILE")]
    pub(crate) image_binary: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) look: LookArgs,
}

/// How often a stack that is changing is looked at.
#[derive(Debug, Clone, Args)]
pub(crate) struct LookArgs {
    /// How often a stack that is changing is looked at, in milliseconds
    #[arg(long, default_value_t = 2_000, hide = true, value_name = "MS")]
    pub(crate) look_ms: u64,
}

/// `inlet plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) release: ReleaseArgs,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

/// `inlet deploy`.
#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    #[command(flatten)]
    pub(crate) release: ReleaseArgs,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    /// Also bring what every environment of this account and region needs to this release
    #[arg(long)]
    pub(crate) with_bootstrap: bool,
    /// A value for a parameter of that, as GithubRepository=OWNER/NAME; it stays until another is
    /// given
    #[arg(long = "bootstrap-parameter", value_name = "NAME=VALUE")]
    pub(crate) bootstrap_parameters: Vec<String>,
    /// Where the registry of images is reached; where its name says if none is given
    #[arg(long, hide = true, value_name = "URL")]
    pub(crate) registry_url: Option<String>,
}

/// `inlet destroy`.
#[derive(Debug, Args)]
pub(crate) struct DestroyArgs {
    #[command(flatten)]
    pub(crate) environment: EnvironmentArgs,
    /// Also remove what holds documents: table, queues, buckets, secrets, keys, snapshots
    #[arg(long)]
    pub(crate) with_data: bool,
    /// Also remove what every environment of this account and region needs
    #[arg(long)]
    pub(crate) with_bootstrap: bool,
    /// Ask the services afterwards whether anything that costs money is left
    #[arg(long)]
    pub(crate) prove: bool,
    /// Do not ask for the environment's name, here it is
    #[arg(long, value_name = "NAME")]
    pub(crate) yes_delete: Option<String>,
    #[command(flatten)]
    pub(crate) look: LookArgs,
}

/// `inlet template`.
#[derive(Debug, Args)]
pub(crate) struct TemplateArgs {
    /// A file, as in queue, serverless.yaml or staging; the list of all where none is given
    pub(crate) name: Option<String>,
    /// The shape whose environments and parameters are meant
    #[arg(long, value_enum, default_value_t = ShapeName::Serverless)]
    pub(crate) shape: ShapeName,
    /// List the shape's parameters
    #[arg(long, conflicts_with_all = ["name", "diff", "output"])]
    pub(crate) parameters: bool,
    /// List in what two environments differ
    #[arg(long, num_args = 2, value_names = ["ONE", "OTHER"], conflicts_with_all = ["name", "output"])]
    pub(crate) diff: Vec<String>,
    /// Write all files into this directory, to deploy them without Inlet
    #[arg(long, value_name = "DIR", conflicts_with = "name")]
    pub(crate) output: Option<PathBuf>,
}
