//! The replacement of all instances by ones of another binary or other settings.

use std::sync::Arc;
use std::time::{Duration, Instant};

use inlet_edge::health::Standing;

use super::Fleet;
use crate::config::{Role, Settings};
use crate::roles::supervise::board::Phase;
use crate::roles::supervise::control::Reply;
use crate::roles::supervise::launch::Launch;
use crate::roles::supervise::placement::Place;
use crate::systemd;

/// How long a new instance may take to become ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How often is looked whether it is.
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl Fleet {
    /// Replaces every instance by one of the binary and the settings of this moment, one at a
    /// time, each only once the new one is ready and the edge knows it.
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
            Err(error) => return not_reloaded(&format!("{error:#}")),
        };
        let settings =
            match self.given.read().and_then(|sources| Settings::read(&sources, Role::Up)) {
                Ok(settings) => settings,
                // A new binary may know settings that this one does not; its instances say so.
                Err(error) if !launch.has_binary_of(&self.launch) => {
                    tracing::warn!(%error, "what the edge does stays as it is");
                    self.settings.clone()
                }
                Err(error) => return not_reloaded(&error.to_string()),
            };
        // Those that run come first: one that does not can't show that the new one is better.
        let ids: Vec<String> = self.members.iter().map(|member| member.id.clone()).collect();
        let (running, others): (Vec<String>, Vec<String>) =
            ids.into_iter().partition(|id| self.is_running(id));
        for id in &running {
            if let Err(reason) = self.replace(id, &launch).await {
                return not_reloaded(&reason);
            }
        }
        for id in &others {
            self.start_anew(id, &launch).await;
        }
        let replaced = running.len() + others.len();
        let taken_up = self.live.take_up(&settings);
        (self.launch, self.settings) = (launch, settings);
        if let Some(worker) = &mut self.worker {
            worker.stop();
            worker.ended().await;
        }
        self.worker = Some(self.start_worker(&self.launch));
        match taken_up {
            Ok(()) => Reply::Done(format!("{replaced} instances were replaced")),
            Err(error) => Reply::Refused(format!(
                "{replaced} instances were replaced; of what the edge does the old stays where \
                 the new can't be used: {error:#}"
            )),
        }
    }

    /// Starts a successor and ends the instance once that is ready.
    ///
    /// # Errors
    /// Why the successor is not ready; then it is ended.
    async fn replace(&mut self, old: &str, launch: &Arc<Launch>) -> Result<(), String> {
        let Some(place) = self.place_of(old) else { return Ok(()) };
        let successor = self.start_at(place, launch);
        let id = successor.id.clone();
        self.others.push(successor);
        if let Err(reason) = self.becomes_ready(&id).await {
            self.end_other(&id).await;
            return Err(format!("{id} did not become ready: {reason}"));
        }
        let new = self.others.iter().position(|other| other.id == id);
        let old = self.members.iter().position(|member| member.id == old);
        if let (Some(new), Some(old)) = (new, old) {
            let successor = self.others.swap_remove(new);
            let old = std::mem::replace(&mut self.members[old], successor);
            self.drain_and_end(old).await;
        }
        Ok(())
    }

    /// Ends an instance that does not run and starts another in its stead.
    async fn start_anew(&mut self, old: &str, launch: &Arc<Launch>) {
        let Some(place) = self.place_of(old) else { return };
        if let Some(index) = self.members.iter().position(|member| member.id == old) {
            let old = self.members.remove(index);
            self.drain_and_end(old).await;
        }
        let successor = self.start_at(place, launch);
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
        let begun = Instant::now();
        while begun.elapsed() < READY_WITHIN {
            let Some(entry) = self.board.entry(id) else { return Err("it is gone".to_owned()) };
            if let Some(reason) = entry.reason {
                return Err(reason);
            }
            let known = self.backends.edge().status();
            let is_asked = known
                .iter()
                .any(|status| status.id == id && matches!(status.standing, Standing::Up(_)));
            if entry.ready_since.is_some() && is_asked {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err(format!("it was not ready within {} s", READY_WITHIN.as_secs()))
    }
}

fn not_reloaded(reason: &str) -> Reply {
    Reply::Refused(format!("not reloaded, the instances stay as they are: {reason}"))
}
