//! `spore export`: writes all signed objects as lines of JSON, beside a running node too.
//!
//! Objects are read page by page, from the running node or from the store, and both give the same lines. Objects that
//! the node stores meanwhile may be among them or not.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, BufWriter, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args as ClapArgs;
use indicatif::{ProgressBar, ProgressStyle};
use spore_api::{
    dto,
    objects::{self, ObjectFilter, ObjectLines},
    query::{MAX_LIST, Query},
    route::Route,
};
use spore_protocol::{Kind, TaskId};
use tempfile::NamedTempFile;

use super::{CliError, Context, access::NodeAccess, text, warn};

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
    let task = match &args.task {
        Some(given) => Some(source.task(Some(given)).await?.task_id),
        None => None,
    };
    let task = task.map(|id| id.parse::<TaskId>()).transpose().map_err(|e| CliError::failed(format!("{e}")))?;
    let path = args.file.as_deref().filter(|path| path.as_os_str() != "-");
    let bar = bar(&source, task.is_some())?;
    let done = match path {
        None => copy(&source, task, &mut context.out, &bar, &|e| CliError::io("cannot write the output", e)).await,
        Some(path) => to_file(path, &source, task, &bar).await,
    };
    bar.finish_and_clear();
    let written = done?;
    let pending = source.get::<dto::NodeStatus>(&Route::Status).await?.pending_count;
    if pending > 0 {
        let pending = text::count(pending, "pending record is", "pending records are");
        warn(&format!("{pending} not exported, because the parents are missing"));
    }
    if let Some(path) = path {
        writeln!(context.out, "Exported {} to {}", written.summary(), path.display())?;
    }
    Ok(())
}

/// Numbers of exported objects.
#[derive(Default)]
struct Exported {
    tasks: u64,
    records: u64,
    controls: u64,
    profiles: u64,
}

impl Exported {
    fn add(&mut self, page: &ObjectLines) -> Result<(), CliError> {
        let kind = page.kind.parse::<Kind>().map_err(CliError::failed)?;
        let count = match kind {
            Kind::Task => &mut self.tasks,
            Kind::Experiment => &mut self.records,
            Kind::Control => &mut self.controls,
            Kind::Profile => &mut self.profiles,
        };
        *count += page.lines.len() as u64;
        Ok(())
    }

    fn summary(&self) -> String {
        [
            text::count(self.tasks, "task", "tasks"),
            text::count(self.records, "record", "records"),
            text::count(self.controls, "control event", "control events"),
            text::count(self.profiles, "profile", "profiles"),
        ]
        .join(", ")
    }
}

/// Writes every page of the objects.
async fn copy(
    source: &NodeAccess,
    task: Option<TaskId>,
    out: &mut dyn Write,
    bar: &ProgressBar,
    failed: &dyn Fn(&io::Error) -> CliError,
) -> Result<Exported, CliError> {
    let (mut written, mut after) = (Exported::default(), None);
    loop {
        let page = page(source, task, after.as_deref()).await?;
        for line in &page.lines {
            out.write_all(line.as_bytes()).map_err(|e| failed(&e))?;
        }
        written.add(&page)?;
        bar.inc(page.lines.len() as u64);
        after = page.next;
        if after.is_none() {
            out.flush().map_err(|e| failed(&e))?;
            return Ok(written);
        }
    }
}

async fn page(source: &NodeAccess, task: Option<TaskId>, after: Option<&str>) -> Result<ObjectLines, CliError> {
    if let NodeAccess::Store(offline) = source {
        let filter = ObjectFilter { kind: None, task };
        return Ok(objects::page(offline.view().store(), filter, after, MAX_LIST)?);
    }
    let mut query = Query::default().with("limit", MAX_LIST);
    if let Some(task) = task {
        query = query.with("task", task);
    }
    if let Some(after) = after {
        query = query.with("after", after);
    }
    source.get_with(&Route::Objects, &query).await
}

/// A progress bar on standard error. Hidden when that is not a terminal.
fn bar(source: &NodeAccess, partial: bool) -> Result<ProgressBar, CliError> {
    let style = |template: &str| ProgressStyle::with_template(template).map_err(|e| CliError::failed(e.to_string()));
    let NodeAccess::Store(offline) = source else { return spinner(style("{spinner} {pos} objects")?) };
    if partial {
        return spinner(style("{spinner} {pos} objects")?);
    }
    let counts = offline.view().store().counts()?;
    // Legacy tasks have no manifest to write, so the bar may jump at its end.
    let total = counts.tasks + counts.experiments + counts.controls + counts.profiles;
    Ok(ProgressBar::new(total).with_style(style("{bar:32} {pos}/{len} objects, {eta} left")?))
}

fn spinner(style: ProgressStyle) -> Result<ProgressBar, CliError> {
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.enable_steady_tick(TICK);
    Ok(bar)
}

async fn to_file(
    path: &Path,
    source: &NodeAccess,
    task: Option<TaskId>,
    bar: &ProgressBar,
) -> Result<Exported, CliError> {
    let mut file = ExportFile::open(path)?;
    let written =
        copy(source, task, file.out(), bar, &|e| CliError::io(format!("cannot write {}", path.display()), e)).await?;
    file.finish()?;
    Ok(written)
}

/// A file that is replaced in one step, when its export is complete. A pipe or a device is written directly.
enum ExportFile {
    Direct { name: String, out: BufWriter<File> },
    Replaced { name: String, path: PathBuf, out: BufWriter<NamedTempFile> },
}

impl ExportFile {
    fn open(given: &Path) -> Result<Self, CliError> {
        let name = given.display().to_string();
        let failed = |error: io::Error| CliError::io(&name, &error);
        // The target of a symbolic link is replaced, not the link.
        let path = fs::canonicalize(given).unwrap_or_else(|_| given.to_owned());
        if fs::metadata(&path).is_ok_and(|meta| !meta.is_file()) {
            let file = OpenOptions::new().write(true).open(&path).map_err(failed)?;
            return Ok(Self::Direct { name, out: BufWriter::with_capacity(BUFFER, file) });
        }
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut temporary = tempfile::Builder::new();
        temporary.prefix(".").suffix(".tmp").permissions(Permissions::from_mode(FILE_MODE));
        let temporary = temporary.tempfile_in(folder).map_err(failed)?;
        Ok(Self::Replaced { name, path, out: BufWriter::with_capacity(BUFFER, temporary) })
    }

    /// # Errors
    /// When the last bytes cannot be written, or the file cannot be replaced.
    fn finish(self) -> Result<(), CliError> {
        match self {
            Self::Direct { name, mut out } => out.flush().map_err(|e| CliError::io(name, &e)),
            Self::Replaced { name, path, out } => {
                let failed = |error: &io::Error| CliError::io(&name, error);
                let temporary = out.into_inner().map_err(|e| failed(e.error()))?;
                temporary.as_file().sync_all().map_err(|e| failed(&e))?;
                temporary.persist(&path).map_err(|e| failed(&e.error))?;
                Ok(())
            }
        }
    }

    fn out(&mut self) -> &mut dyn Write {
        match self {
            Self::Direct { out, .. } => out,
            Self::Replaced { out, .. } => out,
        }
    }
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
        let mut file = ExportFile::open(&path).unwrap();
        file.out().write_all(b"half").unwrap();
        drop(file);
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names()), ("old", 1));
        let mut file = ExportFile::open(&path).unwrap();
        file.out().write_all(b"new").unwrap();
        file.finish().unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names()), ("new", 1));
    }
}
