//! Train scripts in Starlark: the language of this project's own trainer (docs/train-script.md).

use super::{EvaluatedMetric, ScriptFormat};
use crate::Goal;

/// How train scripts are handled.
pub const FORMAT: ScriptFormat = ScriptFormat {
    name: "starlark_train_script",
    file_name: "train.star",
    // A well-commented GPT takes 6 KiB, and gossip carries an object of up to 64 KiB in one message.
    max_bytes: 64 * 1024,
    evaluated: Some(EvaluatedMetric { metric: "val_bpb", goal: Goal::Minimize }),
};
