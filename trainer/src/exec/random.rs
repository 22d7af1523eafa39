//! The random numbers of a run. Each purpose has a stream of its own, which the seed determines, so
//! that one more draw for one purpose does not change the numbers of another.
//!
//! The streams come from `rand_chacha`. The distributions are our own, because verification repeats
//! a run to the bit: `rand` and `rand_distr` draw in other ways (the ziggurat for normal numbers,
//! other bits for uniform ones) and may change them in any release. Every recorded result depends
//! on these few lines.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::graph::Init;

/// The purpose of a stream of random numbers.
#[derive(Clone, Copy, Debug)]
pub(super) enum StreamPurpose {
    /// The places of the training text that each step sees.
    Data,
    /// Dropout masks.
    Dropout,
    /// Initial values of the parameter with this index.
    Init(u32),
}

/// The stream of `seed` for one purpose.
pub(super) fn stream(seed: u64, purpose: StreamPurpose) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(match purpose {
        StreamPurpose::Data => 0,
        StreamPurpose::Dropout => 1,
        StreamPurpose::Init(param) => 2 + u64::from(param),
    });
    rng
}

/// Uniform in the open interval (0, 1), 53 bits.
fn unit(rng: &mut ChaCha8Rng) -> f64 {
    ((rng.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

/// `len` initial values.
pub(super) fn initial(init: &Init, len: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    match init {
        Init::Constant(value) => vec![*value as f32; len],
        Init::Uniform(limit) => (0..len).map(|_| ((2.0 * unit(rng) - 1.0) * limit) as f32).collect(),
        // Box & Muller 1958; only the cosine of each pair is used.
        Init::Normal(std) => (0..len)
            .map(|_| {
                let radius = (-2.0 * unit(rng).ln()).sqrt();
                (std * radius * (std::f64::consts::TAU * unit(rng)).cos()) as f32
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_values_have_the_asked_spread() {
        let values = initial(&Init::Normal(0.5), 20_000, &mut stream(3, StreamPurpose::Init(0)));
        let n = values.len() as f64;
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let variance = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 0.02 && (variance.sqrt() - 0.5).abs() < 0.02, "{mean} {variance}");
    }

    #[test]
    fn uniform_values_stay_within_the_limit() {
        let values = initial(&Init::Uniform(0.25), 5_000, &mut stream(3, StreamPurpose::Init(1)));
        assert!(values.iter().all(|v| v.abs() <= 0.25));
        assert!(values.iter().any(|v| *v > 0.24) && values.iter().any(|v| *v < -0.24));
    }

    #[test]
    fn streams_differ_by_purpose_and_repeat_by_seed() {
        let draw = |seed, purpose| stream(seed, purpose).next_u64();
        assert_eq!(draw(1, StreamPurpose::Data), draw(1, StreamPurpose::Data));
        assert_ne!(draw(1, StreamPurpose::Data), draw(1, StreamPurpose::Dropout));
        assert_ne!(draw(1, StreamPurpose::Init(0)), draw(1, StreamPurpose::Init(1)));
        assert_ne!(draw(1, StreamPurpose::Data), draw(2, StreamPurpose::Data));
    }
}
