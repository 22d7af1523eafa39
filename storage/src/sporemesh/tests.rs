//! Databases as the Python implementation makes them, and the objects read from them.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};
use spore_protocol::{Cid, Goal, Kind, Record, Signed, SignedObject, Verified, json::Value};
use tempfile::TempDir;

use super::{SourceRow, Sporemesh, SporemeshError};
use crate::tests::objects::{identity, manifest, profile, record, sign, task_of, verification};

const EXPERIMENT: &str = "CREATE TABLE IF NOT EXISTS experiment (
    id TEXT PRIMARY KEY, parent TEXT, depth INTEGER NOT NULL, task_id TEXT NOT NULL DEFAULT '',
    code_cid TEXT NOT NULL, diff TEXT NOT NULL, dataset_cid TEXT NOT NULL, prepare_cid TEXT NOT NULL,
    time_budget INTEGER NOT NULL, val_bpb REAL NOT NULL, peak_vram_mb REAL NOT NULL, num_steps INTEGER NOT NULL,
    num_params INTEGER NOT NULL, status TEXT NOT NULL, description TEXT NOT NULL, hypothesis TEXT NOT NULL,
    agent_model TEXT NOT NULL, gpu_model TEXT NOT NULL, cuda_version TEXT NOT NULL, torch_version TEXT NOT NULL,
    node_id TEXT NOT NULL, timestamp INTEGER NOT NULL, signature TEXT NOT NULL, version INTEGER NOT NULL DEFAULT 1,
    verified INTEGER NOT NULL DEFAULT 0, FOREIGN KEY (parent) REFERENCES experiment(id));
    CREATE INDEX IF NOT EXISTS idx_parent ON experiment(parent);
    CREATE INDEX IF NOT EXISTS idx_timestamp ON experiment(timestamp);";
const TASK: &str = "CREATE TABLE IF NOT EXISTS task (
    task_id TEXT PRIMARY KEY, name TEXT NOT NULL, description TEXT NOT NULL DEFAULT '',
    task_type TEXT NOT NULL DEFAULT '', artifact_type TEXT NOT NULL DEFAULT '', metric TEXT NOT NULL DEFAULT '',
    goal TEXT NOT NULL DEFAULT '', root_experiment_id TEXT NOT NULL DEFAULT '', created_by TEXT NOT NULL DEFAULT '',
    timestamp INTEGER NOT NULL DEFAULT 0, source TEXT NOT NULL DEFAULT 'legacy',
    manifest_json TEXT NOT NULL DEFAULT '');";
const CONTROL: &str = "CREATE TABLE IF NOT EXISTS control_event (
    event_id TEXT PRIMARY KEY, type TEXT NOT NULL, node_id TEXT NOT NULL, timestamp INTEGER NOT NULL,
    payload TEXT NOT NULL);
    CREATE INDEX IF NOT EXISTS idx_control_event_timestamp ON control_event(timestamp, event_id);";
const PROFILE: &str = "CREATE TABLE IF NOT EXISTS node_profile (
    node_id TEXT PRIMARY KEY, id TEXT NOT NULL, display_name TEXT NOT NULL, bio TEXT NOT NULL, website TEXT NOT NULL,
    avatar_url TEXT NOT NULL, donation_address TEXT NOT NULL, timestamp INTEGER NOT NULL, signature TEXT NOT NULL,
    schema_version INTEGER NOT NULL DEFAULT 1);";

/// A data directory that a test fills, and a folder for copies.
struct SourceDir {
    dir: TempDir,
    scratch: TempDir,
}

impl SourceDir {
    fn new() -> Self {
        let source = Self { dir: tempfile::tempdir().unwrap(), scratch: tempfile::tempdir().unwrap() };
        fs::create_dir(source.dir.path().join("db")).unwrap();
        source
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("db").join(name)
    }

    /// Opens a database as the reference does. It leaves no log when it is closed.
    fn database(&self, name: &str, schema: &str) -> Connection {
        let connection = Connection::open(self.file(name)).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        // As in Python, whatever the default of this SQLite is.
        connection.pragma_update(None, "foreign_keys", 0).unwrap();
        connection.execute_batch(schema).unwrap();
        connection
    }

    fn graph(&self) -> Connection {
        self.database("graph.sqlite", EXPERIMENT)
    }

    fn open(&self) -> Sporemesh {
        Sporemesh::open(self.dir.path(), self.scratch.path()).unwrap()
    }

    fn rows(&self, kind: Kind) -> Vec<SourceRow> {
        self.open().rows(kind).unwrap().unwrap().map(Result::unwrap).collect()
    }

    fn objects(&self, kind: Kind) -> Vec<SignedObject> {
        self.rows(kind).into_iter().map(|row| row.object.unwrap()).collect()
    }

    /// Every file in the directory, with the hash of its bytes, its mode and its time.
    fn state(&self) -> BTreeMap<PathBuf, (String, u32, std::time::SystemTime)> {
        fn walk(folder: &Path, found: &mut BTreeMap<PathBuf, (String, u32, std::time::SystemTime)>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let meta = fs::metadata(&path).unwrap();
                let hash =
                    if meta.is_dir() { String::new() } else { hex::encode(Sha256::digest(fs::read(&path).unwrap())) };
                found.insert(path.clone(), (hash, meta.permissions().mode(), meta.modified().unwrap()));
                if meta.is_dir() {
                    walk(&path, found);
                }
            }
        }
        let mut found = BTreeMap::new();
        walk(self.dir.path(), &mut found);
        found
    }

    fn copies(&self) -> usize {
        fs::read_dir(self.scratch.path()).unwrap().count()
    }
}

/// Writes a record into its columns, with the task that the reference's backfill gives it.
fn put(connection: &Connection, record: &Signed<Record>, task: &str) {
    connection
        .execute(
            "INSERT INTO experiment (id, parent, depth, task_id, code_cid, diff, dataset_cid, prepare_cid,
             time_budget, val_bpb, peak_vram_mb, num_steps, num_params, status, description, hypothesis, agent_model,
             gpu_model, cuda_version, torch_version, node_id, timestamp, signature, version)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                record.id().to_string(),
                record.parent.map(|id| id.to_string()),
                record.depth as i64,
                task,
                record.code_cid.map(|id| id.to_string()).unwrap_or_default(),
                record.diff,
                record.dataset_cid,
                record.prepare_cid,
                record.time_budget as i64,
                record.val_bpb,
                record.peak_vram_mb,
                record.num_steps as i64,
                record.num_params as i64,
                record.status.name(),
                record.description,
                record.hypothesis,
                record.agent_model,
                record.gpu_model,
                record.cuda_version,
                record.torch_version,
                record.node_id.to_string(),
                record.timestamp as i64,
                hex::encode(record.signature()),
                record.version as i64,
            ],
        )
        .unwrap();
}

/// A record whose two REAL fields are spelled in this way.
fn spelled(metric: &Value, memory: &Value) -> Signed<Record> {
    let draft = sign(1, &record(1, None, None, 1.0, 100));
    let Value::Object(mut map) = Value::parse(draft.canonical()).unwrap() else { panic!("an object") };
    map.insert("val_bpb".into(), metric.clone());
    map.insert("peak_vram_mb".into(), memory.clone());
    let canonical = Value::Object(map).canonical();
    // Rows are not verified here, so any signature will do.
    Signed::from_canonical(canonical.as_bytes(), [7; 64]).unwrap()
}

fn family() -> (Verified<Record>, Verified<Record>) {
    let root = sign(1, &record(1, None, None, 4.25, 100));
    let child = sign(2, &record(2, None, Some(&root), 4.125, 200));
    (root, child)
}

#[test]
fn records_are_read_as_they_were_signed() {
    let source = SourceDir::new();
    let manifest = manifest(1, Goal::Minimize);
    let task = task_of(&manifest);
    let (old, _) = family();
    let root = sign(1, &record(1, Some(task), None, 3.5, 50));
    let graph = source.graph();
    put(&graph, &old, &old.id().to_string());
    put(&graph, &root, &task.to_string());
    drop(graph);
    let objects = source.objects(Kind::Experiment);
    assert_eq!(objects[0], SignedObject::Experiment(root.into_signed()));
    assert_eq!(objects[1], SignedObject::Experiment(old.into_signed()));
    assert!(objects.into_iter().all(|object| object.verify().is_ok()));
}

#[test]
fn number_is_spelled_as_the_id_requires() {
    let source = SourceDir::new();
    let graph = source.graph();
    let spellings = [Value::Float(2.0), Value::Int(2)];
    let mut made: Vec<_> =
        spellings.iter().flat_map(|metric| spellings.iter().map(move |memory| spelled(metric, memory))).collect();
    made.push(spelled(&Value::Float(-0.0), &Value::Int(0)));
    made.push(spelled(&Value::Int(-3), &Value::Float(0.0)));
    for record in &made {
        put(&graph, record, "");
    }
    drop(graph);
    let mut found: Vec<_> = source.objects(Kind::Experiment).iter().map(SignedObject::to_json).collect();
    let mut wanted: Vec<_> = made.iter().map(Signed::to_json).collect();
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
}

#[test]
fn database_without_tasks_is_read() {
    let source = SourceDir::new();
    let (root, child) = family();
    let graph = source.graph();
    put(&graph, &root, "");
    put(&graph, &child, "");
    graph.execute_batch("ALTER TABLE experiment DROP COLUMN task_id").unwrap();
    drop(graph);
    let ids: Vec<_> = source.objects(Kind::Experiment).iter().map(SignedObject::id).collect();
    assert_eq!(ids, [root.id(), child.id()]);
    assert!(source.open().rows(Kind::Task).unwrap().is_none());
    assert_eq!(source.open().derived_tasks().unwrap(), 0);
}

#[test]
fn parents_come_before_children_over_many_pages() {
    let source = SourceDir::new();
    let graph = source.graph();
    let mut chain = vec![sign(1, &record(1, None, None, 4.0, 1000))];
    for number in 1..600 {
        // Clocks differ: here each child claims to be older than its parent.
        let child = sign(1, &record(1, None, chain.last(), 4.0, 1000 - number));
        chain.push(child);
    }
    let write = graph.unchecked_transaction().unwrap();
    chain.iter().rev().for_each(|record| put(&graph, record, ""));
    write.commit().unwrap();
    drop(graph);
    let rows = source.open().rows(Kind::Experiment).unwrap().unwrap();
    assert_eq!(rows.total(), 600);
    let ids: Vec<_> = rows.map(|row| row.unwrap().object.unwrap().id()).collect();
    assert_eq!(ids, chain.iter().map(|record| record.id()).collect::<Vec<_>>());
}

#[test]
fn tasks_events_and_profiles_are_read_from_their_own_tables() {
    let source = SourceDir::new();
    let manifest = manifest(1, Goal::Maximize);
    let tasks = source.database("task.sqlite", TASK);
    let insert = "INSERT INTO task (task_id, name, source, manifest_json) VALUES (?, ?, ?, ?)";
    tasks.execute(insert, params![manifest.id().to_string(), "tiny", "manifest", manifest.to_json()]).unwrap();
    tasks.execute(insert, params!["aa", "legacy-aa", "legacy", ""]).unwrap();
    tasks.execute(insert, params!["bb", "empty", "manifest", ""]).unwrap();
    drop(tasks);
    let rows = source.rows(Kind::Task);
    assert_eq!(rows.len(), 2);
    let good = rows.iter().find(|row| row.id == manifest.id().to_string()).unwrap();
    assert_eq!(good.object.as_ref().unwrap(), &SignedObject::Task(manifest.into_signed()));
    assert_eq!(rows.iter().find(|row| row.id == "bb").unwrap().object.as_ref().unwrap_err().code(), "not_json");
    assert_eq!(source.open().derived_tasks().unwrap(), 1);

    let (root, _) = family();
    let event = verification(2, &root, 4.25, 300).into_signed();
    let controls = source.database("control.sqlite", CONTROL);
    let insert = "INSERT INTO control_event VALUES (?, 'verification', ?, 300, ?)";
    let row = params![event.id().to_string(), event.signer().to_string(), event.to_json()];
    controls.execute(insert, row).unwrap();
    drop(controls);
    assert_eq!(source.objects(Kind::Control), [event]);

    let shown = profile(3, "Bj\u{f6}rn", 500);
    let profiles = source.database("profile.sqlite", PROFILE);
    let (node, id, signature) = (shown.node_id.to_string(), shown.id().to_string(), hex::encode(shown.signature()));
    let row = params![node, id, shown.display_name, signature];
    profiles.execute("INSERT INTO node_profile VALUES (?, ?, ?, '', '', '', '', 500, ?, 1)", row).unwrap();
    drop(profiles);
    assert_eq!(source.objects(Kind::Profile), [SignedObject::Profile(shown.into_signed())]);
}

#[test]
fn bad_rows_are_reported_and_do_not_affect_others() {
    let source = SourceDir::new();
    let (root, child) = family();
    let graph = source.graph();
    put(&graph, &root, "");
    put(&graph, &child, "");
    let copy = |id: &str, depth: i64, change: &str| {
        put(&graph, &sign(3, &record(3, None, Some(&child), depth as f64, 900)), "");
        let newest = format!("UPDATE experiment SET id = ?, depth = ?, {change} WHERE node_id = ?");
        graph.execute(&newest, params![id, depth, identity(3).node_id().to_string()]).unwrap();
        graph.execute("UPDATE experiment SET node_id = 'x' WHERE id = ?", [id]).unwrap();
    };
    copy("altered", 3, "val_bpb = 0.5");
    copy("infinite", 4, "val_bpb = 9e999");
    copy("not text", 5, "diff = CAST(x'fffe' AS TEXT)");
    copy("bytes", 6, "diff = x'00'");
    copy("huge", 7, "diff = printf('%.*c', 10485760, 'x')");
    copy(&"long".repeat(99), 8, "val_bpb = 0.5");
    drop(graph);
    let rows = source.rows(Kind::Experiment);
    let reported: Vec<_> =
        rows.iter().map(|row| (row.id.as_str(), row.object.as_ref().err().map(|bad| bad.code()))).collect();
    assert_eq!((reported[0].1, reported[1].1), (None, None));
    // The altered `node_id` is no key any more, which is checked before the id.
    assert_eq!(reported[2], ("altered", Some("wrong_type")));
    assert_eq!(reported[3], ("infinite", Some("bad_column")));
    assert_eq!(reported[4], ("not text", Some("unreadable_row")));
    assert_eq!(reported[5], ("bytes", Some("bad_column")));
    assert_eq!(reported[6], ("huge", Some("too_large")));
    assert!(reported[7].0.starts_with("row "), "{}", reported[7].0);
}

#[test]
fn changed_row_is_reported_as_an_id_mismatch() {
    let source = SourceDir::new();
    let (root, _) = family();
    let graph = source.graph();
    put(&graph, &root, "");
    graph.execute("UPDATE experiment SET val_bpb = 0.5", []).unwrap();
    drop(graph);
    let rows = source.rows(Kind::Experiment);
    assert_eq!(rows[0].id, root.id().to_string());
    assert_eq!(rows[0].object.as_ref().unwrap_err().code(), "id_mismatch");
}

#[test]
fn reading_an_unused_database_writes_nothing_beside_it() {
    let source = SourceDir::new();
    let (root, _) = family();
    put(&source.graph(), &root, "");
    let before = source.state();
    assert!(before.keys().all(|path| !path.to_string_lossy().contains("-wal")), "SQLite tidied up");
    let db = source.dir.path().join("db");
    fs::set_permissions(&db, fs::Permissions::from_mode(0o555)).unwrap();
    assert_eq!(source.objects(Kind::Experiment).len(), 1);
    fs::set_permissions(&db, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(source.state(), before);
    assert_eq!(source.copies(), 0);
}

#[test]
fn newest_rows_of_a_running_node_are_read_without_changing_its_files() {
    let source = SourceDir::new();
    let (root, child) = family();
    put(&source.graph(), &root, "");
    let running = source.graph();
    running.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    put(&running, &child, "");
    assert!(fs::metadata(source.file("graph.sqlite-wal")).unwrap().len() > 0);
    let before = source.state();
    let rows = source.open().rows(Kind::Experiment).unwrap().unwrap();
    assert_eq!(source.copies(), 1);
    assert_eq!(rows.total(), 2);
    // The node continues while the copy is read.
    put(&running, &sign(1, &record(1, None, Some(&child), 4.0, 300)), "");
    let ids: Vec<_> = rows.map(|row| row.unwrap().object.unwrap().id()).collect();
    assert_eq!(ids, [root.id(), child.id()]);
    assert_eq!(source.copies(), 0, "the reader removes its copy");
    let after = source.state();
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    assert_eq!(source.objects(Kind::Experiment).len(), 3);
    drop(running);
}

#[test]
fn database_that_changes_while_it_is_read_in_place_is_reported() {
    let source = SourceDir::new();
    let (root, child) = family();
    put(&source.graph(), &root, "");
    let mut rows = source.open().rows(Kind::Experiment).unwrap().unwrap();
    assert!(rows.next().unwrap().is_ok());
    put(&source.graph(), &child, "");
    assert!(matches!(rows.next(), Some(Err(SporemeshError::Busy(_)))));
    assert!(rows.next().is_none());
}

#[test]
fn file_that_is_no_database_is_named() {
    let source = SourceDir::new();
    fs::write(source.file("graph.sqlite"), "no database at all, but long enough to look at").unwrap();
    let error = source.open().rows(Kind::Experiment).err().unwrap().to_string();
    assert!(error.contains("graph.sqlite"), "{error}");
    let other = source.database("control.sqlite", "CREATE TABLE control_event (event_id TEXT, timestamp INTEGER)");
    drop(other);
    let error = source.open().rows(Kind::Control).err().unwrap().to_string();
    assert!(error.contains("no column payload"), "{error}");
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(Sporemesh::open(empty.path(), empty.path()), Err(SporemeshError::NotFound(_))));
}

#[test]
fn directory_may_have_any_name() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("100% of #1? \u{fc}");
    fs::create_dir_all(dir.join("db")).unwrap();
    let connection = Connection::open(dir.join("db").join("graph.sqlite")).unwrap();
    connection.execute_batch(EXPERIMENT).unwrap();
    put(&connection, &family().0, "");
    drop(connection);
    let rows = Sporemesh::open(&dir, scratch.path()).unwrap().rows(Kind::Experiment).unwrap().unwrap();
    assert_eq!(rows.total(), 1);
}

#[test]
fn artifacts_are_found_where_the_reference_stores_them() {
    let source = SourceDir::new();
    let root = source.dir.path().join("artifact");
    let cid = Cid::of(b"script").to_string();
    let folder = root.join(&cid[..2]).join(&cid[2..4]);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("{cid}.py")), b"script").unwrap();
    fs::write(folder.join("notes"), b"").unwrap();
    fs::write(root.join("elsewhere"), b"").unwrap();
    fs::create_dir(folder.join("deeper")).unwrap();
    let mut found: Vec<_> = source.open().artifacts().unwrap().map(|file| file.unwrap().cid).collect();
    found.sort();
    assert_eq!(found, [None, Some(cid.parse().unwrap())]);
}
