//! Whose a directory is. What root does in the directory of another user is done as that user: a
//! file that root makes there would keep the service out of its own data.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::Context;
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, configure_capability_in_ambient_set,
    set_capabilities, set_keep_capabilities, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use crate::report::Hinted;

/// What is kept of root's rights: reaching a directory through others that only root may pass
/// (`/var/lib/private`, where systemd keeps those of services), reading the files that the settings
/// name, and listening on ports below 1024.
const KEPT: [CapabilitySet; 2] = [CapabilitySet::DAC_READ_SEARCH, CapabilitySet::NET_BIND_SERVICE];

/// Has this process act as the owner of `directory`, whose file `made` is, where root started it.
/// To be called while the process has one thread. Nothing is done where `made` is not there yet.
///
/// # Errors
/// Where the system doesn't let root become that user, as in a container without the right to; and
/// for another user whose files in the directory would not be the owner's.
pub(crate) fn act_as_owner(directory: &Path, made: &Path) -> anyhow::Result<()> {
    let about = match fs::metadata(made) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        about => about.with_context(|| {
            let hint = "run it as the user whose it is, or as root";
            Hinted::new(format!("could not look at {}", made.display()), hint)
        })?,
    };
    let (uid, gid) = (Uid::from_raw(about.uid()), Gid::from_raw(about.gid()));
    let me = geteuid();
    if me == uid {
        return Ok(());
    }
    let (shown, owner) = (directory.display(), uid.as_raw());
    if me.is_root() {
        return become_user(uid, gid).map_err(|error| {
            let message = format!("could not act as user {owner}, who owns {shown}: {error}");
            Hinted::new(message, "run it as that user").into()
        });
    }
    // A network file system may give all files to one user.
    if is_given_to(directory, owner).unwrap_or(false) {
        return Ok(());
    }
    Err(Hinted::new(
        format!(
            "{shown} belongs to user {owner}, who could not read what user {} makes there",
            me.as_raw()
        ),
        "run it as that user or as root, or go through its server with --url and --token",
    )
    .into())
}

/// Whether a file that this process makes in `directory` belongs to `owner`.
fn is_given_to(directory: &Path, owner: u32) -> io::Result<bool> {
    let probe = directory.join(format!(".owner-{}", std::process::id()));
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&probe)?;
    let uid = made.metadata().map(|about| about.uid());
    fs::remove_file(&probe)?;
    Ok(uid? == owner)
}

fn become_user(uid: Uid, gid: Gid) -> rustix::io::Result<()> {
    let kept = KEPT.into_iter().fold(CapabilitySet::empty(), CapabilitySet::union);
    let kept = kept & capabilities(None)?.permitted;
    set_thread_groups(&[gid])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_keep_capabilities(true)?;
    set_thread_res_uid(uid, uid, uid)?;
    set_keep_capabilities(false)?;
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: kept })?;
    // For the instances that `up` starts.
    for capability in kept.iter() {
        configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}
