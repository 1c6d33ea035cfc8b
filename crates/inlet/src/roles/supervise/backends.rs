//! Tells the edge which instances there are.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use inlet_edge::{BackendOptions, Edge};

use super::board::{Board, Entry, Phase};
use super::placement::zone_name;

/// How often is looked whether a drained instance has answered all it had.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long an instance is kept after the edge has let go of it: a request may have been about to
/// be sent on a connection that was idle.
const LET_GO_WAIT: Duration = Duration::from_millis(200);

/// The edge's list of instances, kept equal to the board.
#[derive(Clone)]
pub(super) struct Backends {
    edge: Edge,
    board: Board,
    listed: Arc<Mutex<Vec<BackendOptions>>>,
}

impl Backends {
    pub(super) fn new(edge: Edge, board: Board) -> Self {
        Self { edge, board, listed: Arc::default() }
    }

    pub(super) fn edge(&self) -> &Edge {
        &self.edge
    }

    /// Keeps the list equal to the board until it is dropped.
    pub(super) async fn follow(&self) {
        let mut changes = self.board.watch();
        loop {
            self.update();
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Brings the list up to the board.
    fn update(&self) {
        let entries = self.board.entries();
        let wanted: Vec<BackendOptions> =
            entries.iter().filter(|entry| !entry.is_draining).filter_map(backend).collect();
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        // One that is being drained stays listed as long as nothing else changes, so that it can
        // be seen how much it still has to answer.
        let is_drained = |backend: &&BackendOptions| {
            entries
                .iter()
                .any(|entry| entry.is_draining && self::backend(entry).as_ref() == Some(*backend))
        };
        let kept = listed.iter().filter(|backend| !is_drained(backend));
        if kept.eq(wanted.iter()) {
            return;
        }
        match self.edge.set_backends(wanted.clone()) {
            Ok(()) => *listed = wanted,
            Err(error) => tracing::error!(%error, "the edge does not take the instances"),
        }
    }

    /// Lets the edge send no more to an instance, and waits until it has answered what it has, or
    /// until `wait_max` is over.
    pub(super) async fn drain(&self, id: &str, wait_max: Duration) {
        self.edge.drain(id);
        self.board.update(id, |entry| entry.is_draining = true);
        let begun = Instant::now();
        while self.outstanding(id) > 0 && begun.elapsed() < wait_max {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.board.update(id, |entry| entry.phase = Phase::Stopping);
        self.update();
        tokio::time::sleep(LET_GO_WAIT).await;
    }

    fn outstanding(&self, id: &str) -> usize {
        let status = self.edge.status();
        status.iter().find(|status| status.id == id).map_or(0, |status| status.outstanding)
    }
}

/// An instance that answers, as the edge is told of it.
fn backend(entry: &Entry) -> Option<BackendOptions> {
    let place = entry.place.filter(|_| entry.phase == Phase::Running)?;
    Some(BackendOptions {
        id: entry.id.clone(),
        zone: zone_name(place.zone),
        address: entry.address?,
        tls: None,
    })
}
