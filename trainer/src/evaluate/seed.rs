//! The seed of an evaluation.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};
use spore_protocol::TaskId;

/// The first bytes that are hashed, so that no other hash can be the same.
const DOMAIN: &[u8] = b"spore evaluation 2";

/// Decides what a script is evaluated on: SHA-256 of [`DOMAIN`], the task's id and the graph's hash, hashed [`ROUNDS`]
/// times more.
///
/// The graph decides, not the text: another comment, name or order of statements gives the same seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvalSeed([u8; 32]);

/// Times that the hash is hashed again. A seed takes some tenths of a second, so that looking for a graph with easy text
/// costs at least that for each try.
const ROUNDS: u32 = 1 << 20;

/// The purpose of a stream of random numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum EvalStream {
    /// The documents of generated text.
    Documents,
    /// The windows and their order.
    Windows,
    /// The places at which the future is hidden.
    Places,
    /// The text that hides it.
    Fillers,
}

impl EvalSeed {
    /// The seed for a graph with this hash ([`Graph::hash`](crate::graph::Graph::hash)) in a task.
    pub fn new(task: TaskId, graph_hash: &[u8; 32]) -> Self {
        let mut hash = Sha256::new_with_prefix(DOMAIN);
        hash.update(task.0);
        hash.update(graph_hash);
        let mut digest: [u8; 32] = hash.finalize().into();
        for _ in 0..ROUNDS {
            digest = Sha256::digest(digest).into();
        }
        Self(digest)
    }

    pub(crate) fn stream(&self, purpose: EvalStream) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::from_seed(self.0);
        rng.set_stream(purpose as u64);
        rng
    }
}

/// Uniform in `0..n`; 0 for `n` = 0. The high half of a product maps 64 random bits without a
/// division; `rand` maps them in another way, which would change recorded results.
pub(crate) fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}
