//! `spore noise`: how much the results of a task differ by chance on this hardware, and which difference is believable.

use std::io::{self, Write};

use clap::Args as ClapArgs;
use spore_api::{
    dto::{ClassSummary, Noise, TaskSummary},
    route::Route,
};
use spore_lab::{
    engine::EngineError,
    research::base_noise::{self, RUNS_MOST, USUAL_RUNS, Wish},
};
use spore_protocol::TaskId;
use tokio::sync::watch;

use super::{
    CliError, Context, ErrorKind,
    access::NodeAccess,
    attempt::{Local, engine_error},
    output, text,
};
use crate::{genesis, runtime};

/// Measure how much results differ by chance: runs of the task's base script with several seeds
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "A result is progress only if it is better than its parent by more than noise. A node measures the noise of \
        its hardware class by itself before its first change; this command measures it now, or with more runs. Runs that \
        are known are not made again. The results are signed, and nodes that trust this one use them. Beside a running \
        node, and with `--show`, the command only prints what is known."
)]
pub struct Args {
    /// The task: its id, a unique prefix of the id, or its name [default: the task that the node works on]
    #[arg(long, value_name = "ID")]
    task: Option<String>,
    /// Runs that shall be known, each with a seed of its own
    #[arg(long, value_name = "K", default_value_t = USUAL_RUNS, value_parser = clap::value_parser!(u32).range(3..=i64::from(RUNS_MOST)))]
    runs: u32,
    /// Train exactly N steps in each run [default: as many as fit into the task's time]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// The device: auto, wgpu or flex [default: that of config.toml]
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Run nothing: print what is known
    #[arg(long)]
    show: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let source = if args.show {
        NodeAccess::open(context).await?
    } else {
        let (source, identity) = NodeAccess::open_to_write(context).await?;
        if let Some((store, ingest)) = source.local() {
            genesis::install(&ingest, &store).await?;
            let task = source.task(args.task.as_deref()).await?;
            let id = task.task_id.parse().map_err(|_| CliError::failed("the task has no proper id"))?;
            measure(args, context, Local { store, ingest, identity, task: id }).await?;
        } else if !args.json {
            output::message("a node is running, and measures the noise by itself: this is what is known");
        }
        source
    };
    let task = source.task(args.task.as_deref()).await?;
    let task: TaskSummary = source.get(&Route::Task(task.task_id)).await?;
    let known = task.classes.iter().filter_map(|class| Some((class, class.noise.as_ref()?))).collect::<Vec<_>>();
    if args.json {
        let known: Vec<_> =
            known.iter().map(|(class, noise)| serde_json::json!({ "class": class.class, "noise": noise })).collect();
        return context.json(&known);
    }
    if known.is_empty() {
        return Err(CliError::new(ErrorKind::NotFound, "no noise of this task is known")
            .hint("`spore noise` measures it while no node runs; a node that does research measures it by itself"));
    }
    Ok(print(&mut context.out, &task, &known)?)
}

/// Runs the base script until so many seeds are known.
async fn measure(args: &Args, context: &Context, local: Local) -> Result<(), CliError> {
    let task: TaskId = local.task;
    let engine = local.engine(args.device.as_deref(), context).await?;
    let (stop, mut shutdown) = watch::channel(false);
    let wish = Wish { task, runs: args.runs, steps: args.steps };
    let mut progress = engine.progress.subscribe();
    let told = async {
        let mut last = String::new();
        while progress.changed().await.is_ok() {
            let now = progress.borrow_and_update().as_ref().map(|run| run.description.clone());
            if let Some(now) = now.filter(|now| *now != last) {
                output::message(&now);
                last = now;
            }
        }
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        done = base_noise::measure(&engine, wish, &mut shutdown) => done.map(|_| ()),
        () = told => Err(EngineError::Stopped),
        () = async { runtime::asked_to_stop().await; stop.send_replace(true); std::future::pending().await } => {
            Err(EngineError::Stopped)
        }
    };
    ended.map_err(engine_error)
}

fn print(out: &mut dyn Write, task: &TaskSummary, known: &[(&ClassSummary, &Noise)]) -> io::Result<()> {
    writeln!(out, "{}: noise of {}", text::name(&task.name), text::line(&task.metric))?;
    for (class, noise) in known {
        let (runs, signers) = (text::count(noise.runs, "run", "runs"), text::count(noise.signers, "node", "nodes"));
        writeln!(out, "\nClass        {}", class.class)?;
        writeln!(out, "Measured     {runs} of {} steps, by {signers}", noise.steps)?;
        writeln!(out, "Mean         {}", text::metric(noise.mean))?;
        writeln!(out, "Deviation    {:.6} of a single run, {} degrees of freedom", noise.deviation, noise.freedom)?;
        writeln!(out, "Believable   a difference of {:.6} between two single runs", noise.believable_one)?;
        writeln!(out, "             {:.6} between the means of four runs each", noise.believable_four)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_printed_with_what_is_believable() {
        let class: ClassSummary = serde_json::from_value(serde_json::json!({
            "class": "CPU_16X32", "experiment_count": 1, "verified_count": 1, "frontier_size": 1, "global_frontier_size": 0,
            "claims_count": 0, "best": null, "best_id": null, "best_global": null, "best_global_id": null,
            "tolerance": 0.002, "noise": { "runs": 8, "signers": 1, "steps": 1000, "mean": 1.538, "deviation": 0.037,
            "freedom": 7, "believable_one": 0.183, "believable_four": 0.0915 }
        }))
        .unwrap();
        let noise = class.noise.unwrap();
        let printed = text::printed(|out| print(out, &text::task("t", "tiny"), &[(&class, &noise)]));
        for part in ["CPU_16X32", "8 runs of 1000 steps, by 1 node", "0.183000 between two single runs"] {
            assert!(printed.contains(part), "{printed}");
        }
    }
}
