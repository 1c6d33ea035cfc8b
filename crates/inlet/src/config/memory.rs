//! The memory of the machine, or of the part of it that this process may use.

use std::fs;
use std::path::{Path, PathBuf};

/// Where control groups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// The memory this process may use, in bytes: the least of the machine's and of the limits of its
/// control groups. `None` where neither can be read.
pub(super) fn bytes() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(Path::new(CGROUPS), &own);
    let limits =
        limits.iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    limits.chain(machine).min()
}

/// The files with the limits that hold for the groups in `own`, which is `/proc/self/cgroup`: of
/// the group itself and of each one around it, in both versions of control groups.
fn limit_files(root: &Path, own: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (top, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        // In a container the path may be that of the host; the limit is then at the top.
        let group = top.join(path.trim_start_matches('/'));
        let groups = group.ancestors().take_while(|group| group.starts_with(&top));
        files.extend(groups.map(|group| group.join(file)));
    }
    files
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_all_groups_around_a_process_are_looked_at() {
        let root = Path::new("/c");
        let second = limit_files(root, "0::/system.slice/inlet.service\n");
        let second: Vec<_> = second.iter().map(|file| file.to_str().unwrap()).collect();
        assert_eq!(
            second,
            [
                "/c/system.slice/inlet.service/memory.max",
                "/c/system.slice/memory.max",
                "/c/memory.max"
            ]
        );
        let first = limit_files(root, "5:cpu,memory:/docker/x\n4:pids:/docker/x\n");
        assert_eq!(first.len(), 3, "{first:?}");
        assert_eq!(first[2].to_str(), Some("/c/memory/memory.limit_in_bytes"));
        assert!(limit_files(root, "nonsense").is_empty());
    }

    #[test]
    fn the_machine_tells_its_memory() {
        assert_eq!(total("MemTotal:       24105 kB\nMemFree: 1 kB\n"), Some(24_105 * 1024));
        assert_eq!(total("none"), None);
        assert!(bytes().is_some_and(|bytes| bytes > 64 << 20));
    }
}
