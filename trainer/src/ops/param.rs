//! `param` and the initial values of parameters.

use serde::Serialize;

use super::flow::{Flow, Traced};
use super::{
    ArgumentKind, Backward, Builtin, CallResult, DefaultValue, Forward, InputValues, Located, Malformed, Misuse,
    Operation, Parameter, finite, positive, shape, tensors::DeviceValue,
};
use crate::optimizer::Optimizer;
use crate::value::{Init, Param, ParamId, ValueId};

/// A parameter's present value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReadParam(pub ParamId);

impl Operation for ReadParam {
    fn name(&self) -> &'static str {
        "param"
    }

    fn inputs_mut(&mut self) -> Vec<&mut ValueId> {
        Vec::new()
    }

    fn flops(&self, _at: Located<'_>) -> u64 {
        0
    }

    fn allocates(&self) -> bool {
        false
    }

    fn carries_gradient(&self, _through_inputs: bool) -> bool {
        true
    }

    fn causality(&self, _inputs: &[Flow], at: Located<'_>) -> Traced {
        Ok(Flow::free(at))
    }

    fn forward(&self, _inputs: InputValues, run: &mut Forward<'_>) -> Result<DeviceValue, Malformed> {
        run.params.get(self.0.0 as usize).cloned().ok_or(Malformed("no such parameter"))
    }

    fn backward(&self, grad: DeviceValue, run: &mut Backward<'_>) -> Result<(), Malformed> {
        run.add_to_param(self.0, grad);
        Ok(())
    }
}

/// Standard deviation of a parameter whose `init` is not given, as in GPT-2 (Radford et al. 2019).
const DEFAULT_STD: f64 = 0.02;

/// The `lr_scale=` of function `what`: a finite number of at least 0.
pub(super) fn lr_scale(what: &str, value: f64) -> Result<f64, Misuse> {
    if finite(&format!("{what}: lr_scale"), value)? < 0.0 {
        return Err(Misuse::new(format!("{what}: lr_scale is {value}; it must be at least 0")));
    }
    Ok(value)
}

pub(super) const LR_SCALE: Parameter =
    Parameter::new("lr_scale", ArgumentKind::Number).or(DefaultValue::Number(1.0)).by_name();

pub(super) const OPTIMIZER: Parameter =
    Parameter::new("optimizer", ArgumentKind::Optimizer).or(DefaultValue::Nothing).by_name();

pub(super) const INIT: Parameter = Parameter::new("init", ArgumentKind::Init).or(DefaultValue::Nothing);

const STD: &[Parameter] = &[Parameter::new("std", ArgumentKind::Number)];
const LIMIT: &[Parameter] = &[Parameter::new("limit", ArgumentKind::Number)];
const VALUE: &[Parameter] = &[Parameter::new("value", ArgumentKind::Number)];
const DECLARED: &[Parameter] = &[
    Parameter::new("name", ArgumentKind::Text),
    Parameter::new("shape", ArgumentKind::Extents),
    INIT,
    LR_SCALE,
    Parameter::new("decay", ArgumentKind::Flag).or(DefaultValue::Nothing).by_name(),
    OPTIMIZER,
];

pub(super) const BUILTINS: &[Builtin] = &[
    Builtin::function("param", DECLARED, |trace, arguments| {
        type Call = (String, Vec<i64>, Option<Init>, f64, Option<bool>, Option<Optimizer>);
        let (name, wanted, init, scale, decay, optimizer): Call = arguments.read()?;
        let shape = shape::extents(&format!("param '{name}'"), &wanted)?;
        let init = init.unwrap_or(Init::Normal(DEFAULT_STD));
        let decay = decay.unwrap_or(shape.len() > 1);
        let lr_scale = lr_scale("param", scale)?;
        Ok(trace.param(Param { name, shape, init, lr_scale, decay, optimizer })?.into())
    })
    .documented(
        "a trainable tensor with a name of its own. `init` is `normal(0.02)` unless given. `lr_scale` multiplies the learning rate for this tensor. `decay` says whether weight decay applies; unless given, it applies to tensors of more than one dimension. `optimizer` is a rule of its own, such as `muon(0.02)`, in place of `train`'s",
        "x * param(\"gain\", [6], init=ones())",
    ),
    Builtin::function("normal", STD, |_, arguments| {
        let (std,): (f64,) = arguments.read()?;
        Ok(CallResult::Init(Init::Normal(positive("normal: std", std)?)))
    })
    .documented("for `init=`: normally distributed with mean 0 and standard deviation `std`", "param(\"w\", [6], normal(0.1))"),
    Builtin::function("uniform", LIMIT, |_, arguments| {
        let (limit,): (f64,) = arguments.read()?;
        Ok(CallResult::Init(Init::Uniform(positive("uniform: limit", limit)?)))
    })
    .documented("for `init=`: uniformly distributed between `-limit` and `limit`", "param(\"w\", [6], uniform(0.1))"),
    Builtin::function("zeros", &[], |_, _| Ok(CallResult::Init(Init::Constant(0.0))))
        .documented("for `init=`: all 0", "param(\"w\", [6], zeros())"),
    Builtin::function("ones", &[], |_, _| Ok(CallResult::Init(Init::Constant(1.0))))
        .documented("for `init=`: all 1", "param(\"w\", [6], ones())"),
    Builtin::function("constant", VALUE, |_, arguments| {
        let (value,): (f64,) = arguments.read()?;
        Ok(CallResult::Init(Init::Constant(finite("constant: value", value)?)))
    })
    .documented("for `init=`: all `value`", "param(\"w\", [6], constant(0.5))"),
];
