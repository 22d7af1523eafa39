//! Changes made of earlier changes: crosses of two good scripts, and a change without one of its parts.
//!
//! A cross takes what two scripts changed against their common ancestor (a three-way merge by lines). An ablation undoes one
//! of the parts in which a script differs from its parent, which tells whether that part did anything. Pure: texts in, texts
//! out. Never here: whether the language takes the result.

use std::ops::Range;

use similar::{DiffOp, TextDiff};

/// A change of lines: which lines of the old text go, and what comes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hunk {
    old: Range<usize>,
    new: String,
}

/// The script that has the changes of both against their common ancestor `base`. None where both change the same lines, or
/// where one of them has no change that the other lacks.
pub fn cross(base: &str, one: &str, other: &str) -> Option<String> {
    let (ours, theirs) = (hunks(base, one), hunks(base, other));
    let fresh: Vec<_> = theirs.iter().filter(|hunk| !ours.contains(hunk)).cloned().collect();
    if ours.is_empty() || fresh.is_empty() {
        return None;
    }
    // Changes that touch each other are of one place.
    let clash = |a: &Hunk, b: &Hunk| a.old.start <= b.old.end && b.old.start <= a.old.end;
    if fresh.iter().any(|hunk| ours.iter().any(|own| clash(hunk, own))) {
        return None;
    }
    let merged = applied(base, ours.into_iter().chain(fresh).collect());
    (merged != one && merged != other).then_some(merged)
}

/// The script without one of its changes against `parent`, chosen by `number`. None where there are fewer than two.
pub fn ablate(parent: &str, script: &str, number: u64) -> Option<String> {
    let mut hunks = hunks(parent, script);
    let count = u64::try_from(hunks.len()).ok().filter(|count| *count > 1)?;
    hunks.remove(usize::try_from(number % count).ok()?);
    Some(applied(parent, hunks))
}

fn hunks(old: &str, new: &str) -> Vec<Hunk> {
    let lines: Vec<&str> = new.split_inclusive('\n').collect();
    let diff = TextDiff::from_lines(old, new);
    let changes = diff.ops().iter().filter(|op| !matches!(op, DiffOp::Equal { .. }));
    changes
        .map(|op| Hunk {
            old: op.old_range(),
            new: lines.get(op.new_range()).map(|lines| lines.concat()).unwrap_or_default(),
        })
        .collect()
}

fn applied(text: &str, mut hunks: Vec<Hunk>) -> String {
    hunks.sort_by_key(|hunk| hunk.old.start);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let (mut made, mut at) = (String::new(), 0);
    for hunk in hunks {
        made.extend(lines.get(at..hunk.old.start).into_iter().flatten().copied());
        made.push_str(&hunk.new);
        at = hunk.old.end;
    }
    made.extend(lines.get(at..).into_iter().flatten().copied());
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "width = 64\n\nact = relu\n\nlr = 0.003\n\ntrain()\n";

    #[test]
    fn cross_has_the_changes_of_both_scripts() {
        let (wide, gelu) = (BASE.replace("64", "128"), BASE.replace("relu", "gelu"));
        let both = cross(BASE, &wide, &gelu).unwrap();
        assert_eq!(both, BASE.replace("64", "128").replace("relu", "gelu"));
        assert_eq!(cross(BASE, &gelu, &wide), Some(both));
        let longer = BASE.replace("train()\n", "clip()\ntrain()\n");
        assert_eq!(cross(BASE, &wide, &longer).unwrap(), longer.replace("64", "128"));
    }

    #[test]
    fn cross_of_scripts_that_change_one_place_or_nothing_new_is_none() {
        let (wide, wider) = (BASE.replace("64", "128"), BASE.replace("64", "256"));
        assert_eq!(cross(BASE, &wide, &wider), None);
        assert_eq!(cross(BASE, &wide, BASE), None);
        assert_eq!(cross(BASE, BASE, &wide), None);
        assert_eq!(cross(BASE, &wide, &wide), None);
        let more = wide.replace("relu", "gelu");
        assert_eq!(cross(BASE, &more, &wide), None, "a script that has the change already");
    }

    #[test]
    fn ablation_undoes_one_change_and_leaves_the_others() {
        let script = BASE.replace("64", "128").replace("0.003", "0.01");
        let made: Vec<_> = (0..2).map(|number| ablate(BASE, &script, number).unwrap()).collect();
        assert_eq!(made, [BASE.replace("0.003", "0.01"), BASE.replace("64", "128")]);
        assert_eq!(ablate(BASE, &BASE.replace("64", "128"), 0), None, "without its only change it is its parent");
        assert_eq!(ablate(BASE, BASE, 0), None);
    }
}
