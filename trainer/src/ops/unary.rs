//! Functions of single elements with one operand: of tensors, and of plain numbers too, so that
//! `sqrt(width)` works in a script's own arithmetic.

use burn::tensor::activation;
use serde::Serialize;

use super::flow::{Fill, Flow, Traced, first};
use super::operation::HEAVY_FLOPS;
use super::tensors::DeviceValue;
use super::{
    ArgumentKind, Arguments, Backward, Builtin, CallResult, Forward, InputValues, Located, Malformed, Misuse, Operand,
    Operation, Parameter, Symbol, Trace, UnaryFunction, finite,
};
use crate::value::{ValueId, elements};

/// An elementwise function of one value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unary(pub UnaryFunction, pub ValueId);

/// The tensor in which a derivative has the simplest form.
enum Reads {
    Neither,
    Input,
    Result,
}

impl UnaryFunction {
    fn reads(self) -> Reads {
        use UnaryFunction::{
            Abs, Cos, Exp, Floor, Gelu, Log, Neg, Recip, Relu, Sigmoid, Sign, Silu, Sin, Sqrt, Square, Tanh,
        };
        match self {
            Neg | Floor | Sign => Reads::Neither,
            Exp | Sqrt | Relu | Tanh | Sigmoid | Recip => Reads::Result,
            Log | Square | Abs | Gelu | Silu | Sin | Cos => Reads::Input,
        }
    }

    /// Whether the function is flat between its jumps, so that no gradient flows through it.
    fn is_step(self) -> bool {
        matches!(self, Self::Floor | Self::Sign)
    }

    fn of(self, x: DeviceValue) -> DeviceValue {
        match self {
            Self::Neg => x.neg(),
            Self::Exp => x.exp(),
            Self::Log => x.log(),
            Self::Sqrt => x.sqrt(),
            Self::Square => x.square(),
            Self::Abs => x.abs(),
            Self::Relu => activation::relu(x),
            Self::Gelu => activation::gelu(x),
            Self::Silu => x.clone() * activation::sigmoid(x),
            Self::Tanh => x.tanh(),
            Self::Sigmoid => activation::sigmoid(x),
            Self::Sin => x.sin(),
            Self::Cos => x.cos(),
            Self::Recip => x.recip(),
            Self::Floor => x.floor(),
            Self::Sign => x.sign(),
        }
    }

    /// The function of a masked element, if it is one of the two constants again.
    pub(super) fn of_fill(self, fill: Fill) -> Option<Fill> {
        use UnaryFunction::{Abs, Exp, Floor, Gelu, Neg, Relu, Sigmoid, Sign, Silu, Sin, Sqrt, Square, Tanh};
        match (fill, self) {
            (Fill::MinusInfinity, Exp | Relu | Sigmoid) => Some(Fill::Zero),
            (Fill::Zero, Neg | Sqrt | Square | Abs | Relu | Gelu | Silu | Tanh | Sin | Floor | Sign) => {
                Some(Fill::Zero)
            }
            _ => None,
        }
    }

    /// The derivative times `grad`. `x` is the tensor that [`Self::reads`] names.
    fn gradient(self, x: DeviceValue, grad: DeviceValue) -> DeviceValue {
        match self {
            Self::Neg => grad.neg(),
            Self::Exp => grad * x,
            Self::Log => grad / x,
            Self::Sqrt => grad / x.mul_scalar(2.0),
            Self::Square => grad * x.mul_scalar(2.0),
            Self::Abs => grad * x.sign(),
            Self::Relu => grad.mask_fill(x.lower_equal_scalar(0.0), 0.0),
            Self::Gelu => gelu_gradient(x, grad),
            Self::Silu => {
                // s (1 + x (1 - s)) with s = sigmoid(x).
                let s = activation::sigmoid(x.clone());
                let inner = (s.clone().neg().add_scalar(1.0) * x).add_scalar(1.0);
                grad * (s * inner)
            }
            Self::Tanh => grad * x.square().neg().add_scalar(1.0),
            Self::Sigmoid => {
                let rest = x.clone().neg().add_scalar(1.0);
                grad * (x * rest)
            }
            Self::Sin => grad * x.cos(),
            Self::Cos => grad * x.sin().neg(),
            Self::Recip => grad * x.square().neg(),
            Self::Floor | Self::Sign => grad.zeros_like(),
        }
    }
}

/// `Phi(x) + x phi(x)` times `grad`, with the normal distribution's cdf and density.
fn gelu_gradient(x: DeviceValue, grad: DeviceValue) -> DeviceValue {
    let cdf = x.clone().mul_scalar(std::f64::consts::FRAC_1_SQRT_2).erf().add_scalar(1.0).mul_scalar(0.5);
    let density = x.clone().square().mul_scalar(-0.5).exp();
    let scale = std::f64::consts::FRAC_1_SQRT_2 * std::f64::consts::FRAC_2_SQRT_PI * 0.5;
    grad * (density * x).mul_scalar(scale).add(cdf)
}

impl Operation for Unary {
    fn name(&self) -> &'static str {
        "elementwise"
    }

    fn inputs_mut(&mut self) -> Vec<&mut ValueId> {
        vec![&mut self.1]
    }

    fn flops(&self, at: Located<'_>) -> u64 {
        elements(at.shape()).saturating_mul(HEAVY_FLOPS)
    }

    fn carries_gradient(&self, through_inputs: bool) -> bool {
        through_inputs && !self.0.is_step()
    }

    fn saved(&self, at: Located<'_>, _flows: &dyn Fn(ValueId) -> bool) -> Vec<ValueId> {
        match self.0.reads() {
            Reads::Neither => vec![],
            Reads::Input => vec![self.1],
            Reads::Result => vec![at.id()],
        }
    }

    fn causality(&self, inputs: &[Flow], at: Located<'_>) -> Traced {
        Ok(first(inputs, at)?.of_function(self.0))
    }

    fn forward(&self, inputs: InputValues, _run: &mut Forward<'_>) -> Result<DeviceValue, Malformed> {
        Ok(self.0.of(inputs.one()?))
    }

    fn backward(&self, grad: DeviceValue, run: &mut Backward<'_>) -> Result<(), Malformed> {
        let x = match self.0.reads() {
            Reads::Neither => grad.clone(),
            Reads::Input => run.value(self.1)?,
            Reads::Result => run.result()?,
        };
        run.add(self.1, self.0.gradient(x, grad));
        Ok(())
    }
}

/// The function of a tensor; `what` calls it in messages.
pub(crate) fn unary(trace: &dyn Trace, what: &str, function: UnaryFunction, x: &Symbol) -> Result<Symbol, Misuse> {
    x.float(what)?;
    trace.make(Unary(function, x.id), x.shape.clone())
}

/// The function of a tensor, or `plain` of a number.
fn apply(
    trace: &dyn Trace,
    arguments: Arguments,
    name: &str,
    function: UnaryFunction,
    plain: fn(f64) -> f64,
) -> Result<CallResult, Misuse> {
    match arguments.read()? {
        (Operand::Tensor(x),) => Ok(unary(trace, name, function, &x)?.into()),
        (Operand::Integer(x),) if function == UnaryFunction::Abs && x != i32::MIN => Ok(CallResult::Integer(x.abs())),
        (operand,) => {
            let number = operand.number().unwrap_or(f64::NAN);
            Ok(CallResult::Number(finite(&format!("{name}({number})"), plain(number))?))
        }
    }
}

fn sigmoid(x: f64) -> f64 {
    (1.0 + (-x).exp()).recip()
}

fn sign(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x.signum() }
}

const X: &[Parameter] = &[Parameter::new("x", ArgumentKind::Operand).by_position()];

pub(super) const BUILTINS: &[Builtin] = &[
    Builtin::function("exp", X, |trace, x| apply(trace, x, "exp", UnaryFunction::Exp, f64::exp))
        .documented("e to the power of `x`", "exp(x)"),
    Builtin::function("log", X, |trace, x| apply(trace, x, "log", UnaryFunction::Log, f64::ln))
        .documented("the natural logarithm", "log(exp(x))"),
    Builtin::function("sqrt", X, |trace, x| apply(trace, x, "sqrt", UnaryFunction::Sqrt, f64::sqrt))
        .documented("the square root", "sqrt(exp(x))"),
    Builtin::function("square", X, |trace, x| apply(trace, x, "square", UnaryFunction::Square, |x| x * x))
        .documented("`x * x`", "square(x)"),
    Builtin::function("sin", X, |trace, x| apply(trace, x, "sin", UnaryFunction::Sin, f64::sin))
        .documented("the sine, `x` in radians", "sin(x)"),
    Builtin::function("cos", X, |trace, x| apply(trace, x, "cos", UnaryFunction::Cos, f64::cos))
        .documented("the cosine, `x` in radians", "cos(x)"),
    Builtin::function("abs", X, |trace, x| apply(trace, x, "abs", UnaryFunction::Abs, f64::abs))
        .documented("the absolute value; an integer stays an integer", "abs(x)"),
    Builtin::function("relu", X, |trace, x| apply(trace, x, "relu", UnaryFunction::Relu, |x| x.max(0.0)))
        .documented("`x` where it is positive, else 0", "relu(x)"),
    // The standard library has no error function, so plain numbers are not offered.
    Builtin::function("gelu", &[Parameter::new("x", ArgumentKind::Tensor)], |trace, arguments| {
        let (x,): (Symbol,) = arguments.read()?;
        Ok(unary(trace, "gelu", UnaryFunction::Gelu, &x)?.into())
    })
    .documented("`x` times the probability that a standard normal variable is below `x`. Tensors only", "gelu(x)"),
    Builtin::function("silu", X, |trace, x| apply(trace, x, "silu", UnaryFunction::Silu, |x| x * sigmoid(x)))
        .documented("`x * sigmoid(x)`, also called swish", "silu(x)"),
    Builtin::function("tanh", X, |trace, x| apply(trace, x, "tanh", UnaryFunction::Tanh, f64::tanh))
        .documented("the hyperbolic tangent", "tanh(x)"),
    Builtin::function("sigmoid", X, |trace, x| apply(trace, x, "sigmoid", UnaryFunction::Sigmoid, sigmoid))
        .documented("`1 / (1 + exp(-x))`", "sigmoid(x)"),
    Builtin::function("floor", X, |trace, x| apply(trace, x, "floor", UnaryFunction::Floor, f64::floor))
        .documented("the largest whole number that is not above `x`. No gradient flows through it", "floor(x)"),
    Builtin::function("sign", X, |trace, x| apply(trace, x, "sign", UnaryFunction::Sign, sign))
        .documented("1, 0 or -1: the sign of `x`. No gradient flows through it", "sign(x)"),
];

#[cfg(test)]
mod tests {
    use super::super::testing::{Builder, Case, SIX};
    use super::super::{Binary, BinaryFunction};
    use super::*;

    /// The normal distribution's cdf by Abramowitz & Stegun 7.1.26, good to 1e-7.
    fn normal_cdf(x: f64) -> f64 {
        let z = x.abs() / std::f64::consts::SQRT_2;
        let t = 1.0 / (1.0 + 0.3275911 * z);
        let poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
        0.5 * (1.0 + (1.0 - poly * (-z * z).exp()).copysign(x))
    }

    #[test]
    fn functions_match_the_host_and_gradients_match_differences() {
        type Function = fn(f64) -> f64;
        let gelu: Function = |x| x * normal_cdf(x);
        let signed: &[(UnaryFunction, Function)] = &[
            (UnaryFunction::Neg, |x| -x),
            (UnaryFunction::Exp, f64::exp),
            (UnaryFunction::Square, |x| x * x),
            (UnaryFunction::Abs, f64::abs),
            (UnaryFunction::Relu, |x| x.max(0.0)),
            (UnaryFunction::Gelu, gelu),
            (UnaryFunction::Silu, |x| x / (1.0 + (-x).exp())),
            (UnaryFunction::Tanh, f64::tanh),
            (UnaryFunction::Sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
            (UnaryFunction::Sin, f64::sin),
            (UnaryFunction::Cos, f64::cos),
            (UnaryFunction::Recip, |x| 1.0 / x),
        ];
        let positive: &[(UnaryFunction, Function)] = &[(UnaryFunction::Log, f64::ln), (UnaryFunction::Sqrt, f64::sqrt)];
        let four: (&[usize], &[f32]) = (&[4], &[0.3, 1.2, 2.5, 0.9]);
        let cases = signed.iter().map(|case| (SIX, case)).chain(positive.iter().map(|case| (four, case)));
        for (input, (function, on_host)) in cases {
            let expected: Vec<f32> = input.1.iter().map(|x| on_host(f64::from(*x)) as f32).collect();
            let case = Case::new(&[input], |b, ids| b.node(Unary(*function, ids[0]), input.0));
            case.gives(&expected).gradient_checks();
        }
    }

    #[test]
    fn steps_match_the_host_and_carry_no_gradient() {
        let input: (&[usize], &[f32]) = (&[5], &[-1.5, -0.0, 0.25, 2.0, 3.75]);
        let step = |function| move |b: &mut Builder, ids: &[ValueId]| b.node(Unary(function, ids[0]), &[5]);
        Case::new(&[input], step(UnaryFunction::Floor)).gives(&[-2.0, 0.0, 0.0, 2.0, 3.0]);
        Case::new(&[input], step(UnaryFunction::Sign)).gives(&[-1.0, 0.0, 1.0, 1.0, 1.0]);
        // The fraction: its gradient is that of x alone.
        Case::new(&[(&[3], &[0.3, 1.6, -0.8])], |b, ids| {
            let whole = b.node(Unary(UnaryFunction::Floor, ids[0]), &[3]);
            b.node(Binary(BinaryFunction::Sub, ids[0], whole), &[3])
        })
        .gives(&[0.3, 0.6, 0.2])
        .gradient_checks();
    }
}
