//! The functions of [`ops`](crate::ops) as values of the interpreter: registers them, unpacks the
//! arguments of a call and packs its result.

use std::fmt;
use std::sync::LazyLock;

use starlark::environment::GlobalsBuilder;
use starlark::eval::{Arguments as CallArguments, Evaluator, ParametersSpec, ParametersSpecParam};
use starlark::values::float::UnpackFloat;
use starlark::values::list::AllocList;
use starlark::values::list_or_tuple::UnpackListOrTuple;
use starlark::values::{FrozenValue, Heap, StarlarkValue, UnpackValue, Value, ValueLike, starlark_value};

use super::content::Registered;
use super::content::Setting;
use super::handles::TensorValue;
use super::handles::{FunctionValue, SettingValue, TraceSession};
use super::running;
use super::setting::{init_of, optimizer_of};
use crate::ops::{
    Argument, ArgumentKind, Arguments, Builtin, Call, CallResult, DefaultValue, Misuse, Operand, Parameter, Passing,
    Symbol, builtins,
};

/// All builtins. Made once: a script may call each thousands of times.
static REGISTERED: LazyLock<Vec<Registered>> =
    LazyLock::new(|| builtins().map(|builtin| Registered { builtin, signature: signature(builtin) }).collect());

fn signature(builtin: &Builtin) -> ParametersSpec<FrozenValue> {
    let passed = |passing: Passing| {
        builtin.parameters.iter().filter(move |parameter| parameter.passing == passing).map(|parameter| {
            let required = parameter.default == DefaultValue::Required;
            let kind = if required { ParametersSpecParam::Required } else { ParametersSpecParam::Optional };
            (parameter.name, kind)
        })
    };
    let (by_position, any, by_name) = (passed(Passing::PositionOnly), passed(Passing::Any), passed(Passing::NameOnly));
    ParametersSpec::new_parts(builtin.name, by_position, any, false, by_name, false)
}

/// Makes all functions available to scripts.
pub(super) fn register(globals: &mut GlobalsBuilder) {
    for registered in REGISTERED.iter().filter(|registered| registered.builtin.call == Call::Function) {
        globals.set(registered.builtin.name, FunctionValue { registered, receiver: None });
    }
}

/// The method of tensors with this name, bound to a tensor.
pub(super) fn method(name: &str, receiver: &Symbol) -> Option<FunctionValue> {
    let registered = REGISTERED.iter().find(|one| one.builtin.call == Call::Method && one.builtin.name == name)?;
    Some(FunctionValue { registered, receiver: Some(receiver.clone()) })
}

/// The names of all methods of tensors.
pub(super) fn methods() -> impl Iterator<Item = &'static str> {
    builtins().filter(|builtin| builtin.call == Call::Method).map(|builtin| builtin.name)
}

impl fmt::Display for FunctionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.registered.builtin.name)
    }
}

#[starlark_value(type = "function")]
impl<'v> StarlarkValue<'v> for FunctionValue {
    fn invoke(
        &self,
        _me: Value<'v>,
        arguments: &CallArguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let session = running(eval)?;
        let Registered { builtin, signature } = self.registered;
        let values = signature.parser(arguments, eval, |parser, _| {
            builtin.parameters.iter().map(|_| parser.next_opt::<Value<'v>>()).collect::<starlark::Result<Vec<_>>>()
        });
        let values = values.map_err(|error| misfit(builtin, &error))?;
        let mut unpacked: Vec<Argument> = self.receiver.iter().cloned().map(Argument::Tensor).collect();
        for (parameter, value) in builtin.parameters.iter().zip(values) {
            unpacked.push(unpack(builtin.name, parameter, value)?);
        }
        let answer = (builtin.run)(&session, Arguments::new(unpacked))?;
        Ok(pack(answer, &session, eval.heap()))
    }
}

/// The error of a call whose arguments do not match the parameters. The message names them.
fn misfit(builtin: &Builtin, error: &starlark::Error) -> starlark::Error {
    let message = error.without_diagnostic().to_string();
    Misuse::new(format!("{}; the call is {}", message.trim_end(), builtin.signature())).into()
}

/// The argument `value` of a call to `function`, or the parameter's default.
fn unpack(function: &str, parameter: &Parameter, value: Option<Value<'_>>) -> starlark::Result<Argument> {
    let Some(value) = value else {
        return Ok(match parameter.default {
            DefaultValue::Required | DefaultValue::Nothing => Argument::Nothing,
            DefaultValue::Integer(value) => Argument::Integer(value),
            DefaultValue::Number(value) => Argument::Number(value),
            DefaultValue::Flag(value) => Argument::Flag(value),
        });
    };
    if value.is_none() && parameter.default == DefaultValue::Nothing {
        return Ok(Argument::Nothing);
    }
    let name = parameter.name;
    Ok(match parameter.kind {
        ArgumentKind::Tensor => Argument::Tensor(<&TensorValue>::unpack_named_param(value, name)?.symbol.clone()),
        ArgumentKind::Tensors => {
            let list = UnpackListOrTuple::<&TensorValue>::unpack_named_param(value, name)?;
            Argument::Tensors(list.items.into_iter().map(|tensor| tensor.symbol.clone()).collect())
        }
        ArgumentKind::Operand => Argument::Operand(operand(function, value)?),
        ArgumentKind::Integer => Argument::Integer(i64::unpack_named_param(value, name)?),
        ArgumentKind::Count => Argument::Count(u32::unpack_named_param(value, name)?),
        ArgumentKind::Number => Argument::Number(UnpackFloat::unpack_named_param(value, name)?.0),
        ArgumentKind::Flag => Argument::Flag(bool::unpack_named_param(value, name)?),
        ArgumentKind::Text => Argument::Text(<&str>::unpack_named_param(value, name)?.to_owned()),
        ArgumentKind::Extents => Argument::Extents(UnpackListOrTuple::<i64>::unpack_named_param(value, name)?.items),
        ArgumentKind::Init => Argument::Init(init_of(function, <&SettingValue>::unpack_named_param(value, name)?)?),
        ArgumentKind::Optimizer => {
            Argument::Optimizer(optimizer_of(function, <&SettingValue>::unpack_named_param(value, name)?)?)
        }
    })
}

/// A tensor or number out of the script, an operand of `function`.
pub(super) fn operand(function: &str, value: Value<'_>) -> starlark::Result<Operand> {
    if let Some(tensor) = value.downcast_ref::<TensorValue>() {
        return Ok(Operand::Tensor(tensor.symbol.clone()));
    }
    if let Some(integer) = value.unpack_i32() {
        return Ok(Operand::Integer(integer));
    }
    match UnpackFloat::unpack_value(value)? {
        Some(number) => Ok(Operand::Number(number.0)),
        None => {
            let (kind, shown) = (value.get_type(), value);
            Err(Misuse::new(format!("{function}: expected a tensor or a number, got {kind} {shown}")).into())
        }
    }
}

/// The result of a call as a value of the script.
fn pack<'v>(answer: CallResult, session: &TraceSession, heap: Heap<'v>) -> Value<'v> {
    let tensor = |symbol: Symbol| TensorValue { symbol, session: session.clone() };
    match answer {
        CallResult::Tensor(symbol) => heap.alloc(tensor(symbol)),
        CallResult::Tensors(symbols) => heap.alloc(AllocList(symbols.into_iter().map(tensor))),
        CallResult::Integer(integer) => heap.alloc(integer),
        CallResult::Number(number) => heap.alloc(number),
        CallResult::Init(init) => heap.alloc(SettingValue(Setting::Init(init))),
    }
}
