//! The functions of the language that declare the experiment: tunables, optimizer, schedule, and
//! the one call of `train()`.

use starlark::environment::GlobalsBuilder;
use starlark::eval::Evaluator;
use starlark::starlark_module;
use starlark::values::float::UnpackFloat;
use starlark::values::list_or_tuple::UnpackListOrTuple;
use starlark::values::none::{NoneOr, NoneType};
use starlark::values::{Heap, UnpackValue, Value, ValueLike};

use super::content::DeclaredExperiment;
use super::content::Setting;
use super::error::line_of;
use super::handles::SettingValue;
use super::handles::TensorValue;
use super::running;
use super::scan::default_literal;
use super::setting::optimizer_of;
use super::tunable::{Tunable, TuneKind, TuneValue};
use crate::graph::{AdamW, Decay, Graph, Lion, Muon, Optimizer, Schedule, Sgd, ValueId};
use crate::ops::{Misuse, finite, positive};
use crate::value::show;

/// Possible values of a token, which is a byte.
const VOCABULARY: usize = 256;

/// Most choices of one tunable: a proposer can only try so many.
const CHOICES: usize = 64;
/// Most bytes of a choice that is a text. Names of functions and shapes are shorter.
const TEXT_BYTES: usize = 100;
/// Most bytes of all tunables in JSON. A worker sends them in one line of at most 64 KiB; 64
/// tunables with 64 of the longest choices would take hundreds of KiB.
const TUNABLES_BYTES: usize = 60 << 10;

/// A number, text or flag out of the script.
fn tune_value(name: &str, value: Value<'_>) -> Result<TuneValue, Misuse> {
    if let Some(flag) = value.unpack_bool() {
        return Ok(TuneValue::Flag(flag));
    }
    if let Ok(Some(integer)) = i64::unpack_value(value) {
        return Ok(TuneValue::Integer(integer));
    }
    if let Ok(Some(number)) = UnpackFloat::unpack_value(value) {
        return Ok(TuneValue::Float(finite(&format!("tune '{name}': a value"), number.0)?));
    }
    match value.unpack_str() {
        Some(text) if text.len() > TEXT_BYTES => {
            Err(Misuse::new(format!("tune '{name}': a text has {} bytes, the limit is {TEXT_BYTES}", text.len())))
        }
        Some(text) if !text.chars().any(char::is_control) => Ok(TuneValue::Text(text.to_owned())),
        _ => Err(Misuse::new(format!(
            "tune '{name}': values are numbers, short texts, True or False, got {}",
            value.get_type()
        ))),
    }
}

fn alloc_value<'v>(value: TuneValue, heap: Heap<'v>) -> Value<'v> {
    match value {
        TuneValue::Flag(flag) => Value::new_bool(flag),
        TuneValue::Integer(integer) => heap.alloc(integer),
        TuneValue::Float(number) => heap.alloc(number),
        TuneValue::Text(text) => heap.alloc(text),
    }
}

/// The values of `choices=`.
fn choice_values(name: &str, items: Vec<Value<'_>>) -> Result<Vec<TuneValue>, Misuse> {
    if items.len() > CHOICES {
        return Err(Misuse::new(format!("tune '{name}': {} choices, the limit is {CHOICES}", items.len())));
    }
    items.into_iter().map(|value| tune_value(name, value)).collect()
}

/// Refuses a tunable if the script's tunables together would not fit into the worker's answer.
fn check_size(declared: &[Tunable], tunable: &Tunable) -> Result<(), Misuse> {
    let bytes: usize = declared.iter().chain([tunable]).map(json_bytes).sum();
    if bytes <= TUNABLES_BYTES {
        return Ok(());
    }
    Err(Misuse::new(format!(
        "tune '{}': the script's tunables take {bytes} bytes, the limit is {TUNABLES_BYTES}: offer fewer or shorter choices",
        tunable.name
    )))
}

/// Bytes of a tunable in JSON, with the comma after it.
fn json_bytes(tunable: &Tunable) -> usize {
    // What cannot be written cannot be sent either.
    serde_json::to_vec(tunable).map_or(TUNABLES_BYTES, |json| json.len()).saturating_add(1)
}

/// The allowed values, given by `choices=` or by `min=`, `max=` and `log=`.
fn tune_kind(
    name: &str,
    default: &TuneValue,
    choices: Option<Vec<TuneValue>>,
    min: Option<TuneValue>,
    max: Option<TuneValue>,
    log: bool,
) -> Result<TuneKind, Misuse> {
    let refuse = |message: &str| Err(Misuse::new(format!("tune '{name}': {message}")));
    match (choices, min, max) {
        (Some(choices), None, None) if !log => {
            if choices.is_empty() {
                return refuse("the list of choices is empty");
            }
            Ok(TuneKind::Choice(choices))
        }
        (None, Some(min), Some(max)) => {
            let integer = [default, &min, &max].iter().all(|value| matches!(value, TuneValue::Integer(_)));
            let (Some(min), Some(max)) = (min.number(), max.number()) else {
                return refuse("min and max must be numbers");
            };
            if min > max {
                return refuse("min is above max");
            }
            if log && min <= 0.0 {
                return refuse("log=True needs min above 0");
            }
            Ok(TuneKind::Range { min, max, log, integer })
        }
        _ => refuse("give either choices=[...], or min= and max= (with log=True for ratios)"),
    }
}

/// Most iterations of Muon: after five the matrix is as good as orthogonal.
const ITERATIONS: u32 = 10;

/// A decay at each step. The largest is below 1 also as a 32-bit float: with a decay of 1, nothing is ever learnt.
fn beta(what: &str, value: UnpackFloat) -> Result<f64, Misuse> {
    within(what, value.0, 0.0, 0.999_999)
}

/// Refuses a rule for a parameter whose shape it does not take.
pub(super) fn check_rules(graph: &Graph) -> Result<(), Misuse> {
    let misfit = graph.params.iter().find(|param| !graph.rule_of(param).takes(&param.shape));
    let Some(param) = misfit else { return Ok(()) };
    let (name, shape) = (&param.name, show(&param.shape));
    Err(Misuse::new(format!(
        "param '{name}': muon() updates matrices, this parameter is {shape}: give it optimizer=adamw(...), or give train() another rule and the matrices optimizer=muon(...)"
    )))
}

/// Checks that a number of an optimizer or schedule lies in a range.
fn within(what: &str, value: f64, min: f64, max: f64) -> Result<f64, Misuse> {
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    Err(Misuse::new(format!("{what} is {value}; choose {min}..{max}")))
}

#[starlark_module]
pub(super) fn tuning(builder: &mut GlobalsBuilder) {
    fn tune<'v>(
        name: &str,
        default: Value<'v>,
        #[starlark(require = named, default = NoneOr::None)] choices: NoneOr<UnpackListOrTuple<Value<'v>>>,
        #[starlark(require = named, default = NoneOr::None)] min: NoneOr<Value<'v>>,
        #[starlark(require = named, default = NoneOr::None)] max: NoneOr<Value<'v>>,
        #[starlark(require = named, default = false)] log: bool,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let session = running(eval)?;
        let read = |value: Value<'v>| tune_value(name, value);
        let choices = choices.into_option().map(|list| choice_values(name, list.items)).transpose()?;
        let (min, max) = (min.into_option().map(read).transpose()?, max.into_option().map(read).transpose()?);
        let default = read(default)?;
        let kind = tune_kind(name, &default, choices, min, max, log)?;
        let value =
            kind.accept(&default).map_err(|message| Misuse::new(format!("tune '{name}': the default {message}")))?;
        let not_literal = || {
            Misuse::new(format!(
                "tune '{name}': write the default as a literal (a number, a text in quotes, True or False), so that it can be changed in the text"
            ))
        };
        let call = eval.call_stack_top_location().ok_or_else(not_literal)?;
        let range = call.span.begin().get() as usize..call.span.end().get() as usize;
        let span = default_literal(call.file.source(), range).ok_or_else(not_literal)?;
        let tunable = Tunable { name: name.to_owned(), value: value.clone(), kind, line: line_of(&call), span };
        check_size(&session.declared().tunables, &tunable)?;
        session.declared().push_tunable(tunable)?;
        Ok(alloc_value(value, eval.heap()))
    }
}

#[starlark_module]
pub(super) fn adaptive_optimizers(builder: &mut GlobalsBuilder) {
    fn adamw(
        lr: UnpackFloat,
        #[starlark(default = UnpackFloat(0.9))] beta1: UnpackFloat,
        #[starlark(default = UnpackFloat(0.95))] beta2: UnpackFloat,
        #[starlark(default = UnpackFloat(1e-8))] eps: UnpackFloat,
        #[starlark(default = UnpackFloat(0.1))] weight_decay: UnpackFloat,
        #[starlark(default = UnpackFloat(1.0))] clip: UnpackFloat,
    ) -> starlark::Result<SettingValue> {
        Ok(SettingValue(Setting::Optimizer(Optimizer::AdamW(AdamW {
            lr: positive("adamw: lr", lr.0)?,
            beta1: beta("adamw: beta1", beta1)?,
            beta2: beta("adamw: beta2", beta2)?,
            eps: positive("adamw: eps", eps.0)?,
            weight_decay: within("adamw: weight_decay", weight_decay.0, 0.0, 100.0)?,
            clip: within("adamw: clip", clip.0, 0.0, 1e9)?,
        }))))
    }

    fn lion(
        lr: UnpackFloat,
        #[starlark(default = UnpackFloat(0.9))] beta1: UnpackFloat,
        #[starlark(default = UnpackFloat(0.99))] beta2: UnpackFloat,
        #[starlark(default = UnpackFloat(0.1))] weight_decay: UnpackFloat,
        #[starlark(default = UnpackFloat(1.0))] clip: UnpackFloat,
    ) -> starlark::Result<SettingValue> {
        Ok(SettingValue(Setting::Optimizer(Optimizer::Lion(Lion {
            lr: positive("lion: lr", lr.0)?,
            lion_beta1: beta("lion: beta1", beta1)?,
            lion_beta2: beta("lion: beta2", beta2)?,
            weight_decay: within("lion: weight_decay", weight_decay.0, 0.0, 100.0)?,
            clip: within("lion: clip", clip.0, 0.0, 1e9)?,
        }))))
    }
}

#[starlark_module]
pub(super) fn momentum_optimizers(builder: &mut GlobalsBuilder) {
    fn muon(
        lr: UnpackFloat,
        #[starlark(default = UnpackFloat(0.95))] momentum: UnpackFloat,
        #[starlark(default = true)] nesterov: bool,
        #[starlark(default = 5)] iterations: u32,
        #[starlark(default = UnpackFloat(0.0))] weight_decay: UnpackFloat,
        #[starlark(default = UnpackFloat(0.0))] clip: UnpackFloat,
    ) -> starlark::Result<SettingValue> {
        if !(1..=ITERATIONS).contains(&iterations) {
            let message = format!("muon: iterations is {iterations}; choose 1..{ITERATIONS}");
            return Err(Misuse::new(message).into());
        }
        Ok(SettingValue(Setting::Optimizer(Optimizer::Muon(Muon {
            lr: positive("muon: lr", lr.0)?,
            momentum: beta("muon: momentum", momentum)?,
            nesterov,
            iterations,
            weight_decay: within("muon: weight_decay", weight_decay.0, 0.0, 100.0)?,
            clip: within("muon: clip", clip.0, 0.0, 1e9)?,
        }))))
    }

    fn sgd(
        lr: UnpackFloat,
        #[starlark(default = UnpackFloat(0.9))] momentum: UnpackFloat,
        #[starlark(default = true)] nesterov: bool,
        #[starlark(default = UnpackFloat(0.0))] weight_decay: UnpackFloat,
        #[starlark(default = UnpackFloat(1.0))] clip: UnpackFloat,
    ) -> starlark::Result<SettingValue> {
        Ok(SettingValue(Setting::Optimizer(Optimizer::Sgd(Sgd {
            lr: positive("sgd: lr", lr.0)?,
            momentum: beta("sgd: momentum", momentum)?,
            nesterov,
            weight_decay: within("sgd: weight_decay", weight_decay.0, 0.0, 100.0)?,
            clip: within("sgd: clip", clip.0, 0.0, 1e9)?,
        }))))
    }
}

#[starlark_module]
pub(super) fn schedules(builder: &mut GlobalsBuilder) {
    fn schedule(
        shape: &str,
        #[starlark(default = UnpackFloat(0.0))] warmup: UnpackFloat,
        #[starlark(default = NoneOr::None)] cooldown: NoneOr<UnpackFloat>,
        #[starlark(default = UnpackFloat(0.0))] floor: UnpackFloat,
    ) -> starlark::Result<SettingValue> {
        let warmup = within("schedule: warmup", warmup.0, 0.0, 1.0)?;
        let cooldown = cooldown.into_option().map_or(1.0 - warmup, |share| share.0);
        let shape = match shape {
            "constant" => Decay::Constant,
            "linear" => Decay::Linear,
            "cosine" => Decay::Cosine,
            other => {
                return Err(Misuse::new(format!(
                    "schedule: '{other}' is unknown; choose \"constant\", \"linear\" or \"cosine\""
                ))
                .into());
            }
        };
        let floor = within("schedule: floor", floor.0, 0.0, 1.0)?;
        // A constant rate never falls, whatever the other arguments say: one meaning, one graph.
        let (cooldown, floor) = if shape == Decay::Constant { (0.0, 1.0) } else { (cooldown, floor) };
        let cooldown = within("schedule: cooldown", cooldown, 0.0, 1.0 - warmup)?;
        Ok(SettingValue(Setting::Schedule(Schedule { shape, warmup, cooldown, floor })))
    }
}

#[starlark_module]
pub(super) fn training(builder: &mut GlobalsBuilder) {
    fn train<'v>(
        #[starlark(require = named)] model: Value<'v>,
        #[starlark(require = named)] batch: u32,
        #[starlark(require = named)] context: u32,
        #[starlark(require = named)] optimizer: &'v SettingValue,
        #[starlark(require = named, default = NoneOr::None)] schedule: NoneOr<&'v SettingValue>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let session = running(eval)?;
        if session.declared().experiment.is_some() {
            return Err(Misuse::new("train: called a second time; a script declares one experiment").into());
        }
        let optimizer = optimizer_of("train", optimizer)?;
        let schedule = schedule_of(schedule)?;
        let (batch, context) = (batch as usize, context as usize);
        let symbol = session.tokens(batch, context)?;
        let tokens = eval.heap().alloc(TensorValue { symbol, session: session.clone() });
        let logits = eval.eval_function(model, &[tokens], &[])?;
        let logits = logits_of(logits, &[batch, context, VOCABULARY])?;
        let experiment = DeclaredExperiment { batch, context, logits, optimizer, schedule };
        let again = session.declared().experiment.replace(experiment).is_some();
        if again {
            return Err(Misuse::new("train: called from within its own model").into());
        }
        Ok(NoneType)
    }
}

fn schedule_of(schedule: NoneOr<&SettingValue>) -> Result<Schedule, Misuse> {
    match schedule.into_option().map(|value| &value.0) {
        None => Ok(Schedule { shape: Decay::Constant, warmup: 0.0, cooldown: 0.0, floor: 1.0 }),
        Some(Setting::Schedule(schedule)) => Ok(schedule.clone()),
        Some(_) => Err(Misuse::new("train: schedule must be made by schedule(shape, ...)")),
    }
}

/// The id of the logits, if the model returned a tensor of the right shape.
fn logits_of(value: Value<'_>, wanted: &[usize]) -> Result<ValueId, Misuse> {
    let Some(TensorValue { symbol: logits, .. }) = value.downcast_ref::<TensorValue>() else {
        return Err(Misuse::new(format!(
            "train: the model must return the logits, a tensor {}; it returned {}",
            show(wanted),
            value.get_type()
        )));
    };
    if logits.shape != wanted {
        return Err(Misuse::new(format!(
            "train: the model returned {}, the logits must be {}, [batch, context, {VOCABULARY}]: end with a linear layer of {VOCABULARY} outputs",
            show(&logits.shape),
            show(wanted)
        )));
    }
    Ok(logits.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::{Limits, trace};

    fn refusal(script: &str) -> String {
        trace(script, &Limits::default()).unwrap_err().to_string()
    }

    #[test]
    fn choices_are_few_and_short() {
        let many = "\ntune('a', 0, choices=[i for i in range(65)])\n";
        assert_eq!(refusal(many), "line 2: tune 'a': 65 choices, the limit is 64");
        let long = "tune('a', 'x', choices=['x', 'y' * 101])\n";
        assert_eq!(refusal(long), "line 1: tune 'a': a text has 101 bytes, the limit is 100");
        let fit = "tune('a', 0, choices=[i for i in range(64)])\ntune('b', 'x', choices=['x', 'y' * 100])\n";
        assert!(!refusal(fit).contains("limit"), "only train() is missing: {}", refusal(fit));
    }

    #[test]
    fn longest_tunables_that_pass_fit_into_a_workers_answer() {
        let choices = vec![TuneValue::Text("\"".repeat(TEXT_BYTES)); CHOICES];
        let tunable = |i: usize| Tunable {
            name: i.to_string(),
            value: TuneValue::Flag(true),
            kind: TuneKind::Choice(choices.clone()),
            line: 1,
            span: 0..4,
        };
        let mut declared = Vec::new();
        while check_size(&declared, &tunable(declared.len())).is_ok() {
            declared.push(tunable(declared.len()));
        }
        assert!((1..64).contains(&declared.len()));
        let inspection = crate::worker::Inspection { tunables: declared, graph_hash: "0".repeat(64) };
        assert!(serde_json::to_vec(&crate::worker::WorkerEvent::Inspected(inspection)).unwrap().len() < 64 << 10);
        let small = |i: usize| Tunable { kind: TuneKind::Choice(vec![TuneValue::Integer(64); 40]), ..tunable(i) };
        let all: Vec<_> = (0..63).map(small).collect();
        assert_eq!(check_size(&all, &small(63)), Ok(()));
    }
}
