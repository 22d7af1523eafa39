//! Spore's protocol: identities, canonical bytes, the four signed objects and the rules over them.
//!
//! Everything here is a pure function or a plain type. Bytes from outside become a [`Signed`]
//! object, [`Signed::verify`] makes a [`Verified`] one (nothing else can), and only verified
//! objects reach the store. The rules ([`lineage`], [`frontier`], [`verdict`], [`reputation`])
//! depend on the set of objects alone, never on the order in which they came.
//!
//! Never here: clocks, environment, sockets, disks, threads.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod activity;
pub mod cbor;
pub mod class;
pub mod control;
mod fields;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
pub mod frame;
pub mod frontier;
pub mod id;
pub mod identity;
pub mod json;
pub mod legacy;
pub mod lineage;
pub mod manifest;
pub mod object;
pub mod profile;
pub mod record;
pub mod reject;
pub mod reputation;
pub mod topic;
pub mod verdict;
pub mod wire;

pub use class::HardwareClass;
pub use control::{ControlBody, ControlEvent};
pub use id::{Cid, EventId, NodeId, ObjectId, ProfileId, RecordId, TaskId};
pub use identity::Identity;
pub use manifest::{Goal, TaskManifest};
pub use object::{Kind, Object, Signed, SignedObject, Verified, VerifiedObject};
pub use profile::NodeProfile;
pub use record::{Record, Status};
pub use reject::Reject;
pub use verdict::Verdict;
