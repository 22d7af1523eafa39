//! The identity of a graph: what it computes and how it is trained, without names and lines.

use std::io;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Graph, Init, Op, Optimizer, Param, Schedule, Shape, ValueId};

/// The first bytes that are hashed. Another encoding gets another line, so that no two encodings
/// can be confused.
const DOMAIN: &[u8] = b"spore graph 1\n";

impl Graph {
    /// SHA-256 over the graph's canonical encoding. Two scripts with one meaning have one hash:
    /// the encoding leaves out lines and names of parameters, and tracing brings nodes and
    /// parameters into one order.
    ///
    /// The encoding is a line that names the format, then compact JSON of the fields in the order
    /// of their declaration; floats have their shortest round-trip form.
    pub fn hash(&self) -> [u8; 32] {
        let mut sink = Sink(Sha256::new_with_prefix(DOMAIN));
        // Neither the sink nor these types can fail: there is no I/O and no map.
        let written = serde_json::to_writer(&mut sink, &HashedParts::of(self));
        debug_assert!(written.is_ok());
        sink.0.finalize().into()
    }
}

/// The part of a graph that its hash covers.
#[derive(Serialize)]
struct HashedParts<'g> {
    batch: usize,
    context: usize,
    params: Vec<HashedParam<'g>>,
    nodes: Vec<(&'g Op, &'g Shape)>,
    logits: ValueId,
    optimizer: &'g Optimizer,
    schedule: &'g Schedule,
}

/// A parameter without its name; the second form where it has a rule of its own.
#[derive(Serialize)]
#[serde(untagged)]
enum HashedParam<'g> {
    Plain(&'g Shape, &'g Init, f64, bool),
    Ruled(&'g Shape, &'g Init, f64, bool, &'g Optimizer),
}

impl<'g> HashedParam<'g> {
    fn of(Param { shape, init, lr_scale, decay, optimizer, .. }: &'g Param) -> Self {
        match optimizer {
            None => Self::Plain(shape, init, *lr_scale, *decay),
            Some(rule) => Self::Ruled(shape, init, *lr_scale, *decay, rule),
        }
    }
}

impl<'g> HashedParts<'g> {
    fn of(graph: &'g Graph) -> Self {
        HashedParts {
            batch: graph.batch,
            context: graph.context,
            params: graph.params.iter().map(HashedParam::of).collect(),
            nodes: graph.nodes.iter().map(|node| (&node.op, &node.shape)).collect(),
            logits: graph.logits,
            optimizer: &graph.optimizer,
            schedule: &graph.schedule,
        }
    }
}

/// A digest as a writer.
struct Sink(Sha256);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AdamW, Decay, GraphNode, Muon, Param, ParamId};
    use super::*;
    use crate::ops::{Embedding, ReadParam};

    fn adamw(lr: f64) -> AdamW {
        AdamW { lr, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, clip: 1.0 }
    }

    fn graph() -> Graph {
        Graph {
            batch: 2,
            context: 4,
            params: vec![Param {
                name: "table".to_owned(),
                shape: vec![256, 256],
                init: Init::Normal(0.02),
                lr_scale: 1.0,
                decay: true,
                optimizer: None,
            }],
            nodes: vec![
                GraphNode { op: ReadParam(ParamId(0)).into(), shape: vec![256, 256], line: 1, enforced: None },
                GraphNode { op: Op::Tokens, shape: vec![2, 4], line: 1, enforced: None },
                GraphNode {
                    op: Embedding { table: ValueId(0), tokens: ValueId(1) }.into(),
                    shape: vec![2, 4, 256],
                    line: 1,
                    enforced: None,
                },
            ],
            logits: ValueId(2),
            optimizer: Optimizer::AdamW(adamw(1e-3)),
            schedule: Schedule { shape: Decay::Constant, warmup: 0.0, cooldown: 0.0, floor: 1.0 },
        }
    }

    #[test]
    fn hash_ignores_names_and_lines_and_covers_the_rest() {
        let (base, mut renamed) = (graph(), graph());
        renamed.params[0].name = "bytes".to_owned();
        renamed.nodes[2].line = 9;
        assert_eq!(base.hash(), renamed.hash());
        let changes: [fn(&mut Graph); 7] = [
            |g| g.batch = 3,
            |g| g.params[0].init = Init::Normal(0.03),
            |g| g.nodes[1].shape = vec![2, 5],
            |g| g.optimizer = Optimizer::AdamW(adamw(2e-3)),
            |g| g.params[0].optimizer = Some(Optimizer::AdamW(adamw(1e-3))),
            |g| {
                let (lr, momentum, nesterov, iterations) = (1e-3, 0.9, true, 5);
                g.optimizer =
                    Optimizer::Muon(Muon { lr, momentum, nesterov, iterations, weight_decay: 0.1, clip: 1.0 });
            },
            |g| g.schedule.warmup = 0.1,
        ];
        for change in changes {
            let mut other = graph();
            change(&mut other);
            assert_ne!(base.hash(), other.hash());
        }
    }

    #[test]
    fn encoding_is_pinned() {
        // Another text here gives every graph another identity: raise the number in `DOMAIN`.
        let text = serde_json::to_string(&HashedParts::of(&graph())).unwrap();
        assert_eq!(
            text,
            "{\"batch\":2,\"context\":4,\"params\":[[[256,256],{\"normal\":0.02},1.0,true]],\
             \"nodes\":[[{\"param\":0},[256,256]],[\"tokens\",[2,4]],[{\"embedding\":{\"table\":0,\"tokens\":1}},[2,4,256]]],\
             \"logits\":2,\"optimizer\":{\"lr\":0.001,\"beta1\":0.9,\"beta2\":0.95,\"eps\":1e-8,\"weight_decay\":0.1,\"clip\":1.0},\
             \"schedule\":{\"shape\":\"constant\",\"warmup\":0.0,\"cooldown\":0.0,\"floor\":1.0}}"
        );
    }
}
