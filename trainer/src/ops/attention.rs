//! `attention`: causal attention, made of `matmul`, `causal_mask` or a window's mask, and `softmax`.

use super::arange::Range;
use super::binary::binary;
use super::causal_mask::causal_mask;
use super::enforced::MASKED;
use super::matmul::matmul;
use super::permute::transpose;
use super::reshape::reshape;
use super::shape::Rule;
use super::softmax::softmax;
use super::unary::unary;
use super::where_::choose;
use super::{
    ArgumentKind, BinaryFunction, Builtin, DefaultValue, Misuse, Operand, Parameter, Symbol, Trace, UnaryFunction,
    positive,
};
use crate::value::show;

/// What a call may ask for besides queries, keys and values.
struct Options {
    /// Factor of the scores; `1/sqrt(width)` unless given (Vaswani et al. 2017).
    scale: Option<f64>,
    /// Positions that a query sees, itself included.
    window: Option<usize>,
    /// Bound of the scores, which `cap * tanh(score / cap)` keeps (Gemma 2, 2024).
    softcap: Option<f64>,
}

/// Causal attention of queries `q` over keys `k` and values `v`, `[batch, heads, context, width]`
/// each. Keys and values may have fewer heads: each then serves as many queries as it takes (Ainslie et al. 2023).
fn attention(trace: &dyn Trace, q: &Symbol, k: &Symbol, v: &Symbol, options: &Options) -> Rule<Symbol> {
    for (tensor, which) in [(q, "q"), (k, "k"), (v, "v")] {
        if tensor.shape.len() != 4 {
            return Err(Misuse::new(format!(
                "attention: {which} is {}, it must be [batch, heads, context, width]: split_heads() first",
                show(&tensor.shape)
            )));
        }
    }
    let add_place = |error: Misuse| {
        let (q, k, v) = (show(&q.shape), show(&k.shape), show(&v.shape));
        Misuse::new(format!("attention: q {q}, k {k}, v {v}: {error}"))
    };
    let Some(groups) = groups(q, k, v) else {
        return mixed(trace, q, k, v, options).map_err(add_place);
    };
    // Queries as [batch, groups, heads of a group, context, width], beside keys and values with one head.
    let grouped = |x: &Symbol, heads: usize| {
        let [batch, _, context, width] = x.shape.as_slice() else { return Ok(x.clone()) };
        reshape(trace, x, &[*batch, groups, heads, *context, *width].map(|extent| extent as i64))
    };
    let heads = q.shape.get(1).copied().unwrap_or(1) / groups.max(1);
    let mixed = mixed(trace, &grouped(q, heads)?, &grouped(k, 1)?, &grouped(v, 1)?, options).map_err(add_place)?;
    let [batch, _, _, context, width] = mixed.shape.as_slice() else { return Ok(mixed) };
    let shape = [*batch, groups * heads, *context, *width].map(|extent| extent as i64);
    reshape(trace, &mixed, &shape)
}

/// The heads of keys and values, where these are fewer than the queries' and more than one.
fn groups(q: &Symbol, k: &Symbol, v: &Symbol) -> Option<usize> {
    let heads = |x: &Symbol| x.shape.get(1).copied().unwrap_or(1);
    let (queries, keys) = (heads(q), heads(k));
    (keys > 1 && keys < queries && queries.is_multiple_of(keys) && heads(v) == keys).then_some(keys)
}

/// Attention over the last two dimensions.
fn mixed(trace: &dyn Trace, q: &Symbol, k: &Symbol, v: &Symbol, options: &Options) -> Rule<Symbol> {
    let width = q.last_dimension("attention")?;
    let scale = options.scale.unwrap_or_else(|| (width as f64).sqrt().recip());
    let by_number = |function, x: &Symbol, number: f64| {
        binary(trace, "attention", function, &Operand::Tensor(x.clone()), &Operand::Number(number))
    };
    // Scaling the queries touches context * width numbers, the scores context * context.
    let queries = by_number(BinaryFunction::Mul, q, scale)?;
    let mut scores = matmul(trace, &queries, &transpose(trace, k, -2, -1)?)?;
    if let Some(cap) = options.softcap {
        let small = by_number(BinaryFunction::Div, &scores, cap)?;
        scores = by_number(BinaryFunction::Mul, &unary(trace, "attention", UnaryFunction::Tanh, &small)?, cap)?;
    }
    let masked = match options.window {
        Some(window) => windowed(trace, &scores, window)?,
        None => causal_mask(trace, &scores)?,
    };
    matmul(trace, &softmax(trace, &masked, -1)?, v)
}

/// The scores `[.., t, t]` with minus infinity where the key is later than the query, or `window` or more before it.
fn windowed(trace: &dyn Trace, scores: &Symbol, window: usize) -> Rule<Symbol> {
    let [.., queries, keys] = scores.shape.as_slice() else { return causal_mask(trace, scores) };
    if queries != keys || window >= *keys {
        return causal_mask(trace, scores);
    }
    let places = trace.make(Range(*keys), vec![*keys])?;
    let of_queries = reshape(trace, &places, &[*keys as i64, 1])?;
    let two = |function, a: &Symbol, b: Operand| binary(trace, "attention", function, &Operand::Tensor(a.clone()), &b);
    let distance = two(BinaryFunction::Sub, &of_queries, Operand::Tensor(places.clone()))?;
    let near = two(BinaryFunction::Less, &distance, Operand::Number(window as f64))?;
    let not_later = two(BinaryFunction::LessEqual, &places, Operand::Tensor(of_queries))?;
    let seen = two(BinaryFunction::Mul, &not_later, Operand::Tensor(near))?;
    choose(trace, &seen, &Operand::Tensor(scores.clone()), &Operand::Number(f64::from(MASKED)))
}

const PARAMETERS: &[Parameter] = &[
    Parameter::new("q", ArgumentKind::Tensor),
    Parameter::new("k", ArgumentKind::Tensor),
    Parameter::new("v", ArgumentKind::Tensor),
    Parameter::new("scale", ArgumentKind::Number).or(DefaultValue::Nothing),
    Parameter::new("window", ArgumentKind::Count).or(DefaultValue::Nothing).by_name(),
    Parameter::new("softcap", ArgumentKind::Number).or(DefaultValue::Nothing).by_name(),
];

pub(super) const BUILTINS: &[Builtin] = &[Builtin::function("attention", PARAMETERS, |trace, arguments| {
    type Call = (Symbol, Symbol, Symbol, Option<f64>, Option<usize>, Option<f64>);
    let (q, k, v, scale, window, softcap): Call = arguments.read()?;
    if window == Some(0) {
        return Err(Misuse::new("attention: a window of 0 sees nothing; a window of 1 sees the position itself"));
    }
    let softcap = softcap.map(|cap| positive("attention: softcap", cap)).transpose()?;
    Ok(attention(trace, &q, &k, &v, &Options { scale, window, softcap })?.into())
})
.documented(
    "causal attention of queries over keys and values, `[batch, heads, context, w]` each. `k` and `v` may have fewer heads, of which each serves an equal group of the queries'. `scale` multiplies the scores; it is `1/sqrt(w)` unless given. With `window`, a position sees that many positions, the last of which is itself. With `softcap`, `softcap * tanh(score / softcap)` bounds the scores",
    "attention(split_heads(x, 2), split_heads(x, 2), split_heads(x, 2), window=3, softcap=20)",
)];
