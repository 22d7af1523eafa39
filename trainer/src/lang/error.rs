//! What can be wrong with a train script, told with the script's line and the next step.
//!
//! A script comes from strangers or from a language model, and its error is what the author (or
//! the model) sees, so every message stands alone.

use starlark::codemap::FileSpan;

use crate::ops::Misuse;

/// Why a script gave no graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// The text is longer than [`Limits::script_bytes`](super::Limits::script_bytes).
    #[error("the script has {bytes} bytes, the limit is {limit}: shorten it")]
    TooLong {
        /// Length of the script.
        bytes: usize,
        /// Longest allowed.
        limit: usize,
    },
    /// The script does not parse, or one of its calls is refused. The message starts with the
    /// function's name where one was called.
    #[error("line {line}: {message}")]
    At {
        /// Line of the script, from 1.
        line: u32,
        /// What is wrong and what to do.
        message: String,
    },
    /// Something is wrong with the script as a whole.
    #[error("{0}")]
    Whole(String),
    /// Nothing is wrong with the script: this machine has no thread to trace it on.
    #[error("cannot start a thread to trace the script: {0}")]
    NoThread(String),
    /// A change names a tunable that the script does not declare.
    #[error("the script has no tunable '{name}'; it declares: {declared}")]
    NoSuchTunable {
        /// The name asked for.
        name: String,
        /// The script's own, comma-separated.
        declared: String,
    },
    /// A change gives a value that the tunable does not allow.
    #[error("tunable '{name}': {message}")]
    BadValue {
        /// The tunable.
        name: String,
        /// Which values it takes.
        message: String,
    },
}

impl ScriptError {
    /// The script's line, from 1, where the error belongs to one.
    pub fn line(&self) -> Option<u32> {
        match self {
            ScriptError::At { line, .. } => Some(*line),
            _ => None,
        }
    }

    /// Takes the interpreter's error: its line and its sentence, without the coloured excerpt.
    pub(super) fn from_starlark(error: &starlark::Error) -> ScriptError {
        let message = error.without_diagnostic().to_string();
        let mut message = message.trim_end().to_owned();
        if message.contains("not supported for types") && message.contains("tensor") {
            // Only the left operand is asked, and numbers know nothing of tensors.
            message.push_str("; with a number on the left use sub(a, b) or div(a, b)");
        }
        match error.span().map(line_of) {
            Some(line) => ScriptError::At { line, message },
            None => ScriptError::Whole(message),
        }
    }
}

impl From<Misuse> for starlark::Error {
    fn from(misuse: Misuse) -> Self {
        starlark::Error::new_other(misuse)
    }
}

/// The line on which a span begins, from 1.
pub(super) fn line_of(span: &FileSpan) -> u32 {
    u32::try_from(span.resolve_span().begin.line.saturating_add(1)).unwrap_or(u32::MAX)
}
