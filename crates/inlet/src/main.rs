//! The binary: command line, configuration, wiring and roles.
//!
//! Start reading at [`roles::up`]; which engine stands behind which port is decided in [`wire`]
//! and nowhere else.

mod bench;
mod certificate;
mod cli;
mod client;
mod commands;
mod config;
mod control;
mod data;
#[cfg(feature = "deploy")]
mod deploy;
mod lines;
mod moment;
mod owner;
mod report;
mod roles;
mod signals;
mod state;
mod systemd;
mod tokens;
mod wire;

use std::process::ExitCode;

/// With it a request costs less than with the C library's, and an idle connection takes less
/// memory; measured in docs/decisions/0018-mimalloc.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let _fail_points = wire::fail_points();
    let outcome = signals::hold().and_then(|()| cli::parse()).and_then(commands::run);
    match outcome {
        Ok(()) => {
            lines::flush();
            ExitCode::SUCCESS
        }
        Err(error) => report::failure(&error),
    }
}
