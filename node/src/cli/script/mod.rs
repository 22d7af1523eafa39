//! `spore script`: checks a train script, shows its graph, begins a new one and tidies the layout, without training.
//!
//! The script is the user's own, so it is traced in this process, as `spore task create` does.

mod draw;
mod layout;
pub mod report;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use clap::{Args as ClapArgs, Subcommand};
use spore_api::{dto::ExperimentDetail, route::Route};

use self::report::{Outcome, Report};
use super::{CliError, Context, ErrorKind, access::NodeAccess, task_script};
use crate::genesis;

/// Check, show and start train scripts
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "docs/train-script.md has the whole language. `spore try SCRIPT` runs a script as an experiment."
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(Check),
    Graph(Graph),
    New(New),
    Fmt(Fmt),
}

/// Trace a script, and report its cost or its error, in under a second
#[derive(Debug, ClapArgs)]
struct Check {
    /// The file of the script
    #[arg(value_name = "SCRIPT")]
    script: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Show the graph of a script: its parameters, its operations with their shapes, and its memory
#[derive(Debug, ClapArgs)]
struct Graph {
    /// The file of the script
    #[arg(value_name = "SCRIPT")]
    script: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Write a script to begin with: the built-in base script, or the script of an experiment
#[derive(Debug, ClapArgs)]
struct New {
    /// The file to write, which must not exist
    #[arg(value_name = "SCRIPT", default_value = "train.star")]
    script: PathBuf,
    /// Begin with the script of this experiment: its id, or a unique prefix of the id
    #[arg(long, value_name = "ID")]
    from: Option<String>,
}

/// Tidy the white space of a script: the graph stays the same
#[derive(Debug, ClapArgs)]
struct Fmt {
    /// The file of the script
    #[arg(value_name = "SCRIPT")]
    script: PathBuf,
    /// Change nothing; exit with code 1 if the file is not tidy
    #[arg(long)]
    check: bool,
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    match args.command {
        Command::Check(args) => check(&args, context),
        Command::Graph(args) => graph(&args, context),
        Command::New(args) => new(&args, context).await,
        Command::Fmt(args) => tidy(&args, context),
    }
}

fn check(args: &Check, context: &mut Context) -> Result<(), CliError> {
    let text = task_script::read(&args.script)?;
    let Outcome { report, .. } = report::of(&text);
    if args.json {
        context.json(&report)?;
    } else {
        print(context, &args.script, &report)?;
    }
    if report.ok { Ok(()) } else { Err(CliError::told(ErrorKind::Failed)) }
}

fn print(context: &mut Context, file: &Path, report: &Report) -> Result<(), CliError> {
    match &report.fault {
        Some(fault) => fault.print(&mut context.out, &file.display().to_string())?,
        None => report.print(&mut context.out)?,
    }
    Ok(())
}

fn graph(args: &Graph, context: &mut Context) -> Result<(), CliError> {
    let text = task_script::read(&args.script)?;
    let Outcome { report, traced } = report::of(&text);
    let Some(traced) = traced else {
        print(context, &args.script, &report)?;
        return Err(CliError::told(ErrorKind::Failed));
    };
    let drawing = draw::Drawing::of(&traced.graph);
    if args.json {
        return context.json(&serde_json::json!({ "summary": report, "graph": drawing }));
    }
    drawing.print(&mut context.out)?;
    report.print(&mut context.out)?;
    Ok(())
}

async fn new(args: &New, context: &mut Context) -> Result<(), CliError> {
    let text = match &args.from {
        None => genesis::SCRIPT.to_owned(),
        Some(id) => {
            let detail: ExperimentDetail = NodeAccess::open(context).await?.get(&Route::Experiment(id.clone())).await?;
            detail.code.ok_or_else(|| {
                CliError::not_found("this node does not have the script of this experiment")
                    .hint("a running node fetches the script from its peers when it needs it")
            })?
        }
    };
    let file = fs::OpenOptions::new().write(true).create_new(true).open(&args.script);
    let mut file = file.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => CliError::usage(format!("{} exists", args.script.display()))
            .hint("name a file that does not exist: `spore script new FILE`"),
        _ => CliError::io(args.script.display(), &error),
    })?;
    file.write_all(text.as_bytes()).map_err(|error| CliError::io(args.script.display(), &error))?;
    let name = args.script.display();
    Ok(writeln!(context.out, "{name} is written. Change it, then: `spore script check {name}`, `spore try {name}`.")?)
}

fn tidy(args: &Fmt, context: &mut Context) -> Result<(), CliError> {
    let text = task_script::read(&args.script)?;
    let name = args.script.display();
    let tidied = layout::tidied(&text);
    let before = report::of(&text).report;
    if !before.ok {
        print(context, &args.script, &before)?;
        return Err(CliError::told(ErrorKind::Failed));
    }
    if tidied == text {
        return Ok(writeln!(context.out, "{name} is tidy.")?);
    }
    if args.check {
        writeln!(context.out, "{name} is not tidy.")?;
        return Err(CliError::told(ErrorKind::Failed));
    }
    // White space inside a text that spans lines may matter to the script.
    if report::of(&tidied).report.graph_hash != before.graph_hash {
        return Err(CliError::failed(format!("{name} is left as it is: tidying it would change its graph")));
    }
    fs::write(&args.script, tidied).map_err(|error| CliError::io(name, &error))?;
    Ok(writeln!(context.out, "{} is tidied.", args.script.display())?)
}
