//! The operations of the train-script language, one file for each operation or close family.
//!
//! A file holds everything about its operation: the value that a graph's node holds, the shape
//! rule with its error messages, the cost, what the backward pass reads again, the tensor program
//! forward and backward ([`Operation`]), and the functions by which scripts call it ([`Builtin`]).
//! Some files, such as `linear` and `attention`, have no value of their own. They compose others.
//!
//! To add an operation: write its file, add its `mod` line and its line of [`operations!`] here,
//! and add the line that a test asks for to `docs/train-script.md`. A new rule about operations is
//! one more method of [`Operation`].
//!
//! The language (`lang`), the graph's figures (`graph`) and the executor (`exec`) use [`Op`] and
//! [`builtins`]. They name single operations only where one is special: tokens and parameters.
//!
//! Never here: the interpreter, files, clocks, the state of a run.

mod arange;
mod attention;
mod binary;
mod causal_mask;
mod concat;
mod cumsum;
mod detach;
mod dropout;
mod embedding;
mod enforced;
pub(crate) mod flow;
mod functions;
mod heads;
mod library;
mod linear;
mod located;
mod matmul;
mod norm;
mod operation;
mod param;
mod permute;
mod reduce;
mod reshape;
mod rope;
mod run;
mod scalar;
mod shape;
pub(crate) mod shard;
mod shift;
mod slice;
mod softmax;
pub(crate) mod tensors;
#[cfg(test)]
pub(crate) mod testing;
mod tokens;
mod unary;
mod where_;

use serde::Serialize;

use crate::value::ValueId;
pub(crate) use binary::binary;
pub use enforced::{Enforced, Fill, Masked};
pub use flow::Leak;
pub use functions::{BinaryFunction, UnaryFunction};
pub(crate) use library::{
    Argument, ArgumentKind, Arguments, Builtin, Call, CallResult, DefaultValue, Misuse, Operand, Parameter, Passing,
    Symbol, Trace, finite, positive,
};
pub(crate) use located::Located;
pub use located::{GraphNode, Malformed};
pub(crate) use operation::{HEAVY_FLOPS, Operation, TableKey};
pub use reduce::Reduction;
pub(crate) use run::{Backward, ConstantPair, Forward, GradientSums, InputValues};
pub(crate) use unary::unary;

/// Makes [`Op`] and the list of [`builtins`] out of a table: a module and the operations in it.
macro_rules! operations {
    ($($module:ident [$($(#[$attribute:meta])* $name:ident),*])*) => {
        $($(pub use $module::$name;)*)*

        /// What computes a value of a graph.
        ///
        /// The serialised form is part of every graph's identity ([`Graph::hash`](crate::graph::Graph::hash)).
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Op {
            /// The input bytes as integers 0..=255, shape `[batch, context]`. Only [`Embedding`] reads them.
            Tokens,
            $($(
                #[doc = concat!("See [`", stringify!($name), "`](struct@", stringify!($name), ").")]
                $(#[$attribute])*
                $name($name),
            )*)*
        }

        impl Op {
            /// The operation's rules.
            pub(crate) fn rules(&self) -> &dyn Operation {
                match self {
                    Op::Tokens => &tokens::Tokens,
                    $($(Op::$name(operation) => operation,)*)*
                }
            }

            /// The ids of the values that the operation reads, in order, to renumber them.
            pub(crate) fn inputs_mut(&mut self) -> Vec<&mut ValueId> {
                match self {
                    Op::Tokens => Vec::new(),
                    $($(Op::$name(operation) => operation.inputs_mut(),)*)*
                }
            }
        }

        $($(
            impl From<$name> for Op {
                fn from(operation: $name) -> Self {
                    Op::$name(operation)
                }
            }
        )*)*

        /// The functions and methods of each file.
        const LIBRARY: &[&[Builtin]] = &[$($module::BUILTINS),*];
    };
}

operations! {
    param [#[serde(rename = "param")] ReadParam]
    scalar [Scalar]
    embedding [Embedding, Lookup]
    arange [Range]
    unary [Unary]
    binary [Binary]
    matmul [Matmul]
    linear []
    reshape [Reshape]
    permute [Permute]
    slice [Slice]
    concat [Concat]
    reduce [Reduce]
    cumsum [CumulativeSum]
    where_ [Where]
    softmax [Softmax]
    norm [RmsNorm, LayerNorm]
    heads []
    causal_mask [CausalMask]
    rope [Rope]
    attention []
    shift [Shift]
    dropout [Dropout]
    detach [Detach]
}

impl Op {
    /// The values that the operation reads, in order. A value that is read twice stands twice.
    pub fn inputs(&self) -> Vec<ValueId> {
        self.clone().inputs_mut().into_iter().map(|id| *id).collect()
    }
}

/// All functions and methods of the language that make values of a graph.
pub(crate) fn builtins() -> impl Iterator<Item = &'static Builtin> {
    LIBRARY.iter().copied().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENTATION: &str = include_str!("../../../docs/train-script.md");

    #[test]
    fn documentation_has_a_line_for_each_builtin() {
        let missing: Vec<String> = builtins()
            .map(Builtin::documentation)
            .filter(|line| !DOCUMENTATION.lines().any(|have| have == line))
            .collect();
        assert!(missing.is_empty(), "add to docs/train-script.md:\n{}", missing.join("\n"));
    }

    #[test]
    fn names_of_builtins_are_unique() {
        let mut names: Vec<_> = builtins().map(|builtin| (builtin.call, builtin.name)).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
