//! The content of the interpreter's handles: a registered function, a script's declarations, a setting. This file has
//! only the data; `library`, `session` and `setting` have the behaviour.

use std::collections::HashSet;
use std::fmt;

use starlark::eval::ParametersSpec;
use starlark::values::FrozenValue;

use super::limits::Limits;
use super::tunable::Tunable;
use crate::graph::{GraphNode, Init, Optimizer, Param, Schedule, ValueId};
use crate::ops::Builtin;

/// A builtin, with its parameters in the interpreter's form.
pub(super) struct Registered {
    pub(super) builtin: &'static Builtin,
    pub(super) signature: ParametersSpec<FrozenValue>,
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.builtin.name)
    }
}

/// The declarations themselves.
#[derive(Debug)]
pub(super) struct Declared {
    pub(super) limits: Limits,
    /// Line of the statement that is running, from 1.
    pub(super) line: u32,
    pub(super) nodes: Vec<GraphNode>,
    pub(super) params: Vec<Param>,
    pub(super) param_names: HashSet<String>,
    pub(super) param_elements: u64,
    pub(super) activation_elements: u64,
    pub(super) tunables: Vec<Tunable>,
    pub(super) experiment: Option<DeclaredExperiment>,
}

/// The arguments of `train()`, and the logits that its model returned.
#[derive(Clone, Debug)]
pub(super) struct DeclaredExperiment {
    pub(super) batch: usize,
    pub(super) context: usize,
    pub(super) logits: ValueId,
    pub(super) optimizer: Optimizer,
    pub(super) schedule: Schedule,
}

/// A value that a script can pass on but not look into.
#[derive(Clone, Debug)]
pub(super) enum Setting {
    /// Made by `normal`, `uniform`, `zeros`, `ones` or `constant`.
    Init(Init),
    /// Made by `adamw`, `muon`, `lion` or `sgd`.
    Optimizer(Optimizer),
    /// Made by `schedule`.
    Schedule(Schedule),
}
