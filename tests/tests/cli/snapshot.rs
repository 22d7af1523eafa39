//! Compares the whole output of commands with snapshots.

use std::path::Path;

use insta::Settings;
use spore_tests::{
    Output,
    command::{command, run},
};

/// The width of the terminal that help texts and tables have to fit.
const COLUMNS: &str = "80";

/// Texts that differ from run to run, and their replacements. A replacement in a table keeps the width of its cell.
const FILTERS: [(&str, &str); 11] = [
    // Timestamps of the fixtures are in 1970, so that the width of their age is the same until 2069.
    (r"\b\d\dy ago\b", "57y ago"),
    (r"\b\d+[smh] ago\b", "[TIME] ago"),
    // Ports that tests choose. Ports in help texts are smaller.
    (r"127\.0\.0\.1:[2-6]\d{4}\b", "127.0.0.1:[PORT]"),
    (r"0\.0\.0\.0:[2-6]\d{4}\b", "0.0.0.0:[PORT]"),
    (r"/(tcp|udp)/[2-6]\d{4}\b", "/$1/[PORT]"),
    (r"process \d+", "process [PID]"),
    (r"(?m)^Up( +)\d+[smh]$", "Up$1[TIME]"),
    (r"\b([Ss]pore[ /])(\d+\.)+\d+", "$1[VERSION]"),
    // RocksDB decides on the number of its files.
    (r"\b\d+ ((table )?files)\b", "[N] $1"),
    (r"(?m)^Version( +)[\d.]+$", "Version$1[VERSION]"),
    (r"\b\d+(\.\d+)? (B|[KMG]iB)\b", "[SIZE]"),
];

/// Runs commands on one data directory and gathers what they print.
pub struct Transcript<'a> {
    dir: &'a Path,
    columns: &'a str,
    text: String,
}

impl<'a> Transcript<'a> {
    pub fn new(dir: &'a Path) -> Self {
        Self { dir, columns: COLUMNS, text: String::new() }
    }

    /// As [`Transcript::new`], for tables whose cells differ in width from run to run: no cell is wrapped.
    pub fn wide(dir: &'a Path) -> Self {
        Self { columns: "400", ..Self::new(dir) }
    }

    /// With another number of characters a line.
    #[must_use]
    pub fn columns(self, columns: &'a str) -> Self {
        Self { columns, ..self }
    }

    /// What was printed so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Runs `spore ARGS`.
    pub fn run(&mut self, args: &[&str]) -> &mut Self {
        self.run_with_input(args, "")
    }

    /// Runs `spore ARGS` with a text on standard input.
    pub fn run_with_input(&mut self, args: &[&str], input: &str) -> &mut Self {
        let mut command = command(self.dir, args);
        command.env("COLUMNS", self.columns).current_dir(self.dir.parent().unwrap());
        let output = run(command, input.as_bytes());
        self.add(args, &output)
    }

    fn add(&mut self, args: &[&str], output: &Output) -> &mut Self {
        let Output { code, stdout, stderr, .. } = output;
        assert!(!stderr.contains("panicked"), "{stderr}");
        self.text += &format!("$ spore {}\n{stdout}{stderr}", args.join(" "));
        if *code != 0 {
            self.text += &format!("[exit code {code}]\n");
        }
        self.text += "\n";
        self
    }

    /// Adds a text that was printed by another process.
    pub fn add_text(&mut self, text: &str) -> &mut Self {
        self.text += text;
        self
    }

    /// Replaces a text that differs from run to run.
    pub fn replace(&mut self, from: &str, to: &str) -> &mut Self {
        self.text = self.text.replace(from, to);
        self
    }

    /// Replaces cells that are numbers and closes the gaps between cells, for tables whose sizes differ from run to run.
    pub fn without_numbers(&mut self) -> &mut Self {
        let squeezed = |line: &str| {
            let cells = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
            // Also a duration such as `12s`, or a score such as `0.5`.
            let number = |cell: &str| {
                let digits = cell.trim_end_matches(['s', 'm', 'h']);
                !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit() || b"-.".contains(&byte))
            };
            cells.map(|cell| if number(cell) { "[N]" } else { cell }).collect::<Vec<_>>().join("  ")
        };
        self.text = self.text.lines().map(squeezed).collect::<Vec<_>>().join("\n");
        self
    }

    /// Asserts that the transcript is that of the snapshot.
    #[track_caller]
    pub fn assert(&self, name: &str) {
        let mut settings = Settings::clone_current();
        settings.set_snapshot_path("snapshots");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        for (pattern, replacement) in FILTERS {
            settings.add_filter(pattern, replacement);
        }
        let parent = self.dir.parent().unwrap().display().to_string();
        // Lines have no blanks at their ends in the snapshot: tables pad their last column.
        let lines = self.text.replace(&parent, "[TEMP]");
        let lines: Vec<_> = lines.lines().map(str::trim_end).collect();
        settings.bind(|| insta::assert_snapshot!(name, lines.join("\n")));
    }
}
