//! What an evaluation costs and how much it varies:
//! `cargo run --release --example evaluation_bench -- [SCRIPT] [DEVICE] [SECONDS]`.
//!
//! Trains a script, then measures on the same model in the same run: the plain pass over the text
//! (the baseline), the whole evaluation, and evaluation version 1 (the plain pass and the 14 passes
//! of its two checks). Then it scores the model on the text of other seeds, and on the corpus' own
//! held-out part, which shows whether fresh text is as hard and how much luck there is in a seed.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use spore_protocol::TaskId;
use spore_trainer::data::ByteDataset;
use spore_trainer::device::{DeviceChoice, resolve};
use spore_trainer::evaluate::{EvalSeed, EvalSpec, EvalText, Patience, Predictor as _, bits_per_byte, evaluate};
use spore_trainer::exec::Executor;
use spore_trainer::exec::train::{Length, train};
use spore_trainer::lang;
use spore_trainer::memory::processor_time;

/// Seeds whose texts are compared.
const SEEDS: u8 = 12;
/// Passes of the two checks of version 1, each with four places and two changes of the batch.
const OLD_CHECKS: usize = 14;
/// Longer than any evaluation here takes.
const PATIENCE: Duration = Duration::from_secs(3600);

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let script = arguments.next().context("name a train script")?;
    let choice: DeviceChoice = arguments.next().unwrap_or_else(|| "flex".into()).parse()?;
    let seconds: u64 = arguments.next().unwrap_or_else(|| "20".into()).parse()?;
    let (device, _) = resolve(choice)?;
    let text = std::fs::read_to_string(&script).with_context(|| script.clone())?;
    let graph = lang::trace(&text, &lang::Limits::default())?.graph;
    let (dataset, spec, description) =
        (ByteDataset::builtin(), EvalSpec::for_budget(seconds), graph.description_bytes());
    let seed = |number: u8| EvalSeed::new(TaskId([number; 32]), &graph.hash());
    let texts: Vec<EvalText> =
        (0..SEEDS).map(|number| dataset.eval_text(&spec, &graph, seed(number))).collect::<Result<_, _>>()?;
    let (train_bytes, held_out) = dataset.split(&spec, &graph)?;
    let old_texts: Vec<EvalText> =
        (0..SEEDS).filter_map(|number| EvalText::draw(held_out, graph.context, &spec, seed(number))).collect();
    let first = texts.first().context("no text")?;

    let mut executor = Executor::new(graph, device, 1);
    let length = Length::Budget(Duration::from_secs(seconds));
    let (spent, trained) = timed(|| train(&mut executor, train_bytes, length, &mut |_| {}, &mut |_, _| {}));
    println!("training      {spent}, {} steps", trained?.steps);
    let (spent, plain) = timed(|| bits_per_byte(&mut executor, first));
    println!("plain pass    {spent}, {} bytes, {:.4} bits", first.targets(), plain?);
    let inputs = vec![0; executor.batch() * executor.context()];
    let (spent, _) = timed(|| {
        (0..OLD_CHECKS).for_each(|_| drop(executor.logits(&inputs)));
        bits_per_byte(&mut executor, first)
    });
    println!("version 1     {spent}");
    let (spent, found) = timed(|| evaluate(&mut executor, first, description, train_bytes, Patience::new(PATIENCE)));
    let found = found?;
    println!("version 2     {spent}, val_bpb {:.4}, description {description} bytes", found.val_bpb);
    println!("hidden        {:+.6} bits a byte (+- {:.6})", found.hidden.mean, found.hidden.error);
    for (name, texts) in [("fresh text", texts), ("own held-out", old_texts)] {
        let bits = texts.iter().map(|text| bits_per_byte(&mut executor, text)).collect::<Result<Vec<_>, _>>()?;
        let count = bits.len().max(1) as f64;
        let mean = bits.iter().sum::<f64>() / count;
        let deviation = (bits.iter().map(|bits| (bits - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0)).sqrt();
        println!("{name:13} {mean:.4} bits in the mean over {count} seeds, standard deviation {deviation:.4}");
    }
    Ok(())
}

/// The time of some work, as text, and its result.
fn timed<T>(work: impl FnOnce() -> T) -> (String, T) {
    let (start, processor) = (Instant::now(), processor_time());
    let result = work();
    let spent = processor_time().saturating_sub(processor).as_secs_f64();
    (format!("{:7.2} s by the clock, {spent:7.2} processor seconds", start.elapsed().as_secs_f64()), result)
}
