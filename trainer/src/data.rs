//! Datasets: the bytes to learn from, split into a training part and a held-out part.
//!
//! A dataset is any file. Its bytes are the tokens (256 different ones), and its id is their
//! SHA-256. The held-out part is the tail, as large as the task's [`EvalSpec`] says. No training
//! batch reads it. Batches are drawn by a seeded generator, so a seed and a number of steps
//! determine exactly which bytes a model has seen. What is evaluated is drawn by another seed
//! ([`EvalSeed`]), which differs for each script.

use std::path::Path;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng as _;
use spore_protocol::Cid;

use crate::corpus;
use crate::evaluate::{EvalSeed, EvalSpec, EvalText};
use crate::graph::Graph;

/// Fewest bytes of a dataset. The held-out part of a smaller one would be too short to measure on.
pub const MIN_BYTES: usize = 64 << 10;

/// Most bytes of a dataset. Each running experiment holds all of it in memory.
pub const MAX_BYTES: u64 = 1 << 30;

/// Why a dataset cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file cannot be read.
    #[error("cannot read the dataset {path}: {source}")]
    Read { path: String, source: std::io::Error },
    /// The size is outside [`MIN_BYTES`]`..=`[`MAX_BYTES`].
    #[error("the dataset has {0} bytes; between {MIN_BYTES} and {MAX_BYTES} are possible")]
    Size(u64),
    /// The bytes are not those that the task names.
    #[error("the dataset's id is {found}, the task names {expected}")]
    Mismatch { expected: Cid, found: Cid },
    /// The held-out part is too small for the evaluation, or the training part for a batch.
    #[error("the dataset is too small for this evaluation: {0}")]
    Split(String),
}

/// Bytes to train and evaluate on.
#[derive(Clone, Debug)]
pub struct ByteDataset {
    bytes: Vec<u8>,
    /// The bytes are the built-in corpus, so that new text of its language can be generated.
    builtin: bool,
}

impl ByteDataset {
    /// The generated corpus that every node has ([`corpus::builtin`]).
    pub fn builtin() -> Self {
        Self { bytes: corpus::builtin(), builtin: true }
    }

    /// All bytes of a file.
    ///
    /// # Errors
    /// [`DataError::Read`] and [`DataError::Size`].
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let read = |source| DataError::Read { path: path.display().to_string(), source };
        let size = std::fs::metadata(path).map_err(read)?.len();
        if size > MAX_BYTES {
            return Err(DataError::Size(size));
        }
        Self::from_bytes(std::fs::read(path).map_err(read)?)
    }

    /// The given bytes as a dataset.
    ///
    /// # Errors
    /// [`DataError::Size`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, DataError> {
        let size = bytes.len() as u64;
        if bytes.len() < MIN_BYTES || size > MAX_BYTES {
            return Err(DataError::Size(size));
        }
        let builtin = bytes.len() == corpus::BUILTIN_BYTES && Cid::of(&bytes) == corpus::BUILTIN_CID;
        Ok(Self { bytes, builtin })
    }

    /// The id of the bytes: the `dataset_cid` of tasks and records.
    pub fn cid(&self) -> Cid {
        Cid::of(&self.bytes)
    }

    /// Checks that the dataset is the one that a task names.
    ///
    /// # Errors
    /// [`DataError::Mismatch`] unless the id is `expected`.
    pub fn check_cid(&self, expected: Cid) -> Result<(), DataError> {
        let found = self.cid();
        if found == expected { Ok(()) } else { Err(DataError::Mismatch { expected, found }) }
    }

    /// The training bytes and the held-out bytes.
    ///
    /// # Errors
    /// [`DataError::Split`] when `graph` cannot draw a batch from the training bytes, or the
    /// held-out bytes are not more than `spec` evaluates.
    pub fn split(&self, spec: &EvalSpec, graph: &Graph) -> Result<(&[u8], &[u8]), DataError> {
        let held_out = self.bytes.len() / 100 * spec.val_percent as usize;
        let (train, val) = self.bytes.split_at(self.bytes.len() - held_out);
        if val.len() <= spec.eval_bytes as usize {
            let wanted = spec.eval_bytes;
            return Err(DataError::Split(format!("{} bytes held out, {wanted} are evaluated", val.len())));
        }
        if train.len() <= graph.context + 1 {
            let (have, context) = (train.len(), graph.context);
            return Err(DataError::Split(format!("{have} bytes to train on, the context is {context}")));
        }
        Ok((train, val))
    }

    /// What a graph is evaluated on under `seed`: text that is generated for it in the language of
    /// the built-in corpus, or windows that are drawn out of a file's held-out bytes.
    ///
    /// # Errors
    /// As [`Self::split`].
    pub fn eval_text(&self, spec: &EvalSpec, graph: &Graph, seed: EvalSeed) -> Result<EvalText, DataError> {
        let (_, held_out) = self.split(spec, graph)?;
        if self.builtin {
            return Ok(EvalText::generate(held_out.len() as u64, graph.context, spec, seed));
        }
        EvalText::draw(held_out, graph.context, spec, seed)
            .ok_or_else(|| DataError::Split(format!("no window of {} bytes can be drawn", graph.context)))
    }
}

/// The input of one training step: `batch * context` bytes, and for each the byte that follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainingBatch {
    pub inputs: Vec<u8>,
    pub targets: Vec<u8>,
}

impl TrainingBatch {
    /// Draws `batch` sequences of `context + 1` bytes at uniformly distributed places of `train`,
    /// which must be longer than that (see [`ByteDataset::split`]).
    pub fn draw(train: &[u8], batch: usize, context: usize, rng: &mut ChaCha8Rng) -> Self {
        let mut drawn =
            Self { inputs: Vec::with_capacity(batch * context), targets: Vec::with_capacity(batch * context) };
        let places = train.len().saturating_sub(context) as u64;
        for _ in 0..batch {
            // The high half of a product maps 64 random bits to 0..places without a division.
            // `rand` maps them in another way, which would change every recorded result.
            let start = ((u128::from(rng.next_u64()) * u128::from(places)) >> 64) as usize;
            drawn.inputs.extend_from_slice(train.get(start..start + context).unwrap_or_default());
            drawn.targets.extend_from_slice(train.get(start + 1..=start + context).unwrap_or_default());
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng as _;

    #[test]
    fn targets_are_the_next_bytes_and_draws_repeat_with_the_seed() {
        let train: Vec<u8> = (0..1000_u32).map(|i| (i % 251) as u8).collect();
        let draw = |seed| TrainingBatch::draw(&train, 3, 16, &mut ChaCha8Rng::seed_from_u64(seed));
        let batch = draw(5);
        assert_eq!(batch.inputs.len(), 48);
        for (input, target) in batch.inputs.iter().zip(&batch.targets) {
            assert_eq!((u32::from(*input) + 1) % 251, u32::from(*target));
        }
        assert_eq!(batch, draw(5));
        assert_ne!(batch, draw(6));
    }

    #[test]
    fn every_place_can_be_drawn_and_none_beyond_the_end() {
        let train = [0_u8, 1, 2, 3, 4];
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut seen = [false; 5];
        for _ in 0..200 {
            let batch = TrainingBatch::draw(&train, 1, 3, &mut rng);
            assert_eq!(batch.targets.len(), 3);
            seen[batch.inputs[0] as usize] = true;
        }
        assert_eq!(seen, [true, true, false, false, false]);
    }

    #[test]
    fn files_outside_the_size_limits_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![b'a'; MIN_BYTES - 1]).unwrap();
        assert!(matches!(ByteDataset::open(file.path()), Err(DataError::Size(_))));
        std::fs::write(file.path(), vec![b'a'; MIN_BYTES]).unwrap();
        let data = ByteDataset::open(file.path()).unwrap();
        assert!(data.check_cid(data.cid()).is_ok());
        assert!(data.check_cid(corpus::BUILTIN_CID).is_err());
        assert!(matches!(ByteDataset::open(Path::new("/nonexistent/file")), Err(DataError::Read { .. })));
    }
}
