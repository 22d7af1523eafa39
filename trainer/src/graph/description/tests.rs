//! The code of descriptions: real, short for honest scripts, and dear for literal text.

use super::super::{AdamW, Sgd};
use super::*;
use crate::lang::{Limits, trace};

const BASE: &str = include_str!("../../../scripts/base.star");
const SMALL: &str = include_str!("../../../scripts/small.star");

fn graph(script: &str) -> Graph {
    trace(script, &Limits::default()).unwrap_or_else(|error| panic!("{error}\n{script}")).graph
}

/// Reads what [`Code`] wrote.
struct Reader<'a>(std::slice::Iter<'a, bool>);

impl Reader<'_> {
    fn flag(&mut self) -> bool {
        *self.0.next().unwrap()
    }

    fn bits_of(&mut self, count: u32) -> u64 {
        (0..count).fold(0, |number, _| number << 1 | u64::from(self.flag()))
    }

    fn integer(&mut self) -> u64 {
        let mut zeros = 0;
        while !self.flag() {
            zeros += 1;
        }
        let length = 1_u64 << zeros | self.bits_of(zeros);
        (1 << (length - 1) | self.bits_of(length as u32 - 1)) - 1
    }

    fn number(&mut self) -> f64 {
        let (negative, digits, up, exponent) = (self.flag(), self.integer(), self.flag(), self.integer());
        let sign = if negative { "-" } else { "" };
        let text = format!("{sign}{digits}e{}{exponent}", if up { "" } else { "-" });
        text.parse().unwrap()
    }
}

#[test]
fn integers_and_numbers_can_be_read_back() {
    let integers = [0, 1, 2, 3, 62, 63, 64, 255, 1 << 20, u64::MAX - 1];
    let numbers = [0.0, -0.0, 1.0, 0.02, 1e-5, -3.25, 1e300, 5e-324, 0.1 + 0.2, std::f64::consts::PI, f64::MAX, 1e22];
    let mut code = Code::default();
    integers.iter().for_each(|n| code.integer(*n));
    numbers.iter().for_each(|n| code.number(*n));
    let mut reader = Reader(code.bits.iter());
    integers.iter().for_each(|n| assert_eq!(reader.integer(), *n));
    numbers.iter().for_each(|n| assert_eq!(reader.number().to_bits(), n.to_bits(), "{n}"));
    assert_eq!(reader.0.next(), None);
}

#[test]
fn every_change_of_the_graph_changes_the_code() {
    let code = |graph: &Graph| {
        let mut code = Code::default();
        graph.describe(&mut code);
        code.bits
    };
    let base = graph(BASE);
    fn rule(graph: &mut Graph) -> &mut AdamW {
        let Optimizer::AdamW(rule) = &mut graph.optimizer else { panic!("the base script has adamw") };
        rule
    }
    fn sgd(lr: f64) -> Sgd {
        Sgd { lr, momentum: 0.9, nesterov: true, weight_decay: 0.0, clip: 1.0 }
    }
    let changes: [fn(&mut Graph); 13] = [
        |g| g.batch += 1,
        |g| g.context += 1,
        |g| rule(g).lr *= 1.000_000_1,
        |g| rule(g).clip = 0.5,
        |g| g.params[3].optimizer = Some(g.optimizer.clone()),
        |g| g.optimizer = Optimizer::Sgd(sgd(0.003)),
        |g| g.params[3].optimizer = Some(Optimizer::Sgd(sgd(0.003))),
        |g| g.params[3].optimizer = Some(Optimizer::Sgd(sgd(0.004))),
        |g| g.schedule.floor = 0.021,
        |g| g.schedule.shape = Decay::Cosine,
        |g| g.params[3].init = Init::Normal(0.5),
        |g| g.params[3].lr_scale = 2.0,
        |g| g.params[3].decay = !g.params[3].decay,
    ];
    let mut seen = vec![code(&base)];
    for (number, change) in changes.into_iter().enumerate() {
        let mut other = base.clone();
        change(&mut other);
        let bits = code(&other);
        assert!(!seen.contains(&bits), "change {number}");
        seen.push(bits);
    }
    // Names and lines are no part of it.
    let mut renamed = base.clone();
    renamed.params[0].name = "other".to_owned();
    renamed.nodes[5].line += 1;
    assert_eq!(code(&renamed), seen[0]);
}

#[test]
fn honest_scripts_pay_little_and_layers_almost_nothing() {
    let held_out = crate::corpus::BUILTIN_BYTES as f64 / 10.0;
    for (name, script) in [("small", SMALL), ("base", BASE)] {
        let bytes = graph(script).description_bytes();
        let charge = 8.0 * bytes as f64 / held_out;
        println!("{name}.star: {bytes} bytes, {charge:.5} bits a byte at the built-in task");
        assert!(charge < 0.005, "{name}: {bytes}");
    }
    let layers = |count: usize| {
        let script = BASE.replace("tune(\"layers\", 2, min=1, max=6)", &count.to_string());
        graph(&script).description_bytes()
    };
    assert!(layers(12) < layers(2) + 20, "{} {}", layers(12), layers(2));
}

#[test]
fn literal_text_costs_at_least_its_information() {
    // Random bytes as scalars, as extents of slices, and as the order of operations.
    let mut rng = 1_u64;
    let mut byte = || {
        rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        rng >> 56
    };
    let with = |lines: &[String]| {
        let body = lines.join("\n    ");
        let script = format!(
            "def model(tokens):\n    x = embedding(param('e', [256, 256]), tokens)\n    {body}\n    return x\n\
             train(model=model, batch=2, context=4, optimizer=adamw(0.001))\n"
        );
        graph(&script).description_bytes() as f64
    };
    let plain = with(&[]);
    let bytes: Vec<u64> = (0..600).map(|_| byte()).collect();
    let scalars: Vec<String> = bytes.iter().map(|b| format!("x = x + {b}")).collect();
    assert!(with(&scalars) - plain > 600.0);
    let slices: Vec<String> = bytes.iter().map(|b| format!("x = x + x.slice(2, {b}, {})", b + 1)).collect();
    assert!(with(&slices) - plain > 600.0);
    let order: Vec<String> =
        bytes.iter().map(|b| if b % 2 == 0 { "x = relu(x)" } else { "x = silu(x)" }.to_owned()).collect();
    assert!(with(&order) - plain > 600.0 / 8.0);
    let dense: Vec<String> = bytes
        .chunks_exact(6)
        .map(|six| format!("x = x + {}.0", six.iter().fold(0_u64, |sum, b| sum << 8 | b)))
        .collect();
    assert!(with(&dense) - plain > 600.0);
}
