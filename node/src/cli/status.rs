//! `spore status`: how the node, or one task, stands.

use std::io::Write;

use clap::Args as ClapArgs;
use spore_api::{dto, route::Route};

use super::{
    CliError, Context,
    source::{Source, hint_of},
    task, text,
};

/// Show how the node stands
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Show how this task stands: its id, a unique prefix of it, or its name
    #[arg(long, value_name = "ID")]
    task: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let source = Source::open(context).await?;
    if let Some(id) = &args.task {
        let summary: dto::TaskSummary = source.get(&Route::Task(id.clone())).await?;
        return if args.json { context.json(&summary) } else { task::print(context, &summary) };
    }
    let status: dto::NodeStatus = source.get(&Route::Status).await?;
    if args.json {
        return context.json(&status);
    }
    let name = match &status.active_task {
        Some(id) => Some(
            source
                .get::<dto::TaskSummary>(&Route::Task(id.clone()))
                .await
                .map_or_else(|_| text::short(id), |task| text::line(&task.name)),
        ),
        None => None,
    };
    let out = &mut context.out;
    writeln!(out, "Node          {} ({})", text::short(&status.node_id), status.mode)?;
    if status.mode != "offline" {
        writeln!(out, "Up            {}", text::duration(status.uptime_seconds))?;
        let legacy = status.legacy_peer_count;
        let of_these = if legacy > 0 { format!(", {legacy} of the existing network") } else { String::new() };
        writeln!(out, "Peers         {}{of_these}", status.peer_count)?;
        let addresses = status.listen_addresses.iter().chain(&status.legacy_listen_addresses);
        writeln!(out, "Listens on    {}", addresses.cloned().collect::<Vec<_>>().join(" "))?;
    }
    writeln!(out, "Now           {}", text::line(&status.activity))?;
    if let Some(hint) = status.problem.and_then(hint_of) {
        writeln!(out, "              {hint}")?;
    }
    writeln!(out, "Task          {}", name.as_deref().unwrap_or("none known yet"))?;
    if let Some(class) = &status.hardware_class {
        writeln!(out, "Hardware      {} ({class})", text::line(status.device.as_deref().unwrap_or_default()))?;
    }
    writeln!(out, "Experiments   {}, {} verified", status.experiment_count, status.verified_experiment_count)?;
    writeln!(out, "Tasks         {}", status.task_count)?;
    writeln!(out, "Frontier      {}", text::count(status.frontier_size, "record", "records"))?;
    if status.pending_count > 0 {
        writeln!(
            out,
            "Held          {} until their parents come",
            text::count(status.pending_count, "record", "records")
        )?;
    }
    let refused: Vec<_> = status.rejected.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
    if !refused.is_empty() {
        writeln!(out, "Refused       {}", refused.join(", "))?;
    }
    Ok(())
}
