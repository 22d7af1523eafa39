//! The limits that a worker process sets for itself before it reads a script.
//!
//! A limit that the operating system does not offer is left out silently: the parent watches the
//! time everywhere, and the memory where the system reports it.

/// Most open files: enough for a graphics driver, too few to exhaust the system's.
#[cfg(unix)]
const MAX_FILES: u64 = 256;
/// Added to the niceness, so that the user's own programs come first.
#[cfg(unix)]
const NICENESS: i32 = 10;

/// Called first in the process: no core dumps (they would hold the user's data), few open files, a
/// low priority. On Linux the kernel also kills the process when its parent ends.
#[cfg(unix)]
pub(super) fn at_start() {
    use rustix::process::{Resource, nice};
    set(Resource::Core, 0);
    set(Resource::Nofile, MAX_FILES);
    let _ = nice(NICENESS);
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
}

/// Called before a script that runs on the processor: no file can grow, and the heap has at most
/// `memory` bytes (an allocation beyond that fails, which ends the process).
///
/// The kernel counts writable addresses, whether they are used or not, and the allocator and the
/// stacks of threads reserve more than they use. So what is reserved and unused by now comes on top.
///
/// Not for a GPU: graphics drivers map far more memory than they use and write shader caches. There
/// the parent alone watches the memory.
#[cfg(unix)]
pub(super) fn before_script_on_cpu(memory: u64) {
    use rustix::process::Resource;
    set(Resource::Fsize, 0);
    set(Resource::Data, memory.saturating_add(crate::memory::reserved()));
}

#[cfg(unix)]
fn set(resource: rustix::process::Resource, limit: u64) {
    use rustix::process::{Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(resource).maximum.map_or(limit, |most| most.min(limit));
    let _ = setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) });
}

#[cfg(not(unix))]
pub(super) fn at_start() {}

#[cfg(not(unix))]
pub(super) fn before_script_on_cpu(_memory: u64) {}
