//! The noise of a task's hardware classes, and the gain of an experiment over its parent.

use spore_protocol::{Goal, TaskId, noise::BELIEVABLE_P};
use spore_storage::{ClassNoise, RecordGain, RecordSummary};

use super::StoreView;
use crate::{dto, problem::ApiError};

/// Runs of each script in the second of the two differences that are told.
const FEW: usize = 4;

impl StoreView {
    /// Adds the noise of each class of a task.
    pub(super) fn add_noise(&self, id: &TaskId, task: &mut dto::TaskSummary) -> Result<(), ApiError> {
        for (class, known) in self.store().noises(id)? {
            if let Some(shown) = task.classes.iter_mut().find(|shown| shown.class == class.as_str()) {
                shown.noise = Some(noise(&known));
            }
        }
        Ok(())
    }

    /// What a record gained over its parent. None where they cannot be compared.
    pub(super) fn gain_of(&self, record: &RecordSummary, goal: Goal) -> Result<Option<dto::Gain>, ApiError> {
        Ok(self.store().gain(record, goal)?.map(|found| gain(&found)))
    }
}

fn noise(known: &ClassNoise) -> dto::Noise {
    dto::Noise {
        runs: known.runs as u64,
        signers: known.signers as u64,
        steps: known.steps,
        mean: known.mean,
        deviation: known.noise.deviation,
        freedom: known.noise.freedom,
        believable_one: known.noise.believable(1, 1),
        believable_four: known.noise.believable(FEW, FEW),
    }
}

fn gain(found: &RecordGain) -> dto::Gain {
    let known = found.gain;
    dto::Gain {
        parent: found.parent.to_string(),
        difference: found.difference,
        gain: known.map(|gain| gain.gain),
        low: known.map(|gain| gain.low),
        high: known.map(|gain| gain.high),
        p: known.map(|gain| gain.p),
        runs: known.map_or(1, |gain| gain.runs as u64),
        believable: known.is_some_and(|gain| gain.is_believable(BELIEVABLE_P)),
        words: known.map_or("noise not measured", |gain| gain.words()).into(),
        same_steps: found.same_steps,
    }
}
