//! The mirror with a real store and a network that the test plays.

use std::sync::{Arc, Mutex};

use spore_network::{NetworkCommand, NetworkHandle};
use spore_protocol::{Record, TaskManifest, VerifiedObject, fixtures};
use spore_storage::{GcPlan, unwatched};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::artifacts::ArtifactSources;

const NOW: u64 = 1_700_000_000;

struct Kept {
    _folder: TempDir,
    store: Store,
    /// Requested artifacts in order, with the largest size allowed.
    asked: Arc<Mutex<Vec<(Cid, u64)>>>,
    _events: broadcast::Sender<StoreEvent>,
    shutdown: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// A mirror of these objects. Its network has `peers`' artifacts, but refuses each one's first
/// `refusals` requests.
fn start(objects: &[VerifiedObject], peers: Vec<Vec<u8>>, refusals: usize) -> Kept {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.insert(objects, NOW).unwrap();
    let (network, mut commands) = NetworkHandle::channel();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (noted, into) = (asked.clone(), store.clone());
    tokio::spawn(async move {
        while let Some(command) = commands.recv().await {
            let NetworkCommand::FetchArtifact { cid, limit, reply, .. } = command else { continue };
            let times = {
                let mut noted = noted.lock().unwrap();
                noted.push((cid, limit));
                noted.iter().filter(|(other, _)| *other == cid).count()
            };
            let found = peers.iter().find(|bytes| Cid::of(bytes) == cid).filter(|_| times > refusals);
            let answer =
                found.map(|bytes| assert_eq!(into.put_artifact(bytes).unwrap(), cid)).ok_or(FetchError::NotFound(cid));
            let _ = reply.send(answer);
        }
    });
    let (events, receiver) = broadcast::channel(16);
    let (shutdown, stop) = watch::channel(false);
    let task =
        tokio::spawn(run(store.clone(), Arc::new(ArtifactSources::new(store.clone(), network, None)), receiver, stop));
    Kept { _folder: folder, store, asked, _events: events, shutdown, task }
}

/// A task with its root.
fn objects() -> Vec<VerifiedObject> {
    let identity = fixtures::identity(1);
    let manifest = TaskManifest {
        prepare_cid: Cid::of(b"evaluator").to_string(),
        dataset_cid: Cid::of(b"data").to_string(),
        timestamp: NOW,
        ..fixtures::manifest(&identity)
    };
    let manifest = fixtures::sign(&identity, &manifest);
    let root = Record { timestamp: NOW, ..fixtures::record(&identity, Some(manifest.id().into()), None) };
    vec![manifest.into(), fixtures::sign(&identity, &root).into()]
}

async fn until_kept(kept: &Kept, bytes: &[u8]) {
    let cid = Cid::of(bytes);
    let here = async {
        while kept.store.artifact_path(&cid).is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(60), here).await.unwrap();
}

#[tokio::test]
async fn mirror_keeps_scripts_and_evaluators_but_no_datasets() {
    let kept =
        start(&objects(), vec![b"base".to_vec(), b"evaluator".to_vec(), b"script".to_vec(), b"data".to_vec()], 0);
    for bytes in [&b"base"[..], b"evaluator", b"script"] {
        until_kept(&kept, bytes).await;
    }
    kept.shutdown.send(true).unwrap();
    kept.task.await.unwrap();
    let asked = kept.asked.lock().unwrap();
    assert_eq!(asked.len(), 3, "each is asked for once");
    assert!(asked.iter().all(|(cid, limit)| *cid != Cid::of(b"data") && *limit == LIMIT));
}

#[tokio::test]
async fn artifact_that_no_peer_had_is_asked_for_again() {
    let kept = start(&objects(), vec![b"script".to_vec()], 1);
    until_kept(&kept, b"script").await;
    let asked = kept.asked.lock().unwrap().clone();
    assert_eq!(asked.iter().filter(|(cid, _)| *cid == Cid::of(b"script")).count(), 2);
    kept.shutdown.send(true).unwrap();
}

#[test]
fn mirror_finds_damaged_scripts() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.insert(&objects(), NOW).unwrap();
    let script = store.put_artifact(b"script").unwrap();
    let misses = |before| check(&store, 0, before, true).unwrap().missing.iter().any(|((cid, _), _)| *cid == script);
    assert!(!misses(Some(None)));
    std::fs::write(store.artifact_path(&script).unwrap(), b"skript").unwrap();
    assert!(!misses(None) && misses(Some(None)));
    assert!(store.artifact_path(&script).is_none());
}

#[test]
fn dropped_artifact_is_not_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let [_, root] = <[VerifiedObject; 2]>::try_from(objects()).unwrap();
    let script = store.put_artifact(b"script").unwrap();
    store.note_artifact_uses(NOW).unwrap();
    let plan = GcPlan { now: NOW + 7200, max_age: Some(3600), max_bytes: None, dry_run: false };
    assert_eq!(store.gc(&plan, &mut unwatched).unwrap().dropped_count, 1);
    store.insert(&[root], NOW).unwrap();
    let misses = |before| check(&store, 0, before, true).unwrap().missing.iter().any(|((cid, _), _)| *cid == script);
    assert!(!misses(None) && !misses(Some(None)));
    store.put_artifact(b"script").unwrap();
    std::fs::remove_file(store.artifact_path(&script).unwrap()).unwrap();
    assert!(misses(None), "it came back, and was lost in another way");
}

/// A task of a new key with its base script, and a record of it, dated ahead of all others.
fn spam(number: u8) -> Vec<VerifiedObject> {
    let identity = fixtures::identity(number);
    let manifest = TaskManifest {
        base_code_cid: Some(Cid::of(&[number, 1])),
        prepare_cid: Cid::of(&[number, 2]).to_string(),
        timestamp: NOW + 1000,
        ..fixtures::manifest(&identity)
    };
    let manifest = fixtures::sign(&identity, &manifest);
    let root = Record {
        timestamp: NOW + 1000,
        code_cid: Some(Cid::of(&[number, 3])),
        ..fixtures::record(&identity, Some(manifest.id().into()), None)
    };
    vec![manifest.into(), fixtures::sign(&identity, &root).into()]
}

#[tokio::test]
async fn script_of_a_new_record_is_kept_behind_a_flood_of_made_up_ones() {
    let flood: Vec<_> = (10..200).flat_map(spam).collect();
    let kept = start(&flood, vec![b"script".to_vec()], 0);
    let [_, root] = <[VerifiedObject; 2]>::try_from(objects()).unwrap();
    kept.store.insert(&[root], NOW).unwrap();
    until_kept(&kept, b"script").await;
    kept.shutdown.send(true).unwrap();
}

#[test]
fn tasks_beyond_the_most_active_ones_cost_a_check_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let manifests = (0..TASKS as u64 + 50).map(|n| {
        let identity = fixtures::identity(1);
        let manifest = TaskManifest { timestamp: NOW + n, ..fixtures::manifest(&identity) };
        fixtures::sign(&identity, &manifest).into()
    });
    store.insert(&manifests.collect::<Vec<_>>(), NOW).unwrap();
    let named = of_tasks(&store).unwrap().len();
    assert!(named > 0 && named <= 2 * TASKS, "{named}");
    assert!(check(&store, store.sequence(), None, false).unwrap().missing.is_empty());
}
