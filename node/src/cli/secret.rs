//! Reads a secret without showing it: from standard input, or from a person at the terminal.
//!
//! Never here: what the secret is for, or a copy of it in a message.

use std::{
    io::{self, IsTerminal, Read, Write},
    process::{Command, Stdio},
};

use super::CliError;

/// Most bytes that are read: keys have some hundred.
const MAX_BYTES: u64 = 16 << 10;

/// The text on standard input, to its end.
///
/// # Errors
/// When standard input cannot be read, or is not text.
pub fn from_stdin() -> Result<String, CliError> {
    let mut text = String::new();
    let read = io::stdin().lock().take(MAX_BYTES).read_to_string(&mut text);
    read.map_err(|e| CliError::io("standard input", &e))?;
    Ok(text)
}

/// Whether a person can be asked.
pub fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a person at the terminal for one line, which is not shown while it is typed.
///
/// # Errors
/// When the terminal cannot be read.
pub async fn ask(question: &str) -> Result<String, CliError> {
    let failed = |e: &io::Error| CliError::io("the terminal", e);
    let mut prompt = io::stderr();
    // Before the question: a person, or a program, may answer as soon as it is there.
    let hidden = echo(false);
    if let Err(error) = write!(prompt, "{question}: ").and_then(|()| prompt.flush()) {
        if hidden {
            echo(true);
        }
        return Err(failed(&error));
    }
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map(|_| line)
    });
    // A person who presses Ctrl-C must get back a terminal that shows what is typed.
    let line = tokio::select! {
        line = line => Some(line),
        _ = tokio::signal::ctrl_c() => None,
    };
    if hidden {
        echo(true);
    }
    let _ = writeln!(prompt);
    let Some(line) = line else { std::process::exit(130) };
    line.map_err(|e| CliError::failed(e.to_string()))?.map_err(|e| failed(&e))
}

/// Makes the terminal show what is typed, or not. Returns whether it does as asked: without `stty` it shows the text.
fn echo(shown: bool) -> bool {
    let mode = if shown { "echo" } else { "-echo" };
    let mut stty = Command::new("stty");
    stty.arg(mode).stdin(Stdio::inherit()).stdout(Stdio::null()).stderr(Stdio::null());
    stty.status().is_ok_and(|status| status.success())
}
