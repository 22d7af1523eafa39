//! Every operation forward against numbers worked out by hand, every gradient against finite
//! differences, and whole runs.

use super::forward::{Value, padded, upload};
use super::*;
use crate::data::Dataset;
use crate::evaluate::{EvalError, EvalSpec, check_causal};
use crate::graph::{AdamW, Binary, Decay, Init, Node, Param, ParamId, Reduce, Schedule, Shape, Unary, ValueId};

/// Builds graphs by hand, shapes included.
pub(super) struct Builder(pub Graph);

impl Builder {
    pub fn new(batch: usize, context: usize) -> Self {
        let optimizer = AdamW { lr: 0.01, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.1, clip: 1.0 };
        let schedule = Schedule { shape: Decay::Constant, warmup: 0.0, cooldown: 0.0, floor: 0.0 };
        let (params, nodes, logits) = (vec![], vec![], ValueId(0));
        Self(Graph { batch, context, params, nodes, logits, optimizer, schedule })
    }

    pub fn node(&mut self, op: Op, shape: &[usize]) -> ValueId {
        self.0.nodes.push(Node { op, shape: shape.to_vec(), line: 0 });
        ValueId(self.0.nodes.len() as u32 - 1)
    }

    pub fn param(&mut self, shape: &[usize], init: Init) -> ValueId {
        let name = format!("p{}", self.0.params.len());
        self.0.params.push(Param { name, shape: shape.to_vec(), init, lr_scale: 1.0, decay: true });
        self.node(Op::Param(ParamId(self.0.params.len() as u32 - 1)), shape)
    }

    pub fn done(mut self, logits: ValueId) -> Graph {
        self.0.logits = logits;
        self.0
    }
}

/// Runs `build`'s graph over parameters with these values and returns its last value.
struct Case {
    inputs: Vec<(Shape, Vec<f32>)>,
    tokens: Vec<u8>,
    graph: Graph,
}

impl Case {
    fn new(inputs: &[(&[usize], &[f32])], build: impl FnOnce(&mut Builder, &[ValueId]) -> ValueId) -> Self {
        let mut builder = Builder::new(1, 3);
        let ids: Vec<ValueId> = inputs.iter().map(|(shape, _)| builder.param(shape, Init::Constant(0.0))).collect();
        let last = build(&mut builder, &ids);
        let inputs = inputs.iter().map(|(shape, values)| (shape.to_vec(), values.to_vec())).collect();
        Self { inputs, tokens: vec![2, 0, 1], graph: builder.done(last) }
    }

    fn executor(&self) -> Executor {
        let device = Device::flex();
        let mut executor = Executor::new(self.graph.clone(), device.clone(), 1);
        executor.params =
            self.inputs.iter().map(|(shape, values)| upload(values.clone(), padded(shape), &device)).collect();
        executor
    }

    fn run(&self) -> Vec<f32> {
        let mut executor = self.executor();
        executor.try_logits(&self.tokens).unwrap()
    }

    #[track_caller]
    fn gives(&self, expected: &[f32]) -> &Self {
        let found = self.run();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-4 * (1.0 + b.abs()), "{found:?} is not {expected:?}");
        }
        self
    }

    /// Compares the gradient of `sum(weight * value)` with central differences.
    #[track_caller]
    fn gradient_checks(&self) {
        let executor = self.executor();
        let weigh = |i: usize| ((i * 37 % 11) as f32 - 4.0) / 5.0;
        let objective =
            |case: &Self| -> f64 { case.run().iter().enumerate().map(|(i, v)| f64::from(v * weigh(i))).sum() };
        let mut pass = Pass::new(executor.setting(), forward::upload_bytes(&self.tokens, &executor.device), true);
        let out = pass.forward(&mut stream(1, Purpose::Dropout)).unwrap();
        let dims = out.dims();
        let weights = (0..dims.iter().product()).map(weigh).collect();
        let grads = pass.backward(upload(weights, dims, &executor.device)).unwrap();
        assert!(pass.extras.iter().all(Option::is_none), "kept after the backward pass");
        for (p, grad) in grads.into_iter().enumerate() {
            let found = grad.expect("a gradient").try_into_vec_as::<f32>().unwrap();
            for (i, found) in found.iter().enumerate() {
                let moved = |by: f32| {
                    let mut case =
                        Self { inputs: self.inputs.clone(), tokens: self.tokens.clone(), graph: self.graph.clone() };
                    case.inputs[p].1[i] += by;
                    objective(&case)
                };
                let expected = (moved(5e-3) - moved(-5e-3)) / 1e-2;
                let close = (f64::from(*found) - expected).abs() < 5e-3 * (1.0 + expected.abs());
                assert!(close, "parameter {p}[{i}]: {found}, by differences {expected}");
            }
        }
    }
}

/// The normal distribution's cdf by Abramowitz & Stegun 7.1.26, good to 1e-7.
fn normal_cdf(x: f64) -> f64 {
    let z = x.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.3275911 * z);
    let poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    0.5 * (1.0 + (1.0 - poly * (-z * z).exp()).copysign(x))
}

const SIX: (&[usize], &[f32]) = (&[2, 3], &[0.3, -1.2, 2.0, 0.7, 1.5, -0.4]);

#[test]
fn elementwise_operations_of_one_input() {
    type Function = fn(f64) -> f64;
    let gelu: Function = |x| x * normal_cdf(x);
    let signed: &[(Unary, Function)] = &[
        (Unary::Neg, |x| -x),
        (Unary::Exp, f64::exp),
        (Unary::Square, |x| x * x),
        (Unary::Abs, f64::abs),
        (Unary::Relu, |x| x.max(0.0)),
        (Unary::Gelu, gelu),
        (Unary::Silu, |x| x / (1.0 + (-x).exp())),
        (Unary::Tanh, f64::tanh),
        (Unary::Sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
        (Unary::Sin, f64::sin),
        (Unary::Cos, f64::cos),
        (Unary::Recip, |x| 1.0 / x),
    ];
    let positive: &[(Unary, Function)] = &[(Unary::Log, f64::ln), (Unary::Sqrt, f64::sqrt)];
    let four: (&[usize], &[f32]) = (&[4], &[0.3, 1.2, 2.5, 0.9]);
    for (input, (op, function)) in signed.iter().map(|case| (SIX, case)).chain(positive.iter().map(|case| (four, case)))
    {
        let expected: Vec<f32> = input.1.iter().map(|x| function(f64::from(*x)) as f32).collect();
        let case = Case::new(&[input], |b, ids| b.node(Op::Unary(*op, ids[0]), input.0));
        case.gives(&expected).gradient_checks();
    }
}

#[test]
fn elementwise_operations_of_two_inputs_broadcast() {
    let row: (&[usize], &[f32]) = (&[3], &[0.5, 1.1, 2.2]);
    let positive: (&[usize], &[f32]) = (&[2, 3], &[0.3, 1.2, 2.0, 0.7, 1.5, 0.4]);
    type Function = fn(f32, f32) -> f32;
    let cases: &[(Binary, Function)] = &[
        (Binary::Add, |a, b| a + b),
        (Binary::Sub, |a, b| a - b),
        (Binary::Mul, |a, b| a * b),
        (Binary::Div, |a, b| a / b),
        (Binary::Max, f32::max),
        (Binary::Min, f32::min),
        (Binary::Pow, f32::powf),
    ];
    for (op, function) in cases {
        let pairs = |a: &[f32], b: &dyn Fn(usize) -> f32| -> Vec<f32> {
            a.iter().enumerate().map(|(i, a)| function(*a, b(i))).collect()
        };
        let expected = pairs(positive.1, &|i| row.1[i % 3]);
        let case = Case::new(&[positive, row], |b, ids| b.node(Op::Binary(*op, ids[0], ids[1]), &[2, 3]));
        case.gives(&expected).gradient_checks();
        // A constant on either side.
        let case = Case::new(&[positive], |b, ids| {
            let two = b.node(Op::Scalar(1.9), &[]);
            b.node(Op::Binary(*op, ids[0], two), &[2, 3])
        });
        case.gives(&pairs(positive.1, &|_| 1.9)).gradient_checks();
        let swapped: Vec<f32> = positive.1.iter().map(|x| function(1.9, *x)).collect();
        let case = Case::new(&[positive], |b, ids| {
            let two = b.node(Op::Scalar(1.9), &[]);
            b.node(Op::Binary(*op, two, ids[0]), &[2, 3])
        });
        case.gives(&swapped).gradient_checks();
        // Both operands the same value.
        let same: Vec<f32> = positive.1.iter().map(|x| function(*x, *x)).collect();
        let case = Case::new(&[positive], |b, ids| b.node(Op::Binary(*op, ids[0], ids[0]), &[2, 3]));
        case.gives(&same);
        if !matches!(op, Binary::Max | Binary::Min) {
            case.gradient_checks();
        }
    }
}

#[test]
fn matrix_products_plain_folded_and_batched() {
    let a: (&[usize], &[f32]) = (&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let b: (&[usize], &[f32]) = (&[3, 2], &[0.5, -1.0, 0.25, 2.0, 1.0, 0.0]);
    Case::new(&[a, b], |g, ids| g.node(Op::Matmul(ids[0], ids[1]), &[2, 2]))
        .gives(&[4.0, 3.0, 9.25, 6.0])
        .gradient_checks();
    // One matrix for a batch of two, from the right and from the left.
    let batch: (&[usize], &[f32]) = (&[2, 1, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    Case::new(&[batch, b], |g, ids| g.node(Op::Matmul(ids[0], ids[1]), &[2, 1, 2]))
        .gives(&[4.0, 3.0, 9.25, 6.0])
        .gradient_checks();
    let tall: (&[usize], &[f32]) = (&[2, 3, 1], &[1.0, 0.0, 1.0, 2.0, 1.0, 0.0]);
    Case::new(&[a, tall], |g, ids| g.node(Op::Matmul(ids[0], ids[1]), &[2, 2, 1]))
        .gives(&[4.0, 10.0, 4.0, 13.0])
        .gradient_checks();
    // A matrix for each of the batch.
    Case::new(&[batch, tall], |g, ids| g.node(Op::Matmul(ids[0], ids[1]), &[2, 1, 1]))
        .gives(&[4.0, 13.0])
        .gradient_checks();
}

#[test]
fn operations_that_move_elements() {
    let x: (&[usize], &[f32]) = (&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    Case::new(&[x], |b, ids| b.node(Op::Reshape(ids[0]), &[3, 1, 2]))
        .gives(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        .gradient_checks();
    Case::new(&[x], |b, ids| b.node(Op::Permute(ids[0], vec![1, 0]), &[3, 2]))
        .gives(&[1.0, 4.0, 2.0, 5.0, 3.0, 6.0])
        .gradient_checks();
    let cube: (&[usize], &[f32]) = (&[2, 1, 3], x.1);
    Case::new(&[cube], |b, ids| b.node(Op::Permute(ids[0], vec![2, 0, 1]), &[3, 2, 1]))
        .gives(&[1.0, 4.0, 2.0, 5.0, 3.0, 6.0])
        .gradient_checks();
    let slice = |start, end| {
        move |b: &mut Builder, ids: &[ValueId]| b.node(Op::Slice { x: ids[0], axis: 1, start, end }, &[2, end - start])
    };
    Case::new(&[x], slice(1, 2)).gives(&[2.0, 5.0]).gradient_checks();
    Case::new(&[x], slice(0, 2)).gives(&[1.0, 2.0, 4.0, 5.0]).gradient_checks();
    Case::new(&[x], slice(0, 3)).gives(x.1).gradient_checks();
    let y: (&[usize], &[f32]) = (&[2, 1], &[7.0, 8.0]);
    Case::new(&[x, y], |b, ids| b.node(Op::Concat(vec![ids[0], ids[1], ids[1]], 1), &[2, 5]))
        .gives(&[1.0, 2.0, 3.0, 7.0, 7.0, 4.0, 5.0, 6.0, 8.0, 8.0])
        .gradient_checks();
    let shift = |axis, by| move |b: &mut Builder, ids: &[ValueId]| b.node(Op::Shift { x: ids[0], axis, by }, &[2, 3]);
    Case::new(&[x], shift(1, 1)).gives(&[0.0, 1.0, 2.0, 0.0, 4.0, 5.0]).gradient_checks();
    Case::new(&[x], shift(0, 1)).gives(&[0.0, 0.0, 0.0, 1.0, 2.0, 3.0]).gradient_checks();
    Case::new(&[x], shift(1, 0)).gives(x.1).gradient_checks();
    Case::new(&[x], shift(0, 5)).gives(&[0.0; 6]).gradient_checks();
}

#[test]
fn reductions_and_normalisations() {
    let reduce = |op, axis, shape: &'static [usize]| {
        move |b: &mut Builder, ids: &[ValueId]| b.node(Op::Reduce(op, ids[0], axis), shape)
    };
    Case::new(&[SIX], reduce(Reduce::Sum, 1, &[2, 1])).gives(&[1.1, 1.8]).gradient_checks();
    Case::new(&[SIX], reduce(Reduce::Sum, 0, &[1, 3])).gives(&[1.0, 0.3, 1.6]).gradient_checks();
    Case::new(&[SIX], reduce(Reduce::Mean, 0, &[1, 3])).gives(&[0.5, 0.15, 0.8]).gradient_checks();
    Case::new(&[SIX], reduce(Reduce::Max, 1, &[2, 1])).gives(&[2.0, 1.5]).gradient_checks();
    let e: Vec<f32> = SIX.1.iter().map(|x| x.exp()).collect();
    let (first, second): (f32, f32) = (e[..3].iter().sum(), e[3..].iter().sum());
    let expected: Vec<f32> = e.iter().enumerate().map(|(i, x)| x / if i < 3 { first } else { second }).collect();
    Case::new(&[SIX], |b, ids| b.node(Op::Softmax(ids[0], 1), &[2, 3])).gives(&expected).gradient_checks();
    let columns: Vec<f32> = (0..6).map(|i| e[i] / (e[i % 3] + e[i % 3 + 3])).collect();
    Case::new(&[SIX], |b, ids| b.node(Op::Softmax(ids[0], 0), &[2, 3])).gives(&columns).gradient_checks();
    let normed = |centre: bool| -> Vec<f32> {
        let norm = |row: &[f32]| -> Vec<f32> {
            let mean = if centre { row.iter().sum::<f32>() / 3.0 } else { 0.0 };
            let square = row.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 3.0;
            row.iter().map(|x| (x - mean) / (square + 1e-5).sqrt()).collect()
        };
        [norm(&SIX.1[..3]), norm(&SIX.1[3..])].concat()
    };
    Case::new(&[SIX], |b, ids| b.node(Op::RmsNorm { x: ids[0], eps: 1e-5 }, &[2, 3]))
        .gives(&normed(false))
        .gradient_checks();
    Case::new(&[SIX], |b, ids| b.node(Op::LayerNorm { x: ids[0], eps: 1e-5 }, &[2, 3]))
        .gives(&normed(true))
        .gradient_checks();
}

#[test]
fn tokens_pick_rows_and_ranges_count() {
    let table: (&[usize], &[f32]) = (&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    Case::new(&[table], |b, ids| {
        let tokens = b.node(Op::Tokens, &[1, 3]);
        b.node(Op::Embedding { table: ids[0], tokens }, &[1, 3, 2])
    })
    .gives(&[5.0, 6.0, 1.0, 2.0, 3.0, 4.0])
    .gradient_checks();
    Case::new(&[(&[1], &[10.0])], |b, ids| {
        let range = b.node(Op::Range(4), &[4]);
        b.node(Op::Binary(Binary::Mul, ids[0], range), &[4])
    })
    .gives(&[0.0, 10.0, 20.0, 30.0])
    .gradient_checks();
}

#[test]
fn masked_scores_vanish_in_a_softmax() {
    Case::new(&[(&[2, 2], &[0.0, 9.0, 1.0, 1.0])], |b, ids| {
        let masked = b.node(Op::CausalMask(ids[0]), &[2, 2]);
        b.node(Op::Softmax(masked, 1), &[2, 2])
    })
    .gives(&[1.0, 0.0, 0.5, 0.5])
    .gradient_checks();
}

#[test]
fn rotation_turns_pairs_by_position_times_frequency() {
    let x: (&[usize], &[f32]) = (&[1, 1, 2, 4], &[1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0]);
    let (slow, fast) = (0.01_f32, 1.0_f32);
    let turned = [
        fast.cos() - 3.0 * fast.sin(),
        2.0 * slow.cos() - 4.0 * slow.sin(),
        fast.sin() + 3.0 * fast.cos(),
        2.0 * slow.sin() + 4.0 * slow.cos(),
    ];
    Case::new(&[x], |b, ids| b.node(Op::Rope { x: ids[0], base: 10_000.0 }, &[1, 1, 2, 4]))
        .gives(&[&[1.0, 2.0, 3.0, 4.0][..], &turned].concat())
        .gradient_checks();
}

#[test]
fn nothing_flows_through_detach_and_values_may_be_used_twice() {
    // x * detach(x) + x: the gradient is detach(x) + 1.
    let case = Case::new(&[(&[2], &[3.0, -2.0])], |b, ids| {
        let still = b.node(Op::Detach(ids[0]), &[2]);
        let product = b.node(Op::Binary(Binary::Mul, ids[0], still), &[2]);
        b.node(Op::Binary(Binary::Add, product, ids[0]), &[2])
    });
    case.gives(&[12.0, 2.0]);
    let executor = case.executor();
    let mut pass = Pass::new(executor.setting(), forward::upload_bytes(&case.tokens, &executor.device), true);
    pass.forward(&mut stream(1, Purpose::Dropout)).unwrap();
    let grads = pass.backward(upload(vec![1.0, 1.0], [1, 1, 1, 1, 2], &executor.device)).unwrap();
    let grad: Vec<f32> = grads[0].clone().unwrap().try_into_vec_as::<f32>().unwrap();
    assert_eq!(grad, [4.0, -1.0]);
    assert!(pass.values.iter().flatten().count() <= 1, "values outlive their last use");
}

#[test]
fn dropout_zeroes_in_training_only() {
    let case = Case::new(&[(&[1000], &[1.0; 1000])], |b, ids| b.node(Op::Dropout { x: ids[0], p: 0.5 }, &[1000]));
    case.gives(&[1.0; 1000]);
    let executor = case.executor();
    let mut pass = Pass::new(executor.setting(), forward::upload_bytes(&case.tokens, &executor.device), true);
    let out: Value = pass.forward(&mut stream(1, Purpose::Dropout)).unwrap();
    let values: Vec<f32> = out.try_into_vec_as::<f32>().unwrap();
    let grads = pass.backward(upload(vec![1.0; 1000], padded(&vec![1000]), &executor.device)).unwrap();
    let grad: Vec<f32> = grads[0].clone().unwrap().try_into_vec_as::<f32>().unwrap();
    assert!(values.iter().all(|v| *v == 0.0 || *v == 2.0));
    assert!((400..600).contains(&values.iter().filter(|v| **v == 0.0).count()));
    assert_eq!(values, grad, "the same mask both ways");
}

/// A model of one layer: attention, with or without its mask, over embedded bytes.
fn attention_model(batch: usize, context: usize, width: usize, masked: bool) -> Graph {
    let mut b = Builder::new(batch, context);
    let seen = [batch, context, width];
    let table = b.param(&[256, width], Init::Normal(0.1));
    let tokens = b.node(Op::Tokens, &[batch, context]);
    let x = b.node(Op::Embedding { table, tokens }, &seen);
    let x = b.node(Op::RmsNorm { x, eps: 1e-6 }, &seen);
    let scores_shape = [batch, context, context];
    let weights = b.param(&[width, width], Init::Normal(0.1));
    let queries = b.node(Op::Matmul(x, weights), &seen);
    let keys = b.node(Op::Permute(x, vec![0, 2, 1]), &[batch, width, context]);
    let mut scores = b.node(Op::Matmul(queries, keys), &scores_shape);
    if masked {
        scores = b.node(Op::CausalMask(scores), &scores_shape);
    }
    let attention = b.node(Op::Softmax(scores, 2), &scores_shape);
    let mixed = b.node(Op::Matmul(attention, x), &seen);
    let mixed = b.node(Op::Dropout { x: mixed, p: 0.1 }, &seen);
    let x = b.node(Op::Binary(Binary::Add, x, mixed), &seen);
    let out = b.param(&[width, 256], Init::Normal(0.1));
    let logits = b.node(Op::Matmul(x, out), &[batch, context, 256]);
    b.done(logits)
}

fn text() -> Vec<u8> {
    crate::corpus::generate(3, 100_000)
}

#[test]
fn a_model_without_a_mask_is_caught_and_one_with_a_mask_is_not() {
    let (spec, text) = (EvalSpec::for_budget(20), text());
    let mut open = Executor::new(attention_model(2, 16, 8, false), Device::flex(), 1);
    let error = check_causal(&mut open, &text, &spec).unwrap_err();
    assert_eq!(error, EvalError::LooksAhead { changed: 0, moved: 0 });
    let mut masked = Executor::new(attention_model(2, 16, 8, true), Device::flex(), 1);
    assert_eq!(check_causal(&mut masked, &text, &spec), Ok(()));
}

#[test]
fn reading_a_neighbour_in_the_batch_is_caught() {
    // The mean over the batch joins all sequences.
    let mut b = Builder::new(2, 8);
    let table = b.param(&[256, 256], Init::Normal(0.5));
    let tokens = b.node(Op::Tokens, &[2, 8]);
    let x = b.node(Op::Embedding { table, tokens }, &[2, 8, 256]);
    let mean = b.node(Op::Reduce(Reduce::Mean, x, 0), &[1, 8, 256]);
    let logits = b.node(Op::Binary(Binary::Add, x, mean), &[2, 8, 256]);
    let mut model = Executor::new(b.done(logits), Device::flex(), 1);
    let error = check_causal(&mut model, &text(), &EvalSpec::for_budget(20)).unwrap_err();
    assert!(matches!(error, EvalError::ReadsAcrossBatch { .. }), "{error}");
}

#[test]
fn equal_seeds_give_equal_models_to_the_bit_and_training_learns() {
    let text = text();
    let (dataset, spec) =
        (Dataset::from_bytes(text).unwrap(), EvalSpec { eval_bytes: 4096, ..EvalSpec::for_budget(1) });
    let run = |seed: u64| {
        let mut executor = Executor::new(attention_model(8, 32, 32, true), Device::flex(), seed);
        let (train, held_out) = dataset.split(&spec, executor.graph()).unwrap();
        let before = crate::evaluate::bits_per_byte(&mut executor, held_out, &spec).unwrap();
        let length = train::Length::Steps { steps: 60, limit: std::time::Duration::from_secs(600) };
        let mut reported = Vec::new();
        let trained =
            train::train(&mut executor, train, length, &mut |_| {}, &mut |at, _| reported.push(at.step)).unwrap();
        assert_eq!((trained.steps, reported.last()), (60, Some(&60)));
        (before, crate::evaluate::bits_per_byte(&mut executor, held_out, &spec).unwrap())
    };
    let (before, after) = run(1);
    assert!(before > 7.0 && after < before - 2.0, "{before} {after}");
    assert_eq!(run(1), (before, after));
    assert_ne!(run(2).1, after);
}

#[test]
fn a_budget_becomes_a_number_of_steps_that_gives_the_same_model() {
    let dataset = Dataset::from_bytes(text()).unwrap();
    let spec = EvalSpec { eval_bytes: 1024, ..EvalSpec::for_budget(1) };
    let run = |length| {
        let mut executor = Executor::new(attention_model(2, 16, 16, true), Device::flex(), 5);
        let (train, held_out) = dataset.split(&spec, executor.graph()).unwrap();
        let mut planned = 0;
        let done = train::train(&mut executor, train, length, &mut |steps| planned = steps, &mut |_, _| {})?;
        assert_eq!(done.steps, planned);
        Ok((done.steps, crate::evaluate::bits_per_byte(&mut executor, held_out, &spec).unwrap()))
    };
    // A busy machine may slow down in the middle, which is reported as such.
    let budget = train::Length::Budget(std::time::Duration::from_millis(400));
    let found = (0..20).map(|_| run(budget)).find_map(|result| match result {
        Ok(found) => Some(found),
        Err(train::TrainError::SlowedDown { .. }) => None,
        Err(error) => panic!("{error}"),
    });
    let (steps, bits) = found.expect("twenty slow-downs in a row");
    assert!(steps >= 1);
    let limit = std::time::Duration::from_secs(600);
    assert_eq!(run(train::Length::Steps { steps, limit }).unwrap(), (steps, bits));
}

#[test]
fn a_fixed_number_of_steps_meets_its_deadline() {
    let dataset = Dataset::from_bytes(text()).unwrap();
    let mut executor = Executor::new(attention_model(2, 16, 16, true), Device::flex(), 5);
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
    let logits = b.node(Op::Embedding { table, tokens }, &[1, 1, 256]);
    let mut graph = b.done(logits);
    graph.optimizer.clip = 0.0;
    let (lr, decay, eps) = (graph.optimizer.lr, graph.optimizer.weight_decay, graph.optimizer.eps);
    let mut executor = Executor::new(graph, Device::flex(), 1);
    let batch = Batch { inputs: vec![7], targets: vec![9] };
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
