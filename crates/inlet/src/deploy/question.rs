//! Asks a person before something is changed.

use std::io::{BufRead, Write};

use anyhow::Context;

use crate::report::Hinted;

/// Asks whether to go on; anything but `y` or `yes` is no.
pub(super) async fn go_on(what: &str) -> anyhow::Result<()> {
    let answer = ask(&format!("{what} [y/N] ")).await?;
    match answer.as_deref() {
        Some("y" | "yes" | "Y" | "YES") => Ok(()),
        Some(_) => Err(Hinted::new("nothing was changed", "").into()),
        None => Err(Hinted::new("nobody answers", "give --yes to go on without asking").into()),
    }
}

/// Asks for a word; `None` where the input is at its end.
pub(super) async fn ask(question: &str) -> anyhow::Result<Option<String>> {
    let mut out = std::io::stderr();
    write!(out, "{question}").and_then(|()| out.flush()).context("could not ask")?;
    // A thread may wait for a line; what else goes on, a signal above all, must not.
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line)?;
        Ok::<_, std::io::Error>((read > 0).then_some(line))
    });
    let answer = answer.await?.context("could not read the answer")?;
    Ok(answer.map(|line| line.trim().to_owned()))
}
