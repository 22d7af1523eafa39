//! A graph as text: a line for each parameter and each operation, with shapes, cost and the line of the script.

use std::io::{self, Write};

use serde::Serialize;
use spore_trainer::graph::{Graph, GraphNode, Optimizer};

use super::report::flops;
use crate::cli::text;

/// Most characters of an operation's settings.
const SETTINGS_CHARS: usize = 40;

/// A graph, ready to print.
#[derive(Debug, Serialize)]
pub struct Drawing {
    pub parameters: Vec<Weight>,
    pub operations: Vec<Operation>,
    pub optimizer: &'static str,
}

/// A trainable tensor.
#[derive(Debug, Serialize)]
pub struct Weight {
    pub name: String,
    pub shape: Vec<usize>,
    pub init: String,
    pub optimizer: &'static str,
}

/// One operation, which makes a value.
#[derive(Debug, Serialize)]
pub struct Operation {
    /// Place in the order of evaluation, from 0.
    pub id: usize,
    pub name: String,
    pub settings: String,
    /// Places of the values that it reads.
    pub inputs: Vec<u32>,
    pub shape: Vec<usize>,
    pub flops: u64,
    /// Line of the script.
    pub line: u32,
}

impl Drawing {
    pub fn of(graph: &Graph) -> Self {
        let weight = |param: &spore_trainer::graph::Param| Weight {
            name: text::line(&param.name),
            shape: param.shape.clone(),
            init: json_text(&param.init),
            optimizer: rule(graph.rule_of(param)),
        };
        let nodes = graph.nodes.iter().enumerate();
        Self {
            parameters: graph.params.iter().map(weight).collect(),
            operations: nodes.map(|(id, node)| operation(id, node, graph.node_flops(id))).collect(),
            optimizer: rule(&graph.optimizer),
        }
    }

    /// # Errors
    /// When the text cannot be written.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "Parameters, trained by {} where no other rule stands", self.optimizer)?;
        for weight in &self.parameters {
            let Weight { name, shape, init, optimizer } = weight;
            writeln!(out, "  {name:<28} {:<18} {init:<18} {optimizer}", shown(shape))?;
        }
        writeln!(out, "\nOperations")?;
        for op in &self.operations {
            let inputs: Vec<String> = op.inputs.iter().map(|id| format!("%{id}")).collect();
            let call = format!("{}({}){}", op.name, inputs.join(", "), op.settings);
            let cost = if op.flops == 0 { String::new() } else { flops(op.flops) };
            writeln!(out, "  %{:<4} {call:<52} {:<20} {cost:<12} line {}", op.id, shown(&op.shape), op.line)?;
        }
        writeln!(out)
    }
}

fn operation(id: usize, node: &GraphNode, flops: u64) -> Operation {
    let inputs: Vec<u32> = node.op.inputs().into_iter().map(|id| id.0).collect();
    let (name, settings) = match serde_json::to_value(&node.op) {
        Ok(serde_json::Value::String(name)) => (name, String::new()),
        Ok(serde_json::Value::Object(object)) => match object.into_iter().next() {
            Some((name, settings)) => (name, settings_of(&settings)),
            None => (String::new(), String::new()),
        },
        _ => (String::new(), String::new()),
    };
    Operation { id, name, settings, inputs, shape: node.shape.clone(), flops, line: node.line }
}

/// The settings of an operation that are numbers or names: ` keep=2`. The values that it reads are shown as inputs.
fn settings_of(value: &serde_json::Value) -> String {
    const INPUTS: [&str; 12] =
        ["input", "inputs", "left", "right", "x", "q", "k", "v", "table", "tokens", "condition", "param"];
    let serde_json::Value::Object(fields) = value else { return String::new() };
    let settings = fields.iter().filter(|(name, value)| {
        !INPUTS.contains(&name.as_str()) && !matches!(value, serde_json::Value::Null | serde_json::Value::Object(_))
    });
    let text: Vec<String> = settings.map(|(name, value)| format!("{name}={}", plain(value))).collect();
    if text.is_empty() {
        return String::new();
    }
    format!(" {}", text.join(" ").chars().take(SETTINGS_CHARS).collect::<String>())
}

fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `normal 0.1`, out of `{"normal":0.1}`.
fn json_text<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::Object(object)) => {
            object.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(" ")
        }
        Ok(value) => plain(&value),
        Err(_) => String::new(),
    }
}

fn rule(optimizer: &Optimizer) -> &'static str {
    match optimizer {
        Optimizer::AdamW(_) => "adamw",
        Optimizer::Muon(_) => "muon",
        Optimizer::Lion(_) => "lion",
        Optimizer::Sgd(_) => "sgd",
    }
}

fn shown(shape: &[usize]) -> String {
    let extents: Vec<String> = shape.iter().map(usize::to_string).collect();
    format!("[{}]", extents.join(", "))
}

#[cfg(test)]
mod tests {
    use spore_trainer::lang::{Limits, trace};

    use super::*;
    use crate::genesis;

    #[test]
    fn graph_is_drawn_with_a_line_for_each_parameter_and_operation() {
        let graph = trace(genesis::SCRIPT, &Limits::default()).unwrap().graph;
        let drawing = Drawing::of(&graph);
        assert_eq!((drawing.parameters.len(), drawing.operations.len()), (graph.params.len(), graph.nodes.len()));
        let text = text::printed(|out| drawing.print(out));
        for word in ["embed", "[256, 64]", "tokens()", "adamw", "line "] {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert!(drawing.operations.iter().all(|op| !op.name.is_empty()));
    }
}
