//! How an `up` and its instances stand, as it is told.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::roles::{FailingPart, Figures};

/// How an `up` with instances stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) version: String,
    pub(crate) pid: u32,
    pub(crate) uptime_s: u64,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) plain: Option<SocketAddr>,
    pub(crate) zones: Vec<ZoneStatus>,
    pub(crate) instances: Vec<InstanceStatus>,
    pub(crate) worker: Option<WorkerStatus>,
    /// What waits in the queues of all instances that answer, in bytes.
    pub(crate) queue_bytes: u64,
}

/// How a zone stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ZoneStatus {
    pub(crate) name: String,
    /// `up`, `down` or `closed`.
    pub(crate) state: String,
}

/// How an instance stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct InstanceStatus {
    pub(crate) id: String,
    pub(crate) zone: String,
    /// `starting`, `up`, `unready`, `draining`, `stopping` or `backing-off`.
    pub(crate) state: String,
    pub(crate) pid: Option<u32>,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) uptime_s: u64,
    pub(crate) restarts: u32,
    /// What the edge believes of it; nothing where it is not among those that are asked.
    pub(crate) edge: Option<EdgeFigures>,
    /// What waits in its queue, in bytes, and how much may.
    pub(crate) queue_bytes: Option<u64>,
    pub(crate) queue_bytes_max: Option<u64>,
    /// Why it ended the last time.
    pub(crate) reason: Option<String>,
}

/// What the edge knows of an instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EdgeFigures {
    /// `up`, `slow-start`, `unknown`, `down` or `ejected`.
    pub(crate) health: String,
    pub(crate) in_flight: usize,
    pub(crate) requests: u64,
    pub(crate) latency_us: u64,
}

/// How the worker stands that moves documents from the queues to the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WorkerStatus {
    pub(crate) state: String,
    pub(crate) pid: Option<u32>,
    pub(crate) uptime_s: u64,
    pub(crate) restarts: u32,
    pub(crate) figures: Option<Figures>,
    /// Its parts that fail, and since when.
    #[serde(default)]
    pub(crate) failing: Vec<FailingPart>,
    pub(crate) reason: Option<String>,
}
