//! The one source of randomness and of sampling: the crate `rand`.
//!
//! Every function that samples takes its generator, so that a caller whose choice must be repeatable passes
//! [`seeded`] and every other caller passes [`generator`].

pub use rand::Rng;
use rand::{
    RngExt as _, SeedableRng as _, TryRng as _,
    rngs::{SysRng, ThreadRng},
    seq::{IndexedRandom as _, SliceRandom as _},
};
use rand_chacha::ChaCha8Rng;

/// Random bytes for a key or a token, straight from the operating system.
///
/// # Errors
/// When the operating system has no randomness to give.
pub fn secret<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).map_err(std::io::Error::other)?;
    Ok(bytes)
}

/// A generator that the operating system seeded. Not for secrets.
pub fn generator() -> ThreadRng {
    rand::rng()
}

/// A generator that gives the same numbers for the same seed, in every version of this program.
pub fn seeded(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// A random number for jitter. Not for secrets.
pub fn number() -> u64 {
    generator().next_u64()
}

/// A number that is uniform in 0.0..1.0.
pub fn unit(rng: &mut (impl Rng + ?Sized)) -> f64 {
    rng.random()
}

/// The items in a random order. Each order is equally likely.
pub fn shuffled<T>(items: impl IntoIterator<Item = T>, rng: &mut (impl Rng + ?Sized)) -> Vec<T> {
    let mut items: Vec<T> = items.into_iter().collect();
    items.shuffle(rng);
    items
}

/// One of the items. Each is as likely as its weight says. None when there is no item, when all weights are 0, or
/// when one of them is negative or not a number.
pub fn pick<'a, T>(items: &'a [T], weight: impl Fn(&T) -> f64, rng: &mut (impl Rng + ?Sized)) -> Option<&'a T> {
    items.choose_weighted(rng, weight).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeded_generator_repeats_its_numbers() {
        let numbers = |seed| {
            let mut rng = seeded(seed);
            [unit(&mut rng), unit(&mut rng)]
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
        assert!(numbers(7).iter().all(|number| (0.0..1.0).contains(number)));
    }

    #[test]
    fn shuffled_items_are_the_same_items() {
        let mut items = shuffled(0..100, &mut seeded(1));
        assert_ne!(items, Vec::from_iter(0..100));
        items.sort_unstable();
        assert_eq!(items, Vec::from_iter(0..100));
    }

    #[test]
    fn pick_follows_the_weights() {
        let mut rng = seeded(1);
        let mut counts = [0; 3];
        for _ in 0..1000 {
            counts[*pick(&[0, 1, 2], |item| [1.0, 0.0, 3.0][*item], &mut rng).unwrap()] += 1;
        }
        assert!(counts[1] == 0 && (200..300).contains(&counts[0]), "{counts:?}");
        assert_eq!(pick(&[], |_: &u8| 1.0, &mut rng), None);
        assert_eq!(pick(&[1, 2], |_| 0.0, &mut rng), None);
    }
}
