//! Functions of single elements with two operands, broadcast: the operators `+ - * /` and
//! functions such as `maximum`.

use serde::Serialize;

use super::flow::{Flow, Leak, Operands, Traced};
use super::scalar::scalar;
use super::shape::{Rule, broadcast};
use super::tensors::{DeviceValue, Dims, unbroadcast};
use super::unary::unary;
use super::{
    ArgumentKind, Arguments, Backward, BinaryFunction, Builtin, CallResult, Forward, InputValues, Located, Malformed,
    Operand, Operation, Parameter, Symbol, Trace, UnaryFunction, finite,
};
use crate::value::ValueId;

/// An elementwise function of two values, which broadcast as NumPy's do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Binary(pub BinaryFunction, pub ValueId, pub ValueId);

/// The gradients of both operands, before they are summed over broadcast dimensions. None where
/// no gradient flows.
type Pair = (Option<DeviceValue>, Option<DeviceValue>);

impl BinaryFunction {
    fn of(self, a: DeviceValue, b: DeviceValue) -> DeviceValue {
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
            Self::Div => a / b,
            Self::Max => a.max_pair(b),
            Self::Min => a.min_pair(b),
            Self::Pow => a.powf(b),
            Self::Mod | Self::Less | Self::LessEqual | Self::Equal | Self::NotEqual => {
                // These kernels do not broadcast.
                let dims = broadcast_dims(a.dims(), b.dims());
                let (a, b) = (a.expand(dims), b.expand(dims));
                match self {
                    Self::Mod => a.remainder(b),
                    Self::Less => a.lower(b).float(),
                    Self::LessEqual => a.lower_equal(b).float(),
                    Self::Equal => a.equal(b).float(),
                    _ => a.not_equal(b).float(),
                }
            }
        }
    }

    /// [`Self::of`] with a constant on the right.
    fn of_constant(self, a: DeviceValue, b: f64) -> DeviceValue {
        match self {
            Self::Add => a.add_scalar(b),
            Self::Sub => a.sub_scalar(b),
            Self::Mul => a.mul_scalar(b),
            Self::Div => a.div_scalar(b),
            Self::Max => a.clamp_min(b),
            Self::Min => a.clamp_max(b),
            Self::Pow => a.powf_scalar(b),
            Self::Mod => a.remainder_scalar(b),
            Self::Less => a.lower_elem(b).float(),
            Self::LessEqual => a.lower_equal_elem(b).float(),
            Self::Equal => a.equal_elem(b).float(),
            Self::NotEqual => a.not_equal_elem(b).float(),
        }
    }

    fn commutes(self) -> bool {
        matches!(self, Self::Add | Self::Mul | Self::Max | Self::Min | Self::Equal | Self::NotEqual)
    }

    /// Whether the result is 0 or 1, so that no gradient flows through it.
    fn compares(self) -> bool {
        matches!(self, Self::Less | Self::LessEqual | Self::Equal | Self::NotEqual)
    }
}

impl Operation for Binary {
    fn name(&self) -> &'static str {
        "elementwise"
    }

    fn inputs_mut(&mut self) -> Vec<&mut ValueId> {
        vec![&mut self.1, &mut self.2]
    }

    fn carries_gradient(&self, through_inputs: bool) -> bool {
        through_inputs && !self.0.compares()
    }

    fn saved(&self, at: Located<'_>, flows: &dyn Fn(ValueId) -> bool) -> Vec<ValueId> {
        let Binary(function, a, b) = *self;
        match function {
            BinaryFunction::Add
            | BinaryFunction::Sub
            | BinaryFunction::Less
            | BinaryFunction::LessEqual
            | BinaryFunction::Equal
            | BinaryFunction::NotEqual => vec![],
            BinaryFunction::Mod if flows(b) => vec![a, b],
            BinaryFunction::Mod => vec![],
            BinaryFunction::Mul => factors(a, b, flows),
            BinaryFunction::Div if flows(b) => vec![b, at.id()],
            BinaryFunction::Div => vec![b],
            BinaryFunction::Max | BinaryFunction::Min => vec![a, b],
            BinaryFunction::Pow if flows(b) => vec![a, b, at.id()],
            BinaryFunction::Pow => vec![a, b],
        }
    }

    fn causality(&self, inputs: &[Flow], at: Located<'_>) -> Traced {
        let [a, b] = inputs else { return Err(Leak::new(at, "has a wrong number of inputs")) };
        let numbers = [at.constant(self.1), at.constant(self.2)];
        Flow::combined(a, b, &Operands { function: self.0, numbers }, at)
    }

    fn forward(&self, inputs: InputValues, run: &mut Forward<'_>) -> Result<DeviceValue, Malformed> {
        let Binary(function, a, b) = *self;
        let (x, y) = inputs.two()?;
        let result = match (run.at.constant(a), run.at.constant(b)) {
            (_, Some(b)) => function.of_constant(x, b),
            (Some(a), None) if function.commutes() => function.of_constant(y, a),
            _ => function.of(x, y),
        };
        match run.enforced() {
            Some(mask) => Ok(mask.set(result, run.at.shape().len())),
            None => Ok(result),
        }
    }

    fn backward(&self, grad: DeviceValue, run: &mut Backward<'_>) -> Result<(), Malformed> {
        let Binary(function, a, b) = *self;
        let (to_a, to_b) = match function {
            BinaryFunction::Add => (Some(grad.clone()), Some(grad)),
            BinaryFunction::Sub => (Some(grad.clone()), run.flows(b).then(|| grad.neg())),
            BinaryFunction::Mul => self.product_gradients(grad, run)?,
            BinaryFunction::Div => self.quotient_gradients(grad, run)?,
            BinaryFunction::Max | BinaryFunction::Min => self.choice_gradients(grad, run)?,
            BinaryFunction::Pow => self.power_gradients(grad, run)?,
            BinaryFunction::Mod => self.remainder_gradients(grad, run)?,
            BinaryFunction::Less | BinaryFunction::LessEqual | BinaryFunction::Equal | BinaryFunction::NotEqual => {
                (None, None)
            }
        };
        for (id, grad) in [(a, to_a), (b, to_b)] {
            if let (true, Some(grad)) = (run.flows(id), grad) {
                let dims = run.dims_of(id)?;
                run.add(id, unbroadcast(grad, dims));
            }
        }
        Ok(())
    }
}

impl Binary {
    fn product_gradients(&self, grad: DeviceValue, run: &Backward<'_>) -> Result<Pair, Malformed> {
        let Binary(_, a, b) = *self;
        let scaled = |grad: DeviceValue, by: ValueId| -> Result<DeviceValue, Malformed> {
            Ok(match run.at.constant(by) {
                Some(factor) => grad.mul_scalar(factor),
                None => grad * run.value(by)?,
            })
        };
        let to_a = if run.flows(a) { Some(scaled(grad.clone(), b)?) } else { None };
        let to_b = if run.flows(b) { Some(scaled(grad, a)?) } else { None };
        Ok((to_a, to_b))
    }

    fn quotient_gradients(&self, grad: DeviceValue, run: &Backward<'_>) -> Result<Pair, Malformed> {
        let Binary(_, _, b) = *self;
        let quotient = grad / run.value(b)?;
        let to_b = if run.flows(b) { Some((quotient.clone() * run.result()?).neg()) } else { None };
        Ok((Some(quotient), to_b))
    }

    /// The gradients of a maximum or minimum. Where both operands are equal, the first takes all.
    fn choice_gradients(&self, grad: DeviceValue, run: &Backward<'_>) -> Result<Pair, Malformed> {
        let Binary(function, a, b) = *self;
        let dims = grad.dims();
        let (x, y) = (run.value(a)?.expand(dims), run.value(b)?.expand(dims));
        let second = if function == BinaryFunction::Max { x.lower(y) } else { x.greater(y) };
        let to_a = grad.clone().mask_fill(second.clone(), 0.0);
        Ok((Some(to_a), Some(grad.mask_fill(second.bool_not(), 0.0))))
    }

    /// `a mod b = a - b floor(a / b)`: 1 and `-floor(a / b)`.
    fn remainder_gradients(&self, grad: DeviceValue, run: &Backward<'_>) -> Result<Pair, Malformed> {
        let Binary(_, a, b) = *self;
        let to_b = if run.flows(b) {
            let times = (run.value(a)? / run.value(b)?).floor();
            Some((grad.clone() * times).neg())
        } else {
            None
        };
        Ok((Some(grad), to_b))
    }

    /// `p x^(p-1)` and `x^p ln x`.
    fn power_gradients(&self, grad: DeviceValue, run: &Backward<'_>) -> Result<Pair, Malformed> {
        let Binary(_, a, b) = *self;
        let (mut to_a, mut to_b) = (None, None);
        if run.flows(a) {
            let base = run.value(a)?;
            to_a = Some(match run.at.constant(b) {
                Some(p) => grad.clone() * base.powf_scalar(p - 1.0).mul_scalar(p),
                None => {
                    let p = run.value(b)?;
                    grad.clone() * base.powf(p.clone().sub_scalar(1.0)) * p
                }
            });
        }
        if run.flows(b) {
            to_b = Some(grad * run.result()? * run.value(a)?.log());
        }
        Ok((to_a, to_b))
    }
}

/// The extents of two values that broadcast.
fn broadcast_dims(a: Dims, b: Dims) -> Dims {
    let mut dims = a;
    dims.iter_mut().zip(b).for_each(|(extent, other)| *extent = (*extent).max(other));
    dims
}

/// The values that the gradients of a product read: for each factor through which a gradient flows,
/// the other factor.
pub(super) fn factors(a: ValueId, b: ValueId, flows: &dyn Fn(ValueId) -> bool) -> Vec<ValueId> {
    let mut reads = Vec::new();
    if flows(a) {
        reads.push(b);
    }
    if flows(b) {
        reads.push(a);
    }
    reads
}

/// The function of two operands, of which at least one is a tensor; `what` calls it in messages.
pub(crate) fn binary(
    trace: &dyn Trace,
    what: &str,
    function: BinaryFunction,
    a: &Operand,
    b: &Operand,
) -> Rule<Symbol> {
    if let (BinaryFunction::Div, Some(1.0), Operand::Tensor(b)) = (function, a.number(), b) {
        return unary(trace, what, UnaryFunction::Recip, b);
    }
    let (a, b) = (lift(trace, what, a)?, lift(trace, what, b)?);
    let shape = broadcast(what, &a.shape, &b.shape)?;
    trace.make(Binary(function, a.id, b.id), shape)
}

/// [`binary`] of two tensors.
pub(super) fn of_tensors(
    trace: &dyn Trace,
    what: &str,
    function: BinaryFunction,
    a: &Symbol,
    b: &Symbol,
) -> Rule<Symbol> {
    binary(trace, what, function, &Operand::Tensor(a.clone()), &Operand::Tensor(b.clone()))
}

/// An operand as a value of the graph.
pub(super) fn lift(trace: &dyn Trace, what: &str, operand: &Operand) -> Rule<Symbol> {
    match operand {
        Operand::Tensor(tensor) => {
            tensor.float(what)?;
            Ok(tensor.clone())
        }
        number => scalar(trace, number.number().unwrap_or(f64::NAN)),
    }
}

/// The function of two operands, or `plain` of two numbers.
fn apply(
    trace: &dyn Trace,
    arguments: Arguments,
    name: &str,
    function: BinaryFunction,
    plain: fn(f64, f64) -> f64,
) -> Rule<CallResult> {
    let (a, b): (Operand, Operand) = arguments.read()?;
    match (a.number(), b.number()) {
        (Some(a), Some(b)) => Ok(CallResult::Number(finite(&format!("{name}({a}, {b})"), plain(a, b))?)),
        _ => Ok(binary(trace, name, function, &a, &b)?.into()),
    }
}

/// [`apply`] with the operands exchanged.
fn swapped(
    trace: &dyn Trace,
    arguments: Arguments,
    name: &str,
    function: BinaryFunction,
    plain: fn(f64, f64) -> f64,
) -> Rule<CallResult> {
    let (a, b): (Operand, Operand) = arguments.read()?;
    match (a.number(), b.number()) {
        (Some(a), Some(b)) => Ok(CallResult::Number(plain(a, b))),
        _ => Ok(binary(trace, name, function, &b, &a)?.into()),
    }
}

fn flag(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

/// The remainder with the sign of `b`; NaN for a `b` of 0.
pub(super) fn remainder(a: f64, b: f64) -> f64 {
    a - b * (a / b).floor()
}

const AB: &[Parameter] = &[
    Parameter::new("a", ArgumentKind::Operand).by_position(),
    Parameter::new("b", ArgumentKind::Operand).by_position(),
];

pub(super) const BUILTINS: &[Builtin] = &[
    Builtin::function("maximum", AB, |trace, ab| apply(trace, ab, "maximum", BinaryFunction::Max, f64::max))
        .documented("the larger of both", "maximum(x, 0)"),
    Builtin::function("minimum", AB, |trace, ab| apply(trace, ab, "minimum", BinaryFunction::Min, f64::min))
        .documented("the smaller of both", "minimum(x, 6)"),
    Builtin::function("pow", AB, |trace, ab| apply(trace, ab, "pow", BinaryFunction::Pow, f64::powf))
        .documented("`a` to the power of `b`; `a` must not be negative unless `b` is a whole number", "pow(x, 2)"),
    // Starlark asks only the left operand of - and /, and a number there knows nothing of tensors.
    Builtin::function("sub", AB, |trace, ab| apply(trace, ab, "sub", BinaryFunction::Sub, |a, b| a - b))
        .documented("`a - b`, also with a number on the left", "sub(1, x)"),
    Builtin::function("div", AB, |trace, ab| apply(trace, ab, "div", BinaryFunction::Div, |a, b| a / b))
        .documented("`a / b`, also with a number on the left", "div(1, x)"),
    Builtin::function("mod", AB, |trace, ab| apply(trace, ab, "mod", BinaryFunction::Mod, remainder)).documented(
        "the remainder of `a / b`, with the sign of `b`. Exact for whole numbers below 2^24",
        "mod(x * 31, 7)",
    ),
    Builtin::function("lt", AB, |trace, ab| apply(trace, ab, "lt", BinaryFunction::Less, |a, b| flag(a < b)))
        .documented("1 where `a < b`, else 0. No gradient flows through this and the other comparisons", "lt(x, 0)"),
    Builtin::function("le", AB, |trace, ab| apply(trace, ab, "le", BinaryFunction::LessEqual, |a, b| flag(a <= b)))
        .documented("1 where `a <= b`, else 0", "le(x, 0)"),
    Builtin::function("gt", AB, |trace, ab| swapped(trace, ab, "gt", BinaryFunction::Less, |a, b| flag(a > b)))
        .documented("1 where `a > b`, else 0", "gt(x, 0)"),
    Builtin::function("ge", AB, |trace, ab| swapped(trace, ab, "ge", BinaryFunction::LessEqual, |a, b| flag(a >= b)))
        .documented("1 where `a >= b`, else 0", "ge(x, 0)"),
    Builtin::function("eq", AB, |trace, ab| apply(trace, ab, "eq", BinaryFunction::Equal, |a, b| flag(a == b)))
        .documented("1 where `a` and `b` are equal, else 0", "eq(floor(x), 0)"),
    Builtin::function("ne", AB, |trace, ab| apply(trace, ab, "ne", BinaryFunction::NotEqual, |a, b| flag(a != b)))
        .documented("1 where `a` and `b` differ, else 0", "ne(floor(x), 0)"),
];

#[cfg(test)]
mod tests {
    use super::super::Scalar;
    use super::super::testing::Case;
    use super::*;

    #[test]
    fn functions_broadcast_and_gradients_match_differences() {
        let row: (&[usize], &[f32]) = (&[3], &[0.5, 1.1, 2.2]);
        let positive: (&[usize], &[f32]) = (&[2, 3], &[0.3, 1.2, 2.0, 0.7, 1.5, 0.4]);
        type Function = fn(f32, f32) -> f32;
        let cases: &[(BinaryFunction, Function)] = &[
            (BinaryFunction::Add, |a, b| a + b),
            (BinaryFunction::Sub, |a, b| a - b),
            (BinaryFunction::Mul, |a, b| a * b),
            (BinaryFunction::Div, |a, b| a / b),
            (BinaryFunction::Max, f32::max),
            (BinaryFunction::Min, f32::min),
            (BinaryFunction::Pow, f32::powf),
        ];
        for (function, on_host) in cases {
            let pairs = |a: &[f32], b: &dyn Fn(usize) -> f32| -> Vec<f32> {
                a.iter().enumerate().map(|(i, a)| on_host(*a, b(i))).collect()
            };
            let expected = pairs(positive.1, &|i| row.1[i % 3]);
            let case = Case::new(&[positive, row], |b, ids| b.node(Binary(*function, ids[0], ids[1]), &[2, 3]));
            case.gives(&expected).gradient_checks();
            // A constant on either side.
            let case = Case::new(&[positive], |b, ids| {
                let two = b.node(Scalar(1.9), &[]);
                b.node(Binary(*function, ids[0], two), &[2, 3])
            });
            case.gives(&pairs(positive.1, &|_| 1.9)).gradient_checks();
            let swapped: Vec<f32> = positive.1.iter().map(|x| on_host(1.9, *x)).collect();
            let case = Case::new(&[positive], |b, ids| {
                let two = b.node(Scalar(1.9), &[]);
                b.node(Binary(*function, two, ids[0]), &[2, 3])
            });
            case.gives(&swapped).gradient_checks();
            // Both operands the same value.
            let same: Vec<f32> = positive.1.iter().map(|x| on_host(*x, *x)).collect();
            let case = Case::new(&[positive], |b, ids| b.node(Binary(*function, ids[0], ids[0]), &[2, 3]));
            case.gives(&same);
            if !matches!(function, BinaryFunction::Max | BinaryFunction::Min) {
                case.gradient_checks();
            }
        }
    }
}
