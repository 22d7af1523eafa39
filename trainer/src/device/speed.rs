//! How fast a device is: the measurement behind a processor's class, and behind the question
//! whether this machine is as fast now as its class says.
//!
//! The work is what a small model does: matrix products and elementwise steps of a few hundred
//! kilobytes, through the same burn backend as training. Other programs on the machine must not
//! change the class. So the class counts the processor time that each thread got ([`Measured::able`])
//! and leaves the wall clock to [`Measured::now`].

use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor, TensorData, activation};
use serde::{Deserialize, Serialize};

/// One unit of speed: floating-point operations a second in the products of the work, with the time
/// of the elementwise steps between them counted in. One thread of a server of 2023 reaches 40.
const UNIT: f64 = 1.8e9;
/// Floating-point operations in the products of one round.
const ROUND_FLOPS: f64 = 4.0 * 256.0 * 128.0 * 128.0;
/// Rounds between two looks at the clock: 5 to 50 ms on today's processors. Short slices find the
/// moments in which nothing else disturbs: with 64 rounds, the best slice varied by half a step.
const ROUNDS_OF_A_SLICE: u32 = 16;
/// Processor time of one thread for measuring it, alone and again beside the others.
const ENOUGH: f64 = 0.4;
/// Most wall time for measuring one thread, and for measuring all of them: on a busy machine, a thread
/// of low priority gets a tenth of a processor or less.
const PHASE: Duration = Duration::from_secs(3);
/// Least slices of a phase, whatever they take: the first ones of a cold processor are slow.
const LEAST_SLICES: usize = 8;
/// Most slices of a phase. More do not measure better.
const MOST_SLICES: usize = 200;
/// Bytes of a block that is allocated and freed before a processor is measured. After that, glibc keeps
/// smaller blocks for the next allocation. Before, it maps those of 128 KiB and more anew each time, as in
/// a process that has not trained yet, and the same processor is slower by a quarter.
const ALLOCATOR_BLOCK: usize = 24 << 20;
/// Side of the square products that a GPU is measured with: large enough to fill most of them.
const GPU_SIDE: usize = 1024;
/// Products of a GPU between two looks at the clock.
const GPU_PRODUCTS: u32 = 8;

/// A speed, in units of 1.8 GFLOP/s.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// Of one thread, or of a GPU.
    pub single: f64,
    /// Of all threads that train, or of a GPU.
    pub multi: f64,
}

/// Two views of one measurement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// What the device can do when nothing else runs: its best slice by processor time. By wall time
    /// where the system does not report a thread's processor time, and on a GPU.
    pub able: Speed,
    /// What the device did now, by wall time, beside everything else that ran.
    pub now: Speed,
}

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum SpeedError {
    #[error("the device failed while its speed was measured: {0}")]
    Device(String),
    #[error("this machine gave no thread to measure its speed with: {0}")]
    Thread(String),
}

/// Measures the processor with `threads` threads. Takes about a second, up to six on a busy machine.
///
/// # Errors
/// [`SpeedError::Thread`] when a thread cannot be started.
pub fn measure_processor(threads: usize) -> Result<Measured, SpeedError> {
    drop(std::hint::black_box(vec![1_u8; ALLOCATOR_BLOCK]));
    let work = Work::new();
    for _ in 0..ROUNDS_OF_A_SLICE / 4 {
        work.round();
    }
    let alone = work.slices();
    let single = (alone.best(), alone.now());
    if threads <= 1 {
        let speed = |single| Speed { single, multi: single };
        return Ok(Measured { able: speed(single.0), now: speed(single.1) });
    }
    let together = std::thread::scope(|scope| {
        let start = |_| std::thread::Builder::new().spawn_scoped(scope, || Work::new().slices());
        let started: Result<Vec<_>, _> = (0..threads).map(start).collect();
        let started = started.map_err(|error| SpeedError::Thread(error.to_string()))?;
        let end = |thread: std::thread::ScopedJoinHandle<'_, Slices>| {
            thread.join().map_err(|_| SpeedError::Thread("it ended early".into()))
        };
        started.into_iter().map(end).collect::<Result<Vec<_>, _>>()
    })?;
    Ok(Measured {
        // On a busy machine, the one undisturbed slice may be among the later ones.
        able: Speed {
            single: together.iter().map(Slices::best).fold(single.0, f64::max),
            multi: best_together(&together),
        },
        now: Speed { single: single.1, multi: together.iter().map(Slices::now).sum() },
    })
}

/// Measures a GPU by products of square matrices. Takes up to three seconds.
///
/// # Errors
/// [`SpeedError::Device`] when the device fails.
pub fn measure_gpu(device: &Device) -> Result<Measured, SpeedError> {
    let failed = |error: &dyn std::fmt::Display| SpeedError::Device(error.to_string());
    let matrix = matrix(GPU_SIDE, GPU_SIDE, device);
    let slice = || {
        let start = Instant::now();
        for _ in 0..GPU_PRODUCTS {
            std::hint::black_box(matrix.clone().matmul(matrix.clone()));
        }
        device.sync().map_err(|error| failed(&error))?;
        Ok(start.elapsed().as_secs_f64())
    };
    slice()?;
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < LEAST_SLICES || (times.len() < MOST_SLICES && start.elapsed() < PHASE) {
        times.push(slice()?);
    }
    let flops = 2.0 * (GPU_SIDE as f64).powi(3) * f64::from(GPU_PRODUCTS);
    let slices = Slices { flops, times: times.into_iter().map(|wall| Times { processor: wall, wall }).collect() };
    let speed = |single| Speed { single, multi: single };
    Ok(Measured { able: speed(slices.best()), now: speed(slices.now()) })
}

/// The matrices of a processor's rounds. Each thread has its own.
struct Work {
    x: Tensor<2>,
    weights: Tensor<2>,
}

impl Work {
    fn new() -> Self {
        let device = Device::flex();
        Self { x: matrix(256, 128, &device), weights: matrix(128, 128, &device) }
    }

    /// Two layers with a squared activation and a softmax between them. Each product is small enough
    /// that flex runs it on the calling thread, whose clock is read.
    fn round(&self) {
        let hidden = self.x.clone().matmul(self.weights.clone());
        let hidden = activation::softmax(hidden.clone() * hidden, 1);
        std::hint::black_box(hidden.matmul(self.weights.clone()));
    }

    fn slices(&self) -> Slices {
        let (start, mut times, mut total) = (Instant::now(), Vec::with_capacity(MOST_SLICES), 0.0);
        while times.len() < LEAST_SLICES || (times.len() < MOST_SLICES && total < ENOUGH && start.elapsed() < PHASE) {
            let (thread, begin) = (thread_seconds(), Instant::now());
            for _ in 0..ROUNDS_OF_A_SLICE {
                self.round();
            }
            let wall = begin.elapsed().as_secs_f64();
            let used = thread.zip(thread_seconds()).map(|(before, after)| after - before);
            // No thread gets more time than passes. A system that does not count reports nothing or 0.
            let processor = used.filter(|used| *used > wall / 1000.0).map_or(wall, |used| used.min(wall));
            total += processor;
            times.push(Times { processor, wall });
        }
        Slices { flops: ROUND_FLOPS * f64::from(ROUNDS_OF_A_SLICE), times }
    }
}

/// Seconds of one slice.
struct Times {
    processor: f64,
    wall: f64,
}

struct Slices {
    /// Of each slice, in products.
    flops: f64,
    times: Vec<Times>,
}

impl Slices {
    fn best(&self) -> f64 {
        self.speed(self.times.iter().map(|slice| slice.processor).fold(f64::INFINITY, f64::min))
    }

    fn now(&self) -> f64 {
        let total: f64 = self.times.iter().map(|slice| slice.wall).sum();
        self.speed(total / self.times.len().max(1) as f64)
    }

    /// Units for a time of one slice.
    fn speed(&self, seconds: f64) -> f64 {
        self.flops / seconds.max(1e-9) / UNIT
    }
}

/// The largest sum of the threads' speeds in slices of one number, which run at about the same time: threads
/// that share a core or the memory slow each other down, so the best of each alone would be too much.
fn best_together(threads: &[Slices]) -> f64 {
    let of_slice = |number: usize| {
        let speeds = threads.iter().map(|slices| slices.times.get(number).map(|slice| slices.speed(slice.processor)));
        speeds.sum::<Option<f64>>()
    };
    (0..MOST_SLICES).map_while(of_slice).fold(0.0, f64::max)
}

/// Numbers between -0.125 and 0.125, the same each time.
fn matrix(rows: usize, columns: usize, device: &Device) -> Tensor<2> {
    let values = (0..rows * columns).map(|i| ((i * 37 + i / columns * 11) % 251) as f32 / 1000.0 - 0.125);
    Tensor::from_data(TensorData::new(values.collect::<Vec<f32>>(), [rows, columns]), device)
}

/// Seconds that this thread has run on a processor. None where the system does not report it.
fn thread_seconds() -> Option<f64> {
    // Linux counts a thread's time when it stops running, and else at ticks only, up to 4 ms late.
    std::thread::sleep(Duration::from_nanos(1));
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds: u64 = text.split_whitespace().next()?.parse().ok()?;
    Some(nanoseconds as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurement_is_of_positive_speeds_for_any_number_of_threads() {
        for threads in [0, 1, 3] {
            let measured = measure_processor(threads).unwrap();
            for speed in [measured.able, measured.now] {
                assert!(speed.single > 0.0 && speed.multi > 0.0, "{measured:?}");
                assert!(threads > 1 || speed.single == speed.multi, "{measured:?}");
            }
            assert!(measured.now.single <= measured.able.single * 1.001, "{measured:?}");
        }
    }

    #[test]
    fn slices_give_the_best_and_the_whole() {
        let slices = |times: &[(f64, f64)]| Slices {
            flops: UNIT,
            times: times.iter().map(|(processor, wall)| Times { processor: *processor, wall: *wall }).collect(),
        };
        let one = slices(&[(0.5, 1.0), (0.25, 1.0), (1.0, 2.0)]);
        assert_eq!((one.best(), one.now()), (4.0, 0.75));
        let other = slices(&[(0.25, 1.0), (0.5, 1.0)]);
        assert_eq!(best_together(&[one, other]), 6.0, "both slices are of one time");
        assert_eq!(best_together(&[]), 0.0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn time_of_a_thread_grows_while_it_works_only() {
        let before = thread_seconds().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let slept = thread_seconds().unwrap();
        let work = Work::new();
        while thread_seconds().unwrap() - slept < 0.05 {
            work.round();
        }
        assert!(slept - before < 0.05);
    }
}
