//! `spore db check` and `spore db verify`: find damage in the store, and repair it.

use std::{io::Write, path::PathBuf};

use clap::Args as ClapArgs;
use serde_json::{Value, json};
use spore_api::upkeep::shapes::{CheckReport, UpkeepJob, UpkeepReport, VerifyReport};
use spore_base::clock::unix_now;
use spore_storage::{RepairReport, Store};

use super::super::{
    CliError, Context,
    hints::REPAIR,
    table::{Column, Table},
    text, upkeep,
    upkeep_bar::UpkeepBar,
};

/// Verify every object, compute every index again, and report differences
#[derive(Debug, ClapArgs)]
pub struct Check {
    /// Build a new store from every object that can be read and verified; no node may be running
    #[arg(long)]
    repair: bool,
    /// Take objects that cannot be read from the newest backup in DIR
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
    Err(CliError::failed(format!("the indexes of the store differ from its objects in {places}")).hint(REPAIR))
}

fn show(out: &mut dyn Write, report: &CheckReport) -> std::io::Result<()> {
    if !report.findings.is_empty() {
        let mut table = Table::new([
            Column::id("COLUMN"),
            Column::text("KEY", 12),
            Column::text("EXPECTED", 8),
            Column::text("FOUND", 8),
        ]);
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
    let verdict = if report.finding_count == 0 { "Sound: all indexes agree with the objects." } else { "Damaged." };
    writeln!(out, "Verified {objects}, {} pending. {verdict}", report.pending)
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
    Err(error.hint(if files > 0 || kept { REPAIR } else { "the artifacts are removed; the node fetches them again" }))
}

fn show_files(out: &mut dyn Write, report: &VerifyReport) -> std::io::Result<()> {
    if !report.damaged_files.is_empty() {
        let mut table = Table::new([
            Column::id("COLUMN"),
            Column::text("FILE", 12),
            Column::text("EXPECTED", 8),
            Column::text("FOUND", 8),
        ]);
        for damaged in &report.damaged_files {
            let file = damaged.file.as_deref().unwrap_or("unknown");
            let expected = "what was written".to_owned();
            table.add_row([text::line(&damaged.column), text::line(file), expected, text::line(&damaged.why)]);
        }
        writeln!(out, "{table}")?;
    }
    for artifact in &report.damaged_artifacts {
        let state = if artifact.removed {
            "removed, the node fetches it again"
        } else {
            "still here, but not served to others"
        };
        writeln!(out, "artifact {}: its bytes do not match its CID; {state}", text::line(&artifact.cid))?;
    }
    let artifacts = text::count(report.artifacts, "artifact", "artifacts");
    writeln!(out, "Read {} and {artifacts}.", text::count(report.files, "table file", "table files"))
}

fn repair(args: &Check, context: &mut Context) -> Result<(), CliError> {
    let mut bar = UpkeepBar::new();
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
        writeln!(out, "artifact {cid} was damaged and is removed; the node fetches it again")?;
    }
    if let Some(why) = &report.artifacts_unread {
        writeln!(out, "not all artifacts could be read: {}", text::line(why))?;
    }
    for range in &report.lost_changes {
        writeln!(out, "changes {} to {} are lost, and their contents are unknown", range.start(), range.end())?;
    }
    let objects = text::count(report.objects, "object", "objects");
    let pending = text::count(report.pending, "pending record", "pending records");
    writeln!(out, "Repaired: the store has {objects} and {pending}.")?;
    if report.from_backup > 0 {
        writeln!(out, "{} from the backup.", text::count(report.from_backup, "object comes", "objects come"))?;
    }
    if report.fault_count > 0 || !report.lost_changes.is_empty() {
        writeln!(out, "Other nodes send lost objects again, if they have them.")?;
    }
    if let Some(kept) = &report.kept {
        writeln!(out, "The damaged database is in {}; you can remove it.", kept.display())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::text::printed;
    use spore_api::upkeep::shapes::{CheckFinding, DamagedArtifact, DamagedFile};

    #[test]
    fn finding_is_shown_with_column_key_expectation_and_contents() {
        let finding = CheckFinding {
            column: "children".into(),
            key: "00ff".into(),
            expected: "an entry".into(),
            found: "nothing\u{1b}".into(),
        };
        let mut report = CheckReport { objects: 3, pending: 1, finding_count: 2, findings: vec![finding] };
        let text = printed(|out| show(out, &report));
        for part in ["children", "00ff", "an entry", "nothing", "1 more", "3 objects", "Damaged"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains('\u{1b}'));
        (report.findings, report.finding_count) = (Vec::new(), 0);
        assert!(printed(|out| show(out, &report)).contains("Sound"));
    }

    #[test]
    fn damaged_file_is_shown_by_name() {
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
        let text = printed(|out| show_files(out, &report));
        for part in ["objects", "000012.sst", "checksum", "abab", "removed", "9 table files and 1 artifact"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn repair_shows_lost_changes_and_the_old_database() {
        let report = RepairReport {
            objects: 8,
            from_backup: 2,
            fault_count: 3,
            lost_changes: vec![5..=7, 9..=9],
            kept: Some("old".into()),
            ..RepairReport::default()
        };
        let text = printed(|out| show_repair(out, &report));
        for part in
            ["8 objects", "2 objects come from the backup", "3 more", "changes 5 to 7 are lost", "Other nodes", "old"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(as_json(&report)["from_backup"], 2);
    }
}
