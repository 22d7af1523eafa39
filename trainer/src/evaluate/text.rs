//! What one script is evaluated on: windows of held-out text, and the places at which the future is
//! hidden. All of it follows from the [`EvalSeed`].

use std::collections::HashSet;

use rand_chacha::ChaCha8Rng;

use super::EvalSpec;
use super::seed::{EvalSeed, EvalStream, below};
use crate::corpus;

/// Fewest windows of an evaluation. With few long ones, a script could be varied until they fall where its text is easy, or
/// where it holds the text.
const LEAST_WINDOWS: usize = 64;
/// Share of the evaluated bytes that a description may have before it is charged as if it held the evaluated text itself.
const FREE_SHARE: u64 = 32;

/// Windows of held-out text, in the order in which they fill the rows of batches. That order is
/// random, so that neighbouring rows are unrelated.
#[derive(Clone, Debug)]
pub struct EvalText {
    /// Inputs of a window. A window has one byte more, the last target.
    width: usize,
    /// The windows one after another, each of `width + 1` bytes.
    bytes: Vec<u8>,
    /// Number of targets that count. Windows may hold a few more.
    targets: usize,
    /// Bytes of the held-out part from which windows are drawn: the charge is spread over these.
    held_out: u64,
    places: Vec<Place>,
    seed: EvalSeed,
}

/// A prediction: a byte of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub window: usize,
    /// Position of the last byte that is seen. The byte after it is the target.
    pub at: usize,
}

impl EvalText {
    /// Draws windows of at most `context` inputs out of the whole of `held_out`, at least
    /// [`LEAST_WINDOWS`]. They do not overlap, so each byte is predicted once at most. All bytes are as likely, but for a
    /// window's width at both ends: the grid of windows begins anywhere, and goes on at the beginning of the text after
    /// its end. None when `held_out` has not more bytes than `spec` evaluates.
    pub fn draw(held_out: &[u8], context: usize, spec: &EvalSpec, seed: EvalSeed) -> Option<Self> {
        let wanted = usize::try_from(spec.eval_bytes).ok()?;
        if held_out.len() <= wanted || context == 0 {
            return None;
        }
        let width = width(context, wanted);
        let slots = (held_out.len() - 1) / width;
        let mut rng = seed.stream(EvalStream::Windows);
        let origin = below(&mut rng, held_out.len());
        let starts = (0..slots).map(|slot| (origin + slot * width) % held_out.len());
        let mut starts: Vec<usize> = starts.filter(|start| start + width < held_out.len()).collect();
        if starts.is_empty() {
            starts.push(0);
        }
        let count = wanted.div_ceil(width).min(starts.len());
        let mut bytes = Vec::with_capacity(count * (width + 1));
        for start in shuffled(&mut starts, count, &mut rng) {
            bytes.extend_from_slice(held_out.get(*start..=start + width)?);
        }
        Some(Self::new(width, bytes, count, held_out.len() as u64, spec, seed))
    }

    /// Windows of text that is generated for this seed, in the language of the built-in corpus.
    /// `held_out` is the size of the part of the corpus that training leaves out.
    pub fn generate(held_out: u64, context: usize, spec: &EvalSpec, seed: EvalSeed) -> Self {
        let wanted = usize::try_from(spec.eval_bytes).unwrap_or(usize::MAX);
        let width = width(context, wanted);
        let count = wanted.div_ceil(width);
        let text = corpus::fresh(seed.stream(EvalStream::Documents), count * width + 1);
        let mut order: Vec<usize> = (0..count).collect();
        let mut bytes = Vec::with_capacity(count * (width + 1));
        for slot in shuffled(&mut order, count, &mut seed.stream(EvalStream::Windows)) {
            bytes.extend_from_slice(text.get(slot * width..=(slot + 1) * width).unwrap_or_default());
        }
        Self::new(width, bytes, count, held_out, spec, seed)
    }

    fn new(width: usize, bytes: Vec<u8>, count: usize, held_out: u64, spec: &EvalSpec, seed: EvalSeed) -> Self {
        let targets = usize::try_from(spec.eval_bytes).unwrap_or(usize::MAX).min(count * width);
        // Targets beyond those that count stand at the end of the last window.
        let last = targets - (count.saturating_sub(1)) * width;
        let mut rng = seed.stream(EvalStream::Places);
        let mut places = Vec::with_capacity(spec.hidden_pairs as usize);
        while places.len() < spec.hidden_pairs as usize && count > 0 {
            // Each window in turn, in a new order each time.
            let mut order: Vec<usize> = (0..count).collect();
            let left = spec.hidden_pairs as usize - places.len();
            for window in shuffled(&mut order, left.min(count), &mut rng) {
                let at = below(&mut rng, if *window + 1 == count { last } else { width });
                places.push(Place { window: *window, at });
            }
        }
        Self { width, bytes, targets, held_out, places, seed }
    }

    /// Number of windows.
    pub fn windows(&self) -> usize {
        self.bytes.len() / (self.width + 1)
    }

    /// Inputs of a window.
    pub fn width(&self) -> usize {
        self.width
    }

    /// A window's bytes, `width + 1` of them. Empty for a number that there is not.
    pub fn window(&self, number: usize) -> &[u8] {
        let start = number.saturating_mul(self.width + 1);
        self.bytes.get(start..start.saturating_add(self.width + 1)).unwrap_or_default()
    }

    /// Number of bytes that are predicted.
    pub fn targets(&self) -> usize {
        self.targets
    }

    /// The places at which the future is hidden.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Bits that each predicted byte is charged for a description of so many bytes. Up to a [`FREE_SHARE`] of what is
    /// evaluated, the description is spread over the whole held-out part, from which the windows are drawn. What is longer
    /// could hold a good part of the windows themselves, so it is spread over these alone: no choice of a seed makes it
    /// pay.
    pub fn charge(&self, description: u64) -> f64 {
        let evaluated = self.targets.max(1) as u64;
        let spread = description.min(evaluated / FREE_SHARE);
        let bytes = spread as f64 / self.held_out.max(1) as f64 + (description - spread) as f64 / evaluated as f64;
        8.0 * bytes
    }

    /// The places that each pass of `batch` rows tests. Two of one window would show each other what
    /// is hidden, so no pass has them.
    pub(super) fn hidden_passes(&self, batch: usize) -> Vec<&[Place]> {
        let (mut passes, mut first) = (Vec::new(), 0);
        let mut here = HashSet::new();
        for (number, place) in self.places.iter().enumerate() {
            if here.len() == batch || here.contains(&place.window) {
                passes.extend(self.places.get(first..number));
                (first, here) = (number, HashSet::new());
            }
            here.insert(place.window);
        }
        passes.extend(self.places.get(first..));
        passes
    }

    /// Draws windows of unrelated text out of `from`.
    pub(super) fn fillers<'a>(&self, from: &'a [u8]) -> Fillers<'a> {
        Fillers { from, width: self.width, rng: self.seed.stream(EvalStream::Fillers) }
    }
}

/// Inputs of a window when `wanted` bytes are predicted by a model with this context.
fn width(context: usize, wanted: usize) -> usize {
    context.min(wanted.div_ceil(LEAST_WINDOWS)).max(1)
}

/// Draws windows of text at random places.
pub(super) struct Fillers<'a> {
    from: &'a [u8],
    width: usize,
    rng: ChaCha8Rng,
}

impl<'a> Fillers<'a> {
    pub(super) fn draw(&mut self) -> &'a [u8] {
        let start = below(&mut self.rng, (self.from.len() + 1).saturating_sub(self.width));
        self.from.get(start..).map(|rest| rest.get(..self.width).unwrap_or(rest)).unwrap_or_default()
    }
}

/// Brings `count` of the items to the front, in random order (Fisher & Yates 1938).
fn shuffled<'a>(items: &'a mut [usize], count: usize, rng: &mut ChaCha8Rng) -> &'a [usize] {
    let count = count.min(items.len());
    for at in 0..count {
        let other = at + below(rng, items.len() - at);
        items.swap(at, other);
    }
    items.get(..count).unwrap_or_default()
}
