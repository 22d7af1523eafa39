//! Experiments in a child process of the same binary.
//!
//! The node's [`Supervisor`] starts the process `spore worker` and writes one [`WorkerRequest`] as
//! a JSON line to its standard input. It reads [`WorkerEvent`]s as JSON lines from the standard
//! output until the last event, the deadline, the memory limit or the child's death ends the run.
//!
//! The child ([`main`]) sets its own limits before it reads the script. Then it traces the script,
//! trains, evaluates and reports ([`Script`] says how, by artifact type). It ends when its standard
//! input ends, so it never outlives the node.
//!
//! A script cannot reach the machine: it is Starlark traced to a graph, which cannot name a file, a
//! socket or a clock. Around it, the process has no environment variables but those that graphics
//! drivers need, a working directory of its own, and no core dumps. On the CPU it can write no
//! file and has a hard limit of memory. There is no system-call filter and no namespace yet: a
//! flaw in the tracer or in burn that gave a script control of the process would give it the
//! user's rights.

mod child;
mod limits;
mod messages;
mod script;
mod supervisor;

pub use child::main;
pub use messages::{
    CalibrateJob, DatasetSource, Failure, FailureKind, Inspection, RunResult, Script, TrainJob, WorkerEvent,
    WorkerRequest,
};
pub use supervisor::{ENVIRONMENT, Supervisor};

/// The number of threads for a share of the machine's cores in percent, at least one.
pub fn threads(percent: u32) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores * percent.min(100) as usize / 100).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_of_the_machine_is_at_least_one_thread() {
        assert_eq!(threads(0), 1);
        assert!(threads(100) >= threads(50));
    }
}
