//! A data directory with one of everything: the same ids on every machine.

use std::{collections::BTreeSet, fs, path::Path};

use spore_protocol::{
    Cid, ControlEvent, Identity, NodeProfile, Record, RecordId, Status, TaskId, TaskManifest, Verified, VerifiedObject,
    fixtures::{identity, manifest, profile, record, rerun, sign, verification},
};
use spore_storage::Store;
use spore_tests::seed::trust;

/// Timestamp of the first object, in Unix seconds (January 1970), see the filters of the snapshots.
const BEGIN: u64 = 1_000_000;

/// The seed of this node's key, in hex.
const NODE_KEY: &str = "0707070707070707070707070707070707070707070707070707070707070707";

/// Ids of objects in the directory.
pub struct World {
    pub task: TaskId,
    /// The root of the task.
    pub root: RecordId,
    /// A child of the root, on the frontier, with a script that is not here.
    pub best: RecordId,
    /// A record that has text for attacks on the terminal.
    pub hostile: RecordId,
    /// The node that published the records of the task.
    pub publisher: String,
}

/// Gives a data directory a fixed identity.
pub fn write_identity(dir: &Path) {
    fs::create_dir_all(dir.join("identity")).unwrap();
    fs::write(dir.join("identity/private_key"), NODE_KEY).unwrap();
}

/// Makes a data directory with two tasks, records of every status, evidence, profiles and a pending record.
pub fn seed(dir: &Path) -> World {
    write_identity(dir);
    let (alice, bob) = (identity(1), identity(2));
    let (script, dataset) = (&b"# the base script\n"[..], Cid([0xda; 32]).to_string());
    let manifest = sign(
        &alice,
        &TaskManifest {
            name: "small-gpt".into(),
            description: "Lowest bits per byte of a small language model within 20 seconds".into(),
            base_code_cid: Some(Cid::of(script)),
            prepare_cid: dataset.clone(),
            dataset_cid: dataset.clone(),
            timestamp: BEGIN,
            ..manifest(&alice)
        },
    );
    let task = TaskId::from(manifest.id());
    let base = |parent: Option<&Verified<Record>>, minute: u64| Record {
        code_cid: Some(Cid::of(script)),
        dataset_cid: dataset.clone(),
        prepare_cid: dataset.clone(),
        hypothesis: "A made-up one.".into(),
        num_steps: 400 + minute,
        num_params: 45_000,
        timestamp: BEGIN + 60 * minute,
        ..record(&alice, Some(task), parent.map(|parent| &**parent))
    };
    let root = sign(&alice, &Record { description: "base script".into(), val_bpb: 3.0, ..base(None, 1) });
    let best = sign(
        &alice,
        &Record {
            description: "half the learning rate".into(),
            diff: "--- a/train.star\n+++ b/train.star\n@@ -4 +4 @@\n-rate = 0.01\n+rate = 0.005\n".into(),
            code_cid: Some(Cid::of(b"not here")),
            val_bpb: 2.75,
            ..base(Some(&root), 2)
        },
    );
    let worse =
        Record { description: "no warm-up".into(), status: Status::Discard, val_bpb: 2.9, ..base(Some(&best), 3) };
    let crash =
        Record { description: "ten layers".into(), status: Status::Crash, val_bpb: 0.0, ..base(Some(&best), 4) };
    let faster = sign(
        &alice,
        &Record { description: "wider".into(), gpu_model: "RTX 4090".into(), val_bpb: 2.5, ..base(Some(&root), 5) },
    );
    let longer = Record { description: "twice as long".into(), time_budget: 40, val_bpb: 2.1, ..base(Some(&best), 9) };
    let hostile = sign(
        &alice,
        &Record { description: "clear \u{1b}[2J\nand \u{202e}turn".into(), val_bpb: 2.95, ..base(Some(&root), 6) },
    );
    let absent = sign(&alice, &Record { description: "absent".into(), ..base(Some(&best), 7) });
    let orphan = sign(&alice, &Record { description: "pending".into(), ..base(Some(&absent), 8) });
    let legacy = sign(&bob, &Record { description: "legacy".into(), timestamp: BEGIN, ..record(&bob, None, None) });
    let mut objects: Vec<VerifiedObject> = vec![manifest.into(), root.clone().into(), best.clone().into()];
    objects.extend([worse, crash, longer].map(|record| sign(&alice, &record).into()));
    objects.push(faster.clone().into());
    objects.extend([hostile.clone().into(), orphan.into(), legacy.into()]);
    objects.push(verification(&bob, &best, 2.75, BEGIN + 400).into());
    objects.push(sign(&bob, &ControlEvent::challenge(rerun(&bob, &hostile, 2.2), BEGIN + 500)).into());
    for (by, name) in [(&alice, "Alice"), (&bob, "Bob")] {
        let bio = "Trains on an old laptop".into();
        objects.push(sign(by, &NodeProfile { bio, timestamp: BEGIN, ..profile(by, name) }).into());
    }
    // The node trusts Bob. Nobody vouches for Carol.
    objects.push(verification(&identity(3), &best, 2.75, BEGIN + 410).into());
    objects.push(verification(&identity(3), &faster, 2.5, BEGIN + 420).into());
    let seeds = BTreeSet::from([bob.node_id(), Identity::from_seed(&[7; 32]).node_id()]);
    trust(dir, &BTreeSet::from([bob.node_id()]));
    let store = Store::open_with_trust(dir, seeds).unwrap();
    store.put_artifact(script).unwrap();
    store.insert(&objects, BEGIN + 1000).unwrap();
    let id = |record: &Verified<Record>| RecordId::from(record.id());
    World { task, root: id(&root), best: id(&best), hostile: id(&hostile), publisher: alice.node_id().to_string() }
}
