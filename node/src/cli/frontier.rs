//! `spore frontier`: the unbeaten experiments of a task.

use std::io::Write;

use clap::Args as ClapArgs;

use super::{CliError, Context, source::Source, text};
use crate::api::{dto, read::encode};

/// List a task's unbeaten experiments, best first
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The task: its id, a unique prefix of it, or its name [default: the one the node is at]
    #[arg(long, value_name = "ID")]
    task: Option<String>,
    /// Only this hardware class, such as CPU or RTX_4090 [default: all together]
    #[arg(long)]
    class: Option<String>,
    /// Print the records as JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let source = Source::open(context).await?;
    let task = source.task(args.task.as_deref()).await?;
    let class = args.class.as_ref().map(|class| format!("?class={}", encode(class))).unwrap_or_default();
    let frontier: dto::Frontier = source.get(&format!("/tasks/{}/frontier{class}", task.task_id)).await?;
    if args.json {
        return context.json(&frontier.experiments);
    }
    let out = &mut context.out;
    writeln!(
        out,
        "{} ({} of {}, {})",
        text::line(&task.name),
        task.metric,
        frontier.class.as_deref().unwrap_or("all classes"),
        task.goal
    )?;
    if frontier.experiments.is_empty() {
        writeln!(out, "No experiment yet.")?;
        return Ok(());
    }
    let mut table = text::table(["ID", &task.metric, "CLASS", "VERDICT", "DEPTH", "BY", "WHEN", "DESCRIPTION"]);
    for e in &frontier.experiments {
        let by = e.display_name.clone().unwrap_or_else(|| text::short(&e.node_id));
        table.add_row([
            text::short(&e.id),
            text::metric(e.val_bpb),
            e.hardware_class.clone(),
            e.verdict.clone(),
            e.depth.to_string(),
            text::line(&by),
            text::ago(e.timestamp),
            text::line(&e.description),
        ]);
    }
    writeln!(out, "{table}")?;
    Ok(())
}
