//! The device of an experiment: a GPU through wgpu, or the CPU through burn's `flex` backend.
//!
//! [`resolve`] opens graphics drivers, so only worker processes call it. The node asks a worker
//! ([`Supervisor::probe`](crate::worker::Supervisor::probe)), which also tries the device on known
//! answers ([`answers`]) and measures it ([`speed`]), and keeps the answer ([`known`]). The device's
//! name becomes a record's `gpu_model`, from which the protocol derives the hardware class.

pub mod answers;
pub mod known;
pub mod speed;

use std::fmt;
use std::str::FromStr;

use burn::tensor::{Device, DeviceKind};
use serde::{Deserialize, Serialize};
use wgpu::DeviceType;

use self::speed::Speed;

/// The `gpu_model` of a processor whose speed is not known.
pub const CPU_MODEL: &str = "CPU";

/// The device that the user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// A hardware adapter if there is one, else the CPU.
    #[default]
    Auto,
    /// wgpu on the best adapter, even if it is a software one.
    Wgpu,
    /// The CPU.
    Flex,
}

impl From<Backend> for DeviceChoice {
    /// The choice that opens this backend and no other, so that experiments run on the device that
    /// was probed.
    fn from(backend: Backend) -> Self {
        match backend {
            Backend::Wgpu => Self::Wgpu,
            Backend::Flex => Self::Flex,
        }
    }
}

/// The text names no device.
#[derive(Debug, thiserror::Error)]
#[error("unknown device {0:?}: use auto, wgpu or flex")]
pub struct UnknownDevice(String);

impl FromStr for DeviceChoice {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        match text {
            "auto" => Ok(Self::Auto),
            "wgpu" => Ok(Self::Wgpu),
            "flex" => Ok(Self::Flex),
            _ => Err(UnknownDevice(text.to_owned())),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Wgpu => "wgpu",
            Self::Flex => "flex",
        })
    }
}

/// The backend that runs the tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    Wgpu,
    Flex,
}

/// The description of an opened device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceProfile {
    pub backend: Backend,
    /// The name of the adapter, or of the processor on flex. With `backend`, it tells devices apart.
    pub adapter: String,
    /// The name in records. That of the adapter, but a processor's says how fast it is, which
    /// [`resolve`] does not know: it leaves [`CPU_MODEL`].
    pub gpu_model: String,
    /// Graphics API and driver, such as `Vulkan, NVIDIA 580.82`; empty on flex.
    pub driver: String,
    /// The adapter is a program that runs on the processor.
    #[serde(default)]
    pub software: bool,
    /// What the device can do when nothing else runs. None until it is measured.
    #[serde(default)]
    pub speed: Option<Speed>,
}

impl DeviceProfile {
    /// True for two views of one device. A new driver or a new measurement makes no other device.
    pub fn is(&self, other: &Self) -> bool {
        self.backend == other.backend && self.adapter == other.adapter
    }

    /// True when the processor computes, through flex or through a software adapter.
    pub fn runs_on_processor(&self) -> bool {
        self.software || self.backend == Backend::Flex
    }
}

/// There is no adapter for [`DeviceChoice::Wgpu`].
#[derive(Debug, thiserror::Error)]
#[error("no graphics adapter found; install a Vulkan, Metal or DirectX 12 driver, or choose the device flex")]
pub struct NoAdapter;

/// Opens the device of a choice.
///
/// # Errors
/// [`NoAdapter`] for [`DeviceChoice::Wgpu`] without any adapter.
pub fn resolve(choice: DeviceChoice) -> Result<(Device, DeviceProfile), NoAdapter> {
    let flex = || {
        let profile = DeviceProfile {
            backend: Backend::Flex,
            adapter: known::processor_name(),
            gpu_model: CPU_MODEL.to_owned(),
            driver: String::new(),
            software: false,
            speed: None,
        };
        (Device::flex(), profile)
    };
    match choice {
        DeviceChoice::Flex => Ok(flex()),
        DeviceChoice::Auto => Ok(best_adapter(false).unwrap_or_else(flex)),
        DeviceChoice::Wgpu => best_adapter(true).ok_or(NoAdapter),
    }
}

/// The best adapter on the best graphics API that has one: discrete before integrated before
/// virtual. A software adapter counts only if `software` allows it.
fn best_adapter(software: bool) -> Option<(Device, DeviceProfile)> {
    // burn takes the first of its APIs with a hardware adapter, else the first with any. This must
    // do the same, because the index below counts the adapters of that one API.
    let apis = [wgpu::Backends::VULKAN, wgpu::Backends::METAL, wgpu::Backends::DX12, wgpu::Backends::GL];
    let found = apis.map(adapters);
    let hardware = |list: &&Vec<wgpu::AdapterInfo>| list.iter().any(|adapter| adapter.device_type != DeviceType::Cpu);
    let adapters = found.iter().find(hardware).or_else(|| found.iter().find(|list| !list.is_empty()))?;
    for wanted in [DeviceType::DiscreteGpu, DeviceType::IntegratedGpu, DeviceType::VirtualGpu, DeviceType::Cpu] {
        let kind = match wanted {
            DeviceType::DiscreteGpu => DeviceKind::DiscreteGpu(0),
            DeviceType::IntegratedGpu => DeviceKind::IntegratedGpu(0),
            DeviceType::VirtualGpu => DeviceKind::VirtualGpu(0),
            DeviceType::Cpu | DeviceType::Other if software => DeviceKind::Cpu,
            DeviceType::Cpu | DeviceType::Other => return None,
        };
        if let Some(adapter) = adapters.iter().find(|adapter| adapter.device_type == wanted) {
            let driver = format!("{}, {} {}", adapter.backend, adapter.driver, adapter.driver_info);
            let profile = DeviceProfile {
                backend: Backend::Wgpu,
                adapter: adapter.name.clone(),
                gpu_model: adapter.name.clone(),
                driver: driver.trim().to_owned(),
                software: matches!(wanted, DeviceType::Cpu | DeviceType::Other),
                speed: None,
            };
            return Some((Device::wgpu(kind), profile));
        }
    }
    None
}

fn adapters(api: wgpu::Backends) -> Vec<wgpu::AdapterInfo> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = api;
    let instance = wgpu::Instance::new(descriptor);
    burn::tensor::read_sync(instance.enumerate_adapters(api)).iter().map(wgpu::Adapter::get_info).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_round_trip_through_text() {
        for choice in [DeviceChoice::Auto, DeviceChoice::Wgpu, DeviceChoice::Flex] {
            assert_eq!(choice.to_string().parse::<DeviceChoice>().unwrap(), choice);
        }
        assert!("cuda".parse::<DeviceChoice>().is_err());
    }

    #[test]
    fn flex_is_the_cpu() {
        let (_, profile) = resolve(DeviceChoice::Flex).unwrap();
        assert_eq!((profile.backend, profile.gpu_model.as_str()), (Backend::Flex, "CPU"));
    }
}
