//! Searches for train scripts that score better than they should:
//! `cargo run --release --example cheat_search -- [TRIES] [SEED]`.
//!
//! The honest scripts and the cheats of `tests/` are mutated by statements and words. A mutant that the
//! host accepts is tried in two ways. Its logits are compared to the bit while later bytes and other rows
//! change: a difference is a hole in the proof. And it is trained for a few steps and evaluated: one that
//! scores better than all honest scripts by a margin is looked at by a person. Both are minimised, by
//! statements, before they are printed.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use burn::tensor::Device;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use spore_protocol::TaskId;
use spore_trainer::data::ByteDataset;
use spore_trainer::evaluate::{EvalSeed, EvalSpec, Patience, Predictor as _, evaluate};
use spore_trainer::exec::Executor;
use spore_trainer::exec::train::{Length, train};
use spore_trainer::graph::{Graph, Init};
use spore_trainer::lang;

/// Steps of training: enough for any leak that is used to show.
const STEPS: u64 = 60;
/// Bits a byte below the best honest script that are worth a look.
const MARGIN: f64 = 0.15;
/// Most operations of a mutant, so that a try takes a moment.
const OPERATIONS: usize = 600;
/// Most elements of one value of a mutant.
const ELEMENTS: u64 = 1 << 21;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let tries: u64 = arguments.next().unwrap_or_else(|| "2000".into()).parse()?;
    let seed: u64 = arguments.next().unwrap_or_else(|| "1".into()).parse()?;
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let (honest, cheats) = (scripts(&tests.join("honest"))?, scripts(&tests.join("cheats"))?);
    let lines: Vec<String> = honest.iter().chain(&cheats).flat_map(|script| body(script)).collect();
    let dataset = ByteDataset::builtin();
    let mut best = f64::INFINITY;
    for script in &honest {
        if let Some(score) = accepted(script).and_then(|graph| score(graph, &dataset)) {
            best = best.min(score);
        }
    }
    println!("best honest script: {best:.4} bits a byte after {STEPS} steps");
    let mut search = Search { random: ChaCha8Rng::seed_from_u64(seed), lines, dataset, best, traced: 0, found: 0 };
    for _ in 0..tries {
        let kind = if search.below(3) == 0 { &cheats } else { &honest };
        let base = search.pick(kind);
        let mutant = search.mutant(&base);
        search.look(&mutant);
    }
    println!("{tries} tries, {} accepted, {} found", search.traced, search.found);
    Ok(())
}

fn scripts(folder: &Path) -> anyhow::Result<Vec<String>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    paths.sort();
    let stars = paths.iter().filter(|path| path.extension().is_some_and(|end| end == "star"));
    stars.map(|path| Ok(std::fs::read_to_string(path)?)).collect()
}

/// The statements of a script's functions.
fn body(script: &str) -> Vec<String> {
    let inside = script.lines().filter(|line| line.starts_with("    ") && !line.contains("return"));
    inside.map(str::to_owned).collect()
}

fn accepted(script: &str) -> Option<Graph> {
    let limits = lang::Limits { nodes: OPERATIONS, value_elements: ELEMENTS, ..lang::Limits::default() };
    lang::trace(script, &limits).ok().map(|traced| traced.graph)
}

/// Bits a byte of a graph after a few steps, if the host gives it a metric.
fn score(graph: Graph, dataset: &ByteDataset) -> Option<f64> {
    let spec = EvalSpec { eval_bytes: 4096, ..EvalSpec::for_budget(1) };
    let (training, _) = dataset.split(&spec, &graph).ok()?;
    let text = dataset.eval_text(&spec, &graph, EvalSeed::new(TaskId([0; 32]), &graph.hash())).ok()?;
    let description = graph.description_bytes();
    let mut executor = Executor::new(graph, Device::flex(), 1);
    let length = Length::Steps { steps: STEPS, limit: Duration::from_secs(20) };
    train(&mut executor, training, length, &mut |_| {}, &mut |_, _| {}).ok()?;
    let patience = Patience::new(Duration::from_secs(60));
    evaluate(&mut executor, &text, description, training, patience).ok().map(|found| found.val_bpb)
}

/// Whether an earlier logit, or one of another row, changes with later bytes. Weights are random.
fn leaks(mut graph: Graph) -> bool {
    graph.params.iter_mut().for_each(|param| param.init = Init::Normal(0.4));
    let (batch, context) = (graph.batch, graph.context);
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let mut bytes = || -> Vec<u8> { (0..batch * context).map(|_| random.next_u32() as u8).collect() };
    let (base, other) = (bytes(), bytes());
    let mut executor = Executor::new(graph, Device::flex(), 5);
    let before = executor.logits(&base);
    let rows = [0, batch.saturating_sub(1)];
    let cuts = rows.into_iter().flat_map(|row| (0..context).map(move |cut| (row, cut)));
    let mut differs = |(row, cut): (usize, usize)| {
        let keep = |i: usize| i / context == row && i % context <= cut;
        let pairs = base.iter().zip(&other).enumerate();
        let mixed: Vec<u8> = pairs.map(|(i, (base, other))| if keep(i) { *base } else { *other }).collect();
        let after = executor.logits(&mixed);
        let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        let from = row * context * 256;
        !before.iter().zip(&after).skip(from).take((cut + 1) * 256).all(same)
    };
    cuts.into_iter().any(&mut differs)
}

struct Search {
    random: ChaCha8Rng,
    lines: Vec<String>,
    dataset: ByteDataset,
    best: f64,
    traced: u64,
    found: u64,
}

/// Why a mutant is of interest.
#[derive(Clone, Copy, PartialEq)]
enum Interest {
    Leak,
    Score,
}

impl Search {
    fn below(&mut self, bound: usize) -> usize {
        self.random.next_u32() as usize % bound.max(1)
    }

    fn pick(&mut self, of: &[String]) -> String {
        let at = self.below(of.len());
        of.get(at).cloned().unwrap_or_default()
    }

    /// The script with one to three changes.
    fn mutant(&mut self, base: &str) -> String {
        let mut lines: Vec<String> = base.lines().map(str::to_owned).collect();
        for _ in 0..1 + self.below(3) {
            let inside: Vec<usize> =
                lines.iter().enumerate().filter(|(_, line)| line.starts_with("    ")).map(|(i, _)| i).collect();
            let at = self.below(inside.len());
            let Some(at) = inside.get(at).copied() else { continue };
            let line = lines.get(at).cloned().unwrap_or_default();
            match self.below(6) {
                0 => {
                    let other = self.pick(&self.lines.clone());
                    lines.insert(at, other);
                }
                1 if !line.contains("return") => {
                    lines.remove(at);
                }
                2 => {
                    let other = self.below(inside.len());
                    if let Some(other) = inside.get(other) {
                        lines.swap(at, *other);
                    }
                }
                _ => {
                    let changed = self.reworded(&line, base);
                    if let Some(slot) = lines.get_mut(at) {
                        *slot = changed;
                    }
                }
            }
        }
        lines.join("\n") + "\n"
    }

    /// The line with one word or number exchanged for one of the script or the language.
    fn reworded(&mut self, line: &str, script: &str) -> String {
        const WORDS: &[&str] = &[
            "0",
            "1",
            "2",
            "3",
            "-1",
            "4",
            "x",
            "softmax",
            "causal_mask",
            "relu",
            "exp",
            "maximum",
            "minimum",
            "shift",
            "transpose",
            "sum",
            "mean",
            "max",
            "abs",
            "square",
            "rms_norm",
            "axis=0",
            "axis=1",
            "axis=2",
            "1e30",
            "1e38",
            "1e-30",
            "div",
            "sub",
            "detach",
            "sigmoid",
            "log",
            "sqrt",
            "+",
            "-",
            "*",
            "/",
        ];
        let spans: Vec<(usize, usize)> = words(line);
        let at = self.below(spans.len());
        let Some((start, end)) = spans.get(at).copied() else { return line.to_owned() };
        let other = if self.random.next_u32().is_multiple_of(2) {
            let spans = words(script);
            let at = self.below(spans.len());
            spans.get(at).and_then(|(start, end)| script.get(*start..*end)).unwrap_or("x").to_owned()
        } else {
            let at = self.below(WORDS.len());
            WORDS.get(at).copied().unwrap_or("x").to_owned()
        };
        let (head, tail) = (line.get(..start).unwrap_or_default(), line.get(end..).unwrap_or_default());
        format!("{head}{other}{tail}")
    }

    fn interest(&self, script: &str) -> Option<Interest> {
        let graph = accepted(script)?;
        // Honest scripts of one size: a longer context is an honest way to a better score.
        if graph.batch * graph.context > 64 {
            return None;
        }
        if leaks(graph.clone()) {
            return Some(Interest::Leak);
        }
        let score = score(graph, &self.dataset)?;
        (score < self.best - MARGIN).then_some(Interest::Score)
    }

    fn look(&mut self, mutant: &str) {
        if accepted(mutant).is_none() {
            return;
        }
        self.traced += 1;
        let Some(interest) = self.interest(mutant) else { return };
        self.found += 1;
        let least = self.minimised(mutant, interest);
        let what = if interest == Interest::Leak { "LEAK" } else { "SCORE" };
        let score = accepted(&least).and_then(|graph| score(graph, &self.dataset));
        println!("--- {what}, scores {score:?}\n{least}");
    }

    /// The script without the statements that its interest does not need.
    fn minimised(&self, script: &str, interest: Interest) -> String {
        let mut lines: Vec<String> = script.lines().map(str::to_owned).collect();
        let mut at = lines.len();
        while at > 0 {
            at -= 1;
            let mut fewer = lines.clone();
            fewer.remove(at);
            if self.interest(&(fewer.join("\n") + "\n")) == Some(interest) {
                lines = fewer;
            }
        }
        lines.join("\n") + "\n"
    }
}

/// Names, numbers and signs of a text, as ranges of bytes.
fn words(text: &str) -> Vec<(usize, usize)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let mut spans = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices() {
        if is_word(c) {
            start.get_or_insert(at);
            continue;
        }
        spans.extend(start.take().map(|start| (start, at)));
        if "+-*/".contains(c) {
            spans.push((at, at + 1));
        }
    }
    spans.extend(start.map(|start| (start, text.len())));
    spans
}
