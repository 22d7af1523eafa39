//! The libp2p side of the node: transports, discovery, gossip, catch-up and artifacts.
//!
//! Objects arrive by gossip, by catch-up or by id. They are decoded and go to `ingest`, and what `ingest` decides about
//! a gossip message decides whether gossipsub forwards it and what its sender pays. New objects of this node are
//! published.
//!
//! One task holds the swarm (`service`). All decisions are in state machines without I/O (`state`): the task turns what
//! happens into their events and carries out their effects. Whatever reads the store or computes runs beside the task
//! (`jobs`).
//!
//! ```text
//! handle, swarm, store  -> service -> state            events in, effects out
//!                          service -> jobs -> reconcile, exchange, messages
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `handle`, `config` | the border to the rest of the node |
//! | `service` | the network task |
//! | `state` | the machines: standing, discovery, gossip, catch-up, fetches |
//! | `jobs` | judging messages, sessions, fetches, answers to other peers |
//! | `reconcile` | range-based set reconciliation |
//! | `slots` | which incoming connections, reservations and circuits there is room for |
//! | `addresses`, `interfaces`, `guard` | which addresses are dialled: the policy, this machine's networks, the check |
//! | `transport` | TCP, QUIC, DNS and circuits |
//! | `watch` | what other peers may have this node dial or believe of its addresses |
//! | `topics` | which topics peers may subscribe to |
//! | `upload` | how fast each host is answered |
//! | `behaviour`, `messages`, `exchange` | libp2p protocols, their settings, messages and open requests |
//! | `limits` | every bound and interval |
//!
//! Never here: deciding what is valid (`ingest`, `spore-protocol`), writing objects to the store.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod addresses;
mod behaviour;
mod config;
mod exchange;
mod guard;
mod handle;
mod interfaces;
mod jobs;
mod limits;
mod messages;
mod prefixes;
mod reconcile;
mod service;
mod slots;
mod state;
mod topics;
mod transport;
mod upload;
mod watch;

#[cfg(test)]
mod tests;

pub use config::{NetworkConfig, NetworkError};
pub use handle::{COMMANDS, NetworkClosed, NetworkCommand, NetworkHandle, PeerInfo, ReachInfo, RelayInfo, Snapshot};
pub use service::start;
pub use state::{NatKind, Reachability};
