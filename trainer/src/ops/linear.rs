//! `linear`: a layer with weights of its own, made of `param`, `matmul` and `+`.

use super::binary::of_tensors;
use super::matmul::matmul;
use super::param::{INIT, LR_SCALE, OPTIMIZER, lr_scale};
use super::reshape::reshape;
use super::shape::Rule;
use super::{ArgumentKind, BinaryFunction, Builtin, DefaultValue, Misuse, Parameter, Symbol, Trace};
use crate::optimizer::Optimizer;
use crate::value::{Init, Param, Shape};

/// The arguments of `linear` besides its input.
struct Layer {
    name: String,
    out: usize,
    bias: bool,
    init: Option<Init>,
    lr_scale: f64,
    /// The weight's own rule. A bias is a vector, which not every rule takes.
    optimizer: Option<Optimizer>,
}

impl Layer {
    fn param(&self, suffix: &str, shape: Shape, init: Init, decay: bool) -> Param {
        let name = format!("{}.{suffix}", self.name);
        Param { name, shape, init, lr_scale: self.lr_scale, decay, optimizer: None }
    }
}

/// `x W (+ b)` with new parameters `name.weight`, `[in, out]`, and `name.bias`, `[out]`.
fn linear(trace: &dyn Trace, x: &Symbol, layer: &Layer) -> Rule<Symbol> {
    if layer.out == 0 {
        return Err(Misuse::new("linear: out is 0; extents are at least 1"));
    }
    let width = x.last_dimension("linear")?;
    let init = layer.init.clone().unwrap_or(Init::Normal((width as f64).sqrt().recip()));
    let weight = layer.param("weight", vec![width, layer.out], init, true);
    let weight = trace.param(Param { optimizer: layer.optimizer.clone(), ..weight })?;
    let is_row = x.shape.len() == 1;
    let rows = if is_row { reshape(trace, x, &[1, -1])? } else { x.clone() };
    let product = matmul(trace, &rows, &weight)?;
    let product = if is_row { reshape(trace, &product, &[-1])? } else { product };
    if !layer.bias {
        return Ok(product);
    }
    let bias = trace.param(layer.param("bias", vec![layer.out], Init::Constant(0.0), false))?;
    of_tensors(trace, "linear", BinaryFunction::Add, &product, &bias)
}

const PARAMETERS: &[Parameter] = &[
    Parameter::new("x", ArgumentKind::Tensor),
    Parameter::new("name", ArgumentKind::Text),
    Parameter::new("out", ArgumentKind::Count),
    Parameter::new("bias", ArgumentKind::Flag).or(DefaultValue::Flag(false)),
    INIT.by_name(),
    LR_SCALE,
    OPTIMIZER,
];

pub(super) const BUILTINS: &[Builtin] = &[Builtin::function("linear", PARAMETERS, |trace, arguments| {
    type Call = (Symbol, String, usize, bool, Option<Init>, f64, Option<Optimizer>);
    let (x, name, out, bias, init, scale, optimizer): Call = arguments.read()?;
    let layer = Layer { name, out, bias, init, lr_scale: lr_scale("linear", scale)?, optimizer };
    Ok(linear(trace, &x, &layer)?.into())
})
.documented(
    "`[.., c]` to `[.., out]`: the product with a new parameter `name.weight`, `[c, out]`. With `bias=True`, a new parameter `name.bias`, `[out]`, is added; it begins at 0 and does not decay. `init` and `optimizer` are for the weight; `init` is `normal(1/sqrt(c))` unless given",
    "linear(x, \"layer\", 12, bias=True)",
)];
