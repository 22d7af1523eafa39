//! What a worker can run, by artifact type: one module for each type, behind the two questions
//! that the node asks.
//!
//! To run another artifact type, add a variant to [`Script`] and a module with the same two
//! functions. Each module limits the process in the way that its kind of script needs.

mod starlark;

use super::messages::{Event, Failure, Job, RunResult, Script};
use crate::lang::Tunable;

/// Finds out what a script offers for change.
pub(super) fn inspect(script: &Script) -> Result<Vec<Tunable>, Failure> {
    match script {
        Script::Starlark(text) => starlark::inspect(text),
    }
}

/// Runs the experiment of `job`. `emit` receives every event before the result.
pub(super) fn run(job: &Job, emit: &mut dyn FnMut(&Event)) -> Result<RunResult, Failure> {
    match &job.script {
        Script::Starlark(text) => starlark::run(text, job, emit),
    }
}
