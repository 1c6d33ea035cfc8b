//! The self-signed certificate of a data directory.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use inlet_core::document::Timestamp;
use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use serde::{Deserialize, Serialize};

/// Validity from the moment a certificate is made, in days; browsers refuse more than 398 in all.
const VALID_DAYS: i64 = 397;
/// Validity before that moment, in days, for clients whose clocks are behind.
const BEFORE_DAYS: i64 = 1;
/// How long before its end a certificate is replaced, in days.
const RENEW_DAYS: i64 = 30;
const DAY_US: i64 = 86_400_000_000;

/// The files of a certificate and its key.
#[derive(Debug, Clone)]
pub(crate) struct CertificateFiles {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// The names and the end of a certificate of ours, kept beside it.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Made {
    names: Vec<String>,
    ends_us: i64,
}

/// The certificate in `directory`: the one that is there, or a new one where there is none, or the
/// one there lacks one of `names`, ends within thirty days, or is not valid yet because the clock
/// was ahead when it was made. Returns whether it is new.
pub(crate) fn self_signed(
    directory: &Path,
    names: &[String],
    now: Timestamp,
) -> anyhow::Result<(CertificateFiles, bool)> {
    let files =
        CertificateFiles { cert: directory.join("cert.pem"), key: directory.join("key.pem") };
    let note = directory.join("made.json");
    let made: Option<Made> =
        fs::read(&note).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let good = made.is_some_and(|made| {
        let left_us = made.ends_us.saturating_sub(now.as_micros());
        names.iter().all(|name| made.names.contains(name))
            && (RENEW_DAYS * DAY_US..=(VALID_DAYS + BEFORE_DAYS) * DAY_US).contains(&left_us)
    });
    if good && files.cert.exists() && files.key.exists() {
        return Ok((files, false));
    }
    make(directory, &files, &note, names, now)
        .with_context(|| format!("could not make a certificate in {}", directory.display()))?;
    Ok((files, true))
}

/// The names under which this machine is reached when it listens on `addresses`.
pub(crate) fn names(addresses: &[IpAddr]) -> Vec<String> {
    let mut names = vec!["localhost".to_owned()];
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    for address in loopback.iter().chain(addresses) {
        if !address.is_unspecified() && !names.contains(&address.to_string()) {
            names.push(address.to_string());
        }
    }
    if let Ok(host) = rustix::system::uname().nodename().to_str()
        && !host.is_empty()
        && !names.iter().any(|name| name == host)
    {
        names.push(host.to_owned());
    }
    names
}

fn make(
    directory: &Path,
    files: &CertificateFiles,
    note: &Path,
    names: &[String],
    now: Timestamp,
) -> anyhow::Result<()> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Inlet, self-signed");
    for name in names {
        params.subject_alt_names.push(match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.as_str().try_into()?),
        });
    }
    let moment = |days: i64| {
        let micros = now.as_micros().saturating_add(days.saturating_mul(DAY_US));
        let date = Timestamp::from_micros(micros).to_jiff().to_zoned(jiff::tz::TimeZone::UTC);
        rcgen::date_time_ymd(
            i32::from(date.year()),
            date.month().unsigned_abs(),
            date.day().unsigned_abs(),
        )
    };
    params.not_before = moment(-BEFORE_DAYS);
    params.not_after = moment(VALID_DAYS);
    let cert = params.self_signed(&key)?;
    fs::create_dir_all(directory)?;
    write(&files.key, key.serialize_pem().as_bytes(), 0o600)?;
    write(&files.cert, cert.pem().as_bytes(), 0o644)?;
    let ends_us = now.as_micros().saturating_add(VALID_DAYS * DAY_US);
    write(note, &serde_json::to_vec(&Made { names: names.to_vec(), ends_us })?, 0o644)?;
    Ok(())
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_795_226_598_000_000);

    fn later(days: i64) -> Timestamp {
        Timestamp::from_micros(NOW.as_micros() + days * DAY_US)
    }

    #[test]
    fn a_certificate_is_made_once_and_kept_until_shortly_before_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let names = names(&[]);
        let (files, new) = self_signed(directory.path(), &names, NOW).unwrap();
        let first = fs::read(&files.cert).unwrap();
        assert!(new);
        assert!(!self_signed(directory.path(), &names, later(300)).unwrap().1);
        assert_eq!(fs::read(&files.cert).unwrap(), first);
        assert!(self_signed(directory.path(), &names, later(370)).unwrap().1);
        assert_ne!(fs::read(&files.cert).unwrap(), first);
    }

    #[test]
    fn a_certificate_made_while_the_clock_was_ahead_is_made_again_once_it_is_set_right() {
        let names = names(&[]);
        for ahead in [2, 40, 3_650] {
            let directory = tempfile::tempdir().unwrap();
            self_signed(directory.path(), &names, later(ahead)).unwrap();
            assert!(self_signed(directory.path(), &names, NOW).unwrap().1, "{ahead} days ahead");
            assert!(!self_signed(directory.path(), &names, NOW).unwrap().1);
        }
    }

    #[test]
    fn a_certificate_can_be_made_in_any_year() {
        for year in [1_902, 1_960, 2_040, 2_051, 9_000] {
            let directory = tempfile::tempdir().unwrap();
            let moment: Timestamp = format!("{year}-06-01T00:00:00Z").parse().unwrap();
            let (files, _) = self_signed(directory.path(), &names(&[]), moment).unwrap();
            assert!(fs::read_to_string(files.cert).unwrap().contains("BEGIN CERTIFICATE"));
        }
    }

    #[test]
    fn a_new_name_makes_a_new_certificate() {
        let directory = tempfile::tempdir().unwrap();
        self_signed(directory.path(), &names(&[]), NOW).unwrap();
        let wider = names(&["10.1.2.3".parse().unwrap()]);
        assert!(self_signed(directory.path(), &wider, NOW).unwrap().1);
    }

    #[test]
    fn only_the_owner_can_read_the_key() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let (files, _) = self_signed(directory.path(), &names(&[]), NOW).unwrap();
        assert_eq!(fs::metadata(files.key).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
