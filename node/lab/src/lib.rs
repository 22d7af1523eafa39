//! The lab: what trains. The engine runs experiments in worker processes, research chooses and proposes them, and
//! verification re-runs those of others.
//!
//! Everything that trains is behind the feature `trainer`, so that a relay builds without burn. The settings of
//! language models and the pure rules of research and verification are always there.
//!
//! Never here: rules about what is valid or best (`spore-protocol`), sockets to peers (`spore_base::fetch` is how an
//! artifact is fetched).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

#[cfg(feature = "trainer")]
pub mod engine;
#[cfg(test)]
mod made_up;
pub mod research;
pub mod verify;
#[cfg(feature = "trainer")]
mod work_loop;
