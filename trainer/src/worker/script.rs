//! Running a script by its artifact type: one module for each type that a worker can run.
//!
//! To run another type, add a variant to [`Script`] and a module with the same two functions. Each
//! module limits the process in the way that its kind of script needs.

mod starlark;

use super::messages::{Failure, Inspection, RunResult, Script, TrainJob, WorkerEvent};

/// The tunables and the identity of a script.
pub(super) fn inspect(script: &Script) -> Result<Inspection, Failure> {
    match script {
        Script::Starlark(text) => self::starlark::inspect(text),
    }
}

/// Runs the experiment of `job`. `emit` receives every event before the result.
pub(super) fn run(job: &TrainJob, emit: &mut dyn FnMut(&WorkerEvent)) -> Result<RunResult, Failure> {
    match &job.script {
        Script::Starlark(text) => self::starlark::run(text, job, emit),
    }
}
