//! `dropout`: elements zeroed at random in training (Srivastava et al. 2014).

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng as _;
use serde::Serialize;

use super::flow::{Fill, Flow, Traced, first};
use super::shape::Rule;
use super::shard::{BatchAxes, Shard};
use super::tensors::{DeviceValue, upload};
use super::{
    ArgumentKind, Backward, Builtin, Forward, InputValues, Located, Malformed, Misuse, Operation, Parameter, Symbol,
    Trace,
};
use crate::value::{ValueId, elements};

/// Elements zeroed with probability `p` in training, the rest scaled by `1/(1-p)`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dropout {
    pub x: ValueId,
    pub p: f64,
}

impl Operation for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn inputs_mut(&mut self) -> Vec<&mut ValueId> {
        vec![&mut self.x]
    }

    fn causality(&self, inputs: &[Flow], at: Located<'_>) -> Traced {
        Ok(first(inputs, at)?.map_fill(|fill| (fill == Fill::Zero).then_some(fill)))
    }

    /// The shards' masks are consecutive parts of the batch's mask, of whole words each.
    fn works_on_shards(&self, at: Located<'_>, batch: &BatchAxes) -> bool {
        let is_first = |axis: usize| at.shape().iter().rev().skip(axis + 1).all(|extent| *extent == 1);
        let is_even = elements(at.shape()).is_multiple_of(2 * batch.count.max(1) as u64);
        // Without sequences in it, the value is whole for each shard, and so is its mask.
        batch.are_aligned(at) && batch.of(at.id()).is_some_and(is_first) && is_even
    }

    fn forward(&self, inputs: InputValues, run: &mut Forward<'_>) -> Result<DeviceValue, Malformed> {
        let (x, dims, shard) = (inputs.one()?, run.dims(), run.shard);
        let Some(random) = run.dropout.as_deref_mut().filter(|_| self.p > 0.0) else { return Ok(x) };
        let mask = upload(mask_of_shard(self.p, dims.iter().product(), shard, random), dims, run.device);
        run.kept = Some(mask.clone());
        Ok(x * mask)
    }

    fn backward(&self, grad: DeviceValue, run: &mut Backward<'_>) -> Result<(), Malformed> {
        let grad = if self.p > 0.0 { grad * run.take_kept()? } else { grad };
        run.add(self.x, grad);
        Ok(())
    }
}

/// A mask of `len` elements: 0 with probability `p` (to 1/65536), else `1/(1-p)`.
///
/// Sixteen random bits an element. `rand`'s Bernoulli distribution would take 64 and give other
/// masks: every model with dropout would train to other numbers.
fn mask(p: f64, len: usize, random: &mut ChaCha8Rng) -> Vec<f32> {
    let threshold = (p * 65536.0).round() as u32;
    let keep = if p < 1.0 { (1.0 / (1.0 - p)) as f32 } else { 0.0 };
    let mut mask = Vec::with_capacity(len + 1);
    while mask.len() < len {
        let word = random.next_u32();
        for half in [word & 0xffff, word >> 16] {
            mask.push(if half < threshold { 0.0 } else { keep });
        }
    }
    mask.truncate(len);
    mask
}

/// The part of the batch's mask that a shard of `len` elements has. Takes as many numbers as the whole mask does, so
/// that shards change no mask.
fn mask_of_shard(p: f64, len: usize, shard: Shard, random: &mut ChaCha8Rng) -> Vec<f32> {
    if shard == Shard::WHOLE {
        return mask(p, len, random);
    }
    let (begin, words) = (random.get_word_pos(), len as u128 / 2);
    random.set_word_pos(begin + words * shard.index as u128);
    let part = mask(p, len, random);
    random.set_word_pos(begin + words * shard.count as u128);
    part
}

fn dropout(trace: &dyn Trace, x: &Symbol, p: f64) -> Rule<Symbol> {
    x.float("dropout")?;
    if !(0.0..1.0).contains(&p) {
        return Err(Misuse::new(format!("dropout: p is {p}; choose 0 <= p < 1")));
    }
    if p == 0.0 {
        return Ok(x.clone());
    }
    trace.make(Dropout { x: x.id, p }, x.shape.clone())
}

const PARAMETERS: &[Parameter] =
    &[Parameter::new("x", ArgumentKind::Tensor), Parameter::new("p", ArgumentKind::Number)];

pub(super) const BUILTINS: &[Builtin] = &[Builtin::function("dropout", PARAMETERS, |trace, arguments| {
    let (x, p): (Symbol, f64) = arguments.read()?;
    Ok(dropout(trace, &x, p)?.into())
})
.documented(
    "in training, each element is zeroed with probability `p` and the rest are scaled by `1/(1-p)`. In evaluation, `x`",
    "dropout(x, 0.1)",
)];

#[cfg(test)]
mod tests {
    use super::super::testing::Case;
    use super::*;
    use rand_chacha::rand_core::SeedableRng as _;

    #[test]
    fn masks_keep_the_mean() {
        let mut random = ChaCha8Rng::seed_from_u64(9);
        let values = mask(0.25, 40_001, &mut random);
        assert_eq!(values.len(), 40_001);
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        assert!(mask(0.0, 10, &mut random).iter().all(|v| *v == 1.0));
    }

    #[test]
    fn training_zeroes_elements_and_evaluation_does_not() {
        let case = Case::new(&[(&[1000], &[1.0; 1000])], |b, ids| b.node(Dropout { x: ids[0], p: 0.5 }, &[1000]));
        case.gives(&[1.0; 1000]);
        let (values, grads) = case.train(&[1.0; 1000]);
        assert!(values.iter().all(|v| *v == 0.0 || *v == 2.0));
        assert!((400..600).contains(&values.iter().filter(|v| **v == 0.0).count()));
        assert_eq!(values, grads[0], "the same mask both ways");
    }
}
