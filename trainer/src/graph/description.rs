//! The length of a graph's description: what evaluation charges a script for its size.
//!
//! The length is that of a real code, one from which the graph can be read back (but for names and
//! lines, which mean nothing). So no graph can carry more information than it is charged for, and a
//! script that holds text pays for that text. `docs/evaluation.md` says why that is enough.
//!
//! The code, from its first bit to its last:
//!
//! 1. Batch, context, the optimizer's and the schedule's numbers, the number of nodes, and the place
//!    of the logits.
//! 2. One command after another until all nodes are there. A flag tells the two kinds apart:
//!    - *node*: 6 bits name the operation (and its function), then come its own numbers, and for
//!      each input the distance to it. A node that reads a parameter is followed by the
//!      parameter's shape, initial values and options. Parameters stand in order of their first
//!      use, each read by one node, so their ids need no bits.
//!    - *copy*: a distance and a number of nodes. Each equals the one that far back in everything
//!      but its inputs. An input inside of the copied run moves with it. For one before the run, a
//!      bit says whether it moves or stays. So a repeated layer costs a few bits.
//!
//! Why it can be read back: each field is a code in which no word begins another (a fixed number of
//! bits, or Elias' delta code), and what stands next follows from what was read. A value's shape
//! follows from its operation and its inputs, with the exception of `reshape`, where all extents
//! but the last are written; the last follows from the number of elements.

use std::collections::HashMap;

use super::{Decay, Graph, GraphNode, Init, Op, Optimizer, Param, Schedule, ValueId};
use crate::ops::{BinaryFunction, ReadParam, Reduction, UnaryFunction};

/// Bits that name an operation with its function: room for 64.
const KIND_BITS: u32 = 6;
/// Bits that name one of the extents that are at hand.
const HAND_BITS: u32 = 4;
/// Earlier places at which a copy is tried, the newest first. More find hardly shorter codes.
const CANDIDATES: usize = 32;

impl Graph {
    /// Length in bytes, rounded up, of a code for the graph.
    pub fn description_bytes(&self) -> u64 {
        let mut code = Code::default();
        self.describe(&mut code);
        (code.bits.len() as u64).div_ceil(8)
    }

    fn describe(&self, code: &mut Code) {
        code.integer(self.batch as u64);
        code.integer(self.context as u64);
        optimizer(&self.optimizer, code);
        schedule(&self.schedule, code);
        code.integer(self.nodes.len() as u64);
        code.integer(self.nodes.len().saturating_sub(self.logits.index()) as u64);
        let runs = Runs::new(self);
        let mut at = 0;
        while at < self.nodes.len() {
            at += match runs.copy(at) {
                Some(copy) => {
                    code.flag(true);
                    copy.write(code);
                    copy.length
                }
                None => {
                    code.flag(false);
                    self.describe_node(at, code);
                    1
                }
            };
        }
    }

    /// One node by itself: operation, its numbers, distances to its inputs.
    fn describe_node(&self, at: usize, code: &mut Code) {
        let Some(node) = self.nodes.get(at) else { return };
        let ids = node.op.inputs();
        code.bits_of(kind(&node.op), KIND_BITS);
        match &node.op {
            Op::Tokens
            | Op::Unary(_)
            | Op::Binary(_)
            | Op::Matmul(_)
            | Op::Embedding(_)
            | Op::Lookup(_)
            | Op::Where(_)
            | Op::CausalMask(_)
            | Op::Detach(_) => {}
            Op::Scalar(scalar) => code.number(scalar.0),
            Op::Range(range) => self.extent(range.0, at, code),
            Op::ReadParam(ReadParam(id)) => {
                if let Some(param) = self.params.get(id.0 as usize) {
                    self.param(param, at, code);
                }
            }
            Op::Reshape(_) => {
                code.integer(node.shape.len() as u64);
                for extent in node.shape.iter().take(node.shape.len().saturating_sub(1)) {
                    self.extent(*extent, at, code);
                }
            }
            Op::Permute(permute) => {
                code.integer(permute.1.len() as u64);
                permute.1.iter().for_each(|axis| code.integer(*axis as u64));
            }
            Op::Slice(slice) => {
                [slice.axis, slice.start, slice.end].iter().for_each(|n| code.integer(*n as u64));
            }
            Op::Concat(concat) => {
                code.integer(concat.0.len() as u64);
                code.integer(concat.1 as u64);
            }
            Op::Reduce(reduce) => code.integer(reduce.2 as u64),
            Op::CumulativeSum(sum) => code.integer(sum.1 as u64),
            Op::Softmax(softmax) => code.integer(softmax.1 as u64),
            Op::RmsNorm(norm) => code.number(norm.eps),
            Op::LayerNorm(norm) => code.number(norm.eps),
            Op::Rope(rope) => code.number(rope.base),
            Op::Shift(shift) => [shift.axis, shift.by].iter().for_each(|n| code.integer(*n as u64)),
            Op::Dropout(dropout) => code.number(dropout.p),
        }
        ids.iter().for_each(|id| code.integer(at.saturating_sub(id.index()) as u64));
    }

    fn param(&self, param: &Param, at: usize, code: &mut Code) {
        code.integer(param.shape.len() as u64);
        param.shape.iter().for_each(|extent| self.extent(*extent, at, code));
        let (kind, number) = match param.init {
            Init::Constant(value) => (0, value),
            Init::Normal(std) => (1, std),
            Init::Uniform(limit) => (2, limit),
        };
        code.bits_of(kind, 2);
        code.number(number);
        match &param.optimizer {
            None => code.number(param.lr_scale),
            // A scale is never below 0: a reader knows by it that a rule follows.
            Some(rule) => {
                code.number(-1.0);
                code.number(param.lr_scale);
                optimizer(rule, code);
            }
        }
        code.flag(param.decay);
    }

    /// An extent of node `at`: one of those at hand by its place, any other by itself. At hand are
    /// some fixed ones and those of the node before, which the reader knows.
    fn extent(&self, extent: usize, at: usize, code: &mut Code) {
        let fixed = [1, 256, self.batch, self.context, self.batch.saturating_mul(self.context)];
        let before = at.checked_sub(1).and_then(|before| self.nodes.get(before)).map(|node| node.shape.as_slice());
        let mut hand = fixed.iter().chain(before.unwrap_or_default());
        match hand.position(|known| *known == extent) {
            Some(place) => {
                code.flag(true);
                code.bits_of(place as u64, HAND_BITS);
            }
            None => {
                code.flag(false);
                code.integer(extent as u64);
            }
        }
    }
}

/// A rule: AdamW begins with its learning rate, which is above 0, any other with a number of its own below 0.
fn optimizer(optimizer: &Optimizer, code: &mut Code) {
    let flag = |flag: bool| f64::from(u8::from(flag));
    let numbers = match optimizer {
        Optimizer::AdamW(rule) => vec![rule.lr, rule.beta1, rule.beta2, rule.eps],
        Optimizer::Muon(rule) => {
            vec![-1.0, rule.lr, rule.momentum, flag(rule.nesterov), f64::from(rule.iterations)]
        }
        Optimizer::Lion(rule) => vec![-2.0, rule.lr, rule.lion_beta1, rule.lion_beta2],
        Optimizer::Sgd(rule) => vec![-3.0, rule.lr, rule.momentum, flag(rule.nesterov)],
    };
    let ends = [optimizer.weight_decay(), optimizer.clip()];
    numbers.into_iter().chain(ends).for_each(|number| code.number(number));
}

fn schedule(schedule: &Schedule, code: &mut Code) {
    let shape = match schedule.shape {
        Decay::Constant => 0,
        Decay::Linear => 1,
        Decay::Cosine => 2,
    };
    code.bits_of(shape, 2);
    [schedule.warmup, schedule.cooldown, schedule.floor].into_iter().for_each(|number| code.number(number));
}

/// The operation and its function as a number below 64. A new operation gets the next free one.
fn kind(op: &Op) -> u64 {
    match op {
        Op::Tokens => 0,
        Op::ReadParam(_) => 1,
        Op::Scalar(_) => 2,
        Op::Embedding(_) => 3,
        Op::Range(_) => 4,
        Op::Matmul(_) => 5,
        Op::Reshape(_) => 6,
        Op::Permute(_) => 7,
        Op::Slice(_) => 8,
        Op::Concat(_) => 9,
        Op::Softmax(_) => 10,
        Op::RmsNorm(_) => 11,
        Op::LayerNorm(_) => 12,
        Op::CausalMask(_) => 13,
        Op::Rope(_) => 14,
        Op::Shift(_) => 15,
        Op::Dropout(_) => 16,
        Op::Detach(_) => 17,
        Op::Reduce(reduce) => match reduce.0 {
            Reduction::Sum => 18,
            Reduction::Mean => 19,
            Reduction::Max => 20,
        },
        Op::CumulativeSum(_) => 21,
        Op::Lookup(_) => 22,
        Op::Where(_) => 23,
        Op::Binary(binary) => match binary.0 {
            BinaryFunction::Add => 24,
            BinaryFunction::Sub => 25,
            BinaryFunction::Mul => 26,
            BinaryFunction::Div => 27,
            BinaryFunction::Max => 28,
            BinaryFunction::Min => 29,
            BinaryFunction::Pow => 30,
            BinaryFunction::Mod => 31,
            BinaryFunction::Less => 32,
            BinaryFunction::LessEqual => 33,
            BinaryFunction::Equal => 34,
            BinaryFunction::NotEqual => 35,
        },
        Op::Unary(unary) => unary_kind(unary.0),
    }
}

/// The number of an elementwise function of one value.
fn unary_kind(function: UnaryFunction) -> u64 {
    match function {
        UnaryFunction::Neg => 40,
        UnaryFunction::Exp => 41,
        UnaryFunction::Log => 42,
        UnaryFunction::Sqrt => 43,
        UnaryFunction::Square => 44,
        UnaryFunction::Abs => 45,
        UnaryFunction::Relu => 46,
        UnaryFunction::Gelu => 47,
        UnaryFunction::Silu => 48,
        UnaryFunction::Tanh => 49,
        UnaryFunction::Sigmoid => 50,
        UnaryFunction::Sin => 51,
        UnaryFunction::Cos => 52,
        UnaryFunction::Recip => 53,
        UnaryFunction::Floor => 54,
        UnaryFunction::Sign => 55,
    }
}

/// A run of nodes that equals an earlier one.
struct Copy {
    /// Nodes between the copy and its source.
    distance: usize,
    length: usize,
    /// For each input before the source: whether it moves with the copy.
    moves: Vec<bool>,
}

impl Copy {
    fn write(&self, code: &mut Code) {
        code.integer(self.distance as u64);
        code.integer(self.length as u64);
        self.moves.iter().for_each(|moves| code.flag(*moves));
    }
}

/// Finds runs that were there before.
struct Runs {
    /// Equal for nodes that differ in their inputs at most.
    classes: Vec<usize>,
    inputs: Vec<Vec<usize>>,
    /// Bits of all nodes before this one, each written by itself.
    bits_before: Vec<usize>,
    /// Places at which three classes follow each other, in order.
    places: HashMap<[usize; 3], Vec<usize>>,
}

impl Runs {
    fn new(graph: &Graph) -> Self {
        let mut known: HashMap<String, usize> = HashMap::new();
        let mut classes = Vec::with_capacity(graph.nodes.len());
        let mut bits_before = vec![0];
        for (at, node) in graph.nodes.iter().enumerate() {
            let next = known.len();
            classes.push(*known.entry(class_key(graph, node)).or_insert(next));
            let mut alone = Code::default();
            graph.describe_node(at, &mut alone);
            bits_before.push(bits_before.last().copied().unwrap_or(0) + 1 + alone.bits.len());
        }
        let mut places: HashMap<[usize; 3], Vec<usize>> = HashMap::new();
        for (at, three) in classes.windows(3).enumerate() {
            if let [a, b, c] = three {
                places.entry([*a, *b, *c]).or_default().push(at);
            }
        }
        let inputs =
            graph.nodes.iter().map(|node| node.op.inputs().into_iter().map(ValueId::index).collect()).collect();
        Self { classes, inputs, bits_before, places }
    }

    /// The copy that saves most at this node, if any saves.
    fn copy(&self, at: usize) -> Option<Copy> {
        let three: [usize; 3] = self.classes.get(at..at + 3)?.try_into().ok()?;
        let places = self.places.get(&three)?;
        let earlier = places.partition_point(|place| *place < at);
        let candidates = places.get(..earlier)?.iter().rev().take(CANDIDATES);
        let tried = candidates.filter_map(|source| {
            let copy = self.copy_from(*source, at);
            let mut code = Code::default();
            copy.write(&mut code);
            let alone = self.bits_before.get(at + copy.length)? - self.bits_before.get(at)?;
            Some((alone.checked_sub(1 + code.bits.len()).filter(|saved| *saved > 0)?, copy))
        });
        // Of equal ones the first, which is the newest.
        tried.reduce(|best, other| if other.0 > best.0 { other } else { best }).map(|(_, copy)| copy)
    }

    /// The longest run at `at` that equals the one at `source`. The two may overlap.
    fn copy_from(&self, source: usize, at: usize) -> Copy {
        let distance = at - source;
        let mut copy = Copy { distance, length: 0, moves: Vec::new() };
        while self
            .classes
            .get(at + copy.length)
            .is_some_and(|class| self.classes.get(source + copy.length) == Some(class))
        {
            let here = self.inputs.get(at + copy.length).map(Vec::as_slice).unwrap_or_default();
            let there = self.inputs.get(source + copy.length).map(Vec::as_slice).unwrap_or_default();
            let mut moves = Vec::new();
            let equal = here.len() == there.len()
                && here.iter().zip(there).all(|(here, there)| {
                    let moved = *here == there + distance;
                    if *there >= source {
                        return moved;
                    }
                    moves.push(moved);
                    moved || here == there
                });
            if !equal {
                break;
            }
            copy.moves.extend(moves);
            copy.length += 1;
        }
        copy
    }
}

/// What a node is without its inputs, as text.
fn class_key(graph: &Graph, node: &GraphNode) -> String {
    let mut op = node.op.clone();
    op.inputs_mut().into_iter().for_each(|id| *id = ValueId(0));
    let mut param = None;
    if let Op::ReadParam(ReadParam(id)) = &mut op {
        param = graph.params.get(id.0 as usize).map(|p| (&p.shape, &p.init, p.lr_scale, p.decay, &p.optimizer));
        id.0 = 0;
    }
    // Plain data cannot fail to serialise.
    serde_json::to_string(&(op, &node.shape, param)).unwrap_or_default()
}

/// Bits that are written one after another.
#[derive(Default)]
struct Code {
    bits: Vec<bool>,
}

impl Code {
    fn flag(&mut self, flag: bool) {
        self.bits.push(flag);
    }

    /// The lowest `count` bits of a number, the highest first.
    fn bits_of(&mut self, number: u64, count: u32) {
        self.bits.extend((0..count).rev().map(|bit| number >> bit & 1 == 1));
    }

    /// Any number below 2^64 - 1 in the delta code (Elias 1975) of its successor.
    fn integer(&mut self, number: u64) {
        let n = number.saturating_add(1);
        let length = 64 - n.leading_zeros();
        let length_bits = 32 - length.leading_zeros();
        self.bits_of(0, length_bits - 1);
        self.bits_of(u64::from(length), length_bits);
        self.bits_of(n, length - 1);
    }

    /// A finite number as sign, shortest decimal digits and exponent of ten: 0.02 is 2e-2.
    fn number(&mut self, number: f64) {
        let text = format!("{:e}", number.abs());
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let fraction = digits.split_once('.').map_or(0, |(_, fraction)| fraction.len()) as i64;
        let digits: u64 = digits.replace('.', "").parse().unwrap_or(u64::MAX);
        let exponent = exponent.parse::<i64>().unwrap_or(0) - fraction;
        self.flag(number.is_sign_negative());
        self.integer(digits);
        self.flag(exponent > 0);
        self.integer(exponent.unsigned_abs());
    }
}

#[cfg(test)]
mod tests;
