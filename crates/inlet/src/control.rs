//! Speaking to a running `up` over a socket in its data directory.
//!
//! A request is one line, an answer one line of JSON; then the connection is over.
//!
//! | request | answer |
//! | --- | --- |
//! | `status` | `{"status": …}` ([`Status`]) |
//! | `reload` | `{"done": "…"}` or `{"refused": "…"}`, once it is through |
//! | `zone down NAME`, `zone up NAME` | the same |
//!
//! Who may open the socket may do all of this: only the owner of the directory can.

pub(crate) mod status;

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use self::status::Status;
use crate::data::DataDirectory;
use crate::report::Hinted;

/// How long an answer may take. A reload waits for one instance after the other.
const ANSWER_WITHIN: Duration = Duration::from_secs(3_600);
/// The directory it is in, in the data directory.
pub(crate) const DIRECTORY: &str = "run";
/// The socket's name in its directory.
pub(crate) const SOCKET: &str = "control.sock";

/// What an `up` answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// How it stands.
    Status(Box<Status>),
    /// What was done.
    Done(String),
    /// Why it was not done.
    Refused(String),
}

/// Asks the `up` of a data directory; `None` where none listens there.
pub(crate) fn ask(data: &DataDirectory, request: &str) -> anyhow::Result<Option<Answer>> {
    let directory = data.join(DIRECTORY);
    let connected = in_directory(&directory, UnixStream::connect);
    let mut stream = match connected {
        Ok(stream) => stream,
        Err(error) if is_nobody_there(&error) => return Ok(None),
        Err(error) => {
            return Err(error)
                .with_context(|| format!("could not speak to {}", directory.display()));
        }
    };
    let asked = stream
        .set_read_timeout(Some(ANSWER_WITHIN))
        .and_then(|()| stream.write_all(format!("{request}\n").as_bytes()));
    asked.context("could not ask the running `inlet up`")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).context("the running `inlet up` did not answer")?;
    let answer = serde_json::from_str(&line)
        .context("the answer of the running `inlet up` is not what was expected")?;
    Ok(Some(answer))
}

/// Has the `up` of a data directory do something, and gives what it says of it.
pub(crate) fn demand(data: &Path, request: &str) -> anyhow::Result<String> {
    let directory = DataDirectory::open(data)?;
    match ask(&directory, request)? {
        Some(Answer::Done(done)) => Ok(done),
        Some(Answer::Refused(reason)) => {
            Err(Hinted::new(reason, "`inlet status` shows how it stands").into())
        }
        Some(Answer::Status(_)) => anyhow::bail!("the running `inlet up` answered something else"),
        None => Err(nobody(&directory)),
    }
}

/// That no `up` with instances runs on a directory.
pub(crate) fn nobody(data: &DataDirectory) -> anyhow::Error {
    Hinted::new(
        format!("no `inlet up` with instances runs on {}", data.path().display()),
        "start one with `inlet up --instances 2 --zones 2`; --data names another directory",
    )
    .into()
}

fn is_nobody_there(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    matches!(error.kind(), NotFound | ConnectionRefused)
}

/// Uses the socket by a path that is short, however long that of the directory is: the system
/// takes no more than 107 bytes.
pub(crate) fn in_directory<T>(
    directory: &Path,
    used: impl FnOnce(PathBuf) -> std::io::Result<T>,
) -> std::io::Result<T> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let held = rustix::fs::open(directory, flags, Mode::empty())?;
    used(PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd())).join(SOCKET))
}
