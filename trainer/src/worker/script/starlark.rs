//! Train scripts in Starlark: traced to a graph ([`lang`]), run by burn ([`exec`](crate::exec)).

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use crate::data::{ByteDataset, DataError};
use crate::device::{self, Backend};
use crate::evaluate::{EvalError, EvalSeed, Patience, evaluate};
use crate::exec::train::{Length, TrainError, train};
use crate::exec::{ExecError, Executor};
use crate::lang::{self, ScriptError, Traced};
use crate::memory::{ProcessMemory, processor_time};
use crate::worker::limits::before_script_on_cpu;
use crate::worker::messages::{
    DatasetSource, Failure, FailureKind, INSPECT_MEMORY, Inspection, RunResult, TRACE_MEMORY, TrainJob, WorkerEvent,
};

/// Most processor time for tracing. Honest scripts take milliseconds. Some operations of the
/// interpreter, such as comparing lists that share their parts, take any time within one step, so
/// its own limits do not end them.
const TRACE_LIMIT: Duration = Duration::from_secs(2);
/// Time between two looks at the processor time and the memory.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Traces the script and returns its tunables and its identity.
pub(in crate::worker) fn inspect(script: &str) -> Result<Inspection, Failure> {
    before_script_on_cpu(INSPECT_MEMORY);
    let Traced { graph, tunables, .. } = trace(script)?;
    Ok(Inspection { tunables, graph_hash: hex::encode(graph.hash()) })
}

/// Traces the script in a thread. The thread of a script that takes too long goes on: it ends with
/// the process, which ends after this failure.
fn trace(script: &str) -> Result<Traced, Failure> {
    let (sender, traced) = sync_channel(1);
    let (text, started) = (script.to_owned(), processor_time());
    let mut memory = ProcessMemory::of_this_process();
    let before = memory.resident().unwrap_or(0);
    // Nobody receives the result of a script that was given up.
    let run = move || drop(sender.send(lang::trace(&text, &lang::Limits::default())));
    let thread = std::thread::Builder::new().name("limited".to_owned()).spawn(run);
    thread.map_err(|error| Failure::new(FailureKind::Internal, format!("cannot start a thread: {error}")))?;
    loop {
        match traced.recv_timeout(LOOK_EVERY) {
            Ok(traced) => return Ok(traced?),
            Err(RecvTimeoutError::Timeout) if processor_time().saturating_sub(started) < TRACE_LIMIT => {
                if memory.resident().is_some_and(|now| now.saturating_sub(before) > TRACE_MEMORY) {
                    return Err(Failure::too_large_to_trace());
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                let seconds = TRACE_LIMIT.as_secs();
                let reason = format!("the script takes more than {seconds} s of processor time to trace: simplify it");
                // Another machine may be faster, so this is nothing that a verifier could sign.
                return Err(Failure::new(FailureKind::Deadline, reason));
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::new(FailureKind::Internal, "the tracing thread ended without a result"));
            }
        }
    }
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
    let graph = trace(script)?.graph;
    let (num_params, hash, description_bytes) = (graph.num_params(), graph.hash(), graph.description_bytes());
    let graph_hash = hex::encode(hash);
    let flops_per_step = graph.flops_per_step();
    emit(&WorkerEvent::Started { device: profile, num_params, flops_per_step, graph_hash: graph_hash.clone() });

    let (train_bytes, _) = dataset.split(&job.eval, &graph)?;
    let text = dataset.eval_text(&job.eval, &graph, EvalSeed::new(job.task, &hash))?;
    let mut executor = Executor::new(graph, device, job.seed);
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
    let evaluation = evaluate(&mut executor, &text, description_bytes, train_bytes, Patience::new(job.eval_limit()))?;
    peak.look(&executor);
    Ok(RunResult {
        val_bpb: evaluation.val_bpb,
        bits_per_byte: evaluation.bits_per_byte,
        description_bytes,
        hidden_cost: evaluation.hidden.mean,
        hidden_error: evaluation.hidden.error,
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
            ScriptError::NotCausal(_) => FailureKind::Causality,
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
            EvalError::ReadsAhead { .. } => FailureKind::Causality,
            EvalError::TooSlow { .. } => FailureKind::Deadline,
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
            TrainError::SlowedDown { .. } | TrainError::Unsteady { .. } => FailureKind::Busy,
            TrainError::Exec(ExecError::Graph(_)) => FailureKind::Internal,
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
