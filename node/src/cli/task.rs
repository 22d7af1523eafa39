//! `spore task`: what is researched.

use std::{io::Write, path::PathBuf};

use clap::{Args as ClapArgs, Subcommand};
use spore_api::{dto, query::Query, route::Route};
use spore_protocol::{Goal, artifact::starlark};
use toml::Value;

use super::{
    CliError, Context, data,
    listing::{self, Listed},
    source::Source,
    text,
};
use crate::config;

/// Longest base script read, in bytes; the language itself allows fewer.
const MAX_SCRIPT: u64 = 1 << 20;

/// Make, list, show or choose tasks
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a signed task out of a base script
    Create(Create),
    /// List known tasks
    List(List),
    /// Show one task
    Show(Show),
    /// Follow one task from now on, or the most active one again
    Use(Use),
}

#[derive(Debug, ClapArgs)]
struct Create {
    /// A short name
    #[arg(long)]
    name: String,
    /// What is sought, in a sentence
    #[arg(long, default_value = "")]
    description: String,
    /// The kind of task
    #[arg(long, default_value = "ml_train")]
    task_type: String,
    /// The kind of script
    #[arg(long, default_value = starlark::FORMAT.name)]
    artifact_type: String,
    /// The number that experiments are compared by
    #[arg(long, default_value = "val_bpb")]
    metric: String,
    /// Which way it improves: minimize or maximize
    #[arg(long, default_value = "minimize")]
    goal: Goal,
    /// Training time of each experiment, in seconds
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    time_budget: u64,
    /// The script that the first experiment runs
    #[arg(long, value_name = "FILE")]
    base: PathBuf,
    /// What to train on: a file, the name of a dataset that was added, or a CID [default: the built-in corpus]
    #[arg(long, value_name = "FILE|NAME|CID")]
    dataset: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct List {
    /// At most this many tasks, the most active ones
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = listing::limits())]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, ClapArgs)]
struct Show {
    /// The task: its id, a unique prefix of it, or its name
    id: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, ClapArgs)]
struct Use {
    /// The task: its id, a unique prefix of it, or its name; `auto` follows the most active one
    id: String,
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    match args.command {
        Command::Create(args) => create(&args, context).await,
        Command::List(args) => list(&args, context).await,
        Command::Show(args) => {
            let source = Source::open(context).await?;
            let task: dto::TaskSummary = source.get(&Route::Task(args.id)).await?;
            if args.json { context.json(&task) } else { print(context, &task) }
        }
        Command::Use(args) => choose(&args, context).await,
    }
}

async fn create(args: &Create, context: &mut Context) -> Result<(), CliError> {
    let too_long = std::fs::metadata(&args.base).map_err(|e| CliError::io(args.base.display(), &e))?.len() > MAX_SCRIPT;
    if too_long {
        return Err(CliError::usage(format!("{} is larger than {MAX_SCRIPT} bytes", args.base.display())));
    }
    let base = std::fs::read_to_string(&args.base).map_err(|e| CliError::io(args.base.display(), &e))?;
    let (source, identity) = Source::open_to_write(context).await?;
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
    writeln!(context.out, "Task {} created: {}", text::line(&task.name), task.task_id)?;
    if source.node().is_err() {
        writeln!(context.out, "It is published when a node runs: `spore run --task {}`", text::short(&task.task_id))?;
    }
    Ok(())
}

pub async fn list(args: &List, context: &mut Context) -> Result<(), CliError> {
    let source = Source::open(context).await?;
    let Listed { items: tasks, more } =
        listing::read::<dto::TaskSummary>(&source, &Route::Tasks, &Query::default(), args.limit).await?;
    if args.json {
        return context.json(&tasks);
    }
    if tasks.is_empty() {
        writeln!(context.out, "No task is known yet. `spore run` finds some, `spore task create` makes one.")?;
        return Ok(());
    }
    let mut table =
        text::table(["TASK", "NAME", "METRIC", "BEST", "EXPERIMENTS", "FRONTIER", "VERIFIED", "NODES", "ACTIVE"]);
    for task in &tasks {
        table.add_row([
            text::short(&task.task_id),
            text::line(&task.name),
            text::line(&task.metric),
            task.best.map_or_else(|| "-".into(), text::metric),
            task.experiment_count.to_string(),
            task.frontier_size.to_string(),
            task.verified_count.to_string(),
            task.node_count.to_string(),
            text::ago(task.last_activity),
        ]);
    }
    writeln!(context.out, "{table}")?;
    if more {
        writeln!(context.out, "There are more than {}; --limit shows more.", tasks.len())?;
    }
    Ok(())
}

async fn choose(args: &Use, context: &mut Context) -> Result<(), CliError> {
    let source = Source::open(context).await?;
    let task = if args.id == "auto" { None } else { Some(source.task(Some(&args.id)).await?) };
    let id = task.as_ref().map(|task| task.task_id.clone());
    if id.is_some() || context.config()?.task.is_some() {
        config::set(&context.data.config(), "", &[("task", id.clone().map(Value::String))])?;
    }
    if let Source::Node(client) = &source {
        client.post(&Route::UseTask, &dto::UseTask { task: id }).await?;
    }
    match task {
        Some(task) => {
            writeln!(context.out, "This node follows {} ({}).", text::line(&task.name), text::short(&task.task_id))?
        }
        None => writeln!(context.out, "This node follows the most active task.")?,
    }
    Ok(())
}

/// Prints one task for people.
pub fn print(context: &mut Context, task: &dto::TaskSummary) -> Result<(), CliError> {
    let out = &mut context.out;
    writeln!(out, "Task         {}", task.task_id)?;
    writeln!(out, "Name         {}{}", text::line(&task.name), if task.legacy { " (legacy)" } else { "" })?;
    if !task.description.is_empty() {
        writeln!(out, "Description  {}", text::line(&task.description))?;
    }
    writeln!(out, "Metric       {}, {}", text::line(&task.metric), task.goal)?;
    writeln!(out, "Best         {}", task.best.map_or_else(|| "none yet".into(), text::metric))?;
    writeln!(out, "Budget       {} s of training each", task.time_budget)?;
    writeln!(out, "Artifact     {} ({})", text::line(&task.artifact_type), text::line(&task.task_type))?;
    writeln!(out, "Base script  {}", task.base_code_cid)?;
    writeln!(out, "Dataset      {}", text::line(&task.dataset_cid))?;
    writeln!(out, "Created by   {}", task.created_by)?;
    writeln!(out, "Root         {}", task.root.as_deref().unwrap_or("not published yet"))?;
    writeln!(
        out,
        "Experiments  {} ({} keep, {} discard, {} crash), {} verified",
        task.experiment_count, task.keep_count, task.discard_count, task.crash_count, task.verified_count
    )?;
    writeln!(out, "Nodes        {}", task.node_count)?;
    writeln!(out, "Active       {}", text::ago(task.last_activity))?;
    for class in &task.classes {
        let best = class.best.map_or_else(|| "-".into(), text::metric);
        writeln!(
            out,
            "  {}: {}, {} on the frontier, best {best}",
            class.class,
            text::count(class.experiment_count, "experiment", "experiments"),
            class.frontier_size
        )?;
    }
    Ok(())
}
