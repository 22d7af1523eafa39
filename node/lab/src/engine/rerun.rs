//! Re-runs of recorded runs, and whether their steps fit into the task's time budget.
//!
//! Never here: what a re-run proves (`crate::verify`).

use spore_base::shutdown::Shutdown;
use spore_protocol::HardwareClass;
use spore_trainer::{
    device::{known::Calibration, speed::Speed},
    worker::{Failure, RunResult, threads},
};
use tracing::info;

use super::{Engine, EngineError, Order, worker::TrainingTime, worker::cancellable};

/// Time budgets of training that the recorded steps may take on the slowest device of the publisher's speed. The
/// measure of a speed and the pace of a run differ by less than half.
const BUDGETS_ALLOWED: f64 = 1.5;

/// What a re-run brought.
#[derive(Clone, Debug, PartialEq)]
pub struct Rerun {
    /// The run's result, or the script's own failure.
    pub result: Result<RunResult, Failure>,
    pub pace: Pace,
}

/// What a re-run says about the time that its steps take on the devices of this node's class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Some device of the class may do the steps within the budget.
    Possible,
    /// No device of the class does, by this run and a measurement of this device right after it.
    OverBudget,
    /// The run was slow, and the measurement of this kind of device cannot tell why: that of a GPU does not contain the
    /// launches of kernels, which take most of the time of small steps and depend on the processor and the driver.
    Unknown,
}

impl Engine {
    /// Waits for the device and runs a recorded run again. After a slow run the device is measured at once, before
    /// anything else runs on it.
    ///
    /// # Errors
    /// A failure of this machine, or a shutdown.
    pub async fn rerun(&self, order: Order<'_>, shutdown: &mut Shutdown) -> Result<Rerun, EngineError> {
        let _permit = self.device_permit(shutdown).await?;
        let time = TrainingTime::default();
        let result = match self.run(&order, &time, shutdown).await {
            Ok(result) => Ok(result),
            // Whatever ended the worker: the run proves nothing, and other records may run well.
            Err(EngineError::Script(failure) | EngineError::Killed(failure)) => Err(failure),
            Err(error) => return Err(error),
        };
        let seconds = result.as_ref().map_or(time.seconds(), |result| result.train_seconds);
        let budget = order.terms.manifest.time_budget as f64;
        let mut pace = Pace::Possible;
        if seconds > budget * BUDGETS_ALLOWED {
            pace = match self.calibrate(shutdown).await {
                Ok(measured) => pace_of(seconds, budget, &self.class(), &measured),
                Err(EngineError::Stopped) => return Err(EngineError::Stopped),
                // The run itself is none the worse.
                Err(error) => {
                    info!(%error, "the device could not be measured after a slow re-run");
                    Pace::Possible
                }
            };
        }
        Ok(Rerun { result, pace })
    }

    async fn calibrate(&self, shutdown: &mut Shutdown) -> Result<Calibration, EngineError> {
        let (supervisor, device, threads) =
            (self.supervisor.clone(), self.device.clone(), threads(self.settings.resource));
        cancellable(shutdown, move |cancel| supervisor.calibrate(&device, threads, cancel)).await
    }
}

/// Only a processor's class has a measurement that supports a signed reason.
fn pace_of(seconds: f64, budget: f64, class: &HardwareClass, measured: &Calibration) -> Pace {
    match (is_over(seconds, budget, class, measured), class.processor()) {
        (false, _) => Pace::Possible,
        (true, Some(_)) => Pace::OverBudget,
        (true, None) => Pace::Unknown,
    }
}

/// Whether training for `seconds` shows that no device of the class does the steps in `budget` seconds. Never when
/// this device is slower now than its class may be.
fn is_over(seconds: f64, budget: f64, class: &HardwareClass, measured: &Calibration) -> bool {
    measured.within(class) && seconds > budget * BUDGETS_ALLOWED * handicap(class, measured.measured().now)
}

/// How much faster than a device of speed `now` the fastest one of the class may be, at least 1. A processor's class
/// spans a factor of two. A GPU's class is one model.
fn handicap(class: &HardwareClass, now: Speed) -> f64 {
    let Some(steps) = class.processor() else { return 1.0 };
    let fastest = |step: u32| f64::from(step) * std::f64::consts::SQRT_2;
    let (single, multi) = (fastest(steps.single) / now.single, fastest(steps.multi) / now.multi);
    single.max(multi).max(1.0)
}

#[cfg(test)]
mod tests {
    use spore_trainer::device::{Backend, DeviceProfile, speed::Measured};

    use super::*;

    fn calibration(model: &str, single: f64, multi: f64) -> Calibration {
        let now = Speed { single, multi };
        let profile = DeviceProfile {
            backend: Backend::Flex,
            adapter: "x".into(),
            gpu_model: model.into(),
            driver: String::new(),
            software: false,
            speed: Some(Speed { single: 30.0, multi: 30.0 }),
        };
        Calibration::new(&profile, Measured { able: now, now })
    }

    #[test]
    fn steps_are_over_budget_only_if_the_fastest_of_the_class_could_not_do_them() {
        let class = HardwareClass::of("CPU 16x32");
        let over = |seconds, single, multi| is_over(seconds, 20.0, &class, &calibration("CPU 16x32", single, multi));
        // The middle of the class: the fastest is 1.41 times as fast.
        assert!(!over(42.0, 16.0, 32.0) && over(42.5, 16.0, 32.0));
        // The slow edge: an honest record of the fast edge takes two budgets here.
        assert!(!over(59.0, 11.4, 22.7) && over(60.0, 11.4, 22.7));
        assert!(!over(1000.0, 16.0, 15.0), "busy with other things");
        assert!(over(31.0, 40.0, 80.0) && !over(29.0, 40.0, 80.0), "faster than the class");
    }

    #[test]
    fn slow_run_is_over_budget_only_in_a_class_of_processors() {
        let (gpu, cpu) = ("NVIDIA GeForce RTX 4090", "CPU 16x32");
        let pace = |model, seconds, single, multi| {
            pace_of(seconds, 20.0, &HardwareClass::of(model), &calibration(model, single, multi))
        };
        assert_eq!((pace(gpu, 30.0, 30.0, 30.0), pace(gpu, 30.1, 30.0, 30.0)), (Pace::Possible, Pace::Unknown));
        assert_eq!(pace(gpu, 100.0, 20.0, 20.0), Pace::Possible, "slower than it was");
        assert_eq!((pace(cpu, 42.0, 16.0, 32.0), pace(cpu, 42.5, 16.0, 32.0)), (Pace::Possible, Pace::OverBudget));
    }
}
