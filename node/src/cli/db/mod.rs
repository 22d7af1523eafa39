//! `spore db`: maintenance of the store, by the running node where that is possible.

mod backup;
mod check;
mod discard;

use std::io::Write;

use clap::{Args as ClapArgs, Subcommand};
use spore_api::{
    query::Query,
    route::Route,
    upkeep::shapes::{PendingPage, StoreStats, UpkeepJob, UpkeepReport},
};

use super::{
    CliError, Context,
    access::NodeAccess,
    table::{Column, Table},
    text, upkeep,
};

/// Pending records in one request.
const PAGE: usize = 1000;

/// Check, repair, back up and measure the store
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Check),
    /// Read every file of the store and every artifact, and compare them with their checksums
    Verify(Json),
    /// Show the size of the store
    Stats(Json),
    /// Rewrite the database without the entries that were overwritten or removed
    Compact(Json),
    Backup(backup::Make),
    /// List the backups in a directory
    Backups(backup::List),
    Restore(backup::Restore),
    Drop(discard::Args),
    /// List the pending records, which wait for their parents
    Pending(Pending),
}

/// The form of the output.
#[derive(Debug, ClapArgs)]
struct Json {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, ClapArgs)]
struct Pending {
    /// Show at most N records; the first to expire come first
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    match args.command {
        Command::Check(args) => check::run(&args, context).await,
        Command::Verify(args) => check::verify(args.json, context).await,
        Command::Stats(args) => stats(args.json, context).await,
        Command::Compact(args) => compact(args.json, context).await,
        Command::Backup(args) => backup::make(&args, context).await,
        Command::Backups(args) => backup::list(&args, context),
        Command::Restore(args) => backup::restore(&args, context),
        Command::Drop(args) => discard::run(&args, context).await,
        Command::Pending(args) => pending(&args, context).await,
    }
}

async fn stats(json: bool, context: &mut Context) -> Result<(), CliError> {
    let stats: StoreStats = NodeAccess::open(context).await?.get(&Route::StoreStats).await?;
    if json { context.json(&stats) } else { Ok(show_stats(&mut context.out, &stats)?) }
}

fn show_stats(out: &mut dyn Write, stats: &StoreStats) -> std::io::Result<()> {
    let mut table = Table::new([
        Column::id("COLUMN"),
        Column::id("KEYS"),
        Column::id("SIZE"),
        Column::id("FILES").leaves(1),
        Column::id("IN MEMORY").leaves(2),
    ]);
    for column in &stats.columns {
        table.add_row([
            text::line(&column.name),
            column.keys.to_string(),
            text::size(column.bytes),
            column.files.to_string(),
            text::size(column.memtable_bytes),
        ]);
    }
    writeln!(out, "{table}\n")?;
    writeln!(
        out,
        "Database    {}, {} of it in the write-ahead log",
        text::size(stats.database_bytes),
        text::size(stats.log_bytes)
    )?;
    let artifacts = text::count(stats.artifacts, "artifact", "artifacts");
    writeln!(out, "Artifacts   {artifacts}, {}; {} pinned", text::size(stats.artifact_bytes), stats.pins)?;
    writeln!(out, "Pending     {}", text::count(stats.pending, "record", "records"))?;
    writeln!(out, "Last change {}", stats.sequence)?;
    if let Some(lost) = &stats.lost_changes {
        writeln!(
            out,
            "Lost        changes {} to {}, which were acknowledged; other nodes send again the changes that they have",
            lost.first, lost.last
        )?;
    }
    Ok(())
}

async fn compact(json: bool, context: &mut Context) -> Result<(), CliError> {
    let UpkeepReport::Compact(report) = upkeep::perform(&UpkeepJob::Compact, context).await? else {
        return Err(upkeep::another_answer());
    };
    if json {
        return context.json(&report);
    }
    let (before, after) = (text::size(report.bytes_before), text::size(report.bytes_after));
    Ok(writeln!(context.out, "Compacted the database from {before} to {after}.")?)
}

async fn pending(args: &Pending, context: &mut Context) -> Result<(), CliError> {
    let source = NodeAccess::open(context).await?;
    let limit = args.limit as usize;
    let mut all: Option<PendingPage> = None;
    loop {
        let (held, after) = all.as_ref().map_or((0, None), |all| (all.pending.len(), all.next.as_deref()));
        if held >= limit || (held > 0 && after.is_none()) {
            break;
        }
        let query = Query::default().with("limit", PAGE.min(limit - held)).with("after", after.unwrap_or_default());
        let page: PendingPage = source.get_with(&Route::PendingRecords, &query).await?;
        let empty = page.pending.is_empty();
        match &mut all {
            None => all = Some(page),
            Some(all) => {
                all.pending.extend(page.pending);
                all.next = page.next;
            }
        }
        if empty {
            break;
        }
    }
    let Some(all) = all else { return Ok(()) };
    if args.json { context.json(&all) } else { Ok(show_pending(&mut context.out, &all)?) }
}

fn show_pending(out: &mut dyn Write, page: &PendingPage) -> std::io::Result<()> {
    if page.pending.is_empty() {
        return writeln!(out, "No record is pending.");
    }
    let mut table = Table::new([
        Column::id("RECORD"),
        Column::id("MISSING PARENT"),
        Column::id("RECEIVED").leaves(2),
        Column::id("BYTES").leaves(1),
    ]);
    for held in &page.pending {
        table.add_row([
            text::short(&held.id),
            text::short(&held.waits_for),
            text::ago(held.since),
            held.bytes.to_string(),
        ]);
    }
    writeln!(out, "{table}")?;
    if page.next.is_some() {
        writeln!(out, "{} of {} records; `--limit N` shows more.", page.pending.len(), page.total)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::text::printed;
    use spore_api::upkeep::shapes::{ColumnStats, LostChanges, PendingRecord};

    #[test]
    fn stats_show_each_column_and_lost_changes() {
        let column = ColumnStats { name: "objects".into(), keys: 7, bytes: 5 << 19, files: 2, memtable_bytes: 1 << 20 };
        let mut stats = StoreStats {
            columns: vec![column],
            database_bytes: 3 << 20,
            log_bytes: 1 << 19,
            artifacts: 1,
            artifact_bytes: 0,
            pins: 4,
            pending: 2,
            sequence: 9,
            lost_changes: None,
        };
        let text = printed(|out| show_stats(out, &stats));
        for part in
            ["objects", "2.50 MiB", "1.00 MiB", "3.00 MiB, 512.00 KiB of it in", "1 artifact", "4 pinned", "2 records"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("Lost"));
        stats.lost_changes = Some(LostChanges { first: 10, last: 12 });
        assert!(printed(|out| show_stats(out, &stats)).contains("changes 10 to 12"));
    }

    #[test]
    fn pending_records_are_listed_with_their_missing_parents() {
        let held = PendingRecord { id: "aa".repeat(32), waits_for: "bb".repeat(32), since: 1, bytes: 900 };
        let mut page = PendingPage { total: 5, pending: vec![held], next: Some("00".into()) };
        let text = printed(|out| show_pending(out, &page));
        for part in ["aaaaaaaaaaaa", "bbbbbbbbbbbb", "900", "1 of 5 records"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        page.pending.clear();
        assert!(printed(|out| show_pending(out, &page)).starts_with("No record is pending"));
    }
}
