//! `spore search`: experiments by their words.

use std::io::Write;

use clap::Args as ClapArgs;
use spore_api::{dto::Experiment, query::Query, route::Route};

use super::{
    CliError, Context,
    listing::{self, Listed},
    source::Source,
    text,
};

/// Find experiments by words of their description and hypothesis, or by the first digits of their id
#[derive(Debug, ClapArgs)]
#[command(after_help = "All words must be there, each in full; case does not matter. The last to arrive come first.")]
pub struct Args {
    /// Words, or the first digits of an id (four at least)
    #[arg(required = true, value_name = "WORDS")]
    words: Vec<String>,
    /// Only in this task: its id, a unique prefix of it, or its name [default: all tasks]
    #[arg(long, value_name = "ID")]
    task: Option<String>,
    /// At most this many experiments
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = listing::limits())]
    limit: u32,
    /// Print the experiments as JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let source = Source::open(context).await?;
    let words = args.words.join(" ");
    let task = match &args.task {
        Some(given) => Some(source.task(Some(given)).await?.task_id),
        None => None,
    };
    let mut query = Query::default().with("q", words);
    if let Some(task) = task {
        query = query.with("task", task);
    }
    let Listed { items, more } = listing::read::<Experiment>(&source, &Route::Search, &query, args.limit).await?;
    if args.json {
        return context.json(&items);
    }
    let out = &mut context.out;
    if items.is_empty() {
        return Ok(writeln!(out, "No experiment has all of these words.")?);
    }
    let mut table = text::table(["ID", "TASK", "STATUS", "METRIC", "CLASS", "VERDICT", "WHEN", "DESCRIPTION"]);
    for e in &items {
        table.add_row([
            text::short(&e.id),
            text::short(&e.task_id),
            e.status.clone(),
            if e.status == "crash" { "-".into() } else { text::metric(e.val_bpb) },
            e.hardware_class.clone(),
            e.verdict.clone(),
            text::ago(e.timestamp),
            text::line(&e.description),
        ]);
    }
    writeln!(out, "{table}")?;
    if more {
        writeln!(out, "There are more than {}; --limit shows more.", items.len())?;
    }
    Ok(())
}
