//! `spore search`: finds experiments by their words.

use std::io::Write;

use clap::Args as ClapArgs;
use spore_api::{dto::Experiment, query::Query, route::Route};

use super::{
    CliError, Context, ErrorKind,
    access::NodeAccess,
    listing::{self, Listed},
    table::{Column, Table},
    text,
};

/// Find experiments by words of their description and hypothesis, or by the first digits of the id
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "An experiment matches when it contains every word. Words match as a whole, in upper or lower case. \
        The newest arrivals come first."
)]
pub struct Args {
    /// Words, or at least four first digits of an id
    #[arg(required = true, value_name = "WORDS")]
    words: Vec<String>,
    /// Search one task only: its id, a unique prefix of the id, or its name [default: all tasks]
    #[arg(long, value_name = "ID")]
    task: Option<String>,
    /// Show at most N experiments
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = listing::limits())]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Puts the hint of the API, which names its parameters, in terms of this command.
fn usage(error: CliError) -> CliError {
    match error.kind {
        ErrorKind::Usage => {
            error.hint("pass words of a description or hypothesis, or at least four first digits of an id")
        }
        _ => error,
    }
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let words = args.words.join(" ");
    if !words.chars().any(char::is_alphanumeric) {
        return Err(CliError::usage(format!("there is no word in {words:?}"))
            .hint("pass words of a description or hypothesis, or at least four first digits of an id"));
    }
    let source = NodeAccess::open(context).await?;
    let task = match &args.task {
        Some(given) => Some(source.task(Some(given)).await?.task_id),
        None => None,
    };
    let mut query = Query::default().with("q", words);
    if let Some(task) = task {
        query = query.with("task", task);
    }
    let Listed { items, more } =
        listing::read::<Experiment>(&source, &Route::Search, &query, args.limit).await.map_err(usage)?;
    if args.json {
        return context.json(&items);
    }
    let out = &mut context.out;
    if items.is_empty() {
        return Ok(writeln!(out, "No experiment contains all of these words.")?);
    }
    let mut table = Table::new([
        Column::id("ID"),
        Column::id("TASK").leaves(2),
        Column::id("STATUS").leaves(5),
        Column::id("METRIC").leaves(6),
        Column::text("CLASS", 8).leaves(1),
        Column::text("CONFIRMED", 8).leaves(4),
        Column::id("WHEN").leaves(3),
        Column::text("DESCRIPTION", 12),
    ]);
    for e in &items {
        table.add_row([
            text::short(&e.id),
            text::short(&e.task_id),
            e.status.clone(),
            if e.status == "crash" { "-".into() } else { text::metric(e.val_bpb) },
            e.hardware_class.clone(),
            text::confirmed(e),
            text::ago(e.timestamp),
            text::line(&e.description),
        ]);
    }
    writeln!(out, "{table}")?;
    if more {
        writeln!(
            out,
            "{} shown; `--limit N` shows more.",
            text::count(items.len() as u64, "experiment", "experiments")
        )?;
    }
    Ok(())
}
