//! One meaning, one graph, one hash.

use super::*;
use crate::graph::{Decay, Init, Op};
use crate::ops::{
    Binary, BinaryFunction, Concat, Dropout, Range, Reduce, Reduction, Rope, Shift, Slice, Softmax, Unary,
    UnaryFunction,
};

fn hash(script: &str) -> [u8; 32] {
    traced(script).graph.hash()
}

#[test]
fn layout_names_and_comments_do_not_change_the_hash() {
    let other = "
# Another hand wrote this.
w = 16
def net(bytes):
    unused = param('spare', [7])
    mixer = param('gate', [w], constant(0.5))
    table = param('t', [256, 2 * 8], init = normal(0.1))
    e = embedding(table, bytes)
    (e * 3).sum(0)
    e = e + shift(e, by=1) * mixer
    return linear(rms_norm(e, eps=0.000001), 'out', 256, init=normal(1 / 4))
train(optimizer=adamw(lr=1e-2), model=net, context=16, batch=4, schedule=schedule('constant', floor=0.3))
";
    assert_eq!(hash(SMALL), hash(other));
}

#[test]
fn every_change_of_meaning_changes_the_hash() {
    let variants = [
        ("batch=4", "batch=5"),
        ("context=16", "context=17"),
        ("normal(0.1)", "normal(0.2)"),
        ("normal(0.1)", "uniform(0.1)"),
        ("x + shift(x)", "x - shift(x)"),
        ("x + shift(x)", "x + shift(x, 2)"),
        ("rms_norm(x)", "rms_norm(x, eps=1e-5)"),
        ("rms_norm(x)", "layer_norm(x)"),
        ("adamw(lr)", "adamw(lr, clip=2)"),
        ("adamw(lr)", "adamw(lr), schedule=schedule('linear')"),
        ("[width], init", "[width], lr_scale=2, init"),
        ("[width], init", "[width], decay=True, init"),
        ("\"width\", 16", "\"width\", 32"),
    ];
    let mut hashes = std::collections::HashSet::from([hash(SMALL)]);
    for (from, to) in variants {
        assert!(SMALL.contains(from), "{from}");
        assert!(hashes.insert(hash(&SMALL.replace(from, to))), "{to}");
    }
}

#[test]
fn order_of_declaration_does_not_matter() {
    let first = around("a = relu(x)\nb = tanh(x)\nx = a * b");
    let second = around("b = tanh(x)\na = relu(x)\nx = a * b");
    assert_eq!(traced(&first).graph.nodes.len(), traced(&second).graph.nodes.len());
    assert_eq!(hash(&first), hash(&second));
}

#[test]
fn the_graph_is_well_formed() {
    for script in [BASE, SMALL] {
        let graph = traced(script).graph;
        for (index, node) in graph.nodes.iter().enumerate() {
            assert!(node.op.inputs().iter().all(|input| (input.0 as usize) < index), "a node names only earlier ones");
            assert!(node.line > 0);
        }
        assert_eq!(graph.logits.0 as usize, graph.nodes.len() - 1);
        assert_eq!(graph.nodes.last().unwrap().shape, [graph.batch, graph.context, 256]);
        let last = graph.last_use();
        assert!(last.iter().enumerate().all(|(index, last)| *last > index), "every value is read");
        let readers = graph.nodes.iter().filter(|node| matches!(node.op, Op::ReadParam(_))).count();
        assert_eq!(readers, graph.params.len());
    }
}

#[test]
fn small_star_traces_to_the_expected_operations() {
    let graph = traced(SMALL).graph;
    let ops: Vec<&Op> = graph.nodes.iter().map(|node| &node.op).collect();
    assert!(
        matches!(
            ops.as_slice(),
            [
                Op::ReadParam(_),
                Op::Tokens,
                Op::Embedding(_),
                Op::Shift(Shift { axis: 1, by: 1, .. }),
                Op::ReadParam(_),
                Op::Binary(Binary(BinaryFunction::Mul, ..)),
                Op::Binary(Binary(BinaryFunction::Add, ..)),
                Op::RmsNorm(_),
                Op::Reshape(_),
                Op::ReadParam(_),
                Op::Matmul(_),
                Op::Reshape(_)
            ]
        ),
        "{ops:?}"
    );
    let inits: Vec<(&str, &Init, bool)> =
        graph.params.iter().map(|param| (param.name.as_str(), &param.init, param.decay)).collect();
    assert_eq!(
        inits,
        [
            ("embed", &Init::Normal(0.1), true),
            ("mix", &Init::Constant(0.5), false),
            ("head.weight", &Init::Normal(0.25), true)
        ]
    );
    assert_eq!(graph.num_params(), 256 * 16 + 16 + 16 * 256);
    assert_eq!((graph.schedule.shape, graph.schedule.floor), (Decay::Constant, 1.0));
}

#[test]
fn base_star_is_small_enough_for_a_short_budget() {
    let traced = traced(BASE);
    let params = traced.graph.num_params();
    assert!((100_000..250_000).contains(&params), "{params}");
    assert!(traced.graph.flops_per_step() < 3_000_000_000, "{}", traced.graph.flops_per_step());
    assert!((8..=14).contains(&traced.tunables.len()));
    assert!(traced.notes.is_empty(), "{:?}", traced.notes);
}

#[test]
fn hash_of_base_star_is_pinned() {
    // Records and caches name graphs by their hash: no refactoring may change it.
    assert_eq!(hex::encode(hash(BASE)), "f1ce84d4ad9403e7ebe6c061483d8b469248426d48a845a9ecc77042c2ab16cd");
    assert_eq!(hex::encode(hash(SMALL)), "4ffbe4ffed00f497fe7874556b80d608baed55c1721c82617db3fb3d83319002");
}

#[test]
fn example_of_each_builtin_traces() {
    for builtin in crate::ops::builtins() {
        let script = around(&format!("y = {}", builtin.example));
        assert!(builtin.example.contains(builtin.name), "{}: the example shows another function", builtin.name);
        traced(&script);
    }
}

/// A statement of a model, and whether an operation is the one that it should make.
type OperationCase = (&'static str, fn(&Op) -> bool);

#[test]
fn each_operation_makes_its_node() {
    let cases: [OperationCase; 13] = [
        ("x = x.max(-1, keep=True) * x", |op| matches!(op, Op::Reduce(Reduce(Reduction::Max, _, 2)))),
        ("x = x + x.mean(2).reshape([2, 4, 1])", |op| matches!(op, Op::Reduce(Reduce(Reduction::Mean, _, 2)))),
        ("x = concat([x, x], axis=2)", |op| matches!(op, Op::Concat(Concat(parts, 2)) if parts.len() == 2)),
        ("x = dropout(x, 0.5)", |op| matches!(op, Op::Dropout(Dropout { p: 0.5, .. }))),
        ("x = detach(x)", |op| matches!(op, Op::Detach(_))),
        ("x = maximum(0, x)", |op| matches!(op, Op::Binary(Binary(BinaryFunction::Max, ..)))),
        ("x = pow(x, 2)", |op| matches!(op, Op::Binary(Binary(BinaryFunction::Pow, ..)))),
        ("x = div(1, x)", |op| matches!(op, Op::Unary(Unary(UnaryFunction::Recip, _)))),
        ("x = abs(x)", |op| matches!(op, Op::Unary(Unary(UnaryFunction::Abs, _)))),
        ("x = layer_norm(x, param('g', [6]), param('b', [6]))", |op| matches!(op, Op::LayerNorm(_))),
        ("x = merge_heads(rope(split_heads(x, 3)))", |op| matches!(op, Op::Rope(Rope { base: 10_000.0, .. }))),
        ("x = x * arange(6)", |op| matches!(op, Op::Range(Range(6)))),
        ("a, b = x.split(2)\nx = concat([b, a])", |op| {
            matches!(op, Op::Slice(Slice { axis: 2, start: 3, end: 6, .. }))
        }),
    ];
    for (body, wanted) in cases {
        let graph = traced(&around(body)).graph;
        assert!(graph.nodes.iter().any(|node| wanted(&node.op)), "{body}");
    }
}

#[test]
fn attention_is_made_of_primitive_operations() {
    let graph = traced(&around("q = split_heads(x, 3)\nx = merge_heads(attention(q, q, q))")).graph;
    let count = |wanted: fn(&Op) -> bool| graph.nodes.iter().filter(|node| wanted(&node.op)).count();
    assert_eq!(count(|op| matches!(op, Op::CausalMask(_))), 1);
    assert_eq!(count(|op| matches!(op, Op::Softmax(Softmax(_, 3)))), 1);
    // Two in attention, one for each of the two linear layers.
    assert_eq!(count(|op| matches!(op, Op::Matmul(_))), 4);
}

#[test]
fn plain_numbers_keep_pythons_arithmetic() {
    let script = around(
        "for pair in [(sqrt(16), 4), (abs(-3), 3), (square(3), 9), (maximum(2, 3), 3), (pow(2, 10), 1024), (exp(0), 1), (div(1, 4), 0.25), (sub(1, 4), -3)]:\n    if pair[0] != pair[1]:\n        fail(pair)\nif type(abs(-3)) != 'int' or len(range(3, 10, 2)) != 4 or x.shape != (2, 4, 6):\n    fail('types')",
    );
    traced(&script);
}

/// The scripts in `docs/train-script.md`: blocks of code that declare an experiment.
fn documented_scripts() -> Vec<&'static str> {
    let document = include_str!("../../../../docs/train-script.md");
    let blocks = document.split("```python\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.filter(|block| block.contains("\ntrain(")).collect()
}

#[test]
fn scripts_of_the_documentation_trace() {
    let scripts = documented_scripts();
    assert_eq!(scripts.len(), 2);
    for script in &scripts {
        assert!(traced(script).notes.is_empty());
    }
    let first = traced(scripts[0]);
    assert_eq!(first.tunables.len(), 2);
    assert_eq!(first.graph.num_params(), 2 * 256 * 64 + 2 * 12 * 64 * 64);
}
