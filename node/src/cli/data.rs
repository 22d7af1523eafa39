//! `spore data`: datasets, which are artifacts that tasks train on.

use std::{io::Write, path::PathBuf};

use clap::{Args as ClapArgs, Subcommand};
use spore_protocol::Cid;

use super::{
    CliError, Context,
    access::NodeAccess,
    table::{Column, Table},
    text,
};
use crate::data_dir::NamedDataset;

/// Fewest digits by which a dataset is named. Shorter texts are more likely names.
const MIN_DIGITS: usize = 4;

/// Add or list datasets to train on
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Store a file as a dataset and print its CID, the hash of its bytes
    Add(Add),
    /// List the datasets that were added on this machine
    List(List),
}

#[derive(Debug, ClapArgs)]
struct Add {
    /// The file
    file: PathBuf,
    /// A name for the dataset, which `spore task create --dataset` accepts too [default: the name of the file]
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
        return Err(CliError::usage(format!("{} is empty or not a file", args.file.display())));
    }
    if let Some(name) = &args.name {
        spore_base::name::check(name)
            .map_err(|fault| CliError::usage(format!("{name:?} is no good name for a dataset: {fault}")))?;
    }
    #[cfg(feature = "trainer")]
    check_size(&args.file, meta.len())?;
    let (source, _) = NodeAccess::open_to_write(context).await?;
    let (cid, size) = source.put_file(&args.file).await?;
    // No task names the dataset yet, so a bounded cache would drop it first.
    source.pin(&cid).await?;
    let file_name = || args.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let dataset = NamedDataset { name: args.name.clone().unwrap_or_else(file_name), cid: cid.to_string(), size };
    context.data.add_dataset(dataset.clone())?;
    if args.json {
        return context.json(&dataset);
    }
    writeln!(context.out, "{cid}")?;
    writeln!(
        context.out,
        "Stored {}. Next: `spore task create --dataset {cid} ...` makes a task of it.",
        text::line(&dataset.name)
    )?;
    Ok(())
}

/// Refuses a dataset that no task can use, however short its training.
#[cfg(feature = "trainer")]
fn check_size(file: &std::path::Path, size: u64) -> Result<(), CliError> {
    let possible = spore_lab::research::create::dataset_sizes(1);
    if possible.contains(&size) {
        return Ok(());
    }
    let (least, most) = (possible.start(), possible.end());
    Err(CliError::usage(format!(
        "{} has {size} bytes, but a dataset must have {least} to {most} bytes",
        file.display()
    )))
}

fn list(args: &List, context: &mut Context) -> Result<(), CliError> {
    let datasets = context.data.datasets()?;
    if args.json {
        return context.json(&datasets);
    }
    if datasets.is_empty() {
        writeln!(
            context.out,
            "No dataset was added: tasks train on the built-in corpus. `spore data add FILE` adds a dataset."
        )?;
        return Ok(());
    }
    let mut table = Table::new([Column::id("CID"), Column::id("BYTES").leaves(1), Column::text("NAME", 8)]);
    for dataset in &datasets {
        table.add_row([text::short(&dataset.cid), dataset.size.to_string(), text::line(&dataset.name)]);
    }
    writeln!(context.out, "{table}")?;
    Ok(())
}

/// The text with the names of this node's datasets in place of their CIDs.
pub fn named(text: &str, datasets: &[NamedDataset]) -> String {
    datasets.iter().fold(text.to_owned(), |shown, dataset| {
        shown.replace(&dataset.cid, &format!("{} (dataset {:?})", text::short(&dataset.cid), dataset.name))
    })
}

/// The dataset of a new task, given as a CID or as the name of a dataset that was added.
///
/// # Errors
/// When the text is neither.
pub fn resolve(context: &Context, given: &str) -> Result<Cid, CliError> {
    if let Ok(cid) = given.parse() {
        return Ok(cid);
    }
    let datasets = context.data.datasets()?;
    // The list shows the first digits of each CID.
    let named = datasets.iter().find(|dataset| dataset.name == given).or_else(|| {
        let mut fits = datasets.iter().filter(|dataset| given.len() >= MIN_DIGITS && dataset.cid.starts_with(given));
        fits.next().filter(|_| fits.next().is_none())
    });
    named.and_then(|dataset| dataset.cid.parse().ok()).ok_or_else(|| {
        CliError::not_found(format!("no dataset is called {given}"))
            .hint("`spore data list` shows the datasets, `spore data add FILE` adds one")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dataset_that_is_missing_is_called_by_its_name() {
        let cid = "ab".repeat(32);
        let datasets = [NamedDataset { name: "words".into(), cid: cid.clone(), size: 1 }];
        let shown = named(&format!("no connected peer has artifact {cid}"), &datasets);
        assert_eq!(shown, "no connected peer has artifact abababababab (dataset \"words\")");
        assert_eq!(named("training", &datasets), "training");
    }
}
