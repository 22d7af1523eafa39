//! Runs a worker process: ends it with the node, checks that it uses the right device, and reports its progress.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use spore_base::{
    progress::RunProgress,
    shutdown::{Shutdown, stopped},
};
use spore_trainer::{
    device::DeviceProfile,
    worker::{Failure, FailureKind, RunResult, Supervisor, TrainJob, WorkerEvent},
};
use tokio::sync::watch;

use super::error::EngineError;

/// Runs a worker process from a blocking thread, and ends the process when the node shuts down. A failure of the
/// script becomes [`EngineError::Script`], a worker that something else ended [`EngineError::Killed`], any other
/// failure [`EngineError::Machine`].
pub(super) async fn cancellable<T: Send + 'static>(
    shutdown: &mut Shutdown,
    work: impl FnOnce(&AtomicBool) -> Result<T, Failure> + Send + 'static,
) -> Result<T, EngineError> {
    let cancel = Arc::new(AtomicBool::new(false));
    let cancelled = cancel.clone();
    let mut worker = tokio::task::spawn_blocking(move || work(&cancelled));
    let result = tokio::select! {
        result = &mut worker => result,
        () = stopped(shutdown) => {
            cancel.store(true, Ordering::Relaxed);
            worker.await
        }
    };
    match result {
        Ok(Ok(done)) => Ok(done),
        // A failure during a shutdown says nothing about the script.
        Ok(Err(_)) if *shutdown.borrow() => Err(EngineError::Stopped),
        Ok(Err(failure)) if failure.blames_script() => Err(EngineError::Script(failure)),
        Ok(Err(failure)) if failure.kind == FailureKind::Killed => Err(EngineError::Killed(failure)),
        Ok(Err(failure)) => Err(EngineError::Machine(failure)),
        Err(_) => Err(EngineError::Stopped),
    }
}

/// Seconds that a run has trained so far, as its worker says. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct TrainingTime(Arc<AtomicU64>);

impl TrainingTime {
    pub(super) fn seconds(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    fn note(&self, event: &WorkerEvent) {
        if let WorkerEvent::Progress { elapsed_seconds, .. } = event {
            self.0.store(elapsed_seconds.to_bits(), Ordering::Relaxed);
        }
    }
}

/// What is looked at while a job runs.
pub(super) struct Watch {
    /// The device that the job must run on.
    pub device: DeviceProfile,
    pub progress: watch::Sender<Option<RunProgress>>,
    pub time: TrainingTime,
}

/// Runs a job. The job is ended when it starts on another device than expected, because its result would be signed
/// under the class of that device.
pub(super) fn run_on(
    supervisor: &Supervisor,
    job: &TrainJob,
    watch: &Watch,
    cancel: &AtomicBool,
) -> Result<RunResult, Failure> {
    let mut other = None;
    let result = supervisor.run(job, cancel, |event| {
        if let Some(failure) = device_changed(&watch.device, event) {
            cancel.store(true, Ordering::Relaxed);
            other = Some(failure);
        }
        watch.time.note(event);
        show(&watch.progress, event);
    });
    other.map_or(result, Err)
}

/// The failure of a run that starts on another device than `expected`. A new version of the driver is the same device:
/// results compare by the device's name.
pub(super) fn device_changed(expected: &DeviceProfile, event: &WorkerEvent) -> Option<Failure> {
    let WorkerEvent::Started { device, .. } = event else { return None };
    (!device.is(expected)).then(|| Failure {
        kind: FailureKind::Device,
        reason: format!(
            "the experiment would run on {}, but this node was started on {}: restart it",
            device.adapter, expected.adapter
        ),
    })
}

fn show(progress: &watch::Sender<Option<RunProgress>>, event: &WorkerEvent) {
    progress.send_modify(|shown| {
        let Some(shown) = shown else { return };
        match event {
            WorkerEvent::Planned { steps } => shown.steps = *steps,
            WorkerEvent::Progress { step, steps, loss, elapsed_seconds } => {
                shown.step = *step;
                shown.steps = *steps;
                shown.loss = loss.is_finite().then_some(*loss);
                shown.elapsed = Duration::try_from_secs_f64(*elapsed_seconds).unwrap_or_default();
            }
            _ => {}
        }
    });
}

#[cfg(test)]
mod tests {
    use spore_protocol::TaskId;
    use spore_trainer::device::Backend;

    use super::*;
    use spore_base::progress::Purpose;

    #[test]
    fn progress_follows_the_workers_events() {
        let (sender, shown) = watch::channel(None);
        show(&sender, &WorkerEvent::Planned { steps: 9 });
        assert_eq!(*shown.borrow(), None, "nothing runs");
        let running = RunProgress {
            task_id: TaskId([0; 32]),
            purpose: Purpose::Verify,
            record: None,
            step: 0,
            steps: 0,
            loss: None,
            elapsed: Duration::ZERO,
            description: String::new(),
        };
        sender.send_replace(Some(running));
        show(&sender, &WorkerEvent::Planned { steps: 9 });
        show(&sender, &WorkerEvent::Progress { step: 3, steps: 9, loss: f64::NAN, elapsed_seconds: 1.5 });
        let shown = shown.borrow().clone().unwrap();
        assert_eq!((shown.step, shown.steps, shown.loss, shown.elapsed), (3, 9, None, Duration::from_millis(1500)));
    }

    #[test]
    fn run_on_another_device_fails() {
        let device = |backend, model: &str, driver: &str| DeviceProfile {
            backend,
            adapter: model.into(),
            gpu_model: model.into(),
            driver: driver.into(),
            software: false,
            speed: None,
        };
        let started =
            |device| WorkerEvent::Started { device, num_params: 1, flops_per_step: 1, graph_hash: String::new() };
        let here = device(Backend::Wgpu, "card", "Vulkan 1");
        assert_eq!(device_changed(&here, &started(here.clone())), None);
        assert_eq!(device_changed(&here, &started(device(Backend::Wgpu, "card", "Vulkan 2"))), None);
        let measured = DeviceProfile { gpu_model: "CPU 4x8 (x)".into(), ..device(Backend::Flex, "x", "") };
        assert_eq!(device_changed(&measured, &started(device(Backend::Flex, "x", ""))), None, "not measured again");
        for other in [device(Backend::Flex, "CPU", ""), device(Backend::Wgpu, "llvmpipe", "Vulkan 1")] {
            let failure = device_changed(&here, &started(other)).unwrap();
            assert_eq!(failure.kind, FailureKind::Device);
            assert!(!failure.blames_script(), "{failure}");
        }
        assert_eq!(device_changed(&here, &WorkerEvent::Planned { steps: 1 }), None);
    }
}
