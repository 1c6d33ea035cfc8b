//! The replacement of all instances by ones of another binary or other settings.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use inlet_edge::health::Standing;

use super::super::member::Member;
use super::super::placement::{Zone, places};
use super::{Fleet, InForce};
use crate::config::{Role, SETTINGS, Settings, Sources};
use crate::roles::supervise::board::Phase;
use crate::roles::supervise::control::Reply;
use crate::roles::supervise::launch::Launch;
use crate::roles::supervise::placement::Place;
use crate::systemd;

/// How long a new instance may take to become ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How often is looked whether it is.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Settings that the first process, with its listeners and its loop of summaries, keeps as they were
/// at its start.
const AT_RESTART: &[&str] = &[
    "data",
    "https",
    "http",
    "plain",
    "instance",
    "bucket",
    "secrets",
    "tls_cert",
    "tls_key",
    "tls_dir",
    "connections_max",
    "connections_per_address_max",
    "idle_s",
    "proxy_protocol",
    "static",
    "access_log",
    "trusted_proxy",
    "hsts_s",
    "mint_keys",
    "summary_cron",
    "backups_max",
    "time_zone",
    "log_format",
    "log_level",
];

impl Fleet {
    /// Replaces every instance by one of the binary and the settings of this moment, one at a
    /// time, each only once the new one is ready and the edge knows it. It is a transaction: where
    /// one does not become ready, all go back to what was in force before.
    pub(super) async fn reload(&mut self) -> Reply {
        systemd::reload::begun();
        let reply = self.replace_all().await;
        let (Reply::Done(said) | Reply::Refused(said)) = &reply;
        systemd::reload::done(said);
        reply
    }

    async fn replace_all(&mut self) -> Reply {
        let launch = match Launch::new(&self.given, &self.binary, &self.data) {
            Ok(launch) => Arc::new(launch),
            Err(error) => return not_reloaded(&format!("{error:#}"), ""),
        };
        let read = self.given.read().and_then(|sources| {
            let settings = Settings::read(&sources, Role::Up)?;
            Ok((values(&sources), settings))
        });
        let (given, settings) = match read {
            Ok(read) => read,
            // A new binary may know settings that this one does not; its instances say so.
            Err(error) if !launch.has_binary_of(&self.now.launch) => {
                tracing::warn!(%error, "what the edge does stays as it is");
                (self.now.given.clone(), self.now.settings.clone())
            }
            Err(error) => return not_reloaded(&error.to_string(), ""),
        };
        let Some(size) = settings.fleet else {
            return not_reloaded("without `instances` there is no edge; that takes a restart", "");
        };
        let changed = changed(&self.now.given, &given);
        if let Err(error) = self.live.take_up(&settings) {
            self.go_back_to(&self.now.settings);
            return not_reloaded(&format!("{error:#}"), "");
        }
        let before = std::mem::replace(&mut self.now, InForce { launch, settings, size, given });
        self.resize_zones();
        let mut replaced = Vec::new();
        match self.replace_each(&mut replaced).await {
            Ok(()) => taken_up(&replaced, &changed),
            Err(reason) => {
                self.now = before;
                self.resize_zones();
                self.go_back_to(&self.now.settings);
                let undone = self.undo(&replaced).await;
                not_reloaded(&reason, &undone)
            }
        }
    }

    /// Gives every place that should be taken an instance of what is in force now, and replaces
    /// the worker; `replaced` gets the ids of new instances, also where it fails.
    ///
    /// # Errors
    /// Names the one that did not become ready, and the cause.
    async fn replace_each(&mut self, replaced: &mut Vec<String>) -> Result<(), String> {
        let wanted = places(&self.standing(), self.now.size.instances);
        let is_wanted = |member: &&Member| member.place.is_some_and(|it| wanted.contains(&it));
        let ids: Vec<String> =
            self.members.iter().filter(is_wanted).map(|member| member.id.clone()).collect();
        // Those that run come first: one that does not can't show that the new one is better.
        let (running, others): (Vec<String>, Vec<String>) =
            ids.into_iter().partition(|id| self.is_running(id));
        for id in &running {
            replaced.extend(self.replace(id).await?);
        }
        for id in &others {
            self.start_anew(id).await;
        }
        let known: Vec<String> = self.members.iter().map(|member| member.id.clone()).collect();
        self.start_missing();
        let ids = self.members.iter().map(|member| member.id.clone());
        for id in ids.filter(|id| !known.contains(id)).collect::<Vec<_>>() {
            replaced.push(id.clone());
            self.becomes_ready(&id).await.map_err(|reason| not_ready(&id, &reason))?;
        }
        self.restart_worker().await
    }

    /// Replaces what was taken up by what was in force before, and the worker too. A sentence
    /// about each that could not be; instances at places that are not wanted are ended in time.
    async fn undo(&mut self, replaced: &[String]) -> String {
        let wanted = places(&self.standing(), self.now.size.instances);
        let mut failed = Vec::new();
        for id in replaced {
            if self.place_of(id).is_some_and(|place| wanted.contains(&place))
                && let Err(reason) = self.replace(id).await
            {
                failed.push(format!("{id} stays with the new settings: {reason}"));
            }
        }
        if let Err(reason) = self.restart_worker().await {
            failed.push(reason);
        }
        match (replaced, &failed[..]) {
            ([], []) => String::new(),
            (back, []) => format!("{} went back", back.join(", ")),
            (_, failed) => failed.join("; "),
        }
    }

    /// Takes the edge itself back to the settings before. If files of then can't be used now, the
    /// edge keeps what it has.
    fn go_back_to(&self, settings: &Settings) {
        if let Err(error) = self.live.take_up(settings) {
            tracing::warn!(error = %format!("{error:#}"), "what the edge does stays as it is");
        }
    }

    async fn restart_worker(&mut self) -> Result<(), String> {
        if let Some(worker) = &mut self.worker {
            worker.stop();
            worker.ended().await;
        }
        let worker = self.start_worker();
        let id = worker.id.clone();
        self.worker = Some(worker);
        self.comes_up(&id, |_| true).await.map_err(|reason| not_ready(&id, &reason))
    }

    /// As many zones as there should be; new ones are taken to be up.
    fn resize_zones(&self) {
        let mut zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        zones.resize(self.now.size.zones, Zone::Up);
    }

    /// Starts a successor and ends the instance once that is ready; the successor's id.
    ///
    /// # Errors
    /// Why the successor is not ready; then it is ended.
    async fn replace(&mut self, old: &str) -> Result<Option<String>, String> {
        let Some(place) = self.place_of(old) else { return Ok(None) };
        let successor = self.start_at(place);
        let id = successor.id.clone();
        self.others.push(successor);
        if let Err(reason) = self.becomes_ready(&id).await {
            self.end_other(&id).await;
            return Err(not_ready(&id, &reason));
        }
        let new = self.others.iter().position(|other| other.id == id);
        let old = self.members.iter().position(|member| member.id == old);
        if let (Some(new), Some(old)) = (new, old) {
            let successor = self.others.swap_remove(new);
            let old = std::mem::replace(&mut self.members[old], successor);
            self.drain_and_end(old).await;
        }
        Ok(Some(id))
    }

    /// Ends an instance that does not run and starts another in its stead.
    async fn start_anew(&mut self, old: &str) {
        let Some(place) = self.place_of(old) else { return };
        if let Some(index) = self.members.iter().position(|member| member.id == old) {
            let old = self.members.remove(index);
            self.drain_and_end(old).await;
        }
        let successor = self.start_at(place);
        self.members.push(successor);
    }

    fn is_running(&self, id: &str) -> bool {
        self.board.entry(id).is_some_and(|entry| entry.phase == Phase::Running)
    }

    fn place_of(&self, id: &str) -> Option<Place> {
        self.members.iter().find(|member| member.id == id).and_then(|member| member.place)
    }

    /// Waits until an instance is ready and the edge sends requests to it.
    ///
    /// # Errors
    /// Why it is not.
    async fn becomes_ready(&self, id: &str) -> Result<(), String> {
        let is_asked = |id: &str| {
            let known = self.backends.edge().status();
            known.iter().any(|it| it.id == id && matches!(it.standing, Standing::Up(_)))
        };
        self.comes_up(id, is_asked).await
    }

    async fn comes_up(&self, id: &str, is_known: impl Fn(&str) -> bool) -> Result<(), String> {
        let begun = Instant::now();
        while begun.elapsed() < READY_WITHIN {
            let Some(entry) = self.board.entry(id) else { return Err("it is gone".to_owned()) };
            if let Some(reason) = entry.reason {
                return Err(reason);
            }
            if entry.ready_since.is_some() && is_known(id) {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err(format!("it was not ready within {} s", READY_WITHIN.as_secs()))
    }
}

/// The value of each setting, in their order.
pub(super) fn values(sources: &Sources) -> Vec<String> {
    sources.iter().map(|(_, value)| value.text.clone()).collect()
}

/// The names of the settings whose values differ.
fn changed(before: &[String], now: &[String]) -> Vec<&'static str> {
    let both = SETTINGS.iter().zip(before.iter().zip(now));
    both.filter(|(_, (before, now))| before != now).map(|(setting, _)| setting.name).collect()
}

fn not_ready(id: &str, reason: &str) -> String {
    format!("{id} did not become ready: {reason}")
}

fn not_reloaded(reason: &str, undone: &str) -> Reply {
    let undone = if undone.is_empty() { String::new() } else { format!("; {undone}") };
    Reply::Refused(format!("not reloaded, all stays as it was: {reason}{undone}"))
}

/// The instances that were replaced and the settings in force. A setting that is not is an error.
fn taken_up(replaced: &[String], changed: &[&'static str]) -> Reply {
    let (later, taken): (Vec<_>, Vec<_>) =
        changed.iter().copied().partition(|name| AT_RESTART.contains(name));
    let names = replaced.join(", ");
    let mut said = match replaced.len() {
        1 => format!("1 instance was replaced: {names}"),
        count => format!("{count} instances were replaced: {names}"),
    };
    if !taken.is_empty() {
        said.push_str(&format!("; in force: {}", taken.join(", ")));
    }
    if later.is_empty() {
        return Reply::Done(said);
    }
    said.push_str(&format!(
        "; not in force before a restart, because the first process holds it: {}",
        later.join(", ")
    ));
    Reply::Refused(said)
}
