//! `spore compare`: what differs between experiments, and whether the difference of their results is more than the
//! tolerance of their class.

use std::io::{self, Write};

use clap::Args as ClapArgs;
use spore_api::{dto::ExperimentDetail, route::Route};
use spore_lab::research::record::unified_diff;

use super::{CliError, Context, access::NodeAccess, text};

/// Compare experiments: their results, sizes and scripts
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "The first experiment is compared with each of the others. One result of a script may be luck: `spore try \
        --seeds N` measures how much the results of a script differ."
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
    if args.json {
        let compared: Vec<_> = others.iter().map(|other| as_json(first, other)).collect();
        return context.json(&compared);
    }
    for other in others {
        print(&mut context.out, first, other)?;
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
    let tolerance = a.judgement.tolerance;
    let size = if difference.abs() <= tolerance { "within" } else { "more than" };
    let second_wins = if a.goal == "maximize" { difference > 0.0 } else { difference < 0.0 };
    let winner = if second_wins { b } else { a };
    let side =
        if difference == 0.0 { "equal".into() } else { format!("{} is better", text::short(&winner.experiment.id)) };
    format!(
        "{difference:+.6} ({side}, {size} the tolerance of {tolerance} for one script; two scripts may differ more by luck)"
    )
}

fn diff(a: &ExperimentDetail, b: &ExperimentDetail) -> Option<String> {
    Some(unified_diff("train.star", a.code.as_deref()?, b.code.as_deref()?))
}

fn as_json(a: &ExperimentDetail, b: &ExperimentDetail) -> serde_json::Value {
    let comparable = incomparable(a, b).is_none();
    serde_json::json!({
        "a": a.experiment, "b": b.experiment, "comparable": comparable,
        "difference": comparable.then_some(b.experiment.val_bpb - a.experiment.val_bpb),
        "tolerance": a.judgement.tolerance, "diff": diff(a, b),
    })
}

fn print(out: &mut dyn Write, a: &ExperimentDetail, b: &ExperimentDetail) -> io::Result<()> {
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
    if x.num_steps != y.num_steps {
        writeln!(out, "             the numbers of steps differ: part of the difference may be the machine's speed")?;
    }
    match diff(a, b) {
        Some(diff) if diff.is_empty() => writeln!(out, "Scripts      are the same\n"),
        Some(diff) => writeln!(out, "\n{}\n", text::lines(&diff)),
        None => writeln!(out, "Scripts      this node does not have both of them\n"),
    }
}
