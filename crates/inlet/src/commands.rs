//! The commands, one file each; the long-running ones are roles.

mod config;
mod dead_letters;
mod documents;
mod export;
mod files;
mod fsck;
mod migrate;
mod reload;
mod replay;
mod restore;
mod send;
mod status;
mod streams;
mod summarize;
mod token;
mod zone;

use crate::cli::{self, Command, Invocation};
use crate::{bench, roles, signals, wire};

/// Does what the command line asks for.
pub(crate) fn run(invocation: Invocation) -> anyhow::Result<()> {
    let Invocation { command, given, sources, settings } = invocation;
    if !command.is_role() {
        signals::release()?;
    }
    match command {
        Command::Up => roles::up(settings, given),
        Command::Edge => wire::edge(settings, given),
        Command::Serve(args) => roles::serve(settings, &args),
        Command::Persist(args) => roles::persist(settings, &args),
        Command::Status(args) => status::run(&settings, &args),
        Command::Reload(args) => reload::run(&settings, &args),
        Command::Zone(command) => zone::run(&settings, &command),
        Command::Summarize(args) => summarize::run(settings, &args),
        Command::Send(args) => send::run(&settings, &args),
        Command::Get(args) => documents::get(&settings, &args),
        Command::List(args) => documents::list(&settings, &args),
        Command::Tail(args) => documents::tail(&settings, &args),
        Command::Streams(args) => streams::run(&settings, &args),
        Command::DeadLetters(args) => dead_letters::list(&settings, &args),
        Command::Redrive(args) => dead_letters::redrive(&settings, &args),
        Command::File(command) => files::run(&settings, &command),
        Command::Replay(args) => replay::run(&settings, &args),
        Command::Export(args) => export::run(settings, &args),
        Command::Restore(args) => restore::run(settings, &args),
        Command::Fsck(args) => fsck::run(&settings, &args),
        Command::Migrate(args) => migrate::run(&settings, &args),
        Command::Token(command) => token::run(&settings, &command),
        Command::Config(args) => config::run(&settings, &sources, &args),
        Command::Deploy(command) => wire::deploy(command, settings.edge.firewall),
        Command::Bench(args) => bench::run(&settings, &args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut cli::command(), "inlet", &mut std::io::stdout());
            Ok(())
        }
    }
}
