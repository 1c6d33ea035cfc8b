//! What systemd gives a service and wants to hear of it: sockets that listen already, readiness,
//! and a sign of life. Without systemd all of it does nothing.

#[cfg(feature = "edge")]
pub(crate) mod reload;

use std::net::TcpListener;
use std::time::Duration;

use anyhow::Context;
use listenfd::ListenFd;
use sd_notify::NotifyState;

use crate::report::Hinted;

/// A socket that listens already, and what its unit calls it (`FileDescriptorName=`).
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) name: String,
    pub(crate) listener: TcpListener,
}

/// The sockets that were handed to this process. They are given out once.
///
/// They outlive it: clients that connect while a service is restarted wait in the socket's queue,
/// and none is refused.
pub(crate) fn sockets() -> anyhow::Result<Vec<Socket>> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut handed = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..handed.len() {
        let listener = handed.take_tcp_listener(index).with_context(|| {
            let hint = "sockets of a service are ListenStream= with an address and a port";
            Hinted::new("a socket that was handed over can't be used", hint)
        })?;
        let name = names.next().unwrap_or_default().to_owned();
        sockets.extend(listener.map(|listener| Socket { name, listener }));
    }
    Ok(sockets)
}

/// Says that everything is open and requests are answered, and from here on gives signs of life
/// where they are asked for. To be called on a runtime.
pub(crate) fn ready() {
    notify(&[NotifyState::Ready]);
    if let Some(patience) = sd_notify::watchdog_enabled() {
        tokio::spawn(give_signs_of_life(patience));
    }
}

/// Says that the process is stopping.
pub(crate) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Gives a sign of life twice as often as is asked for, for as long as the runtime makes progress.
async fn give_signs_of_life(patience: Duration) {
    let mut ticks = tokio::time::interval(patience / 2);
    loop {
        ticks.tick().await;
        notify(&[NotifyState::Watchdog]);
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd could not be told how this process stands");
    }
}
