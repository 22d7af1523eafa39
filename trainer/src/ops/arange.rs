//! `arange`: counting numbers.

use serde::Serialize;

use super::flow::{Flow, Traced};
use super::tensors::{DeviceValue, upload};
use super::{ArgumentKind, Backward, Builtin, Forward, InputValues, Located, Malformed, Operation, Parameter};
use crate::value::ValueId;

/// `0, 1, .. len-1` as floats, shape `[len]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Range(pub usize);

impl Operation for Range {
    fn name(&self) -> &'static str {
        "arange"
    }

    fn inputs_mut(&mut self) -> Vec<&mut ValueId> {
        Vec::new()
    }

    fn flops(&self, _at: Located<'_>) -> u64 {
        0
    }

    fn causality(&self, _inputs: &[Flow], at: Located<'_>) -> Traced {
        let count = u32::try_from(self.0).unwrap_or(u32::MAX);
        Ok(Flow::of_numbers((0..count).map(f64::from), at))
    }

    fn forward(&self, _inputs: InputValues, run: &mut Forward<'_>) -> Result<DeviceValue, Malformed> {
        Ok(upload((0..self.0).map(|k| k as f32).collect(), run.dims(), run.device))
    }

    fn backward(&self, _grad: DeviceValue, _run: &mut Backward<'_>) -> Result<(), Malformed> {
        Ok(())
    }
}

pub(super) const BUILTINS: &[Builtin] =
    &[Builtin::function("arange", &[Parameter::new("len", ArgumentKind::Count)], |trace, arguments| {
        let (len,): (usize,) = arguments.read()?;
        Ok(trace.make(Range(len), vec![len])?.into())
    })
    .documented("the numbers 0, 1, .. `len - 1`, shape `[len]`", "x + arange(6)")];
