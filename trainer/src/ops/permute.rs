//! `x.permute` and `x.transpose`: dimensions in another order.

use serde::Serialize;

use super::flow::{Flow, Traced, first};
use super::shape::{Rule, axis};
use super::shard::BatchAxes;
use super::tensors::DeviceValue;
use super::{
    ArgumentKind, Backward, Builtin, DefaultValue, Forward, InputValues, Located, Malformed, Misuse, Operation,
    Parameter, Symbol, Trace,
};
use crate::value::{MAX_RANK, Shape, ValueId, show};

/// Dimensions in another order: output dimension `i` is input dimension `axes[i]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Permute(pub ValueId, pub Vec<usize>);

impl Permute {
    /// The order on the device, where leading ones stay in front.
    fn on_device(&self) -> [isize; MAX_RANK] {
        let offset = MAX_RANK - self.1.len().min(MAX_RANK);
        let mut all = [0, 1, 2, 3, 4];
        for (slot, from) in all.iter_mut().skip(offset).zip(&self.1) {
            *slot = (*from + offset) as isize;
        }
        all
    }
}

impl Operation for Permute {
    fn name(&self) -> &'static str {
        "permute"
    }

    fn inputs_mut(&mut self) -> Vec<&mut ValueId> {
        vec![&mut self.0]
    }

    fn causality(&self, inputs: &[Flow], at: Located<'_>) -> Traced {
        Ok(first(inputs, at)?.permuted(&self.1))
    }

    fn works_on_shards(&self, at: Located<'_>, batch: &BatchAxes) -> bool {
        batch.follow(self.0, at)
    }

    fn forward(&self, inputs: InputValues, _run: &mut Forward<'_>) -> Result<DeviceValue, Malformed> {
        Ok(inputs.one()?.permute(self.on_device()))
    }

    fn backward(&self, grad: DeviceValue, run: &mut Backward<'_>) -> Result<(), Malformed> {
        let mut back = [0_isize; MAX_RANK];
        for (to, from) in self.on_device().iter().enumerate() {
            if let Some(slot) = back.get_mut(*from as usize) {
                *slot = to as isize;
            }
        }
        run.add(self.0, grad.permute(back));
        Ok(())
    }
}

/// The order of dimensions, checked to be a permutation, and the shape that it gives.
fn order(from: &[usize], axes: &[i64]) -> Rule<(Vec<usize>, Shape)> {
    let order = axes.iter().map(|a| axis("permute", *a, from)).collect::<Rule<Vec<usize>>>()?;
    let mut seen = order.clone();
    seen.sort_unstable();
    if seen.len() != from.len() || seen.windows(2).any(|pair| pair.first() == pair.last()) {
        return Err(Misuse::new(format!(
            "permute: {} needs each of its {} axes exactly once, got {}",
            show(from),
            from.len(),
            show(&order)
        )));
    }
    let shape = order.iter().filter_map(|i| from.get(*i)).copied().collect();
    Ok((order, shape))
}

fn permute(trace: &dyn Trace, x: &Symbol, axes: &[i64]) -> Rule<Symbol> {
    x.float("permute")?;
    let (order, shape) = order(&x.shape, axes)?;
    trace.make(Permute(x.id, order), shape)
}

/// Two dimensions exchanged.
pub(super) fn transpose(trace: &dyn Trace, x: &Symbol, a: i64, b: i64) -> Rule<Symbol> {
    x.float("transpose")?;
    let (a, b) = (axis("transpose", a, &x.shape)?, axis("transpose", b, &x.shape)?);
    let mut order: Vec<i64> = (0..x.shape.len() as i64).collect();
    order.swap(a, b);
    permute(trace, x, &order)
}

const TWO_AXES: &[Parameter] = &[
    Parameter::new("a", ArgumentKind::Integer).or(DefaultValue::Integer(-2)).by_position(),
    Parameter::new("b", ArgumentKind::Integer).or(DefaultValue::Integer(-1)).by_position(),
];

pub(super) const BUILTINS: &[Builtin] = &[
    Builtin::method("transpose", TWO_AXES, |trace, arguments| {
        let (x, a, b): (Symbol, i64, i64) = arguments.read()?;
        Ok(transpose(trace, &x, a, b)?.into())
    })
    .documented("the dimensions `a` and `b` exchanged", "x.transpose(0, 1)"),
    Builtin::method("permute", &[Parameter::new("axes", ArgumentKind::Extents).by_position()], |trace, arguments| {
        let (x, axes): (Symbol, Vec<i64>) = arguments.read()?;
        Ok(permute(trace, &x, &axes)?.into())
    })
    .documented("the dimensions in the order of the list, which names each exactly once", "x.permute([2, 0, 1])"),
];

#[cfg(test)]
mod tests {
    use super::super::shape::complaint;
    use super::super::testing::{COUNTED, Case};
    use super::*;

    #[test]
    fn order_names_each_axis_once() {
        assert_eq!(order(&[2, 3, 4], &[0, 2, -2]).unwrap(), (vec![0, 2, 1], vec![2, 4, 3]));
        assert_eq!(
            complaint(order(&[2, 3], &[0, 0])),
            "permute: [2,3] needs each of its 2 axes exactly once, got [0,0]"
        );
        assert!(complaint(order(&[2, 3], &[0])).contains("exactly once"));
        assert!(complaint(order(&[2, 3], &[0, 2])).contains("axis 2 does not exist in [2,3]"));
    }

    #[test]
    fn elements_move_with_their_dimensions() {
        Case::new(&[COUNTED], |b, ids| b.node(Permute(ids[0], vec![1, 0]), &[3, 2]))
            .gives(&[1.0, 4.0, 2.0, 5.0, 3.0, 6.0])
            .gradient_checks();
        let cube: (&[usize], &[f32]) = (&[2, 1, 3], COUNTED.1);
        Case::new(&[cube], |b, ids| b.node(Permute(ids[0], vec![2, 0, 1]), &[3, 2, 1]))
            .gives(&[1.0, 4.0, 2.0, 5.0, 3.0, 6.0])
            .gradient_checks();
    }
}
