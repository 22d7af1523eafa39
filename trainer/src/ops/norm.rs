//! `rms_norm` and `layer_norm`: values scaled to a common size.

use serde::Serialize;

use super::binary::of_tensors;
use super::flow::{Flow, Traced, first};
use super::operation::HEAVY_FLOPS;
use super::shape::Rule;
use super::tensors::{DeviceValue, LAST};
use super::{
    ArgumentKind, Backward, BinaryFunction, Builtin, DefaultValue, Forward, InputValues, Located, Malformed, Operation,
    Parameter, Symbol, Trace, positive,
};
use crate::value::{ValueId, elements};

/// Divided by the root mean square of the last dimension: `x / sqrt(mean(x^2) + eps)`
/// (Zhang & Sennrich 2019).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RmsNorm {
    pub x: ValueId,
    pub eps: f64,
}

/// Moved and scaled to mean 0 and variance 1 over the last dimension (Ba et al. 2016).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerNorm {
    pub x: ValueId,
    pub eps: f64,
}

/// `x / sqrt(mean(x^2) + eps)`; keeps the factor for the backward pass.
fn normalised(x: DeviceValue, eps: f64, run: &mut Forward<'_>) -> DeviceValue {
    let scale = x.clone().square().mean_dim(LAST).add_scalar(eps).sqrt().recip();
    run.kept = Some(scale.clone());
    x * scale
}

impl Operation for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn inputs_mut(&mut self) -> Vec<&mut ValueId> {
        vec![&mut self.x]
    }

    fn flops(&self, at: Located<'_>) -> u64 {
        elements(at.shape()).saturating_mul(HEAVY_FLOPS)
    }

    fn saved(&self, at: Located<'_>, _flows: &dyn Fn(ValueId) -> bool) -> Vec<ValueId> {
        vec![at.id()]
    }

    fn causality(&self, inputs: &[Flow], at: Located<'_>) -> Traced {
        first(inputs, at)?.joined_along(at.shape().len().saturating_sub(1), at)
    }

    fn forward(&self, inputs: InputValues, run: &mut Forward<'_>) -> Result<DeviceValue, Malformed> {
        Ok(normalised(inputs.one()?, self.eps, run))
    }

    /// `r (g - y mean(g y))`, with `y = x r`.
    fn backward(&self, grad: DeviceValue, run: &mut Backward<'_>) -> Result<(), Malformed> {
        let y = run.result()?;
        let along = (grad.clone() * y.clone()).mean_dim(LAST);
        let scale = run.take_kept()?;
        run.add(self.x, (grad - y * along) * scale);
        Ok(())
    }
}

impl Operation for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn inputs_mut(&mut self) -> Vec<&mut ValueId> {
        vec![&mut self.x]
    }

    fn flops(&self, at: Located<'_>) -> u64 {
        elements(at.shape()).saturating_mul(HEAVY_FLOPS)
    }

    fn saved(&self, at: Located<'_>, _flows: &dyn Fn(ValueId) -> bool) -> Vec<ValueId> {
        vec![at.id()]
    }

    fn causality(&self, inputs: &[Flow], at: Located<'_>) -> Traced {
        first(inputs, at)?.joined_along(at.shape().len().saturating_sub(1), at)
    }

    fn forward(&self, inputs: InputValues, run: &mut Forward<'_>) -> Result<DeviceValue, Malformed> {
        let x = inputs.one()?;
        let mean = x.clone().mean_dim(LAST);
        Ok(normalised(x - mean, self.eps, run))
    }

    /// `r (g - mean(g) - y mean(g y))`, with `y = (x - mean(x)) r`.
    fn backward(&self, grad: DeviceValue, run: &mut Backward<'_>) -> Result<(), Malformed> {
        let y = run.result()?;
        let along = (grad.clone() * y.clone()).mean_dim(LAST);
        let mean = grad.clone().mean_dim(LAST);
        let scale = run.take_kept()?;
        run.add(self.x, (grad - mean - y * along) * scale);
        Ok(())
    }
}

/// `x * weight` or `x + bias` where one was given.
fn combined(trace: &dyn Trace, what: &str, function: BinaryFunction, x: Symbol, with: Option<Symbol>) -> Rule<Symbol> {
    match with {
        Some(other) => of_tensors(trace, what, function, &x, &other),
        None => Ok(x),
    }
}

fn rms_norm(trace: &dyn Trace, x: &Symbol, weight: Option<Symbol>, eps: f64) -> Rule<Symbol> {
    x.last_dimension("rms_norm")?;
    let eps = positive("rms_norm: eps", eps)?;
    let normed = trace.make(RmsNorm { x: x.id, eps }, x.shape.clone())?;
    combined(trace, "rms_norm", BinaryFunction::Mul, normed, weight)
}

fn layer_norm(trace: &dyn Trace, x: &Symbol, weight: Option<Symbol>, bias: Option<Symbol>, eps: f64) -> Rule<Symbol> {
    x.last_dimension("layer_norm")?;
    let eps = positive("layer_norm: eps", eps)?;
    let normed = trace.make(LayerNorm { x: x.id, eps }, x.shape.clone())?;
    let scaled = combined(trace, "layer_norm", BinaryFunction::Mul, normed, weight)?;
    combined(trace, "layer_norm", BinaryFunction::Add, scaled, bias)
}

const X: Parameter = Parameter::new("x", ArgumentKind::Tensor);
const WEIGHT: Parameter = Parameter::new("weight", ArgumentKind::Tensor).or(DefaultValue::Nothing);
const BIAS: Parameter = Parameter::new("bias", ArgumentKind::Tensor).or(DefaultValue::Nothing);
const EPS: Parameter = Parameter::new("eps", ArgumentKind::Number);

pub(super) const BUILTINS: &[Builtin] = &[
    Builtin::function("rms_norm", &[X, WEIGHT, EPS.or(DefaultValue::Number(1e-6))], |trace, arguments| {
        let (x, weight, eps): (Symbol, Option<Symbol>, f64) = arguments.read()?;
        Ok(rms_norm(trace, &x, weight, eps)?.into())
    })
    .documented("`x / sqrt(mean(x^2) + eps)` over the last dimension, times `weight` if given", "rms_norm(x)"),
    Builtin::function("layer_norm", &[X, WEIGHT, BIAS, EPS.or(DefaultValue::Number(1e-5))], |trace, arguments| {
        let (x, weight, bias, eps): (Symbol, Option<Symbol>, Option<Symbol>, f64) = arguments.read()?;
        Ok(layer_norm(trace, &x, weight, bias, eps)?.into())
    })
    .documented(
        "`x` moved and scaled to mean 0 and variance 1 over the last dimension, times `weight` and plus `bias` if given",
        "layer_norm(x, param(\"gain\", [6], init=ones()))",
    ),
];

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, SIX};
    use super::*;

    #[test]
    fn norms_match_numbers_by_hand() {
        let normed = |centre: bool| -> Vec<f32> {
            let norm = |row: &[f32]| -> Vec<f32> {
                let mean = if centre { row.iter().sum::<f32>() / 3.0 } else { 0.0 };
                let square = row.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 3.0;
                row.iter().map(|x| (x - mean) / (square + 1e-5).sqrt()).collect()
            };
            [norm(&SIX.1[..3]), norm(&SIX.1[3..])].concat()
        };
        Case::new(&[SIX], |b, ids| b.node(RmsNorm { x: ids[0], eps: 1e-5 }, &[2, 3]))
            .gives(&normed(false))
            .gradient_checks();
        Case::new(&[SIX], |b, ids| b.node(LayerNorm { x: ids[0], eps: 1e-5 }, &[2, 3]))
            .gives(&normed(true))
            .gradient_checks();
    }
}
