//! Experiments in a child process of the same binary.
//!
//! The way of a job: the node's [`Supervisor`] starts `spore worker`, writes one [`Request`] as a
//! JSON line to its standard input and reads [`Event`]s as JSON lines from its standard output,
//! until one of them, the deadline, the memory limit or the child's death decides. The child
//! ([`main`]) limits itself before it looks at the script, traces it, trains, evaluates and
//! reports; it ends when its standard input does, so it never outlives the node.
//!
//! What holds a script back: it is Starlark traced to a graph, so it has no way to name a file, a
//! socket or a clock; the process around it has an empty environment but for what graphics drivers
//! need, its own working directory, no core dumps, and on the CPU no files to write and a hard
//! limit of memory. There is no system-call filter and no namespace yet: a flaw in the tracer or
//! in burn that gave a script control of the process would give it the user's rights.

mod child;
mod experiment;
mod limits;
mod supervisor;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::device::{DeviceChoice, DeviceProfile};
use crate::evaluate::EvalSpec;
use crate::lang::Tunable;
pub use child::main;
pub use supervisor::{ENVIRONMENT, Supervisor};

/// Most bytes of a request line: a script of the largest size, escaped.
const MAX_REQUEST_BYTES: u64 = 8 << 20;
/// Most bytes of an event line; a reason is cut to fit ([`MAX_REASON_BYTES`]).
const MAX_EVENT_BYTES: usize = 64 << 10;
/// Most bytes of a failure's reason: it becomes a record's description.
const MAX_REASON_BYTES: usize = 2 << 10;
/// Most bytes of memory for tracing a script: the interpreter's own limit is far below.
const INSPECT_MEMORY: u64 = 1 << 30;
/// Time for what is not training: starting, compiling kernels, evaluating. One more budget is
/// added, for a model that is slow to train is slow to evaluate.
const GRACE: Duration = Duration::from_secs(120);
/// Budgets that a run for a budget may take; it gives itself up earlier (`exec::train`).
const BUDGET_OVERRUN: u32 = 3;
/// Budgets that a run of a fixed number of steps may take: the machine may be that much slower
/// than the one that recorded the number.
const STEPS_OVERRUN: u32 = 4;

/// What a worker process is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Name the device, nothing else.
    Probe(DeviceChoice),
    /// Trace this script and name its tunables, nothing else.
    Inspect(String),
    /// Run an experiment.
    Train(Job),
}

/// One experiment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The train script's text.
    pub script: String,
    pub dataset: DatasetSource,
    pub device: DeviceChoice,
    /// Fixes initial weights, the order of data and dropout.
    pub seed: u64,
    /// Seconds of training, at least 1.
    pub time_budget: u64,
    /// Exactly this many steps instead of as many as fit: to repeat a recorded run.
    pub steps: Option<u64>,
    pub eval: EvalSpec,
    /// Processor threads, see [`threads`].
    pub threads: usize,
    /// Most bytes of main memory.
    pub memory_limit: u64,
}

impl Job {
    /// Wall-clock time after which training gives itself up, when the number of steps is fixed.
    pub fn steps_limit(&self) -> Duration {
        self.budget() * STEPS_OVERRUN
    }

    /// The budget as a duration; a day at most, so that sums of it cannot overflow.
    pub fn budget(&self) -> Duration {
        Duration::from_secs(self.time_budget.clamp(1, 86_400))
    }
}

/// Where a job's data comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DatasetSource {
    /// The generated corpus.
    Builtin,
    /// A file whose bytes must have this id.
    File { path: PathBuf, cid: String },
}

/// Threads for a share of the machine in percent, at least one.
pub fn threads(percent: u32) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores * percent.min(100) as usize / 100).max(1)
}

/// What a worker reports, in this order: `Started`, `Planned`, any number of `Progress`, and
/// `Finished` or, at any point, `Failed`. A probe answers with `Device`
/// alone, an inspection with `Tunables`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The answer to a probe.
    Device(DeviceProfile),
    /// The answer to an inspection.
    Tunables(Vec<Tunable>),
    /// The script is traced, the device open.
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
    /// About four times a second; `loss` in nats for each byte.
    Progress {
        step: u64,
        steps: u64,
        loss: f64,
        elapsed_seconds: f64,
    },
    Finished(Outcome),
    Failed(Failure),
}

/// A finished experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Bits per byte on the held-out bytes.
    pub val_bpb: f64,
    pub num_steps: u64,
    pub num_params: u64,
    /// Mebibytes at the highest: device memory on a GPU, the process's on a CPU; 0 where the
    /// system does not tell.
    pub peak_memory_mb: f64,
    pub train_seconds: f64,
    pub eval_seconds: f64,
    /// `Graph::hash` in lower-case hex: equal for scripts of one meaning.
    pub graph_hash: String,
}

/// Why an experiment has no metric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    pub kind: FailureKind,
    /// One or a few lines for people.
    pub reason: String,
}

/// What kind of failure; the first group is the script's own doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The script is wrong, or asks for more than is allowed.
    Script,
    /// The model reads what it must predict.
    Causality,
    /// Loss or logits are not finite.
    Diverged,
    /// Too slow.
    Deadline,
    /// Too large.
    Memory,
    /// The process died.
    Crashed,
    /// No such device, or it failed.
    Device,
    /// The dataset is missing, another, or too small.
    Data,
    /// The machine's or this program's fault.
    Internal,
    /// The node asked for it.
    Cancelled,
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, reason: impl Into<String>) -> Self {
        let mut reason: String = reason.into();
        if reason.len() > MAX_REASON_BYTES {
            let cut = (0..=MAX_REASON_BYTES).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
            reason.truncate(cut);
            reason.push_str(" ...");
        }
        Self { kind, reason }
    }

    /// True when the experiment itself failed, which is worth a `crash` record; false when this
    /// machine did, about which others need not hear.
    pub fn blames_script(&self) -> bool {
        use FailureKind::{Causality, Crashed, Deadline, Diverged, Memory, Script};
        matches!(self.kind, Script | Causality | Diverged | Deadline | Memory | Crashed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_events_survive_json() {
        let event = Event::Progress { step: 3, steps: 9, loss: 2.5, elapsed_seconds: 0.25 };
        let line = serde_json::to_string(&event).unwrap();
        assert_eq!(line, r#"{"progress":{"step":3,"steps":9,"loss":2.5,"elapsed_seconds":0.25}}"#);
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
        assert_eq!(serde_json::to_string(&Request::Probe(DeviceChoice::Auto)).unwrap(), r#"{"probe":"auto"}"#);
    }

    #[test]
    fn long_reasons_are_cut_at_a_character() {
        let failure = Failure::new(FailureKind::Script, "ä".repeat(5_000));
        assert!(failure.reason.len() <= MAX_REASON_BYTES + 4 && failure.reason.ends_with("ä ..."));
    }

    #[test]
    fn a_share_of_the_machine_is_at_least_one_thread() {
        assert_eq!(threads(0), 1);
        assert!(threads(100) >= threads(50));
    }
}
