//! The instances of `--backend`, and the addresses that their names stand for.
//!
//! Each name is followed by itself: one that can't be looked up, or whose look-up hangs, keeps the
//! addresses it had and holds up no other, nor the start. No two look-ups of one name run at once,
//! so that a resolver that hangs costs one thread a name.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use inlet_edge::{BackendOptions, BackendTls, Edge};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::report::Hinted;
use crate::roles::stop::Stop;
use crate::roles::watched::Watched;

/// The time between two look-ups of a name that was found.
const LOOK_UP_EVERY: Duration = Duration::from_secs(15);
/// The time after the first look-up that failed; it doubles with each that follows, up to the one
/// above.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// The time after which a look-up counts as failed. It is waited for beyond that.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(5);
/// The time that the start waits for names.
const START_WITHIN: Duration = Duration::from_secs(2);

/// Instances as they are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::roles) struct Backends {
    given: Vec<Given>,
    roots: Vec<CertificateDer<'static>>,
}

/// One value of `--backend`: `HOST:PORT[,zone=ZONE][,id=ID][,tls[=NAME]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Given {
    /// The host with its port.
    target: String,
    zone: String,
    id: Option<String>,
    /// The name that its certificate must be for.
    tls: Option<String>,
}

/// The instances that an edge asks, kept equal to what their names stand for. Clones are the same.
#[derive(Clone)]
pub(in crate::roles) struct Followed {
    edge: Edge,
    shared: Arc<Mutex<Names>>,
    /// Counts the lists that were given.
    version: Arc<watch::Sender<u64>>,
}

/// The list in force, and the addresses of each of its entries; `None` before the first answer.
struct Names {
    backends: Backends,
    known: Vec<Option<Vec<SocketAddr>>>,
    /// Entries whose last look-up failed.
    failing: Vec<bool>,
}

impl Backends {
    /// Reads the values. Instances that name no zone are in `zone`; those with TLS are trusted by
    /// the certificates in `ca`.
    pub(in crate::roles) fn read(
        values: &[String],
        ca: Option<&Path>,
        zone: &str,
    ) -> anyhow::Result<Self> {
        let given = values.iter().map(|text| {
            Given::read(text, zone).ok_or_else(|| {
                let hint = "give HOST:PORT, and behind it ,zone=ZONE ,id=ID ,tls or ,tls=NAME";
                Hinted::usage(format!("{text:?} in backend is no instance"), hint).into()
            })
        });
        let given: Vec<Given> = given.collect::<anyhow::Result<_>>()?;
        if given.is_empty() {
            let hint =
                "name each with --backend HOST:PORT; `inlet up --instances 2` runs them here";
            return Err(Hinted::usage("there are no instances for the edge", hint).into());
        }
        let twice = given.iter().enumerate().find_map(|(index, one)| {
            given[..index].iter().any(|other| other.id() == one.id()).then(|| one.id())
        });
        if let Some(twice) = twice {
            let hint = "give each an id of its own with ,id=ID";
            return Err(
                Hinted::usage(format!("two instances are `{twice}` in backend"), hint).into()
            );
        }
        let has_tls = given.iter().any(|given| given.tls.is_some());
        if ca.is_some() && !has_tls {
            let hint = "put ,tls behind the instances that speak it, or leave backend_ca out";
            let message = "backend_ca has no effect: no instance in backend has TLS";
            return Err(Hinted::usage(message, hint).into());
        }
        let roots = ca.map_or_else(|| Ok(Vec::new()), certificates)?;
        if roots.is_empty() && has_tls {
            let hint = "name the certificates that may have signed theirs with --backend-ca";
            return Err(
                Hinted::usage("instances with TLS are not trusted by themselves", hint).into()
            );
        }
        Ok(Self { given, roots })
    }
}

impl Followed {
    /// Gives the edge these instances, and keeps looking their names up until the stop. Waits for
    /// the first answers, but not for long.
    ///
    /// # Errors
    /// Returns an error if the edge can't use an instance.
    pub(in crate::roles) async fn start(
        edge: Edge,
        backends: Backends,
        watched: &Watched,
        stop: &Stop,
    ) -> anyhow::Result<Self> {
        let shared = Arc::new(Mutex::new(Names::of(backends)));
        let followed = Self { edge, shared, version: Arc::default() };
        followed.apply()?;
        watched.restarted_task("names", {
            let (followed, stop) = (followed.clone(), stop.clone());
            move || followed.clone().follow(stop.clone())
        });
        let mut changes = followed.version.subscribe();
        let all_answered =
            async { while !followed.names().is_answered() && changes.changed().await.is_ok() {} };
        tokio::select! {
            () = all_answered => {}
            () = tokio::time::sleep(START_WITHIN) => {}
            _ = stop.wait() => {}
        }
        Ok(followed)
    }

    /// Takes other instances. Names that stay keep their addresses.
    ///
    /// # Errors
    /// Returns an error if the edge can't use one; then the old ones stay.
    pub(in crate::roles) fn replace(&self, backends: Backends) -> anyhow::Result<()> {
        let old = {
            let mut names = self.names();
            let mut new = Names::of(backends);
            for (index, given) in new.backends.given.iter().enumerate() {
                let target = &given.target;
                let at = names.backends.given.iter().position(|old| old.target == *target);
                if let Some(at) = at {
                    new.known[index] = names.known[at].clone().or(new.known[index].take());
                }
            }
            std::mem::replace(&mut *names, new)
        };
        let applied = self.apply();
        if applied.is_err() {
            *self.names() = old;
        }
        self.version.send_modify(|version| *version += 1);
        applied
    }

    /// Follows every name of the list in force.
    async fn follow(self, stop: Stop) {
        let mut version = self.version.subscribe();
        loop {
            let given = self.names().backends.given.clone();
            let mut following = JoinSet::new();
            for given in given.iter().filter(|given| given.is_name()) {
                following.spawn(self.clone().follow_one(given.target.clone()));
            }
            let list = given;
            loop {
                tokio::select! {
                    _ = stop.wait() => return,
                    changed = version.changed() => if changed.is_err() { return },
                    Some(ended) = following.join_next() => {
                        // A panic among them is one of this task, which is restarted.
                        if let Err(error) = ended
                            && error.is_panic()
                        {
                            std::panic::resume_unwind(error.into_panic());
                        }
                    }
                }
                if self.names().backends.given != list {
                    break;
                }
            }
        }
    }

    /// Looks a name up again and again.
    async fn follow_one(self, target: String) {
        let mut pause = RETRY_MIN;
        loop {
            let looked = target.clone();
            let mut looking = tokio::spawn(async move { tokio::net::lookup_host(looked).await });
            let found = match tokio::time::timeout(LOOK_UP_WITHIN, &mut looking).await {
                Ok(found) => found,
                Err(_) => {
                    let waited = LOOK_UP_WITHIN.as_secs();
                    self.failed(&target, &format!("no answer within {waited} s"));
                    looking.await
                }
            };
            let found = match found {
                Ok(Ok(found)) => {
                    let mut found: Vec<SocketAddr> = found.collect();
                    found.sort_unstable();
                    found.dedup();
                    if found.is_empty() { Err("it has no address".to_owned()) } else { Ok(found) }
                }
                Ok(Err(error)) => Err(error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            let wait = match found {
                Ok(found) => {
                    self.found(&target, found);
                    pause = RETRY_MIN;
                    LOOK_UP_EVERY
                }
                Err(why) => {
                    self.failed(&target, &why);
                    let next = (pause * 2).min(LOOK_UP_EVERY);
                    std::mem::replace(&mut pause, next)
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    fn found(&self, target: &str, found: Vec<SocketAddr>) {
        let mut is_changed = false;
        {
            let mut names = self.names();
            for index in names.of_target(target) {
                if std::mem::take(&mut names.failing[index]) {
                    tracing::info!(name = target, "the name is found again");
                }
                is_changed |= names.known[index].as_ref() != Some(&found);
                names.known[index] = Some(found.clone());
            }
        }
        if is_changed {
            if let Err(error) = self.apply() {
                tracing::error!(error = %format!("{error:#}"), "the instances that are known stay");
            }
            self.version.send_modify(|version| *version += 1);
        }
    }

    fn failed(&self, target: &str, why: &str) {
        let mut names = self.names();
        for index in names.of_target(target) {
            let addresses = names.known[index].get_or_insert_default().len();
            if !std::mem::replace(&mut names.failing[index], true) {
                tracing::warn!(
                    name = target,
                    why,
                    addresses,
                    "an instance's name can't be looked up; it keeps the addresses it had"
                );
            }
        }
        drop(names);
        self.version.send_modify(|version| *version += 1);
    }

    /// Gives the edge the addresses that are known.
    fn apply(&self) -> anyhow::Result<()> {
        let options = self.names().options();
        self.edge.set_backends(options).context("the instances can't be used")
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names {
    fn of(backends: Backends) -> Self {
        let known = backends.given.iter().map(|given| given.target.parse().ok());
        let known = known.map(|address| address.map(|address| vec![address])).collect();
        let failing = vec![false; backends.given.len()];
        Self { backends, known, failing }
    }

    /// Returns true if each name was looked up once.
    fn is_answered(&self) -> bool {
        self.known.iter().all(Option::is_some)
    }

    fn of_target(&self, target: &str) -> Vec<usize> {
        let given = self.backends.given.iter().enumerate();
        given.filter(|(_, given)| given.target == target).map(|(index, _)| index).collect()
    }

    /// An instance for each address.
    fn options(&self) -> Vec<BackendOptions> {
        let entries = self.backends.given.iter().zip(&self.known);
        let options = entries.flat_map(|(given, known)| {
            given.options(known.as_deref().unwrap_or_default(), &self.backends.roots)
        });
        options.collect()
    }
}

impl Given {
    fn read(text: &str, zone: &str) -> Option<Self> {
        let mut parts = text.split(',');
        let target = parts.next()?;
        let (host, port) = target.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() || port.parse::<u16>().is_err() {
            return None;
        }
        let (target, zone) = (target.to_owned(), zone.to_owned());
        let mut given = Self { target, zone, id: None, tls: None };
        for part in parts {
            match part.split_once('=') {
                Some(("zone", zone)) if !zone.is_empty() => given.zone = zone.to_owned(),
                Some(("id", id)) if !id.is_empty() => given.id = Some(id.to_owned()),
                Some(("tls", name)) if !name.is_empty() => given.tls = Some(name.to_owned()),
                None if part == "tls" => given.tls = Some(host.to_owned()),
                _ => return None,
            }
        }
        Some(given)
    }

    /// Its id, and the beginning of the ids of its addresses where it stands for several.
    fn id(&self) -> &str {
        self.id.as_ref().unwrap_or(&self.target)
    }

    /// Returns true if it has to be looked up.
    fn is_name(&self) -> bool {
        self.target.parse::<SocketAddr>().is_err()
    }

    /// An instance for each address. Where there are many, each has its address in its id.
    fn options(
        &self,
        addresses: &[SocketAddr],
        roots: &[CertificateDer<'static>],
    ) -> Vec<BackendOptions> {
        let id = self.id();
        let is_one = addresses.len() == 1;
        let instance = |address: &SocketAddr| BackendOptions {
            id: if is_one { id.to_owned() } else { format!("{id}@{}", address.ip()) },
            zone: self.zone.clone(),
            address: *address,
            tls: self
                .tls
                .clone()
                .map(|server_name| BackendTls { roots: roots.to_vec(), server_name }),
        };
        addresses.iter().map(instance).collect()
    }
}

fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let read: Vec<_> = read.with_context(|| {
        let hint = "backend_ca is a file of certificates in PEM";
        Hinted::usage(format!("could not read the certificates in {}", file.display()), hint)
    })?;
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(String, String, Option<String>, Option<String>)> {
        let given = Given::read(text, "here")?;
        Some((given.target, given.zone, given.id, given.tls))
    }

    #[test]
    fn a_value_names_a_target_and_what_is_known_of_it() {
        let some = |text: &str| Some(text.to_owned());
        let table = [
            ("10.0.0.1:80", "10.0.0.1:80", "here", None, None),
            ("a.example:80,zone=b,id=i", "a.example:80", "b", some("i"), None),
            ("a.example:443,tls", "a.example:443", "here", None, some("a.example")),
            ("[::1]:443,tls", "[::1]:443", "here", None, some("::1")),
            ("10.0.0.1:443,tls=a.example", "10.0.0.1:443", "here", None, some("a.example")),
        ];
        for (text, target, zone, id, tls) in table {
            assert_eq!(read(text), Some((target.to_owned(), zone.to_owned(), id, tls)), "{text}");
        }
        for text in ["", "host", ":80", "host:http", "host:80,", "host:80,zone=", "host:80,x=y"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn instances_with_tls_need_to_be_told_whom_to_trust() {
        let read = |values: &[&str]| {
            let values: Vec<String> = values.iter().map(|&value| value.to_owned()).collect();
            Backends::read(&values, None, "a").map(|_| ())
        };
        assert!(read(&[]).is_err());
        assert!(read(&["h:1", "h:2,tls"]).is_err());
        assert!(read(&["h:1", "h:2"]).is_ok());
        assert!(read(&["h:1,id=a", "h:2,id=a"]).is_err(), "one id twice");
    }
}
