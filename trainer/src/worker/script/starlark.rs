//! One experiment from script to metric, in the worker process.

use std::time::Instant;

use super::limits::{before_script_on_cpu, memory_counter};
use super::{DatasetSource, Event, Failure, FailureKind, Job, Outcome};
use crate::data::{DataError, Dataset};
use crate::device::{self, Backend};
use crate::evaluate::{EvalError, bits_per_byte, check_causal};
use crate::exec::train::{Length, TrainError, train};
use crate::exec::{ExecError, Executor};
use crate::lang::{self, ScriptError};

/// Runs `job` and returns its outcome; `emit` gets everything that comes before it.
pub(super) fn run(job: &Job, emit: &mut dyn FnMut(&Event)) -> Result<Outcome, Failure> {
    let (device, profile) =
        device::resolve(job.device).map_err(|error| Failure::new(FailureKind::Device, error.to_string()))?;
    let backend = profile.backend;
    let dataset = open(&job.dataset)?;
    if backend == Backend::Flex {
        before_script_on_cpu(job.memory_limit);
    }
    let traced = lang::trace(&job.script, &lang::Limits::default())?;
    let graph = traced.graph;
    let (num_params, graph_hash) = (graph.num_params(), hex::encode(graph.hash()));
    let flops_per_step = graph.flops_per_step();
    emit(&Event::Started { device: profile, num_params, flops_per_step, graph_hash: graph_hash.clone() });

    let (train_bytes, held_out) = dataset.split(&job.eval, &graph)?;
    let mut executor = Executor::new(graph, device, job.seed);
    check_causal(&mut executor, held_out, &job.eval)?;
    let length = match job.steps {
        Some(steps) => Length::Steps { steps, limit: job.steps_limit() },
        None => Length::Budget(job.budget()),
    };
    let mut peak = 0;
    let emit = std::cell::RefCell::new(emit);
    let trained = train(
        &mut executor,
        train_bytes,
        length,
        &mut |steps| (emit.borrow_mut())(&Event::Planned { steps }),
        &mut |at, executor| {
            peak = peak.max(executor.device_bytes().unwrap_or(0));
            let elapsed_seconds = at.elapsed.as_secs_f64();
            (emit.borrow_mut())(&Event::Progress { step: at.step, steps: at.steps, loss: at.loss, elapsed_seconds });
        },
    )?;
    let start = Instant::now();
    check_causal(&mut executor, held_out, &job.eval)?;
    let val_bpb = bits_per_byte(&mut executor, held_out, &job.eval)?;
    if backend == Backend::Flex {
        peak = memory_counter("self", "VmHWM").unwrap_or(0);
    }
    Ok(Outcome {
        val_bpb,
        num_steps: trained.steps,
        num_params,
        peak_memory_mb: peak as f64 / f64::from(1 << 20),
        train_seconds: trained.seconds,
        eval_seconds: start.elapsed().as_secs_f64(),
        graph_hash,
    })
}

fn open(source: &DatasetSource) -> Result<Dataset, Failure> {
    match source {
        DatasetSource::Builtin => Ok(Dataset::builtin()),
        DatasetSource::File { path, cid } => {
            let dataset = Dataset::open(path)?;
            dataset.check_cid(cid)?;
            Ok(dataset)
        }
    }
}

impl From<ScriptError> for Failure {
    fn from(error: ScriptError) -> Self {
        let kind = match error {
            ScriptError::NoThread(_) => FailureKind::Internal,
            ScriptError::TooLong { .. }
            | ScriptError::At { .. }
            | ScriptError::Whole(_)
            | ScriptError::NoSuchTunable { .. }
            | ScriptError::BadValue { .. } => FailureKind::Script,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        Self::new(FailureKind::Data, error.to_string())
    }
}

impl From<EvalError> for Failure {
    fn from(error: EvalError) -> Self {
        let kind = match error {
            EvalError::LooksAhead { .. } | EvalError::ReadsAcrossBatch { .. } => FailureKind::Causality,
            EvalError::NotFinite => FailureKind::Diverged,
            EvalError::BadSpec(_) => FailureKind::Data,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        let kind = match &error {
            TrainError::Deadline { .. } => FailureKind::Deadline,
            TrainError::Diverged(_) => FailureKind::Diverged,
            TrainError::Exec(ExecError::Device(_)) => FailureKind::Device,
            TrainError::SlowedDown { .. } | TrainError::Exec(ExecError::Graph(_)) => FailureKind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_threads_blames_no_script() {
        let failure = Failure::from(ScriptError::NoThread("limit reached".into()));
        assert_eq!((failure.kind, failure.blames_script()), (FailureKind::Internal, false));
        assert!(Failure::from(ScriptError::Whole("wrong".into())).blames_script());
    }
}
