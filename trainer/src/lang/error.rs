//! The errors of train scripts, with the line of the script and the next step.
//!
//! The author of a script, who may be a language model, sees nothing but the message. So every
//! message stands alone.

use starlark::codemap::FileSpan;

use crate::ops::{Leak, Misuse};

/// Why a script has no graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// The text is longer than [`Limits::script_bytes`](super::Limits::script_bytes).
    #[error("the script has {bytes} bytes, the limit is {limit}: shorten it")]
    TooLong {
        /// Length of the script.
        bytes: usize,
        /// Most bytes that are allowed.
        limit: usize,
    },
    /// The script does not parse, or one of its calls is refused. The message begins with the name
    /// of the called function, if any.
    #[error("line {line}: {message}")]
    At {
        /// Line of the script, from 1.
        line: u32,
        /// What is wrong and what to do.
        message: String,
    },
    /// A prediction may depend on bytes that it must not see.
    #[error(transparent)]
    NotCausal(#[from] Leak),
    /// The script as a whole is wrong.
    #[error("{0}")]
    Whole(String),
    /// The machine cannot start a thread to trace the script on. Not the script's fault.
    #[error("cannot start a thread to trace the script: {0}")]
    NoThread(String),
    /// A change names a tunable that the script does not declare.
    #[error("the script has no tunable '{name}'; it declares: {declared}")]
    NoSuchTunable {
        /// The name in the change.
        name: String,
        /// The names that the script declares, separated by commas.
        declared: String,
    },
    /// A change gives a value that the tunable does not allow.
    #[error("tunable '{name}': {message}")]
    BadValue {
        /// The tunable's name.
        name: String,
        /// Why the value is not allowed.
        message: String,
    },
}

impl ScriptError {
    /// The interpreter's error: its line and its sentence, without the excerpt of the script.
    pub(super) fn from_starlark(error: &starlark::Error) -> ScriptError {
        let message = error.without_diagnostic().to_string();
        let mut message = message.trim_end().to_owned();
        if message.contains("not supported for types") && message.contains("tensor") {
            // Starlark asks only the left operand, and a number there knows nothing of tensors.
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
