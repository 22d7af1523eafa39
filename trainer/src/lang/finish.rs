//! Makes the graph out of a script's declarations: unused values are dropped, and the rest is
//! brought into one order, so that scripts with one meaning have one graph.

use crate::graph::{Graph, GraphNode, Op, Param, ParamId, ValueId};
use crate::ops::ReadParam;

use super::content::{Declared, DeclaredExperiment};

/// The graph, and a note for each declared parameter that does not affect the logits.
///
/// Nodes stand in depth-first order from the logits, inputs from left to right. Parameters stand in
/// the order of their first use. Neither depends on the order in which the script made them.
pub(super) fn graph(declared: &Declared, experiment: &DeclaredExperiment) -> (Graph, Vec<String>) {
    let order = depth_first(&declared.nodes, experiment.logits);
    let mut place = vec![None; declared.nodes.len()];
    let mut params: Vec<Param> = Vec::new();
    let mut used = vec![false; declared.params.len()];
    let mut nodes: Vec<GraphNode> = Vec::with_capacity(order.len());
    for old in order {
        let Some(mut node) = declared.nodes.get(old).cloned() else { continue };
        if let Op::ReadParam(ReadParam(id)) = &mut node.op {
            let declared_at = id.0 as usize;
            *id = ParamId(u32::try_from(params.len()).unwrap_or(u32::MAX));
            params.extend(declared.params.get(declared_at).cloned());
            used.iter_mut().skip(declared_at).take(1).for_each(|flag| *flag = true);
        }
        for input in node.op.inputs_mut() {
            // Depth first: the inputs of a node were placed before it.
            if let Some(Some(new)) = place.get(input.index()) {
                *input = *new;
            }
        }
        if let Some(slot) = place.get_mut(old) {
            *slot = Some(ValueId::at(nodes.len()));
        }
        nodes.push(node);
    }
    let notes = declared
        .params
        .iter()
        .zip(&used)
        .filter(|(_, used)| !**used)
        .map(|(param, _)| format!("parameter '{}' does not affect the logits and was left out", param.name))
        .collect();
    let logits = ValueId::at(nodes.len().saturating_sub(1));
    let graph = Graph {
        batch: experiment.batch,
        context: experiment.context,
        params,
        nodes,
        logits,
        optimizer: experiment.optimizer.clone(),
        schedule: experiment.schedule.clone(),
    };
    (graph, notes)
}

/// Indices of the nodes that `root` depends on, each after its inputs; `root` comes last.
/// Iterative, because a chain of nodes may be as long as the limit allows.
fn depth_first(nodes: &[GraphNode], root: ValueId) -> Vec<usize> {
    let mut order = Vec::new();
    let mut seen = vec![false; nodes.len()];
    let mut stack = vec![(root.index(), false)];
    while let Some((at, inputs_done)) = stack.pop() {
        if inputs_done {
            order.push(at);
            continue;
        }
        let Some(visited) = seen.get_mut(at) else { continue };
        if std::mem::replace(visited, true) {
            continue;
        }
        stack.push((at, true));
        if let Some(node) = nodes.get(at) {
            stack.extend(node.op.inputs().into_iter().rev().map(|input| (input.index(), false)));
        }
    }
    order
}
