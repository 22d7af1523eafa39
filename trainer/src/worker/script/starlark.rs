//! Train scripts in Starlark: traced to a graph ([`lang`]), run by burn ([`exec`](crate::exec)).

use std::time::Instant;

use crate::data::{ByteDataset, DataError};
use crate::device::{self, Backend};
use crate::evaluate::{EvalError, bits_per_byte, check_causal};
use crate::exec::train::{Length, TrainError, train};
use crate::exec::{ExecError, Executor};
use crate::lang::{self, ScriptError, Tunable};
use crate::memory::ProcessMemory;
use crate::worker::limits::before_script_on_cpu;
use crate::worker::messages::{DatasetSource, Failure, FailureKind, INSPECT_MEMORY, RunResult, TrainJob, WorkerEvent};

/// Traces the script and returns its tunables.
pub(in crate::worker) fn inspect(script: &str) -> Result<Vec<Tunable>, Failure> {
    before_script_on_cpu(INSPECT_MEMORY);
    Ok(lang::trace(script, &lang::Limits::default())?.tunables)
}

/// Traces the script, trains and evaluates.
pub(in crate::worker) fn run(
    script: &str,
    job: &TrainJob,
    emit: &mut dyn FnMut(&WorkerEvent),
) -> Result<RunResult, Failure> {
    let (device, profile) =
        device::resolve(job.device).map_err(|error| Failure::new(FailureKind::Device, error.to_string()))?;
    let mut peak = Peak::new(profile.backend);
    let dataset = open(&job.dataset)?;
    if profile.backend == Backend::Flex {
        before_script_on_cpu(job.memory_limit);
    }
    let graph = lang::trace(script, &lang::Limits::default())?.graph;
    let (num_params, graph_hash) = (graph.num_params(), hex::encode(graph.hash()));
    let flops_per_step = graph.flops_per_step();
    emit(&WorkerEvent::Started { device: profile, num_params, flops_per_step, graph_hash: graph_hash.clone() });

    let (train_bytes, held_out) = dataset.split(&job.eval, &graph)?;
    let mut executor = Executor::new(graph, device, job.seed);
    check_causal(&mut executor, held_out, &job.eval)?;
    let length = match job.steps {
        Some(steps) => Length::Steps { steps, limit: job.steps_limit() },
        None => Length::Budget(job.budget()),
    };
    let emit = std::cell::RefCell::new(emit);
    let trained = train(
        &mut executor,
        train_bytes,
        length,
        &mut |steps| (emit.borrow_mut())(&WorkerEvent::Planned { steps }),
        &mut |at, executor| {
            peak.look(executor);
            let elapsed_seconds = at.elapsed.as_secs_f64();
            (emit.borrow_mut())(&WorkerEvent::Progress {
                step: at.step,
                steps: at.steps,
                loss: at.loss,
                elapsed_seconds,
            });
        },
    )?;
    let start = Instant::now();
    check_causal(&mut executor, held_out, &job.eval)?;
    let val_bpb = bits_per_byte(&mut executor, held_out, &job.eval)?;
    peak.look(&executor);
    Ok(RunResult {
        val_bpb,
        num_steps: trained.steps,
        num_params,
        peak_memory_mb: peak.bytes as f64 / f64::from(1 << 20),
        train_seconds: trained.seconds,
        eval_seconds: start.elapsed().as_secs_f64(),
        graph_hash,
    })
}

/// The most bytes of memory that were seen in use: of the device on a GPU, of this process on a CPU.
struct Peak {
    bytes: u64,
    process: Option<ProcessMemory>,
}

impl Peak {
    fn new(backend: Backend) -> Self {
        Self { bytes: 0, process: (backend == Backend::Flex).then(ProcessMemory::of_this_process) }
    }

    fn look(&mut self, executor: &Executor) {
        let now = match &mut self.process {
            Some(process) => process.resident(),
            None => executor.device_bytes(),
        };
        self.bytes = self.bytes.max(now.unwrap_or(0));
    }
}

fn open(source: &DatasetSource) -> Result<ByteDataset, Failure> {
    match source {
        DatasetSource::Builtin => Ok(ByteDataset::builtin()),
        DatasetSource::File { path, cid } => {
            let dataset = ByteDataset::open(path)?;
            dataset.check_cid(*cid)?;
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
    fn machine_without_threads_blames_no_script() {
        let failure = Failure::from(ScriptError::NoThread("limit reached".into()));
        assert_eq!((failure.kind, failure.blames_script()), (FailureKind::Internal, false));
        assert!(Failure::from(ScriptError::Whole("wrong".into())).blames_script());
    }
}
