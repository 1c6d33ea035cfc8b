//! The image that `inlet deploy` builds, run as Fargate runs it: another user than root, a root
//! file system that is read-only, and an empty volume at each mount point of the templates.

use std::io::{BufRead, BufReader, Cursor};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use inlet_deploy::package::{Executable, Image};
use serde_json::Value;

/// The templates that describe tasks.
const TASKS: [&str; 2] = [
    include_str!("../../../../../deploy/modules/ecs.yaml"),
    include_str!("../../../../../deploy/migration.yaml"),
];

/// The image of this build without its debug information, which would take a minute to compress.
static IMAGE: LazyLock<Image> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let stripped = directory.path().join("inlet");
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(&stripped).arg(env!("CARGO_BIN_EXE_inlet"));
    assert!(strip.status().unwrap().success());
    Image::new(&Executable::read(&stripped).unwrap(), "1.2.3").unwrap()
});

fn image() -> (&'static Image, Value) {
    let config = serde_json::from_slice(&IMAGE.blobs[1].bytes).unwrap();
    (&IMAGE, config)
}

/// The values that the templates give for `name:`.
fn values(name: &str) -> Vec<String> {
    let lines = TASKS.iter().flat_map(|template| template.lines());
    let found = lines.filter_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
    found.map(|value| value.trim_matches('"').to_owned()).collect()
}

#[test]
fn each_volume_of_a_task_is_declared_by_the_image_with_the_user_of_the_task_as_its_owner() {
    let (image, config) = image();
    let user = config["config"]["User"].as_str().unwrap();
    assert!(values("User").iter().all(|one| one == user) && !values("User").is_empty());
    let layer = flate2::read::GzDecoder::new(Cursor::new(&image.blobs[0].bytes));
    let mut layer = tar::Archive::new(layer);
    let owners: Vec<(String, String)> = layer
        .entries()
        .unwrap()
        .map(|entry| {
            let header = entry.unwrap().header().clone();
            let path = header.path().unwrap().display().to_string();
            (path, format!("{}:{}", header.uid().unwrap(), header.gid().unwrap()))
        })
        .collect();
    let mounted = values("ContainerPath");
    assert_eq!(mounted.len(), 4, "a volume a task");
    for path in mounted {
        assert!(config["config"]["Volumes"][&path].is_object(), "{path} is no volume");
        let directory = path.trim_start_matches('/').to_owned();
        assert!(owners.contains(&(directory, user.to_owned())), "{path} in {owners:?}");
    }
}

/// Needs root for the mounts; `scripts/test` names it where it could not run.
#[test]
fn the_api_of_the_real_image_starts_as_a_task_does() {
    let root = tempfile::tempdir().unwrap();
    if root.path().metadata().unwrap().uid() != 0 {
        return;
    }
    let (image, config) = image();
    let layer = flate2::read::GzDecoder::new(Cursor::new(&image.blobs[0].bytes));
    let mut layer = tar::Archive::new(layer);
    layer.set_preserve_ownerships(true);
    layer.set_preserve_permissions(true);
    layer.unpack(root.path()).unwrap();
    std::fs::set_permissions(root.path(), PermissionsExt::from_mode(0o755)).unwrap();
    // A volume is empty, and has the owner and mode that Fargate gives it.
    let volumes = tempfile::tempdir().unwrap();
    std::fs::set_permissions(volumes.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let mut mounts = String::new();
    for path in values("ContainerPath") {
        let (inside, volume) = (root.path().join(&path[1..]), volumes.path().join(&path[1..]));
        std::fs::create_dir_all(&volume).unwrap();
        if config["config"]["Volumes"][&path].is_object() && inside.exists() {
            let given = inside.metadata().unwrap();
            chown(&volume, Some(given.uid()), Some(given.gid())).unwrap();
            std::fs::set_permissions(&volume, given.permissions()).unwrap();
        }
        std::fs::create_dir_all(&inside).unwrap();
        mounts += &format!("mount --bind {} {}\n", volume.display(), inside.display());
    }
    let entry = config["config"]["Entrypoint"][0].as_str().unwrap();
    let environment: Vec<String> = config["config"]["Env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one.as_str().unwrap().to_owned())
        .collect();
    let script = format!(
        "set -e\nchroot=$(command -v chroot)\nmount --bind {root} {root}\n{mounts}mount -o remount,bind,ro {root}\n\
         exec env -i {environment} INLET_HTTPS=127.0.0.1:0 INLET_HTTP=off \
         \"$chroot\" --userspec=65532:65532 {root} {entry} up",
        root = root.path().display(),
        environment = environment.join(" "),
    );
    let mut task = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(task.stdout.take().unwrap()).lines();
    let is_up = lines.map_while(Result::ok).any(|line| line.contains("is up"));
    task.kill().unwrap();
    let output = task.wait_with_output().unwrap();
    assert!(is_up, "{}", String::from_utf8_lossy(&output.stderr));
}
