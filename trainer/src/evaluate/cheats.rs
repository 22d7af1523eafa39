//! Models that see what they must not, against the measured test alone: without the proof that
//! refuses most of them before they run.

use std::time::Duration;

use super::tests::{RulePredictor, seed, spec};
use super::*;
use crate::corpus;

/// Bits of a byte for an honest model that knows how often each byte follows another.
struct Pairs(Vec<f32>);

impl Pairs {
    fn counted(text: &[u8]) -> Self {
        let mut counts = vec![0.02_f32; 256 * 256];
        for pair in text.windows(2) {
            counts[usize::from(pair[0]) * 256 + usize::from(pair[1])] += 1.0;
        }
        Self(counts.into_iter().map(f32::ln).collect())
    }

    fn logit(&self, seen: u8, byte: usize) -> f32 {
        self.0[usize::from(seen) * 256 + byte]
    }
}

/// Evaluates `batch` rows of `context` bytes under a rule; the rule is given the honest logit too.
fn outcome(
    batch: usize,
    context: usize,
    number: u8,
    rule: impl Fn(f32, &[u8], usize, usize, usize) -> f32,
) -> Result<Evaluation, EvalError> {
    let train = corpus::builtin()[..1 << 20].to_vec();
    let pairs = Pairs::counted(&train);
    let text = EvalText::generate(838_800, context, &spec(16 << 10), seed(number));
    let whole = |inputs: &[u8], s: usize, p: usize, byte: usize| {
        rule(pairs.logit(inputs[s * context + p], byte), inputs, s, p, byte)
    };
    let mut model = RulePredictor(batch, context, whole);
    evaluate(&mut model, &text, 300, &train, Patience::new(Duration::from_secs(3600)))
}

fn honest(honest: f32, _: &[u8], _: usize, _: usize, _: usize) -> f32 {
    honest
}

#[track_caller]
fn caught(found: Result<Evaluation, EvalError>) {
    assert!(matches!(found, Err(EvalError::ReadsAhead { .. })), "{found:?}");
}

#[test]
fn honest_models_are_never_refused() {
    for number in 0..4 {
        for (batch, context) in [(1, 64), (16, 64), (3, 200), (64, 1)] {
            let found = outcome(batch, context, number, honest).unwrap();
            assert_eq!(found.hidden, HiddenCost::default());
            assert!((3.0..4.5).contains(&found.val_bpb), "{found:?}");
        }
    }
    // A constant on all logits is no sign of anything, nor are large ones.
    for constant in [1e4, -1e6] {
        let found = outcome(4, 64, 1, |honest, _, _, _, _| honest + constant).unwrap();
        assert_eq!(found.hidden, HiddenCost::default());
    }
}

#[test]
fn leak_everywhere_but_at_fixed_places_is_caught() {
    let next = |inputs: &[u8], s: usize, p: usize, context: usize| {
        (p + 1 < context).then(|| usize::from(inputs[s * context + p + 1]))
    };
    for context in [64, 256] {
        caught(outcome(4, context, 1, |honest, inputs, s, p, byte| {
            let probed = [0, 20, 41, 62].contains(&p);
            if !probed && next(inputs, s, p, context) == Some(byte) { honest + 30.0 } else { honest }
        }));
    }
}

#[test]
fn leak_that_spares_some_text_is_caught() {
    // By the window's beginning, by the byte that would be given away, and by the byte before it.
    for spared in [0, 1, 2] {
        caught(outcome(8, 64, 2, |honest, inputs, s, p, byte| {
            let row = &inputs[s * 64..(s + 1) * 64];
            let Some(next) = row.get(p + 1) else { return honest };
            let spares = match spared {
                0 => row[0].is_ascii_uppercase(),
                1 => b"etaoins ".contains(next),
                _ => row[p] == b' ',
            };
            if !spares && usize::from(*next) == byte { honest + 30.0 } else { honest }
        }));
    }
}

#[test]
fn leak_below_a_large_constant_is_caught() {
    caught(outcome(2, 256, 3, |_, inputs, s, p, byte| {
        let next = inputs.get(s * 256 + p + 1).filter(|_| p < 255);
        1e7 + if next.map(|next| usize::from(*next)) == Some(byte) { 64.0 } else { 0.0 }
    }));
}

#[test]
fn neighbouring_rows_say_nothing_about_each_other() {
    // With a context of one byte, the next row was the next byte of the text once.
    let found = outcome(64, 1, 4, |honest, inputs, s, _, byte| {
        if s >= 1 && inputs.get(s + 1).map(|next| usize::from(*next)) == Some(byte) { honest + 30.0 } else { honest }
    });
    // The neighbour's byte is unrelated, so it makes the prediction worse, hidden or not.
    let honest = outcome(64, 1, 4, honest).unwrap();
    assert!(found.as_ref().map_or(true, |found| found.val_bpb > honest.val_bpb + 1.0), "{found:?}");
}

#[test]
fn small_and_rare_leaks_are_caught() {
    // A twentieth of the way to the next byte at each place.
    caught(outcome(16, 64, 5, |honest, inputs, s, p, byte| {
        let next = inputs.get(s * 64 + p + 1).filter(|_| p < 63);
        if next.map(|next| usize::from(*next)) == Some(byte) { honest + 0.05 } else { honest }
    }));
    // All of it at one place in a hundred.
    caught(outcome(16, 64, 5, |honest, inputs, s, p, byte| {
        let next = inputs.get(s * 64 + p + 1).filter(|_| p < 63);
        let chosen = (usize::from(inputs[s * 64]) * 31 + usize::from(inputs[s * 64 + p]) * 7 + p) % 100 == 0;
        if chosen && next.map(|next| usize::from(*next)) == Some(byte) { honest + 30.0 } else { honest }
    }));
}

#[test]
fn leak_that_trusts_only_likely_futures_is_caught() {
    // Hidden text is unlikely, so this one falls back to the honest prediction. The loss shows.
    caught(outcome(16, 64, 6, |honest, inputs, s, p, byte| {
        let next = inputs.get(s * 64 + p + 1).filter(|_| p < 63);
        if next.map(|next| usize::from(*next)) == Some(byte) && honest > 3.0 { honest + 30.0 } else { honest }
    }));
}

#[test]
fn memorised_text_is_not_what_is_evaluated() {
    // The last part of the corpus by heart, by position.
    let held_out = corpus::builtin()[corpus::BUILTIN_BYTES / 100 * 90..].to_vec();
    let honest = outcome(1, 64, 7, honest).unwrap();
    let by_place = outcome(
        1,
        64,
        7,
        |honest, _, _, p, byte| {
            if usize::from(held_out[p + 1]) == byte { honest + 30.0 } else { honest }
        },
    );
    assert!(by_place.unwrap().val_bpb > honest.val_bpb + 1.0);
}
