//! `spore db check` and `spore db verify`: is the store what it should be, and making it so again.

use std::{io::Write, path::PathBuf};

use clap::Args as ClapArgs;
use serde_json::{Value, json};
use spore_api::upkeep::shapes::{CheckReport, UpkeepJob, UpkeepReport, VerifyReport};
use spore_base::clock::unix_now;
use spore_storage::{RepairReport, Store};

use super::super::{CliError, Context, bar::Bar, text, upkeep};

/// What is to be done about damage.
const NEXT: &str = "end the node, if one runs, and run `spore db check --repair`";

/// Verify every object, compute every index again, and tell where the store differs
#[derive(Debug, ClapArgs)]
pub struct Check {
    /// Build the store anew from every object that can be read and verifies; no node may run
    #[arg(long)]
    repair: bool,
    /// Take what cannot be read from the newest backup in this folder
    #[arg(long, value_name = "DIR", requires = "repair")]
    backup: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Check, context: &mut Context) -> Result<(), CliError> {
    if args.repair {
        return repair(args, context);
    }
    let UpkeepReport::Check(report) = upkeep::perform(&UpkeepJob::Check, context).await? else {
        return Err(upkeep::another_answer());
    };
    if args.json {
        context.json(&report)?;
    } else {
        show(&mut context.out, &report)?;
    }
    context.out.flush()?;
    if report.finding_count == 0 {
        return Ok(());
    }
    let places = text::count(report.finding_count, "place", "places");
    Err(CliError::failed(format!("the store is not what its objects say, in {places}")).hint(NEXT))
}

fn show(out: &mut dyn Write, report: &CheckReport) -> std::io::Result<()> {
    if !report.findings.is_empty() {
        let mut table = text::table(["COLUMN", "KEY", "EXPECTED", "FOUND"]);
        for finding in &report.findings {
            let row = [&finding.column, &finding.key, &finding.expected, &finding.found];
            table.add_row(row.map(|cell| text::line(cell)));
        }
        writeln!(out, "{table}")?;
        let more = report.finding_count.saturating_sub(report.findings.len() as u64);
        if more > 0 {
            writeln!(out, "... and {more} more")?;
        }
    }
    let objects = text::count(report.objects, "object", "objects");
    let verdict = if report.finding_count == 0 { "Sound: every index is what follows from them." } else { "Damaged." };
    writeln!(out, "{objects} verified, {} waiting. {verdict}", report.pending)
}

pub async fn verify(json: bool, context: &mut Context) -> Result<(), CliError> {
    let UpkeepReport::Verify(report) = upkeep::perform(&UpkeepJob::Verify, context).await? else {
        return Err(upkeep::another_answer());
    };
    if json {
        context.json(&report)?;
    } else {
        show_files(&mut context.out, &report)?;
    }
    context.out.flush()?;
    let (files, artifacts) = (report.damaged_files.len() as u64, report.damaged_artifacts.len() as u64);
    let kept = report.damaged_artifacts.iter().any(|artifact| !artifact.removed);
    let error = match (files, artifacts) {
        (0, 0) => return Ok(()),
        (0, _) => CliError::failed(format!("{} damaged", text::count(artifacts, "artifact is", "artifacts are"))),
        (_, _) => CliError::failed(format!(
            "{} damaged",
            text::count(files, "part of the store is", "parts of the store are")
        )),
    };
    Err(error.hint(if files > 0 || kept { NEXT } else { "they are removed, and the node fetches them again" }))
}

fn show_files(out: &mut dyn Write, report: &VerifyReport) -> std::io::Result<()> {
    if !report.damaged_files.is_empty() {
        let mut table = text::table(["COLUMN", "FILE", "EXPECTED", "FOUND"]);
        for damaged in &report.damaged_files {
            let file = damaged.file.as_deref().unwrap_or("unknown");
            let expected = "what was written".to_owned();
            table.add_row([text::line(&damaged.column), text::line(file), expected, text::line(&damaged.why)]);
        }
        writeln!(out, "{table}")?;
    }
    for artifact in &report.damaged_artifacts {
        let fate = if artifact.removed { "removed, to be fetched again" } else { "still here, and never served" };
        writeln!(out, "artifact {}: its bytes are not what its address says; {fate}", text::line(&artifact.cid))?;
    }
    let artifacts = text::count(report.artifacts, "artifact", "artifacts");
    writeln!(out, "{} and {artifacts} read.", text::count(report.files, "table file", "table files"))
}

fn repair(args: &Check, context: &mut Context) -> Result<(), CliError> {
    let mut bar = Bar::new();
    let backup = args.backup.as_deref();
    let report = Store::repair(context.data.root(), backup, unix_now(), &mut |progress| bar.watch(progress))?;
    drop(bar);
    if args.json { context.json(&as_json(&report)) } else { Ok(show_repair(&mut context.out, &report)?) }
}

fn as_json(report: &RepairReport) -> Value {
    let damaged = report.damaged_files.iter();
    let damaged: Vec<_> = damaged.map(|d| json!({ "column": d.column, "file": d.file, "why": d.why })).collect();
    json!({
        "objects": report.objects,
        "pending": report.pending,
        "from_backup": report.from_backup,
        "damaged_files": damaged,
        "fault_count": report.fault_count,
        "faults": report.faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "lost_changes": report.lost_changes.iter().map(|range| [range.start(), range.end()]).collect::<Vec<_>>(),
        "damaged_artifacts": report.damaged_artifacts.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "artifacts_unread": report.artifacts_unread,
        "kept": report.kept,
    })
}

fn show_repair(out: &mut dyn Write, report: &RepairReport) -> std::io::Result<()> {
    for damaged in &report.damaged_files {
        writeln!(out, "damaged: {}", text::line(&damaged.to_string()))?;
    }
    for fault in &report.faults {
        writeln!(out, "{}", text::line(&fault.to_string()))?;
    }
    let more = report.fault_count.saturating_sub(report.faults.len() as u64);
    if more > 0 {
        writeln!(out, "... and {more} more")?;
    }
    for cid in &report.damaged_artifacts {
        writeln!(out, "artifact {cid} was damaged: removed, to be fetched again")?;
    }
    if let Some(why) = &report.artifacts_unread {
        writeln!(out, "not all artifacts could be looked at: {}", text::line(why))?;
    }
    for range in &report.lost_changes {
        writeln!(out, "changes {} to {} are lost, and nothing tells what they were", range.start(), range.end())?;
    }
    let objects = text::count(report.objects, "object", "objects");
    writeln!(
        out,
        "Repaired: {objects} and {} waiting in the store, {} of them from the backup.",
        report.pending, report.from_backup
    )?;
    if report.fault_count > 0 || !report.lost_changes.is_empty() {
        writeln!(out, "What is lost comes back from other nodes, as far as they have it.")?;
    }
    if let Some(kept) = &report.kept {
        writeln!(out, "The damaged database is kept in {}; it can be removed.", kept.display())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::text::told;
    use spore_api::upkeep::shapes::{CheckFinding, DamagedArtifact, DamagedFile};

    #[test]
    fn a_finding_is_told_with_column_key_expectation_and_what_is_there() {
        let finding = CheckFinding {
            column: "children".into(),
            key: "00ff".into(),
            expected: "an entry".into(),
            found: "nothing\u{1b}".into(),
        };
        let mut report = CheckReport { objects: 3, pending: 1, finding_count: 2, findings: vec![finding] };
        let text = told(|out| show(out, &report));
        for part in ["children", "00ff", "an entry", "nothing", "1 more", "3 objects", "Damaged"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains('\u{1b}'));
        (report.findings, report.finding_count) = (Vec::new(), 0);
        assert!(told(|out| show(out, &report)).contains("Sound"));
    }

    #[test]
    fn a_damaged_file_is_told_by_name() {
        let report = VerifyReport {
            files: 9,
            artifacts: 1,
            damaged_files: vec![DamagedFile {
                column: "objects".into(),
                file: Some("000012.sst".into()),
                why: "block checksum mismatch".into(),
            }],
            damaged_artifacts: vec![DamagedArtifact { cid: "ab".repeat(32), removed: true }],
        };
        let text = told(|out| show_files(out, &report));
        for part in ["objects", "000012.sst", "checksum", "abab", "removed", "9 table files and 1 artifact"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_repair_tells_what_is_lost_and_where_the_old_database_is() {
        let report = RepairReport {
            objects: 8,
            from_backup: 2,
            fault_count: 3,
            lost_changes: vec![5..=7, 9..=9],
            kept: Some("old".into()),
            ..RepairReport::default()
        };
        let text = told(|out| show_repair(out, &report));
        for part in
            ["8 objects", "2 of them from the backup", "3 more", "changes 5 to 7 are lost", "other nodes", "old"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(as_json(&report)["from_backup"], 2);
    }
}
