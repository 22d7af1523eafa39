//! `spore db backup`, `backups` and `restore`.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use clap::Args as ClapArgs;
use serde_json::json;
use spore_api::upkeep::shapes::{Backup, UpkeepJob, UpkeepReport};
use spore_storage::{RestorePlan, Store, StoreError};

use super::super::{CliError, Context, bar::Bar, text, upkeep, warn};

/// Backups kept when nothing is said: a week of daily ones. They share what did not change.
const KEPT: u32 = 7;

/// Add a backup of the store to a folder
///
/// It has records and artifacts, and neither the node's key nor its configuration.
#[derive(Debug, ClapArgs)]
pub struct Make {
    /// The folder; best on another disk
    dir: PathBuf,
    /// Backups kept in the folder, this one among them
    #[arg(long, value_name = "N", default_value_t = KEPT, value_parser = clap::value_parser!(u32).range(1..))]
    keep: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct List {
    /// The folder that backups were made in
    dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Put a backup in the store's place; no node may run
#[derive(Debug, ClapArgs)]
pub struct Restore {
    /// The folder that backups were made in
    dir: PathBuf,
    /// Which backup [default: the newest]
    #[arg(long, value_name = "N")]
    id: Option<u32>,
    /// Also where a store is already; it is kept aside
    #[arg(long)]
    replace: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn make(args: &Make, context: &mut Context) -> Result<(), CliError> {
    // The node that does it runs in another directory.
    let folder = absolute(&args.dir)?;
    let path = folder.to_str().ok_or_else(|| CliError::usage("the folder's path is not in UTF-8"))?;
    let job = UpkeepJob::Backup { folder: path.to_owned(), keep: args.keep };
    let UpkeepReport::Backup(report) = upkeep::perform(&job, context).await? else {
        return Err(upkeep::another_answer());
    };
    for cid in &report.artifacts_damaged {
        warn(&format!(
            "artifact {} is damaged and not in the backup; `spore db verify` removes it beside a node",
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
        "Backup {} in {}: {} in {} files.",
        backup.id,
        folder.display(),
        text::mib(backup.bytes),
        backup.files
    )?;
    let artifacts = text::count(report.artifacts_copied, "artifact", "artifacts");
    Ok(writeln!(out, "{artifacts} copied, {}.", text::mib(report.artifact_bytes_copied))?)
}

pub fn list(args: &List, context: &mut Context) -> Result<(), CliError> {
    let backups: Vec<Backup> = Store::backups(&args.dir)?.into_iter().map(Into::into).collect();
    if args.json {
        return context.json(&backups);
    }
    let mut table = text::table(["ID", "MADE", "SIZE", "FILES"]);
    for backup in &backups {
        let (id, files) = (backup.id.to_string(), backup.files.to_string());
        table.add_row([id, text::ago(backup.timestamp), text::mib(backup.bytes), files]);
    }
    Ok(writeln!(context.out, "{table}")?)
}

pub fn restore(args: &Restore, context: &mut Context) -> Result<(), CliError> {
    // Before anything is made in the data directory.
    Store::backups(&args.dir)?;
    context.data.create()?;
    let mut bar = Bar::new();
    let plan = RestorePlan { id: args.id, replace: args.replace };
    let restored = Store::restore(&args.dir, context.data.root(), plan, &mut |progress| bar.watch(progress));
    drop(bar);
    let report = restored.map_err(|error| {
        let replaces = matches!(error, StoreError::NotEmpty(_));
        let error = CliError::from(error);
        if replaces {
            error.hint("add --replace to put the backup in its place, or name another --data-dir")
        } else {
            error
        }
    })?;
    for cid in &report.artifacts_damaged {
        warn(&format!("artifact {cid} is damaged in the backup and left out; the node fetches it again"));
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
        "Backup {id}, made {made}, is the store now, with {}.",
        text::count(report.artifacts_copied, "artifact more", "artifacts more")
    )?;
    Ok(writeln!(out, "Next: `spore run` starts the node, and others bring what is newer.")?)
}

fn absolute(dir: &Path) -> Result<PathBuf, CliError> {
    std::path::absolute(dir).map_err(|e| CliError::io(dir.display(), &e))
}
