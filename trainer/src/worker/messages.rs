//! What the node and a worker process say to each other: one [`Request`] line in, [`Event`] lines out.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use spore_protocol::Cid;

use crate::device::{DeviceChoice, DeviceProfile};
use crate::evaluate::EvalSpec;
use crate::lang::Tunable;

/// Most bytes of a request line: a script of the largest size, escaped.
pub(super) const MAX_REQUEST_BYTES: u64 = 8 << 20;
/// Most bytes of an event line; a reason is cut to fit ([`MAX_REASON_BYTES`]).
pub(super) const MAX_EVENT_BYTES: usize = 64 << 10;
/// Most bytes of a failure's reason: it becomes a record's description.
const MAX_REASON_BYTES: usize = 2 << 10;
/// Most bytes of memory for tracing a script: the interpreter's own limit is far below.
pub(super) const INSPECT_MEMORY: u64 = 1 << 30;
/// Time for what is not training: starting, compiling kernels, evaluating. One more budget is
/// added, for a model that is slow to train is slow to evaluate.
pub(super) const GRACE: Duration = Duration::from_secs(120);
/// Budgets that a run for a budget may take; it gives itself up earlier (`exec::train`).
pub(super) const BUDGET_OVERRUN: u32 = 3;
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
    Inspect(Script),
    /// Run an experiment.
    Train(Job),
}

/// A script, by its artifact type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Script {
    /// The text of a train script in Starlark.
    Starlark(String),
}

/// One experiment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    pub script: Script,
    pub dataset: DatasetSource,
    pub device: DeviceChoice,
    /// Fixes initial weights, the order of data and dropout.
    pub seed: u64,
    /// Seconds of training, at least 1.
    pub time_budget: u64,
    /// Exactly this many steps instead of as many as fit: to repeat a recorded run.
    pub steps: Option<u64>,
    pub eval: EvalSpec,
    /// Processor threads, see [`threads`](super::threads).
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
    File { path: PathBuf, cid: Cid },
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
    Finished(RunResult),
    Failed(Failure),
}

/// A finished experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
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
    pub(super) fn new(kind: FailureKind, reason: impl Into<String>) -> Self {
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
}
