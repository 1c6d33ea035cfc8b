//! `inlet bench`: a load of documents on a server, and what it answered how fast.
//!
//! Closed loop: each connection sends the next document when the last was answered. Open loop:
//! documents are due at a fixed rate whatever comes back, and latency counts from the moment a
//! document was due, so that a server that stalls can't hide it. Durability is the server's own:
//! there is no switch that turns it off.

mod load;
mod server;

use std::time::Duration;

use serde_json::json;

use self::load::{Load, Outcome};
use self::server::OwnServer;
use crate::cli::BenchArgs;
use crate::report::{self, Hinted};
use crate::wire;

/// Runs the load and prints what came of it.
pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let fits = args.connections > 0
        && args.batch > 0
        && args.body_bytes >= load::BODY_BYTES_MIN
        && args.seconds > 0.0
        && args.rate.is_none_or(|rate| rate > 0.0);
    if !fits {
        let hint = format!("documents have at least {} bytes", load::BODY_BYTES_MIN);
        return Err(
            Hinted::usage("connections, batch, seconds and rate must be above zero", hint).into()
        );
    }
    let own = match args.url {
        Some(_) => None,
        None => Some(OwnServer::start(args.tls)?),
    };
    let (url, token) = match (&own, &args.url) {
        (Some(own), _) => (own.url().to_owned(), own.token().to_owned()),
        (None, Some(url)) => (url.clone(), args.token.clone().unwrap_or_default()),
        (None, None) => unreachable!("a server of our own stands in for a missing --url"),
    };
    let load = Load {
        connections: args.connections,
        body_bytes: args.body_bytes,
        batch: args.batch,
        warm_up: Duration::from_secs_f64(args.seconds / 5.0),
        measured: Duration::from_secs_f64(args.seconds),
        rate: args.rate,
        stored: args.stored,
    };
    let outcome = wire::runtime()?.block_on(load.run(&url, &token))?;
    let resident = own.as_ref().and_then(OwnServer::resident_bytes_max);
    print(args, &outcome, resident)?;
    if let Some(own) = own {
        own.stop()?;
    }
    Ok(())
}

fn print(args: &BenchArgs, outcome: &Outcome, resident: Option<u64>) -> anyhow::Result<()> {
    let quantile = |q| outcome.latency_us.value_at_quantile(q);
    if args.json.json {
        return report::data(json!({
            "connections": args.connections,
            "body_bytes": args.body_bytes,
            "batch": args.batch,
            "rate": args.rate,
            "seconds": outcome.seconds,
            "accepted": outcome.accepted,
            "refused": outcome.refused,
            "errors": outcome.errors,
            "accepted_per_second": outcome.accepted_per_second(),
            "p50_us": quantile(0.5),
            "p90_us": quantile(0.9),
            "p99_us": quantile(0.99),
            "p999_us": quantile(0.999),
            "max_us": outcome.latency_us.max(),
            "stored_per_second": outcome.stored_per_second,
            "queue_bytes_at_end": outcome.queue_bytes_at_end,
            "resident_bytes_max": resident,
        }));
    }
    report::data(format_args!(
        "{:>10.0} documents a second accepted and synced ({} in {:.1} s)",
        outcome.accepted_per_second(),
        outcome.accepted,
        outcome.seconds
    ))?;
    if let Some(stored) = outcome.stored_per_second {
        report::data(format_args!("{stored:>10.0} documents a second until all were stored"))?;
    }
    for (name, q) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
        report::data(format_args!("{:>10} µs {name}", quantile(q)))?;
    }
    if outcome.refused + outcome.errors > 0 {
        let (refused, errors) = (outcome.refused, outcome.errors);
        report::data(format_args!("{refused:>10} refused, {errors} errors"))?;
    }
    if let Some(resident) = resident {
        report::data(format_args!("{:>10.1} MiB resident at most", resident as f64 / 1048576.0))?;
    }
    Ok(())
}
