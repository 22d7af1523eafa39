//! What the operating system reports of a process: its memory and its processor time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use sysinfo::{Pid, Process, ProcessRefreshKind, ProcessesToUpdate, System};

/// Time between two measurements of a process's memory.
const INTERVAL: Duration = Duration::from_millis(50);

/// Measures the memory of a process again and again, until this is dropped or the process ends.
pub struct MemoryWatch {
    /// The most bytes measured since the last call of [`MemoryWatch::most`].
    most: Arc<AtomicU64>,
}

impl MemoryWatch {
    pub fn start(pid: u32) -> Self {
        let most = Arc::new(AtomicU64::new(0));
        let weak = Arc::downgrade(&most);
        std::thread::spawn(move || {
            let mut system = System::new();
            let refresh = ProcessRefreshKind::nothing().with_memory();
            while let (Some(most), Some(bytes)) = (weak.upgrade(), look(&mut system, pid, refresh).map(Process::memory))
            {
                most.fetch_max(bytes, Relaxed);
                drop(most);
                std::thread::sleep(INTERVAL);
            }
        });
        Self { most }
    }

    /// The most bytes of main memory that the process had since the last call.
    pub fn most(&self) -> u64 {
        self.most.swap(0, Relaxed)
    }
}

/// Seconds of processor time that a process has used, including the time of the operating system on its behalf. None
/// when there is no such process.
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    let milliseconds = look(&mut System::new(), pid, ProcessRefreshKind::nothing().with_cpu())?.accumulated_cpu_time();
    Some(milliseconds as f64 / 1000.0)
}

fn look(system: &mut System, pid: u32, refresh: ProcessRefreshKind) -> Option<&Process> {
    let pid = Pid::from_u32(pid);
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, refresh.without_tasks());
    system.process(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_processor_time_of_this_process_are_found() {
        let pid = std::process::id();
        let watch = MemoryWatch::start(pid);
        // Ends when the first measurement is there. The loop itself uses processor time.
        while watch.most.load(Relaxed) == 0 {
            std::thread::yield_now();
        }
        assert!(watch.most() > 1024 * 1024, "a test binary is larger than a megabyte");
        while cpu_seconds(pid).expect("this process exists") == 0.0 {}
    }

    #[test]
    fn absent_process_has_no_processor_time() {
        assert_eq!(cpu_seconds(u32::MAX / 2), None);
    }
}
