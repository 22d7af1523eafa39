//! Spore's protocol: identities, canonical bytes, the four signed objects and the rules over them.
//!
//! This crate has only plain types and pure functions. Bytes from outside are parsed into a [`Signed`]
//! object. [`Signed::verify`] turns it into a [`Verified`] one, and nothing else does. The store accepts
//! only verified objects. The rules ([`lineage`], [`terms`], [`verdict`], [`trust`], [`frontier`],
//! [`reputation`]) depend on the set of objects and the operator's seeds, never on the order of arrival.
//!
//! Never here: clocks, environment, sockets, disks, threads.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod activity;
pub mod artifact;
pub mod cbor;
pub mod class;
pub mod control;
mod fields;
pub mod finding;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
pub mod frame;
pub mod frontier;
pub mod goal;
pub mod id;
pub mod identity;
pub mod json;
pub mod legacy;
pub mod lineage;
pub mod manifest;
pub mod measurement;
pub mod noise;
pub mod object;
#[doc(hidden)]
pub mod oracle;
pub mod profile;
pub mod record;
pub mod reject;
pub mod repeats;
pub mod reputation;
mod signature;
pub mod signed;
pub mod subject;
pub mod terms;
pub mod topic;
pub mod trust;
pub mod verdict;
pub mod wire;

pub use artifact::ArtifactType;
pub use class::{HardwareClass, ProcessorSteps};
pub use control::{ControlBody, ControlEvent, ControlKind};
pub use finding::{Finding, Reason};
pub use goal::Goal;
pub use id::{Cid, EventId, NodeId, ObjectId, ProfileId, RecordId, TaskId};
pub use identity::Identity;
pub use manifest::TaskManifest;
pub use measurement::Measurement;
pub use object::{SignedObject, VerifiedObject};
pub use profile::NodeProfile;
pub use record::{Record, Status};
pub use reject::Reject;
pub use repeats::Repeats;
pub use signed::{Kind, Object, Signed, Verified};
pub use verdict::Verdict;
