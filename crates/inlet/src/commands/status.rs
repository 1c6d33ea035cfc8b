//! `inlet status`: how the instances stand, an edge with those behind it, or one server.

mod edge;

use serde_json::Value;

use crate::cli::StatusArgs;
use crate::client::Client;
use crate::config::Settings;
use crate::control::status::{InstanceStatus, Status, WorkerStatus};
use crate::control::{self, Answer};
use crate::data::DataDirectory;
use crate::{report, wire};

/// Prints how the `up` or the `edge` on the data directory stands, or the server that is named.
pub(crate) fn run(settings: &Settings, args: &StatusArgs) -> anyhow::Result<()> {
    if args.env.is_some() {
        return wire::status_on_aws(args);
    }
    let is_json = args.remote.json.json;
    if args.remote.url.is_none() {
        let data = DataDirectory::open(&settings.data)?;
        match control::ask(&data, "status")? {
            Some(Answer::Status(status)) if is_json => {
                return report::data(serde_json::to_string(&status)?);
            }
            Some(Answer::Status(status)) => return print(&status),
            Some(Answer::Done(said) | Answer::Refused(said)) => anyhow::bail!(said),
            None => {}
        }
    }
    let client = Client::new(&args.remote, &settings.data)?;
    match edge::ask(&client)? {
        Some(told) if is_json => return report::data(told),
        Some(told) => return edge::print(told),
        None => {}
    }
    // One process that is not the edge of others tells of itself.
    let one: Value = client.get("/")?.success("ask for the status")?.json()?;
    if is_json {
        return report::data(one);
    }
    let text = |name: &str| one[name].as_str().unwrap_or("-").to_owned();
    let queue = one["queue"]["bytes"].as_u64().map_or_else(|| "-".to_owned(), size);
    report::data(format_args!(
        "{}  zone {}  version {}  up for {}  queue {queue}",
        text("instance"),
        text("zone"),
        text("version"),
        span(one["uptime_s"].as_u64().unwrap_or(0)),
    ))
}

fn print(status: &Status) -> anyhow::Result<()> {
    let Status { version, pid, uptime_s, zones, instances, worker, queue_bytes, .. } = status;
    let listening = [("https", status.https), ("http", status.http), ("plain", status.plain)];
    let listening: Vec<String> = listening
        .iter()
        .filter_map(|(scheme, address)| Some(format!("{scheme} {}", (*address)?)))
        .collect();
    report::data(format_args!(
        "inlet {version}, process {pid}, up for {}: {}",
        span(*uptime_s),
        listening.join(", ")
    ))?;
    report::data(format_args!(
        "{:<24} {:<5} {:<12} {:<11} {:>8} {:>8} {:>9} {:>10}",
        "INSTANCE", "ZONE", "STATE", "EDGE", "PID", "UPTIME", "IN FLIGHT", "QUEUE"
    ))?;
    for zone in zones {
        for instance in instances.iter().filter(|instance| instance.zone == zone.name) {
            print_instance(instance)?;
        }
        if zone.state != "up" {
            report::data(format_args!("zone {} is {}", zone.name, zone.state))?;
        }
    }
    if let Some(worker) = worker {
        print_worker(worker, *queue_bytes)?;
    }
    Ok(())
}

fn print_instance(instance: &InstanceStatus) -> anyhow::Result<()> {
    let edge = instance.edge.as_ref();
    report::data(format_args!(
        "{:<24} {:<5} {:<12} {:<11} {:>8} {:>8} {:>9} {:>10}",
        instance.id,
        instance.zone,
        instance.state,
        edge.map_or("-", |edge| &edge.health),
        instance.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
        span(instance.uptime_s),
        edge.map_or_else(|| "-".to_owned(), |edge| edge.in_flight.to_string()),
        instance.queue_bytes.map_or_else(|| "-".to_owned(), size),
    ))?;
    match &instance.reason {
        Some(reason) => report::data(format_args!(
            "  started again {} times, the last time because: {reason}",
            instance.restarts
        )),
        None => Ok(()),
    }
}

fn print_worker(worker: &WorkerStatus, queue_bytes: u64) -> anyhow::Result<()> {
    let told = worker.figures.map_or_else(String::new, |figures| {
        format!(
            ", {} behind, {} stored, {} dead letters",
            figures.lag_ms.map_or("unknown".to_owned(), milliseconds),
            figures.stored,
            figures.dead
        )
    });
    report::data(format_args!(
        "persist worker {}, up for {}{told}, {} waiting",
        worker.state,
        span(worker.uptime_s),
        size(queue_bytes)
    ))?;
    for part in &worker.failing {
        report::data(format_args!(
            "  {} is {} since {}: {}",
            part.name, part.state, part.since, part.detail
        ))?;
    }
    match &worker.reason {
        Some(reason) if worker.restarts == 0 => report::data(format_args!("  {reason}")),
        Some(reason) => report::data(format_args!(
            "  started again {} times; last failure: {reason}",
            worker.restarts
        )),
        None => Ok(()),
    }
}

fn size(bytes: u64) -> String {
    bytesize::ByteSize::b(bytes).to_string()
}

fn milliseconds(ms: u64) -> String {
    if ms < 10_000 { format!("{ms} ms") } else { span(ms / 1_000) }
}

fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m{}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h{minutes}m"),
        (days, hours, _) => format!("{days}d{hours}h"),
    }
}
