//! The figures of the instances, the zones and the worker, as Prometheus text.

use std::fmt::Write as _;
use std::sync::PoisonError;

use inlet_core::health::Health;

use super::board::{Board, Entry};
use super::fleet::Zones;
use super::placement::{Zone, zone_name};

/// Where the figures come from.
#[derive(Clone)]
pub(super) struct Figures {
    pub(super) board: Board,
    pub(super) zones: Zones,
    /// The parts of this process.
    pub(super) health: Health,
}

/// A figure of each child: its name, its kind, what it is, and how it is read.
type ChildFigure = (&'static str, &'static str, &'static str, fn(&Entry) -> u64);

const CHILD_FIGURES: [ChildFigure; 3] = [
    ("ready", "gauge", "Whether the child says that it is ready.", |entry| {
        u64::from(entry.ready_since.is_some())
    }),
    ("restarts_total", "counter", "How often the child was started again.", |entry| {
        u64::from(entry.restarts)
    }),
    ("uptime_seconds", "gauge", "How long the child's process runs.", |entry| {
        entry.started.elapsed().as_secs()
    }),
];

impl Figures {
    /// All of them (version 0.0.4 of the format).
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("a string takes all");
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let entries = self.board.entries();
        for (name, kind, help, read) in CHILD_FIGURES {
            head(text, &format!("inlet_child_{name}"), kind, help)?;
            for entry in &entries {
                let zone = entry.place.map(|place| zone_name(place.zone)).unwrap_or_default();
                let labels = format!("child=\"{}\",zone=\"{zone}\"", entry.id);
                writeln!(text, "inlet_child_{name}{{{labels}}} {}", read(entry))?;
            }
        }
        head(text, "inlet_zone_up", "gauge", "Whether instances are to run in the zone.")?;
        let zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (index, zone) in zones.into_iter().enumerate() {
            let up = u8::from(zone == Zone::Up);
            writeln!(text, "inlet_zone_up{{zone=\"{}\"}} {up}", zone_name(index))?;
        }
        text.push_str(&inlet_http::parts_text(&self.health.parts(), &self.health.restarts()));
        let worker = entries.iter().find_map(|entry| entry.figures);
        if let Some(worker) = worker {
            if let Some(lag_ms) = worker.lag_ms {
                let name = "inlet_persist_lag_seconds";
                head(text, name, "gauge", "Age of the oldest document that waits to be stored.")?;
                writeln!(text, "{name} {}.{:03}", lag_ms / 1_000, lag_ms % 1_000)?;
            }
            let counters = [
                ("inlet_stored_documents_total", "Documents stored.", worker.stored),
                ("inlet_dead_documents_total", "Documents that became dead letters.", worker.dead),
                ("inlet_persist_failures_total", "Steps that were tried again.", worker.failures),
            ];
            for (name, help, value) in counters {
                head(text, name, "counter", help)?;
                writeln!(text, "{name} {value}")?;
            }
        }
        Ok(())
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) -> std::fmt::Result {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}")
}
