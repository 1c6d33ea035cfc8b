//! What becomes of connections, counted.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use crate::lines::LOG_LINES_DROPPED;

/// The counters of a server's connections. Its service has them, and shows them with its own.
#[derive(Debug, Default)]
pub struct ConnectionCounters {
    open: AtomicI64,
    accepted: AtomicU64,
    refused: AtomicU64,
    timed_out: AtomicU64,
    handshakes_failed: AtomicU64,
    proxy_headers_refused: AtomicU64,
    accept_errors: AtomicU64,
}

/// One figure as Prometheus knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figure {
    /// Its name.
    pub name: &'static str,
    /// `counter` or `gauge`.
    pub kind: &'static str,
    /// What it counts, in a sentence.
    pub help: &'static str,
    /// What it is now.
    pub value: u64,
}

impl ConnectionCounters {
    /// Connections that are open now.
    pub fn open(&self) -> u64 {
        u64::try_from(self.open.load(Relaxed)).unwrap_or(0)
    }

    /// All of them, in the order in which they are shown.
    pub fn figures(&self) -> [Figure; 8] {
        let counter = |name, help, counter: &AtomicU64| Figure {
            name,
            kind: "counter",
            help,
            value: counter.load(Relaxed),
        };
        [
            Figure {
                name: "inlet_connections_open",
                kind: "gauge",
                help: "Connections open.",
                value: self.open(),
            },
            counter("inlet_connections_total", "Connections accepted.", &self.accepted),
            counter(
                "inlet_connections_refused_total",
                "Connections closed at once, over a cap.",
                &self.refused,
            ),
            counter(
                "inlet_connections_timed_out_total",
                "Connections closed at a deadline.",
                &self.timed_out,
            ),
            counter(
                "inlet_tls_handshakes_failed_total",
                "TLS handshakes that failed.",
                &self.handshakes_failed,
            ),
            counter(
                "inlet_proxy_headers_refused_total",
                "Connections closed for a PROXY header that was missing or wrong.",
                &self.proxy_headers_refused,
            ),
            counter(
                "inlet_accept_errors_total",
                "Times the system gave no connection.",
                &self.accept_errors,
            ),
            counter(
                "inlet_log_lines_dropped_total",
                "Log lines that were not written.",
                &LOG_LINES_DROPPED,
            ),
        ]
    }

    pub(crate) fn opened(&self) {
        self.open.fetch_add(1, Relaxed);
        self.accepted.fetch_add(1, Relaxed);
    }

    pub(crate) fn closed(&self) {
        self.open.fetch_sub(1, Relaxed);
    }

    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    pub(crate) fn timed_out(&self) {
        self.timed_out.fetch_add(1, Relaxed);
    }

    pub(crate) fn handshake_failed(&self) {
        self.handshakes_failed.fetch_add(1, Relaxed);
    }

    pub(crate) fn proxy_header_refused(&self) {
        self.proxy_headers_refused.fetch_add(1, Relaxed);
    }

    pub(crate) fn accept_failed(&self) {
        self.accept_errors.fetch_add(1, Relaxed);
    }
}
