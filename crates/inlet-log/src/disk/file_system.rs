//! Known properties of file systems: which syncs survive a loss of power, and on which.
//!
//! `statfs` tells the file system's kind, `/proc/self/mountinfo` its name and mount options. The
//! table is short on purpose: a kind that is not in it is written to with `fdatasync`, which is
//! the most a program can ask for, and the log's owner is told that nothing more is known.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A file system, as far as the log has to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// Its name as `mount` prints it (`ext4`, `fuse.sshfs`); its number in hexadecimal where
    /// nobody knows the name.
    pub name: Cow<'static, str>,
    /// The syncs that it is known to keep.
    pub keeps: Keeps,
}

/// The syncs that a file system is known to keep through a loss of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// Direct writes with `RWF_DSYNC`, also asynchronous ones, and `fdatasync`.
    DirectWrites,
    /// `fdatasync`.
    Syncs,
    /// None for certain; the reason, as the end of a sentence about the file system.
    Nothing(&'static str),
}

const MEMORY: &str = "lives in memory, which a power cut or a restart of the machine empties";
const NETWORK: &str = "is on a network: its server decides what a sync keeps";
const LAYER: &str = "is a container's own layer: it goes when the container goes";
const FUSE: &str = "is a program (FUSE), which decides what a sync keeps";
const UNKNOWN: &str = "is not one that is known to keep what it syncs";
const NO_BARRIER: &str = "is mounted without barriers: a sync leaves bytes in the disk's cache";

/// `f_type` of `statfs`, from `linux/magic.h` and the file systems' own sources.
const KINDS: &[(u64, &str, Keeps)] = &[
    // Their direct writes end in the kernel's iomap or direct-I/O code, which syncs before an
    // asynchronous write with RWF_DSYNC completes.
    (0xef53, "ext4", Keeps::DirectWrites),
    (0x5846_5342, "xfs", Keeps::DirectWrites),
    (0x9123_683e, "btrfs", Keeps::DirectWrites),
    (0xf2f5_2010, "f2fs", Keeps::DirectWrites),
    // Their direct writes are their own.
    (0x2fc1_2fc1, "zfs", Keeps::Syncs),
    (0xca45_1a4e, "bcachefs", Keeps::Syncs),
    (0x0102_1994, "tmpfs", Keeps::Nothing(MEMORY)),
    (0x8584_58f6, "ramfs", Keeps::Nothing(MEMORY)),
    (0x794c_7630, "overlay", Keeps::Nothing(LAYER)),
    (0x6175_6673, "aufs", Keeps::Nothing(LAYER)),
    // For asynchronous direct writes the kernel sends no FSYNC for RWF_DSYNC.
    (0x6573_5546, "fuse", Keeps::Nothing(FUSE)),
    (0x6969, "nfs", Keeps::Nothing(NETWORK)),
    (0xff53_4d42, "cifs", Keeps::Nothing(NETWORK)),
    (0xfe53_4d42, "smb3", Keeps::Nothing(NETWORK)),
    (0x517b, "smbfs", Keeps::Nothing(NETWORK)),
    (0x0102_1997, "9p", Keeps::Nothing(NETWORK)),
    (0x00c3_6400, "ceph", Keeps::Nothing(NETWORK)),
    (0x5346_414f, "afs", Keeps::Nothing(NETWORK)),
    (0x6b41_4653, "afs", Keeps::Nothing(NETWORK)),
    (0x0bd0_0bd0, "lustre", Keeps::Nothing(NETWORK)),
    (0x4750_4653, "gpfs", Keeps::Nothing(NETWORK)),
    (0x0116_1970, "gfs2", Keeps::Nothing(NETWORK)),
    (0x7461_636f, "ocfs2", Keeps::Nothing(NETWORK)),
    (0x786f_4256, "vboxsf", Keeps::Nothing(NETWORK)),
];

/// The file system of a directory.
pub(super) fn of(dir: &Path) -> io::Result<FileSystem> {
    let kind = rustix::fs::statfs(dir)?.f_type;
    let device = fs::metadata(dir)?.dev();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // The field is signed and has 32 significant bits.
    let kind = u64::try_from(kind & 0xffff_ffff).map_err(io::Error::other)?;
    Ok(judge(kind, mount(&mounts, device)))
}

/// A line of `mountinfo`.
struct Mount<'a> {
    name: &'a str,
    options: &'a str,
}

/// The mount of a device: `36 35 98:0 /root /at rw,noatime master:1 - ext4 /dev/sda1 rw,barrier=0`.
fn mount(mounts: &str, device: u64) -> Option<Mount<'_>> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let wanted = format!("{major}:{minor}");
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some(&wanted))?;
    let mut parts = line.split_once(" - ")?.1.split(' ');
    let (name, _source) = (parts.next()?, parts.next()?);
    Some(Mount { name, options: parts.next().unwrap_or_default() })
}

fn judge(kind: u64, mount: Option<Mount<'_>>) -> FileSystem {
    let known = KINDS.iter().find(|(number, ..)| *number == kind);
    let name = match (&mount, known) {
        (Some(mount), _) => Cow::Owned(mount.name.to_owned()),
        (None, Some((_, name, _))) => Cow::Borrowed(*name),
        (None, None) => Cow::Owned(format!("{kind:#x}")),
    };
    let mut keeps = known.map_or(Keeps::Nothing(UNKNOWN), |(.., keeps)| *keeps);
    let options = mount.map_or("", |mount| mount.options);
    if options.split(',').any(|option| matches!(option, "nobarrier" | "barrier=0")) {
        keeps = Keeps::Nothing(NO_BARRIER);
    }
    FileSystem { name, keeps }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
        90 22 0:53 / /merged rw - fuse.fuse-overlayfs fuse-overlayfs rw,user_id=0\n\
        91 22 7:3 / /fast rw,noatime - ext4 /dev/loop3 rw,nobarrier,stripe=4\n";

    fn seen(kind: u64, major: u32, minor: u32) -> FileSystem {
        judge(kind, mount(MOUNTS, rustix::fs::makedev(major, minor)))
    }

    #[test]
    fn what_is_known_is_told_by_kind_and_mount() {
        let ext4 = seen(0xef53, 254, 0);
        assert_eq!((&*ext4.name, ext4.keeps), ("ext4", Keeps::DirectWrites));
        let fuse = seen(0x6573_5546, 0, 53);
        assert_eq!((&*fuse.name, fuse.keeps), ("fuse.fuse-overlayfs", Keeps::Nothing(FUSE)));
    }

    #[test]
    fn a_mount_without_barriers_keeps_nothing_for_certain() {
        assert_eq!(seen(0xef53, 7, 3).keeps, Keeps::Nothing(NO_BARRIER));
    }

    #[test]
    fn a_kind_that_nobody_knows_is_told_by_its_number() {
        let unknown = seen(0x1234, 9, 9);
        assert_eq!((&*unknown.name, unknown.keeps), ("0x1234", Keeps::Nothing(UNKNOWN)));
    }
}
