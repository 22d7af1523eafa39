//! The bridge: a full member of the existing network, over the reference's own TCP protocol.
//!
//! A connection carries length-prefixed JSON frames; there is no handshake, and trust is in the
//! signatures alone. What comes in takes the one door (`ingest`), like everything else; what the store
//! reports as changed goes out to every legacy peer that does not have it yet, wherever it came from.
//!
//! | file | holds |
//! |---|---|
//! | `handle` | the border to the rest of the node |
//! | `service`, `listen`, `dial` | the task that opens and accepts connections |
//! | `hub` | what sessions, service and API share, behind one mutex |
//! | `book`, `book_file` | which peers there are and when each is dialled |
//! | `bans`, `slots` | penalties and bans by address; how many connections there may be |
//! | `link` | the border between hub and sessions |
//! | `session`, `codec` | one connection |
//! | `limits` | every bound and interval |
//!
//! `book`, `bans`, `slots` and the session's state are pure: times and randomness are passed in.
//!
//! Never here: deciding what is valid (`ingest`, `spore-protocol`), writing objects to the store.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod bans;
mod book;
pub mod book_file;
mod codec;
mod dial;
mod handle;
mod hub;
mod limits;
mod link;
mod listen;
mod service;
mod session;
mod slots;

pub use handle::{BridgeHandle, ConnectError};
pub use hub::BridgePeer;
pub use limits::KNOWN;
pub use link::{Direction, SessionState, SessionStats};
pub use listen::{ListenError, Listeners};
pub use service::{BridgeConfig, PublicPeer, start};
