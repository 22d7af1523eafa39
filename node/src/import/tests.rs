//! The importer, the settings and the lines against real stores.

use std::{fs, io::Cursor, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use spore_api::objects::{self, ObjectFilter};
use spore_bridge::KNOWN;
use spore_ingest::{Ingest, IngestHandle};
use spore_protocol::{
    ArtifactType, Identity, Record, SignedObject, TaskId, TaskManifest, Verified, VerifiedObject, fixtures,
    frontier::FrontierKind,
};
use spore_storage::{Span, Store, unwatched};
use tokio::sync::watch;

use super::{
    Destination, IdentityPlan, ImportError, ImportKind, ImportObserver, Importer, Notice, NoticeOutcome, SettingsPlan,
    Tallies, Tally, lines, settings,
};
use crate::{config, data_dir::DataDir};

const NOW: u64 = 1_800_000_000;

#[derive(Default)]
struct Notes(Vec<Notice>);

impl ImportObserver for Notes {
    fn notice(&mut self, notice: &Notice) {
        self.0.push(notice.clone());
    }

    fn progress(&mut self, _: ImportKind, _: &Tally, _: Option<u64>) {}
}

impl Notes {
    fn of(&self, outcome: NoticeOutcome) -> Vec<(Option<u64>, &str)> {
        self.0.iter().filter(|note| note.outcome == outcome).map(|note| (note.line, note.reason)).collect()
    }
}

/// A store with its ingest service.
struct Place {
    _dir: tempfile::TempDir,
    store: Store,
    ingest: IngestHandle,
    _stop: watch::Sender<bool>,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (stop, shutdown) = watch::channel(false);
        let (ingest, ..) = Ingest::spawn(store.clone(), Arc::new(|| NOW), shutdown);
        Self { _dir: dir, store, ingest, _stop: stop }
    }

    fn destination(&self) -> Destination<'_> {
        Destination::Store { store: &self.store, ingest: &self.ingest }
    }

    fn text(&self, task: Option<TaskId>) -> String {
        let (mut text, mut after) = (String::new(), None);
        loop {
            let filter = ObjectFilter { task, kind: None };
            let page = objects::page(&self.store, filter, after.as_deref(), 500).unwrap();
            text.extend(page.lines);
            after = page.next;
            if after.is_none() {
                return text;
            }
        }
    }
}

async fn take(text: &str, way: Destination<'_>) -> (Tallies, Notes) {
    let mut notes = Notes::default();
    let mut importer = Importer::new(way, &mut notes);
    lines::take(Box::new(Cursor::new(text.to_owned().into_bytes())), "the text".into(), &mut importer).await.unwrap();
    let tallies = importer.finish().unwrap();
    (tallies, notes)
}

fn identity() -> Identity {
    fixtures::identity(9)
}

fn manifest() -> Verified<TaskManifest> {
    let manifest = TaskManifest {
        name: "import".into(),
        artifact_type: ArtifactType::Python,
        base_code_cid: None,
        timestamp: NOW - 1000,
        ..fixtures::manifest(&identity())
    };
    fixtures::sign(&identity(), &manifest)
}

fn record(task: Option<TaskId>, parent: Option<&Verified<Record>>, number: u64) -> Verified<Record> {
    let record = Record {
        val_bpb: 3.0 - 0.001 * number as f64,
        description: format!("number {number}"),
        timestamp: NOW - 900 + number,
        ..fixtures::record(&identity(), task, parent.map(|parent| &**parent))
    };
    fixtures::sign(&identity(), &record)
}

/// A chain, its root first.
fn chain(task: Option<TaskId>, length: u64) -> Vec<Verified<Record>> {
    let mut made: Vec<Verified<Record>> = Vec::new();
    for number in 0..length {
        made.push(record(task, made.last(), number));
    }
    made
}

fn text(objects: impl IntoIterator<Item = VerifiedObject>) -> String {
    let mut out = Vec::new();
    for object in objects {
        objects::append_line(&object, None, &mut out).unwrap();
    }
    String::from_utf8(out).unwrap()
}

fn task() -> TaskId {
    manifest().id().into()
}

#[tokio::test]
async fn exported_objects_come_back_the_same() {
    let (from, to) = (Place::new(), Place::new());
    let mut objects: Vec<VerifiedObject> = vec![manifest().into()];
    objects.extend(chain(Some(task()), 700).into_iter().map(VerifiedObject::from));
    let legacy = chain(None, 5);
    let founded = TaskId::from(legacy[0].id());
    objects.extend(legacy.into_iter().map(VerifiedObject::from));
    from.store.insert(&objects, NOW).unwrap();

    let exported = from.text(None);
    assert_eq!(exported.lines().count(), objects.len());
    assert!(exported.contains(&format!("\"task_id\":\"{founded}\"")), "the wire's version 1 records name their task");
    let (tallies, notes) = take(&exported, to.destination()).await;
    assert!(notes.0.is_empty(), "{:?}", notes.0);
    assert_eq!(tallies[&ImportKind::Records], Tally { found: 705, imported: 705, ..Tally::default() });
    assert_eq!(to.text(None), exported);
    for task in [task(), founded] {
        let frontier = |place: &Place| {
            let found = place.store.listing(&task, &FrontierKind::Reference, &Span::first(100)).unwrap().items;
            found.into_iter().map(|summary| summary.id).collect::<Vec<_>>()
        };
        assert_eq!(frontier(&from), frontier(&to));
        assert!(!frontier(&to).is_empty());
    }
    assert_eq!(to.store.check(&mut unwatched).unwrap().findings, []);

    let (again, _) = take(&exported, to.destination()).await;
    assert!(again.values().all(|tally| tally.already_here == tally.found), "{again:?}");
    assert_eq!(from.text(Some(founded)).lines().count(), 5);
    assert_eq!(from.text(Some(task())).lines().count(), 701);
}

#[tokio::test]
async fn children_may_come_first_and_orphans_are_reported() {
    let place = Place::new();
    let mut records = chain(Some(task()), 1500);
    let lost = records.remove(1000);
    records.reverse();
    let (tallies, notes) = take(&text(records.into_iter().map(VerifiedObject::from)), place.destination()).await;
    assert_eq!(
        tallies[&ImportKind::Records],
        Tally { found: 1499, imported: 1000, waiting: 499, ..Tally::default() },
        "what waited within the import is counted as imported"
    );
    assert_eq!(notes.of(NoticeOutcome::Waiting).len(), 499);
    assert_eq!(place.text(None).lines().count(), 1000, "pending records are left out");
    let first = notes.0.iter().find(|note| note.detail.contains(&lost.id().to_string())).unwrap();
    assert_eq!(first.reason, "parent_missing");
    let (tallies, _) = take(&text([lost.into()]), place.destination()).await;
    assert_eq!(tallies[&ImportKind::Records].imported, 1);
    assert_eq!(place.store.pending_count().unwrap(), 0);
}

#[tokio::test]
async fn descendants_of_a_rejected_record_are_rejected_too() {
    let place = Place::new();
    let root = record(Some(task()), None, 0);
    let astray = record(Some(TaskId([3; 32])), Some(&root), 1);
    let child = record(Some(TaskId([3; 32])), Some(&astray), 2);
    let mut notes = Notes::default();
    let mut importer = Importer::new(place.destination(), &mut notes);
    for part in [text([child.into()]), text([root.into(), astray.into()])] {
        lines::take(Box::new(Cursor::new(part.into_bytes())), "the text".into(), &mut importer).await.unwrap();
    }
    let tallies = importer.finish().unwrap();
    assert_eq!(tallies[&ImportKind::Records], Tally { found: 3, imported: 1, refused: 2, ..Tally::default() });
    assert_eq!(notes.of(NoticeOutcome::Refused), [(Some(2), "task_mismatch"), (Some(1), "parent_refused")]);
}

#[tokio::test]
async fn bad_line_is_reported_and_affects_no_other() {
    let place = Place::new();
    let good = text([manifest().into()]);
    let forged = good.replace("\"signature\":\"", "\"signature\":\"00");
    let altered = good.replace("\"import\"", "\"impart\"");
    let source = format!("{{\n\n{altered}{forged}{good}");
    let (tallies, notes) = take(&source, place.destination()).await;
    assert_eq!(
        notes.of(NoticeOutcome::Refused),
        [(Some(1), "not_json"), (Some(3), "id_mismatch"), (Some(4), "signature_not_hex")]
    );
    assert_eq!(tallies[&ImportKind::Tasks], Tally { found: 3, imported: 1, refused: 2, ..Tally::default() });
    assert_eq!(tallies[&ImportKind::Lines], Tally { found: 1, refused: 1, ..Tally::default() });
}

#[tokio::test]
async fn dry_run_checks_and_stores_nothing() {
    let place = Place::new();
    place.store.insert(&[manifest().into()], NOW).unwrap();
    let early = SignedObject::Experiment(record(Some(task()), None, 100_000).into_signed());
    let mut forged = Vec::new();
    let object = SignedObject::Experiment(record(Some(task()), None, 7).into_signed());
    let object = SignedObject::from_canonical(object.kind(), object.canonical(), [1; 64]).unwrap();
    objects::append_line(&object, None, &mut forged).unwrap();
    objects::append_line(&early, None, &mut forged).unwrap();
    let source = text([manifest().into(), record(Some(task()), None, 0).into()]) + &String::from_utf8(forged).unwrap();
    for (store, known) in [(Some(&place.store), 1), (None, 0)] {
        let (tallies, notes) = take(&source, Destination::DryRun { store, now: NOW }).await;
        assert_eq!(
            (tallies[&ImportKind::Tasks].already_here, tallies[&ImportKind::Tasks].imported),
            (known, 1 - known)
        );
        assert_eq!(tallies[&ImportKind::Records], Tally { found: 3, imported: 1, refused: 2, ..Tally::default() });
        assert_eq!(notes.of(NoticeOutcome::Refused), [(Some(3), "bad_signature"), (Some(4), "from_the_future")]);
    }
    assert_eq!(place.store.sequence(), 1);
}

fn write_key(dir: &Path, digits: &str) {
    fs::create_dir_all(dir.join("identity")).unwrap();
    fs::write(dir.join("identity").join("private_key"), digits.repeat(32)).unwrap();
}

#[test]
fn another_identity_is_never_replaced() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (source, data) = (DataDir::new(from.path()), DataDir::new(to.path()));
    write_key(from.path(), "07");
    let settings = SettingsPlan::plan(&source, &data, true).unwrap();
    assert_eq!(settings.identity, IdentityPlan::Take);
    assert!(fs::read_dir(to.path()).unwrap().next().is_none(), "planning changes nothing");
    settings.apply(&source, &data).unwrap();
    let key = to.path().join("identity").join("private_key");
    assert_eq!(fs::read_to_string(&key).unwrap(), "07".repeat(32));
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(SettingsPlan::plan(&source, &data, true).unwrap().identity, IdentityPlan::Same);

    write_key(from.path(), "08");
    assert!(matches!(SettingsPlan::plan(&source, &data, true), Err(ImportError::OtherIdentity { .. })));
    let without = SettingsPlan::plan(&source, &data, false).unwrap();
    without.apply(&source, &data).unwrap();
    assert_eq!((without.identity, fs::read_to_string(&key).unwrap()), (IdentityPlan::LeftOut, "07".repeat(32)));
    write_key(from.path(), "zz");
    assert!(matches!(SettingsPlan::plan(&source, &data, true), Err(ImportError::SourceKey(_))));
}

#[test]
fn settings_are_imported_where_ours_have_none() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (source, data) = (DataDir::new(from.path()), DataDir::new(to.path()));
    let theirs = "host = \"127.0.0.1\"\nport = 7000\npeer = ['192.0.2.1:7470']\ntask_id = \"\"\nauto_update = true\ndata_dir = \"x\"\n";
    fs::write(source.config(), theirs).unwrap();
    config::set(&data.config(), "", &[("port", Some(toml::Value::Integer(7001)))]).unwrap();
    let settings = SettingsPlan::plan(&source, &data, true).unwrap();
    assert_eq!(settings.config.taken, ["host", "peer"]);
    assert_eq!(settings.config.kept, ["port"]);
    assert_eq!(settings.config.not_applicable, ["auto_update", "data_dir"]);
    assert!(!settings.in_use);
    fs::create_dir(from.path().join("db")).unwrap();
    fs::write(from.path().join("db").join("graph.sqlite-wal"), "").unwrap();
    assert!(SettingsPlan::plan(&source, &data, true).unwrap().in_use, "a log that is empty yet is one all the same");
    settings.apply(&source, &data).unwrap();
    let ours = config::load(&data.config()).unwrap().config;
    assert_eq!((ours.port, ours.host.to_string().as_str(), ours.task), (7001, "127.0.0.1", None));
    assert_eq!(ours.peer, ["192.0.2.1:7470"]);
    let again = SettingsPlan::plan(&source, &data, true).unwrap();
    assert_eq!((again.config.taken.len(), again.config.kept), (0, vec!["port".to_owned()]));

    fs::write(source.config(), "peer = ['nonsense']\nport = \"x\"\n").unwrap();
    let data = DataDir::new(to.path().join("new"));
    let settings = SettingsPlan::plan(&source, &data, true).unwrap();
    assert_eq!((settings.config.taken.len(), settings.problems.len()), (0, 2), "{settings:?}");
    fs::write(source.config(), "what is this").unwrap();
    assert_eq!(SettingsPlan::plan(&source, &data, true).unwrap().problems.len(), 1);
}

#[test]
fn our_own_directory_keeps_its_settings() {
    let dir = tempfile::tempdir().unwrap();
    let data = DataDir::new(dir.path());
    write_key(dir.path(), "07");
    fs::write(data.config(), "port = 7000\npeer = ['192.0.2.1:7470']\nauto_update = true\n").unwrap();
    let before = fs::read(data.config()).unwrap();
    let settings = SettingsPlan::plan(&DataDir::new(dir.path().join(".")), &data, true).unwrap();
    assert!(settings.in_place && settings.identity == IdentityPlan::Same);
    settings.apply(&data, &data).unwrap();
    assert_eq!(fs::read(data.config()).unwrap(), before);
}

#[test]
fn known_peers_are_merged_once() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (source, data) = (DataDir::new(from.path()), DataDir::new(to.path()));
    fs::write(source.known_peers(), "192.0.2.1:7470\nnonsense\npeer.example.org:7470\n").unwrap();
    fs::write(data.known_peers(), "192.0.2.1:7470\n").unwrap();
    let merge = |write| {
        let mut notes = Notes::default();
        let mut importer = Importer::new(Destination::DryRun { store: None, now: NOW }, &mut notes);
        settings::merge_peers(&source, &data, &mut importer, write).unwrap();
        let tally = importer.finish().unwrap()[&ImportKind::Peers];
        (tally, notes.of(NoticeOutcome::Refused).len())
    };
    let first = Tally { found: 3, imported: 1, already_here: 1, refused: 1, ..Tally::default() };
    assert_eq!(merge(false), (first, 1));
    assert_eq!(fs::read_to_string(data.known_peers()).unwrap().lines().count(), 1);
    assert_eq!(merge(true), (first, 1));
    assert_eq!(fs::read_to_string(data.known_peers()).unwrap(), "192.0.2.1:7470\npeer.example.org:7470\n");
    assert_eq!(merge(true).0, Tally { found: 3, already_here: 2, refused: 1, ..Tally::default() });
}

#[test]
fn known_peers_beyond_the_limit_are_reported() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (source, data) = (DataDir::new(from.path()), DataDir::new(to.path()));
    let peers = |range: std::ops::Range<usize>| range.map(|n| format!("192.0.2.1:{n}\n")).collect::<String>();
    fs::write(source.known_peers(), format!("[2001:db8::1]:7470\n{}", peers(1..KNOWN + 10))).unwrap();
    // Ours are as many as are kept, but for the one that the file is not written with.
    fs::write(data.known_peers(), format!("[2001:db8::2]:7470\n{}", peers(1000..999 + KNOWN))).unwrap();
    let merge = || {
        let mut notes = Notes::default();
        let mut importer = Importer::new(Destination::DryRun { store: None, now: NOW }, &mut notes);
        settings::merge_peers(&source, &data, &mut importer, true).unwrap();
        let tally = importer.finish().unwrap()[&ImportKind::Peers];
        assert_eq!(notes.0.len() as u64, tally.refused);
        (tally, notes.0)
    };
    let (tally, notes) = merge();
    let found = KNOWN as u64 + 10;
    assert_eq!(tally, Tally { found, imported: 1, refused: found - 1, ..Tally::default() });
    assert_eq!((notes[0].id.as_str(), notes[0].reason), ("[2001:db8::1]:7470", "not_kept"));
    assert_eq!(notes.last().map(|note| (note.line, note.reason)), Some((Some(found), "too_many")));
    assert_eq!(fs::read_to_string(data.known_peers()).unwrap().lines().count(), KNOWN);

    fs::write(source.known_peers(), "192.0.2.1:1000\n".repeat(10_000)).unwrap();
    let (tally, notes) = merge();
    assert_eq!(tally, Tally { found: 2, already_here: 1, refused: 1, ..Tally::default() });
    assert_eq!(notes[0].reason, "too_long");
}
