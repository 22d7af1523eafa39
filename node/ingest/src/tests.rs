//! The whole service against a real store in a temporary folder.

use std::sync::atomic::{AtomicU64, Ordering};

use libp2p_identity::PeerId;
use spore_base::{clock::ClockOffset, peer_id::peer_id};
use spore_protocol::{
    Record, Signed, SignedObject, TaskManifest, VerifiedObject,
    fixtures::{self, forged, identity},
    frontier::FrontierKind,
};
use spore_storage::{Span, Store, StoreError, unwatched};
use tempfile::TempDir;
use tokio::sync::{broadcast, mpsc, watch};

use super::{blocks::BlockList, limits::HELD_AHEAD_SECONDS, *};

/// The time of the tests' clock: later than every record of [`chain`].
pub(super) const NOW: u64 = fixtures::EPOCH + 1_000_000;

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
    start_on(folder, store)
}

fn start_on(folder: TempDir, store: Store) -> Service {
    let (shutdown, stop) = watch::channel(false);
    let clock = std::sync::Arc::new(AtomicU64::new(NOW));
    let ticking = clock.clone();
    let (handle, events, wants, task) =
        Ingest::spawn(store.clone(), std::sync::Arc::new(move || ticking.load(Ordering::Relaxed)), stop);
    Service { _folder: folder, store, handle, events: events.subscribe(), wants, task, shutdown, clock }
}

fn some_peer() -> PeerId {
    peer_id(&identity(9).node_id()).unwrap()
}

fn manifest() -> Signed<TaskManifest> {
    fixtures::sign(&identity(1), &fixtures::manifest(&identity(1))).into_signed()
}

/// A record of the task, changed before it is signed.
fn record(parent: Option<&Signed<Record>>, change: impl FnOnce(&mut Record)) -> Signed<Record> {
    let mut record = fixtures::record(&identity(1), Some(manifest().id().into()), parent);
    change(&mut record);
    fixtures::sign(&identity(1), &record).into_signed()
}

/// A chain of records from the root on.
pub(super) fn chain(length: usize) -> Vec<SignedObject> {
    let publisher = identity(1);
    let records = fixtures::chain(&publisher, Some(manifest().id().into()), |_, _| ());
    records.take(length).map(|record| SignedObject::Experiment(record.into_signed())).collect()
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
async fn new_object_is_stored_announced_and_known_from_then_on() {
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
async fn successful_write_ends_the_trouble() {
    let service = start();
    assert_eq!(service.handle.trouble(), None);
    service.handle.trouble.record(&StoreError::DiskFull);
    assert!(service.handle.trouble().is_some_and(|trouble| trouble == Trouble::Refusing));
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
async fn object_that_needs_a_damaged_part_of_the_store_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    let chain = chain(4);
    let store = Store::open(folder.path()).unwrap();
    let first: Vec<_> = chain[..2].iter().map(|object| object.clone().verify().unwrap()).collect();
    store.insert(&first, NOW).unwrap();
    store.compact(&mut unwatched).unwrap();
    drop(store);
    spoil(&folder.path().join("store"), "objects");

    let mut service = start_in(folder);
    // The parent of the first record cannot be read. The second record waits for the first.
    let other = identity(2).sign(&TaskManifest { created_by: identity(2).node_id(), ..manifest().object().clone() });
    let batch = [chain[2].clone(), chain[3].clone(), SignedObject::Task(other.unwrap().into_signed())];
    let decided = submit_all(&service, Origin::Local, batch.clone()).await;
    let damaged = |failure: &IngestFailure| matches!(failure, IngestFailure::Store(StoreError::Corrupt(_)));
    assert!(matches!(&decided[0], Disposition::Failed(failure) if damaged(failure)), "{decided:?}");
    assert_eq!(decided[1..], [Disposition::Pending, Disposition::Accepted]);
    assert_eq!(service.events.recv().await.unwrap().change.id, batch[2].id());
    let trouble = service.handle.trouble().unwrap();
    assert!(matches!(&trouble, Trouble::Damaged(StoreError::Corrupt(_))), "{trouble}");
    // Later objects are stored. The trouble lasts until the store is repaired.
    assert_eq!(submit_all(&service, Origin::Local, [batch[2].clone()]).await, [Disposition::Known]);
    assert!(service.handle.trouble().is_some());
}

#[tokio::test]
async fn quiet_node_notices_that_its_store_takes_objects_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let (insertion, mut events, _wants) = super::service::Insertion::for_test(store.clone());
    for known in [Vec::new(), vec![SignedObject::Task(manifest()).verify().unwrap()]] {
        store.insert(&known, NOW).unwrap();
        let before = store.check(&mut unwatched).unwrap().findings;
        insertion.trouble.record(&StoreError::DiskFull);
        insertion.try_store().await;
        assert_eq!(insertion.trouble.now(), None);
        assert_eq!(store.sequence(), known.len() as u64);
        assert_eq!(store.check(&mut unwatched).unwrap().findings, before);
    }
    assert!(events.try_recv().is_err());
}

#[tokio::test]
async fn forged_copy_is_rejected_and_does_not_keep_the_true_one_out() {
    let service = start();
    let object = SignedObject::Task(manifest());
    let answers = submit_all(&service, Origin::Import, [forged(&object), object.clone(), forged(&object)]).await;
    assert!(answers.contains(&Disposition::Accepted), "{answers:?}");
    assert!(matches!(&answers[0], Disposition::Rejected(reject) if reject.code() == "bad_signature"));
    assert!(service.handle.rejected()["bad_signature"] >= 1);
    assert!(service.store.contains(object.kind(), &object.id()).unwrap());
}

#[tokio::test]
async fn flood_of_copies_is_stored_once() {
    let mut service = start();
    let object = SignedObject::Task(manifest());
    let answers = submit_all(&service, Origin::Import, vec![object; 3000]).await;
    assert_eq!(answers.iter().filter(|a| **a == Disposition::Accepted).count(), 1);
    assert_eq!(answers.iter().filter(|a| **a == Disposition::Known).count(), 2999);
    assert!(service.events.try_recv().is_ok() && service.events.try_recv().is_err());
    assert_eq!(service.store.sequence(), 1);
}

#[tokio::test]
async fn records_in_any_order_are_all_stored_and_each_is_announced_once() {
    let mut service = start();
    service.handle.submit(Origin::Import, SignedObject::Task(manifest())).await.unwrap();
    service.events.recv().await.unwrap();
    let peer = some_peer();
    let mut records = chain(300);
    records.reverse();
    // One after the other: the store would put one batch into order itself.
    for record in &records[..299] {
        let answer = service.handle.submit(Origin::Gossip(peer), record.clone()).await.unwrap();
        assert_eq!(answer, Disposition::Pending);
    }
    let want = service.wants.recv().await.unwrap();
    assert_eq!((want.id, want.from), (records[1].id(), Some(peer)));
    let root = records[299].clone();
    assert_eq!(service.handle.submit(Origin::Sync(peer), root.clone()).await.unwrap(), Disposition::Accepted);
    let mut events = Vec::new();
    for _ in 0..300 {
        events.push(service.events.recv().await.unwrap());
    }
    assert_eq!(events[0].origin, Origin::Sync(peer));
    assert!(
        events[1..].iter().all(|event| event.origin == Origin::Gossip(peer)),
        "a released record has the origin that it had come from"
    );
    let ids: std::collections::HashSet<_> = events.iter().map(|event| event.change.id).collect();
    assert_eq!(ids.len(), 300);
    let listing = service.store.listing(&manifest().id().into(), &FrontierKind::Reference, &Span::first(10));
    let frontier = listing.unwrap().items;
    assert_eq!(frontier.len(), 1);
    assert_eq!(frontier[0].depth, 299);
}

#[tokio::test]
async fn shuffled_batch_needs_no_object_from_outside() {
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
async fn objects_from_the_future_are_rejected_until_then() {
    let service = start();
    let early = SignedObject::Experiment(record(None, |record| record.timestamp = NOW + MAX_AHEAD_SECONDS + 5));
    let answer = service.handle.submit(Origin::Import, early.clone()).await.unwrap();
    assert!(matches!(answer, Disposition::Rejected(reject) if reject.code() == "from_the_future"));
    assert_eq!(service.handle.rejected()["from_the_future"], 1);
    service.clock.fetch_add(5, Ordering::Relaxed);
    assert_eq!(service.handle.submit(Origin::Import, early).await.unwrap(), Disposition::Accepted);
}

#[tokio::test]
async fn objects_a_little_ahead_are_held_without_an_offence_until_they_are_due() {
    let mut service = start();
    let origin = Origin::Gossip(some_peer());
    let ahead = |seconds| SignedObject::Experiment(record(None, |record| record.timestamp = NOW + seconds));
    let (early, far) = (ahead(HELD_AHEAD_SECONDS + 5), ahead(2 * MAX_AHEAD_SECONDS + 1));
    let answer = service.handle.submit(origin, early.clone()).await.unwrap();
    assert_eq!(answer, Disposition::Later(Deferral::Early { seconds: 5 }));
    assert!(!service.store.contains(early.kind(), &early.id()).unwrap(), "nobody is served it");
    assert!(service.events.try_recv().is_err(), "nobody is told of it");
    assert!(service.handle.was_refused(early.kind(), early.id(), Source::Peer(some_peer())), "nobody is asked for it");
    let answer = service.handle.submit(origin, far).await.unwrap();
    assert!(matches!(answer, Disposition::Rejected(reject) if reject.code() == "from_the_future"));
    service.clock.fetch_add(5, Ordering::Relaxed);
    let event = service.events.recv().await.unwrap();
    assert_eq!((event.object.id(), event.origin), (early.id(), origin));
}

#[tokio::test]
async fn blocked_objects_of_others_are_refused_without_an_offence() {
    let service = start();
    let (task, object) = (SignedObject::Task(manifest()), SignedObject::Experiment(record(None, |_| ())));
    let list = BlockList { tasks: [task.id().into()].into(), ..BlockList::default() };
    service.handle.blocks().set(list);
    let answers = submit_all(&service, Origin::Sync(some_peer()), [task.clone(), object.clone()]).await;
    assert_eq!(answers, [Disposition::Later(Deferral::Blocked), Disposition::Later(Deferral::Blocked)]);
    assert!(service.handle.was_refused(task.kind(), task.id(), Source::Peer(some_peer())));
    service.handle.blocks().set(BlockList { signers: [identity(1).node_id()].into(), ..BlockList::default() });
    let answers = submit_all(&service, Origin::Sync(some_peer()), [task.clone()]).await;
    assert_eq!(answers, [Disposition::Later(Deferral::Blocked)]);
    assert_eq!(
        submit_all(&service, Origin::Local, [task, object]).await,
        [Disposition::Accepted, Disposition::Accepted]
    );
}

#[tokio::test]
async fn objects_of_others_are_refused_without_disk_space_and_own_ones_are_taken() {
    let service = start();
    let (task, object) = (SignedObject::Task(manifest()), SignedObject::Experiment(record(None, |_| ())));
    service.handle.set_space_short(true);
    let answers = submit_all(&service, Origin::Gossip(some_peer()), [task.clone(), object.clone()]).await;
    assert_eq!(answers, [Disposition::Later(Deferral::NoSpace), Disposition::Later(Deferral::NoSpace)]);
    assert!(service.handle.was_refused(task.kind(), task.id(), Source::Peer(some_peer())));
    assert_eq!(submit_all(&service, Origin::Local, [task]).await, [Disposition::Accepted]);
    service.handle.set_space_short(false);
    assert_eq!(submit_all(&service, Origin::Gossip(some_peer()), [object]).await, [Disposition::Accepted]);
}

#[tokio::test]
async fn objects_of_trusted_keys_are_taken_without_disk_space() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open_with_trust(folder.path(), [identity(1).node_id()].into()).unwrap();
    let service = start_on(folder, store);
    service.handle.set_space_short(true);
    let profile = fixtures::sign(&identity(2), &fixtures::profile(&identity(2), "anybody")).into_signed();
    let objects = [SignedObject::Task(manifest()), SignedObject::Profile(profile)];
    let answers = submit_all(&service, Origin::Gossip(some_peer()), objects).await;
    assert_eq!(answers, [Disposition::Accepted, Disposition::Later(Deferral::NoSpace)]);
}

#[tokio::test]
async fn dropped_object_is_known_without_an_offence_and_not_stored_again() {
    let service = start();
    let object = SignedObject::Experiment(record(None, |_| ()));
    let origin = Origin::Sync(some_peer());
    assert_eq!(submit_all(&service, origin, [object.clone()]).await, [Disposition::Accepted]);
    let unwanted = spore_storage::Unwanted::Object(object.kind(), object.id());
    assert_eq!(service.store.drop_unwanted(unwanted, &mut spore_storage::unwatched).unwrap().dropped, 1);
    assert_eq!(submit_all(&service, origin, [object.clone()]).await, [Disposition::Known]);
    assert!(!service.store.contains(object.kind(), &object.id()).unwrap());
}

#[tokio::test]
async fn flood_of_large_records_is_refused_for_now_and_small_ones_still_come() {
    let service = start();
    let origin = Origin::Gossip(some_peer());
    let mut answers = Vec::new();
    for number in 0..5 {
        let large = record(None, |record| {
            record.timestamp -= number;
            record.diff = "d".repeat(9 << 20);
        });
        answers.push(service.handle.submit(origin, SignedObject::Experiment(large)).await.unwrap());
    }
    assert_eq!(answers.iter().filter(|answer| **answer == Disposition::Accepted).count(), 3);
    assert_eq!(answers.last(), Some(&Disposition::Later(Deferral::Quota(QuotaName::Large))));
    assert_eq!(service.handle.rejected().len(), 0);
    let small = SignedObject::Experiment(record(None, |_| ()));
    assert_eq!(service.handle.submit(origin, small).await.unwrap(), Disposition::Accepted);
}

#[tokio::test]
async fn history_comes_at_full_speed_to_a_store_that_starts_empty() {
    let service = start();
    let answers = submit_all(&service, Origin::Sync(some_peer()), chain(3000)).await;
    assert!(answers.iter().all(|answer| *answer == Disposition::Accepted));
}

#[tokio::test]
async fn records_that_break_the_lineage_are_rejected_with_the_reason() {
    let service = start();
    let root = record(None, |_| ());
    let deep = record(Some(&root), |record| record.depth = 5);
    let answers =
        submit_all(&service, Origin::Import, [SignedObject::Experiment(root), SignedObject::Experiment(deep)]).await;
    assert!(matches!(&answers[1], Disposition::Rejected(reject) if reject.code() == "depth_mismatch"), "{answers:?}");
    assert_eq!(service.handle.rejected()["depth_mismatch"], 1);
}

#[tokio::test]
async fn objects_in_the_inbox_at_shutdown_are_still_decided() {
    let service = start();
    let handle = service.handle.clone();
    let sending = tokio::spawn(async move { handle.submit(Origin::Local, SignedObject::Task(manifest())).await });
    tokio::task::yield_now().await;
    service.shutdown.send_replace(true);
    service.task.await.unwrap();
    // Either the object was in the inbox and is stored, or it came too late and its sender is told so.
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
    for object in chain(3 * BATCH) {
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
    for object in chain(3 * BATCH) {
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

#[tokio::test]
async fn own_objects_are_not_taken_while_the_clock_is_wrong() {
    let service = start();
    let objects = chain(2);
    let offset = |seconds, peers| Some(ClockOffset { seconds, peers });
    service.handle.compare_clock(offset(10_800, 3));
    let answer = service.handle.submit(Origin::Local, objects[0].clone()).await.unwrap();
    let Disposition::Failed(failure) = answer else { panic!("{answer:?}") };
    assert!(failure.to_string().contains("3 h 0 min behind the clocks of 3 peers"), "{failure}");
    let answer = service.handle.submit(Origin::Import, objects[0].clone()).await.unwrap();
    assert_eq!(answer, Disposition::Accepted, "what others signed is taken");
    service.handle.compare_clock(offset(10_800, 2));
    let answer = service.handle.submit(Origin::Local, objects[1].clone()).await.unwrap();
    assert_eq!(answer, Disposition::Accepted, "two clocks are too few");
}
