//! Training for a budget of time, or for an exact number of steps.
//!
//! A budget is turned into a number of steps before the real run begins. A few throw-away steps
//! warm up kernels and measure the time of one step. Then everything is reset, and exactly as many
//! steps run as fit, with a schedule over them. The clock decides only the number of steps, so the
//! number in a record is enough to repeat its run.

use std::time::{Duration, Instant};

use super::{ExecError, Executor, multiplier};

/// Steps that compile and tune kernels. They count towards no time limit: on a GPU they can take
/// longer than a short budget.
const WARM_UP_STEPS: usize = 2;
/// Share of the budget that calibration may take.
const CALIBRATION_SHARE: f64 = 0.1;
/// Most calibration steps. More do not measure better.
const CALIBRATION_STEPS: usize = 12;
/// Share of the remaining time that is planned for, so that a run rarely exceeds its budget.
const SAFETY: f64 = 0.95;
/// A run that takes this many budgets is ended: the machine has slowed down since calibration.
const OVERRUN: u32 = 2;
/// Steps between two readings of the loss. This bounds how far the host runs ahead of a GPU.
const SYNC_EVERY: u64 = 8;
/// Least time between two progress reports.
const REPORT_EVERY: Duration = Duration::from_millis(250);

/// How long to train.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    /// As many steps as fit into this time.
    Budget(Duration),
    /// Exactly this many steps, within a time limit.
    Steps { steps: u64, limit: Duration },
}

/// The progress of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainProgress {
    pub step: u64,
    pub steps: u64,
    /// The newest loss that was read, in nats for each byte.
    pub loss: f64,
    pub elapsed: Duration,
}

/// Why training ended without a model.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The script is too slow: the given number of steps took longer than the limit, or not even two
    /// steps fit into the budget.
    #[error("deadline: {steps} of {planned} steps in {seconds:.1} s")]
    Deadline { steps: u64, planned: u64, seconds: f64 },
    /// The run took far longer than the calibration predicted. Not the script's fault.
    #[error("this machine slowed down: {steps} of {planned} steps in {seconds:.1} s")]
    SlowedDown { steps: u64, planned: u64, seconds: f64 },
    #[error("diverged: the training loss is not finite after step {0}")]
    Diverged(u64),
    #[error(transparent)]
    Exec(#[from] ExecError),
}

/// A finished run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trained {
    pub steps: u64,
    /// Seconds with calibration, without the warm-up.
    pub seconds: f64,
}

/// Trains on `train`, beginning with the initial parameters. Calls `planned` with the number of
/// steps when it is known, and `progress` about four times a second.
///
/// # Errors
/// [`TrainError`]. The executor's parameters are meaningless afterwards.
pub fn train(
    executor: &mut Executor,
    train: &[u8],
    length: Length,
    planned: &mut dyn FnMut(u64),
    progress: &mut dyn FnMut(TrainProgress, &Executor),
) -> Result<Trained, TrainError> {
    for _ in 0..WARM_UP_STEPS {
        throw_away_step(executor, train)?;
    }
    let start = Instant::now();
    let (steps, limit) = match length {
        Length::Steps { steps, limit } => (steps, limit),
        Length::Budget(budget) => (calibrate(executor, train, budget)?, budget * OVERRUN),
    };
    executor.reset();
    planned(steps);
    let schedule = executor.graph().schedule.clone();
    let (mut loss, mut reported) = (f64::NAN, start);
    for step in 0..steps {
        let batch = executor.draw(train);
        let step_loss = executor.step(&batch, multiplier(&schedule, step, steps))?;
        let done = step + 1;
        if done % SYNC_EVERY == 0 || done == steps || step == 0 {
            loss = step_loss.read()?;
            if !loss.is_finite() {
                return Err(TrainError::Diverged(done));
            }
        }
        let now = Instant::now();
        if now - start > limit && done < steps {
            return Err(overrun(length, done, steps, (now - start).as_secs_f64()));
        }
        if now - reported >= REPORT_EVERY || done == steps {
            reported = now;
            progress(TrainProgress { step: done, steps, loss, elapsed: now - start }, executor);
        }
    }
    executor.sync()?;
    Ok(Trained { steps, seconds: start.elapsed().as_secs_f64() })
}

fn overrun(length: Length, steps: u64, planned: u64, seconds: f64) -> TrainError {
    match length {
        Length::Budget(_) if planned > 2 => TrainError::SlowedDown { steps, planned, seconds },
        _ => TrainError::Deadline { steps, planned, seconds },
    }
}

/// Measures a few steps and returns how many fit into the rest of the budget.
fn calibrate(executor: &mut Executor, train: &[u8], budget: Duration) -> Result<u64, TrainError> {
    let start = Instant::now();
    let mut times = Vec::with_capacity(CALIBRATION_STEPS);
    while times.len() < CALIBRATION_STEPS && (times.is_empty() || start.elapsed() < budget.mul_f64(CALIBRATION_SHARE)) {
        let begin = Instant::now();
        throw_away_step(executor, train)?;
        times.push(begin.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let median = times.get(times.len() / 2).copied().unwrap_or(f64::INFINITY);
    let left = budget.saturating_sub(start.elapsed()).as_secs_f64();
    Ok(((left * SAFETY / median.max(1e-6)).floor() as u64).max(1))
}

fn throw_away_step(executor: &mut Executor, train: &[u8]) -> Result<(), TrainError> {
    let batch = executor.draw(train);
    executor.step(&batch, 0.0)?.read()?;
    Ok(executor.sync()?)
}
