//! Threads that work side by side, each on a job of its own.
//!
//! burn's processor kernels split large operations over rayon's current pool. A lane is a pool of
//! one thread: within it, each operation runs where it is called, without a switch of threads, and
//! a sum that rayon would split by chance is added in one order.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::{ThreadPool, ThreadPoolBuilder};

/// The threads of a run. Without any, jobs run on the thread that calls.
pub(super) struct Lanes(Vec<ThreadPool>);

impl Lanes {
    /// No thread.
    pub const NONE: Self = Self(Vec::new());

    /// As many threads as rayon's global pool has, at most `most`. Fewer where the system gives no more.
    pub fn new(most: usize) -> Self {
        let count = rayon::current_num_threads().min(most);
        let lane = |_| ThreadPoolBuilder::new().num_threads(1).build().ok();
        Self((0..count).map_while(lane).collect())
    }

    /// Runs the jobs `0..count`, each once, in any order and on any lane. Returns when all are done.
    pub fn run(&self, count: usize, job: &(dyn Fn(usize) + Sync)) {
        let next = AtomicUsize::new(0);
        let work = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return;
                }
                job(index);
            }
        };
        let used = self.0.get(..count.min(self.0.len())).unwrap_or_default();
        if used.is_empty() { work() } else { on_each(used, &work) }
    }
}

/// Runs `work` once on each pool, all at the same time.
fn on_each(pools: &[ThreadPool], work: &(dyn Fn() + Sync)) {
    if let Some((first, rest)) = pools.split_first() {
        first.in_place_scope(|scope| {
            scope.spawn(|_| work());
            on_each(rest, work);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn jobs_run_once_each_on_any_number_of_lanes() {
        for lanes in [Lanes::NONE, Lanes::new(1), Lanes::new(3)] {
            let done = Mutex::new(vec![0; 100]);
            lanes.run(100, &|index| done.lock().unwrap()[index] += 1);
            assert_eq!(done.into_inner().unwrap(), vec![1; 100]);
        }
    }
}
