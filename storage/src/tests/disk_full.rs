//! A disk that is really full. It needs a small file system of its own, such as
//! `mount -t tmpfs -o size=12m tmpfs /mnt/small`, so it runs only when asked for:
//! `SPORE_SMALL_DISK=/mnt/small cargo test -p spore-storage -- --ignored full_disk`.

use std::fs;

use spore_protocol::{Goal, Kind, VerifiedObject};

use super::objects::{manifest, record, sign, task_of};
use crate::{Store, StoreError};

/// Set aside at the start, freed when the disk is full: what a person does then.
const BALLAST: usize = 4 << 20;

#[test]
#[ignore = "needs a small file system: see the module's first lines"]
fn a_full_disk_is_told_and_loses_nothing() {
    let Ok(disk) = std::env::var("SPORE_SMALL_DISK") else { panic!("SPORE_SMALL_DISK names no directory") };
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
