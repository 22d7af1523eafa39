//! What a worker process takes from itself before it looks at a script.
//!
//! Limits that a system does not have are left out silently: the parent watches time everywhere,
//! and memory where it can.

/// Open files: enough for a graphics driver, too few to hurt.
#[cfg(unix)]
const MAX_FILES: u64 = 256;
/// Added to the niceness: whatever the user does comes first.
#[cfg(unix)]
const NICENESS: i32 = 10;

/// First thing in the process: no core dumps (they would hold the user's data), few open files, a
/// low priority, and on Linux death with the parent.
#[cfg(unix)]
pub(super) fn at_start() {
    use rustix::process::{Resource, nice};
    set(Resource::Core, 0);
    set(Resource::Nofile, MAX_FILES);
    let _ = nice(NICENESS);
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
}

/// Before the script, when it runs on the processor: no file can grow, and `memory` bytes of heap
/// are all there is (an allocation beyond fails, which ends the process). Graphics drivers map
/// far more than they use and write shader caches, so on a GPU only the parent watches.
#[cfg(unix)]
pub(super) fn before_script_on_cpu(memory: u64) {
    use rustix::process::Resource;
    set(Resource::Fsize, 0);
    set(Resource::Data, memory);
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
