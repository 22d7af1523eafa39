//! The rules with models that are rules themselves, so that each result is known.

use std::collections::HashSet;
use std::time::Duration;

use spore_protocol::TaskId;

use super::*;

/// Logits by a rule on (inputs, sequence, position, byte).
pub(super) struct RulePredictor<F>(pub usize, pub usize, pub F);

impl<F: Fn(&[u8], usize, usize, usize) -> f32> Predictor for RulePredictor<F> {
    fn batch(&self) -> usize {
        self.0
    }
    fn context(&self) -> usize {
        self.1
    }
    fn logits(&mut self, inputs: &[u8]) -> Vec<f32> {
        assert_eq!(inputs.len(), self.0 * self.1);
        let cell = |i: usize| (self.2)(inputs, i / VOCAB / self.1, i / VOCAB % self.1, i % VOCAB);
        (0..inputs.len() * VOCAB).map(cell).collect()
    }
}

pub(super) fn spec(eval_bytes: u64) -> EvalSpec {
    EvalSpec { eval_bytes, ..EvalSpec::for_budget(20) }
}

pub(super) fn seed(number: u8) -> EvalSeed {
    EvalSeed::new(TaskId([7; 32]), &[number; 32])
}

fn counted(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 % 251) as u8).collect()
}

fn patient() -> Patience {
    Patience::new(Duration::from_secs(3600))
}

fn plain<F: Fn(&[u8], usize, usize, usize) -> f32>(
    mut model: RulePredictor<F>,
    held_out: &[u8],
    bytes: u64,
) -> Result<f64, EvalError> {
    let text = EvalText::draw(held_out, model.1, &spec(bytes), seed(1)).unwrap();
    bits_per_byte(&mut model, &text)
}

#[test]
fn a_uniform_model_needs_exactly_eight_bits_and_pays_for_its_description() {
    let mut uniform = RulePredictor(3, 5, |_: &[u8], _, _, _| 1.5);
    let text = EvalText::draw(&counted(200), 5, &spec(100), seed(1)).unwrap();
    assert_eq!(bits_per_byte(&mut uniform, &text), Ok(8.0));
    let found = evaluate(&mut uniform, &text, 50, &counted(999), patient()).unwrap();
    assert_eq!((found.bits_per_byte, found.val_bpb), (8.0, 8.0 + 8.0 * (3.0 / 200.0 + 47.0 / 100.0)));
    assert_eq!(found.hidden, HiddenCost::default());
}

#[test]
fn a_model_that_knows_the_next_byte_needs_almost_none() {
    let knows = |inputs: &[u8], s: usize, p: usize, byte: usize| {
        if (inputs[s * 8 + p] as usize + 7) % 251 == byte { 30.0 } else { 0.0 }
    };
    let bits = plain(RulePredictor(2, 8, knows), &counted(400), 200).unwrap();
    assert!(bits < 1e-9, "{bits}");
}

#[test]
fn windows_that_do_not_fill_the_last_batch_count_once() {
    // Half the probability on byte 0: 1 bit for each zero, and zeros pad the last batch.
    let half = |_: &[u8], _, _, byte: usize| if byte == 0 { 255.0_f32.ln() } else { 0.0 };
    let bits = plain(RulePredictor(4, 4, half), &[0; 50], 21).unwrap();
    assert!((bits - 1.0).abs() < 1e-6, "{bits}");
}

#[test]
fn infinite_logits_are_divergence() {
    let broken = RulePredictor(1, 4, |_: &[u8], _, p, _| if p == 0 { f32::NAN } else { 0.0 });
    assert_eq!(plain(broken, &counted(100), 50), Err(EvalError::NotFinite));
}

#[test]
fn windows_are_disjoint_and_come_from_the_whole_held_out_part() {
    let held_out: Vec<u8> = (0..60_000_u32).flat_map(u32::to_be_bytes).collect();
    let mut seen = HashSet::new();
    let mut neighbours = 0;
    let text = EvalText::draw(&held_out, 64, &spec(64 << 10), seed(3)).unwrap();
    assert_eq!((text.windows(), text.targets()), (1024, 64 << 10));
    let mut last = 0;
    for number in 0..text.windows() {
        let window = text.window(number);
        let start = held_out.windows(65).position(|at| at == window).unwrap();
        assert!(seen.insert(start / 64), "window {number} overlaps another");
        neighbours += usize::from(start.abs_diff(last) == 64);
        last = start;
    }
    assert!(*seen.iter().max().unwrap() > 3500 && *seen.iter().min().unwrap() < 200);
    assert!(neighbours < 20, "{neighbours} rows stand beside their neighbour in the text");
    let other = EvalText::draw(&held_out, 64, &spec(64 << 10), seed(4)).unwrap();
    assert_ne!(text.window(0), other.window(0));
}

#[test]
fn long_contexts_and_small_held_out_parts_give_windows_too() {
    for (held_out, context, bytes) in [(5001, 10_000, 5000), (5001, 3000, 5000), (5001, 1, 5000), (9, 8, 8), (2, 1, 1)]
    {
        let text = EvalText::draw(&counted(held_out), context, &spec(bytes), seed(1)).unwrap();
        assert!(text.targets() >= 1 && text.targets() as u64 <= bytes && text.window(0).len() == text.width() + 1);
        assert_eq!(text.places().len(), 1024);
        let counts = |place: &Place| place.window * text.width() + place.at < text.targets();
        assert!(text.places().iter().all(counts));
    }
    assert!(EvalText::draw(&counted(5000), 64, &spec(5000), seed(1)).is_none());
}

#[test]
fn no_pass_hides_two_places_of_one_window() {
    let text = EvalText::draw(&counted(1000), 64, &spec(900), seed(1)).unwrap();
    for batch in [1, 4, 15, 16, 100] {
        let passes = text.hidden_passes(batch);
        assert_eq!(passes.iter().map(|places| places.len()).sum::<usize>(), 1024);
        for places in passes {
            let windows: HashSet<usize> = places.iter().map(|place| place.window).collect();
            assert!(windows.len() == places.len() && places.len() <= batch);
        }
    }
}

#[test]
fn generated_text_differs_by_task_and_graph() {
    let text = |task, graph| {
        let seed = EvalSeed::new(TaskId([task; 32]), &[graph; 32]);
        EvalText::generate(1000, 64, &spec(4096), seed).window(5).to_vec()
    };
    assert_eq!(text(1, 1), text(1, 1));
    assert_ne!(text(1, 1), text(2, 1));
    assert_ne!(text(1, 1), text(1, 2));
}

#[test]
fn slow_evaluations_end_early() {
    let slow = |_: &[u8], _, _, _| {
        std::thread::sleep(Duration::from_micros(4));
        0.0
    };
    let mut model = RulePredictor(1, 1, slow);
    let text = EvalText::draw(&counted(5000), 1, &spec(4000), seed(1)).unwrap();
    let error = evaluate(&mut model, &text, 1, &counted(99), Patience::new(Duration::from_millis(50))).unwrap_err();
    assert!(matches!(error, EvalError::TooSlow { passes: 5024, .. }), "{error}");
}
