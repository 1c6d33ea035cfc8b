//! A few connections that read.

use std::error::Error;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use inlet_core::failure::{Failure, FailureKind};
use rusqlite::{Connection, Transaction};
use tokio::sync::Semaphore;
use tokio::task;

use super::failure::failure;
use super::{schema, show};
use crate::files::Place;

/// Connections that read, opened as they are needed and kept.
#[derive(Debug)]
pub(super) struct Readers {
    path: Arc<Path>,
    place: Place,
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    /// `readers_max` connections at most on the file at `path`.
    pub(super) fn new(path: Arc<Path>, place: Place, readers_max: usize) -> Self {
        let permits = Arc::new(Semaphore::new(readers_max.max(1)));
        Self { path, place, permits, idle: Arc::default() }
    }

    /// Runs `work` on a blocking thread, on one state of the file from begin to end. Waits while
    /// as many as may are reading already.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        attempted: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let gone = |cause: Box<dyn Error + Send + Sync>| {
            Failure::new(FailureKind::Unavailable, attempted, show(&self.path)).because(cause)
        };
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|error| gone(Box::from(error)))?;
        let (path, idle) = (Arc::clone(&self.path), Arc::clone(&self.idle));
        let place = self.place.clone();
        let reading = task::spawn_blocking(move || {
            place.check(attempted)?;
            let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let result =
                kept.map_or_else(|| schema::open_reader(&path), Ok).and_then(|connection| {
                    let result = connection.unchecked_transaction().and_then(|tx| work(&tx));
                    // One that failed is not kept: the next read begins with a fresh one.
                    if result.is_ok() {
                        idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
                    }
                    result
                });
            drop(permit);
            result.map_err(|error| failure(error, attempted, &path))
        });
        reading.await.map_err(|error| gone(Box::from(error)))?
    }
}
