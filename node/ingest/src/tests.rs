//! The whole service against a real store in a temporary folder.

use std::sync::atomic::{AtomicU64, Ordering};

use libp2p_identity::PeerId;
use spore_base::peer_id::peer_id;
use spore_protocol::{
    Cid, Goal, HardwareClass, Identity, Record, RecordId, Signed, SignedObject, Status, TaskManifest, VerifiedObject,
    manifest::MANIFEST_VERSION, record::RECORD_VERSION,
};
use spore_storage::{Store, StoreError, unwatched};
use tempfile::TempDir;
use tokio::sync::{broadcast, mpsc, watch};

use super::*;

pub(super) const NOW: u64 = 1_700_000_000;

struct Service {
    _folder: TempDir,
    store: Store,
    handle: IngestHandle,
    events: broadcast::Receiver<StoreEvent>,
    wants: mpsc::Receiver<Want>,
    task: tokio::task::JoinHandle<()>,
    shutdown: watch::Sender<bool>,
    clock: std::sync::Arc<AtomicU64>,
}

fn start() -> Service {
    start_in(tempfile::tempdir().unwrap())
}

fn start_in(folder: TempDir) -> Service {
    let store = Store::open(folder.path()).unwrap();
    let (shutdown, stop) = watch::channel(false);
    let clock = std::sync::Arc::new(AtomicU64::new(NOW));
    let ticking = clock.clone();
    let (handle, events, wants, task) =
        Ingest::spawn(store.clone(), std::sync::Arc::new(move || ticking.load(Ordering::Relaxed)), stop);
    Service { _folder: folder, store, handle, events: events.subscribe(), wants, task, shutdown, clock }
}

fn identity(n: u8) -> Identity {
    Identity::from_seed(&[n; 32])
}

fn some_peer() -> PeerId {
    peer_id(&identity(9).node_id()).unwrap()
}

fn manifest() -> Signed<TaskManifest> {
    let manifest = TaskManifest {
        name: "task".into(),
        description: String::new(),
        task_type: "ml_train".into(),
        artifact_type: "starlark_train_script".into(),
        metric: "val_bpb".into(),
        goal: Goal::Minimize,
        base_code_cid: Some(Cid::of(b"base")),
        prepare_cid: Cid::of(b"evaluator").to_string(),
        dataset_cid: Cid::of(b"data").to_string(),
        time_budget: 20,
        created_by: identity(1).node_id(),
        timestamp: NOW - 100,
        version: MANIFEST_VERSION,
    };
    identity(1).sign(&manifest).unwrap().into_signed()
}

/// A record at a depth, built on `parent`.
fn record(parent: Option<RecordId>, depth: u64, timestamp: u64) -> Signed<Record> {
    let manifest = manifest();
    let record = Record {
        parent,
        depth,
        code_cid: Some(Cid::of(b"base")),
        diff: String::new(),
        dataset_cid: manifest.dataset_cid.clone(),
        prepare_cid: manifest.prepare_cid.clone(),
        time_budget: 20,
        val_bpb: 3.0 - depth as f64 / 1000.0,
        peak_vram_mb: 1.0,
        num_steps: 10,
        num_params: 10,
        status: Status::Keep,
        description: String::new(),
        hypothesis: String::new(),
        agent_model: String::new(),
        gpu_model: "CPU".into(),
        cuda_version: String::new(),
        torch_version: String::new(),
        node_id: identity(1).node_id(),
        task_id: Some(manifest.id().into()),
        timestamp,
        version: RECORD_VERSION,
    };
    identity(1).sign(&record).unwrap().into_signed()
}

/// A chain from the root on.
pub(super) fn chain(length: u64) -> Vec<SignedObject> {
    let mut parent = None;
    (0..length)
        .map(|depth| {
            let record = record(parent, depth, NOW - 50 + depth / 100);
            parent = Some(record.id().into());
            SignedObject::Experiment(record)
        })
        .collect()
}

/// The same content under a signature that does not fit.
fn forged(object: &SignedObject) -> SignedObject {
    let mut signature = *object.signature();
    signature[3] ^= 1;
    SignedObject::from_canonical(object.kind(), object.canonical(), signature).unwrap()
}

async fn submit_all(
    service: &Service,
    origin: Origin,
    objects: impl IntoIterator<Item = SignedObject>,
) -> Vec<Disposition> {
    let sent: Vec<_> = objects
        .into_iter()
        .map(|object| {
            let handle = service.handle.clone();
            tokio::spawn(async move { handle.submit(origin, object).await.unwrap() })
        })
        .collect();
    let mut dispositions = Vec::new();
    for answer in sent {
        dispositions.push(answer.await.unwrap());
    }
    dispositions
}

#[tokio::test]
async fn a_new_object_is_stored_told_and_known_from_then_on() {
    let mut service = start();
    let object = SignedObject::Task(manifest());
    let peer = Origin::Gossip(some_peer());
    assert_eq!(service.handle.submit(peer, object.clone()).await.unwrap(), Disposition::Accepted);
    assert!(service.store.contains(object.kind(), &object.id()).unwrap());
    let event = service.events.recv().await.unwrap();
    assert_eq!((event.change.id, event.origin, &event.object), (object.id(), peer, &object));
    assert_eq!(service.handle.submit(Origin::Local, object).await.unwrap(), Disposition::Known);
    assert!(service.events.try_recv().is_err());
}

#[tokio::test]
async fn a_store_that_takes_objects_again_is_no_trouble() {
    let service = start();
    assert_eq!(service.handle.trouble(), None);
    service.handle.trouble.note(&StoreError::DiskFull);
    assert!(service.handle.trouble().is_some_and(|told| told.contains("within seconds")));
    let object = SignedObject::Task(manifest());
    assert_eq!(service.handle.submit(Origin::Local, object).await.unwrap(), Disposition::Accepted);
    assert_eq!(service.handle.trouble(), None);
}

/// Spoils the first block of a column of the database in a folder.
fn spoil(database: &std::path::Path, column: &str) {
    let name = |bytes: &[u8]| bytes.windows(column.len()).any(|part| part == column.as_bytes());
    let files = std::fs::read_dir(database).unwrap().map(|entry| entry.unwrap().path());
    let tables = files.filter(|path| path.extension().is_some_and(|end| end == "sst"));
    let table = tables.map(|path| (std::fs::read(&path).unwrap(), path)).find(|(bytes, _)| name(bytes));
    let (mut bytes, path) = table.expect("a table of the column, which its properties name");
    bytes[10] ^= 0x55;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn what_needs_a_damaged_part_of_the_store_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    let chain = chain(4);
    let store = Store::open(folder.path()).unwrap();
    let first: Vec<_> = chain[..2].iter().map(|object| object.clone().verify().unwrap()).collect();
    store.insert(&first, NOW).unwrap();
    store.compact(&mut unwatched).unwrap();
    drop(store);
    spoil(&folder.path().join("store"), "objects");

    let mut service = start_in(folder);
    // Its parent cannot be read, and the next one waits for it.
    let other = identity(2).sign(&TaskManifest { created_by: identity(2).node_id(), ..manifest().object().clone() });
    let batch = [chain[2].clone(), chain[3].clone(), SignedObject::Task(other.unwrap().into_signed())];
    let told = submit_all(&service, Origin::Local, batch.clone()).await;
    assert!(matches!(&told[0], Disposition::Failed(why) if why.contains("db check --repair")), "{told:?}");
    assert_eq!(told[1..], [Disposition::Pending, Disposition::Accepted]);
    assert_eq!(service.events.recv().await.unwrap().change.id, batch[2].id());
    let trouble = service.handle.trouble().unwrap();
    assert!(trouble.contains("damaged") && trouble.contains("db check --repair"), "{trouble}");
    // What comes later is stored, and the trouble is told until somebody mends it.
    assert_eq!(submit_all(&service, Origin::Local, [batch[2].clone()]).await, [Disposition::Known]);
    assert!(service.handle.trouble().is_some());
}

#[tokio::test]
async fn a_quiet_node_notices_that_its_store_takes_objects_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let (insertion, mut events, _wants) = super::service::Insertion::for_test(store.clone());
    for known in [Vec::new(), vec![SignedObject::Task(manifest()).verify().unwrap()]] {
        store.insert(&known, NOW).unwrap();
        let before = store.check().unwrap();
        insertion.trouble.note(&StoreError::DiskFull);
        insertion.try_store().await;
        assert_eq!(insertion.trouble.told(), None);
        assert_eq!(store.sequence(), known.len() as u64);
        assert_eq!(store.check().unwrap(), before);
    }
    assert!(events.try_recv().is_err());
}

#[tokio::test]
async fn a_forged_copy_neither_enters_nor_keeps_the_true_one_out() {
    let service = start();
    let object = SignedObject::Task(manifest());
    let answers = submit_all(&service, Origin::Import, [forged(&object), object.clone(), forged(&object)]).await;
    assert!(answers.contains(&Disposition::Accepted), "{answers:?}");
    assert!(matches!(&answers[0], Disposition::Rejected(reject) if reject.code() == "bad_signature"));
    assert!(service.handle.rejected()["bad_signature"] >= 1);
    assert!(service.store.contains(object.kind(), &object.id()).unwrap());
}

#[tokio::test]
async fn a_flood_of_copies_is_stored_once() {
    let mut service = start();
    let object = SignedObject::Task(manifest());
    let answers = submit_all(&service, Origin::Import, vec![object; 3000]).await;
    assert_eq!(answers.iter().filter(|a| **a == Disposition::Accepted).count(), 1);
    assert_eq!(answers.iter().filter(|a| **a == Disposition::Known).count(), 2999);
    assert!(service.events.try_recv().is_ok() && service.events.try_recv().is_err());
    assert_eq!(service.store.sequence(), 1);
}

#[tokio::test]
async fn records_in_any_order_all_arrive_and_each_is_told_once() {
    let mut service = start();
    service.handle.submit(Origin::Import, SignedObject::Task(manifest())).await.unwrap();
    service.events.recv().await.unwrap();
    let peer = some_peer();
    let mut records = chain(300);
    records.reverse();
    // One after the other: in one batch the store would put them into order itself.
    for record in &records[..299] {
        let answer = service.handle.submit(Origin::Gossip(peer), record.clone()).await.unwrap();
        assert_eq!(answer, Disposition::Pending);
    }
    let want = service.wants.recv().await.unwrap();
    assert_eq!((want.id, want.from), (records[1].id(), Some(peer)));
    let root = records[299].clone();
    assert_eq!(service.handle.submit(Origin::Sync(peer), root.clone()).await.unwrap(), Disposition::Accepted);
    let mut told = Vec::new();
    for _ in 0..300 {
        told.push(service.events.recv().await.unwrap());
    }
    assert_eq!(told[0].origin, Origin::Sync(peer));
    assert!(
        told[1..].iter().all(|event| event.origin == Origin::Gossip(peer)),
        "a released record remembers how it came"
    );
    let ids: std::collections::HashSet<_> = told.iter().map(|event| event.change.id).collect();
    assert_eq!(ids.len(), 300);
    let class = HardwareClass::of("CPU");
    let frontier = service.store.frontier(&manifest().id().into(), Some(&class), 10).unwrap();
    assert_eq!(frontier.len(), 1);
    assert_eq!(frontier[0].depth, 299);
}

#[tokio::test]
async fn a_shuffled_batch_needs_nothing_from_outside() {
    let mut service = start();
    let mut objects = chain(200);
    objects.reverse();
    objects.insert(100, SignedObject::Task(manifest()));
    submit_all(&service, Origin::Import, objects).await;
    assert_eq!(service.store.counts().unwrap().experiments, 200);
    assert_eq!(service.store.pending_count().unwrap(), 0);
    while let Ok(want) = service.wants.try_recv() {
        assert!(service.store.contains(want.kind, &want.id).unwrap());
    }
}

#[tokio::test]
async fn tomorrows_objects_are_refused_until_tomorrow() {
    let service = start();
    let early = SignedObject::Experiment(record(None, 0, NOW + MAX_AHEAD_SECONDS + 5));
    let answer = service.handle.submit(Origin::Import, early.clone()).await.unwrap();
    assert!(matches!(answer, Disposition::Rejected(reject) if reject.code() == "from_the_future"));
    assert_eq!(service.handle.rejected()["from_the_future"], 1);
    service.clock.fetch_add(5, Ordering::Relaxed);
    assert_eq!(service.handle.submit(Origin::Import, early).await.unwrap(), Disposition::Accepted);
}

#[tokio::test]
async fn records_that_break_the_lineage_are_refused_with_the_reason() {
    let service = start();
    let root = record(None, 0, NOW);
    let parent = root.id().into();
    let answers = submit_all(
        &service,
        Origin::Import,
        [SignedObject::Experiment(root), SignedObject::Experiment(record(Some(parent), 5, NOW))],
    )
    .await;
    assert!(matches!(&answers[1], Disposition::Rejected(reject) if reject.code() == "depth_mismatch"), "{answers:?}");
    assert_eq!(service.handle.rejected()["depth_mismatch"], 1);
}

#[tokio::test]
async fn what_is_in_the_inbox_at_shutdown_is_still_decided() {
    let service = start();
    let handle = service.handle.clone();
    let sending = tokio::spawn(async move { handle.submit(Origin::Local, SignedObject::Task(manifest())).await });
    tokio::task::yield_now().await;
    service.shutdown.send_replace(true);
    service.task.await.unwrap();
    // Either it was in the inbox and is stored, or it came too late and its sender knows.
    match sending.await.unwrap() {
        Ok(disposition) => assert_eq!(disposition, Disposition::Accepted),
        Err(IngestClosed) => assert_eq!(service.store.sequence(), 0),
    }
    assert!(service.handle.submit(Origin::Local, SignedObject::Task(manifest())).await.is_err());
}

#[tokio::test]
async fn answers_come_in_the_order_in_which_objects_came() {
    let service = start();
    let mut answers = Vec::new();
    for object in chain(3 * BATCH as u64) {
        let (reply, answer) = tokio::sync::oneshot::channel();
        service.handle.inbox.send(Inbound { origin: Origin::Import, object, reply }).await.unwrap();
        answers.push(answer);
    }
    let last = answers.pop().unwrap();
    assert_eq!(last.await.unwrap(), Disposition::Accepted);
    assert!(answers.iter_mut().all(|answer| answer.try_recv() == Ok(Disposition::Accepted)));
}

#[tokio::test]
async fn batches_under_way_at_shutdown_are_all_decided() {
    let service = start();
    let mut answers = Vec::new();
    for object in chain(3 * BATCH as u64) {
        let (reply, answer) = tokio::sync::oneshot::channel();
        service.handle.inbox.send(Inbound { origin: Origin::Import, object, reply }).await.unwrap();
        answers.push(answer);
    }
    service.shutdown.send_replace(true);
    service.task.await.unwrap();
    assert!(answers.iter_mut().all(|answer| answer.try_recv() == Ok(Disposition::Accepted)));
    assert_eq!(service.store.sequence(), 3 * BATCH as u64);
}

#[tokio::test]
async fn missing_parents_are_asked_for_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let records = chain(3);
    let orphan: VerifiedObject = records[2].clone().verify().unwrap();
    store.insert(&[orphan], NOW).unwrap();
    let (_shutdown, stop) = watch::channel(false);
    let (_handle, _events, mut wants, _task) = Ingest::spawn(store, std::sync::Arc::new(|| NOW), stop);
    let want = wants.recv().await.unwrap();
    assert_eq!((want.id, want.from), (records[1].id(), None));
}
