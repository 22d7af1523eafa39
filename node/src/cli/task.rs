//! `spore task`: the tasks that nodes work on.

use std::{io::Write, path::PathBuf};

use clap::{Args as ClapArgs, Subcommand};
use spore_api::{dto, query::Query, route::Route};
use spore_protocol::{Goal, artifact::starlark};
use toml::Value;

use super::{
    CliError, Context,
    access::NodeAccess,
    data,
    listing::{self, Listed},
    text,
};
use crate::config;

/// Longest base script that is read, in bytes. The language itself allows fewer.
const MAX_SCRIPT: u64 = 1 << 20;

/// Create, list, show or choose tasks
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a task from a base script and sign it
    Create(Create),
    /// List the known tasks
    List(List),
    /// Show one task
    Show(Show),
    /// Choose the task that this node works on
    Use(Use),
}

#[derive(Debug, ClapArgs)]
struct Create {
    /// A short name of the task
    #[arg(long)]
    name: String,
    /// The goal of the task in a sentence
    #[arg(long, default_value = "")]
    description: String,
    /// The type of the task
    #[arg(long, default_value = "ml_train")]
    task_type: String,
    /// The type of the script
    #[arg(long, default_value = starlark::FORMAT.name)]
    artifact_type: String,
    /// The metric that experiments are compared by
    #[arg(long, default_value = "val_bpb")]
    metric: String,
    /// The better direction of the metric: minimize or maximize
    #[arg(long, default_value = "minimize")]
    goal: Goal,
    /// The training time of each experiment, in seconds
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    time_budget: u64,
    /// The base script, which the first experiment runs
    #[arg(long, value_name = "FILE")]
    base: PathBuf,
    /// The data to train on: a file, the name of a dataset that was added, or a CID [default: the built-in corpus]
    #[arg(long, value_name = "FILE|NAME|CID")]
    dataset: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct List {
    /// Show the N most active tasks
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = listing::limits())]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, ClapArgs)]
struct Show {
    /// The task: its id, a unique prefix of the id, or its name
    id: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, ClapArgs)]
struct Use {
    /// The task: its id, a unique prefix of the id, or its name; `auto` for the default task
    id: String,
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    match args.command {
        Command::Create(args) => create(&args, context).await,
        Command::List(args) => list(&args, context).await,
        Command::Show(args) => {
            let source = NodeAccess::open(context).await?;
            let task: dto::TaskSummary = source.get(&Route::Task(args.id)).await?;
            if args.json { context.json(&task) } else { print(context, &task) }
        }
        Command::Use(args) => choose(&args, context).await,
    }
}

async fn create(args: &Create, context: &mut Context) -> Result<(), CliError> {
    let too_long = std::fs::metadata(&args.base).map_err(|e| CliError::io(args.base.display(), &e))?.len() > MAX_SCRIPT;
    if too_long {
        return Err(CliError::usage(format!("{} has more than {MAX_SCRIPT} bytes", args.base.display())));
    }
    let base = std::fs::read_to_string(&args.base).map_err(|e| CliError::io(args.base.display(), &e))?;
    let (source, identity) = NodeAccess::open_to_write(context).await?;
    let dataset = match &args.dataset {
        Some(given) if std::path::Path::new(given).is_file() => Some(source.put_file(given.as_ref()).await?.0),
        Some(given) => Some(data::resolve(context, given)?),
        None => None,
    };
    let draft = dto::NewTask {
        name: args.name.clone(),
        description: args.description.clone(),
        task_type: args.task_type.clone(),
        artifact_type: args.artifact_type.clone(),
        metric: args.metric.clone(),
        goal: args.goal.name().into(),
        time_budget: args.time_budget,
        base,
        dataset: dataset.map(|cid| cid.to_string()),
    };
    let task = source.create_task(draft, &identity).await?;
    if args.json {
        return context.json(&task);
    }
    writeln!(context.out, "Created task {}: {}", text::line(&task.name), task.task_id)?;
    if source.node().is_err() {
        writeln!(
            context.out,
            "Next: `spore run --task {}` publishes the task and works on it.",
            text::short(&task.task_id)
        )?;
    }
    Ok(())
}

pub async fn list(args: &List, context: &mut Context) -> Result<(), CliError> {
    let source = NodeAccess::open(context).await?;
    let Listed { items: tasks, more } =
        listing::read::<dto::TaskSummary>(&source, &Route::Tasks, &Query::default(), args.limit).await?;
    if args.json {
        return context.json(&tasks);
    }
    if tasks.is_empty() {
        writeln!(
            context.out,
            "No task is known yet. `spore run` finds tasks in the network; `spore task create` makes a new one."
        )?;
        return Ok(());
    }
    let mut table =
        text::table(["TASK", "NAME", "METRIC", "BEST", "RECORDS", "CONFIRMED", "CLAIMS", "NODES", "ACTIVE"]);
    for task in &tasks {
        table.add_row([
            text::short(&task.task_id),
            text::line(&task.name),
            text::line(&task.metric),
            task.best.map_or_else(|| "-".into(), text::metric),
            task.experiment_count.to_string(),
            task.verified_count.to_string(),
            task.claims_count.to_string(),
            task.node_count.to_string(),
            text::ago(task.last_activity),
        ]);
    }
    writeln!(context.out, "{table}")?;
    if more {
        writeln!(context.out, "{} shown; `--limit N` shows more.", text::count(tasks.len() as u64, "task", "tasks"))?;
    }
    Ok(())
}

async fn choose(args: &Use, context: &mut Context) -> Result<(), CliError> {
    let source = NodeAccess::open(context).await?;
    let task = if args.id == "auto" { None } else { Some(source.task(Some(&args.id)).await?) };
    let id = task.as_ref().map(|task| task.task_id.clone());
    if id.is_some() || context.config()?.task.is_some() {
        config::set(&context.data.config(), "", &[("task", id.clone().map(Value::String))])?;
    }
    if let NodeAccess::Node(client) = &source {
        client.post(&Route::UseTask, &dto::UseTask { task: id }).await?;
    }
    match task {
        Some(task) => writeln!(
            context.out,
            "This node works on {} ({}) now.",
            text::line(&task.name),
            text::short(&task.task_id)
        )?,
        None => writeln!(context.out, "This node works on the default task now.")?,
    }
    Ok(())
}

/// Prints one task.
pub fn print(context: &mut Context, task: &dto::TaskSummary) -> Result<(), CliError> {
    let out = &mut context.out;
    writeln!(out, "Task         {}", task.task_id)?;
    writeln!(out, "Name         {}{}", text::line(&task.name), if task.legacy { " (legacy)" } else { "" })?;
    if !task.description.is_empty() {
        writeln!(out, "Description  {}", text::line(&task.description))?;
    }
    writeln!(out, "Metric       {}, {}", text::line(&task.metric), task.goal)?;
    writeln!(out, "Best         {}", best(task))?;
    writeln!(out, "Budget       {} s of training for each experiment", task.time_budget)?;
    writeln!(out, "Artifact     {} ({})", text::line(&task.artifact_type), text::line(&task.task_type))?;
    writeln!(out, "Base script  {}", task.base_code_cid)?;
    writeln!(out, "Dataset      {}", text::line(&task.dataset_cid))?;
    writeln!(out, "Created by   {}", task.created_by)?;
    writeln!(out, "Root         {}", task.root.as_deref().unwrap_or("none yet"))?;
    writeln!(
        out,
        "Experiments  {} ({} keep, {} discard, {} crash), {} confirmed here, {}",
        task.experiment_count,
        task.keep_count,
        task.discard_count,
        task.crash_count,
        task.verified_count,
        text::count(task.claims_count, "claim", "claims")
    )?;
    writeln!(out, "Nodes        {}", task.node_count)?;
    writeln!(out, "Active       {}", text::ago(task.last_activity))?;
    for class in &task.classes {
        writeln!(
            out,
            "  {}: {}, {} confirmed here, {} on the frontier, {}; {}",
            class.class,
            text::count(class.experiment_count, "experiment", "experiments"),
            class.verified_count,
            class.frontier_size,
            best_of(class),
            text::count(class.claims_count, "claim", "claims"),
        )?;
    }
    if task.frontier_size == 0 && task.claims_count > 0 {
        writeln!(out, "No claim is confirmed here yet: `spore frontier --view claims` lists them.")?;
    }
    Ok(())
}

/// The best result that holds here, with its class: results of other classes are not comparable with it.
fn best(task: &dto::TaskSummary) -> String {
    match (task.best, &task.best_class) {
        (Some(best), Some(class)) => format!("{}, confirmed here, on {class}", text::metric(best)),
        (Some(best), None) => format!("{}, confirmed here", text::metric(best)),
        (None, _) => "none confirmed here yet".into(),
    }
}

/// The best result of a class that holds here, and another one that holds when every signer counts alike.
fn best_of(class: &dto::ClassSummary) -> String {
    let here = class.best.map_or_else(|| "none confirmed".into(), |best| format!("best {}", text::metric(best)));
    match class.best_global {
        Some(global) if class.best_global_id != class.best_id => {
            format!("{here} ({} by unknown nodes)", text::metric(global))
        }
        _ => here,
    }
}
