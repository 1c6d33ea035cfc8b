//! One process: what it opens, what runs in it, and how it ends.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use inlet_core::accept::Intake;
use inlet_core::auth::{Scope, Tokens};
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::health::Health;
use inlet_core::persist::Persister;
use inlet_core::ports::{Clock, Secrets, SystemClock};
use inlet_http::{App, Instance, Metrics, RecentFigures};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout_at};

use super::doors::Doors;
use super::stop::{Reason, Stop};
use super::watched::Watched;
use super::{parent, persist, serve, summary, watch};
use crate::config::Settings;
use crate::data::{DataDirectory, Running};
use crate::report::{self, Hinted};
use crate::systemd;
use crate::tokens::{self, TokenFile};
use crate::wire::{self, Engines, QueueUse};

/// The name of the token that is made at the first start.
const FIRST_TOKEN: &str = "first";

/// How long the end may take beyond the time that answering takes.
const END_GRACE: Duration = Duration::from_secs(5);

/// What runs in a process.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Parts {
    pub(super) serve: bool,
    pub(super) persist: bool,
    pub(super) summarize: bool,
    /// Whether the data directory is this process's alone.
    pub(super) alone: bool,
    /// Whether it is a child of `up`, which it tells where it listens and whose end is its own.
    pub(super) supervised: bool,
}

/// Runs these parts until the process is asked to stop or can't go on.
pub(super) fn run(settings: Settings, parts: Parts) -> anyhow::Result<()> {
    wire::log_lines(&settings)?;
    let data = DataDirectory::open_or_create(&settings.data)?;
    let _lock = if parts.alone { Some(data.lock()?) } else { None };
    wire::block_on(run_in(settings, parts, data))?
}

async fn run_in(settings: Settings, parts: Parts, data: DataDirectory) -> anyhow::Result<()> {
    // Ports are taken first: nothing is opened or made for a process that can't listen.
    let doors = if parts.serve { Some(Doors::open(&settings)?) } else { None };
    let stop = Stop::new();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let health = Health::new(Arc::clone(&clock));
    let watched = Watched::new(stop.clone(), health.clone());
    if parts.supervised {
        parent::end_with_it(&watched, &stop, settings.shutdown)?;
    }
    let instance = data.instance(settings.instance.as_deref())?;
    let engines = Engines::open(&settings, &data).await?;
    if let Some(password) = engines.password.clone() {
        let (secrets, stop) = (Arc::clone(&engines.secrets), stop.clone());
        watched.restarted_task("password", move || {
            watch::password(Arc::clone(&secrets), password.clone(), stop.clone())
        });
    }
    let queue_use = match (parts.serve, parts.persist) {
        (true, true) => QueueUse::Both,
        (true, false) => QueueUse::Send,
        (false, _) => QueueUse::Receive,
    };
    let queue = wire::queue(&settings, &data, &instance, &engines, queue_use).await?;
    let metrics = Arc::new(Metrics::default());

    let mut threads = Vec::new();
    let mut announced = None;
    if let Some(doors) = doors {
        let first_token = first_token(&data, &settings.secrets, &*engines.secrets, &*clock).await?;
        let book = TokenFile::read(&*engines.secrets).await?.book(tokens::outside().as_deref());
        let tokens = Tokens::new(book);
        watched.restarted_task("tokens", {
            let (secrets, tokens) = (Arc::clone(&engines.secrets), tokens.clone());
            let stop = stop.clone();
            move || watch::tokens(Arc::clone(&secrets), tokens.clone(), stop.clone())
        });
        let intake = intake(&settings, tokens, &clock, &engines, &queue).await;
        let app = Arc::new(App {
            intake: Arc::new(intake),
            store: Arc::clone(&engines.store),
            queue: Arc::clone(&queue.queue),
            bucket: Arc::clone(&engines.bucket),
            cache: Arc::clone(&engines.cache),
            clock: Arc::clone(&clock),
            health: health.clone(),
            instance: Instance::new(
                &instance,
                &settings.zone,
                env!("CARGO_PKG_VERSION"),
                clock.now(),
            ),
            metrics: Arc::clone(&metrics),
            pages: wire::pages(&settings)?,
            figures: RecentFigures::default(),
        });
        let listening = doors.listening()?;
        threads.extend(serve::start(&settings, &data, doors, app, &queue, &watched, &stop)?);
        let running = Running {
            pid: std::process::id(),
            instance: instance.clone(),
            https: listening.https,
            http: listening.http,
            plain: listening.plain,
        };
        if parts.supervised {
            parent::tell(&running)?;
        } else {
            announced = Some(data.announce(&running)?);
            banner(&data, &running, first_token.as_deref())?;
        }
    }
    if let (false, Some(log)) = (parts.persist, &queue.log) {
        let (log, store, stop) = (Arc::clone(log), Arc::clone(&engines.store), stop.clone());
        watched.restarted_task("drained", move || {
            watch::drained(Arc::clone(&log), Arc::clone(&store), stop.clone())
        });
    }
    if parts.persist {
        let persister = Persister {
            queue: Arc::clone(&queue.queue),
            store: Arc::clone(&engines.store),
            clock: Arc::clone(&clock),
            calendar: settings.calendar.clone(),
            limits: settings.limits.clone(),
        };
        if parts.supervised {
            parent::tell(&Running::nowhere(&instance))?;
            let (metrics, stop) = (Arc::clone(&metrics), stop.clone());
            watched.restarted_task("figures", move || {
                parent::tell_figures(Arc::clone(&metrics), stop.clone())
            });
        }
        let (metrics, stop) = (Arc::clone(&metrics), stop.clone());
        let part = Arc::new(health.part(persist::PART));
        threads.push(watched.restarted_thread("persist", move || {
            persist::run(persister.clone(), Arc::clone(&metrics), Arc::clone(&part), stop.clone())
        })?);
    }
    if parts.summarize {
        let summarizer = wire::summarizer(&settings, &engines, &clock)?;
        let stop = stop.clone();
        threads.push(
            watched.restarted_thread("summary", move || {
                summary::run(summarizer.clone(), stop.clone())
            })?,
        );
    }

    let hangups = stop.clone();
    watched.restarted_task("hangups", move || ignore_sighup(hangups.clone()));
    systemd::ready();
    let mut reason = wait_for_the_end(&stop).await?;
    let until = Instant::now() + settings.shutdown + END_GRACE;
    for thread in threads {
        if let Err(error) = thread.join(until).await
            && reason == Reason::Asked
        {
            reason = Reason::Failed(error.to_string());
        }
    }
    if timeout_at(until, queue.release()).await.is_err() {
        tracing::info!("the queue is away: what was received comes back to it later");
    }
    if timeout_at(until, engines.close()).await.is_err() {
        tracing::info!("the store is away: the next start reads its write-ahead log");
    }
    drop(announced);
    match reason {
        Reason::Asked => Ok(()),
        Reason::Failed(why) => Err(Hinted::new(
            why,
            "nothing that was acknowledged is lost; start it again, it recovers by itself",
        )
        .into()),
    }
}

async fn intake(
    settings: &Settings,
    tokens: Tokens,
    clock: &Arc<dyn Clock>,
    engines: &Engines,
    queue: &wire::WiredQueue,
) -> Intake {
    let intake = Intake::new(
        tokens,
        settings.limits.clone(),
        Arc::clone(clock),
        Arc::clone(&queue.queue),
        Some(Arc::clone(&engines.store)),
    );
    match engines.store.streams().await {
        Ok(streams) => intake.know_streams(streams.into_iter().map(|figures| figures.stream)),
        // The door opens without the store; the limit counts from what comes.
        Err(failure) => tracing::warn!(failure = %failure.chain(), "the store is away"),
    }
    intake
}

/// Makes the first token where there is none and none is given from outside. Where this process
/// may only read the secrets at `url`, as on AWS, none is made, and requests are refused until
/// somebody makes one.
pub(super) async fn first_token(
    data: &DataDirectory,
    url: &str,
    secrets: &dyn Secrets,
    clock: &dyn Clock,
) -> anyhow::Result<Option<String>> {
    if tokens::outside().is_some() {
        return Ok(None);
    }
    let mut file = TokenFile::read(secrets).await?;
    if file.tokens.is_empty() {
        let text = file.add(FIRST_TOKEN, &Scope::ALL, clock.now())?;
        data.keep_token(&text)?;
        if let Err(error) = file.write(secrets).await {
            data.forget_token()?;
            let failure = error.downcast_ref::<Failure>();
            let is_own = url.starts_with("file:");
            if is_own || failure.is_none_or(|failure| failure.kind() != FailureKind::Refused) {
                return Err(error);
            }
            let hint = "make one with `inlet token add NAME --secrets URL`; it is taken up here";
            tracing::warn!(secrets = url, hint, "there is no token yet");
        }
    }
    Ok(data.token())
}

/// Ignores SIGHUP, whose default action terminates the process. A single process has nothing to
/// reload: tokens and certificates are read again when they change, other settings at a restart.
async fn ignore_sighup(stop: Stop) {
    let mut hangups = match signal(SignalKind::hangup()) {
        Ok(hangups) => hangups,
        Err(error) => return tracing::error!(%error, "SIGHUP ends this process"),
    };
    loop {
        tokio::select! {
            _ = stop.wait() => return,
            hangup = hangups.recv() => if hangup.is_none() { return },
        }
        tracing::info!(
            "nothing to reload: certificates and tokens are taken up by themselves, other settings \
             by a restart"
        );
    }
}

/// Waits for a signal to end, or for another reason to.
pub(super) async fn wait_for_the_end(stop: &Stop) -> anyhow::Result<Reason> {
    let mut terminate = signal(SignalKind::terminate()).context("could not listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("could not listen for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => stop.now(Reason::Asked),
        _ = interrupt.recv() => stop.now(Reason::Asked),
        _ = stop.wait() => {}
    }
    systemd::stopping();
    tracing::info!("stopping: what was accepted is answered and kept");
    Ok(stop.wait().await)
}

/// Says where it listens, with a line that can be pasted.
pub(super) fn banner(
    data: &DataDirectory,
    running: &Running,
    token: Option<&str>,
) -> anyhow::Result<()> {
    let mut text = format!("Inlet {} is up.\n\n", env!("CARGO_PKG_VERSION"));
    let url = |scheme: &str, address: SocketAddr| {
        format!("{scheme}://{}", crate::client::reachable(address))
    };
    let api = running.https.map(|address| url("https", address));
    let plain = running.plain.map(|address| url("http", address));
    for (name, url) in [
        ("API", api.clone()),
        ("API, no TLS", plain.clone()),
        ("Redirect", running.http.map(|address| url("http", address))),
    ] {
        if let Some(url) = url {
            text.push_str(&format!("  {name:<12} {url}\n"));
        }
    }
    if let Some(base) = api.as_ref().or(plain.as_ref()) {
        text.push_str(&format!("  {:<12} {base}/console\n", "Console"));
    }
    text.push_str(&format!("  {:<12} {}\n", "Data", data.path().display()));
    let header = match token {
        Some(token) => {
            let kept = data.join("token");
            text.push_str(&format!("  {:<12} {token}\n", "Token"));
            text.push_str(&format!("  {:<12} (all scopes; kept in {})\n", "", kept.display()));
            format!("'X-Auth-Token: {token}'")
        }
        None if tokens::outside().is_some() => {
            text.push_str(&format!("  {:<12} the one in INLET_TOKEN\n", "Token"));
            "\"X-Auth-Token: $INLET_TOKEN\"".to_owned()
        }
        None => {
            text.push_str(&format!("  {:<12} one of `inlet token list`\n", "Token"));
            "'X-Auth-Token: TOKEN'".to_owned()
        }
    };
    let target = match (&api, &plain) {
        (Some(api), _) => {
            format!("--cacert '{}' {api}", data.join("tls/cert.pem").display())
        }
        (None, Some(plain)) => plain.clone(),
        (None, None) => return print(&text),
    };
    text.push_str(&format!(
        "\nSend a document:\n\n  curl {target}/api/save -H {header} -H 'Content-Type: application/json' \
         -d '{{\"hello\":\"world\"}}'\n\nStop with Ctrl-C; what was accepted is kept.\n"
    ));
    print(&text)
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever started it need not read it.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            report::say(format_args!("could not print where it listens: {error}"));
            Ok(())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

    use async_trait::async_trait;

    use super::*;

    /// Secrets that may be read and not written, as a task's role on AWS has it.
    struct ReadOnly;

    #[async_trait]
    impl Secrets for ReadOnly {
        async fn get(&self, _: &str) -> Result<Option<Vec<u8>>, Failure> {
            Ok(Some(b"{}".to_vec()))
        }

        async fn put(&self, name: &str, _: &[u8]) -> Result<(), Failure> {
            Err(Failure::new(FailureKind::Refused, "keep the secret", name))
        }

        async fn put_new(&self, name: &str, _: &[u8]) -> Result<Vec<u8>, Failure> {
            Err(Failure::new(FailureKind::Refused, "keep the secret", name))
        }
    }

    #[tokio::test]
    async fn secrets_that_may_only_be_read_get_no_first_token_and_keep_nobody_from_starting() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDirectory::open_or_create(directory.path()).unwrap();
        let elsewhere = "aws-secrets-manager://tokens";
        for _ in 0..2 {
            let made = first_token(&data, elsewhere, &ReadOnly, &SystemClock).await.unwrap();
            assert_eq!(made, None);
        }
        assert!(first_token(&data, "file:", &ReadOnly, &SystemClock).await.is_err());
    }
}
