//! What the machine gives to a node: a directory, space, descriptors, memory, names and a device.

use std::{fs, io::Write as _, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use rustix::process::{Resource, getrlimit};
use spore_storage::DiskSpace;

use super::{Finding, text};
use crate::data_dir::DataDir;

/// Free space below which the disk is worth a look, however small it is.
const LEAST_FREE: u64 = 2_000_000_000;
/// Descriptors that a node may need at once.
const DESCRIPTORS: u64 = 2048;
/// Memory with which a relay works: the caches of the store, and some hundred connections.
const LEAST_MEMORY: u64 = 512 << 20;
/// Memory with which the built-in task trains beside the node.
const TRAINING_MEMORY: u64 = 2 << 30;
/// A host name that the node looks up: the public peer of the existing network.
const NAME: (&str, u16) = ("peer.sporemesh.com", 7470);
/// Time for a lookup.
const LOOKUP: Duration = Duration::from_secs(5);

/// The data directory is there, private, and can be written.
pub fn directory(data: &DataDir) -> Vec<Finding> {
    const ABOUT: &str = "data directory";
    let root = data.root().display();
    let meta = match fs::metadata(data.root()) {
        Ok(meta) if meta.is_dir() => meta,
        Ok(_) => {
            return vec![Finding::broken(
                ABOUT,
                format!("{root} is not a directory"),
                "name another one: `--data-dir DIR`",
            )];
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return vec![Finding::note(ABOUT, format!("{root} is not there yet; the first start makes it"))];
        }
        Err(error) => {
            return vec![Finding::broken(ABOUT, format!("{root}: {error}"), "name another one: `--data-dir DIR`")];
        }
    };
    let mut found = Vec::new();
    if meta.permissions().mode() & 0o077 != 0 {
        found.push(Finding::weak(ABOUT, format!("other users can read {root}"), format!("chmod 700 {root}")));
    }
    let written = tempfile::tempfile_in(data.root()).and_then(|mut file| file.write_all(b"spore"));
    found.push(match written {
        Ok(()) => Finding::ok(ABOUT, root.to_string()),
        Err(error) => {
            Finding::broken(ABOUT, format!("{root} cannot be written: {error}"), "check its owner and its disk")
        }
    });
    found
}

/// The disk of the data directory has room.
pub fn space(data: &DataDir) -> Finding {
    // The directory may not be there yet: its parents are on the same disk.
    let found = data.root().ancestors().find_map(|path| DiskSpace::of(path).ok());
    let Some(disk) = found else { return Finding::note("disk space", "the system does not tell how much is free") };
    let said = format!("{} of {} are free", text::size(disk.free), text::size(disk.total));
    if disk.is_low() || disk.free == 0 {
        let next = "free some space, or drop what is not needed: `spore gc --max-size SIZE`";
        return Finding::broken("disk space", format!("{said}: a node takes its own objects only"), next);
    }
    if !disk.is_ample() || disk.free < LEAST_FREE {
        let next = format!("free some space: below {} a node takes its own objects only", text::size(disk.floor()));
        return Finding::weak("disk space", said, next);
    }
    Finding::ok("disk space", said)
}

/// The process may open enough files and connections.
pub fn descriptors() -> Finding {
    match getrlimit(Resource::Nofile).maximum {
        Some(most) if most < DESCRIPTORS => Finding::weak(
            "open files",
            format!(
                "the hard limit is {most}, but a node may need {DESCRIPTORS}: it refuses peers when it has no more"
            ),
            "raise it: `ulimit -Hn`, /etc/security/limits.conf, or LimitNOFILE= in the unit of a service",
        ),
        Some(most) => Finding::ok("open files", format!("the hard limit is {most}")),
        None => Finding::ok("open files", "there is no limit"),
    }
}

/// The memory that this process may use: the least of the machine's and those of its control groups.
pub fn memory() -> Finding {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| of_machine(&text));
    let group =
        fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| of_group(&text, Path::new("/sys/fs/cgroup")));
    let Some(most) = machine.into_iter().chain(group).min() else {
        return Finding::note("memory", "the system does not tell how much there is");
    };
    let by = if group.is_some_and(|group| group == most) { " (the limit of the control group)" } else { "" };
    let said = format!("{}{by}", text::size(most));
    if most < LEAST_MEMORY {
        let next = "give it more, or expect that the system kills it: MemoryMax= of a service, --memory of a container";
        return Finding::weak("memory", said, next);
    }
    if most < TRAINING_MEMORY {
        return Finding::weak("memory", format!("{said}: enough for a relay"), "train nothing with `--no-train`");
    }
    Finding::ok("memory", said)
}

fn of_machine(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.saturating_mul(1024))
}

/// The least limit on the way from the root to the group of this process.
fn of_group(text: &str, root: &Path) -> Option<u64> {
    // The second version has one line, `0::/path`.
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let folder = root.join(path.trim_start_matches('/'));
    let limit = |folder: &Path| fs::read_to_string(folder.join("memory.max")).ok()?.trim().parse::<u64>().ok();
    folder.ancestors().take_while(|folder| folder.starts_with(root)).filter_map(limit).min()
}

/// Host names can be looked up.
pub async fn names() -> Finding {
    let asked = tokio::time::timeout(LOOKUP, tokio::net::lookup_host(NAME)).await;
    let next = "check /etc/resolv.conf; peers that are named by their IP address work without";
    match asked {
        Ok(Ok(mut found)) => match found.next() {
            Some(_) => Finding::ok("host names", format!("{} is found", NAME.0)),
            None => Finding::weak("host names", format!("{} has no address", NAME.0), next),
        },
        Ok(Err(error)) => Finding::weak("host names", format!("{} is not found: {error}", NAME.0), next),
        Err(_) => Finding::weak("host names", format!("no answer about {} within 5 s", NAME.0), next),
    }
}

/// The devices that gave the known answers when the node first started on them.
pub fn device(data: &DataDir) -> Finding {
    const ABOUT: &str = "device";
    let text = match fs::read_to_string(data.devices()) {
        Ok(text) => text,
        Err(_) => {
            return Finding::note(
                ABOUT,
                "no device was tried on known answers yet; the first start that trains does it",
            );
        }
    };
    let kept = match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(kept) => kept,
        Err(error) => {
            let next = format!("remove {}: the next start tries the device again", data.devices().display());
            return Finding::weak(ABOUT, format!("device.json is not JSON: {error}"), next);
        }
    };
    let name = |device: &serde_json::Value| device.pointer("/profile/gpu_model")?.as_str().map(str::to_owned);
    let tried: Vec<_> =
        kept.get("devices").and_then(|list| list.as_array()).into_iter().flatten().filter_map(name).collect();
    match (kept.get("fixed").and_then(|name| name.as_str()), tried.is_empty()) {
        (Some(fixed), true) => Finding::note(ABOUT, format!("device.json fixes its name: {fixed}")),
        (_, true) => Finding::note(ABOUT, "no device was tried on known answers yet"),
        (_, false) => Finding::ok(ABOUT, format!("gave the known answers: {}", tried.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;

    #[test]
    fn memory_is_the_least_limit_of_the_groups_and_the_machine() {
        assert_eq!(of_machine("MemTotal:       16 kB\nMemFree: 1 kB\n"), Some(16 * 1024));
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("memory.max"), "max\n").unwrap();
        fs::write(dir.path().join("a/memory.max"), "300\n").unwrap();
        assert_eq!(of_group("0::/a/b\n", dir.path()), Some(300));
        assert_eq!(of_group("0::/\n", dir.path()), None);
        assert_eq!(of_group("1:memory:/a\n", dir.path()), None, "the first version is not read");
    }

    #[test]
    fn directory_that_others_can_read_is_a_weak_point() {
        let dir = tempfile::tempdir().unwrap();
        let levels = |data: &DataDir| directory(data).into_iter().map(|found| found.level).collect::<Vec<_>>();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(levels(&DataDir::new(dir.path())), [Level::Weak, Level::Ok]);
        assert_eq!(levels(&DataDir::new(dir.path().join("absent"))), [Level::Note]);
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(levels(&DataDir::new(file)), [Level::Broken]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "the check leaves nothing");
    }

    #[test]
    fn device_file_is_read_and_a_damaged_one_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path());
        assert_eq!(device(&data).level, Level::Note);
        fs::write(data.devices(), "{").unwrap();
        assert_eq!(device(&data).level, Level::Weak);
        fs::write(data.devices(), r#"{"devices": [{"profile": {"gpu_model": "CPU 4x8"}}]}"#).unwrap();
        assert!(device(&data).text.contains("CPU 4x8"));
    }
}
