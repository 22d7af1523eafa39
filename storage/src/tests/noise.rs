//! The noise of a class, and the gain of a record over its parent, out of repeats that a trusted key signed.

use spore_protocol::{
    ControlEvent, Goal, HardwareClass, Record, RecordId, Repeats, TaskId, Verified, VerifiedObject, fixtures,
};

use super::{
    any, insert,
    objects::{identity, record, sign},
};
use crate::{RecordGain, Store};

const TASK: TaskId = TaskId([1; 32]);

/// A store that trusts node 1, with a root of it and a child.
fn world(child: f64) -> (tempfile::TempDir, Store, Verified<Record>, Verified<Record>) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_with_trust(dir.path(), [identity(1).node_id()].into()).unwrap();
    let root = sign(1, &record(1, Some(TASK), None, 2.0, 1));
    let child = sign(2, &record(2, Some(TASK), Some(&root), child, 10));
    insert(&store, &[&any(&root), &any(&child)]);
    (dir, store, root, child)
}

fn repeats(by: u8, record: &Verified<Record>, steps: u64, first_seed: u64, results: &[f64]) -> VerifiedObject {
    let repeats = Repeats {
        experiment_id: record.id().into(),
        task_id: Some(TASK),
        node_id: identity(by).node_id(),
        gpu: record.gpu_model.clone(),
        steps,
        first_seed,
        results: results.to_vec(),
    };
    fixtures::sign(&identity(by), &ControlEvent::repeats(repeats, 20)).into()
}

fn gain(store: &Store, record: &Verified<Record>) -> RecordGain {
    let summary = store.summary(&RecordId::from(record.id())).unwrap().unwrap();
    store.gain(&summary, Goal::Minimize).unwrap().unwrap()
}

#[test]
fn noise_of_a_class_is_that_of_trusted_signers_only() {
    let (_dir, store, root, _) = world(1.9);
    let (class, steps) = (HardwareClass::of(&root.gpu_model), root.num_steps);
    assert_eq!(store.noise(&TASK, &class, None).unwrap(), None);
    // A stranger says that there is hardly any noise, so that everything is progress.
    insert(&store, &[&repeats(7, &root, steps, 0, &[2.0, 2.000_001, 2.0])]);
    assert_eq!(store.noise(&TASK, &class, None).unwrap(), None);
    insert(&store, &[&repeats(1, &root, steps, 0, &[2.0, 2.1]), &repeats(1, &root, steps, 2, &[1.9])]);
    let noise = store.noise(&TASK, &class, Some(steps)).unwrap().unwrap();
    assert_eq!((noise.runs, noise.signers, noise.noise.freedom, noise.steps), (3, 1, 2, steps));
    assert!((noise.noise.deviation - 0.1).abs() < 1e-9 && (noise.mean - 2.0).abs() < 1e-9);
    assert_eq!(store.noise(&TASK, &class, None).unwrap(), Some(noise));
    assert_eq!(store.noise(&TASK, &HardwareClass::of("RTX 4090"), None).unwrap(), None);
}

#[test]
fn gain_is_within_noise_until_repeats_of_both_show_it() {
    let (_dir, store, root, child) = world(1.95);
    let steps = root.num_steps;
    let unknown = gain(&store, &child);
    assert!(unknown.gain.is_none() && unknown.same_steps && (unknown.difference - 0.05).abs() < 1e-9);
    insert(&store, &[&repeats(1, &root, steps, 0, &[2.0, 2.1, 1.9, 2.05])]);
    let single = gain(&store, &child).gain.unwrap();
    assert_eq!((single.runs, single.words()), (1, "within noise"));
    insert(&store, &[&repeats(1, &child, steps, 1, &[2.049, 1.85, 2.001])]);
    let paired = gain(&store, &child).gain.unwrap();
    assert_eq!((paired.runs, paired.words()), (3, "better by more than noise"));
    assert!((paired.gain - 0.05).abs() < 1e-3 && paired.low > 0.0, "{paired:?}");
}
