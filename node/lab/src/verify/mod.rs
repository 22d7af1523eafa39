//! Verification: re-run what others published, and sign what came out.
//!
//! [`policy`] decides, without I/O, which record is worth a re-run, what two runs prove, and who
//! answers a challenge; [`service`] reads the store, trains and publishes. A verdict is never
//! decided here: `protocol::verdict` computes it out of everybody's measurements.

pub mod policy;
#[cfg(feature = "trainer")]
mod service;

#[cfg(feature = "trainer")]
pub use service::{default_rate, run};
