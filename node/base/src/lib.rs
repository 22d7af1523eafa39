//! Shared by all components of the node: clock, randomness, backoff, cooldown, standing of peers, peer book, private
//! files, names of nodes and peers.
//!
//! Small and without tasks of its own. Never here: the store's rules, sockets, or anything that only one component needs.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod backoff;
pub mod clock;
pub mod cooldown;
pub mod fetch;
pub mod llm_health;
pub mod mode;
pub mod name;
pub mod peer;
pub mod peer_address;
pub mod peer_book;
pub mod peer_id;
pub mod private_file;
pub mod progress;
pub mod random;
pub mod research_state;
pub mod script_text;
pub mod shutdown;
pub mod standing;
pub mod subnet;
pub mod warnings;
