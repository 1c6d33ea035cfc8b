//! `inlet streams`: streams with their figures.

use serde::Deserialize;
use serde_json::Value;

use crate::cli::RemoteArgs;
use crate::client::Client;
use crate::config::Settings;
use crate::report;

#[derive(Debug, Deserialize)]
struct Streams {
    streams: Vec<Value>,
}

/// Prints every stream.
pub(crate) fn run(settings: &Settings, args: &RemoteArgs) -> anyhow::Result<()> {
    let client = Client::new(args, &settings.data)?;
    let streams: Streams = client.get("/api/streams")?.success("list streams")?.json()?;
    for stream in streams.streams {
        if args.json.json {
            report::data(stream)?;
            continue;
        }
        let text = |name: &str| stream[name].as_str().unwrap_or("-").to_owned();
        let number = |name: &str| stream[name].as_u64().unwrap_or(0);
        report::data(format_args!(
            "{:<24} {:>12} documents {:>16} bytes  {}  {}",
            text("stream"),
            number("documents"),
            number("bytes"),
            text("first"),
            text("last"),
        ))?;
    }
    Ok(())
}
