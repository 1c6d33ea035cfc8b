//! The stream of a measurement on a server that others use, and its end.

use std::time::{Duration, Instant};

use anyhow::Context;
use inlet_core::document::hex;
use serde_json::Value;

use crate::client::{Client, encode};
use crate::report::Hinted;

/// The number of documents one request asks for.
const PAGE: usize = 500;
/// The number of threads that erase at the same time.
const THREADS: usize = 8;
/// The longest time without anything coming before it is given up.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// The time without anything coming that ends it once all is erased.
const IDLE_AT_END: Duration = Duration::from_secs(2);
/// The wait between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A stream that nobody else uses.
pub(super) fn own_stream() -> anyhow::Result<String> {
    let mut random = [0; 4];
    getrandom::fill(&mut random).context("could not get randomness from the system")?;
    Ok(format!("bench-{}", hex(&random)))
}

/// Refuses a token that could not list the documents and erase them.
pub(super) fn check_rights(client: &Client) -> anyhow::Result<()> {
    let hint =
        "what is sent is erased afterwards: give a token with the scopes save, read and admin";
    for path in ["/api/streams", "/api/admin/tokens"] {
        let answer = client.get(path)?;
        if matches!(answer.status, 401 | 403) {
            let message = format!("{} refuses this token for {path}", client.address());
            return Err(Hinted::new(message, hint).into());
        }
        answer.success("ask whether what is sent can be erased")?;
    }
    Ok(())
}

/// Erases all documents of the stream, also those that are still being stored, of which there are
/// as many as were `accepted`; where that is not known, until no more come.
pub(super) fn all(client: &Client, stream: &str, accepted: Option<u64>) -> anyhow::Result<u64> {
    let failed = |left: String| {
        let hint = format!("`inlet list --stream {stream}` shows what is left");
        Hinted::new(format!("{left} of the stream {stream} could not be erased"), hint)
    };
    let (mut erased, mut idle_since) = (0, Instant::now());
    loop {
        let path = format!("/api/documents?limit={PAGE}&stream={}", encode(stream));
        let answer = client.persistently(|client| client.get(&path))?;
        let page: Value = answer.success("list what is to be erased")?.json()?;
        let documents = page["documents"].as_array().map(Vec::as_slice).unwrap_or_default();
        let ids: Vec<&str> = documents.iter().filter_map(|it| it["id"].as_str()).collect();
        if ids.is_empty() {
            let idle = idle_since.elapsed();
            let is_done = accepted.is_none_or(|accepted| erased >= accepted);
            if is_done && idle >= IDLE_AT_END {
                return Ok(erased);
            }
            if idle >= IDLE_MAX {
                let left = accepted.unwrap_or(erased).saturating_sub(erased);
                return Err(failed(format!("{left} documents")).into());
            }
            std::thread::sleep(LOOK_EVERY);
            continue;
        }
        std::thread::scope(|scope| {
            let erasing: Vec<_> = ids
                .chunks(ids.len().div_ceil(THREADS))
                .map(|ids| scope.spawn(|| ids.iter().try_for_each(|id| erase(client, id))))
                .collect();
            erasing.into_iter().try_for_each(|erasing| {
                erasing.join().map_err(|_| anyhow::anyhow!("a thread that erases panicked"))?
            })
        })
        .map_err(|error: anyhow::Error| error.context(failed("a document".to_owned())))?;
        erased += ids.len() as u64;
        idle_since = Instant::now();
    }
}

fn erase(client: &Client, id: &str) -> anyhow::Result<()> {
    let path = format!("/api/documents/{id}");
    let answer = client.persistently(|client| client.delete(&path))?;
    if answer.status == 404 {
        return Ok(());
    }
    answer.success(&format!("erase document {id}")).map(|_| ())
}
