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
mod limits;
mod messages;
mod script;
mod supervisor;

pub use child::main;
pub use messages::{DatasetSource, Event, Failure, FailureKind, Job, Request, RunResult, Script};
pub use supervisor::{ENVIRONMENT, Supervisor};

/// Threads for a share of the machine in percent, at least one.
pub fn threads(percent: u32) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores * percent.min(100) as usize / 100).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_machine_is_at_least_one_thread() {
        assert_eq!(threads(0), 1);
        assert!(threads(100) >= threads(50));
    }
}
