//! `spore status`: the state of the node, or of one task.

use std::{
    io::{IsTerminal as _, Write},
    time::Duration,
};

use clap::Args as ClapArgs;
use spore_api::{dto, route::Route};

use super::{
    CliError, Context, ErrorKind, access::NodeAccess, data, hints::hint_for_problem, overview, proposer,
    research_status, task, text, warnings,
};

/// Time between two views of `--watch`: often enough to see the steps of an experiment pass.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Clears the terminal and goes to its first line.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Show the state of the node
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Show the state of a task instead: its id, a unique prefix of the id, or its name
    #[arg(long, value_name = "ID")]
    task: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Show the state again every second, until Ctrl-C or until the node stops
    #[arg(long, conflicts_with = "task")]
    watch: bool,
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let mut shown = show(args, context).await;
    while args.watch && shown.is_ok() {
        context.out.flush()?;
        tokio::time::sleep(WATCH_INTERVAL).await;
        if std::io::stdout().is_terminal() {
            write!(context.out, "{CLEAR}")?;
        } else if !args.json {
            writeln!(context.out)?;
        }
        shown = show(args, context).await;
    }
    shown
}

/// Without a node this ends with exit code 4, so that a script can ask whether the node is up.
async fn show(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let source = NodeAccess::open(context).await.map_err(|error| no_node(error, args.task.as_deref()))?;
    let ended = if args.task.is_none() && source.node().is_err() {
        Err(CliError::told(ErrorKind::NodeNotRunning))
    } else {
        Ok(())
    };
    print(args, &source, context).await?;
    context.out.flush()?;
    ended
}

/// Without a store there is no node either, which is what the question was.
fn no_node(error: CliError, task: Option<&str>) -> CliError {
    match error.kind {
        ErrorKind::NotFound if task.is_none() => CliError { kind: ErrorKind::NodeNotRunning, ..error },
        _ => error,
    }
}

async fn print(args: &Args, source: &NodeAccess, context: &mut Context) -> Result<(), CliError> {
    if let Some(id) = &args.task {
        return of_task(source, id, args.json, context).await;
    }
    let status: dto::NodeStatus = source.get(&Route::Status).await?;
    let followed = overview::active_task(source, &status).await;
    let overview = match &followed {
        Some(task) => Some(overview::of_task(source, task).await?),
        None => None,
    };
    if args.json {
        let shown = overview::StatusWithOverview { status: &status, overview };
        return if args.watch { context.json_line(&shown) } else { context.json(&shown) };
    }
    let name = overview::task_name(&status, followed.as_ref());
    // Names of datasets are this node's own: a list that cannot be read hides no state.
    let datasets = context.data.datasets().unwrap_or_default();
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
    writeln!(out, "Now           {}", text::line(&data::named(&status.activity, &datasets)))?;
    let lines = status.research.iter().flat_map(|research| research_status::lines(research, &status.activity));
    for line in lines {
        writeln!(out, "              {}", data::named(&line, &datasets))?;
    }
    if let Some(hint) = status.problem.and_then(hint_for_problem) {
        writeln!(out, "              {hint}")?;
    }
    warnings::write(out, &status)?;
    for (number, line) in status.proposer.iter().flat_map(proposer::lines).enumerate() {
        writeln!(out, "{:<13} {line}", if number == 0 { "Proposer" } else { "" })?;
    }
    writeln!(out, "Task          {}", name.as_deref().unwrap_or("none yet"))?;
    if let Some(class) = &status.hardware_class {
        writeln!(out, "Hardware      {} ({class})", text::line(status.device.as_deref().unwrap_or_default()))?;
    }
    writeln!(out, "Trust         {}", trust(&status.trusted, &status.node_id))?;
    writeln!(out, "Experiments   {}, {} confirmed here", status.experiment_count, status.verified_experiment_count)?;
    writeln!(out, "Tasks         {}", status.task_count)?;
    print_frontier(out, &status, followed.as_ref())?;
    if let Some(best) = overview.as_ref().and_then(overview::Overview::best_text) {
        writeln!(out, "Best          {best}")?;
    }
    print_withheld(out, &status)?;
    if let Some(overview) = overview {
        overview.print_newest(out)?;
    }
    Ok(())
}

/// Shows the state of one task.
async fn of_task(source: &NodeAccess, id: &str, json: bool, context: &mut Context) -> Result<(), CliError> {
    let summary: dto::TaskSummary = source.get(&Route::Task(id.to_owned())).await?;
    if json {
        return context.json(&summary);
    }
    let overview = overview::of_task(source, &summary).await?;
    task::print(context, &summary)?;
    Ok(overview.print_newest(&mut context.out)?)
}

/// The records that wait for their parents, and the objects that were rejected.
fn print_withheld(out: &mut dyn Write, status: &dto::NodeStatus) -> std::io::Result<()> {
    if status.pending_count > 0 {
        let pending = text::count(status.pending_count, "record", "records");
        writeln!(out, "Pending       {pending}, until the parents arrive")?;
    }
    let rejected: Vec<_> = status.rejected.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
    if !rejected.is_empty() {
        writeln!(out, "Rejected      {}", rejected.join(", "))?;
    }
    Ok(())
}

/// The frontier of the followed task, and of all tasks.
fn print_frontier(
    out: &mut dyn Write,
    status: &dto::NodeStatus,
    followed: Option<&dto::TaskSummary>,
) -> std::io::Result<()> {
    let records = |count| text::count(count, "record", "records");
    match followed {
        Some(task) => writeln!(
            out,
            "Frontier      {} of this task hold here; {} of all tasks",
            records(task.frontier_size),
            records(status.frontier_size)
        ),
        None => writeln!(out, "Frontier      {} of all tasks hold here", records(status.frontier_size)),
    }
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
