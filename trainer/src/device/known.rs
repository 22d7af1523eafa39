//! A device that a node knows: opened, tried on known answers, and measured.
//!
//! A worker process makes a [`KnownDevice`] ([`probe`]). The node keeps it in a file and gives it
//! back at the next start, so that only a new device, driver or program is tried again, and only a
//! long time or another number of threads makes a new measurement. The name of a processor carries
//! its measured steps ([`processor_model`]); from there they reach the hardware class.

use std::time::{SystemTime, UNIX_EPOCH};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use spore_protocol::{HardwareClass, ProcessorSteps};

use super::answers::{AnswerError, Answers, try_device};
use super::speed::{Measured, Speed, SpeedError, measure_gpu, measure_processor};
use super::{Backend, DeviceChoice, DeviceProfile, NoAdapter, resolve};

/// Version of the known answers and of the measurement. Another one makes every node try and measure
/// its device again. The program's version counts too, because its kernels may be others.
const TRIAL: u32 = 1;
/// Seconds after which a device is measured again: a processor may be throttled or freed of it.
const MEASURE_AGAIN: u64 = 30 * 24 * 3600;
/// Distance from the kept step, in steps, up to which a new measurement changes nothing. A step
/// reaches half a step to both sides, so a machine at an edge stays where it is.
const HYSTERESIS: f64 = 0.75;
/// The largest step. Speeds beyond it are of one class.
const LARGEST_STEP: f64 = (1 << 20) as f64;
/// Share of a GPU's first measured speed that counts as its full speed. A processor has steps.
const FULL_SPEED: f64 = 0.8;
/// Most devices that a node keeps: one processor and the adapters that come and go.
const MOST_KEPT: usize = 8;
/// Most characters of a processor's name in a `gpu_model`.
const MAX_PROCESSOR_NAME: usize = 48;

/// A device, with what a worker found out about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KnownDevice {
    pub profile: DeviceProfile,
    /// Versions of the program and of the trial.
    pub version: String,
    /// Threads that the processor was measured with.
    pub threads: usize,
    /// The steps in the profile's name, of a processor.
    pub steps: Option<ProcessorSteps>,
    /// The known answers that it gave.
    pub answers: Answers,
    /// Unix seconds of the measurement.
    pub measured: u64,
}

/// The contents of a node's file of devices.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptDevices {
    /// The `gpu_model` of this machine's processor, such as `CPU 16x32 (test)`. It replaces the
    /// measurement where several processes or machines must be of one class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixed: Option<String>,
    /// Newest last, one for each device.
    pub devices: Vec<KnownDevice>,
}

impl KeptDevices {
    /// Adds a device in place of what was known of it. True when that changes anything.
    pub fn keep(&mut self, device: &KnownDevice) -> bool {
        if self.fixed.as_ref() == Some(&device.profile.gpu_model) || self.devices.contains(device) {
            return false;
        }
        self.devices.retain(|known| !known.profile.is(&device.profile));
        self.devices.push(device.clone());
        let excess = self.devices.len().saturating_sub(MOST_KEPT);
        self.devices.drain(..excess);
        true
    }

    /// What is known of the device of a profile.
    fn of(&self, profile: &DeviceProfile) -> Option<&KnownDevice> {
        self.devices.iter().rev().find(|known| known.profile.is(profile))
    }
}

/// What a probe needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeJob {
    pub device: DeviceChoice,
    /// Processor threads that training may use, see [`threads`](crate::worker::threads).
    pub threads: usize,
    pub kept: KeptDevices,
}

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error(transparent)]
    NoAdapter(#[from] NoAdapter),
    /// It gives wrong answers, or fails.
    #[error("{adapter} ({driver}) cannot be used: {error}", adapter = .profile.adapter, driver = .profile.driver)]
    Answers { profile: Box<DeviceProfile>, error: AnswerError },
    #[error(transparent)]
    Speed(#[from] SpeedError),
}

/// Opens, tries and measures the device of a job, as far as that is not known already.
///
/// # Errors
/// [`ProbeError`]: there is no such device, or it must not train.
pub fn probe(job: &ProbeJob) -> Result<KnownDevice, ProbeError> {
    let (device, profile) = resolve(job.device)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    find_out(job, &device, profile, now)
}

fn find_out(job: &ProbeJob, device: &Device, profile: DeviceProfile, now: u64) -> Result<KnownDevice, ProbeError> {
    let version = format!("{} {TRIAL}", env!("CARGO_PKG_VERSION"));
    let kept = job.kept.of(&profile);
    let tried = kept.filter(|kept| kept.version == version && kept.profile.driver == profile.driver);
    let fixed = job.kept.fixed.as_ref().filter(|_| profile.backend == Backend::Flex);
    let fresh = tried.filter(|kept| kept.threads == job.threads && now.saturating_sub(kept.measured) < MEASURE_AGAIN);
    if let Some(fresh) = fresh.filter(|_| fixed.is_none()) {
        return Ok(fresh.clone());
    }
    let answers = match tried {
        Some(tried) => tried.answers.clone(),
        None => try_device(device, profile.backend != Backend::Flex)
            .map_err(|error| ProbeError::Answers { profile: Box::new(profile.clone()), error })?,
    };
    let mut known = KnownDevice { profile, version, threads: job.threads, steps: None, answers, measured: now };
    if let Some(fixed) = fixed {
        known.profile.gpu_model.clone_from(fixed);
        known.steps = HardwareClass::of(fixed).processor();
        return Ok(known);
    }
    let able = measure(&known.profile, device, job.threads)?.able;
    known.profile.speed = Some(able);
    if known.profile.runs_on_processor() {
        let before = kept.and_then(|kept| kept.steps.map(|steps| (steps, kept.threads == job.threads)));
        let steps = ProcessorSteps {
            single: step(able.single, before.map(|(steps, _)| steps.single)),
            multi: step(able.multi, before.filter(|(_, same)| *same).map(|(steps, _)| steps.multi)),
        };
        known.profile.gpu_model = match known.profile.backend {
            Backend::Flex => processor_model(steps, &known.profile.adapter),
            Backend::Wgpu => format!("{} CPU {steps}", known.profile.adapter),
        };
        known.steps = Some(steps);
    }
    Ok(known)
}

/// Measures a device: a software adapter is as fast as the processor that it runs on.
///
/// # Errors
/// [`SpeedError`].
pub fn measure(profile: &DeviceProfile, device: &Device, threads: usize) -> Result<Measured, SpeedError> {
    if profile.runs_on_processor() { measure_processor(threads) } else { measure_gpu(device) }
}

/// The speed of a known device at this moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    class: HardwareClass,
    usual: Option<Speed>,
    measured: Measured,
}

impl Calibration {
    pub fn new(device: &DeviceProfile, measured: Measured) -> Self {
        Self { class: HardwareClass::of(&device.gpu_model), usual: device.speed, measured }
    }

    pub fn measured(&self) -> &Measured {
        &self.measured
    }

    /// True when this machine is at least as fast now, beside everything else that runs on it, as a
    /// device of `class` may be: the lower edge of both steps of a processor's class, or four fifths
    /// of this GPU's own usual speed. False for the classes of other devices, which it cannot know.
    pub fn within(&self, class: &HardwareClass) -> bool {
        let now = self.measured.now;
        let both_processors = [&self.class, class].iter().all(|class| class.as_str().starts_with("CPU_"));
        if *class != self.class && !both_processors {
            return false;
        }
        match (class.processor(), self.usual) {
            (Some(steps), _) => now.single >= lower_edge(steps.single) && now.multi >= lower_edge(steps.multi),
            (None, Some(usual)) => now.multi >= usual.multi * FULL_SPEED,
            (None, None) => false,
        }
    }
}

/// The slowest speed whose step this is.
fn lower_edge(step: u32) -> f64 {
    f64::from(step) / std::f64::consts::SQRT_2
}

/// The step of a speed in units: the nearest power of two, at least 1, or `kept` when the speed is
/// within [`HYSTERESIS`] of it.
fn step(speed: f64, kept: Option<u32>) -> u32 {
    let speed = if speed.is_finite() { speed.clamp(1.0, LARGEST_STEP) } else { 1.0 };
    match kept {
        Some(kept) if (speed.log2() - f64::from(kept.max(1)).log2()).abs() <= HYSTERESIS => kept,
        _ => speed.log2().round().exp2() as u32,
    }
}

/// The `gpu_model` of a processor: `CPU 16x32 (AMD Ryzen 7 7700X)`. The name stands in the record for
/// people only. The class is made of the steps.
pub fn processor_model(steps: ProcessorSteps, name: &str) -> String {
    if name.is_empty() { format!("CPU {steps}") } else { format!("CPU {steps} ({name})") }
}

/// The processor's name as its maker writes it, without marks and clock rates; empty where the system
/// does not report it.
pub(super) fn processor_name() -> String {
    let mut system = sysinfo::System::new();
    system.refresh_cpu_list(sysinfo::CpuRefreshKind::nothing());
    system.cpus().first().map(|cpu| tidy(cpu.brand())).unwrap_or_default()
}

fn tidy(brand: &str) -> String {
    let brand: String = brand.chars().take(4 * MAX_PROCESSOR_NAME).collect();
    let brand = brand.replace("(R)", "").replace("(TM)", "").replace("(tm)", "");
    let brand = brand.split('@').next().unwrap_or_default();
    let plain = |c: char| if c.is_ascii_graphic() && !"()".contains(c) { c } else { ' ' };
    let text: String = brand.chars().map(plain).collect();
    // The reference takes any name with `Apple` in it for a GPU of Apple's.
    let words = text.split(' ').filter(|word| !["", "CPU", "Apple"].contains(word));
    let name = words.collect::<Vec<_>>().join(" ");
    name.chars().take(MAX_PROCESSOR_NAME).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABLE: Speed = Speed { single: 17.0, multi: 30.0 };

    fn steps(single: u32, multi: u32) -> ProcessorSteps {
        ProcessorSteps { single, multi }
    }

    fn job(kept: KeptDevices) -> ProbeJob {
        ProbeJob { device: DeviceChoice::Flex, threads: 2, kept }
    }

    fn found(job: &ProbeJob, now: u64) -> KnownDevice {
        let (device, profile) = resolve(DeviceChoice::Flex).unwrap();
        find_out(job, &device, profile, now).unwrap()
    }

    #[test]
    fn step_is_the_nearest_power_of_two_and_stays_near_it() {
        for (speed, expected) in [
            (0.0, 1),
            (1.3, 1),
            (1.5, 2),
            (22.0, 16),
            (23.0, 32),
            (45.0, 32),
            (f64::NAN, 1),
            (f64::INFINITY, 1),
            (1e300, 1 << 20),
        ] {
            assert_eq!(step(speed, None), expected, "{speed}");
        }
        for (speed, kept, expected) in [(20.0, 32, 32), (19.0, 32, 16), (26.0, 16, 16), (27.0, 16, 32), (5.0, 0, 4)] {
            assert_eq!(step(speed, Some(kept)), expected, "{speed} from {kept}");
        }
    }

    #[test]
    fn kept_device_is_neither_tried_nor_measured_again() {
        let first = found(&job(KeptDevices::default()), 1000);
        assert_eq!((first.answers.steps, first.threads, first.measured), (0, 2, 1000));
        let steps = first.steps.unwrap();
        assert!(first.profile.gpu_model.starts_with(&format!("CPU {steps}")), "{first:?}");
        assert_eq!(HardwareClass::of(&first.profile.gpu_model).processor(), Some(steps));

        let mut kept = KeptDevices::default();
        assert!(kept.keep(&first) && !kept.keep(&first));
        assert_eq!(found(&job(kept.clone()), 2000), first);
        let later = found(&job(kept.clone()), 1000 + MEASURE_AGAIN);
        assert_eq!(later.measured, 1000 + MEASURE_AGAIN);
        let other_threads = found(&ProbeJob { threads: 1, ..job(kept.clone()) }, 2000);
        assert_eq!((other_threads.threads, other_threads.measured), (1, 2000));
        kept.devices[0].profile.driver = "older".into();
        assert_eq!(found(&job(kept), 2000).measured, 2000);
    }

    #[test]
    fn fixed_name_replaces_the_measurement() {
        let kept = KeptDevices { fixed: Some("CPU 4x8 (test)".into()), devices: Vec::new() };
        let known = found(&job(kept.clone()), 5);
        assert_eq!((known.profile.gpu_model.as_str(), known.steps), ("CPU 4x8 (test)", Some(steps(4, 8))));
        assert_eq!(known.profile.speed, None);
        let mut after = kept.clone();
        assert!(!after.keep(&known));
        assert_eq!(after, kept);
        assert_eq!(serde_json::from_str::<KeptDevices>(r#"{"fixed": "CPU 4x8 (test)"}"#).unwrap(), kept);
    }

    #[test]
    fn list_of_kept_devices_is_bounded_and_has_each_once() {
        let known = found(&job(KeptDevices { fixed: Some("CPU 1x1".into()), devices: Vec::new() }), 5);
        let mut kept = KeptDevices::default();
        for number in 0..20 {
            let mut other = known.clone();
            other.profile.adapter = format!("adapter {}", number % 10);
            other.measured = number;
            assert!(kept.keep(&other));
        }
        let measured: Vec<_> = kept.devices.iter().map(|known| known.measured).collect();
        assert_eq!(measured, (12..20).collect::<Vec<_>>());
    }

    #[test]
    fn calibration_is_within_a_class_that_is_no_faster() {
        let calibration = |model: &str, single, multi, usual| {
            let profile =
                DeviceProfile { gpu_model: model.into(), speed: usual, ..resolve(DeviceChoice::Flex).unwrap().1 };
            Calibration::new(&profile, Measured { able: ABLE, now: Speed { single, multi } })
        };
        let own = calibration("CPU 16x32 (x)", 17.0, 30.0, None);
        for (class, within) in [
            ("CPU 16x32", true),
            ("CPU 8x32", true),
            ("CPU 32x32", false),
            ("CPU 16x64", false),
            ("CPU", false),
            ("RTX 4090", false),
        ] {
            assert_eq!(own.within(&HardwareClass::of(class)), within, "{class}");
        }
        let busy = calibration("CPU 16x32 (x)", 17.0, 20.0, None);
        assert!(!busy.within(&HardwareClass::of("CPU 16x32")) && busy.within(&HardwareClass::of("CPU 16x16")));
        let gpu = |multi, usual| calibration("NVIDIA GeForce RTX 4090", multi, multi, usual);
        let card = HardwareClass::of("RTX 4090");
        assert!(gpu(25.0, Some(ABLE)).within(&card));
        assert!(!gpu(23.0, Some(ABLE)).within(&card) && !gpu(25.0, None).within(&card));
        assert!(!gpu(25.0, Some(ABLE)).within(&HardwareClass::of("CPU 1x1")));
    }

    #[test]
    fn name_of_a_processor_is_short_and_plain() {
        for (brand, name) in [
            ("Intel(R) Core(TM) i7-8565U CPU @ 1.80GHz", "Intel Core i7-8565U"),
            ("AMD Ryzen 7 7700X 8-Core Processor            ", "AMD Ryzen 7 7700X 8-Core Processor"),
            ("Apple M2 Max", "M2 Max"),
            ("", ""),
            ("a\u{202e}(b)\nc\u{1b}", "a b c"),
        ] {
            assert_eq!(tidy(brand), name);
        }
        assert!(tidy(&"x".repeat(1 << 20)).len() <= MAX_PROCESSOR_NAME);
        assert_eq!(processor_model(steps(4, 8), ""), "CPU 4x8");
        assert_eq!(processor_model(steps(4, 8), "M2"), "CPU 4x8 (M2)");
    }
}
