//! How fast a script trains here: `cargo run --release --example train_bench -- [SCRIPT] [DEVICE] [SECONDS]`.
//!
//! Prints steps, bytes and floating-point operations each second, beside a baseline measured in
//! the same run on the same device: one square matrix product after another.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use burn::tensor::{Device, Distribution, Tensor};
use spore_protocol::TaskId;
use spore_trainer::data::ByteDataset;
use spore_trainer::device::{DeviceChoice, resolve};
use spore_trainer::evaluate::{EvalSeed, EvalSpec, Patience, evaluate};
use spore_trainer::exec::Executor;
use spore_trainer::exec::train::{Length, train};
use spore_trainer::lang;

/// Side of the baseline's matrices: large enough for a processor's and a small GPU's full speed.
const BASELINE_SIDE: usize = 1024;
const BASELINE_TIME: Duration = Duration::from_secs(2);

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let script = arguments.next().context("name a train script")?;
    let choice: DeviceChoice = arguments.next().unwrap_or_else(|| "flex".into()).parse()?;
    let seconds: u64 = arguments.next().unwrap_or_else(|| "20".into()).parse()?;
    let (device, profile) = resolve(choice)?;
    println!("device      {} ({:?} {})", profile.gpu_model, profile.backend, profile.driver);
    let baseline = baseline(&device)?;

    let script = std::fs::read_to_string(&script).with_context(|| script.clone())?;
    let graph = lang::trace(&script, &lang::Limits::default())?.graph;
    let flops = graph.flops_per_step() as f64;
    let bytes = (graph.batch * graph.context) as f64;
    println!("model       {} parameters, {:.2} GFLOP a step of {bytes} bytes", graph.num_params(), flops / 1e9);

    let (dataset, spec) = (ByteDataset::builtin(), EvalSpec::for_budget(seconds));
    let (train_bytes, _) = dataset.split(&spec, &graph)?;
    let text = dataset.eval_text(&spec, &graph, EvalSeed::new(TaskId([0; 32]), &graph.hash()))?;
    let description = graph.description_bytes();
    let mut executor = Executor::new(graph, device, 1);
    let length = Length::Budget(Duration::from_secs(seconds));
    let (mut began, mut planned) = (Instant::now(), 0);
    let trained = train(
        &mut executor,
        train_bytes,
        length,
        &mut |steps| (began, planned) = (Instant::now(), steps),
        &mut |at, _| {
            if at.step == at.steps {
                println!("loss        {:.4} nats", at.loss);
            }
        },
    )?;
    let took = began.elapsed().as_secs_f64();
    let rate = trained.steps as f64 / took;
    println!("training    {planned} steps in {took:.1} s: {rate:.2} steps/s, {:.0} bytes/s", rate * bytes);
    println!(
        "compute     {:.1} GFLOP/s; matrix products alone {:.1} GFLOP/s: {:.0} % of them",
        rate * flops / 1e9,
        baseline / 1e9,
        100.0 * rate * flops / baseline
    );
    let start = Instant::now();
    let patience = Patience::new(Duration::from_secs(3600));
    let bits = evaluate(&mut executor, &text, description, train_bytes, patience)?.val_bpb;
    println!("evaluation  val_bpb {bits:.4} over {} bytes in {:.1} s", spec.eval_bytes, start.elapsed().as_secs_f64());
    Ok(())
}

/// Floating-point operations each second of plain matrix products.
fn baseline(device: &Device) -> anyhow::Result<f64> {
    let side = BASELINE_SIDE;
    let matrix = || Tensor::<2>::random([side, side], Distribution::Default, device);
    let (a, b) = (matrix(), matrix());
    let _ = a.clone().matmul(b.clone()).sum().try_into_scalar::<f32>()?;
    let (start, mut products) = (Instant::now(), 0_u32);
    while start.elapsed() < BASELINE_TIME {
        for _ in 0..8 {
            let _ = a.clone().matmul(b.clone());
            products += 1;
        }
        device.sync()?;
    }
    Ok(2.0 * (side as f64).powi(3) * f64::from(products) / start.elapsed().as_secs_f64())
}
