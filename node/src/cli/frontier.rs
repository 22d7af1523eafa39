//! `spore frontier`: the best experiments of a task.

use std::io::Write;

use clap::Args as ClapArgs;
use spore_api::{dto::Experiment, query::Query, route::Route};
use spore_protocol::HardwareClass;

use super::{
    CliError, Context,
    access::NodeAccess,
    listing::{self, Listed},
    text,
};

/// List the frontier of a task: the experiments that no descendant has beaten, best first
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The task: its id, a unique prefix of the id, or its name [default: the task that the node works on]
    #[arg(long, value_name = "ID")]
    task: Option<String>,
    /// Show one hardware class only, such as CPU or RTX_4090 [default: all classes]
    #[arg(long)]
    class: Option<String>,
    /// Show at most N experiments
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = listing::limits())]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let source = NodeAccess::open(context).await?;
    let task = source.task(args.task.as_deref()).await?;
    let query = args.class.iter().fold(Query::default(), |query, class| query.with("class", class));
    let route = Route::Frontier(task.task_id.clone());
    let Listed { items, more } = listing::read::<Experiment>(&source, &route, &query, args.limit).await?;
    if args.json {
        return context.json(&items);
    }
    let out = &mut context.out;
    let class = args.class.as_deref().map(HardwareClass::of);
    writeln!(
        out,
        "{} ({} of {}, {})",
        text::line(&task.name),
        task.metric,
        class.as_ref().map_or("all classes", HardwareClass::as_str),
        task.goal
    )?;
    if items.is_empty() {
        writeln!(out, "There is no experiment yet.")?;
        return Ok(());
    }
    let mut table = text::table(["ID", &task.metric, "CLASS", "VERDICT", "DEPTH", "BY", "WHEN", "DESCRIPTION"]);
    for e in &items {
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
    if more {
        let all = match class {
            None => task.frontier_size,
            Some(class) => {
                task.classes.iter().find(|known| known.class == class.as_str()).map_or(0, |known| known.frontier_size)
            }
        };
        writeln!(out, "{} of {all} experiments; `--limit N` shows more.", items.len())?;
    }
    Ok(())
}
