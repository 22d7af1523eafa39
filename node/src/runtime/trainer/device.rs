//! Research and verification, with the device and the worker processes that they share.

use std::sync::Arc;

use spore_base::{clock::unix_now, mode::Mode, private_file::create_private_dir};
use spore_lab::{
    engine::{self, Engine, EngineSettings},
    research, verify,
};
use spore_protocol::HardwareClass;
use spore_trainer::{
    device::{DeviceChoice, DeviceProfile},
    worker::Supervisor,
};
use tokio::sync::Semaphore;

use super::LabParts;
use crate::{
    data_dir::DataDir,
    runtime::{error::StartError, options::NodeOptions, services::Services},
};

/// The device, ready to train. None in a relay.
pub struct Trainer(Option<ReadyDevice>);

struct ReadyDevice {
    profile: DeviceProfile,
    supervisor: Supervisor,
}

impl Trainer {
    /// Starts a worker process that reports the properties of the device.
    ///
    /// # Errors
    /// When the device cannot be used.
    pub async fn prepare(options: &NodeOptions, data: &DataDir) -> Result<Self, StartError> {
        if options.mode == Mode::Relay {
            return Ok(Self(None));
        }
        let choice: DeviceChoice = options.device.parse().map_err(|e| StartError::Device(format!("{e}")))?;
        let scratch = data.work();
        create_private_dir(&scratch)?;
        let supervisor =
            Supervisor::new(options.program.clone(), scratch).with_environment(options.environment.clone());
        // This process holds the store's lock by now, so no other node uses this directory.
        if let Err(error) = supervisor.clear_scratch() {
            tracing::warn!(%error, "cannot remove the files that earlier workers left");
        }
        let probing = supervisor.clone();
        let probed = tokio::task::spawn_blocking(move || probing.probe(choice)).await;
        let profile =
            probed.map_err(|e| StartError::Device(e.to_string()))?.map_err(|e| StartError::Device(e.reason))?;
        Ok(Self(Some(ReadyDevice { profile, supervisor })))
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
        let LabParts { options, live, identity, store, artifacts, progress, shutdown } = parts;
        let Some(ready) = self.0 else { return };
        let settings = EngineSettings {
            pinned: live.pinned.subscribe(),
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
            progress,
            permit: Arc::new(Semaphore::new(1)),
        });
        if options.mode == Mode::Research {
            services.spawn("research", research::run(engine.clone(), options.llm.clone(), shutdown.clone()));
        }
        services.spawn("verification", verify::run(engine, shutdown.clone()));
    }
}
