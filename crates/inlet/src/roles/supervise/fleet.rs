//! All instances: which there should be, and their end.

mod reload;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::backends::Backends;
use super::board::{Board, Entry, Phase};
use super::control::{Asked, Command, Reply};
use super::launch::Launch;
use super::member::{Kind, Member};
use super::placement::{Place, Zone, places, zone_name};
use crate::cli::Given;
use crate::config::{FleetOptions, Settings};
use crate::roles::front::Live;
use crate::roles::stop::Stop;
use crate::roles::watched::Watched;

/// How often is looked at the zones, whatever happens.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// After how many ends in a row of each of its instances a zone is thought to be down.
const FAILURES_MAX: u32 = 3;
/// For how long all instances of a zone must have been ready for it to be thought to be back.
const STEADY: Duration = Duration::from_secs(2);

/// The zones as they stand, for those who want to know. Clones are the same.
pub(super) type Zones = Arc<Mutex<Vec<Zone>>>;

/// All instances and the worker.
pub(super) struct Fleet {
    /// Everything in force that children are started with.
    now: InForce,
    /// The part of each instance's id that is this data directory's.
    base: String,
    given: Given,
    binary: PathBuf,
    data: PathBuf,
    board: Board,
    backends: Backends,
    live: Live,
    zones: Zones,
    edge_secret: Arc<str>,
    watched: Watched,
    members: Vec<Member>,
    /// Those that are on their way out, or not yet in.
    others: Vec<Member>,
    worker: Option<Member>,
}

/// A binary and settings, as of one moment.
struct InForce {
    launch: Arc<Launch>,
    settings: Settings,
    size: FleetOptions,
    /// The value of each setting as it was given, in their order.
    given: Vec<String>,
}

/// What a fleet is made from.
pub(super) struct Parts {
    pub(super) size: FleetOptions,
    pub(super) base: String,
    pub(super) settings: Settings,
    pub(super) given: Given,
    pub(super) data: PathBuf,
    pub(super) board: Board,
    pub(super) backends: Backends,
    pub(super) live: Live,
    pub(super) zones: Zones,
    /// By which the instances know their edge.
    pub(super) edge_secret: Arc<str>,
    pub(super) watched: Watched,
}

impl Fleet {
    /// Starts the worker and all instances.
    pub(super) fn start(parts: Parts) -> anyhow::Result<Self> {
        let binary = std::env::current_exe()?;
        let launch = Arc::new(Launch::new(&parts.given, &binary, &parts.data)?);
        let as_given = reload::values(&parts.given.read()?);
        let Parts { size, base, settings, given, data, board, backends, live, zones, .. } = parts;
        let Parts { edge_secret, watched, .. } = parts;
        let mut fleet = Self {
            now: InForce { launch, settings, size, given: as_given },
            base,
            given,
            binary,
            data,
            board,
            backends,
            live,
            zones,
            edge_secret,
            watched,
            members: Vec::new(),
            others: Vec::new(),
            worker: None,
        };
        fleet.worker = Some(fleet.start_worker());
        fleet.start_missing();
        Ok(fleet)
    }

    /// Waits until every instance runs or has failed once.
    ///
    /// # Errors
    /// Why none of them runs.
    pub(super) async fn first_instances(&self) -> Result<(), String> {
        let mut changes = self.board.watch();
        loop {
            let entries = self.board.entries();
            let mut instances = entries.iter().filter(|entry| entry.place.is_some());
            let is_settled =
                |entry: &Entry| entry.phase == Phase::Running || entry.reason.is_some();
            if instances.clone().all(is_settled) {
                if instances.clone().any(|entry| entry.phase == Phase::Running) {
                    return Ok(());
                }
                let reason = instances.find_map(|entry| entry.reason.clone());
                return Err(reason.unwrap_or_else(|| "there is none".to_owned()));
            }
            if changes.changed().await.is_err() {
                return Err("nobody starts them".to_owned());
            }
        }
    }

    /// Does what is asked and keeps the zones in order, until it is time to stop.
    pub(super) async fn run(&mut self, asked: &mut Asked, stop: &Stop) {
        loop {
            tokio::select! {
                biased;
                _ = stop.wait() => return,
                () = self.step(asked) => {}
            }
        }
    }

    /// Ends everything: the instances first, then the worker.
    pub(super) async fn end(mut self) {
        let instances: Vec<Member> = self.members.drain(..).chain(self.others.drain(..)).collect();
        instances.iter().for_each(Member::stop);
        for mut instance in instances {
            instance.ended().await;
        }
        if let Some(mut worker) = self.worker.take() {
            worker.stop();
            worker.ended().await;
        }
    }

    async fn step(&mut self, asked: &mut Asked) {
        let mut changes = self.board.watch();
        tokio::select! {
            request = asked.next() => {
                let reply = match request.command {
                    Command::Reload => self.reload().await,
                    Command::Close(zone) => self.close(&zone),
                    Command::Open(zone) => self.open(&zone),
                };
                match &reply {
                    Reply::Done(done) => tracing::info!("{done}"),
                    Reply::Refused(reason) => tracing::error!("{reason}"),
                }
                if let Some(asker) = request.asker && asker.send(reply).is_err() {
                    tracing::debug!("who asked is gone");
                }
            }
            _ = changes.changed() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        self.judge_zones();
        self.start_missing();
        self.end_one_surplus().await;
    }

    fn standing(&self) -> Vec<Zone> {
        self.zones.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, zone: usize, standing: Zone) {
        self.zones.lock().unwrap_or_else(PoisonError::into_inner)[zone] = standing;
    }

    fn zone(&self, name: &str) -> Option<usize> {
        (0..self.now.size.zones).find(|zone| zone_name(*zone) == name)
    }

    fn close(&self, name: &str) -> Reply {
        let Some(zone) = self.zone(name) else { return no_zone(name, self.now.size) };
        let standing = self.standing();
        let others = standing.iter().enumerate().filter(|(other, _)| *other != zone);
        if !others.into_iter().any(|(_, standing)| *standing == Zone::Up) {
            return Reply::Refused(format!("zone {name} is the last one that is up"));
        }
        self.set(zone, Zone::Closed);
        Reply::Done(format!("zone {name} is taken out of use"))
    }

    fn open(&self, name: &str) -> Reply {
        let Some(zone) = self.zone(name) else { return no_zone(name, self.now.size) };
        // It has to show that instances start there before those in its stead are ended.
        if self.standing()[zone] == Zone::Closed {
            self.set(zone, Zone::Down);
        }
        Reply::Done(format!("zone {name} is taken into use again"))
    }

    /// Looks which zones have gone down or come back.
    fn judge_zones(&self) {
        let entries = self.board.entries();
        let at_home = |zone: usize| {
            let is_home = move |place: Place| {
                place.zone == zone && !place.is_substitute(self.now.size.instances)
            };
            entries.iter().filter(move |entry| entry.place.is_some_and(is_home))
        };
        let is_ready = |entry: &Entry| entry.ready_since.is_some();
        for (zone, standing) in self.standing().into_iter().enumerate() {
            let name = zone_name(zone);
            match standing {
                Zone::Up => {
                    let has_failed = |entry: &Entry| {
                        entry.phase != Phase::Running && entry.failures >= FAILURES_MAX
                    };
                    let elsewhere = (0..self.now.size.zones).filter(|other| *other != zone);
                    let is_elsewhere_ready =
                        elsewhere.into_iter().any(|other| at_home(other).any(is_ready));
                    if at_home(zone).all(has_failed) && is_elsewhere_ready {
                        tracing::warn!(zone = name, "a zone is down; its instances go elsewhere");
                        self.set(zone, Zone::Down);
                    }
                }
                Zone::Down => {
                    let is_steady = |entry: &Entry| {
                        entry.ready_since.is_some_and(|since| since.elapsed() >= STEADY)
                    };
                    if at_home(zone).filter(|entry| is_steady(entry)).count()
                        >= self.now.size.instances
                    {
                        tracing::info!(zone = name, "a zone is back; its instances return");
                        self.set(zone, Zone::Up);
                    }
                }
                Zone::Closed => {}
            }
        }
    }

    /// Starts an instance at every place that should be taken and is not.
    fn start_missing(&mut self) {
        for place in places(&self.standing(), self.now.size.instances) {
            if !self.members.iter().any(|member| member.place == Some(place)) {
                let member = self.start_at(place);
                self.members.push(member);
            }
        }
    }

    /// Ends an instance at a place that should not be taken, once all that should be are.
    async fn end_one_surplus(&mut self) {
        let standing = self.standing();
        let wanted = places(&standing, self.now.size.instances);
        let surplus = self
            .members
            .iter()
            .position(|member| member.place.is_some_and(|place| !wanted.contains(&place)));
        let Some(surplus) = surplus else { return };
        let entries = self.board.entries();
        let is_taken = |place: &Place| {
            let mut there = entries.iter().filter(|entry| entry.place == Some(*place));
            there.any(|entry| entry.ready_since.is_some())
        };
        let is_up = |place: &&Place| standing[place.zone] == Zone::Up;
        if wanted.iter().filter(is_up).all(is_taken) {
            let member = self.members.remove(surplus);
            tracing::info!(instance = member.id, "ended: there is one in its stead");
            self.drain_and_end(member).await;
        }
    }

    /// Lets an instance finish what it has and ends it.
    async fn drain_and_end(&mut self, member: Member) {
        let id = member.id.clone();
        // Kept where it is found, should it be time to stop in the middle of this.
        self.others.push(member);
        self.backends.drain(&id, self.now.settings.shutdown).await;
        self.end_other(&id).await;
    }

    async fn end_other(&mut self, id: &str) {
        if let Some(index) = self.others.iter().position(|other| other.id == id) {
            self.others[index].stop();
            self.others[index].ended().await;
            self.others.swap_remove(index);
        }
    }

    fn start_at(&self, place: Place) -> Member {
        let name = format!("{}-{}{}", self.base, zone_name(place.zone), place.number);
        // An instance and its successor each need a log of their own; they take turns with two.
        let is_taken = self.members.iter().chain(&self.others).any(|member| member.id == name);
        let id = if is_taken { format!("{name}.2") } else { name };
        Member::start(
            self.kind(id, Some(place)),
            Arc::clone(&self.now.launch),
            &self.board,
            &self.watched,
        )
    }

    fn start_worker(&self) -> Member {
        let id = format!("{}-persist", self.base);
        Member::start(self.kind(id, None), Arc::clone(&self.now.launch), &self.board, &self.watched)
    }

    fn kind(&self, id: String, place: Option<Place>) -> Kind {
        let instances = self.now.size.instances * self.now.size.zones;
        Kind {
            id,
            place,
            threads: (self.now.settings.threads / instances).max(1),
            bodies_bytes_max: self.now.settings.limits.bodies_bytes_max,
            hang: self.now.size.hang,
            shutdown: self.now.settings.shutdown,
            log_json: self.now.settings.log_json,
            edge_secret: Arc::clone(&self.edge_secret),
        }
    }
}

fn no_zone(name: &str, size: FleetOptions) -> Reply {
    let last = zone_name(size.zones - 1);
    Reply::Refused(format!("there is no zone {name}; there are a to {last}"))
}
