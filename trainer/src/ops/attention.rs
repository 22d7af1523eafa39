//! `attention`: causal attention, made of `matmul`, `causal_mask` and `softmax`.

use super::binary::binary;
use super::causal_mask::causal_mask;
use super::matmul::matmul;
use super::permute::transpose;
use super::shape::Rule;
use super::softmax::softmax;
use super::{ArgumentKind, BinaryFunction, Builtin, DefaultValue, Misuse, Operand, Parameter, Symbol, Trace};
use crate::value::show;

/// Causal attention of queries `q` over keys `k` and values `v`, `[batch, heads, context, width]`
/// each; one head of keys and values serves all queries. Scores are multiplied by `scale`, which
/// is `1/sqrt(width)` unless given (Vaswani et al. 2017).
fn attention(trace: &dyn Trace, q: &Symbol, k: &Symbol, v: &Symbol, scale: Option<f64>) -> Rule<Symbol> {
    for (tensor, which) in [(q, "q"), (k, "k"), (v, "v")] {
        if tensor.shape.len() != 4 {
            return Err(Misuse::new(format!(
                "attention: {which} is {}, it must be [batch, heads, context, width]: split_heads() first",
                show(&tensor.shape)
            )));
        }
    }
    let width = q.last_dimension("attention")?;
    let scale = scale.unwrap_or_else(|| (width as f64).sqrt().recip());
    let add_place = |error: Misuse| {
        let (q, k, v) = (show(&q.shape), show(&k.shape), show(&v.shape));
        Misuse::new(format!("attention: q {q}, k {k}, v {v}: {error}"))
    };
    // Scaling the queries touches context * width numbers, the scores context * context.
    let (queries, scale) = (Operand::Tensor(q.clone()), Operand::Number(scale));
    let queries = binary(trace, "attention", BinaryFunction::Mul, &queries, &scale)?;
    let scores = matmul(trace, &queries, &transpose(trace, k, 2, 3)?).map_err(add_place)?;
    let weights = softmax(trace, &causal_mask(trace, &scores).map_err(add_place)?, -1)?;
    matmul(trace, &weights, v).map_err(add_place)
}

const PARAMETERS: &[Parameter] = &[
    Parameter::new("q", ArgumentKind::Tensor),
    Parameter::new("k", ArgumentKind::Tensor),
    Parameter::new("v", ArgumentKind::Tensor),
    Parameter::new("scale", ArgumentKind::Number).or(DefaultValue::Nothing),
];

pub(super) const BUILTINS: &[Builtin] = &[Builtin::function("attention", PARAMETERS, |trace, arguments| {
    let (q, k, v, scale): (Symbol, Symbol, Symbol, Option<f64>) = arguments.read()?;
    Ok(attention(trace, &q, &k, &v, scale)?.into())
})
.documented(
    "causal attention of queries over keys and values, `[batch, heads, context, w]` each. `k` and `v` may have one head that all queries share. `scale` multiplies the scores; it is `1/sqrt(w)` unless given",
    "attention(split_heads(x, 2), split_heads(x, 2), split_heads(x, 2))",
)];
