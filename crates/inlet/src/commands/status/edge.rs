//! How an edge and the instances behind it stand, as the edge tells it.

use std::net::SocketAddr;

use serde::Deserialize;
use serde_json::Value;

use super::span;
use crate::client::Client;
use crate::report;

/// Where an edge tells it; for clients of its machine, and for who brings its token.
const PATH: &str = "/edge/status";

/// What an edge tells, as far as it is printed.
#[derive(Debug, Deserialize)]
struct Told {
    version: String,
    pid: u32,
    uptime_s: u64,
    connections_open: u64,
    is_failing_open: bool,
    backends: Vec<Backend>,
}

#[derive(Debug, Deserialize)]
struct Backend {
    id: String,
    zone: String,
    address: SocketAddr,
    health: String,
    is_draining: bool,
    in_flight: u64,
    latency_us: u64,
    requests: u64,
    answer_errors: u64,
    connect_errors: u64,
}

/// Asks the server how its instances stand; `None` where it is not an edge, or does not tell.
pub(super) fn ask(client: &Client) -> anyhow::Result<Option<Value>> {
    let answer = client.get(PATH)?;
    // One that is no edge has nothing there; one that is has nothing there for strangers.
    if answer.status != 200 { Ok(None) } else { answer.json().map(Some) }
}

/// Prints what was told, a line an instance.
pub(super) fn print(told: Value) -> anyhow::Result<()> {
    let told: Told = serde_json::from_value(told)?;
    let Told { version, pid, uptime_s, connections_open, .. } = told;
    report::data(format_args!(
        "edge {version}, process {pid}, up for {}, {connections_open} connections",
        span(uptime_s)
    ))?;
    report::data(format_args!(
        "{:<24} {:<5} {:<12} {:<22} {:>9} {:>9} {:>9} {:>7}",
        "INSTANCE", "ZONE", "EDGE", "ADDRESS", "IN FLIGHT", "LATENCY", "REQUESTS", "ERRORS"
    ))?;
    for backend in &told.backends {
        let health = if backend.is_draining { "draining" } else { &backend.health };
        report::data(format_args!(
            "{:<24} {:<5} {:<12} {:<22} {:>9} {:>9} {:>9} {:>7}",
            backend.id,
            backend.zone,
            health,
            backend.address.to_string(),
            backend.in_flight,
            format!("{} ms", backend.latency_us / 1_000),
            backend.requests,
            backend.answer_errors + backend.connect_errors,
        ))?;
    }
    if told.is_failing_open {
        report::data("no instance is healthy: all are asked")?;
    }
    Ok(())
}
