//! Research and verification, with the device and the worker processes that they share.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use spore_base::{
    clock::unix_now,
    mode::Mode,
    private_file::{FileError, create_private_dir, read_text, write_private},
};
use spore_lab::{
    engine::{self, Engine, EngineSettings, Works},
    research::{self, llm::Asker},
    verify,
};
use spore_protocol::HardwareClass;
use spore_trainer::{
    device::{
        DeviceChoice, DeviceProfile,
        known::{KeptDevices, KnownDevice, ProbeJob},
    },
    worker::{Supervisor, threads},
};
use tokio::sync::Semaphore;

use super::LabParts;
use crate::{
    data_dir::DataDir,
    runtime::{error::StartError, options::NodeOptions, services::Services},
};

/// The device, ready to train. None in a relay.
pub struct Trainer(Option<ReadyDevice>);

/// A device that gave the known answers, and how its workers are started.
pub struct ReadyDevice {
    pub profile: DeviceProfile,
    pub supervisor: Supervisor,
}

impl Trainer {
    /// Starts a worker process that opens the device. A device that this data directory does not know is tried on
    /// known answers and measured, once.
    ///
    /// # Errors
    /// When the device cannot be used.
    pub async fn prepare(options: &NodeOptions, data: &DataDir) -> Result<Self, StartError> {
        if options.mode == Mode::Relay {
            return Ok(Self(None));
        }
        let (program, environment) = (options.program.clone(), options.environment.clone());
        let ready = open_device(&options.device, options.resource, program, environment, data).await?;
        Ok(Self(Some(ready)))
    }

    /// The hardware class of this node's records.
    pub fn hardware_class(&self) -> Option<String> {
        self.0.as_ref().map(|ready| HardwareClass::of(&ready.profile.gpu_model).to_string())
    }

    /// The name of the device.
    pub fn device(&self) -> Option<String> {
        self.0.as_ref().map(|ready| ready.profile.gpu_model.clone())
    }

    /// Starts the services of the mode.
    pub fn start(self, parts: LabParts<'_>, services: &mut Services) {
        let LabParts { options, live, identity, store, built_in, artifacts, shown, shutdown } = parts;
        let Some(ready) = self.0 else { return };
        let settings = EngineSettings {
            pinned: live.pinned.subscribe(),
            built_in,
            verify_rate: options.verify_rate.unwrap_or(verify::default_rate(options.mode)),
            resource: options.resource.into(),
            // The device that was found, not the one that was asked for: `auto` may find another one later.
            device: ready.profile.backend.into(),
            memory_limit: engine::memory_limit(options.resource.into()),
        };
        let engine = Arc::new(Engine {
            store,
            ingest: live.ingest.clone(),
            artifacts,
            identity,
            device: ready.profile,
            supervisor: ready.supervisor,
            clock: Arc::new(unix_now),
            settings,
            events: live.events.clone(),
            progress: shown.progress,
            research: shown.research,
            permit: Arc::new(Semaphore::new(1)),
            works: Works::default(),
        });
        if options.mode == Mode::Research {
            let asker = options.llm.clone().and_then(|config| {
                tracing::info!(llm = ?config, "a language model proposes");
                let asker = Asker::new(config, shown.llm_health);
                asker.inspect_err(|error| tracing::warn!(%error, "the built-in proposer proposes")).ok()
            });
            services.spawn("research", research::run(engine.clone(), asker, shutdown.clone()));
        }
        services.spawn("verification", verify::run(engine, shutdown.clone()));
    }
}

/// Starts a worker process that opens the device. This process holds the store's lock.
///
/// # Errors
/// When the device cannot be used.
pub async fn open_device(
    device: &str,
    resource: u8,
    program: PathBuf,
    environment: Vec<(OsString, OsString)>,
    data: &DataDir,
) -> Result<ReadyDevice, StartError> {
    let choice: DeviceChoice = device.parse().map_err(|e| StartError::Device(format!("{e}")))?;
    let scratch = data.work();
    create_private_dir(&scratch)?;
    let supervisor = Supervisor::new(program, scratch).with_environment(environment);
    // This process holds the store's lock by now, so no other node uses this directory.
    if let Err(error) = supervisor.clear_scratch() {
        tracing::warn!(%error, "cannot remove the files that earlier workers left");
    }
    let path = data.devices();
    let mut kept = read_kept(&path)?;
    if kept == KeptDevices::default() {
        tracing::info!("the device is tried on known answers; minutes on a software adapter, else seconds");
    }
    let job = ProbeJob { device: choice, threads: threads(resource.into()), kept: kept.clone() };
    let probing = supervisor.clone();
    let never = AtomicBool::new(false);
    let probed = tokio::task::spawn_blocking(move || probing.probe(job, &never)).await;
    let known = probed.map_err(|e| StartError::Device(e.to_string()))?.map_err(|e| StartError::Device(e.reason))?;
    if kept.keep(&known) {
        report(&known);
        write_kept(&path, &kept)?;
    }
    Ok(ReadyDevice { profile: known.profile, supervisor })
}

/// The devices that this node knows. A file that cannot be read as such counts as empty: the device is tried again.
fn read_kept(path: &Path) -> Result<KeptDevices, FileError> {
    let Some(text) = read_text(path)? else { return Ok(KeptDevices::default()) };
    let kept = serde_json::from_str(&text).unwrap_or_else(|error| {
        tracing::warn!(%error, "device.json is unreadable; the device is tried and measured again");
        KeptDevices::default()
    });
    Ok(with_sound_name(kept))
}

/// Drops a fixed name that is no measured processor's: records would be of a class that says nothing.
fn with_sound_name(mut kept: KeptDevices) -> KeptDevices {
    let sound = |name: &String| HardwareClass::of(name).processor().is_some() && name.starts_with("CPU ");
    if let Some(name) = kept.fixed.take_if(|name| !sound(name)) {
        tracing::warn!(name, "the name in device.json is not like `CPU 16x32`; the processor is measured instead");
    }
    kept
}

fn write_kept(path: &Path, kept: &KeptDevices) -> Result<(), FileError> {
    let text = serde_json::to_string_pretty(kept)
        .map_err(|error| FileError::Corrupt { path: path.to_owned(), reason: error.to_string() })?;
    write_private(path, text.as_bytes())
}

fn report(known: &KnownDevice) {
    let class = HardwareClass::of(&known.profile.gpu_model);
    let answers = &known.answers;
    tracing::info!(
        device = %known.profile.gpu_model,
        %class,
        products = answers.products,
        reductions = answers.reductions,
        steps = answers.steps,
        "the device gave the known answers"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_of_devices_is_read_back_and_an_unreadable_one_counts_as_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device.json");
        assert_eq!(read_kept(&path).unwrap(), KeptDevices::default());
        let fixed = KeptDevices { fixed: Some("CPU 4x8 (test)".into()), devices: Vec::new() };
        write_kept(&path, &fixed).unwrap();
        assert_eq!(read_kept(&path).unwrap(), fixed);
        for (text, name) in [
            ("{", None),
            ("[]", None),
            (r#"{"fixed": "RTX 4090"}"#, None),
            (r#"{"fixed": "CPU"}"#, None),
            (r#"{"fixed": "CPU 4x8", "more": 1}"#, Some("CPU 4x8")),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read_kept(&path).unwrap().fixed.as_deref(), name, "{text}");
        }
    }
}
