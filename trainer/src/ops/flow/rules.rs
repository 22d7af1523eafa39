//! The flows of parts, moves and joins along one axis.

use std::sync::Arc;

use super::{Factor, Fill, Flow, Ids, Mask, Traced, size, term};
use crate::ops::Located;

/// Most entries of the tables of a concatenation: 4096 positions, joined one by one. Beyond, all parts are
/// taken to depend on what the farthest does.
const JOINED: usize = 1 << 24;

const PART_OF_BATCH: &str = "takes a part of the batch: a sequence must not be told from the others";
const JOINS_BATCH: &str = "joins the sequences of the batch: work along the features, or mix positions with attention(), causal_mask() or shift()";

impl Flow {
    /// Every element reads all elements along an axis, which stays: a softmax, a norm.
    pub fn joined_along(&self, axis: usize, at: Located<'_>) -> Traced {
        let mut flow = self.reads_along(axis, at)?;
        flow.mask = None;
        Ok(flow)
    }

    /// As [`Self::joined_along`], for a softmax: the shares of keys masked by minus infinity are 0.
    pub fn shares_along(&self, axis: usize, at: Located<'_>) -> Traced {
        let mut flow = self.reads_along(axis, at)?;
        let over_keys = |mask: &Mask| matches!(self.axis(axis), [factor] if factor.id == mask.keys);
        let mask = flow.mask.filter(|mask| mask.fill == Fill::MinusInfinity && over_keys(mask));
        flow.mask = mask.map(|mask| Mask { fill: Fill::Zero, ..mask });
        Ok(flow)
    }

    fn reads_along(&self, axis: usize, at: Located<'_>) -> Traced {
        let gone = self.axis(axis).to_vec();
        self.refuse_rows(&gone, JOINS_BATCH, at)?;
        let mut flow = Self { terms: Vec::new(), constant: None, enforced: None, ..self.clone() };
        self.terms.iter().for_each(|term| flow.add(term.without(&gone, at.id())));
        Ok(flow)
    }

    fn refuse_rows(&self, factors: &[Factor], reason: &str, at: Located<'_>) -> Traced<()> {
        if factors.iter().any(|factor| self.is_rows(factor)) {
            return Err(super::Leak::new(at, reason));
        }
        Ok(())
    }

    /// A reduction along an axis, which stays with extent 1.
    pub fn reduced_along(&self, axis: usize, at: Located<'_>) -> Traced {
        let gone = self.axis(axis);
        let masked = |mask: &Mask| gone.iter().any(|factor| factor.id == mask.keys || factor.id == mask.queries);
        let mut flow = self.reads_along(axis, at)?;
        // The sum, the mean and the largest of zeros is 0.
        flow.mask = flow.mask.filter(|mask| mask.fill == Fill::Zero && !masked(mask));
        if let Some(axis) = flow.axes.get_mut(axis) {
            axis.clear();
        }
        Ok(flow)
    }

    /// Elements `start..end` along an axis.
    pub fn sliced(&self, axis: usize, start: usize, end: usize, at: Located<'_>) -> Traced {
        let mut flow = Self { enforced: None, ..self.clone() };
        if start == 0 && end == size(self.axis(axis)) {
            return Ok(flow);
        }
        flow.constant = self.constant.as_ref().and_then(|constant| constant.sliced(axis, start, end));
        let mut ids = Ids::of(at);
        let Some(old) = flow.single(axis, PART_OF_BATCH, &mut ids, at)? else { return Ok(flow) };
        let new = ids.axis(end.saturating_sub(start));
        let mut terms = Vec::with_capacity(flow.terms.len());
        for term in std::mem::take(&mut flow.terms) {
            terms.push(if term.has(old.id) {
                let part = |run: &[i32]| run.get(start..end).unwrap_or_default().to_vec();
                let mut part = term.mapped_along(old, new.first().copied(), part);
                part.cause = at.id();
                part
            } else {
                term
            });
        }
        terms.into_iter().for_each(|term| flow.add(term));
        flow.mask = flow.mask.and_then(|mask| mask.sliced(old, new.first().copied(), start, end));
        if let Some(slot) = flow.axes.get_mut(axis) {
            *slot = new;
        }
        Ok(flow.pruned())
    }

    /// Elements moved `by` places later along an axis, zeros in front.
    pub fn shifted(&self, axis: usize, by: usize, at: Located<'_>) -> Traced {
        let mut flow = Self { mask: None, constant: None, enforced: None, ..self.clone() };
        let moves = "moves the sequences of the batch: shift along the context (axis 1) or along the features";
        let Some(factor) = flow.single(axis, moves, &mut Ids::of(at), at)? else { return Ok(flow) };
        for term in flow.terms.iter_mut().filter(|term| term.has(factor.id)) {
            let later = |run: &[i32]| {
                let kept = run.len().saturating_sub(by);
                let zeros = std::iter::repeat_n(-1, run.len() - kept);
                zeros.chain(run.get(..kept).unwrap_or_default().iter().copied()).collect()
            };
            *term = term.mapped_along(factor, Some(factor), later);
        }
        Ok(flow.pruned())
    }

    /// For each element the sum of those up to it along an axis.
    pub fn accumulated(&self, axis: usize, at: Located<'_>) -> Traced {
        let mut flow = Self { mask: None, constant: None, enforced: None, ..self.clone() };
        let adds = "adds up the sequences of the batch: add up along the context (axis 1) or the features";
        let Some(factor) = flow.single(axis, adds, &mut Ids::of(at), at)? else { return Ok(flow) };
        for term in flow.terms.iter_mut().filter(|term| term.has(factor.id)) {
            let farthest_so_far = |run: &[i32]| {
                let farthest = run.iter().scan(-1, |most: &mut i32, bound| {
                    *most = (*most).max(*bound);
                    Some(*most)
                });
                farthest.collect()
            };
            let mut sums = term.mapped_along(factor, Some(factor), farthest_so_far);
            if sums.bounds[..] != term.bounds[..] {
                sums.cause = at.id();
            }
            *term = sums;
        }
        Ok(flow.pruned())
    }

    /// Values joined along an axis, of which each has its extent.
    pub fn concatenated(parts: &[Flow], extents: &[usize], axis: usize, at: Located<'_>) -> Traced {
        let mut ids = Ids::of(at);
        let whole = ids.axis(extents.iter().sum());
        let [whole] = whole.as_slice() else { return super::first(parts, at).cloned() };
        let is_coarse = parts.len().saturating_mul(whole.extent) > JOINED;
        let (mut joined, mut offset): (Option<Flow>, usize) = (None, 0);
        for (part, extent) in parts.iter().zip(extents) {
            let place = Place { axis, whole: *whole, range: offset..offset + extent, is_coarse };
            let placed = part.placed_at(place, &mut ids, at)?;
            offset += extent;
            joined = Some(match joined {
                None => placed,
                Some(before) => {
                    let (before, placed) = before.aligned(placed, at.shape().len(), &mut ids, at)?;
                    let mask = placed.mask.clone().filter(|theirs| before.mask.as_ref() == Some(theirs));
                    Self { mask, ..before.with_terms_of(&placed) }
                }
            });
        }
        let Some(mut joined) = joined else { return super::first(parts, at).cloned() };
        joined.terms.iter_mut().for_each(|term| *term = term.even_along(*whole));
        let terms = std::mem::take(&mut joined.terms);
        terms.into_iter().for_each(|term| joined.add(term));
        joined.constant = None;
        Ok(joined.pruned())
    }

    /// The part of a concatenation: its axis becomes another factor, in which it takes some places.
    fn placed_at(&self, place: Place, ids: &mut Ids, at: Located<'_>) -> Traced {
        let Place { axis, whole, range, is_coarse } = place;
        let mut flow = self.clone();
        let joins = "joins the sequences of the batch: concat() along the context or the features";
        let own = flow.single(axis, joins, ids, at)?;
        flow.mask = flow.mask.filter(|mask| own.is_none_or(|own| mask.keys != own.id && mask.queries != own.id));
        let entry = ids.factor(range.len());
        for term in std::mem::take(&mut flow.terms) {
            // A term without the axis gets it, so that each place keeps what its own part depends on.
            let along = own.filter(|own| term.has(own.id));
            if along.is_none() && (is_coarse || size(&term.order_with_last(&[whole])) > term::MOST) {
                flow.add(term);
                continue;
            }
            if is_coarse {
                flow.add(term.absolute());
                continue;
            }
            let at_range = |run: &[i32]| {
                let mut places = vec![-1; whole.extent];
                places.iter_mut().skip(range.start).zip(run).for_each(|(place, bound)| *place = *bound);
                places
            };
            flow.add(term.mapped_along(along.unwrap_or(entry), Some(whole), at_range));
        }
        if let Some(slot) = flow.axes.get_mut(axis) {
            *slot = vec![whole];
        }
        Ok(flow)
    }
}

/// The place of a part in a concatenation.
struct Place {
    axis: usize,
    whole: Factor,
    range: std::ops::Range<usize>,
    is_coarse: bool,
}

impl term::Term {
    /// The table without a factor along which it does not vary.
    fn even_along(&self, factor: Factor) -> Self {
        if !self.has(factor.id) {
            return self.clone();
        }
        let less = self.without(&[factor], self.cause);
        let same = less.expanded(&self.over);
        if same[..] == self.bounds[..] { less } else { self.clone() }
    }
}

impl Mask {
    /// The mask of elements `start..end` along the factor `old`, which becomes `new`.
    fn sliced(self, old: Factor, new: Option<Factor>, start: usize, end: usize) -> Option<Self> {
        if old.id == self.queries {
            let last: Arc<[i32]> = self.last.get(start..end)?.into();
            return Some(Self { queries: new?.id, last, ..self });
        }
        if old.id == self.keys {
            let move_by = |last: &i32| (last - start as i32).clamp(-1, (end - start) as i32 - 1);
            return Some(Self { keys: new?.id, last: self.last.iter().map(move_by).collect(), ..self });
        }
        Some(self)
    }
}
