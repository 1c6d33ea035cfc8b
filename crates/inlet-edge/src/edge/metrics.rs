//! The edge's figures as Prometheus text.

use std::fmt::Write as _;
use std::sync::PoisonError;

use super::{BackendStatus, Edge, Ordering};
use crate::health::Standing;

/// A figure of each backend: its name, its kind, what it is, and how it is read.
type Figure = (&'static str, &'static str, &'static str, fn(&BackendStatus) -> f64);

const FIGURES: [Figure; 10] = [
    ("up", "gauge", "Whether it is asked: up, neither ejected nor draining.", |status| {
        f64::from(u8::from(matches!(status.standing, Standing::Up(_)) && !status.is_draining))
    }),
    (
        "share",
        "gauge",
        "Its share of what its equals get, below 1 while it starts slowly.",
        |status| match status.standing {
            Standing::Up(share) => share,
            _ => 0.0,
        },
    ),
    ("outstanding", "gauge", "Requests that it has not answered to the end.", |status| {
        status.outstanding as f64
    }),
    ("latency_seconds", "gauge", "Its response time lately, peaks counting most.", |status| {
        status.latency_us as f64 / 1e6
    }),
    ("connections_idle", "gauge", "Idle connections to it.", |status| {
        status.connections_idle as f64
    }),
    ("requests_total", "counter", "Requests sent to it.", |status| status.requests as f64),
    ("retries_total", "counter", "Requests sent to it after another failed them.", |status| {
        status.retries as f64
    }),
    ("connect_errors_total", "counter", "Connections that could not be made.", |status| {
        status.connect_errors as f64
    }),
    ("answer_errors_total", "counter", "Answers that were its failure, or none.", |status| {
        status.answer_errors as f64
    }),
    ("checks_failed_total", "counter", "Checks that failed.", |status| status.checks_failed as f64),
];

impl Edge {
    /// The edge's figures as Prometheus text (version 0.0.4).
    pub fn metrics(&self) -> String {
        let mut text = String::with_capacity(4096);
        self.write_metrics(&mut text).expect("a string takes all");
        text
    }

    fn write_metrics(&self, text: &mut String) -> std::fmt::Result {
        let statuses = self.status();
        for (name, kind, help, read) in FIGURES {
            head(text, &format!("inlet_edge_backend_{name}"), kind, help)?;
            for status in &statuses {
                let (id, zone) = (label(&status.id), label(&status.zone));
                writeln!(
                    text,
                    "inlet_edge_backend_{name}{{backend=\"{id}\",zone=\"{zone}\"}} {}",
                    read(status)
                )?;
            }
        }
        head(text, "inlet_edge_backend_ejections_total", "counter", "Ejections, by cause.")?;
        for status in &statuses {
            let (id, zone) = (label(&status.id), label(&status.zone));
            for (cause, count) in status.ejections {
                writeln!(
                    text,
                    "inlet_edge_backend_ejections_total{{backend=\"{id}\",zone=\"{zone}\",\
                     cause=\"{}\"}} {count}",
                    cause.as_str()
                )?;
            }
        }
        self.write_own(text)
    }

    fn write_own(&self, text: &mut String) -> std::fmt::Result {
        let state = &self.state;
        let seating = state.fleet.seating();
        let name = "inlet_edge_failing_open";
        head(text, name, "gauge", "Whether no backend is up, so that all are asked.")?;
        writeln!(text, "{name} {}", u8::from(seating.is_failing_open))?;
        let name = "inlet_edge_answers_total";
        head(text, name, "counter", "Answers, by class of status.")?;
        for (class, count) in state.answers.iter().enumerate().skip(1) {
            writeln!(text, "{name}{{class=\"{class}xx\"}} {}", count.load(Ordering::Relaxed))?;
        }
        let name = "inlet_edge_problems_total";
        head(text, name, "counter", "Requests that the edge answered with a problem, by code.")?;
        let problems = state.problems.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (code, count) in problems {
            writeln!(text, "{name}{{code=\"{code}\"}} {count}")?;
        }
        let name = "inlet_edge_firewall_matches_total";
        head(text, name, "counter", "Matches of the firewall's rules.")?;
        for (rule, action, count) in state.firewall.matches() {
            let action = action.as_str();
            writeln!(text, "{name}{{rule=\"{rule}\",action=\"{action}\"}} {count}")?;
        }
        if let Some(log) = &state.options.access_log {
            let name = "inlet_edge_access_lines_dropped_total";
            head(text, name, "counter", "Lines of the access log that were not written.")?;
            writeln!(text, "{name} {}", log.dropped())?;
        }
        Ok(())
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) -> std::fmt::Result {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

fn label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
