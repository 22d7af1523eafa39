//! The input bytes, which the model's function gets from `train()`.

use super::flow::{Flow, Traced};
use super::{Backward, Forward, InputValues, Located, Malformed, Operation, tensors::DeviceValue};
use crate::value::ValueId;

/// The rules of [`Op::Tokens`](super::Op::Tokens). The executor keeps the bytes as integers apart
/// from the values and never computes this node.
#[derive(Debug)]
pub(super) struct Tokens;

impl Operation for Tokens {
    fn name(&self) -> &'static str {
        "train"
    }

    fn inputs_mut(&mut self) -> Vec<&mut ValueId> {
        Vec::new()
    }

    fn flops(&self, _at: Located<'_>) -> u64 {
        0
    }

    fn causality(&self, _inputs: &[Flow], at: Located<'_>) -> Traced {
        Flow::tokens(at)
    }

    fn forward(&self, _inputs: InputValues, _run: &mut Forward<'_>) -> Result<DeviceValue, Malformed> {
        Err(Malformed("tokens used as numbers"))
    }

    fn backward(&self, _grad: DeviceValue, _run: &mut Backward<'_>) -> Result<(), Malformed> {
        Ok(())
    }
}
