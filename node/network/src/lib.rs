//! The libp2p node: transports, discovery, gossip, catch-up and artifacts.
//!
//! Objects come in by gossip, by catch-up or by id, are decoded, and go to `ingest`; what `ingest`
//! says of a gossip message decides whether it is passed on and what its sender loses. What the
//! store reports as new and made here is published. One task holds the swarm (`service`,
//! `events`); everything that reads the store or computes runs beside it and speaks to it by
//! messages (`work`); what comes round is in `clock`.
//!
//! | file | holds |
//! |---|---|
//! | `handle`, `config` | the border to the rest of the node |
//! | `behaviour`, `messages`, `exchange` | protocols, their settings and messages |
//! | `gossip` | topics and the judgement on messages |
//! | `sync`, `items`, `catchup`, `fetch`, `wants` | learning what is missing |
//! | `serve`, `artifacts` | answering others; fetching artifacts |
//! | `peers`, `bootstrap` | penalties; staying connected |
//! | `limits` | every bound and interval |
//!
//! Never here: deciding what is valid (`ingest`, `spore-protocol`), writing objects to the store.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod artifacts;
mod behaviour;
mod bootstrap;
mod catchup;
mod clock;
mod config;
mod events;
mod exchange;
mod fetch;
mod gossip;
mod handle;
mod items;
mod limits;
mod messages;
mod peers;
mod serve;
mod service;
mod sync;
mod wants;
mod work;

#[cfg(test)]
mod tests;

pub use config::{NetworkConfig, NetworkError};
pub use handle::{COMMANDS, Command, NetworkClosed, NetworkHandle, PeerInfo, Snapshot};
pub use service::start;
