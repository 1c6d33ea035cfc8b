//! One process: what it opens, what runs in it, and how it ends.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use inlet_core::accept::Intake;
use inlet_core::auth::Tokens;
use inlet_core::health::Health;
use inlet_core::persist::Persister;
use inlet_core::ports::{Clock, SystemClock};
use inlet_http::{App, AppState, Instance, Metrics, StoreLookAhead};
use tokio::time::{Instant, timeout, timeout_at};

use super::doors::Doors;
use super::stop::{Reason, Stop};
use super::watched::Watched;
use super::{erasures, parent, persist, serve, summary, watch};
use crate::config::Settings;
use crate::data::{DataDirectory, Running};
use crate::report::{self, Hinted};
use crate::signals::{self, Hangups};
use crate::systemd;
use crate::tokens::{self, Copy, Known};
use crate::wire::{self, Engines, QueueUse, Start};

/// How long the end may take beyond the time that answering takes.
const END_GRACE: Duration = Duration::from_secs(5);
/// How long the end waits for secrets that are away.
const KEEP_USES_WITHIN: Duration = Duration::from_secs(1);

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
    if parts.serve {
        tokens::outside()?;
    }
    let data = DataDirectory::open_or_create(&settings.data)?;
    let _lock = if parts.alone { Some(data.lock()?) } else { None };
    wire::block_on(run_in(settings, parts, data))?
}

async fn run_in(settings: Settings, parts: Parts, data: DataDirectory) -> anyhow::Result<()> {
    let stop = Stop::new();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let health = Health::new(Arc::clone(&clock));
    let watched = Watched::new(stop.clone(), health.clone());
    let hangups = signals::listen(&watched, &stop)?;
    // Ports are taken first: nothing is opened or made for a process that can't listen.
    let doors = if parts.serve { Some(Doors::open(&settings)?) } else { None };
    let told = if parts.supervised {
        Some(parent::end_with_it(&watched, &health, &stop, settings.shutdown)?)
    } else {
        None
    };
    let instance = data.instance(settings.instance.as_deref())?;
    let start =
        Start { settings: &settings, data: &data, health: &health, watched: &watched, stop: &stop };
    let opened = stop.before(Engines::begin(&start)).await.transpose()?;
    let Some(engines) = opened else { return Ok(()) };
    watched.restarted_task("password", {
        let (secrets, password) = (Arc::clone(&engines.secrets), engines.password.clone());
        let stop = stop.clone();
        move || watch::password(Arc::clone(&secrets), password.clone(), stop.clone())
    });
    let queue_use = match (parts.serve, parts.persist) {
        (true, true) => QueueUse::Both,
        (true, false) => QueueUse::Send,
        (false, _) => QueueUse::Receive,
    };
    let queue = wire::queue(&start, &instance, &engines, queue_use).await?;
    let metrics = Arc::new(Metrics::default());
    watch_queue(&queue, &metrics, &clock, &health, &watched, &stop);

    let mut threads = Vec::new();
    let (mut announced, mut served_tokens) = (None, None);
    if let Some(doors) = doors {
        let local = if parts.supervised { data.local_token()? } else { tokens::local()? };
        let copy = Copy::new(&data, &settings.secrets);
        let (register, known) = tokens::at_start(&copy, &engines.secrets, &local, &*clock).await?;
        let register = Arc::new(register);
        served_tokens = Some(Arc::clone(&register));
        watched.restarted_task("tokens", {
            let (register, data) = (Arc::clone(&register), data.clone());
            let (clock, stop) = (Arc::clone(&clock), stop.clone());
            move || {
                let (register, data) = (Arc::clone(&register), data.clone());
                let (copy, clock) = (copy.clone(), Arc::clone(&clock));
                watch::tokens(register, data, copy, clock, stop.clone())
            }
        });
        if known == Known::Unread && !parts.supervised {
            first_token_later(&start, &engines, &clock);
        }
        let tokens = register.tokens().clone();
        let intake = Arc::new(intake(&settings, tokens, &clock, &engines, &queue));
        let kept = data.join(erasures::FILE);
        intake.note_erasures(erasures::kept(&kept));
        watched.restarted_task("erasures", {
            let (store, intake) = (Arc::clone(&engines.store), Arc::clone(&intake));
            let stop = stop.clone();
            move || {
                let (store, intake) = (Arc::clone(&store), Arc::clone(&intake));
                erasures::follow(store, intake, kept.clone(), stop.clone())
            }
        });
        let state = match told {
            Some(told) => parent::edge_secret(told).await,
            None => None,
        };
        let state =
            state.map_or_else(AppState::default, |secret| AppState::default().behind_edge(&secret));
        let app = Arc::new(App {
            intake,
            tokens: Some(register),
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
            state,
        });
        let listening = doors.listening()?;
        threads.extend(serve::start(&settings, &data, doors, app, &queue, &watched, &stop)?);
        let running = Running {
            pid: std::process::id(),
            instance: instance.clone(),
            https: listening.https,
            http: listening.http,
            plain: listening.plain,
            token: (!parts.supervised).then_some(local),
            certificate: listening.https.and(serve::certificate_path(&settings, &data)),
        };
        if parts.supervised {
            parent::tell(&running)?;
        } else {
            announced = Some(data.announce(&running)?);
            banner(&data, &running, &known)?;
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
            let (metrics, health, stop) = (Arc::clone(&metrics), health.clone(), stop.clone());
            watched.restarted_task("figures", move || {
                parent::tell_figures(Arc::clone(&metrics), health.clone(), stop.clone())
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
        metrics.bucket_on_store_disk(wire::is_bucket_on_store_disk(&settings));
        let (weeks, stop) = (Arc::new(summary::Parts::new(&health)), stop.clone());
        threads.push(watched.restarted_thread("summary", move || {
            summary::run(summarizer.clone(), Arc::clone(&weeks), stop.clone())
        })?);
    }

    let stopped = stop.clone();
    watched.essential_task("hangups", move || ignore_sighup(hangups, stopped));
    systemd::ready();
    let mut reason = wait_for_the_end(&stop).await;
    let until = Instant::now() + settings.shutdown + END_GRACE;
    for thread in threads {
        if let Err(error) = thread.join(until).await
            && reason == Reason::Asked
        {
            reason = Reason::Failed(error.to_string());
        }
    }
    if let Some(register) = served_tokens
        && timeout(KEEP_USES_WITHIN, watch::keep_uses(&register)).await.is_err()
    {
        tracing::debug!("the secrets are away: the last uses of tokens are not kept");
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

/// Watches the queue: the age of its oldest document, and of an embedded one its place on the
/// disk and whether anybody drains it.
fn watch_queue(
    queue: &wire::WiredQueue,
    metrics: &Arc<Metrics>,
    clock: &Arc<dyn Clock>,
    health: &Health,
    watched: &Watched,
    stop: &Stop,
) {
    watched.restarted_task("lag", {
        let (queue, metrics) = (Arc::clone(&queue.queue), Arc::clone(metrics));
        let (clock, stop) = (Arc::clone(clock), stop.clone());
        move || {
            let (queue, metrics) = (Arc::clone(&queue), Arc::clone(&metrics));
            watch::lag(queue, metrics, Arc::clone(&clock), stop.clone())
        }
    });
    let Some(log) = &queue.log else { return };
    if let Some(durability) = log.durability() {
        let (method, file_system) =
            (durability.method.to_string(), durability.file_system.name.to_string());
        metrics.log_durability(method, file_system, durability.warning().is_none());
    }
    watched.restarted_task("log-place", {
        let (log, stop) = (Arc::clone(log), stop.clone());
        move || watch::place(Arc::clone(&log), stop.clone())
    });
    watched.restarted_task("log-drained", {
        let (log, part, stop) = (Arc::clone(log), Arc::new(health.part("drain")), stop.clone());
        move || watch::undrained(Arc::clone(&log), Arc::clone(&part), stop.clone())
    });
}

fn intake(
    settings: &Settings,
    tokens: Tokens,
    clock: &Arc<dyn Clock>,
    engines: &Engines,
    queue: &wire::WiredQueue,
) -> Intake {
    let look_ahead = StoreLookAhead::new(Arc::clone(&engines.store));
    Intake::new(
        tokens,
        settings.limits.clone(),
        Arc::clone(clock),
        Arc::clone(&queue.queue),
        Some(Arc::new(look_ahead)),
    )
}

/// Makes the first token once the secrets can be read.
pub(super) fn first_token_later(start: &Start<'_>, engines: &Engines, clock: &Arc<dyn Clock>) {
    let (data, url) = (start.data.clone(), start.settings.secrets.clone());
    let (secrets, clock, stop) =
        (Arc::clone(&engines.secrets), Arc::clone(clock), start.stop.clone());
    start.watched.restarted_task("first-token", move || {
        let (data, url, clock) = (data.clone(), url.clone(), Arc::clone(&clock));
        watch::first_token(data, url, Arc::clone(&secrets), clock, stop.clone())
    });
}

/// Ignores SIGHUP, whose default action terminates the process. A single process has nothing to
/// reload: tokens and certificates are read again when they change, other settings at a restart.
async fn ignore_sighup(mut hangups: Hangups, stop: Stop) {
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

/// Waits until it is time to stop.
pub(super) async fn wait_for_the_end(stop: &Stop) -> Reason {
    let reason = stop.wait().await;
    systemd::stopping();
    tracing::info!("stopping: what was accepted is answered and kept");
    reason
}

/// Says where it listens, with a line that can be pasted.
pub(super) fn banner(data: &DataDirectory, running: &Running, token: &Known) -> anyhow::Result<()> {
    let mut text = format!("Inlet {} is up.\n\n", env!("CARGO_PKG_VERSION"));
    let url = |scheme: &str, address: SocketAddr| {
        format!("{scheme}://{}", crate::client::address::reachable(address))
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
        Known::Text(token) => {
            let kept = data.join("token");
            text.push_str(&format!("  {:<12} {token}\n", "Token"));
            text.push_str(&format!("  {:<12} (all scopes; kept in {})\n", "", kept.display()));
            format!("'X-Auth-Token: {token}'")
        }
        Known::Outside => {
            text.push_str(&format!("  {:<12} the one in INLET_TOKEN\n", "Token"));
            "\"X-Auth-Token: $INLET_TOKEN\"".to_owned()
        }
        Known::Listed => {
            text.push_str(&format!("  {:<12} one of `inlet token list`\n", "Token"));
            "'X-Auth-Token: TOKEN'".to_owned()
        }
        Known::Unread => {
            text.push_str(&format!("  {:<12} not read yet: the secrets are away\n", "Token"));
            "'X-Auth-Token: TOKEN'".to_owned()
        }
        Known::Nothing => {
            let hint = "none is in force; `inlet token add NAME` makes one";
            text.push_str(&format!("  {:<12} {hint}\n", "Token"));
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
