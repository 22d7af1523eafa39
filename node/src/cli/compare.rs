//! `spore compare`: what differs between experiments, and whether the difference of their results is more than noise.

use std::io::{self, Write};

use clap::Args as ClapArgs;
use spore_api::{
    dto::{ExperimentDetail, Noise, TaskSummary},
    route::Route,
};
use spore_lab::research::record::unified_diff;
use spore_protocol::{
    Goal,
    noise::{self, Gain},
};

use super::{CliError, Context, access::NodeAccess, text};

/// Compare experiments: their results, sizes and scripts
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "The first experiment is compared with each of the others. The results of two scripts may differ by luck: \
        the interval and the probability of chance follow from the noise of the hardware class (`spore noise`)."
)]
pub struct Args {
    /// The experiments: their ids, or unique prefixes of the ids
    #[arg(required = true, num_args = 2..=8, value_name = "ID")]
    ids: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let source = NodeAccess::open(context).await?;
    let mut details = Vec::<ExperimentDetail>::new();
    for id in &args.ids {
        details.push(source.get(&Route::Experiment(id.clone())).await?);
    }
    let Some((first, others)) = details.split_first() else { return Ok(()) };
    let task: TaskSummary = source.get(&Route::Task(first.experiment.task_id.clone())).await?;
    let class = task.classes.iter().find(|class| class.class == first.experiment.hardware_class);
    let noise = class.and_then(|class| class.noise);
    if args.json {
        let compared: Vec<_> = others.iter().map(|other| as_json(first, other, noise.as_ref())).collect();
        return context.json(&compared);
    }
    for other in others {
        print(&mut context.out, first, other, noise.as_ref())?;
    }
    Ok(())
}

/// Why the results of two experiments say nothing about each other. None when they do.
fn incomparable(a: &ExperimentDetail, b: &ExperimentDetail) -> Option<&'static str> {
    let (x, y) = (&a.experiment, &b.experiment);
    if x.task_id != y.task_id {
        Some("they are of different tasks")
    } else if x.hardware_class != y.hardware_class {
        Some("they are of different hardware classes")
    } else if x.status == "crash" || y.status == "crash" {
        Some("a crash has no result")
    } else {
        None
    }
}

/// How two results differ, in words.
fn judged(a: &ExperimentDetail, b: &ExperimentDetail) -> String {
    if let Some(why) = incomparable(a, b) {
        return format!("not comparable: {why}");
    }
    let difference = b.experiment.val_bpb - a.experiment.val_bpb;
    let second_wins = noise::improvement(goal(a), b.experiment.val_bpb, a.experiment.val_bpb) > 0.0;
    let winner = if second_wins { b } else { a };
    let side =
        if difference == 0.0 { "equal".into() } else { format!("{} is better", text::short(&winner.experiment.id)) };
    format!("{difference:+.6} ({side})")
}

fn goal(detail: &ExperimentDetail) -> Goal {
    if detail.goal == "maximize" { Goal::Maximize } else { Goal::Minimize }
}

/// What the second experiment is better than the first by, with its certainty: by repeats of both where one is the other's
/// parent, else by the noise of the class.
fn gain(a: &ExperimentDetail, b: &ExperimentDetail, known: Option<&Noise>) -> Option<Gain> {
    if incomparable(a, b).is_some() {
        return None;
    }
    if let Some(own) = b.experiment.gain.as_ref().filter(|gain| gain.parent == a.experiment.id)
        && let (Some(gain), Some(low), Some(high), Some(p)) = (own.gain, own.low, own.high, own.p)
    {
        return Some(Gain { gain, low, high, p, runs: usize::try_from(own.runs).unwrap_or(usize::MAX) });
    }
    let noise = noise::Noise { deviation: known?.deviation, freedom: known?.freedom };
    Some(Gain::single(goal(a), b.experiment.val_bpb, a.experiment.val_bpb, &noise))
}

fn diff(a: &ExperimentDetail, b: &ExperimentDetail) -> Option<String> {
    Some(unified_diff("train.star", a.code.as_deref()?, b.code.as_deref()?))
}

fn as_json(a: &ExperimentDetail, b: &ExperimentDetail, noise: Option<&Noise>) -> serde_json::Value {
    let comparable = incomparable(a, b).is_none();
    let gain = gain(a, b, noise).map(|gain| {
        serde_json::json!({
            "gain": gain.gain, "low": gain.low, "high": gain.high, "p": gain.p, "runs": gain.runs, "words": gain.words(),
        })
    });
    serde_json::json!({
        "a": a.experiment, "b": b.experiment, "comparable": comparable,
        "difference": comparable.then_some(b.experiment.val_bpb - a.experiment.val_bpb),
        "gain": gain, "tolerance": a.judgement.tolerance, "diff": diff(a, b),
    })
}

fn print(out: &mut dyn Write, a: &ExperimentDetail, b: &ExperimentDetail, noise: Option<&Noise>) -> io::Result<()> {
    let (x, y) = (&a.experiment, &b.experiment);
    let row = |name: &str, a: String, b: String| format!("{name:<12} {a:<24} {b}");
    let metric = |e: &spore_api::dto::Experiment| {
        if e.status == "crash" { "-".to_owned() } else { text::metric(e.val_bpb) }
    };
    writeln!(out, "{}", row("Experiment", text::short(&x.id), text::short(&y.id)))?;
    writeln!(out, "{}", row("Status", x.status.clone(), y.status.clone()))?;
    writeln!(out, "{}", row(&text::line(&a.metric), metric(x), metric(y)))?;
    writeln!(out, "{}", row("Verdict", x.verdict.clone(), y.verdict.clone()))?;
    writeln!(out, "{}", row("Class", x.hardware_class.clone(), y.hardware_class.clone()))?;
    writeln!(out, "{}", row("Steps", x.num_steps.to_string(), y.num_steps.to_string()))?;
    writeln!(out, "{}", row("Parameters", x.num_params.to_string(), y.num_params.to_string()))?;
    writeln!(out, "Difference   {}", judged(a, b))?;
    if incomparable(a, b).is_none() {
        let told = gain(a, b, noise).map_or_else(|| text::UNMEASURED.to_owned(), |gain| text::certainty(&gain));
        writeln!(out, "Gain         {told}")?;
    }
    if x.num_steps != y.num_steps {
        writeln!(out, "             the numbers of steps differ: part of the difference may be the machine's speed")?;
    }
    match diff(a, b) {
        Some(diff) if diff.is_empty() => writeln!(out, "Scripts      are the same\n"),
        Some(diff) => writeln!(out, "\n{}\n", text::lines(&diff)),
        None => writeln!(out, "Scripts      this node does not have both of them\n"),
    }
}
