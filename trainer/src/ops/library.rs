//! The functions of the language as data: name, parameters, documentation and effect of a call.
//!
//! Each operation's file lists its functions ([`Builtin`]). The interpreter (`lang`) registers
//! them, unpacks a script's arguments by [`ArgumentKind`] and packs the [`CallResult`]. So no
//! operation knows the interpreter, and all are checked and documented in one way. A call adds its
//! nodes to a [`Trace`].

use std::fmt::Write as _;

use super::Op;
use crate::optimizer::Optimizer;
use crate::value::{Init, Param, Shape, ValueId};

/// A function of the language, or a method of tensors.
pub(crate) struct Builtin {
    /// The name in scripts.
    pub name: &'static str,
    /// Whether scripts write `name(..)` or `x.name(..)`.
    pub call: Call,
    /// In order. A method's tensor is not among them.
    pub parameters: &'static [Parameter],
    /// The meaning, one line of Markdown. A test compares it with `docs/train-script.md`.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests hold the documentation to it"))]
    pub summary: &'static str,
    /// An expression over `x`, a tensor `[2, 4, 6]`, and `tokens`, `[2, 4]`. A test traces it.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests trace it"))]
    pub example: &'static str,
    /// Makes the nodes of a call. A method's tensor comes first in the arguments.
    pub run: fn(&dyn Trace, Arguments) -> Result<CallResult, Misuse>,
}

/// How scripts call a [`Builtin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    /// `name(..)`
    Function,
    /// `x.name(..)`
    Method,
}

/// One parameter of a [`Builtin`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameter {
    pub name: &'static str,
    pub kind: ArgumentKind,
    pub default: DefaultValue,
    pub passing: Passing,
}

/// The type of the arguments that a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArgumentKind {
    Tensor,
    /// A list or tuple of tensors.
    Tensors,
    /// A tensor or a number.
    Operand,
    Integer,
    /// An integer of at least 0, below 2^32.
    Count,
    Number,
    Flag,
    Text,
    /// A list or tuple of integers.
    Extents,
    /// Initial values, as `normal(std)` makes them.
    Init,
    /// An update rule, as `adamw(lr)` makes it.
    Optimizer,
}

/// The value of a parameter that a call leaves out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum DefaultValue {
    /// The call must give it.
    Required,
    /// `None`, which a call may also pass.
    Nothing,
    Integer(i64),
    Number(f64),
    Flag(bool),
}

/// How a call may give a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passing {
    Any,
    PositionOnly,
    NameOnly,
}

/// One argument of a call, defaults filled in.
#[derive(Clone, Debug)]
pub(crate) enum Argument {
    Nothing,
    Tensor(Symbol),
    Tensors(Vec<Symbol>),
    Operand(Operand),
    Integer(i64),
    Count(u32),
    Number(f64),
    Flag(bool),
    Text(String),
    Extents(Vec<i64>),
    Init(Init),
    Optimizer(Optimizer),
}

/// The result of a call.
#[derive(Clone, Debug)]
pub(crate) enum CallResult {
    Tensor(Symbol),
    Tensors(Vec<Symbol>),
    Integer(i32),
    Number(f64),
    Init(Init),
}

/// A tensor of the graph that is being traced: its id and shape, no numbers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Symbol {
    pub id: ValueId,
    pub shape: Shape,
    /// The input bytes are integers, which only `embedding()` takes.
    pub is_tokens: bool,
}

/// A tensor, or a number that becomes a scalar next to one.
#[derive(Clone, Debug)]
pub(crate) enum Operand {
    Tensor(Symbol),
    Integer(i32),
    Number(f64),
}

/// The refusal of a call: says what is wrong and what to do. The interpreter adds the line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Misuse(String);

/// Receives the nodes and parameters of calls. Refuses those beyond the limits of tracing.
pub(crate) trait Trace {
    /// Adds a value.
    fn record(&self, op: Op, shape: Shape) -> Result<ValueId, Misuse>;

    /// Adds a trainable tensor and the value that reads it.
    fn declare(&self, param: Param) -> Result<ValueId, Misuse>;
}

impl dyn Trace + '_ {
    /// Adds a value whose shape follows from the operation's rule.
    pub fn make(&self, op: impl Into<Op>, shape: Shape) -> Result<Symbol, Misuse> {
        let id = self.record(op.into(), shape.clone())?;
        Ok(Symbol { id, shape, is_tokens: false })
    }

    /// Adds a trainable tensor.
    pub fn param(&self, param: Param) -> Result<Symbol, Misuse> {
        let shape = param.shape.clone();
        let id = self.declare(param)?;
        Ok(Symbol { id, shape, is_tokens: false })
    }
}

impl Builtin {
    /// A function, to be completed by [`Self::documented`].
    pub const fn function(
        name: &'static str,
        parameters: &'static [Parameter],
        run: fn(&dyn Trace, Arguments) -> Result<CallResult, Misuse>,
    ) -> Self {
        Self { name, call: Call::Function, parameters, summary: "", example: "", run }
    }

    /// A method of tensors, to be completed by [`Self::documented`].
    pub const fn method(
        name: &'static str,
        parameters: &'static [Parameter],
        run: fn(&dyn Trace, Arguments) -> Result<CallResult, Misuse>,
    ) -> Self {
        Self { call: Call::Method, ..Self::function(name, parameters, run) }
    }

    /// The builtin with its line of documentation and its example.
    pub const fn documented(self, summary: &'static str, example: &'static str) -> Self {
        Self { summary, example, ..self }
    }

    /// The row of the documentation's table: call and meaning.
    #[cfg(test)]
    pub fn documentation(&self) -> String {
        format!("| `{}` | {} |", self.signature(), self.summary)
    }

    /// The call as documentation and errors show it: `rms_norm(x, weight=None, eps=1e-6)`.
    /// Parameters after a `*` are given by name only.
    pub fn signature(&self) -> String {
        let mut text = String::new();
        if self.call == Call::Method {
            text.push_str("x.");
        }
        text.push_str(self.name);
        text.push('(');
        let mut named = false;
        for (i, parameter) in self.parameters.iter().enumerate() {
            if i > 0 {
                text.push_str(", ");
            }
            if parameter.passing == Passing::NameOnly && !named {
                named = true;
                text.push_str("*, ");
            }
            text.push_str(parameter.name);
            // Writing to a String cannot fail.
            let _ = match parameter.default {
                DefaultValue::Required => Ok(()),
                DefaultValue::Nothing => write!(text, "=None"),
                DefaultValue::Integer(value) => write!(text, "={value}"),
                DefaultValue::Number(value) => write!(text, "={value:?}"),
                DefaultValue::Flag(value) => write!(text, "={}", if value { "True" } else { "False" }),
            };
        }
        text.push(')');
        text
    }
}

impl Parameter {
    /// A required parameter, given by position or by name.
    pub const fn new(name: &'static str, kind: ArgumentKind) -> Self {
        Self { name, kind, default: DefaultValue::Required, passing: Passing::Any }
    }

    /// Optional with this default.
    pub const fn or(self, default: DefaultValue) -> Self {
        Self { default, ..self }
    }

    /// Given by position only.
    pub const fn by_position(self) -> Self {
        Self { passing: Passing::PositionOnly, ..self }
    }

    /// Given by name only.
    pub const fn by_name(self) -> Self {
        Self { passing: Passing::NameOnly, ..self }
    }
}

impl Misuse {
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl Symbol {
    /// Refuses the tokens where numbers are wanted.
    pub fn float(&self, what: &str) -> Result<(), Misuse> {
        if self.is_tokens {
            return Err(Misuse::new(format!(
                "{what}: tokens are integers; turn them into vectors with embedding(table, tokens) first"
            )));
        }
        Ok(())
    }

    /// The last extent. Refuses the tokens and tensors without dimensions, such as a lone number.
    pub fn last_dimension(&self, what: &str) -> Result<usize, Misuse> {
        self.float(what)?;
        self.shape
            .last()
            .copied()
            .ok_or_else(|| Misuse::new(format!("{what}: the tensor has no dimensions; reshape([1]) it first")))
    }
}

impl Operand {
    /// The number, if the operand is one.
    pub fn number(&self) -> Option<f64> {
        match self {
            Operand::Tensor(_) => None,
            Operand::Integer(number) => Some(f64::from(*number)),
            Operand::Number(number) => Some(*number),
        }
    }
}

/// The arguments of a call in the order of the parameters.
pub(crate) struct Arguments(Vec<Argument>);

impl Arguments {
    /// A call's arguments, defaults filled in; a method's tensor is the first.
    pub fn new(arguments: Vec<Argument>) -> Self {
        Self(arguments)
    }

    /// The arguments as a tuple whose types fit the parameters' kinds; an `Option` where the
    /// default is [`DefaultValue::Nothing`].
    ///
    /// # Errors
    /// The types do not fit, which is a mistake in the builtin's declaration. The test that runs
    /// every example finds it.
    pub fn read<T: FromArguments>(self) -> Result<T, Misuse> {
        T::from_arguments(self.0.into_iter())
            .ok_or_else(|| Misuse::new("the arguments do not fit the function's declaration"))
    }
}

/// A Rust type for one [`ArgumentKind`].
pub(crate) trait FromArgument: Sized {
    fn from_argument(argument: Argument) -> Option<Self>;
}

macro_rules! from_argument {
    ($($type:ty: $pattern:pat => $value:expr;)*) => {
        $(impl FromArgument for $type {
            fn from_argument(argument: Argument) -> Option<Self> {
                match argument {
                    $pattern => Some($value),
                    _ => None,
                }
            }
        })*
    };
}

from_argument! {
    Symbol: Argument::Tensor(symbol) => symbol;
    Vec<Symbol>: Argument::Tensors(symbols) => symbols;
    Operand: Argument::Operand(operand) => operand;
    i64: Argument::Integer(integer) => integer;
    usize: Argument::Count(count) => count as usize;
    f64: Argument::Number(number) => number;
    bool: Argument::Flag(flag) => flag;
    String: Argument::Text(text) => text;
    Vec<i64>: Argument::Extents(extents) => extents;
    Init: Argument::Init(init) => init;
    Optimizer: Argument::Optimizer(rule) => rule;
}

impl<T: FromArgument> FromArgument for Option<T> {
    fn from_argument(argument: Argument) -> Option<Self> {
        match argument {
            Argument::Nothing => Some(None),
            argument => T::from_argument(argument).map(Some),
        }
    }
}

/// A tuple of [`FromArgument`] types.
pub(crate) trait FromArguments: Sized {
    fn from_arguments(arguments: std::vec::IntoIter<Argument>) -> Option<Self>;
}

macro_rules! from_arguments {
    ($($($name:ident)+;)*) => {
        $(impl<$($name: FromArgument),+> FromArguments for ($($name,)+) {
            fn from_arguments(mut arguments: std::vec::IntoIter<Argument>) -> Option<Self> {
                let tuple = ($($name::from_argument(arguments.next()?)?,)+);
                arguments.next().is_none().then_some(tuple)
            }
        })*
    };
}

from_arguments! {
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
    A B C D E F G;
}

impl From<Symbol> for CallResult {
    fn from(symbol: Symbol) -> Self {
        CallResult::Tensor(symbol)
    }
}

/// Refuses NaN, infinities and what the tensors' 32-bit floats would turn into one.
pub(crate) fn finite(what: &str, value: f64) -> Result<f64, Misuse> {
    if (value as f32).is_finite() {
        return Ok(value);
    }
    let also = if value.is_finite() { ", as a 32-bit float too" } else { "" };
    Err(Misuse::new(format!("{what} is {value:?}; it must be finite{also}")))
}

/// Refuses what is not a finite number above 0.
pub(crate) fn positive(what: &str, value: f64) -> Result<f64, Misuse> {
    if finite(what, value)? > 0.0 {
        return Ok(value);
    }
    Err(Misuse::new(format!("{what} is {value}; it must be above 0")))
}
