//! The bridge: it makes this node a full member of the existing network, over the reference's own TCP protocol.
//!
//! A connection carries length-prefixed JSON frames. There is no handshake, and trust is in the signatures alone.
//! Objects from legacy peers go through the ingest service, like all others. Changes that the store reports go out to
//! every legacy peer that does not have them yet, wherever they came from.
//!
//! | file | holds |
//! |---|---|
//! | `handle` | what the rest of the node uses of the bridge |
//! | `service`, `listen`, `dial` | the task that opens and accepts connections |
//! | `hub` | the state that sessions, service and API share, behind one mutex |
//! | `book`, `book_file` | which peers there are, and when each one is dialled |
//! | `slots` | how many connections there may be |
//! | `link`, `shared` | what the hub and the sessions exchange; what all sessions share |
//! | `session`, `codec` | one connection |
//! | `limits` | every bound and interval |
//!
//! `book`, `slots` and the session's state are pure: times and randomness are passed in. The session itself reads the
//! monotonic clock for its deadlines. Wall-clock time is passed in as a [`spore_base::clock::Clock`].
//!
//! Never here: deciding what is valid (`ingest`, `spore-protocol`), writing objects to the store.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

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
mod shared;
mod slots;

pub use handle::{BridgeHandle, ConnectError};
pub use hub::BridgePeer;
pub use limits::KNOWN;
pub use link::{LinkDirection, SessionStats, SyncPhase};
pub use listen::{ListenError, Listeners};
pub use service::{BridgeConfig, PublicPeer, start};
