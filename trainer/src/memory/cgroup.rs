//! The memory that Linux allows the control group of this process: that of a container, a service or a user.
//!
//! Reads both versions of control groups. Never here: other limits of a group.

use std::path::{Component, Path, PathBuf};

/// Where control groups are mounted, by convention of all distributions.
const MOUNT: &str = "/sys/fs/cgroup";
/// The file that names the groups of this process.
const GROUPS: &str = "/proc/self/cgroup";
/// Most groups between one and the root that are looked at. Real ones are less than ten deep.
const DEPTH: usize = 64;

/// Bytes of memory that the groups of this process may use together. None without a limit, or on another system.
pub(super) fn limit() -> Option<u64> {
    let groups = std::fs::read_to_string(GROUPS).ok()?;
    limit_in(Path::new(MOUNT), &groups)
}

/// The least limit of the groups that `groups` names, in the form of `/proc/self/cgroup`, and of the groups around
/// them. In a container the named path may not be mounted, but the root then holds the container's own limit.
fn limit_in(mount: &Path, groups: &str) -> Option<u64> {
    groups.lines().filter_map(|line| of_line(mount, line)).min()
}

/// One line: `number:controllers:path`. Version 2 has no controllers.
fn of_line(mount: &Path, line: &str) -> Option<u64> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let (root, file) = match controllers {
        "" => (mount.to_owned(), "memory.max"),
        named if named.split(',').any(|one| one == "memory") => (mount.join("memory"), "memory.limit_in_bytes"),
        _ => return None,
    };
    // Outside of the namespace of this process the path begins with `..`, which must not lead out of the mount.
    let named = Path::new(path).components().filter(|part| matches!(part, Component::Normal(_)));
    let inside = root.join(named.collect::<PathBuf>());
    let limits = inside.ancestors().take(DEPTH).take_while(|group| group.starts_with(&root));
    limits.filter_map(|group| read(&group.join(file))).min()
}

/// Version 1 writes a huge number for no limit, which is larger than any machine. Version 2 writes `max`.
fn read(file: &Path) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, group: &str, file: &str, text: &str) {
        let group = dir.join(group);
        std::fs::create_dir_all(&group).unwrap();
        std::fs::write(group.join(file), text).unwrap();
    }

    #[test]
    fn limit_of_version_2_is_the_least_of_the_group_and_those_around_it() {
        let dir = tempfile::tempdir().unwrap();
        let mount = dir.path();
        write(mount, "user/session", "memory.max", "max\n");
        write(mount, "user", "memory.max", "734003200\n");
        assert_eq!(limit_in(mount, "0::/user/session\n"), Some(734_003_200));
        write(mount, "user/session", "memory.max", "1000\n");
        assert_eq!(limit_in(mount, "0::/user/session\n"), Some(1000));
        assert_eq!(limit_in(mount, "0::/other\n"), None);
    }

    #[test]
    fn limit_of_a_container_of_version_1_is_found_at_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let mount = dir.path();
        write(mount, "memory", "memory.limit_in_bytes", "734003200\n");
        let groups = "5:cpu,cpuacct:/docker/ab\n4:memory:/docker/ab\n0::/\n";
        assert_eq!(limit_in(mount, groups), Some(734_003_200));
        assert_eq!(limit_in(mount, "4:memory:/../..\n"), Some(734_003_200), "the path cannot lead out of the mount");
        assert_eq!(limit_in(mount, "nonsense\n::\n"), None);
    }
}
