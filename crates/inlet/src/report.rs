//! What a person reads when a command fails: `error:`, `caused by:`, `hint:`, printed once.

use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::process::ExitCode;

use anyhow::Context;
use inlet_core::failure::Failure;

use crate::config::ConfigError;
use crate::lines;

/// An error that knows what a person can do about it.
#[derive(Debug)]
pub(crate) struct Hinted {
    message: String,
    hint: String,
    usage: bool,
}

impl Hinted {
    /// An error with this message and this hint.
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into(), usage: false }
    }

    /// The same for words on the command line that don't fit: exit code 2.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { usage: true, ..Self::new(message, hint) }
    }
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Hinted {}

/// Prints the error with its causes and its hint, and gives the exit code: 2 for what the person
/// typed or set, 1 for everything else.
pub(crate) fn failure(error: &anyhow::Error) -> ExitCode {
    let mut text = format!("error: {error}\n");
    let mut said = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !said.contains(&cause) {
            text.push_str(&format!("caused by: {cause}\n"));
        }
        said = cause;
    }
    if let Some(hint) = hint(error) {
        text.push_str(&format!("hint: {hint}\n"));
    }
    lines::push(text.as_bytes());
    lines::flush();
    let usage = error.downcast_ref::<ConfigError>().is_some()
        || error.downcast_ref::<Hinted>().is_some_and(|hinted| hinted.usage);
    ExitCode::from(if usage { 2 } else { 1 })
}

fn hint(error: &anyhow::Error) -> Option<String> {
    // A hint that was added as context is found by the error, not among its causes.
    if let Some(hinted) = error.downcast_ref::<Hinted>() {
        return Some(hinted.hint.clone()).filter(|hint| !hint.is_empty());
    }
    error.chain().find_map(|cause| {
        if let Some(hinted) = cause.downcast_ref::<Hinted>() {
            return Some(hinted.hint.clone()).filter(|hint| !hint.is_empty());
        }
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return failure.hint_text().map(str::to_owned);
        }
        cause.downcast_ref::<ConfigError>().and_then(ConfigError::hint)
    })
}

/// Prints a line of data on stdout. A reader that went away ends the program quietly, as it does
/// for every filter.
pub(crate) fn data(line: impl fmt::Display) -> anyhow::Result<()> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => Ok(written?),
    }
}

/// Writes data on stdout as it is. A reader that went away ends the program quietly.
pub(crate) fn bytes(data: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout();
    match out.write_all(data).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => written.context("could not write to standard output"),
    }
}

/// Asks on stderr for a yes or a no, and reads it from standard input. The end of that is a no.
pub(crate) fn confirmed(question: &str) -> anyhow::Result<bool> {
    write!(io::stderr(), "{question} [y/N] ").context("could not ask")?;
    let mut line = String::new();
    io::stdin().lock().take(64).read_line(&mut line).context("could not read the answer")?;
    Ok(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Says a line on stderr. Where nobody listens, nothing is lost.
pub(crate) fn say(line: impl fmt::Display) {
    lines::push(format!("{line}\n").as_bytes());
}
