//! What the node is training at the moment. The terminal and the API display it.
//!
//! Never here: how it is displayed.

use std::time::Duration;

use spore_protocol::{RecordId, TaskId};

/// Why an experiment runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A new experiment of this node's own.
    Research,
    /// A re-run of another node's record.
    Verify,
}

impl Purpose {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Research => "research",
            Self::Verify => "verify",
        }
    }
}

/// The running experiment at one moment. The channel holds `None` while nothing runs.
#[derive(Clone, Debug, PartialEq)]
pub struct RunProgress {
    pub task_id: TaskId,
    pub purpose: Purpose,
    /// The parent of a new experiment, or the record that is re-run. None for a task's root.
    pub record: Option<RecordId>,
    /// Training steps done.
    pub step: u64,
    /// Steps planned; 0 until the speed is measured.
    pub steps: u64,
    /// Training loss in nats for each byte; None before the first report.
    pub loss: Option<f64>,
    /// Time since training began.
    pub elapsed: Duration,
    /// What the experiment tries, for display.
    pub description: String,
}
