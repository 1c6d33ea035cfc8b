//! The wall clock for libraries that hold it for impossible that it shows a time before 1970.
//!
//! A machine without a battery can start there. RFC 9110 (6.6.1) has a server without a usable
//! clock send no `Date`; session tickets are given out again once the clock is right.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::ring::Ticketer;
use rustls::pki_types::UnixTime;
use rustls::server::ProducesTickets;
use rustls::time_provider::TimeProvider;

/// The first second of the year 10000, which an HTTP date can't show.
const YEAR_10000: Duration = Duration::from_secs(253_402_300_800);

fn since_epoch() -> Option<Duration> {
    SystemTime::now().duration_since(UNIX_EPOCH).ok()
}

/// Returns true if the present moment can be shown as an HTTP date, for some time to come.
pub(crate) fn has_a_date() -> bool {
    let a_day = Duration::from_secs(86_400);
    since_epoch().is_some_and(|since| since + a_day < YEAR_10000)
}

/// The clock for TLS: the epoch where the clock shows a time before it.
#[derive(Debug)]
pub(crate) struct WallClock;

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(since_epoch().unwrap_or_default()))
    }
}

/// Session tickets that are made and read only while the clock can be used, by a ticketer that is
/// made when it first can.
#[derive(Debug, Default)]
pub(crate) struct Tickets(OnceLock<Option<Arc<dyn ProducesTickets>>>);

impl Tickets {
    fn usable(&self) -> Option<&Arc<dyn ProducesTickets>> {
        since_epoch()?;
        let made = self.0.get_or_init(|| {
            let made = Ticketer::new();
            made.inspect_err(|error| tracing::warn!(%error, "TLS sessions are not resumed")).ok()
        });
        made.as_ref()
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        self.usable().is_some()
    }

    fn lifetime(&self) -> u32 {
        self.usable().map_or(0, |tickets| tickets.lifetime())
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.usable()?.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.usable()?.decrypt(cipher)
    }
}
