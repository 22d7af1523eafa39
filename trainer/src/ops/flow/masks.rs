//! Masks: elements that are constant, so that they depend on nothing.

use std::sync::Arc;

use super::constant::{Constant, FAR_BELOW};
use super::{Enforced, Fill, Flow, Ids, Mask, Masked, Traced, term};
use crate::ops::{BinaryFunction, Located};

/// How a binary function treats the masks of its operands.
pub(crate) struct Operands {
    pub function: BinaryFunction,
    /// The numbers that the operands are, where they are constants.
    pub numbers: [Option<f64>; 2],
}

impl Fill {
    /// The constant that a number stands for, if it is one of the two.
    fn of_number(number: f64) -> Option<Self> {
        match number {
            0.0 => Some(Self::Zero),
            far if far <= FAR_BELOW => Some(Self::MinusInfinity),
            _ => None,
        }
    }
}

impl Flow {
    /// The scores `[.., queries, keys]` after a causal mask, which sets later keys itself.
    pub fn masked(&self, at: Located<'_>) -> Traced {
        let mut flow = Self { mask: None, constant: None, enforced: None, ..self.clone() };
        let Some(queries) = at.shape().len().checked_sub(2) else { return Ok(flow) };
        let has_rows = |axis: usize| self.axis(axis).iter().any(|factor| self.is_rows(factor));
        if has_rows(queries) || has_rows(queries + 1) {
            return Ok(flow);
        }
        let mut ids = Ids::of(at);
        flow.fuse(queries, 0, &mut ids, at)?;
        flow.fuse(queries + 1, 0, &mut ids, at)?;
        if let ([query], [key]) = (flow.axis(queries), flow.axis(queries + 1)) {
            let last = (0..query.extent as i32).collect();
            let mask = Mask { queries: query.id, keys: key.id, last, fill: Fill::MinusInfinity };
            flow.leave_out(&mask, at);
            flow.mask = Some(mask);
        }
        Ok(flow)
    }

    /// Takes away what elements would see of masked keys. The caller makes sure that masked elements
    /// are constant.
    pub(super) fn leave_out(&mut self, mask: &Mask, at: Located<'_>) {
        let find = |id: u64| self.axes.iter().flatten().find(|factor| factor.id == id).copied();
        let (Some(query), Some(key)) = (find(mask.queries), find(mask.keys)) else { return };
        for term in std::mem::take(&mut self.terms) {
            if !term.has(key.id) {
                self.add(term);
                continue;
            }
            let both = super::size(&term.order_with_last(&[query, key]));
            let entries = if term.has(query.id) { both } else { both / query.extent.min(key.extent).max(1) };
            if entries > term::MOST {
                self.add(term.absolute());
                continue;
            }
            let mut seen = seen(&term, query, key, mask);
            if (0..).zip(mask.last.iter()).any(|(query, last)| *last > query) {
                seen.cause = at.id();
            }
            self.add(seen);
        }
        self.prune();
    }

    /// Whether any term tells keys apart.
    fn sees_keys(&self, mask: &Mask) -> bool {
        self.terms.iter().any(|term| term.has(mask.keys))
    }

    /// The axes that are nothing but the queries and the keys.
    pub(super) fn mask_axes(&self, mask: &Mask) -> Option<(usize, usize)> {
        let only = |id: u64| self.axes.iter().position(|axis| matches!(axis.as_slice(), [factor] if factor.id == id));
        Some((only(mask.queries)?, only(mask.keys)?))
    }

    /// The mask that a value is known to have, or that its numbers show.
    pub(super) fn known_mask(&self, fill: Fill, sign: f64) -> Option<Mask> {
        let own = self.mask.clone().filter(|mask| mask.fill == fill && sign > 0.0);
        own.or_else(|| self.mask_of_numbers(fill, sign, None))
    }

    /// The mask that the numbers show: with keys along the axis `keys`, or where queries see least.
    pub(super) fn mask_of_numbers(&self, fill: Fill, sign: f64, keys: Option<usize>) -> Option<Mask> {
        let rows = self.axes.len().checked_sub(2)?;
        let ([row], [column]) = (self.axis(rows), self.axis(rows + 1)) else { return None };
        let found = self.constant.as_ref()?.last_keys(fill, sign)?;
        if keys.map_or(found.columns_see_less, |keys| keys == rows) {
            return Some(Mask { queries: column.id, keys: row.id, last: found.of_columns.clone()?, fill });
        }
        Some(Mask { queries: row.id, keys: column.id, last: found.of_rows.clone()?, fill })
    }

    /// The result of an elementwise function of two values, which broadcast.
    pub fn combined(a: &Self, b: &Self, operands: &Operands, at: Located<'_>) -> Traced {
        let constant = match (&a.constant, &b.constant) {
            (Some(x), Some(y)) => x.combined(y, operands.function, at.shape()),
            _ => None,
        };
        let joined = Self::joined(a, b, operands.masks(a, b), |a, b| operands.mask_of_result(a, b), at)?;
        Ok(Self { constant, ..joined })
    }

    /// The elements of `a` where `condition` is not 0, else those of `b`; `other` is the number that `b` is, if it
    /// is one. Where that number hides a score or is 0, a condition that follows from the script alone is a mask.
    pub fn chosen([condition, a, b]: [&Self; 3], other: Option<f64>, at: Located<'_>) -> Traced {
        let constant = match (&condition.constant, &a.constant, &b.constant) {
            (Some(condition), Some(a), Some(b)) => Constant::chosen(condition, a, b, at.shape()),
            _ => None,
        };
        let keys = condition.axes.len().checked_sub(1);
        let fill = other.and_then(Fill::of_number);
        let mask = fill.and_then(|fill| {
            let own = condition.mask.clone().filter(|mask| mask.fill == Fill::Zero);
            let mask = own.or_else(|| condition.mask_of_numbers(Fill::Zero, 1.0, keys))?;
            Some(Mask { fill, ..mask })
        });
        let first = Self::joined(condition, a, (mask, None), |mask, _| mask.cloned(), at)?;
        if fill.is_some() {
            return Ok(Self { constant, ..first });
        }
        let both = Self::joined(&first, b, (None, None), |_, _| None, at)?;
        Ok(Self { constant, ..both })
    }

    /// Two values element by element, with these masks of theirs, from which `mask_of_result` follows.
    fn joined(
        a: &Self,
        b: &Self,
        masks: (Option<Mask>, Option<Mask>),
        mask_of_result: impl Fn(Option<&Mask>, Option<&Mask>) -> Option<Mask>,
        at: Located<'_>,
    ) -> Traced {
        let rank = at.shape().len();
        let with = |flow: &Self, mask: Option<Mask>| Self { mask, enforced: None, ..flow.clone() };
        let (a, b) = with(a, masks.0).aligned(with(b, masks.1), rank, &mut Ids::of(at), at)?;
        let mask = mask_of_result(a.mask.as_ref(), b.mask.as_ref());
        let mut flow = a.with_terms_of(&b);
        let Some(mask) = mask else { return Ok(flow) };
        if !flow.sees_keys(&mask) {
            flow.mask = Some(mask);
        } else if let Some((queries, keys)) = flow.mask_axes(&mask) {
            flow.leave_out(&mask, at);
            let last = mask.last.clone();
            flow.enforced = Some(Enforced { of: Masked::Result, queries, keys, last, fill: mask.fill });
            flow.mask = Some(mask);
        }
        Ok(flow)
    }
}

/// The entries of a term, with each query instead of each key: the largest among the keys that the
/// query sees.
fn seen(term: &term::Term, query: super::Factor, key: super::Factor, mask: &Mask) -> term::Term {
    let allowed = |query: usize| mask.last.get(query).map_or(key.extent, |last| usize::try_from(last + 1).unwrap_or(0));
    if !term.has(query.id) {
        let along = |run: &[i32]| {
            let mut most: Vec<i32> = vec![-1];
            run.iter().for_each(|bound| most.push(most.last().copied().unwrap_or(-1).max(*bound)));
            (0..query.extent).map(|i| most.get(allowed(i)).copied().unwrap_or(i32::MAX)).collect()
        };
        return term.mapped_along(key, Some(query), along);
    }
    let order = term.order_with_last(&[query, key]);
    let table = term.expanded(&order);
    let runs = table.chunks(key.extent.max(1)).enumerate();
    let bounds = runs.map(|(i, run)| {
        let seen = run.get(..allowed(i % query.extent.max(1))).unwrap_or(run);
        seen.iter().copied().max().unwrap_or(-1)
    });
    let over = order.iter().filter(|factor| **factor != key).copied().collect();
    term::Term::new(over, bounds.collect(), term.cause)
}

impl Operands {
    /// The masks of the operands that matter for the function.
    fn masks(&self, a: &Flow, b: &Flow) -> (Option<Mask>, Option<Mask>) {
        use BinaryFunction::{Add, Div, Equal, Less, LessEqual, Max, Min, Mod, Mul, NotEqual, Pow, Sub};
        let zero = |flow: &Flow| flow.known_mask(Fill::Zero, 1.0);
        let far = |flow: &Flow, sign: f64| flow.known_mask(Fill::MinusInfinity, sign);
        let own = |flow: &Flow, fill: Fill| flow.mask.clone().filter(|mask| mask.fill == fill);
        match self.function {
            Mul => (zero(a).or_else(|| own(a, Fill::MinusInfinity)), zero(b).or_else(|| own(b, Fill::MinusInfinity))),
            Div => (zero(a).or_else(|| own(a, Fill::MinusInfinity)), None),
            Pow => (zero(a), None),
            Add => (far(a, 1.0).or_else(|| own(a, Fill::Zero)), far(b, 1.0).or_else(|| own(b, Fill::Zero))),
            Sub => (far(a, 1.0).or_else(|| own(a, Fill::Zero)), far(b, -1.0).or_else(|| own(b, Fill::Zero))),
            Max | Min => (own(a, Fill::Zero), own(b, Fill::Zero)),
            // What a masked element is compared with decides the result.
            Mod | Less | LessEqual | Equal | NotEqual => (None, None),
        }
    }

    /// The mask of the result, given those of the aligned operands.
    fn mask_of_result(&self, a: Option<&Mask>, b: Option<&Mask>) -> Option<Mask> {
        use BinaryFunction::{Add, Div, Mul, Pow, Sub};
        let fill = |mask: Option<&Mask>, fill: Fill| mask.filter(|mask| mask.fill == fill).cloned();
        let [left, right] = self.numbers.map(|number| number.is_some_and(|number| number > 0.0));
        match self.function {
            Mul => fill(a, Fill::Zero)
                .or_else(|| fill(b, Fill::Zero))
                .or_else(|| a.filter(|_| right).cloned())
                .or_else(|| b.filter(|_| left).cloned()),
            Div => fill(a, Fill::Zero).or_else(|| a.filter(|_| right).cloned()),
            Pow => a.filter(|_| right).cloned(),
            Add | Sub if fill(a, Fill::MinusInfinity).is_some() => a.cloned(),
            Add | Sub if fill(b, Fill::MinusInfinity).is_some() => b.cloned(),
            _ => both(a?, b?),
        }
    }
}

/// Elements that both masks set to 0.
fn both(a: &Mask, b: &Mask) -> Option<Mask> {
    let same = a.queries == b.queries && a.keys == b.keys && a.fill == Fill::Zero && b.fill == Fill::Zero;
    let last: Arc<[i32]> = a.last.iter().zip(b.last.iter()).map(|(x, y)| *x.max(y)).collect();
    same.then(|| Mask { last, ..a.clone() })
}
