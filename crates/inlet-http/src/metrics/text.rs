//! The counters as Prometheus text, version 0.0.4.

use std::fmt::Write;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use inlet_core::budget::Budget;
use inlet_core::health::{PartHealth, State};
use inlet_core::ports::Depth;

use super::{CLASSES, CODES, LATENCY_BOUNDS_US, LogDurability, Metrics};
use crate::app::Instance;
use crate::routes::ROUTES;

/// What is looked up at the moment of a scrape.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scraped {
    /// How much waits in the queue, if the queue told.
    pub(crate) depth: Option<Depth>,
    /// The age of the oldest document that waits, if the queue told.
    pub(crate) lag: Option<Duration>,
    /// Whether documents are taken.
    pub(crate) ready: bool,
    /// The memory that bodies in flight may take.
    pub(crate) bodies: Option<Budget>,
    /// The health of the parts of the process.
    pub(crate) parts: Vec<PartHealth>,
    /// The restarts of threads and tasks, by name.
    pub(crate) restarts: Vec<(String, u64)>,
}

/// Text in the making.
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string can't fail.
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}").unwrap_or_default();
    }

    fn line(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let (open, close) = if labels.is_empty() { ("", "") } else { ("{", "}") };
        writeln!(self.0, "{name}{open}{labels}{close} {value}").unwrap_or_default();
    }

    fn parts(&mut self, parts: &[PartHealth], restarts: &[(String, u64)]) {
        let name = "inlet_part_state";
        self.head(name, "gauge", "State of a part: 0 ready, 1 degraded, 2 unready.");
        for part in parts {
            let state = match part.state {
                State::Ready => 0,
                State::Degraded => 1,
                State::Unready => 2,
            };
            self.line(name, &format!("part=\"{}\"", label(&part.name)), state);
        }
        let name = "inlet_part_failures_total";
        self.head(name, "counter", "Failures of a part since the start.");
        for part in parts {
            self.line(name, &format!("part=\"{}\"", label(&part.name)), part.failures);
        }
        let name = "inlet_part_last_success_timestamp_seconds";
        self.head(name, "gauge", "When a part last did its work, since the epoch.");
        for part in parts {
            if let Some(at) = part.last_success {
                let labels = format!("part=\"{}\"", label(&part.name));
                self.line(name, &labels, at.as_micros() / 1_000_000);
            }
        }
        let name = "inlet_thread_restarts_total";
        self.head(name, "counter", "Restarts of a thread or task since the start.");
        for (thread, restarts) in restarts {
            self.line(name, &format!("thread=\"{}\"", label(thread)), restarts);
        }
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, kind, help);
        self.line(name, "", value);
    }
}

/// The health of a process and the restarts of its threads, as Prometheus text: for a process that
/// serves no API, and so has no `/metrics`.
pub fn parts_text(parts: &[PartHealth], restarts: &[(String, u64)]) -> String {
    let mut page = Page(String::new());
    page.parts(parts, restarts);
    page.0
}

impl Metrics {
    /// All counters as text.
    pub(crate) fn text(&self, instance: &Instance, scraped: &Scraped) -> String {
        let mut page = Page(String::with_capacity(8 << 10));
        self.write_instance(&mut page, instance, scraped);
        self.write_requests(&mut page);
        self.write_documents(&mut page, scraped);
        self.write_connections(&mut page);
        page.0
    }

    fn write_instance(&self, page: &mut Page, instance: &Instance, scraped: &Scraped) {
        page.head("inlet_instance_info", "gauge", "Which instance this is.");
        let labels = format!(
            "instance=\"{}\",zone=\"{}\",version=\"{}\"",
            label(instance.id()),
            label(instance.zone()),
            label(instance.version())
        );
        page.line("inlet_instance_info", &labels, 1);
        let uptime = instance.uptime().as_secs_f64();
        page.one("inlet_uptime_seconds", "gauge", "How long it runs.", uptime);
        let ready = u8::from(scraped.ready);
        page.one("inlet_ready", "gauge", "1 where documents are taken.", ready);
        page.parts(&scraped.parts, &scraped.restarts);
        let on_it = u8::from(self.is_bucket_on_store_disk());
        let help =
            "1 where the bucket is on the disk of the store, so that backups are lost with it.";
        page.one("inlet_bucket_on_store_disk", "gauge", help, on_it);
        if let Some(bodies) = &scraped.bodies {
            let (bytes, bytes_max) = (bodies.taken_bytes(), bodies.bytes_max());
            page.one("inlet_bodies_bytes", "gauge", "Memory of bodies in flight.", bytes);
            page.one("inlet_bodies_bytes_max", "gauge", "Memory they may take.", bytes_max);
            let (name, help) = ("inlet_bodies_refused_total", "Bodies there was no memory for.");
            page.one(name, "counter", help, bodies.refused());
        }
        let durability = self.log_durability.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(LogDurability { method, file_system, known }) = durability.as_ref() {
            let name = "inlet_log_durability_info";
            page.head(name, "gauge", "How the log is synced; known: the file system keeps it.");
            let file_system = label(file_system.as_str());
            let labels = format!(
                "method=\"{}\",file_system=\"{file_system}\",known=\"{known}\"",
                label(method.as_str())
            );
            page.line(name, &labels, 1);
        }
        if let Some(depth) = scraped.depth {
            page.one("inlet_queue_bytes", "gauge", "Bytes waiting in the queue.", depth.bytes);
            if let Some(limit) = depth.bytes_max {
                page.one("inlet_queue_bytes_max", "gauge", "Bytes that may wait.", limit);
            }
            if let Some(messages) = depth.messages {
                page.one("inlet_queue_messages", "gauge", "Documents waiting.", messages);
            }
        }
    }

    fn write_requests(&self, page: &mut Page) {
        page.head("inlet_requests_total", "counter", "Requests answered.");
        for row in 0..=ROUTES.len() {
            let (method, path, row) = match ROUTES.get(row) {
                Some(route) => (route.method.as_str(), route.path, row),
                None => ("", "none", Self::NO_ROUTE),
            };
            for class in 0..CLASSES {
                let count = self.sum(|shard| &shard.answers[row][class]);
                if count > 0 {
                    let labels =
                        format!("method=\"{method}\",path=\"{path}\",status=\"{}xx\"", class + 1);
                    page.line("inlet_requests_total", &labels, count);
                }
            }
        }
        page.head("inlet_refused_total", "counter", "Requests refused or failed, by code.");
        for (row, code) in CODES.iter().enumerate() {
            let count = self.sum(|shard| &shard.refused[row]);
            page.line("inlet_refused_total", &format!("code=\"{code}\""), count);
        }
        let name = "inlet_request_duration_seconds";
        page.head(name, "histogram", "From a request's head to its answer's.");
        let mut count = 0;
        for (row, bound) in LATENCY_BOUNDS_US.iter().enumerate() {
            count += self.sum(|shard| &shard.latency[row]);
            let bound = Duration::from_micros(*bound).as_secs_f64();
            page.line(&format!("{name}_bucket"), &format!("le=\"{bound}\""), count);
        }
        count += self.sum(|shard| &shard.latency[LATENCY_BOUNDS_US.len()]);
        page.line(&format!("{name}_bucket"), "le=\"+Inf\"", count);
        let sum = Duration::from_micros(self.sum(|shard| &shard.latency_sum_us)).as_secs_f64();
        page.line(&format!("{name}_sum"), "", sum);
        page.line(&format!("{name}_count"), "", count);
    }

    fn write_documents(&self, page: &mut Page, scraped: &Scraped) {
        let accepted = self.accepted_documents();
        let bytes = self.sum(|shard| &shard.accepted_bytes);
        let counters = [
            ("inlet_accepted_documents_total", "Documents accepted.", accepted),
            ("inlet_accepted_bytes_total", "Bytes of documents accepted.", bytes),
            ("inlet_stored_documents_total", "Documents stored.", self.stored.load(Relaxed)),
            (
                "inlet_duplicate_documents_total",
                "Documents that were stored already.",
                self.duplicates.load(Relaxed),
            ),
            (
                "inlet_dead_documents_total",
                "Documents that became dead letters.",
                self.dead.load(Relaxed),
            ),
            (
                "inlet_erased_documents_total",
                "Documents that came after their erasure.",
                self.erased.load(Relaxed),
            ),
            (
                "inlet_persist_failures_total",
                "Persist steps that failed and were tried again.",
                self.persist_failures.load(Relaxed),
            ),
        ];
        for (name, help, value) in counters {
            page.one(name, "counter", help, value);
        }
        if let Some(lag) = scraped.lag.or_else(|| self.lag()) {
            let help = "Age of the oldest document that waits to be stored.";
            page.one("inlet_persist_lag_seconds", "gauge", help, lag.as_secs_f64());
        }
    }

    fn write_connections(&self, page: &mut Page) {
        for figure in self.connections.figures() {
            page.one(figure.name, figure.kind, figure.help, figure.value);
        }
    }
}

/// Text as a label's value.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
