//! The trainer of a program that was built without one: it refuses every mode but relay.

use spore_base::mode::Mode;

use super::LabParts;
use crate::{
    data_dir::DataDir,
    runtime::{error::StartError, options::NodeOptions, services::Services},
};

/// No device.
pub struct Trainer;

impl Trainer {
    /// # Errors
    /// [`StartError::NoTrainer`] in every mode that trains.
    pub async fn prepare(options: &NodeOptions, _data: &DataDir) -> Result<Self, StartError> {
        if options.mode == Mode::Relay { Ok(Self) } else { Err(StartError::NoTrainer) }
    }

    pub fn hardware_class(&self) -> Option<String> {
        None
    }

    pub fn device(&self) -> Option<String> {
        None
    }

    pub fn start(self, _parts: LabParts<'_>, _services: &mut Services) {}
}
