//! `spore gc`: drops artifacts from the cache, and pins those that must stay.

use std::{collections::BTreeSet, io::Write};

use clap::{Args as ClapArgs, Subcommand};
use spore_api::{
    dto::{self, ExperimentDetail},
    query::{MAX_LIST, Query},
    route::Route,
    upkeep::{
        pin as pin_in,
        shapes::{GcReport, UpkeepJob, UpkeepReport},
    },
};
use spore_protocol::Cid;

use super::{
    CliError, Context,
    access::{ApiClient, NodeAccess},
    table::{Column, Table},
    text, upkeep,
};
use crate::{config::size, housekeeping::CacheBounds};

/// Fewest digits that name an artifact: fewer fit too many.
const MIN_DIGITS: usize = 4;

/// Drop artifacts (scripts, datasets) that are old or use too much space
///
/// Artifacts that no record names are dropped first, then the least recently used ones. An artifact stays when a task,
/// a frontier or a pin needs it, or when it was used within the last hour. Without --max-age and --max-size, the bounds
/// of config.toml apply. A running node applies those by itself, once an hour.
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Show what would be dropped, and drop nothing
    #[arg(long)]
    dry_run: bool,
    /// Drop artifacts that were not used for DAYS days
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=36_500))]
    max_age: Option<u64>,
    /// Drop the least recently used artifacts until all others fit SIZE: bytes, or a number with KiB, MiB, GiB or TiB
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    max_size: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Pin an artifact: it is never dropped. It need not be here yet
    Pin(Pin),
    /// Remove the pin of an artifact
    Unpin(Pin),
    /// List the pinned artifacts
    Pins {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, ClapArgs)]
struct Pin {
    /// The CID of the artifact: 64 hex digits, or the first ones of a dataset, a pinned artifact or an artifact that a
    /// task names. The id of an experiment, or its first digits, stands for the experiment's script
    cid: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    match &args.command {
        None => collect(&args, context).await,
        Some(Command::Pin(pin)) => set_pin(pin, true, context).await,
        Some(Command::Unpin(pin)) => set_pin(pin, false, context).await,
        Some(Command::Pins { json }) => pins(*json, context).await,
    }
}

async fn collect(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let mut bounds = CacheBounds::of_days(args.max_age, args.max_size);
    if bounds.is_none() {
        bounds = CacheBounds::from(context.config()?.cache.as_ref());
    }
    if bounds.is_none() && !args.dry_run {
        return Err(CliError::usage("there are no bounds to apply").hint(
            "pass `--max-age DAYS` or `--max-size SIZE`, or set `[cache]` in config.toml; `--dry-run` needs no bounds",
        ));
    }
    let CacheBounds { max_age: max_age_seconds, max_bytes } = bounds;
    let job = UpkeepJob::Gc { dry_run: args.dry_run, max_age_seconds, max_bytes };
    let UpkeepReport::Gc(report) = upkeep::perform(&job, context).await? else {
        return Err(upkeep::another_answer());
    };
    if args.json {
        return context.json(&report);
    }
    Ok(show(&mut context.out, &report)?)
}

fn show(out: &mut dyn Write, report: &GcReport) -> std::io::Result<()> {
    if !report.dropped.is_empty() {
        let mut table = Table::new([
            Column::id("ARTIFACT"),
            Column::id("SIZE"),
            Column::id("LAST USED").leaves(2),
            Column::id("NAMED BY").leaves(1),
            Column::text("REASON", 8),
        ]);
        for dropped in &report.dropped {
            table.add_row([
                text::short(&dropped.cid),
                text::size(dropped.bytes),
                text::ago(dropped.last_used),
                text::count(dropped.references, "record", "records"),
                text::line(&dropped.reason),
            ]);
        }
        writeln!(out, "{table}")?;
        let more = report.dropped_count.saturating_sub(report.dropped.len() as u64);
        if more > 0 {
            writeln!(out, "... and {more} more")?;
        }
    }
    let verb = if report.dry_run { "Would drop" } else { "Dropped" };
    let artifacts = |n| text::count(n, "artifact", "artifacts");
    writeln!(out, "{verb} {} ({}).", artifacts(report.dropped_count), text::size(report.dropped_bytes))?;
    writeln!(
        out,
        "Kept {} ({}). {} of them ({}) cannot be dropped now.",
        artifacts(report.kept_count),
        text::size(report.kept_bytes),
        report.protected_count,
        text::size(report.protected_bytes)
    )
}

async fn set_pin(pin: &Pin, pinned: bool, context: &mut Context) -> Result<(), CliError> {
    let cid = known_cid(&pin.cid, context).await?;
    let outcome = match ApiClient::find(&context.data).await? {
        Some(client) => client.pin(&cid, pinned).await?,
        None => pin_in(&upkeep::open(true, context)?, &cid.to_string(), pinned)?,
    };
    if pin.json {
        return context.json(&outcome);
    }
    let word = match (pinned, outcome.changed) {
        (true, true) => "is pinned",
        (true, false) => "was pinned already",
        (false, true) => "is no longer pinned",
        (false, false) => "was not pinned",
    };
    Ok(writeln!(context.out, "{} {word}", text::short(&outcome.cid))?)
}

/// The artifact of a CID, or of a prefix that one dataset, one pinned artifact, one artifact of a task or the id of one
/// experiment has.
async fn known_cid(given: &str, context: &Context) -> Result<Cid, CliError> {
    let source = NodeAccess::open(context).await.ok();
    if let Ok(cid) = given.parse() {
        return Ok(script_of(source.as_ref(), given).await.unwrap_or(cid));
    }
    let no_cid = |message: String| {
        CliError::usage(message).hint("a CID has 64 hex digits: `spore gc pins --json`, `spore data list --json` and `spore task show` print them")
    };
    if given.len() < MIN_DIGITS || !given.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(no_cid(format!("{given:.80?} is not the CID of an artifact")));
    }
    let mut fitting: BTreeSet<Cid> = script_of(source.as_ref(), given).await.into_iter().collect();
    let mut known: BTreeSet<String> = context.data.datasets()?.into_iter().map(|dataset| dataset.cid).collect();
    if let Some(source) = &source {
        known.extend(source.get::<Vec<String>>(&Route::Pins).await?);
        known.extend(of_tasks(source).await?);
    }
    let begins = known.iter().filter(|cid| cid.starts_with(&given.to_ascii_lowercase()));
    fitting.extend(begins.filter_map(|cid| cid.parse::<Cid>().ok()));
    let mut fitting = fitting.into_iter();
    match (fitting.next(), fitting.next()) {
        (Some(cid), None) => Ok(cid),
        (None, _) => {
            Err(no_cid(format!("no artifact that is known by name or pinned, and no experiment, begins with {given}")))
        }
        _ => Err(no_cid(format!("more than one artifact begins with {given}"))),
    }
}

/// The script of an experiment. None where no experiment, or more than one, has the id or prefix: the digits may be
/// those of an artifact.
async fn script_of(source: Option<&NodeAccess>, given: &str) -> Option<Cid> {
    let found: ExperimentDetail = source?.get(&Route::Experiment(given.to_owned())).await.ok()?;
    found.experiment.code_cid.parse().ok()
}

/// The artifacts that the most active tasks name: base script, evaluator and dataset.
async fn of_tasks(source: &NodeAccess) -> Result<Vec<String>, CliError> {
    let query = Query::default().with("limit", MAX_LIST);
    let tasks: dto::Page<dto::TaskSummary> = source.get_with(&Route::Tasks, &query).await?;
    Ok(tasks.items.into_iter().flat_map(|task| [task.base_code_cid, task.prepare_cid, task.dataset_cid]).collect())
}

async fn pins(json: bool, context: &mut Context) -> Result<(), CliError> {
    let pins: Vec<String> = NodeAccess::open(context).await?.get(&Route::Pins).await?;
    if json {
        return context.json(&pins);
    }
    if pins.is_empty() {
        writeln!(context.out, "No artifact is pinned. `spore gc pin CID` pins one.")?;
    }
    for pin in pins {
        writeln!(context.out, "{}", text::line(&pin))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::text::printed;
    use spore_api::upkeep::shapes::DroppedArtifact;

    #[test]
    fn dropped_and_kept_artifacts_are_shown() {
        let cid = "ab".repeat(32);
        let dropped = DroppedArtifact { cid, bytes: 3 << 19, last_used: 1, references: 1, reason: "age".into() };
        let mut report = GcReport {
            dry_run: true,
            dropped: vec![dropped],
            dropped_count: 2,
            dropped_bytes: 3 << 20,
            kept_count: 1,
            kept_bytes: 1 << 20,
            protected_count: 1,
            protected_bytes: 1 << 20,
        };
        let text = printed(|out| show(out, &report));
        for part in
            ["abababababab", "1.50 MiB", "1 record", "age", "1 more", "Would drop 2 artifacts (3.00 MiB)", "1 artifact"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        (report.dry_run, report.dropped) = (false, Vec::new());
        let text = printed(|out| show(out, &report));
        assert!(text.starts_with("Dropped 2 artifacts"), "{text}");
    }
}
