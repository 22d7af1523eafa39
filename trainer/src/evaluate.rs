//! The metric: bits per byte on held-out bytes, computed by the host from a model's logits.
//!
//! A script never sees the held-out targets. It only maps bytes to logits. The rules below make
//! sure that a better metric means a better model:
//!
//! - *What is predicted* follows from [`EvalSeed`], the hash of the task and the graph. Nobody can
//!   write a script that holds the text on which this very script is evaluated ([`EvalText`]).
//! - *What a script holds* is charged: the metric is the length of a two-part code, the graph's
//!   description and the text given the graph.
//! - *What a prediction reads*: at many places of the text, everything that a prediction must not
//!   depend on is replaced. A model that read it is found by what it loses ([`HiddenCost`]).
//!
//! `docs/evaluation.md` has the full definition, and the arguments for it.

mod seed;
mod spec;
mod text;

pub use seed::EvalSeed;
pub use spec::{EVAL_VERSION, EvalSpec};
pub use text::{EvalText, Place};

use std::time::Duration;

/// Number of possible next bytes.
pub const VOCAB: usize = 256;

/// Most bits that hiding the future may cost in the mean. A causal model's predictions do not
/// change at all, or by rounding on devices that reorder sums, which is far less. What a leak may
/// gain unnoticed is below the tolerance of verification.
const HIDDEN_TOLERANCE: f64 = 0.001;

/// Why a model has no metric.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EvalError {
    /// The predictions are worse when what they must not depend on is replaced.
    #[error("not causal: hiding later bytes and other sequences costs {cost:.4} bits a byte (+- {error:.4})")]
    ReadsAhead { cost: f64, error: f64 },
    /// A logit is infinite or not a number, or the metric is not above 0.
    #[error("diverged: the model's output is not finite")]
    NotFinite,
    /// The evaluation takes too long.
    #[error("deadline: the evaluation of {passes} passes takes about {seconds:.0} s, {allowed:.0} s are allowed")]
    TooSlow { passes: usize, seconds: f64, allowed: f64 },
    /// The bytes are no canonical evaluation spec.
    #[error("not an evaluation spec: {0}")]
    BadSpec(String),
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

/// What an evaluation found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// The metric: [`Self::bits_per_byte`] and the charge for the description.
    pub val_bpb: f64,
    /// Mean surprise of the targets, in bits.
    pub bits_per_byte: f64,
    /// What hiding the future costs.
    pub hidden: HiddenCost,
}

/// What it costs a model, in bits a byte, that later bytes and other sequences are hidden from it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HiddenCost {
    /// Mean over all pairs of the surprise with the future hidden, less that with it open.
    pub mean: f64,
    /// Standard error of the mean.
    pub error: f64,
}

/// Decides whether an evaluation goes on.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    allowed: Duration,
    started: std::time::Instant,
}

impl Patience {
    /// Passes after which the time of all is estimated. The first ones are slower than the rest.
    const TRIED: usize = 4;

    /// An evaluation that starts now and may take this long.
    pub fn new(allowed: Duration) -> Self {
        Self { allowed, started: std::time::Instant::now() }
    }

    fn check(&self, done: usize, passes: usize) -> Result<(), EvalError> {
        let (spent, allowed) = (self.started.elapsed().as_secs_f64(), self.allowed.as_secs_f64());
        let seconds = spent / done.max(1) as f64 * passes as f64;
        // A script that fits several times over is not refused for a hiccup of the machine.
        if spent > allowed || (done == Self::TRIED && seconds > 2.0 * allowed) {
            return Err(EvalError::TooSlow { passes, seconds, allowed });
        }
        Ok(())
    }
}

/// Evaluates a model on `text`. `description` is the length of its graph's description in bytes,
/// `filler` unrelated text, longer than a window of `text`, that stands for a hidden future.
///
/// # Errors
/// [`EvalError::NotFinite`], [`EvalError::ReadsAhead`] or [`EvalError::TooSlow`].
pub fn evaluate(
    model: &mut dyn Predictor,
    text: &EvalText,
    description: u64,
    filler: &[u8],
    patience: Patience,
) -> Result<Evaluation, EvalError> {
    let passes = open_passes(model, text) + text.hidden_passes(model.batch().max(1)).len();
    let mut done = 0;
    let mut after_pass = || {
        done += 1;
        patience.check(done, passes)
    };
    let open = surprises(model, text, &mut after_pass)?;
    let bits_per_byte = mean(&open)?;
    let hidden = hidden_cost(model, text, &open, filler, &mut after_pass)?;
    if hidden.mean > HIDDEN_TOLERANCE {
        return Err(EvalError::ReadsAhead { cost: hidden.mean, error: hidden.error });
    }
    let val_bpb = bits_per_byte + text.charge(description);
    if !(val_bpb.is_finite() && val_bpb > 0.0) {
        return Err(EvalError::NotFinite);
    }
    Ok(Evaluation { val_bpb, bits_per_byte, hidden })
}

/// Mean bits for each target of `text`, without the charge and without the check: the plain pass.
///
/// # Errors
/// [`EvalError::NotFinite`] when a counted logit is not finite.
pub fn bits_per_byte(model: &mut dyn Predictor, text: &EvalText) -> Result<f64, EvalError> {
    mean(&surprises(model, text, &mut || Ok(()))?)
}

fn mean(surprises: &[f64]) -> Result<f64, EvalError> {
    let mean = surprises.iter().sum::<f64>() / surprises.len() as f64;
    if mean.is_finite() { Ok(mean) } else { Err(EvalError::NotFinite) }
}

fn open_passes(model: &dyn Predictor, text: &EvalText) -> usize {
    text.windows().div_ceil(model.batch().max(1))
}

/// The surprise of each target, in the order of `text`: window after window, place after place.
fn surprises(
    model: &mut dyn Predictor,
    text: &EvalText,
    after_pass: &mut dyn FnMut() -> Result<(), EvalError>,
) -> Result<Vec<f64>, EvalError> {
    let (batch, context, width) = (model.batch().max(1), model.context(), text.width());
    let mut all = Vec::with_capacity(text.targets());
    for first in (0..text.windows()).step_by(batch) {
        let mut inputs = vec![0; batch * context];
        for (row, window) in inputs.chunks_exact_mut(context.max(1)).zip(first..) {
            copy_to(row, text.window(window).split_last().map(|(_, inputs)| inputs).unwrap_or_default());
        }
        let logits = model.logits(&inputs);
        for (row, window) in logits.chunks_exact(VOCAB * context.max(1)).zip(first..text.windows()) {
            let targets = text.window(window).iter().skip(1).take(width);
            all.extend(row.chunks_exact(VOCAB).zip(targets).map(|(logits, target)| surprise(logits, *target)));
        }
        after_pass()?;
    }
    // The last window may reach beyond what is asked for.
    all.truncate(text.targets());
    Ok(all)
}

/// Replaces, at each place that `text` has drawn, the later bytes of the row by filler, puts other
/// windows into all other rows, and compares the surprise of the target.
fn hidden_cost(
    model: &mut dyn Predictor,
    text: &EvalText,
    open: &[f64],
    filler: &[u8],
    after_pass: &mut dyn FnMut() -> Result<(), EvalError>,
) -> Result<HiddenCost, EvalError> {
    let (batch, context) = (model.batch().max(1), model.context().max(1));
    let mut fillers = text.fillers(filler);
    let mut costs = Vec::with_capacity(text.places().len());
    for places in text.hidden_passes(batch) {
        let mut inputs = vec![0; batch * context];
        for (number, row) in inputs.chunks_exact_mut(context).enumerate() {
            copy_to(row, fillers.draw());
            if let Some(place) = places.get(number) {
                copy_to(row, text.window(place.window).get(..=place.at).unwrap_or_default());
            }
        }
        let logits = model.logits(&inputs);
        for (row, place) in logits.chunks_exact(VOCAB * context).zip(places) {
            let target = text.window(place.window).get(place.at + 1).copied().unwrap_or_default();
            let hidden = row.chunks_exact(VOCAB).nth(place.at).map_or(f64::NAN, |logits| surprise(logits, target));
            let open = open.get(place.window * text.width() + place.at).copied().unwrap_or(f64::NAN);
            costs.push(hidden - open);
        }
        after_pass()?;
    }
    let (count, mean) = (costs.len().max(1) as f64, mean(&costs)?);
    let variance = costs.iter().map(|cost| (cost - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    Ok(HiddenCost { mean, error: (variance / count).sqrt() })
}

/// Copies as many bytes as both have, to the beginning of `to`.
fn copy_to(to: &mut [u8], from: &[u8]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}

/// `-log2` of the probability that `logits` (256 of them) give to `target`, in double precision:
/// `log2(sum_i exp(l_i - m)) - (l_target - m) / ln 2` with `m` the largest. NaN if a logit is.
fn surprise(logits: &[f32], target: u8) -> f64 {
    if logits.iter().any(|logit| !logit.is_finite()) {
        return f64::NAN;
    }
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - max).exp()).sum();
    let chosen = logits.get(usize::from(target)).map_or(f64::NAN, |logit| f64::from(*logit) - max);
    sum.log2() - chosen / std::f64::consts::LN_2
}

#[cfg(test)]
mod cheats;
#[cfg(test)]
mod tests;
