//! The dependences of a value on the input bytes: the domain of the causality proof.
//!
//! A [`Flow`] bounds, for each element of a value, the bytes on which the element may depend: those
//! of one row of the batch, up to some position. An operation computes the flow of its result from
//! the flows of its inputs ([`Operation::causality`]). A flow may claim more dependences than there
//! are, never fewer.
//!
//! The index space of a value is a product of [`Factor`]s: an axis is a list of them, outermost
//! first. `reshape` cuts and regroups factors, `permute` moves axes, so a position keeps its meaning
//! wherever a script puts it. A [`Term`] is a table over some factors; an element depends on
//! positions up to the largest of its terms. The row of an element is its index along
//! [`Flow::rows`].
//!
//! Why the rules are sound:
//!
//! - *Elementwise* operations read one element of each input: the terms of all inputs hold together.
//! - *Joins* (reductions, softmax, norms, the inner dimension of a product) read all elements along
//!   an axis: each term is replaced by its largest value along it. A join along the rows is refused.
//! - *Slices, shifts and concatenations* move whole entries of the tables. Zeros depend on nothing.
//! - *Masks* ([`Mask`]) let an element leave out what it would see of later keys. In evaluation the
//!   masked elements *are set* to their constant by the operation that relies on it ([`Enforced`]),
//!   so nothing rests on underflow, on `0 * x` being 0 for an infinite `x`, on a sum forgetting the
//!   sign of its zeros, or on rounding. For honest scripts this changes no number.
//!
//! [`Operation::causality`]: super::Operation::causality

mod constant;
mod grid;
mod layout;
mod masks;
mod product;
mod rules;
mod term;

use std::sync::Arc;

pub(crate) use super::enforced::{Enforced, Fill, Masked};
use super::{Located, UnaryFunction};
use crate::value::ValueId;
use constant::Constant;
use grid::NumberGrid;
pub(crate) use masks::Operands;
pub(crate) use product::product;
use term::Term;

/// Most bytes of context. A table of positions of this length still takes microseconds.
pub(crate) const CONTEXT: usize = 1 << 16;

/// Dependences of a value. A value without terms depends on no byte.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    /// For each axis its factors, outermost first. An axis of extent 1 has none.
    axes: Vec<Vec<Factor>>,
    /// The factor whose index is the row of the batch. None for a batch of one row, and for a value
    /// without terms.
    rows: Option<u64>,
    /// An element depends on positions up to the largest entry of its terms.
    terms: Vec<Term>,
    /// Elements that are known to be constant. To forget a mask is sound.
    mask: Option<Mask>,
    /// The value's numbers, if they follow from the script alone.
    constant: Option<Arc<Constant>>,
    /// What evaluation must do so that the flow is true.
    pub enforced: Option<Enforced>,
}

/// A part of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Factor {
    /// Unique among the factors of a value. Elements of one value are compared by it.
    id: u64,
    /// At least 2.
    extent: usize,
}

/// Elements whose index along the factor `keys` exceeds `last[index along queries]` are `fill`.
#[derive(Clone, Debug, PartialEq)]
struct Mask {
    queries: u64,
    keys: u64,
    /// For each query the last key that is not masked; -1 where all are.
    last: Arc<[i32]>,
    fill: Fill,
}

/// A reason why a graph is not proved causal, and the script's line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: not causal: {reason}")]
pub struct Leak {
    /// Line of the script, from 1.
    pub line: u32,
    /// The operation, what it lets through, and what to do.
    pub reason: String,
}

impl Leak {
    pub(crate) fn new(at: Located<'_>, reason: &str) -> Self {
        Self { line: at.line(), reason: format!("{} {reason}", at.name()) }
    }
}

/// A flow, or why there is no sound one.
pub(crate) type Traced<T = Flow> = Result<T, Leak>;

/// The flow of the first input.
pub(crate) fn first<'f>(inputs: &'f [Flow], at: Located<'_>) -> Traced<&'f Flow> {
    inputs.first().ok_or_else(|| Leak::new(at, "has a wrong number of inputs"))
}

/// New ids for factors, unique in the graph.
struct Ids(u64);

impl Ids {
    /// The ids of one node. Each has 2^32 of them.
    fn of(at: Located<'_>) -> Self {
        Self((at.id().index() as u64) << 32)
    }

    fn factor(&mut self, extent: usize) -> Factor {
        self.0 += 1;
        Factor { id: self.0, extent }
    }

    /// The factors of an axis that is nothing but its index.
    fn axis(&mut self, extent: usize) -> Vec<Factor> {
        if extent > 1 { vec![self.factor(extent)] } else { Vec::new() }
    }
}

/// Number of elements over some factors.
fn size(over: &[Factor]) -> usize {
    over.iter().fold(1, |product, factor| product.saturating_mul(factor.extent))
}

impl Flow {
    /// A value of the node's shape that depends on no byte.
    pub fn free(at: Located<'_>) -> Self {
        let mut ids = Ids::of(at);
        let axes = at.shape().iter().map(|extent| ids.axis(*extent)).collect();
        Self { axes, rows: None, terms: Vec::new(), mask: None, constant: None, enforced: None }
    }

    /// The input bytes, `[batch, context]`.
    pub fn tokens(at: Located<'_>) -> Traced {
        let mut flow = Self::free(at);
        let [batch, context] = flow.axes.as_slice() else { return Err(Leak::new(at, "have another shape")) };
        let length = size(context);
        if length > CONTEXT {
            return Err(Leak::new(at, &format!("are too long: choose a context of at most {CONTEXT}")));
        }
        let term = Term::new(context.clone(), (0..length as i32).collect(), at.id());
        flow.rows = batch.first().map(|rows| rows.id);
        flow.terms.push(term);
        Ok(flow)
    }

    /// The axis of the batch's sequences, counted from the last one.
    pub fn batch_axis(&self) -> Option<usize> {
        self.axes.iter().rev().position(|axis| axis.iter().any(|factor| self.is_rows(factor)))
    }

    /// Whether no element depends on any byte.
    pub fn is_free(&self) -> bool {
        self.terms.is_empty()
    }

    /// The rows that a table that nothing depends on gives to each token, as another axis.
    pub fn looked_up(&self, at: Located<'_>) -> Self {
        let mut flow = Self { mask: None, constant: None, enforced: None, ..self.clone() };
        flow.axes.push(Ids::of(at).axis(at.shape().last().copied().unwrap_or(1)));
        flow
    }

    /// The flow with the knowledge of masked elements mapped; None forgets it.
    pub fn map_fill(&self, map: impl Fn(Fill) -> Option<Fill>) -> Self {
        let mask = self.mask.as_ref().and_then(|mask| Some(Mask { fill: map(mask.fill)?, ..mask.clone() }));
        Self { mask, constant: None, enforced: None, ..self.clone() }
    }

    /// Entries of the tables that no input has: the work of computing this flow.
    pub fn work_beyond(&self, inputs: &[Flow]) -> usize {
        let known = |term: &&Term| {
            let mut terms = inputs.iter().flat_map(|input| &input.terms);
            !terms.any(|other| Arc::ptr_eq(&other.bounds, &term.bounds))
        };
        self.terms.iter().filter(known).map(|term| term.bounds.len()).sum()
    }

    /// Entries of the largest table.
    pub fn largest_table(&self) -> usize {
        self.terms.iter().map(|term| term.bounds.len()).max().unwrap_or(0)
    }

    /// Numbers that no input has.
    pub fn constant_work(&self, inputs: &[Flow]) -> usize {
        let Some(constant) = &self.constant else { return 0 };
        let mut known = inputs.iter().filter_map(|input| input.constant.as_ref());
        if known.any(|other| Arc::ptr_eq(other, constant)) { 0 } else { constant.len() }
    }

    /// Forgets the numbers, which is sound.
    pub fn forget_constant(&mut self) {
        self.constant = None;
    }

    /// A value of the node's shape that is these numbers, in row-major order.
    pub fn of_numbers(numbers: impl ExactSizeIterator<Item = f64>, at: Located<'_>) -> Self {
        let constant = (numbers.len() <= constant::MOST)
            .then(|| Constant::new(NumberGrid { shape: at.shape().to_vec(), numbers: numbers.collect() }));
        Self { constant, ..Self::free(at) }
    }

    /// The result of an elementwise function of one value.
    pub fn of_function(&self, function: UnaryFunction) -> Self {
        let constant = self.constant.as_ref().map(|constant| constant.mapped(function));
        Self { constant, ..self.map_fill(|fill| function.of_fill(fill)) }
    }

    /// Drops terms that claim nothing.
    fn prune(&mut self) {
        self.terms.retain(|term| term.farthest() >= 0);
        if self.terms.is_empty() {
            self.rows = None;
        }
    }

    /// Without terms that claim nothing.
    fn pruned(mut self) -> Self {
        self.prune();
        self
    }

    fn is_rows(&self, factor: &Factor) -> bool {
        self.rows == Some(factor.id)
    }

    /// The factors of an axis.
    fn axis(&self, axis: usize) -> &[Factor] {
        self.axes.get(axis).map(Vec::as_slice).unwrap_or_default()
    }

    /// Adds a term, merged with one over the same factors.
    fn add(&mut self, term: Term) {
        match self.terms.iter_mut().find(|have| have.is_over_same(&term)) {
            Some(have) => *have = have.max(&term),
            None => self.terms.push(term),
        }
    }
}

/// How a prediction breaks the rule, for the graph's last value `[batch, context, 256]`.
pub(crate) enum Broken {
    /// The rows of the batch are not those of the logits.
    Rows,
    /// Positions see this many later ones because of the operation that computes a value.
    Ahead { places: i32, cause: ValueId },
}

impl Flow {
    /// Checks that element `[row, position, ..]` depends on bytes of its row up to its position.
    pub fn check_predictions(&self, batch: usize) -> Result<(), Broken> {
        if self.is_free() {
            return Ok(());
        }
        let first: Vec<u64> = self.axis(0).iter().map(|factor| factor.id).collect();
        if batch > 1 && !matches!((first.as_slice(), self.rows), ([id], Some(rows)) if *id == rows) {
            return Err(Broken::Rows);
        }
        let positions = self.axis(1);
        let length = size(positions) as i32;
        let worst = self.terms.iter().map(|term| {
            let others = term.over.iter().filter(|factor| !positions.contains(factor)).copied();
            let order: Vec<Factor> = others.chain(positions.iter().copied()).collect();
            let table =
                if size(&order) > term::MOST { term.absolute().expanded(positions) } else { term.expanded(&order) };
            let ahead = (0..length).cycle().zip(table).map(|(position, bound)| bound.saturating_sub(position)).max();
            (ahead.unwrap_or(i32::MAX), term.cause)
        });
        match worst.max_by_key(|(ahead, _)| *ahead) {
            Some((places, cause)) if places > 0 => Err(Broken::Ahead { places, cause }),
            _ => Ok(()),
        }
    }
}
