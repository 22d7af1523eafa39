//! `dropout`: elements zeroed at random in training (Srivastava et al. 2014).

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng as _;
use serde::Serialize;

use super::flow::{Fill, Flow, Traced, first};
use super::shape::Rule;
use super::tensors::{DeviceValue, upload};
use super::{
    ArgumentKind, Backward, Builtin, Forward, InputValues, Located, Malformed, Misuse, Operation, Parameter, Symbol,
    Trace,
};
use crate::value::ValueId;

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

    fn forward(&self, inputs: InputValues, run: &mut Forward<'_>) -> Result<DeviceValue, Malformed> {
        let (x, dims) = (inputs.one()?, run.dims());
        let Some(random) = run.dropout.as_deref_mut().filter(|_| self.p > 0.0) else { return Ok(x) };
        let mask = upload(mask(self.p, dims.iter().product(), random), dims, run.device);
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
