//! The metric: bits per byte on held-out bytes, computed by the host from a model's logits.
//!
//! A script never sees the held-out targets. It only maps bytes to logits. Two checks make sure
//! that the logits do not read the targets, at the initial weights and again at the trained ones:
//! a later byte must not change an earlier prediction, since a position's input holds the targets
//! of the positions before it, and one sequence must not change the predictions of another.
//! `docs/evaluation.md` has the full definition.

use serde::{Deserialize, Serialize};
use spore_protocol::Cid;

/// Version of the rules below. A change that can change a metric needs a new version.
pub const EVAL_VERSION: u32 = 1;

/// Number of possible next bytes.
pub const VOCAB: usize = 256;

/// How far a logit may move, relative to its size plus one, when bytes change on which it must not
/// depend. Equal shapes run equal kernels, so an honest model's logits do not move, or by rounding
/// on devices that reorder sums. A leak below this is too small to gain anything.
const TOLERANCE: f64 = 1e-5;

/// Why a model has no metric.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// A later byte changes an earlier prediction.
    #[error("not causal: bytes after position {changed} change the prediction at {moved}")]
    LooksAhead { changed: usize, moved: usize },
    /// A sequence of the batch changes another's predictions.
    #[error("not causal: sequence {changed} of the batch changes the predictions of sequence {moved}")]
    ReadsAcrossBatch { changed: usize, moved: usize },
    /// A logit is infinite or not a number.
    #[error("diverged: the model's output is not finite")]
    NotFinite,
    /// The bytes are no canonical evaluation spec.
    #[error("not an evaluation spec: {0}")]
    BadSpec(String),
}

/// A task's rules of evaluation. The SHA-256 of [`EvalSpec::to_bytes`] is its `prepare_cid`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalSpec {
    // The fields stand in alphabetical order, which makes serde's output canonical JSON.
    /// Number of bytes that are predicted, from the beginning of the held-out part.
    pub eval_bytes: u64,
    /// Always `val_bpb`.
    pub metric: String,
    /// Number of places in the context at which the causality check changes all later bytes.
    pub probes: u32,
    /// Percentage of the dataset, at its end, that is held out.
    pub val_percent: u32,
    /// [`EVAL_VERSION`].
    pub version: u32,
}

impl EvalSpec {
    /// The spec for a training budget in seconds, such that evaluating takes a small part of it.
    pub fn for_budget(seconds: u64) -> Self {
        let kib = (seconds * 4 / 5).clamp(16, 256);
        Self { eval_bytes: kib << 10, metric: "val_bpb".to_owned(), probes: 4, val_percent: 10, version: EVAL_VERSION }
    }

    /// Canonical JSON: keys sorted, no blanks, ASCII.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Five plain fields cannot fail to serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The id of [`Self::to_bytes`].
    pub fn cid(&self) -> Cid {
        Cid::of(&self.to_bytes())
    }

    /// The spec whose [`Self::to_bytes`] these are.
    ///
    /// # Errors
    /// [`EvalError::BadSpec`] for other bytes, another version or values out of range.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EvalError> {
        let bad = |reason: &str| Err(EvalError::BadSpec(reason.to_owned()));
        let spec: Self = serde_json::from_slice(bytes).map_err(|error| EvalError::BadSpec(error.to_string()))?;
        if spec.to_bytes() != bytes {
            return bad("the JSON is not canonical");
        }
        if spec.version != EVAL_VERSION || spec.metric != "val_bpb" {
            return bad("this version of Spore knows only version 1 and val_bpb");
        }
        let sizes = (1..=16 << 20).contains(&spec.eval_bytes) && (1..=64).contains(&spec.probes);
        if !sizes || !(1..=50).contains(&spec.val_percent) {
            return bad("a value is out of range");
        }
        Ok(spec)
    }
}

/// A model that predicts bytes: a traced graph on its device, or a rule in a test.
pub trait Predictor {
    /// Number of sequences in one call.
    fn batch(&self) -> usize;
    /// Number of bytes in one sequence.
    fn context(&self) -> usize;
    /// Logits of the next byte, `[batch, context, 256]` flattened, for `batch * context` inputs.
    fn logits(&mut self, inputs: &[u8]) -> Vec<f32>;
}

/// Mean bits for each of the first `spec.eval_bytes` targets of `held_out`, in windows of the
/// model's own context length that do not overlap. Each byte is predicted from the bytes before it
/// in its window.
///
/// # Errors
/// [`EvalError::NotFinite`] when a counted logit is not finite.
pub fn bits_per_byte(model: &mut dyn Predictor, held_out: &[u8], spec: &EvalSpec) -> Result<f64, EvalError> {
    let wanted = spec.eval_bytes as usize;
    let step = model.batch() * model.context();
    let mut bits = 0.0;
    for start in (0..wanted).step_by(step) {
        let end = (start + step).min(wanted);
        let mut inputs = held_out.get(start..end).unwrap_or_default().to_vec();
        inputs.resize(step, 0);
        let logits = model.logits(&inputs);
        let targets = held_out.get(start + 1..=end).unwrap_or_default();
        for (row, target) in logits.chunks_exact(VOCAB).zip(targets) {
            bits += surprise(row, *target);
        }
    }
    if bits.is_finite() { Ok(bits / wanted as f64) } else { Err(EvalError::NotFinite) }
}

/// `-log2` of the probability that `logits` (256 of them) give to `target`, in double precision:
/// `log2(sum_i exp(l_i - m)) - (l_target - m) / ln 2` with `m` the largest. NaN if a logit is.
fn surprise(logits: &[f32], target: u8) -> f64 {
    if logits.iter().any(|logit| !logit.is_finite()) {
        return f64::NAN;
    }
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - max).exp()).sum();
    let chosen = logits.get(usize::from(target)).map_or(f64::NAN, |logit| f64::from(logit - max));
    sum.log2() - chosen / std::f64::consts::LN_2
}

/// Checks, on held-out text, that predictions depend only on earlier bytes of the same sequence. At
/// `spec.probes` places, all later bytes of every sequence are replaced by other text. Then every
/// sequence but the first is replaced, and then the first alone.
///
/// # Errors
/// [`EvalError::LooksAhead`], [`EvalError::ReadsAcrossBatch`], or [`EvalError::NotFinite`].
pub fn check_causal(model: &mut dyn Predictor, held_out: &[u8], spec: &EvalSpec) -> Result<(), EvalError> {
    let (batch, context) = (model.batch(), model.context());
    let size = batch * context;
    // Two different texts: the beginning of the held-out part, and the same text shifted.
    let text = |shift: usize| -> Vec<u8> { held_out.iter().cycle().skip(shift).take(size).copied().collect() };
    let base_inputs = text(0);
    let others: Vec<u8> = text(size / 2 + 1)
        .iter()
        .zip(&base_inputs)
        .map(|(other, base)| if other == base { other.wrapping_add(1) } else { *other })
        .collect();
    let mixed = |replace: &dyn Fn(usize, usize) -> bool| -> Vec<u8> {
        let pick = |(i, (base, other))| if replace(i / context, i % context) { other } else { base };
        base_inputs.iter().copied().zip(others.iter().copied()).enumerate().map(pick).collect()
    };
    let base = model.logits(&base_inputs);
    if base.iter().any(|logit| !logit.is_finite()) {
        return Err(EvalError::NotFinite);
    }
    for probe in 0..spec.probes as usize {
        // `changed` is the last position that stays. It goes from the first to the last but one.
        let last = context.saturating_sub(2);
        let changed = last * probe / (spec.probes as usize - 1).max(1);
        let logits = model.logits(&mixed(&|_, position| position > changed));
        if let Some((_, moved)) = first_moved(&base, &logits, context, &|_, position| position <= changed) {
            return Err(EvalError::LooksAhead { changed, moved });
        }
    }
    if batch > 1 {
        let logits = model.logits(&mixed(&|sequence, _| sequence > 0));
        if first_moved(&base, &logits, context, &|sequence, _| sequence == 0).is_some() {
            return Err(EvalError::ReadsAcrossBatch { changed: 1, moved: 0 });
        }
        let logits = model.logits(&mixed(&|sequence, _| sequence == 0));
        if let Some((moved, _)) = first_moved(&base, &logits, context, &|sequence, _| sequence > 0) {
            return Err(EvalError::ReadsAcrossBatch { changed: 0, moved });
        }
    }
    Ok(())
}

/// The first (sequence, position) selected by `fixed` at which a logit differs.
fn first_moved(
    base: &[f32],
    logits: &[f32],
    context: usize,
    fixed: &dyn Fn(usize, usize) -> bool,
) -> Option<(usize, usize)> {
    let rows = base.chunks_exact(VOCAB).zip(logits.chunks_exact(VOCAB)).enumerate();
    let differ = |a: &f32, b: &f32| {
        let (a, b) = (f64::from(*a), f64::from(*b));
        b.is_nan() || (a - b).abs() > TOLERANCE * (1.0 + a.abs())
    };
    rows.map(|(row, pair)| (row / context.max(1), row % context.max(1), pair))
        .filter(|(sequence, position, _)| fixed(*sequence, *position))
        .find(|(_, _, (a, b))| a.iter().zip(*b).any(|(a, b)| differ(a, b)))
        .map(|(sequence, position, _)| (sequence, position))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits by a rule on (inputs, sequence, position, byte).
    struct RulePredictor<F>(usize, usize, F);

    impl<F: Fn(&[u8], usize, usize, usize) -> f32> Predictor for RulePredictor<F> {
        fn batch(&self) -> usize {
            self.0
        }
        fn context(&self) -> usize {
            self.1
        }
        fn logits(&mut self, inputs: &[u8]) -> Vec<f32> {
            assert_eq!(inputs.len(), self.0 * self.1);
            let cell = |i: usize| (self.2)(inputs, i / VOCAB / self.1, i / VOCAB % self.1, i % VOCAB);
            (0..inputs.len() * VOCAB).map(cell).collect()
        }
    }

    fn spec(eval_bytes: u64) -> EvalSpec {
        EvalSpec { eval_bytes, ..EvalSpec::for_budget(20) }
    }

    fn text(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 7 % 251) as u8).collect()
    }

    #[test]
    fn a_uniform_model_needs_exactly_eight_bits() {
        let mut uniform = RulePredictor(3, 5, |_: &[u8], _, _, _| 1.5);
        assert_eq!(bits_per_byte(&mut uniform, &text(200), &spec(100)), Ok(8.0));
    }

    #[test]
    fn a_model_that_knows_the_next_byte_needs_almost_none() {
        let knows = |inputs: &[u8], s: usize, p: usize, byte: usize| {
            let input = inputs[s * 8 + p];
            if (input as usize + 7) % 251 == byte { 30.0 } else { 0.0 }
        };
        let bits = bits_per_byte(&mut RulePredictor(2, 8, knows), &text(400), &spec(200)).unwrap();
        assert!(bits < 1e-9, "{bits}");
    }

    #[test]
    fn windows_that_do_not_fill_the_last_batch_count_once() {
        // Half the probability on byte 0: 1 bit for each zero, and zeros pad the last batch.
        let half = |_: &[u8], _, _, byte: usize| if byte == 0 { 255.0_f32.ln() } else { 0.0 };
        let bits = bits_per_byte(&mut RulePredictor(4, 4, half), &[0; 50], &spec(21)).unwrap();
        assert!((bits - 1.0).abs() < 1e-6, "{bits}");
    }

    #[test]
    fn infinite_logits_are_divergence() {
        let mut broken = RulePredictor(1, 4, |_: &[u8], _, p, _| if p == 3 { f32::NAN } else { 0.0 });
        assert_eq!(bits_per_byte(&mut broken, &text(100), &spec(50)), Err(EvalError::NotFinite));
        assert_eq!(check_causal(&mut broken, &text(100), &spec(50)), Err(EvalError::NotFinite));
    }

    #[test]
    fn looking_ahead_is_named_with_both_positions() {
        let peek = |inputs: &[u8], s: usize, p: usize, byte: usize| {
            let next = inputs[s * 16 + (p + 1).min(15)];
            if next as usize == byte { 1.0 } else { 0.0 }
        };
        let error = check_causal(&mut RulePredictor(2, 16, peek), &text(500), &spec(50)).unwrap_err();
        assert_eq!(error, EvalError::LooksAhead { changed: 0, moved: 0 });
        assert_eq!(error.to_string(), "not causal: bytes after position 0 change the prediction at 0");
    }

    #[test]
    fn reading_another_sequence_is_found() {
        let across =
            |inputs: &[u8], s: usize, p: usize, byte: usize| f32::from(inputs[(1 - s) * 16 + p] as usize == byte);
        let across =
            |i: &[u8], s: usize, p: usize, b: usize| if s == 0 { 0.0 } else { across(i, s, p.saturating_sub(p), b) };
        let error = check_causal(&mut RulePredictor(2, 16, across), &text(500), &spec(50)).unwrap_err();
        assert_eq!(error, EvalError::ReadsAcrossBatch { changed: 0, moved: 1 });
    }

    #[test]
    fn a_causal_model_passes() {
        let sum = |inputs: &[u8], s: usize, p: usize, byte: usize| {
            let seen: u32 = inputs[s * 16..=s * 16 + p].iter().map(|b| u32::from(*b)).sum();
            (seen % 256) as f32 * byte as f32
        };
        assert_eq!(check_causal(&mut RulePredictor(3, 16, sum), &text(500), &spec(50)), Ok(()));
    }

    #[test]
    fn specs_have_one_spelling_and_a_cid() {
        let spec = EvalSpec::for_budget(300);
        let text = r#"{"eval_bytes":245760,"metric":"val_bpb","probes":4,"val_percent":10,"version":1}"#;
        assert_eq!(String::from_utf8(spec.to_bytes()).unwrap(), text);
        assert_eq!(EvalSpec::from_bytes(text.as_bytes()), Ok(spec.clone()));
        assert_eq!(spec.cid(), Cid::of(text.as_bytes()));
        assert_eq!(EvalSpec::for_budget(20).eval_bytes, 16 << 10);
        for bad in [text.replace(':', ": "), text.replace("10,", "60,"), text.replace("\"version\":1", "\"version\":2")]
        {
            assert!(EvalSpec::from_bytes(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
