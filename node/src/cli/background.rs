//! What the process of a node knows of itself: the words of its command line, whether a terminal or a service manager looks
//! after it, and that it holds `process.json`.

use std::ffi::{OsStr, OsString};

use super::{CliError, Context};
use crate::{
    data_dir::DataDir,
    process_file::{NodeProcess, Place, ProcessLock},
};

/// The words behind the command on this program's command line, without the data directory.
pub fn own_words(command: &str) -> Vec<OsString> {
    behind(command, std::env::args_os().skip(1))
}

fn behind(command: &str, words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    without_directory(words).into_iter().skip_while(|word| word != command).skip(1).collect()
}

/// A command line without the flag of the data directory.
fn without_directory(mut words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        if !names_directory(&word) {
            kept.push(word);
        } else if word == "-d" || word == "--data-dir" {
            words.next();
        }
    }
    kept
}

/// Whether a word of a command line names the data directory.
pub fn names_directory(word: &OsStr) -> bool {
    let text = word.to_str().unwrap_or_default();
    text == "--data-dir" || text.starts_with("--data-dir=") || text.starts_with("-d")
}

/// Makes this process, which `start` has spawned, independent of the terminal.
pub fn detach(data: &DataDir) {
    // A session of its own: a closed terminal sends no signal here. It fails only in a process that leads a group, which
    // a terminal's signals do not reach either.
    let _ = rustix::process::setsid();
    // The folder in which the command was typed stays free to be moved or unmounted.
    let _ = std::env::set_current_dir(data.root());
}

/// Whether a service manager started this process itself, and not a program that it started.
fn of_service() -> bool {
    let own = std::process::id().to_string();
    std::env::var_os("NOTIFY_SOCKET").is_some() || std::env::var_os("SYSTEMD_EXEC_PID").is_some_and(|pid| pid == *own)
}

/// Says that this process runs the node of the data directory. None when another process does: opening the store tells.
pub fn hold(in_background: bool, context: &Context) -> Result<Option<ProcessLock>, CliError> {
    context.data.create()?;
    let place = match (in_background, of_service()) {
        (true, _) => Place::Background,
        (false, true) => Place::Service,
        (false, false) => Place::Foreground,
    };
    let flag = OsStr::new("--in-background");
    let words = own_words("run").into_iter().filter(|word| word != flag);
    let words = words.filter_map(|word| word.into_string().ok()).collect();
    let path = context.data.process();
    ProcessLock::take(&path, &NodeProcess::own(place, words)).map_err(|e| CliError::io(path.display(), &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_the_run_are_kept_without_the_data_directory() {
        for line in [
            "start --no-train -p 1",
            "-d start start --no-train -p 1",
            "start -d /x --no-train -p 1",
            "--data-dir=/x start --no-train -d/y -p 1",
            "start --no-train --data-dir /x -p 1",
        ] {
            let words = behind("start", line.split(' ').map(OsString::from));
            assert_eq!(words, ["--no-train", "-p", "1"], "{line}");
        }
        assert!(behind("start", ["start"].into_iter().map(OsString::from)).is_empty());
    }
}
