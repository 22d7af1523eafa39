//! Imports a node of the Python implementation: identity and settings first, then objects and artifacts, one database
//! after the other. A database that cannot be read affects its own objects only.

use spore_protocol::Kind;
use spore_storage::sporemesh::{SourceRow, Sporemesh, SporemeshError};

use super::{
    Destination, ImportError, ImportItem, Importer, SettingsPlan, artifacts,
    pages::{ImportStopped, take_all},
    settings,
};
use crate::data_dir::DataDir;

/// Manifests come before records, and records before events about them, so that few records are pending.
const ORDER: [Kind; 4] = [Kind::Task, Kind::Experiment, Kind::Control, Kind::Profile];

/// Facts about the source beside the counts.
#[derive(Debug, Default)]
pub struct SourceSummary {
    /// Tasks of the source without a manifest. Each is derived from its root record.
    pub derived_tasks: u64,
    /// Parts of the source that could not be read.
    pub problems: Vec<String>,
}

/// Imports everything, by the plan `settings`.
///
/// # Errors
/// When our own files or store cannot be written.
pub async fn take(
    source: &Sporemesh,
    settings: &SettingsPlan,
    data: &DataDir,
    importer: &mut Importer<'_>,
) -> Result<SourceSummary, ImportError> {
    let mut summary = SourceSummary { problems: settings.problems.clone(), ..SourceSummary::default() };
    let theirs = DataDir::new(source.root());
    let write = matches!(importer.destination(), Destination::Store { .. });
    if write {
        settings.apply(&theirs, data)?;
    }
    settings::merge_peers(&theirs, data, importer, write)?;
    for kind in ORDER {
        if let Err(error) = rows(source, kind, importer).await? {
            summary.problems.push(error.to_string());
        }
    }
    match source.derived_tasks() {
        Ok(count) => summary.derived_tasks = count,
        Err(error) => summary.problems.push(error.to_string()),
    }
    if let Err(error) = artifacts::take(source, importer)? {
        summary.problems.push(error.to_string());
    }
    Ok(summary)
}

/// Imports the rows of one table. The inner error comes from the source.
async fn rows(
    source: &Sporemesh,
    kind: Kind,
    importer: &mut Importer<'_>,
) -> Result<Result<(), SporemeshError>, ImportError> {
    let rows = match source.rows(kind) {
        Ok(Some(rows)) => rows,
        Ok(None) => return Ok(Ok(())),
        Err(error) => return Ok(Err(error)),
    };
    let total = rows.total();
    take_all(importer, Some(total), move |pages| {
        for row in rows {
            if let Err(ImportStopped) = pages.push(item(kind, row?)) {
                break;
            }
        }
        Ok(())
    })
    .await
}

fn item(kind: Kind, row: SourceRow) -> ImportItem {
    let object = row.object.map_err(|bad| (bad.code(), bad.to_string()));
    ImportItem { kind: kind.into(), id: row.id, line: None, object }
}
