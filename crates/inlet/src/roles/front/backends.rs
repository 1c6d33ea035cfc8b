//! The instances of `--backend`, and what their names stand for.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use inlet_edge::{BackendOptions, BackendTls, Edge};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::report::Hinted;
use crate::roles::stop::Stop;

/// How often names are looked up again.
const LOOK_UP_EVERY: Duration = Duration::from_secs(15);

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
        let roots = ca.map_or_else(|| Ok(Vec::new()), certificates)?;
        if roots.is_empty() && given.iter().any(|given| given.tls.is_some()) {
            let hint = "name the certificates that may have signed theirs with --backend-ca";
            return Err(
                Hinted::usage("instances with TLS are not trusted by themselves", hint).into()
            );
        }
        Ok(Self { given, roots })
    }

    /// Gives the edge what the names stand for now.
    pub(in crate::roles) async fn set(&self, edge: &Edge) -> anyhow::Result<()> {
        let mut options = Vec::new();
        for given in &self.given {
            options.extend(given.look_up(&self.roots).await?);
        }
        edge.set_backends(options).context("the instances can't be used")
    }

    /// Looks names up again and again. Where that fails, what was known of all of them stays.
    pub(in crate::roles) async fn follow(self, edge: Edge, stop: Stop) {
        let is_named = |given: &Given| given.target.parse::<SocketAddr>().is_err();
        if !self.given.iter().any(is_named) {
            return;
        }
        loop {
            tokio::select! {
                _ = stop.wait() => return,
                () = tokio::time::sleep(LOOK_UP_EVERY) => {}
            }
            if let Err(error) = self.set(&edge).await {
                let error = format!("{error:#}");
                tracing::warn!(error, "the instances that are known stay");
            }
        }
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

    /// An instance for each address. Where there are many, each has its address in its id.
    async fn look_up(
        &self,
        roots: &[CertificateDer<'static>],
    ) -> anyhow::Result<Vec<BackendOptions>> {
        let found = tokio::net::lookup_host(&self.target).await;
        let mut addresses: Vec<SocketAddr> =
            found.with_context(|| format!("could not look up {}", self.target))?.collect();
        addresses.sort_unstable();
        addresses.dedup();
        anyhow::ensure!(!addresses.is_empty(), "{} stands for no address", self.target);
        let id = self.id.as_ref().unwrap_or(&self.target);
        let is_one = addresses.len() == 1;
        let instance = |address: SocketAddr| BackendOptions {
            id: if is_one { id.clone() } else { format!("{id}@{}", address.ip()) },
            zone: self.zone.clone(),
            address,
            tls: self
                .tls
                .clone()
                .map(|server_name| BackendTls { roots: roots.to_vec(), server_name }),
        };
        Ok(addresses.into_iter().map(instance).collect())
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
    }
}
