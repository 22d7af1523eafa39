//! Repeats: results of a record's script with other seeds, and for a number of steps, as one signer measured them.
//!
//! A control event of type `repeats` carries them. The existing network does not know this type, and the bridge does not
//! send it. Repeats say how noisy a result is. They are no measurements: no verdict depends on them, because a re-run of
//! a record has the record's own seed. A node believes the repeats of its own key and of those that its operator trusts.

use std::collections::BTreeMap;

use crate::{
    HardwareClass, NodeId, RecordId, Reject, TaskId,
    fields::{FieldReader, text_or_empty},
    json::{Map, Value},
    noise::{Noise, Runs},
};

/// Most results in one event: more runs of one script cost hours.
pub const RESULTS_MOST: usize = 64;
/// Noise depends on the length of a run. That of runs of another length counts up to this factor.
const LENGTH_FACTOR: u64 = 2;

/// Results of one record's script by one signer.
#[derive(Clone, Debug, PartialEq)]
pub struct Repeats {
    pub experiment_id: RecordId,
    /// The record's task as the signer says. None if the event names no task.
    pub task_id: Option<TaskId>,
    /// The node that ran the script. Always the event's signer.
    pub node_id: NodeId,
    /// The device's name as its driver gives it.
    pub gpu: String,
    /// Steps of each run.
    pub steps: u64,
    /// What is added to the task's seed in the first run. 0 is the seed of the record itself.
    pub first_seed: u64,
    /// The metrics, of the first seed and those after it. 1 to [`RESULTS_MOST`].
    pub results: Vec<f64>,
}

impl Repeats {
    pub fn class(&self) -> HardwareClass {
        HardwareClass::of(&self.gpu)
    }

    /// The payload of an event, without its `event_id`.
    pub(crate) fn payload(&self) -> Map {
        Map::from([
            ("experiment_id".into(), Value::String(self.experiment_id.to_string())),
            ("task_id".into(), text_or_empty(self.task_id)),
            ("verifier_id".into(), Value::String(self.node_id.to_string())),
            ("verifier_gpu".into(), Value::String(self.gpu.clone())),
            ("steps".into(), self.steps.into()),
            ("first_seed".into(), self.first_seed.into()),
            ("results".into(), Value::Array(self.results.iter().map(|result| Value::Float(*result)).collect())),
        ])
    }

    /// Reads a payload. None inside when it has no results that this version can use; such an event has no effect.
    ///
    /// # Errors
    /// For a field that is missing or of another type.
    pub(crate) fn read(
        mut f: FieldReader,
        task_id: Option<TaskId>,
    ) -> Result<(RecordId, NodeId, Option<Self>), Reject> {
        let (experiment_id, node_id) = (f.id("experiment_id")?, f.id("verifier_id")?);
        let (gpu, steps) = (f.text("verifier_gpu")?, f.unsigned("steps")?);
        let (first_seed, results) = (f.unsigned("first_seed")?, f.numbers("results")?);
        let usable = steps > 0 && !results.is_empty() && results.len() <= RESULTS_MOST;
        let repeats = Self { experiment_id, task_id, node_id, gpu, steps, first_seed, results };
        Ok((experiment_id, node_id, usable.then_some(repeats)))
    }
}

/// The results of one script in a class, by what is added to the task's seed, for runs of exactly `steps` steps. Where
/// two events have a result of one seed, the first one's counts.
pub fn by_seed(repeats: &[Repeats], class: &HardwareClass, steps: u64) -> BTreeMap<u64, f64> {
    let mut results = BTreeMap::new();
    for repeats in repeats.iter().filter(|r| r.steps == steps && r.class() == *class) {
        for (index, result) in (0_u64..).zip(&repeats.results) {
            results.entry(repeats.first_seed.saturating_add(index)).or_insert(*result);
        }
    }
    results
}

/// The noise of a script in a class, out of all runs whose lengths are within a factor of [`LENGTH_FACTOR`] of `steps`.
/// Runs of one length and one signer are one sample. None where too few are known.
pub fn noise(repeats: &[Repeats], class: &HardwareClass, steps: u64) -> Option<Noise> {
    Noise::pooled(&samples(repeats, class, steps).into_iter().map(|sample| sample.runs).collect::<Vec<_>>())
}

/// Runs of one script, of one length and by one signer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub signer: NodeId,
    pub steps: u64,
    pub runs: Runs,
}

/// The samples of [`noise`].
pub fn samples(repeats: &[Repeats], class: &HardwareClass, steps: u64) -> Vec<Sample> {
    let near =
        |other: u64| other <= steps.saturating_mul(LENGTH_FACTOR) && steps <= other.saturating_mul(LENGTH_FACTOR);
    let mut samples: BTreeMap<(NodeId, u64), BTreeMap<u64, f64>> = BTreeMap::new();
    for repeats in repeats.iter().filter(|r| near(r.steps) && r.class() == *class) {
        let sample = samples.entry((repeats.node_id, repeats.steps)).or_default();
        for (index, result) in (0_u64..).zip(&repeats.results) {
            sample.entry(repeats.first_seed.saturating_add(index)).or_insert(*result);
        }
    }
    let runs = |results: BTreeMap<u64, f64>| Runs::of(&results.into_values().collect::<Vec<_>>());
    let sample = |((signer, steps), results)| Some(Sample { signer, steps, runs: runs(results)? });
    samples.into_iter().filter_map(sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ControlBody, ControlEvent, EventId, Measurement, Signed, fixtures};

    fn repeats(steps: u64, first_seed: u64, results: &[f64]) -> Repeats {
        Repeats {
            experiment_id: RecordId([2; 32]),
            task_id: Some(TaskId([3; 32])),
            node_id: fixtures::identity(1).node_id(),
            gpu: "CPU 4x8 (test)".into(),
            steps,
            first_seed,
            results: results.to_vec(),
        }
    }

    fn class() -> HardwareClass {
        HardwareClass::of("CPU 4x8 (test)")
    }

    #[test]
    fn repeats_read_back_and_are_no_measurement() {
        let (identity, repeats) = (fixtures::identity(1), repeats(100, 0, &[1.5, 1.625]));
        let signed = identity.sign(&ControlEvent::repeats(repeats.clone(), 5)).unwrap();
        let read = Signed::<ControlEvent>::from_canonical(signed.canonical(), *signed.signature()).unwrap();
        assert_eq!(read.body, ControlBody::Repeats(repeats));
        assert_eq!((read.experiment_id(), read.claimed_task()), (Some(RecordId([2; 32])), Some(TaskId([3; 32]))));
        assert!(read.kind.is_known() && !read.kind.is_legacy());
        assert!(Measurement::of(EventId::from(read.id()), &read).is_none());
    }

    #[test]
    fn repeats_without_usable_results_are_kept_without_effect() {
        let identity = fixtures::identity(1);
        let many = vec![1.5; RESULTS_MOST + 1];
        for bad in [repeats(0, 0, &[1.5]), repeats(100, 0, &[]), repeats(100, 0, &many)] {
            let signed = identity.sign(&ControlEvent::repeats(bad, 5)).unwrap();
            let read = Signed::<ControlEvent>::from_canonical(signed.canonical(), *signed.signature()).unwrap();
            assert!(matches!(read.body, ControlBody::Other { .. }) && read.experiment_id().is_some());
        }
    }

    #[test]
    fn repeats_in_the_name_of_another_node_are_refused() {
        let other = fixtures::identity(9);
        let event = ControlEvent { node_id: other.node_id(), ..ControlEvent::repeats(repeats(9, 0, &[1.5]), 5) };
        let read = other
            .sign(&event)
            .and_then(|signed| Signed::<ControlEvent>::from_canonical(signed.canonical(), *signed.signature()));
        assert_eq!(read.err(), Some(Reject::ActorMismatch { field: "verifier_id" }));
    }

    #[test]
    fn results_are_found_by_seed_in_their_class_and_length() {
        let other_class = Repeats { gpu: "CPU 16x32 (test)".into(), ..repeats(100, 0, &[9.0]) };
        let known = [repeats(100, 1, &[1.5, 1.6]), repeats(100, 2, &[7.0, 1.7]), repeats(90, 0, &[8.0]), other_class];
        let found = by_seed(&known, &class(), 100);
        assert_eq!(found, BTreeMap::from([(1, 1.5), (2, 1.6), (3, 1.7)]));
    }

    #[test]
    fn noise_pools_signers_and_leaves_out_runs_of_another_length() {
        let other = Repeats { node_id: fixtures::identity(2).node_id(), ..repeats(120, 0, &[5.0, 5.0, 5.0]) };
        let known = [repeats(100, 0, &[1.0, 2.0]), repeats(100, 2, &[3.0]), other, repeats(250, 0, &[1.0, 9.0, 20.0])];
        let pooled = noise(&known, &class(), 100).unwrap();
        assert_eq!(pooled.freedom, 4);
        assert!((pooled.deviation - 0.5_f64.sqrt()).abs() < 1e-12, "{pooled:?}");
        assert_eq!(noise(&known, &class(), 1000), None);
    }
}
