//! `split_heads` and `merge_heads`: the layout of attention, made of `reshape` and `transpose`.

use super::permute::transpose;
use super::reshape::reshape;
use super::shape::Rule;
use super::{ArgumentKind, Builtin, Misuse, Parameter, Symbol, Trace};
use crate::value::show;

/// `[batch, context, heads * width]` to `[batch, heads, context, width]`.
fn split_heads(trace: &dyn Trace, x: &Symbol, heads: usize) -> Rule<Symbol> {
    let [batch, context, width] = x.shape.as_slice() else {
        return Err(Misuse::new(format!("split_heads: {} must be [batch, context, width]", show(&x.shape))));
    };
    if heads == 0 || width % heads != 0 {
        return Err(Misuse::new(format!(
            "split_heads: width {width} of {} does not divide into {heads} heads",
            show(&x.shape)
        )));
    }
    let parts = reshape(trace, x, &[*batch as i64, *context as i64, heads as i64, -1])?;
    transpose(trace, &parts, 1, 2)
}

/// `[batch, heads, context, width]` to `[batch, context, heads * width]`.
fn merge_heads(trace: &dyn Trace, x: &Symbol) -> Rule<Symbol> {
    let [batch, _, context, _] = x.shape.as_slice() else {
        return Err(Misuse::new(format!("merge_heads: {} must be [batch, heads, context, width]", show(&x.shape))));
    };
    let parts = transpose(trace, x, 1, 2)?;
    reshape(trace, &parts, &[*batch as i64, *context as i64, -1])
}

const X: Parameter = Parameter::new("x", ArgumentKind::Tensor);

pub(super) const BUILTINS: &[Builtin] = &[
    Builtin::function("split_heads", &[X, Parameter::new("heads", ArgumentKind::Count)], |trace, arguments| {
        let (x, heads): (Symbol, usize) = arguments.read()?;
        Ok(split_heads(trace, &x, heads)?.into())
    })
    .documented("`[batch, context, heads * w]` to `[batch, heads, context, w]`", "split_heads(x, 2)"),
    Builtin::function("merge_heads", &[X], |trace, arguments| {
        let (x,): (Symbol,) = arguments.read()?;
        Ok(merge_heads(trace, &x)?.into())
    })
    .documented(
        "the reverse of `split_heads`: `[batch, heads, context, w]` to `[batch, context, heads * w]`",
        "merge_heads(split_heads(x, 2))",
    ),
];
