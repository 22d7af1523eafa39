//! `rope`: rotary position embedding (Su et al. 2021).

use burn::tensor::{Device, Tensor};
use serde::Serialize;

use super::flow::{Flow, Traced, first};
use super::operation::HEAVY_FLOPS;
use super::shape::Rule;
use super::shard::BatchAxes;
use super::tensors::{DeviceValue, LAST, upload};
use super::{
    ArgumentKind, Backward, Builtin, ConstantPair, DefaultValue, Forward, InputValues, Located, Malformed, Misuse,
    Operation, Parameter, Symbol, TableKey, Trace, positive,
};
use crate::value::{ValueId, elements, show};

/// Over `[batch, heads, context, width]`, `width` even: the pair `(i, i + width/2)` of a head at
/// position `p` turns by the angle `p * base^(-2i/width)`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rope {
    pub x: ValueId,
    pub base: f64,
}

impl Operation for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn inputs_mut(&mut self) -> Vec<&mut ValueId> {
        vec![&mut self.x]
    }

    fn flops(&self, at: Located<'_>) -> u64 {
        elements(at.shape()).saturating_mul(HEAVY_FLOPS)
    }

    fn table(&self, at: Located<'_>) -> Option<TableKey> {
        let (rows, columns) = match at.shape() {
            [.., context, width] => (*context, *width),
            _ => (1, 1),
        };
        Some(TableKey { operation: self.name(), rows, columns, number: self.base.to_bits() })
    }

    /// Cosines and sines of `position * base^(-2 pair / width)`, `[context, width / 2]`.
    fn make_table(&self, key: TableKey, device: &Device) -> Option<ConstantPair> {
        let (context, width, base) = (key.rows, key.columns, f64::from_bits(key.number));
        let half = width / 2;
        let angle = |i: usize| (i / half) as f64 * base.powf(-2.0 * (i % half) as f64 / width as f64);
        let table = |f: fn(f64) -> f64| (0..context * half).map(|i| f(angle(i)) as f32).collect();
        let dims = [1, 1, 1, context, half];
        Some((upload(table(f64::cos), dims, device), upload(table(f64::sin), dims, device)))
    }

    fn causality(&self, inputs: &[Flow], at: Located<'_>) -> Traced {
        first(inputs, at)?.joined_along(at.shape().len().saturating_sub(1), at)
    }

    /// The last two dimensions are counted.
    fn works_on_shards(&self, at: Located<'_>, batch: &BatchAxes) -> bool {
        batch.are_aligned(at) && batch.of(at.id()).is_none_or(|axis| axis >= 2)
    }

    fn forward(&self, inputs: InputValues, run: &mut Forward<'_>) -> Result<DeviceValue, Malformed> {
        let (cos, sin) = run.table()?;
        Ok(turned(inputs.one()?, cos, sin))
    }

    /// The gradient turns back.
    fn backward(&self, grad: DeviceValue, run: &mut Backward<'_>) -> Result<(), Malformed> {
        let (cos, sin) = run.table()?;
        run.add(self.x, turned(grad, cos, sin.neg()));
        Ok(())
    }
}

/// Pairs `(i, i + width/2)` turned by their angle; by its opposite with `-sin`.
fn turned(x: DeviceValue, cos: DeviceValue, sin: DeviceValue) -> DeviceValue {
    let [.., width] = x.dims();
    let half = width / 2;
    let (a, b) = (x.clone().narrow(LAST, 0, half), x.narrow(LAST, half, half));
    let first = a.clone() * cos.clone() - b.clone() * sin.clone();
    Tensor::cat(vec![first, a * sin + b * cos], LAST)
}

/// `[batch, heads, context, width]` with an even width.
fn check(shape: &[usize]) -> Rule<()> {
    match shape {
        [_, _, _, width] if width % 2 == 0 => Ok(()),
        [_, _, _, width] => Err(Misuse::new(format!(
            "rope: {} has width {width}, which is odd; the width of a head must be even",
            show(shape)
        ))),
        _ => Err(Misuse::new(format!(
            "rope: {} must be [batch, heads, context, width]: split_heads() first",
            show(shape)
        ))),
    }
}

fn rope(trace: &dyn Trace, x: &Symbol, base: f64) -> Rule<Symbol> {
    check(&x.shape)?;
    x.float("rope")?;
    trace.make(Rope { x: x.id, base: positive("rope: base", base)? }, x.shape.clone())
}

const PARAMETERS: &[Parameter] = &[
    Parameter::new("x", ArgumentKind::Tensor),
    Parameter::new("base", ArgumentKind::Number).or(DefaultValue::Number(10_000.0)),
];

pub(super) const BUILTINS: &[Builtin] = &[Builtin::function("rope", PARAMETERS, |trace, arguments| {
    let (x, base): (Symbol, f64) = arguments.read()?;
    Ok(rope(trace, &x, base)?.into())
})
.documented(
    "rotary positions over `[batch, heads, context, w]`, `w` even: elements `i` and `i + w/2` turn together, by the angle `position * base^(-2i/w)`",
    "rope(split_heads(x, 3))",
)];

#[cfg(test)]
mod tests {
    use super::super::shape::complaint;
    use super::super::testing::Case;
    use super::*;

    #[test]
    fn shape_rule_wants_heads_of_even_width() {
        assert!(check(&[2, 4, 8, 16]).is_ok());
        assert!(complaint(check(&[2, 4, 8, 15])).contains("must be even"));
        assert!(complaint(check(&[2, 8, 16])).contains("split_heads() first"));
    }

    #[test]
    fn rotation_turns_pairs_by_position_times_frequency() {
        let x: (&[usize], &[f32]) = (&[1, 1, 2, 4], &[1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0]);
        let (slow, fast) = (0.01_f32, 1.0_f32);
        let turned = [
            fast.cos() - 3.0 * fast.sin(),
            2.0 * slow.cos() - 4.0 * slow.sin(),
            fast.sin() + 3.0 * fast.cos(),
            2.0 * slow.sin() + 4.0 * slow.cos(),
        ];
        Case::new(&[x], |b, ids| b.node(Rope { x: ids[0], base: 10_000.0 }, &[1, 1, 2, 4]))
            .gives(&[&[1.0, 2.0, 3.0, 4.0][..], &turned].concat())
            .gradient_checks();
    }
}
