//! Shows a running import: a bar on a terminal, and reports of rejected and pending objects.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::PathBuf,
};

use indicatif::{ProgressBar, ProgressStyle};

use super::ImportFlags;
use crate::{
    cli::{CliError, output, text},
    import::{ImportKind, ImportObserver, Notice, NoticeOutcome, Tally},
};

/// Rejected objects in the summary. The first few show what is wrong.
const SHOWN: usize = 10;

/// The bar, the report file and the first rejected objects.
pub struct Reporter {
    verbose: bool,
    report: Option<(PathBuf, BufWriter<File>)>,
    /// The first error of writing the report.
    failed: Option<std::io::Error>,
    first: Vec<Notice>,
    bar: ProgressBar,
    kind: Option<ImportKind>,
}

impl Reporter {
    /// # Errors
    /// When the report cannot be created.
    pub fn new(flags: &ImportFlags) -> Result<Self, CliError> {
        let report = match &flags.report {
            Some(path) => {
                let file = File::create(path).map_err(|e| CliError::io(path.display(), &e))?;
                Some((path.clone(), BufWriter::new(file)))
            }
            None => None,
        };
        let style = ProgressStyle::with_template("{bar:32} {pos}/{len} {msg}");
        let style = style.map_err(|e| CliError::failed(e.to_string()))?;
        // indicatif draws on standard error, and only on a terminal.
        let bar = ProgressBar::new(0).with_style(style);
        Ok(Self { verbose: flags.verbose, report, failed: None, first: Vec::new(), bar, kind: None })
    }

    /// Removes the bar and completes the report. Returns the first rejected objects.
    ///
    /// # Errors
    /// When the report could not be written.
    pub fn finish(mut self) -> Result<Vec<Notice>, CliError> {
        self.bar.finish_and_clear();
        if let Some((path, mut file)) = self.report.take() {
            let written = match self.failed.take() {
                Some(error) => Err(error),
                None => file.flush(),
            };
            written.map_err(|e| CliError::io(format!("cannot write {}", path.display()), &e))?;
        }
        Ok(self.first)
    }
}

impl ImportObserver for Reporter {
    fn notice(&mut self, notice: &Notice) {
        if self.verbose {
            self.bar.suspend(|| output::message(&sentence(notice)));
        }
        if let (Some((_, file)), None) = (&mut self.report, &self.failed) {
            let line = serde_json::to_string(notice).map_err(std::io::Error::from);
            self.failed = line.and_then(|line| writeln!(file, "{line}")).err();
        }
        if notice.outcome == NoticeOutcome::Refused && self.first.len() < SHOWN {
            self.first.push(notice.clone());
        }
    }

    fn progress(&mut self, kind: ImportKind, tally: &Tally, total: Option<u64>) {
        if self.kind != Some(kind) {
            self.kind = Some(kind);
            self.bar.set_message(kind.name());
        }
        self.bar.set_length(total.unwrap_or(tally.found));
        self.bar.set_position(tally.found);
    }
}

/// One line about an object that was not imported.
pub fn sentence(notice: &Notice) -> String {
    let outcome = match notice.outcome {
        NoticeOutcome::Refused => "rejected",
        NoticeOutcome::Waiting => "pending",
    };
    let line = notice.line.map(|line| format!("line {line}: ")).unwrap_or_default();
    let id = text::line(&notice.id);
    let id = if id.is_empty() { id } else { format!(" {id}") };
    format!("{line}{outcome} {}{id}: {} ({})", one(notice.kind), text::line(&notice.detail), notice.reason)
}

/// The name of one object of a kind.
const fn one(kind: ImportKind) -> &'static str {
    match kind {
        ImportKind::Tasks => "task",
        ImportKind::Records => "record",
        ImportKind::Controls => "control event",
        ImportKind::Profiles => "profile",
        ImportKind::Artifacts => "artifact",
        ImportKind::Peers => "known peer",
        ImportKind::Lines => "line",
    }
}
