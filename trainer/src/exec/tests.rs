//! Whole runs. The tests of single operations stand beside them, in `ops`.

use spore_protocol::TaskId;

use super::*;
use crate::data::ByteDataset;
use crate::evaluate::{EvalError, EvalSeed, EvalSpec, Evaluation, Patience, evaluate};
use crate::graph::{AdamW, Init, Op, Optimizer};
use crate::ops::testing::Builder;
use crate::ops::{
    Binary, BinaryFunction, CausalMask, Concat, Dropout, Embedding, Matmul, Permute, RmsNorm, Slice, Softmax,
};

/// A model of one layer: causal attention over embedded bytes.
fn attention_model(batch: usize, context: usize, width: usize) -> Graph {
    let mut b = Builder::new(batch, context);
    let seen = [batch, context, width];
    let table = b.param(&[256, width], Init::Normal(0.1));
    let tokens = b.node(Op::Tokens, &[batch, context]);
    let x = b.node(Embedding { table, tokens }, &seen);
    let x = b.node(RmsNorm { x, eps: 1e-6 }, &seen);
    let scores_shape = [batch, context, context];
    let weights = b.param(&[width, width], Init::Normal(0.1));
    let queries = b.node(Matmul(x, weights), &seen);
    let keys = b.node(Permute(x, vec![0, 2, 1]), &[batch, width, context]);
    let scores = b.node(Matmul(queries, keys), &scores_shape);
    let scores = b.node(CausalMask(scores), &scores_shape);
    let attention = b.node(Softmax(scores, 2), &scores_shape);
    let mixed = b.node(Matmul(attention, x), &seen);
    let mixed = b.node(Dropout { x: mixed, p: 0.1 }, &seen);
    let x = b.node(Binary(BinaryFunction::Add, x, mixed), &seen);
    let out = b.param(&[width, 256], Init::Normal(0.1));
    let logits = b.node(Matmul(x, out), &[batch, context, 256]);
    b.done(logits)
}

fn text() -> Vec<u8> {
    crate::corpus::generate(3, 100_000)
}

/// The result of the whole evaluation of a model after some steps, without the proof of causality.
fn evaluated(model: Graph, steps: u64) -> Result<Evaluation, EvalError> {
    let dataset = ByteDataset::from_bytes(text()).unwrap();
    let spec = EvalSpec { eval_bytes: 4096, ..EvalSpec::for_budget(1) };
    let seed = EvalSeed::new(TaskId([7; 32]), &model.hash());
    let eval_text = dataset.eval_text(&spec, &model, seed).unwrap();
    let (train, _) = dataset.split(&spec, &model).unwrap();
    let description = model.description_bytes();
    let mut model = Executor::new(model, Device::flex(), 1);
    let hour = std::time::Duration::from_secs(3600);
    let length = train::Length::Steps { steps, limit: hour };
    train::train(&mut model, train, length, &mut |_| {}, &mut |_, _| {}).unwrap();
    evaluate(&mut model, &eval_text, description, train, Patience::new(hour))
}

/// Logits that one table gives for the byte, and another for its neighbour along an axis: the next
/// byte of the row (axis 1), or the byte of the next row (axis 0).
fn neighbour_model(batch: usize, context: usize, axis: usize) -> Graph {
    let mut b = Builder::new(batch, context);
    let shape = [batch, context, 256];
    let (own, other) = (b.param(&[256, 256], Init::Normal(0.02)), b.param(&[256, 256], Init::Normal(0.02)));
    let tokens = b.node(Op::Tokens, &[batch, context]);
    let x = b.node(Embedding { table: own, tokens }, &shape);
    let y = b.node(Embedding { table: other, tokens }, &shape);
    if shape[axis] == 1 {
        let logits = b.node(Binary(BinaryFunction::Add, x, y), &shape);
        return b.done(logits);
    }
    let (mut rest, mut first) = (shape, shape);
    (rest[axis], first[axis]) = (shape[axis] - 1, 1);
    let end = shape[axis];
    let rest = b.node(Slice { x: y, axis, start: 1, end }, &rest);
    let first = b.node(Slice { x: y, axis, start: 0, end: 1 }, &first);
    let rolled = b.node(Concat(vec![rest, first], axis), &shape);
    let logits = b.node(Binary(BinaryFunction::Add, x, rolled), &shape);
    b.done(logits)
}

#[test]
fn a_masked_model_loses_nothing_when_the_future_is_hidden() {
    for (batch, steps) in [(1, 0), (2, 10), (16, 10)] {
        let found = evaluated(attention_model(batch, 16, 8), steps).unwrap();
        assert_eq!((found.hidden.mean, found.hidden.error), (0.0, 0.0), "batch {batch}");
        assert!(found.val_bpb > found.bits_per_byte && found.bits_per_byte > 4.0, "{found:?}");
    }
}

#[test]
fn trained_leak_is_caught_behind_the_proof() {
    let next_byte = evaluated(neighbour_model(8, 32, 1), 40).unwrap_err();
    assert!(matches!(next_byte, EvalError::ReadsAhead { cost, .. } if cost > 0.01), "{next_byte}");
}

#[test]
fn reading_the_next_row_gains_nothing() {
    // With a context of one byte, the next row was the next byte of the text once.
    let honest = evaluated(neighbour_model(64, 1, 1), 40);
    let across = evaluated(neighbour_model(64, 1, 0), 40);
    let (Ok(honest), across) = (honest, across) else { panic!("a context of one byte has no later byte") };
    assert!(across.as_ref().map_or(true, |across| across.val_bpb > honest.val_bpb - 0.05), "{honest:?} {across:?}");
}

#[test]
fn equal_seeds_give_equal_models_to_the_bit_and_training_learns() {
    let text = text();
    let (dataset, spec) =
        (ByteDataset::from_bytes(text).unwrap(), EvalSpec { eval_bytes: 4096, ..EvalSpec::for_budget(1) });
    let run = |seed: u64| {
        let mut executor = Executor::new(attention_model(8, 32, 32), Device::flex(), seed);
        let (train, _) = dataset.split(&spec, executor.graph()).unwrap();
        let eval_text = dataset.eval_text(&spec, executor.graph(), EvalSeed::new(TaskId([7; 32]), &[0; 32])).unwrap();
        let before = crate::evaluate::bits_per_byte(&mut executor, &eval_text).unwrap();
        let length = train::Length::Steps { steps: 60, limit: std::time::Duration::from_secs(600) };
        let mut reported = Vec::new();
        let trained =
            train::train(&mut executor, train, length, &mut |_| {}, &mut |at, _| reported.push(at.step)).unwrap();
        assert_eq!((trained.steps, reported.last()), (60, Some(&60)));
        (before, crate::evaluate::bits_per_byte(&mut executor, &eval_text).unwrap())
    };
    let (before, after) = run(1);
    assert!(before > 7.0 && after < before - 2.0, "{before} {after}");
    assert_eq!(run(1), (before, after));
    assert_ne!(run(2).1, after);
}

#[test]
fn a_budget_becomes_a_number_of_steps_that_gives_the_same_model() {
    let dataset = ByteDataset::from_bytes(text()).unwrap();
    let spec = EvalSpec { eval_bytes: 1024, ..EvalSpec::for_budget(1) };
    let run = |length| {
        let mut executor = Executor::new(attention_model(2, 16, 16), Device::flex(), 5);
        let (train, _) = dataset.split(&spec, executor.graph()).unwrap();
        let eval_text = dataset.eval_text(&spec, executor.graph(), EvalSeed::new(TaskId([7; 32]), &[0; 32])).unwrap();
        let mut planned = 0;
        let done = train::train(&mut executor, train, length, &mut |steps| planned = steps, &mut |_, _| {})?;
        assert_eq!(done.steps, planned);
        Ok((done.steps, crate::evaluate::bits_per_byte(&mut executor, &eval_text).unwrap()))
    };
    use train::TrainError as E;
    // The speed of a busy machine may change in the middle, which is reported as such.
    let budget = train::Length::Budget(std::time::Duration::from_millis(400));
    let found = (0..20).map(|_| run(budget)).find_map(|result| match result {
        Ok(found) => Some(found),
        Err(E::SlowedDown { .. } | E::Unsteady { .. } | E::Deadline { .. }) => None,
        Err(error) => panic!("{error}"),
    });
    let (steps, bits) = found.expect("twenty slow-downs in a row");
    assert!(steps >= 1);
    let limit = std::time::Duration::from_secs(600);
    assert_eq!(run(train::Length::Steps { steps, limit }).unwrap(), (steps, bits));
}

#[test]
fn a_fixed_number_of_steps_meets_its_deadline() {
    let dataset = ByteDataset::from_bytes(text()).unwrap();
    let mut executor = Executor::new(attention_model(2, 16, 16), Device::flex(), 5);
    let (train, _) =
        dataset.split(&EvalSpec { eval_bytes: 1024, ..EvalSpec::for_budget(1) }, executor.graph()).unwrap();
    let length = train::Length::Steps { steps: 1 << 40, limit: std::time::Duration::from_millis(50) };
    let error = train::train(&mut executor, train, length, &mut |_| {}, &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, train::TrainError::Deadline { .. }), "{error}");
}

#[test]
fn adamw_follows_its_formula_from_the_first_step() {
    // Logits are a table's rows, so the gradient is known: (softmax - one_hot) / rows.
    let mut b = Builder::new(1, 1);
    let table = b.param(&[256, 256], Init::Constant(0.5));
    let tokens = b.node(Op::Tokens, &[1, 1]);
    let logits = b.node(Embedding { table, tokens }, &[1, 1, 256]);
    let mut graph = b.done(logits);
    let (lr, decay, eps) = (0.01, 0.1, 1e-8);
    let rule = AdamW { lr, beta1: 0.9, beta2: 0.99, eps, weight_decay: decay, clip: 0.0 };
    graph.optimizer = Optimizer::AdamW(rule);
    let mut executor = Executor::new(graph, Device::flex(), 1);
    let batch = TrainingBatch { inputs: vec![7], targets: vec![9] };
    let mut expected = [0.5_f64; 256];
    let (mut m, mut v) = ([0.0; 256], [0.0; 256]);
    for t in 1..=3 {
        let loss = executor.step(&batch, 1.0).unwrap().read().unwrap();
        let sum: f64 = expected.iter().map(|x| x.exp()).sum();
        assert!((loss - (sum.ln() - expected[9])).abs() < 1e-4, "{loss}");
        let p = expected.map(|x| x.exp() / sum);
        for i in 0..256 {
            let g = p[i] - if i == 9 { 1.0 } else { 0.0 };
            m[i] = 0.9 * m[i] + 0.1 * g;
            v[i] = 0.99 * v[i] + 0.01 * g * g;
            let (mh, vh) = (m[i] / (1.0 - 0.9_f64.powi(t)), v[i] / (1.0 - 0.99_f64.powi(t)));
            expected[i] = expected[i] * (1.0 - lr * decay) - lr * mh / (vh.sqrt() + eps);
        }
    }
    let values: Vec<f32> = executor.params[0].clone().try_into_vec_as::<f32>().unwrap();
    for i in 0..256 {
        assert!((f64::from(values[7 * 256 + i]) - expected[i]).abs() < 2e-4, "{i}");
    }
    // A row without gradient only decays.
    assert!((f64::from(values[0]) - 0.5 * (1.0 - lr * decay).powi(3)).abs() < 1e-5);
}

#[test]
fn step_that_takes_the_whole_budget_is_too_slow() {
    let dataset = ByteDataset::from_bytes(text()).unwrap();
    let mut executor = Executor::new(attention_model(2, 16, 16), Device::flex(), 5);
    let (train, _) =
        dataset.split(&EvalSpec { eval_bytes: 1024, ..EvalSpec::for_budget(1) }, executor.graph()).unwrap();
    let length = train::Length::Budget(std::time::Duration::from_nanos(1));
    let error = train::train(&mut executor, train, length, &mut |_| {}, &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, train::TrainError::Deadline { steps: 1, .. }), "{error}");
}
