//! Keeping the backends: who they are, how they stand, and the loop that finds out.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{MutexGuard, PoisonError};

use rand::RngExt;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::{Arc, Backend, BackendOptions, Duration, Edge, EdgeError, Ordering, State, now};
use crate::health::{EjectionCause, Outcome, Standing, Tally, outliers, probe};

/// How often time is let pass for ejections and slow starts, in milliseconds.
const TICK_MS: u64 = 100;
/// How many ticks there are between two looks of those that wait for an answer.
const TICKS_PER_LOOK: u64 = 2;
/// How many ticks there are between two looks for idle connections that are too old.
const TICKS_PER_EXPIRY: u64 = 10;

/// How a backend stands, for those who watch.
#[derive(Debug, Clone, PartialEq)]
pub struct BackendStatus {
    /// Its id.
    pub id: String,
    /// Its zone.
    pub zone: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// What is believed of it.
    pub standing: Standing,
    /// Whether it gets no new requests.
    pub is_draining: bool,
    /// Requests that it has and has not answered to the end.
    pub outstanding: usize,
    /// Its response time lately, in microseconds.
    pub latency_us: u64,
    /// Idle connections to it.
    pub connections_idle: usize,
    /// Requests that were sent to it, second attempts included.
    pub requests: u64,
    /// Those that were sent to another one before.
    pub retries: u64,
    /// Connections that were tried.
    pub connects: u64,
    /// Connections that could not be made.
    pub connect_errors: u64,
    /// Answers that were its failure, or did not come.
    pub answer_errors: u64,
    /// Checks that failed.
    pub checks_failed: u64,
    /// How often it was ejected, by cause.
    pub ejections: [(EjectionCause, u64); 3],
}

impl Edge {
    /// Takes these as the backends. What is known of those that stay as they are is kept; those
    /// that are not among them finish what they have.
    ///
    /// # Errors
    /// When two have one id, or TLS to one can't be set up; then nothing changes.
    pub fn set_backends(&self, backends: Vec<BackendOptions>) -> Result<(), EdgeError> {
        let state = &self.state;
        let mut ids = HashSet::new();
        if let Some(twice) = backends.iter().find(|backend| !ids.insert(backend.id.as_str())) {
            return Err(EdgeError::BackendTwice(twice.id.clone()));
        }
        let judging = state.judging();
        let before = state.fleet.seating().all.clone();
        let mut all = Vec::with_capacity(backends.len());
        for options in backends {
            let kept = before.iter().find(|old| old.options == options && !old.is_draining());
            all.push(match kept {
                Some(kept) => kept.clone(),
                None => Arc::new(Backend::new(options, &state.options, now())?),
            });
        }
        for old in &before {
            if !all.iter().any(|kept| Arc::ptr_eq(kept, old)) {
                old.let_go();
            }
        }
        state.fleet.seat(all, now());
        drop(judging);
        state.fleet_changed.notify_one();
        Ok(())
    }

    /// Whether no backend is up, so that those are asked that may be.
    pub fn is_failing_open(&self) -> bool {
        self.state.fleet.seating().is_failing_open
    }

    /// Gives the backend `id` no more requests, for it to be replaced; says whether it is there.
    /// It has finished what it has when its status says that nothing is outstanding.
    pub fn drain(&self, id: &str) -> bool {
        let judging = self.state.judging();
        let all = self.state.fleet.seating().all.clone();
        let found = all.iter().find(|backend| backend.options.id == id);
        let is_there = found.is_some();
        if let Some(backend) = found {
            backend.drain();
        }
        self.state.reseat(&judging);
        is_there
    }

    /// How all backends stand.
    pub fn status(&self) -> Vec<BackendStatus> {
        let seating = self.state.fleet.seating();
        seating.all.iter().map(|backend| self.state.status_of(backend)).collect()
    }

    /// Checks backends and lets time pass for them, until it is dropped. One of these has to run,
    /// on any of the runtimes.
    pub async fn run(&self) {
        let state = &self.state;
        let mut checks = JoinSet::new();
        let mut checked: Vec<Arc<Backend>> = Vec::new();
        let mut ticks = tokio::time::interval(Duration::from_millis(TICK_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tick = 0u64;
        loop {
            if state.options.health.checks {
                checked.retain(|backend| !backend.is_gone());
                for backend in &state.fleet.seating().all {
                    if !checked.iter().any(|known| Arc::ptr_eq(known, backend)) {
                        checked.push(backend.clone());
                        checks.spawn(check(state.clone(), backend.clone()));
                    }
                }
            }
            tokio::select! {
                _ = ticks.tick() => {
                    tick += 1;
                    state.on_tick(tick);
                }
                () = state.fleet_changed.notified() => {}
                Some(result) = checks.join_next() => {
                    if let Err(error) = result {
                        tracing::error!(%error, "the checks of a backend broke off");
                    }
                }
            }
        }
    }
}

/// Checks one backend again and again, until it is let go.
async fn check(state: Arc<State>, backend: Arc<Backend>) {
    let options = &state.options.health;
    let timeout = Duration::from_millis(options.check_timeout_ms);
    while !backend.is_gone() {
        let passed = probe(&backend.connector, &options.check_path, timeout).await;
        state.on_check(&backend, passed);
        let wait = backend.health().check_in();
        // Up to a tenth more or less, so that checks of many edges do not fall together.
        let jitter: f64 = rand::rng().random_range(0.9..1.1);
        tokio::select! {
            () = tokio::time::sleep(wait.mul_f64(jitter)) => {}
            () = backend.gone.notified() => {}
        }
    }
}

impl State {
    pub(super) fn judging(&self) -> MutexGuard<'_, ()> {
        self.judging.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the backends in order by how they stand now.
    pub(super) fn reseat(&self, _judging: &MutexGuard<'_, ()>) {
        self.fleet.seat(self.fleet.seating().all.clone(), now());
    }

    /// Counts what became of a request, and ejects its backend where that was one too many.
    pub(crate) fn report(&self, backend: &Arc<Backend>, outcome: Outcome, latency_us: u64) {
        backend.observe(outcome, latency_us, &self.clock);
        if outcome == Outcome::Answered && !backend.counts_errors() {
            return;
        }
        let judging = self.judging();
        let may_eject = self.may_eject(&judging);
        let is_ejected = backend.health().on_outcome(outcome, may_eject, now());
        backend.refresh(now());
        if is_ejected {
            self.ejected(backend);
            self.reseat(&judging);
        }
    }

    /// Whether one more backend may be ejected: not more than a share of all, and not the last.
    fn may_eject(&self, _judging: &MutexGuard<'_, ()>) -> bool {
        let seating = self.fleet.seating();
        let share = self.options.health.ejected_share_max * seating.all.len() as f64;
        seating.up >= 2 && (seating.ejected as f64 + 1.0) <= share.max(1.0)
    }

    fn ejected(&self, backend: &Backend) {
        if let Standing::Ejected(cause) = backend.refresh(now()) {
            backend.counters.ejected(cause);
            let id = &backend.options.id;
            tracing::warn!(backend = id, cause = cause.as_str(), "a backend is ejected");
        }
    }

    fn on_check(&self, backend: &Arc<Backend>, passed: bool) {
        if !passed {
            backend.counters.check_failed();
        }
        let judging = self.judging();
        let before = backend.refresh(now());
        backend.health().on_check(passed, now());
        let after = backend.refresh(now());
        if std::mem::discriminant(&before) != std::mem::discriminant(&after) {
            let id = &backend.options.id;
            match after {
                Standing::Down => tracing::warn!(backend = id, "a backend is down"),
                _ => tracing::info!(backend = id, "a backend is up"),
            }
            self.reseat(&judging);
        }
    }

    fn on_tick(&self, tick: u64) {
        let seating = self.fleet.seating();
        let judging = self.judging();
        let mut has_changed = false;
        for backend in &seating.all {
            has_changed |= backend.health().on_time(now());
            backend.refresh(now());
            if tick.is_multiple_of(TICKS_PER_LOOK) {
                backend.have_all_look();
            }
        }
        let ticks_per_window = (self.options.health.window_ms / TICK_MS).max(1);
        if tick.is_multiple_of(ticks_per_window) {
            let tallies: Vec<Tally> =
                seating.all.iter().map(|backend| backend.take_window()).collect();
            let windows = outliers(&tallies, &self.options.health);
            for (backend, window) in seating.all.iter().zip(windows) {
                let may_eject = self.may_eject(&judging);
                if backend.health().on_window(window, may_eject, now()) {
                    self.ejected(backend);
                    self.reseat(&judging);
                }
            }
        }
        if has_changed {
            self.reseat(&judging);
        }
        drop(judging);
        if tick.is_multiple_of(TICKS_PER_EXPIRY) {
            for backend in &seating.all {
                backend.pool.expire(now());
            }
        }
    }

    fn status_of(&self, backend: &Backend) -> BackendStatus {
        let counters = &backend.counters;
        let causes = [EjectionCause::Connect, EjectionCause::Errors, EjectionCause::Slow];
        // Far below the limits of an integer, and never negative.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
        let latency_us = backend.load.latency_us(self.clock.now_ms()) as u64;
        BackendStatus {
            id: backend.options.id.clone(),
            zone: backend.options.zone.clone(),
            address: backend.options.address,
            standing: backend.health().standing(now()),
            is_draining: backend.is_draining(),
            outstanding: backend.load.outstanding(),
            latency_us,
            connections_idle: backend.pool.idle(),
            requests: backend.load.requests(),
            retries: counters.retries.load(Ordering::Relaxed),
            connects: counters.connects.load(Ordering::Relaxed),
            connect_errors: counters.connect_errors.load(Ordering::Relaxed),
            answer_errors: counters.answer_errors.load(Ordering::Relaxed),
            checks_failed: counters.checks_failed.load(Ordering::Relaxed),
            ejections: causes.map(|cause| (cause, counters.ejections(cause))),
        }
    }
}
