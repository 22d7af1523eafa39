//! Hardware classes. Results are comparable only between devices of one class: the time budget is
//! fixed, and a faster device trains on more data.
//!
//! A class follows from the device's name in a record, its `gpu_model`, and from nothing else, so
//! that every node computes the same class ([`names`] has the rules). A processor's name says how
//! fast it is, in steps: `CPU 16x32 (AMD Ryzen 7 7700X)` is of the class `CPU_16X32`.

mod names;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

/// A class of devices, such as `RTX_4090`, `RTX_4090_LAPTOP`, `H100`, `APPLE_M4_MAX` or `CPU_16X32`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HardwareClass(String);

/// The speed that a processor's class names, in units of [docs/hardware.md](../../docs/hardware.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessorSteps {
    /// Of one thread.
    pub single: u32,
    /// Of all threads that train.
    pub multi: u32,
}

impl HardwareClass {
    /// The class of a device's name. Names that the existing network's reference publishes get the
    /// class that the reference gives them. A class's own name is of that class.
    ///
    /// Reads the first 256 characters of a name. The class has at most 64 characters.
    pub fn of(device: &str) -> Self {
        Self(names::class(device))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The steps in the name of a processor's class. None for any other class, and for `CPU`, the
    /// class of records that do not say how fast their processor is.
    pub fn processor(&self) -> Option<ProcessorSteps> {
        names::processor_steps(&self.0)
    }

    /// Largest difference of the metric between two honest runs of one script in this class.
    pub fn tolerance(&self) -> f64 {
        let of_family = |family: &str| self.0 == family || self.0.strip_prefix(family).is_some_and(starts_a_word);
        match self.0.as_str() {
            "H100" | "A100" => 0.0015,
            _ if of_family("RTX_3090") || of_family("RTX_3060") => 0.003,
            _ => 0.002,
        }
    }
}

fn starts_a_word(rest: &str) -> bool {
    rest.starts_with('_')
}

impl fmt::Display for HardwareClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ProcessorSteps {
    /// As in a `gpu_model`: `16x32`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.single, self.multi)
    }
}
