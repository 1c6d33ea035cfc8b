//! File systems of a test's own: ext4 on a loop device, tmpfs, FUSE over either.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::not_run;

/// A mounted file system, unmounted when dropped.
pub(crate) struct Mount {
    pub(crate) at: PathBuf,
    /// The image that an ext4 lies in.
    image: Option<PathBuf>,
    /// The mount it stands on, which goes after it.
    _on: Option<Box<Mount>>,
    _directory: TempDir,
}

impl Mount {
    /// An ext4 of that many MiB in a file; `None`, and a line that says so, where none can be had.
    pub(crate) fn ext4(mib: u64) -> Option<Self> {
        Self::ext4_with(mib, &[])
    }

    /// The same, made with these arguments of `mkfs.ext4`.
    pub(crate) fn ext4_with(mib: u64, arguments: &[&str]) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("image");
        File::create(&image).unwrap().set_len(mib << 20).unwrap();
        let image_text = image.to_str().unwrap();
        let mut make = Command::new("/sbin/mkfs.ext4");
        if !succeeds(make.arg("-qF").args(arguments).arg(image_text)) {
            not_run("mkfs.ext4 is not to be had");
            return None;
        }
        Self::ext4_of(image, directory)
    }

    fn ext4_of(image: PathBuf, directory: TempDir) -> Option<Self> {
        let at = directory.path().join("at");
        fs::create_dir(&at).unwrap();
        // Nothing is written back by the kernel's own timer while a test runs.
        let options = "loop,commit=300,noauto_da_alloc";
        let mut mount = Command::new("mount");
        mount.args(["-t", "ext4", "-o", options]).arg(&image).arg(&at);
        if !succeeds(&mut mount) {
            not_run("loop devices can't be mounted here; that needs root");
            return None;
        }
        Some(Self { at, image: Some(image), _on: None, _directory: directory })
    }

    /// A tmpfs of that many MiB.
    pub(crate) fn tmpfs(mib: u64) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().to_owned();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "none"]).arg(&at);
        if !succeeds(&mut mount) {
            not_run("no tmpfs can be mounted here; that needs root");
            return None;
        }
        Some(Self { at, image: None, _on: None, _directory: directory })
    }

    /// A fuse-overlayfs whose upper directory is `upper` on another file system.
    pub(crate) fn fuse_over(under: Mount) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("merged");
        for path in [at.clone(), under.at.join("lower"), under.upper(), under.at.join("work")] {
            fs::create_dir(path).unwrap();
        }
        let part = |name: &str| under.at.join(name).display().to_string();
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            part("lower"),
            part("upper"),
            part("work")
        );
        let mut mount = Command::new("fuse-overlayfs");
        mount.args(["-o", &options]).arg(&at);
        if !Path::new("/dev/fuse").exists() || !succeeds(&mut mount) {
            not_run("fuse-overlayfs or /dev/fuse is not to be had");
            return None;
        }
        Some(Self { at, image: None, _on: Some(Box::new(under)), _directory: directory })
    }

    /// The directory of the files of a fuse-overlayfs in the file system under it.
    pub(crate) fn upper(&self) -> PathBuf {
        self.at.join("upper")
    }

    /// The disk as it is after a loss of power at this moment: what the file system has not
    /// written to it is gone.
    pub(crate) fn after_power_cut(&self) -> Mount {
        let under = self._on.as_deref().unwrap_or(self);
        let image = under.image.as_ref().expect("it is in an image, or over one that is");
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("image");
        let mut command = Command::new("cp");
        assert!(succeeds(command.args(["--sparse=always"]).arg(image).arg(&copy)));
        Self::ext4_of(copy, directory).expect("one was mounted before")
    }

    /// Mounts it anew with these options, `ro` for one.
    pub(crate) fn remount(&self, options: &str) -> bool {
        succeeds(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.at))
    }

    /// Takes it away from its path, though files in it are open.
    pub(crate) fn detach(&self) {
        assert!(succeeds(Command::new("umount").arg("-l").arg(&self.at)));
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // After a test has failed, a process may still have files open in it.
        let gone = succeeds(Command::new("umount").arg(&self.at))
            || succeeds(Command::new("umount").arg("-l").arg(&self.at));
        let _: bool = gone;
    }
}

/// Returns true if a command is there and succeeds; its words are shown where the test fails.
#[allow(clippy::print_stdout, reason = "the harness shows it with a failure")]
fn succeeds(command: &mut Command) -> bool {
    match command.output() {
        Ok(output) => {
            if !output.status.success() {
                println!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
            }
            output.status.success()
        }
        Err(error) => {
            println!("{command:?}: {error}");
            false
        }
    }
}
