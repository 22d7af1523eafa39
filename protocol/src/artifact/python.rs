//! Train scripts in Python, which the nodes of the existing network run.
//!
//! This node does not run them: they may do anything on the machine. It stores and serves them.

use super::ScriptFormat;

/// How Python scripts are handled.
pub const FORMAT: ScriptFormat = ScriptFormat {
    name: "python_train_script",
    file_name: "train.py",
    // The same as for our own scripts: a mirror does not know a script's type before it has it.
    max_bytes: 64 * 1024,
    evaluated: None,
};
