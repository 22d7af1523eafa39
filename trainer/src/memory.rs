//! Main memory of the machine, memory and processor time of a process. No other file asks the operating system.
//!
//! Every figure is optional, because not every system reports it. On Linux, `sysinfo` raises this
//! process's soft limit of open files to the hard limit when it first reads a process.

mod cgroup;

use std::time::Duration;

use sysinfo::{MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// The unit of `/proc/PID/status`.
const KIB: u64 = 1024;

/// Bytes of main memory that this process may use: of the whole machine, or of the control group, such as a container's,
/// that Linux put it in.
pub fn total() -> Option<u64> {
    let mut system = System::new();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let machine = Some(system.total_memory()).filter(|bytes| *bytes > 0);
    machine.into_iter().chain(cgroup::limit()).min()
}

/// Reads the memory of one process, any number of times.
#[derive(Debug)]
pub struct ProcessMemory {
    system: System,
    process: Pid,
}

impl ProcessMemory {
    /// The process with this id.
    pub fn of(process: u32) -> Self {
        Self { system: System::new(), process: Pid::from_u32(process) }
    }

    /// The process that calls this.
    pub fn of_this_process() -> Self {
        Self::of(std::process::id())
    }

    /// Bytes that are resident now. None when the process has ended.
    pub fn resident(&mut self) -> Option<u64> {
        let wanted = [self.process];
        let what = ProcessRefreshKind::nothing().with_memory().without_tasks();
        self.system.refresh_processes_specifics(ProcessesToUpdate::Some(&wanted), true, what);
        self.system.process(self.process).map(sysinfo::Process::memory)
    }
}

/// Bytes of addresses that this process may write to and does not use yet: reserved by its allocator and by the stacks
/// of its threads. Zero where the system does not report it.
pub fn reserved() -> u64 {
    std::fs::read_to_string("/proc/self/status").map_or(0, |status| unused_addresses(&status))
}

/// The difference of `VmData` (writable addresses) and `RssAnon` (those in use) in Linux's `/proc/PID/status`.
fn unused_addresses(status: &str) -> u64 {
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(KIB)
    };
    bytes("VmData:").zip(bytes("RssAnon:")).map_or(0, |(writable, used)| writable.saturating_sub(used))
}

/// Processor time that this process has used, in all threads. Zero where the system does not report it.
pub fn processor_time() -> Duration {
    let mut system = System::new();
    let this = Pid::from_u32(std::process::id());
    let what = ProcessRefreshKind::nothing().with_cpu().without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[this]), true, what);
    Duration::from_millis(system.process(this).map_or(0, sysinfo::Process::accumulated_cpu_time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_follows_an_allocation_and_fits_the_machine() {
        let mut memory = ProcessMemory::of_this_process();
        let before = memory.resident().unwrap();
        let block = std::hint::black_box(vec![1_u8; 64 << 20]);
        let after = memory.resident().unwrap();
        drop(block);
        assert!(before > 0 && after > before + (32 << 20), "{before} {after}");
        assert!(total().unwrap() > after);
    }

    #[test]
    fn addresses_that_are_writable_and_unused_are_counted() {
        let status = "Name:\tspore\nVmData:\t 1048576 kB\nRssAnon:\t     576 kB\n";
        assert_eq!(unused_addresses(status), 1_048_000 * 1024);
        for unknown in ["", "VmData:\t 8 kB\n", "VmData:\t8 kB\nRssAnon:\t9 kB\n", "VmData: x\nRssAnon: 1 kB"] {
            assert_eq!(unused_addresses(unknown), 0, "{unknown:?}");
        }
    }

    #[test]
    fn process_that_does_not_exist_has_no_memory() {
        assert_eq!(ProcessMemory::of(u32::MAX - 1).resident(), None);
    }
}
