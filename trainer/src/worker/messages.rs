//! The messages between the node and a worker process: one [`WorkerRequest`] line in,
//! [`WorkerEvent`] lines out, each in JSON.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use spore_protocol::{Cid, TaskId};

use crate::device::known::{KnownDevice, ProbeJob};
use crate::device::speed::Measured;
use crate::device::{DeviceChoice, DeviceProfile};
use crate::evaluate::EvalSpec;
use crate::lang::Tunable;

/// Most bytes of a request line. A script of the largest size fits, with every byte escaped.
pub(super) const MAX_REQUEST_BYTES: u64 = 8 << 20;
/// Most bytes of an event line. Reasons are cut to fit ([`MAX_REASON_BYTES`]).
pub(super) const MAX_EVENT_BYTES: usize = 64 << 10;
/// Most bytes of a failure's reason, which becomes a record's description.
const MAX_REASON_BYTES: usize = 2 << 10;
/// Most bytes of memory of a process that only traces: the program itself and more than [`TRACE_MEMORY`].
pub(super) const INSPECT_MEMORY: u64 = 1 << 30;
/// Most bytes by which tracing may enlarge its process. The interpreter's own limit is far below, but it is looked at
/// between statements, and one operation, such as `list * n`, allocates any amount.
pub(super) const TRACE_MEMORY: u64 = 512 << 20;
/// Time for everything but training: starting, compiling kernels, evaluating. One more budget is
/// added, because a model that is slow to train is slow to evaluate.
pub(super) const GRACE: Duration = Duration::from_secs(120);
/// Time to open a device, try it on known answers and measure it. Seconds on a GPU or a processor; a
/// software adapter on a busy machine compiles its kernels for minutes.
pub(super) const PROBE_LIMIT: Duration = Duration::from_secs(600);
/// Time to measure a device that was tried before: three seconds, and the start of a driver.
pub(super) const CALIBRATION_LIMIT: Duration = Duration::from_secs(60);
/// Budgets that a run for a budget may take. The run ends itself earlier (`exec::train`): two runs that used less than
/// nine tenths of the budget, and one of two budgets.
pub(super) const BUDGET_OVERRUN: u32 = 4;
/// Budgets that a run of a fixed number of steps may take, because the machine may be that much
/// slower than the one that recorded the number.
const STEPS_OVERRUN: u32 = 4;

/// Least time that evaluating may take: with the factor for fixed steps it fits into [`GRACE`].
const EVAL_LEAST: Duration = Duration::from_secs(60);

/// The task of a worker process.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerRequest {
    /// Open the device, try it on known answers, measure its speed, and describe it.
    Probe(ProbeJob),
    /// Measure the speed of the device now.
    Calibrate(CalibrateJob),
    /// Trace this script and say what it is.
    Inspect(Script),
    /// Run an experiment.
    Train(TrainJob),
}

/// A script, by its artifact type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Script {
    /// The text of a train script in Starlark.
    Starlark(String),
}

/// A measurement of the speed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalibrateJob {
    pub device: DeviceChoice,
    /// Processor threads, see [`threads`](super::threads).
    pub threads: usize,
}

/// One experiment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainJob {
    /// The task, which decides together with the script what is evaluated.
    pub task: TaskId,
    pub script: Script,
    pub dataset: DatasetSource,
    pub device: DeviceChoice,
    /// Determines initial weights, the order of data and dropout.
    pub seed: u64,
    /// Seconds of training, at least 1.
    pub time_budget: u64,
    /// Exactly this many steps, to repeat a recorded run. None for as many as fit into the budget.
    pub steps: Option<u64>,
    pub eval: EvalSpec,
    /// Processor threads, see [`threads`](super::threads).
    pub threads: usize,
    /// Most bytes of main memory.
    pub memory_limit: u64,
}

impl TrainJob {
    /// Wall-clock time that evaluating may take. A run of a fixed number of steps may be on a slower
    /// machine than the one that recorded it.
    pub fn eval_limit(&self) -> Duration {
        self.budget().max(EVAL_LEAST) * if self.steps.is_some() { 2 } else { 1 }
    }

    /// Wall-clock time after which a run of a fixed number of steps ends as too slow.
    pub fn steps_limit(&self) -> Duration {
        self.budget() * STEPS_OVERRUN
    }

    /// The budget as a duration, at most a day, so that sums cannot overflow.
    pub fn budget(&self) -> Duration {
        Duration::from_secs(self.time_budget.clamp(1, 86_400))
    }
}

/// Where a job's data comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DatasetSource {
    /// The generated corpus ([`corpus::builtin`](crate::corpus::builtin)).
    Builtin,
    /// A file whose bytes must have this id.
    File { path: PathBuf, cid: Cid },
}

/// A report of a worker.
///
/// An experiment reports `Started`, `Planned`, any number of `Progress`, and `Finished`, in this
/// order. A probe reports `Device` alone, a calibration `Measured` alone, an inspection `Inspected`
/// alone. `Failed` may come at any
/// point and is then the last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerEvent {
    /// The answer to a probe.
    Device(Box<KnownDevice>),
    /// The answer to a calibration.
    Measured {
        device: DeviceProfile,
        measured: Measured,
    },
    /// The answer to an inspection.
    Inspected(Inspection),
    /// The script is traced and the device is open. The device's `gpu_model` is not the measured one.
    Started {
        device: DeviceProfile,
        num_params: u64,
        flops_per_step: u64,
        graph_hash: String,
    },
    /// The number of training steps is known.
    Planned {
        steps: u64,
    },
    /// Sent about four times a second. `loss` is in nats for each byte.
    Progress {
        step: u64,
        steps: u64,
        loss: f64,
        elapsed_seconds: f64,
    },
    Finished(RunResult),
    Failed(Failure),
}

/// What tracing a script shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    pub tunables: Vec<Tunable>,
    /// As [`RunResult::graph_hash`].
    pub graph_hash: String,
}

/// A finished experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// The metric: [`Self::bits_per_byte`] and the charge for [`Self::description_bytes`].
    pub val_bpb: f64,
    /// Bits per byte on the text that was drawn for this script.
    pub bits_per_byte: f64,
    /// Length of the graph's description.
    pub description_bytes: u64,
    /// What it cost, in bits a byte, to hide later bytes and other sequences. Near 0: more would
    /// have been [`FailureKind::Causality`].
    pub hidden_cost: f64,
    /// Standard error of [`Self::hidden_cost`].
    pub hidden_error: f64,
    pub num_steps: u64,
    pub num_params: u64,
    /// The most mebibytes that were seen in use: of the device on a GPU, of the process on a CPU.
    /// 0 where the system does not report it.
    pub peak_memory_mb: f64,
    pub train_seconds: f64,
    pub eval_seconds: f64,
    /// [`Graph::hash`](crate::graph::Graph::hash) in lower-case hex: equal for scripts of one meaning.
    pub graph_hash: String,
}

/// Why an experiment has no metric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    pub kind: FailureKind,
    /// One or a few lines for people. May become part of a public record.
    pub reason: String,
}

/// The kind of a failure. [`Failure::blames_script`] says which kinds are the script's own doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The script is wrong, or goes beyond a limit.
    Script,
    /// The model reads the bytes that it must predict.
    Causality,
    /// The loss or a logit is not finite.
    Diverged,
    /// The experiment took too long.
    Deadline,
    /// The experiment took too much memory.
    Memory,
    /// The process died without a report, by its own doing.
    Crashed,
    /// The system or a driver ended the process, or stopped it for longer than any script takes. This may be the
    /// machine's doing, so it says nothing about the script.
    Killed,
    /// Other work changed the speed of this machine during the run, so its number of steps says nothing.
    Busy,
    /// The device does not exist, or it failed.
    Device,
    /// The dataset is missing, has other bytes than the task names, or is too small.
    Data,
    /// A fault of this machine or of this program.
    Internal,
    /// The node cancelled the run.
    Cancelled,
}

impl Failure {
    pub(super) fn new(kind: FailureKind, reason: impl Into<String>) -> Self {
        let mut reason: String = reason.into();
        if reason.len() > MAX_REASON_BYTES {
            let cut = (0..=MAX_REASON_BYTES).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
            reason.truncate(cut);
            reason.push_str(" ...");
        }
        Self { kind, reason }
    }

    /// The failure of a script whose values outgrow [`TRACE_MEMORY`] while it is traced.
    pub(super) fn too_large_to_trace() -> Self {
        let most = TRACE_MEMORY >> 20;
        let reason = format!("the script needs more than {most} MiB of memory to trace: keep lists and texts short");
        Self::new(FailureKind::Script, reason)
    }

    /// True when the experiment itself failed, which is worth a `crash` record. False when this
    /// machine failed, which is of no interest to other nodes.
    pub fn blames_script(&self) -> bool {
        use FailureKind::{Causality, Crashed, Deadline, Diverged, Memory, Script};
        matches!(self.kind, Script | Causality | Diverged | Deadline | Memory | Crashed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_events_round_trip_through_json() {
        let event = WorkerEvent::Progress { step: 3, steps: 9, loss: 2.5, elapsed_seconds: 0.25 };
        let line = serde_json::to_string(&event).unwrap();
        assert_eq!(line, r#"{"progress":{"step":3,"steps":9,"loss":2.5,"elapsed_seconds":0.25}}"#);
        assert_eq!(serde_json::from_str::<WorkerEvent>(&line).unwrap(), event);
        let calibrate = CalibrateJob { device: DeviceChoice::Auto, threads: 2 };
        let line = serde_json::to_string(&WorkerRequest::Calibrate(calibrate)).unwrap();
        assert_eq!(line, r#"{"calibrate":{"device":"auto","threads":2}}"#);
    }

    #[test]
    fn long_reasons_are_cut_at_a_character() {
        let failure = Failure::new(FailureKind::Script, "ä".repeat(5_000));
        assert!(failure.reason.len() <= MAX_REASON_BYTES + 4 && failure.reason.ends_with("ä ..."));
    }
}
