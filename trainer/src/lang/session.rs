//! The declarations of a running script so far: nodes, parameters, tunables and, after the call of
//! `train()`, the experiment. Every tensor of the script has a handle to them.
//!
//! The limits are enforced here, as each node is made, so that a script that goes beyond one ends
//! at the line that does.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::content::Declared;
use super::handles::TraceSession;
use super::limits::{Limits, NAME_BYTES, TUNABLES};
use super::tunable::Tunable;
use crate::graph::{Graph, GraphNode, MAX_RANK, Op, Param, ParamId, Shape, ValueId};
use crate::ops::{Misuse, ReadParam, Symbol, Trace};
use crate::value::{elements, show};

impl TraceSession {
    pub(super) fn new(limits: Limits) -> TraceSession {
        TraceSession(Arc::new(Mutex::new(Declared {
            limits,
            line: 1,
            nodes: Vec::new(),
            params: Vec::new(),
            param_names: HashSet::new(),
            param_elements: 0,
            activation_elements: 0,
            tunables: Vec::new(),
            experiment: None,
        })))
    }

    /// Locks the declarations. Only the tracing thread ever does, so this never waits.
    pub(super) fn declared(&self) -> MutexGuard<'_, Declared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the input bytes, shape `[batch, context]`.
    pub(super) fn tokens(&self, batch: usize, context: usize) -> Result<Symbol, Misuse> {
        let shape = vec![batch, context];
        let id = self.record(Op::Tokens, shape.clone())?;
        Ok(Symbol { id, shape, is_tokens: true })
    }
}

impl Trace for TraceSession {
    fn record(&self, op: Op, shape: Shape) -> Result<ValueId, Misuse> {
        self.declared().push(op, shape)
    }

    fn declare(&self, param: Param) -> Result<ValueId, Misuse> {
        self.declared().push_param(param)
    }
}

impl Declared {
    /// Adds a value, at the running line, if it keeps within the limits.
    pub(super) fn push(&mut self, op: Op, shape: Shape) -> Result<ValueId, Misuse> {
        let name = op.rules().name();
        if shape.len() > MAX_RANK {
            return Err(Misuse::new(format!(
                "{name}: {} has more than {MAX_RANK} dimensions: reshape() some together",
                show(&shape)
            )));
        }
        if shape.contains(&0) {
            return Err(Misuse::new(format!(
                "{name}: {} has an extent of 0; every extent is at least 1",
                show(&shape)
            )));
        }
        let count = elements(&shape);
        if count > self.limits.value_elements {
            return Err(Misuse::new(format!(
                "{name}: {} has {count} elements, the limit for one value is {}: use a smaller batch, context or width",
                show(&shape),
                self.limits.value_elements
            )));
        }
        if self.nodes.len() >= self.limits.nodes {
            return Err(Misuse::new(format!(
                "{name}: the model has more than {} operations: use fewer layers",
                self.limits.nodes
            )));
        }
        if op.rules().allocates() {
            self.activation_elements = self.activation_elements.saturating_add(count);
            let limit = self.limits.activation_bytes;
            if self.activation_elements.saturating_mul(4) > limit {
                return Err(Misuse::new(format!(
                    "{name}: with {} the values of one step pass {} MiB, the limit: use a smaller batch, context, width or fewer layers",
                    show(&shape),
                    limit >> 20
                )));
            }
        }
        let id = ValueId(u32::try_from(self.nodes.len()).map_err(|_| Misuse::new("too many operations"))?);
        self.nodes.push(GraphNode { op, shape, line: self.line, enforced: None });
        Ok(id)
    }

    /// Adds a trainable tensor and the node that reads it.
    pub(super) fn push_param(&mut self, param: Param) -> Result<ValueId, Misuse> {
        let name = &param.name;
        check_name("param", name)?;
        if param.shape.is_empty() {
            return Err(Misuse::new(format!(
                "param '{name}': the shape is empty; give at least one extent, such as [1]"
            )));
        }
        if self.params.len() >= self.limits.params {
            return Err(Misuse::new(format!(
                "param '{name}': more than {} parameters: use fewer layers",
                self.limits.params
            )));
        }
        self.param_elements = self.param_elements.saturating_add(elements(&param.shape));
        if self.param_elements > self.limits.param_elements {
            return Err(Misuse::new(format!(
                "param '{name}': with {} the parameters have {} elements together, the limit is {}: use a smaller width or fewer layers",
                show(&param.shape),
                self.param_elements,
                self.limits.param_elements
            )));
        }
        if !self.param_names.insert(name.clone()) {
            return Err(Misuse::new(format!(
                "param '{name}': the name is taken; every parameter needs its own, such as '{name}.%d' % layer"
            )));
        }
        let id = ParamId(u32::try_from(self.params.len()).map_err(|_| Misuse::new("too many parameters"))?);
        let value = self.push(ReadParam(id).into(), param.shape.clone())?;
        self.params.push(param);
        Ok(value)
    }

    /// Adds a tunable, if its name and its call are new.
    pub(super) fn push_tunable(&mut self, tunable: Tunable) -> Result<(), Misuse> {
        let name = &tunable.name;
        check_name("tune", name)?;
        if self.tunables.len() >= TUNABLES {
            return Err(Misuse::new(format!("tune '{name}': more than {TUNABLES} tunables: keep those that matter")));
        }
        if self.tunables.iter().any(|other| other.name == *name) {
            return Err(Misuse::new(format!(
                "tune '{name}': the name is taken; call tune() once for each and keep the result in a variable"
            )));
        }
        if self.tunables.iter().any(|other| other.span == tunable.span) {
            return Err(Misuse::new(format!(
                "tune '{name}': this call declared another name before; write one tune() call for each tunable"
            )));
        }
        self.tunables.push(tunable);
        Ok(())
    }

    /// Refuses a finished graph whose training step costs more than the limit.
    pub(super) fn check_cost(&self, graph: &Graph) -> Result<(), Misuse> {
        let (flops, limit) = (graph.flops_per_step(), self.limits.step_flops);
        if flops <= limit {
            return Ok(());
        }
        Err(Misuse::new(format!(
            "one training step takes {flops:.1e} floating-point operations, the limit is {limit:.1e}: use a smaller batch, context, width or fewer layers",
            flops = flops as f64,
            limit = limit as f64
        )))
    }
}

fn check_name(what: &str, name: &str) -> Result<(), Misuse> {
    if name.is_empty() || name.len() > NAME_BYTES || name.chars().any(char::is_control) {
        return Err(Misuse::new(format!("{what}: a name has 1 to {NAME_BYTES} printable bytes")));
    }
    Ok(())
}
