//! All the logs that are drained from here.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use inlet_core::failure::{Failure, FailureKind};
use inlet_core::health::{Health, Part};
use inlet_core::ports::{BatchLimit, Cursor, Delivery, Store};
use inlet_log::{Log, LogId, Position, ReadError, RealDisk};
use tokio::task;
use tokio::time::{self, Instant};

use super::LogQueueOptions;
use super::drain::{Drain, StoreState};
use super::failure;
use super::known::Known;
use super::standing::Standing;
use crate::files;

/// The logs under one root, and whose turn it is.
///
/// A log that is damaged, or does not belong to this store, is set aside: it is on the board as
/// `log-INSTANCE`, it is looked at again now and then, and all others go on.
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
    retry: Duration,
    known: Option<Known>,
    standing: Arc<Standing>,
    health: Option<Health>,
    /// The logs that fail, with when they are looked at again.
    aside: BTreeMap<PathBuf, (Instant, Option<Part>)>,
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
        standing: Arc<Standing>,
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
            retry: Duration::from_millis(options.retry_ms),
            known: options.known.as_deref().map(Known::new),
            standing,
            health: options.health.clone(),
            aside: BTreeMap::new(),
        }
    }

    pub(super) async fn receive(&mut self, limit: BatchLimit) -> Result<Delivery, Failure> {
        let deadline = Instant::now() + limit.wait;
        loop {
            if Instant::now() >= self.list_at {
                self.look().await?;
            }
            if let Some(delivery) = self.next(limit).await {
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
                self.standing.note(&drain.dir, drain.own(), drain.settled());
                Ok(())
            }
            None => Err(Failure::new(
                FailureKind::Refused,
                "settle a delivery of a log that is not drained from here,",
                cursor.log.clone(),
            )),
        }
    }

    /// The next delivery, from the next log in turn that has one.
    async fn next(&mut self, limit: BatchLimit) -> Option<Delivery> {
        for _ in 0..self.drains.len() {
            let turn = self.turn % self.drains.len();
            self.turn = turn + 1;
            let dir = self.drains[turn].dir.clone();
            if self.aside.get(&dir).is_some_and(|(again, _)| Instant::now() < *again) {
                continue;
            }
            match self.drains[turn].next(limit).await {
                Ok(Some(delivery)) => {
                    self.aside.remove(&dir);
                    return Some(delivery);
                }
                Ok(None) => drop(self.aside.remove(&dir)),
                Err(failure) => self.set_aside(&dir, &failure),
            }
        }
        None
    }

    /// Leaves a log alone for a while, and tells why. What its own process appends to it waits
    /// until somebody looks, so that process should get no more.
    fn set_aside(&mut self, dir: &Path, failure: &Failure) {
        let is_own = self.own.as_ref().is_some_and(|own| own.dir() == dir);
        let instance = dir.file_name().map(|name| name.to_string_lossy().to_lowercase());
        let name = format!("log-{}", instance.unwrap_or_default());
        let health = self.health.as_ref();
        let fresh = || (Instant::now(), health.map(|health| health.part(name)));
        let (again, part) = self.aside.entry(dir.to_owned()).or_insert_with(fresh);
        *again = Instant::now() + self.retry;
        match part {
            Some(part) if is_own && !failure.is_retryable() => part.unready(failure),
            Some(part) => part.degraded(failure),
            None => tracing::error!(failure = %failure.chain(), "this log is not drained"),
        }
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
        let now = Instant::now();
        let mut passed: Vec<PathBuf> = self.drains.iter().map(|drain| drain.dir.clone()).collect();
        let resting = self.aside.iter().filter(|(_, (again, _))| now < *again);
        passed.extend(resting.map(|(dir, _)| dir.clone()));
        let (root, known) = (self.root.clone(), self.known.clone());
        let found = blocking(&self.root, move || find(&root, &passed, known.as_ref())).await?;
        let mut failing = found.failing;
        if !found.logs.is_empty() {
            let (own, store) = (self.own.clone(), StoreState::ask(&*self.store).await?);
            let known = self.known.clone();
            let (taken, failed) = blocking(&self.root, move || {
                Ok(take(&found.logs, own.as_ref(), &store, known.as_ref()))
            })
            .await?;
            for drain in taken {
                self.aside.remove(&drain.dir);
                self.standing.note(&drain.dir, drain.own(), drain.settled());
                self.drains.push(drain);
            }
            failing.extend(failed);
        }
        for (dir, failure) in &failing {
            self.set_aside(dir, failure);
        }
        // One that was looked at and does not fail any more was repaired, or removed.
        let drains = &self.drains;
        let drained = |dir: &PathBuf| drains.iter().any(|drain| drain.dir == *dir);
        self.aside.retain(|dir, (again, _)| now < *again || drained(dir));
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
                let instance =
                    drain.dir.file_name().map(|name| name.to_string_lossy().into_owned());
                let known = self.known.clone().zip(instance);
                let forget =
                    move || known.as_ref().map_or(Ok(()), |(known, name)| known.forget(name));
                if drain.remove(forget).await {
                    self.standing.forget(&drain.dir);
                    self.drains.remove(index);
                    continue;
                }
            }
            index += 1;
        }
    }
}

type Failing = Vec<(PathBuf, Failure)>;

/// Takes each of the logs that no other worker has; gives those that can't be taken, and why.
fn take(
    logs: &[(PathBuf, LogId)],
    own: Option<&Log>,
    store: &StoreState,
    known: Option<&Known>,
) -> (Vec<Drain>, Failing) {
    let (mut taken, mut failing) = (Vec::new(), Vec::new());
    for (dir, id) in logs {
        let own = own.filter(|log| log.dir() == dir).cloned();
        let noted = match (known, dir.file_name().and_then(|name| name.to_str())) {
            (Some(known), Some(instance)) => known.note(instance, *id),
            _ => Ok(()),
        };
        match noted.and_then(|()| Drain::take(dir, own, store)) {
            Ok(drain) => taken.extend(drain),
            Err(failure) => failing.push((dir.clone(), failure)),
        }
    }
    (taken, failing)
}

/// The contents of the root.
struct Found {
    /// The logs that are not passed over, in the order of their names.
    logs: Vec<(PathBuf, LogId)>,
    /// Those that can't be opened, or should be there.
    failing: Failing,
}

/// Looks for the logs under `root` that are not among those `passed` over.
fn find(root: &Path, passed: &[PathBuf], known: Option<&Known>) -> Result<Found, Failure> {
    let (mut logs, mut failing) = (Vec::new(), Vec::new());
    let listing = |error| files::failure(error, "look for logs under", root);
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        entries => Some(entries.map_err(listing)?),
    };
    for entry in entries.into_iter().flatten() {
        let path = entry.map_err(listing)?.path();
        if !path.is_dir() || passed.contains(&path) {
            continue;
        }
        match Log::read_id(&RealDisk, &path) {
            Ok(Some(id)) => logs.push((path, id)),
            // One without an identity is being made, or is none.
            Ok(None) => {}
            Err(error @ ReadError::Damage(_)) => failing.push((path, failure::read(error))),
            // It went in between, or can't be read now.
            Err(error) => tracing::debug!(%error, "a directory beside the logs can't be read"),
        }
    }
    logs.sort();
    for missing in known.map_or_else(|| Ok(Vec::new()), |known| known.missing(root))? {
        if !passed.contains(&missing.dir) {
            failing.push((missing.dir.clone(), failure::missing(&missing)));
        }
    }
    Ok(Found { logs, failing })
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
