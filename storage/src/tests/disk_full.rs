//! A disk that is really full: a small file system in a mount namespace of its own, which needs
//! root or unprivileged user namespaces (Linux). Elsewhere the test says that it did not run.

use std::{fs, path::Path, process::Command};

use spore_protocol::{Goal, Kind, VerifiedObject};

use super::objects::{manifest, record, sign, task_of};
use crate::{Store, StoreError};

/// Set aside at the start, freed when the disk is full: what a person does then.
const BALLAST: usize = 4 << 20;

/// Names the small file system to the process that fills it.
const DISK: &str = "SPORE_SMALL_DISK";
const NAME: &str = "tests::disk_full::a_full_disk_is_told_and_loses_nothing";

#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    if let Ok(disk) = std::env::var(DISK) {
        return fill(disk.as_ref());
    }
    let mount = tempfile::tempdir().unwrap();
    let inside = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", script]).arg(mount.path()).arg(std::env::current_exe().unwrap());
        command.args(["--exact", NAME, "--nocapture"]).env(DISK, mount.path());
        command.status().is_ok_and(|status| status.success())
    };
    let mounts = r#"mount -t tmpfs -o size=12m tmpfs "$0""#;
    if !inside(mounts) {
        assert!(std::env::var_os("CI").is_none(), "no small disk can be mounted here, and in CI nothing is skipped");
        println!("SKIPPED: `unshare -rm` or the mount in it does not work here");
        return;
    }
    assert!(inside(&format!(r#"{mounts} && exec "$@""#)), "see the output of the process inside");
}

fn fill(disk: &Path) {
    let dir = tempfile::tempdir_in(disk).unwrap();
    let ballast = dir.path().join("ballast");
    fs::write(&ballast, vec![1; BALLAST]).unwrap();
    let store = Store::open(&dir.path().join("node")).unwrap();
    let task = task_of(&manifest(1, Goal::Minimize));
    let root = sign(1, &record(1, Some(task), None, 2.0, 1));
    store.insert(&[root.clone().into()], 1).unwrap();
    let mut stored = vec![root.id()];
    let failure = loop {
        let mut child = record(2, Some(task), Some(&root), 1.0, stored.len() as u64);
        // Text that does not compress.
        child.diff = (0..4000).map(|i| sha(stored.len() * 4000 + i)).collect();
        let child: VerifiedObject = sign(2, &child).into();
        match store.insert(std::slice::from_ref(&child), 1) {
            Ok(_) => stored.push(child.id()),
            Err(error) => break error,
        }
        assert!(stored.len() < 1000, "the disk does not fill");
    };
    assert!(matches!(failure, StoreError::DiskFull), "{failure:?}");
    assert!(matches!(store.put_artifact(&vec![7; 2 * BALLAST]), Err(StoreError::DiskFull)));
    drop(store);

    fs::remove_file(ballast).unwrap();
    let store = Store::open(&dir.path().join("node")).unwrap();
    assert!(stored.iter().all(|id| store.contains(Kind::Experiment, id).unwrap()));
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    let after = sign(3, &record(3, Some(task), Some(&root), 0.5, 9));
    store.insert(&[after.into()], 1).unwrap();
}

fn sha(seed: usize) -> String {
    spore_protocol::Cid::of(&seed.to_be_bytes()).to_string()
}
