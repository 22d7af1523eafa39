//! Tables of positions over some factors of a value.

use std::sync::Arc;

use super::{Factor, size};
use crate::value::ValueId;

/// Most entries of a table over several factors. Beyond, a table is replaced by its largest entry.
/// A context of 256 beside 1024 features fits.
pub(super) const MOST: usize = 1 << 18;

/// A table over some factors: an element may depend on positions up to its entry; -1 is none.
#[derive(Clone, Debug)]
pub(super) struct Term {
    /// Outermost first, each once.
    pub over: Vec<Factor>,
    pub bounds: Arc<[i32]>,
    /// The operation that last let elements see more than their own entry, for messages.
    pub cause: ValueId,
}

impl Term {
    pub fn new(over: Vec<Factor>, bounds: Vec<i32>, cause: ValueId) -> Self {
        Self { over, bounds: bounds.into(), cause }
    }

    /// The largest entry.
    pub fn farthest(&self) -> i32 {
        self.bounds.iter().copied().max().unwrap_or(-1)
    }

    /// The table as one entry for all elements.
    pub fn absolute(&self) -> Self {
        Self::new(Vec::new(), vec![self.farthest()], self.cause)
    }

    pub fn has(&self, id: u64) -> bool {
        self.over.iter().any(|factor| factor.id == id)
    }

    /// Whether any of these factors is one of the table's.
    pub fn touches(&self, factors: &[Factor]) -> bool {
        factors.iter().any(|factor| self.has(factor.id))
    }

    pub fn is_over_same(&self, other: &Self) -> bool {
        self.over.len() == other.over.len() && self.over.iter().all(|factor| other.has(factor.id))
    }

    /// The factors that are none of these, and then these.
    pub fn order_with_last(&self, last: &[Factor]) -> Vec<Factor> {
        let others = self.over.iter().filter(|factor| !last.contains(factor));
        others.chain(last).copied().collect()
    }

    /// The entries over other factors, which contain those of the table, in row-major order.
    pub fn expanded(&self, over: &[Factor]) -> Vec<i32> {
        if self.over == over {
            return self.bounds.to_vec();
        }
        let stride = |id: u64| {
            let place = self.over.iter().position(|factor| factor.id == id)?;
            self.over.get(place + 1..).map(size)
        };
        let mut places = vec![0_usize];
        for factor in over {
            let step = stride(factor.id).unwrap_or(0);
            places = places.into_iter().flat_map(|at| (0..factor.extent).map(move |i| at + i * step)).collect();
        }
        // No place lies outside. If one did, it would claim everything.
        places.into_iter().map(|at| self.bounds.get(at).copied().unwrap_or(i32::MAX)).collect()
    }

    /// The larger entry of each place, for a table over the same factors.
    pub fn max(&self, other: &Self) -> Self {
        if Arc::ptr_eq(&self.bounds, &other.bounds) && self.over == other.over {
            return self.clone();
        }
        let theirs = other.expanded(&self.over);
        let joined: Vec<i32> = self.bounds.iter().zip(&theirs).map(|(a, b)| *a.max(b)).collect();
        if joined[..] == self.bounds[..] {
            return self.clone();
        }
        if joined == theirs {
            let bounds = if self.over == other.over { other.bounds.clone() } else { joined.into() };
            return Self { over: self.over.clone(), bounds, cause: other.cause };
        }
        let pairs = || self.bounds.iter().zip(&theirs);
        let (mine, others) = (pairs().filter(|(a, b)| a > b).count(), pairs().filter(|(a, b)| a < b).count());
        let cause = if (mine, self.cause) > (others, other.cause) { self.cause } else { other.cause };
        Self::new(self.over.clone(), joined, cause)
    }

    /// The largest entries along some factors, which are taken away. `cause` is to blame for what
    /// this adds.
    pub fn without(&self, gone: &[Factor], cause: ValueId) -> Self {
        if !self.touches(gone) {
            return self.clone();
        }
        let gone: Vec<Factor> = self.over.iter().filter(|factor| gone.contains(factor)).copied().collect();
        let order = self.order_with_last(&gone);
        let table = self.expanded(&order);
        let rest = order.get(..order.len().saturating_sub(gone.len())).unwrap_or_default().to_vec();
        let mut even = true;
        let largest = table.chunks(size(&gone).max(1)).map(|chunk| {
            let most = chunk.iter().copied().max().unwrap_or(-1);
            even &= chunk.iter().all(|bound| *bound == most);
            most
        });
        let bounds: Vec<i32> = largest.collect();
        Self::new(rest, bounds, if even { self.cause } else { cause })
    }

    /// The table with one factor cut into two.
    pub fn split(&self, id: u64, parts: [Factor; 2]) -> Self {
        let cut = |factor: &Factor| if factor.id == id { parts.to_vec() } else { vec![*factor] };
        Self { over: self.over.iter().flat_map(cut).collect(), ..self.clone() }
    }

    /// The table with several factors, in row-major order, as one.
    pub fn fused(&self, parts: &[Factor], into: Factor) -> Self {
        if !self.touches(parts) {
            return self.clone();
        }
        let order = self.order_with_last(parts);
        if size(&order) > MOST {
            return self.absolute();
        }
        let bounds = if self.over == order { self.bounds.clone() } else { self.expanded(&order).into() };
        let mut over: Vec<Factor> = order.into_iter().filter(|factor| !parts.contains(factor)).collect();
        over.push(into);
        Self { over, bounds, cause: self.cause }
    }

    /// The table with another id for a factor.
    pub fn renamed(&mut self, from: u64, to: u64) {
        for factor in self.over.iter_mut().filter(|factor| factor.id == from) {
            factor.id = to;
        }
    }

    /// The entries along `factor`, which becomes `into`, mapped by `map`, one run along it at a time.
    pub fn mapped_along(&self, factor: Factor, into: Option<Factor>, map: impl Fn(&[i32]) -> Vec<i32>) -> Self {
        let order = self.order_with_last(&[factor]);
        if size(&order) > MOST {
            return self.absolute();
        }
        let table = self.expanded(&order);
        let bounds: Vec<i32> = table.chunks(factor.extent.max(1)).flat_map(map).collect();
        let mut over: Vec<Factor> = order.into_iter().filter(|other| *other != factor).collect();
        over.extend(into);
        Self::new(over, bounds, self.cause)
    }
}
