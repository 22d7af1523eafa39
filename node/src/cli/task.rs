//! `spore task`: the tasks that nodes work on.

use std::{io::Write, path::PathBuf};

use clap::{Args as ClapArgs, Subcommand};
use spore_api::{dto, query::Query, route::Route};
use spore_protocol::{ArtifactType, Goal, artifact::starlark};
use toml::Value;

use super::{
    CliError, Context, ErrorKind,
    access::NodeAccess,
    data,
    listing::{self, Listed},
    table::{Column, Table},
    task_fit, task_names, task_script, text, warn,
};
use crate::config;

/// Create, list, show or choose tasks
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a task, sign it, and make it the task that this node works on
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
    /// The base script, which the first experiment runs [default: the one of the built-in task]
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
    /// The base script as a CID: a script that this node has, such as the one of an experiment
    #[arg(long, value_name = "CID", conflicts_with = "base")]
    base_code_cid: Option<String>,
    /// The evaluator, as the CID of one that this node has [default: the one of the training time]
    #[arg(long, value_name = "CID")]
    prepare_cid: Option<String>,
    /// The data to train on: a file, the name of a dataset that was added, or a CID [default: the built-in corpus]
    #[arg(long, alias = "dataset-cid", value_name = "FILE|NAME|CID")]
    dataset: Option<String>,
    /// Go on with the task that this node works on now
    #[arg(long)]
    no_use: bool,
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
    /// Print JSON
    #[arg(long)]
    json: bool,
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
    // A file that cannot be read is an error before anything is made.
    let file = args.base.as_deref().map(task_script::read).transpose()?;
    let (source, identity) = NodeAccess::open_to_write(context).await?;
    let draft = args.draft(file, &source, context).await?;
    task_names::warn_of_twin(&source, &args.name).await;
    let task = source.create_task(draft, &identity).await.map_err(|error| match (error.kind, &error.hint) {
        (ErrorKind::NotFound, None) => {
            error.hint("name artifacts that this node has, or leave `--prepare-cid` out for the usual evaluator")
        }
        _ => error,
    })?;
    let active = !args.no_use && args.is_worked_on();
    // A task that is made stays made, so it is printed before an error.
    let followed = if active { follow(&source, context, Some(&task.task_id)).await } else { Ok(()) };
    if args.json {
        context.json(&task)?;
        return followed;
    }
    writeln!(context.out, "Created task {}: {}", text::name(&task.name), task.task_id)?;
    followed?;
    let running = source.node().is_ok();
    let next = match (args.is_worked_on(), active, running) {
        (false, _, _) => "This node only passes the task on: nodes of the existing network run it.".to_owned(),
        (true, true, true) => "This node works on it now.".to_owned(),
        (true, true, false) => "Next: `spore run` publishes the task and works on it.".to_owned(),
        (true, false, _) => {
            let id = text::short(&task.task_id);
            format!("`spore task use {id}` makes it the task that this node works on.")
        }
    };
    Ok(writeln!(context.out, "{next}")?)
}

impl Create {
    /// Whether this node can run the scripts of the task.
    fn is_worked_on(&self) -> bool {
        ArtifactType::from(self.artifact_type.as_str()).measures(&self.metric)
    }

    /// The task as the API takes it. `file` is the text of the base script, if a file was given.
    async fn draft(
        &self,
        file: Option<String>,
        source: &NodeAccess,
        context: &Context,
    ) -> Result<dto::NewTask, CliError> {
        // The reference's scripts pass empty texts for what they leave out.
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let base = match (file, given(&self.base_code_cid)) {
            (Some(text), _) => text,
            (None, Some(cid)) => task_script::stored(source, &cid).await?,
            (None, None) => task_script::usual(&ArtifactType::from(self.artifact_type.as_str())).to_owned(),
        };
        let dataset = match &given(&self.dataset) {
            Some(given) if std::path::Path::new(given).is_file() => Some(source.put_file(given.as_ref()).await?.0),
            Some(given) => Some(data::resolve(context, given)?),
            None => None,
        };
        Ok(dto::NewTask {
            name: self.name.clone(),
            description: self.description.clone(),
            task_type: self.task_type.clone(),
            artifact_type: self.artifact_type.clone(),
            metric: self.metric.clone(),
            goal: self.goal.name().into(),
            time_budget: self.time_budget,
            base,
            evaluator: given(&self.prepare_cid),
            dataset: dataset.map(|cid| cid.to_string()),
        })
    }
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
    let mut table = Table::new([
        Column::id("TASK"),
        Column::text("NAME", 12),
        Column::text("METRIC", 7).leaves(1),
        Column::id("BEST").leaves(7),
        Column::id("RECORDS").leaves(6),
        Column::id("CONFIRMED").leaves(4),
        Column::id("CLAIMS").leaves(3),
        Column::id("NODES").leaves(2),
        Column::id("ACTIVE").leaves(5),
    ]);
    for task in &tasks {
        table.add_row([
            text::short(&task.task_id),
            text::name(&task.name),
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
    follow(&source, context, id.as_deref()).await?;
    if let Some(unfit) = task.as_ref().and_then(task_fit::warning) {
        warn(&unfit);
    }
    if args.json {
        return context.json(&dto::UseTask { task: id });
    }
    match task {
        Some(task) => writeln!(
            context.out,
            "This node works on {} ({}) now.",
            text::name(&task.name),
            text::short(&task.task_id)
        )?,
        None => writeln!(context.out, "This node works on the default task now.")?,
    }
    Ok(())
}

/// Makes a task, or without one the default task, the task that this node works on: now, and when it starts.
async fn follow(source: &NodeAccess, context: &Context, task: Option<&str>) -> Result<(), CliError> {
    let saved = config::load(&context.data.config())?.config.task;
    if task.is_some() || saved.is_some() {
        config::set(&context.data.config(), "", &[("task", task.map(|id| Value::String(id.to_owned())))])?;
    }
    if let NodeAccess::Node(client) = source {
        client.post(&Route::UseTask, &dto::UseTask { task: task.map(str::to_owned) }).await?;
    }
    Ok(())
}

/// Prints one task.
pub fn print(context: &mut Context, task: &dto::TaskSummary) -> Result<(), CliError> {
    let out = &mut context.out;
    writeln!(out, "Task         {}", task.task_id)?;
    writeln!(out, "Name         {}{}", text::name(&task.name), if task.legacy { " (legacy)" } else { "" })?;
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
