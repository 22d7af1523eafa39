//! Training for a budget of time, or for an exact number of steps.
//!
//! A budget is turned into a number of steps before the real run begins. A few throw-away steps
//! warm up kernels and measure the time of one step. Then everything is reset, and exactly as many
//! steps run as fit, with a schedule over them. The clock decides only the number of steps, so the
//! number in a record is enough to repeat its run.
//!
//! A number that was measured while the machine was disturbed is worth nothing: a run that used much less than its
//! budget is repeated with the speed that it had, and one that takes far longer is given up.

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
/// Share of the budget that a run must use, with calibration. One that used less was planned on a machine that was busy
/// with something else then.
const LEAST_USED: f64 = 0.9;
/// Runs for one result. A machine whose speed changes this often cannot be measured now.
const RUNS: u32 = 3;
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
    /// The script is too slow: the given number of steps took longer than the limit, or one measured step took the whole
    /// budget.
    #[error("deadline: {steps} of {planned} steps in {seconds:.1} s")]
    Deadline { steps: u64, planned: u64, seconds: f64 },
    /// The run took far longer than the calibration predicted. Not the script's fault.
    #[error("this machine slowed down: {steps} of {planned} steps in {seconds:.1} s")]
    SlowedDown { steps: u64, planned: u64, seconds: f64 },
    /// Run after run used far less than the budget, each planned with the speed of the one before. Not the script's
    /// fault.
    #[error(
        "this machine's speed keeps changing: {steps} steps took {seconds:.1} s, less than nine tenths of the time budget"
    )]
    Unsteady { steps: u64, seconds: f64 },
    #[error("diverged: the training loss is not finite after step {0}")]
    Diverged(u64),
    #[error(transparent)]
    Exec(#[from] ExecError),
}

/// A finished run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trained {
    pub steps: u64,
    /// Seconds with calibration, without the warm-up. Without the runs that were repeated.
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
    let budget = match length {
        Length::Steps { steps, limit } => {
            return run(executor, train, Plan { steps, limit, length, start }, planned, progress);
        }
        Length::Budget(budget) => budget,
    };
    let limit = budget * OVERRUN;
    let mut plan = Plan { steps: calibrate(executor, train, budget)?, limit, length, start };
    let mut runs = 1;
    loop {
        let begin = Instant::now();
        let trained = run(executor, train, plan, planned, progress)?;
        let Some(steps) = replan(budget, trained, begin.elapsed()) else { return Ok(trained) };
        if runs == RUNS {
            return Err(TrainError::Unsteady { steps: trained.steps, seconds: trained.seconds });
        }
        runs += 1;
        plan = Plan { steps, limit, length, start: Instant::now() };
    }
}

/// What a run is to do. `start` is the beginning of its time, with its calibration.
#[derive(Clone, Copy)]
struct Plan {
    steps: u64,
    limit: Duration,
    length: Length,
    start: Instant,
}

/// The number of steps for another run, when one used too little of its budget: as many as fit at the speed of its
/// steps, which took `time` together. None when it used enough, or when one step more would have been too many.
fn replan(budget: Duration, trained: Trained, time: Duration) -> Option<u64> {
    let step = (time.as_secs_f64() / trained.steps.max(1) as f64).max(1e-6);
    let steps = (budget.as_secs_f64() * SAFETY / step).floor() as u64;
    let short = trained.seconds + step < budget.as_secs_f64() * LEAST_USED;
    (short && steps > trained.steps).then_some(steps)
}

/// One run from the initial parameters.
fn run(
    executor: &mut Executor,
    train: &[u8],
    plan: Plan,
    planned: &mut dyn FnMut(u64),
    progress: &mut dyn FnMut(TrainProgress, &Executor),
) -> Result<Trained, TrainError> {
    let Plan { steps, limit, length, start } = plan;
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
        // The steps fitted into the budget when they were measured.
        Length::Budget(_) => TrainError::SlowedDown { steps, planned, seconds },
        Length::Steps { .. } => TrainError::Deadline { steps, planned, seconds },
    }
}

/// Measures a few steps and returns how many fit into the rest of the budget. [`TrainError::Deadline`] when they leave no
/// rest.
fn calibrate(executor: &mut Executor, train: &[u8], budget: Duration) -> Result<u64, TrainError> {
    let start = Instant::now();
    let mut times = Vec::with_capacity(CALIBRATION_STEPS);
    while times.len() < CALIBRATION_STEPS && (times.is_empty() || start.elapsed() < budget.mul_f64(CALIBRATION_SHARE)) {
        let begin = Instant::now();
        throw_away_step(executor, train)?;
        times.push(begin.elapsed().as_secs_f64());
    }
    if start.elapsed() >= budget {
        let (steps, seconds) = (times.len() as u64, start.elapsed().as_secs_f64());
        return Err(TrainError::Deadline { steps, planned: steps + 1, seconds });
    }
    times.sort_by(f64::total_cmp);
    let mut median = times.get(times.len() / 2).copied().unwrap_or(f64::INFINITY);
    // Training waits for the device after some steps only, which is faster on a GPU.
    if median * SYNC_EVERY as f64 <= budget.as_secs_f64() * CALIBRATION_SHARE {
        median = median.min(time_of_some_steps(executor, train)? / SYNC_EVERY as f64);
    }
    let left = budget.saturating_sub(start.elapsed()).as_secs_f64();
    Ok(((left * SAFETY / median.max(1e-6)).floor() as u64).max(1))
}

/// Seconds of [`SYNC_EVERY`] steps with one wait for the device, as in training.
fn time_of_some_steps(executor: &mut Executor, train: &[u8]) -> Result<f64, TrainError> {
    let begin = Instant::now();
    for _ in 1..SYNC_EVERY {
        let batch = executor.draw(train);
        executor.step(&batch, 0.0)?;
    }
    throw_away_step(executor, train)?;
    Ok(begin.elapsed().as_secs_f64())
}

fn throw_away_step(executor: &mut Executor, train: &[u8]) -> Result<(), TrainError> {
    let batch = executor.draw(train);
    executor.step(&batch, 0.0)?.read()?;
    Ok(executor.sync()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned_again(steps: u64, seconds: f64, time: f64) -> Option<u64> {
        replan(Duration::from_secs(10), Trained { steps, seconds }, Duration::from_secs_f64(time))
    }

    #[test]
    fn run_that_used_less_than_nine_tenths_of_its_budget_is_planned_again_at_its_own_speed() {
        // Planned while the machine was busy: 42 steps in 0.6 s of a budget of 10 s.
        assert_eq!(planned_again(42, 2.3, 0.6), Some(665));
        assert_eq!(planned_again(600, 8.9, 8.0), Some(712));
        assert_eq!(planned_again(600, 9.0, 8.1), None);
        assert_eq!(planned_again(600, 15.0, 14.0), None);
    }

    #[test]
    fn run_of_few_long_steps_is_not_planned_again_when_one_more_would_not_fit() {
        assert_eq!(planned_again(1, 8.0, 4.0), None);
        assert_eq!(planned_again(2, 6.5, 6.4), None);
    }

    #[test]
    fn machine_that_slowed_down_is_told_from_a_script_that_is_too_slow() {
        let budget = Length::Budget(Duration::from_secs(1));
        for planned in [1, 2, 100] {
            assert!(matches!(overrun(budget, 1, planned, 3.0), TrainError::SlowedDown { .. }));
        }
        let steps = Length::Steps { steps: 9, limit: Duration::from_secs(1) };
        assert!(matches!(overrun(steps, 1, 9, 3.0), TrainError::Deadline { .. }));
    }
}
