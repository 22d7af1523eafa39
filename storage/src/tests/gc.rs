//! Which artifacts a bounded cache drops, and which it never drops.

use spore_protocol::{Cid, Goal, VerifiedObject};

use super::objects::{identity, manifest, record, sign, task_of};
use crate::{DropReason, GcPlan, GcReport, Store, StoreError, unwatched};

/// Unix seconds of the collections in these tests.
const NOW: u64 = 1_000_000_000;

/// An artifact of 1000 bytes, last used `age` seconds before [`NOW`].
fn put(store: &Store, name: &str, age: u64) -> Cid {
    let cid = store.put_artifact(format!("{name:<1000}").as_bytes()).unwrap();
    store.note_artifact_uses(NOW - age).unwrap();
    cid
}

/// The addresses of dropped artifacts, in order, and the reasons.
fn dropped(report: &GcReport) -> Vec<(Cid, DropReason)> {
    report.dropped.iter().map(|dropped| (dropped.cid, dropped.reason)).collect()
}

struct GcWorld {
    _dir: tempfile::TempDir,
    store: Store,
    /// Artifacts of the manifest, the root, and the record on the frontier.
    needed: Vec<Cid>,
    /// An artifact of a record that is not on the frontier.
    beaten: Cid,
    /// Artifacts that no record names, the older one first.
    loose: [Cid; 2],
    pinned: Cid,
}

fn world() -> GcWorld {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let days = |days: u64| days * 86_400;
    let needed: Vec<Cid> =
        ["base", "evaluator", "dataset", "root", "best"].into_iter().map(|name| put(&store, name, days(90))).collect();
    let [base, evaluator, dataset, root, best] = needed[..] else { panic!() };
    let beaten = put(&store, "beaten", days(40));
    let loose = [put(&store, "older", days(30)), put(&store, "newer", days(20))];
    let pinned = put(&store, "pinned", days(99));
    assert!(store.pin(&pinned).unwrap());

    let mut task = manifest(1, Goal::Minimize).object().clone();
    (task.base_code_cid, task.prepare_cid, task.dataset_cid) = (Some(base), evaluator.to_string(), dataset.to_string());
    let task = identity(1).sign(&task).unwrap();
    let id = task_of(&task);
    let with = |mut made: spore_protocol::Record, cid| {
        made.code_cid = Some(cid);
        sign(1, &made)
    };
    // No seed confirms them, so they are on the reference's frontier only.
    let first = with(record(1, Some(id), None, 3.0, 11), root);
    let second = with(record(1, Some(id), Some(&first), 2.0, 12), beaten);
    let third = with(record(1, Some(id), Some(&second), 1.0, 13), best);
    let objects: [VerifiedObject; 4] = [task.into(), first.into(), second.into(), third.into()];
    store.insert(&objects, 1).unwrap();
    GcWorld { _dir: dir, store, needed, beaten, loose, pinned }
}

fn gc(store: &Store, max_age: Option<u64>, max_bytes: Option<u64>, dry_run: bool) -> GcReport {
    store.gc(&GcPlan { now: NOW, max_age, max_bytes, dry_run }, &mut unwatched).unwrap()
}

#[test]
fn gc_drops_unreferenced_then_least_recently_used_and_never_needed_artifacts() {
    let GcWorld { _dir, store, needed, beaten, loose, pinned } = world();
    assert_eq!(gc(&store, None, None, true).kept_count, 9);
    assert_eq!(dropped(&gc(&store, None, Some(9_000), true)), []);
    let size = |cid| (cid, DropReason::Size);
    assert_eq!(dropped(&gc(&store, None, Some(8_500), true)), [size(loose[0])]);
    let all = gc(&store, None, Some(0), true);
    assert_eq!(dropped(&all), [size(loose[0]), size(loose[1]), size(beaten)]);
    assert_eq!(all.dropped.iter().map(|dropped| dropped.references).collect::<Vec<_>>(), [0, 0, 1]);
    assert_eq!((all.kept_count, all.kept_bytes, all.protected_count), (6, 6_000, 6));
    let day = 86_400;
    let old = gc(&store, Some(25 * day), Some(0), true);
    let age = |cid| (cid, DropReason::Age);
    assert_eq!(dropped(&old), [age(loose[0]), age(beaten), size(loose[1])]);
    assert!([beaten, loose[0], loose[1]].iter().all(|cid| store.artifact_path(cid).is_some()), "it only told");

    assert_eq!(gc(&store, None, Some(0), false), all);
    assert!(
        [beaten, loose[0], loose[1]].iter().all(|cid| store.artifact_path(cid).is_none() && store.was_dropped(cid))
    );
    assert!(!needed.iter().any(|cid| store.was_dropped(cid)));
    put(&store, "beaten", 0);
    assert!(!store.was_dropped(&beaten), "it is here again");
    assert!(needed.iter().chain([&pinned]).all(|cid| store.verify_artifact(cid).unwrap()));
    assert!(store.unpin(&pinned).unwrap());
    assert_eq!(dropped(&gc(&store, Some(0), None, false)), [age(pinned)]);
}

#[test]
fn reading_an_artifact_counts_as_a_use_and_verifying_does_not() {
    let GcWorld { _dir, store, loose, .. } = world();
    assert!(store.verify_artifact(&loose[0]).unwrap());
    store.verify_files(&mut unwatched).unwrap();
    assert_eq!(store.read_artifact_range(&loose[1], 0, 5).unwrap().unwrap(), b"newer");
    let report = gc(&store, None, Some(0), false);
    assert!(report.dropped.iter().any(|dropped| dropped.cid == loose[0]));
    assert!(store.artifact_path(&loose[1]).is_some(), "it was used just now");
}

#[test]
fn read_only_store_allows_only_a_dry_run() {
    let GcWorld { _dir: dir, store, pinned, .. } = world();
    drop(store);
    let store = Store::open_read_only(dir.path()).unwrap();
    assert_eq!(gc(&store, None, Some(0), true).dropped_count, 3);
    let plan = GcPlan { now: NOW, max_age: None, max_bytes: Some(0), dry_run: false };
    assert!(matches!(store.gc(&plan, &mut unwatched), Err(StoreError::ReadOnly)));
    assert!(matches!(store.unpin(&pinned), Err(StoreError::ReadOnly)));
    assert_eq!(store.pins().unwrap(), [pinned]);
}

#[test]
fn jump_of_a_month_makes_no_artifact_old() {
    let GcWorld { _dir: dir, store, loose, .. } = world();
    let (day, month) = (86_400, 30 * 86_400);
    let plan = |now| GcPlan { now, max_age: Some(35 * day), max_bytes: None, dry_run: false };
    let dropped =
        |store: &Store, now, dry_run| store.gc(&GcPlan { dry_run, ..plan(now) }, &mut unwatched).unwrap().dropped_count;
    store.look_at_artifacts(NOW).unwrap();
    assert_eq!(dropped(&store, NOW, false), 1, "one is older than that");
    drop(store);
    let reader = Store::open_read_only(dir.path()).unwrap();
    assert_eq!(dropped(&reader, NOW + month, true), 0, "a dry run changes nothing, and sees the jump too");
    drop(reader);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(dropped(&store, NOW + month, false), 0, "the clock jumped ahead");
    assert_eq!(dropped(&store, NOW, false), 0, "and back");
    assert!(loose.iter().all(|cid| store.artifact_path(cid).is_some()));
    // Time in which the node looks every day counts.
    for days in 1..=45 {
        store.look_at_artifacts(NOW + days * day).unwrap();
    }
    assert_eq!(dropped(&store, NOW + 45 * day, false), 1, "30 days old, and 15 later than it was");
}
