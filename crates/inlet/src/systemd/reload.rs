//! What systemd hears of a reload.

use sd_notify::NotifyState;

use super::notify;

/// Says that settings are being read anew; [`done`] says that they were.
pub(crate) fn begun() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "systemd could not be told of the reload"),
    }
}

/// Says that a reload is over, and what `systemctl status` is to show of it.
pub(crate) fn done(came_of_it: &str) {
    // The message is lines, of which this is one.
    let came_of_it = came_of_it.replace(['\n', '\r'], " ");
    notify(&[NotifyState::Ready, NotifyState::Status(&came_of_it)]);
}
