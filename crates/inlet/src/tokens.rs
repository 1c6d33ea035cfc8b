//! The tokens at the start of a process: the one that the environment gives, the first, the one for
//! the command line of this machine, and those that were known last where the secrets are away.
//!
//! Secrets elsewhere may be away at a start. Until they can be read, the hashes that this data
//! directory has of their tokens are in force, for [`COPY_US_MAX`] after they were last read; a
//! token that is not among them is answered `503`, never `401`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use inlet_core::auth::list::{self, LOCAL, OUTSIDE, TokenList};
use inlet_core::auth::register::TokenRegister;
use inlet_core::auth::{Token, new_token_text, token_text};
use inlet_core::document::Timestamp;
use inlet_core::error::Error;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::{Clock, Secrets};
use serde::{Deserialize, Serialize};

use crate::data::{self, DataDirectory};
use crate::report::Hinted;

/// The name of the token that is made at the first start.
const FIRST: &str = "first";

/// The longest time the start of a process waits for the tokens.
const READ_MAX: Duration = Duration::from_secs(2);
/// For how long after they were read the tokens of secrets elsewhere are good without them, in
/// microseconds: a day. One that is revoked while the secrets are away is good until they are
/// back, here as in a process that runs.
pub(crate) const COPY_US_MAX: i64 = 86_400_000_000;
/// The greatest age of the copy of tokens that did not change, in microseconds: ten minutes.
const COPY_EVERY_US: i64 = 600_000_000;

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
    /// The secrets could not be read yet.
    Unread,
}

/// The tokens in force from the start on, with `local`, and the one to tell of. Where the secrets
/// are away the list is the one that was known last.
///
/// # Errors
/// Failures that never pass: a secret that is no list of tokens, a directory that can't be written.
pub(crate) async fn at_start(
    copy: &Copy,
    secrets: &Arc<dyn Secrets>,
    local: &str,
    clock: &dyn Clock,
) -> anyhow::Result<(TokenRegister, Known)> {
    let unlisted = unlisted(local)?;
    let read = tokio::time::timeout(READ_MAX, async {
        let known = first(&copy.data, &copy.url, &**secrets, clock).await?;
        let register = TokenRegister::open(Arc::clone(secrets), unlisted.clone()).await?;
        anyhow::Ok((register, known))
    });
    match read.await {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(error)) if !is_passing(&error) => Err(error),
        Ok(Err(_)) | Err(_) => {
            let list = copy.read(clock.now()).unwrap_or_default();
            let tokens = list.tokens().len();
            tracing::warn!(tokens, "the secrets can't be read: those known last are in force");
            let register = TokenRegister::unread(Arc::clone(secrets), unlisted, list);
            let known = if outside()?.is_some() { Known::Outside } else { Known::Unread };
            Ok((register, known))
        }
    }
}

/// Returns true if the same may succeed later.
fn is_passing(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let failure = cause.downcast_ref::<Failure>();
        failure.is_some_and(Failure::is_retryable)
            || matches!(cause.downcast_ref::<Error>(), Some(Error::Failed(failure))
                if failure.is_retryable())
    })
}

/// The copy of the tokens of secrets elsewhere: hashes alone, readable by the owner alone.
#[derive(Debug, Clone)]
pub(crate) struct Copy {
    data: DataDirectory,
    /// The URL of the secrets.
    url: String,
}

#[derive(Serialize, Deserialize)]
struct Copied {
    /// The hash of the URL of the secrets.
    secrets: String,
    /// The moment they were read, in microseconds since the epoch.
    read_us: i64,
    list: TokenList,
}

impl Copy {
    /// The name of the file in the data directory.
    const FILE: &'static str = "tokens.json";

    /// The copy of the secrets at `url`.
    pub(crate) fn new(data: &DataDirectory, url: &str) -> Self {
        Self { data: data.clone(), url: url.to_owned() }
    }

    /// Copies the list that was read at `now`, unless it lies on this machine anyway.
    pub(crate) async fn write(&self, list: &TokenList, now: Timestamp) {
        if self.url.starts_with("file:") {
            return;
        }
        let copied = Copied {
            secrets: data::hash_of(&self.url),
            read_us: now.as_micros(),
            list: list.clone(),
        };
        let (data, bytes) = (self.data.clone(), serde_json::to_vec(&copied));
        let writing = tokio::task::spawn_blocking(move || {
            data.replace_own(Self::FILE, &bytes.context("could not write the tokens as JSON")?)
        });
        match writing.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = %format!("{error:#}"), "no copy of the tokens for a start without the secrets");
            }
            Err(error) => tracing::error!(%error, "no copy of the tokens"),
        }
    }

    /// Returns true if a copy made at `then` is to be made anew though nothing has changed.
    pub(crate) fn is_old(then: Timestamp, now: Timestamp) -> bool {
        now.as_micros().saturating_sub(then.as_micros()) >= COPY_EVERY_US
    }

    /// The list that was copied last, if it is of the same secrets and fresh enough.
    fn read(&self, now: Timestamp) -> Option<TokenList> {
        let bytes = std::fs::read(self.data.join(Self::FILE)).ok()?;
        let copied: Copied = serde_json::from_slice(&bytes).ok()?;
        let age_us = now.as_micros().saturating_sub(copied.read_us);
        // A clock that went back by more than that makes a copy of the future.
        let is_fresh = age_us.saturating_abs() <= COPY_US_MAX;
        (copied.secrets == data::hash_of(&self.url) && is_fresh).then_some(copied.list)
    }
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

    #[tokio::test]
    async fn tokens_of_secrets_elsewhere_are_known_for_a_day_without_them() {
        let (_directory, data) = directory();
        let secrets = MemorySecrets::default();
        let now = Timestamp::from_micros(1_795_240_800_000_000);
        list::add_first(&secrets, FIRST, "inlet_text", now).await.unwrap();
        let list = TokenList::read(&secrets).await.unwrap();
        let copy = Copy::new(&data, "aws-secrets-manager://one");
        assert_eq!(copy.read(now), None);
        copy.write(&list, now).await;
        assert_eq!(copy.read(now).as_ref(), Some(&list));
        assert_eq!(Copy::new(&data, "aws-secrets-manager://two").read(now), None);
        let after = |us: i64| Timestamp::from_micros(now.as_micros() + us);
        assert!(copy.read(after(COPY_US_MAX)).is_some());
        assert_eq!(copy.read(after(COPY_US_MAX + 1)), None);
        assert_eq!(copy.read(after(-COPY_US_MAX - 1)), None);
        let file = data.join(Copy::FILE);
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(&file).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
        assert!(!std::fs::read_to_string(&file).unwrap().contains("inlet_text"));
        // Tokens that lie on this machine are not copied.
        let local = Copy::new(&data, "file:");
        std::fs::remove_file(&file).unwrap();
        local.write(&list, now).await;
        assert!(!file.exists());
    }

    #[tokio::test]
    async fn without_the_secrets_a_start_knows_the_tokens_that_were_copied_and_refuses_no_other() {
        let (_directory, data) = directory();
        let (secrets, clock) = (MemorySecrets::default(), SystemClock);
        list::add_first(&secrets, FIRST, "inlet_text", clock.now()).await.unwrap();
        let copy = Copy::new(&data, "aws-secrets-manager://one");
        copy.write(&TokenList::read(&secrets).await.unwrap(), clock.now()).await;
        let away: Arc<dyn Secrets> = Arc::new(Away);
        let (register, known) = at_start(&copy, &away, "inlet_local", &clock).await.unwrap();
        assert_eq!(known, Known::Unread);
        let tokens = register.tokens();
        let save = inlet_core::auth::Scope::Save;
        assert!(tokens.authorize(Some("inlet_text"), save, clock.now()).is_ok());
        match tokens.authorize(Some("another"), save, clock.now()) {
            Err(Error::Failed(failure)) => assert!(failure.is_retryable()),
            other => panic!("{other:?}"),
        }
    }

    /// Secrets that can't be reached.
    struct Away;

    #[async_trait]
    impl Secrets for Away {
        async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
            Err(Failure::new(FailureKind::Unavailable, "read the secret", name))
        }

        async fn swap(&self, name: &str, _: Option<&[u8]>, _: &[u8]) -> Result<Swapped, Failure> {
            Err(Failure::new(FailureKind::Unavailable, "keep the secret", name))
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
