//! How an import tells of itself while it runs: a bar on a terminal, and what is refused, to whom the
//! user asked for.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::PathBuf,
};

use indicatif::{ProgressBar, ProgressStyle};

use super::Options;
use crate::{
    cli::{CliError, text},
    import::{Fate, Notice, Part, Tally, Witness},
};

/// Refusals shown in the summary; the first few show what is wrong.
const SHOWN: usize = 10;

/// The bar, the report, and the first refusals.
pub struct Told {
    verbose: bool,
    report: Option<(PathBuf, BufWriter<File>)>,
    /// What went wrong with the report, once.
    broken: Option<std::io::Error>,
    first: Vec<Notice>,
    bar: ProgressBar,
    part: Option<Part>,
}

impl Told {
    /// # Errors
    /// When the report cannot be created.
    pub fn new(options: &Options) -> Result<Self, CliError> {
        let report = match &options.report {
            Some(path) => {
                let file = File::create(path).map_err(|e| CliError::io(path.display(), &e))?;
                Some((path.clone(), BufWriter::new(file)))
            }
            None => None,
        };
        let style = ProgressStyle::with_template("{bar:32} {pos}/{len} {msg}");
        let style = style.map_err(|e| CliError::failed(e.to_string()))?;
        // Drawn on standard error, and only where that is a terminal.
        let bar = ProgressBar::new(0).with_style(style);
        Ok(Self { verbose: options.verbose, report, broken: None, first: Vec::new(), bar, part: None })
    }

    /// Takes the bar away and completes the report. Gives the first refusals.
    ///
    /// # Errors
    /// When the report could not be written.
    pub fn finish(mut self) -> Result<Vec<Notice>, CliError> {
        self.bar.finish_and_clear();
        if let Some((path, mut file)) = self.report.take() {
            let written = match self.broken.take() {
                Some(error) => Err(error),
                None => file.flush(),
            };
            written.map_err(|e| CliError::io(format!("cannot write {}", path.display()), &e))?;
        }
        Ok(self.first)
    }
}

impl Witness for Told {
    fn notice(&mut self, notice: &Notice) {
        if self.verbose {
            self.bar.suspend(|| eprintln!("{}", sentence(notice)));
        }
        if let (Some((_, file)), None) = (&mut self.report, &self.broken) {
            let line = serde_json::to_string(notice).map_err(std::io::Error::from);
            self.broken = line.and_then(|line| writeln!(file, "{line}")).err();
        }
        if notice.outcome == Fate::Refused && self.first.len() < SHOWN {
            self.first.push(notice.clone());
        }
    }

    fn progress(&mut self, part: Part, tally: &Tally, total: Option<u64>) {
        if self.part != Some(part) {
            self.part = Some(part);
            self.bar.set_message(part.name());
        }
        self.bar.set_length(total.unwrap_or(tally.found));
        self.bar.set_position(tally.found);
    }
}

/// One line about something that was not simply taken in.
pub fn sentence(notice: &Notice) -> String {
    let outcome = match notice.outcome {
        Fate::Refused => "refused",
        Fate::Waiting => "waits",
    };
    let line = notice.line.map(|line| format!("line {line}: ")).unwrap_or_default();
    let id = text::line(&notice.id);
    let id = if id.is_empty() { id } else { format!(" {id}") };
    format!("{line}{outcome} {}{id}: {} ({})", one(notice.part), text::line(&notice.detail), notice.reason)
}

const fn one(part: Part) -> &'static str {
    match part {
        Part::Tasks => "task",
        Part::Records => "record",
        Part::Controls => "control event",
        Part::Profiles => "profile",
        Part::Artifacts => "artifact",
        Part::Peers => "known peer",
        Part::Lines => "line",
    }
}
