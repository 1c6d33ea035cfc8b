//! `inlet bench`: a load of documents on a server, and what it answered how fast.
//!
//! Closed loop: each connection sends the next document when the last was answered. Open loop:
//! documents are due at a fixed rate whatever comes back, and latency counts from the moment a
//! document was due, so that a server that stalls can't hide it. Durability is the server's own:
//! there is no switch that turns it off.

mod erase;
mod load;
mod server;

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use self::load::{Load, Outcome, Target};
use self::server::OwnServer;
use crate::cli::{BenchArgs, RemoteArgs};
use crate::client::Client;
use crate::config::Settings;
use crate::report::{self, Hinted};
use crate::wire;

/// Runs the load and prints what came of it.
pub(crate) fn run(settings: &Settings, args: &BenchArgs) -> anyhow::Result<()> {
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
    let load = Load {
        connections: args.connections,
        body_bytes: args.body_bytes,
        batch: args.batch,
        warm_up: Duration::from_secs_f64(args.seconds / 5.0),
        measured: Duration::from_secs_f64(args.seconds),
        rate: args.rate,
        stored: args.stored,
    };
    match &args.url {
        Some(url) => on_server_of_others(settings, args, url, &load),
        None => on_own_server(args, &load),
    }
}

/// Measures a server of its own, on a new directory.
fn on_own_server(args: &BenchArgs, load: &Load) -> anyhow::Result<()> {
    let own = OwnServer::start(args.tls)?;
    let outcome = wire::runtime()?.block_on(load.run(&own.target()?))?;
    print(args, &outcome, own.resident_bytes_max())?;
    own.stop()
}

/// Measures a server that others use: after a question, in a stream of its own, which is empty
/// again afterwards.
fn on_server_of_others(
    settings: &Settings,
    args: &BenchArgs,
    url: &str,
    load: &Load,
) -> anyhow::Result<()> {
    let remote = RemoteArgs {
        url: Some(url.to_owned()),
        token: args.token.clone(),
        cacert: args.cacert.clone(),
        json: args.json.clone(),
    };
    let client = Client::new(&remote, &settings.data)?;
    let stream = erase::own_stream()?;
    // Before anything is written: what could not be erased would stay.
    erase::check_rights(&client)?;
    let address = client.address();
    let what = format!(
        "{address} takes part in this: documents are sent into its stream {stream} for {} s, as \
         fast as it takes them{}, and are erased afterwards. The summary of this week counts them.",
        args.seconds,
        args.rate.map_or_else(String::new, |rate| format!(" but at most {rate} a second")),
    );
    if !args.yes {
        if !std::io::stdin().is_terminal() {
            return Err(Hinted::usage(what, "stdin is no terminal; pass `--yes`").into());
        }
        report::say(what);
        if !report::confirmed("Go on?")? {
            return Err(Hinted::new("nothing was sent", "").into());
        }
    }
    let target = Target {
        address: address.clone(),
        token: client.token().unwrap_or_default().to_owned(),
        tls: client.tls(),
        stream: stream.clone(),
    };
    let measured = wire::runtime()?.block_on(async {
        tokio::select! {
            outcome = load.run(&target) => outcome,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.context("could not wait for an interrupt")?;
                Err(Hinted::new("the measurement was interrupted", "").into())
            }
        }
    });
    let accepted = measured.as_ref().ok().map(|outcome| outcome.accepted_in_all);
    report::say(format_args!("erasing the documents of {stream}"));
    let erased = erase::all(&client, &stream, accepted);
    let outcome = measured?;
    print(args, &outcome, None)?;
    let erased = erased?;
    report::say(format_args!("{erased} documents were erased"));
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
