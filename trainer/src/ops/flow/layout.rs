//! The factors of values: cut, joined, renamed, and brought into line with those of another value.

use super::{Factor, Flow, Ids, Leak, Traced, size};
use crate::ops::Located;

/// Most terms of a flow. Scripts of today's models need three.
const TERMS: usize = 6;

impl Flow {
    /// Forgets the mask if it speaks of any of these factors.
    fn forget(&mut self, factors: &[Factor]) {
        let touches = |id: u64| factors.iter().any(|factor| factor.id == id);
        if self.mask.as_ref().is_some_and(|mask| touches(mask.queries) || touches(mask.keys)) {
            self.mask = None;
        }
    }

    /// Cuts a factor into an outer part of extent `outer` and the rest.
    fn split(&mut self, factor: Factor, outer: usize, ids: &mut Ids, at: Located<'_>) -> Traced<()> {
        if self.is_rows(&factor) {
            return Err(Leak::new(at, "cuts the batch into parts: leave its axis whole"));
        }
        self.forget(&[factor]);
        let parts = [ids.factor(outer), ids.factor(factor.extent / outer.max(1))];
        for axis in &mut self.axes {
            if let Some(place) = axis.iter().position(|other| *other == factor) {
                axis.splice(place..=place, parts);
            }
        }
        self.terms = self.terms.iter().map(|term| term.split(factor.id, parts)).collect();
        Ok(())
    }

    /// Makes one factor of those of an axis from the place `from` on.
    pub(super) fn fuse(&mut self, axis: usize, from: usize, ids: &mut Ids, at: Located<'_>) -> Traced<()> {
        let parts: Vec<Factor> = self.axis(axis).get(from..).unwrap_or_default().to_vec();
        if parts.len() < 2 {
            return Ok(());
        }
        let into = self.fuse_parts(&parts, ids, at)?;
        if let Some(axis) = self.axes.get_mut(axis) {
            axis.truncate(from);
            axis.push(into);
        }
        Ok(())
    }

    /// Makes one factor of several that follow each other. The axes stay to be changed.
    fn fuse_parts(&mut self, parts: &[Factor], ids: &mut Ids, at: Located<'_>) -> Traced<Factor> {
        if parts.iter().any(|factor| self.is_rows(factor)) {
            return Err(Leak::new(at, "mixes the sequences of the batch with another axis: leave the batch in front"));
        }
        self.forget(parts);
        let into = ids.factor(size(parts));
        self.terms = self.terms.iter().map(|term| term.fused(parts, into)).collect();
        Ok(into)
    }

    /// The only factor of an axis, which is made one; None for an axis of extent 1. An axis with rows
    /// of the batch is refused, with `reason`.
    pub(super) fn single(
        &mut self,
        axis: usize,
        reason: &str,
        ids: &mut Ids,
        at: Located<'_>,
    ) -> Traced<Option<Factor>> {
        if self.axis(axis).iter().any(|factor| self.is_rows(factor)) {
            return Err(Leak::new(at, reason));
        }
        self.fuse(axis, 0, ids, at)?;
        Ok(self.axis(axis).first().copied())
    }

    /// Gives a factor another id.
    fn rename(&mut self, from: u64, to: u64) {
        for factor in self.axes.iter_mut().flatten().filter(|factor| factor.id == from) {
            factor.id = to;
        }
        self.terms.iter_mut().for_each(|term| term.renamed(from, to));
        if let Some(mask) = &mut self.mask {
            for id in [&mut mask.queries, &mut mask.keys] {
                if *id == from {
                    *id = to;
                }
            }
        }
        if self.rows == Some(from) {
            self.rows = Some(to);
        }
    }

    /// The same flow with ids that no other value has.
    pub(super) fn with_new_ids(mut self, ids: &mut Ids) -> Self {
        let old: Vec<Factor> = self.axes.iter().flatten().copied().collect();
        for factor in old {
            let new = ids.factor(factor.extent);
            self.rename(factor.id, new.id);
        }
        self
    }

    /// Two values that are combined element by element, with the same factors, and rank `rank`.
    pub(super) fn aligned(
        mut self,
        mut other: Self,
        rank: usize,
        ids: &mut Ids,
        at: Located<'_>,
    ) -> Traced<(Self, Self)> {
        for flow in [&mut self, &mut other] {
            let missing = rank.saturating_sub(flow.axes.len());
            flow.axes.splice(0..0, vec![Vec::new(); missing]);
        }
        if self.axes != other.axes {
            other = other.with_new_ids(ids);
            for axis in 0..rank {
                self.align_axis(&mut other, axis, ids, at)?;
            }
        }
        if let (Some(mine), Some(theirs)) = (self.rows, other.rows)
            && mine != theirs
        {
            return Err(Leak::new(at, "combines different sequences of the batch: keep the batch on the same axis"));
        }
        Ok((self, other))
    }

    fn align_axis(&mut self, other: &mut Self, axis: usize, ids: &mut Ids, at: Located<'_>) -> Traced<()> {
        let mut place = 0;
        if self.axis(axis).is_empty() || other.axis(axis).is_empty() {
            let from = if self.axis(axis).is_empty() { other.axis(axis) } else { self.axis(axis) }.to_vec();
            self.take_axis(axis, &from);
            other.take_axis(axis, &from);
            return Ok(());
        }
        while let (Some(mine), Some(theirs)) =
            (self.axis(axis).get(place).copied(), other.axis(axis).get(place).copied())
        {
            let (own, others) = (self.axis(axis).to_vec(), other.axis(axis).to_vec());
            if mine.extent == theirs.extent {
                other.rename(theirs.id, mine.id);
                place += 1;
            } else if self.masks_along(axis) && place == 0 && !other.has_rows_along(axis) {
                other.fuse(axis, 0, ids, at)?;
                self.fuse(axis, 0, ids, at)?;
            } else if other.masks_along(axis) && place == 0 && !self.has_rows_along(axis) {
                self.fuse(axis, 0, ids, at)?;
                other.fuse(axis, 0, ids, at)?;
            } else if !other.depends_along(axis) {
                other.forget(&others);
                other.take_axis(axis, &own);
                return Ok(());
            } else if !self.depends_along(axis) {
                self.forget(&own);
                self.take_axis(axis, &others);
                return Ok(());
            } else if mine.extent.is_multiple_of(theirs.extent) {
                self.split(mine, theirs.extent, ids, at)?;
            } else if theirs.extent.is_multiple_of(mine.extent) {
                other.split(theirs, mine.extent, ids, at)?;
            } else {
                self.fuse(axis, place, ids, at)?;
                other.fuse(axis, place, ids, at)?;
            }
        }
        Ok(())
    }

    fn take_axis(&mut self, axis: usize, factors: &[Factor]) {
        if let Some(slot) = self.axes.get_mut(axis) {
            *slot = factors.to_vec();
        }
    }

    /// Whether elements along an axis differ in row or in their terms.
    fn depends_along(&self, axis: usize) -> bool {
        let factors = self.axis(axis);
        self.has_rows_along(axis) || self.terms.iter().any(|term| term.touches(factors))
    }

    fn has_rows_along(&self, axis: usize) -> bool {
        self.axis(axis).iter().any(|factor| self.is_rows(factor))
    }

    /// Whether an axis is nothing but the queries or the keys of the mask.
    fn masks_along(&self, axis: usize) -> bool {
        let is_of = |mask: &super::Mask, id: u64| mask.queries == id || mask.keys == id;
        let [factor] = self.axis(axis) else { return false };
        self.mask.as_ref().is_some_and(|mask| is_of(mask, factor.id))
    }

    /// The dependences of both values, which are aligned. Knows no mask.
    pub(super) fn with_terms_of(mut self, other: &Self) -> Self {
        other.terms.iter().for_each(|term| self.add(term.clone()));
        if self.terms.len() > TERMS {
            let many = self.terms.split_off(TERMS - 1);
            many.iter().for_each(|term| self.add(term.absolute()));
        }
        self.rows = self.rows.or(other.rows);
        self.mask = None;
        self.constant = None;
        self.enforced = None;
        self
    }

    /// The elements in the node's shape.
    pub fn reshaped(&self, at: Located<'_>) -> Traced {
        let mut ids = Ids::of(at);
        let mut flow = Self { enforced: None, ..self.clone() };
        let mut rest: Vec<Factor> = flow.axes.iter().flatten().rev().copied().collect();
        let mut axes = Vec::with_capacity(at.shape().len());
        for extent in at.shape() {
            let (mut axis, mut need) = (Vec::new(), *extent);
            while need > 1 {
                let Some(factor) = rest.pop() else { break };
                if need.is_multiple_of(factor.extent) {
                    need /= factor.extent;
                    axis.push(factor);
                } else if factor.extent.is_multiple_of(need) {
                    // The parts take the place of the factor in a list that only serves to find them.
                    flow.axes = vec![vec![factor]];
                    flow.split(factor, need, &mut ids, at)?;
                    let parts = flow.axis(0).to_vec();
                    axis.extend(parts.first());
                    rest.extend(parts.get(1));
                    need = 1;
                } else {
                    let parts: Vec<Factor> = [Some(factor), rest.pop()].into_iter().flatten().collect();
                    rest.push(flow.fuse_parts(&parts, &mut ids, at)?);
                    if parts.len() < 2 {
                        return Err(Leak::new(at, "cuts an axis in a way that cannot be followed"));
                    }
                }
            }
            axes.push(axis);
        }
        flow.axes = axes;
        flow.constant = self.constant.as_ref().and_then(|constant| constant.reshaped(at.shape()));
        Ok(flow)
    }

    /// The axes in another order.
    pub fn permuted(&self, order: &[usize]) -> Self {
        let axes = order.iter().map(|from| self.axis(*from).to_vec()).collect();
        let constant = self.constant.as_ref().and_then(|constant| constant.permuted(order));
        Self { axes, constant, enforced: None, ..self.clone() }
    }
}
