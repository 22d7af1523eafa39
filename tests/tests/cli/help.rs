//! Every help text, at the width of a terminal.

use std::path::Path;

use spore_tests::{TestNet, spore};

use crate::snapshot::Transcript;

/// The commands that a help text lists.
fn subcommands(dir: &Path, command: &[&str]) -> Vec<String> {
    let help = spore(dir, &[command, &["--help"]].concat()).expect_code(0).stdout;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next().map(str::to_owned));
    names.filter(|name| !name.is_empty() && name != "help").collect()
}

#[test]
fn help_texts_are_as_reviewed() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    Transcript::new(&dir).run(&["--help"]).run(&["-h"]).run(&["--version"]).run(&["version"]).assert("help");
    let commands = subcommands(&dir, &[]);
    assert!(commands.len() > 20, "{commands:?}");
    for command in &commands {
        let mut transcript = Transcript::new(&dir);
        transcript.run(&[command, "--help"]);
        for subcommand in subcommands(&dir, &[command]) {
            transcript.run(&[command, &subcommand, "--help"]);
        }
        transcript.assert(&format!("help-{command}"));
    }
    assert!(!dir.exists(), "help creates nothing");
}
