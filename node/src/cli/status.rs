//! `spore status`: the state of the node, or of one task.

use std::io::Write;

use clap::Args as ClapArgs;
use spore_api::{dto, route::Route};

use super::{CliError, Context, access::NodeAccess, hints::hint_for_problem, task, text};

/// Show the state of the node
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Show the state of a task instead: its id, a unique prefix of the id, or its name
    #[arg(long, value_name = "ID")]
    task: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let source = NodeAccess::open(context).await?;
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
        let of_these = if legacy > 0 { format!(", {legacy} of them in the existing network") } else { String::new() };
        writeln!(out, "Peers         {}{of_these}", status.peer_count)?;
        let addresses = status.listen_addresses.iter().chain(&status.legacy_listen_addresses);
        writeln!(out, "Listens on    {}", addresses.cloned().collect::<Vec<_>>().join(" "))?;
    }
    writeln!(out, "Now           {}", text::line(&status.activity))?;
    if let Some(hint) = status.problem.and_then(hint_for_problem) {
        writeln!(out, "              {hint}")?;
    }
    writeln!(out, "Task          {}", name.as_deref().unwrap_or("none yet"))?;
    if let Some(class) = &status.hardware_class {
        writeln!(out, "Hardware      {} ({class})", text::line(status.device.as_deref().unwrap_or_default()))?;
    }
    writeln!(out, "Trust         {}", trust(&status.trusted, &status.node_id))?;
    writeln!(out, "Experiments   {}, {} confirmed here", status.experiment_count, status.verified_experiment_count)?;
    writeln!(out, "Tasks         {}", status.task_count)?;
    writeln!(out, "Frontier      {}, of what holds here", text::count(status.frontier_size, "record", "records"))?;
    if status.pending_count > 0 {
        writeln!(
            out,
            "Pending       {}, until the parents arrive",
            text::count(status.pending_count, "record", "records")
        )?;
    }
    let rejected: Vec<_> = status.rejected.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
    if !rejected.is_empty() {
        writeln!(out, "Rejected      {}", rejected.join(", "))?;
    }
    Ok(())
}

/// Whose measurements decide what holds at the node with the id `node`.
pub fn trust(trusted: &[String], node: &str) -> String {
    let own = trusted.iter().any(|key| key == node);
    let others = trusted.iter().filter(|key| *key != node).count() as u64;
    match (own, others) {
        (false, 0) => "no key is trusted, so nothing holds here; `spore set trust NODE` adds one".into(),
        (true, 0) => "this node's measurements decide what holds here; `spore set trust NODE` adds a node".into(),
        (false, n) => format!("the measurements of {} decide what holds here", text::count(n, "node", "nodes")),
        (true, n) => {
            format!("the measurements of this node and {} decide what holds here", text::count(n, "other", "others"))
        }
    }
}
