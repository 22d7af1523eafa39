//! Verification: re-runs records that others published, and signs the measurements.
//!
//! [`policy`] decides, without I/O, which record is worth a re-run, what two runs prove, and who answers a challenge.
//! [`service`] reads the store, trains and publishes. Never here: the verdict itself, which `protocol::verdict` computes
//! out of all measurements.

pub mod policy;
#[cfg(feature = "trainer")]
mod service;

#[cfg(feature = "trainer")]
pub use service::{default_rate, run};
