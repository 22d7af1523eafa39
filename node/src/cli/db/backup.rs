//! `spore db backup`, `spore db backups` and `spore db restore`.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use clap::Args as ClapArgs;
use serde_json::json;
use spore_api::upkeep::shapes::{Backup, UpkeepJob, UpkeepReport};
use spore_storage::{RestorePlan, Store};

use super::super::{
    CliError, Context,
    table::{Column, Table},
    text, upkeep,
    upkeep_bar::UpkeepBar,
    warn,
};

/// Default number of backups: a week of daily ones. Backups share the files that did not change.
const KEPT: u32 = 7;

/// Add a backup of the store to a directory
///
/// A backup holds the records and the artifacts. It holds neither the key nor the configuration of the node.
#[derive(Debug, ClapArgs)]
pub struct Make {
    /// The directory of the backups, best on another disk
    dir: PathBuf,
    /// Keep the newest N backups in the directory
    #[arg(long, value_name = "N", default_value_t = KEPT, value_parser = clap::value_parser!(u32).range(1..))]
    keep: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct List {
    /// The directory of the backups
    dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Restore the store from a backup; no node may be running
#[derive(Debug, ClapArgs)]
pub struct Restore {
    /// The directory of the backups
    dir: PathBuf,
    /// The number of the backup [default: the newest]
    #[arg(long, value_name = "N")]
    id: Option<u32>,
    /// Replace the store that is there; the old store is kept in another directory
    #[arg(long)]
    replace: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn make(args: &Make, context: &mut Context) -> Result<(), CliError> {
    // The node that makes the backup may run in another directory.
    let dir = absolute(&args.dir)?;
    let path = dir.to_str().ok_or_else(|| CliError::usage("the path of the directory is not UTF-8"))?;
    let job = UpkeepJob::Backup { folder: path.to_owned(), keep: args.keep };
    let UpkeepReport::Backup(report) = upkeep::perform(&job, context).await? else {
        return Err(upkeep::another_answer());
    };
    for cid in &report.artifacts_damaged {
        warn(&format!(
            "artifact {} is damaged and not in the backup; `spore db verify` beside a running node removes it",
            text::line(cid)
        ));
    }
    if args.json {
        return context.json(&report);
    }
    let out = &mut context.out;
    let backup = &report.backup;
    writeln!(
        out,
        "Made backup {} in {}: {} in {} files.",
        backup.id,
        dir.display(),
        text::size(backup.bytes),
        backup.files
    )?;
    let artifacts = text::count(report.artifacts_copied, "artifact", "artifacts");
    Ok(writeln!(out, "Copied {artifacts}, {}.", text::size(report.artifact_bytes_copied))?)
}

pub fn list(args: &List, context: &mut Context) -> Result<(), CliError> {
    let backups: Vec<Backup> = Store::backups(&args.dir)?.into_iter().map(Into::into).collect();
    if args.json {
        return context.json(&backups);
    }
    let mut table = Table::new(["ID", "MADE", "SIZE", "FILES"].map(Column::id));
    for backup in &backups {
        let (id, files) = (backup.id.to_string(), backup.files.to_string());
        table.add_row([id, text::ago(backup.timestamp), text::size(backup.bytes), files]);
    }
    Ok(writeln!(context.out, "{table}")?)
}

pub fn restore(args: &Restore, context: &mut Context) -> Result<(), CliError> {
    // A directory without backups is an error before anything is made in the data directory.
    Store::backups(&args.dir)?;
    context.data.create()?;
    let mut bar = UpkeepBar::new();
    let plan = RestorePlan { id: args.id, replace: args.replace };
    let restored = Store::restore(&args.dir, context.data.root(), plan, &mut |progress| bar.watch(progress));
    drop(bar);
    let report = restored?;
    for cid in &report.artifacts_damaged {
        warn(&format!("artifact {cid} is damaged in the backup and was left out; the node fetches it again"));
    }
    if args.json {
        return context.json(&json!({
            "backup": Backup::from(report.backup),
            "artifacts_copied": report.artifacts_copied,
            "artifacts_damaged": report.artifacts_damaged.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "sequence": report.sequence,
        }));
    }
    let out = &mut context.out;
    let (id, made) = (report.backup.id, text::ago(report.backup.timestamp));
    writeln!(
        out,
        "Restored backup {id}, made {made}; copied {}.",
        text::count(report.artifacts_copied, "artifact", "artifacts")
    )?;
    Ok(writeln!(out, "Next: `spore run` starts the node. It gets newer records from other nodes.")?)
}

fn absolute(dir: &Path) -> Result<PathBuf, CliError> {
    std::path::absolute(dir).map_err(|e| CliError::io(dir.display(), &e))
}
