//! How many appends a second each driver takes, from tasks on one runtime that each append again
//! as soon as they are answered. For profiles; `cargo run --release --example append_rate [DIR]`.
#![allow(clippy::print_stdout, reason = "figures are what it is for")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use inlet_log::{Log, LogOptions, RealDisk, Sync};

/// How long each figure is taken for.
const ROUND: Duration = Duration::from_secs(2);
const PAYLOAD_BYTES: usize = 300;

fn main() -> Result<(), Box<dyn Error>> {
    let within = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    println!("{:>10} {:>10} {:>12} {:>12}", "driver", "appenders", "appends/s", "per group");
    for appenders in [1, 64, 256, 1024] {
        for sync in [Sync::Auto, Sync::Thread] {
            let dir = tempfile::tempdir_in(&within)?;
            let options = LogOptions { sync, ..LogOptions::default() };
            let (log, _) = Log::open(Arc::new(RealDisk), dir.path(), &options)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
            let (appends, groups, elapsed) = runtime.block_on(rate(&log, appenders))?;
            println!(
                "{:>10} {appenders:>10} {:>12.0} {:>12.1}",
                log.durability(),
                f64::from(appends) / elapsed.as_secs_f64(),
                f64::from(appends) / f64::from(groups.max(1)),
            );
        }
    }
    Ok(())
}

async fn rate(log: &Log, appenders: u32) -> Result<(u32, u32, Duration), Box<dyn Error>> {
    let driven = tokio::spawn(log.drive());
    let stop = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..appenders)
        .map(|_| {
            let (log, stop) = (log.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let payload = [b'x'; PAYLOAD_BYTES];
                let mut appends = 0;
                while !stop.load(Ordering::Relaxed) {
                    log.append(&[&payload]).await?;
                    appends += 1;
                }
                Ok::<u32, inlet_log::AppendError>(appends)
            })
        })
        .collect();
    let started = Instant::now();
    let (mut tail, mut groups) = (log.tail(), 0);
    while started.elapsed() < ROUND {
        tail = log.tail_beyond(tail).await;
        groups += 1;
    }
    let elapsed = started.elapsed();
    stop.store(true, Ordering::Relaxed);
    let mut appends = 0;
    for task in tasks {
        appends += task.await??;
    }
    log.close().await;
    driven.await??;
    Ok((appends, groups, elapsed))
}
