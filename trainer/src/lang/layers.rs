//! Functions of the language that make parameters and layers.

use starlark::environment::GlobalsBuilder;
use starlark::eval::Evaluator;
use starlark::starlark_module;
use starlark::values::float::UnpackFloat;
use starlark::values::list_or_tuple::UnpackListOrTuple;
use starlark::values::none::NoneOr;

use super::error::Misuse;
use super::ops::{self, BinaryOp, Operand, Tensor, finite, positive};
use super::running;
use super::setting::{Setting, SettingValue, init as init_of};
use super::tensor::{Extents, TensorValue};
use crate::graph::{Binary, Init, Op, Param};

/// Standard deviation of a parameter whose `init` is not given, as GPT-2 has it.
const DEFAULT_STD: f64 = 0.02;

/// Extents of at least 1.
fn extents(what: &str, shape: &Extents) -> Result<Vec<usize>, Misuse> {
    let positive = |extent: &i64| usize::try_from(*extent).ok().filter(|extent| *extent > 0);
    shape
        .items
        .iter()
        .map(|extent| {
            positive(extent)
                .ok_or_else(|| Misuse::new(format!("{what}: extent {extent} is not allowed; extents are at least 1")))
        })
        .collect()
}

/// `tensor * weight` or `tensor + bias` where one was given.
fn combine(op: BinaryOp, x: Tensor, with: NoneOr<&TensorValue>) -> Result<Tensor, Misuse> {
    match with.into_option() {
        Some(other) => x.session.binary(op, &Operand::Tensor(&x), &Operand::Tensor(&other.0)),
        None => Ok(x),
    }
}

#[starlark_module]
pub(super) fn parameters(builder: &mut GlobalsBuilder) {
    fn param<'v>(
        name: &str,
        shape: Extents,
        #[starlark(default = NoneOr::None)] init: NoneOr<&'v SettingValue>,
        #[starlark(require = named, default = UnpackFloat(1.0))] lr_scale: UnpackFloat,
        #[starlark(require = named, default = NoneOr::None)] decay: NoneOr<bool>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<TensorValue> {
        let shape = extents(&format!("param '{name}'"), &shape)?;
        let init = init_of("param", init)?.unwrap_or(Init::Normal(DEFAULT_STD));
        let decay = decay.into_option().unwrap_or(shape.len() > 1);
        let lr_scale = scale_of("param", lr_scale)?;
        Ok(TensorValue(running(eval)?.param(Param { name: name.to_owned(), shape, init, lr_scale, decay })?))
    }

    fn linear<'v>(
        x: &TensorValue,
        name: &str,
        out: u32,
        #[starlark(default = false)] bias: bool,
        #[starlark(require = named, default = NoneOr::None)] init: NoneOr<&'v SettingValue>,
        #[starlark(require = named, default = UnpackFloat(1.0))] lr_scale: UnpackFloat,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<TensorValue> {
        running(eval)?;
        if out == 0 {
            return Err(Misuse::new("linear: out is 0; extents are at least 1").into());
        }
        let init = init_of("linear", init)?;
        Ok(TensorValue(x.0.linear(name, out as usize, bias, init, scale_of("linear", lr_scale)?)?))
    }
}

fn scale_of(what: &str, lr_scale: UnpackFloat) -> Result<f64, Misuse> {
    if finite(&format!("{what}: lr_scale"), lr_scale.0)? < 0.0 {
        return Err(Misuse::new(format!("{what}: lr_scale is {}; it must be at least 0", lr_scale.0)));
    }
    Ok(lr_scale.0)
}

#[starlark_module]
pub(super) fn initial_values(builder: &mut GlobalsBuilder) {
    fn normal(std: UnpackFloat) -> starlark::Result<SettingValue> {
        Ok(SettingValue(Setting::Init(Init::Normal(positive("normal: std", std.0)?))))
    }

    fn uniform(limit: UnpackFloat) -> starlark::Result<SettingValue> {
        Ok(SettingValue(Setting::Init(Init::Uniform(positive("uniform: limit", limit.0)?))))
    }

    fn zeros() -> starlark::Result<SettingValue> {
        Ok(SettingValue(Setting::Init(Init::Constant(0.0))))
    }

    fn ones() -> starlark::Result<SettingValue> {
        Ok(SettingValue(Setting::Init(Init::Constant(1.0))))
    }

    fn constant(value: UnpackFloat) -> starlark::Result<SettingValue> {
        Ok(SettingValue(Setting::Init(Init::Constant(finite("constant: value", value.0)?))))
    }
}

#[starlark_module]
pub(super) fn sources(builder: &mut GlobalsBuilder) {
    fn embedding<'v>(
        table: &TensorValue,
        tokens: &TensorValue,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<TensorValue> {
        running(eval)?;
        Ok(TensorValue(table.0.embedding(&tokens.0)?))
    }

    fn arange<'v>(len: u32, eval: &mut Evaluator<'v, '_, '_>) -> starlark::Result<TensorValue> {
        Ok(TensorValue(running(eval)?.make(Op::Range(len as usize), vec![len as usize])?))
    }

    fn concat<'v>(
        tensors: UnpackListOrTuple<&'v TensorValue>,
        #[starlark(default = -1)] axis: i64,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<TensorValue> {
        let parts: Vec<&Tensor> = tensors.items.iter().map(|value| &value.0).collect();
        Ok(TensorValue(ops::concat(&running(eval)?, &parts, axis)?))
    }

    fn matmul<'v>(
        #[starlark(require = pos)] a: &TensorValue,
        #[starlark(require = pos)] b: &TensorValue,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<TensorValue> {
        running(eval)?;
        Ok(TensorValue(a.0.matmul(&b.0)?))
    }
}

#[starlark_module]
pub(super) fn norms(builder: &mut GlobalsBuilder) {
    fn rms_norm<'v>(
        x: &TensorValue,
        #[starlark(default = NoneOr::None)] weight: NoneOr<&'v TensorValue>,
        #[starlark(default = UnpackFloat(1e-6))] eps: UnpackFloat,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<TensorValue> {
        running(eval)?;
        Ok(TensorValue(combine(BinaryOp(Binary::Mul, "rms_norm"), x.0.rms_norm(eps.0)?, weight)?))
    }

    fn layer_norm<'v>(
        x: &TensorValue,
        #[starlark(default = NoneOr::None)] weight: NoneOr<&'v TensorValue>,
        #[starlark(default = NoneOr::None)] bias: NoneOr<&'v TensorValue>,
        #[starlark(default = UnpackFloat(1e-5))] eps: UnpackFloat,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<TensorValue> {
        running(eval)?;
        let scaled = combine(BinaryOp(Binary::Mul, "layer_norm"), x.0.layer_norm(eps.0)?, weight)?;
        Ok(TensorValue(combine(BinaryOp(Binary::Add, "layer_norm"), scaled, bias)?))
    }

    fn softmax<'v>(
        x: &TensorValue,
        #[starlark(default = -1)] axis: i64,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<TensorValue> {
        running(eval)?;
        Ok(TensorValue(x.0.softmax(axis)?))
    }

    fn dropout<'v>(x: &TensorValue, p: UnpackFloat, eval: &mut Evaluator<'v, '_, '_>) -> starlark::Result<TensorValue> {
        running(eval)?;
        Ok(TensorValue(x.0.dropout(p.0)?))
    }

    fn detach<'v>(x: &TensorValue, eval: &mut Evaluator<'v, '_, '_>) -> starlark::Result<TensorValue> {
        running(eval)?;
        Ok(TensorValue(x.0.detach()?))
    }
}

#[starlark_module]
pub(super) fn attention_parts(builder: &mut GlobalsBuilder) {
    fn split_heads<'v>(x: &TensorValue, heads: u32, eval: &mut Evaluator<'v, '_, '_>) -> starlark::Result<TensorValue> {
        running(eval)?;
        Ok(TensorValue(x.0.split_heads(heads as usize)?))
    }

    fn merge_heads<'v>(x: &TensorValue, eval: &mut Evaluator<'v, '_, '_>) -> starlark::Result<TensorValue> {
        running(eval)?;
        Ok(TensorValue(x.0.merge_heads()?))
    }

    fn causal_mask<'v>(scores: &TensorValue, eval: &mut Evaluator<'v, '_, '_>) -> starlark::Result<TensorValue> {
        running(eval)?;
        Ok(TensorValue(scores.0.causal_mask()?))
    }

    fn rope<'v>(
        x: &TensorValue,
        #[starlark(default = UnpackFloat(10_000.0))] base: UnpackFloat,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<TensorValue> {
        running(eval)?;
        Ok(TensorValue(x.0.rope(base.0)?))
    }

    fn shift<'v>(
        x: &TensorValue,
        #[starlark(default = 1)] by: i64,
        #[starlark(default = 1)] axis: i64,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<TensorValue> {
        running(eval)?;
        Ok(TensorValue(x.0.shift(by, axis)?))
    }

    fn attention<'v>(
        q: &TensorValue,
        k: &TensorValue,
        v: &TensorValue,
        #[starlark(default = NoneOr::None)] scale: NoneOr<UnpackFloat>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<TensorValue> {
        running(eval)?;
        Ok(TensorValue(q.0.attention(&k.0, &v.0, scale.into_option().map(|scale| scale.0))?))
    }
}
