//! Rules about shapes that several operations share. Each operation's own rule stands in its file.
//!
//! A rule leads from the operands' shapes to the result's, or to a sentence that names the shapes
//! and says what to do. Rules are pure functions over extents.

use super::Misuse;
use crate::value::{Shape, show};

/// A rule's result, or what is wrong with the operands.
pub(super) type Rule<T = Shape> = Result<T, Misuse>;

/// Resolves an axis that may count from the end (`-1` is the last) against a rank.
pub(super) fn axis(what: &str, axis: i64, shape: &[usize]) -> Rule<usize> {
    let rank = shape.len() as i64;
    let resolved = if axis < 0 { axis + rank } else { axis };
    if (0..rank).contains(&resolved) {
        return Ok(resolved as usize);
    }
    Err(Misuse::new(format!(
        "{what}: axis {axis} does not exist in {}, which has rank {rank}: use {}..{}",
        show(shape),
        -rank,
        rank - 1
    )))
}

/// NumPy's broadcasting: aligned at the last dimension, extents equal or 1.
pub(super) fn broadcast(what: &str, a: &[usize], b: &[usize]) -> Rule {
    let rank = a.len().max(b.len());
    let extent = |shape: &[usize], from_end: usize| {
        shape.len().checked_sub(from_end + 1).and_then(|i| shape.get(i)).copied().unwrap_or(1)
    };
    let mut joined = vec![0; rank];
    for (from_end, out) in joined.iter_mut().rev().enumerate() {
        let (x, y) = (extent(a, from_end), extent(b, from_end));
        *out = match (x, y) {
            (x, y) if x == y => x,
            (1, y) => y,
            (x, 1) => x,
            (x, y) => {
                return Err(Misuse::new(format!(
                    "{what}: {} and {} do not broadcast: counted from the last dimension, number {} is {x} against {y}; extents must be equal or 1: reshape() or slice() one of them",
                    show(a),
                    show(b),
                    from_end + 1
                )));
            }
        };
    }
    Ok(joined)
}

/// Extents of a new tensor, each at least 1.
pub(super) fn extents(what: &str, wanted: &[i64]) -> Rule {
    let positive = |extent: &i64| usize::try_from(*extent).ok().filter(|extent| *extent > 0);
    wanted
        .iter()
        .map(|extent| {
            positive(extent)
                .ok_or_else(|| Misuse::new(format!("{what}: extent {extent} is not allowed; extents are at least 1")))
        })
        .collect()
}

/// The refusal that a rule gave, as text.
#[cfg(test)]
#[track_caller]
pub(super) fn complaint<T: std::fmt::Debug>(result: Rule<T>) -> String {
    result.unwrap_err().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcast_aligns_at_the_last_dimension() {
        assert_eq!(broadcast("+", &[8, 64, 96], &[96]).unwrap(), [8, 64, 96]);
        assert_eq!(broadcast("+", &[8, 1, 96], &[64, 1]).unwrap(), [8, 64, 96]);
        assert_eq!(broadcast("+", &[], &[3]).unwrap(), [3]);
        assert_eq!(
            complaint(broadcast("+", &[8, 64, 96], &[95])),
            "+: [8,64,96] and [95] do not broadcast: counted from the last dimension, number 1 is 96 against 95; extents must be equal or 1: reshape() or slice() one of them"
        );
    }
}
