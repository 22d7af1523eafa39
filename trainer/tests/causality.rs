//! The proof of causality: honest scripts are proved, leaks are refused, and what is proved does not leak.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

use burn::tensor::Device;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use spore_trainer::evaluate::Predictor as _;
use spore_trainer::exec::Executor;
use spore_trainer::graph::{Graph, Init};
use spore_trainer::lang::{Limits, trace, trace_without_proof};

fn traced(script: &str) -> Result<Graph, String> {
    trace(script, &Limits::default()).map(|traced| traced.graph).map_err(|error| error.to_string())
}

/// The scripts of a folder beside the tests, with their names.
fn scripts(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == "star")).collect();
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        (path.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(path).unwrap())
    };
    paths.iter().map(read).collect()
}

/// Where an earlier logit, or one of another row, changes with later bytes: (row, position).
///
/// All weights are random, so that no leak is hidden behind a weight that begins at 0. Logits are
/// compared to the bit: equal shapes run equal kernels.
fn leak(mut graph: Graph, seed: u64) -> Option<(usize, usize)> {
    graph.params.iter_mut().for_each(|param| param.init = Init::Normal(0.4));
    let (batch, context) = (graph.batch, graph.context);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut executor = Executor::new(graph, Device::flex(), seed);
    let mut bytes = || -> Vec<u8> { (0..batch * context).map(|_| random.next_u32() as u8).collect() };
    let (base, other) = (bytes(), bytes());
    let before = executor.logits(&base);
    let mut differs = |row: usize, cut: usize| {
        // Row `row` stays up to `cut`. Everything else is replaced.
        let keep = |i: &usize| i / context == row && i % context <= cut;
        let mixed: Vec<u8> = (0..base.len()).map(|i| if keep(&i) { base[i] } else { other[i] }).collect();
        let after = executor.logits(&mixed);
        let kept = row * context * 256..(row * context + cut + 1) * 256;
        let same = |i: usize| before[i].to_bits() == after[i].to_bits() || before[i].is_nan() && after[i].is_nan();
        kept.clone().find(|i| !same(*i)).map(|i| i / 256 % context)
    };
    let rows = if batch > 2 { vec![0, batch / 2, batch - 1] } else { (0..batch).collect() };
    let cuts = |row: usize| (0..context).map(move |cut| (row, cut));
    rows.into_iter().flat_map(cuts).find_map(|(row, cut)| differs(row, cut).map(|position| (row, position)))
}

/// A model that runs these statements on `x`, `[2, 16, 12]`, from line 3 on.
fn around(body: &str) -> String {
    format!(
        "def model(tokens):\n    x = linear(embedding(param('e', [256, 12]), tokens), 'in', 12)\n    {}\n    return linear(x, 'head', 256)\n\
         train(model=model, batch=2, context=16, optimizer=adamw(0.001))\n",
        body.replace('\n', "\n    ")
    )
}

#[test]
fn scripts_of_the_project_are_proved() {
    let document = include_str!("../../docs/train-script.md");
    let blocks = document.split("```python\n").skip(1).filter_map(|rest| rest.split("```").next());
    let documented = blocks.filter(|block| block.contains("\ntrain("));
    let files = [
        include_str!("../scripts/base.star"),
        include_str!("../scripts/small.star"),
        include_str!("../../tests/scripts/tiny.star"),
    ];
    for script in documented.chain(files) {
        assert_eq!(traced(script).map(|_| ()), Ok(()), "{script}");
    }
}

#[test]
fn honest_constructs_are_proved_and_do_not_leak() {
    let scripts = scripts("honest");
    assert!(scripts.len() >= 25);
    let mut wrong = Vec::new();
    for (name, script) in scripts {
        match traced(&script) {
            Err(error) => wrong.push(format!("{name}: {error}")),
            Ok(graph) => wrong.extend(leak(graph, 1).map(|place| format!("{name} leaks at {place:?}"))),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn cheats_are_refused_or_harmless() {
    let scripts = scripts("cheats");
    assert!(scripts.len() >= 40);
    let mut wrong = Vec::new();
    for (name, script) in scripts {
        let head = script.lines().next().unwrap().trim_start_matches("# ");
        let found = traced(&script);
        let expected = match (head.split_once(": ").unwrap_or((head, "")), &found) {
            (("refused", reason), Err(error)) => error.contains(reason) && error.starts_with("line "),
            (("harmless", _), Ok(graph)) => leak(graph.clone(), 1).is_none(),
            (("for the evaluator", _), Ok(_)) => true,
            _ => false,
        };
        if !expected {
            wrong.push(format!("{name}: expected {head:?}, found {:?}", found.map(|_| "a proof")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Statements that keep the shape of `x` and look back only.
const HONEST: &[&str] = &[
    "x = matmul(softmax(causal_mask(param('w', [16, 16]))), x)",
    "x = x + matmul(exp(causal_mask(param('w', [16, 1]) - arange(16))) * 0.1, x)",
    "x = x * 0 + param('unigram', [12])",
    "x = x + x.cumsum(1) * 0.1 + x.cumsum(2)",
    "x = where(gt(x, 0), x, shift(x)) + floor(x) * sign(x)",
    "i = arange(16)\nx = matmul(where(ge(i.reshape([16, 1]), i), matmul(x, x.transpose()), 0), x)",
    "i = arange(16)\nx = matmul(softmax(where(ge(i.reshape([16, 1]), i), matmul(x, x.transpose()), -1e30)), x)",
    "x = x + embedding(param('rows', [7, 12]), mod(floor(x.sum(2) * 10), 7))",
    "x = merge_heads(attention(split_heads(x, 6), split_heads(x.slice(2, 0, 4), 2), split_heads(x.slice(2, 4, 8), 2), window=3, softcap=4))",
    "x = x * arange(12) + param('p', [16, 12])",
    "x = x + shift(x, 2) + shift(shift(x), 1, axis=2)",
    "y = concat([x, shift(x)], axis=2)\nx = y.slice(2, 6, 18)",
    "x = x.mean(-1, keep=True) + x.max(2, keep=True) * x",
    "x = concat([x.slice(1, 0, 1) * 0, x.slice(1, 0, 15)], axis=1)",
    "x = concat([param('bos', [2, 3, 12]), x.slice(1, 0, 13)], axis=1)",
    "x = x + x.slice(1, 0, 1)",
    "q = split_heads(x, 3)\nx = merge_heads(attention(rope(q), rope(q), q))",
    "a, b = x.split(2)\nx = concat([a * sigmoid(b), b], axis=-1)",
    "w = exp(causal_mask(tanh(matmul(x, x.transpose()))))\nx = matmul(w, x) / w.sum(-1, keep=True)",
    "w = exp(causal_mask(tanh(x.mean(2)).reshape([2, 1, 16]) + x.mean(2, keep=True) * 0))\nx = matmul(w * x.sum(2).reshape([2, 1, 16]), x)",
    "w = softmax(causal_mask(matmul(x, x.transpose()))) * 0.5\nx = matmul(dropout(detach(w), 0.1), x)",
    "w = softmax(causal_mask(matmul(x, x.transpose())))\nx = matmul(x.transpose(), w.transpose()).transpose()",
    "x = x.reshape([32, 12]).reshape([2, 16, 3, 4]).reshape([2, 16, 12])",
    "x = x.permute([1, 0, 2]).reshape([32, 12]).reshape([16, 2, 12]).permute([1, 0, 2])",
    "x = x.reshape([2, 4, 48]).reshape([2, 16, 12])",
    "w = softmax(causal_mask(matmul(x, x.transpose())) + param('b', [16, 16]))\nx = matmul(w, x)",
    "y = shift(x.reshape([2, 4, 4, 12]).mean(2, keep=True), 1)\nx = (x.reshape([2, 4, 4, 12]) + y).reshape([2, 16, 12])",
    "h = x.slice(1, 0, 1)\ns = [h]\nfor t in range(1, 16):\n    h = tanh(h + x.slice(1, t, t + 1))\n    s.append(h)\nx = concat(s, axis=1)",
    "i = arange(16)\nd = i.reshape([16, 1]) - i\nx = matmul(matmul(x, x.transpose()) * minimum(relu(d + 1), 1), x)",
    "i = arange(16)\nd = i.reshape([16, 1]) - i\nx = matmul(softmax(matmul(x, x.transpose()) - 1e5 * relu(-d)), x)",
    "w = causal_mask(matmul(x, x.transpose()))\nx = x + w.max(-1, keep=True) * 0.1",
    "y = linear(x.permute([0, 2, 1]).reshape([2, 12, 4, 4]).permute([0, 2, 3, 1]).reshape([8, 4, 12]), 'l', 12)\nx = y.reshape([2, 16, 12])",
];

/// Statements that keep the shape of `x` and leak, and what the refusal says.
const LEAKING: &[(&str, &str)] = &[
    (
        "y = x * 2\nx = x + x.mean(1, keep=True)",
        "line 4: not causal: reduce lets a prediction see bytes up to 15 positions later: mix positions",
    ),
    ("x = x + x.slice(1, 3, 4)", "line 3: not causal: slice lets"),
    ("x = concat([x.slice(1, 1, 16), x.slice(1, 0, 1)], axis=1)", "line 3: not causal: slice lets"),
    ("x = softmax(x, axis=1)", "line 3: not causal: softmax lets"),
    ("w = softmax(matmul(x, x.transpose()))\nx = matmul(w, x)", "line 3: not causal: softmax lets"),
    ("w = softmax(causal_mask(matmul(x, x.transpose())).transpose())\nx = matmul(w, x)", "not causal"),
    (
        "w = softmax(causal_mask(matmul(x, x.transpose())))\nx = matmul(w.transpose(), x)",
        "line 4: not causal: matmul lets",
    ),
    ("w = causal_mask(matmul(x, x.transpose()))\nx = matmul(w, x)", "line 4: not causal: matmul lets"),
    ("w = softmax(causal_mask(matmul(x, x.transpose()))) + 1\nx = matmul(w, x)", "line 4: not causal"),
    ("x = matmul(param('m', [16, 16]), x)", "line 3: not causal: matmul lets"),
    ("x = x + x.mean(0, keep=True)", "line 3: not causal: reduce joins the sequences of the batch"),
    ("x = x + x.slice(0, 0, 1)", "line 3: not causal: slice takes a part of the batch"),
    ("x = shift(x, 1, axis=0)", "line 3: not causal: shift moves the sequences of the batch"),
    ("x = x.permute([1, 0, 2]).reshape([2, 16, 12])", "not causal"),
    (
        "x = x.reshape([2, 192]).slice(1, 12, 192)\nx = concat([x, param('z', [2, 12])], 1).reshape([2, 16, 12])",
        "not causal",
    ),
    ("x = concat([x.slice(0, 1, 2), x.slice(0, 0, 1)], axis=0)", "not causal"),
    ("x = rms_norm(x.transpose()).transpose()", "line 3: not causal: rms_norm lets"),
    (
        "y = x.reshape([2, 4, 4, 12]).mean(2, keep=True)\nx = (x.reshape([2, 4, 4, 12]) + y).reshape([2, 16, 12])",
        "not causal",
    ),
    ("x = x.reshape([2, 4, 4, 12]).permute([0, 2, 1, 3]).reshape([2, 16, 12])", "not causal"),
    (
        "i = arange(16)\nd = i.reshape([16, 1]) - i\nx = matmul(matmul(x, x.transpose()) * minimum(relu(2 + d), 1), x)",
        "not causal",
    ),
    ("x = concat([x, x], axis=1).slice(1, 8, 24)", "not causal"),
];

#[test]
fn honest_statements_are_proved_and_leaks_are_refused_with_their_line() {
    let mut wrong = Vec::new();
    for body in HONEST {
        match traced(&around(body)) {
            Err(error) => wrong.push(format!("{body}\n{error}")),
            Ok(graph) => wrong.extend(leak(graph, 2).map(|place| format!("{body}\nleaks at {place:?}"))),
        }
    }
    for (body, reason) in LEAKING {
        let found = traced(&around(body)).map(|_| "a proof");
        if !found.as_ref().is_err_and(|error| error.contains(reason)) {
            wrong.push(format!("{body}\n{found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// A mixture of statements, honest and not.
fn mixture(random: &mut ChaCha8Rng, count: usize) -> String {
    let statements: Vec<&str> = HONEST.iter().copied().chain(LEAKING.iter().map(|(body, _)| *body)).collect();
    let picked: Vec<String> = (0..count)
        .map(|i| {
            let body = statements[random.next_u32() as usize % statements.len()];
            // Two statements may declare one parameter.
            body.replace("param('", &format!("param('{i}")).replace("'l', 12", &format!("'l{i}', 12"))
        })
        .collect();
    around(&picked.join("\n"))
}

#[test]
fn proved_mixtures_do_not_leak() {
    let (mut random, mut proved) = (ChaCha8Rng::seed_from_u64(11), 0);
    for i in 0..600 {
        let script = mixture(&mut random, 1 + i % 3);
        if let Ok(graph) = traced(&script) {
            proved += 1;
            assert_eq!(leak(graph, 3), None, "{script}");
        }
    }
    assert!(proved > 100, "{proved}");
}

/// Prints how many refused mixtures are causal in truth, a figure for docs/causality.md.
#[test]
fn few_refused_mixtures_are_causal_in_truth() {
    let (mut random, mut refused, mut causal) = (ChaCha8Rng::seed_from_u64(12), 0, 0);
    for i in 0..1000 {
        let script = mixture(&mut random, 1 + i % 3);
        if traced(&script).is_err_and(|error| error.contains("not causal")) {
            refused += 1;
            let graph = trace_without_proof(&script, &Limits::default()).unwrap();
            if leak(graph, 3).is_none() {
                causal += 1;
                // A value that is replaced by `0 * x` is causal in a way that no rule about structure sees.
                if !script.contains("x * 0 + param") {
                    println!("causal, but refused:\n{script}");
                }
            }
        }
    }
    println!("{causal} of {refused} refused mixtures are causal");
    assert!(refused > 100 && causal * 10 < refused, "{causal} of {refused}");
}

/// Prints what the proof costs, a figure for docs/causality.md.
#[test]
fn large_honest_graphs_are_proved() {
    let long = |layers: usize, context: usize| {
        format!(
            "def model(tokens):\n    x = embedding(param('e', [256, 8]), tokens)\n    for i in range({layers}):\n        h = rms_norm(x)\n        \
             q, k, v = [split_heads(linear(h, '%d%s' % (i, part), 8), 2) for part in 'qkv'.elems()]\n        \
             x = x + linear(merge_heads(attention(rope(q), rope(k), v)), 'o%d' % i, 8)\n        \
             x = x + linear(gelu(linear(rms_norm(x), 'u%d' % i, 8)), 'd%d' % i, 8)\n    return linear(x, 'head', 256)\n\
             train(model=model, batch=1, context={context}, optimizer=adamw(0.001))\n"
        )
    };
    let cases = [
        ("base.star", include_str!("../scripts/base.star").to_owned()),
        ("400 layers, context 64", long(400, 64)),
        ("400 layers, context 512", long(400, 512)),
        (
            "recurrent, 1024 positions",
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/honest/recurrent.star"))
                .unwrap()
                .replace("range(16)", "range(1024)")
                .replace("context=16", "context=1024"),
        ),
    ];
    for (name, script) in cases {
        let limits = Limits { activation_bytes: u64::MAX, step_flops: u64::MAX, params: 20_000, ..Limits::default() };
        let started = std::time::Instant::now();
        let mut graph = trace_without_proof(&script, &limits).unwrap();
        let tracing = started.elapsed();
        let started = std::time::Instant::now();
        let proof = graph.prove_causal();
        println!(
            "{name}: {} nodes, traced in {tracing:.1?}, proved in {:.1?}: {proof:?}",
            graph.nodes.len(),
            started.elapsed()
        );
        assert_eq!(proof, Ok(()), "{name}");
    }
}
