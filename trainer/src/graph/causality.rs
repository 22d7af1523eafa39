//! The proof that a model's predictions depend only on earlier bytes of their own sequence.
//!
//! The proof is one pass over the graph, before it runs: each operation says which bytes its
//! result may depend on, given those of its inputs ([`Operation::causality`]). It holds for all
//! parameters and all bytes. A graph that passes cannot leak; a graph that is refused may be
//! causal for a reason that the rules do not know. `docs/causality.md` has the rules for readers who want
//! to attack them.
//!
//! The proof does not cover a device whose kernels compute something else than their operation, nor
//! the order of sums where it depends on more than shapes.
//!
//! [`Operation::causality`]: crate::ops::Operation::causality

use super::{Graph, ValueId};
use crate::ops::flow::{Broken, Flow};
use crate::ops::{Leak, Located};

/// Most entries of tables that the proof computes: about a second of work. The largest honest
/// scripts, 20,000 operations over a context of 1,024, take a sixth of it.
const WORK: usize = 1 << 28;
/// Most numbers of constants that the proof computes: 256 MiB if a script keeps all of them.
/// Beyond, masks made of plain numbers are not recognised any more.
const CONSTANTS: usize = 1 << 25;

impl Graph {
    /// Proves the graph causal, and notes at its nodes what evaluation must enforce for that.
    ///
    /// # Errors
    /// [`Leak`] with the line of the operation that lets a position see later bytes or another
    /// sequence.
    pub fn prove_causal(&mut self) -> Result<(), Leak> {
        let mut enforced = Vec::with_capacity(self.nodes.len());
        let logits = self.flows(&mut |flow| enforced.push(flow.enforced.take()))?;
        logits.check_predictions(self.batch).map_err(|broken| self.leak(&broken))?;
        for (node, enforced) in self.nodes.iter_mut().zip(enforced) {
            node.enforced = enforced;
        }
        Ok(())
    }

    /// For each node the axis of its value, counted from the last, along which the sequences of the batch stand; none
    /// where no sequence enters. None for a graph that is not proved.
    pub(super) fn batch_axes(&self) -> Option<Vec<Option<usize>>> {
        let mut axes = Vec::with_capacity(self.nodes.len());
        let logits = self.flows(&mut |flow| {
            flow.enforced = None;
            axes.push(flow.batch_axis());
        });
        let logits = logits.ok()?;
        logits.check_predictions(self.batch).ok()?;
        Some(axes)
    }

    /// Computes the flow of each node in order, shows it to `visit`, and returns that of the logits.
    fn flows(&self, visit: &mut dyn FnMut(&mut Flow)) -> Result<Flow, Leak> {
        let last_use = self.last_use();
        let mut flows: Vec<Option<Flow>> = Vec::with_capacity(self.nodes.len());
        let (mut work, mut constants) = (0_usize, 0_usize);
        for (i, node) in self.nodes.iter().enumerate() {
            let at = Located::new(&self.nodes, i);
            let ids = node.op.inputs();
            let inputs = ids.iter().map(|id| flows.get(id.index()).cloned().flatten());
            // Tracing excludes an input that stands later in the graph.
            let inputs: Option<Vec<Flow>> = inputs.collect();
            let inputs = inputs.ok_or_else(|| Leak::new(at, "reads a value before it is made"))?;
            let mut flow = node.op.rules().causality(&inputs, at)?;
            // A concatenation looks at a table for each part.
            let tables = inputs.len().saturating_sub(2).saturating_mul(flow.largest_table());
            work = work.saturating_add(flow.work_beyond(&inputs)).saturating_add(tables);
            if work > WORK {
                return Err(Leak::new(at, "is too much to prove: use a shorter context or fewer operations along it"));
            }
            constants = constants.saturating_add(flow.constant_work(&inputs));
            if constants > CONSTANTS {
                flow.forget_constant();
            }
            visit(&mut flow);
            flows.push(Some(flow));
            for id in ids.iter().filter(|id| last_use.get(id.index()) == Some(&i)) {
                if let Some(slot) = flows.get_mut(id.index()) {
                    *slot = None;
                }
            }
        }
        let logits = flows.get_mut(self.logits.index()).and_then(Option::take);
        logits.ok_or_else(|| {
            let at = Located::new(&self.nodes, self.logits.index());
            Leak::new(at, "is read again after the logits are made")
        })
    }

    fn leak(&self, broken: &Broken) -> Leak {
        let leak = |id: ValueId, reason: &str| Leak::new(Located::new(&self.nodes, id.index()), reason);
        match broken {
            Broken::Rows => leak(self.logits, "leaves the sequences of the batch on another axis than the first"),
            Broken::Ahead { cause, .. }
                if self.nodes.get(cause.index()).is_some_and(|node| node.op == super::Op::Tokens) =>
            {
                leak(
                    self.logits,
                    "leaves the positions of the context on another axis than the second, or in another order",
                )
            }
            Broken::Ahead { places, cause } => leak(
                *cause,
                &format!(
                    "lets a prediction see bytes up to {places} position{} later: mix positions with attention(), causal_mask() or shift()",
                    if *places == 1 { "" } else { "s" }
                ),
            ),
        }
    }
}
