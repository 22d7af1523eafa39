//! A disk that is really full: a small file system in a mount namespace of its own. This needs root or unprivileged
//! user namespaces (Linux). Elsewhere the test reports that it was skipped.

use std::{
    fs,
    io::Write,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use spore_protocol::{Cid, Goal, Kind, ObjectId, Record, Verified, VerifiedObject};

use super::{
    findings,
    objects::{manifest, record, sign, task_of},
};
use crate::{GcPlan, Store, StoreError, unwatched};

/// Bytes reserved at the start and freed when the disk is full, as a person would free space. RocksDB continues when
/// there is room for a memtable of 16 MiB.
const BALLAST: usize = 24 << 20;

/// How long to wait until the store continues. It looks every five seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// The environment variable that names the small file system to the process that fills it.
const DISK: &str = "SPORE_SMALL_DISK";
/// Set in the process that examines what the first one left.
const AFTER: &str = "SPORE_SMALL_DISK_AFTER";
const NAME: &str = "tests::disk_full::full_disk_loses_nothing_and_writes_succeed_after_space_is_freed";

#[test]
fn full_disk_loses_nothing_and_writes_succeed_after_space_is_freed() {
    if let Ok(disk) = std::env::var(DISK) {
        return if std::env::var_os(AFTER).is_some() { after(disk.as_ref()) } else { fill(disk.as_ref()) };
    }
    let mount = tempfile::tempdir().unwrap();
    let inside = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", script]).arg(mount.path()).arg(std::env::current_exe().unwrap());
        command.args(["--exact", NAME, "--nocapture"]).env(DISK, mount.path());
        command.status().is_ok_and(|status| status.success())
    };
    let mounts = r#"mount -t tmpfs -o size=36m tmpfs "$0""#;
    if !inside(mounts) {
        assert!(
            std::env::var_os("CI").is_none(),
            "no small file system can be mounted here, and no test is skipped in CI"
        );
        println!("SKIPPED: `unshare -rm` or the mount in it does not work here");
        return;
    }
    // The first process aborts, as in a crash. The second one examines what is left.
    let script = format!(r#"{mounts} || exit 1; "$@"; test -f "$0/done" || exit 1; {AFTER}=1 exec "$@""#);
    assert!(inside(&script), "see the output of the processes inside");
}

/// A record whose text does not compress.
fn child(root: &Verified<Record>, number: usize) -> VerifiedObject {
    let mut child = record(2, root.task_id, Some(root), 1.0, number as u64);
    child.diff = (0..4000).map(|part| Cid::of(&(number * 4000 + part).to_be_bytes()).to_string()).collect();
    sign(2, &child).into()
}

fn root() -> Verified<Record> {
    let task = task_of(&manifest(1, Goal::Minimize));
    sign(1, &record(1, Some(task), None, 2.0, 1))
}

fn fill(disk: &Path) {
    let ballast = disk.join("ballast");
    fs::write(&ballast, vec![1; BALLAST]).unwrap();
    let store = Store::open(&disk.join("node")).unwrap();
    let root = root();
    store.insert(&[root.clone().into()], 1).unwrap();
    let artifact = store.put_artifact(b"kept").unwrap();
    let mut stored = vec![root.id()];
    let refused = loop {
        let child = child(&root, stored.len());
        match store.insert(std::slice::from_ref(&child), 1) {
            Ok(_) => stored.push(child.id()),
            Err(StoreError::DiskFull) => break child,
            Err(error) => panic!("{error}"),
        }
        assert!(stored.len() < 1000, "the disk does not fill");
    };
    assert!(matches!(store.put_artifact(&vec![7; BALLAST]), Err(StoreError::DiskFull)));
    // Reading still works, and another insertion reports the full disk again.
    assert!(matches!(store.insert(std::slice::from_ref(&refused), 1), Err(StoreError::DiskFull)));
    assert!(stored.iter().all(|id| store.contains(Kind::Experiment, id).unwrap()));
    assert!(!store.contains(Kind::Experiment, &refused.id()).unwrap());
    assert_eq!(store.counts().unwrap().experiments, stored.len() as u64);
    assert_eq!(store.artifact(&artifact).unwrap().unwrap(), b"kept");
    let plan = GcPlan { max_bytes: Some(0), dry_run: true, ..GcPlan::default() };
    store.gc(&plan, &mut unwatched).unwrap();

    fs::remove_file(ballast).unwrap();
    let freed = Instant::now();
    loop {
        match store.insert(std::slice::from_ref(&refused), 1) {
            Ok(_) => break,
            Err(StoreError::DiskFull) if freed.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(200)),
            Err(error) => panic!("{error}"),
        }
    }
    println!("writes succeeded {:.1} s after space was freed", freed.elapsed().as_secs_f64());
    stored.push(refused.id());
    for number in 0..20 {
        let more = child(&root, 5_000 + number);
        store.insert(std::slice::from_ref(&more), 2).unwrap();
        stored.push(more.id());
    }
    let mut done = fs::File::create(disk.join("done")).unwrap();
    stored.iter().for_each(|id| writeln!(done, "{id}").unwrap());
    std::process::abort();
}

fn after(disk: &Path) {
    let store = Store::open(&disk.join("node")).unwrap();
    assert_eq!(store.lost_changes(), None);
    let done = fs::read_to_string(disk.join("done")).unwrap();
    let stored: Vec<ObjectId> = done.lines().map(|line| line.parse().unwrap()).collect();
    assert!(stored.len() > 20);
    assert!(stored.iter().all(|id| store.contains(Kind::Experiment, id).unwrap()));
    fs::remove_file(disk.join("done")).unwrap();
    assert_eq!(findings(&store), Vec::<String>::new());
    close_on_a_full_disk(disk, store);
}

/// Closing a store flushes it, which fails here. Closing ends all the same, and the acknowledged objects are in the
/// write-ahead log.
fn close_on_a_full_disk(disk: &Path, store: Store) {
    let (root, ballast) = (root(), disk.join("ballast"));
    let mut file = fs::File::create(&ballast).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    drop(file);
    let mut stored = Vec::new();
    let refused = loop {
        let child = child(&root, 9_000 + stored.len());
        match store.insert(std::slice::from_ref(&child), 3) {
            Ok(_) => stored.push(child.id()),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StoreError::DiskFull), "{refused}");
    drop(store);
    fs::remove_file(ballast).unwrap();
    let store = Store::open(&disk.join("node")).unwrap();
    assert_eq!(store.lost_changes(), None);
    assert!(stored.iter().all(|id| store.contains(Kind::Experiment, id).unwrap()));
}
