//! Verification: re-runs records that others published, and signs the measurements.
//!
//! [`policy`] decides, without I/O, which record is worth a re-run, what the runs prove, and who answers a challenge.
//! [`look`] reads from the store what the policy chooses from. [`measure`] re-runs a record and publishes what was
//! found; research uses it too. [`service`] puts them together. Never here: the verdict itself, which
//! `protocol::verdict` computes out of all measurements.

#[cfg(feature = "trainer")]
mod look;
#[cfg(feature = "trainer")]
pub(crate) mod measure;
pub mod policy;
#[cfg(feature = "trainer")]
mod service;

#[cfg(feature = "trainer")]
pub use service::{default_rate, run};
