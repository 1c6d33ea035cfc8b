//! The tokens that need nobody to make them: the one that the environment gives, the first, and the
//! one for the command line of this machine.

use anyhow::Context;
use inlet_core::auth::list::{self, LOCAL, OUTSIDE, TokenList};
use inlet_core::auth::{Token, new_token_text, token_text};
use inlet_core::error::Error;
use inlet_core::failure::FailureKind;
use inlet_core::ports::{Clock, Secrets};

use crate::data::DataDirectory;
use crate::report::Hinted;

/// The name of the token that is made at the first start.
const FIRST: &str = "first";

/// The token that the environment gives, if it gives one. One that is no secret, or that no
/// client could send, is a usage error: the server would start and answer 401 to everybody, or
/// 202 to anybody.
pub(crate) fn outside() -> anyhow::Result<Option<String>> {
    let Some(given) = std::env::var_os(OUTSIDE).filter(|given| !given.is_empty()) else {
        return Ok(None);
    };
    // What is no UTF-8 is not ASCII either, and is refused for that.
    match token_text(&given.to_string_lossy()) {
        Ok(text) => Ok(Some(text.to_owned())),
        Err(error) => {
            let hint = "give 16 to 512 visible ASCII characters, as `openssl rand -hex 24` prints \
                        them, or unset it: a token is then made at the first start";
            Err(Hinted::usage(format!("{OUTSIDE} is no token: {error}"), hint).into())
        }
    }
}

/// A token for the command line of this machine, good while the process runs.
pub(crate) fn local() -> anyhow::Result<String> {
    new_token_text().context("could not get randomness from the system")
}

/// The tokens that are in no list: the one of the environment, and `local`.
pub(crate) fn unlisted(local: &str) -> anyhow::Result<Vec<Token>> {
    let outside = outside()?.map(|text| list::unlisted(OUTSIDE, &text));
    Ok(outside.into_iter().chain([list::unlisted(LOCAL, local)]).collect())
}

/// A token to tell a person of at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    /// This one, which is kept in the data directory and is in force.
    Text(String),
    /// The one that the environment gives.
    Outside,
    /// One of those in the list, whose texts only their holders have.
    Listed,
    /// None is in force.
    Nothing,
}

/// The token to tell of. The first is made where there is none yet and none is given from outside;
/// where this process may only read the secrets at `url`, as on AWS, none is made, and requests
/// are refused until somebody makes one.
pub(crate) async fn first(
    data: &DataDirectory,
    url: &str,
    secrets: &dyn Secrets,
    clock: &dyn Clock,
) -> anyhow::Result<Known> {
    if outside()?.is_some() {
        return Ok(Known::Outside);
    }
    // Of processes that share a directory, one at a time: its file and the list belong together.
    let _lock = data.lock_token().await?;
    let (list, now) = (TokenList::read(secrets).await?, clock.now());
    // A token that was revoked, or has expired, is not told of.
    if let Some(text) = data.token().filter(|text| list.has(text, now)) {
        return Ok(Known::Text(text));
    }
    if !list.tokens().is_empty() {
        let is_good = list.tokens().iter().any(|token| !token.is_expired(now));
        return Ok(if is_good { Known::Listed } else { Known::Nothing });
    }
    let text = new_token_text().context("could not get randomness from the system")?;
    // Its text comes first: a hash whose text nobody has would be a token that is lost.
    data.keep_token(&text)?;
    let added = list::add_first(secrets, FIRST, &text, now).await;
    if let Ok(true) = added {
        return Ok(Known::Text(text));
    }
    data.forget_token(&text)?;
    match added {
        // Another process, on another directory, made the first.
        Ok(_) => Ok(Known::Listed),
        Err(Error::Failed(failure))
            if failure.kind() == FailureKind::Denied && !url.starts_with("file:") =>
        {
            let hint = "make one with `inlet token add NAME --secrets URL`; it is taken up here";
            tracing::warn!(hint, "there is no token yet, and this process may not make one");
            Ok(Known::Nothing)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

    use async_trait::async_trait;
    use inlet_core::auth::list::LastAdmin;
    use inlet_core::failure::Failure;
    use inlet_core::ports::{Swapped, SystemClock};
    use inlet_testkit::memory::MemorySecrets;

    use super::*;

    /// Secrets that may be read and not written, as a task's role on AWS has it.
    struct ReadOnly;

    #[async_trait]
    impl Secrets for ReadOnly {
        async fn get(&self, _: &str) -> Result<Option<Vec<u8>>, Failure> {
            Ok(Some(b"{}".to_vec()))
        }

        async fn swap(&self, name: &str, _: Option<&[u8]>, _: &[u8]) -> Result<Swapped, Failure> {
            Err(Failure::new(FailureKind::Denied, "keep the secret", name))
        }
    }

    fn directory() -> (tempfile::TempDir, DataDirectory) {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDirectory::open_or_create(directory.path()).unwrap();
        (directory, data)
    }

    #[tokio::test]
    async fn secrets_that_may_only_be_read_get_no_first_token_and_keep_nobody_from_starting() {
        let (_directory, data) = directory();
        let elsewhere = "aws-secrets-manager://tokens";
        for _ in 0..2 {
            let known = first(&data, elsewhere, &ReadOnly, &SystemClock).await.unwrap();
            assert_eq!((known, data.token()), (Known::Nothing, None));
        }
        assert!(first(&data, "file:", &ReadOnly, &SystemClock).await.is_err());
    }

    #[tokio::test]
    async fn of_many_first_starts_at_once_one_makes_the_token_and_nobody_keeps_another() {
        let secrets = MemorySecrets::default();
        let directories: Vec<_> = (0..8).map(|_| directory()).collect();
        let starts = directories.iter().map(|(_, data)| {
            let (data, secrets) = (data.clone(), secrets.clone());
            tokio::spawn(
                async move { first(&data, "file:", &secrets, &SystemClock).await.unwrap() },
            )
        });
        let starts: Vec<_> = starts.collect();
        let mut texts = Vec::new();
        for start in starts {
            match start.await.unwrap() {
                Known::Text(text) => texts.push(text),
                known => assert_eq!(known, Known::Listed),
            }
        }
        let [text] = &texts[..] else { panic!("{} first tokens were made", texts.len()) };
        let list = TokenList::read(&secrets).await.unwrap();
        assert_eq!(list.tokens().len(), 1);
        assert!(list.has(text, SystemClock.now()));
        let kept: Vec<_> = directories.iter().filter_map(|(_, data)| data.token()).collect();
        assert_eq!(kept, texts);
    }

    #[tokio::test]
    async fn of_many_first_starts_at_once_on_one_directory_all_tell_of_the_same_token() {
        let ((_directory, data), secrets) = (directory(), MemorySecrets::default());
        let starts: Vec<_> = (0..8)
            .map(|_| {
                let (data, secrets) = (data.clone(), secrets.clone());
                tokio::spawn(
                    async move { first(&data, "file:", &secrets, &SystemClock).await.unwrap() },
                )
            })
            .collect();
        let known = first(&data, "file:", &secrets, &SystemClock).await.unwrap();
        assert!(matches!(known, Known::Text(_)), "{known:?}");
        for start in starts {
            assert_eq!(start.await.unwrap(), known);
        }
    }

    #[tokio::test]
    async fn a_first_token_that_was_revoked_is_never_told_of_again() {
        let ((_directory, data), secrets) = (directory(), MemorySecrets::default());
        let Known::Text(revoked) = first(&data, "file:", &secrets, &SystemClock).await.unwrap()
        else {
            panic!("there is no first token");
        };
        list::revoke(&secrets, FIRST, LastAdmin::Revoke, SystemClock.now()).await.unwrap();
        // Its file is still there, as where it was revoked on another machine.
        assert_eq!(data.token().as_deref(), Some(&*revoked));
        let Known::Text(made) = first(&data, "file:", &secrets, &SystemClock).await.unwrap() else {
            panic!("there is no new first token");
        };
        assert_ne!(made, revoked);
        assert_eq!(data.token(), Some(made));
    }
}
