//! What the system knows of a process, from `/proc`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Between two looks at a process's memory.
const INTERVAL: Duration = Duration::from_millis(50);

/// Watches how much memory a process has, until it is dropped or the process is gone.
pub struct Memory {
    /// The most bytes seen since this was last asked.
    most: Arc<AtomicU64>,
}

impl Memory {
    pub fn watch(pid: u32) -> Self {
        let most = Arc::new(AtomicU64::new(0));
        let seen = Arc::downgrade(&most);
        std::thread::spawn(move || {
            while let (Some(most), Some(now)) = (seen.upgrade(), resident(pid)) {
                most.fetch_max(now, Relaxed);
                drop(most);
                std::thread::sleep(INTERVAL);
            }
        });
        Self { most }
    }

    /// The most bytes that it had since this was last asked.
    pub fn most(&self) -> u64 {
        self.most.swap(0, Relaxed)
    }
}

/// Bytes of memory that a process has in RAM now; none when it is gone.
pub fn resident(pid: u32) -> Option<u64> {
    status(pid, "VmRSS:")
}

/// The most that it ever had.
pub fn peak_resident(pid: u32) -> Option<u64> {
    status(pid, "VmHWM:")
}

/// Seconds of processor time that it has used, in itself and for it in the system.
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, a name in parentheses, may hold blanks; user and system time are the 14th
    // and the 15th, in ticks, of which Linux has a hundred a second.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(ticks as f64 / 100.0)
}

fn status(pid: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
