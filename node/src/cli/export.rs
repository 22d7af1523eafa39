//! `spore export`: everything that was signed, as lines of JSON.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args as ClapArgs;
use indicatif::{ProgressBar, ProgressStyle};
use spore_storage::Store;

use super::{CliError, Context, ErrorKind, source::Source, text, warn};
use crate::export::{self, ExportError, Written};

/// Bytes gathered before they are written.
const BUFFER: usize = 1 << 18;

/// How often the bar moves where the number to come is not known.
const TICK: Duration = Duration::from_millis(120);

/// Write tasks, records, control events and profiles as lines of JSON
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Where to [default: standard output]. Replaced in one step, when everything is written
    file: Option<PathBuf>,
    /// One task only, without profiles: an id, the beginning of one, or a name
    #[arg(long, value_name = "ID")]
    task: Option<String>,
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let source = Source::open(context).await?;
    let Source::Store(offline) = &source else {
        return Err(CliError::new(ErrorKind::Locked, "a node runs on this data directory and has its store open")
            .hint("end that node, export, and start it again; or export another --data-dir"));
    };
    let task = match &args.task {
        Some(given) => Some(source.task(Some(given)).await?.task_id),
        None => None,
    };
    let task = task.map(|id| id.parse()).transpose().map_err(|e| CliError::failed(format!("{e}")))?;
    let store = offline.view().store();
    let path = args.file.as_deref().filter(|path| path.as_os_str() != "-");
    let bar = bar(store, task.is_some())?;
    let mut told = |written: &Written| bar.set_position(written.total());
    let done = match path {
        None => export::write(store, task, &mut context.out, &mut told).map_err(|e| failed("the output", e)),
        Some(path) => to_file(path, |out| export::write(store, task, out, &mut told)),
    };
    bar.finish_and_clear();
    let written = done?;
    if written.pending > 0 {
        let waiting = text::count(written.pending, "record waits", "records wait");
        warn(&format!("{waiting} for a parent and cannot be exported yet"));
    }
    if let Some(path) = path {
        writeln!(context.out, "{}: {}", path.display(), summary(&written))?;
    }
    Ok(())
}

fn summary(written: &Written) -> String {
    [
        text::count(written.tasks, "task", "tasks"),
        text::count(written.records, "record", "records"),
        text::count(written.controls, "control event", "control events"),
        text::count(written.profiles, "profile", "profiles"),
    ]
    .join(", ")
}

/// Shown on standard error, where that is a terminal.
fn bar(store: &Store, partial: bool) -> Result<ProgressBar, CliError> {
    let style = |template: &str| ProgressStyle::with_template(template).map_err(|e| CliError::failed(e.to_string()));
    if partial {
        let bar = ProgressBar::new_spinner().with_style(style("{spinner} {pos} objects")?);
        bar.enable_steady_tick(TICK);
        return Ok(bar);
    }
    let counts = store.counts()?;
    // Legacy tasks have no manifest to write, so that the bar may jump at its end.
    let total = counts.tasks + counts.experiments + counts.controls + counts.profiles;
    Ok(ProgressBar::new(total).with_style(style("{bar:32} {pos}/{len} objects, {eta} left")?))
}

fn failed(what: &str, error: ExportError) -> CliError {
    match error {
        ExportError::Store(error) => error.into(),
        ExportError::Write(error) => CliError::io(format!("cannot write {what}"), &error),
        ExportError::Object { .. } => CliError::failed(error.to_string()),
    }
}

/// Writes beside `path` and gives the file its name when it is whole. A pipe or device is written to
/// as it is.
fn to_file(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<Written, ExportError>,
) -> Result<Written, CliError> {
    let name = path.display().to_string();
    let io = |error: io::Error| CliError::io(&name, &error);
    // A link stays a link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if fs::metadata(&path).is_ok_and(|meta| !meta.is_file()) {
        let file = OpenOptions::new().write(true).open(&path).map_err(io)?;
        return write(&mut BufWriter::with_capacity(BUFFER, file)).map_err(|e| failed(&name, e));
    }
    let partial = Partial::create(&path).map_err(io)?;
    let mut out = BufWriter::with_capacity(BUFFER, &partial.file);
    let written = write(&mut out).map_err(|e| failed(&name, e))?;
    drop(out);
    partial.finish(&path).map_err(io)?;
    Ok(written)
}

/// A file that is not whole yet. Dropped, it goes.
struct Partial {
    file: File,
    path: PathBuf,
}

impl Partial {
    fn create(target: &Path) -> io::Result<Self> {
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let path = target.with_file_name(name);
        // One left by a killed process of the same number.
        let _ = fs::remove_file(&path);
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(Self { file, path })
    }

    fn finish(self, target: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, target)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After the rename there is nothing of that name any more.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_when_it_is_whole_and_not_before() {
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
        to_file(&path, |out| Ok(out.write_all(b"new").map(|()| Written::default())?)).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names()), ("new", 1));
    }
}
