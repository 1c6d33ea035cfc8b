//! All the logs that are drained from here.

use std::fs;
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::{BatchLimit, Cursor, Delivery, Store};
use inlet_log::{Log, Position, RealDisk};
use tokio::task;
use tokio::time::{self, Instant};

use super::LogQueueOptions;
use super::drain::Drain;
use crate::files;

/// The logs under one root, and whose turn it is.
pub(super) struct Drains {
    root: PathBuf,
    own: Option<Log>,
    store: Arc<dyn Store>,
    drains: Vec<Drain>,
    turn: usize,
    list_at: Instant,
    poll: Duration,
    list: Duration,
    remove_after: Duration,
}

/// Lets one worker at a time have the logs.
pub(super) struct Turn(Mutex<Option<Box<Drains>>>);

/// The logs, as long as it is one's turn.
pub(super) struct TurnGuard<'a> {
    turn: &'a Turn,
    drains: Option<Box<Drains>>,
}

impl Turn {
    pub(super) fn new(drains: Drains) -> Self {
        Self(Mutex::new(Some(Box::new(drains))))
    }

    /// Takes the logs; fails where another has them.
    pub(super) fn take(&self, root: &Path) -> Result<TurnGuard<'_>, Failure> {
        let drains = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if drains.is_none() {
            let root = root.display().to_string();
            return Err(Failure::new(
                FailureKind::Unavailable,
                "receive at the same time from",
                root,
            )
            .hint("one worker at a time receives from one handle"));
        }
        Ok(TurnGuard { turn: self, drains })
    }
}

impl Deref for TurnGuard<'_> {
    type Target = Drains;

    fn deref(&self) -> &Drains {
        self.drains.as_ref().expect("it is given back by the drop alone")
    }
}

impl DerefMut for TurnGuard<'_> {
    fn deref_mut(&mut self) -> &mut Drains {
        self.drains.as_mut().expect("it is given back by the drop alone")
    }
}

impl Drop for TurnGuard<'_> {
    fn drop(&mut self) {
        *self.turn.0.lock().unwrap_or_else(PoisonError::into_inner) = self.drains.take();
    }
}

impl Drains {
    pub(super) fn new(
        root: PathBuf,
        own: Option<Log>,
        store: Arc<dyn Store>,
        options: &LogQueueOptions,
    ) -> Self {
        Self {
            root,
            own,
            store,
            drains: Vec::new(),
            turn: 0,
            list_at: Instant::now(),
            poll: Duration::from_millis(options.poll_ms),
            list: Duration::from_millis(options.list_ms),
            remove_after: Duration::from_millis(options.remove_after_ms),
        }
    }

    pub(super) async fn receive(&mut self, limit: BatchLimit) -> Result<Delivery, Failure> {
        let deadline = Instant::now() + limit.wait;
        loop {
            if Instant::now() >= self.list_at {
                self.look().await?;
            }
            if let Some(delivery) = self.next(limit).await? {
                return Ok(delivery);
            }
            if Instant::now() >= deadline {
                return Ok(Delivery::default());
            }
            self.wait(deadline).await;
        }
    }

    pub(super) async fn settle(&mut self, cursor: &Cursor) -> Result<(), Failure> {
        let position = Position { segment: cursor.segment, offset: cursor.offset };
        match self.drains.iter_mut().find(|drain| drain.log == cursor.log) {
            Some(drain) => {
                drain.settle(position).await;
                Ok(())
            }
            None => Err(Failure::new(
                FailureKind::Refused,
                "settle a delivery of a log that is not drained from here,",
                cursor.log.clone(),
            )),
        }
    }

    /// What the next log in turn has to give. A log that fails holds up no other: its failure is
    /// told once none has anything.
    async fn next(&mut self, limit: BatchLimit) -> Result<Option<Delivery>, Failure> {
        let mut failed = None;
        for _ in 0..self.drains.len() {
            let turn = self.turn % self.drains.len();
            self.turn = turn + 1;
            match self.drains[turn].next(limit).await {
                Ok(Some(delivery)) => return Ok(Some(delivery)),
                Ok(None) => {}
                Err(failure) => failed = Some(failure),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// Waits until the own log has more, another may have, or it is time to look for new ones.
    async fn wait(&self, deadline: Instant) {
        let mut until = deadline.min(self.list_at);
        if self.drains.iter().any(Drain::is_foreign) {
            until = until.min(Instant::now() + self.poll);
        }
        let own = self.drains.iter().find_map(Drain::waits_at);
        let more = async {
            match own {
                Some((log, position)) => drop(log.tail_beyond(position).await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = more => {}
            () = time::sleep_until(until) => {}
        }
    }

    /// Takes the logs that appeared, and removes those of instances that are gone.
    async fn look(&mut self) -> Result<(), Failure> {
        self.remove_gone().await;
        let known: Vec<PathBuf> = self.drains.iter().map(|drain| drain.dir.clone()).collect();
        let root = self.root.clone();
        let new = blocking(&self.root, move || {
            let new = new_logs(&root, &known);
            new.map_err(|error| files::failure(error, "look for logs under", &root))
        })
        .await?;
        if !new.is_empty() {
            let (own, cursors) = (self.own.clone(), self.store.cursors().await?);
            let taken =
                blocking(&self.root, move || Ok(take(&new, own.as_ref(), &cursors))).await?;
            self.drains.extend(taken);
        }
        self.list_at = Instant::now() + self.list;
        Ok(())
    }

    async fn remove_gone(&mut self) {
        let now = Instant::now();
        let mut index = 0;
        while let Some(drain) = self.drains.get_mut(index) {
            let idle = now.duration_since(drain.came) >= self.remove_after;
            if idle && drain.is_foreign() {
                // The next look at it is as far away as this one was.
                drain.came = now;
                if drain.remove().await {
                    self.drains.remove(index);
                    continue;
                }
            }
            index += 1;
        }
    }
}

/// Takes each of the logs that no other worker has. One that can't be taken is told and tried
/// again with the next look.
fn take(dirs: &[PathBuf], own: Option<&Log>, cursors: &[Cursor]) -> Vec<Drain> {
    let mut taken = Vec::new();
    for dir in dirs {
        let own = own.filter(|log| log.dir() == dir).cloned();
        match Drain::take(dir, own, cursors) {
            Ok(drain) => taken.extend(drain),
            Err(failure) => {
                let cause = std::error::Error::source(&failure).map(ToString::to_string);
                tracing::error!(%failure, cause, "this log is not drained");
            }
        }
    }
    taken
}

/// The directories of logs that are not among the `known`, in the order of their names.
fn new_logs(root: &Path, known: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut new = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() && !known.contains(&path) {
            // One without an identity is being made, or is none.
            if let Ok(Some(_)) = Log::read_id(&RealDisk, &path) {
                new.push(path);
            }
        }
    }
    new.sort();
    Ok(new)
}

async fn blocking<T: Send + 'static>(
    root: &Path,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    task::spawn_blocking(work).await.map_err(|error| {
        let root = root.display().to_string();
        Failure::new(FailureKind::Unavailable, "look at the logs under", root).because(error)
    })?
}
