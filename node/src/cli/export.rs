//! `spore export`: writes all signed objects as lines of JSON.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, BufWriter, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args as ClapArgs;
use indicatif::{ProgressBar, ProgressStyle};
use spore_storage::Store;

use super::{CliError, Context, ErrorKind, access::NodeAccess, text, warn};
use crate::export::{self, ExportCounts, ExportError};

/// Bytes that are gathered before a write.
const BUFFER: usize = 1 << 18;

/// Interval of the spinner, which is shown where the total is not known.
const TICK: Duration = Duration::from_millis(120);

/// Mode of the exported file before the user's mask, as for any new file.
const FILE_MODE: u32 = 0o666;

/// Write all tasks, records, control events and profiles as lines of JSON
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The file to write [default: standard output]. An existing file is replaced once the export is complete
    file: Option<PathBuf>,
    /// Export one task only, without profiles: its id, a unique prefix of the id, or its name
    #[arg(long, value_name = "ID")]
    task: Option<String>,
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let source = NodeAccess::open(context).await?;
    let NodeAccess::Store(offline) = &source else {
        return Err(CliError::new(ErrorKind::Locked, "a node is running on this data directory and holds the store")
            .hint("stop the node, export, and start it again; or choose another directory with `--data-dir DIR`"));
    };
    let task = match &args.task {
        Some(given) => Some(source.task(Some(given)).await?.task_id),
        None => None,
    };
    let task = task.map(|id| id.parse()).transpose().map_err(|e| CliError::failed(format!("{e}")))?;
    let store = offline.view().store();
    let path = args.file.as_deref().filter(|path| path.as_os_str() != "-");
    let bar = bar(store, task.is_some())?;
    let mut progress = |written: &ExportCounts| bar.set_position(written.total());
    let done = match path {
        None => export::write(store, task, &mut context.out, &mut progress).map_err(CliError::from),
        Some(path) => to_file(path, |out| export::write(store, task, out, &mut progress)),
    };
    bar.finish_and_clear();
    let written = done?;
    if written.pending > 0 {
        let pending = text::count(written.pending, "pending record is", "pending records are");
        warn(&format!("{pending} not exported, because the parents are missing"));
    }
    if let Some(path) = path {
        writeln!(context.out, "Exported {} to {}", summary(&written), path.display())?;
    }
    Ok(())
}

fn summary(written: &ExportCounts) -> String {
    [
        text::count(written.tasks, "task", "tasks"),
        text::count(written.records, "record", "records"),
        text::count(written.controls, "control event", "control events"),
        text::count(written.profiles, "profile", "profiles"),
    ]
    .join(", ")
}

/// A progress bar on standard error. Hidden when that is not a terminal.
fn bar(store: &Store, partial: bool) -> Result<ProgressBar, CliError> {
    let style = |template: &str| ProgressStyle::with_template(template).map_err(|e| CliError::failed(e.to_string()));
    if partial {
        let bar = ProgressBar::new_spinner().with_style(style("{spinner} {pos} objects")?);
        bar.enable_steady_tick(TICK);
        return Ok(bar);
    }
    let counts = store.counts()?;
    // Legacy tasks have no manifest to write, so the bar may jump at its end.
    let total = counts.tasks + counts.experiments + counts.controls + counts.profiles;
    Ok(ProgressBar::new(total).with_style(style("{bar:32} {pos}/{len} objects, {eta} left")?))
}

/// Writes a file and replaces an old one in one step. A pipe or a device is written directly.
fn to_file(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<ExportCounts, ExportError>,
) -> Result<ExportCounts, CliError> {
    let name = path.display().to_string();
    let io = |error: io::Error| CliError::io(&name, &error);
    let failed = |error: ExportError| match error {
        ExportError::Write(error) => CliError::io(format!("cannot write {name}"), &error),
        other => other.into(),
    };
    // The target of a symbolic link is replaced, not the link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if fs::metadata(&path).is_ok_and(|meta| !meta.is_file()) {
        let file = OpenOptions::new().write(true).open(&path).map_err(io)?;
        return write(&mut BufWriter::with_capacity(BUFFER, file)).map_err(failed);
    }
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary = tempfile::Builder::new();
    temporary.prefix(".").suffix(".tmp").permissions(Permissions::from_mode(FILE_MODE));
    let temporary = temporary.tempfile_in(folder).map_err(io)?;
    let mut out = BufWriter::with_capacity(BUFFER, temporary.as_file());
    let written = write(&mut out).map_err(failed)?;
    drop(out);
    temporary.as_file().sync_all().map_err(io)?;
    temporary.persist(&path).map_err(|e| io(e.error))?;
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_replaced_only_by_a_complete_export() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("all.ndjson");
        let names = || fs::read_dir(dir.path()).unwrap().count();
        fs::write(&path, "old").unwrap();
        let ended = to_file(&path, |out| {
            out.write_all(b"half")?;
            Err(io::Error::from(io::ErrorKind::StorageFull).into())
        });
        assert!(ended.unwrap_err().message.contains("disk is full"));
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names()), ("old", 1));
        to_file(&path, |out| Ok(out.write_all(b"new").map(|()| ExportCounts::default())?)).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names()), ("new", 1));
    }
}
