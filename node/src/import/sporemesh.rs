//! Taking over a node of the Python implementation: identity and settings first, then its objects
//! and artifacts, one database after the other. A database that cannot be read costs its own
//! objects only.

use spore_protocol::Kind;
use spore_storage::sporemesh::{SourceRow, Sporemesh, SporemeshError};

use super::{
    Entry, Feed, ImportError, Settings, Way, artifacts,
    pages::{GivenUp, take_all},
    settings,
};
use crate::data_dir::DataDir;

/// Manifests before records and records before what is said of them, so that little has to be
/// placed twice.
const ORDER: [Kind; 4] = [Kind::Task, Kind::Experiment, Kind::Control, Kind::Profile];

/// What is known beside the numbers when all is done.
#[derive(Debug, Default)]
pub struct Ended {
    /// Tasks of the source that have no manifest: each follows from its root record.
    pub derived_tasks: u64,
    /// Parts of the source that could not be read.
    pub problems: Vec<String>,
}

/// Takes everything in, as `settings` planned it.
///
/// # Errors
/// When our own files or store cannot be written.
pub async fn take(
    source: &Sporemesh,
    settings: &Settings,
    data: &DataDir,
    feed: &mut Feed<'_>,
) -> Result<Ended, ImportError> {
    let mut ended = Ended { problems: settings.problems.clone(), ..Ended::default() };
    let theirs = DataDir::new(source.root());
    let write = matches!(feed.way(), Way::Door { .. });
    if write {
        settings.apply(&theirs, data)?;
    }
    settings::merge_peers(&theirs, data, feed, write)?;
    for kind in ORDER {
        if let Err(error) = rows(source, kind, feed).await? {
            ended.problems.push(problem(&error));
        }
    }
    match source.derived_tasks() {
        Ok(count) => ended.derived_tasks = count,
        Err(error) => ended.problems.push(problem(&error)),
    }
    if let Err(error) = artifacts::take(source, feed)? {
        ended.problems.push(problem(&error));
    }
    Ok(ended)
}

/// Why a part of the source could not be read, with what to do next.
fn problem(error: &SporemeshError) -> String {
    match error {
        SporemeshError::Busy(_) => format!("{error}: import again, which goes on where this ended"),
        _ => error.to_string(),
    }
}

/// Takes in the rows of one table; the inner error is the source's.
async fn rows(source: &Sporemesh, kind: Kind, feed: &mut Feed<'_>) -> Result<Result<(), SporemeshError>, ImportError> {
    let rows = match source.rows(kind) {
        Ok(Some(rows)) => rows,
        Ok(None) => return Ok(Ok(())),
        Err(error) => return Ok(Err(error)),
    };
    let total = rows.total();
    take_all(feed, Some(total), move |pages| {
        for row in rows {
            if let Err(GivenUp) = pages.push(entry(kind, row?)) {
                break;
            }
        }
        Ok(())
    })
    .await
}

fn entry(kind: Kind, row: SourceRow) -> Entry {
    let object = row.object.map_err(|bad| (bad.code(), bad.to_string()));
    Entry { part: kind.into(), id: row.id, line: None, object }
}
