//! The command line.

pub(crate) mod deploy;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Context;
use clap::builder::NonEmptyStringValueParser;
use clap::{Arg, ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::{ConfigError, Role, SETTINGS, Setting, Settings, Sources};
use crate::report::Hinted;
use crate::wire;

use self::deploy::{DeployCommand, LookArgs, ShapeName};

/// Takes JSON over HTTPS, answers once it is safe, stores it once, and sums it up every week.
#[derive(Debug, Parser)]
#[command(name = "inlet", version, max_term_width = 100, propagate_version = true)]
#[command(after_help = "Every setting is also a variable (INLET_HTTPS) and a line in inlet.toml; \
`inlet config` lists them all, with where each value came from.")]
pub(crate) struct Cli {
    /// The file with settings; ./inlet.toml where there is one
    #[arg(long, env = "INLET_CONFIG", global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything on this machine: the API, the persist worker and the weekly summary
    Up,
    /// Run an edge before instances: TLS, load balancing over zones, limits, firewall rules
    Edge,
    /// Run one API instance
    Serve(ChildArgs),
    /// Run one persist worker, which moves documents from the queue to the store
    Persist(ChildArgs),
    /// Print how the instances of a running `up` stand
    Status(StatusArgs),
    /// Replace the instances of a running `up` one at a time, with its settings read anew
    Reload(JsonArgs),
    /// Take a zone of a running `up` out of use, or back into it
    #[command(subcommand)]
    Zone(ZoneCommand),
    /// Write the summary of a week, and a full backup beside it
    Summarize(SummarizeArgs),
    /// Send documents from NDJSON files; sent again, a file adds only what is new
    ///
    /// Each document has an idempotency key that follows from the file, from its bytes, and from how
    /// often these bytes stood in the file before. Sent again, a file adds exactly the documents
    /// that were not accepted before: after an interruption, with refused lines mended, with lines
    /// added anywhere, with another --batch. A line that was changed is a new document; the one
    /// before stays. Equal lines are as many documents as there are lines.
    ///
    /// A file is the same one while its path on this machine is. Standard input, and a pipe, is a
    /// sending of its own each time; requests that are repeated within it add nothing twice. With
    /// --run NAME everything sent under that name is one sending: give it to go on with standard
    /// input, or from another machine, and another name for a file that was filled anew with
    /// documents that may equal older ones.
    ///
    /// The result counts `new`, `already there` (accepted before, as far as the server can see: in
    /// the keys that this instance saw lately, and in the store) and `refused`. The exit code is 1
    /// if any was refused.
    Send(SendArgs),
    /// Print a document, byte for byte
    Get(GetArgs),
    /// List documents, oldest first
    List(ListArgs),
    /// Print documents as they are stored
    Tail(TailArgs),
    /// Put, get, list and delete files
    #[command(subcommand)]
    File(FileCommand),
    /// List streams with their figures
    Streams(RemoteArgs),
    /// List dead letters with their causes
    DeadLetters(DeadLettersArgs),
    /// Send dead letters back to the queue
    Redrive(RedriveArgs),
    /// Read stored documents of a time range out again, at a capped rate
    ///
    /// Documents that a sink does not take for the moment are sent again, with pauses that grow. A
    /// replay to a URL that broke off goes on where it was when the same command is run again; what
    /// was sent in its last half second may be sent twice, with the same Idempotency-Key.
    Replay(ReplayArgs),
    /// Write all documents as NDJSON
    Export(ExportArgs),
    /// Read a backup into an empty store
    Restore(RestoreArgs),
    /// Check the queue's log for damage
    Fsck(FsckArgs),
    /// Make what the store needs, or bring it to what this binary needs
    ///
    /// Only adds, so that the binary before this one goes on working: run it first, then replace
    /// the binary, then take away with --contract what only the old one used.
    Migrate(MigrateArgs),
    /// List, add and revoke tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Print the settings in force, and where each came from
    Config(JsonArgs),
    #[command(flatten)]
    Deploy(DeployCommand),
    /// Measure how many documents a second are accepted and kept
    Bench(BenchArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// Returns true if it runs until it is stopped, and listens for signals itself.
    pub(crate) fn is_role(&self) -> bool {
        matches!(self, Self::Up | Self::Edge | Self::Serve(_) | Self::Persist(_))
    }

    /// Whether it is a child of `up`.
    fn is_supervised(&self) -> bool {
        matches!(self, Self::Serve(args) | Self::Persist(args) if args.supervised)
    }
}

/// `--json`.
#[derive(Debug, Clone, Args)]
pub(crate) struct JsonArgs {
    /// Print JSON, a line an item
    #[arg(long)]
    pub(crate) json: bool,
}

/// How a role is told that it is a child of `up`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ChildArgs {
    /// Say where it listens as JSON on stdout, and end when stdin does
    #[arg(long, hide = true)]
    pub(crate) supervised: bool,
}

/// `inlet status`.
#[derive(Debug, Clone, Args)]
pub(crate) struct StatusArgs {
    /// Tell of this environment on AWS instead of a server
    #[arg(long, value_name = "NAME")]
    pub(crate) env: Option<String>,
    /// How it stands there; the one that there is where none is given
    #[arg(long, value_enum, requires = "env")]
    pub(crate) shape: Option<ShapeName>,
    #[command(flatten)]
    pub(crate) look: LookArgs,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// `inlet zone …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ZoneCommand {
    /// Start its instances in the other zones, then end those in it
    Down {
        /// Its name
        name: String,
    },
    /// Start its instances in it again
    Up {
        /// Its name
        name: String,
    },
}

/// Which server is talked to.
#[derive(Debug, Clone, Args)]
pub(crate) struct RemoteArgs {
    /// The server; https:// where no scheme is given [default: the one on the data directory]
    #[arg(long, env = "INLET_URL", value_name = "URL", hide_env_values = true)]
    pub(crate) url: Option<String>,
    /// The token [default: that of the data directory, for the server on it alone]
    #[arg(long, env = "INLET_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Certificates to trust besides the public ones, in PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

/// `inlet summarize`.
#[derive(Debug, Args)]
pub(crate) struct SummarizeArgs {
    /// The ISO 8601 week; the last one that is over where none is given
    #[arg(long, value_name = "2026-W47")]
    pub(crate) week: Option<String>,
    /// Write no backup
    #[arg(long)]
    pub(crate) no_backup: bool,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

/// `inlet send`.
#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// Files with one JSON document a line; - for standard input
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// The stream
    #[arg(long, default_value = "default", value_name = "NAME")]
    pub(crate) stream: String,
    /// How many documents go into one request
    #[arg(long, default_value = "500", value_name = "N")]
    pub(crate) batch: NonZeroUsize,
    /// Everything sent under one name is one sending [default: a file by its path; standard input
    /// each time anew]
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) run: Option<String>,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// `inlet file …`.
#[derive(Debug, Subcommand)]
pub(crate) enum FileCommand {
    /// Put a file; run again, one that broke off goes on where it was
    Put {
        /// The file; - for standard input, which can't be gone on with
        file: PathBuf,
        /// Its key; the file's name where none is given
        key: Option<String>,
        /// Its media type; by its name's ending where none is given
        #[arg(long, value_name = "TYPE")]
        content_type: Option<String>,
        /// Refuse to replace a file that is there
        #[arg(long)]
        new: bool,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Get a file; run again, one that broke off goes on where it was
    Get {
        /// Its key
        key: String,
        /// Where it is written to; standard output where none is given
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// List files in the order of their keys
    List {
        /// What the keys begin with
        #[arg(default_value = "")]
        prefix: String,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Delete a file
    Delete {
        /// Its key
        key: String,
        #[command(flatten)]
        remote: RemoteArgs,
    },
}

/// The range of documents.
#[derive(Debug, Clone, Args)]
pub(crate) struct RangeArgs {
    /// Only of this stream
    #[arg(long, value_name = "NAME")]
    pub(crate) stream: Option<String>,
    /// Received at this moment or later: 2026-11-29T10:00:00Z, or a day, 2026-11-29
    #[arg(long, value_name = "MOMENT")]
    pub(crate) from: Option<String>,
    /// Received before this moment, or before this day
    #[arg(long, value_name = "MOMENT")]
    pub(crate) to: Option<String>,
    /// Received within this time, by the server's clock: 90s, 15m, 1h, 2d, 1w
    #[arg(long, value_name = "SPAN", conflicts_with = "from")]
    pub(crate) since: Option<String>,
}

/// `inlet get`.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// The document's id, or at least 8 of its first digits
    pub(crate) id: String,
    /// Print what is known of it beside the document, as JSON
    #[arg(long)]
    pub(crate) full: bool,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// `inlet list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) range: RangeArgs,
    /// The most documents to list, from the oldest on
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub(crate) limit: usize,
    /// The newest, that many; at most 1000
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=1000),
        conflicts_with_all = ["limit", "from", "to", "since"],
    )]
    pub(crate) last: Option<u16>,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// `inlet tail`.
#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    #[command(flatten)]
    pub(crate) range: RangeArgs,
    /// Stop after this many documents
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// `inlet dead-letters`.
#[derive(Debug, Args)]
pub(crate) struct DeadLettersArgs {
    /// Conditions, as in stream=orders,cause=refused
    #[arg(long = "where", default_value = "", value_name = "CONDITIONS")]
    pub(crate) filter: String,
    /// How many at most
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub(crate) limit: usize,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// `inlet redrive`.
#[derive(Debug, Args)]
pub(crate) struct RedriveArgs {
    /// Conditions, as in stream=orders,cause=refused; all where none are given
    #[arg(long = "where", default_value = "", value_name = "CONDITIONS")]
    pub(crate) filter: String,
    /// Only count them
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// `inlet replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// URL that each document is posted to, with its id as Idempotency-Key; - prints them as NDJSON
    #[arg(long, default_value = "-", value_name = "URL")]
    pub(crate) to_url: String,
    /// A header for there, as in 'Authorization: Bearer TOKEN'
    #[arg(long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
    /// Begin anew, where the same replay broke off before
    #[arg(long)]
    pub(crate) restart: bool,
    #[command(flatten)]
    pub(crate) range: RangeArgs,
    /// The most documents a second, those that are sent again included
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: u32,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// `inlet export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The format
    #[arg(long, default_value = "ndjson", value_parser = ["ndjson"])]
    pub(crate) format: String,
    #[command(flatten)]
    pub(crate) range: RangeArgs,
    /// Where to; standard output where no file is given
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// `inlet restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The week of the backup [default: the newest]
    #[arg(long, value_name = "2026-W47")]
    pub(crate) week: Option<String>,
    /// A bucket (a directory or s3://BUCKET/PREFIX), a folder with a backup's two files, or the
    /// files; only read [default: the bucket of the settings]
    #[arg(long, value_name = "PLACE", num_args = 1..=2)]
    pub(crate) from: Vec<String>,
    /// Go on although the store has documents
    #[arg(long)]
    pub(crate) into_nonempty: bool,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

/// `inlet migrate`.
#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// Take away what only older binaries used; none of them may run any more
    #[arg(long)]
    pub(crate) contract: bool,
    /// Let this database role read and write, and no more; it is made where the secrets have one
    /// named `app`, its password
    #[arg(long, value_name = "ROLE")]
    pub(crate) grant: Option<String>,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

/// `inlet fsck`.
#[derive(Debug, Args)]
pub(crate) struct FsckArgs {
    /// Set damaged records aside and keep the rest
    #[arg(long)]
    pub(crate) repair: bool,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

/// `inlet token …`.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// List tokens with their rights, and when they were last used
    List(RemoteArgs),
    /// Make a token and print it, once
    Add(TokenAddArgs),
    /// Revoke the token with that name
    Revoke(TokenRevokeArgs),
}

/// `inlet token add`.
#[derive(Debug, Args)]
pub(crate) struct TokenAddArgs {
    /// Its name
    pub(crate) name: String,
    /// What it is good for: save, read, admin
    #[arg(long, value_delimiter = ',', default_value = "save,read", value_name = "SCOPE,…")]
    pub(crate) scopes: Vec<String>,
    /// Limit it to these streams
    #[arg(long, value_delimiter = ',', value_name = "STREAM,…")]
    pub(crate) streams: Option<Vec<String>>,
    /// Refuse it from this moment or day on, or after a span as in 90d [default: never]
    #[arg(long, value_name = "MOMENT")]
    pub(crate) expires: Option<String>,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// `inlet token revoke`.
#[derive(Debug, Args)]
pub(crate) struct TokenRevokeArgs {
    /// Its name
    pub(crate) name: String,
    /// Revoke it without asking, even as the last one that may administer
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// `inlet bench`.
#[derive(Debug, Clone, Args)]
pub(crate) struct BenchArgs {
    /// The server [default: one of its own, on a new directory]
    ///
    /// Documents go into a stream of their own, and are erased afterwards; the summary of the week
    /// counts them. It asks first.
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// A token of that server, with the scopes save, read and admin
    #[arg(long, env = "INLET_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Certificates to trust besides the public ones, in PEM
    #[arg(long, value_name = "FILE", requires = "url")]
    pub(crate) cacert: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    /// Connections
    #[arg(long, default_value_t = 64, value_name = "N")]
    pub(crate) connections: usize,
    /// The size of a document, in bytes
    #[arg(long, default_value_t = 256, value_name = "BYTES")]
    pub(crate) body_bytes: usize,
    /// Documents in one request; above 1 they go to /api/save/batch
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) batch: usize,
    /// How long to measure, after a warm-up of a fifth of it
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    pub(crate) seconds: f64,
    /// Send at this fixed rate, whatever comes back (open loop); as fast as answers come where
    /// none is given (closed loop)
    #[arg(long, value_name = "PER_SECOND")]
    pub(crate) rate: Option<f64>,
    /// Also wait until every document is in the store, and count until then
    #[arg(long)]
    pub(crate) stored: bool,
    /// Talk TLS to a server of its own
    #[arg(long, conflicts_with = "url")]
    pub(crate) tls: bool,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

/// What was asked for, with the settings in force.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) command: Command,
    pub(crate) given: Given,
    pub(crate) sources: Sources,
    pub(crate) settings: Settings,
}

/// What settings are read from, so that they can be read again.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    /// The settings given as flags.
    pub(crate) flags: Vec<(&'static str, String)>,
    /// The file with settings; `None` where there is none.
    pub(crate) file: Option<PathBuf>,
}

impl Given {
    /// The values in force at this moment.
    pub(crate) fn read(&self) -> Result<Sources, ConfigError> {
        let mut variables = Vec::new();
        for (name, value) in std::env::vars_os() {
            let Ok(name) = name.into_string() else { continue };
            if name.starts_with("INLET_") {
                let text = value.into_string();
                let text = text.map_err(|_| ConfigError::NotText { name: name.clone() })?;
                variables.push((name, text));
            }
        }
        Sources::read(self.flags.iter().cloned(), variables, self.file.as_deref())
    }
}

/// The whole command line, for help and completions: the commands, and a flag for each setting,
/// hidden where the command does not honour it. Refusing it is better done by
/// [`Sources::check`], which knows where it belongs.
pub(crate) fn command() -> clap::Command {
    command_without(wire::COMMANDS_MISSING)
}

/// The same for a build without these commands: they are not in its help, and take any words, so
/// that who types one is told which build has it.
fn command_without(missing: &[&str]) -> clap::Command {
    let flags = |role: Option<Role>| {
        SETTINGS.iter().map(move |setting| {
            let is_hidden = role.is_some_and(|role| !setting.is_honoured_by(role));
            flag(setting).hide(is_hidden)
        })
    };
    // Those of the commands themselves stand before those of all, which are for what stands
    // before the command's name.
    let commands = Cli::command().mut_subcommands(|command| {
        let role = Role::of_command(command.get_name());
        with_flags(command, &|| flags(role).collect())
    });
    let mut commands = commands.args(flags(None).map(|flag| flag.global(true)));
    for name in missing.iter().copied() {
        commands = commands.mut_subcommand(name, |_| {
            let words = Arg::new("words").num_args(0..).trailing_var_arg(true);
            let words = words.allow_hyphen_values(true);
            clap::Command::new(name.to_owned()).hide(true).disable_help_flag(true).arg(words)
        });
    }
    if !missing.is_empty() {
        commands = commands.mut_subcommand("status", |status| {
            status.mut_arg("env", |flag| flag.hide(true)).mut_arg("shape", |flag| flag.hide(true))
        });
    }
    commands
}

/// Refuses a command that is among those `missing` in this build.
fn refuse_missing(name: &str, missing: &[&str]) -> Result<(), Hinted> {
    if !missing.contains(&name) {
        return Ok(());
    }
    let hint = "a build with --features full has it";
    Err(Hinted::usage(format!("`inlet {name}` is not in this build"), hint))
}

fn with_flags(command: clap::Command, flags: &dyn Fn() -> Vec<Arg>) -> clap::Command {
    command.args(flags()).mut_subcommands(|inner| with_flags(inner, flags))
}

fn flag(setting: &'static Setting) -> Arg {
    let help = match setting.default {
        "" => setting.doc.to_owned(),
        default => format!("{} [default: {default}]", setting.doc),
    };
    Arg::new(setting.name)
        .long(setting.name.replace('_', "-"))
        .value_name(setting.value)
        .help(help)
        .help_heading("Settings")
        .action(if setting.is_list { ArgAction::Append } else { ArgAction::Set })
        .hide_short_help(!matches!(setting.name, "data" | "https" | "http" | "queue" | "store"))
}

/// Reads the command line, the variables and the settings file. Help, version and words that do
/// not fit end the process here, as clap does it.
///
/// # Errors
/// A setting that can't be read, or that the command can't honour.
pub(crate) fn parse() -> anyhow::Result<Invocation> {
    let matches = command().get_matches();
    refuse_missing(matches.subcommand_name().unwrap_or_default(), wire::COMMANDS_MISSING)?;
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let default_file = PathBuf::from("inlet.toml");
    let file = cli.config.or_else(|| default_file.exists().then_some(default_file));
    let given = Given { flags: flags(&matches), file };
    let sources = given.read()?;
    let name = matches.subcommand_name().unwrap_or_default();
    let role = Role::of_command(name).with_context(|| format!("`{name}` has no role"))?;
    let is_supervised = cli.command.is_supervised();
    if !is_supervised {
        sources.check(name, role)?;
    }
    let mut settings = Settings::read(&sources, role)?;
    if is_supervised {
        // The doors with HTTPS and those behind balancers are the edge's.
        settings.needs_https = None;
        settings.proxy_protocol.clear();
    }
    Ok(Invocation { command: cli.command, given, sources, settings })
}

/// The settings given as flags, before or behind the command.
fn flags(matches: &ArgMatches) -> Vec<(&'static str, String)> {
    let mut innermost = matches;
    while let Some((_, inner)) = innermost.subcommand() {
        innermost = inner;
    }
    let given = |name| {
        let texts: Vec<&str> = innermost.get_many::<String>(name)?.map(String::as_str).collect();
        Some((name, texts.join(" ")))
    };
    SETTINGS.iter().filter_map(|setting| given(setting.name)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

    use super::*;

    #[test]
    fn a_command_that_this_build_has_not_is_not_in_its_help_and_typed_says_which_build_has_it() {
        let missing = ["plan", "deploy", "destroy", "template"];
        let help = command_without(&missing).render_help().to_string();
        let listed = |name: &str| help.lines().any(|line| line.trim_start().starts_with(name));
        assert!(listed("status") && missing.iter().all(|name| !listed(name)), "{help}");
        for words in [&["plan"][..], &["deploy", "--env", "x", "--yes"], &["destroy", "--help"]] {
            let words = [&["inlet"], words].concat();
            let matches = command_without(&missing).try_get_matches_from(&words).unwrap();
            let name = matches.subcommand_name().unwrap();
            let refused = refuse_missing(name, &missing).unwrap_err().to_string();
            assert!(refused.contains(name) && refused.contains("not in this build"), "{refused}");
        }
        let status = command_without(&missing).find_subcommand("status").unwrap().clone();
        let is_hidden = |flag: &clap::Arg| flag.get_id() == "env" && flag.is_hide_set();
        assert!(status.get_arguments().any(is_hidden));
        refuse_missing("list", &missing).unwrap();
    }

    #[test]
    fn every_command_has_a_role_and_shows_the_flags_that_it_honours() {
        let mut all = command_without(&[]);
        all.build();
        for subcommand in all.get_subcommands().filter(|it| it.get_name() != "help") {
            let name = subcommand.get_name();
            let role = Role::of_command(name).unwrap_or_else(|| panic!("{name} has no role"));
            for setting in SETTINGS {
                let flag = subcommand.get_arguments().find(|flag| flag.get_id() == setting.name);
                let is_shown = !flag.unwrap().is_hide_set();
                assert_eq!(is_shown, setting.is_honoured_by(role), "{name} --{}", setting.name);
            }
        }
    }
}
