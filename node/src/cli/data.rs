//! `spore data`: real text to train on, as an artifact.

use std::{io::Write, path::PathBuf};

use clap::{Args as ClapArgs, Subcommand};
use spore_protocol::Cid;

use super::{CliError, Context, source::Source, text};
use crate::data_dir::Dataset;

/// Add or list datasets
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Store a file's bytes as a dataset and print its address (CID)
    Add(Add),
    /// List the datasets that were added here
    List(List),
}

#[derive(Debug, ClapArgs)]
struct Add {
    /// The file
    file: PathBuf,
    /// A name for it, which `task create --dataset` takes too [default: the file's name]
    #[arg(long)]
    name: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, ClapArgs)]
struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    match args.command {
        Command::Add(args) => add(&args, context).await,
        Command::List(args) => list(&args, context),
    }
}

async fn add(args: &Add, context: &mut Context) -> Result<(), CliError> {
    let meta = std::fs::metadata(&args.file).map_err(|e| CliError::io(args.file.display(), &e))?;
    if !meta.is_file() || meta.len() == 0 {
        return Err(CliError::usage(format!("{} is no file with something in it", args.file.display())));
    }
    #[cfg(feature = "trainer")]
    check_size(&args.file, meta.len())?;
    let (source, _) = Source::open_to_write(context).await?;
    let (cid, size) = source.put_file(&args.file).await?;
    // Nothing names it yet, and a bounded cache would drop it first.
    source.pin(&cid).await?;
    let file_name = || args.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let dataset = Dataset { name: args.name.clone().unwrap_or_else(file_name), cid: cid.to_string(), size };
    context.data.add_dataset(dataset.clone())?;
    if args.json {
        return context.json(&dataset);
    }
    writeln!(context.out, "{cid}")?;
    writeln!(
        context.out,
        "{} is stored; make a task of it with `spore task create --dataset {cid} ...`",
        text::line(&dataset.name)
    )?;
    Ok(())
}

/// No task can use a dataset outside of these bounds, however short its training.
#[cfg(feature = "trainer")]
fn check_size(file: &std::path::Path, size: u64) -> Result<(), CliError> {
    let possible = spore_lab::research::create::dataset_sizes(1);
    if possible.contains(&size) {
        return Ok(());
    }
    let (least, most) = (possible.start(), possible.end());
    Err(CliError::usage(format!("{} has {size} bytes, but a dataset has {least} to {most}", file.display())))
}

fn list(args: &List, context: &mut Context) -> Result<(), CliError> {
    let datasets = context.data.datasets()?;
    if args.json {
        return context.json(&datasets);
    }
    if datasets.is_empty() {
        writeln!(
            context.out,
            "No dataset was added; tasks train on the built-in corpus. `spore data add FILE` adds one."
        )?;
        return Ok(());
    }
    let mut table = text::table(["CID", "BYTES", "NAME"]);
    for dataset in &datasets {
        table.add_row([dataset.cid.clone(), dataset.size.to_string(), text::line(&dataset.name)]);
    }
    writeln!(context.out, "{table}")?;
    Ok(())
}

/// The dataset of a new task: an artifact's address, or the name of one added here.
///
/// # Errors
/// Neither.
pub fn resolve(context: &Context, given: &str) -> Result<Cid, CliError> {
    if let Ok(cid) = given.parse() {
        return Ok(cid);
    }
    let named = context.data.datasets()?.into_iter().find(|dataset| dataset.name == given);
    named.and_then(|dataset| dataset.cid.parse().ok()).ok_or_else(|| {
        CliError::not_found(format!("no dataset {given} was added here"))
            .hint("`spore data add FILE` adds one and prints its CID")
    })
}
