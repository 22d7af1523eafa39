//! Every refusal names the line, says what is wrong and what to do.

use super::*;

/// A statement that the model makes on `x`, and what the refusal says.
const SHAPE_ERRORS: &[(&str, &str)] = &[
    (
        "y = x + param('w', [5])",
        "line 3: +: [2,4,6] and [5] do not broadcast: counted from the last dimension, number 1 is 6 against 5; extents must be equal or 1: reshape() or slice() one of them",
    ),
    (
        "y = 1\nmatmul(x, param('w', [5, 6]))",
        "line 4: matmul: [2,4,6] x [5,6]: inner dimensions 6 and 5 differ; the last dimension of the left must equal the second to last of the right: transpose() or reshape() one of them",
    ),
    (
        "x.reshape([5, -1])",
        "line 3: reshape: [2,4,6] to [5,-1]: 48 elements cannot become a multiple of 5; the product of the extents must stay 48",
    ),
    ("x.permute([0, 1])", "line 3: permute: [2,4,6] needs each of its 3 axes exactly once, got [0,1]"),
    ("x.transpose(0, 3)", "line 3: transpose: axis 3 does not exist in [2,4,6], which has rank 3: use -3..2"),
    ("x.slice(2, 4, 9)", "line 3: slice: 4..9 of dimension 2 of [2,4,6]: choose 0 <= start < end <= 6"),
    ("x.split(4)", "line 3: split: dimension 2 of [2,4,6] has extent 6, which does not divide into 4 parts"),
    ("x.sum(5)", "line 3: sum: axis 5 does not exist in [2,4,6], which has rank 3: use -3..2"),
    ("softmax(x, axis=-4)", "line 3: softmax: axis -4 does not exist in [2,4,6], which has rank 3: use -3..2"),
    (
        "concat([x, x.slice(0, 0, 1)])",
        "line 3: concat: [2,4,6] and [1,4,6] differ outside axis 2; all other extents must agree",
    ),
    ("concat([])", "line 3: concat: the list is empty; give at least one tensor"),
    ("causal_mask(x)", "line 3: causal_mask: [2,4,6] must end in two equal extents (queries, keys)"),
    ("rope(x)", "line 3: rope: [2,4,6] must be [batch, heads, context, width]: split_heads() first"),
    ("rope(split_heads(x, 2))", "line 3: rope: [2,2,4,3] has width 3, which is odd; the width of a head must be even"),
    ("split_heads(x, 4)", "line 3: split_heads: width 6 of [2,4,6] does not divide into 4 heads"),
    ("merge_heads(x)", "line 3: merge_heads: [2,4,6] must be [batch, heads, context, width]"),
    (
        "attention(x, x, x)",
        "line 3: attention: q is [2,4,6], it must be [batch, heads, context, width]: split_heads() first",
    ),
    (
        "q = split_heads(x, 2)\nattention(q, split_heads(x, 3), q)",
        "line 4: attention: q [2,2,4,3], k [2,3,4,2], v [2,2,4,3]: matmul: [2,2,4,3] x [2,3,2,4]: inner dimensions 3 and 2 differ; the last dimension of the left must equal the second to last of the right: transpose() or reshape() one of them",
    ),
    ("shift(x, 4)", "line 3: shift: by 4 along dimension 1 of [2,4,6]: choose 0..3; values only move later"),
    ("shift(x, -1)", "line 3: shift: by -1 along dimension 1 of [2,4,6]: choose 0..3; values only move later"),
    ("dropout(x, 1)", "line 3: dropout: p is 1; choose 0 <= p < 1"),
    ("x[0]", "line 3: a tensor has no [index]: use x.slice(axis, start, end)"),
    ("x[1:2]", "line 3: a tensor has no [start:end]: use x.slice(axis, start, end)"),
    (
        "embedding(param('t', [100, 8]), tokens)",
        "line 3: embedding: the table is [100,8]; tokens are bytes, so it must be [256, width]",
    ),
    ("tokens + 1", "line 3: +: tokens are integers; turn them into vectors with embedding(table, tokens) first"),
    ("relu(tokens)", "line 3: relu: tokens are integers; turn them into vectors with embedding(table, tokens) first"),
];

#[test]
fn shape_errors_name_line_shapes_and_remedy() {
    for (body, message) in SHAPE_ERRORS {
        assert_eq!(complaint(body), *message, "{body}");
    }
}

#[test]
fn numbers_and_names_are_checked() {
    let cases = [
        (
            "param('e', [3])",
            "line 3: param 'e': the name is taken; every parameter needs its own, such as 'e.%d' % layer",
        ),
        ("param('w', [3, 0])", "line 3: param 'w': extent 0 is not allowed; extents are at least 1"),
        ("param('w', [])", "line 3: param 'w': the shape is empty; give at least one extent, such as [1]"),
        ("param('', [3])", "line 3: param: a name has 1 to 100 printable bytes"),
        (
            "param('w', [1, 1, 1, 1, 1, 1])",
            "line 3: param: [1,1,1,1,1,1] has more than 5 dimensions: reshape() some together",
        ),
        (
            "param('w', [3], init=adamw(0.1))",
            "line 3: param: init must be normal(std), uniform(limit), zeros(), ones() or constant(value)",
        ),
        ("param('w', [3], lr_scale=-1)", "line 3: param: lr_scale is -1; it must be at least 0"),
        ("normal(0)", "line 3: normal: std is 0; it must be above 0"),
        ("constant(float('inf'))", "line 3: constant: value is inf; it must be finite"),
        ("x * float('nan')", "line 3: number is NaN; it must be finite"),
        ("x * 1e39", "line 3: number is 1e39; it must be finite, as a 32-bit float too"),
        ("log(0)", "line 3: log(0) is -inf; it must be finite"),
        ("sqrt(-1)", "line 3: sqrt(-1) is NaN; it must be finite"),
        ("rms_norm(x, eps=0)", "line 3: rms_norm: eps is 0; it must be above 0"),
        ("relu('a')", "line 3: relu: expected a tensor or a number, got string \"a\""),
        ("x + [1]", "line 3: +: expected a tensor or a number, got list [1]"),
        ("muon(0.02, iterations=0)", "line 3: muon: iterations is 0; choose 1..10"),
        ("lion(0.1, beta1=1)", "line 3: lion: beta1 is 1; choose 0..0.999999"),
        ("adamw(0)", "line 3: adamw: lr is 0; it must be above 0"),
        ("adamw(0.1, beta2=1)", "line 3: adamw: beta2 is 1; choose 0..0.999999"),
        ("schedule('step')", "line 3: schedule: 'step' is unknown; choose \"constant\", \"linear\" or \"cosine\""),
        ("schedule('cosine', warmup=0.5, cooldown=0.6)", "line 3: schedule: cooldown is 0.6; choose 0..0.5"),
        ("linear(x, 'w', 0)", "line 3: linear: out is 0; extents are at least 1"),
        ("arange(0)", "line 3: arange: [0] has an extent of 0; every extent is at least 1"),
        ("range(200000)", "line 3: range: 200000 elements, the limit is 100000"),
    ];
    for (body, message) in cases {
        assert_eq!(complaint(body), message, "{body}");
    }
}

#[test]
fn starlarks_own_errors_keep_their_line() {
    for (body, part) in [
        ("y = 1\nx = attenton(x)", "Variable `attenton` not found"),
        ("y = 1\nx = x.shap", "no attribute `shap`"),
        ("y = 1\nrms_norm(x, epsilon=1)", "epsilon"),
        ("y = 1\nrms_norm(x, epsilon=1)", "; the call is rms_norm(x, weight=None, eps=1e-6)"),
        ("y = 1\nlinear(x)", "name"),
        (
            "y = 1\nlinear(x)",
            "; the call is linear(x, name, out, bias=False, *, init=None, lr_scale=1.0, optimizer=None)",
        ),
        ("y = 1\nx.slice()", "; the call is x.slice(axis, start, end=None)"),
        ("y = 1\nsoftmax(1)", "Type of parameter `x` doesn't match, expected `tensor`"),
        ("y = 1\nfail('no good')", "no good"),
        ("y = 1\nx = x @ x", "Parse error"),
    ] {
        let message = complaint(body);
        assert!(message.starts_with("line 4: ") && message.contains(part), "{body}: {message}");
    }
}

#[test]
fn number_left_of_minus_gets_the_remedy() {
    let message = complaint("y = 1.0 - x");
    assert!(
        message.starts_with("line 3: ") && message.ends_with("with a number on the left use sub(a, b) or div(a, b)"),
        "{message}"
    );
    traced(&around("x = sub(1.0, x) + div(2, x) + 1 + 2 * x - (3 + x) / 4"));
}

#[test]
fn the_experiment_is_checked_as_a_whole() {
    assert_eq!(refusal("x = 1\n"), "the script never calls train(model=..., batch=..., context=..., optimizer=...)");
    let cases = [
        (
            "return x",
            "line 5: train: the model returned [2,4,6], the logits must be [2,4,256], [batch, context, 256]: end with a linear layer of 256 outputs",
        ),
        ("return 3", "line 5: train: the model must return the logits, a tensor [2,4,256]; it returned int"),
    ];
    for (body, message) in cases {
        assert_eq!(complaint(body), message, "{body}");
    }
    let twice = format!("{SMALL}\n{}", "train(model=model, batch=4, context=16, optimizer=adamw(lr))");
    assert!(refusal(&twice).ends_with("train: called a second time; a script declares one experiment"));
    assert!(refusal("def model(tokens):\n    train(model=lambda t: t, batch=1, context=1, optimizer=adamw(1))\ntrain(model=model, batch=1, context=1, optimizer=adamw(1))").contains("logits"));
    assert!(refusal("train(model=3, batch=1, context=1, optimizer=adamw(1))").starts_with("line 1: "));
    assert_eq!(
        refusal("train(model=lambda t: t, batch=1, context=1, optimizer=zeros())"),
        "line 1: train: optimizer must be made by adamw(lr, ...), muon(lr, ...), lion(lr, ...) or sgd(lr, ...)"
    );
    assert_eq!(
        refusal("train(model=lambda t: t, batch=0, context=1, optimizer=adamw(1))"),
        "line 1: train: [0,1] has an extent of 0; every extent is at least 1"
    );
    let constant = "def model(t):\n    return (arange(256) * 0).reshape([1, 1, 256])\ntrain(model=model, batch=1, context=1, optimizer=adamw(1))";
    assert!(refusal(constant).starts_with("no parameter affects the logits"));
}

#[test]
fn nodes_know_their_line() {
    let graph = traced(&around("y = x * 2\nz = relu(y)\nx = -z")).graph;
    let line_of =
        |wanted: fn(&crate::graph::Op) -> bool| graph.nodes.iter().find(|node| wanted(&node.op)).unwrap().line;
    use crate::graph::Op;
    use crate::ops::{Binary, BinaryFunction, Unary, UnaryFunction};
    assert_eq!(line_of(|op| matches!(op, Op::Binary(Binary(BinaryFunction::Mul, ..)))), 3);
    assert_eq!(line_of(|op| matches!(op, Op::Unary(Unary(UnaryFunction::Relu, _)))), 4);
    assert_eq!(line_of(|op| matches!(op, Op::Unary(Unary(UnaryFunction::Neg, _)))), 5);
}

#[test]
fn print_and_unused_parameters_become_notes() {
    let traced = traced(&around("print('shape', x.shape)\nparam('spare', [3])"));
    assert_eq!(traced.notes, ["shape (2, 4, 6)", "parameter 'spare' does not affect the logits and was left out"]);
}
