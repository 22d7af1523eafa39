//! How noisy results are, and how sure the gain of a record over its parent is.
//!
//! Both follow from the repeats that this node's own key and the keys that its operator trusts signed, so two nodes with
//! other seeds may see other figures. The statistics are the protocol's.

use std::collections::BTreeSet;

use spore_protocol::{
    Cid, Goal, HardwareClass, RecordId, Repeats, Status, TaskId,
    noise::{Gain, LEAST_RUNS, Noise, Runs, improvement},
    repeats::{Sample, by_seed, samples},
};

use crate::{error::Result, store::Store, types::RecordSummary};

/// Runs whose numbers of steps differ by at most this share are of one length.
const SAME_LENGTH: f64 = 0.02;

/// How much the results of a task's base script differ by the seed in a hardware class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassNoise {
    pub noise: Noise,
    /// Runs out of which the noise was estimated.
    pub runs: usize,
    /// Signers of these runs.
    pub signers: usize,
    /// Mean of the runs of the largest sample, and their steps.
    pub mean: f64,
    pub steps: u64,
}

/// A record's gain over its parent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecordGain {
    pub parent: RecordId,
    /// Positive when the record is better.
    pub difference: f64,
    /// None where neither repeats of both nor the noise of the class are known.
    pub gain: Option<Gain>,
    /// Whether both ran for as many steps, or nearly.
    pub same_steps: bool,
}

/// Whether two numbers of steps are of one length of run.
pub fn same_length(steps: u64, other: u64) -> bool {
    steps.abs_diff(other) as f64 <= SAME_LENGTH * steps.max(other) as f64
}

impl Store {
    /// The noise of a task in a hardware class, for runs of about `steps` steps. Without a number of steps: of the length of
    /// which most runs are known. None where too few runs are known.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn noise(&self, task: &TaskId, class: &HardwareClass, steps: Option<u64>) -> Result<Option<ClassNoise>> {
        let Some(root) = self.task(task)?.and_then(|view| view.root) else { return Ok(None) };
        let repeats = self.repeats(&root)?;
        Ok(match steps {
            Some(steps) => class_noise(&samples(&repeats, class, steps)),
            None => longest(&repeats, class),
        })
    }

    /// The noise of a task in each class of which runs are known.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn noises(&self, task: &TaskId) -> Result<Vec<(HardwareClass, ClassNoise)>> {
        let Some(root) = self.task(task)?.and_then(|view| view.root) else { return Ok(Vec::new()) };
        let repeats = self.repeats(&root)?;
        let classes: BTreeSet<_> = repeats.iter().map(Repeats::class).collect();
        let of = |class| longest(&repeats, &class).map(|noise| (class, noise));
        Ok(classes.into_iter().filter_map(of).collect())
    }

    /// How much better a record is than its parent. None without a parent of the same class, and where one of both is a
    /// crash.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn gain(&self, record: &RecordSummary, goal: Goal) -> Result<Option<RecordGain>> {
        let Some(parent) = record.parent.map(|id| self.summary(&id)).transpose()?.flatten() else { return Ok(None) };
        if parent.class != record.class || [record.status, parent.status].contains(&Status::Crash) {
            return Ok(None);
        }
        let mut gain = self.paired(record, &parent, goal)?;
        if gain.is_none() {
            let noise = self.noise(&record.task_id, &record.class, Some(record.num_steps))?;
            gain = noise.map(|known| Gain::single(goal, record.metric, parent.metric, &known.noise));
        }
        Ok(Some(RecordGain {
            parent: parent.id,
            difference: improvement(goal, record.metric, parent.metric),
            gain,
            same_steps: same_length(record.num_steps, parent.num_steps),
        }))
    }

    /// The graph hash of a script that was traced here.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn graph_of(&self, script: &Cid) -> Result<Option<Cid>> {
        self.artifacts().graphs.of(script)
    }

    /// Notes the graph hash of a script, and the record that ran it.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub fn note_graph(&self, script: Cid, graph: Cid, record: Option<RecordId>) -> Result<()> {
        self.artifacts().graphs.note(script, graph, record)
    }

    /// A record of the task and class whose script has this graph, as far as such scripts were traced here and `fit`.
    ///
    /// # Errors
    /// When the index or the store cannot be read.
    pub fn tried(
        &self,
        task: &TaskId,
        class: &HardwareClass,
        graph: &Cid,
        fit: impl Fn(&RecordSummary) -> bool,
    ) -> Result<Option<RecordId>> {
        for id in self.artifacts().graphs.records(graph)? {
            let same = |record: &RecordSummary| record.task_id == *task && record.class == *class && fit(record);
            if self.summary(&id)?.is_some_and(|record| same(&record)) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// The gain by runs of both with the same other seeds. Each side's runs have its record's number of steps.
    fn paired(&self, record: &RecordSummary, parent: &RecordSummary, goal: Goal) -> Result<Option<Gain>> {
        let results = by_seed(&self.repeats(&record.id)?, &record.class, record.num_steps);
        if results.len() < LEAST_RUNS {
            return Ok(None);
        }
        let others = by_seed(&self.repeats(&parent.id)?, &parent.class, parent.num_steps);
        // The records' own seed chose them, so its luck is left out.
        let fresh = results.iter().filter(|(seed, _)| **seed > 0);
        let pairs: Vec<_> = fresh.filter_map(|(seed, result)| Some((*result, *others.get(seed)?))).collect();
        Ok(Gain::paired(goal, &pairs))
    }
}

/// The noise for the length of which most runs are known.
fn longest(repeats: &[Repeats], class: &HardwareClass) -> Option<ClassNoise> {
    let lengths: BTreeSet<u64> = repeats.iter().filter(|r| r.class() == *class).map(|r| r.steps).collect();
    let found = lengths.into_iter().filter_map(|steps| class_noise(&samples(repeats, class, steps)));
    found.max_by_key(|noise| noise.runs)
}

/// The noise of all samples together.
fn class_noise(samples: &[Sample]) -> Option<ClassNoise> {
    let runs: Vec<Runs> = samples.iter().map(|sample| sample.runs).collect();
    let largest = samples.iter().max_by_key(|sample| sample.runs.count)?;
    Some(ClassNoise {
        noise: Noise::pooled(&runs)?,
        runs: runs.iter().map(|runs| runs.count).sum(),
        signers: samples.iter().map(|sample| sample.signer).collect::<BTreeSet<_>>().len(),
        mean: largest.runs.mean,
        steps: largest.steps,
    })
}
